"""Reads a broker's store files as RocketMQ lays them out: commit log, and consume queues of 20-byte entries.

The files are mapped and shared by the broker, so a plain read sees what it wrote. Files are filled with zeros ahead.
Sources: RocketMQ classes CommitLog, ConsumeQueue, MappedFileQueue.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lab.systems.system import LogPiece
from nodes.remoting.message import MAGIC_FILLER

ENTRY: Final = struct.Struct(">qiq")
PIECE: Final = 4 * 1024 * 1024
RECORD_MAX: Final = 32 * 1024 * 1024
_HEAD: Final = struct.Struct(">iI")
_GAP: Final = 0x7FFFFFFF  # the size in entries that only fill the beginning of a queue that starts above 0


class StoreFiles:
    """The store folder of one broker."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read_log(self, offset: int, end: int) -> LogPiece | None:
        """Whole records of the commit log from ``offset`` on, of one file; None if there is no such place.

        A filler's first 8 bytes stand for all of it: `next_offset` is behind it.
        """
        found = file_of(self.root / "commitlog", offset)
        if found is None:
            return None
        start, path, size = found
        limit = min(end, start + size)
        with path.open("rb") as file:
            file.seek(offset - start)
            data = file.read(min(PIECE, limit - offset))
            first = _HEAD.unpack_from(data)[0] if len(data) >= _HEAD.size else 0
            if len(data) < first <= min(RECORD_MAX, limit - offset):
                data += file.read(first - len(data))
        length, following = whole(data, offset)
        return LogPiece(data[:length], following, end)

    def begin(self) -> int:
        """The first offset of the commit log."""
        return min(files_of(self.root / "commitlog"), default=0)

    def queues(self) -> dict[str, dict[str, int]]:
        """``topic@queue`` to its ``min`` and ``max`` offsets, of every consume queue there is."""
        found = {}
        for topic in _folders(self.root / "consumequeue"):
            for queue in _folders(topic):
                if queue.name.isdigit():
                    begin, end = self.bounds(topic.name, int(queue.name))
                    found[f"{topic.name}@{queue.name}"] = {"min": begin, "max": end}
        return found

    def bounds(self, topic: str, queue_id: int) -> tuple[int, int]:
        """The first entry of a queue and one behind its last."""
        files = files_of(self._queue(topic, queue_id))
        if not files:
            return 0, 0
        end = max(_end(path, start) for start, path in files.items())
        begin = min(files) // ENTRY.size
        with files[min(files)].open("rb") as file:
            for _, size, _ in ENTRY.iter_unpack(_whole_entries(file.read())):
                if size != _GAP or begin >= end:
                    break
                begin += 1
        return begin, end

    def read_index(self, topic: str, queue_id: int, offset: int, most: int) -> tuple[bytes, int, int]:
        """At most so many entries of a queue from ``offset`` on, with the queue's bounds."""
        begin, end = self.bounds(topic, queue_id)
        offset = max(offset, begin)
        wanted = min(most, end - offset) * ENTRY.size
        if wanted <= 0:
            return b"", begin, end
        found = file_of(self._queue(topic, queue_id), offset * ENTRY.size)
        if found is None:
            return b"", begin, end
        start, path, _ = found
        with path.open("rb") as file:
            file.seek(offset * ENTRY.size - start)
            return _whole_entries(file.read(wanted)), begin, end

    def _queue(self, topic: str, queue_id: int) -> Path:
        return self.root / "consumequeue" / topic / str(queue_id)


def whole(data: bytes, offset: int) -> tuple[int, int]:
    """How many bytes of a piece are whole records, and the log offset that follows them; a filler may be cut short."""
    position = 0
    following = offset
    while position + _HEAD.size <= len(data):
        size, magic = _HEAD.unpack_from(data, position)
        if size <= 0:
            break
        if magic == MAGIC_FILLER:
            return position + _HEAD.size, following + size
        if position + size > len(data):
            break
        position += size
        following += size
    return position, following


def files_of(folder: Path) -> Mapping[int, Path]:
    """Mapped files by the offset that their names tell."""
    try:
        return {int(path.name): path for path in folder.iterdir() if path.name.isdigit()}
    except OSError:
        return {}


def file_of(folder: Path, offset: int) -> tuple[int, Path, int] | None:
    """(first offset, path, size) of the file that holds an offset."""
    for start, path in files_of(folder).items():
        size = path.stat().st_size
        if start <= offset < start + size:
            return start, path, size
    return None


def _end(path: Path, start: int) -> int:
    """The queue offset behind the last written entry of a file: entries are written in order, zeros follow."""
    with path.open("rb") as file:
        low, high = 0, path.stat().st_size // ENTRY.size
        while low < high:
            middle = (low + high) // 2
            file.seek(middle * ENTRY.size)
            entry = file.read(ENTRY.size)
            written = len(entry) == ENTRY.size and ENTRY.unpack(entry)[1] != 0
            low, high = (middle + 1, high) if written else (low, middle)
    return start // ENTRY.size + low


def _whole_entries(data: bytes) -> bytes:
    return data[: len(data) // ENTRY.size * ENTRY.size]


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []
