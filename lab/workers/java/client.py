"""Logical clients of the Java program, fitted to what the workloads ask of a client library."""

from __future__ import annotations

import asyncio

from lab.workers.java import answers
from lab.workers.java.line import JavaEnded, JavaLine
from lab.workloads.values import SEPARATOR
from nodes.client.pull_consumer import BrokerChoice
from nodes.client.queues import MessageQueue
from nodes.client.results import PullResult, SendResult

PULL_TIMEOUT_S = 10.0


class JavaClients:
    """The clients of one program. Those made ready before the load begins are taken first."""

    def __init__(self, line: JavaLine, run: str, group: str) -> None:
        self._line = line
        self._run = run
        self._group = group
        self._made = 0
        self._spare: list[JavaClient] = []

    async def prepare(self, count: int) -> None:
        """Make so many clients ready. Raises JavaEnded, JavaRefused."""
        self._spare += await asyncio.gather(*(self._make() for _ in range(count)))

    async def open(self) -> JavaClient:
        """A client that nobody had before. Raises JavaEnded, JavaRefused."""
        return self._spare.pop() if self._spare else await self._make()

    async def _make(self) -> JavaClient:
        self._made += 1
        name = f"c{self._made}"
        told = await self._line.call("open", name, f"{self._run}-{name}")
        if "ok" not in told:
            raise JavaRefused(f"the Java client was not made: {told['error']}")
        return JavaClient(self._line, name, self._group)


class JavaRefused(Exception):
    """The program refused what it was told; the message holds its words."""


class JavaClient:
    """One producer and pull consumer of Java's. Implements ``lab.workloads.library``'s Sender and Reader."""

    def __init__(self, line: JavaLine, name: str, group: str) -> None:
        self._line = line
        self._name = name
        self._group = group

    async def send(
        self,
        topic: str,
        body: bytes,
        *,
        queue: MessageQueue | None = None,
        timeout_s: float | None = None,
        retries: int | None = None,
        wait_store_ok: bool = True,
    ) -> SendResult:
        """Send one message. Raises SendFailed.

        To a queue that is named the Java client makes one attempt, always. Without one it chooses, and makes as many as
        it was set to when the program started; ``retries`` changes nothing.
        """
        del retries
        value = body.partition(SEPARATOR)[0].decode("ascii")
        where = ("send-anywhere", self._name, topic) if queue is None else ("send", self._name, *queue)
        message = (value, len(body), "wait" if wait_store_ok else "no-wait")
        told = await self._line.call(*where, f"{1000 * (timeout_s or 3.0):.0f}", *message)
        return answers.sent(told, queue, asyncio.get_running_loop().time())

    async def pull(
        self,
        queue: MessageQueue,
        offset: int,
        max_num: int = 32,
        group: str | None = None,
        timeout_s: float | None = None,
        suspend_ms: int = 0,
        broker: BrokerChoice = "master",
    ) -> PullResult:
        """One pull; the broker does not hold it. Raises PullFailed."""
        if suspend_ms or broker == "slave":
            raise ValueError("the Java client's pulls are answered at once, by the master or by whom it chooses")
        limit = f"{1000 * (timeout_s or PULL_TIMEOUT_S):.0f}"
        told = await self._line.call("pull", self._name, group or self._group, *queue, offset, max_num, limit, broker)
        return answers.pulled(told, queue, master_only=broker == "master")

    async def committed(self, queue: MessageQueue, group: str | None = None) -> int | None:
        """The group's committed offset, None if there is none. Raises CommandFailed."""
        return answers.committed(await self._line.call("committed", self._name, group or self._group, *queue), queue)

    async def commit(self, queue: MessageQueue, offset: int, group: str | None = None) -> str:
        """Commit, and say who stored it. Raises CommandFailed."""
        told = await self._line.call("commit", self._name, group or self._group, *queue, offset)
        return answers.commit(told, queue)

    async def bounds(self, queue: MessageQueue, *, broker: BrokerChoice = "master") -> tuple[int, int]:
        """The queue's lowest offset, and one more than its highest, as the master tells. Raises CommandFailed."""
        del broker
        return answers.bounds(await self._line.call("bounds", self._name, *queue), queue)

    async def close(self) -> None:
        """Let the program close it; a program that has ended closed it too."""
        try:
            await self._line.call("close", self._name)
        except JavaEnded:
            return
