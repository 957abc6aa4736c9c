"""Connections between the members of a group: each member dials every other and speaks on what it dialled.

What comes in on an accepted connection is what its dialler says. So either direction can fail by itself, as in a
network that is cut one way, and an answer never waits behind the other side's records. Messages may be lost: whatever
does not fit is dropped, and the core sends it again. asyncio on one thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from nodes.dledger.wire import Decoder, Envelope, Hello, WireError, encode_hello
from nodes.log import EventLog
from nodes.remoting.server import ListenError

__all__ = ["Links", "Listener"]

CONNECT_TIMEOUT_S = 1.0
RETRY_FIRST_S = 0.05
RETRY_MAX_S = 0.4
UNWRITTEN_MAX = 32 * 1024 * 1024
"""Bytes that may wait for a peer that does not read; messages beyond are dropped."""
STUCK_S = 1.5
"""A connection on which waiting bytes make no progress for this long is given up and dialled anew, so that TCP's
back-off does not outlast a healed network."""
_LOOK_S = 0.5
ACCEPTED_MAX = 64
HELLO_TIMEOUT_S = 5.0


class Listener(Protocol):
    """Who is told."""

    def received(self, sender: str, envelopes: list[Envelope]) -> None:
        """Messages of one member, in order."""
        ...

    def closed_by(self, peer: str) -> None:
        """The connection with this member was closed or refused by its side."""
        ...

    def reached(self, peer: str) -> None:
        """A connection to this member stands."""
        ...

    def introduced(self, hello: Hello) -> None:
        """A member said who and where it is."""
        ...


class Links:
    """All connections of one member."""

    def __init__(self, hello: Callable[[str], Hello], listener: Listener, log: EventLog) -> None:
        self.listener = listener
        self._hello = hello
        self._log = log
        self._server: asyncio.AbstractServer | None = None
        self._dialled: dict[str, _Dialler] = {}
        self._accepted: dict[_Accepted, None] = {}
        self._speakers: dict[str, _Accepted] = {}
        self._warned: set[str] = set()
        self._look: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; 0 takes a free port. Returns the port. Raises ListenError."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: _Accepted(self), host, port)
        except OSError as error:
            raise ListenError(f"cannot listen for members of the group on {host}:{port}: {error.strerror}") from error
        self._look = loop.call_later(_LOOK_S, self._look_after)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close everything. What was sent before still leaves."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        for dialler in list(self._dialled.values()):
            dialler.stop()
        self._dialled.clear()
        if self._server is not None:
            self._server.close()
        for accepted in list(self._accepted):
            accepted.abort()
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    def members(self, addresses: dict[str, str]) -> None:
        """Keep connections to these, name to host:port, and to no others."""
        for name, dialler in list(self._dialled.items()):
            if addresses.get(name) != dialler.address:
                dialler.stop()
                del self._dialled[name]
        for name, address in addresses.items():
            if name not in self._dialled:
                self._dialled[name] = _Dialler(self, name, address)

    def send(self, to: str, frame: bytes) -> bool:
        """Write a frame, if there is a connection with room. False if it was dropped."""
        dialler = self._dialled.get(to)
        return dialler is not None and dialler.write(frame)

    def connected(self, name: str) -> bool:
        """A connection to this member stands."""
        dialler = self._dialled.get(name)
        return dialler is not None and dialler.link is not None

    # What connections tell.

    def hello_to(self, name: str) -> bytes:
        """The first frame to this member."""
        return encode_hello(self._hello(name))

    def warn_once(self, key: str, **fields: object) -> None:
        """Log what would otherwise be logged with every attempt."""
        if key not in self._warned and len(self._warned) < 1000:
            self._warned.add(key)
            self._log.warning("group-connection", **fields)

    def accepted(self, connection: _Accepted) -> None:
        """Somebody called."""
        if len(self._accepted) >= ACCEPTED_MAX:
            self.warn_once("full", peer=connection.peer, reason=f"more than {ACCEPTED_MAX} connections")
            connection.abort()
            return
        self._accepted[connection] = None

    def welcome(self, connection: _Accepted, hello: Hello) -> str | None:
        """Whether this caller is right here: None, or why not."""
        own = self._hello(hello.sender)
        if hello.version != own.version:
            return f"speaks version {hello.version}, this node {own.version}"
        if hello.group != own.group:
            return f"belongs to the group {hello.group}, this node to {own.group} (dLegerGroup)"
        if hello.to != own.sender:
            return f"wants {hello.to}, this node is {own.sender} (dLegerPeers differ)"
        if hello.sender == own.sender:
            return f"calls itself {own.sender}, as this node does (dLegerSelfId)"
        if hello.segment_size != own.segment_size:
            return f"has mappedFileSizeCommitLog={hello.segment_size}, this node {own.segment_size}"
        older = self._speakers.get(hello.sender)
        self._speakers[hello.sender] = connection
        if older is not None:
            older.abort()
        dialler = self._dialled.get(hello.sender)
        if dialler is not None:
            dialler.hurry()
        self.listener.introduced(hello)
        return None

    def left(self, connection: _Accepted, by_peer: bool) -> None:
        """A caller is gone."""
        self._accepted.pop(connection, None)
        name = connection.name
        if name and self._speakers.get(name) is connection:
            del self._speakers[name]
            if by_peer:
                self.listener.closed_by(name)

    def _look_after(self) -> None:
        loop = asyncio.get_running_loop()
        self._look = loop.call_later(_LOOK_S, self._look_after)
        now = loop.time()
        for dialler in self._dialled.values():
            if dialler.link is not None:
                dialler.link.look(now)
        for accepted in list(self._accepted):
            if not accepted.name and now - accepted.since > HELLO_TIMEOUT_S:
                accepted.abort()


def _by_peer(error: Exception | None) -> bool:
    """Whether a connection ended because the other side closed it, and not because nothing was heard of it."""
    return error is None or isinstance(error, ConnectionResetError | BrokenPipeError)


class _Dialler:
    """Keeps one connection to one member."""

    def __init__(self, links: Links, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.link: _Dialled | None = None
        self._links = links
        self._hurry = asyncio.Event()
        self._down = False
        self._task = asyncio.get_running_loop().create_task(self._keep())

    def stop(self) -> None:
        """Give up."""
        self._task.cancel()
        if self.link is not None:
            self.link.end()
            self.link = None

    def hurry(self) -> None:
        """The other side lives: do not wait for the next attempt."""
        self._hurry.set()

    def write(self, frame: bytes) -> bool:
        """Write if there is a connection with room."""
        link = self.link
        return link is not None and link.write(frame)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        pause = RETRY_FIRST_S
        host, _, port = self.address.rpartition(":")
        while True:
            self._hurry.clear()
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    _, link = await loop.create_connection(lambda: _Dialled(self._links, self.name), host, int(port))
            except ConnectionRefusedError:
                if not self._down:
                    self._down = True
                    self._links.listener.closed_by(self.name)
            except (OSError, TimeoutError):
                pass
            else:
                self._down = False
                self.link = link
                self._links.listener.reached(self.name)
                began = loop.time()
                by_peer = await link.lost
                self.link = None
                if by_peer:
                    self._down = True
                    self._links.listener.closed_by(self.name)
                if loop.time() - began > RETRY_MAX_S:
                    pause = RETRY_FIRST_S
            try:
                async with asyncio.timeout(pause):
                    await self._hurry.wait()
            except TimeoutError:
                pass
            pause = min(2 * pause, RETRY_MAX_S)


class _Dialled(asyncio.Protocol):
    """A connection that we speak on."""

    transport: asyncio.Transport

    def __init__(self, links: Links, name: str) -> None:
        self.lost: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._links = links
        self._name = name
        self._ended = False
        self._waiting = 0
        self._moved = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._links.hello_to(self._name))

    def write(self, frame: bytes) -> bool:
        """Write unless too much waits already."""
        if self.transport.is_closing() or self.transport.get_write_buffer_size() > UNWRITTEN_MAX:
            return False
        self.transport.write(frame)
        return True

    def look(self, now: float) -> None:
        """Give up if what waits does not move."""
        waiting = self.transport.get_write_buffer_size()
        if waiting == 0 or waiting < self._waiting or self._moved == 0.0:
            self._moved = now
        elif now - self._moved > STUCK_S:
            self._links.warn_once(f"stuck {self._name}", peer=self._name, reason="waiting bytes do not move")
            self.end()
        self._waiting = waiting

    def end(self) -> None:
        """Cut it."""
        self._ended = True
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(_by_peer(exc) and not self._ended)


class _Accepted(asyncio.Protocol):
    """A connection that another member speaks on."""

    transport: asyncio.Transport

    def __init__(self, links: Links) -> None:
        self.name = ""
        self.peer = ""
        self.since = asyncio.get_running_loop().time()
        self._links = links
        self._decoder = Decoder()
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        self.peer = f"{name[0]}:{name[1]}" if isinstance(name, tuple) and len(name) >= 2 else "unknown"
        self._links.accepted(self)

    def abort(self) -> None:
        """Cut it."""
        self._ended = True
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        try:
            envelopes = self._decoder.feed(data)
            if not self.name and self._decoder.hello is not None:
                hello = self._decoder.hello
                refusal = self._links.welcome(self, hello)
                if refusal is not None:
                    self._links.warn_once(
                        f"{hello.sender} {refusal}", peer=f"{hello.sender} ({self.peer})", reason=refusal
                    )
                    self.abort()
                    return
                self.name = hello.sender
            for message, _ in envelopes:
                if message.sender != self.name:
                    raise WireError(f"a message of {message.sender} on the connection of {self.name}")
        except WireError as problem:
            who = f"{self.name} ({self.peer})" if self.name else self.peer
            self._links.warn_once(f"{self.peer} {problem}", peer=who, reason=f"garbled: {problem}")
            self.abort()
            return
        if envelopes:
            self._links.listener.received(self.name, envelopes)

    def connection_lost(self, exc: Exception | None) -> None:
        self._links.left(self, _by_peer(exc) and not self._ended)
