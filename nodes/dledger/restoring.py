"""What a member finds on its disk at start: promises, terms, memberships, an interrupted re-seed.

The terms are in the log itself, as markers; so nothing can tear log and terms apart, and a cut of the log cuts both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from nodes.dledger.records import (
    SYSTEM_TOPIC,
    Lane,
    MarkerRecord,
    MembershipRecord,
    Seed,
    decode_control,
    decode_seed,
    membership_of,
)
from nodes.dledger.state import GroupFiles, StateDamaged
from nodes.replication.raft.membership import Member, Membership, MembershipRow
from nodes.replication.raft.orders import HardState, Head, Restored
from nodes.replication.raft.terms import TermError, TermRow, TermTable
from nodes.store.store import MessageStore

__all__ = ["Found", "restore"]


@dataclass(frozen=True, slots=True)
class Found:
    """For the core, and who led the terms of the log."""

    restored: Restored
    leaders: dict[int, str] = field(default_factory=dict)


def restore(store: MessageStore, files: GroupFiles, members: dict[str, str], committed: int) -> Found:
    """Read everything. `members` are the configured ones; `committed` is known to be committed.

    Raises StateDamaged if the log and the group's files do not belong together, OSError.
    """
    hard, head = files.load_state(), files.load_head()
    begin, end = store.min_offset, store.written_end
    if hard is None:
        if end > begin or head is not None:
            raise StateDamaged(
                f"{files.folder} has no state.json, but the log goes from {begin} to {end}: no group has written it, or"
                " this member's votes are lost; start with an empty storePathRootDir"
            )
        hard = HardState()
        files.save_state(hard)  # so that a log without it is never the trace of a crash, but of a lost file
    try:
        left = decode_seed(b"" if head is None else head.tables)
    except ValueError as error:
        raise StateDamaged(f"{files.folder}/head.json: {error}") from None
    if head is not None and head.begin > begin and not hard.joined:
        # A re-seed was interrupted, perhaps before its tables were there: all of it comes again.
        store.truncate_to(0)
        head, left, begin, end = None, Seed(), 0, 0
        files.save_head(Head())
    elif head is not None and head.begin > begin:
        begin = head.begin  # a deletion was interrupted; the next one finishes it
    if begin > 0 and (head is None or head.begin < begin):
        raise StateDamaged(f"{files.folder}/head.json does not speak of {begin}, where the log begins")
    store.raise_queue_ends(left.queues)
    head = head or Head()
    rows = [] if head.row is None else [head.row]
    first = head.membership if head.begin else _configured(members)
    memberships = [first]
    leaders: dict[int, str] = {}
    for record, record_end in _controls(store, begin):
        if isinstance(record, MarkerRecord):
            leaders[record.term] = record.leader
            row = TermRow(record.term, record.start)
            if not rows or row.term > rows[-1].term:
                rows.append(row)
        elif record_end > memberships[-1].end:
            memberships.append(MembershipRow(record_end, membership_of(record)))
    try:
        TermTable.of(rows)
    except TermError as error:
        raise StateDamaged(f"the markers of terms in the log contradict each other: {error}") from None
    # What a disk that has not joined has once applied says nothing about the log that is left on it.
    known = min(max(committed, begin), end) if hard.joined else begin
    return Found(Restored(hard, begin, end, store.flushed_end, known, tuple(rows), tuple(memberships)), leaders)


def _configured(members: dict[str, str]) -> MembershipRow:
    return MembershipRow(0, Membership(tuple(Member(name, address) for name, address in members.items())))


def _controls(store: MessageStore, begin: int) -> Iterator[tuple[MarkerRecord | MembershipRecord, int]]:
    """Every control record from log offset `begin` on, committed or not, with its end."""
    for stored in store.records_of(SYSTEM_TOPIC, int(Lane.CONTROL), begin):
        try:
            yield decode_control(stored)
        except ValueError as error:
            raise StateDamaged(str(error)) from None
