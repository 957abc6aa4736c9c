"""The small files of a group's member: what it must never forget, and what lies below the begin of its log.

`state.json` holds term and vote and is written before anything that depends on them leaves the node; `head.json` what
must be known of the part of the log that retention has deleted. Both are replaced atomically, synced, and carry a
checksum: a member that cannot read its own promises must not serve.
"""

from __future__ import annotations

import zlib
from typing import Protocol, TypeVar

import msgspec

from nodes.replication.raft.membership import MembershipError
from nodes.replication.raft.orders import HardState, Head
from nodes.replication.raft.terms import TermError

__all__ = ["GroupFiles", "StateDamaged"]

T = TypeVar("T")


class StateDamaged(Exception):
    """A file of the group that cannot be believed; the text names it."""


class StateDisk(Protocol):
    """The part of `nodes.store.disk.Disk` that is needed here."""

    def exists(self, path: str) -> bool:
        """True if there is such a file."""
        ...

    def read_bytes(self, path: str) -> bytes:
        """The whole content."""
        ...

    def makedirs(self, path: str, durable: bool = True) -> None:
        """Create a folder, durably."""
        ...

    def replace_atomically(self, path: str, data: bytes) -> None:
        """Durably replace the content."""
        ...

    async def replace_atomically_async(self, path: str, data: bytes) -> None:
        """The same without blocking the loop."""
        ...


class _State(msgspec.Struct, frozen=True):
    """Contents of state.json: whose it is, and its hard state."""

    group: str
    name: str
    hard: HardState


class GroupFiles:
    """The files of one member below `<storePathRootDir>/dledger`. Errors of the disk pass through as OSError."""

    def __init__(self, disk: StateDisk, root: str, group: str, name: str) -> None:
        self._disk = disk
        self.folder = f"{root}/dledger"
        self._group = group
        self._name = name
        self._state_path = f"{self.folder}/state.json"
        self._head_path = f"{self.folder}/head.json"

    def load_state(self) -> HardState | None:
        """The saved hard state, None if there never was one. Raises StateDamaged, also for another member's file."""
        if not self._disk.exists(self._state_path):
            return None
        state = _read(self._disk.read_bytes(self._state_path), self._state_path, _State)
        if (state.group, state.name) != (self._group, self._name):
            raise StateDamaged(
                f"{self._state_path} belongs to {state.name} of the group {state.group}, not to {self._name} of"
                f" {self._group}; give each member a storePathRootDir of its own"
            )
        return state.hard

    def save_state(self, hard: HardState) -> None:
        """Durable when it returns; blocks."""
        self._disk.makedirs(self.folder)
        self._disk.replace_atomically(self._state_path, self._state(hard))

    async def save_state_async(self, hard: HardState) -> None:
        """Durable when it returns; calls must not overlap."""
        self._disk.makedirs(self.folder)
        await self._disk.replace_atomically_async(self._state_path, self._state(hard))

    def _state(self, hard: HardState) -> bytes:
        return _write(_State(self._group, self._name, hard))

    def load_head(self) -> Head | None:
        """What lies below the begin of the log, None if nothing was ever deleted. Raises StateDamaged."""
        if not self._disk.exists(self._head_path):
            return None
        return _read(self._disk.read_bytes(self._head_path), self._head_path, Head)

    def save_head(self, head: Head) -> None:
        """Durable when it returns; blocks."""
        self._disk.makedirs(self.folder)
        self._disk.replace_atomically(self._head_path, _write(head))


def _write(value: object) -> bytes:
    text = msgspec.json.encode(value)
    return text + f"\n{zlib.crc32(text):08x}\n".encode()


def _read(data: bytes, path: str, kind: type[T]) -> T:
    text, _, check = data.rstrip(b"\n").rpartition(b"\n")
    try:
        if int(check, 16) != zlib.crc32(text):
            raise StateDamaged(f"{path}: checksum does not match")
        return msgspec.json.decode(text, type=kind)
    except (ValueError, MembershipError, TermError) as problem:
        raise StateDamaged(f"{path}: {problem}") from problem
