"""A push consumer of the Java client, as a member of the consumer group.

`Worker.java` tells by itself what its consumer sees (class Member). Handler calls come from the listener; commits
from an offset store that waits for answers where the client's own asks for none; the share of the queues from the
strategy that shares them out; the beginning of a queue from the store, which is asked where; pulls from the transport,
since no hook of 4.9 is called with the answer to an asynchronous request.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from lab.randomness import child
from lab.workers.java import answers
from lab.workers.java.answers import Answer
from lab.workers.java.client import JavaRefused
from lab.workers.java.line import JavaEnded, JavaLine
from lab.workloads.flaws import OVERLOOKED_OFFSET, ClientFlaw
from lab.workloads.member import CLOSE_S, Member
from lab.workloads.pace import Pace
from nodes.client.consumer_config import ConsumeResult
from nodes.client.queues import MessageQueue
from nodes.client.results import CommandFailed, Outcome, PullStatus

NOTHING: Final = -1
"""In place of an offset that the listener overlooks."""


class JavaPusher:
    """Consumes for one member."""

    def __init__(self, line: JavaLine, member: Member) -> None:
        self._line = line
        self._member = member
        self._name = f"m{member.handles.thread}"
        self._trouble: asyncio.Future[None] | None = None

    async def run(self, pace: Pace) -> None:
        """Be a member of the group until ``pace`` is stopped. Raises JavaRefused, and what journalling raises."""
        scene, load = self._member.pulls.scene, self._member.plan.load
        self._trouble = asyncio.get_running_loop().create_future()
        stopped = asyncio.ensure_future(pace.stopped.wait())
        waiting: tuple[asyncio.Future[Any], ...] = (stopped, self._trouble)
        self._line.listen(self._name, self._told)
        flawed = ClientFlaw.OVERLOOK in self._member.plan.client_flaws
        try:
            told = await self._line.call(
                "join",
                self._name,
                f"{scene.run}-{self._name}",
                load.group,
                load.topic,
                load.commit_every.ns // 1_000_000,
                load.reconsume_share,
                child(scene.seed, "later", self._member.handles.thread).getrandbits(31),
                OVERLOOKED_OFFSET if flawed else NOTHING,
            )
            if "ok" not in told:
                raise JavaRefused(f"the Java client's push consumer did not start: {told['error']}")
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not self._trouble.done():
                async with asyncio.timeout(CLOSE_S):
                    await self._line.call("leave", self._name)
        except (JavaEnded, TimeoutError):
            pass  # its end was told to the lab; or brokers do not answer, and the process ends soon
        finally:
            stopped.cancel()
        if self._trouble.done():
            self._trouble.result()

    def _told(self, event: Answer) -> None:
        if self._trouble is None or self._trouble.done():
            return
        try:
            self._record(event)
        except Exception as error:  # a history with a hole must not be judged
            self._trouble.set_exception(error)

    def _record(self, event: Answer) -> None:
        kind = event["event"]
        if kind == "assigned":
            self._member.assigned(tuple(_queue(words) for words in event["queues"]))
            return
        if kind == "broken":
            raise JavaRefused(f"an answer to a pull could not be read: {event['error']}")
        queue = _queue(event["queue"])
        if kind == "pulled":
            result = answers.pulled(event, queue, master_only=False)
            if result.status is PullStatus.OFFSET_ILLEGAL:
                self._member.reset(queue, result.next_offset, result)
            else:
                self._member.pulled(queue, result)
        elif kind == "begins":
            self._member.begins(queue)
        elif kind == "handled":
            messages = answers.messages_of(queue, event["messages"], reconsumed=int(event["reconsume"]))
            self._member.handled(queue, messages, ConsumeResult.SUCCESS if event["taken"] else ConsumeResult.LATER)
        elif kind == "committed":
            self._committed(queue, int(event["offset"]), event)
        else:
            raise JavaRefused(f"the Java program told an event that nobody knows: {kind}")

    def _committed(self, queue: MessageQueue, offset: int, event: Answer) -> None:
        try:
            node = answers.commit(event, queue)
        except CommandFailed as failure:
            self._member.committed(queue, offset, failure.outcome)
        else:
            self._member.committed(queue, offset, Outcome.OK, node)


def _queue(words: tuple[str, str, int]) -> MessageQueue:
    topic, broker, number = words
    return MessageQueue(str(topic), str(broker), int(number))
