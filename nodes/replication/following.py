"""A node that follows a primary: dials, copies, acknowledges. asyncio on one thread.

All decisions are made in `replica.py`; here its actions are carried out, in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

from nodes.flaws import Flaw
from nodes.log import EventLog
from nodes.replication.carrying import carry_out
from nodes.replication.frames import Decoder, Frame, FrameError
from nodes.replication.limits import (
    CONNECT_TIMEOUT_S,
    OFFSETS_BACK_INTERVAL_S,
    RECONNECT_FIRST_S,
    RECONNECT_MAX_S,
    WRITTEN_DELAY_S,
)
from nodes.replication.lineage import EpochDisk, Lineage
from nodes.replication.ports import Identity, ReplicaLog, ReplicaTables, Timing
from nodes.replication.progress import Marks
from nodes.replication.replica import Do, Leave, Phase, ReplicaMachine

__all__ = ["Replica"]

_MARKS_INTERVAL_S = 1.0
"""Progress made on the replica is persisted at most this often."""


def _nothing_about(_offset: int) -> None:
    """Nobody listens."""


class Replica:
    """A node that follows a primary: dials its replication port, again and again, and copies its log and tables.

    A failure of the store ends it: nothing is acknowledged any more and the connection stays closed, so that the
    primary sees at once that this copy is gone.
    """

    def __init__(
        self,
        store: ReplicaLog,
        lineage: Lineage,
        tables: ReplicaTables,
        identity: Identity,
        *,
        disk: EpochDisk,
        marks_path: str,
        log: EventLog,
        timing: Timing = Timing(),  # noqa: B008 (an immutable value)
        flaws: frozenset[Flaw] = frozenset(),
    ) -> None:
        self.failed: str | None = None
        """Why this replica has stopped for good, or None."""
        self.on_written: Callable[[int], None] = _nothing_about
        """Called with the new end within WRITTEN_DELAY_S after log bytes were written, once for all of them."""
        self.on_cut: Callable[[int], None] = _nothing_about
        """Called with the new end after the log was truncated or begun anew."""
        self._store = store
        self._lineage = lineage
        self._tables = tables
        self._disk = disk
        self._marks_path = marks_path
        self._log = log
        self._marks = self._load_marks()
        self._marks_saved = self._marks.changes
        self._machine = ReplicaMachine(identity, lineage.store_id, self._marks, timing=timing, flaws=flaws)
        self._address = ""
        self._link: _ReplicaLink | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._telling: asyncio.TimerHandle | None = None
        self._marks_due = 0.0

    @property
    def address(self) -> str:
        """Where the primary is sought; empty if stopped."""
        return self._address

    @property
    def following(self) -> bool:
        """Connected and compared."""
        return self._machine.phase is Phase.FOLLOWING

    @property
    def primary_epoch(self) -> int:
        """Number of the epoch that is followed now; 0 if none."""
        return self._machine.epoch_number

    @property
    def lag(self) -> int:
        """Bytes known to be missing here."""
        return max(0, self._machine.primary_end - self._store.written_end)

    def start(self, master_ha_address: str) -> None:
        """Follow the primary at `ip:port`. A present connection to another one is given up."""
        if self.failed is not None or master_ha_address == self._address:
            return
        self._address = master_ha_address
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._timer = loop.call_later(OFFSETS_BACK_INTERVAL_S, self._tick)
        self._hang_up()
        self._dialling = loop.create_task(self._dial())

    def stop(self) -> None:
        """Follow nobody. After this returns the log is not touched any more."""
        self._address = ""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        self._hang_up()
        self._save_marks()

    def consumer_committed(self, topic_at_group: str, queue_id: int, offset: int) -> None:
        """A consumer committed its progress here, on the replica: the primary is to learn of it."""
        if not self._marks.commit(topic_at_group, queue_id, offset):
            self._log.warning("progress-not-marked", group=topic_at_group, queue=queue_id, offset=offset)

    def forget_progress(self) -> None:
        """This node becomes primary: its own table of offsets is the truth now."""
        self._marks.clear()
        self._save_marks()

    # Dialling.

    async def _dial(self) -> None:
        """Keep one connection to the primary until cancelled."""
        pause = RECONNECT_FIRST_S
        while True:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    link = await self._connect()
            except (OSError, TimeoutError, ValueError) as problem:
                self._log.debug("primary-unreachable", address=self._address, reason=problem)
            else:
                await link.lost.wait()
                if link.followed:
                    pause = RECONNECT_FIRST_S
            await asyncio.sleep(pause)
            pause = min(pause * 2, RECONNECT_MAX_S)

    async def _connect(self) -> _ReplicaLink:
        host, _, port = self._address.rpartition(":")
        _, link = await asyncio.get_running_loop().create_connection(lambda: _ReplicaLink(self), host, int(port))
        return link

    def joined(self, link: _ReplicaLink) -> None:
        """The connection stands."""
        if self.failed is not None or not self._address:
            link.transport.abort()
            return
        self._link = link
        store, lineage = self._store, self._lineage
        self._do(
            self._machine.connected(
                lineage.claims(store.written_end),
                lineage.highest,
                lineage.followed,
                store.min_offset,
                store.written_end,
                self._now(),
            )
        )

    def received(self, link: _ReplicaLink, frames: Sequence[Frame]) -> None:
        """Frames arrived."""
        if link is not self._link:
            return
        self._do(self._machine.received(frames, self._now()))
        if self.following:
            link.followed = True
            self._do(self._machine.stored(self._store.written_end, self._now()))

    def garbled(self, link: _ReplicaLink, problem: FrameError) -> None:
        """The connection carries something else."""
        if link is self._link:
            self._machine.disconnected()
            self._do([Leave(f"garbled: {problem}")])

    def left(self, link: _ReplicaLink) -> None:
        """The connection is gone."""
        if link is self._link:
            self._link = None
            if self.following:
                self._log.event("primary-lost", address=self._address, end=self._store.written_end)
            self._machine.disconnected()

    # Carrying out.

    def tell(self, data: bytes) -> None:
        """Write to the connection."""
        if self._link is not None:
            self._link.transport.write(data)

    def leave(self, reason: str) -> None:
        """Close the connection."""
        self._log.warning("primary-left", address=self._address, reason=reason)
        if self._link is not None:
            self._link.transport.abort()

    def told(self, name: str, fields: dict[str, object]) -> None:
        """Log what happened."""
        self._log.event(name, **fields)

    def cut(self, offset: int) -> None:
        """The log was cut."""
        self.on_cut(offset)

    def _do(self, actions: list[Do]) -> None:
        """Carry out in order. A failure of the store, the epoch file or a table ends this replica."""
        if self.failed is not None:
            return
        try:
            if self._store.failed is not None:
                raise OSError(f"the store has failed: {self._store.failed}")
            grown = carry_out(actions, self._store, self._lineage, self._tables, self)
        except Exception as problem:  # whatever a store raises, a copy that may be wrong must not acknowledge
            self._fail(problem)
            return
        if grown and self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(WRITTEN_DELAY_S, self._tell_written)

    def _tell_written(self) -> None:
        self._telling = None
        self.on_written(self._store.written_end)

    def _fail(self, problem: Exception) -> None:
        self.failed = f"{type(problem).__name__}: {problem}"
        self._log.error("replica-failed", reason=self.failed, end=self._store.written_end)
        self._hang_up()

    def _hang_up(self) -> None:
        """Give up the connection, and the attempt to make one."""
        self._machine.disconnected()
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None
        if self._link is not None:
            self._link.transport.abort()
            self._link = None

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(OFFSETS_BACK_INTERVAL_S, self._tick)
        if self._link is not None:
            self._do(self._machine.tick(loop.time()))
        if loop.time() >= self._marks_due and self._marks.changes != self._marks_saved:
            self._marks_due = loop.time() + _MARKS_INTERVAL_S
            self._save_marks()

    # Marks.

    def _load_marks(self) -> Marks:
        if not self._disk.exists(self._marks_path):
            return Marks()
        try:
            return Marks.decode(self._disk.read_bytes(self._marks_path))
        except ValueError as problem:
            # Without marks, consumers may get again what they had handled here: allowed, and better than no replica.
            self._log.warning("progress-file-unreadable", path=self._marks_path, reason=problem)
            return Marks()

    def _save_marks(self) -> None:
        if self._marks.changes == self._marks_saved:
            return
        try:
            self._disk.replace_atomically(self._marks_path, self._marks.encode())
            self._marks_saved = self._marks.changes
        except OSError as problem:
            self._log.error("progress-not-persisted", path=self._marks_path, reason=problem)


class _ReplicaLink(asyncio.Protocol):
    """The connection to the primary."""

    transport: asyncio.Transport

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._decoder = Decoder()
        self.lost = asyncio.Event()
        self.followed = False
        """The primary has agreed on this connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self._replica.joined(self)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        try:
            frames = self._decoder.feed(data)
        except FrameError as problem:
            self._replica.garbled(self, problem)
            return
        if frames:
            self._replica.received(self, frames)

    def connection_lost(self, exc: Exception | None) -> None:
        self._replica.left(self)
        self.lost.set()
