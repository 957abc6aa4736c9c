"""One TCP connection that carries requests in both directions, and what all connections of a program share.

The loop calls `data_received`; every whole command in the bytes is handled at once, synchronously. What is to be sent
is queued and written once per loop iteration for all connections together, so that a burst of answers costs one system
call a connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar, cast

from nodes.limits import FRAME_MAX, IDLE_TIMEOUT_S, OUTSTANDING_MAX, WRITE_BUFFER_MAX
from nodes.log import EventLog
from nodes.remoting.codes import ResponseCode
from nodes.remoting.command import FLAG_ONEWAY, FLAG_RESPONSE, Command
from nodes.remoting.frame import FrameDecoder, FrameError, encode

__all__ = [
    "CallError",
    "CallRefused",
    "CallTimeout",
    "ConnectFailed",
    "Connection",
    "ConnectionLost",
    "Endpoint",
    "Handler",
    "unsupported",
]

_IDLE_SCANS = 8
"""Scans for idle connections in one idle time-out."""

_OPAQUE_MASK = 0x7FFFFFFF


class CallError(Exception):
    """A call that got no answer. `sent` is False only if certainly no byte of the request left this process."""

    sent: ClassVar[bool] = True

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"{address}: {reason}")
        self.address = address
        self.reason = reason


class ConnectFailed(CallError):
    """No connection could be opened."""

    sent: ClassVar[bool] = False


class CallRefused(CallError):
    """The request was not sent: it is too large, or too many are outstanding already."""

    sent: ClassVar[bool] = False


class ConnectionLost(CallError):
    """The connection broke while the request was outstanding: whether the peer acted on it is unknown."""


class CallTimeout(CallError):
    """No answer in time: whether the peer acted on the request is unknown."""


def unsupported(command: Command) -> Command:
    """The answer to a request code that this program does not serve, in RocketMQ's words."""
    return command.reply(ResponseCode.REQUEST_CODE_NOT_SUPPORTED.value, f" request type {command.code} not supported")


class Endpoint:
    """What the connections of one server or one client share: the handler, the log, the bounds and the flush.

    `closing` is set when the owner closes on purpose: losses are then not news.
    """

    __slots__ = (
        "_dirty",
        "_flush_due",
        "_idle_handle",
        "closing",
        "connections",
        "frame_max",
        "handler",
        "idle_timeout_s",
        "log",
        "loop",
        "outstanding_max",
        "write_buffer_max",
    )

    def __init__(
        self,
        handler: Handler,
        log: EventLog | None,
        *,
        frame_max: int = FRAME_MAX,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
        outstanding_max: int = OUTSTANDING_MAX,
        write_buffer_max: int = WRITE_BUFFER_MAX,
    ) -> None:
        self.handler = handler
        self.log = log
        self.frame_max = frame_max
        self.idle_timeout_s = idle_timeout_s
        self.outstanding_max = outstanding_max
        self.write_buffer_max = write_buffer_max
        self.connections: dict[Connection, None] = {}
        self.closing = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self._dirty: list[Connection] = []
        self._flush_due = False
        self._idle_handle: asyncio.TimerHandle | None = None

    def open(self) -> asyncio.AbstractEventLoop:
        """Bind to the running loop and begin to look for idle connections."""
        if self.loop is None:
            self.loop = asyncio.get_running_loop()
            self._idle_handle = self.loop.call_later(self.idle_timeout_s / _IDLE_SCANS, self._scan_idle)
        return self.loop

    def warn(self, event: str, **fields: object) -> None:
        """Log a warning, if there is a log."""
        if self.log is not None:
            self.log.warning(event, **fields)

    def mark_dirty(self, connection: Connection) -> None:
        """Have the connection's queue written at the end of this loop iteration."""
        self._dirty.append(connection)
        if not self._flush_due:
            self._flush_due = True
            assert self.loop is not None, "a connection exists before its endpoint was opened"
            self.loop.call_soon(self._flush_all)

    def _flush_all(self) -> None:
        self._flush_due = False
        dirty = self._dirty
        self._dirty = []
        for connection in dirty:
            connection.flush()

    def _scan_idle(self) -> None:
        assert self.loop is not None, "scanning before the endpoint was opened"
        for connection in list(self.connections):
            connection.idle_scans += 1
            if connection.idle_scans > _IDLE_SCANS:
                self.warn("connection idle", peer=connection.peer, idle_s=self.idle_timeout_s)
                connection.close()
        self._idle_handle = self.loop.call_later(self.idle_timeout_s / _IDLE_SCANS, self._scan_idle)

    async def shut(self, patience_s: float) -> None:
        """Close all connections; those that do not drain within `patience_s` are cut."""
        self.closing = True
        if self._idle_handle is not None:
            self._idle_handle.cancel()
            self._idle_handle = None
        gone = []
        for connection in list(self.connections):
            connection.flush()
            connection.close()
            gone.append(connection.gone)
        if gone:
            _, late = await asyncio.wait(gone, timeout=patience_s)
            if late:
                for connection in list(self.connections):
                    connection.abort()
                await asyncio.wait(late, timeout=patience_s)
        self.loop = None


class Connection(asyncio.Protocol):
    """One open connection, seen from either end.

    `peer` is the other end as `ip:port`; `attachments` belongs to the handlers (what they know about this peer).
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.peer = "?"
        self.closed = False
        self.close_reason = ""
        """Why this end closed the connection; empty while open or if the peer did."""
        self.attachments: dict[str, object] = {}
        self.idle_scans = 0
        self.unanswered = 0
        """Requests of the peer that a handler has taken and not answered yet."""
        self._endpoint = endpoint
        self._decoder = FrameDecoder(endpoint.frame_max)
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._pending: dict[int, asyncio.Future[Command]] = {}
        self._opaque = 0
        self._close_callbacks: list[Callable[[Connection], None]] = []
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection is closed completely."""

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        # uvloop's transports have the methods of asyncio.Transport and not its type.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._endpoint.write_buffer_max)
        address = transport.get_extra_info("peername")
        if isinstance(address, tuple) and len(address) >= 2:
            self.peer = f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
        self._endpoint.connections[self] = None

    def data_received(self, data: bytes) -> None:
        """Handle every command that these bytes complete."""
        self.idle_scans = 0
        try:
            commands = self._decoder.feed(data)
        except FrameError as error:
            for command in error.decoded:
                self._take(command)
            self._fail(error.reason)
            return
        for command in commands:
            self._take(command)

    def pause_writing(self) -> None:
        """The peer reads too slowly and the bound of what may wait for it is reached: drop it."""
        self._endpoint.warn(
            "connection dropped",
            peer=self.peer,
            reason=f"peer reads too slowly: more than {self._endpoint.write_buffer_max} bytes wait for it",
        )
        self.close_reason = "peer reads too slowly"
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what was outstanding and tell those who asked."""
        self.closed = True
        self._endpoint.connections.pop(self, None)
        pending, self._pending = self._pending, {}
        reason = self.close_reason or (f"connection lost: {exc}" if exc else "connection closed by the peer")
        for future in pending.values():
            if not future.done():
                future.set_exception(ConnectionLost(self.peer, reason))
        callbacks, self._close_callbacks = self._close_callbacks, []
        for callback in callbacks:
            try:
                callback(self)
            except Exception as error:
                # One owner's mistake must not keep the others from learning of the loss.
                self._endpoint.warn("close callback failed", peer=self.peer, reason=error)
        if not self.gone.done():
            self.gone.set_result(None)

    # What handlers and callers use

    def send(self, command: Command) -> None:
        """Queue a command; dropped if the connection is closed. Raises FrameError if it is too large."""
        if not self.closed:
            self._queue(encode(command))

    def send_bytes(self, frame: bytes) -> None:
        """Queue a whole frame that answers a request (hot path); dropped if the connection is closed."""
        if self.closed:
            return
        if self.unanswered:
            self.unanswered -= 1
        self._queue(frame)

    def reply(self, request: Command, response: Command) -> None:
        """Answer a request; nothing is sent if it was one-way or the connection is closed."""
        if self.closed or request.flag & FLAG_ONEWAY:
            return
        response.opaque = request.opaque
        response.flag |= FLAG_RESPONSE
        try:
            frame = encode(response)
        except FrameError as error:
            self._endpoint.warn("answer too large", peer=self.peer, code=request.code, reason=error.reason)
            frame = encode(request.reply(ResponseCode.SYSTEM_ERROR.value, error.reason))
        self.send_bytes(frame)

    def call_nowait(self, command: Command) -> asyncio.Future[Command]:
        """Send a request and return the future of its answer. The future fails with ConnectionLost if the connection
        breaks; cancelling it forgets the request. Raises CallRefused if the request cannot be sent."""
        if self.closed:
            raise CallRefused(self.peer, "connection is closed")
        pending = self._pending
        if len(pending) >= self._endpoint.outstanding_max:
            raise CallRefused(self.peer, f"{len(pending)} requests are outstanding already")
        opaque = (self._opaque + 1) & _OPAQUE_MASK
        self._opaque = command.opaque = opaque
        try:
            frame = encode(command)
        except FrameError as error:
            raise CallRefused(self.peer, error.reason) from None
        loop = self._endpoint.loop
        assert loop is not None, "a connection outlived its endpoint"
        future: asyncio.Future[Command] = loop.create_future()
        pending[opaque] = future
        self._queue(frame)
        return future

    def forget(self, opaque: int) -> None:
        """Stop waiting for the answer to a request; a late answer is ignored."""
        self._pending.pop(opaque, None)

    @property
    def outstanding(self) -> int:
        """Our requests on this connection that are not answered yet."""
        return len(self._pending)

    def on_close(self, callback: Callable[[Connection], None]) -> None:
        """Call back once when the connection is closed, whoever closes it; at once if it is closed already."""
        if self.closed:
            callback(self)
        else:
            self._close_callbacks.append(callback)

    def flush(self) -> None:
        """Write what is queued."""
        out = self._out
        if not out or self._transport is None:
            return
        self._out = []
        self.idle_scans = 0
        if self._transport.is_closing():
            # The peer has closed, and the loop is about to say so; a write would raise and leave the other connections
            # of this flush unwritten.
            return
        self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def close(self) -> None:
        """Close after what is queued was written."""
        self.flush()
        self.closed = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once; what is queued is dropped."""
        self.closed = True
        self._out = []
        if self._transport is not None:
            self._transport.abort()

    # Inside

    def _queue(self, frame: bytes) -> None:
        out = self._out
        out.append(frame)
        if len(out) == 1:
            self._endpoint.mark_dirty(self)

    def _take(self, command: Command) -> None:
        if command.flag & FLAG_RESPONSE:
            future = self._pending.pop(command.opaque, None)
            if future is not None and not future.done():
                future.set_result(command)
            elif self._endpoint.log is not None:
                self._endpoint.log.debug("late answer", peer=self.peer, opaque=command.opaque, code=command.code)
            return
        if self.closed:
            return
        oneway = command.flag & FLAG_ONEWAY
        if self.unanswered >= self._endpoint.outstanding_max and not oneway:
            self.unanswered += 1
            busy = f"[OVERLOAD]{self._endpoint.outstanding_max} requests of this connection are not answered yet"
            self.reply(command, command.reply(ResponseCode.SYSTEM_BUSY.value, busy))
            return
        if not oneway:
            self.unanswered += 1
        try:
            response = self._endpoint.handler(self, command)
        except Exception as error:
            # The boundary of the program: whatever a handler raises concerns this request alone.
            self._endpoint.warn("request failed", peer=self.peer, code=command.code, reason=error)
            response = command.reply(ResponseCode.SYSTEM_ERROR.value, f"{type(error).__name__}: {error}")
        if response is not None and not oneway:
            self.reply(command, response)

    def _fail(self, reason: str) -> None:
        self.close_reason = reason
        self._endpoint.warn("connection dropped", peer=self.peer, reason=reason)
        self.close()


Handler = Callable[[Connection, Command], Command | None]
"""Serves one request: returns the response, or None if it is answered later (`reply`) or never (one-way)."""
