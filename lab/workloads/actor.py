"""One logical client thread: its process number in the history, its client, and the rule of retirement.

A process has one operation at a time. After an unknown outcome it is retired: the thread goes on as ``process + n``
with a new connection and new client state; only the cached route is handed on, as in an application that restarts with
it.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from lab.event import Event
from lab.journal import Journal
from lab.plan import Plan
from lab.workloads.classify import Completion, Guarantee
from lab.workloads.library import Reader, Sender
from nodes.client.client import Client
from nodes.client.config import ClientConfig
from nodes.client.producer import Producer
from nodes.client.pull_consumer import PullConsumer

PRODUCER_GROUP: Final = "writers"
ROUTE_S: Final = 3.0  # a client that is left waits so long for routes that it has asked for
ROUTE_WAITERS: Final = 32  # no more of them at a time: where no name server answers, each has sockets open meanwhile
CLOSE_S: Final = 5.0


@dataclass(slots=True)
class Tally:
    """What one worker has seen so far, for the live view."""

    ok: int = 0
    fail: int = 0
    info: int = 0
    weak: int = 0
    polled: int = 0
    skipped: int = 0
    first_ack_ns: int | None = None


@dataclass(slots=True)
class Scene:
    """What all actors of one worker share."""

    plan: Plan
    run: str
    seed: int
    threads: int
    name_servers: tuple[str, ...]
    address: str  # of the client host
    journal: Journal
    guarantees: dict[str, Guarantee] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    routes: Mapping[str, object] | None = None  # the newest cached routes of any client here
    routes_at_s: float | None = None  # when a name server told them, by the clock of the loop
    closing: set[asyncio.Task[None]] = field(default_factory=set)
    clients_made: int = 0

    def keep_routes(self, client: Client) -> None:
        """Remember what a client knows of the routes for those that come after it, unless newer answers are known."""
        snapshot: dict[str, Any] = client.routes.snapshot()
        at_s = client.queries.told_at_s
        if snapshot and at_s is not None and (self.routes_at_s is None or at_s > self.routes_at_s):
            self.routes, self.routes_at_s = snapshot, at_s

    def config(self) -> ClientConfig:
        """The settings of the next client; every client has an instance name of its own."""
        load = self.plan.load
        self.clients_made += 1
        timeout = load.operation_timeout.s
        return ClientConfig(
            name_servers=self.name_servers,
            client_ip=self.address,
            instance=f"{self.run}-{self.clients_made}",
            send_timeout_s=timeout,
            api_timeout_s=timeout,
            connect_timeout_s=min(1.0, timeout),
            retries=load.retries,
            compress_over_bytes=0,
            auto_create_topics=False,
            heartbeat_interval_s=5.0,
            poll_name_server_interval_s=load.route_poll.s,
        )


class Actor:
    """A thread of the history, with our own client library. ``process`` is its present number there."""

    guard_s: ClassVar[float] = 2.0
    """The library ends an operation by itself; so long after its timeout it is taken to have forgotten it."""
    roams: ClassVar[bool] = False
    """Whether the library chooses the queue of each attempt once it may retry."""

    def __init__(self, scene: Scene, thread: int) -> None:
        self.scene = scene
        self.thread = thread
        self.process = thread
        self._client: Client | None = None
        self._producer: Producer | None = None
        self._puller: PullConsumer | None = None
        self.retired = 0

    async def client(self, *, inherit: bool = True) -> Client:
        """The present client, opened if need be. Without ``inherit`` it knows no route."""
        if self._client is None:
            scene = self.scene
            if inherit:
                made = Client(scene.config(), routes=scene.routes, routes_at_s=scene.routes_at_s)
            else:
                made = Client(scene.config())
            await made.start()
            self._client = made
        return self._client

    async def producer(self, *, inherit: bool = True) -> Sender:
        """The producer on the present client."""
        client = await self.client(inherit=inherit)
        if self._producer is None:
            self._producer = Producer(client, PRODUCER_GROUP)
        return self._producer

    async def puller(self, *, inherit: bool = True) -> Reader:
        """The pull consumer on the present client."""
        client = await self.client(inherit=inherit)
        await client.queries.ensure(self.scene.plan.load.topic)
        if self._puller is None:
            self._puller = PullConsumer(client, self.scene.plan.load.group)
        return self._puller

    def invoke(self, f: str, value: object, **extras: object) -> Event:
        """Journal an invocation; call it before the first byte is sent."""
        return self.scene.journal.write(self.process, "invoke", f, value, **extras)

    def complete(self, f: str, value: object, completion: Completion, **extras: object) -> None:
        """Journal how the operation ended, and retire the process if that is unknown."""
        self.scene.journal.write(self.process, completion.kind, f, value, **{**extras, **completion.extras})
        tally = self.scene.tally
        if completion.kind == "ok":
            tally.ok += 1
        elif completion.kind == "fail":
            tally.fail += 1
        else:
            tally.info += 1
            self.retire()

    def retire(self) -> None:
        """Leave this process and its client behind; the next operation belongs to the thread's next process."""
        self.process += self.scene.threads
        self.retired += 1
        self.drop_client()

    def drop_client(self) -> None:
        """Close the client in the background, keeping its routes for its successor.

        What it asks the name servers just now its successor will know, too: a client that was refused asks for the
        route, and if that died with it, every successor would be refused by the same broker again.
        """
        old, self._client = self._client, None
        self._producer = self._puller = None
        if old is None:
            return
        self.scene.keep_routes(old)
        asked_s = ROUTE_S if len(self.scene.closing) < ROUTE_WAITERS else 0.0
        task = asyncio.get_running_loop().create_task(_close(old, self.scene, asked_s))
        self.scene.closing.add(task)
        task.add_done_callback(self.scene.closing.discard)


async def _close(client: Client, scene: Scene, asked_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(asked_s):
            await client.queries.answered()
    scene.keep_routes(client)
    try:
        async with asyncio.timeout(CLOSE_S):
            await client.close()
    except (TimeoutError, OSError):
        return  # a client of a retired process: its sockets die with it
