"""Open-loop pace: wait for intended times, never for answers to earlier operations of others."""

import asyncio
import time
from typing import Final

CATCH_UP_NS: Final = (
    2_000_000_000  # an operation later than this is skipped and counted: a stall must not end in a flood
)


class Pace:
    """Load time: nanoseconds since load began, on the machine's monotonic clock."""

    def __init__(self, begin_monotonic_ns: int) -> None:
        self.begin = begin_monotonic_ns
        self.stopped = asyncio.Event()

    def now(self) -> int:
        """Nanoseconds since load began."""
        return time.monotonic_ns() - self.begin

    async def until(self, at_ns: int) -> bool:
        """Wait for a moment of load time; False if load was stopped meanwhile."""
        delay = (at_ns - self.now()) / 1e9
        if delay <= 0:
            return not self.stopped.is_set()
        try:
            async with asyncio.timeout(delay):
                await self.stopped.wait()
        except TimeoutError:
            return True
        return False

    async def rest(self, seconds: float) -> bool:
        """Pause; False if load was stopped meanwhile."""
        return await self.until(self.now() + int(seconds * 1e9))

    def too_late(self, at_ns: int) -> bool:
        """Whether an operation intended then is no longer worth starting."""
        return self.now() - at_ns > CATCH_UP_NS
