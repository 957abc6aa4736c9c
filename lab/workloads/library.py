"""What a workload asks of a client library: our own in Python fits as it is, others are fitted to it.

Both raise the exceptions of `nodes.client.results`; no failure ever looks like an answer.
"""

from typing import Protocol

from nodes.client.pull_consumer import BrokerChoice
from nodes.client.queues import MessageQueue
from nodes.client.results import PullResult, SendResult


class Sender(Protocol):
    """A producer."""

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
        """Send one message, to this queue or to one that the library chooses. Raises SendFailed.

        Without ``wait_store_ok`` the message asks to be answered before it is flushed or replicated.
        """
        ...


class Reader(Protocol):
    """A pull consumer. All calls raise CommandFailed."""

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
        """One pull of at most ``max_num`` messages."""
        ...

    async def committed(self, queue: MessageQueue, group: str | None = None) -> int | None:
        """The group's committed offset, None if there is none."""
        ...

    async def commit(self, queue: MessageQueue, offset: int, group: str | None = None) -> str:
        """Commit, and say who stored it."""
        ...

    async def bounds(self, queue: MessageQueue, *, broker: BrokerChoice = "master") -> tuple[int, int]:
        """The queue's lowest offset, and one more than its highest."""
        ...
