"""Pull requests that wait for a message. Pure.

Source: RocketMQ classes PullRequestHoldService, ManyPullRequest.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from nodes.limits import PARKED_PULLS_MAX

__all__ = ["Parked", "ParkingTable"]

Payload = TypeVar("Payload")


@dataclass(frozen=True, slots=True)
class Parked(Generic[Payload]):
    """One waiting pull."""

    offset: int
    """Queue offset it asks for."""
    deadline: float
    owner: Hashable
    """The connection it came from."""
    accept: Callable[[int], bool] | None
    """Filter on tag codes; None takes every message."""
    payload: Payload


class ParkingTable(Generic[Payload]):
    """Waiting pulls by queue. At most `limit` of them."""

    __slots__ = ("_by_queue", "_count", "_limit")

    def __init__(self, limit: int = PARKED_PULLS_MAX) -> None:
        self._by_queue: dict[tuple[str, int], list[Parked[Payload]]] = {}
        self._count = 0
        self._limit = limit

    def __len__(self) -> int:
        return self._count

    def park(self, topic: str, queue_id: int, pull: Parked[Payload]) -> bool:
        """Hold the pull. False if the table is full: the caller then answers at once."""
        if self._count >= self._limit:
            return False
        self._by_queue.setdefault((topic, queue_id), []).append(pull)
        self._count += 1
        return True

    def arrived(self, topic: str, queue_id: int, next_offset: int, tags_code: int | None) -> list[Parked[Payload]]:
        """Remove and give the pulls that a new message concerns.

        `next_offset` is the queue's end after the message; `tags_code` None means unknown and wakes every filter.
        """
        waiting = self._by_queue.get((topic, queue_id))
        if not waiting:
            return []
        woken: list[Parked[Payload]] = []
        staying: list[Parked[Payload]] = []
        for pull in waiting:
            wanted = tags_code is None or pull.accept is None or pull.accept(tags_code)
            (woken if pull.offset < next_offset and wanted else staying).append(pull)
        if woken:
            self._put(topic, queue_id, staying, len(woken))
        return woken

    def expired(self, now: float) -> list[Parked[Payload]]:
        """Remove and give the pulls that have waited long enough."""
        return self._take(lambda pull: pull.deadline <= now)

    def abandoned(self, owner: Hashable) -> int:
        """Remove the pulls of a closed connection; returns how many."""
        return len(self._take(lambda pull: pull.owner is owner))

    def all(self) -> list[Parked[Payload]]:
        """Remove and give every pull: the node's role or log changed under them."""
        return self._take(lambda _: True)

    def _take(self, leaves: Callable[[Parked[Payload]], bool]) -> list[Parked[Payload]]:
        taken: list[Parked[Payload]] = []
        for (topic, queue_id), waiting in list(self._by_queue.items()):
            gone = [pull for pull in waiting if leaves(pull)]
            if gone:
                self._put(topic, queue_id, [pull for pull in waiting if not leaves(pull)], len(gone))
                taken += gone
        return taken

    def _put(self, topic: str, queue_id: int, staying: list[Parked[Payload]], removed: int) -> None:
        self._count -= removed
        if staying:
            self._by_queue[(topic, queue_id)] = staying
        else:
            del self._by_queue[(topic, queue_id)]
