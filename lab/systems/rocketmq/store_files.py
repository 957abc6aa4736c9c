"""Reads a broker's store files as RocketMQ lays them out: commit log, and consume queues of 20-byte entries.

Sources: RocketMQ classes CommitLog, ConsumeQueue.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from lab.systems.rocketmq.mapped_files import file_of, files_of, read_piece
from lab.systems.system import LogPiece
from nodes.remoting.message import MAGIC_FILLER

ENTRY: Final = struct.Struct(">qiq")
_HEAD: Final = struct.Struct(">iI")
_GAP: Final = 0x7FFFFFFF  # the size in entries that only fill the beginning of a queue that starts above 0
_BATCH: Final = 4096 * ENTRY.size  # mostly the first entry is no gap, and a file has 300,000


class StoreFiles:
    """The store folder of one broker."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read_log(self, offset: int, end: int) -> LogPiece | None:
        """Whole records of the commit log from ``offset`` on, of one file; None if there is no such place.

        A filler's first 8 bytes stand for all of it: `next_offset` is behind it.
        """
        data = read_piece(self.root / "commitlog", offset, end, _size)
        if data is None:
            return None
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
            while begin < end and (block := _whole_entries(file.read(_BATCH))):
                for _, size, _ in ENTRY.iter_unpack(block):
                    if size != _GAP or begin >= end:
                        return begin, end
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

    def indexed_end(self) -> int:
        """The log offset behind the last record that any queue points at; 0 without one."""
        latest = 0
        for name, bounds in self.queues().items():
            topic, _, queue_id = name.rpartition("@")
            for offset, size, _ in ENTRY.iter_unpack(self.read_index(topic, int(queue_id), bounds["max"] - 1, 1)[0]):
                latest = max(latest, offset + size)
        return latest

    def _queue(self, topic: str, queue_id: int) -> Path:
        return self.root / "consumequeue" / topic / str(queue_id)


def _size(front: bytes) -> int:
    return int(_HEAD.unpack_from(front)[0])


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
