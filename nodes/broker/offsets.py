"""Committed consumer offsets, and the bounds of queues.

Sources: RocketMQ classes ConsumerManageProcessor, AdminBrokerProcessor.
"""

from __future__ import annotations

from nodes.broker.bodies import bare_key_map, encode
from nodes.broker.core import BrokerCore
from nodes.broker.fields import RequestError, flag, text, whole
from nodes.broker.locks import QueueName
from nodes.broker.topics import TopicConfig
from nodes.remoting.codes import ResponseCode
from nodes.remoting.command import Command
from nodes.remoting.connection import Connection
from nodes.replication.frames import TableKind

__all__ = ["OffsetProcessor"]


class OffsetProcessor:
    """Serves QUERY and UPDATE_CONSUMER_OFFSET, queue bounds by offset and time, offset tables and resets."""

    def __init__(self, core: BrokerCore) -> None:
        self._core = core

    def query(self, connection: Connection, command: Command) -> Command | None:
        """14: where a group goes on.

        A group that never committed begins at 0 as long as the queue still has its first message, whatever the consumer
        wants to start from, as in RocketMQ; afterwards the consumer decides (QUERY_NOT_FOUND).

        In DLedger mode only the leader knows: a follower may not have applied what was committed last, and a group that
        began there would go back. The leader answers what was said last, once that is committed.
        """
        if self._core.member is not None and not self._core.may_append:
            raise self._core.not_master()
        ext = command.ext
        group, topic, queue_id = text(ext, "consumerGroup"), text(ext, "topic"), whole(ext, "queueId")
        progress = self._core.progress
        if progress is not None and progress.asked(connection, command, group, topic, queue_id):
            return None
        offset = self._core.tables.offsets.get(group, topic, queue_id)
        if offset is not None and offset >= 0:
            return command.reply(ext={"offset": str(offset)})
        begin, _ = self._core.store.queue_bounds(topic, queue_id)
        if begin <= 0 and flag(ext, "setZeroIfNotFound", True):
            return command.reply(ext={"offset": "0"})
        return command.reply(
            ResponseCode.QUERY_NOT_FOUND.value, "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first"
        )

    def update(self, connection: Connection, command: Command) -> Command | None:
        """15: a group has come so far."""
        ext = command.ext
        group, topic, queue_id = text(ext, "consumerGroup"), text(ext, "topic"), whole(ext, "queueId")
        offset = whole(ext, "commitOffset")
        config = self._core.tables.topics.get(topic)
        if config is None:
            raise RequestError(ResponseCode.TOPIC_NOT_EXIST, f"the topic {topic} does not exist")
        if not 0 <= queue_id < config.queues or offset < 0:
            raise RequestError(ResponseCode.INVALID_PARAMETER, f"queue {queue_id} or offset {offset} cannot be")
        if self._core.progress is not None:
            end = self._core.store.queue_bounds(topic, queue_id)[1]
            return self._core.progress.update(connection, command, group, topic, {queue_id: min(offset, end)})
        self._core.commit(group, topic, queue_id, offset, whole(ext, "epoch") if ext.get("epoch") else None)
        return command.reply()

    def by_time(self, connection: Connection, command: Command) -> Command:
        """29: the first offset stored at or after a time; `UPPER` asks for the last one not after it."""
        ext = command.ext
        topic, queue_id, timestamp = self._queue(command)[0], whole(ext, "queueId"), whole(ext, "timestamp")
        store = self._core.store
        if ext.get("boundaryType", "LOWER").upper() == "UPPER":
            offset = max(0, store.offset_by_time(topic, queue_id, timestamp + 1) - 1)
        else:
            offset = store.offset_by_time(topic, queue_id, timestamp)
        return command.reply(ext={"offset": str(offset)})

    def end(self, connection: Connection, command: Command) -> Command:
        """30: one behind the last readable message."""
        topic, queue_id = self._queue(command)
        return command.reply(ext={"offset": str(self._core.store.queue_bounds(topic, queue_id)[1])})

    def begin(self, connection: Connection, command: Command) -> Command:
        """31: the first readable message."""
        topic, queue_id = self._queue(command)
        return command.reply(ext={"offset": str(self._core.store.queue_bounds(topic, queue_id)[0])})

    def earliest_time(self, connection: Connection, command: Command) -> Command:
        """32: when the first readable message was stored, -1 if there is none."""
        topic, queue_id = self._queue(command)
        return command.reply(ext={"timestamp": str(self._core.store.earliest_time(topic, queue_id))})

    def all_consumer_offsets(self, connection: Connection, command: Command) -> Command:
        """43: the whole table."""
        return command.reply(body=self._core.tables.snapshot(TableKind.CONSUMER_OFFSETS))

    def all_delay_offsets(self, connection: Connection, command: Command) -> Command:
        """45: the whole table."""
        return command.reply(body=self._core.tables.snapshot(TableKind.DELAY_OFFSETS))

    def reset(self, connection: Connection, command: Command) -> Command | None:
        """222: an operator moves a group to a time or an offset.

        The table here is what counts: consumers that are online go on from their own memory until they are restarted,
        so without `isForce` a group with members is refused.
        """
        core, ext = self._core, command.ext
        if not core.may_append:
            if core.member is not None:
                raise core.not_master()
            raise RequestError(ResponseCode.SERVICE_NOT_AVAILABLE, "offsets are reset on the master only")
        topic, group = text(ext, "topic"), text(ext, "group")
        timestamp, force = whole(ext, "timestamp", -1), flag(ext, "isForce")
        config = core.tables.topics.get(topic)
        if config is None:
            raise RequestError(ResponseCode.TOPIC_NOT_EXIST, f"the topic {topic} does not exist")
        if core.clients.consumer_group(group) is not None and not force:
            raise RequestError(
                ResponseCode.SYSTEM_ERROR, f"the group {group} is online; stop its consumers, or force the reset"
            )
        only = whole(ext, "queueId", -1)
        moved: dict[int, int] = {}
        for queue_id in range(config.queues) if only < 0 else [only]:
            moved[queue_id] = self._reset_target(topic, queue_id, timestamp, whole(ext, "offset", -1))
            if core.progress is None:
                core.tables.offsets.commit(group, topic, queue_id, moved[queue_id])
        core.offsets_reset({f"{topic}@{group}": moved})
        core.log.event("offsets-reset", topic=topic, group=group, offsets=moved)
        name = core.config.broker_name
        entries = [(QueueName(topic, name, queue_id), offset) for queue_id, offset in moved.items()]
        body = encode({"offsetTable": bare_key_map(entries)})
        if core.progress is not None:
            return core.progress.update(connection, command, group, topic, moved, body)
        return command.reply(body=body)

    def _reset_target(self, topic: str, queue_id: int, timestamp: int, offset: int) -> int:
        begin, end = self._core.store.queue_bounds(topic, queue_id)
        if offset >= 0:
            return min(max(offset, begin), end)
        if timestamp < 0:
            return end
        return self._core.store.offset_by_time(topic, queue_id, timestamp)

    def _queue(self, command: Command) -> tuple[str, int]:
        topic, queue_id = text(command.ext, "topic"), whole(command.ext, "queueId")
        config: TopicConfig | None = self._core.tables.topics.get(topic)
        if config is None:
            raise RequestError(ResponseCode.TOPIC_NOT_EXIST, f"the topic {topic} does not exist")
        return topic, queue_id
