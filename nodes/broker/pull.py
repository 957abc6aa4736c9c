"""Pulls, and the pulls that wait for messages.

Source: RocketMQ classes PullMessageProcessor, PullRequestHoldService. A replica lets consumers wait where RocketMQ 5
makes them ask again at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from nodes.broker.core import BrokerCore
from nodes.broker.fields import RequestError, text, whole
from nodes.broker.long_polling import Parked, ParkingTable
from nodes.broker.pull_decision import Answer, Look, answer, look_at
from nodes.broker.subscription import TAG, SubscriptionError, acceptor, parse_tags
from nodes.flaws import Flaw
from nodes.remoting.codes import ResponseCode
from nodes.remoting.command import Command
from nodes.remoting.connection import Connection
from nodes.store.results import QueueRead, ReadStatus

__all__ = ["PullProcessor"]

_COMMIT, _SUSPEND, _SUBSCRIPTION, _CLASS_FILTER = 1, 2, 4, 8
_SWEEP_S = 0.5
"""How often waiting pulls are checked for their deadline."""
_SUSPEND_MAX_MS = 120_000
_IN_MEMORY_RATIO = 40
"""Percent of the machine's memory: who reads further behind the end than this reads from disk, and slaveReadEnable
sends him to a slave (RocketMQ accessMessageInMemoryMaxRatio)."""
_FLAW_PERIOD = 53
_NO_QUEUE = ReadStatus.NO_MATCHED_LOGIC_QUEUE
_LOOKS: dict[ReadStatus, Look] = {
    status: Look.NO_MESSAGE_IN_QUEUE if status is _NO_QUEUE else Look(status.value) for status in ReadStatus
}


@dataclass(frozen=True, slots=True)
class _Pull:
    """One pull request, checked."""

    connection: Connection
    command: Command
    group: str
    topic: str
    queue_id: int
    offset: int
    messages_max: int
    bytes_max: int
    accept: Callable[[int], bool] | None
    seen_epoch: int | None
    suggest: int
    suggest_slow: int


class PullProcessor:
    """Serves PULL_MESSAGE and LITE_PULL_MESSAGE."""

    def __init__(self, core: BrokerCore) -> None:
        self._core = core
        self._parking: ParkingTable[_Pull] = ParkingTable()
        self._parked_by: set[Connection] = set()
        self._timer = core.loop.call_later(_SWEEP_S, self._sweep)
        self._pulls = 0
        self._memory_share = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * _IN_MEMORY_RATIO // 100
        self.messages_out = 0
        """Messages given to consumers since the start."""

    @property
    def parked(self) -> int:
        """Pulls that wait."""
        return len(self._parking)

    def stop(self) -> None:
        """Answer what waits, and take no more."""
        self._timer.cancel()
        self.wake_all()

    def pull(self, connection: Connection, command: Command) -> Command | None:
        """11 and 361."""
        ext = command.ext
        asked = self._checked(connection, command)
        flags = whole(ext, "sysFlag", 0)
        if flags & _COMMIT and (commit := whole(ext, "commitOffset", -1)) >= 0:
            self._core.commit(asked.group, asked.topic, asked.queue_id, commit, asked.seen_epoch)
        decision, found = self._look(asked)
        if decision.code == ResponseCode.PULL_NOT_FOUND and flags & _SUSPEND and self._may_park():
            wait_ms = min(max(0, whole(ext, "suspendTimeoutMillis", 15_000)), _SUSPEND_MAX_MS)
            if not self._core.config.long_polling_enable:
                wait_ms = min(wait_ms, self._core.config.short_polling_time_mills)
            if self._park(asked, wait_ms / 1000):
                return None
        return self._response(asked, decision, found)

    def arrived(self, topic: str, queue_id: int, next_offset: int, tags_code: int) -> None:
        """A message became readable: answer the pulls that wait for it."""
        for pull in self._parking.arrived(topic, queue_id, next_offset, tags_code):
            self._answer(pull.payload)

    def wake_all(self) -> None:
        """The role or the log changed: answer every waiting pull from what is true now."""
        for pull in self._parking.all():
            self._answer(pull.payload)

    # Checks

    def _checked(self, connection: Connection, command: Command) -> _Pull:
        core, ext = self._core, command.ext
        if not core.may_read:
            raise RequestError(ResponseCode.NO_PERMISSION, "brokerPermission forbids reading from this broker")
        group, topic, queue_id = text(ext, "consumerGroup"), text(ext, "topic"), whole(ext, "queueId")
        settings = core.group(group)
        if settings is None:
            raise RequestError(ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST, f"the group {group} does not exist")
        if not settings.consume_enable:
            raise RequestError(ResponseCode.NO_PERMISSION, f"the group {group} may not consume")
        config = core.tables.topics.get(topic)
        if config is None:
            raise RequestError(ResponseCode.TOPIC_NOT_EXIST, f"the topic {topic} does not exist, apply first please")
        if not config.readable:
            raise RequestError(ResponseCode.NO_PERMISSION, f"the topic {topic} is not readable")
        if not 0 <= queue_id < config.read_queue_nums:
            raise RequestError(
                ResponseCode.INVALID_PARAMETER, f"queue {queue_id} of {topic} is not one of {config.read_queue_nums}"
            )
        accept = self._filter(ext, group, topic, settings.consume_broadcast_enable)
        seen = ext.get("epoch")
        if not core.serving.role.is_master:
            # A replica that serves reads keeps its readers while the master is away.
            suggest = core.serving.broker_id if core.config.slave_read_enable else settings.broker_id
        else:
            suggest = settings.broker_id
        limit = core.config.max_transfer_bytes_on_message_in_memory
        wanted_bytes = whole(ext, "maxMsgBytes", 0)
        return _Pull(
            connection,
            command,
            group,
            topic,
            queue_id,
            whole(ext, "queueOffset"),
            max(1, min(whole(ext, "maxMsgNums"), core.config.max_transfer_count_on_message_in_memory)),
            min(limit, wanted_bytes) if wanted_bytes > 0 else limit,
            accept,
            whole(ext, "epoch") if seen else None,
            suggest,
            settings.which_broker_when_consume_slowly,
        )

    def _filter(self, ext: dict[str, str], group: str, topic: str, broadcast: bool) -> Callable[[int], bool] | None:
        flags, kind = whole(ext, "sysFlag", 0), ext.get("expressionType") or TAG
        if flags & _CLASS_FILTER:
            raise RequestError(ResponseCode.SUBSCRIPTION_PARSE_FAILED, "class filters are not supported by this broker")
        if flags & _SUBSCRIPTION:
            if kind != TAG:
                raise RequestError(ResponseCode.SYSTEM_ERROR, f"the broker does not support filtering by {kind}")
            try:
                return acceptor(parse_tags(topic, ext.get("subscription")))
            except SubscriptionError as error:
                raise RequestError(ResponseCode.SUBSCRIPTION_PARSE_FAILED, str(error)) from None
        members = self._core.clients.consumer_group(group)
        if members is None:
            raise RequestError(ResponseCode.SUBSCRIPTION_NOT_EXIST, f"the consumer group {group} is not online")
        if not broadcast and members.message_model == "BROADCASTING":
            raise RequestError(ResponseCode.NO_PERMISSION, f"the group {group} may not consume by broadcasting")
        subscription = members.subscriptions.get(topic)
        if subscription is None:
            raise RequestError(ResponseCode.SUBSCRIPTION_NOT_EXIST, f"the group {group} does not subscribe to {topic}")
        if subscription.sub_version < whole(ext, "subVersion", 0):
            raise RequestError(ResponseCode.SUBSCRIPTION_NOT_LATEST, f"the subscription of {group} is not the latest")
        if (subscription.expression_type or TAG) != TAG:
            raise RequestError(
                ResponseCode.SYSTEM_ERROR, f"the broker does not support filtering by {subscription.expression_type}"
            )
        return acceptor(subscription)

    # Looking

    def _look(self, pull: _Pull) -> tuple[Answer, QueueRead | None]:
        core = self._core
        core.refuse_outside()
        begin, end = core.store.queue_bounds(pull.topic, pull.queue_id)
        master = core.serving.role.is_master
        if pull.seen_epoch is not None:
            if pull.seen_epoch > core.epoch and not master:
                # This replica has not caught up with the log that the consumer reads: its tail may be a lost one.
                return Answer(ResponseCode.PULL_NOT_FOUND, pull.offset, Look.OFFSET_OVERFLOW_ONE), None
            back = core.parted_at(pull.topic, pull.queue_id, pull.offset, pull.seen_epoch)
            if back is not None:
                return Answer(ResponseCode.PULL_OFFSET_MOVED, max(back, begin), Look.OFFSET_OVERFLOW_BADLY), None
        look = look_at(pull.offset, begin, end)
        if look is not None:
            return answer(look, pull.offset, pull.offset, begin, end, correct=master), None
        self._pulls += 1
        offset = pull.offset
        if self._pulls % _FLAW_PERIOD == 0 and offset > begin:
            offset -= Flaw.DELIVER_TWICE in core.config.flaws
            offset += Flaw.SKIP_DELIVERY in core.config.flaws and offset + 1 < end
        try:
            found = core.store.read_queue(
                pull.topic, pull.queue_id, offset, pull.messages_max, pull.bytes_max, pull.accept
            )
        except OSError as error:
            core.log.error("read-failed", topic=pull.topic, queue=pull.queue_id, offset=offset, reason=error)
            raise RequestError(ResponseCode.SYSTEM_ERROR, f"the log cannot be read: {error}") from None
        decision = answer(_LOOKS[found.status], pull.offset, found.next_offset, begin, end, correct=master)
        return decision, found

    def _response(self, pull: _Pull, decision: Answer, found: QueueRead | None) -> Command:
        core = self._core
        begin, end = core.store.queue_bounds(pull.topic, pull.queue_id)
        body, suggest = b"", pull.suggest
        if decision.code == 0 and found is not None:
            self.messages_out += len(found.records)
            body = b"".join(found.records)
            far_behind = core.store.written_end - found.end_log > self._memory_share
            if far_behind and core.config.slave_read_enable and core.serving.role.is_master:
                suggest = pull.suggest_slow
        ext = {
            "suggestWhichBrokerId": str(suggest),
            "nextBeginOffset": str(decision.next_offset),
            "minOffset": str(begin),
            "maxOffset": str(end),
            "epoch": str(max(core.epoch, pull.seen_epoch or 0) if not core.serving.role.is_master else core.epoch),
        }
        return pull.command.reply(int(decision.code), decision.look.value, ext, body)

    # Waiting

    def _may_park(self) -> bool:
        return self._core.serving.failed is None

    def _park(self, pull: _Pull, wait_s: float) -> bool:
        connection = pull.connection
        parked = Parked(pull.offset, self._core.loop.time() + wait_s, connection, pull.accept, pull)
        if not self._parking.park(pull.topic, pull.queue_id, parked):
            return False
        if connection not in self._parked_by:
            self._parked_by.add(connection)
            connection.on_close(self._gone)
        return True

    def _gone(self, connection: Connection) -> None:
        self._parked_by.discard(connection)
        self._parking.abandoned(connection)

    def _answer(self, pull: _Pull) -> None:
        """Look again and answer, whatever is found: a pull waits once."""
        try:
            decision, found = self._look(pull)
            response = self._response(pull, decision, found)
        except RequestError as error:
            response = pull.command.reply(error.code, error.remark, error.ext)
        pull.connection.reply(pull.command, response)

    def _sweep(self) -> None:
        loop = self._core.loop
        self._timer = loop.call_later(_SWEEP_S, self._sweep)
        for pull in self._parking.expired(loop.time()):
            self._answer(pull.payload)
