"""The shared timer: rings once, late by a tick at most, and stops when nobody waits."""

from __future__ import annotations

import asyncio

from nodes.client.alarms import TICK_S, Alarms, alarms_of
from tests.unit.nodes.client_cluster import until


class Bell:
    """An alarm that notes when it rang and may ask to ring again."""

    def __init__(self, *again_after_s: float) -> None:
        self.tick = 0
        self.rang: list[float] = []
        self.again = list(again_after_s)

    def ring(self, now_s: float) -> float | None:
        self.rang.append(now_s)
        return now_s + self.again.pop(0) if self.again else None


def test_alarms_ring_in_time_and_never_early() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        alarms = Alarms(loop)
        bells = [Bell() for _ in range(20)]
        due = [loop.time() + 0.003 * number for number in range(20)]
        for bell, at_s in zip(bells, due, strict=True):
            alarms.enter(bell, at_s)
        await until(lambda: all(bell.rang for bell in bells))
        for bell, at_s in zip(bells, due, strict=True):
            assert len(bell.rang) == 1
            assert bell.rang[0] >= at_s
        assert len(alarms) == 0

    asyncio.run(play())


def test_an_alarm_that_leaves_does_not_ring_and_one_may_ring_again() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        alarms = Alarms(loop)
        gone, again, late = Bell(), Bell(0.02, 0.02), Bell()
        for bell in (gone, again):
            alarms.enter(bell, loop.time() + 0.02)
        alarms.leave(gone)
        alarms.leave(gone)
        await until(lambda: len(again.rang) == 3)
        assert gone.rang == []
        assert again.rang[1] - again.rang[0] >= 0.02
        await until(lambda: len(alarms) == 0)
        alarms.enter(late, loop.time() - 5)  # a time that has passed rings at the next tick
        await until(lambda: bool(late.rang))

    asyncio.run(play())


def test_clients_of_one_loop_share_their_alarms() -> None:
    async def play() -> Alarms:
        assert alarms_of(asyncio.get_running_loop()) is alarms_of(asyncio.get_running_loop())
        return alarms_of(asyncio.get_running_loop())

    assert asyncio.run(play()) is not asyncio.run(play())
    assert TICK_S <= 0.01
