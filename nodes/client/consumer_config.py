"""Settings and values of push consumers, with RocketMQ's defaults (class DefaultMQPushConsumer)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from nodes.client.config import ClientConfigError
from nodes.client.messages import Message
from nodes.client.process_queue import FlowLimits
from nodes.client.queues import MessageQueue
from nodes.client.results import Outcome, PullResult

__all__ = ["ConsumeResult", "ConsumerHooks", "Listener", "MessageModel", "PushConfig", "StartFrom"]


class ConsumeResult(StrEnum):
    """What a listener says about the messages it was given."""

    SUCCESS = "SUCCESS"
    LATER = "LATER"
    """Concurrent: RECONSUME_LATER, again after a delay through the retry topic. Orderly: SUSPEND, again in a moment."""


class MessageModel(StrEnum):
    """Whether the members of a group share the messages or each gets all."""

    CLUSTERING = "CLUSTERING"
    BROADCASTING = "BROADCASTING"


class StartFrom(StrEnum):
    """Where a group begins on a queue for which it never committed an offset."""

    LAST_OFFSET = "CONSUME_FROM_LAST_OFFSET"
    FIRST_OFFSET = "CONSUME_FROM_FIRST_OFFSET"
    TIMESTAMP = "CONSUME_FROM_TIMESTAMP"


_LIMITS = FlowLimits()

Listener = Callable[[Sequence[Message]], Awaitable[ConsumeResult]]
"""Handles messages of one queue; an exception counts as LATER."""


def _ignore(*_: object) -> None:
    """A hook that nobody set."""


@dataclass(frozen=True, slots=True)
class ConsumerHooks:
    """What a recorder may want to know of a push consumer. Hooks are called on the loop and must not raise."""

    on_pulled: Callable[[MessageQueue, PullResult], None] = _ignore
    """A pull was answered, with messages or without."""
    on_offset_reset: Callable[[MessageQueue, int, PullResult], None] = _ignore
    """A broker sent the consumer to another offset; the messages it held of the queue count no more."""
    on_handled: Callable[[MessageQueue, Sequence[Message], ConsumeResult], None] = _ignore
    """A listener ended. Under LATER the messages went to the retry topic, or stay, as `on_sent_back` tells."""
    on_sent_back: Callable[[MessageQueue, Message, Outcome], None] = _ignore
    """A message was given back to its broker to be consumed again: ok, or info when nobody knows."""
    on_commit: Callable[[MessageQueue, int, Outcome], None] = _ignore
    """An offset was committed: ok with an answer, info without one."""
    on_assigned: Callable[[tuple[MessageQueue, ...]], None] = _ignore
    """The consumer's share of the queues changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushConfig:
    """How a push consumer works. Times are seconds unless the name says otherwise."""

    model: MessageModel = MessageModel.CLUSTERING
    orderly: bool = False
    """One message after the other of each queue, under a lock at the broker."""
    start_from: StartFrom = StartFrom.LAST_OFFSET
    start_timestamp_ms: int = 0
    max_reconsume_times: int = -1
    """After so many deliveries again a message goes to %DLQ%; -1: 16 concurrent, never orderly."""
    delay_level: int = 0
    """Delay of messages sent back: 0 lets the broker choose by the number of tries, -1 goes to %DLQ% at once."""
    workers: int = 20
    """Listener calls at a time, concurrent (RocketMQ consumeThreadMin)."""
    batch: int = 1
    """Messages in one listener call (RocketMQ consumeMessageBatchMaxSize)."""
    pull_batch: int = 32
    pull_suspend_s: float = 15.0
    """How long a broker may hold a pull that finds nothing."""
    pull_timeout_s: float = 30.0
    pull_retry_s: float = 1.0
    """Pause after a pull that failed."""
    flow_retry_s: float = 0.05
    limits: FlowLimits = _LIMITS
    consume_timeout_s: float = 900.0
    """A listener that takes longer is cancelled and its messages are sent back at level 3."""
    suspend_s: float = 1.0
    """Orderly: pause before a message is tried again."""
    local_retry_s: float = 5.0
    """Pause before a message is tried again here because no broker took it back."""
    rebalance_interval_s: float = 20.0
    rebalance_retry_s: float = 1.0
    persist_interval_s: float = 5.0
    commit_oneway: bool = True
    """Whether periodic commits ask for no answer, as RocketMQ's do."""
    lock_interval_s: float = 20.0
    lock_valid_s: float = 30.0
    close_patience_s: float = 5.0
    """How long closing waits for listeners that run."""

    def __post_init__(self) -> None:
        for name in ("workers", "batch", "pull_batch"):
            if getattr(self, name) < 1:
                raise ClientConfigError(f"{name}: must be at least 1, is {getattr(self, name)}")
        if self.pull_timeout_s <= self.pull_suspend_s:
            raise ClientConfigError(
                f"pull_timeout_s {self.pull_timeout_s} must be above pull_suspend_s {self.pull_suspend_s}"
            )
        if self.lock_valid_s <= self.lock_interval_s:
            raise ClientConfigError(
                f"lock_valid_s {self.lock_valid_s} must be above lock_interval_s {self.lock_interval_s}"
            )

    @property
    def reconsume_limit(self) -> int:
        """The number of tries again that `max_reconsume_times` means."""
        if self.max_reconsume_times >= 0:
            return self.max_reconsume_times
        return 2**31 - 1 if self.orderly else 16
