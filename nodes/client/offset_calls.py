"""Asking brokers about offsets, and committing them."""

from __future__ import annotations

from nodes.client.client import Client
from nodes.client.outcomes import LocalCode, refused
from nodes.client.queues import MessageQueue
from nodes.client.results import CommandFailed, Outcome
from nodes.remoting.client import CallError
from nodes.remoting.codes import RequestCode, ResponseCode
from nodes.remoting.command import Command, request

__all__ = ["OffsetCalls"]


class OffsetCalls:
    """Offset requests of one client. They go to the master; without one, to any broker of the group.

    All raise CommandFailed; no failure ever looks like an offset.
    """

    __slots__ = ("_client",)

    def __init__(self, client: Client) -> None:
        self._client = client

    async def commit(
        self, group: str, queue: MessageQueue, offset: int, *, timeout_s: float | None = None, oneway: bool = False
    ) -> str:
        """Store how far a group has consumed; the next message to consume is `offset`. Returns the broker's address.

        With `oneway` nothing is learnt about the result, as with RocketMQ's consumers.
        """
        address = self.address(queue)
        ext = {
            "consumerGroup": group,
            "topic": queue.topic,
            "queueId": str(queue.queue_id),
            "commitOffset": str(offset),
            "bname": queue.broker_name,
        }
        command = request(RequestCode.UPDATE_CONSUMER_OFFSET, ext, oneway=oneway)
        if oneway:
            try:
                await self._client.remoting.oneway(address, command)
            except CallError as error:
                self._client.queries.about_broker(queue.broker_name, queue.topic)
                raise CommandFailed("commit", address, LocalCode.CONNECT_FAILED, error.reason, Outcome.FAIL) from None
        else:
            await self._client.call_ok(address, command, timeout_s, broker_name=queue.broker_name, topic=queue.topic)
        return address

    async def committed(
        self, group: str, queue: MessageQueue, *, zero_if_young: bool = False, timeout_s: float | None = None
    ) -> int | None:
        """How far a group has consumed, None if it never committed.

        With `zero_if_young` a broker may answer 0 for a group that never committed on a queue that still has its first
        message, as RocketMQ's brokers do for starting consumers.
        """
        ext = {
            "consumerGroup": group,
            "topic": queue.topic,
            "queueId": str(queue.queue_id),
            "bname": queue.broker_name,
        }
        if not zero_if_young:
            ext["setZeroIfNotFound"] = "false"
        address = self.address(queue)
        answer = await self._call(address, queue, request(RequestCode.QUERY_CONSUMER_OFFSET, ext), timeout_s)
        if answer.code == ResponseCode.QUERY_NOT_FOUND:
            return None
        if answer.code != ResponseCode.SUCCESS:
            raise refused(f"committed offset of {queue}", address, answer)
        return _number(answer, "offset", f"committed offset of {queue}", address)

    async def min_offset(
        self, queue: MessageQueue, *, address: str | None = None, timeout_s: float | None = None
    ) -> int:
        """The lowest offset the queue still has."""
        return await self._offset(RequestCode.GET_MIN_OFFSET, queue, {}, address, timeout_s)

    async def max_offset(
        self, queue: MessageQueue, *, address: str | None = None, timeout_s: float | None = None
    ) -> int:
        """One more than the highest offset: where the next message goes."""
        return await self._offset(RequestCode.GET_MAX_OFFSET, queue, {}, address, timeout_s)

    async def search(
        self, queue: MessageQueue, timestamp_ms: int, *, address: str | None = None, timeout_s: float | None = None
    ) -> int:
        """The offset of the first message stored at or after a time."""
        ext = {"timestamp": str(timestamp_ms)}
        return await self._offset(RequestCode.SEARCH_OFFSET_BY_TIMESTAMP, queue, ext, address, timeout_s)

    def address(self, queue: MessageQueue) -> str:
        """Whom to ask about a queue: the master, else any broker of the group. Raises CommandFailed (10003)."""
        found = self._client.reader(queue.broker_name, 0)
        if found is None:
            reason = f"no address of {queue.broker_name} is known"
            raise CommandFailed("look-up", "", LocalCode.BROKER_UNKNOWN, reason, Outcome.FAIL)
        return found.address

    async def _offset(
        self, code: RequestCode, queue: MessageQueue, more: dict[str, str], address: str | None, timeout_s: float | None
    ) -> int:
        ext = {"topic": queue.topic, "queueId": str(queue.queue_id), "bname": queue.broker_name, **more}
        where = address if address is not None else self.address(queue)
        answer = await self._call(where, queue, request(code, ext), timeout_s)
        if answer.code != ResponseCode.SUCCESS:
            raise refused(f"{code.name} of {queue}", where, answer)
        return _number(answer, "offset", f"{code.name} of {queue}", where)

    async def _call(self, address: str, queue: MessageQueue, command: Command, timeout_s: float | None) -> Command:
        return await self._client.call(address, command, timeout_s, broker_name=queue.broker_name, topic=queue.topic)


def _number(answer: Command, key: str, what: str, address: str) -> int:
    try:
        return int(answer.ext[key])
    except (KeyError, ValueError):
        reason = f"an answer without {key}"
        raise CommandFailed(what, address, LocalCode.GARBLED_REPLY, reason, Outcome.INFO) from None
