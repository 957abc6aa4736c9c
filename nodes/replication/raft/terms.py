"""The term table: who wrote which bytes of the log. Positions are byte offsets; a record is named by its end. Pure.

A row (term, start) says that the record that begins at `start` is the first of `term`: the marker of the leader of that
term. Terms and starts strictly increase, so the table grows with elections and not with messages. The term *at* a
position p is the term of the record that ends at p, that is of the byte p-1; the term at 0 is 0.

Two logs that hold the byte p-1 of the same term hold the same bytes below p: within a term one leader appends and never
rewrites, and who took its first byte had agreed with it on everything before (log matching, Raft section 5.3).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["TermError", "TermRow", "TermTable"]


class TermError(Exception):
    """A table that cannot be, or a position that the table cannot speak about."""


@dataclass(frozen=True, slots=True, order=True)
class TermRow:
    """`term` begins with the record that starts at byte `start`."""

    term: int
    start: int


@dataclass(frozen=True, slots=True)
class TermTable:
    """Rows in order. The first row may start below the log's begin: it tells the term at begin."""

    rows: tuple[TermRow, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows[:1]:
            if row.term < 1 or row.start < 0:
                raise TermError(f"term {row.term} cannot start at {row.start}")
        for before, after in zip(self.rows, self.rows[1:], strict=False):
            if after.term <= before.term or after.start <= before.start:
                raise TermError(
                    f"term {after.term} at {after.start} cannot follow term {before.term} at {before.start}"
                )

    @classmethod
    def of(cls, rows: Iterable[TermRow]) -> TermTable:
        """A table of these rows. Raises TermError when they are out of order."""
        return cls(tuple(rows))

    def _row_at(self, position: int) -> int:
        """Index of the row that wrote the byte below `position`; -1 if none did."""
        return bisect_left(self.rows, position, key=lambda row: row.start) - 1

    def term_at(self, position: int) -> int:
        """The term of the record that ends at `position`; 0 where nothing lies below."""
        index = self._row_at(position)
        return self.rows[index].term if index >= 0 else 0

    def row_at(self, position: int) -> TermRow | None:
        """The row of the record that ends at `position`."""
        index = self._row_at(position)
        return self.rows[index] if index >= 0 else None

    def term_end(self, start: int, end: int) -> int:
        """Where the term of the byte at `start` ends in a log that ends at `end`: no batch from `start` may pass it."""
        index = self._row_at(start + 1)
        return self.rows[index + 1].start if index + 1 < len(self.rows) else end

    def with_row(self, term: int, start: int) -> TermTable:
        """The table after the first record of `term` was put at `start`. Raises TermError if that cannot follow."""
        return TermTable((*self.rows, TermRow(term, start)))

    def upto(self, end: int) -> TermTable:
        """The table of the log cut at `end`: rows without a byte below are gone."""
        if not self.rows or self.rows[-1].start < end:
            return self
        return TermTable(self.rows[: self._row_at(end) + 1])

    def since(self, begin: int) -> TermTable:
        """The table of the log without what lies below `begin`: the row that tells the term at `begin` stays."""
        index = self._row_at(begin)
        return TermTable(self.rows[index:]) if index > 0 else self
