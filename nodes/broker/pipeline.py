"""From stored bytes to replies: one write a loop iteration, one sync at a time, replies when their promise holds.

Handlers append to the store's buffer and submit the reply that the producer shall get. At the end of the loop iteration
everything buffered is written at once and handed to replication. What may be said, and when, is decided by
`acknowledgement`; this module only brings positions and time to it. No task and no future exists for a message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from struct import Struct
from typing import NamedTuple, Protocol

from nodes.broker.acknowledgement import PendingReplies, Positions, QuorumReplies, Rule, Status
from nodes.log import EventLog
from nodes.remoting.codes import ResponseCode
from nodes.remoting.command import VERSION, Command
from nodes.remoting.connection import Connection
from nodes.remoting.frame import encode
from nodes.store.errors import StoreFailed
from nodes.store.store import MessageStore

__all__ = ["Copies", "Pipeline", "Reply", "answer_frame"]

_LENGTHS = Struct(">II").pack
_TAIL = b',"serializeTypeCurrentRPC":"JSON","version":%d}' % VERSION
_REMARKS = {
    Status.UNRESOLVED: b"the group did not confirm; whether it keeps the message is not known",
    Status.FLUSH_DISK_TIMEOUT: b"the disk did not confirm in time",
    Status.SLAVE_NOT_AVAILABLE: b"too few replicas are connected",
    Status.FLUSH_SLAVE_TIMEOUT: b"the replicas did not confirm in time",
}


class Reply(NamedTuple):
    """Whom to answer, and with which header fields (as JSON)."""

    connection: Connection
    opaque: int
    fields: bytes
    strict: bool = False
    """A weaker status is an error: the asker relies on the message and has another way out (retry messages)."""
    response: Command | None = None
    """The whole answer to another request than a send; `fields` do not count then."""


class Copies(Protocol):
    """What replication tells about the copies of the log."""

    def notify(self) -> None:
        """New bytes are written."""

    def acked(self, copies: int) -> int:
        """Log offset up to which at least `copies` nodes, this one included, hold everything."""

    def in_sync(self) -> int:
        """Other nodes that are connected and not too far behind."""


def answer_frame(code: int, fields: bytes, opaque: int, remark: bytes = b"") -> bytes:
    """A whole response frame from header fields that are JSON already."""
    said = b',"remark":"%b"' % remark if remark else b""
    header = b'{"code":%d,"extFields":%b,"flag":1,"language":"PYTHON","opaque":%d%b%b' % (
        code,
        fields,
        opaque,
        said,
        _TAIL,
    )
    size = len(header)
    return _LENGTHS(size + 4, size) + header


class Pipeline:
    """Writes, syncs and answers for one store. Serves only between `serve` and `halt`."""

    def __init__(self, store: MessageStore, log: EventLog, flush_interval_s: float, waiting_max: int = 10_000) -> None:
        self.on_failed: Callable[[str], None] = lambda reason: None
        """Called once when the store has failed."""
        self.full = False
        """So many replies wait that no more sends are taken."""
        self.sends = 0
        """Messages acknowledged with any status since the start."""
        self._store = store
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._flush_interval_s = flush_interval_s
        self._waiting_max = waiting_max
        self._copies: Copies | None = None
        self._pending: PendingReplies[Reply] | QuorumReplies[Reply] = PendingReplies(Rule(False, 1))
        self._arrived: list[tuple[int, Reply, bool]] = []
        self._due = False
        self._failed = False
        self._sync: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._rings_at = 0.0
        self._emptied: asyncio.Future[None] | None = None
        self._background: asyncio.TimerHandle | None = self._loop.call_later(flush_interval_s, self._sync_by_time)

    @property
    def rule(self) -> Rule:
        """The promise in force."""
        return self._pending.rule

    @property
    def waiting(self) -> int:
        """Replies that have not left yet."""
        return len(self._pending) + len(self._arrived)

    def serve(self, rule: Rule, copies: Copies) -> None:
        """Become able to answer: this node is master from now on."""
        self._pending = QuorumReplies(rule) if rule.quorum else PendingReplies(rule)
        self._copies = copies

    def halt(self) -> None:
        """Stop being master: what waits is answered with the weaker status that it has earned."""
        if self._due:
            self.flush()
        for reply, status in self._pending.abandon(self._positions()):
            self._answer(reply, status)
        self.full = False
        self._copies = None

    def submit(self, end: int, reply: Reply, wait: bool = True) -> None:
        """Answer `reply` once the promise holds for a message that ends at log offset `end`.

        Without `wait` the producer asked for a reply as soon as the message is written (its property WAIT is false).
        """
        self._arrived.append((end, reply, wait))
        if not self._due:
            self._due = True
            self._loop.call_soon(self.flush)

    def replicated(self) -> None:
        """This node is a replica and has written more of its master's log."""
        if self._store.config.sync_flush and not self._failed:
            self._start_sync()

    def touch(self) -> None:
        """Something was appended that nobody waits for."""
        if not self._due:
            self._due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what is buffered, pass it on, answer what may be answered."""
        self._due = False
        arrived = self._arrived
        self._arrived = []
        if self._failed:
            self._refuse([reply for _, reply, _ in arrived], "the store has failed")
            return
        try:
            self._store.write_pending()
        except (OSError, StoreFailed) as error:
            self._refuse([reply for _, reply, _ in arrived], f"the write failed: {error}")
            self.fail(str(error))
            return
        copies = self._copies
        if copies is not None:
            copies.notify()
        pending = self._pending
        if pending.rule.immediate:
            for _, reply, _ in arrived:
                self._answer(reply, Status.SEND_OK)
            self._tell_if_empty()
            return
        now = self._loop.time()
        wanted = pending.rule.copies - 1
        usable = copies is not None and (wanted <= 0 or copies.in_sync() >= wanted)
        for end, reply, wait in arrived:
            if wait or pending.rule.quorum:
                pending.add(end, reply, now, replicas_usable=usable)
            else:
                self._answer(reply, Status.SEND_OK)
        if pending.rule.flush:
            self._start_sync()
        self.advance()

    def advance(self) -> None:
        """A position or the time has moved: answer what may be answered now."""
        if self._failed or not self._pending:
            return
        for reply, status in self._pending.take(self._positions(), self._loop.time()):
            self._answer(reply, status)
        self.full = len(self._pending) >= self._waiting_max
        self._arm()
        self._tell_if_empty()

    def fail(self, reason: str) -> None:
        """The store has failed: nothing will be promised any more, and nobody is told that it was kept."""
        if self._failed:
            return
        self._failed = True
        self._refuse(self._pending.drop(), f"the store has failed: {reason}")
        self.on_failed(reason)

    async def drain(self, patience_s: float) -> None:
        """Wait, but not for long, until every reply has left."""
        if not self.waiting:
            return
        self._emptied = self._loop.create_future()
        await asyncio.wait([self._emptied], timeout=patience_s)
        self._emptied = None

    async def close(self) -> None:
        """Wait for a sync under way and stop the timers."""
        self.halt()
        for timer in (self._background, self._deadline):
            if timer is not None:
                timer.cancel()
        self._background = self._deadline = None
        if self._sync is not None:
            await asyncio.gather(self._sync, return_exceptions=True)

    def _tell_if_empty(self) -> None:
        if self._emptied is not None and not self.waiting and not self._emptied.done():
            self._emptied.set_result(None)

    def _positions(self) -> Positions:
        copies = self._copies
        held = 0 if copies is None else copies.acked(self._pending.rule.copies)
        return Positions(self._store.flushed_end, held)

    def _answer(self, reply: Reply, status: Status) -> None:
        self.sends += 1
        if status is Status.SEND_OK:
            whole = reply.response
            frame = answer_frame(0, reply.fields, reply.opaque) if whole is None else encode(whole)
            reply.connection.send_bytes(frame)
            return
        code = ResponseCode.SYSTEM_ERROR.value if reply.strict else status.value
        fields = b"{}" if status is Status.UNRESOLVED else reply.fields
        reply.connection.send_bytes(answer_frame(code, fields, reply.opaque, _REMARKS[status]))

    def _refuse(self, replies: list[Reply], why: str) -> None:
        """The outcome is unknown, so it is the code for that: never one that says the message was not stored."""
        remark = "".join(mark if mark.isascii() and mark not in '"\\' and mark >= " " else "?" for mark in why).encode()
        for reply in replies:
            code = ResponseCode.SYSTEM_ERROR.value
            reply.connection.send_bytes(answer_frame(code, reply.fields, reply.opaque, remark))

    def _start_sync(self) -> None:
        if self._sync is None and self._store.flushed_end < self._store.written_end:
            self._sync = self._loop.create_task(self._sync_all())

    async def _sync_all(self) -> None:
        """Group commit: each turn syncs everything that was written while the one before ran."""
        try:
            while self._store.flushed_end < self._store.written_end:
                await self._store.sync()
                self.advance()
                if not self._store.config.sync_flush:
                    break
        except StoreFailed as error:
            self.fail(str(error))
        finally:
            self._sync = None

    def _sync_by_time(self) -> None:
        self._background = self._loop.call_later(self._flush_interval_s, self._sync_by_time)
        if not self._failed:
            self._start_sync()

    def _arm(self) -> None:
        deadline = self._pending.deadline()
        if self._deadline is not None:
            if deadline is not None and self._rings_at <= deadline:
                return  # it rings early and is armed anew then
            self._deadline.cancel()
            self._deadline = None
        if deadline is not None:
            # kept here: uvloop's handle of a time that has passed already cannot tell its own
            self._rings_at = deadline
            self._deadline = self._loop.call_at(deadline, self._ring)

    def _ring(self) -> None:
        self._deadline = None
        self.advance()
        self._arm()
