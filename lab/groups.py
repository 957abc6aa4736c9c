"""The end of a consumer group: wait until nothing it sent back is on its way, then its committed offsets, its lag and
what waits in its retry and dead-letter topics."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from lab.drain import Outcome
from lab.dump import Dump
from lab.plan import Plan
from lab.stage import Stage
from lab.systems.system import NodeStatus
from lab.topology import Group, Queue

POLL_S: Final = 0.05


async def sent_back_settled(stage: Stage, goal: Mapping[Queue, int], deadline_ns: int) -> tuple[bool, str]:
    """Wait until every message that the group sent back was handled again; whether so, in words.

    A message that was sent back waits in the broker's delay queue, then in the retry topic: in between it is nowhere
    that a reader of the group would look, although its queue counts as consumed. Without push consumers nothing is
    ever sent back.
    """
    if stage.plan.load.consume != "push":
        return True, "pull consumers send nothing back"
    while True:
        open_ends = [words for group in stage.topology.groups for words in await _on_its_way(stage, group, goal)]
        if not open_ends:
            return True, "everything that was sent back was handled again"
        if time.monotonic_ns() >= deadline_ns:
            return False, "; ".join(open_ends)
        await asyncio.sleep(POLL_S)


async def _on_its_way(stage: Stage, group: Group, goal: Mapping[Queue, int]) -> list[str]:
    """What of one group of brokers is not settled.

    In this order, since each step moves messages to the next: what is consumed was stored in a delay queue before its
    commit; what left the delay queues before the status lies in the retry topic of that status.
    """
    load = stage.plan.load
    master = await _master_now(stage, group)
    if master is None:
        return [f"{group.name} has no single master"]
    for queue, end in goal.items():
        if queue.group == group.name:
            done = await stage.system.committed(master.node, load.group, queue.topic, queue.queue_id)
            if done is None or done < end:
                return [f"{queue} is consumed to {done}, not {end}"]
    retries = [name.rpartition("@")[2] for name in master.queues if name.rpartition("@")[0] == f"%RETRY%{load.group}"]
    handled = {
        queue_id: await stage.system.committed(master.node, load.group, f"%RETRY%{load.group}", int(queue_id))
        for queue_id in retries
    }
    after = await stage.system.status(master.node)
    if after is None or not after.master:
        return [f"{master.node} does not answer as master"]
    if after.delayed is None:
        return [f"{master.node} does not say how many messages are delayed"]
    if after.delayed:
        return [f"{after.delayed} messages wait in the delay queues of {master.node}"]
    for name, bounds in after.queues.items():
        topic, _, queue_id = name.rpartition("@")
        if topic == f"%RETRY%{load.group}" and bounds["max"] > 0 and (handled.get(queue_id) or 0) < bounds["max"]:
            return [f"{name} of {master.node} is handled to {handled.get(queue_id)}, not {bounds['max']}"]
    return []


async def _master_now(stage: Stage, group: Group) -> NodeStatus | None:
    known = [await stage.system.status(node) for node in stage.members(group)]
    masters = [status for status in known if status is not None and status.master]
    return masters[0] if len(masters) == 1 else None


class GroupFinal:
    """Looks at one consumer group after the drain, through the side channel of each group's master."""

    def __init__(self, plan: Plan, stage: Stage, outcome: Outcome, dumps: Mapping[str, Dump]) -> None:
        self._load = plan.load
        self._stage = stage
        self._sentinels = outcome.sentinels
        self._dumps = dumps
        self._deadline = time.monotonic() + plan.drain.consume_within.s

    async def value(self) -> dict[str, Any]:
        """The value of the ``group-final`` event."""
        lag: dict[str, int] = {}
        retry: list[str] = []
        dead: list[str] = []
        ok = True
        for group in self._stage.topology.groups:
            master = self._master(group)
            dump = self._dumps.get(master) if master is not None else None
            if master is None or dump is None:
                ok = False
                continue
            for queue in (queue for queue in self._stage.topology.queues if queue.group == group.name):
                behind = await self._lag(master, queue)
                if behind is None:
                    ok = False
                else:
                    lag[str(queue)] = behind
            waiting = await self._waiting(master, dump)
            ok = ok and waiting is not None
            retry += waiting or ()
            dead += dump.dead.get(self._load.group, ())
        return {
            "group": self._load.group,
            "lag": lag,
            "retry": retry,
            "dead": dead,
            "topics": [self._load.topic],
            "ok": ok,
        }

    def _master(self, group: Group) -> str | None:
        known = [self._stage.last.get(node) for node in self._stage.members(group)]
        masters = [status.node for status in known if status is not None and status.master]
        return masters[0] if len(masters) == 1 else None

    async def _lag(self, master: str, queue: Queue) -> int | None:
        """What the master says is not consumed below the sentinel.

        Progress that a consumer committed on a slave, while its route still led there, reaches the master a moment
        later; so this waits for it.
        """
        sentinel = self._sentinels.get(queue)
        if sentinel is None:
            return None
        while True:
            committed = await self._stage.system.committed(master, self._load.group, queue.topic, queue.queue_id)
            behind = None if committed is None else max(0, sentinel.offset + 1 - committed)
            if behind == 0 or time.monotonic() >= self._deadline:
                return behind
            await asyncio.sleep(POLL_S)

    async def _waiting(self, master: str, dump: Dump) -> list[str] | None:
        """What lies in the retry topic and was not consumed; None if the master does not say how far that was."""
        held = dump.retry.get(self._load.group, ())
        done: dict[int, int] = {}
        for queue_id in sorted({queue_id for queue_id, _, _ in held}):
            told = await self._retried(master, queue_id)
            if told is None:
                return None
            done[queue_id] = told
        return [value for queue_id, offset, value in held if offset >= done[queue_id]]

    async def _retried(self, master: str, queue_id: int) -> int | None:
        """The offset that the group committed in its retry topic; a busy master is asked again."""
        topic = f"%RETRY%{self._load.group}"
        while True:
            told = await self._stage.system.committed(master, self._load.group, topic, queue_id)
            if told is not None or time.monotonic() >= self._deadline:
                return told
            await asyncio.sleep(POLL_S)
