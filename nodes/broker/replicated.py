"""The broker's tables in DLedger mode: every change is a record of the log, and counts once the group has committed it.

Topics and groups are changed on the leader at once, so that a send can follow their creation; what had not been
committed when a leader is deposed is taken back. Consumer offsets and the progress of delayed messages change for
everybody at the commit only: what an asker once saw never goes back by an election.

The files below `config` hold what committed records have led to, and `applied.json` up to where; a start replays what
lies behind it. Records carry whole values, so replaying some of them twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from nodes.broker.consumer_offsets import OffsetsDocument
from nodes.broker.delay import DelayOffsetsDocument
from nodes.broker.subscription_groups import GroupConfig, GroupsDocument
from nodes.broker.tables import BrokerTables, TableFile, TablesDamaged
from nodes.broker.topics import TopicConfig, TopicsDocument
from nodes.dledger.records import SYSTEM_TOPIC, Lane
from nodes.flaws import Flaw
from nodes.log import EventLog
from nodes.remoting.message import RecordError, decode_record
from nodes.replication.frames import TableKind
from nodes.store.disk import Disk
from nodes.store.errors import StoreFailed
from nodes.store.store import MessageStore

__all__ = ["Change", "ReplicatedTables", "load_applied"]

T = TypeVar("T")

_BATCH = 64
_BATCH_BYTES = 4 * 1024 * 1024
_APPLIED = "applied.json"
_OFFSETS_MAX = 5000
"""Consumer offsets that one record carries at most."""


class Change(msgspec.Struct, omit_defaults=True):
    """One record: what changes, in whole values; None removes."""

    topics: dict[str, TopicConfig | None] = {}
    groups: dict[str, GroupConfig | None] = {}
    forget_topics: list[str] = []
    """Topics whose messages and committed offsets are gone from here on."""
    forget_groups: list[str] = []
    """Groups whose committed offsets are gone from here on."""
    offsets: dict[str, dict[int, int]] = {}
    """`topic@group` to queue to offset."""
    delays: dict[int, int] = {}
    """Delay level to the next offset to deliver."""


class _Applied(msgspec.Struct):
    """The file applied.json."""

    position: int


class _Snapshot(msgspec.Struct):
    """All tables, for a member that is re-seeded."""

    topics: TopicsDocument
    groups: GroupsDocument
    offsets: OffsetsDocument
    delays: DelayOffsetsDocument


_CHANGE = msgspec.json.Decoder(Change)


def load_applied(disk: Disk, root: str) -> int:
    """Log offset up to which the saved tables contain everything; committed for certain. Raises TablesDamaged."""
    path = f"{root}/config/{_APPLIED}"
    if not disk.exists(path):
        return 0
    try:
        return msgspec.json.decode(disk.read_bytes(path), type=_Applied).position
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise TablesDamaged(f"{path}: {error}") from error


class ReplicatedTables(BrokerTables):
    """`append` puts a record into the leader's log; None while this node does not lead."""

    def __init__(
        self, disk: Disk, root: str, log: EventLog, end_of: Callable[[str, int], int], store: MessageStore
    ) -> None:
        super().__init__(disk, root, log, end_of)
        self.append: Callable[[Lane, bytes], int] | None = None
        self.applied = 0
        """Log offset up to which committed records are in the tables."""
        self._store = store
        self._root = root
        self._next: int | None = None
        """Queue offset of the next record to apply; None where it has to be looked up."""
        self._own_from = 0
        """Records from here on are this leader's own: topics and groups have been changed already."""
        self._topics: dict[str, TopicConfig] = {}
        """As far as committed."""
        self._groups: dict[str, GroupConfig] = {}
        self._told_topics: dict[str, TopicConfig] = {}
        """As far as this leader has written records."""
        self._told_groups: dict[str, GroupConfig] = {}
        self._to_forget: tuple[list[str], list[str]] = ([], [])
        self._topics_committed = False
        self._forgotten = False
        """The store's queues begin later than its last checkpoint says."""
        self._saved_at = -1
        self._flaws: frozenset[Flaw] = frozenset()

    def load(self, flaws: frozenset[Flaw]) -> None:
        super().load(flaws)
        self._flaws = flaws
        self.applied = load_applied(self._disk, self._root)
        self._take_over()

    def _take_over(self) -> None:
        self._topics = self.topics.all()
        self._groups = self.groups.all()
        self._next = None

    # Leading

    def lead(self, append: Callable[[Lane, bytes], int], own_from: int) -> None:
        """This node leads; everything from the log offset `own_from` on will be its own."""
        self.append = append
        self._own_from = own_from
        self._told_topics, self._told_groups = dict(self._topics), dict(self._groups)
        if Flaw.DROP_OFFSETS_ON_SWITCH in self._flaws:
            self.offsets.load(OffsetsDocument())  # planted: DROP_OFFSETS_ON_SWITCH
        if Flaw.OLD_OFFSETS_ON_SWITCH in self._flaws:
            self._load_one(TableKind.CONSUMER_OFFSETS)  # planted: OLD_OFFSETS_ON_SWITCH

    def follow(self) -> None:
        """This node leads no more: take back what was not committed."""
        if self.append is None:
            return
        self.append = None
        self._to_forget = ([], [])
        if self.topics.all() != self._topics:
            self._log.event("tables-taken-back", topics=len(self._topics))
            self.topics.load(TopicsDocument(self.topics.version, dict(self._topics)))
        if self.groups.all() != self._groups:
            self.groups.load(GroupsDocument(self.groups.version, {}, dict(self._groups)))
        self._own_from = 1 << 62

    def save_changed_now(self) -> None:
        """Put changes of topics and groups into the log. Raises StoreRefused."""
        if self.append is None:
            return
        change = Change()
        topics, groups = self.topics.all(), self.groups.all()
        change.topics = _difference(self._told_topics, topics)
        change.groups = _difference(self._told_groups, groups)
        change.forget_topics, change.forget_groups = self._to_forget
        if change.topics or change.groups or change.forget_topics or change.forget_groups:
            self.append(Lane.STATE, msgspec.json.encode(change))
            self._told_topics, self._told_groups = topics, groups
            self._to_forget = ([], [])

    def forget_topic(self, topic: str) -> None:
        self._to_forget[0].append(topic)

    def forget_group(self, group: str) -> None:
        self._to_forget[1].append(group)

    def write_progress(self, offsets: dict[tuple[str, int], int], delays: dict[int, int] | None = None) -> int:
        """Put progress into the log; returns the end of its record. Keys are (`topic@group`, queue).

        Raises StoreRefused.
        """
        assert self.append is not None, "only a leader writes"
        end = 0
        items = list(offsets.items())
        for at in range(0, max(len(items), 1), _OFFSETS_MAX):
            change = Change(delays=delays or {})
            for (key, queue_id), offset in items[at : at + _OFFSETS_MAX]:
                change.offsets.setdefault(key, {})[queue_id] = offset
            end = self.append(Lane.STATE, msgspec.json.encode(change))
        return end

    # Applying

    def apply(self, committed: int) -> None:
        """Take in all records that are committed now. Raises OSError."""
        store, queue = self._store, int(Lane.STATE)
        if self._next is None:
            self._next = store.queue_offset_at(SYSTEM_TOPIC, queue, self.applied)
        topics_before = self.topics.changes
        while self._next < store.queue_bounds(SYSTEM_TOPIC, queue)[1]:
            found = store.read_queue(SYSTEM_TOPIC, queue, self._next, _BATCH, _BATCH_BYTES)
            if not found.records:
                break
            for stored in found.records:
                try:
                    message = decode_record(stored)
                    change = _CHANGE.decode(message.body)
                except (RecordError, msgspec.MsgspecError) as error:
                    raise OSError(f"a record of the group's tables cannot be read: {error}") from None
                self._apply(change, message.offset_log)
            self._next = found.next_offset
        self.applied = max(self.applied, committed)
        if self.topics.changes != topics_before or self._topics_committed:
            self._topics_committed = False
            self.on_topics_changed()

    def _apply(self, change: Change, position: int) -> None:
        own = self.append is not None and position >= self._own_from
        now_ms = self._store.now_ms()
        for topic, config in change.topics.items():
            self._topics_committed = True
            if config is None:
                self._topics.pop(topic, None)
                if not own:
                    self.topics.remove(topic, now_ms)
            else:
                self._topics[topic] = config
                if not own and self.topics.get(topic) != config:
                    self.topics.put(config, now_ms)
        for group, settings in change.groups.items():
            if settings is None:
                self._groups.pop(group, None)
                if not own:
                    self.groups.remove(group, now_ms)
            else:
                self._groups[group] = settings
                if not own and self.groups.get(group) != settings:
                    self.groups.put(settings, now_ms)
        for topic in change.forget_topics:
            self._forgotten = True
            self._store.forget_before(topic, position)
            self.offsets.forget(topic=topic)
        for group in change.forget_groups:
            self.offsets.forget(group=group)
        for key, queues in change.offsets.items():
            topic, _, group = key.partition("@")
            for queue_id, offset in queues.items():
                self.offsets.commit(group, topic, queue_id, offset)
        for level, next_offset in change.delays.items():
            self.delays.delivered(level, next_offset)

    # Files

    def _documents(self) -> dict[TableFile, bytes]:
        return {
            TableFile.TOPICS: _pretty(TopicsDocument(self.topics.version, dict(self._topics))),
            TableFile.GROUPS: _pretty(GroupsDocument(self.groups.version, {}, dict(self._groups))),
            TableFile.CONSUMER_OFFSETS: _pretty(self.offsets.document()),
            TableFile.DELAY_OFFSETS: _pretty(self.delays.document()),
        }

    async def save_offsets(self) -> None:
        """Write all tables as far as committed, and then up to where. Not needed for safety: the log has it all.

        The log is synced first: tables that outlive the records they came from would send consumers past the messages
        that take the places of lost ones. A disk that refuses is logged and tried again next time.
        """
        if self._saving or self.applied == self._saved_at:
            return
        self._saving = True
        position, documents = self.applied, self._documents()
        try:
            if self._store.flushed_end < position:
                await self._store.sync()
            if self._forgotten:
                self._forgotten = False
                await self._store.checkpoint()
            for name, data in documents.items():
                await self._disk.replace_atomically_async(f"{self._folder}/{name}", data)
            await self._disk.replace_atomically_async(
                f"{self._folder}/{_APPLIED}", msgspec.json.encode(_Applied(position))
            )
            self._saved_at = position
        except StoreFailed:
            return  # the store has said why; what is saved stays true
        except OSError as error:
            self.save_failures += 1
            self._log.error("table-not-saved", file=_APPLIED, reason=error)
        finally:
            self._saving = False

    def save_now(self) -> None:
        """The same, blocking: the log that says all this is about to be deleted. Raises OSError, StoreFailed."""
        self._disk.settle()
        if self._store.flushed_end < self.applied <= self._store.written_end:
            self._store.sync_now()
        if self._forgotten:
            self._forgotten = False
            self._store.checkpoint_now()
        for name, data in self._documents().items():
            self._disk.replace_atomically(f"{self._folder}/{name}", data)
        self._disk.replace_atomically(f"{self._folder}/{_APPLIED}", msgspec.json.encode(_Applied(self.applied)))
        self._saved_at = self.applied

    # Re-seeding

    def snapshot_all(self) -> bytes:
        """All tables as far as committed."""
        return msgspec.json.encode(
            _Snapshot(
                TopicsDocument(self.topics.version, dict(self._topics)),
                GroupsDocument(self.groups.version, {}, dict(self._groups)),
                self.offsets.document(),
                self.delays.document(),
            )
        )

    def install_all(self, data: bytes, begin: int) -> None:
        """Take over all tables, durably; the log begins at `begin` now. Raises OSError, ValueError."""
        snapshot = msgspec.json.decode(data, type=_Snapshot)
        self.topics.load(snapshot.topics)
        self.groups.load(snapshot.groups)
        self.offsets.load(snapshot.offsets)
        self.delays.load(snapshot.delays)
        self._take_over()
        self.applied = begin
        self.save_now()
        self.on_topics_changed()


def _pretty(document: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def _difference(before: dict[str, T], after: dict[str, T]) -> dict[str, T | None]:
    """What has to change so that `before` becomes `after`."""
    found: dict[str, T | None] = {name: value for name, value in after.items() if before.get(name) != value}
    found.update({name: None for name in before if name not in after})
    return found
