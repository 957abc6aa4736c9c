"""The pull consumer: reads queues at offsets its caller names. An error never looks like an empty result."""

from __future__ import annotations

import asyncio
from typing import Literal

from nodes.client.client import Client
from nodes.client.exchange import CallEnded
from nodes.client.offset_calls import OffsetCalls
from nodes.client.outcomes import LocalCode
from nodes.client.pulling import pull_request, read_pull_answer
from nodes.client.queues import MessageQueue
from nodes.client.results import CommandFailed, Outcome, PullFailed, PullResult, PullStatus
from nodes.client.routes import MASTER_ID, BrokerAddress
from nodes.client.subscription import ALL, parse_subscription

__all__ = ["BrokerChoice", "PullConsumer"]

BrokerChoice = Literal["master", "slave", "any"]
"""Who may answer a pull: the master only, a slave only, or RocketMQ's rule (the suggested one, else who is there)."""

PULL_TIMEOUT_S = 10.0
"""How long a pull may take beyond the time the broker is allowed to hold it."""


class PullConsumer:
    """Pulls for one logical reader. It is no member of its group: the group only names whose offsets are meant.

    The reader remembers the last epoch it saw on each queue, and tells it to brokers, so that a promoted slave can send
    it back over offsets that now belong to other messages.
    """

    def __init__(self, client: Client, group: str) -> None:
        self.client = client
        self.group = group
        self._offsets = OffsetCalls(client)
        self._epochs: dict[MessageQueue, int] = {}
        self._suggested: dict[MessageQueue, int] = {}

    async def queues(self, topic: str) -> tuple[MessageQueue, ...]:
        """The queues of a topic that can be read, sorted. Raises CommandFailed when no route can be had."""
        await self.client.queries.ensure(topic)
        return self.client.routes.subscribe_queues(topic)

    async def pull(
        self,
        queue: MessageQueue,
        offset: int,
        max_num: int = 32,
        group: str | None = None,
        timeout_s: float | None = None,
        suspend_ms: int = 0,
        broker: BrokerChoice = "master",
        expression: str = ALL,
    ) -> PullResult:
        """One pull of at most `max_num` messages from `offset` on.

        `suspend_ms` lets the broker hold the request until there is something. Raises PullFailed whenever no broker
        gave one of the four statuses: no address, no connection, no answer, an error code, an answer that cannot be
        read, or a message whose body cannot be expanded.
        """
        subscription = parse_subscription(queue.topic, expression)
        suspend_s = suspend_ms / 1000
        timeout_s = PULL_TIMEOUT_S + suspend_s if timeout_s is None else timeout_s
        deadline_s = self.client.loop.time() + timeout_s
        found = await self._reader(queue, broker, timeout_s)
        command = pull_request(
            queue,
            self.group if group is None else group,
            offset,
            max_num,
            subscription,
            with_subscription=True,
            suspend_ms=suspend_ms,
            epoch=self._epochs.get(queue),
        )
        try:
            answer = await self.client.exchange.call(
                queue.broker_name,
                found.address,
                queue.topic,
                command,
                deadline_s,
                suspend_s + self.client.config.route_query_after_s,
            )
        except CallEnded as ended:
            if ended.code in (LocalCode.CONNECT_FAILED, LocalCode.TIMEOUT):
                self.client.note_unreachable(found.address)
            raise PullFailed(f"pull of {queue}", found.address, ended.code, ended.reason, Outcome.INFO) from None
        result, suggested = read_pull_answer(queue, subscription, answer, found.address, found.broker_id)
        self._suggested[queue] = suggested
        if result.epoch is not None:
            self._epochs[queue] = result.epoch
        for message in result.messages:
            if message.body_error:
                reason = f"message at offset {message.queue_offset}: {message.body_error}"
                raise PullFailed(f"pull of {queue}", found.address, LocalCode.GARBLED_REPLY, reason, Outcome.INFO)
        return result

    async def read_all(
        self, queue: MessageQueue, offset: int, until: int, *, broker: BrokerChoice = "master", max_num: int = 32
    ) -> tuple[PullResult, ...]:
        """Pull from `offset` up to, and not including, `until`: the answers in order, until one reaches it.

        Ends early at an answer that finds nothing more; a moved offset is the last answer. Raises PullFailed.
        """
        answers: list[PullResult] = []
        while offset < until:
            result = await self.pull(queue, offset, min(max_num, until - offset), broker=broker)
            answers.append(result)
            if result.status in (PullStatus.OFFSET_ILLEGAL, PullStatus.NO_NEW_MSG) or result.next_offset <= offset:
                break
            offset = result.next_offset
        return tuple(answers)

    async def commit(
        self, queue: MessageQueue, offset: int, group: str | None = None, timeout_s: float | None = None
    ) -> str:
        """Commit that the group consumed everything below `offset`; returns who stored it. Raises CommandFailed."""
        return await self._offsets.commit(self.group if group is None else group, queue, offset, timeout_s=timeout_s)

    async def committed(
        self, queue: MessageQueue, group: str | None = None, timeout_s: float | None = None
    ) -> int | None:
        """The group's committed offset, None if there is none. Raises CommandFailed."""
        return await self._offsets.committed(self.group if group is None else group, queue, timeout_s=timeout_s)

    async def bounds(
        self, queue: MessageQueue, timeout_s: float | None = None, *, broker: BrokerChoice = "any"
    ) -> tuple[int, int]:
        """The queue's lowest offset, and one more than its highest; `broker` as for `pull`. Raises CommandFailed."""
        address = None
        if broker == "master":
            address = self.client.routes.master(queue.broker_name)
            if address is None:
                reason = f"no master of {queue.broker_name} is known"
                raise CommandFailed("look-up", "", LocalCode.BROKER_UNKNOWN, reason, Outcome.FAIL)
        low = await self._offsets.min_offset(queue, address=address, timeout_s=timeout_s)
        return low, await self._offsets.max_offset(queue, address=address, timeout_s=timeout_s)

    async def search(self, queue: MessageQueue, timestamp_ms: int, timeout_s: float | None = None) -> int:
        """The offset of the first message stored at or after a time. Raises CommandFailed."""
        return await self._offsets.search(queue, timestamp_ms, timeout_s=timeout_s)

    def epoch(self, queue: MessageQueue) -> int | None:
        """The last epoch seen on a queue."""
        return self._epochs.get(queue)

    def forget(self, queue: MessageQueue) -> None:
        """Forget what was seen of a queue, as a new reader would begin."""
        self._epochs.pop(queue, None)
        self._suggested.pop(queue, None)

    async def _reader(self, queue: MessageQueue, broker: BrokerChoice, timeout_s: float) -> BrokerAddress:
        for asked in (False, True):
            found = self._known_reader(queue, broker)
            if found is not None:
                return found
            query = None if asked else self.client.queries.about_broker(queue.broker_name, queue.topic)
            if query is not None:
                await asyncio.wait({query}, timeout=timeout_s)
        reason = f"no {'broker' if broker == 'any' else broker} of {queue.broker_name} is known"
        raise PullFailed(f"pull of {queue}", "", LocalCode.BROKER_UNKNOWN, reason, Outcome.FAIL)

    def _known_reader(self, queue: MessageQueue, broker: BrokerChoice) -> BrokerAddress | None:
        routes = self.client.routes
        if broker == "master":
            return routes.reader(queue.broker_name, MASTER_ID, only_this=True)
        if broker == "slave":
            return routes.slave(queue.broker_name)
        return self.client.reader(queue.broker_name, self._suggested.get(queue, MASTER_ID))
