"""Reads the DLedger log of a release's broker: entries of a 48-byte head and a message record, and an index of them.

What was truncated is not wiped, so the end of the log is not the end of what is written: entries behind it show
themselves by a term that is older than the one before, or by a checkpoint that was written after they were first seen
and ends below them. Sources: DLedger 0.3.1.2, classes DLedgerMmapFileStore, DLedgerEntryCoder, MemberState.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.systems.log_entries import LogEntry
from lab.systems.rocketmq.mapped_files import ENTRY_MAX, file_of, files_of, read_piece
from lab.systems.system import LogPiece
from nodes.remoting.message import RecordError
from nodes.remoting.record_check import check_record

HEAD: Final = struct.Struct(">iiqqqiiii")  # magic, size, index, term, pos, channel, chainCrc, bodyCrc, body length
INDEX: Final = struct.Struct(">iqiqq")  # magic, pos, size, index, term
MAGIC: Final = 1
BLANK: Final = -1  # instead of a magic: the rest of the file is empty; its size follows
_FRONT: Final = struct.Struct(">ii")
_BATCH: Final = 4096  # index entries read at once


@dataclass(frozen=True, slots=True)
class Vote:
    """Term and vote as the member keeps them on disk; ``to`` is the id of a member."""

    term: int
    to: str | None


@dataclass(frozen=True, slots=True)
class Look:
    """What the files told at one look: the end of the log, ``topic@queue`` to ``min`` and ``max`` of what is committed
    of it, and the member's vote."""

    end: int
    queues: Mapping[str, Mapping[str, int]]
    vote: Vote | None


@dataclass(frozen=True, slots=True)
class _Row:
    """One entry of the index."""

    number: int
    offset: int
    size: int
    term: int

    @property
    def behind(self) -> int:
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """The number of the last entry, and when the member wrote so (wall clock, as files have it)."""

    last: int
    written: float


@dataclass(frozen=True, slots=True)
class _Walk:
    """How far the index was walked: the next number, where its entry must stand, and the term of the one before."""

    number: int = 0
    offset: int = 0
    term: int = -1


class _Pieces:
    """Committed entries, asked for in their order: their bytes are read by pieces, not one by one."""

    def __init__(self, folder: Path, committed: int) -> None:
        self._folder = folder
        self._end = committed
        self._begin = 0
        self._data = b""

    def holding(self, row: _Row) -> tuple[bytes, int]:
        """A piece, and where the entry begins in it; too short a piece if the files do not have it."""
        if not self._begin <= row.offset <= row.behind <= self._begin + len(self._data):
            self._begin = row.offset
            self._data = read_piece(self._folder, row.offset, self._end, _size) or b""
        return self._data, row.offset - self._begin


class LedgerFiles:
    """One member's log. What was walked once, up to what is committed, is not walked again.

    A member that has caught up has thousands of entries to count, so looking may take its time. Not for use by two
    threads at once.
    """

    def __init__(self, store: Path, member: str) -> None:
        self._root = store / f"dledger-{member}"
        self._begin()

    def _begin(self) -> None:
        self._kept = _Walk()
        self._queues: dict[str, dict[str, int]] = {}
        self._grown = (0, 0.0)  # the end seen last, and when it was first seen
        self._left: tuple[_Row, float] | None = None  # the first entry that a truncation left behind, since when known

    @property
    def queues(self) -> dict[str, dict[str, int]]:
        """``topic@queue`` to ``min`` and ``max`` of what is committed, as far as `end` was asked."""
        return {name: dict(bounds) for name, bounds in self._queues.items()}

    def look(self, committed: int) -> Look:
        """End, queues and vote as they are now; ``committed`` as for `end`."""
        end = self.end(committed)
        return Look(end, self.queues, self.vote())

    def vote(self) -> Vote | None:
        """What ``currterm`` says; None if nothing can be read: DLedger deletes the file before it renames the new one,
        and writes it anew with every vote."""
        told = _properties(self._root / "currterm")
        term = told.get("currTerm", "")
        return Vote(int(term), told.get("voteLeader") or None) if term.lstrip("-").isdecimal() else None

    def end(self, committed: int) -> int:
        """The log offset behind the last entry; entries up to ``committed`` are final and kept count of."""
        if not self._holds(self._kept):  # the member has another store since
            self._begin()
        walk = self._kept
        checkpoint = self._checkpoint()
        pieces = _Pieces(self._root / "data", committed)
        for row in self._rows(walk):
            if row.behind <= committed:
                self._count(row, pieces)
                self._kept = _Walk(row.number + 1, row.behind, row.term)
            elif self._left_behind(row, checkpoint):
                break
            walk = _Walk(row.number + 1, row.behind, row.term)
        if walk.offset != self._grown[0]:
            self._grown = (walk.offset, time.time())
        return walk.offset

    def _left_behind(self, row: _Row, checkpoint: _Checkpoint | None) -> bool:
        """Whether this entry was truncated, by a checkpoint that is younger than it."""
        if checkpoint is None:
            return False
        if self._left is not None and self._left[0] == row:
            if checkpoint.written <= self._left[1] or checkpoint.last < row.number:
                return True
            self._left = None
            return False
        grown, since = self._grown
        if grown >= row.behind and checkpoint.written > since and checkpoint.last < row.number:
            self._left = (row, checkpoint.written)
            return True
        return False

    def read_log(self, offset: int, end: int) -> LogPiece | None:
        """Whole entries from ``offset`` on, of one file; None if there is no such place."""
        data = read_piece(self._root / "data", offset, end, _size)
        if data is None:
            return None
        length, following = 0, offset
        for entry in ledger_entries(data, offset):
            length = entry.start + (_FRONT.size if entry.filler else entry.size)
            following = entry.offset + entry.size
        return LogPiece(data[:length], following, end)

    def _rows(self, walk: _Walk) -> Iterator[_Row]:
        """The index entries from there on, as long as each follows the one before."""
        number, due, last = walk.number, walk.offset, walk.term
        while True:
            block = self._index(number)
            for magic, offset, size, told, term in INDEX.iter_unpack(block):
                if magic != MAGIC or told != number or size <= HEAD.size or term < last:
                    return
                if offset != due and (offset < due or not self._begins_file(offset)):
                    return
                yield _Row(number, offset, size, term)
                number, due, last = number + 1, offset + size, term
            if len(block) < _BATCH * INDEX.size:
                return

    def _holds(self, walk: _Walk) -> bool:
        """Whether the entry up to which was walked is still there."""
        if walk.number == 0:
            return True
        block = self._index(walk.number - 1)[: INDEX.size]
        if len(block) < INDEX.size:
            return False
        magic, offset, size, told, term = INDEX.unpack(block)
        return bool(magic == MAGIC and told == walk.number - 1 and offset + size == walk.offset and term == walk.term)

    def _begins_file(self, offset: int) -> bool:
        return offset in files_of(self._root / "data")

    def _index(self, number: int) -> bytes:
        """Up to so many entries from one on: whole ones only, of one file."""
        found = file_of(self._root / "index", number * INDEX.size)
        if found is None:
            return b""
        start, path, _ = found
        with path.open("rb") as file:
            file.seek(number * INDEX.size - start)
            data = file.read(_BATCH * INDEX.size)
        return data[: len(data) // INDEX.size * INDEX.size]

    def _checkpoint(self) -> _Checkpoint | None:
        path = self._root / "checkpoint"
        try:
            written = path.stat().st_mtime
        except OSError:
            return None
        last = _properties(path).get("endIndex", "")
        return _Checkpoint(int(last), written) if last.lstrip("-").isdecimal() else None

    def _count(self, row: _Row, pieces: _Pieces) -> None:
        """Count a committed record in its queue."""
        data, start = pieces.holding(row)
        try:
            head = check_record(data, start + HEAD.size, check_crc=False)
        except RecordError:
            return  # the dump tells of it
        bounds = self._queues.setdefault(
            f"{head.topic.decode(errors='replace')}@{head.queue_id}", {"min": head.queue_offset, "max": 0}
        )
        bounds["max"] = max(bounds["max"], head.queue_offset + 1)


def ledger_entries(data: bytes, offset: int) -> Iterator[LogEntry]:
    """The entries of a piece that begins at ``offset``, up to the first that is cut off. Raises RecordError."""
    position = 0
    while position + _FRONT.size <= len(data):
        magic, size = _FRONT.unpack_from(data, position)
        here = offset + position
        if magic == BLANK and size >= _FRONT.size:
            yield LogEntry(position, here, size, filler=True)
            return  # the next entry stands in the next file
        if magic != MAGIC or not HEAD.size < size <= ENTRY_MAX:
            raise RecordError(f"at {here}: no entry begins with magic {magic} and size {size}")
        if position + size > len(data):
            return
        _, _, _, term, told, _, _, _, length = HEAD.unpack_from(data, position)
        if told != here or length != size - HEAD.size:
            raise RecordError(f"at {here}: the entry says that it stands at {told} with {length} of {size} bytes")
        yield LogEntry(position, here, size, HEAD.size, term)
        position += size


def _size(front: bytes) -> int:
    return int(_FRONT.unpack_from(front)[1])


def _properties(path: Path) -> dict[str, str]:
    """A small property file of DLedger; empty if it cannot be read now."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if not line.startswith("#"))
    return {key.strip(): value.strip() for key, equals, value in pairs if equals}
