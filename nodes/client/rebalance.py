"""Which member of a consumer group reads which queue (RocketMQ AllocateMessageQueueAveragely)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["allocate_averagely"]

T = TypeVar("T")


def allocate_averagely(queues: Sequence[T], clients: Sequence[str], me: str) -> tuple[T, ...]:
    """The consecutive share of `queues` that belongs to client `me`.

    Both sequences must be sorted and the same at every member. A client that is not among `clients` gets nothing. The
    first `len(queues) % len(clients)` members get one queue more than the others.
    """
    if me not in clients or not queues:
        return ()
    index = clients.index(me)
    each, over = divmod(len(queues), len(clients))
    start = index * each + min(index, over)
    return tuple(queues[start : start + each + (1 if index < over else 0)])
