"""A cluster without processes or wires: true to the protocols of ``nemesis.world``, in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence

from nemesis.world import (
    Configuration,
    Election,
    LeverError,
    Matrix,
    Moment,
    NodeState,
    Pair,
    Patience,
    PortState,
    Role,
    RoleReport,
    World,
)

SERVERS = ("namesrv-1", "namesrv-2", "broker-a-0", "broker-a-1", "broker-b-0", "broker-b-1")
HOSTS = (*SERVERS, "client-1", "client-2")


class FakeNetwork:
    """Wires between HOSTS. ``leak`` are pairs that no cut can lose; ``stuck`` are pairs that stay lost."""

    def __init__(self) -> None:
        self.cuts: dict[str, frozenset[Pair]] = {}
        self.leak: frozenset[Pair] = frozenset()
        self.established_leak: frozenset[Pair] = frozenset()
        self.stuck: frozenset[Pair] = frozenset()
        self.left_rules: list[str] = []

    def hosts(self) -> Sequence[str]:
        return list(HOSTS)

    async def cut(self, fault_id: str, pairs: frozenset[Pair]) -> str:
        self.cuts[fault_id] = pairs
        return f"cut {len(pairs)}"

    async def restore(self, fault_id: str) -> str:
        self.cuts.pop(fault_id, None)
        return "restored"

    def lost(self) -> frozenset[Pair]:
        cut = frozenset(pair for pairs in self.cuts.values() for pair in pairs)
        return (cut - self.leak) | self.stuck

    async def matrix(self, expected_cut: frozenset[Pair]) -> Matrix:
        del expected_cut
        pairs = tuple((a, b) for a in HOSTS for b in HOSTS if a != b)
        lost = self.lost()
        up = frozenset(pair for pair in pairs if pair not in lost)
        both = frozenset(pair for pair in up if pair[::-1] in up)
        return Matrix(pairs, up, up | self.established_leak, both, 0.0)

    async def reachable(self, src: str, dst: str) -> bool:
        return (src, dst) not in self.lost()

    async def flow(self, src: str, dst: str) -> bool:
        return (src, dst) not in self.lost()

    async def baseline(self) -> Sequence[str]:
        return self.left_rules


class FakeProcesses:
    """Nodes that start at once."""

    def __init__(self) -> None:
        self.states = dict.fromkeys(SERVERS, NodeState.RUNNING)
        self.pids = {node: 100 + number for number, node in enumerate(SERVERS)}
        self.incarnations = dict.fromkeys(SERVERS, 1)
        self.stores = dict.fromkeys(SERVERS, True)
        self.next_pid = 1000
        self.deaf: list[str] = []  # nodes that run and do not answer
        self.starting: dict[str, int] = {}  # nodes that run and refuse as many questions before they serve

    def nodes(self) -> Sequence[str]:
        return list(SERVERS)

    def state(self, node: str) -> NodeState:
        return self.states[node]

    def pid(self, node: str) -> int | None:
        return self.pids[node]

    def incarnation(self, node: str) -> int:
        return self.incarnations[node]

    async def kill(self, node: str, fault_id: str) -> str:
        if self.states[node] not in (NodeState.RUNNING, NodeState.PAUSED):
            raise LeverError(f"{node} is not running")
        self.states[node] = NodeState.DEAD
        return f"killed {node} for {fault_id}"

    async def start(self, node: str) -> str:
        if self.states[node] in (NodeState.RUNNING, NodeState.PAUSED):
            raise LeverError(f"{node} runs already")
        self.states[node] = NodeState.RUNNING
        self.incarnations[node] += 1
        self.stores[node] = True
        self.pids[node] = self.next_pid = self.next_pid + 1
        return f"started {node}"

    async def destroy(self, node: str, fault_id: str) -> str:
        if self.states[node] is NodeState.DESTROYED:
            raise LeverError(f"{node} is destroyed already")
        del fault_id
        self.states[node] = NodeState.DESTROYED
        self.stores[node] = False
        return f"destroyed {node}"

    async def pause(self, node: str) -> str:
        if self.states[node] is not NodeState.RUNNING:
            raise LeverError(f"{node} is {self.states[node].value}")
        self.states[node] = NodeState.PAUSED
        return f"paused {node}"

    async def resume(self, node: str) -> str:
        if self.states[node] is not NodeState.PAUSED:
            raise LeverError(f"{node} is not paused")
        self.states[node] = NodeState.RUNNING
        return f"resumed {node}"

    async def gone(self, pid: int) -> bool:
        alive = (NodeState.RUNNING, NodeState.PAUSED)
        return not any(self.pids[node] == pid and self.states[node] in alive for node in SERVERS)

    async def stopped(self, node: str) -> bool:
        return self.states[node] is NodeState.PAUSED

    async def port(self, node: str, timeout_s: float) -> PortState:
        del timeout_s
        answers = {NodeState.RUNNING: PortState.ANSWERS, NodeState.PAUSED: PortState.SILENT}
        seen = answers.get(self.states[node], PortState.REFUSES)
        if self.starting.get(node, 0) > 0:
            seen = PortState.REFUSES
            if self.states[node] is NodeState.RUNNING:
                self.starting[node] -= 1
        return PortState.SILENT if seen is PortState.ANSWERS and node in self.deaf else seen

    async def store_gone(self, node: str) -> bool:
        return not self.stores[node]


class FakeRoles:
    """broker-x-0 is the master until somebody promotes broker-x-1."""

    def __init__(self, processes: FakeProcesses) -> None:
        self.processes = processes
        self.of = {
            "broker-a-0": (Role.MASTER, 1),
            "broker-a-1": (Role.SLAVE, 1),
            "broker-b-0": (Role.MASTER, 4),
            "broker-b-1": (Role.SLAVE, 4),
        }
        self.forgets_epoch = False
        self.slow: set[str] = set()  # nodes that run, and do not answer in time

    async def roles(self) -> Mapping[str, RoleReport]:
        reports = {}
        for host in HOSTS:
            if host.startswith("client"):
                reports[host] = RoleReport(host, host, "", Role.CLIENT)
                continue
            alive = self.processes.states[host] is NodeState.RUNNING
            role, epoch = self.of.get(host, (Role.NAME_SERVER, None))
            group = host.rpartition("-")[0] if host.startswith("broker") else ""
            running = self.processes.states[host] in (NodeState.RUNNING, NodeState.PAUSED)
            reports[host] = RoleReport(host, host, group, role, epoch, alive and host not in self.slow, running)
        return reports

    async def promote(self, node: str) -> str:
        _, epoch = self.of[node]
        self.of[node] = (Role.MASTER, epoch if self.forgets_epoch else epoch + 1)
        return f"promoted {node}"


class FakeMembers:
    """broker-a elects: it has two voters and a spare, and does what it is told."""

    def __init__(self, processes: FakeProcesses, roles: FakeRoles) -> None:
        self.processes = processes
        self.roles = roles
        self.voters = {"broker-a-0", "broker-a-1"}
        self.spares = ["broker-a-2"]
        self.behind: dict[str, frozenset[str]] = {}  # members that still report these voters
        self.uncommitted: list[str] = []
        self.left: list[tuple[str, bool, str]] = []  # removed, whether to be stopped, who was asked first

    async def configurations(self, group: str) -> Mapping[str, Configuration]:
        del group
        known = {*self.voters, "broker-a-0", "broker-a-1"}
        states = self.processes.states
        alive = [node for node in sorted(known) if states.get(node, NodeState.RUNNING) is NodeState.RUNNING]
        return {
            node: Configuration(
                node, self.behind.get(node, frozenset(self.voters)), committed=node not in self.uncommitted
            )
            for node in alive
        }

    async def spare(self, group: str) -> str | None:
        del group
        return self.spares[0] if self.spares else None

    async def join(self, node: str) -> str:
        self.voters.add(node)
        return f"added {node}"

    async def leave(self, node: str, *, stop: bool = True, by: str = "") -> str:
        self.voters.discard(node)
        self.left.append((node, stop, by))
        return f"removed {node}"

    async def transfer(self, node: str) -> str:
        for other, (role, epoch) in self.roles.of.items():
            if other.startswith("broker-a") and role is Role.MASTER:
                self.roles.of[other] = (Role.SLAVE, epoch + 1)
        self.roles.of[node] = (Role.MASTER, self.roles.of[node][1] + 1)
        return f"handed over to {node}"


class FakeElections:
    """What happens next is what a test has written down; then nothing ever does."""

    def __init__(self) -> None:
        self.coming: list[tuple[Moment, Election]] = []
        self.asked: list[tuple[Moment, str]] = []

    async def next(self, moment: Moment, group: str) -> Election:
        self.asked.append((moment, group))
        for place, (what, election) in enumerate(self.coming):
            if what is moment and group in ("", election.group):
                del self.coming[place]
                return election
        await asyncio.Event().wait()
        raise AssertionError("nothing happens any more")


class FakeWorld:
    """The parts, for tests to reach into, and the world made of them."""

    def __init__(self, seed: int = 1) -> None:
        self.network = FakeNetwork()
        self.processes = FakeProcesses()
        self.role_reports = FakeRoles(self.processes)
        self.ticks = 0
        self.members = FakeMembers(self.processes, self.role_reports)
        self.elections = FakeElections()
        quick = Patience(0.01, 0.01, 0.02, 0.02, 0.02, 0.02, 0.02, 0.02, 0.02, 0.02, 0.001)
        self.world = World(
            self.network,
            self.processes,
            self.role_reports,
            random.Random(seed),
            self.now_ns,
            quick,
            members=self.members,
            elections=self.elections,
        )

    def now_ns(self) -> int:
        self.ticks += 1
        return self.ticks
