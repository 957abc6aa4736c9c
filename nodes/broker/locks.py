"""Which consumer holds which queue for orderly consumption. Pure; lives in memory only, as in RocketMQ.

Source: RocketMQ class RebalanceLockManager.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from nodes.broker.limits import LOCKS_MAX

__all__ = ["LOCK_EXPIRY_S", "LockTable", "QueueName"]

LOCK_EXPIRY_S = 60.0
"""A lock that was not renewed for this long is anybody's (rocketmq.broker.rebalance.lockMaxLiveTime)."""


class QueueName(NamedTuple):
    """A queue as clients name it."""

    topic: str
    broker_name: str
    queue_id: int


class LockTable:
    """Locks by consumer group."""

    __slots__ = ("_count", "_locks")

    def __init__(self) -> None:
        self._locks: dict[str, dict[QueueName, tuple[str, float]]] = {}
        self._count = 0

    def lock(self, group: str, client: str, queues: Iterable[QueueName], now: float) -> list[QueueName]:
        """Take or renew locks; returns those of `queues` that `client` holds afterwards.

        Beyond LOCKS_MAX no new lock is given.
        """
        held = self._locks.setdefault(group, {})
        mine = []
        for queue in queues:
            owner, since = held.get(queue, (client, now))
            if queue not in held and self._count >= LOCKS_MAX:
                continue
            if owner == client or now - since > LOCK_EXPIRY_S:
                self._count += queue not in held
                held[queue] = (client, now)
                mine.append(queue)
        return mine

    def unlock(self, group: str, client: str, queues: Iterable[QueueName]) -> None:
        """Give back those of `queues` that `client` holds."""
        held = self._locks.get(group, {})
        for queue in queues:
            if queue in held and held[queue][0] == client:
                del held[queue]
                self._count -= 1

    def clear(self) -> None:
        """Forget all locks: this node changed its role, and the new master starts without any."""
        self._locks.clear()
        self._count = 0
