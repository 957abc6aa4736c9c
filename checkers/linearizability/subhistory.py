"""A part of a history as a history of its own: written in the JSON-lines format, which the checker reads again."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from checkers.linearizability.operations import Operation

_INVOKE: Final = 0
_CLOSE: Final = 1
_ECHOED: Final = ("write", "enqueue", "cas", "add", "put", "append")


def frozen(value: Any) -> Hashable:
    """Return a hashable stand-in for a JSON value; true is not 1."""
    if value.__class__ is str or value is None:
        return value
    if value.__class__ in (int, float):
        return ("number", value)
    return ("json", json.dumps(value, sort_keys=True))


def cut(operations: Iterable[Operation], event: int) -> list[Operation]:
    """Return what was known just after an event: later operations are gone, those that were open are unknown.

    Histories are closed under prefixes: if the whole is linearizable, so is this.
    """
    return [
        one if one.returned is None or one.returned <= event else opened(one)
        for one in operations
        if one.invoked <= event
    ]


def opened(operation: Operation) -> Operation:
    """Return an operation without its completion."""
    return Operation(
        f=operation.f, process=operation.process, invoked=operation.invoked, returned=None, outcome="info",
        argument=operation.argument, result=None, key=operation.key, node=operation.node,
        invoked_line=operation.invoked_line, returned_line=None, invoked_time=operation.invoked_time,
    )  # fmt: skip


def _answer(operation: Operation, own_model: bool) -> Any:
    result = operation.result
    if own_model or operation.f not in _ECHOED:
        return result
    if result is False:
        return False
    return operation.argument if result is None or result is True else result


def lines(operations: Sequence[Operation], *, own_model: bool = False) -> list[dict[str, Any]]:
    """Return the events of operations in the JSON-lines format, numbered anew; `origin` is the index they came from.

    Events keep their order. Failed operations are left out. An unknown operation is closed as `info` where its process
    goes on, and otherwise left open. `own_model`: the values are written as a user's own model gets them.
    """
    numbers = _process_numbers(operations)
    events: list[tuple[int, int, int, Operation]] = []
    for place, one in enumerate(operations):
        if one.outcome == "fail":
            continue
        events.append((one.invoked, _INVOKE, place, one))
        if one.returned is not None and one.outcome == "ok":
            events.append((one.returned, _CLOSE, place, one))
    # Where two events carry one time the invocation comes first: the operations are concurrent.
    events.sort(key=lambda event: event[:3])
    written: list[dict[str, Any]] = []
    open_now: dict[int, Operation] = {}

    def write(kind: str, one: Operation, process: int, value: Any, line: int | None, time: int | None) -> None:
        event = {"index": len(written), "process": process, "type": kind, "f": one.f, "value": value}
        event["time"] = len(written) if time is None else time
        if line is not None:
            event["origin"] = line - 1
        written.append(event)

    for _, side, place, one in events:
        process = numbers[place]
        if side == _INVOKE:
            if (before := open_now.pop(process, None)) is not None:
                write("info", before, process, None, before.returned_line, None)
            open_now[process] = one
            write("invoke", one, process, one.argument, one.invoked_line, one.invoked_time)
        else:
            open_now.pop(process, None)
            write("ok", one, process, _answer(one, own_model), one.returned_line, one.returned_time)
    return written


def _process_numbers(operations: Sequence[Operation]) -> list[int]:
    """A number for the process of each operation: its own, unless it is no number or has two of them open at once."""
    whole = [one.process for one in operations if isinstance(one.process, int)]
    fresh = max(whole, default=-1) + 1
    named: dict[int | str, int] = {}
    busy: dict[int, int | None] = {}
    numbers = [0] * len(operations)
    for place in sorted(range(len(operations)), key=lambda place: operations[place].invoked):
        one = operations[place]
        if isinstance(one.process, int):
            number = one.process
        else:
            if one.process not in named:
                named[one.process], fresh = fresh, fresh + 1
            number = named[one.process]
        until = busy.get(number, -1)
        if until is not None and until >= one.invoked:
            number, fresh = fresh, fresh + 1
        numbers[place] = number
        busy[number] = one.returned if one.outcome == "ok" and one.returned is not None else -1
    return numbers


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as JSON lines. Raises OSError."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)


def linearization_rows(order: Sequence[int], operation: Callable[[int], Operation | None]) -> list[dict[str, Any]]:
    """Return the operations of a legal order, one row each, as `lab check --emit-linearization` writes them."""
    rows: list[dict[str, Any]] = []
    for row in order:
        one = operation(row)
        if one is None:
            rows.append({"row": row})
            continue
        rows.append(
            {
                "f": one.f,
                "process": one.process,
                "key": one.key,
                "argument": one.argument,
                "result": one.result,
                "outcome": one.outcome,
                "invoked_line": one.invoked_line,
                "returned_line": one.returned_line,
            }
        )
    return rows
