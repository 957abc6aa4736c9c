"""The JSON-lines format: one event an object, one object a line, `index` counting the lines from 0.

Read a block of lines at a time: what is regular straight into columns, anything else into typed structures, never a
dict an event. What a block as a whole refuses is looked for line by line, so that a message can name the line.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import compress
from operator import attrgetter
from typing import Any, Final, Literal, TypeVar

import msgspec

from checkers.linearizability.formats.recording import NEMESIS, NUMBER_MAX, TYPE_NUMBER, Block, Recorder, Recording
from checkers.linearizability.formats.scan import SCAN, Scan
from checkers.linearizability.formats.source import FormatError, Source, not_utf8


class Line(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One line. `origin` is the index that the event had in the history which this one was cut from."""

    index: int
    process: int | str
    type: Literal["invoke", "ok", "fail", "info"]
    f: str
    value: Any = msgspec.UNSET
    time: int | None = None
    error: Any = None
    origin: int | None = None


class OpenLine(Line, gc=False, forbid_unknown_fields=False):
    """A line that may have members of which nothing is known."""


_INDEX, _PROCESS, _TYPE, _F = attrgetter("index"), attrgetter("process"), attrgetter("type"), attrgetter("f")
_VALUE, _TIME, _ERROR = attrgetter("value"), attrgetter("time"), attrgetter("error")

FIELDS: Final = tuple(field.name for field in msgspec.structs.fields(Line))

Decoded = TypeVar("Decoded")


def read(source: Source, *, unknown_fields: bool = False, scan: Scan | None = SCAN) -> Recording:
    """Read a history. `unknown_fields` ignores members that the format does not have instead of refusing them.

    `scan` takes the regular blocks; without one the decoder takes all, with the same result. Raises `FormatError` at
    the first line that is damaged or out of order.
    """
    kind = OpenLine if unknown_fields else Line
    decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(kind)
    recorder = Recorder(source)
    for first, count, block in source.blocks():
        scanned = scan(block, recorder.events, unknown_fields) if scan is not None else None
        if scanned is not None and scanned.events == count:
            recorder.take_scanned(scanned, first)
        else:
            lines, numbers = _decoded(source, first, count, block, decoder)
            recorder.take(_block(source, recorder, lines, numbers))
    return recorder.recording()


def decoded(
    source: Source, decoder: msgspec.json.Decoder[Decoded]
) -> Iterator[tuple[list[Decoded], range | list[int]]]:
    """Yield the lines of the file, decoded, with their numbers. Raises `FormatError` at the first that is damaged."""
    for first, count, block in source.blocks():
        yield _decoded(source, first, count, block, decoder)


def _decoded(
    source: Source, first: int, count: int, block: bytes, decoder: msgspec.json.Decoder[Decoded]
) -> tuple[list[Decoded], range | list[int]]:
    try:
        lines = decoder.decode_lines(block)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        lines = []
    return (lines, range(first, first + count)) if len(lines) == count else _one_by_one(source, first, block, decoder)


def _one_by_one(
    source: Source, first: int, block: bytes, decoder: msgspec.json.Decoder[Decoded]
) -> tuple[list[Decoded], list[int]]:
    found: list[Decoded] = []
    numbers: list[int] = []
    for number, line in enumerate(block.split(b"\n"), first):
        if not line.strip():
            continue
        try:
            found.append(decoder.decode(line))
        except UnicodeDecodeError:
            raise source.error(number, _utf8(line)) from None
        except RecursionError:
            raise source.error(number, "a value is nested too deeply") from None
        except msgspec.ValidationError as error:
            raise source.error(number, f"not an event of a history: {_plain(str(error))}") from None
        except msgspec.DecodeError as error:
            raise source.error(number, _no_json(line, str(error), last=not block.endswith(b"\n"))) from None
        numbers.append(number)
    return found, numbers


def _utf8(line: bytes) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return not_utf8(error)
    return "not UTF-8"


def _plain(reason: str) -> str:
    if reason.startswith("Object contains unknown field"):
        return f"{reason}; an event has {', '.join(FIELDS)}; --unknown-fields ignores others"
    return reason


def _no_json(line: bytes, reason: str, *, last: bool) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return not_utf8(error)
    if last and "truncated" in reason:
        return "the file ends in the middle of this line: it was cut short; copy it again"
    reason = reason.removeprefix("JSON is malformed: ")
    return f"not JSON ({reason}): each line of this format is one JSON object; --format names another format"


def _block(source: Source, recorder: Recorder, lines: list[Line], numbers: range | list[int]) -> Block:
    count = len(lines)
    indexes = list(map(_INDEX, lines))
    if indexes != list(range(recorder.events, recorder.events + count)):
        raise _disorder(source, recorder.events, indexes, numbers)
    recorder.events += count
    processes: list[Any] = list(map(_PROCESS, lines))
    if set(map(type, processes)) != {int}:
        for at, process in enumerate(processes):
            if process.__class__ is str and process != NEMESIS and not process.startswith("nemesis/"):
                raise source.error(numbers[at], f"the process is a whole number or {NEMESIS!r}, not {process!r}")
        clients = [process.__class__ is int for process in processes]
        lines = list(compress(lines, clients))
        numbers = list(compress(numbers, clients))
        processes = list(compress(processes, clients))
    kept = indexes if len(lines) == count else list(map(_INDEX, lines))
    times: list[Any] = list(map(_TIME, lines))
    if None in times:
        times = [index if time is None else time for index, time in zip(kept, times, strict=True)]
    recorder.clock = recorder.clock or times != kept
    errors = list(map(_ERROR, lines))
    block = Block(
        lines=numbers,
        processes=processes,
        types=bytes(map(TYPE_NUMBER.__getitem__, map(_TYPE, lines))),
        functions=list(map(_F, lines)),
        values=list(map(_VALUE, lines)),
        times=times,
        errors=() if errors.count(None) == len(errors) else [at for at, one in enumerate(errors) if one is not None],
    )
    for what, found in (("process", processes), ("time", times)):
        if found and not -NUMBER_MAX <= min(found) <= max(found) <= NUMBER_MAX:
            at = next(at for at, one in enumerate(found) if abs(one) > NUMBER_MAX)
            raise source.error(numbers[at], f"the {what} {found[at]} is out of range")
    return block


def _disorder(source: Source, expected: int, indexes: list[int], numbers: range | list[int]) -> FormatError:
    at, found = next((at, found) for at, found in enumerate(indexes) if found != expected + at)
    wanted = expected + at
    if 0 <= found < wanted:
        reason = f"index {found} for the second time: lines were repeated or are out of order"
    else:
        reason = f"index {found}, but {wanted} comes next: lines are missing or out of order"
    return source.error(numbers[at], f"{reason}; the index counts all lines from 0 and is the order of events")
