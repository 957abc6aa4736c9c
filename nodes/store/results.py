"""Values that go into and come out of the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from nodes.remoting.message import Host


@dataclass(slots=True)
class MessageIn:
    """A message to be stored."""

    topic: str
    queue_id: int
    body: bytes
    properties: str
    """Properties text as on the wire, kept byte for byte."""
    flag: int
    sys_flag: int
    born_timestamp: int
    born_host: Host
    reconsume_times: int = 0


class Place(NamedTuple):
    """Where one message went."""

    offset_log: int
    size: int
    offset_queue: int


@dataclass(slots=True)
class Appended:
    """What `append` assigned. Nothing is stored before `write_pending`, nothing durable before `sync`."""

    places: list[Place]
    end: int
    """Log offset behind the last message: acknowledged when the promised end has reached it."""
    store_timestamp: int


class ReadStatus(StrEnum):
    """Outcome of reading a queue; the values are RocketMQ's remarks (RocketMQ GetMessageStatus)."""

    FOUND = "FOUND"
    NO_MATCHED_MESSAGE = "NO_MATCHED_MESSAGE"
    MESSAGE_WAS_REMOVING = "MESSAGE_WAS_REMOVING"
    NO_MATCHED_LOGIC_QUEUE = "NO_MATCHED_LOGIC_QUEUE"
    NO_MESSAGE_IN_QUEUE = "NO_MESSAGE_IN_QUEUE"
    OFFSET_TOO_SMALL = "OFFSET_TOO_SMALL"
    OFFSET_OVERFLOW_ONE = "OFFSET_OVERFLOW_ONE"
    OFFSET_OVERFLOW_BADLY = "OFFSET_OVERFLOW_BADLY"


@dataclass(slots=True)
class QueueRead:
    """What `read_queue` found: whole records in queue order, and where to go on."""

    status: ReadStatus
    records: Sequence[bytes | memoryview]
    next_offset: int
    min_offset: int
    max_offset: int
    end_log: int = 0
    """Log offset behind the last record returned; 0 without records."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What `open` found and did."""

    clean: bool
    """The last process closed the store; otherwise it was killed or lost power."""
    begin: int
    end: int
    """Log offsets between which whole records lie."""
    checked: int
    """Records that were read and verified."""
    dispatched: int
    """Records whose queue entries were written anew."""
    cut: int
    """Bytes dropped at the end of the log because they were no whole records."""
    lost_flushed: int
    """Of the log's flushed bytes, how many are missing: more than 0 means that the disk broke its promise."""
    rebuilt: bool
    """All consume queues were rebuilt from the log."""


class QueueBounds(NamedTuple):
    """Readable offsets of one queue: `min_offset` up to, not including, `max_offset`."""

    topic: str
    queue_id: int
    min_offset: int
    max_offset: int
