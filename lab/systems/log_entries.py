"""How a replica's log is cut into entries: plain records one after the other, as masters, slaves and our own nodes
write them. Systems that wrap their records say so with an `entries` of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodes.remoting.message import MAGIC_FILLER, RecordError, peek

_HEAD_BYTES = 8


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry of a piece of log: where it stands, and where the message record in it begins."""

    start: int  # in the piece
    offset: int  # in the log
    size: int  # bytes of the log that it takes, more than the piece holds of a filler
    head: int = 0  # bytes of the entry before its record
    term: int | None = None  # that the entry itself carries; None: the replica's table of epochs tells it
    filler: bool = False


def plain_entries(data: bytes, offset: int) -> Iterator[LogEntry]:
    """The records of a piece that begins at ``offset``, up to the first that is cut off. Raises RecordError."""
    position = 0
    while position + _HEAD_BYTES <= len(data):
        size, magic = peek(data, position)
        filler = magic == MAGIC_FILLER
        if size < _HEAD_BYTES:
            raise RecordError(f"a record of {size} bytes at {offset + position}")
        if not filler and position + size > len(data):
            return
        yield LogEntry(position, offset + position, size, filler=filler)
        position += size
