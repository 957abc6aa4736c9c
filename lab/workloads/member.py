"""One member of the consumer group, as the history shows it: its pulls are one thread, its handler calls another.

A push consumer pulls and handles by itself and tells through hooks. A pull or a handler call is journalled as
invocation and completion together, when it ended. What it showed is certain, and so is that it ended after what it
showed; but its interval is too short at its beginning, so what was acknowledged just before may in truth have
overlapped it. No checker may demand of them (``mode`` "subscribe", handlers and their commits) that they saw what ended
before they began.
"""

import asyncio
from collections.abc import Sequence

from lab.event import fault_text
from lab.plan import Plan
from lab.topology import Queue
from lab.workloads.actor import Actor
from lab.workloads.classify import Completion
from lab.workloads.flaws import OVERLOOKED_OFFSET, ClientFlaw
from lab.workloads.reading import entries_of
from nodes.client.consumer_config import ConsumeResult
from nodes.client.messages import Message
from nodes.client.queues import MessageQueue
from nodes.client.results import Outcome, PullResult

CLOSE_S = 3.0
"""How long a member may take to leave its group; brokers that do not answer then have lost their say."""


class Member:
    """Journals what a push consumer tells, whatever library it is of, and knows how far its share is consumed."""

    def __init__(self, pulls: Actor, handles: Actor, queues: tuple[Queue, ...]) -> None:
        self.pulls = pulls
        self.handles = handles
        self._queues = {(queue.topic, queue.group, queue.queue_id): queue for queue in queues}
        self._goal: dict[Queue, int] = {}
        self._committed: dict[Queue, int] = {}
        self._seek: set[str] = set()
        self._share: tuple[MessageQueue, ...] = ()
        self.reached = asyncio.Event()

    @property
    def plan(self) -> Plan:
        """The run's plan."""
        return self.pulls.scene.plan

    def aim(self, goal: dict[Queue, int]) -> None:
        """Set ``reached`` once this member's share is handled and committed below these offsets."""
        self._goal = dict(goal)
        self._look()

    def behind(self) -> dict[str, int]:
        """Queues of this member's share whose goal is not reached, with what is missing."""
        mine = {self._queues.get(queue) for queue in self._share}  # of the load's topic: retry queues are not
        return {
            str(queue): offset - self._committed.get(queue, 0)
            for queue, offset in self._goal.items()
            if queue in mine and self._committed.get(queue, 0) < offset
        }

    def pulled(self, queue: MessageQueue, result: PullResult) -> None:
        """A pull was answered; one without messages is not worth a line."""
        if not result.messages:
            return
        name = str(queue)
        found = entries_of(result.messages, self.plan.load.message_bytes)
        seek = {name: int(str(found[0][0]))} if name in self._seek else None
        self._seek.discard(name)
        self.pulls.scene.tally.polled += len(found)
        extras = {"queue": name, "mode": "subscribe", "group": self.plan.load.group}
        self.pulls.invoke("poll", None, **extras, seek=seek)
        role = "master" if result.broker_id == 0 else "slave"
        answered = {"node": result.address, "role": role, "epoch": result.epoch}
        self.pulls.complete("poll", {name: found}, Completion("ok", answered), **extras)

    def reset(self, queue: MessageQueue, offset: int, result: PullResult) -> None:
        """A broker sent the consumer to another offset."""
        name = str(queue)
        self._seek.add(name)
        extras = {"queue": name, "mode": "subscribe", "group": self.plan.load.group}
        self.pulls.invoke("poll", None, **extras)
        answered = {"node": result.address, "epoch": result.epoch, "moved": True, "positions": {name: offset}}
        self.pulls.complete("poll", {}, Completion("ok", answered), **extras)

    def begins(self, queue: MessageQueue) -> None:
        """The next messages of this queue need not be those after its last ones."""
        self._seek.add(str(queue))

    def assigned(self, queues: tuple[MessageQueue, ...]) -> None:
        """The member's share of all queues, those of its retry topic among them."""
        self._seek.update(str(queue) for queue in queues if queue not in self._share)
        self._share = queues
        self._look()

    def handled(self, queue: MessageQueue, messages: Sequence[Message], result: ConsumeResult) -> None:
        """The handler took these messages, or sent them back."""
        value = {str(queue): entries_of(tuple(messages), self.plan.load.message_bytes)}
        extras = {"group": self.plan.load.group, "reconsume": messages[0].reconsume_times}
        self.handles.invoke("handle", value, **extras)
        self.handles.complete(
            "handle", value, Completion("ok" if result is ConsumeResult.SUCCESS else "fail"), **extras
        )

    def committed(self, queue: MessageQueue, offset: int, outcome: Outcome, node: str | None = None) -> None:
        """An offset was committed; ``node`` is the address of who stored it, where that is known."""
        extras = {"queue": str(queue), "group": self.plan.load.group}
        self.handles.invoke("commit", offset, **extras)
        if outcome is Outcome.OK:
            self.handles.complete("commit", offset, Completion("ok", {"node": node} if node else {}), **extras)
            known = self._queues.get(queue)
            if known is not None:
                self._committed[known] = offset
                self._look()
        else:
            error = {"error": fault_text("COMMIT", "client", "the commit was not confirmed")}
            kind = "fail" if outcome is Outcome.FAIL else "info"
            self.handles.complete("commit", offset, Completion(kind, error), **extras)

    def overlooks(self, queue: MessageQueue, offset: int) -> bool:
        """Whether the planted flaw makes the handler take this message for handled without a look at it."""
        return ClientFlaw.OVERLOOK in self.plan.client_flaws and (
            queue.topic == self.plan.load.topic and offset == OVERLOOKED_OFFSET
        )

    def _look(self) -> None:
        if self._goal and not self.behind():
            self.reached.set()
