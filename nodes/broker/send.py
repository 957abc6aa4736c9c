"""Sends: one message, a batch, and messages that consumers give back.

Source: RocketMQ classes SendMessageProcessor, AbstractSendMessageProcessor. The order of the checks is theirs. A
refusal here means that nothing was stored.
"""

from __future__ import annotations

from typing import NoReturn

import msgspec

from nodes.broker.core import BrokerCore
from nodes.broker.delay import scheduled_queue
from nodes.broker.fields import RequestError, text, whole
from nodes.broker.names import (
    RETRY_PREFIX,
    SCHEDULE_TOPIC,
    is_dead_letter_topic,
    is_retry_topic,
    retry_topic,
    sendable_problem,
    topic_name_problem,
)
from nodes.broker.pipeline import Reply
from nodes.broker.retry import plan_resend, plan_retry
from nodes.broker.topics import PERM_READ, PERM_WRITE, TopicConfig
from nodes.dledger.records import SYSTEM_TOPIC
from nodes.flaws import Flaw
from nodes.remoting import message as layout
from nodes.remoting.codes import ResponseCode
from nodes.remoting.command import FLAG_ONEWAY, Command
from nodes.remoting.connection import Connection
from nodes.store.errors import Refusal, StoreRefused
from nodes.store.results import MessageIn, Place

__all__ = ["SendProcessor"]

_REFUSED_FLAGS = layout.SYS_TRANSACTION_MASK | layout.SYS_NEED_UNWRAP | layout.SYS_INNER_BATCH
_IDENTITIES = (layout.UNIQ_KEY, layout.ORIGIN_MESSAGE_ID)
_NOT_WAITING = "WAIT\x01false"
_BATCH_MAX = 65_536
_LONG = 2**63
_FLAW_PERIOD = 211
"""A planted flaw of the send path shows itself on every message of this number."""

_REFUSALS = {
    Refusal.BODY_TOO_LARGE: ResponseCode.MESSAGE_ILLEGAL,
    Refusal.TOPIC_TOO_LONG: ResponseCode.MESSAGE_ILLEGAL,
    Refusal.PROPERTIES_TOO_LONG: ResponseCode.MESSAGE_ILLEGAL,
    Refusal.BUSY: ResponseCode.SYSTEM_BUSY,
}


class SendProcessor:
    """Serves SEND_MESSAGE, SEND_MESSAGE_V2, SEND_BATCH_MESSAGE and CONSUMER_SEND_MSG_BACK."""

    def __init__(self, core: BrokerCore) -> None:
        self._core = core
        config = core.config
        self._cluster = f"CLUSTER\x01{config.broker_cluster_name}\x02"
        self._cluster_after = f"\x02{self._cluster}"
        self._open_topics: dict[str, int] = {}
        """Topics that passed all checks of `_target`, with their number of queues, as long as nothing has changed."""
        self._checked_at = (-1, -1)
        self._hosts: dict[Connection, layout.Host] = {}
        self._id_prefix = layout.offset_message_id(core.store_host, 0)[:-16].encode()
        region = msgspec.json.encode(config.region_id)
        self._fields = b'{"MSG_REGION":%b,"TRACE_ON":"%b",' % (region, b"true" if config.trace_on else b"false")
        self._waits = core.member is not None
        """A group's master answers nothing before it is committed, whatever the producer asked for."""
        self._drop_acked = Flaw.DROP_ACKED in config.flaws
        self._count = 0

    # The common requests

    def send_v2(self, connection: Connection, command: Command) -> Command | None:
        """310 and 320: header fields under one letter."""
        ext = command.ext
        if ext.get("m") == "true" or command.code == 320:
            return self._batch(connection, command)
        try:
            topic, queue_id, sys_flag = ext["b"], int(ext["e"]), int(ext["f"])
            born, flags, properties = int(ext["g"]), int(ext["h"]), ext.get("i") or ""
            tried = int(ext.get("j") or 0)
        except KeyError as missing:
            raise RequestError(ResponseCode.SYSTEM_ERROR, f"the header field {missing} is missing") from None
        except ValueError:
            raise RequestError(ResponseCode.SYSTEM_ERROR, "a header field is not a number") from None
        if not (_fits(sys_flag) and _fits(flags) and _fits(tried) and -_LONG <= born < _LONG):
            raise RequestError(ResponseCode.SYSTEM_ERROR, "a header field is out of range")
        core = self._core
        queues = self._open_topics.get(topic, 0)
        if not queues or core.pipeline.full or self._checked_at != (core.tables.topics.changes, core.generation):
            queues = self._target(topic, ext).queues
        if not 0 <= queue_id < queues:
            queue_id = self._queue(topic, queue_id)
        properties += self._cluster if not properties or properties[-1] == "\x02" else self._cluster_after
        wait = self._waits or _NOT_WAITING not in properties
        stored_topic, stored_queue = topic, queue_id
        if sys_flag & _REFUSED_FLAGS or "TRAN_MSG" in properties or "TIMER_" in properties:
            _refuse_unbuilt(sys_flag, properties)
        if "\0" in properties:
            _refuse_zeros()
        if topic[0] == "%" and topic.startswith(RETRY_PREFIX):
            stored_topic = self._resent(topic, tried, command)
            stored_queue = queue_id if stored_topic == topic else 0
        if "DELAY\x01" in properties:
            stored_topic, stored_queue, properties = self._delayed(stored_topic, stored_queue, properties)
        host = self._born_host(connection)
        sys_flag &= _KEPT_FLAGS
        message = MessageIn(stored_topic, stored_queue, command.body, properties, flags, sys_flag, born, host, tried)
        end, places = self._append([message])
        if command.flag & FLAG_ONEWAY:
            core.pipeline.touch()
            return None
        fields = self._answer_fields(self._message_id(places[0].offset_log), queue_id, places[0].offset_queue, wait)
        core.pipeline.submit(end, Reply(connection, command.opaque, fields), wait)
        return None

    def send_v1(self, connection: Connection, command: Command) -> Command | None:
        """10: the same fields under their long names."""
        letters = zip("abcdefghijklm", _LONG_NAMES, strict=True)
        command.ext = {letter: command.ext[name] for letter, name in letters if name in command.ext}
        return self.send_v2(connection, command)

    def _batch(self, connection: Connection, command: Command) -> Command | None:
        ext = command.ext
        topic, queue_id, sys_flag = text(ext, "b"), whole(ext, "e"), whole(ext, "f")
        if not 0 <= queue_id < self._target(topic, ext).queues:
            queue_id = self._queue(topic, queue_id)
        if is_retry_topic(topic):
            raise RequestError(ResponseCode.MESSAGE_ILLEGAL, "a batch cannot go to a retry topic")
        try:
            parts = layout.decode_batch(command.body, limit=_BATCH_MAX)
        except layout.RecordError as error:
            raise RequestError(ResponseCode.MESSAGE_ILLEGAL, str(error)) from None
        born, born_host, tried = whole(ext, "g"), self._born_host(connection), whole(ext, "j", 0)
        if not (_fits(sys_flag) and _fits(tried)):
            raise RequestError(ResponseCode.SYSTEM_ERROR, "a header field is out of range")
        wait = self._waits or _NOT_WAITING not in (ext.get("i") or "")
        messages = []
        for part in parts:
            _refuse_unbuilt(sys_flag, part.properties)
            if "\0" in part.properties:
                _refuse_zeros()
            if layout.property_of(part.properties, layout.DELAY):
                raise RequestError(ResponseCode.MESSAGE_ILLEGAL, "a batch cannot be delayed")
            wait = wait and (self._waits or _NOT_WAITING not in part.properties)
            properties = _joined(part.properties, self._cluster)
            messages.append(
                MessageIn(
                    topic, queue_id, part.body, properties, part.flag, sys_flag & _KEPT_FLAGS, born, born_host, tried
                )
            )
        end, places = self._append(messages)
        if command.flag & FLAG_ONEWAY:
            self._core.pipeline.touch()
            return None
        ids = b",".join(self._message_id(place.offset_log) for place in places)
        fields = self._answer_fields(ids, queue_id, places[0].offset_queue, wait)
        self._core.pipeline.submit(end, Reply(connection, command.opaque, fields), wait)
        return None

    def send_back(self, connection: Connection, command: Command) -> Command | None:
        """36: a consumer could not handle a message; store it again for later, or among the dead letters.

        The consumer goes on as if the message were handled, so the answer waits for the same promise as a send, and
        anything weaker is an error: the consumer then keeps the message.
        """
        core, ext = self._core, command.ext
        self._writable()
        group = text(ext, "group")
        offset, level = whole(ext, "offset"), whole(ext, "delayLevel", 0)
        settings = core.group(group)
        if settings is None:
            raise RequestError(ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST, f"the group {group} does not exist")
        if settings.retry_queue_nums <= 0:
            return command.reply(ResponseCode.SUCCESS)
        record = core.store.message_at(offset)
        if record is None:
            raise RequestError(ResponseCode.SYSTEM_ERROR, f"no message begins at log offset {offset}")
        original = layout.decode_record(record)
        if original.topic == SYSTEM_TOPIC:
            raise RequestError(ResponseCode.SYSTEM_ERROR, f"no message begins at log offset {offset}")
        meant = ext.get("originMsgId", "")
        names = (original.offset_message_id, *(original.properties.get(key) for key in _IDENTITIES))
        if meant and meant not in names:
            # After a promotion another message may lie where the consumer read its own: that one must not be repeated
            # in its place, and the consumer keeps what it has.
            raise RequestError(ResponseCode.SYSTEM_ERROR, f"the message at log offset {offset} is not {meant}")
        most = whole(ext, "maxReconsumeTimes", settings.retry_max_times)
        plan = plan_retry(group, original.reconsume_times, most, level)
        queues = 1 if plan.dead else settings.retry_queue_nums
        perm = PERM_READ | PERM_WRITE
        core.ensure_topic(TopicConfig(plan.topic, queues, queues, perm))
        target = core.tables.topics.get(plan.topic)
        if target is None or not target.writable:
            raise RequestError(ResponseCode.NO_PERMISSION, f"the topic {plan.topic} is not writable")
        values = dict(original.properties)
        values.setdefault(layout.RETRY_TOPIC, original.topic)
        values.setdefault(layout.ORIGIN_MESSAGE_ID, original.offset_message_id)
        for name in (layout.DELAY, layout.REAL_TOPIC, layout.REAL_QID):
            values.pop(name, None)
        values[layout.WAIT] = "false"
        topic, queue_id = plan.topic, core.rng.randrange(queues)
        properties = layout.encode_properties(values)
        if plan.delay_level:
            properties = layout.append_property(properties, layout.DELAY, str(plan.delay_level))
            topic, queue_id, properties = self._delayed(topic, queue_id, properties)
        again = MessageIn(
            topic,
            queue_id,
            original.body,
            properties,
            original.flag,
            original.sys_flag & _KEPT_FLAGS,
            original.born_timestamp,
            original.born_host,
            plan.reconsume_times,
        )
        end, _ = self._append([again])
        if command.flag & FLAG_ONEWAY:
            core.pipeline.touch()
        else:
            core.pipeline.submit(end, Reply(connection, command.opaque, b"{}", strict=True))
        return None

    # Checks, in RocketMQ's order

    def _writable(self) -> None:
        serving = self._core.serving
        if serving.failed is not None:
            raise RequestError(ResponseCode.SERVICE_NOT_AVAILABLE, f"the store has failed: {serving.failed}")
        if not self._core.may_append:
            raise self._core.not_master()
        if not self._core.may_write:
            raise RequestError(ResponseCode.NO_PERMISSION, "brokerPermission forbids sending to this broker")
        if self._core.pipeline.full:
            waiting = self._core.pipeline.waiting
            raise RequestError(
                ResponseCode.SYSTEM_BUSY, f"[PC_SYNCHRONIZED]{waiting} sends wait for disk or replica already"
            )

    def _target(self, topic: str, ext: dict[str, str]) -> TopicConfig:
        """The topic that may be written to; created if that is allowed. Raises RequestError."""
        self._writable()
        config = self._core.tables.topics.get(topic)
        if config is None or sendable_problem(topic) is not None:
            config = self._unknown(topic, ext)
        if not config.perm & PERM_WRITE:
            raise RequestError(ResponseCode.NO_PERMISSION, f"the topic {topic} is not writable")
        now = (self._core.tables.topics.changes, self._core.generation)
        if now != self._checked_at:
            self._open_topics.clear()
            self._checked_at = now
        self._open_topics[topic] = config.queues
        return config

    def _queue(self, topic: str, queue_id: int) -> int:
        """A queue for a send that names none (-1). Raises RequestError for one that does not exist."""
        config = self._core.tables.topics.get(topic)
        assert config is not None, "the topic was checked"
        if queue_id >= config.queues:
            raise RequestError(ResponseCode.INVALID_PARAMETER, f"queue {queue_id} is not one of {config.queues}")
        return self._core.rng.randrange(config.write_queue_nums)

    def _unknown(self, topic: str, ext: dict[str, str]) -> TopicConfig:
        problem = topic_name_problem(topic)
        if problem is not None:
            raise RequestError(ResponseCode.INVALID_PARAMETER, problem)
        problem = sendable_problem(topic)
        if problem is not None:
            raise RequestError(ResponseCode.NO_PERMISSION, problem)
        core, now_ms = self._core, self._core.clock.now_ms()
        core.refuse_topic_beyond_limit()
        created: TopicConfig | None = None
        if is_retry_topic(topic) or is_dead_letter_topic(topic):
            core.ensure_topic(TopicConfig(topic, 1, 1))
            created = core.tables.topics.get(topic)
        elif core.config.auto_create_topic_enable:
            queues = whole(ext, "d", 4)
            created = core.tables.topics.create_for_send(topic, ext.get("c", ""), queues, now_ms)
        if created is None:
            raise RequestError(ResponseCode.TOPIC_NOT_EXIST, f"the topic {topic} does not exist, apply first please")
        core.tables.save_changed_now()
        core.log.event("topic-created", topic=topic, queues=created.queues, by="send")
        return created

    def _resent(self, topic: str, tried: int, command: Command) -> str:
        """The topic for a message that a consumer resends to its retry topic itself."""
        group = topic[len(RETRY_PREFIX) :]
        settings = self._core.group(group)
        if settings is None:
            raise RequestError(ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST, f"the group {group} does not exist")
        most = whole(command.ext, "l", settings.retry_max_times)
        dead = plan_resend(group, tried, most)
        if dead is None:
            return retry_topic(group)
        self._core.ensure_topic(TopicConfig(dead, 1, 1))
        return dead

    def _delayed(self, topic: str, queue_id: int, properties: str) -> tuple[str, int, str]:
        """Topic, queue and properties under which a message with a delay level is stored until it is due."""
        wish = layout.property_of(properties, layout.DELAY)
        try:
            level = self._core.delay_levels.clamp(int(wish)) if wish else 0
        except ValueError:
            raise RequestError(ResponseCode.MESSAGE_ILLEGAL, f"the delay level {wish!r} is not a number") from None
        if level == 0:
            return topic, queue_id, properties
        properties = layout.append_property(properties, layout.REAL_TOPIC, topic)
        properties = layout.append_property(properties, layout.REAL_QID, str(queue_id))
        return SCHEDULE_TOPIC, scheduled_queue(level), properties

    # Storing and answering

    def _append(self, messages: list[MessageIn]) -> tuple[int, list[Place]]:
        core = self._core
        if core.member is not None and not core.member.leading:
            raise core.not_master()
        self._count += 1
        if self._drop_acked and self._count % _FLAW_PERIOD == 0:
            return core.store.written_end, [
                Place(core.store.written_end, 0, self._next(message)) for message in messages
            ]
        try:
            appended = core.store.append(messages, core.store_host)
        except StoreRefused as refused:
            code = _REFUSALS.get(refused.refusal, ResponseCode.SERVICE_NOT_AVAILABLE)
            raise RequestError(code, str(refused)) from None
        return appended.end, appended.places

    def _next(self, message: MessageIn) -> int:
        return self._core.store.queue_bounds(message.topic, message.queue_id)[1]

    def _answer_fields(self, message_id: bytes, queue_id: int, queue_offset: int, wait: bool) -> bytes:
        fields = b'%b"epoch":"%d","msgId":"%b","queueId":"%d","queueOffset":"%d"' % (
            self._fields,
            self._core.serving.epoch,
            message_id,
            queue_id,
            queue_offset,
        )
        return fields + (b"}" if wait else b',"waited":"false"}')

    def _message_id(self, offset_log: int) -> bytes:
        return b"%b%016X" % (self._id_prefix, offset_log)

    def _born_host(self, connection: Connection) -> layout.Host:
        known = self._hosts.get(connection)
        if known is None:
            address, _, port = connection.peer.rpartition(":")
            known = self._hosts[connection] = layout.parse_host(address.strip("[]"), int(port))
            connection.on_close(self._gone)
        return known

    def _gone(self, connection: Connection) -> None:
        self._hosts.pop(connection, None)


_KEPT_FLAGS = ~(layout.SYS_BORN_HOST_V6 | layout.SYS_STORE_HOST_V6)
"""Of a producer's flags: whether hosts are IPv6 is for the store to say."""
_LONG_NAMES = (
    "producerGroup",
    "topic",
    "defaultTopic",
    "defaultTopicQueueNums",
    "queueId",
    "sysFlag",
    "bornTimestamp",
    "flag",
    "properties",
    "reconsumeTimes",
    "unitMode",
    "maxReconsumeTimes",
    "batch",
)


def _fits(number: int) -> bool:
    """Whether a number has room in the 32 bits that a record gives it."""
    return -0x80000000 <= number <= 0x7FFFFFFF


def _joined(properties: str, more: str) -> str:
    """Properties with more of them behind; some clients leave out the last separator."""
    if not properties or properties.endswith("\x02"):
        return properties + more
    return f"{properties}\x02{more}"


def _refuse_zeros() -> NoReturn:
    """A start takes zeros in unflushed properties for what a power loss has left of them."""
    raise RequestError(ResponseCode.MESSAGE_ILLEGAL, "properties hold a zero byte")


def _refuse_unbuilt(sys_flag: int, properties: str) -> None:
    """Refuse by code what this broker knows and does not serve, so that it is never stored as something else."""
    if sys_flag & layout.SYS_TRANSACTION_MASK or layout.property_of(properties, layout.TRAN_MSG) == "true":
        raise RequestError(ResponseCode.NO_PERMISSION, "transaction messages are not supported by this broker")
    if sys_flag & (layout.SYS_NEED_UNWRAP | layout.SYS_INNER_BATCH):
        raise RequestError(ResponseCode.MESSAGE_ILLEGAL, "inner batches are not supported by this broker")
    for name in ("TIMER_DELIVER_MS", "TIMER_DELAY_SEC", "TIMER_DELAY_MS"):
        if layout.property_of(properties, name) is not None:
            raise RequestError(ResponseCode.MESSAGE_ILLEGAL, f"timer messages ({name}) are not supported here")
