"""Progress of consumer groups and of delayed messages on its way into a group's log (DLedger mode).

What many consumers say within a moment becomes one record. Who waits for an answer gets it when that is committed.
"""

from __future__ import annotations

import asyncio

from nodes.broker.core import BrokerCore
from nodes.broker.fields import RequestError
from nodes.broker.limits import OFFSETS_MAX
from nodes.broker.pipeline import Reply
from nodes.broker.replicated import ReplicatedTables
from nodes.remoting.codes import ResponseCode
from nodes.remoting.command import FLAG_ONEWAY, Command
from nodes.remoting.connection import Connection
from nodes.store.errors import StoreRefused

__all__ = ["GroupProgress"]

_PASSING_S = 0.05
"""Progress that nobody waits for is gathered this long."""


class GroupProgress:
    """Gathers progress on the leader. `flush` writes it."""

    def __init__(self, core: BrokerCore, tables: ReplicatedTables) -> None:
        self._core = core
        self._tables = tables
        self._offsets: dict[tuple[str, int], int] = {}
        self._written: dict[tuple[str, int], tuple[int, int]] = {}
        """Last words in the log, and where their records end: until that is committed the tables tell older ones."""
        self._delays: dict[int, int] = {}
        self._replies: list[tuple[Connection, Command, Command]] = []
        self._timer: asyncio.Handle | None = None
        self._urgent = False

    def note(self, group: str, topic: str, queue_id: int, offset: int) -> None:
        """Said in passing."""
        known, key = self._tables.offsets, (f"{topic}@{group}", queue_id)
        if not self._core.may_append or self._last_word(key, known.get(group, topic, queue_id))[0] == offset:
            return
        if known.has_room(group, topic, queue_id):
            self._offsets[key] = offset
            self._soon(urgent=False)

    def _last_word(self, key: tuple[str, int], committed: int | None) -> tuple[int | None, bool]:
        """The newest offset that was said, committed or not, and whether that much is committed."""
        if key in self._offsets:
            return self._offsets[key], False
        offset, end = self._written.get(key, (0, 0))
        return (offset, False) if end > self._committed() else (committed, True)

    def _committed(self) -> int:
        member = self._core.member
        return 0 if member is None else member.committed

    def delivered(self, level: int, next_offset: int) -> None:
        """Delayed messages."""
        if self._core.may_append:
            self._delays[level] = next_offset
            self._soon(urgent=False)

    def update(
        self,
        connection: Connection,
        command: Command,
        group: str,
        topic: str,
        offsets: dict[int, int],
        body: bytes = b"",
    ) -> Command | None:
        """Answered when it counts."""
        core, known = self._core, self._tables.offsets
        if not core.may_append:
            raise core.not_master()
        changed = False
        for queue_id, offset in offsets.items():
            if not known.has_room(group, topic, queue_id):
                raise RequestError(ResponseCode.SYSTEM_ERROR, f"{OFFSETS_MAX} offsets are committed already")
            key = (f"{topic}@{group}", queue_id)
            if self._last_word(key, known.get(group, topic, queue_id)) != (offset, True):
                self._offsets[key] = offset
                changed = True
        response = command.reply(body=body)
        if not changed and not self._offsets:
            return response
        if command.flag & FLAG_ONEWAY:
            self._soon(urgent=False)
            return None
        self._replies.append((connection, command, response))
        self._soon(urgent=True)
        return None

    def asked(self, connection: Connection, command: Command, group: str, topic: str, queue_id: int) -> bool:
        """Whether who asks where a group goes on is answered later: what was said last is not committed yet.

        A Java consumer that leaves commits without waiting for an answer, and who takes its queues over asks at once.
        """
        key = (f"{topic}@{group}", queue_id)
        offset, committed = self._last_word(key, None)
        if committed:
            return False
        response = command.reply(ext={"offset": str(offset)})
        if key in self._offsets:
            self._replies.append((connection, command, response))
            self._soon(urgent=True)
        else:
            self._core.pipeline.submit(self._written[key][1], Reply(connection, command.opaque, b"{}", True, response))
        return True

    def drop(self) -> None:
        """This node leads no more: nothing was written, and whoever waits is told so."""
        self._cancel()
        self._offsets.clear()
        self._written.clear()
        self._delays.clear()
        replies, self._replies = self._replies, []
        error = self._core.not_master()
        for connection, command, _ in replies:
            connection.reply(command, command.reply(error.code, error.remark, error.ext))

    def flush(self) -> None:
        """Write what was gathered."""
        self._cancel()
        if not self._core.may_append:
            self.drop()
            return
        offsets, self._offsets = self._offsets, {}
        delays, self._delays = self._delays, {}
        replies, self._replies = self._replies, []
        try:
            end = self._tables.write_progress(offsets, delays)
        except StoreRefused as refused:
            for connection, command, _ in replies:
                connection.reply(command, command.reply(ResponseCode.SYSTEM_BUSY.value, str(refused)))
            return
        committed = self._committed()
        self._written = {key: said for key, said in self._written.items() if said[1] > committed}
        self._written.update({key: (offset, end) for key, offset in offsets.items()})
        for connection, command, response in replies:
            self._core.pipeline.submit(end, Reply(connection, command.opaque, b"{}", True, response))
        self._core.pipeline.touch()

    def _soon(self, *, urgent: bool) -> None:
        if self._timer is not None and (self._urgent or not urgent):
            return
        self._cancel()
        self._urgent = urgent
        loop = self._core.loop
        self._timer = loop.call_soon(self.flush) if urgent else loop.call_later(_PASSING_S, self.flush)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._urgent = False
