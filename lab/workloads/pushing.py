"""A push consumer under the same rules: its pulls are one thread of the history, its handler calls another.

The library pulls and handles by itself and tells through hooks. A pull or a handler call is journalled as invocation
and completion together, when it ended. What it showed is certain, and so is that it ended after what it showed; but its
interval is too short at its beginning, so what was acknowledged just before may in truth have overlapped it. No checker
may demand of them (``mode`` "subscribe", handlers and their commits) that they saw what ended before they began.
"""

import asyncio
from collections.abc import Sequence

from lab.event import fault_text
from lab.randomness import child
from lab.topology import Queue
from lab.workloads.actor import Actor
from lab.workloads.classify import Completion
from lab.workloads.pace import Pace
from lab.workloads.reading import Entries, entries_of
from nodes.client.consumer_config import ConsumeResult, ConsumerHooks, PushConfig, StartFrom
from nodes.client.messages import Message
from nodes.client.push_consumer import PushConsumer
from nodes.client.queues import MessageQueue
from nodes.client.results import Outcome, PullResult

CLOSE_S = 3.0


class Pusher:
    """One member of the consumer group, with a push consumer."""

    def __init__(self, pulls: Actor, handles: Actor, queues: tuple[Queue, ...]) -> None:
        self._pulls = pulls
        self._handles = handles
        self._queues = {(queue.group, queue.queue_id): queue for queue in queues}
        self._chance = child(pulls.scene.seed, "later", handles.thread)
        self._goal: dict[Queue, int] = {}
        self._committed: dict[Queue, int] = {}
        self._seek: set[str] = set()
        self._members: tuple[MessageQueue, ...] = ()
        self.reached = asyncio.Event()

    def aim(self, goal: dict[Queue, int]) -> None:
        """Set ``reached`` once this member's share is handled and committed below these offsets."""
        self._goal = dict(goal)
        self._look()

    def behind(self) -> dict[str, int]:
        """Queues of this member's share whose goal is not reached, with what is missing."""
        mine = {(queue.broker_name, queue.queue_id) for queue in self._members}
        return {
            str(queue): offset - self._committed.get(queue, 0)
            for queue, offset in self._goal.items()
            if (queue.group, queue.queue_id) in mine and self._committed.get(queue, 0) < offset
        }

    async def run(self, pace: Pace) -> None:
        """Be a member of the group until ``pace`` is stopped."""
        load = self._pulls.scene.plan.load
        client = await self._pulls.client()
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
            on_pulled=self._pulled,
            on_offset_reset=self._reset,
            on_handled=self._handled,
            on_commit=self._commit,
            on_assigned=self._assigned,
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
        later = self._pulls.scene.plan.load.reconsume_share
        if messages[0].reconsume_times == 0 and later and self._chance.random() < later:
            return ConsumeResult.LATER
        return ConsumeResult.SUCCESS

    def _pulled(self, queue: MessageQueue, result: PullResult) -> None:
        if not result.messages:
            return
        name = str(queue)
        found = entries_of(result.messages, self._pulls.scene.plan.load.message_bytes)
        seek = {name: int(str(found[0][0]))} if name in self._seek else None
        self._seek.discard(name)
        self._pulls.scene.tally.polled += len(found)
        extras = {"queue": name, "mode": "subscribe", "group": self._pulls.scene.plan.load.group}
        self._pulls.invoke("poll", None, **extras, seek=seek)
        role = "master" if result.broker_id == 0 else "slave"
        answered = {"node": result.address, "role": role, "epoch": result.epoch}
        self._pulls.complete("poll", {name: found}, Completion("ok", answered), **extras)

    def _reset(self, queue: MessageQueue, offset: int, result: PullResult) -> None:
        name = str(queue)
        self._seek.add(name)
        extras = {"queue": name, "mode": "subscribe", "group": self._pulls.scene.plan.load.group}
        self._pulls.invoke("poll", None, **extras)
        answered = {"node": result.address, "epoch": result.epoch, "moved": True, "positions": {name: offset}}
        self._pulls.complete("poll", {}, Completion("ok", answered), **extras)

    def _assigned(self, queues: tuple[MessageQueue, ...]) -> None:
        self._seek.update(str(queue) for queue in queues if queue not in self._members)
        self._members = queues
        self._look()

    def _handled(self, queue: MessageQueue, messages: Sequence[Message], result: ConsumeResult) -> None:
        entries: Entries = entries_of(tuple(messages), self._pulls.scene.plan.load.message_bytes)
        value = {str(queue): entries}
        extras = {"group": self._pulls.scene.plan.load.group, "reconsume": messages[0].reconsume_times}
        self._handles.invoke("handle", value, **extras)
        self._handles.complete(
            "handle", value, Completion("ok" if result is ConsumeResult.SUCCESS else "fail"), **extras
        )

    def _commit(self, queue: MessageQueue, offset: int, outcome: Outcome) -> None:
        extras = {"queue": str(queue), "group": self._pulls.scene.plan.load.group}
        self._handles.invoke("commit", offset, **extras)
        if outcome is Outcome.OK:
            self._handles.complete("commit", offset, Completion("ok"), **extras)
            known = self._queues.get((queue.broker_name, queue.queue_id))
            if known is not None and queue.topic == known.topic:
                self._committed[known] = offset
                self._look()
        else:
            error = {"error": fault_text("COMMIT", "client", "the commit was not confirmed")}
            self._handles.complete("commit", offset, Completion("info", error), **extras)

    def _look(self) -> None:
        if self._goal and not self.behind():
            self.reached.set()
