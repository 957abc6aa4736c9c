"""Our own name server and brokers on loopback, for tests of the client."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from nodes.broker.broker import Broker
from nodes.client.admin import AdminClient
from nodes.client.client import Client
from nodes.client.config import ClientConfig
from nodes.client.consumer_config import ConsumeResult, PushConfig, StartFrom
from nodes.client.messages import Message
from nodes.client.producer import Producer
from nodes.client.results import SendStatus
from nodes.config import BrokerConfig, BrokerRole, NamesrvConfig
from nodes.log import EventLog
from nodes.namesrv.service import NameServer
from nodes.store.disk import RealDisk
from tests.unit.nodes.client_cluster import until_told

QUICK = PushConfig(start_from=StartFrom.FIRST_OFFSET, rebalance_retry_s=0.05, persist_interval_s=0.1, pull_retry_s=0.05)
LEVELS = tuple([50] * 18)


class Cluster:
    """A name server and the brokers of group broker-a on loopback, with delay levels of 50 ms."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.brokers: dict[str, Broker] = {}
        self.name_server: NameServer | None = None
        self.address = ""
        self.clients: list[Client] = []

    async def start(self) -> None:
        config = NamesrvConfig(listen_port=0, kv_config_path=str(self.folder / "kv.json"))
        self.name_server = NameServer(config, EventLog("ns"), RealDisk())
        self.address = f"127.0.0.1:{await self.name_server.start()}"

    async def broker(self, name: str, broker_id: int, role: BrokerRole, port: int = 0) -> Broker:
        config = BrokerConfig(
            broker_name="broker-a",
            broker_id=broker_id,
            broker_role=role,
            listen_port=port,
            namesrv_addr=(self.address,),
            store_path_root_dir=str(self.folder / name),
            mapped_file_size_commit_log=1024 * 1024,
            message_delay_level=LEVELS,
        )
        file = self.folder / f"{name}.conf"
        file.write_text(f"brokerId={broker_id}\nbrokerRole={role.value}\n")
        broker = Broker(config, EventLog(name), config_path=str(file))
        await broker.open()
        self.brokers[name] = broker
        return broker

    def broker_address(self, name: str) -> str:
        return f"127.0.0.1:{self.brokers[name].port}"

    async def client(self, **settings: Any) -> Client:
        defaults: dict[str, Any] = {"name_servers": (self.address,), "poll_name_server_interval_s": 0.2}
        client = Client(ClientConfig(**(defaults | settings)), rng=random.Random(len(self.clients)))
        await client.start()
        self.clients.append(client)
        return client

    async def topic(self, client: Client, topic: str, queues: int = 4) -> None:
        """Create a topic and wait until the name server routes it."""
        admin = AdminClient(client)
        info = await admin.cluster_info()
        await admin.create_topic(info.brokers["broker-a"][0], topic, read_queues=queues, write_queues=queues)

        async def routed() -> bool:
            return topic in await admin.topics()

        await until_told(routed)

    async def stop(self) -> None:
        for client in self.clients:
            await client.close()
        for broker in self.brokers.values():
            await broker.close()
        if self.name_server is not None:
            await self.name_server.stop()


def story(
    slave: bool = False,
) -> Callable[[Callable[[Cluster], Awaitable[None]]], Callable[[Path], None]]:
    """Run a test with one master, a0, and perhaps a slave, a1."""

    def decorate(test: Callable[[Cluster], Awaitable[None]]) -> Callable[[Path], None]:
        async def play(folder: Path) -> None:
            cluster = Cluster(folder)
            try:
                await cluster.start()
                await cluster.broker("a0", 0, BrokerRole.ASYNC_MASTER)
                if slave:
                    await cluster.broker("a1", 1, BrokerRole.SLAVE)
                await asyncio.wait_for(test(cluster), 60)
            finally:
                await cluster.stop()

        def run(tmp_path: Path) -> None:
            asyncio.run(play(tmp_path))

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate


class Recorder:
    """A listener that keeps what it was given and answers as told."""

    def __init__(self, answer: Callable[[Message], ConsumeResult] = lambda _: ConsumeResult.SUCCESS) -> None:
        self.seen: list[Message] = []
        self.answer = answer

    async def __call__(self, messages: Sequence[Message]) -> ConsumeResult:
        self.seen.extend(messages)
        return self.answer(messages[0])

    @property
    def bodies(self) -> list[str]:
        return [message.body.decode() for message in self.seen]


async def send_all(client: Client, topic: str, count: int, **options: Any) -> list[str]:
    producer = Producer(client, "PG")
    bodies = [f"m{number}" for number in range(count)]
    for body in bodies:
        result = await producer.send(topic, body.encode(), **options)
        assert result.status is SendStatus.SEND_OK
    return bodies
