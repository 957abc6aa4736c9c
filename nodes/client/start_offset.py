"""Where a push consumer begins on a queue (RocketMQ RebalancePushImpl.computePullFromWhere)."""

from __future__ import annotations

from nodes.client.consumer_config import PushConfig, StartFrom
from nodes.client.offset_calls import OffsetCalls
from nodes.client.offset_store import OffsetStore
from nodes.client.queues import MessageQueue, is_retry_topic

__all__ = ["start_offset"]


async def start_offset(calls: OffsetCalls, offsets: OffsetStore, queue: MessageQueue, config: PushConfig) -> int:
    """The stored offset; without one what the configuration says. Raises CommandFailed: no answer is no offset."""
    stored = await offsets.stored(queue)
    if stored is not None:
        return stored
    if config.start_from is StartFrom.LAST_OFFSET:
        return 0 if is_retry_topic(queue.topic) else await calls.max_offset(queue)
    if config.start_from is StartFrom.FIRST_OFFSET:
        return 0
    if is_retry_topic(queue.topic):
        return await calls.max_offset(queue)
    return await calls.search(queue, config.start_timestamp_ms)
