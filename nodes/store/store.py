"""The message store of one broker: commit log, consume queues, key index, flush mark.

A loop iteration works like this: `append` (primary) assigns offsets and keeps the bytes in memory; `write_pending`
writes them with one call; `sync` makes what is written durable, off the thread, for all who wait (group commit).
`written_end` and `flushed_end` say how far each has come; an acknowledgement may leave when the end it was promised
for has been passed, and nowhere else is this decided. A replica feeds `append_raw` with its primary's bytes instead.

Under SYNC_FLUSH queue entries become readable when flushed, otherwise when written: a consumer never sees what a crash
of this node can take away under its flush setting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final
from zlib import crc32

from nodes.clock import Clock
from nodes.flaws import Flaw
from nodes.log import EventLog
from nodes.remoting.message import (
    FILLER_MIN,
    HEAD_V4,
    MAGIC_FILLER,
    MAGIC_V1,
    MAGIC_V2,
    PROPERTIES_MAX,
    SYS_BORN_HOST_V6,
    SYS_STORE_HOST_V6,
    TOPIC_MAX,
    Host,
    RecordError,
    encode_filler,
    encode_record,
    peek,
    record_size,
)
from nodes.remoting.record_check import check_record
from nodes.store import opening
from nodes.store.consume_queue import ENTRY, ConsumeQueue
from nodes.store.disk import Disk
from nodes.store.durable import DurableStore
from nodes.store.errors import Refusal, StoreRefused
from nodes.store.queue_set import QueueGap
from nodes.store.results import Appended, MessageIn, Place, QueueBounds, QueueRead
from nodes.store.settings import StoreConfig

PENDING_MAX: Final = 64 << 20
"""Bytes that may wait in memory for `write_pending`; an append beyond is refused as busy."""
PROPERTIES_SMALL: Final = 16384
"""Bytes of properties that need no closer look."""

LENGTHS: Final = tuple(length.to_bytes(2, "big") for length in range(1024))
"""Encoded lengths of nearly all properties."""
HOSTS_V6: Final = SYS_BORN_HOST_V6 | SYS_STORE_HOST_V6

_new_place = tuple.__new__


class MessageStore(DurableStore):
    """One node's messages. All methods belong to the event loop's thread; positions are log offsets in bytes."""

    def __init__(
        self,
        disk: Disk,
        config: StoreConfig,
        clock: Clock,
        log: EventLog,
        flaws: frozenset[Flaw] = frozenset(),
    ) -> None:
        super().__init__(disk, config, clock, log, flaws)
        self._by_name = self._queues.by_name
        self._body_small = min(config.message_max, config.segment_size - PROPERTIES_MAX - 512)
        self._reuse = Flaw.OFFSET_REUSE in flaws
        self._given = 0

    # ---- appending -------------------------------------------------------------------------------------------------

    def append(self, messages: Sequence[MessageIn], store_host: Host, *, own: bool = False) -> Appended:
        """Assign places to these messages and keep their bytes for `write_pending`; all or none of them.

        `own` is for records without which the node could not go on: they are taken on a nearly full disk too, and
        maxMessageSize, which is for producers, does not bound them.
        Raises StoreRefused, and then nothing was taken.
        """
        if self.failed is not None or not self._open:
            self._refuse_if_unusable()
        if self._disk_full and not own:
            raise StoreRefused(Refusal.DISK_FULL, f"above {self.config.disk_warning_ratio} % of the file system")
        if self._append_end - self.written_end > PENDING_MAX:
            raise StoreRefused(Refusal.BUSY, f"more than {PENDING_MAX} bytes wait to be written")
        if len(messages) > 1:
            for message in messages:
                self._check(message, own=own)  # all of them before the first is taken
        now = self._clock.now_ms()
        place = self._append_end
        places: list[Place] = []
        index_keys = self.config.index_keys
        keys = self._keys
        get_queue = self._by_name.get
        ip, port = store_host
        v4 = len(ip) == 4
        for message in messages:
            queue = get_queue((message.topic, message.queue_id))
            body = message.body
            properties = message.properties.encode()
            if queue is None or len(body) > self._body_small or len(properties) > PROPERTIES_SMALL:
                queue = self._check(message, own=own)
            size = queue.record_base + len(body) + len(properties)
            born_ip, born_port = message.born_host
            plain = v4 and len(born_ip) == 4 and not message.sys_flag & HOSTS_V6
            if not plain:
                size += 12 * ((not v4) + (len(born_ip) == 16))
            if place + size + FILLER_MIN > self._segment_end:
                place = self._roll(place)
            offset_queue = self._next_offset(queue) if self._reuse else queue.next
            if plain:
                self._chunks += (
                    HEAD_V4.pack(
                        size,
                        MAGIC_V1,
                        crc32(body) & 0x7FFFFFFF,
                        message.queue_id,
                        message.flag,
                        offset_queue,
                        place,
                        message.sys_flag,
                        message.born_timestamp,
                        born_ip,
                        born_port,
                        now,
                        ip,
                        port,
                        message.reconsume_times,
                        0,
                        len(body),
                    ),
                    body,
                    queue.topic_field,
                    LENGTHS[len(properties)] if len(properties) < 1024 else len(properties).to_bytes(2, "big"),
                    properties,
                )
            else:
                self._chunks.append(self._encode(message, properties, queue, offset_queue, place, now, store_host))
            tags = self._queues.tags_code(queue, properties, now)
            queue.tail += ENTRY.pack(place, size, tags)
            queue.next = offset_queue + 1
            if index_keys:
                try:
                    keys.put(queue.topic_crc, properties, place)
                except OSError as error:  # the first key of a new segment moves those of the old one to their file
                    self._fail("write key index", error)
                    raise StoreRefused(Refusal.FAILED, str(error)) from error
            places.append(_new_place(Place, (place, size, offset_queue)))
            place += size
            self._hidden.append((place, queue, queue.next, tags, now))
        self._append_end = place
        return Appended(places, place, now)

    def _check(self, message: MessageIn, *, own: bool) -> ConsumeQueue:
        """The queue of this message, made if need be; raises StoreRefused if the message cannot be stored."""
        properties = len(message.properties.encode())
        if len(message.body) > self.config.message_max and not own:
            raise StoreRefused(
                Refusal.BODY_TOO_LARGE, f"{len(message.body)} bytes, maxMessageSize is {self.config.message_max}"
            )
        if properties > PROPERTIES_MAX:
            raise StoreRefused(Refusal.PROPERTIES_TOO_LONG, f"{properties} bytes, at most {PROPERTIES_MAX}")
        topic = len(message.topic.encode())
        if topic > TOPIC_MAX:
            raise StoreRefused(Refusal.TOPIC_TOO_LONG, f"{topic} bytes, at most {TOPIC_MAX}")
        largest = record_size(len(message.body), topic, properties, HOSTS_V6) + FILLER_MIN
        if largest > self.config.segment_size:
            raise StoreRefused(
                Refusal.BODY_TOO_LARGE,
                f"a record of {largest} bytes, mappedFileSizeCommitLog is {self.config.segment_size}",
            )
        try:
            return self._queues.add(message.topic, message.queue_id)
        except ValueError as error:
            raise StoreRefused(Refusal.INVALID, str(error)) from None

    @staticmethod
    def _encode(
        message: MessageIn, properties: bytes, queue: ConsumeQueue, offset_queue: int, place: int, now: int, host: Host
    ) -> bytes:
        """The record of a message with an IPv6 host (rare, so by the general way)."""
        return encode_record(
            topic=queue.topic_bytes,
            queue_id=message.queue_id,
            queue_offset=offset_queue,
            offset_log=place,
            body=message.body,
            properties=properties,
            flag=message.flag,
            sys_flag=message.sys_flag,
            born_timestamp=message.born_timestamp,
            born_host=message.born_host,
            store_timestamp=now,
            store_host=host,
            reconsume_times=message.reconsume_times,
        )

    def _roll(self, place: int) -> int:
        """Fill the rest of the segment; returns where the next one starts."""
        self._chunks.append(encode_filler(self._segment_end - place))
        place = self._segment_end
        self._segment_end += self.config.segment_size
        return place

    def _next_offset(self, queue: ConsumeQueue) -> int:
        """The offset for the next message, by a store that is to give some of them twice."""
        self._given += 1
        if self._given % 50 == 0 and queue.tail:
            queue.cut(queue.next - 1)  # planted: OFFSET_REUSE
        return queue.next

    @property
    def append_end(self) -> int:
        """Log offset behind the last message that was appended, written or not."""
        return self._append_end

    def begin_to_lead(self) -> None:
        """This node's broker is the group's leader from now on."""
        if Flaw.OFFSET_REUSE_AFTER_FAILOVER in self._flaws:
            self._queues.give_again()  # planted: OFFSET_REUSE_AFTER_FAILOVER

    # ---- replica ---------------------------------------------------------------------------------------------------

    @property
    def raw_end(self) -> int:
        """Where the next replicated byte belongs: `written_end` plus the bytes of a record not yet complete."""
        return self._append_end + len(self._partial)

    def append_raw(self, offset_log: int, data: bytes | memoryview) -> None:
        """Write bytes of the primary's log. Whole records are validated, written and indexed; the beginning of one
        that is not complete yet waits in memory, and sending again from `written_end` discards it.

        An empty store takes its start from the first bytes it gets, which must be the start of a segment. Raises
        StoreRefused (not contiguous, or no valid record: what precedes it was taken), StoreFailed.
        """
        self._refuse_if_unusable()
        if offset_log != self.raw_end:
            if offset_log == self._append_end:
                self._partial.clear()
            elif self._append_end == 0 and not self._partial and offset_log % self.config.segment_size == 0:
                self.begin_at(offset_log)
            else:
                raise StoreRefused(Refusal.NOT_CONTIGUOUS, f"bytes from {offset_log}, the log ends at {self.raw_end}")
        if self._partial:
            self._partial += data
            size = peek(self._partial)[0] if len(self._partial) >= FILLER_MIN else 0
            if len(self._partial) < max(size, FILLER_MIN) and size <= self.config.segment_size:
                return
            data = bytes(self._partial)
            self._partial.clear()
        try:
            done, refused = self._take_records(memoryview(data))
            if done:
                self._log.write(memoryview(data)[:done])
                self._written(self._append_end)
        except OSError as error:
            raise self._fail("write", error) from error
        if refused is not None:
            raise StoreRefused(Refusal.INVALID, refused)
        self._partial += data[done:]

    def _take_records(self, data: memoryview) -> tuple[int, str | None]:
        """Index the whole records at the start of `data`; returns their length and why the next one is refused."""
        position = 0
        while len(data) - position >= FILLER_MIN:
            place = self._append_end
            size, magic = peek(data, position)
            room = self._segment_end - place
            if magic == MAGIC_FILLER:
                if size != room:
                    return position, f"a filler of {size} bytes at {place}, where {room} are left: segments differ"
            elif magic != MAGIC_V1 and magic != MAGIC_V2:
                return position, f"magic 0x{magic:08X} at {place} is not that of a record"
            elif size + FILLER_MIN > room:
                return position, f"size {size} at {place}, where {room} bytes are left in the segment"
            if size > len(data) - position:
                break
            if magic == MAGIC_FILLER:
                self._append_end = self._segment_end
                self._segment_end += self.config.segment_size
                position += size
                continue
            try:
                head = check_record(data, position, offset_log=place)
                entered = self._queues.dispatch(head)
            except (RecordError, QueueGap, ValueError) as error:
                return position, str(error)
            if entered is not None:
                queue, tags = entered
                if self.config.index_keys:
                    self._keys.put(queue.topic_crc, head.properties, place)
                self._hidden.append((place + size, queue, queue.next, tags, head.store_timestamp))
            elif not self._reuse and Flaw.OFFSET_REUSE_AFTER_FAILOVER not in self._flaws:
                return position, f"queue offset {head.queue_offset} of {head.topic.decode()}@{head.queue_id} is taken"
            self._append_end += size
            position += size
        return position, None

    def begin_at(self, offset_log: int, ends: dict[str, dict[int, int]] | None = None) -> None:
        """Let this empty store start at `offset_log`, a segment's start, as its primary's log does. Durable.

        `ends`: what `queue_ends` of the primary says of that place, so that no queue offset is given twice. Raises
        ValueError if the store holds anything, StoreFailed.
        """
        self._refuse_if_unusable()
        try:
            self._settle()
            self._log.begin_at(offset_log)
            self._keys.open(offset_log, 0)
            self._queues.begin_at(ends or {})
            self._set_end(offset_log)
            self.flushed_end = self.visible_end = self._unlisted_end = offset_log
            self._checkpoint_now()
            self._mark.write_durably(offset_log)
        except OSError as error:
            raise self._fail("begin", error) from error

    def truncate_to(self, offset_log: int) -> None:
        """Drop everything from `offset_log` on, and what was not written yet. When it returns the cut tail never comes
        back, and what is left is durable; a crash meanwhile leaves the old log or, from the first step on, the cut one.

        `offset_log` is the start of a record or the end of the log; 0 empties the store. Raises ValueError,
        StoreRefused, StoreFailed.
        """
        self._refuse_if_unusable()
        if offset_log != 0 and not self._log.begin <= offset_log <= self.written_end:
            raise ValueError(f"cannot cut at {offset_log}, the log holds {self._log.begin} to {self.written_end}")
        if offset_log % self.config.segment_size and not self._is_boundary(offset_log):
            raise ValueError(f"cannot cut at {offset_log}: no record starts there")
        self._generation += 1
        before = self.written_end
        try:
            self._settle()
            opening.note_cut(self._disk, self.config, offset_log)
            hidden = [entry for entry in self._hidden if entry[0] <= offset_log]
            self._chunks.clear()
            self._log.cut(offset_log)
            self._log.sync_now()
            self._queues.cut(offset_log)
            self._keys.cut(offset_log)
            self._set_end(offset_log)
            self.flushed_end = offset_log
            if self.config.committed_only and offset_log:
                self._hidden.extend(hidden)
                self._unlisted_end = min(self._unlisted_end, offset_log)
                self.visible_end = min(self.visible_end, offset_log)
            else:
                self._queues.show_all()
                self.visible_end = offset_log
            self._checkpoint_now()
            self._mark.write_durably(offset_log)
            opening.forget_cut(self._disk, self.config)
        except OSError as error:
            raise self._fail("truncate", error) from error
        self._events.event("store-truncated", end=offset_log, cut=before - offset_log)

    def _is_boundary(self, offset_log: int) -> bool:
        if offset_log == self.written_end:
            return True
        head = self._log.read(offset_log, HEAD_V4.size)
        if len(head) >= FILLER_MIN and peek(head)[1] == MAGIC_FILLER:
            return peek(head)[0] == self.config.segment_size - offset_log % self.config.segment_size
        return self._reader.record_at(offset_log, self.written_end) is not None

    # ---- reading ---------------------------------------------------------------------------------------------------

    @property
    def min_offset(self) -> int:
        """Log offset of the first byte that retention has left."""
        return self._log.begin

    def read_log(self, offset_log: int, max_bytes: int) -> bytes:
        """Written bytes of the log from any offset, fewer than asked at the end of a file. Raises OSError."""
        size = min(max_bytes, self.written_end - offset_log)
        return self._log.read(offset_log, size) if size > 0 else b""

    def read_queue(
        self,
        topic: str,
        queue_id: int,
        offset_queue: int,
        max_num: int,
        max_bytes: int,
        accept: Callable[[int], bool] | None = None,
    ) -> QueueRead:
        """Messages of a queue from `offset_queue` on whose tags code `accept` accepts. Raises OSError."""
        queue = self._queues.by_name.get((topic, queue_id))
        return self._reader.read_queue(queue, offset_queue, max_num, max_bytes, accept)

    def records_of(self, topic: str, queue_id: int, offset_log: int) -> Iterator[bytes]:
        """Every record of a queue that lies at or behind `offset_log`, readable yet or not. Raises OSError."""
        queue = self._queues.by_name.get((topic, queue_id))
        index = 0 if queue is None else queue.first_at(offset_log)
        while queue is not None and index < queue.next:
            place, size, _ = queue.entry(index)
            yield self._reader.record(place, size)
            index += 1

    def queue_bounds(self, topic: str, queue_id: int) -> tuple[int, int]:
        """(first readable offset, offset behind the last); (0, 0) for a queue that does not exist."""
        queue = self._queues.by_name.get((topic, queue_id))
        return (0, 0) if queue is None else (self._queues.min_offset(queue, self._log.begin), queue.visible)

    def queues(self) -> Iterator[QueueBounds]:
        """The bounds of every queue, in order of creation."""
        for queue, begin in self._queues.bounds(self._log.begin):
            yield QueueBounds(queue.topic, queue.queue_id, begin, queue.visible)

    def queue_ends(self, offset_log: int) -> dict[str, dict[int, int]]:
        """Topic, queue: the offset that the first message at or behind `offset_log` has, or will have."""
        return self._queues.ends_at(offset_log)

    def raise_queue_ends(self, ends: dict[str, dict[int, int]]) -> None:
        """Queues that hold nothing go on at these offsets, if they do not already."""
        self._queues.begin_at(ends)

    def queue_offset_at(self, topic: str, queue_id: int, offset_log: int) -> int:
        """The first queue offset whose message lies at or behind `offset_log`; the queue's end if there is none."""
        queue = self._queues.by_name.get((topic, queue_id))
        return 0 if queue is None else queue.first_at(offset_log)

    def offset_by_time(self, topic: str, queue_id: int, timestamp: int) -> int:
        """The first queue offset stored at or after `timestamp` (ms); the queue's end if all are older."""
        return self._reader.offset_by_time(self._queues.by_name.get((topic, queue_id)), timestamp)

    def earliest_time(self, topic: str, queue_id: int) -> int:
        """Store timestamp (ms) of the queue's first readable message, -1 without one. Raises OSError."""
        begin, end = self.queue_bounds(topic, queue_id)
        if begin >= end:
            return -1
        return self._reader.message_of(self._queues.by_name[topic, queue_id], begin).store_timestamp

    def message_at(self, offset_log: int) -> bytes | None:
        """The readable record that starts there, None if none does. Raises OSError."""
        return self._reader.record_at(offset_log, self.visible_end)

    def index_entries(self, topic: str, queue_id: int, offset_queue: int, max_num: int) -> bytes:
        """Raw consume-queue entries, 20 bytes each. Raises OSError."""
        return self._reader.entries(self._queues.by_name.get((topic, queue_id)), offset_queue, max_num)

    def query_by_key(self, topic: str, key: str, limit: int, begin: int, end: int) -> list[bytes]:
        """Up to `limit` records with this key stored between two times (ms), newest first. Raises OSError."""
        return self._reader.by_key(topic, key, limit, begin, end, self.visible_end)
