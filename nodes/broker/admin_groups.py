"""Administration of consumer groups and their members. Source: RocketMQ class AdminBrokerProcessor."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial

from nodes.broker.admin_topics import TopicAdmin
from nodes.broker.bodies import BodyError, bare_key_map, decode, encode
from nodes.broker.consumer_groups import Client
from nodes.broker.core import BrokerCore
from nodes.broker.fields import RequestError, flag, text
from nodes.broker.locks import QueueName
from nodes.broker.names import group_name_problem
from nodes.broker.subscription_groups import GroupConfig
from nodes.remoting.codes import RequestCode, ResponseCode
from nodes.remoting.command import Command, request
from nodes.remoting.connection import CallRefused, Connection
from nodes.replication.frames import TableKind

__all__ = ["GroupAdmin"]

_PROXY_S = 5.0
"""How long a client may take to answer a question that an operator asks it through us."""


class GroupAdmin:
    """Serves settings, progress and members of groups."""

    def __init__(self, core: BrokerCore, topics: TopicAdmin) -> None:
        self._core = core
        self._topics = topics

    def update(self, connection: Connection, command: Command) -> Command | None:
        """200: create or change a group."""
        core = self._core
        self._master_only()
        try:
            group = decode(command.body, GroupConfig)
        except BodyError as error:
            raise RequestError(ResponseCode.SYSTEM_ERROR, str(error)) from None
        problem = group_name_problem(group.group_name)
        if problem is not None:
            raise RequestError(ResponseCode.INVALID_PARAMETER, problem)
        core.tables.groups.put(group, core.clock.now_ms())
        core.tables.save_changed_now()
        core.log.event("group-updated", group=group.group_name)
        return core.durably(connection, command)

    def delete(self, connection: Connection, command: Command) -> Command | None:
        """207: forget a group; with `cleanOffset` its progress too."""
        core = self._core
        self._master_only()
        name = text(command.ext, "groupName")
        core.tables.groups.remove(name, core.clock.now_ms())
        if flag(command.ext, "cleanOffset"):
            core.tables.forget_group(name)
        core.tables.save_changed_now()
        core.log.event("group-deleted", group=name)
        return core.durably(connection, command)

    def all_groups(self, connection: Connection, command: Command) -> Command:
        """201: the whole table."""
        ext = {"totalGroupNum": str(len(self._core.tables.groups.names()))}
        return command.reply(ext=ext, body=self._core.tables.snapshot(TableKind.GROUPS))

    def one_group(self, connection: Connection, command: Command) -> Command:
        """352: one group's settings."""
        name = text(command.ext, "group")
        group = self._core.group(name)
        if group is None:
            raise RequestError(ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST, f"the group {name} does not exist")
        return command.reply(body=encode(group))

    def progress(self, connection: Connection, command: Command) -> Command:
        """208: how far a group is in every queue of a topic, or of all topics it consumes."""
        core, ext = self._core, command.ext
        group, only = text(ext, "consumerGroup"), ext.get("topic")
        topics = (
            [only] if only else list(dict.fromkeys([*core.tables.offsets.topics_of(group), *self._subscribed(group)]))
        )
        entries = []
        for name in topics:
            topic = core.tables.topics.get(name)
            if topic is None:
                continue
            for queue_id in range(topic.read_queue_nums):
                begin, end = core.store.queue_bounds(name, queue_id)
                committed = core.tables.offsets.get(group, name, queue_id)
                offset = begin if committed is None else committed
                values = {
                    "brokerOffset": end,
                    "consumerOffset": offset,
                    "lastTimestamp": self._topics.last_time(name, queue_id, offset),
                    "pullOffset": offset,
                }
                entries.append((QueueName(name, core.config.broker_name, queue_id), values))
        return command.reply(body=encode({"consumeTps": 0.0, "offsetTable": bare_key_map(entries)}))

    def consumers(self, connection: Connection, command: Command) -> Command:
        """203: members and subscriptions of a consumer group."""
        name = text(command.ext, "consumerGroup")
        group = self._core.clients.consumer_group(name)
        if group is None:
            return command.reply(ResponseCode.CONSUMER_NOT_ONLINE.value, f"the consumer group {name} is not online")
        body = {
            "connectionSet": _connections(group.members.values()),
            "consumeFromWhere": group.consume_from_where,
            "consumeType": group.consume_type,
            "messageModel": group.message_model,
            "subscriptionTable": group.subscriptions,
        }
        return command.reply(body=encode(body))

    def producers(self, connection: Connection, command: Command) -> Command:
        """204: members of a producer group."""
        name = text(command.ext, "producerGroup")
        members = self._core.clients.producers(name)
        if not members:
            return command.reply(ResponseCode.SYSTEM_ERROR.value, f"the producer group {name} is not online")
        return command.reply(body=encode({"connectionSet": _connections(members)}))

    def running_info(self, connection: Connection, command: Command) -> Command | None:
        """307: ask a consumer about itself and pass its answer on."""
        ext = command.ext
        name, client_id = text(ext, "consumerGroup"), text(ext, "clientId")
        group = self._core.clients.consumer_group(name)
        member = None
        if group is not None:
            member = next((one for one in group.members.values() if one.client_id == client_id), None)
        if member is None:
            return command.reply(ResponseCode.SYSTEM_ERROR.value, f"the consumer {name} {client_id} is not online")
        question = request(RequestCode.GET_CONSUMER_RUNNING_INFO, dict(ext), command.body)
        try:
            answer = member.connection.call_nowait(question)
        except CallRefused as refused:
            return command.reply(ResponseCode.SYSTEM_ERROR.value, refused.reason)
        timer = self._core.loop.call_later(_PROXY_S, answer.cancel)
        answer.add_done_callback(partial(_pass_on, connection, command, timer, client_id))
        return None

    def _subscribed(self, group: str) -> Iterable[str]:
        members = self._core.clients.consumer_group(group)
        return [] if members is None else members.subscriptions

    def _master_only(self) -> None:
        if not self._core.may_append:
            if self._core.member is not None:
                raise self._core.not_master()
            raise RequestError(ResponseCode.SYSTEM_ERROR, "groups are changed on the master; slaves follow it")


def _connections(members: Iterable[Client[Connection]]) -> list[dict[str, object]]:
    return [
        {"clientAddr": one.address, "clientId": one.client_id, "language": one.language, "version": one.version}
        for one in members
    ]


def _pass_on(
    connection: Connection,
    command: Command,
    timer: asyncio.TimerHandle,
    client_id: str,
    answer: asyncio.Future[Command],
) -> None:
    timer.cancel()
    if answer.cancelled():
        response = command.reply(ResponseCode.CONSUME_MSG_TIMEOUT.value, f"the consumer {client_id} did not answer")
    elif (error := answer.exception()) is not None:
        response = command.reply(ResponseCode.SYSTEM_ERROR.value, str(error))
    else:
        said = answer.result()
        response = command.reply(said.code, said.remark, dict(said.ext), said.body)
    connection.reply(command, response)
