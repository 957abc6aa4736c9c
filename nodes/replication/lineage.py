"""The durable side of epochs: the file that says which bytes of this store's log were written by whom.

Three things are changed at different moments: the epoch file, the end of the log (truncation), and new bytes. After a
crash at any point between them one sentence must hold, for it is all that `epochs.agreement` relies on:

    a byte of the log that the table attributes to an epoch was written by that epoch.

* New bytes are only ever lost from the end: recovery leaves a prefix of what was written since the last truncation.
  Losing bytes leaves entries beyond the end, and those claim nothing (`EpochTable.upto`).
* Becoming primary: the new entry starts at the end of the log and is synced before the first byte of that epoch is
  appended. A crash before the sync leaves a table without it and no byte of it; a crash after it an epoch without a
  byte, which the next one replaces. Its number is not used again, since the file keeps the highest number by itself.
* Becoming a copy: (1) the log is cut at the point of agreement, durably; (2) the file takes over the primary's whole
  table, durably; (3) bytes are appended. Between (1) and (2) the old table still stands, and up to the cut it equals
  the primary's. The other order would be wrong: the primary's entries would claim old bytes beyond the cut. After (2)
  the primary's entries beyond the end claim nothing until their bytes arrive, and bytes arrive in order.
* A re-seed throws the log away: (1) the file claims nothing, durably; (2) the log becomes empty, durably; (3) it
  begins at the primary's first byte; (4) as (2) above. A log with bytes and no claims agrees with nobody, so a crash in
  between leads to the next re-seed.
* Cutting the log must be final before the table is taken over, or else old bytes could come back under the primary's
  name (RocketMQ issue 10666); that is the store's promise of `truncate_to`.

The file also holds the identity of the store, by which a primary tells two connections of one copy from two copies,
and the newest primary this store has followed: an older one is not followed again.
"""

from __future__ import annotations

import zlib
from random import Random
from typing import Protocol

import msgspec

from nodes.flaws import Flaw
from nodes.replication.epochs import Epoch, EpochError, EpochTable

__all__ = ["EpochDisk", "Lineage", "LineageError"]

_ID_BITS = 64


class LineageError(Exception):
    """The epoch file cannot be believed. The node must not serve: it cannot say who wrote its log."""


class EpochDisk(Protocol):
    """The part of `nodes.store.disk.Disk` that is needed here."""

    def exists(self, path: str) -> bool:
        """True if there is such a file."""
        ...

    def read_bytes(self, path: str) -> bytes:
        """The whole content."""
        ...

    def replace_atomically(self, path: str, data: bytes) -> None:
        """Durably replace the content: after a crash the file holds either the old or the new one, whole."""
        ...


class _Document(msgspec.Struct, rename="camel"):
    """The content of the file."""

    format: int
    store_id: str
    highest: int
    followed: tuple[int, str] | None
    epochs: list[tuple[int, str, int]]


class Lineage:
    """Epoch table, store id and highest number of one store, in memory as on disk: every change is durable on return.

    Errors of the disk pass through as OSError; the memory then keeps the old state.
    """

    __slots__ = ("_disk", "_path", "followed", "highest", "store_id", "table")

    def __init__(
        self,
        disk: EpochDisk,
        path: str,
        store_id: str,
        table: EpochTable = EpochTable(),  # noqa: B008 (an immutable value)
        highest: int = 0,
        followed: tuple[int, str] | None = None,
    ) -> None:
        self._disk = disk
        self._path = path
        self.store_id = store_id
        self.table = table
        self.highest = max(highest, table.highest)
        """The largest epoch number ever minted or heard of."""
        self.followed = followed
        """(number, id) of the newest epoch accepted from a primary."""

    @classmethod
    def open(cls, disk: EpochDisk, path: str, *, log_begin: int, log_end: int, rng: Random) -> Lineage:
        """Read the file, or create it for a store that has none.

        A log with bytes but no file (an operator copied a commit log) gets an epoch of its own: nobody else can vouch
        for these bytes, so they agree with no other log until a copy is made of them.
        Raises LineageError if the file is damaged.
        """
        if disk.exists(path):
            return cls._read(disk, path)
        table = EpochTable()
        if log_end > log_begin:
            table = EpochTable((Epoch(1, _draw(rng), log_begin),))
        lineage = cls(disk, path, _draw(rng))
        lineage._save(table, table.highest, None)
        return lineage

    @classmethod
    def _read(cls, disk: EpochDisk, path: str) -> Lineage:
        text, _, check = disk.read_bytes(path).rstrip(b"\n").rpartition(b"\n")
        try:
            if int(check, 16) != zlib.crc32(text):
                raise LineageError(f"{path}: checksum does not match")
            document = msgspec.json.decode(text, type=_Document)
            table = EpochTable.of(Epoch(number, id_, start) for number, id_, start in document.epochs)
        except (ValueError, EpochError) as problem:
            raise LineageError(f"{path}: {problem}") from problem
        if document.format != 1:
            raise LineageError(f"{path}: format {document.format} is not known")
        return cls(disk, path, document.store_id, table, document.highest, document.followed)

    def claims(self, log_end: int) -> EpochTable:
        """The table as far as the log goes: what may be shown to others."""
        return self.table.upto(log_end)

    def mint(self, log_begin: int, log_end: int, rng: Random, flaws: frozenset[Flaw] = frozenset()) -> Epoch:
        """Begin a new epoch at the end of the log, durably. To be called before anything is served as master."""
        if Flaw.FORGET_EPOCH in flaws and self.table.last is not None:
            return self.table.last
        epoch = Epoch(self.highest + 1, _draw(rng), log_end)
        self._save(self.table.since(log_begin).with_new(epoch), epoch.number, self.followed)
        return epoch

    def adopt(self, table: EpochTable, highest: int) -> None:
        """Take over a primary's table, durably; the log has been cut to what both hold. No write if nothing changes."""
        last = table.last
        followed = self.followed if last is None else (last.number, last.id)
        if (table, followed) != (self.table, self.followed) or highest > self.highest:
            self._save(table, highest, followed)

    def disown(self) -> None:
        """Claim nothing, durably: the log is about to be thrown away."""
        if len(self.table):
            self._save(EpochTable(), self.highest, self.followed)

    def note(self, number: int) -> None:
        """Remember, durably, that this epoch number exists somewhere, so that the next one minted lies above it."""
        if number > self.highest:
            self._save(self.table, number, self.followed)

    def _save(self, table: EpochTable, highest: int, followed: tuple[int, str] | None) -> None:
        highest = max(self.highest, highest, table.highest)
        rows = [(epoch.number, epoch.id, epoch.start_offset) for epoch in table]
        text = msgspec.json.encode(_Document(1, self.store_id, highest, followed, rows))
        self._disk.replace_atomically(self._path, text + f"\n{zlib.crc32(text):08x}\n".encode())
        self.table, self.highest, self.followed = table, highest, followed


def _draw(rng: Random) -> str:
    """A random identity of 16 hexadecimal digits."""
    return f"{rng.getrandbits(_ID_BITS):016x}"
