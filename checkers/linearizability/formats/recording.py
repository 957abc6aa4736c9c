"""What a reader found in a history file: its client events as columns, and the operations they make in pairs.

The order of the events is the order of real time. An invocation and the next event of the same process are one
operation; a completion that nothing invoked is none, and neither are the lines of the nemesis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np

from checkers.linearizability.formats.scan import Scanned
from checkers.linearizability.formats.source import FormatError, Source
from checkers.linearizability.formats.values import Values
from checkers.linearizability.operations import Byte, Int, LazyOperations, Operation

INVOKE, OK, FAIL, INFO = range(4)
TYPES: Final = ("invoke", "ok", "fail", "info")
TYPE_NUMBER: Final = {name: number for number, name in enumerate(TYPES)}
NEMESIS: Final = "nemesis"
FUNCTIONS_MAX: Final = 255

BLOCK_EVENTS: Final = 4096

NUMBER_MAX: Final = (1 << 62) - 1
"""Processes and times beyond this are taken for garbage."""


@dataclass(slots=True)
class Block:
    """Client events as parallel lists; `errors` are the places in the block whose event carried an error."""

    lines: Sequence[int]
    processes: Sequence[int]
    types: Sequence[int]
    functions: Sequence[str]
    values: Sequence[Any]
    times: Sequence[int]
    errors: Sequence[int] = ()


@dataclass(slots=True)
class GrowingBlock:
    """A block that readers fill an event at a time, for formats that are not read at speed."""

    recorder: Recorder
    lines: list[int] = field(default_factory=list)
    processes: list[int] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)

    def add(self, line: int, process: int, kind: int, f: str, value: Any, time: int, *, error: bool) -> None:
        """Add one client event."""
        if error:
            self.errors.append(len(self.values))
        self.lines.append(line)
        self.processes.append(process)
        self.types.append(kind)
        self.functions.append(f)
        self.values.append(value)
        self.times.append(time)
        if len(self.values) == BLOCK_EVENTS:
            self.hand_over()

    def hand_over(self) -> None:
        """Give what was gathered to the recorder."""
        lists = (self.lines, self.processes, self.types, self.functions, self.values, self.times, self.errors)
        self.recorder.take(Block(*lists))
        for one in lists:
            one.clear()


@dataclass(slots=True, eq=False)
class Recording:
    """The client events of one history, in order. Values are what JSON holds, or `msgspec.UNSET`."""

    name: str
    line: Int
    process: Int
    type: Byte
    function: Byte
    time: Int
    names: list[str]
    values: Values
    errors: set[int]
    events: int = 0
    """Lines of the file that were events, also those of the nemesis."""
    clock: bool = False
    """Whether the times are of a clock; a source without one repeats the index, which tells nobody anything."""

    def __len__(self) -> int:
        return len(self.line)

    def error(self, event: int, reason: str) -> FormatError:
        """Return the error of an event."""
        return FormatError(self.name, int(self.line[event]), reason)

    def f(self, event: int) -> str:
        """Return the name of what an event asked or answered."""
        return self.names[int(self.function[event])]


@dataclass(slots=True)
class Recorder:
    """Gathers blocks into a recording."""

    source: Source
    events: int = 0
    clock: bool = False
    _parts: list[tuple[Int, Int, Byte, Byte, Int]] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)
    _values: Values = field(default_factory=Values)
    _errors: set[int] = field(default_factory=set)

    def take(self, block: Block) -> None:
        """Add the events of a block."""
        numbers = self._number(set(block.functions), lambda name: block.lines[block.functions.index(name)])
        self._errors.update(len(self._values) + place for place in block.errors)
        self._values.add(block.values)
        self._parts.append(
            (
                _numbers(block.lines),
                self._whole(block, block.processes, "process"),
                np.frombuffer(bytes(block.types), np.uint8),
                np.frombuffer(bytes(map(numbers.__getitem__, block.functions)), np.uint8),
                self._whole(block, block.times, "time"),
            )
        )

    def take_scanned(self, block: Scanned, first: int) -> None:
        """Add the events of a block that begins at line `first`."""

        def where(name: str) -> int:
            return first + int(block.place[block.function == block.names.index(name)][0])

        numbers = self._number(set(block.names), where)
        number = np.array([numbers[name] for name in block.names], dtype=np.uint8)
        self.events += block.events
        self.clock = self.clock or block.clock
        self._errors.update(len(self._values) + place for place in block.errors)
        self._values.extend(len(block.place), block.first, block.second, block.nothing)
        self._parts.append((first + block.place, block.process, block.type, number[block.function], block.time))

    def _number(self, names: set[str], where: Callable[[str], int]) -> dict[str, int]:
        """Return the numbers of all names, after those of a block have got theirs; `where` tells the line of a name."""
        numbers = self._numbers
        for name in sorted(names.difference(numbers)):
            if len(numbers) == FUNCTIONS_MAX:
                raise self.source.error(
                    where(name), f"{name!r} is the {FUNCTIONS_MAX + 1}th name of an operation: no model has so many"
                )
            numbers[name] = len(numbers)
        return numbers

    def _whole(self, block: Block, numbers: Sequence[int], what: str) -> Int:
        try:
            return np.array(numbers, dtype=np.int64)
        except OverflowError:
            at, big = next((at, big) for at, big in enumerate(numbers) if abs(big) > NUMBER_MAX)
            raise self.source.error(block.lines[at], f"the {what} {big} is out of range") from None

    def recording(self) -> Recording:
        """Return all events taken."""
        if not self._parts:
            self.take(Block((), (), b"", (), (), ()))
        line, process, kind, function, time = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        return Recording(
            name=str(self.source.path), line=line, process=process, type=kind, function=function, time=time,
            names=list(self._numbers), values=self._values, errors=self._errors, events=self.events, clock=self.clock,
        )  # fmt: skip


def _numbers(lines: Sequence[int]) -> Int:
    if isinstance(lines, range):
        return np.arange(lines.start, lines.stop, dtype=np.int64)
    return np.array(lines, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """The operations of a recording: the event that invoked each, in order, and the one that completed it, or -1."""

    invoke: Int
    complete: Int

    def __len__(self) -> int:
        return len(self.invoke)


def pair(recording: Recording) -> Pairs:
    """Pair invocations with completions. Raises `FormatError` where the events of a process contradict each other."""
    order = np.argsort(recording.process, kind="stable")
    process, kind = recording.process[order], recording.type[order]
    opens = kind == INVOKE
    follows = process[1:] == process[:-1]
    twice = np.flatnonzero(follows & opens[1:] & opens[:-1])
    if len(twice):
        at = twice[np.argmin(order[twice + 1])]
        first, second = int(order[at]), int(order[at + 1])
        raise recording.error(
            second,
            f"process {recording.process[second]} invokes {recording.f(second)} while its {recording.f(first)} of line "
            f"{recording.line[first]} is still open: a process has one operation at a time, so lines are missing, "
            "out of order or of another process",
        )
    done = np.flatnonzero(follows & opens[:-1] & ~opens[1:])
    complete = np.full(len(order), -1, dtype=np.int64)
    complete[order[done]] = order[done + 1]
    invoke = np.flatnonzero(recording.type == INVOKE)
    complete = complete[invoke]
    both = complete >= 0
    other = np.flatnonzero(recording.function[invoke[both]] != recording.function[complete[both]])
    if len(other):
        first, second = int(invoke[both][other[0]]), int(complete[both][other[0]])
        raise recording.error(
            second,
            f"completes {recording.f(second)}, but process {recording.process[second]} invoked {recording.f(first)} "
            f"in line {recording.line[first]}",
        )
    return Pairs(invoke, complete)


Result = tuple[str, Any, Any]
"""Outcome, argument and result of an operation, in the shapes of its model."""

Shape = Callable[[str, Any, int, Any, bool], Result]
"""Turns (f, invoked value, type of the completion, completed value, whether it carries an error) into a `Result`."""


class ShapeError(ValueError):
    """A value has not the shape that the model needs; `completed` tells which of the two events is at fault."""

    def __init__(self, reason: str, *, completed: bool) -> None:
        super().__init__(reason)
        self.completed = completed


class RecordedOperations(LazyOperations):
    """The operations of a recording."""

    def __init__(self, recording: Recording, pairs: Pairs, shape: Shape) -> None:
        self.recording = recording
        self.pairs = pairs
        self._shape = shape

    def __len__(self) -> int:
        return len(self.pairs)

    def made(self, place: int) -> Operation:
        return self._operation(int(self.pairs.invoke[place]), int(self.pairs.complete[place]), self.recording.values)

    def __iter__(self) -> Iterator[Operation]:
        pairs: Iterable[tuple[int, int]] = zip(self.pairs.invoke.tolist(), self.pairs.complete.tolist(), strict=True)
        values = self.recording.values.tolist()
        for invoke, complete in pairs:
            yield self._operation(invoke, complete, values)

    def _operation(self, invoke: int, complete: int, values: Values | list[Any]) -> Operation:
        found = self.recording
        f = found.names[found.function[invoke]]
        kind = int(found.type[complete]) if complete >= 0 else INFO
        answer = values[complete] if complete >= 0 else msgspec.UNSET
        try:
            outcome, argument, result = self._shape(f, values[invoke], kind, answer, complete in found.errors)
        except ShapeError as error:
            raise found.error(complete if error.completed and complete >= 0 else invoke, str(error)) from None
        except RecursionError:
            raise found.error(invoke, "a value is nested too deeply") from None
        returned = complete >= 0 and outcome != "info"
        return Operation(
            f=f,
            process=int(found.process[invoke]),
            invoked=invoke,
            returned=complete if returned else None,
            outcome=outcome,  # type: ignore[arg-type]
            argument=argument,
            result=result,
            invoked_line=int(found.line[invoke]),
            returned_line=int(found.line[complete]) if complete >= 0 else None,
            invoked_time=int(found.time[invoke]) if found.clock else None,
            returned_time=int(found.time[complete]) if found.clock and complete >= 0 else None,
        )
