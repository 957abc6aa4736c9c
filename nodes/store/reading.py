"""Reading messages back: by queue offset, by time, by place, by key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from nodes.remoting.message import RecordError, StoredMessage, decode_record, message_keys, peek
from nodes.store.commit_log import CommitLog
from nodes.store.consume_queue import ENTRY, ENTRY_SIZE, ConsumeQueue
from nodes.store.key_index import KeyIndex, key_checksum
from nodes.store.queue_set import QueueSet
from nodes.store.results import QueueRead, ReadStatus

SCAN_ENTRIES: Final = 800
"""Queue entries one read examines at most when a filter rejects most of them (RocketMQ: 16000 bytes of entries)."""
_SPAN_WASTE: Final = 64 * 1024
"""Bytes of other queues' messages worth reading along to save a system call."""
_KEY_CANDIDATES_MAX: Final = 4096


class Reader:
    """Reads what is visible; never changes anything."""

    def __init__(self, log: CommitLog, queues: QueueSet, keys: KeyIndex) -> None:
        self._log = log
        self._queues = queues
        self._keys = keys

    def read_queue(
        self,
        queue: ConsumeQueue | None,
        offset_queue: int,
        max_num: int,
        max_bytes: int,
        accept: Callable[[int], bool] | None,
    ) -> QueueRead:
        """Whole records from `offset_queue` on, at least one if any is accepted. Raises OSError.

        Statuses and next offsets as RocketMQ DefaultMessageStore.getMessage decides them.
        """
        if queue is None:
            return QueueRead(ReadStatus.NO_MATCHED_LOGIC_QUEUE, (), 0, 0, 0)
        begin = self._queues.min_offset(queue, self._log.begin)
        end = queue.visible
        if end == 0:
            return QueueRead(ReadStatus.NO_MESSAGE_IN_QUEUE, (), 0, begin, end)
        if offset_queue < begin:
            return QueueRead(ReadStatus.OFFSET_TOO_SMALL, (), begin, begin, end)
        if offset_queue == end:
            return QueueRead(ReadStatus.OFFSET_OVERFLOW_ONE, (), offset_queue, begin, end)
        if offset_queue > end:
            return QueueRead(ReadStatus.OFFSET_OVERFLOW_BADLY, (), end, begin, end)
        wanted = max(1, max_num)
        count = min(end - offset_queue, wanted if accept is None else max(wanted, SCAN_ENTRIES))
        entries = queue.read(offset_queue, count)
        places: list[tuple[int, int]] = []
        total = 0
        next_offset = offset_queue
        for offset_log, size, tags_code in ENTRY.iter_unpack(entries):
            if size > 0 and (accept is None or accept(tags_code)):
                if places and total + size > max_bytes:
                    break
                places.append((offset_log, size))
                total += size
            next_offset += 1
            if len(places) >= wanted:
                break
        if not places:
            return QueueRead(ReadStatus.NO_MATCHED_MESSAGE, (), next_offset, begin, end)
        records = self._fetch(places, total)
        last = places[-1]
        return QueueRead(ReadStatus.FOUND, records, next_offset, begin, end, last[0] + last[1])

    def _fetch(self, places: list[tuple[int, int]], total: int) -> list[bytes | memoryview]:
        """The records at these places, in one read where they lie close together."""
        first = places[0][0]
        if len(places) == 1:
            return [self.record(first, places[0][1])]
        span = places[-1][0] + places[-1][1] - first
        if 0 < span <= total + _SPAN_WASTE:
            data = memoryview(self._log.read(first, span))
            if len(data) == span:  # shorter where the span crosses into the next file
                records: list[bytes | memoryview] = []
                for offset_log, size in places:
                    at = offset_log - first
                    record = data[at : at + size] if at >= 0 else memoryview(b"")
                    if len(record) < size or peek(record)[0] != size:
                        record = memoryview(self.record(offset_log, size))
                    records.append(record)
                return records
        return [self.record(offset_log, size) for offset_log, size in places]

    def record(self, offset_log: int, size: int) -> bytes:
        """The record of `size` bytes that starts there. Raises OSError."""
        data = self._log.read(offset_log, size)
        if len(data) < size or peek(data)[0] != size:
            raise OSError(f"the log holds no record of {size} bytes at {offset_log}, where a queue points")
        return data

    def record_at(self, offset_log: int, end: int) -> bytes | None:
        """The record that starts at `offset_log`, None if none does below `end`. Raises OSError."""
        if offset_log < self._log.begin or offset_log >= end:
            return None
        head = self._log.read(offset_log, 8)
        if len(head) < 8:
            return None
        size = peek(head)[0]
        if size > self._log.segment_size or offset_log + size > end:
            return None
        data = self._log.read(offset_log, size)
        try:
            message = decode_record(data, 0, check_crc=True)
        except RecordError:
            return None
        return data if message.offset_log == offset_log else None

    def offset_by_time(self, queue: ConsumeQueue | None, timestamp: int) -> int:
        """The first message stored at or after `timestamp` (ms), the queue's end if all are older. Raises OSError."""
        if queue is None:
            return 0
        low, high = self._queues.min_offset(queue, self._log.begin), queue.visible
        while low < high:
            middle = (low + high) // 2
            if self.message_of(queue, middle).store_timestamp < timestamp:
                low = middle + 1
            else:
                high = middle
        return low

    def message_of(self, queue: ConsumeQueue, index: int) -> StoredMessage:
        """The decoded message of one entry. Raises OSError."""
        offset_log, size, _ = queue.entry(index)
        try:
            return decode_record(self.record(offset_log, size))
        except RecordError as error:
            raise OSError(f"no record at {offset_log}: {error}") from None

    def by_key(self, topic: str, key: str, limit: int, begin: int, end: int, visible_end: int) -> list[bytes]:
        """Up to `limit` records of `topic` with this key, stored from `begin` to `end` (ms), newest first."""
        queue_crc = key_checksum(0, topic.encode() + b"#")
        found: list[bytes] = []
        candidates = 0
        for offset_log in self._keys.find(key_checksum(queue_crc, key.encode())):
            candidates += 1
            if len(found) >= limit or candidates > _KEY_CANDIDATES_MAX:
                break
            data = self.record_at(offset_log, visible_end)
            if data is None:
                continue
            message = decode_record(data)
            if message.topic != topic or key not in message_keys(message.properties_text):
                continue
            if begin <= message.store_timestamp <= end and data not in found:
                found.append(data)
        return found

    def entries(self, queue: ConsumeQueue | None, offset_queue: int, max_num: int) -> bytes:
        """Raw 20-byte entries from `offset_queue` on, readable ones only. Raises OSError."""
        if queue is None or offset_queue < self._queues.min_offset(queue, self._log.begin):
            return b""
        count = min(max_num, queue.visible - offset_queue)
        return queue.read(offset_queue, count)[: max(0, count) * ENTRY_SIZE]
