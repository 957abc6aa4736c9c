"""Small durable tables: topics, groups, consumer and delay offsets.

Each is one JSON file in the store's `config` folder that is replaced as a whole: written under another name, synced,
renamed, the folder synced. After a crash it holds the old or the new contents. (RocketMQ rewrites these files without a
sync and falls back to a .bak.)
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from nodes.store.disk import Disk
from nodes.store.errors import StoreCorrupt

TOPICS: Final = "topics.json"
GROUPS: Final = "subscriptionGroup.json"
CONSUMER_OFFSETS: Final = "consumerOffset.json"
DELAY_OFFSETS: Final = "delayOffset.json"


class Table:
    """One JSON object in a file."""

    def __init__(self, disk: Disk, folder: str, name: str) -> None:
        self._disk = disk
        self._folder = folder
        self.path = f"{folder}/{name}"
        self._waiting: bytes | None = None
        self._saving: asyncio.Lock | None = None

    def load(self) -> dict[str, Any] | None:
        """The saved object, None if never saved. Raises StoreCorrupt if the file is no JSON object."""
        if not self._disk.exists(self.path):
            return None
        try:
            value = msgspec.json.decode(self._disk.read_bytes(self.path))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoreCorrupt(self.path, 0, f"no valid JSON: {error}") from None
        if not isinstance(value, dict):
            raise StoreCorrupt(self.path, 0, "no JSON object")
        return value

    def save(self, value: dict[str, Any]) -> None:
        """Durable when it returns; blocks for a sync or two, and for a `save_async` under way. Raises OSError."""
        self._disk.settle()
        self._waiting = None
        self._disk.makedirs(self._folder)
        self._disk.replace_atomically(self.path, _encode(value))

    async def save_async(self, value: dict[str, Any]) -> None:
        """Durable when it returns, without blocking the loop. Overlapping calls are joined: the newest value wins.

        Raises OSError.
        """
        self._waiting = _encode(value)
        if self._saving is None:
            self._saving = asyncio.Lock()
        async with self._saving:
            data, self._waiting = self._waiting, None
            if data is not None:  # None: the call that went before has saved ours, or a newer one
                try:
                    self._disk.makedirs(self._folder)
                    await self._disk.replace_atomically_async(self.path, data)
                except BaseException:
                    if self._waiting is None:
                        self._waiting = data  # those who joined this call must not take it for saved
                    raise


def _encode(value: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"
