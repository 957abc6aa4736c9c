"""Asking brokers who is in a consumer group, and for locks on queues."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from nodes.client.client import Client
from nodes.client.outcomes import LocalCode, refused
from nodes.client.queues import MessageQueue
from nodes.client.results import CommandFailed, Outcome
from nodes.client.routes import MASTER_ID
from nodes.remoting import fastjson
from nodes.remoting.codes import RequestCode, ResponseCode
from nodes.remoting.command import request

__all__ = ["GroupCalls"]


class GroupCalls:
    """Group requests of one client."""

    __slots__ = ("_client",)

    def __init__(self, client: Client) -> None:
        self._client = client

    async def members(self, group: str, topic: str) -> tuple[str, ...]:
        """The client ids in a group, sorted, as one broker of the topic knows them. Masters are asked first.

        Raises CommandFailed when no broker answers.
        """
        client = self._client
        route = client.routes.route(topic)
        names = sorted(route.brokers) if route is not None else []
        client.rng.shuffle(names)
        targets = [
            (name, address)
            for master in (True, False)
            for name in names
            for broker_id, address in sorted(client.routes.addresses(name).items())
            if (broker_id == MASTER_ID) is master
        ]
        failed = CommandFailed("members", "", LocalCode.BROKER_UNKNOWN, f"no broker of {topic} is known", Outcome.FAIL)
        for name, address in targets:
            command = request(RequestCode.GET_CONSUMER_LIST_BY_GROUP, {"consumerGroup": group})
            try:
                answer = await client.call(address, command, broker_name=name, topic=topic)
            except CommandFailed as error:
                failed = error
                continue
            if answer.code != ResponseCode.SUCCESS:
                failed = refused(f"members of {group}", address, answer)
                continue
            try:
                value = fastjson.loads(answer.body)
                return tuple(sorted(str(member) for member in value["consumerIdList"]))
            except (KeyError, TypeError, ValueError) as error:
                reason = f"the answer cannot be read: {error!r}"
                failed = CommandFailed("members", address, LocalCode.GARBLED_REPLY, reason, Outcome.INFO)
        raise failed

    async def lock(self, group: str, queues: Sequence[MessageQueue]) -> dict[MessageQueue, float]:
        """Lock queues at their masters. Returns those that are locked, each with the loop time of its request."""
        locked: dict[MessageQueue, float] = {}
        for name, part in _by_broker(queues).items():
            address = self._client.routes.master(name)
            if address is None:
                continue
            asked_s = self._client.loop.time()
            command = request(RequestCode.LOCK_BATCH_MQ, {}, self._body(group, part))
            try:
                answer = await self._client.call_ok(address, command, broker_name=name, topic=part[0].topic)
                value = fastjson.loads(answer.body)
                for queue in value.get("lockOKMQSet") or ():
                    found = MessageQueue(str(queue["topic"]), str(queue["brokerName"]), int(queue["queueId"]))
                    locked[found] = asked_s
            except CommandFailed as error:
                self._client.log.event("lock-failed", broker=name, reason=error.reason)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                self._client.log.event("lock-failed", broker=name, reason=f"the answer cannot be read: {error!r}")
        return locked

    async def unlock(self, group: str, queues: Sequence[MessageQueue]) -> None:
        """Give locks back. A failure only means that they linger until they expire."""
        for name, part in _by_broker(queues).items():
            address = self._client.routes.master(name)
            if address is None:
                continue
            command = request(RequestCode.UNLOCK_BATCH_MQ, {}, self._body(group, part))
            try:
                await self._client.call_ok(address, command, 1.0, broker_name=name, topic=part[0].topic)
            except CommandFailed as error:
                self._client.log.event("unlock-failed", broker=name, reason=error.reason)

    def _body(self, group: str, queues: Iterable[MessageQueue]) -> bytes:
        return msgspec.json.encode(
            {
                "clientId": self._client.id,
                "consumerGroup": group,
                "mqSet": [{"brokerName": q.broker_name, "queueId": q.queue_id, "topic": q.topic} for q in queues],
            }
        )


def _by_broker(queues: Iterable[MessageQueue]) -> dict[str, list[MessageQueue]]:
    found: dict[str, list[MessageQueue]] = {}
    for queue in sorted(queues):
        found.setdefault(queue.broker_name, []).append(queue)
    return found
