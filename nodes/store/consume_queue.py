"""Consume queues: for each queue the places of its messages in the log, 20 bytes an entry.

Entries are log offset (8), size (4), tags code (8), as in RocketMQ ConsumeQueue. The newest entries are kept in a
bytearray and spilled to files in batches; files are not synced with the log, because after a crash the queue is cut
back to its last checkpoint and filled again from the log. So a queue costs a few kilobytes of memory however long it
is, and no disk access on the way to an acknowledgement.
"""

from __future__ import annotations

from collections import OrderedDict
from struct import Struct
from typing import Final
from zlib import crc32

from nodes.remoting.message import RECORD_MIN
from nodes.store.commit_log import segment_name
from nodes.store.disk import Disk, File

ENTRY: Final = Struct(">qiq")
ENTRY_SIZE: Final = ENTRY.size
SPILL_BYTES: Final = 512 * ENTRY_SIZE
"""Entries kept in memory before they go to a file."""
OPEN_FILES_MAX: Final = 64


class FileCache:
    """A bounded number of open files, the least recently used one closed first."""

    def __init__(self, disk: Disk, limit: int = OPEN_FILES_MAX) -> None:
        self.disk = disk
        self._limit = limit
        self._open: OrderedDict[str, File] = OrderedDict()

    def get(self, path: str, create: bool = False) -> File:
        """The open file of that path. Raises OSError."""
        file = self._open.get(path)
        if file is not None:
            self._open.move_to_end(path)
            return file
        file = self.disk.open(path, create)
        self._open[path] = file
        if len(self._open) > self._limit:
            self._open.popitem(last=False)[1].close()
        return file

    def forget(self, path: str) -> None:
        """Close one file."""
        file = self._open.pop(path, None)
        if file is not None:
            file.close()

    def close(self) -> None:
        """Close all."""
        while self._open:
            self._open.popitem()[1].close()


class ConsumeQueue:
    """One queue of one topic.

    Offsets count entries. `begin` is the first that may ever be read again (a deleted and re-created topic goes on
    behind its old messages, so no offset is ever given twice), `visible` the first that may not be read yet, `next` the
    one that the next message gets.
    """

    __slots__ = (
        "_per_file",
        "begin",
        "delay_ms",
        "dirty_paths",
        "files",
        "folder",
        "new_folder",
        "next",
        "queue_id",
        "record_base",
        "tail",
        "tail_start",
        "topic",
        "topic_bytes",
        "topic_crc",
        "topic_field",
        "visible",
    )

    def __init__(
        self, topic: str, queue_id: int, folder: str, files: FileCache, file_size: int, delay_ms: int | None
    ) -> None:
        self.topic = topic
        self.topic_bytes = topic.encode()
        self.topic_field = bytes((len(self.topic_bytes),)) + self.topic_bytes
        self.topic_crc = crc32(self.topic_bytes + b"#")
        self.record_base = RECORD_MIN + len(self.topic_bytes)
        """Bytes of a record in this queue, but for body and properties, between IPv4 hosts."""
        self.queue_id = queue_id
        self.folder = folder
        self.files = files
        self.delay_ms = delay_ms
        """Queues of the schedule topic: how long after storing a message is due; its tags code is that time."""
        self.begin = 0
        self.next = 0
        self.visible = 0
        self.tail = bytearray()
        self.tail_start = 0
        self.dirty_paths: set[str] = set()
        self.new_folder = False
        self._per_file = file_size // ENTRY_SIZE

    def start_at(self, begin: int, end: int) -> None:
        """Set the bounds of a queue whose entries `begin` to `end` lie in files (or nowhere)."""
        self.begin = begin
        self.next = self.visible = self.tail_start = end
        self.tail.clear()

    def spill(self) -> None:
        """Move the entries in memory to files. Raises OSError."""
        if not self.tail:
            return
        if not self.new_folder and not self.files.disk.exists(self.folder):
            self.files.disk.makedirs(self.folder, durable=False)
            self.new_folder = True
        index = self.tail_start
        position = 0
        while position < len(self.tail):
            first = index - index % self._per_file
            path = self._path(first)
            count = min(self._per_file - (index - first), (len(self.tail) - position) // ENTRY_SIZE)
            part = bytes(self.tail[position : position + count * ENTRY_SIZE])
            self.files.get(path, create=True).pwrite((index - first) * ENTRY_SIZE, part)
            self.dirty_paths.add(path)
            index += count
            position += count * ENTRY_SIZE
        self.tail_start = self.next
        self.tail.clear()

    def read(self, index: int, count: int) -> bytes:
        """Entries `index` to `index + count`, fewer where the queue ends. Raises OSError."""
        count = min(count, self.next - index)
        if count <= 0:
            return b""
        if index >= self.tail_start:
            at = (index - self.tail_start) * ENTRY_SIZE
            return bytes(self.tail[at : at + count * ENTRY_SIZE])
        parts: list[bytes] = []
        stop = min(index + count, self.tail_start)
        position = index
        while position < stop:
            first = position - position % self._per_file
            part = min(self._per_file - (position - first), stop - position)
            data = self.files.get(self._path(first)).pread((position - first) * ENTRY_SIZE, part * ENTRY_SIZE)
            if len(data) < part * ENTRY_SIZE:
                raise OSError(f"{self._path(first)} is shorter than its queue: {len(data)} bytes at entry {position}")
            parts.append(data)
            position += part
        if index + count > stop:
            parts.append(bytes(self.tail[: (index + count - stop) * ENTRY_SIZE]))
        return b"".join(parts)

    def entry(self, index: int) -> tuple[int, int, int]:
        """(log offset, size, tags code) of one entry. Raises OSError or IndexError."""
        data = self.read(index, 1)
        if not data:
            raise IndexError(f"{self.topic}@{self.queue_id} has no entry {index}")
        offset_log, size, tags_code = ENTRY.unpack(data)
        return offset_log, size, tags_code

    def first_at(self, offset_log: int) -> int:
        """The first entry, from `begin`, whose message lies at or behind `offset_log`; `next` if there is none."""
        low, high = self.begin, self.next
        if low < self.tail_start < high and self.entry(self.tail_start)[0] <= offset_log:
            low = self.tail_start  # the usual question is about the newest messages: no file is read
        while low < high:
            middle = (low + high) // 2
            if self.entry(middle)[0] < offset_log:
                low = middle + 1
            else:
                high = middle
        return low

    def cut(self, end: int) -> None:
        """Drop the entries from `end` on. Survives a crash after the next checkpoint only. Raises OSError."""
        if end >= self.next:
            return
        if end >= self.tail_start:
            del self.tail[(end - self.tail_start) * ENTRY_SIZE :]
        else:
            self.tail.clear()
            self.tail_start = end
        self.next = end
        self.visible = min(self.visible, end)
        self.begin = min(self.begin, end)

    def drop_before(self, index: int) -> bool:
        """Delete files that hold only entries below `index`, except the newest. Returns whether any was deleted."""
        limit = min(index, self.next) // self._per_file * self._per_file
        dropped = False
        for first in self.file_starts():
            if first >= limit:
                break
            path = self._path(first)
            self.files.forget(path)
            self.dirty_paths.discard(path)
            self.files.disk.remove(path)
            dropped = True
        return dropped

    def holds(self, begin: int, end: int) -> bool:
        """Whether the files hold all entries from `begin` to `end`."""
        index = begin
        while index < end:
            first = index - index % self._per_file
            path = self._path(first)
            stop = min(first + self._per_file, end)
            if not self.files.disk.exists(path) or self.files.get(path).size() < (stop - first) * ENTRY_SIZE:
                return False
            index = stop
        return True

    def file_starts(self) -> list[int]:
        """First entry of each file of this queue, in order."""
        if not self.files.disk.exists(self.folder):
            return []
        names = self.files.disk.listdir(self.folder)
        return [int(name) // ENTRY_SIZE for name in names if len(name) == 20 and name.isdigit()]

    def delete_files(self) -> None:
        """Remove all files of this queue and its folder."""
        for first in self.file_starts():
            self.files.forget(self._path(first))
            self.files.disk.remove(self._path(first))
        self.dirty_paths.clear()
        if self.files.disk.exists(self.folder) and not self.files.disk.listdir(self.folder):
            self.files.disk.remove(self.folder)
        self.new_folder = False

    def _path(self, first: int) -> str:
        return f"{self.folder}/{segment_name(first * ENTRY_SIZE)}"
