"""What a push consumer holds of one queue: pulled and not yet finished messages, and the offset they allow to commit.

Source: RocketMQ class ProcessQueue.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from nodes.client.messages import Message

__all__ = ["FlowControl", "FlowLimits", "ProcessQueue"]


@dataclass(frozen=True, slots=True)
class FlowLimits:
    """When a queue is not pulled further (RocketMQ pullThresholdForQueue and its fellows)."""

    messages: int = 1000
    bytes: int = 100 * 1024 * 1024
    span: int = 2000
    """Distance between the oldest and the newest unfinished offset; concurrent consumers only."""


class FlowControl(StrEnum):
    """Why a queue is not pulled at the moment."""

    NONE = "none"
    MESSAGES = "messages"
    BYTES = "bytes"
    SPAN = "span"


class ProcessQueue:
    """The unfinished messages of one queue, in order of their offsets.

    Offsets arrive in rising order and each at most once: a message pulled again while it is still held, and one below
    the highest offset ever added, are not added a second time.
    """

    __slots__ = ("_bytes", "_held", "_next", "_taken", "dropped")

    def __init__(self, start_offset: int) -> None:
        self._held: OrderedDict[int, Message] = OrderedDict()
        self._taken: OrderedDict[int, Message] = OrderedDict()
        self._bytes = 0
        self._next = start_offset
        self.dropped = False
        """Set when the queue no longer belongs to this consumer; nothing may be committed for it afterwards."""

    def add(self, messages: Iterable[Message]) -> tuple[Message, ...]:
        """Hold newly pulled messages. Returns those that were not known yet."""
        fresh = []
        for message in messages:
            if message.queue_offset < self._next:
                continue
            self._held[message.queue_offset] = message
            self._bytes += len(message.body)
            self._next = message.queue_offset + 1
            fresh.append(message)
        return tuple(fresh)

    def skip_to(self, next_offset: int) -> None:
        """Note that everything below `next_offset` was looked at, such as messages that a filter left out."""
        self._next = max(self._next, next_offset)

    def finish(self, messages: Sequence[Message]) -> int:
        """Let go of consumed messages, in any order. Returns the offset that may be committed: the lowest held one."""
        for message in messages:
            held = self._held.pop(message.queue_offset, None) or self._taken.pop(message.queue_offset, None)
            if held is not None:
                self._bytes -= len(held.body)
        return self.commit_offset

    def take(self, count: int) -> tuple[Message, ...]:
        """For orderly consumption: the next messages in order; they stay held until `finish` or `give_back`."""
        taken: list[Message] = []
        while self._held and len(taken) < count:
            offset, message = self._held.popitem(last=False)
            self._taken[offset] = message
            taken.append(message)
        return tuple(taken)

    def give_back(self, messages: Sequence[Message]) -> None:
        """Put taken messages back at their place, to be taken again."""
        for message in sorted(messages, key=lambda m: m.queue_offset, reverse=True):
            if self._taken.pop(message.queue_offset, None) is not None:
                self._held[message.queue_offset] = message
                self._held.move_to_end(message.queue_offset, last=False)

    @property
    def commit_offset(self) -> int:
        """The lowest offset that is not finished."""
        lowest = [next(iter(held)) for held in (self._held, self._taken) if held]
        return min(lowest) if lowest else self._next

    @property
    def count(self) -> int:
        """Messages held."""
        return len(self._held) + len(self._taken)

    @property
    def size(self) -> int:
        """Bytes of their bodies."""
        return self._bytes

    def flow(self, limits: FlowLimits, *, orderly: bool) -> FlowControl:
        """Whether the queue may be pulled further, and if not, why."""
        if self.count > limits.messages:
            return FlowControl.MESSAGES
        if self._bytes > limits.bytes:
            return FlowControl.BYTES
        if not orderly and self.count and self._next - 1 - self.commit_offset > limits.span:
            return FlowControl.SPAN
        return FlowControl.NONE
