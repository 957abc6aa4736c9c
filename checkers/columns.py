"""A whole history in memory as columns: one array a field, one row an event, a send, a read batch or an entry.

A million operations fit in some hundred megabytes this way, and checkers sweep them with numpy instead of walking
objects. Strings (values, queues, nodes, …) are kept once each and stand in the columns by number; -1 means none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from checkers.event import Event
from checkers.meta import Meta

Int: TypeAlias = npt.NDArray[np.signedinteger[Any]]
Small: TypeAlias = npt.NDArray[np.int32]
Mask: TypeAlias = npt.NDArray[np.bool_]

NEVER: Final = np.int64(1) << 62
"""The position and the time of a completion that never came."""

INVOKE: Final = 0
OK: Final = 1
FAIL: Final = 2
INFO: Final = 3
TYPES: Final = ("invoke", "ok", "fail", "info")

POLL: Final = 0
READ: Final = 1
DRAIN: Final = 2
HANDLE: Final = 3

MODE_NONE: Final = 0
MODE_ASSIGN: Final = 1
MODE_SUBSCRIBE: Final = 2

ASSIGNMENTS: Final = frozenset({"assign", "subscribe"})

ALIAS_TOPICS: Final = ("%RETRY%", "%DLQ%", "SCHEDULE_TOPIC_XXXX", "rmq_sys_")
"""Topics that hold second copies of messages; their offsets say nothing about the queue a message was sent to."""

NEMESIS_PROCESS: Final = -1
LAB_PROCESS: Final = -2


def distinct(numbers: Int) -> Int:
    """Return each number once, in ascending order; by sorting, since numpy.unique hashes, which is slow."""
    if bool((numbers[1:] > numbers[:-1]).all()):
        return numbers
    ordered: Int = np.sort(numbers)
    found: Int = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])]
    return found


def marked(numbers: Int, count: int) -> Mask:
    """Mark which of the numbers from 0 up to `count` are there."""
    mark = np.zeros(count, dtype=bool)
    mark[numbers] = True
    return mark


class Names(dict[Any, int]):
    """Gives every distinct string a dense number on first sight; None is -1.

    Anything else is taken by its text, and `mixed` then tells of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self[None] = -1
        self.names: list[str] = []
        self.mixed = False

    def __missing__(self, key: Any) -> int:
        if not isinstance(key, str):
            self.mixed = True
            number: int = self[str(key)]
            self[key] = number
            return number
        number = len(self.names)
        self.names.append(key)
        self[key] = number
        return number


@dataclass(frozen=True, slots=True)
class Breach:
    """One breach of the rules every history must keep (C0 rules 1-6); `index` is the event that shows it."""

    rule: int
    index: int
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """All events; the row number is the index. `position` orders them, an invocation first at equal times."""

    time: Int
    process: Small
    type: npt.NDArray[np.int8]
    f: npt.NDArray[np.int16]
    partner: Small
    position: Int


@dataclass(frozen=True, slots=True, eq=False)
class Sends:
    """One row for each value a client tried to send (`send`, `append`), in order of invocation.

    `invoked` and `returned` are event indices (-1: no completion); `begin` and `end` their positions, `end` NEVER for
    an unknown outcome. `asked` is the queue the client chose, `queue` and `offset` what the broker answered.
    """

    value: Small
    invoked: Small
    returned: Small
    begin: Int
    end: Int
    type: npt.NDArray[np.int8]
    process: Small
    asked: Small
    queue: Small
    offset: Int
    status: npt.NDArray[np.int16]
    ack: npt.NDArray[np.int16]
    flushed: npt.NDArray[np.int8]
    sentinel: npt.NDArray[np.int8]
    node: npt.NDArray[np.int16]
    epoch: Int
    attempts: Small
    intended: Int
    error: npt.NDArray[np.int16]
    key: Small
    batch: Small

    def __len__(self) -> int:
        return len(self.value)


@dataclass(frozen=True, slots=True, eq=False)
class Reads:
    """One row for each queue of each read (`poll`, `read`, `drain`, `handle`) that returned or cleared something.

    Entries `start:stop` of `Entries` are what it returned. `clear` marks an explicit seek, an offset the broker moved
    or a lost assignment: what the process remembered of the queue ends there. `asked` is the offset a `read` or a seek
    named, -1 where there was none or the broker moved the reader elsewhere.
    """

    invoked: Small
    returned: Small
    begin: Int
    end: Int
    type: npt.NDArray[np.int8]
    kind: npt.NDArray[np.int8]
    process: Small
    queue: Small
    start: Int
    stop: Int
    mode: npt.NDArray[np.int8]
    clear: npt.NDArray[np.int8]
    group: npt.NDArray[np.int16]
    node: npt.NDArray[np.int16]
    asked: Int
    round: npt.NDArray[np.int8]
    complete: npt.NDArray[np.int8]
    sentinel: Int
    loose: npt.NDArray[np.int8]
    orderly: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.queue)


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """Every (offset, value) any read returned; `read` is its row in `Reads`. A value of -1 could not be read."""

    read: Small
    offset: Int
    value: Small

    def __len__(self) -> int:
        return len(self.value)


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """Queries of a queue's length (`end`) that were answered, by `node`."""

    queue: Small
    length: Int
    node: npt.NDArray[np.int16]
    invoked: Small
    returned: Small
    begin: Int
    end: Int


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """One run as its clients, its nemesis and its lab saw it.

    `side` keeps the events of the nemesis, the lab and the rarer client operations as they are, by their `f`.
    `damage` says why the file could not be read to its end, `breaches` how the history breaks its own rules.
    """

    meta: Meta
    has_meta: bool
    events: Events
    sends: Sends
    reads: Reads
    entries: Entries
    ends: Ends
    values: Sequence[str]
    queues: Sequence[str]
    nodes: Sequence[str]
    statuses: Sequence[str]
    acks: Sequence[str]
    errors: Sequence[str]
    groups: Sequence[str]
    keys: Sequence[str]
    functions: Sequence[str]
    side: Mapping[str, Sequence[Event]]
    nemesis: Sequence[Event]
    breaches: Sequence[Breach]
    breach_counts: Mapping[int, int]
    damage: str | None = None
    value_numbers: Mapping[Any, int] = field(default_factory=dict, repr=False)
    queue_numbers: Mapping[Any, int] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.events.time)

    def time_of(self, index: int) -> int:
        """Return the time of an event in nanoseconds since the run began, NEVER for -1."""
        return int(self.events.time[index]) if index >= 0 else int(NEVER)

    def lab(self, f: str) -> Sequence[Event]:
        """Return the lab's (or rarer) events of one kind, in order."""
        return self.side.get(f, ())
