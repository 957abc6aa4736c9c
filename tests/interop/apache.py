"""Apache's own name server and broker on loopback, as JVMs with small heaps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lab.bench.ports import free_ports
from lab.systems.rocketmq.programs import java_program
from lab.systems.rocketmq.release import Release
from nodes.client.admin import AdminClient
from nodes.config import write_properties
from tests.interop.cluster import COMMON, GROUP, asked, eventually
from tests.interop.processes import Program


class ApacheCluster:
    """One name server and one master of a release."""

    def __init__(self, release: Release, folder: Path) -> None:
        named, port = free_ports(2)
        self.release = release
        self.name_server = f"127.0.0.1:{named}"
        self.master = f"127.0.0.1:{port}"
        self._folder = folder
        self._namesrv = self._program("namesrv", {"listenPort": str(named)})
        self._broker = self._program(
            "broker",
            {
                **COMMON,
                "brokerIP2": "127.0.0.1",
                "waitTimeMillsInSendQueue": "60000",  # else a busy machine is answered SYSTEM_BUSY
                "osPageCacheBusyTimeOutMills": "60000",
                "brokerRole": "ASYNC_MASTER",
                "brokerId": "0",
                "listenPort": str(port),
                "namesrvAddr": self.name_server,
                "storePathRootDir": str(folder / "broker" / "store"),
            },
        )

    def start(self) -> None:
        """Start both, wait until the broker is routed."""
        self._namesrv.start()
        self._broker.start()

        async def question(admin: AdminClient) -> None:
            async def routed() -> bool:
                assert self._broker.running, self._broker.words
                assert self._namesrv.running, self._namesrv.words
                return (await admin.cluster_info()).brokers.get(GROUP) == {0: self.master}

            await eventually(routed, f"a broker of {self.release.version}")

        asked(self.name_server, question)

    def stop(self) -> None:
        """End both."""
        self._broker.kill()
        self._namesrv.kill()

    @property
    def words(self) -> str:
        """What they wrote, for failures."""
        return f"{self._namesrv.words}\n{self._broker.words}"

    def handle(self, wish: str) -> None:
        """Carry out the one wish that drivers have here."""
        verb, topic, perm = wish.split()
        assert verb == "perm", f"nobody knows how to do {wish!r}"
        asked(
            self.name_server,
            lambda admin: admin.create_topic(self.master, topic, read_queues=4, write_queues=4, perm=int(perm)),
        )

    def create_topics(self, topics: Sequence[str], queues: int = 4) -> None:
        """Create topics on the broker and wait until the name server routes them."""

        async def create(admin: AdminClient) -> None:
            for topic in topics:
                await admin.create_topic(self.master, topic, read_queues=queues, write_queues=queues)

            async def routed() -> bool:
                return set(topics) <= set(await admin.topics())

            await eventually(routed, "routes of all topics")

        asked(self.name_server, create)

    def _program(self, kind: str, settings: dict[str, str]) -> Program:
        folder = self._folder / kind
        folder.mkdir(parents=True)
        (folder / f"{kind}.conf").write_text(write_properties(settings), encoding="utf-8")
        program = java_program(self.release, kind, folder)
        return Program(kind, program.argv, folder, program.env)
