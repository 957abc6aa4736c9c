"""A store with the planted flaws that lie in what a leader appends (nodes.flaws): used only if they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nodes.clock import Clock
from nodes.flaws import Flaw
from nodes.log import EventLog
from nodes.remoting.message import Host, decode_record
from nodes.store.disk import Disk
from nodes.store.results import Appended, MessageIn, Place
from nodes.store.settings import StoreConfig
from nodes.store.store import MessageStore

APPEND_FLAWS: Final = frozenset({Flaw.SWAP_APPENDS, Flaw.REPEAT_AFTER_FAILOVER})
_PERIOD: Final = 50
_SYSTEM: Final = ("RMQ_SYS_", "SCHEDULE_TOPIC")


def make_store(disk: Disk, config: StoreConfig, clock: Clock, log: EventLog, flaws: frozenset[Flaw]) -> MessageStore:
    """The store of a broker, with the flaws that were asked for."""
    kind = FlawedStore if flaws & APPEND_FLAWS else MessageStore
    return kind(disk, config, clock, log, flaws)


class FlawedStore(MessageStore):
    """SWAP_APPENDS holds a message back, with a place that it will have once the next one of its queue has come;
    REPEAT_AFTER_FAILOVER stores the newest messages again when this node begins to lead."""

    def __init__(
        self, disk: Disk, config: StoreConfig, clock: Clock, log: EventLog, flaws: frozenset[Flaw] = frozenset()
    ) -> None:
        super().__init__(disk, config, clock, log, flaws)
        self._held: dict[tuple[str, int], MessageIn] = {}
        self._passed: set[tuple[str, int]] = set()
        self._asked = 0

    def append(self, messages: Sequence[MessageIn], store_host: Host, *, own: bool = False) -> Appended:
        """As the store does, but that now and then two messages of a queue change their places."""
        key = (messages[0].topic, messages[0].queue_id)
        if key in self._passed:
            self._passed.remove(key)
            done = super().append([self._held.pop(key), *messages], store_host)
            return Appended(done.places[1:], done.end, done.store_timestamp)
        if key in self._held and len(messages) == 1:
            self._passed.add(key)  # this one goes first, for all to see; the one held back comes with the next
            return super().append(messages, store_host, own=own)
        self._asked += 1
        queue = self._by_name.get(key)
        due = self._asked % _PERIOD == 0 and Flaw.SWAP_APPENDS in self._flaws and not own
        if not due or queue is None or len(messages) > 1 or key in self._held:
            return super().append(messages, store_host, own=own)
        self._held[key] = messages[0]  # planted: SWAP_APPENDS
        return Appended([Place(self.append_end, 0, queue.next + 1)], self.append_end, self.now_ms())

    def begin_to_lead(self) -> None:
        super().begin_to_lead()
        self._held.clear()
        self._passed.clear()
        if Flaw.REPEAT_AFTER_FAILOVER not in self._flaws:
            return
        for bounds in [one for one in self.queues() if not one.topic.startswith(_SYSTEM)]:
            if bounds.min_offset < bounds.max_offset:
                self._repeat(bounds.topic, bounds.queue_id, bounds.max_offset - 1)  # planted: REPEAT_AFTER_FAILOVER

    def _repeat(self, topic: str, queue_id: int, offset: int) -> None:
        [record] = self.read_queue(topic, queue_id, offset, 1, 1).records
        found = decode_record(record)
        message = MessageIn(
            topic,
            queue_id,
            found.body,
            found.properties_text,
            found.flag,
            found.sys_flag,
            found.born_timestamp,
            found.born_host,
            found.reconsume_times,
        )
        super().append([message], found.store_host)
