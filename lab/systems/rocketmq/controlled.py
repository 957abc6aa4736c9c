"""A release in controller mode (5.x): a quorum of controllers, one in each name server, appoints the masters.

A group's master is the replica that says so itself; its term of office is the newest epoch of its own table (the file
epochFileCheckpoint), which every replica copies from its master. Who is in sync is what the controllers tell. Logs are
plain commit logs.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lab.cluster.hosts import Hosts
from lab.errors import PlanError
from lab.plan import CONTROLLER, DLEDGER, MASTER_SLAVE, Plan
from lab.rundir import RunDir
from lab.systems.python import CLUSTER
from lab.systems.rocketmq import controller_port
from lab.systems.rocketmq.keys import differences, translated
from lab.systems.rocketmq.release import Release
from lab.systems.rocketmq.switch_log import switches_in
from lab.systems.rocketmq.system import CONTROLLER_KEYS, RocketMQSystem, delayed_of, with_readable_queues, without_flaws
from lab.systems.system import NodeStatus
from lab.topology import CONTROLLER_PORT, Topology, guaranteed, settings_of, truth
from nemesis.world import LeverError
from nodes.remoting.codes import ResponseCode
from nodes.remoting.command import Command

TRIES: Final = 3  # of a status whose table of epochs changed while it was asked for
QUORUM: Final = "controllers"  # the name of their DLedger group
FIRST_WITH_IT: Final = "5.0.0"
MASTER: Final = "SYNC_MASTER"  # as ReplicasManager calls whoever it makes master, whatever the file says
STORE_BYTES: Final = 64 * 1024 * 1024  # of a file of a controller's log, which holds a few small events
APPOINTED: Final = ("brokerId", "brokerRole")  # the broker gives itself both as it is appointed
# What makes the mode; the lab sets it, and the rest of a plan must not contradict it.
MADE: Final = (
    *CONTROLLER_KEYS,
    *APPOINTED,
    "controllerAddr",
    "fetchControllerAddrByDnsLookup",
    "controllerType",
    "controllerDLegerGroup",
    "controllerDLegerPeers",
    "controllerDLegerSelfId",
    "controllerStorePath",
    "enableDLegerCommitLog",
)
FIXED: Final = "who belongs to a group is what its controllers have registered"


def check_controlled(plan: Plan, found: Release) -> None:
    """Refuse what this release or this mode cannot do. Raises PlanError."""
    if found.line < 5:
        raise PlanError(
            f"RocketMQ {found.version} has no controller mode, which came with {FIRST_WITH_IT}; its modes are "
            f"{MASTER_SLAVE} and {DLEDGER}"
        )
    for table, settings in (("broker", plan.broker), ("namesrv", plan.namesrv)):
        for key in MADE:
            if key in settings:
                raise PlanError(f"{key} in [{table}]: cluster.mode = {CONTROLLER!r} sets this key itself: leave it out")
    translated(found, "broker", settings_of(plan, master=True))
    translated(found, "controller", {key: truth(value) for key, value in plan.namesrv.items()})
    without_flaws(plan)
    with_readable_queues(plan)


class ControlledRocketMQ(RocketMQSystem):
    """One release of Apache RocketMQ whose masters are appointed by its controllers."""

    status_s: float = 3.0  # short questions; C8 takes 5 s without a word for not having looked
    dispatch_s: float = 20.0  # a slave hears every 5 s how far it may index

    def __init__(self, plan: Plan, topology: Topology, folder: RunDir, hosts: Hosts) -> None:
        super().__init__(plan, topology, folder, hosts)
        self._leader: str | None = None  # the name server whose controller led the others when last asked

    # --- configuration

    def _settings(self, node: str) -> dict[str, str]:
        if self._kind(node) == "namesrv":
            settings = {key: truth(value) for key, value in self._plan.namesrv.items()}
            return translated(self.release, "controller", settings) | {
                "listenPort": self.address(node).rpartition(":")[2],
                "enableControllerInNamesrv": "true",
                "controllerDLegerGroup": QUORUM,
                "controllerDLegerPeers": ";".join(f"{name}-{address}" for name, address in self._quorum().items()),
                "controllerDLegerSelfId": self._id(node),
                "controllerStorePath": str(self._folder.node(node).resolve() / "store"),
                "mappedFileSize": str(STORE_BYTES),
            }
        kept = {key: value for key, value in super()._settings(node).items() if key not in APPOINTED}
        return kept | {
            "brokerRole": "SLAVE",  # until a controller says otherwise
            "brokerId": "-1",  # without a word it is 0, and a broker that starts would call itself master
            "enableControllerMode": "true",
            "controllerAddr": ";".join(self._quorum().values()),
        }

    def _lasting(self, node: str) -> dict[str, str]:
        return {key: value for key, value in self._settings(node).items() if key not in APPOINTED}

    def _id(self, namesrv: str) -> str:
        return f"n{self._topology.namesrvs.index(namesrv)}"

    def _quorum(self) -> dict[str, str]:
        """The controllers' ids and addresses."""
        return {self._id(node): f"{self._hosts.address(node)}:{CONTROLLER_PORT}" for node in self._topology.namesrvs}

    def _ping(self, kind: str) -> Command:
        """Short answers, too: a JVM on a busy machine takes seconds to put its runtime information together."""
        return super()._ping(kind) if kind == "namesrv" else controller_port.ask_epochs()

    # --- questions

    async def unlike(self, node: str) -> list[str]:
        """Effective settings; with the first broker also those of the controllers, and whom they know as a quorum."""
        words = await super().unlike(node)
        if node == self._topology.brokers[0]:
            for namesrv in self._topology.namesrvs:
                words += await self._unlike_controller(namesrv)
        return words

    async def _unlike_controller(self, namesrv: str) -> list[str]:
        quorum = controller_port.read_quorum(await self._ask_controller(namesrv, controller_port.ask_quorum()))
        config = await self._ask_controller(namesrv, controller_port.ask_config())
        if quorum is None or config is None or config.code != ResponseCode.SUCCESS:
            return [f"the controller in {namesrv} does not answer, so this is not mode {CONTROLLER}"]
        words = []
        if dict(quorum.addresses) != self._quorum():
            words.append(f"the controller in {namesrv} knows the quorum {dict(quorum.addresses)}, not {self._quorum()}")
        pairs = (line.partition("=") for line in config.body.decode(errors="replace").splitlines())
        effective = {key.strip(): value.strip() for key, equals, value in pairs if equals}
        wanted = {key: value for key, value in self._settings(namesrv).items() if key != "listenPort"}
        return words + [f"the controller in {namesrv}: {one}" for one in differences(wanted, effective)]

    async def _status(self, node: str) -> NodeStatus | None:
        """By two answers with the same table of epochs: between them the broker's id was that of the second.

        A broker that becomes master writes its epoch into the table before it takes the id 0, and one that is deposed
        drops the id before it writes the next epoch: so whoever has it between two equal tables is master of the
        newest epoch in them. These are short answers, which a busy JVM gives soon.
        """
        before = await self._epochs(node)
        for _ in range(TRIES):
            after = await self._epochs(node)
            if before is None or after is None:
                return None
            if after.rows == before.rows:
                return await self._told(node, after)
            before = after
        return None

    async def _told(self, node: str, known: controller_port.Epochs) -> NodeStatus:
        master = known.broker_id == 0
        store = self._store(node)
        begin = await self._read(store.begin)
        slaves = await self._replicas(node) if master else ()
        acks = [int(slave["ack"]) for slave in slaves if slave["connected"]]
        queues = await self._read(store.queues)
        raw = {
            "role": MASTER if master else "SLAVE",
            "brokerId": known.broker_id,
            "epoch": {"number": known.newest, "id": ""},
            "epochs": [{"number": number, "id": "", "start": start} for number, start in known.rows],
            "min": begin,
            "max": known.end,
            "slaveAck": max(acks, default=None),
            "slaves": list(slaves),
            # A slave does not tell how much of its log is confirmed.
            "confirm": min([known.end, *acks]) if master else begin,
            "copies": guaranteed(self._plan, settings_of(self._plan, master=True))[0] if master else 1,
            "state": "serving" if known.broker_id >= 0 else "fenced",
        }
        return NodeStatus(
            node=node,
            master=master,
            broker_id=known.broker_id,
            epoch=(known.newest, ""),
            epochs=tuple((number, "", start) for number, start in known.rows),
            begin=begin,
            end=known.end,
            slave_ack=max(acks, default=None),
            slaves=slaves,
            serving=known.broker_id >= 0,
            queues=queues,
            raw=raw,
            delayed=await self._delayed(node, queues),
        )

    async def _delayed(self, node: str, queues: Mapping[str, Mapping[str, int]]) -> int | None:
        """Only push consumers send back; what they did waits in the delay queues."""
        if self._plan.load.consume != "push":
            return None
        runtime = await self._runtime(node)
        return None if runtime is None else delayed_of(runtime, queues)

    def elections(self, node: str, start_ns: int, starts: Sequence[int]) -> Iterator[dict[str, Any]]:
        """From what the broker logged as it became master; its log has no clock of the run."""
        del start_ns, starts
        group = self._topology.group_of(node)
        return switches_in(self._folder.node(node), node, group.name) if group is not None else iter(())

    async def hand_over(self, leader: str, node: str) -> str:
        """CONTROLLER_ELECT_MASTER of this node, which must be in sync; only the controller that leads takes it."""
        group, known = self._topology.group_of(node), await self._epochs(node)
        if group is None or known is None or known.broker_id <= 0:
            raise LeverError(f"{node} does not answer as a slave, so {leader} cannot hand over to it")
        await self._in_sync(group.name)
        if self._leader is None:
            raise LeverError("no controller answers as the one that leads")
        question = controller_port.ask_election(CLUSTER, group.name, known.broker_id)
        answer = await self._ask_controller(self._leader, question)
        if answer is None:
            raise LeverError(f"the controller in {self._leader} does not answer")
        if answer.code != ResponseCode.SUCCESS:
            raise LeverError(f"the controller in {self._leader} does not appoint {node}: {answer.remark}")
        return f"the controller in {self._leader} appointed {node}, which is its id {known.broker_id}"

    async def add_member(self, leader: str, node: str) -> str:
        """Not by a call: brokers register themselves."""
        raise LeverError(f"{leader} cannot add {node}: {FIXED}")

    async def remove_member(self, leader: str, node: str) -> str:
        """Not by a call to the master."""
        raise LeverError(f"{leader} cannot remove {node}: {FIXED}")

    # --- inside

    async def _epochs(self, node: str) -> controller_port.Epochs | None:
        return controller_port.read_epochs(await self._call(node, controller_port.ask_epochs()))

    async def _ends(self, node: str) -> tuple[int, int] | None:
        known = await self._epochs(node)
        return None if known is None else (await self._read(self._store(node).begin), known.end)

    async def _in_sync(self, group: str) -> controller_port.InSync | None:
        """The set of a group as the leader of the controllers tells it, who is asked first once it is known."""
        question = controller_port.ask_in_sync([group])
        if self._leader is not None:
            answer = await self._ask_controller(self._leader, question)
            found = controller_port.read_in_sync(answer, group)
            if found is not None:
                return found
        names = self._topology.namesrvs
        answers = await asyncio.gather(*(self._ask_controller(name, question) for name in names))
        told = {name: controller_port.read_in_sync(answer, group) for name, answer in zip(names, answers, strict=True)}
        newest = controller_port.newest(told.values())
        self._leader = next((name for name, one in told.items() if one is not None and one == newest), None)
        return newest

    async def _replicas(self, master: str) -> tuple[Mapping[str, Any], ...]:
        """The other replicas: how far each is, and whether the controllers have it in sync and a link shows that."""
        group = self._topology.group_of(master)
        if group is None:
            return ()
        others = [node for node in group.nodes if node != master]
        linked = self._linked(master)
        in_sync = await self._in_sync(group.name)
        told = await asyncio.gather(*(self._epochs(node) for node in others))
        members = frozenset() if in_sync is None else in_sync.members
        return tuple(
            {
                "id": number,
                "ack": known.end,
                "connected": self._hosts.address(node) in linked and (self.address(node), known.broker_id) in members,
                "peer": self._hosts.address(node),
            }
            for number, (node, known) in enumerate(zip(others, told, strict=True), 1)
            if known is not None
        )

    async def _ask_controller(self, namesrv: str, question: Command) -> Command | None:
        return await self._call(namesrv, question, port=CONTROLLER_PORT)
