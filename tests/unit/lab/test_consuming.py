"""A consumer thread against a broker in memory: what it commits, and what it takes for done."""

import asyncio
import time
from pathlib import Path
from typing import Any, cast

from lab.topology import Queue
from lab.workloads.actor import Actor
from lab.workloads.consuming import Consumer
from lab.workloads.library import Reader
from lab.workloads.pace import Pace
from nodes.client.messages import Message
from nodes.client.queues import MessageQueue
from nodes.client.results import Outcome, PullFailed, PullResult, PullStatus
from tests.unit.lab.scenes import scene_in

QUEUE = Queue("lab", "broker-a", 0)


class Broker:
    """One queue of so many messages, and what the group has committed of it."""

    def __init__(self, end: int) -> None:
        self.end, self.done, self.dying = end, 0, False
        self.commits = asyncio.Condition()
        self.failed_over, self.located = asyncio.Event(), asyncio.Event()

    async def pull(self, queue: MessageQueue, offset: int, most: int = 32, **_: Any) -> PullResult:
        if self.dying:  # a slave takes its place, with less of the log and of the group's progress
            self.end, self.done, self.dying = 400, 180, False
            self.failed_over.set()
            raise PullFailed("pull", "x", 10101, "connection lost", Outcome.INFO)
        if offset > self.end:
            return PullResult(PullStatus.OFFSET_ILLEGAL, queue, (), self.end, 0, self.end, None, "x", 0)
        held = range(offset, min(offset + most, self.end))
        messages = tuple(
            Message(topic="lab", body=b"0123abcd/0/1 ", queue_id=0, queue_offset=at, broker_name="broker-a")
            for at in held
        )
        status = PullStatus.FOUND if messages else PullStatus.NO_NEW_MSG
        return PullResult(status, queue, messages, offset + len(held), 0, self.end, None, "x", 0)

    async def committed(self, queue: MessageQueue, group: str | None = None) -> int | None:
        if self.failed_over.is_set():
            self.located.set()
        return self.done

    async def commit(self, queue: MessageQueue, offset: int, group: str | None = None) -> str:
        async with self.commits:
            self.done = offset
            self.commits.notify_all()
        return "x"

    async def until(self, offset: int) -> None:
        async with asyncio.timeout(60), self.commits:
            await self.commits.wait_for(lambda: self.done == offset)


class Client(Actor):
    """Reads from that broker."""

    broker: Broker

    async def puller(self, *, inherit: bool = True) -> Reader:
        return cast(Reader, self.broker)


def test_a_successor_commits_again_what_went_with_the_broker(tmp_path: Path) -> None:
    """A promoted slave has a shorter log: what a predecessor had committed beyond it was held for done, nothing was
    committed any more, and the group lagged for ever."""

    async def story() -> None:
        broker = Broker(500)
        actor = Client(scene_in(tmp_path, {"commit_every": "10ms", "poll_pause": "1ms"}), 3)
        actor.broker = broker
        consumer, pace = Consumer(actor, (QUEUE,), "readers"), Pace(time.monotonic_ns())
        running = asyncio.get_running_loop().create_task(consumer.run(pace))
        await broker.until(500)
        broker.dying = True
        async with asyncio.timeout(60):
            await broker.located.wait()
        consumer.aim({QUEUE: 400})
        await broker.until(400)
        async with asyncio.timeout(60):
            await consumer.reached.wait()
        pace.stopped.set()
        await running

    asyncio.run(story())
