"""The drain phase: the rules that make loss decidable (checkers, section 4), for the surviving configuration.

Nodes that the plan destroyed or removed are listed and excluded by name, nothing else is. Each rule leaves a
``drain-step`` event that says whether it was kept.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from lab.duration import Duration
from lab.plan import Drain as Bounds
from lab.ready import lacking, not_ready
from lab.systems.system import NodeStatus
from lab.topology import Group, Queue, Topology
from lab.workloads.draining import Sentinel

READY_POLL_S: Final = 0.1
EVERYTHING: Final = "*"
LATER: Final = 2  # times the deadline at most that a replica that comes nearer gets beyond it
STILL: Final = 0.25  # of the deadline: a replica that came no nearer for so long stands still


class Cluster(Protocol):
    """What the drain asks of the cluster; the run's stage, or a fake in tests."""

    async def heal_all(self) -> tuple[bool, str]:
        """Heal every fault, newest first: whether all was proven, in words."""
        ...

    async def revive(self) -> tuple[bool, str]:
        """Resume, restart and replace what is not running: whether all runs, in words."""
        ...

    def excluded(self) -> tuple[str, ...]:
        """Nodes that the plan destroyed or removed."""
        ...

    def members(self, group: Group) -> tuple[str, ...]:
        """The group's surviving configuration."""
        ...

    async def statuses(self) -> Mapping[str, NodeStatus]:
        """Status of every broker that answers."""
        ...

    async def masters(self) -> Mapping[str, Mapping[str, str | None] | None]:
        """By name server: the master of each group, or None if it does not answer."""
        ...

    async def restart_all(self) -> tuple[bool, str]:
        """Kill and start every node (D8)."""
        ...

    async def dump(self, group: Group, status: NodeStatus, turn: int) -> tuple[bool, str]:
        """Dump one replica (D7): whether it was read completely, in words."""
        ...

    async def settle(self, goal: Mapping[Queue, int], deadline_ns: int) -> tuple[bool, str]:
        """D9: wait, while consumers go on, until nothing that they sent back is on its way: whether so, in words."""
        ...


class Clients(Protocol):
    """What the drain asks of the client workers."""

    async def stop_load(self) -> tuple[bool, str]:
        """D1: stop the generators and wait for what is outstanding."""
        ...

    async def place_sentinels(
        self, queues: Sequence[Queue], deadline_ns: int, first_counter: int
    ) -> tuple[tuple[Sentinel, ...], tuple[Queue, ...]]:
        """D5: sentinels placed, and queues without one."""
        ...

    async def drain(
        self, round_number: int, sentinels: Sequence[Sentinel], deadline_ns: int
    ) -> tuple[tuple[Queue, ...], tuple[Queue, ...]]:
        """D6: queues read to their sentinel, and those that were not."""
        ...

    async def consume_until(self, goal: Mapping[Queue, int], deadline_ns: int) -> Mapping[str, int]:
        """D9: what the consumers still lack, by queue; empty is good."""
        ...


class Recorder(Protocol):
    """Where drain steps go."""

    def step(self, rule: str, scope: str, ok: bool, detail: str, excluded: Sequence[str]) -> None:
        """One drain-step event."""
        ...


@dataclass(slots=True)
class Outcome:
    """What the drain established, for the last events of the history."""

    sentinels: dict[Queue, Sentinel] = field(default_factory=dict)
    behind: dict[str, int] = field(default_factory=dict)
    ready: dict[str, bool] = field(default_factory=dict)


class DrainPhase:
    """Runs D1 to D10 once."""

    def __init__(
        self,
        topology: Topology,
        bounds: Bounds,
        cluster: Cluster,
        clients: Clients,
        record: Recorder,
        *,
        consumes: bool,
    ) -> None:
        self._topology = topology
        self._bounds = bounds
        self._cluster = cluster
        self._clients = clients
        self._record = record
        self._consumes = consumes
        self._counter = 0

    async def run(self) -> Outcome:
        """All rules in order. Never raises for a cluster that does not recover: its steps say what was not kept."""
        outcome = Outcome()
        self._step("D1", *await self._clients.stop_load())
        self._step("D2", *await self._cluster.heal_all())
        self._step("D3", *await self._cluster.revive())
        await self._read_back(outcome, 1)
        if self._bounds.restart_all:
            ok, detail = await self._cluster.restart_all()
            self._step("D8", ok, detail)
            await self._read_back(outcome, 2)
        await self._consume(outcome)
        self._retention(await self._cluster.statuses())
        return outcome

    async def _read_back(self, outcome: Outcome, turn: int) -> None:
        outcome.ready = await self._ready()
        budget_ns = time.monotonic_ns() + self._bounds.budget.ns
        await self._sentinels(outcome, budget_ns)
        await self._drain(outcome, budget_ns, turn)
        await self._dumps(await self._told(outcome, budget_ns), turn)

    # --- D4

    async def _ready(self) -> dict[str, bool]:
        """Wait until all groups are Ready; a replica that still comes nearer at the deadline gets more time."""
        deadline = time.monotonic() + self._bounds.recover_within.s
        latest = deadline + LATER * self._bounds.recover_within.s
        since: float | None = None
        least: dict[str, int] = {}
        nearer = 0.0  # when a group lacked less than ever before
        while True:
            statuses, masters = await asyncio.gather(self._cluster.statuses(), self._cluster.masters())
            faults = {
                group.name: not_ready(group, self._cluster.members(group), statuses, masters)
                for group in self._topology.groups
            }
            now = time.monotonic()
            for group in self._topology.groups:
                lacks = lacking(self._cluster.members(group), statuses)
                if lacks is not None and lacks < least.get(group.name, lacks + 1):
                    least[group.name], nearer = lacks, now
            if any(faults.values()):
                since = None
            else:
                since = now if since is None else since
            if since is not None and now - since >= self._bounds.ready_for.s:
                break
            still = now - nearer >= STILL * self._bounds.recover_within.s
            if since is None and now >= deadline and (still or now >= latest):
                break
            await asyncio.sleep(READY_POLL_S)
        held = since is not None and time.monotonic() - since >= self._bounds.ready_for.s
        for group in self._topology.groups:
            reasons = faults[group.name] if not held else ()
            words = "; ".join(reasons) or (
                "" if held else f"was not ready for {self._bounds.ready_for} without a break"
            )
            detail = words or f"ready for {self._bounds.ready_for}"
            self._record.step("D4", group.name, held or not words, detail, self._cluster.excluded())
        return {group.name: held or not faults[group.name] for group in self._topology.groups}

    # --- D5 to D7

    async def _sentinels(self, outcome: Outcome, deadline_ns: int) -> None:
        # A group that never became ready may still take sentinels, but must not eat the budget of the others.
        able = [queue for queue in self._topology.queues if outcome.ready.get(queue.group)]
        unable = [queue for queue in self._topology.queues if queue not in able]
        placed, missing = await self._clients.place_sentinels(able, deadline_ns, self._counter) if able else ((), ())
        if unable:
            soon = time.monotonic_ns() + Duration.seconds(5).ns
            more, lost = await self._clients.place_sentinels(unable, min(soon, deadline_ns), self._counter)
            placed, missing = (*placed, *more), (*missing, *lost)
        self._counter += 1_000_000
        outcome.sentinels = {sentinel.queue: sentinel for sentinel in placed}
        for sentinel in placed:
            detail = f"sentinel at offset {sentinel.offset}, acknowledged {sentinel.ack}"
            self._record.step("D5", str(sentinel.queue), True, detail, self._cluster.excluded())
        for queue in missing:
            detail = "no sentinel was acknowledged in time"
            self._record.step("D5", str(queue), False, detail, self._cluster.excluded())

    async def _drain(self, outcome: Outcome, deadline_ns: int, turn: int) -> None:
        sentinels = tuple(outcome.sentinels.values())
        failed: set[Queue] = set(self._topology.queues) - set(outcome.sentinels)
        for round_number in (2 * turn - 1, 2 * turn):
            if sentinels:
                _, incomplete = await self._clients.drain(round_number, sentinels, deadline_ns)
                failed.update(incomplete)
        for queue in self._topology.queues:
            ok = queue not in failed
            detail = "read twice up to its sentinel" if ok else "was not read up to its sentinel"
            self._record.step("D6", str(queue), ok, detail, self._cluster.excluded())

    async def _told(self, outcome: Outcome, deadline_ns: int) -> Mapping[str, NodeStatus]:
        """Statuses of all members of ready groups, each of which has all that any of them had at the first look.

        A slave that nobody waits for copies the sentinels a moment after they were acknowledged. A member of a group
        that elects hears with its leader's next heartbeat that they are committed, and indexes them only then. One that
        did not answer is asked again: it runs, and only all of them tell what there is. They get as long as for getting
        ready, however little of the budget is left; then they are dumped as they are.
        """
        deadline_ns = max(deadline_ns, time.monotonic_ns() + self._bounds.recover_within.ns)
        ready = [group for group in self._topology.groups if outcome.ready.get(group.name)]
        goal: dict[str, int] = {}
        while True:
            statuses = await self._cluster.statuses()
            behind = False
            for group in ready:
                members = self._cluster.members(group)
                if not statuses.keys() >= set(members):
                    behind = True
                    continue
                known = [_heard(statuses[node]) for node in members]
                behind |= min(known, default=0) < goal.setdefault(group.name, max(known, default=0))
            if not behind or time.monotonic_ns() >= deadline_ns:
                return statuses
            await asyncio.sleep(READY_POLL_S)

    async def _dumps(self, statuses: Mapping[str, NodeStatus], turn: int) -> None:
        for group in self._topology.groups:
            members = self._cluster.members(group)
            looks = []
            for node in members:
                status = statuses.get(node)
                looks.append(
                    (False, f"{node} does not answer")
                    if status is None
                    else await self._cluster.dump(group, status, turn)
                )
            ok = bool(looks) and all(good for good, _ in looks)
            self._record.step("D7", group.name, ok, "; ".join(words for _, words in looks), self._cluster.excluded())

    # --- D9, D10

    async def _consume(self, outcome: Outcome) -> None:
        if not self._consumes:
            return
        deadline_ns = time.monotonic_ns() + self._bounds.consume_within.ns
        goal = {queue: sentinel.offset + 1 for queue, sentinel in outcome.sentinels.items()}
        settled, words = await self._cluster.settle(goal, deadline_ns)
        self._step("D9", settled, words)
        outcome.behind = dict(await self._clients.consume_until(goal, deadline_ns))
        for queue in self._topology.queues:
            lag = outcome.behind.get(str(queue), 0)
            ok = lag == 0 and queue in goal
            detail = "consumed and committed" if ok else f"the consumer group lacks {lag}" if lag else "no sentinel"
            self._record.step("D9", str(queue), ok, detail, self._cluster.excluded())

    def _retention(self, statuses: Mapping[str, NodeStatus]) -> None:
        moved = []
        for node, status in statuses.items():
            for name, bounds in status.queues.items():
                if name.partition("@")[0] == self._topic() and int(bounds.get("min", 0)) > 0:
                    moved.append(f"{name} of {node} begins at {bounds.get('min')}")
        moved += [
            f"no replica of {group.name} told where its queues begin"
            for group in self._topology.groups
            if not any(node in statuses for node in self._cluster.members(group))
        ]
        self._step("D10", not moved, "; ".join(moved) or "nothing was trimmed")

    def _topic(self) -> str:
        return self._topology.queues[0].topic

    def _step(self, rule: str, ok: bool, detail: str) -> None:
        self._record.step(rule, EVERYTHING, ok, detail, self._cluster.excluded())


def _heard(status: NodeStatus) -> int:
    """How much of the log a replica holds as final: what it knows to be committed, or in master/slave its end."""
    return status.end if status.raft is None else status.raft.commit
