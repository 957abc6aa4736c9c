"""A scripted cluster on loopback: name servers and brokers whose answers a test decides, over the real remoting."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from nodes.log import EventLog
from nodes.remoting.codes import RequestCode, ResponseCode
from nodes.remoting.command import Command
from nodes.remoting.server import Connection, RemotingServer

PATIENCE_S = 20.0

Script = Callable[[Connection, Command], Command | None]


async def until(condition: Callable[[], bool], patience_s: float | None = None) -> None:
    """Wait until a condition holds; fails with AssertionError when patience ends."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + (PATIENCE_S if patience_s is None else patience_s)
    while not condition():
        assert loop.time() < deadline_s, "the condition did not come about"
        await asyncio.sleep(0.002)


async def until_told(question: Callable[[], Awaitable[bool]], patience_s: float | None = None) -> None:
    """The same for a condition that must be asked for."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + (PATIENCE_S if patience_s is None else patience_s)
    while not await question():
        assert loop.time() < deadline_s, "the condition did not come about"
        await asyncio.sleep(0.01)


@dataclass
class FakeNode:
    """A server that counts what it is asked and answers from its scripts; without a script it says code 3."""

    scripts: dict[int, Script] = field(default_factory=dict)
    seen: list[Command] = field(default_factory=list)
    address: str = ""
    server: RemotingServer | None = None
    silent: bool = False
    """While set, requests are taken and never answered."""

    async def start(self) -> FakeNode:
        """Listen on a port of the system's choice, or again on the one from before."""
        self.server = RemotingServer(self.handle, log=EventLog("fake"))
        host, _, port = (self.address or "127.0.0.1:0").partition(":")
        self.address = f"{host}:{await self.server.start(host, int(port))}"
        return self

    async def stop(self) -> None:
        """Close the port and all connections."""
        if self.server is not None:
            await self.server.stop()
            self.server = None

    def handle(self, connection: Connection, command: Command) -> Command | None:
        self.seen.append(command)
        if self.silent:
            return None
        script = self.scripts.get(command.code)
        if script is None:
            return command.reply(ResponseCode.REQUEST_CODE_NOT_SUPPORTED)
        return script(connection, command)

    def count(self, code: int) -> int:
        """How many requests with this code came so far."""
        return sum(1 for command in self.seen if command.code == code)


@dataclass
class FakeCluster:
    """Name servers that tell `routes`, and brokers that say SEND_OK."""

    name_servers: list[FakeNode] = field(default_factory=list)
    brokers: dict[str, FakeNode] = field(default_factory=dict)
    routes: dict[str, dict[str, object]] = field(default_factory=dict)
    offsets: dict[tuple[str, str], int] = field(default_factory=dict)

    async def start(self, name_servers: int = 1) -> FakeCluster:
        for _ in range(name_servers):
            node = FakeNode({int(RequestCode.GET_ROUTEINFO_BY_TOPIC): self.tell_route})
            self.name_servers.append(await node.start())
        return self

    async def add_broker(self, node_name: str) -> FakeNode:
        """Start a broker that stores nothing and acknowledges everything."""
        node = FakeNode()
        node.scripts[int(RequestCode.SEND_MESSAGE_V2)] = self.store(node_name)
        node.scripts[int(RequestCode.SEND_BATCH_MESSAGE)] = self.store(node_name)
        node.scripts[int(RequestCode.HEART_BEAT)] = lambda _, command: command.reply()
        node.scripts[int(RequestCode.UNREGISTER_CLIENT)] = lambda _, command: command.reply()
        self.brokers[node_name] = await node.start()
        return node

    async def stop(self) -> None:
        for node in [*self.name_servers, *self.brokers.values()]:
            await node.stop()

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(node.address for node in self.name_servers)

    def route(self, topic: str, groups: dict[str, dict[int, str]], queues: int = 2, perm: int = 6) -> None:
        """Tell from now on that `topic` lives on these groups: broker name to broker id to node name."""
        self.routes[topic] = {
            "brokerDatas": [
                {
                    "brokerName": name,
                    "cluster": "DefaultCluster",
                    "brokerAddrs": {str(number): self.brokers[node].address for number, node in members.items()},
                }
                for name, members in groups.items()
            ],
            "queueDatas": [
                {"brokerName": name, "perm": perm, "readQueueNums": queues, "writeQueueNums": queues, "topicSysFlag": 0}
                for name in groups
            ],
            "filterServerTable": {},
        }

    def tell_route(self, connection: Connection, command: Command) -> Command:
        route = self.routes.get(command.ext["topic"])
        if route is None:
            return command.reply(ResponseCode.TOPIC_NOT_EXIST, f"no route of {command.ext['topic']}")
        return command.reply(0, body=json.dumps(route).encode())

    def store(self, node_name: str, code: int = 0) -> Script:
        """A script that acknowledges a send with this code and counts offsets."""

        def script(connection: Connection, command: Command) -> Command:
            key = (node_name, command.ext["e"])
            offset = self.offsets.get(key, 0)
            self.offsets[key] = offset + 1
            ext = {"msgId": f"{offset:032X}", "queueId": command.ext["e"], "queueOffset": str(offset), "epoch": "3"}
            return command.reply(code, None, ext)

        return script

    def route_queries(self) -> int:
        return sum(node.count(RequestCode.GET_ROUTEINFO_BY_TOPIC) for node in self.name_servers)


def refuse(code: int, remark: str = "no") -> Script:
    """A script that answers with an error code."""
    return lambda _, command: command.reply(code, remark)
