"""The commit log's files: one byte stream in segments of equal size.

A segment is named by the 20-digit offset of its first byte. Its file is filled with zeros a little ahead of the log's
end: a sync then writes bytes into blocks that the file already has, and no new length, which on ext4 takes half the
time. Old bytes never come back: a cut shortens the file, and what lies behind the last record after a crash is what was
being written, and zeros. A start and an orderly stop shorten the file to its last record. A full segment has exactly
`segment_size` bytes, the unused rest being a filler record, so the full segments of two replicas of one log are equal
byte for byte.
"""

from __future__ import annotations

import errno
from typing import Final

from nodes.store.disk import Disk, File

OPEN_SEGMENTS_MAX: Final = 64
"""Older segments beyond this many are closed again after reading."""
FILL_AHEAD: Final = 1 << 20
"""Zeros (bytes) written ahead of the log's end at a time."""
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_ZEROS: Final = bytes(FILL_AHEAD)


def segment_name(offset: int) -> str:
    """File name of the segment (or queue file) that starts at `offset`."""
    return f"{offset:020d}"


class Segment:
    """One file of the log."""

    __slots__ = ("dirty", "file", "filled", "length", "path", "start", "syncing")

    def __init__(self, start: int, path: str, length: int, file: File | None = None) -> None:
        self.start = start
        self.path = path
        self.length = length
        """Bytes of the log in it; its file may be longer by zeros."""
        self.filled = length
        """Filling is due when `length` has passed this."""
        self.file = file
        self.dirty = False
        self.syncing = False
        """Another thread may be using the file: it must stay open."""


class CommitLog:
    """Writes and reads the byte stream. It knows nothing of records."""

    def __init__(self, disk: Disk, folder: str, segment_size: int) -> None:
        self._disk = disk
        self.folder = folder
        self.segment_size = segment_size
        self.segments: list[Segment] = []
        self.end = 0
        """Offset behind the last written byte."""
        self._folder_dirty = False
        self._opened: list[Segment] = []

    @property
    def begin(self) -> int:
        """Offset of the first byte that is still there."""
        return self.segments[0].start if self.segments else self.end

    def load(self) -> None:
        """Find the segments on disk, without reading them: zeros behind the last record still count as the log's.

        Files with other names are left alone.
        """
        self._disk.makedirs(self.folder)
        for name in self._disk.listdir(self.folder):
            if len(name) == 20 and name.isdigit():
                path = f"{self.folder}/{name}"
                file = self._disk.open(path)
                try:
                    self.segments.append(Segment(int(name), path, file.size()))
                finally:
                    file.close()
        if self.segments:
            self.end = self.segments[-1].start + self.segments[-1].length

    def write(self, data: bytes | memoryview) -> None:
        """Append at `end`, in as many files as the bytes need. Raises OSError."""
        position = 0
        total = len(data)
        while position < total:
            segment = self.segments[-1] if self.segments else None
            if segment is None or segment.length == self.segment_size:
                segment = self._add_segment()
            room = self.segment_size - segment.length
            if position == 0 and total <= room:
                part = data
            else:
                part = memoryview(data)[position : position + room]
            file = segment.file if segment.file is not None else self._open(segment)
            file.pwrite(segment.length, part)
            segment.dirty = True
            segment.length += len(part)
            position += len(part)
            self.end = segment.start + segment.length
            if segment.length > segment.filled:
                self._fill_ahead(segment, file)

    def _fill_ahead(self, segment: Segment, file: File) -> None:
        segment.filled = min(segment.length + FILL_AHEAD, self.segment_size)
        try:
            file.pwrite(segment.length, _ZEROS[: segment.filled - segment.length])
        except OSError as error:
            if error.errno not in NO_ROOM:  # the log itself may still have room
                raise

    def end_filling(self) -> None:
        """Shorten the last file to what the log has of it, durably. Raises OSError."""
        if self.segments:
            self._shorten(self.segments[-1], self.segments[-1].length)

    def _shorten(self, segment: Segment, length: int) -> None:
        file = segment.file if segment.file is not None else self._open(segment)
        if file.size() != length:
            file.truncate(length)
        segment.length = segment.filled = length
        file.fsync()

    def _add_segment(self) -> Segment:
        path = f"{self.folder}/{segment_name(self.end)}"
        segment = Segment(self.end, path, 0, self._disk.open(path, create=True))
        self._folder_dirty = True
        self.segments.append(segment)
        self._opened.append(segment)
        self._close_surplus()
        return segment

    def _open(self, segment: Segment) -> File:
        file = self._disk.open(segment.path)
        segment.file = file
        self._opened.append(segment)
        self._close_surplus()
        return file

    def _close_surplus(self) -> None:
        if len(self._opened) <= OPEN_SEGMENTS_MAX:
            return
        for segment in self._opened:
            busy = segment.dirty or segment.syncing or segment is self.segments[-1]
            if segment.file is not None and not busy:
                segment.file.close()
                segment.file = None
                self._opened.remove(segment)
                return

    def segment_of(self, offset: int) -> Segment | None:
        """The segment that holds the byte at `offset`, or None."""
        if not self.segments:
            return None
        index = (offset - self.segments[0].start) // self.segment_size
        if index < 0 or index >= len(self.segments):
            return None
        return self.segments[index]

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`, not across the end of a segment; empty where nothing is."""
        segment = self.segment_of(offset)
        if segment is None:
            return b""
        file = segment.file if segment.file is not None else self._open(segment)
        position = offset - segment.start
        return file.pread(position, max(0, min(size, segment.length - position)))

    def take_dirty(self) -> tuple[list[Segment], list[str]]:
        """What must be synced so that all written bytes survive; from now on it counts as clean.

        The files stay open until `synced` or `put_back_dirty`.
        """
        segments = [segment for segment in self._recent() if segment.dirty]
        for segment in segments:
            segment.dirty, segment.syncing = False, True
        folders = [self.folder] if self._folder_dirty else []
        self._folder_dirty = False
        return segments, folders

    def synced(self, segments: list[Segment]) -> None:
        """A sync has ended: nobody else uses these files any more."""
        for segment in segments:
            segment.syncing = False

    def put_back_dirty(self, segments: list[Segment], folders: list[str]) -> None:
        """A sync was abandoned: its files still need one."""
        for segment in segments:
            segment.dirty, segment.syncing = True, False
        self._folder_dirty = self._folder_dirty or bool(folders)

    def _recent(self) -> list[Segment]:
        """The segments that may be dirty: a run at the end."""
        start = len(self.segments)
        while start > 0 and self.segments[start - 1].dirty:
            start -= 1
        return self.segments[start:]

    def sync_now(self) -> None:
        """Block until everything written is on stable storage. Raises OSError."""
        segments, folders = self.take_dirty()
        for segment in segments:
            assert segment.file is not None
            segment.file.fsync()
        for folder in folders:
            self._disk.fsync_dir(folder)
        self.synced(segments)

    def rewrite(self, offset: int) -> None:
        """Write the bytes from `offset` to the end once more, in place.

        After a failed sync the kernel may hold pages that it believes written and that are not on disk; a process
        started later would sync them "successfully". Writing them again makes the next sync honest.
        """
        while offset < self.end:
            data = self.read(offset, 1 << 20)
            segment = self.segment_of(offset)
            if segment is None or not data:
                return
            assert segment.file is not None
            segment.file.pwrite(offset - segment.start, data)
            segment.dirty = True
            offset += len(data)

    def cut(self, offset: int) -> None:
        """Drop all bytes from `offset` on, durably: when it returns they never come back. Raises OSError.

        What is left may be unsynced still.
        """
        changed = False
        while self.segments and (self.segments[-1].start > offset or len(self.segments) > 1):
            segment = self.segments[-1]
            if segment.start < offset:
                break
            self._forget(segment)
            self._disk.remove(segment.path)
            self.segments.pop()
            changed = True
        if changed:
            self._disk.fsync_dir(self.folder)
        if self.segments:
            segment = self.segments[-1]
            self._shorten(segment, max(0, offset - segment.start))
            # Still dirty, so that the next sync also finds what lies unsynced in the files before it.
            segment.dirty = True
        self.end = offset

    def drop_oldest(self) -> Segment:
        """Delete the first segment durably (one at a time: two unsynced removals could leave a hole)."""
        segment = self.segments.pop(0)
        self._forget(segment)
        self._disk.remove(segment.path)
        self._disk.fsync_dir(self.folder)
        return segment

    def begin_at(self, offset: int) -> None:
        """Let an empty log start at `offset`, the start of a segment of the log that it will copy."""
        if self.segments and (len(self.segments) > 1 or self.segments[0].length):
            raise ValueError("only an empty log can begin elsewhere")
        if offset % self.segment_size:
            raise ValueError(f"offset {offset} is not the start of a segment of {self.segment_size} bytes")
        for segment in self.segments:
            self._forget(segment)
            self._disk.remove(segment.path)
        self.segments.clear()
        self.end = offset
        self._add_segment()  # empty: its name is what remembers the offset
        self._folder_dirty = False
        self._disk.fsync_dir(self.folder)

    def mark_dirty_from(self, offset: int) -> None:
        """Count everything from `offset` on as not yet synced (after a restart nobody knows)."""
        for segment in self.segments:
            if segment.start + segment.length >= offset:
                segment.dirty = True  # first, or else one too many would close the one just opened
                if segment.file is None:
                    self._open(segment)
        self._folder_dirty = True

    def _forget(self, segment: Segment) -> None:
        if segment.file is not None:
            segment.file.close()
            segment.file = None
            self._opened.remove(segment)

    def close(self) -> None:
        """Close all files; never syncs."""
        for segment in list(self._opened):
            self._forget(segment)
