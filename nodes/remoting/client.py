"""The calling side: one connection an address, opened on demand, shared by all calls to it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from nodes.limits import CONNECT_TIMEOUT_S, FRAME_MAX, IDLE_TIMEOUT_S, OUTSTANDING_MAX, WRITE_BUFFER_MAX
from nodes.log import EventLog
from nodes.remoting.command import FLAG_ONEWAY, Command
from nodes.remoting.connection import (
    CallError,
    CallRefused,
    CallTimeout,
    ConnectFailed,
    Connection,
    ConnectionLost,
    Endpoint,
    Handler,
    unsupported,
)
from nodes.remoting.frame import FrameError

__all__ = [
    "CallError",
    "CallRefused",
    "CallTimeout",
    "ConnectFailed",
    "ConnectionLost",
    "RemotingClient",
    "split_address",
]

_CLOSE_PATIENCE_S = 1.0


def split_address(address: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` in two parts. Raises ValueError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"{address!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


class RemotingClient:
    """Calls remoting servers.

    `on_request` serves requests that servers send over our connections (default: not supported). `socket_factory` makes
    the socket of each new connection, for a caller that needs it opened in a certain place. `on_disconnect` is told the
    address of every connection that was lost, not of those that `close` closed.
    """

    def __init__(
        self,
        *,
        log: EventLog | None = None,
        on_request: Handler | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        socket_factory: Callable[[], socket.socket] | None = None,
        on_disconnect: Callable[[str], None] | None = None,
        frame_max: int = FRAME_MAX,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
        outstanding_max: int = OUTSTANDING_MAX,
        write_buffer_max: int = WRITE_BUFFER_MAX,
    ) -> None:
        self._endpoint = Endpoint(
            on_request if on_request is not None else _refuse,
            log,
            frame_max=frame_max,
            idle_timeout_s=idle_timeout_s,
            outstanding_max=outstanding_max,
            write_buffer_max=write_buffer_max,
        )
        self._connect_timeout_s = connect_timeout_s
        self._socket_factory = socket_factory
        self._on_disconnect = on_disconnect
        self._connections: dict[str, Connection] = {}
        self._opening: dict[str, asyncio.Task[Connection]] = {}

    def connected(self, address: str) -> bool:
        """Whether a connection to the address is open now."""
        connection = self._connections.get(address)
        return connection is not None and not connection.closed

    async def connect(self, address: str) -> Connection:
        """Open a connection, or return the open one. Raises ConnectFailed."""
        connection = self._connections.get(address)
        if connection is not None and not connection.closed:
            return connection
        if self._endpoint.closing:
            raise ConnectFailed(address, "client is closed")
        task = self._opening.get(address)
        if task is None:
            task = self._endpoint.open().create_task(self._open(address))
            self._opening[address] = task
            task.add_done_callback(lambda done: self._opened(address, done))
        # Several callers may wait for one attempt: one that is cancelled must not cancel it for the others.
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if task.cancelled() and (caller is None or not caller.cancelling()):
                raise ConnectFailed(address, "client is closed") from None
            raise

    def call_nowait(self, address: str, command: Command) -> asyncio.Future[Command]:
        """Send a request over an open connection and return the future of its answer; there is no time-out, and the
        caller may cancel the future. Raises ConnectFailed if no connection is open, CallRefused."""
        connection = self._connections.get(address)
        if connection is None or connection.closed:
            raise ConnectFailed(address, "no connection is open")
        return connection.call_nowait(command)

    async def call(self, address: str, command: Command, timeout_s: float) -> Command:
        """Send a request, opening a connection if needed, and wait for the answer. `timeout_s` covers both. Raises
        CallError; its `sent` tells whether the peer may have acted."""
        loop = self._endpoint.open()
        connection = self._connections.get(address)
        if connection is None or connection.closed:
            began = loop.time()
            try:
                async with asyncio.timeout(timeout_s):
                    connection = await self.connect(address)
            except TimeoutError:
                raise ConnectFailed(address, f"no connection after {timeout_s:g} s") from None
            timeout_s = max(0.0, timeout_s - (loop.time() - began))
        future = connection.call_nowait(command)
        opaque = command.opaque
        timer = loop.call_later(timeout_s, _expire, future, address, timeout_s)
        try:
            return await future
        finally:
            timer.cancel()
            connection.forget(opaque)

    async def oneway(self, address: str, command: Command) -> None:
        """Send a request that wants no answer; returns when it is queued. Raises ConnectFailed, CallRefused."""
        connection = await self.connect(address)
        command.flag |= FLAG_ONEWAY
        try:
            connection.send(command)
        except FrameError as error:
            raise CallRefused(address, error.reason) from None

    def disconnect(self, address: str) -> None:
        """Close the connection to an address, if there is one; what is outstanding fails."""
        connection = self._connections.get(address)
        if connection is not None:
            connection.close_reason = "closed by this end"
            connection.close()

    async def close(self) -> None:
        """Close all connections; outstanding calls fail with ConnectionLost. The client cannot be used again."""
        self._endpoint.closing = True
        for task in list(self._opening.values()):
            task.cancel()
        for connection in self._connections.values():
            connection.close_reason = connection.close_reason or "client closed"
        await self._endpoint.shut(_CLOSE_PATIENCE_S)

    async def _open(self, address: str) -> Connection:
        loop = self._endpoint.open()
        sock: socket.socket | None = None
        try:
            host, port = split_address(address)
            async with asyncio.timeout(self._connect_timeout_s):
                if self._socket_factory is None:
                    _, connection = await loop.create_connection(self._protocol, host, port)
                else:
                    sock = self._socket_factory()
                    sock.setblocking(False)
                    await loop.sock_connect(sock, (host, port))
                    _, connection = await loop.create_connection(self._protocol, sock=sock)
                    sock = None
        except TimeoutError:
            raise ConnectFailed(address, f"no connection after {self._connect_timeout_s:g} s") from None
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise ConnectFailed(address, reason) from None
        except ValueError as error:
            raise ConnectFailed(address, str(error)) from None
        finally:
            if sock is not None:
                sock.close()
        self._connections[address] = connection
        connection.on_close(lambda lost: self._lost(address, lost))
        return connection

    def _protocol(self) -> Connection:
        return Connection(self._endpoint)

    def _opened(self, address: str, task: asyncio.Task[Connection]) -> None:
        self._opening.pop(address, None)
        if not task.cancelled():
            # Seen here so that an attempt whose callers all went away is not reported as a lost exception.
            task.exception()

    def _lost(self, address: str, connection: Connection) -> None:
        if self._connections.get(address) is connection:
            del self._connections[address]
        if not self._endpoint.closing and self._on_disconnect is not None:
            self._on_disconnect(address)


def _refuse(connection: Connection, command: Command) -> Command:
    return unsupported(command)


def _expire(future: asyncio.Future[Command], address: str, timeout_s: float) -> None:
    if not future.done():
        future.set_exception(CallTimeout(address, f"no answer after {timeout_s:g} s"))
