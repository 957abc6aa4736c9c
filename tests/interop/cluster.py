"""Our cluster on loopback for clients that are not ours: a name server with a master and a slave, or with a group of
three that elects its leader (DLedger mode)."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from lab.bench.ports import RAFT_PORT, free_ports
from nodes.client.admin import AdminClient
from nodes.client.client import Client
from nodes.client.config import ClientConfig
from nodes.client.results import CommandFailed
from nodes.remoting.codes import RequestCode
from nodes.remoting.command import request
from tests.interop.processes import Program

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
GROUP = "broker-a"
READY_S = 180.0
# Retries begin at level 3: with these levels nobody waits ten seconds for the first one.
DELAY_LEVELS = "1s 2s " + " ".join(["1s"] * 16)
COMMON = {
    "brokerClusterName": "DefaultCluster",
    "brokerName": GROUP,
    "brokerIP1": "127.0.0.1",
    "autoCreateTopicEnable": "true",
    "messageDelayLevel": DELAY_LEVELS,
    "registerNameServerPeriod": "10000",
    "mappedFileSizeCommitLog": str(64 * 1024 * 1024),
}


def asked(name_server: str, question: Callable[[AdminClient], Awaitable[T]]) -> T:
    """Ask a cluster one thing with our admin client."""

    async def whole() -> T:
        # A busy machine may take its time: nothing here is about how long an answer takes.
        client = Client(ClientConfig(name_servers=(name_server,), api_timeout_s=READY_S, name_server_timeout_s=30.0))
        await client.start()
        try:
            return await question(AdminClient(client))
        finally:
            await client.close()

    return asyncio.run(whole())


async def eventually(question: Callable[[], Awaitable[bool]], what: str) -> None:
    """Ask until the answer is yes; a server that does not answer yet says no."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + READY_S
    while True:
        try:
            if await question():
                return
        except CommandFailed:
            pass
        assert loop.time() < deadline, f"never came: {what}"
        await asyncio.sleep(0.02)


class OurCluster:
    """``python -m nodes`` for a name server and two brokers. `handle` does to it what a driver asks for."""

    members = 2

    def __init__(self, folder: Path) -> None:
        named, *self._ports = free_ports(1 + self.members)
        self.name_server = f"127.0.0.1:{named}"
        self.addresses = [f"127.0.0.1:{port}" for port in self._ports]
        self._folder = folder
        self._namesrv = self._program("namesrv", "namesrv", {"listenPort": str(named)})
        self._brokers = [self._broker(index, self._part(index)) for index in range(self.members)]
        self._master = 0

    # --- life

    def start(self) -> None:
        """Start all, wait until everybody has what the master has."""
        for program in (self._namesrv, *self._brokers):
            program.start()
        self.wait_replicated()

    def stop(self) -> None:
        """End all."""
        for program in (*self._brokers, self._namesrv):
            program.stop()

    @property
    def words(self) -> str:
        """What the nodes wrote, for failures."""
        return "\n".join(program.words for program in (self._namesrv, *self._brokers))

    @property
    def master(self) -> str:
        """Address of the present master."""
        return self.addresses[self._master]

    # --- what drivers ask for

    def handle(self, wish: str) -> None:
        """Carry out one wish of a driver."""
        verb, *words = wish.split()
        match verb, words:
            case "perm", [topic, perm]:
                self.create_topic(topic, int(perm))
            case "wait-replicated", []:
                self.wait_replicated()
            case "kill-master", []:
                self._brokers[self._master].kill()
            case "start-master", []:
                self._brokers[self._master].start()
            case "promote-slave", []:
                slave = 1 - self._master
                asked(self.name_server, lambda admin: admin.lab_change_role(self.addresses[slave], 0, "ASYNC_MASTER"))
                self._master = slave
            case "old-master-as-slave", []:
                old = 1 - self._master
                self._write(old, {"brokerRole": "SLAVE", "brokerId": "1"})
                self._brokers[old].start()
                self.wait_replicated()
            case _:
                raise AssertionError(f"nobody knows how to do {wish!r}")

    def create_topics(self, topics: Sequence[str], queues: int = 4) -> None:
        """Create topics on the master and wait until the name server routes them."""

        async def create(admin: AdminClient) -> None:
            for topic in topics:
                await admin.create_topic(self.master, topic, read_queues=queues, write_queues=queues)

            async def routed() -> bool:
                return set(topics) <= set(await admin.topics())

            await eventually(routed, "routes of all topics")

        asked(self.name_server, create)

    def create_topic(self, topic: str, perm: int) -> None:
        """Change what a topic permits; true at the broker when this returns."""
        asked(
            self.name_server,
            lambda admin: admin.create_topic(self.master, topic, read_queues=4, write_queues=4, perm=perm),
        )

    def wait_replicated(self) -> None:
        """Until master and slave serve, are routed, and the slave has all that the master has."""

        async def question(admin: AdminClient) -> None:
            async def followed() -> bool:
                status = await admin.lab_status(self.master)
                routed = (await admin.cluster_info()).brokers.get(GROUP, {})
                return (
                    status["inSync"] > 0  # an empty log is acknowledged at 0 before anything was compared
                    and any(one["connected"] and one["ack"] == status["max"] for one in status["slaves"])
                    and set(routed.values()) == set(self.addresses)
                    and routed.get(0) == self.master
                )

            await eventually(followed, "a slave that has everything")

        asked(self.name_server, question)

    # --- inside

    def _part(self, index: int) -> dict[str, str]:
        """The settings that say what a broker is."""
        return {"brokerRole": "SYNC_MASTER" if index == 0 else "SLAVE", "brokerId": str(index)}

    def _broker(self, index: int, part: dict[str, str]) -> Program:
        self._write(index, part)
        name = f"{GROUP}-{index}"
        return Program(name, self._argv(name, "broker"), self._folder / name)

    def _write(self, index: int, part: dict[str, str]) -> None:
        folder = self._folder / f"{GROUP}-{index}"
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            **COMMON,
            **part,
            "listenPort": str(self._ports[index]),
            "namesrvAddr": self.name_server,
            "storePathRootDir": str(folder / "store"),
        }
        _write_properties(folder / "broker.conf", settings)

    def _program(self, name: str, kind: str, settings: dict[str, str]) -> Program:
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        settings |= {"bindAddress": "127.0.0.1", "rocketmqHome": str(folder)}
        _write_properties(folder / f"{kind}.conf", settings)
        return Program(name, self._argv(name, kind), folder)

    def _argv(self, name: str, kind: str) -> list[str]:
        folder = self._folder / name
        options = ["-c", str(folder / f"{kind}.conf"), "--log", str(folder / "log.jsonl"), "--name", name]
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from nodes.__main__ import main; sys.exit(main())"
        return [sys.executable, "-c", code, kind, *options]


class ElectedCluster(OurCluster):
    """The same with three brokers that elect their leader, who is the master that drivers mean."""

    members = 3

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._killed: list[int] = []

    def handle(self, wish: str) -> None:
        """Carry out one wish of a driver."""
        match wish:
            case "kill-master":
                self._find_leader()
                self._brokers[self._master].kill()
                self._killed.append(self._master)
            case "start-killed":
                while self._killed:
                    self._brokers[self._killed.pop()].start()
                self.wait_replicated()
            case _:
                super().handle(wish)

    def create_topic(self, topic: str, perm: int) -> None:
        """Change what a topic permits; true at the leader when this returns."""
        self._find_leader()
        super().create_topic(topic, perm)

    def wait_replicated(self) -> None:
        """Until all who run are routed, and have all that the leader has."""
        running = [address for index, address in enumerate(self.addresses) if index not in self._killed]

        async def question(admin: AdminClient) -> None:
            async def equal() -> bool:
                statuses = [await admin.lab_status(address) for address in running]
                routed = (await admin.cluster_info()).brokers.get(GROUP, {})
                return (
                    len({one["max"] for one in statuses}) == 1
                    and len({one["visible"] for one in statuses}) == 1
                    and set(routed.values()) == set(running)
                    and 0 in routed
                )

            await eventually(equal, "members that have everything")

        asked(self.name_server, question)
        self._find_leader()

    def term_told(self, topic: str) -> int:
        """The term that a route answer tells; 0 if none."""

        async def question(admin: AdminClient) -> int:
            ext = {"topic": topic, "acceptStandardJsonOnly": "true"}
            names = admin.client.names
            answer = await names.call(lambda: request(RequestCode.GET_ROUTEINFO_BY_TOPIC, ext), READY_S)
            return int(json.loads(answer.body)["brokerDatas"][0].get("dledgerTerm", 0))

        return asked(self.name_server, question)

    def _find_leader(self) -> None:
        async def question(admin: AdminClient) -> str:
            found: list[str] = []

            async def led() -> bool:
                leader = (await admin.cluster_info()).brokers.get(GROUP, {}).get(0)
                found[:] = [] if leader is None else [leader]
                return bool(found)

            await eventually(led, "a leader in the routes")
            return found[0]

        self._master = self.addresses.index(asked(self.name_server, question))

    def _part(self, index: int) -> dict[str, str]:
        peers = ";".join(f"n{number}-127.0.0.1:{port + RAFT_PORT}" for number, port in enumerate(self._ports))
        keys = {"dLegerGroup": GROUP, "dLegerPeers": peers, "dLegerSelfId": f"n{index}"}
        return {"enableDLegerCommitLog": "true", **keys}


def _write_properties(path: Path, settings: dict[str, str]) -> None:
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()), encoding="utf-8")
