"""Positions of calls and returns in the order of time, and names of operations in sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from checkers.linearizability.operations import NEVER, Code, Int, Operations

_WORDS: Final = {
    Code.READ: "read",
    Code.WRITE: "write",
    Code.CAS: "compare-and-set",
    Code.CAS_FAILED: "failed compare-and-set",
    Code.APPEND: "append",
    Code.ENQUEUE: "enqueue",
    Code.DEQUEUE: "dequeue",
    Code.EMPTY: "dequeue that found nothing",
    Code.LOG_READ: "read",
    Code.LOG_END: "read that found the end",
    Code.ADD: "add",
    Code.SET_READ: "read of all members",
    Code.DRAIN: "drain",
    Code.TRANSACTION: "transaction",
}


@dataclass(frozen=True, slots=True, eq=False)
class Ranks:
    """Positions from 0 of every call and return; an operation that never returned has position `count`."""

    call: Int
    ret: Int
    count: int


def rank(call: Int, ret: Int) -> Ranks:
    """Order events by time, calls before returns of the same time. O(n) for distinct times of a narrow range."""
    n = len(call)
    closed = np.flatnonzero(ret != NEVER)
    m = n + len(closed)
    out = np.full(n, m, dtype=np.int64)
    if n == 0:
        return Ranks(out, out, 0)
    times = np.concatenate([call, ret[closed]])
    low, high = int(times.min()), int(times.max())
    if high - low < 4 * n + 1024:
        used = np.bincount(times - low)
        if int(used.max()) == 1:
            place = np.cumsum(used) - 1
            out[closed] = place[ret[closed] - low]
            return Ranks(place[call - low], out, m)
    # on a tie calls win because they stand first and the sort is stable
    position = np.empty(m, dtype=np.int64)
    position[np.argsort(times, kind="stable")] = np.arange(m)
    out[closed] = position[n:]
    return Ranks(position[:n], out, m)


def spoken(value: Any) -> str:
    """Return a value as it stands in a report."""
    text = value if isinstance(value, str) and value.isprintable() and value else msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."


def _moment(time: int | None, clock: int | None, line: int | None) -> str:
    if time is None or time == NEVER:
        return "never"
    place = f"line {line}" if line is not None else str(time)
    return place if clock is None else f"{place}, {clock / 1e9:.6f} s"


def called(ops: Operations, row: int) -> str:
    """Return when an operation was called."""
    op = ops.operation(row)
    return _moment(int(ops.call[row]), op.invoked_time if op else None, op.invoked_line if op else None)


def returned(ops: Operations, row: int) -> str:
    """Return when an operation returned."""
    op = ops.operation(row)
    return _moment(int(ops.ret[row]), op.returned_time if op else None, op.returned_line if op else None)


def named(ops: Operations, row: int) -> str:
    """Return an operation as words: what it did, with which value, by whom."""
    op = ops.operation(row)
    what = _WORDS[Code(int(ops.f[row]))]
    if op is not None:
        if op.f in ("acquire", "release") or (ops.f[row] == Code.TRANSACTION and op.f != "txn"):
            what = op.f  # a mutex is decided as a register, and a model of one's own has names of its own
        shown = op.argument if op.result is None or op.result is True else op.result
        value = "" if shown is None else f" of {spoken(shown)}"
        return f"{what}{value} by process {op.process}" + (f" on {op.node}" if op.node else "")
    value = "" if ops.a is None else f" of {spoken(ops.value(int(ops.a[row])))}"
    if ops.texts is not None:
        value = f" of {spoken(ops.texts[row])}"
    offset = f" at {int(ops.b[row])}" if ops.b is not None and Code(int(ops.f[row])) in _OFFSET else ""
    return f"{what}{value}{offset} (row {row})"


_OFFSET: Final = {Code.APPEND, Code.LOG_READ, Code.LOG_END}
