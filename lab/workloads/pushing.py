"""A push consumer of our own library, as a member of the consumer group."""

import asyncio
from collections.abc import Sequence

from lab.randomness import child
from lab.workloads.member import CLOSE_S, Member
from lab.workloads.pace import Pace
from nodes.client.consumer_config import ConsumeResult, ConsumerHooks, PushConfig, StartFrom
from nodes.client.messages import Message
from nodes.client.push_consumer import PushConsumer
from nodes.client.queues import MessageQueue


class Pusher:
    """Consumes for one member."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._chance = child(member.pulls.scene.seed, "later", member.handles.thread)

    async def run(self, pace: Pace) -> None:
        """Be a member of the group until ``pace`` is stopped."""
        member = self._member
        load = member.plan.load
        client = await member.pulls.client()
        config = PushConfig(
            start_from=StartFrom.FIRST_OFFSET,
            persist_interval_s=load.commit_every.s,
            commit_oneway=False,
            pull_suspend_s=1.0,
            pull_timeout_s=1.0 + load.operation_timeout.s,
            pull_retry_s=0.1,
            rebalance_interval_s=2.0,
            rebalance_retry_s=0.2,
            batch=1,
        )
        hooks = ConsumerHooks(
            on_pulled=member.pulled,
            on_offset_reset=member.reset,
            on_handled=self._handled,
            on_commit=member.committed,
            on_assigned=member.assigned,
        )
        consumer = PushConsumer(client, load.group, self._listen, config, hooks=hooks)
        consumer.subscribe(load.topic)
        await consumer.start()
        await pace.stopped.wait()
        try:
            async with asyncio.timeout(CLOSE_S):
                await consumer.close()
        except TimeoutError:
            return  # brokers that do not answer; the process ends soon

    async def _listen(self, messages: Sequence[Message]) -> ConsumeResult:
        later = self._member.plan.load.reconsume_share
        if messages[0].reconsume_times == 0 and later and self._chance.random() < later:
            return ConsumeResult.LATER
        return ConsumeResult.SUCCESS

    def _handled(self, queue: MessageQueue, messages: Sequence[Message], result: ConsumeResult) -> None:
        if not self._member.overlooks(queue, messages[0].queue_offset):  # planted: OVERLOOK
            self._member.handled(queue, messages, result)
