"""The name server's key-value settings: the only thing it keeps on disk.

Source: RocketMQ class KVConfigManager; the file has the same shape, `{"configTable":{namespace:{key:value}}}`.
"""

from __future__ import annotations

import os

from nodes.limits import KV_VALUE_MAX
from nodes.store.disk import Disk
from nodes.store.tables import Table

__all__ = ["ORDER_TOPIC_CONFIG", "KvConfig"]

ORDER_TOPIC_CONFIG = "ORDER_TOPIC_CONFIG"
"""The namespace of the order configuration of topics."""


class KvConfig:
    """Text values by namespace and key."""

    def __init__(self, disk: Disk, path: str) -> None:
        folder, name = os.path.split(path)
        self._table = Table(disk, folder or ".", name)
        self._values: dict[str, dict[str, str]] = {}

    def load(self) -> int:
        """Read the file, if there is one; returns the number of namespaces. Raises StoreCorrupt, OSError."""
        found = self._table.load() or {}
        table = found.get("configTable", {})
        self._values = {
            str(space): {str(key): str(value) for key, value in values.items()}
            for space, values in (table.items() if isinstance(table, dict) else ())
            if isinstance(values, dict)
        }
        return len(self._values)

    def get(self, namespace: str, key: str) -> str | None:
        """One value; None if absent."""
        return self._values.get(namespace, {}).get(key)

    def namespace(self, namespace: str) -> dict[str, str] | None:
        """All values of a namespace; None if there is no such namespace."""
        values = self._values.get(namespace)
        return None if values is None else dict(sorted(values.items()))

    async def put(self, namespace: str, key: str, value: str) -> None:
        """Set a value; durable when it returns. Raises ValueError if the value is too large, OSError."""
        if len(value.encode()) > KV_VALUE_MAX:
            raise ValueError(f"value is larger than {KV_VALUE_MAX} bytes")
        self._values.setdefault(namespace, {})[key] = value
        await self._save()

    async def delete(self, namespace: str, key: str) -> None:
        """Remove a value; durable when it returns. Raises OSError."""
        self._values.get(namespace, {}).pop(key, None)
        await self._save()

    async def _save(self) -> None:
        await self._table.save_async({"configTable": self._values})
