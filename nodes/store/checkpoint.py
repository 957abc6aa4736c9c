"""The flush mark: up to where the commit log is known to be on stable storage.

It is written after every sync of the log and not synced itself. That is enough: each mark says something that was
already true when it was written, so whichever of them survives a crash is true. Two slots are written in turn, each
with a checksum, so a torn write leaves the one before. Only lowering the mark (the log is about to be cut) needs a sync
before the cut.

Recovery uses it to tell a torn tail, which nobody was promised, from damage to what was promised. (RocketMQ
StoreCheckpoint keeps time stamps in the same file; it cannot tell the two apart.)
"""

from __future__ import annotations

from struct import Struct
from struct import error as struct_error
from typing import Final
from zlib import crc32

from nodes.store.disk import Disk, File

_SLOT: Final = Struct(">8sqq")
_CRC: Final = Struct(">I")
_SLOT_BYTES: Final = _SLOT.size + _CRC.size
_SLOT_SPACING: Final = 512
_MAGIC: Final = b"logmark1"


class FlushMark:
    """The file `checkpoint` of a store."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self.path = path
        self._file: File | None = None
        self._sequence = 0
        self.flushed = 0
        """Log offset up to which the log was synced, as last written here."""
        self.found = False
        """Whether `open` found a valid mark."""

    def open(self) -> None:
        """Read the newest valid mark; without one `flushed` is 0 (nothing is known to be flushed)."""
        self._file = self._disk.open(self.path, create=True)
        for slot in (0, 1):
            data = self._file.pread(slot * _SLOT_SPACING, _SLOT_BYTES)
            try:
                magic, sequence, flushed = _SLOT.unpack_from(data)
                checksum = _CRC.unpack_from(data, _SLOT.size)[0]
            except struct_error:
                continue
            if magic == _MAGIC and checksum == crc32(data[: _SLOT.size]) and sequence > self._sequence:
                self._sequence = sequence
                self.flushed = flushed
                self.found = True

    def write(self, flushed: int) -> None:
        """Note that the log was synced up to `flushed`. Raises OSError."""
        assert self._file is not None
        self._sequence += 1
        slot = _SLOT.pack(_MAGIC, self._sequence, flushed)
        self._file.pwrite((self._sequence & 1) * _SLOT_SPACING, slot + _CRC.pack(crc32(slot)))
        self.flushed = flushed

    def write_durably(self, flushed: int) -> None:
        """The same, and sync: needed before the log may shrink below an older mark."""
        self.write(flushed)
        assert self._file is not None
        self._file.fsync()

    def close(self) -> None:
        """Give the file back; never syncs."""
        if self._file is not None:
            self._file.close()
            self._file = None
