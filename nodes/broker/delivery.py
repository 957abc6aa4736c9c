"""Delivers delayed messages when they are due. Only a master does; a replica gets what the master stores.

A due message is stored again under its real topic. Progress counts, and is saved and replicated, only when that copy is
safe: synced here and held by every connected replica, or committed by the group. A crash or a promotion may deliver
twice, and never not at all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from nodes.broker.core import BrokerCore
from nodes.broker.delay import scheduled_queue
from nodes.broker.names import SCHEDULE_TOPIC, is_dead_letter_topic, is_retry_topic
from nodes.broker.topics import TopicConfig
from nodes.remoting import message as layout
from nodes.store.errors import Refusal, StoreRefused
from nodes.store.results import MessageIn, ReadStatus

__all__ = ["DelayDelivery"]

_BATCH = 64
"""Messages of one level delivered before others get their turn."""
_BATCH_BYTES = 1024 * 1024
_RETRY_S = 1.0
_CONFIRM_S = 0.2
_UNCONFIRMED_MAX = 100_000


class _Delivered(NamedTuple):
    """A batch that is stored again: its end in the log, its level, the next offset in the level's queue."""

    end: int
    level: int
    next_offset: int


class DelayDelivery:
    """One timer a delay level that has messages."""

    def __init__(self, core: BrokerCore) -> None:
        self._core = core
        self._safe_end: Callable[[], int] | None = None
        self._cursor: dict[int, int] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._unconfirmed: deque[_Delivered] = deque()
        self._confirm_timer: asyncio.TimerHandle | None = None

    def start(self, safe_end: Callable[[], int]) -> None:
        """This node is master from now on. `safe_end`: log offset up to which everything survives what may come."""
        self._safe_end = safe_end
        for level in range(1, len(self._core.delay_levels) + 1):
            begin, end = self._core.store.queue_bounds(SCHEDULE_TOPIC, scheduled_queue(level))
            self._cursor[level] = max(begin, self._core.tables.delays.next_offset(level))
            if self._cursor[level] < end:
                self._arm(level, 0.0)

    def stop(self) -> None:
        """This node is master no more."""
        self._confirm()
        self._safe_end = None
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._cursor.clear()
        self._unconfirmed.clear()
        if self._confirm_timer is not None:
            self._confirm_timer.cancel()
            self._confirm_timer = None

    def arrived(self, queue_id: int, store_timestamp: int) -> None:
        """A delayed message became readable."""
        level = queue_id + 1
        if level in self._cursor and level not in self._timers:
            wait_ms = store_timestamp + self._core.delay_levels.wait_ms(level) - self._core.clock.now_ms()
            self._arm(level, wait_ms / 1000)

    def _arm(self, level: int, wait_s: float) -> None:
        self._timers[level] = self._core.loop.call_later(max(0.0, wait_s), self._deliver, level)

    def _deliver(self, level: int) -> None:
        del self._timers[level]
        core, wait_ms = self._core, self._core.delay_levels.wait_ms(level)
        if len(self._unconfirmed) >= _UNCONFIRMED_MAX:
            self._arm(level, _RETRY_S)
            return
        cursor = self._cursor[level]
        try:
            found = core.store.read_queue(SCHEDULE_TOPIC, scheduled_queue(level), cursor, _BATCH, _BATCH_BYTES)
        except OSError as error:
            core.log.error("delayed-message-not-readable", level=level, offset=cursor, reason=error)
            self._arm(level, _RETRY_S)
            return
        if found.status is ReadStatus.OFFSET_TOO_SMALL:
            self._cursor[level] = found.min_offset
            self._arm(level, 0.0)
            return
        if found.status is not ReadStatus.FOUND:
            return
        now_ms, next_due_ms, end = core.clock.now_ms(), 0, 0
        for record in found.records:
            stored = layout.decode_record(record)
            # A wall clock that was set back must not hold a message for longer than its level says.
            due_ms = min(stored.store_timestamp, now_ms) + wait_ms
            if due_ms > now_ms:
                next_due_ms = due_ms
                break
            try:
                end = max(end, self._store_again(stored))
            except StoreRefused as refused:
                core.log.warning("delayed-message-not-delivered", level=level, offset=cursor, reason=refused)
                next_due_ms = now_ms + int(_RETRY_S * 1000)
                break
            cursor += 1
        if end:
            self._cursor[level] = cursor
            self._unconfirmed.append(_Delivered(end, level, cursor))
            core.pipeline.touch()
            if self._confirm_timer is None:
                self._confirm_timer = core.loop.call_later(_CONFIRM_S, self._confirm_by_time)
        self._arm(level, max(0.0, (next_due_ms - now_ms) / 1000) if next_due_ms else 0.0)

    def _store_again(self, stored: layout.StoredMessage) -> int:
        """Store a due message under its real topic; returns the end of the copy in the log. Raises StoreRefused."""
        core = self._core
        if not core.may_append and core.member is not None:
            raise StoreRefused(Refusal.BUSY, "this node does not lead its group")
        topic = stored.properties.get(layout.REAL_TOPIC, "")
        queue = stored.properties.get(layout.REAL_QID, "")
        if not topic or not queue.isdigit():
            core.log.error("delayed-message-has-no-real-topic", offset_log=stored.offset_log)
            return stored.offset_log + stored.size
        if is_retry_topic(topic) or is_dead_letter_topic(topic):
            core.ensure_topic(TopicConfig(topic, int(queue) + 1, int(queue) + 1))
        elif core.tables.topics.get(topic) is None:
            core.log.warning("delayed-message-of-deleted-topic", topic=topic, offset_log=stored.offset_log)
            return stored.offset_log + stored.size
        again = MessageIn(
            topic,
            int(queue),
            stored.body,
            stored.properties_text,
            stored.flag,
            stored.sys_flag & ~(layout.SYS_BORN_HOST_V6 | layout.SYS_STORE_HOST_V6),
            stored.born_timestamp,
            stored.born_host,
            stored.reconsume_times,
        )
        return core.store.append([again], core.store_host).end

    def _confirm_by_time(self) -> None:
        self._confirm_timer = None
        self._confirm()
        if self._unconfirmed:
            self._confirm_timer = self._core.loop.call_later(_CONFIRM_S, self._confirm_by_time)

    def _confirm(self) -> None:
        """Count what is safe."""
        if self._safe_end is None:
            return
        safe = self._safe_end()
        while self._unconfirmed and self._unconfirmed[0].end <= safe:
            done = self._unconfirmed.popleft()
            if self._core.progress is not None:
                self._core.progress.delivered(done.level, done.next_offset)
            else:
                self._core.tables.delays.delivered(done.level, done.next_offset)
