"""One timer for all that a client waits for.

A timer of its own for every request costs as much as the request; here entering and leaving are two dictionary
operations, and a single loop timer runs while anything is entered. Alarms ring up to one tick late, never early.
"""

from __future__ import annotations

import asyncio
from typing import Protocol
from weakref import WeakKeyDictionary

__all__ = ["TICK_S", "Alarm", "Alarms", "alarms_of"]

TICK_S = 0.01
"""Resolution in seconds."""


class Alarm(Protocol):
    """Something that wants to be woken once."""

    tick: int
    """Where it is entered; kept by Alarms."""

    def ring(self, now_s: float) -> float | None:
        """The time has come. Returns when to ring again, or None."""
        ...


class Alarms:
    """All alarms of one event loop. Use `alarms_of` to share it."""

    __slots__ = ("_buckets", "_count", "_done", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[int, dict[Alarm, None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._done = 0
        """The last tick that was worked off."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def enter(self, alarm: Alarm, at_s: float) -> None:
        """Ring `alarm` at loop time `at_s` or up to a tick later."""
        tick = int(at_s / TICK_S) + 1
        if self._timer is None:
            now_s = self._loop.time()
            self._done = int(now_s / TICK_S)
            self._timer = self._loop.call_later(TICK_S, self._run)
        if tick <= self._done:
            tick = self._done + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = {}
        bucket[alarm] = None
        alarm.tick = tick
        self._count += 1

    def leave(self, alarm: Alarm) -> None:
        """Forget an alarm; harmless if it rang already."""
        bucket = self._buckets.get(alarm.tick)
        if bucket is not None and alarm in bucket:
            del bucket[alarm]
            self._count -= 1

    def _run(self) -> None:
        now_s = self._loop.time()
        last = int(now_s / TICK_S)
        again: list[tuple[Alarm, float]] = []
        for tick in range(self._done + 1, last + 1):
            for alarm in self._buckets.pop(tick, ()):
                self._count -= 1
                at_s = alarm.ring(now_s)
                if at_s is not None:
                    again.append((alarm, at_s))
        self._done = last
        for alarm, at_s in again:
            self.enter(alarm, at_s)
        if self._count:
            self._timer = self._loop.call_later(TICK_S, self._run)
        else:
            self._timer = None
            self._buckets.clear()


_SHARED: WeakKeyDictionary[asyncio.AbstractEventLoop, Alarms] = WeakKeyDictionary()


def alarms_of(loop: asyncio.AbstractEventLoop) -> Alarms:
    """The alarms that all clients of this loop share."""
    found = _SHARED.get(loop)
    if found is None:
        found = _SHARED[loop] = Alarms(loop)
    return found
