"""Epochs: who wrote which bytes of a log, and up to where two logs are the same. Pure.

Every start as master begins an epoch: a number above all that were seen, a random id, and the end of the log at that
moment. Within an epoch one process appends and never rewrites; so two logs that both hold bytes of an epoch hold the
same bytes of it. A table of epochs therefore tells everything about the content of a log, and comparing two tables
finds the largest offset up to which two logs are identical without reading a byte of them.

RocketMQ's master and slave compare lengths only, which splices two histories when a master has lost its tail (its
issues 1155, 3015, 6767). Its controller mode compares (epoch number, start) pairs; the id is there because two masters
that were promoted apart from one another may choose the same number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nodes.flaws import Flaw
from nodes.replication.limits import EPOCHS_MAX

__all__ = ["Comparison", "Epoch", "EpochError", "EpochTable", "agreement", "compare"]


class EpochError(Exception):
    """A table that cannot be: epochs out of order, or more than EPOCHS_MAX."""


@dataclass(frozen=True, slots=True, order=True)
class Epoch:
    """One period of writing. `id` is 16 hexadecimal digits, drawn at random when the epoch was minted."""

    number: int
    id: str
    start_offset: int

    def same_writer(self, other: Epoch) -> bool:
        """Both name the process that wrote."""
        return self.number == other.number and self.id == other.id


@dataclass(frozen=True, slots=True)
class EpochTable:
    """The epochs of one log in order of writing: numbers and starts strictly increase.

    An entry reaches from its start to the next one's start, the last to the end of the log. Entries at or beyond the
    end claim nothing; `upto` drops them.
    """

    entries: tuple[Epoch, ...] = ()

    def __post_init__(self) -> None:
        if len(self.entries) > EPOCHS_MAX:
            raise EpochError(f"{len(self.entries)} epochs, the bound is {EPOCHS_MAX}")
        for epoch in self.entries:
            if epoch.start_offset < 0 or epoch.number < 1:
                raise EpochError(f"epoch {epoch.number} starts at {epoch.start_offset}")
        for before, after in zip(self.entries, self.entries[1:], strict=False):
            if after.number <= before.number or after.start_offset <= before.start_offset:
                raise EpochError(
                    f"epoch {after.number} at {after.start_offset} cannot follow "
                    f"epoch {before.number} at {before.start_offset}"
                )

    @classmethod
    def of(cls, entries: Iterable[Epoch]) -> EpochTable:
        """A table of these entries. Raises EpochError if they are out of order."""
        return cls(tuple(entries))

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Epoch]:
        return iter(self.entries)

    @property
    def last(self) -> Epoch | None:
        """The newest epoch, or None for an empty table."""
        return self.entries[-1] if self.entries else None

    @property
    def highest(self) -> int:
        """The largest number in the table; 0 if it is empty."""
        return self.entries[-1].number if self.entries else 0

    def upto(self, end: int) -> EpochTable:
        """Only what the bytes below `end` prove: epochs without a byte below `end` are dropped."""
        if not self.entries or self.entries[-1].start_offset < end:
            return self
        return EpochTable(tuple(epoch for epoch in self.entries if epoch.start_offset < end))

    def since(self, begin: int) -> EpochTable:
        """Without the epochs whose last byte lies below `begin`: retention has deleted all they wrote."""
        first = 0
        while first + 1 < len(self.entries) and self.entries[first + 1].start_offset <= begin:
            first += 1
        return self if first == 0 else EpochTable(self.entries[first:])

    def with_new(self, epoch: Epoch) -> EpochTable:
        """The table after `epoch` has begun at the end of the log; epochs that wrote nothing make room for it."""
        return EpochTable((*self.upto(epoch.start_offset).entries, epoch))

    def at(self, offset: int) -> Epoch | None:
        """The epoch that wrote the byte at `offset`, or None if no entry reaches down to it."""
        found = None
        for epoch in self.entries:
            if epoch.start_offset > offset:
                break
            found = epoch
        return found


def agreement(primary: EpochTable, primary_end: int, replica: EpochTable, replica_end: int) -> int:
    """The largest offset up to which both logs certainly hold the same bytes; 0 if nothing is certain.

    Judged from both whole tables: entry after entry must be the same epoch with the same start; the last common one
    is shared up to where it ends first. Entries that only one side still knows, because retention has shortened the
    other's table from below, are implied by the first one both know: who received that epoch's first byte had agreed
    with its writer on everything before it.
    """
    ours = primary.upto(primary_end).entries
    theirs = replica.upto(replica_end).entries
    if not ours or not theirs:
        return 0
    base = max(ours[0].start_offset, theirs[0].start_offset)
    ours = tuple(epoch for epoch in ours if epoch.start_offset >= base)
    theirs = tuple(epoch for epoch in theirs if epoch.start_offset >= base)
    common = 0
    while common < min(len(ours), len(theirs)) and ours[common] == theirs[common]:
        common += 1
    if common == 0:
        return 0
    our_end = ours[common].start_offset if common < len(ours) else primary_end
    their_end = theirs[common].start_offset if common < len(theirs) else replica_end
    return min(our_end, their_end)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Where a replica has to go on. `reseed` means: drop the whole log and begin an empty one at `start`."""

    start: int
    reseed: bool


def compare(
    primary: EpochTable,
    primary_min: int,
    primary_end: int,
    replica: EpochTable,
    replica_min: int,
    replica_end: int,
    flaws: frozenset[Flaw] = frozenset(),
) -> Comparison:
    """Decide how a replica becomes a copy of its primary.

    The replica keeps what both hold and goes on there. If the point of agreement lies below what either side still
    has, because retention deleted it, nothing can be joined: the replica begins anew at the primary's first byte, so
    an empty replica gets everything the primary holds (and not only the last file, as in RocketMQ).
    """
    if Flaw.SPLICE_DIVERGED in flaws:
        return Comparison(replica_end, reseed=False)
    shared = agreement(primary, primary_end, replica, replica_end)
    if shared < max(primary_min, replica_min):
        return Comparison(primary_min, reseed=True)
    return Comparison(shared, reseed=False)
