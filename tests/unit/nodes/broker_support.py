"""Brokers on loopback for tests: real sockets, real files, raw commands."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from nodes.broker.broker import Broker
from nodes.broker.roles import RoleKeeper
from nodes.config import BrokerConfig, BrokerRole, FlushDiskType
from nodes.flaws import Flaw
from nodes.log import EventLog
from nodes.remoting.client import RemotingClient
from nodes.remoting.codes import RequestCode
from nodes.remoting.command import Command, request
from nodes.remoting.connection import Connection
from nodes.remoting.message import StoredMessage, decode_records
from nodes.remoting.server import RemotingServer
from nodes.replication.following import Replica
from nodes.store.disk import Disk, File, RealDisk

PATIENCE_S = 30.0
_starts = itertools.count()
ASYNC, SYNC, SLAVE = BrokerRole.ASYNC_MASTER, BrokerRole.SYNC_MASTER, BrokerRole.SLAVE


async def until(condition: Callable[[], bool], what: str = "condition") -> None:
    """Wait for something that becomes true soon, with a deadline far beyond the usual."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
    while not condition():
        assert loop.time() < deadline, f"{what} did not come true"
        await asyncio.sleep(0.005)


async def until_true(condition: Callable[[], Awaitable[bool]], what: str = "condition") -> None:
    """The same for a condition that has to ask."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
    while not await condition():
        assert loop.time() < deadline, f"{what} did not come true"
        await asyncio.sleep(0.01)


class GatedDisk(RealDisk):
    """A disk whose log syncs wait at a gate, or fail."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False
        self.syncs = 0

    async def sync_async(self, files: Sequence[File], folders: Sequence[str]) -> None:
        self.syncs += 1
        await self.gate.wait()
        if self.broken:
            raise OSError(5, "Input/output error")
        await super().sync_async(files, folders)


@dataclass
class Node:
    """A running broker and a connection to it."""

    broker: Broker
    client: RemotingClient
    pushed: list[Command] = field(default_factory=list)
    """Requests that the broker sent to us."""

    @property
    def address(self) -> str:
        return f"{self.broker.config.broker_ip1}:{self.broker.port}"

    @property
    def keeper(self) -> RoleKeeper:
        """Of a broker outside any elected group."""
        assert isinstance(self.broker.roles, RoleKeeper)
        return self.broker.roles

    @property
    def replica(self) -> Replica:
        """Of a slave that knows its master's address."""
        assert self.keeper.replica is not None
        return self.keeper.replica

    @property
    def in_sync(self) -> int:
        """Slaves that are in sync with this master; 0 as long as it is none."""
        return 0 if self.keeper.primary is None else self.keeper.primary.in_sync()

    @property
    def ha_address(self) -> str:
        return self.broker.roles.own_ha_address

    async def ask(self, code: int, ext: dict[str, Any] | None = None, body: bytes = b"") -> Command:
        texts = {key: _text(value) for key, value in (ext or {}).items()}
        return await self.client.call(self.address, request(code, texts, body), PATIENCE_S)

    async def send(self, body: bytes, topic: str = "T", queue: int = 0, **more: Any) -> Command:
        ext = {
            "a": "P",
            "b": topic,
            "c": "TBW102",
            "d": 4,
            "e": queue,
            "f": more.pop("sys_flag", 0),
            "g": 1_700_000_000_000,
            "h": 0,
            "i": more.pop("properties", ""),
            "j": more.pop("tried", 0),
            **more,
        }
        return await self.ask(RequestCode.SEND_MESSAGE_V2, ext, body)

    async def pull(self, offset: int, topic: str = "T", queue: int = 0, **more: Any) -> Command:
        ext = {
            "consumerGroup": "g",
            "topic": topic,
            "queueId": queue,
            "queueOffset": offset,
            "maxMsgNums": 32,
            "sysFlag": 4,
            "commitOffset": 0,
            "suspendTimeoutMillis": 0,
            "subscription": "*",
            "subVersion": 0,
            **more,
        }
        return await self.ask(RequestCode.PULL_MESSAGE, ext)

    async def messages(self, topic: str = "T", queue: int = 0) -> list[StoredMessage]:
        """Everything that can be read of a queue; of a topic that is not there, nothing."""
        found: list[StoredMessage] = []
        begin = await self.ask(RequestCode.GET_MIN_OFFSET, {"topic": topic, "queueId": queue})
        if begin.code != 0:
            return found
        offset = int(begin.ext["offset"])
        while True:
            answer = await self.pull(offset, topic, queue)
            if answer.code != 0:
                return found
            found += decode_records(answer.body)
            offset = int(answer.ext["nextBeginOffset"])

    async def bodies(self, topic: str = "T", queue: int = 0) -> list[bytes]:
        return [message.body for message in await self.messages(topic, queue)]

    async def status(self) -> dict[str, Any]:
        answer = await self.ask(RequestCode.LAB_STATUS)
        assert answer.code == 0
        status: dict[str, Any] = json.loads(answer.body)
        return status

    async def commit(self, offset: int, topic: str = "T", queue: int = 0, group: str = "g") -> Command:
        ext = {"consumerGroup": group, "topic": topic, "queueId": queue, "commitOffset": offset}
        return await self.ask(RequestCode.UPDATE_CONSUMER_OFFSET, ext)

    async def committed(self, topic: str = "T", queue: int = 0, group: str = "g") -> int | None:
        ext = {"consumerGroup": group, "topic": topic, "queueId": queue, "setZeroIfNotFound": False}
        answer = await self.ask(RequestCode.QUERY_CONSUMER_OFFSET, ext)
        return int(answer.ext["offset"]) if answer.code == 0 else None

    async def heartbeat(self, client_id: str, topic: str = "T", group: str = "g", version: int = 1) -> Command:
        body = {
            "clientID": client_id,
            "producerDataSet": [{"groupName": "P"}],
            "consumerDataSet": [
                {
                    "groupName": group,
                    "consumeType": "CONSUME_PASSIVELY",
                    "messageModel": "CLUSTERING",
                    "consumeFromWhere": "CONSUME_FROM_LAST_OFFSET",
                    "subscriptionDataSet": [
                        {"topic": topic, "subString": "*", "tagsSet": [], "codeSet": [], "subVersion": version}
                    ],
                    "unitMode": False,
                }
            ],
        }
        return await self.ask(RequestCode.HEART_BEAT, body=json.dumps(body).encode())


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def settings(root: Path, name: str = "a", **more: Any) -> BrokerConfig:
    """Settings for a broker with a store of its own below `root`."""
    values: dict[str, Any] = {
        "broker_cluster_name": "C",
        "broker_name": "broker-a",
        "listen_port": 0,
        "store_path_root_dir": str(root / name),
        "mapped_file_size_commit_log": 1024 * 1024,
        "flush_interval_commit_log": 20,
        **more,
    }
    if values.get("broker_role") is SLAVE:
        values.setdefault("broker_id", 1)
    return BrokerConfig(**values)


@asynccontextmanager
async def running(
    config: BrokerConfig, *, disk: Disk | None = None, config_path: str | None = None
) -> AsyncIterator[Node]:
    """A broker for the length of the block."""
    log = EventLog("broker")
    broker = Broker(
        config, log, config_path=config_path, disk=disk, rng=Random(f"{config.store_path_root_dir} {next(_starts)}")
    )
    await broker.open()
    pushed: list[Command] = []

    def on_request(connection: Connection, command: Command) -> Command | None:
        pushed.append(command)
        return command.reply(body=b"{}")

    client = RemotingClient(on_request=on_request)
    try:
        yield Node(broker, client, pushed)
    finally:
        await client.close()
        if broker.core.serving.ready:
            await broker.close()


@asynccontextmanager
async def pair(root: Path, role: BrokerRole = SYNC, **more: Any) -> AsyncIterator[tuple[Node, Node]]:
    """A master with a slave that follows it."""
    async with running(settings(root, "a", broker_role=role, **more)) as master:
        slave_config = settings(root, "b", broker_role=SLAVE, ha_master_address=master.ha_address, **more)
        async with running(slave_config) as slave:
            await until(lambda: master.in_sync == 1, "the slave follows")
            yield master, slave


class FakeNameServer:
    """Remembers registrations and names a master."""

    def __init__(self) -> None:
        self.registrations: list[Command] = []
        self.unregistered: list[Command] = []
        self.master: tuple[str, str] | None = None
        self.address = ""
        self.server = RemotingServer(self._handle, log=EventLog("namesrv"))

    async def start(self, port: int = 0) -> FakeNameServer:
        self.address = f"127.0.0.1:{await self.server.start('127.0.0.1', port)}"
        return self

    def _handle(self, connection: Connection, command: Command) -> Command:
        if command.code == RequestCode.UNREGISTER_BROKER:
            self.unregistered.append(command)
            return command.reply()
        self.registrations.append(command)
        if self.master is not None and command.ext["brokerId"] != "0":
            return command.reply(ext={"masterAddr": self.master[0], "haServerAddr": self.master[1]})
        return command.reply()


__all__ = [
    "ASYNC",
    "PATIENCE_S",
    "SLAVE",
    "SYNC",
    "FakeNameServer",
    "Flaw",
    "FlushDiskType",
    "GatedDisk",
    "Node",
    "pair",
    "running",
    "settings",
    "until",
    "until_true",
]
