"""One event of a history, as it stands on one line of the file (format 1).

A history is a sequence of events: what every client asked and was told, what the nemesis did and what the lab saw.
A client operation is two events, an invocation and a completion, tied together by the process number. docs/checkers.md
lists what each kind of operation carries.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

FORMAT_VERSION: Final = 1

INVOKE: Final = "invoke"
OK: Final = "ok"
FAIL: Final = "fail"
INFO: Final = "info"

NEMESIS: Final = "nemesis"
LAB: Final = "lab"

SEND_OK: Final = "SEND_OK"
"""The only send status that is a promise."""

WEAK_STATUSES: Final = ("FLUSH_DISK_TIMEOUT", "FLUSH_SLAVE_TIMEOUT", "SLAVE_NOT_AVAILABLE")
"""The other statuses of a stored message (RocketMQ SendStatus); they promise nothing."""

EventType = Literal["invoke", "ok", "fail", "info"]

PROCESS_MAX: Final = (1 << 31) - 1
TIME_MAX: Final = (1 << 62) - 1
"""Numbers beyond these do not fit the columns; a file that holds one is refused, never read as another number."""

Process = Annotated[int, msgspec.Meta(ge=0, le=PROCESS_MAX)]
Time = Annotated[int, msgspec.Meta(ge=-TIME_MAX, le=TIME_MAX)]


class Event(msgspec.Struct, gc=False, omit_defaults=True):
    """One line of a history.

    `index` is dense from 0, `time` nanoseconds since the run began on the machine's monotonic clock, `process` a
    number for clients, `"nemesis"` (or `"nemesis/…"`) and `"lab"` for the rest. `value` is the argument of an
    invocation and the argument plus result of a completion. Every other field is an extra that only some operations
    carry; keys unknown to this version are ignored when a file is read.
    """

    index: int
    time: Time
    process: Process | str
    type: EventType
    f: str
    value: Any = None
    error: Any = None

    # where it went and what was answered
    queue: str | None = None
    queues: list[str] | None = None
    node: str | None = None
    role: str | None = None
    epoch: int | None = None
    client: str | None = None
    id: str | None = None

    # sends
    status: str | None = None
    ack: str | None = None
    flushed: bool | None = None
    offset: int | list[int] | None = None
    attempts: int | None = None
    intended: int | None = None
    sentinel: bool | int | None = None
    key: str | None = None

    # reads
    mode: str | None = None
    group: str | None = None
    positions: Any = None
    seek: dict[str, int] | None = None
    moved: bool | None = None
    filtered: bool | None = None
    rebalance: list[str] | None = None
    reconsume: int | None = None
    orderly: bool | None = None
    round: int | None = None
    complete: bool | None = None


class HistoryError(Exception):
    """A history file that cannot be read to its end.

    The message names the file, the line and what to do; `line` counts from 1, `events_read` is how many whole events
    came before the damage, `truncated` tells a file that merely ends too early from one that is garbled.
    """

    def __init__(self, path: str, line: int, reason: str, *, events_read: int, truncated: bool) -> None:
        if not truncated:
            advice = "the file is damaged or is not a history of format 1: take it again from the run's folder"
        elif events_read:
            advice = (
                "the run was cut short or the copy is incomplete: the events before it can still be read, but the "
                "verdict can only be unknown; run again or copy the file again"
            )
        else:
            advice = (
                "the run was cut short or the copy is incomplete, and no event of it can be read; run again or copy "
                "the file again"
            )
        super().__init__(f"{path}, line {line}: {reason}; {advice}")
        self.path = path
        self.line = line
        self.reason = reason
        self.events_read = events_read
        self.truncated = truncated
