"""What the core asks its driver to do, and what it must be given at start. Values. Pure.

The contract in one sentence: **everything in `Ready.messages` may be sent at once**, because the core keeps back
what is not yet durable until the driver says that it is (`Raft.saved`, `Raft.stable`). There is no list of messages
that must wait, so none can be sent too early.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from nodes.replication.raft.membership import Membership, MembershipRow
from nodes.replication.raft.terms import TermRow

if TYPE_CHECKING:
    from nodes.replication.raft.messages import Message

__all__ = [
    "Event",
    "HardState",
    "Head",
    "LogOrder",
    "Marker",
    "OwnRecord",
    "RaftError",
    "Read",
    "Ready",
    "Reset",
    "Restored",
    "Role",
    "Truncate",
    "Write",
]


class RaftError(Exception):
    """The driver broke the contract, or what can never happen did: the node must stop and say so."""


class Role(StrEnum):
    """What a node is. PRE_CANDIDATE asks whether it would win; FAILED has a broken disk and says nothing any more."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class HardState:
    """What a node must never forget: one small file, replaced atomically and synced.

    A driver that finds none saves HardState() before it does anything else, so that a log without a hard state is
    never the trace of a crash but of a lost file, and can be refused.

    `vote`: whom it voted for in `term`, or "". `joined`: its disk has been part of the group (False for an empty disk,
    and while a re-seed is under way): the vote of a node that has not joined counts for others that have not, as in a
    new group, and else only if everybody votes alike; so an emptied disk cannot help to elect a leader without what it
    once acknowledged. `floor_term`, `floor_end`: set by the latest
    re-seed of a node that had joined: whatever is left of its log, it votes as if it held the leader's up to there.
    `told_term`, `told_end`: term and end of the longest committed log as of which this node is no member, by the word
    of others; -1 if nobody has said so.
    """

    term: int = 0
    vote: str = ""
    joined: bool = False
    floor_term: int = 0
    floor_end: int = 0
    told_term: int = -1
    told_end: int = -1


@dataclass(frozen=True, slots=True)
class Head:
    """What must be known of the log below its begin: one small file, replaced atomically and synced before deletion.

    `row`: the row of the term table that tells the term at `begin` (None only if begin is 0). `membership`: in force at
    `begin`, with the end of its record. `tables`: the driver's own state at `begin` (topics, groups, offsets), opaque.
    """

    begin: int = 0
    row: TermRow | None = None
    membership: MembershipRow = field(default_factory=lambda: MembershipRow(0, Membership()))
    tables: bytes = b""


@dataclass(frozen=True, slots=True)
class Restored:
    """What the driver found on disk, or what a new node starts with.

    hard: the saved hard state; the default HardState() only if there never was one.
    begin, end: the log's first byte and its end, on record boundaries, after recovery has cut a torn tail.
    stable: up to where the log is certainly durable. Recovery either syncs the log and says `end`, or says less and
        calls `Raft.stable` after a sync: what recovery reads from the page cache is not durable by being there.
    committed: a position that is known to be committed, `begin` if none; never above `stable`.
    rows: the whole term table, in order (for begin > 0 the first row tells the term at begin: Head.row).
    memberships: of the head (or the configured peers, at 0) and of every membership record in [begin, end), in order.
    """

    hard: HardState = HardState()
    begin: int = 0
    end: int = 0
    stable: int = 0
    committed: int = 0
    rows: tuple[TermRow, ...] = ()
    memberships: tuple[MembershipRow, ...] = ()


# Orders on the log. The driver carries them out in the order given, before any later one, and reports with `stable`.


@dataclass(frozen=True, slots=True)
class Truncate:
    """Cut the log at `end`, durably, before anything is written at `end` again. `generation` is the new one."""

    end: int
    generation: int


@dataclass(frozen=True, slots=True)
class Write:
    """Append the bytes [start, end) to the log; they are those of the Append just received, from byte `skip` on.

    The driver validates the records before it calls `receive` and drops a batch that is not whole, valid records.
    Then it syncs (SYNC_FLUSH) and calls `stable(end, generation, now)`, where generation is the log's current one.
    """

    start: int
    end: int
    skip: int


@dataclass(frozen=True, slots=True)
class Reset:
    """Drop the whole log, begin an empty one at `head.begin`, take over `head` (and its tables), all durably.

    Then call `stable(head.begin, generation, now)`. A crash may come at any point; the hard state says joined=False by
    then. A log that is empty or the old one is re-seeded again. A log that begins at `head.begin` is believed to be
    complete, so `head` with its tables must be durable before the log begins there, and a driver that finds its own
    tables older than the log's begin takes them from the head file. While joined is False its record of what it has
    applied says nothing about the log that is left: `Restored.committed` is then the log's begin.
    """

    head: Head
    generation: int


LogOrder: TypeAlias = Truncate | Write | Reset


# Orders for a leader.


@dataclass(frozen=True, slots=True)
class Marker:
    """Write the first record of the term: (term, leader). Then call `appended(term, end, now)`."""

    term: int
    leader: str


@dataclass(frozen=True, slots=True)
class OwnRecord:
    """Write a membership record. Then call `appended(term, end, now, membership)` with exactly this membership."""

    term: int
    membership: Membership


@dataclass(frozen=True, slots=True)
class Read:
    """Read whole records from the log for `to`: from `start`, not beyond `stop`, about `max_bytes` (one at least).

    Then call `loaded(read, end, now)` with the end of what was read. It returns a Ready whose `messages` hold the
    Append that belongs to these bytes (the one whose prev and end are start and end; none if the core has moved on).
    The core gives no further Read for this peer before `loaded`. If the bytes are not there any more, because retention
    came in between, say `loaded(read, read.start, now)`.
    """

    to: str
    term: int
    start: int
    stop: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Event:
    """To be logged: names and fields as in the seed's log lines where there is one."""

    name: str
    fields: dict[str, object]


@dataclass(frozen=True, slots=True)
class Ready:
    """All that one input leads to. Carry it out in the order of the fields.

    save: write this hard state atomically, sync it, then call `saved(save, now)`. Until then the core keeps every
        message back, so a slow save delays but never endangers.
    log: orders on the log, in order. Nothing here waits for `save`.
    marker, own_record: records a leader writes itself, before any client's record.
    reads: records to read for followers, see Read.
    messages: may be sent now. Losing, repeating or reordering them is safe.
    committed: the group has agreed on the log up to here: apply it, answer clients (a leader only, for records of its
        own that end at or below). Never falls during the life of a Raft object.
    changed: role, term, leader or membership differ from before: look at the properties.
    events: to be logged. Like messages they wait for `save`.
    """

    save: HardState | None = None
    log: tuple[LogOrder, ...] = ()
    marker: Marker | None = None
    own_record: OwnRecord | None = None
    reads: tuple[Read, ...] = ()
    messages: tuple[Message, ...] = ()
    committed: int = 0
    changed: bool = False
    events: tuple[Event, ...] = ()
