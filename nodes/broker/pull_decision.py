"""How a pull is answered, given what the queue holds. Pure.

Sources: RocketMQ classes PullMessageProcessor, DefaultMessageStore (GetMessageStatus), and the pull table of its
protocol. Two rules are this project's own: a replica never answers "again at once", which would make consumers spin
while the master is away, and pulls may say which epoch of the log they have read, so that a consumer that read what a
promoted replica never had is sent back to where the two logs part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from nodes.remoting.codes import ResponseCode

__all__ = ["Answer", "Look", "answer", "look_at", "moved_by_epoch"]


class Look(str, Enum):
    """What a look into a queue found; the names are the remarks of RocketMQ's pull responses."""

    FOUND = "FOUND"
    NO_MATCHED_MESSAGE = "NO_MATCHED_MESSAGE"
    MESSAGE_WAS_REMOVING = "MESSAGE_WAS_REMOVING"
    NO_MESSAGE_IN_QUEUE = "NO_MESSAGE_IN_QUEUE"
    OFFSET_TOO_SMALL = "OFFSET_TOO_SMALL"
    OFFSET_OVERFLOW_ONE = "OFFSET_OVERFLOW_ONE"
    OFFSET_OVERFLOW_BADLY = "OFFSET_OVERFLOW_BADLY"


@dataclass(frozen=True, slots=True)
class Answer:
    """Response code, where the consumer shall go on, and the remark."""

    code: int
    next_offset: int
    look: Look


def look_at(offset: int, begin: int, end: int) -> Look | None:
    """What the bounds of a queue alone say about `offset`; None if there are entries to examine."""
    if end == 0:
        return Look.NO_MESSAGE_IN_QUEUE
    if offset < begin:
        return Look.OFFSET_TOO_SMALL
    if offset == end:
        return Look.OFFSET_OVERFLOW_ONE
    if offset > end:
        return Look.OFFSET_OVERFLOW_BADLY
    return None


def answer(look: Look, asked: int, next_offset: int, begin: int, end: int, *, correct: bool) -> Answer:
    """The answer to a pull at `asked`; `next_offset` lies after the last examined entry.

    `correct` is False on a replica (unless offsetCheckInSlave): it may lag behind its master or hold less than it, so
    an offset out of its own bounds is no reason to move the consumer; the consumer waits, and is not told to spin.
    """
    if look is Look.FOUND:
        return Answer(ResponseCode.SUCCESS, next_offset, look)
    if look in (Look.NO_MATCHED_MESSAGE, Look.MESSAGE_WAS_REMOVING):
        return Answer(ResponseCode.PULL_RETRY_IMMEDIATELY, next_offset, look)
    if look is Look.OFFSET_OVERFLOW_ONE or (look is Look.NO_MESSAGE_IN_QUEUE and asked == 0):
        return Answer(ResponseCode.PULL_NOT_FOUND, asked, look)
    if not correct:
        return Answer(ResponseCode.PULL_NOT_FOUND, asked, look)
    if look is Look.OFFSET_TOO_SMALL:
        return Answer(ResponseCode.PULL_OFFSET_MOVED, begin, look)
    if look is Look.OFFSET_OVERFLOW_BADLY:
        return Answer(ResponseCode.PULL_OFFSET_MOVED, end, look)
    return Answer(ResponseCode.PULL_OFFSET_MOVED, 0, look)


def moved_by_epoch(
    asked: int, seen: int, epochs: Iterable[tuple[int, int]], queue_start: Callable[[int], int]
) -> int | None:
    """Where a consumer must go back to if the log it has read is not the log of this node; None if it need not.

    `epochs` are (number, start in the log) in ascending order, `queue_start` maps a log offset to this queue's first
    offset at or after it. Everything from the start of an epoch that the consumer has not seen on has been given to
    other messages; what lies before is common to both logs.
    """
    for number, start in epochs:
        if number > seen:
            first = queue_start(start)
            return first if first < asked else None
    return None
