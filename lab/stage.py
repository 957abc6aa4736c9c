"""The stage of a run: hosts, nodes, network and side channel, brought up together and taken down together.

`Stage` is what both a judged run and a cluster played with by hand stand on. Everything that must be there before
client workers fork (namespaces) is made by the constructor; everything that needs an event loop by `open`.
"""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lab.cluster.hosts import Hosts
from lab.cluster.keeper import Keeper
from lab.cluster.manifest import Kind, Manifest
from lab.cluster.network import LabNetwork, LeverName
from lab.cluster.supervisor import NodeExit, NodeNotReadyError, Supervisor
from lab.elections import Feed
from lab.errors import LabBugError, SetupError
from lab.members import Members
from lab.plan import CONTROLLER, DLEDGER, Plan
from lab.randomness import child
from lab.ready import caught_up, not_ready
from lab.rundir import RunDir
from lab.systems import system_of
from lab.systems.system import Assigned, MemberCalls, NodeStatus, System
from lab.topics import Topics
from lab.topology import Group, Topology, flush_of, guaranteed, majority, settings_of
from lab.workloads.classify import Guarantee
from nemesis.world import LeverError, NodeState, Role, RoleReport, World

POLL_S: Final = 0.01
TERMINATE_S: Final = 5.0
if TYPE_CHECKING:
    from lab.cluster.sampling import Sampler

REPLICA_POLL_S: Final = 0.02


class Stage:
    """One cluster on its hosts. ``on_exit`` hears of every end of a node's process."""

    def __init__(self, plan: Plan, topology: Topology, folder: RunDir, seed: int) -> None:
        self.plan = plan
        self.topology = topology
        self.folder = folder
        self.manifest = Manifest(folder.manifest)
        self.manifest.will_create(Kind.FOLDER, folder.nodes)  # of a killed run, whose recording stays
        self.hosts = Hosts.build(topology.hosts)
        self.system: System = system_of(plan, topology, folder, self.hosts)
        self.on_exit: Callable[[NodeExit], None] | None = None
        self.on_guarantees: Callable[[Mapping[str, Guarantee]], None] | None = None
        self.last: dict[str, NodeStatus] = {}  # newest answer of each broker, however old
        self.replaced: dict[str, str] = {}  # destroyed node: the spare that is meant to take its place
        self.unreplaced: dict[str, str] = {}  # those in whose place none is yet, and why
        self._replacing = asyncio.Lock()  # faults may overlap, and no two may take one spare
        self._topics = Topics(plan, self.system)
        self.elected: Members | None = self._members()  # None: the plan appoints masters
        self._copies = {group.name: majority(len(group.nodes)) for group in topology.groups}  # of groups that elect
        self._rng: random.Random = child(seed, "nemesis")
        self._keeper: Keeper | None = None
        self._supervisor: Supervisor | None = None
        self._network: LabNetwork | None = None
        self._sampler: Sampler | None = None
        self._closed = False

    # --- parts

    @property
    def supervisor(self) -> Supervisor:
        """The nodes' processes; there after `open`."""
        if self._supervisor is None:
            raise SetupError("the cluster was not started")
        return self._supervisor

    @property
    def network(self) -> LabNetwork:
        """The wires; there after `open`."""
        if self._network is None:
            raise SetupError("the cluster was not started")
        return self._network

    def world(self, now_ns: Callable[[], int]) -> World:
        """What the nemesis acts on; ``now_ns`` is the clock of the history."""
        return World(
            network=self.network,
            processes=self.supervisor,
            roles=self,
            rng=self._rng,
            now_ns=now_ns,
            patience=self.system.patience,
            members=self.elected,
            elections=None if self.elected is None else Feed(self.topology.groups, self._log_of),
        )

    def _log_of(self, node: str) -> Path:
        return self.folder.node(node) / "log.jsonl"

    # --- life

    async def open(self) -> None:
        """Start all nodes at once, wait until they serve and slaves follow, create the topic. Raises SetupError."""
        self._keeper = Keeper()
        self._supervisor = Supervisor(
            self.hosts, self._keeper, manifest=self.manifest, on_exit=lambda ended: self._exited(ended)
        )
        self._network = LabNetwork(self.hosts, lever=LeverName(self.plan.cluster.lever))
        nodes = (*self.topology.namesrvs, *self.topology.brokers)
        try:
            for node in nodes:
                await self._supervisor.spawn(self.system.prepare(node))
            for node in self.topology.spares:
                self._supervisor.declare(self.system.prepare(node))
            limit = max(self.plan.cluster.ready_within.s, self.system.ready_s)
            await asyncio.gather(self._network.open(), *(self._supervisor.ready(node, limit) for node in nodes))
            await self._serve(time.monotonic() + limit)
        except (NodeNotReadyError, LeverError, OSError) as error:
            raise SetupError(str(error)) from None
        from lab.cluster.sampling import Sampler  # psutil takes long to import, and nothing is sampled before

        self._sampler = Sampler(self._supervisor.running_pids, self.folder.metrics)
        self._sampler.start()

    async def close(self) -> None:
        """Take everything down. May be called twice, and after a failed `open`."""
        if self._closed:
            return
        self._closed = True
        if self._sampler is not None:
            await self._sampler.stop()
        await self.system.close()
        if self._supervisor is not None:
            await self._supervisor.stop()
        if self._network is not None:
            self._network.close()
        if self._keeper is not None:
            self._keeper.close()
        self.hosts.close()
        self.manifest.finish()

    # --- who is who

    def guarantees(self) -> dict[str, Guarantee]:
        """What each broker address guarantees before SEND_OK, by its configuration as it is assigned now."""
        found = {}
        for group in self.topology.groups:
            for node in (*group.nodes, *group.spares):
                found[f"{self.hosts.address(node)}:{self.supervisor.spec(node).port}"] = self._guarantee(group, node)
        return found

    def _guarantee(self, group: Group, node: str) -> Guarantee:
        part = self.system.assigned(node)
        settings = settings_of(self.plan, master=True)
        if self.plan.cluster.mode == DLEDGER:
            return Guarantee(self._copies[group.name], flush_of(settings, self.plan.cluster) == "SYNC_FLUSH")
        copies, flush = guaranteed(self.plan, settings | {"brokerRole": part.role})
        may_answer = part.master or self.elected is not None  # any replica may become master
        return Guarantee(copies if may_answer else 1, flush == "SYNC_FLUSH")

    def weaken(self, group: Group, copies: int) -> None:
        """From now on SEND_OK of this group guarantees so many copies only, unless it was fewer already."""
        self._copies[group.name] = min(copies, self._copies[group.name])
        self._tell_guarantees()

    def members(self, group: Group) -> tuple[str, ...]:
        """Nodes that belong to the group's surviving configuration: started once, and neither destroyed nor removed."""
        left = () if self.elected is None else self.elected.left
        return tuple(
            node
            for node in (*group.nodes, *group.spares)
            if node not in left and self.supervisor.state(node) not in (NodeState.ABSENT, NodeState.DESTROYED)
        )

    def excluded(self) -> tuple[str, ...]:
        """Nodes that a fault destroyed or removed, by name; not those that were only added and removed again."""
        left = () if self.elected is None else self.elected.left
        return tuple(
            node
            for node in (*self.topology.brokers, *self.topology.spares)
            if self._is_destroyed(node) or (node in left and node in self.topology.brokers)
        )

    def destroyed(self) -> tuple[str, ...]:
        """Nodes that a fault destroyed, by name."""
        return tuple(node for node in self.topology.brokers + self.topology.spares if self._is_destroyed(node))

    def _is_destroyed(self, node: str) -> bool:
        return self.supervisor.state(node) is NodeState.DESTROYED

    async def ask(self, node: str) -> NodeStatus | None:
        """The broker's status now; remembered in ``last``."""
        status = await self.system.status(node)
        if status is not None:
            self.last[node] = status
        return status

    async def ask_all(self) -> dict[str, NodeStatus]:
        """Statuses of all brokers that answer, asked at the same time."""
        running = self.supervisor.running_pids()
        nodes = [node for group in self.topology.groups for node in self.members(group) if node in running]
        answers = await asyncio.gather(*(self.ask(node) for node in nodes))
        return {node: status for node, status in zip(nodes, answers, strict=True) if status is not None}

    async def roles(self) -> Mapping[str, RoleReport]:
        """Every node and client host with its part, as the nodes themselves say (nemesis.world.Roles)."""
        answers = await self.ask_all()
        running = self.supervisor.running_pids()
        reports: dict[str, RoleReport] = {}
        for node in self.topology.namesrvs:
            reports[node] = RoleReport(node, node, "", Role.NAME_SERVER, None, node in running)
        for group in self.topology.groups:
            for node in (*group.nodes, *group.spares):
                if self.supervisor.state(node) is NodeState.ABSENT or (self.elected and node in self.elected.left):
                    continue
                known = answers.get(node) or self.last.get(node)
                role = Role.UNKNOWN if known is None else Role.MASTER if known.master else Role.SLAVE
                epoch = None if known is None else known.epoch[0]
                reports[node] = RoleReport(node, node, group.name, role, epoch, node in answers, node in running)
        for client in self.topology.clients:
            reports[client] = RoleReport(client, client, "", Role.CLIENT)
        return reports

    # --- changes by an operator

    async def promote(self, node: str) -> str:
        """Make a slave its group's master as the plan says: by a call, or edit and restart. Raises LeverError."""
        group = self.topology.group_of(node)
        if group is None:
            raise LeverError(f"{node} is no broker")
        if self.plan.cluster.mode == CONTROLLER:
            raise LeverError(f"{group.name} has its master from the controllers: nobody can promote {node}")
        if self.elected is not None:
            raise LeverError(f"{group.name} elects its leader; ask for a transfer to {node}")
        cluster = self.plan.cluster
        before = self.system.assigned(node)
        part = Assigned(cluster.promote_as, 0)
        for other in (*group.nodes, *group.spares):
            if other != node and self.system.assigned(other).master:
                self.system.assign(other, Assigned("SLAVE", before.broker_id))
                self.supervisor.declare(self.system.prepare(other))
        self.system.assign(node, part)
        self._tell_guarantees()  # before the role changes: no answer may be taken for stronger than it is
        self.supervisor.declare(self.system.prepare(node))
        return await self._play(node, part)

    async def demote_strays(self) -> list[str]:
        """Make masters that were replaced while they lived into slaves, as the procedure ends; words for each."""
        done: list[str] = []
        if self.elected is not None:
            return done
        for node, status in (await self.ask_all()).items():
            part = self.system.assigned(node)
            if status.master and not part.master:
                self.supervisor.declare(self.system.prepare(node))
                try:
                    done.append(await self._play(node, part))
                except LeverError as error:
                    done.append(str(error))
        return done

    async def replace_destroyed(self, returning: Collection[str] = ()) -> list[str]:
        """Start an empty node in place of each destroyed one whose group has a master; words for each.

        Not of what the faults ``returning`` destroyed, which start it again themselves. What could not be done is tried
        again with the next call.
        """
        async with self._replacing:
            return [words for node in self.destroyed() for words in await self._replace(node, returning)]

    async def _replace(self, node: str, returning: Collection[str]) -> Sequence[str]:
        group = self.topology.group_of(node)
        done = node in self.replaced and node not in self.unreplaced
        if group is None or done or self.supervisor.destroyed_by(node) in returning:
            return ()
        led = self.elected is not None or any(self.system.assigned(other).master for other in self.members(group))
        spare = self.replaced.get(node) or self.free_spare(group)
        if not led or spare is None:
            return ()
        self.replaced[node] = spare
        try:
            if self.elected is not None:
                words = await self.elected.replace(node, spare)
            else:
                self.supervisor.declare(self.system.prepare(spare))
                words = (f"{await self.supervisor.start(spare)} as an empty slave in place of {node}",)
        except LeverError as error:
            self.unreplaced[node] = f"{node} was not replaced: {error}"
            return (self.unreplaced[node],)
        self.unreplaced.pop(node, None)
        return words

    def free_spare(self, group: Group) -> str | None:
        """The next node of the group that was never started, and is not meant for another's place."""
        taken = self.replaced.values()
        free = (node for node in group.spares if self.supervisor.state(node) is NodeState.ABSENT and node not in taken)
        return next(free, None)

    # --- inside

    async def _play(self, node: str, part: Assigned) -> str:
        """Make a running broker play the part that its configuration has already. Raises LeverError."""
        if self.plan.cluster.promote_by == "call":
            return await self.system.change_role(node, part)
        stopped = await self.supervisor.terminate(node, TERMINATE_S)
        started = await self.supervisor.start(node)
        return f"{stopped}; set brokerId={part.broker_id} and brokerRole={part.role} in its configuration; {started}"

    def _exited(self, ended: NodeExit) -> None:
        if self.on_exit is not None:
            self.on_exit(ended)

    def _tell_guarantees(self) -> None:
        if self.on_guarantees is not None:
            self.on_guarantees(self.guarantees())

    def _members(self) -> Members | None:
        if self.plan.cluster.mode not in (DLEDGER, CONTROLLER):
            return None
        if not isinstance(self.system, MemberCalls):
            raise LabBugError(f"the system {self.system.name} has no groups that elect")
        return Members(self, self.system)

    async def _serve(self, deadline: float) -> None:
        """Topic on every master, known to every name server, replicas equal. Raises SetupError."""
        load = self.plan.load
        groups = self.topology.groups
        for group in groups:
            while refusal := await self._create_topic(group):
                await self._wait(deadline, f"the topic {load.topic} was not accepted: {refusal}")
        for namesrv in self.topology.namesrvs:
            while not await self.system.topic_known(namesrv, load.topic, len(groups)):
                await self._wait(deadline, f"{namesrv} did not learn the route of {load.topic}")
        if self.elected is not None:
            await self._settle(deadline)
            return
        for group in groups:
            while not await self._followed(group):
                await self._wait(deadline, f"the slaves of {group.name} did not connect to their master")

    async def _create_topic(self, group: Group) -> str:
        """On whoever leads now; why not, empty if done."""
        leader = group.master
        if self.elected is not None:
            statuses = await asyncio.gather(*(self.ask(node) for node in group.nodes))
            leaders = [status.node for status in statuses if status is not None and status.master and status.serving]
            if not leaders:
                return f"{group.name} has elected no leader"
            leader = leaders[0]
        return await self._topics.create(leader)

    async def _settle(self, deadline: float) -> None:
        """Until every group that elects is Ready as the drain means it, name servers included."""
        while True:
            statuses = await self.ask_all()
            names = self.topology.namesrvs
            views = await asyncio.gather(*(self.system.masters(name) for name in names))
            led = dict(zip(names, views, strict=True))
            reasons = [
                reason
                for group in self.topology.groups
                for reason in not_ready(group, self.members(group), statuses, led)
            ]
            if not reasons:
                return
            await self._wait(deadline, "; ".join(reasons))

    async def _followed(self, group: Group) -> bool:
        status = await self.ask(group.master)
        if status is None or not status.serving:
            return False
        return caught_up(status) >= len(group.slaves)

    async def _wait(self, deadline: float, complaint: str) -> None:
        if time.monotonic() >= deadline:
            raise SetupError(f"{complaint} within {self.plan.cluster.ready_within}")
        await asyncio.sleep(REPLICA_POLL_S)
