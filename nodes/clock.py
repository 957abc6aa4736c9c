"""The wall clock, injected.

Nodes never ask the operating system for the time themselves: intervals come from the running event loop and stamps
from a `Clock`, so that the same node can live in virtual time. This module is the only one of the package that imports
`time`.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "EventClock", "SystemClock", "time_of_day"]


class Clock(Protocol):
    """Gives the wall-clock time."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch. May jump in either direction."""
        ...


class EventClock(Clock, Protocol):
    """A clock that can also order events on one machine."""

    def monotonic_ns(self) -> int:
        """Nanoseconds of the machine's monotonic clock, which all processes of the machine share."""
        ...


class SystemClock:
    """The real clocks of this machine."""

    __slots__ = ()

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def monotonic_ns(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC."""
        return time.monotonic_ns()


def time_of_day(wall_ms: int) -> str:
    """`HH:MM:SS.mmm` in the local time zone, for text that people read."""
    return f"{time.strftime('%H:%M:%S', time.localtime(wall_ms // 1000))}.{wall_ms % 1000:03d}"
