"""Whole records of a log as bytes: cut out for a follower, and checked when they arrive. Pure but for the log it reads.

A filler that ends a commit-log file always travels with the record behind it, so that a log ends with a record whatever
is lost: positions that members agree on are ends of records.
"""

from __future__ import annotations

from typing import Protocol

from nodes.remoting.message import FILLER_MIN, MAGIC_FILLER, RecordError, peek
from nodes.remoting.record_check import measure_record

__all__ = ["EntryLog", "check_batch", "check_entries", "read_entries"]

_RECORD_MAX = 32 * 1024 * 1024


class EntryLog(Protocol):
    """The log to read from."""

    def read_log(self, offset_log: int, max_bytes: int) -> bytes:
        """Written bytes from any offset, fewer than asked at the end of a file. Raises OSError."""
        ...


def read_entries(log: EntryLog, start: int, stop: int, max_bytes: int, segment_size: int) -> bytes:
    """Whole records from `start`, not beyond `stop` (both ends of records), about `max_bytes` and at least one.

    Raises OSError, and ValueError if the log holds no records there.
    """
    size = min(stop - start, max_bytes)
    if size == stop - start and start // segment_size == (stop - 1) // segment_size:
        data = log.read_log(start, size)
        if len(data) == size:
            return data  # all of it, within one file: `stop` is the end of a record, so no filler can be at the end
    head = log.read_log(start, FILLER_MIN)
    if len(head) < FILLER_MIN:
        raise ValueError(f"no record begins at {start}")
    length, magic = peek(head)
    if not FILLER_MIN <= length <= max(_RECORD_MAX, segment_size):
        raise ValueError(f"a record of {length} bytes at {start}")
    if magic == MAGIC_FILLER:
        filler = _exactly(log, start, length)
        room = max(max_bytes - length, 1)
        return filler + read_entries(log, start + length, stop, min(room, stop - start - length), segment_size)
    data = log.read_log(start, max(size, length))
    end = 0
    while len(data) - end >= FILLER_MIN:
        length, magic = peek(data, end)
        if magic == MAGIC_FILLER or end + length > len(data) or start + end + length > stop:
            break
        if length < FILLER_MIN:
            raise ValueError(f"a record of {length} bytes at {start + end}")
        end += length
    if end == 0:
        raise ValueError(f"no whole record at {start} before {stop}")
    return data[:end]


def _exactly(log: EntryLog, start: int, size: int) -> bytes:
    data = log.read_log(start, size)
    if len(data) != size:
        raise ValueError(f"{size} bytes were expected at {start}, {len(data)} are there")
    return data


def check_batch(start: int, end: int, data: bytes, segment_size: int) -> str | None:
    """Why `data` is not what the log holds from `start` to `end`; None if it may be. Nothing is a batch too."""
    if len(data) != end - start:
        return f"{len(data)} bytes from {start} to {end}"
    return check_entries(data, start, segment_size) if data else None


def check_entries(data: bytes, start: int, segment_size: int) -> str | None:
    """Why `data` is not whole, valid records for the log from `start` on, ending with one; None if it is."""
    view = memoryview(data)
    position = 0
    record = False
    while position < len(view):
        if len(view) - position < FILLER_MIN:
            return f"{len(view) - position} bytes at {start + position} are too few for a record"
        length, magic = peek(view, position)
        if magic == MAGIC_FILLER:
            place = start + position
            if length != segment_size - place % segment_size or position + length > len(view):
                return f"a filler of {length} bytes at {place}: the members' mappedFileSizeCommitLog differ"
            position += length
            record = False
            continue
        try:
            position += measure_record(view, position, start + position)
        except RecordError as error:
            return f"at {start + position}: {error}"
        record = True
    return None if record else "no record at the end"
