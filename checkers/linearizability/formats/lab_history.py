"""The lab's own histories (format 1) as operations on one log, or one queue, for each message queue.

As append-log: every send is an append, every message in an answer a read of its offset, `end` a read at the end, and an
offset that a complete drain skipped a read that found nothing there. As
fifo-queue: the first delivery of a message takes it out, since reading a log removes nothing. An answer that is no
promise (a status other than SEND_OK) counts as unknown, and an empty poll says nothing: a broker may answer nothing
while there is something.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import msgspec

from checkers.event import FORMAT_VERSION, SEND_OK, Event
from checkers.linearizability.formats.json_lines import decoded
from checkers.linearizability.formats.source import Source
from checkers.linearizability.operations import NEVER, Operation, Outcome

SKIPPED_MAX: Final = 1000
MODELS: Final = ("append-log", "fifo-queue")
_SENDS: Final = ("send", "append")
_READS: Final = ("poll", "read", "drain")


@dataclass(frozen=True, slots=True)
class _Call:
    """An operation of the lab: both events with their lines; the second is None if it never came."""

    begun: Event
    begun_line: int
    ended: Event | None = None
    ended_line: int | None = None

    def operation(self, f: str, queue: str, outcome: Outcome, argument: Any, result: Any) -> Operation:
        """Return an operation with the interval of this call."""
        ended = self.ended
        return Operation(
            f=f, process=self.begun.process, invoked=self.begun.index,
            returned=ended.index if ended is not None and outcome != "info" else None,
            outcome=outcome, argument=argument, result=result, key=queue,
            node=None if ended is None else ended.node,
            invoked_line=self.begun_line, returned_line=self.ended_line,
            invoked_time=self.begun.time, returned_time=None if ended is None else ended.time,
        )  # fmt: skip


def read(source: Source, model: str) -> list[Operation]:
    """Read a history of the lab. Raises `FormatError`."""
    calls, untrimmed = _calls(source)
    found = _Log(source, untrimmed) if model == "append-log" else _Fifo(source, untrimmed)
    for call in calls:
        if call.begun.f in _SENDS:
            found.send(call)
        elif call.ended is not None:
            found.answer(call, call.ended)
    return found.operations


def untrimmed_scope(event: Event) -> str | None:
    """Return the scope in which an event of the lab says that nothing was trimmed (rule D10), None if it does not."""
    step = event.value if event.f == "drain-step" and isinstance(event.value, dict) else {}
    return str(step.get("scope")) if step.get("rule") == "D10" and step.get("ok") is True else None


def _calls(source: Source) -> tuple[list[_Call], set[str]]:
    """Return the calls of the clients, and the scopes of which the run says that nothing was trimmed (rule D10)."""
    untrimmed: set[str] = set()
    open_calls: dict[int, _Call] = {}
    done: list[_Call] = []
    expected = 0
    for lines, numbers in decoded(source, msgspec.json.Decoder(Event)):
        for event, number in zip(lines, numbers, strict=True):
            if event.index != expected:
                raise source.error(number, f"index {event.index}, but {expected} comes next: lines are missing")
            expected += 1
            if event.f == "meta" and isinstance(event.value, dict):
                version = event.value.get("format", FORMAT_VERSION)
                if version != FORMAT_VERSION:
                    raise source.error(number, f"format {version!r}; this version reads format {FORMAT_VERSION}")
            process = event.process
            if not isinstance(process, int):
                if (scope := untrimmed_scope(event)) is not None:
                    untrimmed.add(scope)
                continue
            if event.type == "invoke":
                if process in open_calls:
                    where = open_calls[process].begun_line
                    raise source.error(number, f"process {process} invokes while its call of line {where} is open")
                open_calls[process] = _Call(event, number)
            elif (call := open_calls.pop(process, None)) is not None:
                if call.begun.f != event.f:
                    raise source.error(
                        number, f"completes {event.f}, but line {call.begun_line} invoked {call.begun.f}"
                    )
                done.append(_Call(call.begun, call.begun_line, event, number))
    done.extend(open_calls.values())
    return done, untrimmed


def _is_offset(found: Any) -> bool:
    return found.__class__ is int and 0 <= found < NEVER


def _entries(source: Source, line: int | None, value: Any) -> Iterator[tuple[str, int, str]]:
    """Yield (queue, offset, message) of an answer. Raises `FormatError`."""
    try:
        for queue, batch in (value or {}).items():
            for offset, message in batch:
                if not _is_offset(offset) or message.__class__ is not str:
                    raise TypeError
                yield queue, offset, message
    except (TypeError, ValueError, AttributeError):
        raise source.error(
            line or 0, "the messages of an answer are {queue: [[offset, value], …]}, offsets from 0"
        ) from None


@dataclass(slots=True)
class _Mapping:
    """What both readings share: how sends become operations."""

    source: Source
    untrimmed: set[str]
    operations: list[Operation] = field(default_factory=list)

    def send(self, call: _Call) -> None:
        """Take a send of one message or of a batch."""
        begun, ended = call.begun, call.ended
        queue = (ended.queue if ended is not None and ended.queue else None) or begun.queue
        values = begun.value if isinstance(begun.value, list) else [begun.value]
        if not all(value.__class__ is str for value in values):
            raise self.source.error(call.begun_line, "what is sent is a string or a list of strings")
        if queue is None:
            raise self.source.error(call.begun_line, f"this {begun.f} names no queue")
        offset = None if ended is None else ended.offset
        offsets = offset if isinstance(offset, list) else [offset]
        for one in offsets:
            if one is not None and not _is_offset(one):
                raise self.source.error(call.ended_line or 0, f"an offset is a whole number from 0, not {one!r}")
        outcome: Outcome = "info" if ended is None or ended.type == "invoke" else ended.type
        if outcome == "ok" and ended is not None and ended.status not in (None, SEND_OK):
            outcome = "info"
        for place, value in enumerate(values):
            at = offsets[place] if place < len(offsets) else None
            self._sent(call, queue, outcome, value, at if outcome == "ok" else None)

    def _sent(self, call: _Call, queue: str, outcome: Outcome, value: str, offset: int | None) -> None:
        """Take one message that was sent."""
        self.operations.append(call.operation("enqueue", queue, outcome, value, None))

    def answer(self, call: _Call, ended: Event) -> None:
        """Take what a client was answered."""


class _Log(_Mapping):
    """Offsets count; consumers may read everything many times."""

    def _sent(self, call: _Call, queue: str, outcome: Outcome, value: str, offset: int | None) -> None:
        result = [offset, value] if outcome == "ok" else None
        self.operations.append(call.operation("append", queue, outcome, [None, value], result))

    def answer(self, call: _Call, ended: Event) -> None:
        """Take every message of an answer, and the length of a queue."""
        if ended.f == "end" and ended.type == "ok":
            if not _is_offset(ended.value) or call.begun.value.__class__ is not str:
                raise self.source.error(call.ended_line or 0, "end answers the length of the queue it asked for")
            end = [ended.value, None]
            self.operations.append(call.operation("read", call.begun.value, "ok", list(end), end))
        elif ended.f in _READS and ended.type != "fail":
            seen: dict[str, set[int]] = {}
            for queue, offset, message in _entries(self.source, call.ended_line, ended.value):
                seen.setdefault(queue, set()).add(offset)
                self.operations.append(call.operation("read", queue, "ok", [offset, None], [offset, message]))
            if ended.f == "drain" and ended.type == "ok" and ended.complete:
                for queue, offsets in seen.items():
                    self._skipped(call, queue, offsets)

    def _skipped(self, call: _Call, queue: str, offsets: set[int]) -> None:
        """Take what a drain, which read everything up to its sentinel, did not find: the first of it is enough."""
        first = 0 if self.untrimmed & {"*", queue} else min(offsets)
        missing = (offset for offset in range(first, max(offsets)) if offset not in offsets)
        for offset in islice(missing, SKIPPED_MAX):
            self.operations.append(call.operation("read", queue, "ok", [offset, None], [offset, None]))


@dataclass(slots=True)
class _Fifo(_Mapping):
    """The first delivery counts, wherever the message stood. Calls come in the order of their completions.

    It came out after the first of its deliveries had begun, and before the first of them was over.
    """

    _delivered: dict[tuple[str, str], int] = field(default_factory=dict)

    def answer(self, call: _Call, ended: Event) -> None:
        """Take the messages of an answer that nobody was given before."""
        if ended.f not in (*_READS, "handle") or ended.type == "fail":
            return
        value = call.begun.value if ended.value is None and ended.f == "handle" else ended.value
        for queue, _, message in _entries(self.source, call.ended_line, value):
            at = self._delivered.setdefault((queue, message), len(self.operations))
            if at == len(self.operations):
                self.operations.append(call.operation("dequeue", queue, "ok", None, message))
            elif call.begun.index < self.operations[at].invoked:
                self.operations[at] = msgspec.structs.replace(
                    self.operations[at],
                    invoked=call.begun.index,
                    invoked_line=call.begun_line,
                    invoked_time=call.begun.time,
                )
