"""The client: connections, calls, routes and heartbeats that its producers and consumers share.

Source: RocketMQ class MQClientInstance.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

import msgspec

from nodes.client.alarms import alarms_of
from nodes.client.config import ClientConfig
from nodes.client.exchange import CallEnded, Exchange
from nodes.client.messages import UniqueIds
from nodes.client.name_servers import NameServers, NoNameServer
from nodes.client.outcomes import LocalCode, refused, write_outcome
from nodes.client.queues import INNER_PRODUCER_GROUP, client_id
from nodes.client.results import CommandFailed, Outcome
from nodes.client.route_queries import RouteQueries
from nodes.client.routes import MASTER_ID, BrokerAddress, MasterMove, Routes
from nodes.clock import Clock, SystemClock
from nodes.log import EventLog
from nodes.remoting.client import RemotingClient
from nodes.remoting.codes import RequestCode, ResponseCode
from nodes.remoting.command import Command, request
from nodes.remoting.server import Connection

__all__ = ["Client", "GroupMember"]

UNREGISTER_TIMEOUT_S = 1.0
"""How long a closing client waits for brokers to note that it is gone."""

UNREACHABLE_S = 2.0
"""How long consumers pull from another broker of a group after one could not be reached."""


class GroupMember(Protocol):
    """A consumer, as far as the client has to know it."""

    group: str

    def heartbeat(self) -> dict[str, object]:
        """RocketMQ's ConsumerData."""
        ...

    def members_changed(self) -> None:
        """A broker said that members of the group came or went."""
        ...

    def routes_changed(self) -> None:
        """A route of one of its topics changed."""
        ...

    def on_request(self, command: Command) -> Command | None:
        """Answer a broker's request about this consumer, or None if it is none of this consumer's."""
        ...


class Client:
    """One client of a cluster. Many producers and consumers may share it; their calls then share its connections.

    `routes` is a snapshot of `Client.routes` of a predecessor: with it a client works although no name server answers.
    `routes_at_s` is the predecessor's `queries.told_at_s`.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        routes: Mapping[str, object] | None = None,
        routes_at_s: float | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        log: EventLog | None = None,
        socket_factory: Callable[[], socket.socket] | None = None,
    ) -> None:
        self.config = config
        self.clock: Clock = clock if clock is not None else SystemClock()
        self.rng = rng if rng is not None else random.Random(int.from_bytes(os.urandom(8), "big"))
        self.log = log if log is not None else EventLog("client")
        instance = config.instance
        if instance == "DEFAULT":
            instance = f"{os.getpid()}#{self.rng.getrandbits(48)}"
        self.id = client_id(config.client_ip, instance, config.unit)
        self.unique_ids = UniqueIds(config.client_ip, self.rng)
        self.routes = Routes()
        if routes is not None:
            self.routes.restore(routes)
        self.remoting = RemotingClient(
            log=log,
            on_request=self._on_request,
            connect_timeout_s=config.connect_timeout_s,
            socket_factory=socket_factory,
        )
        self.names = NameServers(self.remoting, config.name_servers, config.name_server_timeout_s, self.rng)
        self.closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._exchange: Exchange | None = None
        self._producers: dict[str, int] = {}
        self._consumers: dict[str, GroupMember] = {}
        self._background: list[asyncio.Task[None]] = []
        self._loose: dict[asyncio.Task[Any], None] = {}
        self._beat_soon = asyncio.Event()
        self._unreachable: dict[str, float] = {}
        self.queries = RouteQueries(
            config, self.routes, self.names, self.name_server_call, self.log, self._on_routes, routes_at_s
        )

    # ---- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to poll routes and to heartbeat. Makes no connection yet."""
        if self._loop is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._exchange = Exchange(
            self.remoting,
            self._loop,
            alarms_of(self._loop),
            self.config.outstanding_max,
            self._on_slow,
            self._on_trouble,
        )
        self._background = [
            self._loop.create_task(self.queries.poll()),
            self._loop.create_task(self._heartbeats()),
        ]

    async def close(self) -> None:
        """Tell the brokers, end what is outstanding, close the connections. Consumers must be closed before."""
        if self.closed:
            return
        self.closed = True
        tasks = [*self._background, *self._loose]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self.queries.cancel(), return_exceptions=True)
        for group in self._producers:
            await self.unregister(producer_group=group)
        if self._exchange is not None:
            self._exchange.end_all("the client was closed")
        await self.remoting.close()

    @property
    def exchange(self) -> Exchange:
        """The calls in the air. The client must have been started."""
        if self._exchange is None:
            raise RuntimeError("the client was not started: await client.start() first")
        return self._exchange

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop on which the client was started."""
        if self._loop is None:
            raise RuntimeError("the client was not started: await client.start() first")
        return self._loop

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something that nobody waits for; it ends with the client."""
        task = self.loop.create_task(work)
        self._loose[task] = None
        task.add_done_callback(lambda done: self._loose.pop(done, None))

    # ---- calls -----------------------------------------------------------------------------------------------------

    async def call(
        self, address: str, command: Command, timeout_s: float | None = None, *, broker_name: str = "", topic: str = ""
    ) -> Command:
        """Call one broker and return its answer, whatever its code. Raises CommandFailed if there is none."""
        loop = self.loop
        timeout_s = self.config.api_timeout_s if timeout_s is None else timeout_s
        try:
            answer = await self.exchange.call(
                broker_name,
                address,
                topic,
                command,
                loop.time() + timeout_s,
                self.config.route_query_after_s,
                bounded=False,
            )
        except CallEnded as ended:
            what = _request_name(command.code)
            raise CommandFailed(what, address, ended.code, ended.reason, write_outcome(ended.code)) from None
        self.queries.heed(answer, broker_name, topic)
        return answer

    async def call_ok(
        self, address: str, command: Command, timeout_s: float | None = None, *, broker_name: str = "", topic: str = ""
    ) -> Command:
        """As `call`, but any code other than 0 raises CommandFailed too."""
        answer = await self.call(address, command, timeout_s, broker_name=broker_name, topic=topic)
        if answer.code != ResponseCode.SUCCESS:
            raise refused(_request_name(command.code), address, answer)
        return answer

    async def name_server_call(
        self, make: Callable[[], Command], unsatisfying: frozenset[int] = frozenset()
    ) -> Command:
        """Ask the name servers. Raises CommandFailed with code 10004 if none answers."""
        try:
            return await self.names.call(make, self.config.api_timeout_s, unsatisfying=unsatisfying)
        except NoNameServer as error:
            what = _request_name(make().code)
            raise CommandFailed(what, self.names.current, LocalCode.NO_NAME_SERVER, str(error), Outcome.INFO) from None

    # ---- routes ----------------------------------------------------------------------------------------------------

    def reader(self, broker_name: str, broker_id: int) -> BrokerAddress | None:
        """Whom to pull from by `Routes.reader`, past addresses that lately did not answer if the group has others."""
        chosen = self.routes.reader(broker_name, broker_id)
        if chosen is None or not self._unreachable:
            return chosen
        now_s = self.loop.time()
        for address, until_s in list(self._unreachable.items()):
            if until_s <= now_s:
                del self._unreachable[address]
        if chosen.address not in self._unreachable:
            return chosen
        others = sorted(self.routes.addresses(broker_name).items())
        for other_id, address in others:
            if address not in self._unreachable:
                return BrokerAddress(address, other_id)
        return chosen

    def note_unreachable(self, address: str) -> None:
        """For a while, pull from another broker of the group if there is one."""
        self._unreachable[address] = self.loop.time() + UNREACHABLE_S

    def _on_routes(self, moves: tuple[MasterMove, ...], changed: bool) -> None:
        for move in moves:
            ended = self.exchange.end_moved(move.broker_name, move.old, move.new) if move.old else 0
            self.log.event("master-moved", broker=move.broker_name, old=move.old, new=move.new, ended=ended)
        if changed:
            self._beat_soon.set()
            for consumer in list(self._consumers.values()):
                consumer.routes_changed()

    def _on_slow(self, broker_name: str, topic: str) -> None:
        self.queries.about_broker(broker_name, topic)

    def _on_trouble(self, broker_name: str, topic: str) -> None:
        self.queries.about_broker(broker_name, topic)

    # ---- heartbeats ------------------------------------------------------------------------------------------------

    def add_producer(self, group: str) -> None:
        """Announce a producer group; counted, as several producers may use one."""
        self._producers[group] = self._producers.get(group, 0) + 1
        self._beat_soon.set()

    def remove_producer(self, group: str) -> bool:
        """One user of the group fewer. Returns whether it was the last."""
        left = self._producers.get(group, 0) - 1
        if left > 0:
            self._producers[group] = left
            return False
        self._producers.pop(group, None)
        return True

    def add_consumer(self, member: GroupMember) -> None:
        """Announce a consumer. One client can be in a group only once, as brokers count members by client id."""
        if member.group in self._consumers:
            raise ValueError(f"this client already has a consumer of group {member.group}; use another client")
        self._consumers[member.group] = member
        self._beat_soon.set()

    def remove_consumer(self, group: str) -> None:
        """Forget a consumer."""
        self._consumers.pop(group, None)

    def heartbeat_soon(self) -> None:
        """Heartbeat as soon as the loop gets to it."""
        self._beat_soon.set()

    async def heartbeat(self) -> None:
        """Tell all brokers who we are: masters about producers, all of them about consumers. Failures are logged."""
        if not self._producers and not self._consumers:
            return
        body = msgspec.json.encode(
            {
                "clientID": self.id,
                "consumerDataSet": [member.heartbeat() for member in self._consumers.values()],
                "producerDataSet": [{"groupName": name} for name in [*self._producers, INNER_PRODUCER_GROUP]],
            }
        )
        targets = [
            (name, address)
            for name in self.routes.brokers()
            for broker_id, address in sorted(self.routes.addresses(name).items())
            if broker_id == MASTER_ID or self._consumers
        ]
        await asyncio.gather(*(self._heartbeat_one(name, address, body) for name, address in targets))

    async def _heartbeat_one(self, broker_name: str, address: str, body: bytes) -> None:
        command = request(RequestCode.HEART_BEAT, {}, body)
        try:
            await self.call_ok(address, command, broker_name=broker_name)
        except CommandFailed as error:
            self.log.event("heartbeat-failed", broker=broker_name, address=address, reason=error.reason)

    async def _heartbeats(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self.config.heartbeat_interval_s):
                    await self._beat_soon.wait()
            except TimeoutError:
                pass
            self._beat_soon.clear()
            await self.heartbeat()

    async def unregister(self, *, producer_group: str = "", consumer_group: str = "") -> None:
        """Tell the connected brokers that this client leaves a group. Failures are not worth a word."""
        ext = {"clientID": self.id}
        if producer_group:
            ext["producerGroup"] = producer_group
        if consumer_group:
            ext["consumerGroup"] = consumer_group
        calls = [
            self.call(address, request(RequestCode.UNREGISTER_CLIENT, dict(ext)), UNREGISTER_TIMEOUT_S)
            for name in self.routes.brokers()
            for _, address in sorted(self.routes.addresses(name).items())
            if self.remoting.connected(address)
        ]
        if self._exchange is not None:
            await asyncio.gather(*calls, return_exceptions=True)
        else:
            for call in calls:
                call.close()

    # ---- requests of brokers ---------------------------------------------------------------------------------------

    def _on_request(self, connection: Connection, command: Command) -> Command | None:
        if command.code == RequestCode.NOTIFY_CONSUMER_IDS_CHANGED:
            member = self._consumers.get(command.ext.get("consumerGroup", ""))
            if member is not None:
                member.members_changed()
            return None
        for member in list(self._consumers.values()):
            answer = member.on_request(command)
            if answer is not None:
                return answer
        return command.reply(ResponseCode.REQUEST_CODE_NOT_SUPPORTED, f" request type {command.code} not supported")


def _request_name(code: int) -> str:
    try:
        return RequestCode(code).name
    except ValueError:
        return f"request {code}"
