"""Watches the cluster while it runs and records what nodes and name servers say of themselves (status, route).

Each node has a loop of its own, so that one that is silent delays nobody's answers. No fault cuts the side channel;
beside it each client host asks over the wires of the experiment, which shows what clients could know.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from lab.record import LabRecord
from lab.stage import Stage
from lab.systems.system import RouteCalls
from nemesis.world import NodeState

STATUS_EVERY_S: Final = 0.25
ROUTE_EVERY_S: Final = 0.5
CLIENT_ROUTE_EVERY_S: Final = 1.0


class Watch:
    """All loops of one run; `start` inside the event loop, `stop` before the last events are written."""

    def __init__(self, stage: Stage, record: LabRecord, now_ns: Callable[[], int]) -> None:
        self._stage = stage
        self._record = record
        self._now_ns = now_ns
        self._tasks: list[asyncio.Task[None]] = []
        self._failed: BaseException | None = None
        self._memberships: dict[str, tuple[int, tuple[str, ...], tuple[str, ...]]] = {}

    def start(self) -> None:
        """Begin to look."""
        topology = self._stage.topology
        for node in (*topology.brokers, *topology.spares):
            self._loop(partial(self._look, node), STATUS_EVERY_S)
        if not isinstance(self._stage.system, RouteCalls):
            return
        for namesrv in topology.namesrvs:
            self._loop(partial(self._route, namesrv, None), ROUTE_EVERY_S)
            for client in topology.clients:
                self._loop(partial(self._route, namesrv, client), CLIENT_ROUTE_EVERY_S)

    async def stop(self) -> None:
        """End all loops; answers that are still on their way are not waited for. Raises what ended one of them before,
        which is what a full disk does."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._failed is not None:
            raise self._failed

    def _loop(self, look: Callable[[], Awaitable[None]], every_s: float) -> None:
        async def work() -> None:
            while True:
                await look()
                await asyncio.sleep(every_s)

        task = asyncio.get_running_loop().create_task(work())
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Keep what ended a loop for `stop`; a run that fails before that has its own words for it."""
        if not task.cancelled():
            error = task.exception()
            self._failed = self._failed or error

    async def _look(self, node: str) -> None:
        stage = self._stage
        if stage.supervisor.state(node) is NodeState.ABSENT:
            return
        asked, incarnation = self._now_ns(), stage.supervisor.incarnation(node)
        status = await stage.ask(node) if node in stage.supervisor.running_pids() else None
        if stage.supervisor.incarnation(node) != incarnation:
            return  # restarted meanwhile: who answered is not known
        group = stage.topology.group_of(node)
        starved = stage.supervisor.starved_ns(node)
        self._record.status(
            node, "" if group is None else group.name, incarnation, asked, status, stage.plan.load.topic, starved
        )
        if group is None or status is None or status.raft is None or not status.raft.settled:
            return
        view = status.raft
        known = (view.commit, tuple(sorted(view.voters)), tuple(sorted(view.learners)))
        before = self._memberships.get(group.name)
        if view.voters and (before is None or (known[0] > before[0] and known[1:] != before[1:])):
            self._memberships[group.name] = known
            self._record.membership(group.name, status)

    async def _route(self, namesrv: str, asker: str | None) -> None:
        stage = self._stage
        system = stage.system
        if not isinstance(system, RouteCalls):
            return
        asked, incarnation = self._now_ns(), stage.supervisor.incarnation(namesrv)
        running = namesrv in stage.supervisor.running_pids()
        groups = await system.route(namesrv, stage.plan.load.topic, asker) if running else None
        if stage.supervisor.incarnation(namesrv) != incarnation:
            return
        self._record.route(namesrv, incarnation, asker or "lab", asked, stage.plan.load.topic, groups)
