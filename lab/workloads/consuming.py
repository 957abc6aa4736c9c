"""A consumer thread: its queues, a consumer group, pulls, handling, and commits of what was handled.

Every queue has one consumer thread, so commits of one (group, queue) grow. After an unknown outcome the successor knows
nothing and starts at what the brokers say was committed. It goes on after load has ended, until it has handled and
committed everything up to the offsets it is told (D9).
"""

import asyncio

from lab.topology import Queue
from lab.workloads.actor import Actor
from lab.workloads.classify import Completion
from lab.workloads.pace import Pace
from lab.workloads.reading import Entries, entries_of, poll_one, recorded
from lab.workloads.sending import message_queue
from nodes.client.results import PullStatus

TROUBLE_PAUSE_S = 0.1  # after a refused connection, which takes no time by itself


class Consumer:
    """Consumes its queues for one group until it is stopped."""

    def __init__(self, actor: Actor, queues: tuple[Queue, ...], group: str) -> None:
        self.actor = actor
        self.queues = queues
        self.group = group
        self.committed: dict[Queue, int] = {}
        self._position: dict[Queue, int] = {}
        self._seek: set[Queue] = set()
        self._process = -1
        self._commit_at = 0
        self._goal: dict[Queue, int] = {}
        self.reached = asyncio.Event()

    def aim(self, goal: dict[Queue, int]) -> None:
        """Set ``reached`` once everything below these offsets is handled and committed."""
        self._goal = {queue: offset for queue, offset in goal.items() if queue in self.queues}
        self._look()

    def behind(self) -> dict[str, int]:
        """Queues whose goal is not reached, with what is missing."""
        return {
            str(queue): offset - self.committed.get(queue, 0)
            for queue, offset in self._goal.items()
            if self.committed.get(queue, 0) < offset
        }

    async def run(self, pace: Pace) -> None:
        """Consume until ``pace`` is stopped."""
        pause = self.actor.scene.plan.load.poll_pause.s
        turn = 0
        while not pace.stopped.is_set():
            found = 0
            trouble = False
            for _ in self.queues:
                queue = self.queues[turn % len(self.queues)]
                turn += 1
                got = await self._consume(queue)
                trouble = trouble or got is None
                found += got or 0
                if pace.stopped.is_set():
                    return
            await self._commit_due(pace)
            if trouble:
                await pace.rest(TROUBLE_PAUSE_S)
            elif not found:
                await pace.rest(pause)

    async def _consume(self, queue: Queue) -> int | None:
        if self._process != self.actor.process:
            self._position.clear()
            self._seek.clear()
            self._process = self.actor.process
        if queue not in self._position and not await self._locate(queue):
            return None
        seek = queue in self._seek
        result = await poll_one(self.actor, queue, self._position[queue], group=self.group, seek=seek)
        if result is None:
            return None
        self._seek.discard(queue)
        if result.status is PullStatus.OFFSET_ILLEGAL and result.next_offset != self._position[queue]:
            self._position[queue] = result.next_offset
            self.committed[queue] = min(self.committed.get(queue, 0), result.next_offset)
            self._seek.add(queue)
            return 0
        if result.messages:
            self._handle(queue, entries_of(result.messages, self.actor.scene.plan.load.message_bytes))
        self._position[queue] = result.next_offset
        self.actor.scene.tally.polled += len(result.messages)
        return len(result.messages)

    async def _locate(self, queue: Queue) -> bool:
        name = str(queue)

        async def call() -> int | None:
            consumer = await self.actor.puller()
            offset: int | None = await consumer.committed(message_queue(queue), self.group)
            return offset

        def words(offset: int | None) -> tuple[object, dict[str, object]]:
            self._position[queue] = max(0, offset or 0)
            # What a predecessor committed may be gone with its broker, and would be held for done.
            self.committed[queue] = self._position[queue]
            return offset, {}

        await recorded(self.actor, "fetch-offset", None, call, words, queue=name, group=self.group)
        if queue in self._position:
            self._seek.add(queue)
            return True
        return False

    def _handle(self, queue: Queue, entries: Entries) -> None:
        value = {str(queue): entries}
        self.actor.invoke("handle", value, group=self.group, reconsume=0)
        self.actor.complete("handle", value, Completion("ok"), group=self.group, reconsume=0)

    async def _commit_due(self, pace: Pace) -> None:
        rushed = bool(self._goal) and not self.reached.is_set()
        if pace.now() < self._commit_at and not rushed:
            return
        self._commit_at = pace.now() + self.actor.scene.plan.load.commit_every.ns
        for queue in self.queues:
            position = self._position.get(queue)
            if position is None or position <= self.committed.get(queue, 0) or self._process != self.actor.process:
                continue
            await self._commit(queue, position)
        self._look()

    async def _commit(self, queue: Queue, offset: int) -> None:
        async def call() -> str:
            consumer = await self.actor.puller()
            return await consumer.commit(message_queue(queue), offset, self.group)

        def words(address: str) -> tuple[object, dict[str, object]]:
            return offset, {"node": address}

        extras = {"queue": str(queue), "group": self.group}
        if await recorded(self.actor, "commit", offset, call, words, **extras) is not None:
            self.committed[queue] = offset

    def _look(self) -> None:
        if self._goal and not self.behind():
            self.reached.set()
