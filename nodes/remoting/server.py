"""The listening side: accepts connections and gives each request to one handler."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Any

from nodes.limits import CONNECTIONS_MAX, FRAME_MAX, IDLE_TIMEOUT_S, OUTSTANDING_MAX, WRITE_BUFFER_MAX
from nodes.log import EventLog
from nodes.remoting.command import Command
from nodes.remoting.connection import Connection, Endpoint, Handler, unsupported

__all__ = ["Connection", "Handler", "ListenError", "RemotingServer", "by_code", "unsupported"]

_BACKLOG = 1024
_STOP_PATIENCE_S = 1.0


class ListenError(Exception):
    """The server cannot listen where it was told to. The text says where and why."""


def by_code(handlers: Mapping[int, Handler]) -> Handler:
    """A handler that dispatches on the request code and answers unknown codes with REQUEST_CODE_NOT_SUPPORTED."""
    table = {int(code): handler for code, handler in handlers.items()}

    def handle(connection: Connection, command: Command) -> Command | None:
        handler = table.get(command.code)
        return unsupported(command) if handler is None else handler(connection, command)

    return handle


class RemotingServer:
    """Serves remoting requests on one port.

    A connection is closed, with a logged reason, when its bytes are not frames, when it begins with a TLS handshake,
    when it was silent for `idle_timeout_s`, when its peer reads too slowly, or when too many are open. None of these
    concerns any other connection.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        log: EventLog,
        frame_max: int = FRAME_MAX,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
        outstanding_max: int = OUTSTANDING_MAX,
        write_buffer_max: int = WRITE_BUFFER_MAX,
        connections_max: int = CONNECTIONS_MAX,
        on_connect: Callable[[Connection], None] | None = None,
    ) -> None:
        self._endpoint = Endpoint(
            handler,
            log,
            frame_max=frame_max,
            idle_timeout_s=idle_timeout_s,
            outstanding_max=outstanding_max,
            write_buffer_max=write_buffer_max,
        )
        self._log = log
        self._connections_max = connections_max
        self._on_connect = on_connect
        self._server: asyncio.Server | None = None

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The open connections, oldest first."""
        return tuple(self._endpoint.connections)

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the real port, which differs from `port` if that is 0. Raises ListenError."""
        loop = self._endpoint.open()
        try:
            self._server = await loop.create_server(
                lambda: _Accepted(self._endpoint, self._connections_max, self._on_connect),
                host,
                port,
                backlog=_BACKLOG,
                reuse_address=True,
            )
        except OSError as error:
            await self._endpoint.shut(0)
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise ListenError(f"cannot listen on {host}:{port}: {reason}") from None
        listening: Any = self._server  # uvloop's has a list of sockets where asyncio's has a tuple
        real: int = listening.sockets[0].getsockname()[1]
        self._log.event("listening", host=host, port=real)
        return real

    async def stop(self) -> None:
        """Stop listening and close all connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._endpoint.shut(_STOP_PATIENCE_S)


class _Accepted(Connection):
    """A connection that a peer opened."""

    def __init__(
        self, endpoint: Endpoint, connections_max: int, on_connect: Callable[[Connection], None] | None
    ) -> None:
        super().__init__(endpoint)
        self._connections_max = connections_max
        self._on_connect = on_connect

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Refuse a connection too many."""
        super().connection_made(transport)
        if len(self._endpoint.connections) > self._connections_max:
            self.close_reason = f"more than {self._connections_max} connections"
            self._endpoint.warn("connection dropped", peer=self.peer, reason=self.close_reason)
            self.abort()
        elif self._on_connect is not None:
            self._on_connect(self)
