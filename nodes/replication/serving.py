"""The replication port of a node that serves as primary. asyncio on one thread.

All decisions are made in `primary.py`; here its actions are carried out, in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

from nodes.flaws import Flaw
from nodes.log import EventLog
from nodes.replication.epochs import Epoch
from nodes.replication.frames import Decoder, Frame, FrameError, Progress
from nodes.replication.limits import OFFSETS_INTERVAL_S, UNWRITTEN_MAX
from nodes.replication.lineage import Lineage
from nodes.replication.ports import Identity, PrimaryTables, ReplicaState, SourceLog, Timing
from nodes.replication.primary import Acked, Action, Close, Happened, Noted, PrimaryMachine, Send

__all__ = ["Primary"]

_CLOSING_S = 1.0
"""How long last words may take to leave before the connection is cut."""


def _nothing() -> None:
    """Nobody listens."""


def _peer(transport: asyncio.BaseTransport) -> str:
    name = transport.get_extra_info("peername")
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) and len(name) >= 2 else "unknown"


def _close(transport: asyncio.Transport) -> None:
    """Let what was written leave, but not for ever."""
    transport.close()
    if transport.get_write_buffer_size():
        asyncio.get_running_loop().call_later(_CLOSING_S, transport.abort)


class Primary:
    """The replication port of a node that serves as primary, for one epoch.

    `lineage` must have minted the epoch before; `store` and `tables` are those of the broker. Call `notify` once after
    every write of the log and `on_ack` tells when `acked` or `in_sync` may have changed.
    """

    def __init__(
        self,
        store: SourceLog,
        lineage: Lineage,
        tables: PrimaryTables,
        identity: Identity,
        *,
        log: EventLog,
        timing: Timing = Timing(),  # noqa: B008 (an immutable value)
        flaws: frozenset[Flaw] = frozenset(),
    ) -> None:
        epoch = lineage.table.last
        if epoch is None:
            raise ValueError("a primary needs an epoch: mint one first")
        self.epoch: Epoch = epoch
        self.on_ack: Callable[[], None] = _nothing
        """Called at most once per batch of frames."""
        self._lineage = lineage
        self._log = log
        self._machine = PrimaryMachine(
            identity,
            lineage.store_id,
            epoch,
            lineage.table,
            store,
            tables,
            timing=timing,
            highest=lineage.highest,
            flaws=flaws,
        )
        self._links: dict[int, _PrimaryLink] = {}
        self._next_link = 0
        self._server: asyncio.AbstractServer | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen (haListenPort; 0 chooses one). Returns the port. Raises OSError if it is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _PrimaryLink(self), host, port)
        port = int(self._server.sockets[0].getsockname()[1])
        self._timer = loop.call_later(OFFSETS_INTERVAL_S, self._tick)
        self._log.event("replication-listening", host=host, port=port, epoch=self.epoch.number, id=self.epoch.id)
        return port

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for link in list(self._links.values()):
            link.transport.abort()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def notify(self) -> None:
        """The log has grown: send it now."""
        if self._links:
            self._do(self._machine.advanced(self._now()))

    def tables_changed(self) -> None:
        """A topic or a group was created, changed or deleted: send it now."""
        if self._links:
            self._do(self._machine.tables_changed(self._now()))

    def offsets_reset(self, progress: Progress) -> None:
        """An operator has set these offsets, in the table too: replicas follow, downwards as well."""
        self._do(self._machine.reset(progress, self._now()))

    def acked(self, copies: int) -> int:
        """The largest offset held by at least `copies` distinct stores, this one included; 0 if there are not so many.

        `copies` of 1 waits for nobody: the end of what is written here.
        """
        return self._machine.acked(copies)

    def in_sync(self) -> int:
        """Other stores that are connected, compared, and less than haSlaveFallbehindMax behind."""
        return self._machine.in_sync()

    def replicas(self) -> list[ReplicaState]:
        """Every store that was compared in this epoch."""
        return self._machine.replicas()

    # From the connections.

    def joined(self, link: _PrimaryLink) -> int:
        """A connection was made. Returns its number."""
        self._next_link += 1
        self._links[self._next_link] = link
        self._do(self._machine.connected(self._next_link, link.peer, self._now()))
        return self._next_link

    def received(self, number: int, frames: Sequence[Frame]) -> None:
        """Frames arrived."""
        self._do(self._machine.received(number, frames, self._now()))

    def garbled(self, number: int, problem: FrameError) -> None:
        """A connection carries something else."""
        self._do([Close(number, f"garbled: {problem}"), *self._machine.disconnected(number)])

    def left(self, number: int) -> None:
        """A connection is gone."""
        self._links.pop(number, None)
        self._do(self._machine.disconnected(number))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(OFFSETS_INTERVAL_S, self._tick)
        if self._links:
            self._do(self._machine.tick(loop.time()))

    def _do(self, actions: list[Action]) -> None:
        acked = False
        for action in actions:
            match action:
                case Send(number, data):
                    link = self._links.get(number)
                    if link is not None:
                        link.transport.write(data)
                        if link.transport.get_write_buffer_size() > UNWRITTEN_MAX:
                            self._log.warning("replica-not-reading", peer=link.peer)
                            link.transport.abort()
                case Acked():
                    acked = True
                case Close(number, reason):
                    link = self._links.get(number)
                    if link is not None:
                        self._log.warning("replica-closed", peer=link.peer, reason=reason)
                        _close(link.transport)
                case Happened(name, fields):
                    self._log.event(name, **fields)
                case Noted(number):
                    self._note(number)
        if acked:
            self.on_ack()

    def _note(self, number: int) -> None:
        try:
            self._lineage.note(number)
        except OSError as problem:
            self._log.error("epoch-file-not-written", reason=problem)


class _PrimaryLink(asyncio.Protocol):
    """One connection of a replica."""

    transport: asyncio.Transport

    def __init__(self, primary: Primary) -> None:
        self._primary = primary
        self._decoder = Decoder()
        self._number = 0
        self.peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self.peer = _peer(self.transport)
        self._number = self._primary.joined(self)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        try:
            frames = self._decoder.feed(data)
        except FrameError as problem:
            self._primary.garbled(self._number, problem)
            return
        if frames:
            self._primary.received(self._number, frames)

    def connection_lost(self, exc: Exception | None) -> None:
        self._primary.left(self._number)
