"""Where a push consumer keeps how far it is: at the brokers (clustering) or in a file of its own (broadcasting).

Sources: RocketMQ classes RemoteBrokerOffsetStore and LocalFileOffsetStore.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from nodes.client.offset_calls import OffsetCalls
from nodes.client.queues import MessageQueue
from nodes.client.results import CommandFailed, Outcome
from nodes.log import EventLog
from nodes.remoting import fastjson
from nodes.store.disk import Disk

__all__ = ["BrokerOffsets", "LocalOffsets", "OffsetStore", "PendingOffsets"]


class PendingOffsets:
    """The offsets in memory. Pure."""

    __slots__ = ("_offsets",)

    def __init__(self) -> None:
        self._offsets: dict[MessageQueue, int] = {}

    def update(self, queue: MessageQueue, offset: int, *, increase_only: bool) -> None:
        """Note how far a queue is consumed; with `increase_only` a lower offset is ignored."""
        known = self._offsets.get(queue)
        if known is None or not increase_only or offset > known:
            self._offsets[queue] = offset

    def get(self, queue: MessageQueue) -> int | None:
        """How far a queue is consumed, None if nothing is known."""
        return self._offsets.get(queue)

    def forget(self, queue: MessageQueue) -> None:
        """The queue belongs to somebody else now."""
        self._offsets.pop(queue, None)

    def queues(self) -> tuple[MessageQueue, ...]:
        """All queues with an offset, sorted."""
        return tuple(sorted(self._offsets))


class BrokerOffsets:
    """Offsets that brokers keep for the group."""

    def __init__(
        self,
        calls: OffsetCalls,
        group: str,
        log: EventLog,
        *,
        oneway: bool,
        on_commit: Callable[[MessageQueue, int, Outcome], None],
    ) -> None:
        self.pending = PendingOffsets()
        self._calls = calls
        self._group = group
        self._log = log
        self._oneway = oneway
        self._on_commit = on_commit

    async def stored(self, queue: MessageQueue) -> int | None:
        """What the broker has. Raises CommandFailed."""
        return await self._calls.committed(self._group, queue, zero_if_young=True)

    async def persist(self, queues: Sequence[MessageQueue], *, sure: bool = False, timeout_s: float = 1.0) -> None:
        """Commit the offsets of these queues, changed or not. With `sure` answers are waited for. Failures are logged:
        what is not committed is consumed again."""
        await asyncio.gather(*(self._persist_one(queue, sure, timeout_s) for queue in queues))

    async def _persist_one(self, queue: MessageQueue, sure: bool, timeout_s: float) -> None:
        offset = self.pending.get(queue)
        if offset is None:
            return
        oneway = self._oneway and not sure
        try:
            await self._calls.commit(self._group, queue, offset, oneway=oneway, timeout_s=timeout_s)
        except CommandFailed as error:
            self._log.event("commit-failed", queue=str(queue), offset=offset, reason=error.reason)
            self._on_commit(queue, offset, Outcome.INFO)
        else:
            self._on_commit(queue, offset, Outcome.INFO if oneway else Outcome.OK)


class LocalOffsets:
    """Offsets in a file that belongs to this client, for broadcasting."""

    def __init__(self, disk: Disk, path: str, on_commit: Callable[[MessageQueue, int, Outcome], None]) -> None:
        self.pending = PendingOffsets()
        self._disk = disk
        self._path = path
        self._on_commit = on_commit
        self._kept = self._read()

    def _read(self) -> dict[MessageQueue, int]:
        if not self._disk.exists(self._path):
            return {}
        value = fastjson.loads(self._disk.read_bytes(self._path))
        kept: dict[MessageQueue, int] = {}
        for key, offset in value.get("offsetTable", {}).items():
            queue = fastjson.key_object(key)
            kept[MessageQueue(str(queue["topic"]), str(queue["brokerName"]), int(queue["queueId"]))] = int(offset)
        return kept

    async def stored(self, queue: MessageQueue) -> int | None:
        """What the file has."""
        return self._kept.get(queue)

    async def persist(self, queues: Sequence[MessageQueue], *, sure: bool = False, timeout_s: float = 1.0) -> None:
        """Write the file anew, atomically."""
        changed = {queue: offset for queue in queues if (offset := self.pending.get(queue)) is not None}
        if not changed:
            return
        self._kept.update(changed)
        table = {
            fastjson.key_text({"brokerName": q.broker_name, "queueId": q.queue_id, "topic": q.topic}): offset
            for q, offset in sorted(self._kept.items())
        }
        folder = self._path.rpartition("/")[0]
        if folder:
            self._disk.makedirs(folder)
        self._disk.replace_atomically(self._path, msgspec.json.encode({"offsetTable": table}))
        for queue, offset in changed.items():
            self._on_commit(queue, offset, Outcome.OK)


OffsetStore = BrokerOffsets | LocalOffsets
