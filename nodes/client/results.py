"""What sends and pulls end with: values, and the exceptions that carry every attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from nodes.client.messages import Message
from nodes.client.queues import MessageQueue

__all__ = [
    "Attempt",
    "CommandFailed",
    "Outcome",
    "PullFailed",
    "PullResult",
    "PullStatus",
    "SendFailed",
    "SendResult",
    "SendStatus",
]


class Outcome(StrEnum):
    """What is known about one attempt: it happened, it certainly did not, or nobody can say."""

    OK = "ok"
    FAIL = "fail"
    INFO = "info"


class SendStatus(StrEnum):
    """How well a stored message is kept (RocketMQ SendStatus). Only SEND_OK is a promise."""

    SEND_OK = "SEND_OK"
    FLUSH_DISK_TIMEOUT = "FLUSH_DISK_TIMEOUT"
    FLUSH_SLAVE_TIMEOUT = "FLUSH_SLAVE_TIMEOUT"
    SLAVE_NOT_AVAILABLE = "SLAVE_NOT_AVAILABLE"


class Attempt(NamedTuple):
    """One try of a send. `code` is a response code, or a LocalCode when no response came.

    `started_s` and `ended_s` are times of the event loop. `broker_name` is empty when no broker was chosen.
    """

    address: str
    broker_name: str
    queue_id: int
    outcome: Outcome
    code: int
    reason: str
    started_s: float
    ended_s: float


class SendResult(NamedTuple):
    """A stored message. `queue_offset` is the first one of a batch; `epoch` is None from brokers that tell none."""

    status: SendStatus
    message_id: str
    """The client's id (UNIQ_KEY), the same for every attempt; of a batch the ids joined by commas."""
    offset_message_id: str
    """The broker's id: store host and log offset; of a batch the ids joined by commas."""
    broker_name: str
    queue_id: int
    queue_offset: int
    epoch: int | None
    address: str
    attempts: tuple[Attempt, ...]


class SendFailed(Exception):
    """A send that did not end in a stored message as far as the client knows.

    `certain` is True only if every attempt provably did not happen and never will; otherwise the message may exist.
    `told` is the status that a foreign client library reported although no reply bears it out.
    """

    def __init__(self, attempts: Sequence[Attempt], message_id: str = "", told: str | None = None) -> None:
        self.attempts = tuple(attempts)
        self.message_id = message_id
        self.told = told
        self.certain = all(attempt.outcome is Outcome.FAIL for attempt in self.attempts)
        last = self.attempts[-1] if self.attempts else None
        self.code = last.code if last is not None else 0
        super().__init__(
            "; ".join(f"{a.address or a.broker_name or 'local'}: {a.outcome.value}: {a.reason}" for a in self.attempts)
        )


class PullStatus(StrEnum):
    """What a broker answered to a pull (RocketMQ PullStatus)."""

    FOUND = "FOUND"
    NO_NEW_MSG = "NO_NEW_MSG"
    NO_MATCHED_MSG = "NO_MATCHED_MSG"
    OFFSET_ILLEGAL = "OFFSET_ILLEGAL"
    """The asked offset is not one of this queue, or belongs to an earlier epoch; go on at `next_offset`."""


@dataclass(frozen=True, slots=True)
class PullResult:
    """An answered pull. `min_offset` and `max_offset` are the queue's bounds on the broker that answered."""

    status: PullStatus
    queue: MessageQueue
    messages: tuple[Message, ...]
    next_offset: int
    min_offset: int
    max_offset: int
    epoch: int | None
    address: str
    broker_id: int
    """0 the master; another number the slave that answered."""


class CommandFailed(Exception):
    """A call other than a send that got no usable answer; never confused with an empty answer.

    `code` is a response code or a LocalCode; `outcome` says whether the call may have taken effect.
    """

    def __init__(self, what: str, address: str, code: int, reason: str, outcome: Outcome) -> None:
        self.what = what
        self.address = address
        self.code = code
        self.reason = reason
        self.outcome = outcome
        super().__init__(f"{what} at {address or 'no address'}: {reason} (code {code})")


class PullFailed(CommandFailed):
    """A pull that was not answered with one of the four pull statuses."""
