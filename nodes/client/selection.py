"""Which queue the next attempt goes to, and which brokers are avoided because they were slow or failed.

Sources: RocketMQ classes TopicPublishInfo, MQFaultStrategy and LatencyFaultToleranceImpl.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

from nodes.client.config import LatencyProfile
from nodes.client.queues import MessageQueue

__all__ = ["LATENCY_TABLES", "LatencyFaults", "LatencyTable", "QueueRotation"]


class LatencyTable(NamedTuple):
    """From `thresholds_ms[i]` on, a broker is avoided for `avoided_ms[i]`; a failure counts as `isolation_ms`."""

    thresholds_ms: tuple[int, ...]
    avoided_ms: tuple[int, ...]
    isolation_ms: int

    def avoided(self, latency_ms: float) -> int:
        """For how long a broker that took so long is avoided, in ms."""
        at = bisect_right(self.thresholds_ms, latency_ms) - 1
        return self.avoided_ms[at] if at >= 0 else 0


LATENCY_TABLES: Final[dict[LatencyProfile, LatencyTable]] = {
    LatencyProfile.V4_9: LatencyTable(
        (50, 100, 550, 1000, 2000, 3000, 15000), (0, 0, 30_000, 60_000, 120_000, 180_000, 600_000), 30_000
    ),
    LatencyProfile.V5_3: LatencyTable(
        (50, 100, 550, 1800, 3000, 5000, 15000), (0, 0, 2000, 5000, 6000, 10_000, 30_000), 10_000
    ),
}


class _Health(NamedTuple):
    latency_ms: float
    usable_from_s: float


class LatencyFaults:
    """Remembers of each broker group how long it took last and until when it is avoided. Times are the caller's."""

    __slots__ = ("_health", "_table", "_turn")

    def __init__(self, profile: LatencyProfile) -> None:
        self._table = LATENCY_TABLES[profile]
        self._health: dict[str, _Health] = {}
        self._turn = 0

    def record(self, broker_name: str, latency_ms: float, now_s: float, *, isolate: bool) -> None:
        """Note the end of an attempt; `isolate` when it failed, whatever it took."""
        avoided = self._table.avoided(self._table.isolation_ms if isolate else latency_ms)
        self._health[broker_name] = _Health(latency_ms, now_s + avoided / 1000)

    def usable(self, broker_name: str, now_s: float) -> bool:
        """Whether the broker is not avoided at this time."""
        health = self._health.get(broker_name)
        return health is None or now_s >= health.usable_from_s

    def least_bad(self, broker_names: Sequence[str], now_s: float) -> str | None:
        """When all are avoided: in turn one of the better half, by usability, then latency, then time of return."""

        def badness(name: str) -> tuple[bool, float, float]:
            health = self._health.get(name, _Health(0.0, 0.0))
            return (now_s < health.usable_from_s, health.latency_ms, health.usable_from_s)

        ranked = sorted(broker_names, key=badness)
        if not ranked:
            return None
        half = max(1, len(ranked) // 2)
        self._turn += 1
        return ranked[self._turn % half]


class QueueRotation:
    """Chooses queues round robin from a starting point that the caller draws."""

    __slots__ = ("_at",)

    def __init__(self, start: int) -> None:
        self._at = start

    def choose(
        self,
        queues: Sequence[MessageQueue],
        *,
        avoid: str = "",
        faults: LatencyFaults | None = None,
        now_s: float = 0.0,
    ) -> MessageQueue:
        """The next queue. `queues` must not be empty.

        Without `faults`: not one of the broker group `avoid` (the one just tried), unless there is no other. With
        `faults`: one of a group that is not avoided for its latency, else one of the least bad group.
        """
        count = len(queues)
        if faults is None:
            if avoid:
                for _ in range(count):
                    self._at += 1
                    queue = queues[self._at % count]
                    if queue.broker_name != avoid:
                        return queue
            self._at += 1
            return queues[self._at % count]
        for _ in range(count):
            self._at += 1
            queue = queues[self._at % count]
            if faults.usable(queue.broker_name, now_s):
                return queue
        best = faults.least_bad(sorted({queue.broker_name for queue in queues}), now_s)
        candidates = [queue for queue in queues if queue.broker_name == best]
        self._at += 1
        return candidates[self._at % len(candidates)]
