"""Apache RocketMQ as a system under test: a release's name servers and brokers as JVMs on the lab's hosts.

Its wire protocol is that of our own nodes, so questions are asked in the same way. What it cannot be asked is seen
from outside: the log and the queue index are read from the store's files, a slave's acknowledged end is the end it has
itself, and a replication link is a connection to the master's port in the kernel's table. Terms of office are counted
by the lab, since master/slave groups have none.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

from lab.cluster.hosts import Hosts
from lab.cluster.supervisor import NodeSpec
from lab.errors import PlanError, SetupError
from lab.plan import CONTROLLER, Plan
from lab.rundir import RunDir
from lab.systems.dledger import elects, member_settings
from lab.systems.python import CLUSTER, READ_TIMEOUT_S, PythonSystem
from lab.systems.rocketmq.keys import differences, translated
from lab.systems.rocketmq.programs import java_program
from lab.systems.rocketmq.release import Release, ReleaseMissing, release
from lab.systems.rocketmq.store_files import StoreFiles
from lab.systems.system import Assigned, LogPattern, LogPiece, NodeStatus, queue_of
from lab.topology import BROKER_PORT, HA_PORT, NAMESRV_PORT, Topology, copies_of, settings_of, topology_of, truth
from nemesis.world import LeverError, Patience
from nodes.config import write_properties
from nodes.remoting import fastjson
from nodes.remoting.codes import RequestCode, ResponseCode
from nodes.remoting.command import Command, request
from nodes.remoting.frame import encode

P = ParamSpec("P")
T = TypeVar("T")

INDEX_PIECE: Final = 100_000
ESTABLISHED: Final = "01"
METADATA_POLL_S: Final = 0.5
DISPATCH_POLL_S: Final = 0.1
DISPATCH_MOST: Final = 4  # times as long at most, while it comes nearer or does not answer
SCHEDULE_TOPIC: Final = "SCHEDULE_TOPIC_XXXX"
# JVMs start slowly, and a group that elects hears nothing for up to 8 s before it votes.
PATIENCE: Final = Patience(ask_s=2.0, start_s=120.0, resume_s=30.0, promote_s=120.0, elect_s=40.0)
CONTROLLER_KEYS: Final = ("enableControllerMode", "enableControllerInNamesrv")
STORE_TYPE: Final = "storeType"
FILE_STORE: Final = "default"
PING_S: Final = 5.0  # one that is given up is worked off all the same, and a JVM that starts has enough to do
ASK_S: Final = 3.0
STATUS_S: Final = 4.0  # for all questions of a status: checkers take 5 s without a word for not having looked
UNHEEDED: Final = ("flushDiskType", "inSyncReplicas", "slaveTimeout")  # by DLedger groups
# 4.x with the first compiler only: a JVM that starts under load, or again after a kill, is busy with the second one for
# longer than a run lasts. Not 5.x: its brokers compare 37 MB byte by byte every second (TimerWheel.flush), to which
# the first compiler's code gives three quarters of a core, in every broker.
QUICK_START: Final[Mapping[int, tuple[str, ...]]] = {4: ("-XX:TieredStopAtLevel=1",), 5: ()}
READY_S: Final = 240.0  # eight JVMs that start at once on two busy cores


def release_of(plan: Plan) -> Release:
    """The release that a plan names, which must be on this machine. Raises PlanError or SetupError."""
    if not plan.cluster.version:
        raise PlanError("system rocketmq needs a version: --version 5.3.3, or the folder of an unpacked release")
    try:
        return release(plan.cluster.version, "server")
    except ReleaseMissing as missing:
        raise SetupError(str(missing)) from None


def check_rocketmq(plan: Plan) -> list[str]:
    """Refuse what a release cannot do, before anything starts; keys that it heeds in another mode only are returned.

    Raises PlanError, SetupError without the release.
    """
    found = release_of(plan)
    if plan.cluster.mode == CONTROLLER:
        from lab.systems.rocketmq.controlled import check_controlled

        check_controlled(plan, found)
        return []
    _not_by_controller(plan)
    without_effect: list[str] = []
    if elects(plan):
        group = topology_of(plan).groups[0]
        translated(found, "broker", member_settings(group, group.nodes[0], lambda node: node))
        without_effect += [key for key in UNHEEDED if key in settings_of(plan, master=True)]
    for master in (True, False):
        translated(found, "broker", settings_of(plan, master=master))
    translated(found, "namesrv", {key: truth(value) for key, value in plan.namesrv.items()})
    without_flaws(plan)
    with_readable_queues(plan)
    return without_effect


def without_flaws(plan: Plan) -> None:
    """Raise PlanError for planted flaws, which a release cannot have."""
    if plan.flaws:
        raise PlanError("flaws are planted in our own nodes only: leave them out with system rocketmq")


def with_readable_queues(plan: Plan) -> None:
    """Raise PlanError for a store (5.x) whose consume queues are no files of entries, as the lab reads them."""
    tables = {"broker": plan.broker, "master": plan.master, "slave": plan.slave}
    for table, settings in tables.items():
        if truth(settings.get(STORE_TYPE, FILE_STORE)) != FILE_STORE:
            raise PlanError(
                f"{STORE_TYPE} in [{table}]: the lab reads consume queues from a broker's files, which only a store of "
                f"type {FILE_STORE} has: leave it out"
            )


def _not_by_controller(plan: Plan) -> None:
    """A controller would choose masters behind the back of the lab, which takes them for those of the plan."""
    tables = {"broker": plan.broker, "master": plan.master, "slave": plan.slave, "namesrv": plan.namesrv}
    for table, settings in tables.items():
        for key in CONTROLLER_KEYS:
            if truth(settings.get(key, "false")) == "true":
                raise PlanError(
                    f"{key} in [{table}]: in mode {plan.cluster.mode} no controller appoints masters; set "
                    f'cluster.mode = "{CONTROLLER}", which sets this key'
                )


class RocketMQSystem(PythonSystem):
    """One release of Apache RocketMQ."""

    name: str = "rocketmq"
    log_patterns: tuple[LogPattern, ...] = (
        LogPattern("jvm-crash", "A fatal error has been detected by the Java Runtime", "violation"),
        LogPattern("out-of-memory", "java.lang.OutOfMemoryError", "violation"),
        LogPattern("exception", "Exception in thread", "note"),
    )
    ready_s: float = READY_S
    patience: Patience = PATIENCE
    ask_s: float = ASK_S
    status_s: float = STATUS_S
    # 4.x writes where the lab's own configuration says, 5.x below its home
    log_files: tuple[str, ...] = ("stderr", "*-release.log", "home/logs/rocketmqlogs/*.log")
    dispatch_s: float = 5.0  # a dispatcher that stood still for longer, and answers, has lost what it lacks

    def __init__(self, plan: Plan, topology: Topology, folder: RunDir, hosts: Hosts) -> None:
        self.release = release_of(plan)
        self.name = f"rocketmq {self.release.version}"
        self._terms = dict.fromkeys((group.name for group in topology.groups), 0)
        self._held = {group.master: 0 for group in topology.groups}  # the term in which each was made master
        self._created: set[tuple[str, str]] = set()
        self._led = {group.name: group.master for group in topology.groups}
        self._parts: dict[str, tuple[str, tuple[str, str]]] = {}  # when a broker started, its role and its id
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-files")
        super().__init__(plan, topology, folder, hosts)

    # --- configuration

    def assign(self, node: str, part: Assigned) -> None:
        """Change the part; a group that gets another master gets another term."""
        group = self._topology.group_of(node)
        if group is not None and part.master and self._led[group.name] != node:
            self._led[group.name] = node
            self._terms[group.name] += 1
            self._held[node] = self._terms[group.name]
        super().assign(node, part)

    def prepare(self, node: str) -> NodeSpec:
        """Write the property file as assigned now; the store stays as it is."""
        folder = self._folder.node(node).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        kind = self._kind(node)
        (folder / f"{kind}.conf").write_text(write_properties(self._settings(node)), encoding="utf-8")
        program = java_program(self.release, kind, folder, QUICK_START[self.release.line])
        return NodeSpec(
            name=node,
            host=node,
            argv=program.argv,
            port=self._port(node),
            folder=self._folder.node(node),
            ping=encode(self._ping(kind)),
            ping_s=PING_S,
            store=self._folder.node(node) / "store",
            env=program.env,
            cwd=folder,
        )

    def _settings(self, node: str) -> dict[str, str]:
        if self._kind(node) == "namesrv":
            settings = {key: truth(value) for key, value in self._plan.namesrv.items()}
            return translated(self.release, "namesrv", settings) | {"listenPort": str(NAMESRV_PORT)}
        group = self._topology.group_of(node)
        if group is None:
            raise KeyError(node)
        part = self._assigned[node]
        settings = translated(self.release, "broker", settings_of(self._plan, master=part.master))
        settings |= {
            "brokerClusterName": CLUSTER,
            "brokerName": group.name,
            "brokerId": str(part.broker_id),
            "brokerRole": part.role,
            "brokerIP1": self._hosts.address(node),
            "brokerIP2": self._hosts.address(node),
            "listenPort": str(BROKER_PORT),
            "namesrvAddr": ";".join(self.name_servers),
            "storePathRootDir": str(self._folder.node(node).resolve() / "store"),
            "storePathCommitLog": str(self._folder.node(node).resolve() / "store" / "commitlog"),
        }
        settings.setdefault("autoCreateTopicEnable", "false")
        settings.setdefault("registerNameServerPeriod", "10000")
        return settings

    def _kind(self, node: str) -> str:
        return "namesrv" if node in self._topology.namesrvs else "broker"

    def _ping(self, kind: str) -> Command:
        return request(RequestCode.GET_NAMESRV_CONFIG if kind == "namesrv" else RequestCode.GET_BROKER_RUNTIME_INFO)

    # --- questions

    async def unlike(self, node: str) -> list[str]:
        """What the broker's effective settings differ in from its file; all of them are stored beside it."""
        effective = await self._effective(node)
        if effective is None:
            return [f"{node} did not tell its settings"]
        path = self._folder.node(node) / "effective.properties"
        path.write_text(write_properties(dict(sorted(effective.items()))), encoding="utf-8")
        return [f"{node}: {words}" for words in differences(self._lasting(node), effective)]

    def _lasting(self, node: str) -> dict[str, str]:
        """What of the broker's file must still be so while it runs."""
        return self._settings(node)

    async def status(self, node: str) -> NodeStatus | None:
        """What the broker is; None if it does not tell in time, or its files are taken away meanwhile."""
        try:
            async with asyncio.timeout(self.status_s):
                return await self._status(node)
        except (TimeoutError, FileNotFoundError):
            return None

    async def _status(self, node: str) -> NodeStatus | None:
        """Role by GET_BROKER_CONFIG, ends by the runtime information, slaves by asking them."""
        runtime = await self._runtime(node)
        part = None if runtime is None else await self._part(node, runtime.get("bootTimestamp", ""))
        group = self._topology.group_of(node)
        if part is None or runtime is None or group is None:
            return None
        role, broker_id = part
        master = role in ("SYNC_MASTER", "ASYNC_MASTER")
        slaves = await self._slaves(node) if master else ()
        acks = [int(slave["ack"]) for slave in slaves if slave["connected"]]
        copies = copies_of(settings_of(self._plan, master=True) | {"brokerRole": role}) if master else 1
        # A master that was replaced and still runs is one of its own, older term.
        term = (self._held.get(node, 0) if master else self._terms[group.name], "")
        begin, end = ends_of(runtime)
        queues = await self._read(self._store(node).queues)
        raw = {
            "role": role,
            "brokerId": broker_id,
            "epoch": {"number": term[0], "id": ""},
            "epochs": [],
            "min": begin,
            "max": end,
            "slaveAck": max(acks, default=None),
            "slaves": list(slaves),
            "confirm": end if copies == 1 else min(end, max(acks, default=begin)),
            "copies": copies,
            "state": "serving",
        }
        return NodeStatus(
            node=node,
            master=master,
            broker_id=int(broker_id or "-1"),
            epoch=term,
            epochs=(),
            begin=begin,
            end=end,
            slave_ack=max(acks, default=None),
            slaves=slaves,
            serving=True,
            queues=queues,
            raw=raw,
            delayed=delayed_of(runtime, queues),
        )

    async def create_topic(self, node: str, topic: str, queues: int) -> str:
        """On a master, once; for the load's own, slaves must have copied the table of topics, 5.x once a minute."""
        if (node, topic) not in self._created:
            refusal = await super().create_topic(node, topic, queues)
            if refusal:
                return refusal
            self._created.add((node, topic))
        group = self._topology.group_of(node)
        if group is None or not self._plan.cluster.topic_on_slaves or topic != self._plan.load.topic:
            return ""
        others = [other for other in group.nodes if other != node]  # any member may have been elected
        lacking = [slave for slave in others if not await self._knows(slave, topic)]
        if lacking:
            await asyncio.sleep(METADATA_POLL_S)
        return f"{', '.join(lacking)} did not get it from the master yet" if lacking else ""

    async def change_role(self, node: str, part: Assigned) -> str:
        """Not by a call: a plain master/slave broker of RocketMQ plays the part that its file says at its start."""
        raise LeverError(f"{node} can become {part.role} by a restart only; set cluster.promote_by = restart")

    async def read_log(self, node: str, offset: int) -> LogPiece | None:
        """From the files, up to the end that the broker tells."""
        ends = await self._ends(node)
        return None if ends is None else await self._unless_gone(self._store(node).read_log, offset, ends[1])

    async def indexed(self, status: NodeStatus) -> Collection[tuple[str, int]] | None:
        """The queues, once the dispatcher that writes them has come to the end of the log, or stands still before it.

        What it is behind is told of what it may dispatch, which is not always the end of the log: of a slave in
        controller mode it is what that slave has heard to be confirmed, and of 5.3 with SYNC_FLUSH what is synced. So
        the queues themselves must lead there. One that does not tell how far it is, or still comes nearer, may be
        short of processor time: nobody knows then what it has lost.
        """
        clock = asyncio.get_running_loop().time
        node, goal, begun = status.node, self._indexed_goal(status), clock()
        seen, since, there = None, begun, False
        while True:
            runtime = await self._runtime(node)
            if runtime is None:
                seen = None
            else:
                behind = int(runtime.get("dispatchBehindBytes", "0"))
                end = await self._unless_gone(self._store(node).indexed_end) or 0
                there = end >= goal
                if there and behind <= 0:
                    break
                if seen != (behind, end):
                    seen, since = (behind, end), clock()
                elif clock() - since >= self.dispatch_s:
                    break
            if clock() - begun >= DISPATCH_MOST * self.dispatch_s:
                if there:
                    break
                return None
            await asyncio.sleep(DISPATCH_POLL_S)
        queues = await self._unless_gone(self._store(node).queues)
        return None if queues is None else sorted({queue_of(key) for key in (*status.queues, *queues)})

    async def read_index(self, node: str, topic: str, queue_id: int, offset: int) -> tuple[bytes, int, int] | None:
        """From the files."""
        return await self._unless_gone(self._store(node).read_index, topic, queue_id, offset, INDEX_PIECE)

    async def close(self) -> None:
        """Close the side channel, and give up what is still being read."""
        self._reader.shutdown(wait=False, cancel_futures=True)
        await super().close()

    # --- inside

    def _indexed_goal(self, status: NodeStatus) -> int:
        """The log offset to which the queues of this replica must lead."""
        return status.end

    async def _read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Read files in a thread beside the loop: the lab goes on looking at all nodes while it has much to read.

        In one thread, so that nobody reads the same files at the same time; what is given up is read to its end there.
        """
        return await asyncio.wrap_future(self._reader.submit(function, *args, **kwargs))

    async def _unless_gone(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Read files; None if they are taken away meanwhile, as a fault does that destroys the node."""
        try:
            return await self._read(function, *args, **kwargs)
        except FileNotFoundError:
            return None

    def _store(self, node: str) -> StoreFiles:
        return StoreFiles(self._folder.node(node) / "store")

    async def _knows(self, node: str, topic: str) -> bool:
        answer = await self._call(node, request(RequestCode.GET_TOPIC_STATS_INFO, {"topic": topic}))
        return answer is not None and answer.code == ResponseCode.SUCCESS

    async def _part(self, node: str, boot: str) -> tuple[str, str] | None:
        """Role and id, which a broker keeps as long as it runs: its configuration is a long answer, so it is asked for
        once a start, or a busy JVM does little else than answer the lab."""
        known, part = self._parts.get(node, ("", ("", "")))
        if boot and known == boot:
            return part
        effective = await self._effective(node)
        if effective is None:
            return None
        part = (effective.get("brokerRole", ""), effective.get("brokerId", ""))
        self._parts[node] = (boot, part)
        return part

    async def _effective(self, node: str) -> dict[str, str] | None:
        answer = await self._call(node, request(RequestCode.GET_BROKER_CONFIG), READ_TIMEOUT_S)
        if answer is None or answer.code != ResponseCode.SUCCESS:
            return None
        pairs = (line.partition("=") for line in answer.body.decode(errors="replace").splitlines())
        return {key.strip(): value.strip() for key, equals, value in pairs if equals}

    async def _ends(self, node: str) -> tuple[int, int] | None:
        """Begin and end of the commit log, as the broker tells."""
        runtime = await self._runtime(node)
        return None if runtime is None else ends_of(runtime)

    async def _runtime(self, node: str) -> dict[str, str] | None:
        answer = await self._call(node, request(RequestCode.GET_BROKER_RUNTIME_INFO))
        if answer is None or answer.code != ResponseCode.SUCCESS:
            return None
        body = fastjson.loads(answer.body)
        runtime = body.get("table") if isinstance(body, dict) else None
        if not isinstance(runtime, dict):
            return None
        return {str(key): str(value) for key, value in runtime.items()}

    async def _slaves(self, master: str) -> tuple[Mapping[str, Any], ...]:
        """The slaves of a master's group: which are linked to it, and how far each is."""
        group = self._topology.group_of(master)
        if group is None:
            return ()
        others = [n for n in (*group.nodes, *group.spares) if n != master and not self._assigned[n].master]
        linked = self._linked(master)
        ends = await asyncio.gather(*(self._ends(node) for node in others))
        return tuple(
            {
                "id": self._assigned[node].broker_id,
                "ack": end[1],
                "connected": self._hosts.address(node) in linked,
                "peer": self._hosts.address(node),
            }
            for node, end in zip(others, ends, strict=True)
            if end is not None
        )

    def _linked(self, master: str) -> set[str]:
        """Addresses with an established connection to the master's replication port, by the kernel of its host."""
        with self._hosts.run_inside(master):
            lines = []
            for table in ("tcp", "tcp6"):
                try:
                    with open(f"/proc/thread-self/net/{table}", encoding="ascii") as rows:
                        lines += rows.readlines()[1:]
                except OSError:
                    continue
        found = set()
        for line in lines:
            _, local, remote, state = line.split()[:4]
            if state == ESTABLISHED and int(local.rpartition(":")[2], 16) == HA_PORT:
                found.add(address_of(remote.rpartition(":")[0]))
        return found


def address_of(text: str) -> str:
    """An IPv4 address as the kernel's table of connections writes it, alone or at the end of a mapped IPv6 one."""
    return socket.inet_ntoa(struct.pack("=I", int(text[-8:], 16)))


def ends_of(runtime: Mapping[str, str]) -> tuple[int, int]:
    """Begin and end of the commit log in the runtime information of a broker."""
    return max(0, int(runtime["commitLogMinOffset"])), int(runtime["commitLogMaxOffset"])


def delayed_of(runtime: Mapping[str, str], queues: Mapping[str, Mapping[str, int]]) -> int:
    """Delayed messages that do not lie under their own topic yet.

    A level that has delivered nothing so far is not among the runtime information (RocketMQ class
    ScheduleMessageService, `scheduleMessageOffset_LEVEL`: next to deliver, end), so the ends are those of the queues.
    """
    waiting = 0
    for name, bounds in queues.items():
        topic, _, queue_id = name.rpartition("@")
        if topic == SCHEDULE_TOPIC:
            done = runtime.get(f"scheduleMessageOffset_{int(queue_id) + 1}", "0").partition(",")[0]
            waiting += max(0, bounds["max"] - int(done))
    return waiting
