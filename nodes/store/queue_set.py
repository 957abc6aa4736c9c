"""All consume queues of a store, and the file that says how much of them is on disk.

`queues.json` is replaced as a whole at every checkpoint: the log offset up to which the queue files (and the key index)
are synced, and the bounds of every queue at that moment. After a crash the queues are cut back to it and filled again
from the log behind that offset. It also keeps the end of a queue whose messages are all gone, so that no queue offset
is ever given to a second message.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from nodes.remoting.message import tag_hash
from nodes.remoting.record_check import RecordHead
from nodes.store.consume_queue import ENTRY, ConsumeQueue, FileCache
from nodes.store.disk import Disk
from nodes.store.queue_state import QueueState
from nodes.store.settings import SCHEDULE_TOPIC, StoreConfig

QUEUES_MAX: Final = 100_000
"""Queues of one store; a message for a further one is refused."""
_FORGOTTEN: Final = 100
_TAG_CACHE_MAX: Final = 4096
_TAGS_FIRST: Final = b"TAGS\x01"
_TAGS_LATER: Final = b"\x02TAGS\x01"


class QueueGap(Exception):
    """A message carries a queue offset that does not follow its queue's last entry."""

    def __init__(self, topic: str, queue_id: int, expected: int, found: int) -> None:
        super().__init__(f"queue {topic}@{queue_id} expects offset {expected}, the message carries {found}")


class QueueSet:
    """The queues by topic and number."""

    def __init__(self, disk: Disk, config: StoreConfig, files: FileCache) -> None:
        self._disk = disk
        self._config = config
        self.files = files
        self._folder = f"{config.root}/consumequeue"
        self._state_path = f"{config.root}/queues.json"
        self.by_name: dict[tuple[str, int], ConsumeQueue] = {}
        self._by_bytes: dict[tuple[bytes, int], ConsumeQueue] = {}
        self._tags: dict[bytes, int] = {}
        self._min: dict[tuple[str, int], tuple[int, int]] = {}

    def add(self, topic: str, queue_id: int) -> ConsumeQueue:
        """The queue, new and empty if it did not exist. Raises ValueError for a name that cannot be a folder's."""
        queue = self.by_name.get((topic, queue_id))
        if queue is not None:
            return queue
        if not topic or topic in (".", "..") or "/" in topic or "\0" in topic or queue_id < 0:
            raise ValueError(f"{topic!r} cannot have a queue {queue_id}")
        if len(self.by_name) >= QUEUES_MAX:
            raise ValueError(f"more than {QUEUES_MAX} queues")
        delay = None
        if topic == SCHEDULE_TOPIC and self._config.delay_levels_ms:
            delay = self._config.delay_levels_ms[min(queue_id, len(self._config.delay_levels_ms) - 1)]
        folder = f"{self._folder}/{topic}/{queue_id}"
        queue = ConsumeQueue(topic, queue_id, folder, self.files, self._config.queue_file_size, delay)
        self.by_name[topic, queue_id] = queue
        self._by_bytes[queue.topic_bytes, queue_id] = queue
        return queue

    def dispatch(self, head: RecordHead) -> tuple[ConsumeQueue, int] | None:
        """Enter a stored record into its queue, unless the queue has it already (then None); returns its tags code too.

        A queue that has nothing yet starts at the record's offset (a replica that begins in the middle of its
        primary's log). Raises QueueGap, ValueError.
        """
        queue = self._by_bytes.get((head.topic, head.queue_id))
        if queue is None:
            queue = self.add(head.topic.decode(), head.queue_id)
        if head.queue_offset != queue.next:
            if head.queue_offset < queue.next:
                return None
            if queue.next != queue.begin:
                raise QueueGap(queue.topic, queue.queue_id, queue.next, head.queue_offset)
            queue.start_at(head.queue_offset, head.queue_offset)
        tags = self.tags_code(queue, head.properties, head.store_timestamp)
        queue.tail += ENTRY.pack(head.offset_log, head.size, tags)
        queue.next += 1
        return queue, tags

    def tags_code(self, queue: ConsumeQueue, properties: bytes, store_timestamp: int) -> int:
        """What the entry of a message says beside its place: tag hash, or in the schedule topic when it is due."""
        if queue.delay_ms is not None:
            return store_timestamp + queue.delay_ms
        if properties.startswith(_TAGS_FIRST):
            at = 5
        else:
            at = properties.find(_TAGS_LATER)
            if at < 0:
                return 0
            at += 6
        end = properties.find(b"\x02", at)
        tag = properties[at:] if end < 0 else properties[at:end]
        code = self._tags.get(tag)
        if code is None:
            if len(self._tags) >= _TAG_CACHE_MAX:
                self._tags.clear()
            code = self._tags[tag] = tag_hash(tag.decode("utf-8", "replace"))
        return code

    def min_offset(self, queue: ConsumeQueue, log_begin: int) -> int:
        """The first readable offset of a queue when the log begins at `log_begin`. Raises OSError."""
        if log_begin == 0:
            return queue.begin
        key = (queue.topic, queue.queue_id)
        known = self._min.get(key)
        if known is None or known[0] != log_begin:
            known = self._min[key] = (log_begin, queue.first_at(log_begin))
        return min(max(known[1], queue.begin), queue.visible)

    def retire(self, topic: str) -> int:
        """The topic was deleted: nothing of its queues is readable any more, and their offsets are never reused."""
        count = 0
        for queue in self.by_name.values():
            if queue.topic == topic:
                queue.start_at(queue.next, queue.next)
                self._min.pop((topic, queue.queue_id), None)
                count += 1
        return count

    def forget_before(self, topic: str, offset_log: int) -> int:
        """Nothing of this topic that lies before `offset_log` can be read any more. Returns the number of queues."""
        count = 0
        for queue in self.by_name.values():
            if queue.topic == topic:
                queue.begin = max(queue.begin, queue.first_at(offset_log))
                queue.visible = max(queue.visible, queue.begin)
                self._min.pop((topic, queue.queue_id), None)
                count += 1
        return count

    def ends_at(self, offset_log: int) -> dict[str, dict[int, int]]:
        """Topic, queue: the offset that the first message at or behind `offset_log` has, or will have."""
        ends: dict[str, dict[int, int]] = {}
        for queue in self.by_name.values():
            end = queue.first_at(offset_log)
            if end:
                ends.setdefault(queue.topic, {})[queue.queue_id] = end
        return ends

    def begin_at(self, ends: dict[str, dict[int, int]]) -> None:
        """Queues that hold nothing go on at these offsets: their messages were deleted before this log began."""
        for topic, queues in ends.items():
            for queue_id, end in queues.items():
                queue = self.add(topic, queue_id)
                if queue.next == queue.begin < end:
                    queue.start_at(end, end)

    def give_again(self) -> None:
        """Forget the newest messages of every queue (only a planted flaw does this)."""
        for queue in self.by_name.values():
            if queue.tail and not queue.topic.startswith("RMQ_SYS_"):
                queue.cut(max(queue.begin, queue.next - _FORGOTTEN))

    def delete_files(self, topic: str) -> None:
        """Remove the files of a topic that was retired. Raises OSError."""
        for queue in self.by_name.values():
            if queue.topic == topic:
                queue.delete_files()
        folder = f"{self._folder}/{topic}"
        if self._disk.exists(folder) and not self._disk.listdir(folder):
            self._disk.remove(folder)

    def cut(self, offset_log: int) -> None:
        """Drop the entries of all messages at or behind `offset_log`. Raises OSError."""
        for queue in self.by_name.values():
            if offset_log == 0:
                queue.delete_files()
                queue.start_at(0, 0)
            else:
                queue.cut(queue.first_at(offset_log))
        self._min.clear()

    def drop_before(self, log_begin: int) -> None:
        """Forget entries, and delete queue files, whose messages are all gone. Raises OSError."""
        for queue in self.by_name.values():
            queue.begin = self.min_offset(queue, log_begin)
            queue.drop_before(queue.begin)

    def spill(self, at_least: int = 0) -> None:
        """Move the entries of queues that hold this many bytes of them in memory to files. Raises OSError."""
        for queue in self.by_name.values():
            if len(queue.tail) >= at_least:
                queue.spill()

    def show_all(self) -> None:
        """Everything entered is readable."""
        for queue in self.by_name.values():
            queue.visible = queue.next

    def take_dirty(self) -> tuple[list[str], list[str]]:
        """(files, folders) to sync so that the entries spilled so far survive; from now on they count as clean."""
        paths: list[str] = []
        folders: list[str] = []
        for queue in self.by_name.values():
            if queue.dirty_paths:
                paths.extend(sorted(queue.dirty_paths))
                queue.dirty_paths.clear()
                folders.append(queue.folder)
                if queue.new_folder:
                    folders.append(f"{self._folder}/{queue.topic}")
                    queue.new_folder = False
        return paths, [*dict.fromkeys(folders), self._folder] if folders else []

    def state(self, dispatched: int, index: tuple[int, int]) -> bytes:
        """Contents for `queues.json` as of now."""
        topics: dict[str, dict[int, tuple[int, int]]] = {}
        for queue in self.by_name.values():
            topics.setdefault(queue.topic, {})[queue.queue_id] = (queue.begin, queue.visible)
        return msgspec.json.encode(QueueState(dispatched, index, topics))

    @property
    def state_path(self) -> str:
        """Where `state` belongs."""
        return self._state_path

    def load(self) -> QueueState | None:
        """Open the queues as of the last checkpoint; None (and no queues) if there is none or it is unreadable."""
        self._disk.makedirs(self._folder)
        if not self._disk.exists(self._state_path):
            return None
        try:
            state = msgspec.json.decode(self._disk.read_bytes(self._state_path), type=QueueState)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        for topic, queues in state.queues.items():
            for queue_id, (begin, end) in queues.items():
                self.add(topic, queue_id).start_at(begin, end)
        return state

    def complete(self, log_begin: int) -> bool:
        """Whether the files hold every entry that they should, of messages the log still has."""
        for queue in self.by_name.values():
            if log_begin > 0:  # files of deleted messages may have gone since the checkpoint
                starts = queue.file_starts()
                if starts:
                    queue.begin = min(max(queue.begin, starts[0]), queue.next)
            if not queue.holds(queue.begin, queue.next):
                return False
        return True

    def empty(self) -> None:
        """Forget all entries for a rebuild; the bounds stay as they were until messages are found."""
        for queue in self.by_name.values():
            queue.delete_files()
        self.by_name.clear()
        self._by_bytes.clear()
        self._min.clear()

    def raise_bounds(self, state: QueueState) -> None:
        """After a rebuild: keep what the log alone does not tell, ends of idle queues and begins of deleted topics."""
        for topic, queues in state.queues.items():
            for queue_id, (begin, end) in queues.items():
                queue = self.add(topic, queue_id)
                if queue.next == queue.begin == 0:
                    queue.start_at(end, end)
                queue.begin = min(max(queue.begin, begin), queue.next)

    def bounds(self, log_begin: int) -> Iterator[tuple[ConsumeQueue, int]]:
        """Every queue with its first readable offset, in order of creation."""
        for queue in self.by_name.values():
            yield queue, self.min_offset(queue, log_begin)
