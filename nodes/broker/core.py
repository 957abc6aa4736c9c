"""What all parts of one broker share: settings, tables, store, role. No behaviour of its own beyond small questions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from nodes.broker.consumer_groups import ClientTable
from nodes.broker.delay import DelayLevels
from nodes.broker.fields import RequestError
from nodes.broker.limits import GROUPS_MAX, OFFSETS_MAX, TOPICS_MAX
from nodes.broker.locks import LockTable
from nodes.broker.pipeline import Pipeline, Reply
from nodes.broker.pull_decision import moved_by_epoch
from nodes.broker.subscription_groups import GroupConfig
from nodes.broker.tables import BrokerTables
from nodes.broker.topics import PERM_READ, PERM_WRITE, TopicConfig
from nodes.clock import Clock
from nodes.config import BrokerConfig, BrokerRole
from nodes.dledger.node import GroupNode
from nodes.log import EventLog
from nodes.remoting.codes import ResponseCode
from nodes.remoting.command import FLAG_ONEWAY, Command
from nodes.remoting.connection import Connection
from nodes.remoting.message import Host
from nodes.replication.lineage import Lineage
from nodes.store.store import MessageStore

__all__ = ["BrokerCore", "ProgressLog", "Serving"]


class ProgressLog(Protocol):
    """Takes consumer offsets to the log of the group."""

    def note(self, group: str, topic: str, queue_id: int, offset: int) -> None:
        """A group has come so far, said in passing. It counts once it is committed; nothing happens on a slave."""
        ...

    def update(
        self,
        connection: Connection,
        command: Command,
        group: str,
        topic: str,
        offsets: dict[int, int],
        body: bytes = b"",
    ) -> Command | None:
        """A group has come so far, and whoever says so is answered when it counts. Raises RequestError on a slave."""
        ...

    def asked(self, connection: Connection, command: Command, group: str, topic: str, queue_id: int) -> bool:
        """Whether who asks where a group goes on is answered later, since what was said last is not committed yet."""
        ...

    def delivered(self, level: int, next_offset: int) -> None:
        """Delayed messages of this level are safely delivered up to `next_offset`."""
        ...


@dataclass(slots=True)
class Serving:
    """The role in force. It changes as a whole, in `roles`."""

    role: BrokerRole
    broker_id: int
    ready: bool = False
    """The role is taken up: epoch minted, tables clamped, replication started."""
    epoch: int = 0
    """Number of the epoch that this node writes as master."""
    failed: str | None = None
    """Why this broker has stopped acknowledging for good, or None."""
    outside: bool = False
    """DLedger mode: the group has gone on without this member, so nobody is served what it holds."""

    @property
    def is_master(self) -> bool:
        """A master that serves."""
        return self.role.is_master and self.ready

    @property
    def state(self) -> str:
        """For status reports."""
        if self.failed is not None:
            return "failed"
        if self.outside:
            return "no member"
        return "serving" if self.ready else "recovering"


@dataclass(slots=True)
class BrokerCore:
    """One broker's parts, assembled by `broker.run`."""

    config: BrokerConfig
    clock: Clock
    log: EventLog
    rng: Random
    store: MessageStore
    tables: BrokerTables
    lineage: Lineage | None
    """None in DLedger mode, where the log's terms take its place."""
    pipeline: Pipeline
    serving: Serving
    store_host: Host
    clients: ClientTable[Connection] = field(default_factory=ClientTable)
    locks: LockTable = field(default_factory=LockTable)
    commit_on_replica: Callable[[str, int, int], None] = lambda key, queue_id, offset: None
    """Notes that a consumer of `topic@group` committed here while this node is a replica."""
    offsets_reset: Callable[[dict[str, dict[int, int]]], None] = lambda progress: None
    """Tells replicas that an operator set these offsets."""
    generation: int = 0
    """Grows with every change of role or settings: what was concluded from them before is void."""
    register_now: Callable[[], None] = lambda: None
    """Registers with every name server at once."""
    member: GroupNode | None = None
    """DLedger mode: this broker as member of its group."""
    progress: ProgressLog | None = None
    """DLedger mode: takes what consumer groups commit to the log."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop."""
        return asyncio.get_running_loop()

    @property
    def delay_levels(self) -> DelayLevels:
        """The delay levels of this broker."""
        return DelayLevels(self.config.message_delay_level)

    @property
    def epoch(self) -> int:
        """Number of the newest epoch of this log; in DLedger mode the term."""
        if self.lineage is None:
            return self.serving.epoch
        last = self.lineage.table.last
        return 0 if last is None else last.number

    @property
    def may_read(self) -> bool:
        """brokerPermission allows pulls."""
        return bool(self.config.broker_permission & PERM_READ)

    @property
    def may_write(self) -> bool:
        """brokerPermission allows sends."""
        return bool(self.config.broker_permission & PERM_WRITE)

    def parted_at(self, topic: str, queue_id: int, offset: int, seen_epoch: int) -> int | None:
        """Where a consumer at `offset` that has read the log of `seen_epoch` must go back to; None if it need not.

        In DLedger mode it never must: what it has read was committed, and that is the same in every log.
        """
        if self.lineage is None:
            return None
        end = self.store.written_end
        # On a replica that has not caught up, epochs beyond the end say nothing about this queue yet.
        epochs = [(one.number, one.start_offset) for one in self.lineage.table if one.start_offset <= end]
        return moved_by_epoch(
            offset, seen_epoch, epochs, lambda start: self.store.queue_offset_at(topic, queue_id, start)
        )

    def commit(self, group: str, topic: str, queue_id: int, offset: int, seen_epoch: int | None) -> None:
        """A group has come to `offset`: not beyond the end of the queue, nor beyond where its log and this one part.

        Otherwise a group that has read messages which this master never had would skip those that took their place.
        """
        if self.progress is not None:
            self.progress.note(group, topic, queue_id, min(offset, self.store.queue_bounds(topic, queue_id)[1]))
            return
        if seen_epoch is not None:
            back = self.parted_at(topic, queue_id, offset, seen_epoch)
            offset = offset if back is None else back
        if self.serving.role.is_master:
            offset = min(offset, self.store.queue_bounds(topic, queue_id)[1])
        else:
            self.commit_on_replica(f"{topic}@{group}", queue_id, offset)
        if not self.tables.offsets.commit(group, topic, queue_id, offset):
            raise RequestError(ResponseCode.SYSTEM_ERROR, f"{OFFSETS_MAX} offsets are committed already")

    def not_master(self) -> RequestError:
        """The answer to what only a master does: nothing was stored, and who the master is if this node knows."""
        member = self.member
        leader = "" if member is None or member.leading else member.leader_broker
        said = f"this broker is {self.serving.role}" + (f", the master is {leader}" if leader else "")
        if member is not None and self.serving.role.is_master:
            said = "this broker is handing over to another master"
        return RequestError(ResponseCode.SERVICE_NOT_AVAILABLE, said, {"leader": leader} if leader else None)

    def refuse_outside(self) -> None:
        """Raises RequestError if the group has gone on without this member: others know better."""
        if self.serving.outside and self.member is not None:
            leader = self.member.leader_broker
            raise RequestError(
                ResponseCode.SERVICE_NOT_AVAILABLE,
                f"this broker is no member of the group {self.member.settings.group}; ask for the route again",
                {"leader": leader} if leader else None,
            )

    @property
    def may_append(self) -> bool:
        """This node is a master that serves; in DLedger mode its group lets it append."""
        return self.serving.is_master and (self.member is None or self.member.leading)

    def durably(self, connection: Connection, command: Command, body: bytes = b"") -> Command | None:
        """Answer a change of tables when it is as safe as a message: in DLedger mode when its record is committed."""
        response = command.reply(body=body)
        if self.member is None or command.flag & FLAG_ONEWAY:
            return response
        reply = Reply(connection, command.opaque, b"{}", strict=True, response=response)
        self.pipeline.submit(self.store.append_end, reply)
        return None

    def refuse_topic_beyond_limit(self) -> None:
        """Raises RequestError if there are as many topics as may be."""
        if len(self.tables.topics) >= TOPICS_MAX:
            raise RequestError(ResponseCode.SYSTEM_ERROR, f"there are {TOPICS_MAX} topics already")

    def ensure_topic(self, topic: TopicConfig) -> None:
        """Create a topic of the broker's own making (retry, dead letter) on a master; a replica gets it replicated."""
        if not self.may_append or self.tables.topics.get(topic.topic_name) is not None:
            return
        self.refuse_topic_beyond_limit()
        if self.tables.topics.ensure([topic], self.clock.now_ms()):
            self.tables.save_changed_now()
            self.log.event("topic-created", topic=topic.topic_name, queues=topic.queues)

    def group(self, name: str) -> GroupConfig | None:
        """A consumer group's settings; created where autoCreateSubscriptionGroup allows it."""
        found = self.tables.groups.get(name)
        if found is not None or not self.config.auto_create_subscription_group:
            return found
        if not self.may_append:
            return GroupConfig(name)
        if len(self.tables.groups.names()) >= GROUPS_MAX:
            raise RequestError(ResponseCode.SYSTEM_ERROR, f"there are {GROUPS_MAX} consumer groups already")
        created = self.tables.groups.find(name, create=True, now_ms=self.clock.now_ms())
        self.tables.save_changed_now()
        return created
