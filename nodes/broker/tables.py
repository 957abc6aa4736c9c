"""The broker's durable tables: topics, consumer groups, consumer offsets, delay progress.

They lie as JSON below `<storePathRootDir>/config`, under RocketMQ's names, each replaced atomically. Topics and groups
are saved before the request that changed them is answered; offsets move all the time and are saved by timer and at
stop. On a master the tables are what replication sends (`PrimaryTables`), on a replica what it installs
(`ReplicaTables`).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec

from nodes.broker.consumer_offsets import ConsumerOffsets, OffsetsDocument
from nodes.broker.delay import DelayOffsetsDocument, DelayProgress
from nodes.broker.subscription_groups import GroupsDocument, GroupTable
from nodes.broker.topics import TopicsDocument, TopicTable
from nodes.flaws import Flaw
from nodes.log import EventLog
from nodes.replication.frames import Progress, TableKind
from nodes.store.disk import Disk

__all__ = ["BrokerTables", "TableFile", "TablesDamaged"]


class TableFile(StrEnum):
    """File names, as in RocketMQ."""

    TOPICS = "topics.json"
    GROUPS = "subscriptionGroup.json"
    CONSUMER_OFFSETS = "consumerOffset.json"
    DELAY_OFFSETS = "delayOffset.json"


_FILES = {
    TableKind.TOPICS: TableFile.TOPICS,
    TableKind.GROUPS: TableFile.GROUPS,
    TableKind.CONSUMER_OFFSETS: TableFile.CONSUMER_OFFSETS,
    TableKind.DELAY_OFFSETS: TableFile.DELAY_OFFSETS,
}
_MODELS: dict[TableKind, type[msgspec.Struct]] = {
    TableKind.TOPICS: TopicsDocument,
    TableKind.GROUPS: GroupsDocument,
    TableKind.CONSUMER_OFFSETS: OffsetsDocument,
    TableKind.DELAY_OFFSETS: DelayOffsetsDocument,
}


class TablesDamaged(Exception):
    """A table file that cannot be read; the text names it. Starting without it would forget topics or progress."""


class BrokerTables:
    """All tables with their files. `end_of(topic, queue_id)` gives the end of a queue, for clamping."""

    def __init__(self, disk: Disk, root: str, log: EventLog, end_of: Callable[[str, int], int]) -> None:
        self.topics = TopicTable()
        self.groups = GroupTable()
        self.offsets = ConsumerOffsets()
        self.delays = DelayProgress()
        self.on_topics_changed: Callable[[], None] = lambda: None
        """Called after topics were changed by anybody: the broker registers anew."""
        self.on_changed: Callable[[], None] = lambda: None
        """Called after topics or groups were saved: replicas are told at once."""
        self.save_failures = 0
        self._disk = disk
        self._folder = f"{root}/config"
        self._log = log
        self._end_of = end_of
        self._saved: dict[TableKind, int] = {}
        self._saving = False

    def load(self, flaws: frozenset[Flaw]) -> None:
        """Read what was saved. Raises TablesDamaged or OSError."""
        self._disk.makedirs(self._folder)
        for kind in _FILES:
            if kind is TableKind.CONSUMER_OFFSETS and Flaw.LOSE_CONSUMER_OFFSETS in flaws:
                continue
            self._load_one(kind)

    def _load_one(self, kind: TableKind) -> None:
        path = f"{self._folder}/{_FILES[kind]}"
        if not self._disk.exists(path):
            return
        try:
            self._take(kind, msgspec.json.decode(self._disk.read_bytes(path), type=_MODELS[kind]))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise TablesDamaged(f"{path}: {error}") from error
        self._saved[kind] = self.version(kind)

    def clamp(self, delay_levels: int, schedule_end: Callable[[int], int]) -> None:
        """Cut committed offsets down to the ends of the queues: the log was opened, truncated or promoted."""
        for key, queue_id, was, now in self.offsets.clamp(self._end_of):
            self._log.event("offset-clamped", key=key, queue=queue_id, was=was, now=now)
        self.delays.clamp({level: schedule_end(level) for level in range(1, delay_levels + 1)})

    def forget_topic(self, topic: str) -> None:
        """A topic was deleted: what groups had committed there is gone with it."""
        self.offsets.forget(topic=topic)

    def forget_group(self, group: str) -> None:
        """A group was deleted with its progress."""
        self.offsets.forget(group=group)

    # Saving

    def save_changed_now(self) -> None:
        """Write topics and groups if they changed; when this returns the change is durable. Raises OSError."""
        saved = []
        for kind in (TableKind.TOPICS, TableKind.GROUPS):
            version = self.version(kind)
            if self._saved.get(kind) != version:
                self._disk.replace_atomically(f"{self._folder}/{_FILES[kind]}", self._file(kind))
                self._saved[kind] = version
                saved.append(kind)
        if saved:
            self.on_changed()
        if TableKind.TOPICS in saved:
            self.on_topics_changed()

    async def save_offsets(self) -> None:
        """Write consumer offsets and delay progress if they changed, without blocking the loop.

        A disk that refuses is logged and tried again next time: offsets that are not saved mean repeated deliveries
        after a crash, never lost ones.
        """
        if self._saving:
            return
        self._saving = True
        try:
            for kind in (TableKind.CONSUMER_OFFSETS, TableKind.DELAY_OFFSETS):
                version = self.version(kind)
                if self._saved.get(kind) == version:
                    continue
                try:
                    await self._disk.replace_atomically_async(f"{self._folder}/{_FILES[kind]}", self._file(kind))
                except OSError as error:
                    self.save_failures += 1
                    self._log.error("table-not-saved", file=_FILES[kind].value, reason=error)
                else:
                    self._saved[kind] = version
        finally:
            self._saving = False

    def _file(self, kind: TableKind) -> bytes:
        return msgspec.json.format(self.snapshot(kind), indent=1) + b"\n"

    # What replication asks

    def version(self, kind: TableKind) -> int:
        """A number that differs after every change."""
        match kind:
            case TableKind.TOPICS:
                return self.topics.changes
            case TableKind.GROUPS:
                return self.groups.changes
            case TableKind.CONSUMER_OFFSETS:
                return self.offsets.changes
            case TableKind.DELAY_OFFSETS:
                return self.delays.changes

    def snapshot(self, kind: TableKind) -> bytes:
        """The whole table as JSON."""
        match kind:
            case TableKind.TOPICS:
                return msgspec.json.encode(self.topics.document())
            case TableKind.GROUPS:
                return msgspec.json.encode(self.groups.document())
            case TableKind.CONSUMER_OFFSETS:
                return msgspec.json.encode(self.offsets.document())
            case TableKind.DELAY_OFFSETS:
                return msgspec.json.encode(self.delays.document())

    def merge(self, progress: Progress) -> None:
        """Raise committed offsets to those that consumers committed on a replica, not beyond the end of the queue."""
        for key, queues in progress.items():
            topic, _, group = key.partition("@")
            for queue_id, offset in queues.items():
                reached = min(offset, self._end_of(topic, queue_id))
                known = self.offsets.get(group, topic, queue_id)
                if known is None or reached > known:
                    self.offsets.commit(group, topic, queue_id, reached)

    def install(self, kind: TableKind, payload: bytes, progress: Progress) -> None:
        """Replace a table by the primary's in one step. `progress` stays in force where it is larger."""
        self._take(kind, msgspec.json.decode(payload, type=_MODELS[kind]))
        for key, queues in progress.items():
            topic, _, group = key.partition("@")
            for queue_id, offset in queues.items():
                known = self.offsets.get(group, topic, queue_id)
                if known is None or offset > known:
                    self.offsets.commit(group, topic, queue_id, offset)
        self.save_changed_now()

    def _take(self, kind: TableKind, document: object) -> None:
        match document:
            case TopicsDocument():
                self.topics.load(document)
            case GroupsDocument():
                self.groups.load(document)
            case OffsetsDocument():
                self.offsets.load(document)
            case DelayOffsetsDocument():
                self.delays.load(document)
            case _:
                raise ValueError(f"{kind.name} is not read from a {type(document).__name__}")
