"""Administration of topics. Source: RocketMQ class AdminBrokerProcessor."""

from __future__ import annotations

from nodes.broker.bodies import bare_key_map, encode
from nodes.broker.core import BrokerCore
from nodes.broker.fields import RequestError, flag, text, whole
from nodes.broker.limits import QUEUES_MAX
from nodes.broker.locks import QueueName
from nodes.broker.names import system_topics, topic_name_problem
from nodes.broker.topics import TopicConfig
from nodes.remoting.codes import ResponseCode
from nodes.remoting.command import Command
from nodes.remoting.connection import Connection
from nodes.replication.frames import TableKind
from nodes.store.errors import StoreFailed, StoreRefused

__all__ = ["TopicAdmin"]


class TopicAdmin:
    """Serves creation, deletion, listing and statistics of topics."""

    def __init__(self, core: BrokerCore) -> None:
        self._core = core

    def update(self, connection: Connection, command: Command) -> Command | None:
        """17: create or change a topic; durable, replicated and registered when answered or soon after."""
        core, ext = self._core, command.ext
        self._master_only()
        topic = text(ext, "topic")
        problem = topic_name_problem(topic)
        if problem is not None:
            raise RequestError(ResponseCode.INVALID_PARAMETER, problem)
        self._not_of_the_broker(topic)
        reads, writes = whole(ext, "readQueueNums"), whole(ext, "writeQueueNums")
        perm = whole(ext, "perm", 6)
        if not (0 < reads <= QUEUES_MAX and 0 < writes <= QUEUES_MAX and 0 <= perm <= 7):
            raise RequestError(
                ResponseCode.INVALID_PARAMETER, f"{reads} and {writes} queues with permission {perm} cannot be"
            )
        old = core.tables.topics.get(topic)
        if old is None:
            core.refuse_topic_beyond_limit()
        created = TopicConfig(
            topic,
            reads,
            writes,
            perm,
            ext.get("topicFilterType") or "SINGLE_TAG",
            whole(ext, "topicSysFlag", 0),
            flag(ext, "order"),
            {} if old is None else old.attributes,
        )
        core.tables.topics.put(created, core.clock.now_ms())
        core.tables.save_changed_now()
        core.log.event("topic-updated", topic=topic, read_queues=reads, write_queues=writes, perm=perm)
        return core.durably(connection, command)

    def delete(self, connection: Connection, command: Command) -> Command | None:
        """215: the topic, its messages and what groups had committed there are gone; its offsets are never reused."""
        core = self._core
        self._master_only()
        topic = text(command.ext, "topic")
        if not topic.strip():
            raise RequestError(ResponseCode.INVALID_PARAMETER, "no topic is named")
        self._not_of_the_broker(topic)
        if core.member is None:  # else every member does so when the deletion is committed
            try:
                core.store.retire_topic(topic)
            except (StoreFailed, StoreRefused) as error:
                raise RequestError(ResponseCode.SERVICE_NOT_AVAILABLE, str(error)) from None
        core.tables.forget_topic(topic)
        if core.tables.topics.remove(topic, core.clock.now_ms()):
            core.tables.save_changed_now()
        core.log.event("topic-deleted", topic=topic)
        return core.durably(connection, command)

    def all_topics(self, connection: Connection, command: Command) -> Command:
        """21: the whole table."""
        ext = {"totalTopicNum": str(len(self._core.tables.topics))}
        return command.reply(ext=ext, body=self._core.tables.snapshot(TableKind.TOPICS))

    def one_topic(self, connection: Connection, command: Command) -> Command:
        """351: one topic's settings."""
        return command.reply(body=encode(self._topic(command)))

    def system_topic_list(self, connection: Connection, command: Command) -> Command:
        """305: topics that are not users'."""
        names = system_topics(self._core.config.broker_cluster_name, self._core.config.broker_name)
        return command.reply(body=encode({"topicList": names}))

    def statistics(self, connection: Connection, command: Command) -> Command:
        """202: the bounds of every queue and when its last message came."""
        core, topic = self._core, self._topic(command)
        name = core.config.broker_name
        entries = []
        for queue_id in range(topic.queues):
            begin, end = core.store.queue_bounds(topic.topic_name, queue_id)
            values = {"lastUpdateTimestamp": self.last_time(topic.topic_name, queue_id), "maxOffset": end}
            entries.append((QueueName(topic.topic_name, name, queue_id), {**values, "minOffset": begin}))
        return command.reply(body=encode({"offsetTable": bare_key_map(entries), "topicPutTps": 0.0}))

    def consumed_by(self, connection: Connection, command: Command) -> Command:
        """300: groups that consume the topic, or have committed there."""
        topic = text(command.ext, "topic")
        groups = dict.fromkeys(self._core.clients.groups_consuming(topic))
        groups.update(dict.fromkeys(self._core.tables.offsets.groups_of(topic)))
        return command.reply(body=encode({"groupList": list(groups)}))

    def last_time(self, topic: str, queue_id: int, offset: int | None = None) -> int:
        """When the message before `offset` (the queue's end by default) was stored, in ms; 0 if there is none."""
        begin, end = self._core.store.queue_bounds(topic, queue_id)
        last = (end if offset is None else min(offset, end)) - 1
        if last < begin:
            return 0
        found = self._core.store.read_queue(topic, queue_id, last, 1, 1)
        if not found.records:
            return 0
        return int.from_bytes(found.records[0][_stored_at(found.records[0]) :][:8], "big")

    def _topic(self, command: Command) -> TopicConfig:
        name = text(command.ext, "topic")
        topic = self._core.tables.topics.get(name)
        if topic is None:
            raise RequestError(ResponseCode.TOPIC_NOT_EXIST, f"the topic {name} does not exist")
        return topic

    def _not_of_the_broker(self, topic: str) -> None:
        """Refuse a topic that every broker has for itself, as 5.x does (4.9: SYSTEM_ERROR)."""
        config = self._core.config
        if topic in system_topics(config.broker_cluster_name, config.broker_name):
            raise RequestError(ResponseCode.INVALID_PARAMETER, f"the topic {topic} belongs to the broker")

    def _master_only(self) -> None:
        if not self._core.may_append:
            if self._core.member is not None:
                raise self._core.not_master()
            raise RequestError(ResponseCode.SYSTEM_ERROR, "topics are changed on the master; slaves follow it")


def _stored_at(record: bytes | memoryview) -> int:
    """Where a record's store time stamp lies: behind the born host, which has 8 or 20 bytes."""
    return 68 if record[39] & 0x10 else 56
