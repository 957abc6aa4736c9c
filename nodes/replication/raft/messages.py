"""What nodes say to one another. Values; how they look on the wire is the driver's business. Pure.

`term` is the sender's term (in PreVote and its granted answer the term that the candidate would begin). `sender` and
`to` are member names. The bytes of an Append travel beside it: the driver attaches them when it sends and hands them to
its log when the core says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from nodes.replication.raft.membership import MembershipRow
from nodes.replication.raft.orders import Head
from nodes.replication.raft.terms import TermRow

__all__ = [
    "Append",
    "AppendReply",
    "Heartbeat",
    "HeartbeatReply",
    "Knock",
    "Message",
    "PreVote",
    "PreVoteReply",
    "Reseed",
    "Stranger",
    "TimeoutNow",
    "Vote",
    "VoteReply",
]


@dataclass(frozen=True, slots=True)
class PreVote:
    """Would you vote for me in `term`? Nobody's term changes by the question (dissertation 9.6)."""

    sender: str
    to: str
    term: int
    last_term: int
    """Term at the end of the candidate's log."""
    end: int
    """End of the candidate's log in bytes."""
    joined: bool = True
    """The candidate's disk belongs to the group: it has joined, or holds the floor of its re-seed."""


@dataclass(frozen=True, slots=True)
class PreVoteReply:
    """`term` is the asked one when granted, else the voter's own. `counts`: see VoteReply."""

    sender: str
    to: str
    term: int
    granted: bool
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Vote:
    """RequestVote of the paper. `transfer`: the leader asked for this election, so its being alive is no objection."""

    sender: str
    to: str
    term: int
    last_term: int
    end: int
    joined: bool = True
    transfer: bool = False


@dataclass(frozen=True, slots=True)
class VoteReply:
    """Answer to Vote.

    `counts` is False if only one of the two disks belongs to the group: the other was empty, and may have forgotten
    what it had acknowledged. Such a vote is worth something only together with those of all the others.
    """

    sender: str
    to: str
    term: int
    granted: bool
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Append:
    """AppendEntries of the paper: the bytes [prev, end), whole records, all of term `records_term`.

    `prev == end` is a probe: it carries no bytes and asks whether the logs agree up to `prev`. `memberships` are those
    whose records lie in the batch (the follower's driver may check them against the bytes it validates).
    """

    sender: str
    to: str
    term: int
    prev: int
    prev_term: int
    records_term: int
    end: int
    committed: int
    memberships: tuple[MembershipRow, ...] = ()


@dataclass(frozen=True, slots=True)
class AppendReply:
    """Answer to Append (and to Reseed, when carried out).

    Accepted: the follower's log equals the leader's up to `end`, and is durable up to `match` <= `end`: only `match`
    counts for a commit. Refused: the logs do not agree at `prev`, or the sender's term is old; then `rows` are the
    follower's newest terms not above the asked one and `end` is where the last of them ends in its log, from which the
    leader sees where they part.
    """

    sender: str
    to: str
    term: int
    prev: int
    accepted: bool
    match: int
    end: int
    rows: tuple[TermRow, ...] = ()
    joined: bool = True
    """The sender's HardState.joined: if False, what it acknowledged in an earlier life is void."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """I lead, and this is committed. The receiver believes it as far as it knows its log to equal the leader's."""

    sender: str
    to: str
    term: int
    committed: int


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    """I hear you. `term` above the leader's own tells it that it is deposed.

    `end` is up to where the sender has seen its log to equal the leader's: less than it has acknowledged if it was
    started anew since.
    """

    sender: str
    to: str
    term: int
    end: int = 0
    joined: bool = True


@dataclass(frozen=True, slots=True)
class Reseed:
    """What you need lies below my log's begin: drop your log and begin at `head.begin` with this state.

    The core leaves `head.tables` empty; the sending driver puts in the tables of its head file.
    """

    sender: str
    to: str
    term: int
    head: Head


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """Campaign at once: the leader hands over (dissertation 3.10)."""

    sender: str
    to: str
    term: int


@dataclass(frozen=True, slots=True)
class Knock:
    """I hear no leader and may not campaign: do I still belong to the group? Nobody's term changes by it."""

    sender: str
    to: str
    term: int


@dataclass(frozen=True, slots=True)
class Stranger:
    """You do not belong to the group, as of what is committed here: up to `end`, whose record is of `last_term`.

    The answer to a Knock or PreVote of such a node, which may have been out of reach when it was removed. Nobody's
    term changes by it.
    """

    sender: str
    to: str
    term: int
    last_term: int
    end: int


Message: TypeAlias = (
    PreVote
    | PreVoteReply
    | Vote
    | VoteReply
    | Append
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | Reseed
    | TimeoutNow
    | Knock
    | Stranger
)
