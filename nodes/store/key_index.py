"""Finding messages by key.

For each segment of the commit log there is one file of 12-byte entries, checksum of `topic#key` (4) and log offset (8),
in log order. A query walks the files from the newest to the oldest and looks for the checksum's bytes; candidates are
verified against the record itself, so a collision costs a read and never a wrong answer. Like the consume queues the
files are filled in batches, cut back to the last checkpoint after a crash and filled again from the log. They go when
their segment goes. (RocketMQ's index file answers the same questions with a hash table of 420 MB on disk.)
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final
from zlib import crc32

from nodes.remoting.message import KEYS, UNIQ_KEY
from nodes.store.commit_log import segment_name
from nodes.store.consume_queue import FileCache

KEY_ENTRY: Final = Struct(">IQ")
_BLOCK_BYTES: Final = 65536 * KEY_ENTRY.size
_UNIQ_MARK: Final = UNIQ_KEY.encode() + b"\x01"
_KEYS_MARK: Final = KEYS.encode() + b"\x01"


def key_checksum(topic_crc: int, key: bytes) -> int:
    """Checksum of `topic#key`; `topic_crc` is that of `topic#`."""
    return crc32(key, topic_crc)


class KeyIndex:
    """The index files of one store."""

    def __init__(self, folder: str, files: FileCache, segment_size: int) -> None:
        self.folder = folder
        self._files = files
        self._segment_size = segment_size
        self._tail = bytearray()
        self._segment = 0
        """Start of the segment whose entries are in `_tail`."""
        self._spilled = 0
        """Bytes of that segment's file."""
        self.dirty_paths: set[str] = set()

    def open(self, segment: int, length: int) -> None:
        """Go on in the file of this segment behind `length` bytes; what lies behind is overwritten or ignored."""
        self._files.disk.makedirs(self.folder)
        self._segment = segment
        self._spilled = length
        self._tail.clear()
        for start in self._starts():
            path = self._path(start)
            if start > segment:
                self._files.forget(path)
                self._files.disk.remove(path)
            elif start == segment:
                self._files.get(path).truncate(length)

    def holds(self, segment: int, length: int) -> bool:
        """Whether the file of this segment has at least `length` bytes."""
        path = self._path(segment)
        return length == 0 or (self._files.disk.exists(path) and self._files.get(path).size() >= length)

    def put(self, topic_crc: int, properties: bytes, offset_log: int) -> None:
        """Note the keys of the message stored at `offset_log`. Raises OSError when it has to spill and cannot."""
        if offset_log - self._segment >= self._segment_size:
            self.spill()
            self._segment = offset_log - offset_log % self._segment_size
            self._spilled = 0
        at = properties.find(_UNIQ_MARK)
        if at >= 0:
            at += 9
            end = properties.find(b"\x02", at)
            key = properties[at:] if end < 0 else properties[at:end]
            self._tail += KEY_ENTRY.pack(crc32(key, topic_crc), offset_log)
        at = properties.find(_KEYS_MARK)
        if at >= 0:
            at += 5
            end = properties.find(b"\x02", at)
            for key in (properties[at:] if end < 0 else properties[at:end]).split(b" "):
                if key:
                    self._tail += KEY_ENTRY.pack(crc32(key, topic_crc), offset_log)

    def spill(self) -> None:
        """Move the entries in memory to the file. Raises OSError."""
        if not self._tail:
            return
        path = self._path(self._segment)
        self._files.get(path, create=True).pwrite(self._spilled, bytes(self._tail))
        self._spilled += len(self._tail)
        self._tail.clear()
        self.dirty_paths.add(path)

    def position_at(self, offset_log: int) -> tuple[int, int]:
        """(segment, bytes of its file) behind the entries of all messages before `offset_log`. Raises OSError."""
        self.spill()
        segment = offset_log - offset_log % self._segment_size
        path = self._path(segment)
        if segment > self._segment or not self._files.disk.exists(path):
            return segment, 0
        file = self._files.get(path)
        low, high = 0, (self._spilled if segment == self._segment else file.size()) // KEY_ENTRY.size
        while low < high:
            middle = (low + high) // 2
            if KEY_ENTRY.unpack(file.pread(middle * KEY_ENTRY.size, KEY_ENTRY.size))[1] < offset_log:
                low = middle + 1
            else:
                high = middle
        return segment, low * KEY_ENTRY.size

    def find(self, checksum: int) -> Iterator[int]:
        """Log offsets of messages whose key may have this checksum, newest first."""
        yield from self._matches(bytes(self._tail), checksum)
        for start in reversed(self._starts()):
            if start > self._segment:
                continue
            file = self._files.get(self._path(start))
            size = self._spilled if start == self._segment else file.size()
            while size > 0:
                block = min(size, _BLOCK_BYTES)
                yield from self._matches(self._files.get(self._path(start)).pread(size - block, block), checksum)
                size -= block

    @staticmethod
    def _matches(block: bytes, checksum: int) -> Iterator[int]:
        wanted = checksum.to_bytes(4, "big")
        at = block.rfind(wanted)
        while at >= 0:
            if at % KEY_ENTRY.size == 0:
                yield KEY_ENTRY.unpack_from(block, at)[1]
            at = block.rfind(wanted, 0, at + 3)

    def cut(self, offset_log: int) -> None:
        """Drop the entries of messages from `offset_log` on. Raises OSError."""
        self.open(*self.position_at(offset_log))

    def drop_before(self, offset_log: int) -> None:
        """Delete the files of segments that end at or before `offset_log`."""
        for start in self._starts():
            if start + self._segment_size <= offset_log and start < self._segment:
                path = self._path(start)
                self._files.forget(path)
                self.dirty_paths.discard(path)
                self._files.disk.remove(path)

    def _starts(self) -> list[int]:
        names = self._files.disk.listdir(self.folder) if self._files.disk.exists(self.folder) else []
        return [int(name) for name in names if len(name) == 20 and name.isdigit()]

    def _path(self, segment: int) -> str:
        return f"{self.folder}/{segment_name(segment)}"
