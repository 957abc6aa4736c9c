"""The client workers as the drain sees them (``lab.drain.Clients``)."""

import time
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from lab.errors import SetupError
from lab.plan import Plan
from lab.topology import Queue
from lab.workers.messages import (
    Consumed,
    ConsumeUntil,
    Drained,
    DrainQueues,
    LoadEnded,
    PlaceSentinels,
    SentinelsPlaced,
    StopLoad,
)
from lab.workers.pool import Pool
from lab.workloads.draining import Sentinel

Kind = TypeVar("Kind")
GRACE_S: Final = 10.0  # a worker answers by itself at its deadline; this much later it is taken for stuck


class Crew:
    """Speaks to all workers at once."""

    def __init__(self, pool: Pool, plan: Plan) -> None:
        self._pool = pool
        self._plan = plan
        self._ended = False

    async def stop_load(self) -> tuple[bool, str]:
        """D1."""
        self._pool.tell(StopLoad())
        try:
            await self._pool.hear(LoadEnded, self._plan.load.operation_timeout.s * 2 + GRACE_S)
        except TimeoutError:
            return False, "operations were still outstanding long after the operation timeout"
        return True, "load stopped, nothing outstanding"

    async def place_sentinels(
        self, queues: Sequence[Queue], deadline_ns: int, first_counter: int
    ) -> tuple[tuple[Sentinel, ...], tuple[Queue, ...]]:
        """D5."""
        self._pool.tell(PlaceSentinels(tuple(queues), deadline_ns, first_counter))
        answers = await self._hear(SentinelsPlaced, deadline_ns)
        placed = tuple(sentinel for answer in answers for sentinel in answer.placed)
        return placed, tuple(queue for answer in answers for queue in answer.missing)

    async def drain(
        self, round_number: int, sentinels: Sequence[Sentinel], deadline_ns: int
    ) -> tuple[tuple[Queue, ...], tuple[Queue, ...]]:
        """D6."""
        self._pool.tell(DrainQueues(round_number, tuple(sentinels), deadline_ns))
        answers = await self._hear(Drained, deadline_ns)
        complete = tuple(queue for answer in answers for queue in answer.complete)
        return complete, tuple(queue for answer in answers for queue in answer.incomplete)

    async def consume_until(self, goal: Mapping[Queue, int], deadline_ns: int) -> Mapping[str, int]:
        """D9."""
        self._pool.tell(ConsumeUntil(dict(goal), deadline_ns))
        answers = await self._hear(Consumed, deadline_ns)
        return {name: lag for answer in answers for name, lag in answer.behind.items()}

    async def _hear(self, kind: type[Kind], deadline_ns: int) -> list[Kind]:
        """Raises SetupError for a worker that is stuck: what its clients saw is not known to its end."""
        try:
            return await self._pool.hear(kind, self._left(deadline_ns))
        except TimeoutError as error:
            raise SetupError(
                f"{error}: it stands still, or the machine has no time for it; nothing was judged: run again"
            ) from None

    def _left(self, deadline_ns: int) -> float:
        limit = self._plan.load.operation_timeout.s * 2 + GRACE_S
        return max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9) + limit
