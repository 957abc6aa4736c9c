"""Heartbeats, group membership, notification of members, and locks for orderly consumption.

Sources: RocketMQ classes ClientManageProcessor, ConsumerManageProcessor, DefaultConsumerIdsChangeListener,
AdminBrokerProcessor (locks).
"""

from __future__ import annotations

from collections.abc import Iterable

from nodes.broker.bodies import BodyError, CheckClientConfig, Heartbeat, LockBody, decode, encode
from nodes.broker.core import BrokerCore
from nodes.broker.fields import RequestError, text
from nodes.broker.names import group_name_problem, retry_topic
from nodes.broker.subscription import TAG
from nodes.broker.topics import TopicConfig
from nodes.remoting.codes import RequestCode, ResponseCode
from nodes.remoting.command import Command, request
from nodes.remoting.connection import Connection

__all__ = ["ClientProcessor"]

_SCAN_S = 10.0
"""How often silent clients are looked for."""


class ClientProcessor:
    """Serves HEART_BEAT, UNREGISTER_CLIENT, CHECK_CLIENT_CONFIG, GET_CONSUMER_LIST_BY_GROUP, LOCK and UNLOCK."""

    def __init__(self, core: BrokerCore) -> None:
        self._core = core
        self._timer = core.loop.call_later(_SCAN_S, self._scan)

    def stop(self) -> None:
        """Look for silent clients no more."""
        self._timer.cancel()

    def heartbeat(self, connection: Connection, command: Command) -> Command:
        """34: note who lives; create groups and their retry topics."""
        core = self._core
        try:
            beat = decode(command.body, Heartbeat)
        except BodyError as error:
            raise RequestError(ResponseCode.SYSTEM_ERROR, str(error)) from None
        for data in beat.consumer_data_set:
            problem = group_name_problem(data.group_name)
            if problem is not None:
                raise RequestError(ResponseCode.SYSTEM_ERROR, problem)
            settings = core.group(data.group_name)
            if settings is not None and data.message_model != "BROADCASTING":
                queues = settings.retry_queue_nums
                core.ensure_topic(TopicConfig(retry_topic(data.group_name), queues, queues))
        if "client" not in connection.attachments:
            connection.attachments["client"] = beat.client_id
            connection.on_close(self._closed)
        changed = core.clients.heartbeat(
            beat, connection, connection.peer, command.language.value, command.version, core.loop.time()
        )
        self._notify(changed)
        return command.reply()

    def unregister(self, connection: Connection, command: Command) -> Command:
        """35: a client leaves its groups."""
        ext = command.ext
        self._notify(self._core.clients.unregister(connection, ext.get("producerGroup"), ext.get("consumerGroup")))
        return command.reply()

    def check_config(self, connection: Connection, command: Command) -> Command:
        """46: can this broker serve such a subscription? Only tags."""
        try:
            asked = decode(command.body, CheckClientConfig)
        except BodyError as error:
            raise RequestError(ResponseCode.SYSTEM_ERROR, str(error)) from None
        kind = asked.subscription_data.expression_type or TAG
        if kind != TAG:
            raise RequestError(
                ResponseCode.SYSTEM_ERROR, f"the broker does not support consumers that filter messages by {kind}"
            )
        return command.reply()

    def consumer_list(self, connection: Connection, command: Command) -> Command:
        """38: the ids of a group's members."""
        name = text(command.ext, "consumerGroup")
        group = self._core.clients.consumer_group(name)
        if group is None:
            return command.reply(ResponseCode.SYSTEM_ERROR.value, f"no consumer for this group, {name}")
        return command.reply(body=encode({"consumerIdList": group.client_ids()}))

    def lock(self, connection: Connection, command: Command) -> Command:
        """41: take or renew locks. Only a master gives any: a replica's would not hold after it is back."""
        body = self._lock_body(command)
        held = []
        if self._core.serving.is_master:
            wanted = [queue.name() for queue in body.mq_set]
            held = self._core.locks.lock(body.consumer_group, body.client_id, wanted, self._core.loop.time())
        queues = [{"brokerName": one.broker_name, "queueId": one.queue_id, "topic": one.topic} for one in held]
        return command.reply(body=encode({"lockOKMQSet": queues}))

    def unlock(self, connection: Connection, command: Command) -> Command:
        """42: give locks back."""
        body = self._lock_body(command)
        self._core.locks.unlock(body.consumer_group, body.client_id, [queue.name() for queue in body.mq_set])
        return command.reply()

    @staticmethod
    def _lock_body(command: Command) -> LockBody:
        try:
            return decode(command.body, LockBody)
        except BodyError as error:
            raise RequestError(ResponseCode.SYSTEM_ERROR, str(error)) from None

    def _notify(self, groups: Iterable[str]) -> None:
        """40: tell every member of these groups to rebalance."""
        if not self._core.config.notify_consumer_ids_changed_enable:
            return
        for name in groups:
            group = self._core.clients.consumer_group(name)
            for connection in [] if group is None else list(group.members):
                notice = request(RequestCode.NOTIFY_CONSUMER_IDS_CHANGED, {"consumerGroup": name}, oneway=True)
                connection.send(notice)

    def _closed(self, connection: Connection) -> None:
        self._notify(self._core.clients.closed(connection))

    def _scan(self) -> None:
        loop = self._core.loop
        self._timer = loop.call_later(_SCAN_S, self._scan)
        self._notify(self._core.clients.expire(loop.time()))
