"""What the core knows of the log: positions, terms and memberships, never a byte of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from nodes.replication.raft.membership import Membership, MembershipRow
from nodes.replication.raft.orders import Head, RaftError, Restored
from nodes.replication.raft.terms import TermError, TermRow, TermTable

__all__ = ["ROWS_TOLD_MAX", "LogView"]

ROWS_TOLD_MAX = 64
"""So many rows of its term table a follower tells at a time; a longer disagreement takes more round trips."""


class LogView:
    """begin <= committed <= end; durable <= end. Nothing committed is ever cut: RaftError instead."""

    def __init__(self, restored: Restored) -> None:
        if not 0 <= restored.begin <= restored.stable <= restored.end:
            raise RaftError(f"begin {restored.begin}, stable {restored.stable}, end {restored.end} are out of order")
        self.begin = restored.begin
        self.end = restored.end
        self.durable = restored.stable
        self.committed = min(max(restored.committed, restored.begin), restored.stable)
        self.generation = 0
        try:
            self.table = TermTable(restored.rows).upto(restored.end)
        except TermError as error:
            raise RaftError(f"the restored term table cannot be: {error}") from error
        if self.end and self.table.term_at(self.begin + 1 if self.end > self.begin else self.begin) == 0:
            raise RaftError(f"the restored term table does not say who wrote the log's first record at {self.begin}")
        rows = sorted(restored.memberships, key=lambda row: row.end)
        self.memberships: tuple[MembershipRow, ...] = tuple(rows) or (MembershipRow(0, Membership()),)

    # Looking.

    @property
    def last_term(self) -> int:
        """Term of the last record; 0 for an empty log."""
        return self.table.term_at(self.end)

    @property
    def membership(self) -> Membership:
        """In force: the newest in the log."""
        return self.memberships[-1].membership

    @property
    def membership_end(self) -> int:
        """End of the record of the membership in force."""
        return self.memberships[-1].end

    def matches(self, position: int, term: int) -> bool:
        """This log holds the record that ends at `position`, and it is of `term`."""
        return self.begin <= position <= self.end and self.table.term_at(position) == term

    def shared_with_batch(self, prev: int, end: int, term: int) -> int:
        """Up to where this log holds the bytes of a batch [prev, end) of `term`, given that it matches at prev."""
        if self.end == prev or self.table.term_at(prev + 1) != term:
            return prev
        return min(end, self.table.term_end(prev, self.end))

    def newer_than(self, last_term: int, end: int) -> bool:
        """This log is more up to date than one with that last term and end (Raft section 5.4.1)."""
        return (self.last_term, self.end) > (last_term, end)

    def memberships_within(self, start: int, end: int) -> tuple[MembershipRow, ...]:
        """Those whose records lie in [start, end)."""
        return tuple(row for row in self.memberships if start < row.end <= end)

    def told(self, term: int) -> tuple[tuple[TermRow, ...], int]:
        """The newest rows not above `term`, and where the last of them ends."""
        rows = self.table.rows
        count = sum(row.term <= term for row in rows)
        end = rows[count].start if count < len(rows) else self.end
        return rows[max(0, count - ROWS_TOLD_MAX) : count], end

    def parting(self, rows: tuple[TermRow, ...], end: int) -> int:
        """Where to compare next with a log of these newest rows, the last of which ends at `end`.

        With a row that both know it is where the two logs part, exactly; without one it is the end of this log's newest
        term below all the rows told, so that the next answer tells older ones.
        """
        own = {row.term: row.start for row in self.table.rows}
        for row in reversed(rows):
            if own.get(row.term) == row.start:
                return min(end, self.table.term_end(row.start, self.end))
            end = row.start
        older = [row for row in self.table.rows if rows and row.term < rows[0].term]
        return self.table.term_end(older[-1].start, self.end) if older else 0

    def head_at(self, begin: int) -> Head:
        """What must be known of the log below `begin`."""
        if not self.begin <= begin <= min(self.committed, self.durable):
            raise RaftError(
                f"the log cannot begin at {begin}: it begins at {self.begin}, "
                f"is committed up to {self.committed} and durable up to {self.durable}"
            )
        membership = max((row for row in self.memberships if row.end <= begin), key=lambda row: row.end)
        return Head(begin, self.table.row_at(begin), membership)

    def live_memberships(self) -> tuple[MembershipRow, ...]:
        """The newest committed one, and those behind it, of which any may yet be the one that stays."""
        older = [row for row in self.memberships if row.end <= self.committed]
        return (*older[-1:], *(row for row in self.memberships if row.end > self.committed))

    # Changing.

    def extend(self, end: int, term: int, memberships: Iterable[MembershipRow] = ()) -> None:
        """Records of `term` up to `end` follow."""
        if end <= self.end:
            raise RaftError(f"the log ends at {self.end} and cannot be extended to {end}")
        if self.last_term != term:
            self.table = self.table.with_row(term, self.end)
        self.memberships += tuple(row for row in memberships if self.end < row.end <= end)
        self.end = end

    def truncate(self, end: int) -> None:
        """Cut; a membership whose record is cut is no longer in force."""
        if end < self.committed:
            raise RaftError(f"committed up to {self.committed}, asked to cut at {end}: this must never happen")
        self.table = self.table.upto(end)
        self.memberships = tuple(row for row in self.memberships if row.end <= end)
        self.end = end
        self.durable = min(self.durable, end)
        self.generation += 1

    def reset(self, head: Head) -> None:
        """Everything below `head.begin` is known through `head` only."""
        self.begin = self.end = self.committed = head.begin
        self.durable = 0
        self.table = TermTable(() if head.row is None else (head.row,))
        self.memberships = (head.membership,)
        self.generation += 1

    def forget_below(self, begin: int) -> None:
        """Retention has deleted what lies below."""
        head = self.head_at(begin)
        self.begin = begin
        self.table = self.table.since(begin)
        self.memberships = (head.membership, *(row for row in self.memberships if row.end > begin))
