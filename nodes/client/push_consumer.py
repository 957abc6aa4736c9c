"""The push consumer: shares the queues of its topics with its group and hands their messages to a listener.

Sources: RocketMQ classes DefaultMQPushConsumerImpl, RebalanceImpl, RebalancePushImpl and PullAPIWrapper.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from nodes.client.client import Client
from nodes.client.consumer_config import ConsumerHooks, Listener, MessageModel, PushConfig
from nodes.client.consuming import Consuming, Holding
from nodes.client.group_calls import GroupCalls
from nodes.client.offset_calls import OffsetCalls
from nodes.client.offset_store import BrokerOffsets, LocalOffsets, OffsetStore
from nodes.client.queue_reader import QueueReader
from nodes.client.queues import MessageQueue, retry_topic
from nodes.client.rebalance import allocate_averagely
from nodes.client.results import CommandFailed
from nodes.client.sending_back import SendingBack
from nodes.client.start_offset import start_offset
from nodes.client.subscription import ALL, Subscription, parse_subscription
from nodes.remoting.command import Command
from nodes.store.disk import Disk, RealDisk

__all__ = ["PushConsumer"]

HEARTBEAT_PATIENCE_S = 1.0
"""How long new queues wait for heartbeats; a broker that is gone must not hold up the others."""


class PushConsumer:
    """A member of a consumer group. `subscribe` first, then `start`; `close` before the client is closed.

    Broadcasting offsets are kept in `offsets_path`, by default where RocketMQ's clients keep them.
    """

    def __init__(
        self,
        client: Client,
        group: str,
        listener: Listener,
        config: PushConfig | None = None,
        *,
        hooks: ConsumerHooks | None = None,
        disk: Disk | None = None,
        offsets_path: str | None = None,
    ) -> None:
        self.client = client
        self.group = group
        self.config = config if config is not None else PushConfig()
        self._hooks = hooks if hooks is not None else ConsumerHooks()
        self._subscriptions: dict[str, Subscription] = {}
        self._announced: dict[str, int] = {}
        """Newest version of each subscription told in heartbeats; it grows with every change of this member's share."""
        self._calls = OffsetCalls(client)
        self._groups = GroupCalls(client)
        self._offsets: OffsetStore
        if self.config.model is MessageModel.BROADCASTING:
            path = offsets_path or str(Path.home() / ".rocketmq_offsets" / client.id / group / "offsets.json")
            self._offsets = LocalOffsets(disk if disk is not None else RealDisk(), path, self._hooks.on_commit)
        else:
            self._offsets = BrokerOffsets(
                self._calls, group, client.log, oneway=self.config.commit_oneway, on_commit=self._hooks.on_commit
            )
        back = SendingBack(client, group, self.config.reconsume_limit)
        self._consuming = Consuming(group, self.config, listener, self._offsets, back, self._hooks, client.log)
        self._reader = QueueReader(client, group, self.config, self._offsets, self._consuming, self._hooks)
        self._held: dict[MessageQueue, Holding] = {}
        self._rebalance_now = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._order_tasks: dict[MessageQueue, asyncio.Task[None]] = {}
        self._closed = False

    def subscribe(self, topic: str, expression: str = ALL) -> None:
        """Want a topic's messages: all, or those with one of the tags in `A || B`. Raises SubscriptionError."""
        version = max(self.client.clock.now_ms(), self._announced.get(topic, 0) + 1)
        self._subscriptions[topic] = parse_subscription(topic, expression, version)
        self._announced[topic] = version
        self.client.queries.use(topic)
        if self._tasks:
            self.client.heartbeat_soon()
            self._rebalance_now.set()

    @property
    def assigned(self) -> tuple[MessageQueue, ...]:
        """The queues this member reads, sorted."""
        return tuple(sorted(self._held))

    async def start(self) -> None:
        """Join the group and begin. Does not wait for the first share of queues."""
        if self.config.model is MessageModel.CLUSTERING:
            self.subscribe(retry_topic(self.group))
        for topic in self._subscriptions:
            try:
                await self.client.queries.ensure(topic)
            except CommandFailed as error:
                # The retry topic is made by the first heartbeat; any other may be made later.
                self.client.log.event("no-route-yet", topic=topic, reason=error.reason)
        self.client.add_consumer(self)
        self._consuming.start()
        loop = self.client.loop
        self._tasks = [loop.create_task(self._rebalance_loop()), loop.create_task(self._persist_loop())]
        if self._locks:
            self._tasks.append(loop.create_task(self._lock_loop()))

    async def close(self) -> None:
        """Stop pulling, let listeners end, commit, and leave the group."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        readers = [holding.task for holding in self._held.values() if holding.task is not None]
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        await self._consuming.stop()
        for task in self._order_tasks.values():
            task.cancel()
        await asyncio.gather(*self._order_tasks.values(), return_exceptions=True)
        await self._offsets.persist(self.assigned, sure=True)
        if self._locks and self._held:
            await self._groups.unlock(self.group, self.assigned)
        for holding in self._held.values():
            holding.process.dropped = True
        self._held.clear()
        self.client.remove_consumer(self.group)
        await self.client.unregister(consumer_group=self.group)

    async def commit(self) -> None:
        """Commit now, and wait for the answers."""
        await self._offsets.persist(self.assigned, sure=True)

    # ---- what the client asks of its members -----------------------------------------------------------------------

    def heartbeat(self) -> dict[str, object]:
        """RocketMQ's ConsumerData."""
        return {
            "consumeFromWhere": self.config.start_from.value,
            "consumeType": "CONSUME_PASSIVELY",
            "groupName": self.group,
            "messageModel": self.config.model.value,
            "subscriptionDataSet": [
                s.to_wire() | {"subVersion": self._announced[topic]} for topic, s in sorted(self._subscriptions.items())
            ],
            "unitMode": False,
        }

    def members_changed(self) -> None:
        """Members came or went: share the queues anew."""
        self._rebalance_now.set()

    def routes_changed(self) -> None:
        """Queues came or went: share them anew."""
        self._rebalance_now.set()

    def on_request(self, command: Command) -> Command | None:
        """No further request of brokers is served."""
        return None

    # ---- sharing the queues ----------------------------------------------------------------------------------------

    @property
    def _locks(self) -> bool:
        return self.config.orderly and self.config.model is MessageModel.CLUSTERING

    async def _heartbeat(self) -> None:
        task = self.client.loop.create_task(self.client.heartbeat())
        await asyncio.wait({task}, timeout=HEARTBEAT_PATIENCE_S)

    async def _rebalance_loop(self) -> None:
        await self._heartbeat()
        while True:
            self._rebalance_now.clear()
            complete = True
            for topic in list(self._subscriptions):
                try:
                    complete = await self._rebalance(topic) and complete
                except CommandFailed as error:
                    complete = False
                    self.client.log.event("rebalance-failed", topic=topic, reason=error.reason)
            pause_s = self.config.rebalance_interval_s if complete else self.config.rebalance_retry_s
            try:
                async with asyncio.timeout(pause_s):
                    await self._rebalance_now.wait()
            except TimeoutError:
                pass

    async def _rebalance(self, topic: str) -> bool:
        """Take this member's share of a topic. Returns whether it has it completely."""
        await self.client.queries.ensure(topic)
        queues = self.client.routes.subscribe_queues(topic)
        if self.config.model is MessageModel.BROADCASTING:
            share = queues
        else:
            members = await self._groups.members(self.group, topic)
            share = allocate_averagely(queues, members, self.client.id)
        lost = [queue for queue in self._held if queue.topic == topic and queue not in share]
        for queue in lost:
            await self._drop(queue)
        fresh = [queue for queue in share if queue not in self._held]
        if not fresh and not lost:
            return True
        # Brokers keep the newest subscription; a new version tells them that this member's share has changed.
        self._announced[topic] = max(self.client.clock.now_ms(), self._announced[topic] + 1)
        await self._heartbeat()
        if self._locks and fresh:
            held = await self._groups.lock(self.group, fresh)
        else:
            held = dict.fromkeys(fresh, 0.0)
        complete = len(held) == len(fresh)
        for queue in fresh:
            if queue in held:
                complete = await self._take(queue, held[queue]) and complete
        self._hooks.on_assigned(self.assigned)
        return complete

    async def _take(self, queue: MessageQueue, locked_at_s: float) -> bool:
        """Begin to read a queue; False if its start cannot be learnt now."""
        try:
            start = await start_offset(self._calls, self._offsets, queue, self.config)
        except CommandFailed as error:
            self.client.log.event("no-start-offset", queue=str(queue), reason=error.reason)
            return False
        holding = Holding(queue, start)
        if self._locks:
            holding.locked_until_s = locked_at_s + self.config.lock_valid_s
        self._held[queue] = holding
        self._offsets.pending.update(queue, start, increase_only=False)
        loop = self.client.loop
        holding.task = loop.create_task(
            self._reader.read(holding, lambda: self._subscriptions[queue.topic], start, self._still_mine)
        )
        if self.config.orderly:
            self._order_tasks[queue] = loop.create_task(self._consuming.consume_in_order(holding, self._still_mine))
        return True

    async def _drop(self, queue: MessageQueue, *, commit: bool = True) -> None:
        """Stop reading a queue that belongs to another member now."""
        holding = self._held.pop(queue)
        holding.process.dropped = True
        tasks = [holding.task, self._order_tasks.pop(queue, None)]
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)
        if commit:
            await self._offsets.persist([queue])
        self._offsets.pending.forget(queue)
        if self._locks:
            await self._groups.unlock(self.group, [queue])

    # ---- timers ----------------------------------------------------------------------------------------------------

    async def _persist_loop(self) -> None:
        while True:
            await asyncio.sleep(self.config.persist_interval_s)
            await self._offsets.persist(self.assigned)

    def _still_mine(self, holding: Holding) -> bool:
        return not self._locks or self.client.loop.time() < holding.locked_until_s

    async def _lock_loop(self) -> None:
        """Renew locks. One that was lost is given up: its new owner may have gone on from the committed offset."""
        while True:
            await asyncio.sleep(self.config.lock_interval_s)
            held = list(self._held)
            renewed = await self._groups.lock(self.group, held)
            for queue in held:
                holding = self._held.get(queue)
                if holding is None:
                    continue
                if queue in renewed:
                    holding.locked_until_s = renewed[queue] + self.config.lock_valid_s
                    holding.arrived.set()
                elif not self._still_mine(holding):
                    self.client.log.event("lock-lost", group=self.group, queue=str(queue))
                    await self._drop(queue, commit=False)
                    self._rebalance_now.set()
