"""Delay levels and the progress of their delivery. Pure.

A delayed message is stored in the schedule topic, one queue a level; since all messages of a level wait equally long,
each such queue is in order of delivery. Source: RocketMQ class ScheduleMessageService.
"""

from __future__ import annotations

import msgspec

__all__ = ["DelayLevels", "DelayOffsetsDocument", "DelayProgress", "scheduled_queue"]


class DelayLevels:
    """The levels of `messageDelayLevel`; level 1 is the first."""

    __slots__ = ("_waits_ms",)

    def __init__(self, waits_ms: tuple[int, ...]) -> None:
        self._waits_ms = waits_ms

    def __len__(self) -> int:
        return len(self._waits_ms)

    def clamp(self, level: int) -> int:
        """The nearest level that exists; 0 stays 0, which means no delay."""
        return max(0, min(level, len(self._waits_ms)))

    def wait_ms(self, level: int) -> int:
        """How long a message of the level waits."""
        return self._waits_ms[level - 1]


def scheduled_queue(level: int) -> int:
    """The queue of the schedule topic that holds a level."""
    return level - 1


class DelayOffsetsDocument(msgspec.Struct, rename="camel"):
    """The file delayOffset.json, and the body of GET_ALL_DELAY_OFFSET: level to next offset in its schedule queue."""

    offset_table: dict[int, int] = {}


class DelayProgress:
    """Next offset to deliver of every level."""

    __slots__ = ("_next", "changes")

    def __init__(self) -> None:
        self._next: dict[int, int] = {}
        self.changes = 0

    def next_offset(self, level: int) -> int:
        """Queue offset of the first message of the level that has not been delivered."""
        return self._next.get(level, 0)

    def delivered(self, level: int, next_offset: int) -> None:
        """Everything of the level below `next_offset` is stored under its real topic."""
        if self._next.get(level, 0) != next_offset:
            self._next[level] = next_offset
            self.changes += 1

    def clamp(self, ends: dict[int, int]) -> None:
        """Cut progress down to the end of each level's queue (restart, promotion, truncation)."""
        for level, next_offset in list(self._next.items()):
            if next_offset > ends.get(level, 0):
                self.delivered(level, ends.get(level, 0))

    def document(self) -> DelayOffsetsDocument:
        """What is persisted and sent to slaves."""
        return DelayOffsetsDocument(dict(self._next))

    def load(self, document: DelayOffsetsDocument) -> None:
        """Take over a whole table."""
        self._next = dict(document.offset_table)
        self.changes += 1
