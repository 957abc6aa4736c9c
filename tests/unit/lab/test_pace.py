"""Waiting for a moment of load time: load that stops and a task that is cancelled both end it."""

import asyncio
import time

import pytest

from lab.workloads.pace import Pace

HOUR_NS = 3_600_000_000_000


@pytest.mark.parametrize("turns", range(6))
def test_a_cancellation_just_after_the_stop_is_not_lost(turns: int) -> None:
    """The second interrupt of a run may follow the first within microseconds, and must still end it."""

    async def story() -> None:
        pace = Pace(time.monotonic_ns())

        async def main() -> None:
            await pace.until(HOUR_NS)
            await asyncio.Event().wait()  # the drain, which only a cancellation ends

        task = asyncio.get_running_loop().create_task(main())
        await asyncio.sleep(0)
        pace.stopped.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        _, pending = await asyncio.wait({task}, timeout=10)
        assert not pending, "the cancellation was lost"
        assert task.cancelled()

    asyncio.run(story())
