"""The pull loop of one queue of a push consumer.

Source: RocketMQ class DefaultMQPushConsumerImpl.pullMessage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nodes.client.client import Client
from nodes.client.consumer_config import ConsumerHooks, MessageModel, PushConfig
from nodes.client.consuming import Consuming, Holding
from nodes.client.exchange import CallEnded
from nodes.client.offset_store import OffsetStore
from nodes.client.outcomes import LocalCode
from nodes.client.process_queue import FlowControl, ProcessQueue
from nodes.client.pulling import pull_request, read_pull_answer
from nodes.client.results import PullFailed, PullResult, PullStatus
from nodes.client.routes import MASTER_ID
from nodes.client.subscription import Subscription
from nodes.remoting.codes import ResponseCode

__all__ = ["QueueReader"]

FLOW_CONTROL_PAUSE_S = 0.02
"""Pause after a broker's FLOW_CONTROL (RocketMQ PULL_TIME_DELAY_MILLS_WHEN_BROKER_FLOW_CONTROL)."""

NOTHING_PAUSE_S = 0.2
"""Pause after an answer that found nothing and did not move: a 5.x slave without its master answers so at once."""

_UNKNOWN_GROUP_CODES = frozenset(
    {
        int(ResponseCode.SUBSCRIPTION_NOT_EXIST),
        int(ResponseCode.SUBSCRIPTION_NOT_LATEST),
        int(ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST),
    }
)
"""The broker has not seen our heartbeat, or has forgotten it: it gets another one before the next pull."""


class QueueReader:
    """Pulls for all queues of one push consumer."""

    def __init__(
        self,
        client: Client,
        group: str,
        config: PushConfig,
        offsets: OffsetStore,
        consuming: Consuming,
        hooks: ConsumerHooks,
    ) -> None:
        self._client = client
        self._group = group
        self._config = config
        self._offsets = offsets
        self._consuming = consuming
        self._hooks = hooks

    async def read(
        self,
        holding: Holding,
        subscription: Callable[[], Subscription],
        offset: int,
        still_mine: Callable[[Holding], bool],
    ) -> None:
        """Pull a queue from `offset` on until the task is cancelled."""
        epoch: int | None = None
        while True:
            if not still_mine(holding):
                await asyncio.sleep(self._config.flow_retry_s)
                continue
            if holding.process.flow(self._config.limits, orderly=self._config.orderly) is not FlowControl.NONE:
                await self._wait_for_room(holding)
                continue
            result, pause_s = await self._pull(holding, subscription(), offset, epoch)
            if result is not None:
                if result.epoch is not None:
                    epoch = result.epoch
                offset, pause_s = await self._take(holding, offset, result)
            if pause_s > 0:
                await asyncio.sleep(pause_s)

    async def _wait_for_room(self, holding: Holding) -> None:
        holding.room.clear()
        try:
            async with asyncio.timeout(self._config.flow_retry_s):
                await holding.room.wait()
        except TimeoutError:
            pass

    async def _pull(
        self, holding: Holding, subscription: Subscription, offset: int, epoch: int | None
    ) -> tuple[PullResult | None, float]:
        """One pull: its result, or None and how long to pause."""
        client, config, queue = self._client, self._config, holding.queue
        found = client.reader(queue.broker_name, holding.suggested)
        if found is None:
            client.queries.about_broker(queue.broker_name, queue.topic)
            return None, config.pull_retry_s
        commit_offset = None
        if config.model is MessageModel.CLUSTERING and found.broker_id == MASTER_ID:
            consumed = self._offsets.pending.get(queue)
            commit_offset = consumed if consumed else None
        command = pull_request(
            queue,
            self._group,
            offset,
            config.pull_batch,
            subscription,
            with_subscription=False,
            suspend_ms=int(config.pull_suspend_s * 1000),
            commit_offset=commit_offset,
            epoch=epoch,
        )
        try:
            answer = await client.exchange.call(
                queue.broker_name,
                found.address,
                queue.topic,
                command,
                client.loop.time() + config.pull_timeout_s,
                config.pull_suspend_s + client.config.route_query_after_s,
            )
            result, suggested = read_pull_answer(queue, subscription, answer, found.address, found.broker_id)
        except CallEnded as ended:
            if ended.code in (LocalCode.MASTER_MOVED, LocalCode.NOT_SENT):
                return None, 0.0 if ended.code is LocalCode.MASTER_MOVED else FLOW_CONTROL_PAUSE_S
            client.note_unreachable(found.address)
            client.log.event("pull-failed", queue=str(queue), address=found.address, reason=ended.reason)
            return None, config.pull_retry_s
        except PullFailed as error:
            if error.code in _UNKNOWN_GROUP_CODES:
                client.heartbeat_soon()
            elif error.code == ResponseCode.FLOW_CONTROL:
                return None, FLOW_CONTROL_PAUSE_S
            client.log.event("pull-refused", queue=str(queue), address=found.address, reason=error.reason)
            return None, config.pull_retry_s
        holding.suggested = suggested
        return result, 0.0

    async def _take(self, holding: Holding, offset: int, result: PullResult) -> tuple[int, float]:
        """Hand on what a pull gave. Returns the next offset and how long to pause before it is asked for."""
        queue = holding.queue
        if result.status is PullStatus.OFFSET_ILLEGAL:
            # The messages held may not be those of this offset range any more: nothing of them may be committed.
            self._client.log.event("offset-reset", queue=str(queue), asked=offset, next=result.next_offset)
            holding.process.dropped = True
            holding.process = ProcessQueue(result.next_offset)
            holding.arrived.set()
            self._offsets.pending.update(queue, result.next_offset, increase_only=False)
            self._hooks.on_offset_reset(queue, result.next_offset, result)
            await self._offsets.persist([queue])
            return result.next_offset, FLOW_CONTROL_PAUSE_S
        process = holding.process
        fresh = process.add(result.messages)
        process.skip_to(result.next_offset)
        self._hooks.on_pulled(queue, result)
        if fresh:
            self._consuming.submit(holding, fresh)
        elif process.count == 0:
            self._offsets.pending.update(queue, process.commit_offset, increase_only=True)
        stuck = result.status is not PullStatus.FOUND and result.next_offset <= offset
        pause_s = NOTHING_PAUSE_S if stuck and result.status is PullStatus.NO_MATCHED_MSG else 0.0
        return result.next_offset, pause_s
