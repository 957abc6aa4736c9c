"""Our own nodes as a system under test: property files in RocketMQ's format, ``python -m nodes``, private status codes.

Control never shares a wire with the experiment: each question enters the node's own host and speaks to the node there.
"""

import asyncio
import struct
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec

from lab.cluster.hosts import Hosts
from lab.cluster.supervisor import NodeSpec
from lab.elections import elections
from lab.plan import Plan
from lab.rundir import RunDir
from lab.systems.dledger import LEADER, elects, listings, member_id, member_settings, raft_view
from lab.systems.log_entries import LogEntry, plain_entries
from lab.systems.system import Assigned, Listing, LogPattern, LogPiece, NodeStatus, queue_of
from lab.topology import BROKER_PORT, HA_PORT, MEMBER_PORT, NAMESRV_PORT, Group, Topology, flush_of, settings_of, truth
from nemesis.world import LeverError, Patience
from nodes.config import write_properties
from nodes.remoting import fastjson
from nodes.remoting.client import CallError, RemotingClient
from nodes.remoting.codes import RequestCode, ResponseCode
from nodes.remoting.command import Command, request
from nodes.remoting.frame import encode

CLUSTER: Final = "DefaultCluster"
ASK_TIMEOUT_S: Final = 1.0
READ_TIMEOUT_S: Final = 10.0
ROLE_TIMEOUT_S: Final = 15.0
MEMBER_TIMEOUT_S: Final = 20.0
ROUTE_TIMEOUT_S: Final = 0.5
LOG_PIECE: Final = 4 * 1024 * 1024
INDEX_PIECE: Final = 100_000
PACKAGE_ROOT: Final = Path(__file__).resolve().parents[2]
GROUP_CHANGE_MEMBER: Final = 19005
GROUP_TRANSFER: Final = 19006
INDEX_ENTRY: Final = struct.Struct(">qiq")


class PythonSystem:
    """The cluster of this project."""

    name: str = "python"
    not_applicable: Mapping[str, str] = MappingProxyType({})
    log_patterns: tuple[LogPattern, ...] = (
        LogPattern("failed-fsync", '"event":"store-failed"', "note"),
        LogPattern("unhandled", '"event":"unhandled-exception"', "violation"),
        LogPattern("traceback", "Traceback (most recent call last)", "violation"),
    )
    log_files: tuple[str, ...] = ("log.jsonl", "stderr")
    ready_s: float = 0.0
    patience: Patience = Patience()
    ask_s: float = ASK_TIMEOUT_S

    def __init__(self, plan: Plan, topology: Topology, folder: RunDir, hosts: Hosts) -> None:
        self._plan = plan
        self._topology = topology
        self._folder = folder
        self._hosts = hosts
        self._assigned: dict[str, Assigned] = {}
        self._clients: dict[tuple[str, str], RemotingClient] = {}
        for group in topology.groups:
            role = truth(plan.master.get("brokerRole", plan.broker.get("brokerRole", "ASYNC_MASTER")))
            self._assigned[group.master] = Assigned(role, 0)
            for broker_id, node in enumerate((*group.slaves, *group.spares), 1):
                self._assigned[node] = Assigned("SLAVE", broker_id)

    # --- configuration

    @property
    def name_servers(self) -> tuple[str, ...]:
        """Addresses of all name servers."""
        return tuple(f"{self._hosts.address(node)}:{NAMESRV_PORT}" for node in self._topology.namesrvs)

    def address(self, node: str) -> str:
        """``ip:port`` where the node serves."""
        return f"{self._hosts.address(node)}:{self._port(node)}"

    def node_at(self, address: str) -> str | None:
        """The node that serves at this address."""
        return self._hosts.name_at(address.rpartition(":")[0])

    def assigned(self, node: str) -> Assigned:
        """The part that the broker is meant to play."""
        return self._assigned[node]

    def assign(self, node: str, part: Assigned) -> None:
        """Change that part; takes effect with `prepare` and the next start."""
        self._assigned[node] = part

    def prepare(self, node: str) -> NodeSpec:
        """Write the property file as assigned now; the store stays as it is."""
        folder = self._folder.node(node)
        folder.mkdir(parents=True, exist_ok=True)
        kind = "namesrv" if node in self._topology.namesrvs else "broker"
        conf = folder / f"{kind}.conf"
        settings = self._namesrv(node) if kind == "namesrv" else self._broker(node)
        conf.write_text(write_properties(settings), encoding="utf-8")
        log = str(folder / "log.jsonl")
        argv = (sys.executable, "-m", "nodes", kind, "-c", str(conf), "--log", log, "--name", node)
        return NodeSpec(
            name=node,
            host=node,
            argv=argv,
            port=self._port(node),
            folder=folder,
            ping=encode(self._ping(kind)),
            store=folder / "store",
            # kept even where the caller's environment forbids it, or every start would compile all modules anew
            env={"PYTHONPATH": str(PACKAGE_ROOT), "PYTHONDONTWRITEBYTECODE": ""},
            cwd=folder,
        )

    def _broker(self, node: str) -> dict[str, str]:
        group = self._topology.group_of(node)
        if group is None:
            raise KeyError(node)
        part = self._assigned[node]
        settings = settings_of(self._plan, master=part.master)
        settings |= {
            "brokerClusterName": CLUSTER,
            "brokerName": group.name,
            "brokerIP1": self._hosts.address(node),
            "listenPort": str(BROKER_PORT),
            "namesrvAddr": ";".join(self.name_servers),
            "storePathRootDir": str(self._folder.node(node) / "store"),
        }
        if elects(self._plan):
            settings |= member_settings(group, node, self._hosts.address)
            settings["flushDiskType"] = flush_of(settings, self._plan.cluster)
        else:
            settings |= {"brokerId": str(part.broker_id), "brokerRole": part.role, "haListenPort": str(HA_PORT)}
        settings.setdefault("autoCreateTopicEnable", "false")
        settings.setdefault("registerNameServerPeriod", "10000")
        if self._plan.flaws:
            settings["flaws"] = ",".join(self._plan.flaws)
        return settings

    def _namesrv(self, node: str) -> dict[str, str]:
        settings = {key: truth(value) for key, value in self._plan.namesrv.items()}
        settings |= {
            "listenPort": str(NAMESRV_PORT),
            "bindAddress": self._hosts.address(node),
            "rocketmqHome": str(self._folder.node(node) / "store"),
        }
        if self._plan.flaws:
            settings["flaws"] = ",".join(self._plan.flaws)
        return settings

    def _port(self, node: str) -> int:
        return NAMESRV_PORT if node in self._topology.namesrvs else BROKER_PORT

    def _ping(self, kind: str) -> Command:
        return request(RequestCode.GET_NAMESRV_CONFIG if kind == "namesrv" else RequestCode.LAB_STATUS)

    # --- questions through the side channel

    async def _call(
        self,
        node: str,
        command: Command,
        timeout_s: float | None = None,
        *,
        asker: str | None = None,
        port: int | None = None,
    ) -> Command | None:
        """Ask from inside the node's own host, or from another one over the wires of the experiment."""
        timeout_s = self.ask_s if timeout_s is None else timeout_s
        place = (asker or node, node)
        client = self._clients.get(place)
        if client is None:
            client = RemotingClient(connect_timeout_s=timeout_s, socket_factory=self._hosts.socket_factory(place[0]))
            self._clients[place] = client
        try:
            address = self.address(node) if port is None else f"{self._hosts.address(node)}:{port}"
            return await client.call(address, command, timeout_s)
        except CallError:
            return None

    async def status(self, node: str) -> NodeStatus | None:
        """LAB_STATUS of a broker; None if it does not answer."""
        answer = await self._call(node, request(RequestCode.LAB_STATUS))
        if answer is None or answer.code != ResponseCode.SUCCESS:
            return None
        return read_status(node, msgspec.json.decode(answer.body), self._topology.group_of(node))

    async def masters(self, namesrv: str) -> Mapping[str, str | None] | None:
        """The master of each group by the name server's cluster table; None if it does not answer."""
        answer = await self._call(namesrv, request(RequestCode.GET_BROKER_CLUSTER_INFO))
        if answer is None or answer.code != ResponseCode.SUCCESS:
            return None
        table = fastjson.loads(answer.body)
        brokers: dict[str, Any] = table.get("brokerAddrTable", {}) if isinstance(table, dict) else {}
        found: dict[str, str | None] = {}
        for group in self._topology.groups:
            addresses = brokers.get(group.name, {}).get("brokerAddrs", {})
            master = next((address for key, address in addresses.items() if str(key) == "0"), None)
            found[group.name] = None if master is None else self.node_at(str(master))
        return found

    async def change_role(self, node: str, part: Assigned) -> str:
        """LAB_CHANGE_ROLE. Raises LeverError with the broker's words."""
        ext = {"brokerId": str(part.broker_id), "brokerRole": part.role}
        answer = await self._call(node, request(RequestCode.LAB_CHANGE_ROLE, ext), ROLE_TIMEOUT_S)
        if answer is None or answer.code != ResponseCode.SUCCESS:
            words = "no answer" if answer is None else answer.remark or f"code {answer.code}"
            raise LeverError(f"{node} did not become {part.role}: {words}")
        return f"{node} became {part.role} by one admin call"

    async def create_topic(self, node: str, topic: str, queues: int) -> str:
        """UPDATE_AND_CREATE_TOPIC on one master."""
        ext = {
            "topic": topic,
            "defaultTopic": "TBW102",
            "readQueueNums": str(queues),
            "writeQueueNums": str(queues),
            "perm": "6",
            "topicFilterType": "SINGLE_TAG",
            "topicSysFlag": "0",
            "order": "false",
        }
        answer = await self._call(node, request(RequestCode.UPDATE_AND_CREATE_TOPIC, ext), READ_TIMEOUT_S)
        if answer is None:
            return f"{node} did not answer"
        return "" if answer.code == ResponseCode.SUCCESS else f"{node}: {answer.remark or answer.code}"

    async def topic_known(self, namesrv: str, topic: str, groups: int) -> bool:
        """GET_ROUTEINFO_BY_TOPIC: a master with queues in so many groups."""
        command = request(RequestCode.GET_ROUTEINFO_BY_TOPIC, {"topic": topic, "acceptStandardJsonOnly": "true"})
        answer = await self._call(namesrv, command)
        if answer is None or answer.code != ResponseCode.SUCCESS:
            return False
        route = fastjson.loads(answer.body)
        if not isinstance(route, dict):
            return False
        served = {queue.get("brokerName") for queue in route.get("queueDatas", [])}
        led = {
            broker.get("brokerName")
            for broker in route.get("brokerDatas", [])
            if any(str(key) == "0" for key in broker.get("brokerAddrs", {}))
        }
        return len(served & led) >= groups

    async def route(self, namesrv: str, topic: str, asker: str | None = None) -> Mapping[str, Listing] | None:
        """GET_ROUTEINFO_BY_TOPIC, group by group."""
        command = request(RequestCode.GET_ROUTEINFO_BY_TOPIC, {"topic": topic, "acceptStandardJsonOnly": "true"})
        answer = await self._call(namesrv, command, ROUTE_TIMEOUT_S, asker=asker)
        if answer is None or answer.code not in (ResponseCode.SUCCESS, ResponseCode.TOPIC_NOT_EXIST):
            return None
        if answer.code == ResponseCode.TOPIC_NOT_EXIST:
            return {}
        route = fastjson.loads(answer.body)
        return listings(route, self.node_at) if isinstance(route, dict) else None

    # --- groups that elect

    async def add_member(self, leader: str, node: str) -> str:
        """GROUP_CHANGE_MEMBER: a learner first, a voter when it has caught up."""
        ext = {"action": "add", "member": member_id(node), "address": f"{self._hosts.address(node)}:{MEMBER_PORT}"}
        ext["timeoutMillis"] = str(int(MEMBER_TIMEOUT_S * 900))
        return await self._admin(leader, GROUP_CHANGE_MEMBER, ext, f"added {node}")

    async def remove_member(self, leader: str, node: str) -> str:
        """GROUP_CHANGE_MEMBER: remove."""
        ext = {"action": "remove", "member": member_id(node)}
        return await self._admin(leader, GROUP_CHANGE_MEMBER, ext, f"removed {node}")

    async def hand_over(self, leader: str, node: str) -> str:
        """GROUP_TRANSFER."""
        done = f"{leader} was asked to hand over to {node}"
        return await self._admin(leader, GROUP_TRANSFER, {"member": member_id(node)}, done)

    async def _admin(self, leader: str, code: int, ext: dict[str, str], done: str) -> str:
        answer = await self._call(leader, request(code, ext), MEMBER_TIMEOUT_S)
        if answer is None or answer.code != ResponseCode.SUCCESS:
            words = "no answer" if answer is None else answer.remark or f"code {answer.code}"
            raise LeverError(f"{leader} did not: {' '.join(ext.values())}: {words}")
        return done

    async def read_log(self, node: str, offset: int) -> LogPiece | None:
        """LAB_READ_LOG."""
        ext = {"offset": str(offset), "maxBytes": str(LOG_PIECE)}
        answer = await self._call(node, request(RequestCode.LAB_READ_LOG, ext), READ_TIMEOUT_S)
        if answer is None or answer.code != ResponseCode.SUCCESS:
            return None
        return LogPiece(answer.body, int(answer.ext["nextOffset"]), int(answer.ext["maxOffset"]))

    def entries(self, data: bytes, offset: int) -> Iterator[LogEntry]:
        """Plain records."""
        return plain_entries(data, offset)

    async def indexed(self, status: NodeStatus) -> Collection[tuple[str, int]] | None:
        """Those of the status: what our nodes tell to be in their log, or to be committed, they have indexed."""
        return [queue_of(key) for key in status.queues]

    async def read_index(self, node: str, topic: str, queue_id: int, offset: int) -> tuple[bytes, int, int] | None:
        """LAB_READ_INDEX."""
        ext = {"topic": topic, "queueId": str(queue_id), "offset": str(offset), "maxNum": str(INDEX_PIECE)}
        answer = await self._call(node, request(RequestCode.LAB_READ_INDEX, ext), READ_TIMEOUT_S)
        if answer is None or answer.code != ResponseCode.SUCCESS:
            return None
        return answer.body, int(answer.ext["min"]), int(answer.ext["max"])

    async def committed(self, node: str, group: str, topic: str, queue_id: int) -> int | None:
        """QUERY_CONSUMER_OFFSET; a broker that has none answers QUERY_NOT_FOUND."""
        ext = {
            "consumerGroup": group,
            "topic": topic,
            "queueId": str(queue_id),
            "setZeroIfNotFound": "false",
        }
        answer = await self._call(node, request(RequestCode.QUERY_CONSUMER_OFFSET, ext))
        if answer is None or answer.code != ResponseCode.SUCCESS:
            return None
        return int(answer.ext["offset"])

    def elections(self, node: str, start_ns: int, starts: Sequence[int]) -> Iterator[dict[str, Any]]:
        """From ``log.jsonl``."""
        path, group = self._folder.node(node) / "log.jsonl", self._topology.group_of(node)
        return elections(path, node, group, start_ns, starts) if group is not None and path.exists() else iter(())

    async def unlike(self, node: str) -> list[str]:
        """Nothing: our nodes refuse to start with a setting that they would not follow."""
        return []

    async def close(self) -> None:
        """Close all side-channel connections."""
        clients, self._clients = list(self._clients.values()), {}
        await asyncio.gather(*(client.close() for client in clients), return_exceptions=True)


def read_status(node: str, body: Mapping[str, Any], group: Group | None = None) -> NodeStatus:
    """The lab's view of a LAB_STATUS answer."""
    view = None if group is None else raft_view(group, body)
    epochs = tuple((int(e["number"]), str(e["id"]), int(e["start"])) for e in body.get("epochs", []))
    newest = body.get("epoch") or {}
    epoch = (int(newest.get("number", 0)), str(newest.get("id", "")))
    if view is not None:
        epochs, epoch = view.terms, (view.term, view.leader or "")
    ack = body.get("slaveAck")
    return NodeStatus(
        node=node,
        master=str(body.get("role", "")).upper() != "SLAVE" if view is None else view.role == LEADER,
        broker_id=int(body.get("brokerId", -1)),
        epoch=epoch,
        epochs=epochs,
        begin=int(body.get("min", 0)),
        end=int(body.get("max", 0)),
        slave_ack=None if ack is None else int(ack),
        slaves=tuple(body.get("slaves", [])),
        serving=body.get("state") == "serving" if view is None else view.accepts,
        queues=body.get("queues", {}),
        delayed=body.get("delayed"),
        raw=body,
        raft=view,
    )
