"""Calls to brokers, with everything that can end them: an answer, an error, the deadline, or a new master."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nodes.client.alarms import Alarms
from nodes.client.outcomes import LocalCode
from nodes.remoting.client import CallError, CallTimeout, ConnectFailed, RemotingClient
from nodes.remoting.command import Command
from nodes.remoting.connection import Connection

__all__ = ["CallEnded", "Exchange"]


class CallEnded(Exception):
    """A call that got no answer. `code` is a LocalCode that says what is known about it."""

    def __init__(self, code: LocalCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Waiting:
    """One call in the air; without a connection it is still being opened."""

    __slots__ = (
        "address",
        "broker_name",
        "connection",
        "deadline_s",
        "exchange",
        "future",
        "opaque",
        "slow_after_s",
        "started_s",
        "tick",
        "topic",
    )

    exchange: Exchange
    broker_name: str
    address: str
    topic: str
    connection: Connection | None
    opaque: int
    future: asyncio.Future[Command]
    started_s: float
    deadline_s: float
    slow_after_s: float
    tick: int

    def ring(self, now_s: float) -> float | None:
        """Either the answer is late, and the route is asked for, or the deadline has passed."""
        if self.future.done():
            return None
        if now_s < self.deadline_s:
            self.exchange.on_slow(self.broker_name, self.topic)
            return min(now_s + self.slow_after_s, self.deadline_s)
        if self.connection is None:
            self.end(LocalCode.CONNECT_FAILED, "no connection within the time given; nothing was sent")
        else:
            self.end(LocalCode.TIMEOUT, "no answer within the time given")
            self.exchange.doubt(self.address, self.started_s)
        return None

    def end(self, code: LocalCode, reason: str) -> None:
        """Stop waiting."""
        if self.connection is not None:
            self.connection.forget(self.opaque)
        if not self.future.done():
            self.future.set_exception(CallEnded(code, reason))


class Exchange:
    """The calls of one client that are in the air.

    `on_slow(broker name, topic)` is called when an answer is outstanding for the given while, and again each time as
    much has passed; `on_trouble(broker name, topic)` when a connection could not be made or broke.

    A call that times out on a connection over which nothing came since it was sent closes that connection: the peer may
    be gone without a word, and only a new connection finds out.
    """

    __slots__ = (
        "_alarms",
        "_by_broker",
        "_connections",
        "_count",
        "_heard_s",
        "_limit",
        "_loop",
        "_remoting",
        "on_slow",
        "on_trouble",
    )

    def __init__(
        self,
        remoting: RemotingClient,
        loop: asyncio.AbstractEventLoop,
        alarms: Alarms,
        limit: int,
        on_slow: Callable[[str, str], None],
        on_trouble: Callable[[str, str], None],
    ) -> None:
        self._remoting = remoting
        self._loop = loop
        self._alarms = alarms
        self._limit = limit
        self.on_slow = on_slow
        self.on_trouble = on_trouble
        self._by_broker: dict[str, dict[_Waiting, None]] = {}
        self._connections: dict[str, Connection] = {}
        self._heard_s: dict[str, float] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    async def call(
        self,
        broker_name: str,
        address: str,
        topic: str,
        command: Command,
        deadline_s: float,
        slow_after_s: float,
        *,
        bounded: bool = True,
    ) -> Command:
        """Send `command` and wait for the answer until loop time `deadline_s`. Raises CallEnded.

        Calls that are few by their nature, such as heartbeats, are not `bounded`.
        """
        if bounded and self._count >= self._limit:
            raise CallEnded(
                LocalCode.TOO_MANY_OUTSTANDING, f"{self._count} calls are outstanding, the bound of this client"
            )
        self._count += bounded
        try:
            connection = self._connections.get(address)
            if connection is None or connection.closed:
                connection = await self._connect(broker_name, address, topic, deadline_s, slow_after_s)
            future = connection.call_nowait(command)
            waiting = self._enter(broker_name, address, topic, future, deadline_s, slow_after_s)
            waiting.connection = connection
            waiting.opaque = command.opaque
            try:
                answer = await future
            finally:
                del self._by_broker[broker_name][waiting]
                self._alarms.leave(waiting)
        except CallError as error:
            raise self._ended(error, broker_name, topic) from None
        finally:
            self._count -= bounded
        self._heard_s[address] = self._loop.time()
        return answer

    def doubt(self, address: str, since_s: float) -> None:
        """A call timed out: drop the connection if nothing has come over it since the call was sent."""
        if self._heard_s.get(address, 0.0) < since_s:
            self._remoting.disconnect(address)

    def end_moved(self, broker_name: str, old: str, new: str) -> int:
        """The group's master is `new` now: end what waits for `old`. Returns how many calls that were."""
        moved = [waiting for waiting in self._by_broker.get(broker_name, ()) if waiting.address == old]
        for waiting in moved:
            if waiting.connection is not None:
                waiting.end(LocalCode.MASTER_MOVED, f"no answer yet, and the route names {new} as master now")
            else:
                waiting.end(LocalCode.NOT_SENT, f"nothing sent yet, and the route names {new} as master now")
        return len(moved)

    def end_all(self, reason: str) -> None:
        """The client closes."""
        for calls in list(self._by_broker.values()):
            for waiting in list(calls):
                waiting.end(LocalCode.CLOSED if waiting.connection is None else LocalCode.CONNECTION_LOST, reason)

    async def _connect(
        self, broker_name: str, address: str, topic: str, deadline_s: float, slow_after_s: float
    ) -> Connection:
        """Open the connection; the wait for it can end in the same ways as the wait for an answer."""
        gate: asyncio.Future[Command] = self._loop.create_future()
        task = self._loop.create_task(self._remoting.connect(address))

        def opened(done: asyncio.Task[Connection]) -> None:
            error = None if done.cancelled() else done.exception()
            if gate.done():
                return
            if done.cancelled():
                gate.set_exception(CallEnded(LocalCode.NOT_SENT, "the attempt to connect was given up"))
            elif error is not None:
                gate.set_exception(error)
            else:
                gate.set_result(_CONNECTED)

        task.add_done_callback(opened)
        waiting = self._enter(broker_name, address, topic, gate, deadline_s, slow_after_s)
        try:
            await gate
        finally:
            del self._by_broker[broker_name][waiting]
            self._alarms.leave(waiting)
        connection = self._connections[address] = task.result()
        return connection

    def _enter(
        self,
        broker_name: str,
        address: str,
        topic: str,
        future: asyncio.Future[Command],
        deadline_s: float,
        slow_after_s: float,
    ) -> _Waiting:
        waiting = _Waiting()
        waiting.exchange = self
        waiting.broker_name = broker_name
        waiting.address = address
        waiting.topic = topic
        waiting.connection = None
        waiting.future = future
        waiting.deadline_s = deadline_s
        waiting.slow_after_s = slow_after_s
        waiting.started_s = self._loop.time()
        calls = self._by_broker.get(broker_name)
        if calls is None:
            calls = self._by_broker[broker_name] = {}
        calls[waiting] = None
        slow_s = waiting.started_s + slow_after_s
        self._alarms.enter(waiting, slow_s if slow_s < deadline_s else deadline_s)
        return waiting

    def _ended(self, error: CallError, broker_name: str, topic: str) -> CallEnded:
        if isinstance(error, CallTimeout):
            return CallEnded(LocalCode.TIMEOUT, error.reason)
        self.on_trouble(broker_name, topic)
        if isinstance(error, ConnectFailed):
            return CallEnded(LocalCode.CONNECT_FAILED, error.reason)
        if not error.sent:
            return CallEnded(LocalCode.NOT_SENT, error.reason)
        return CallEnded(LocalCode.CONNECTION_LOST, error.reason)


_CONNECTED = Command(0)
