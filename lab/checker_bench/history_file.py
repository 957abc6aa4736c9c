"""Writes generated columns as a compressed history in JSON lines, as a harness would have recorded it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import zstandard

from checkers.linearizability.operations import NEVER, NULL, Code, Operations

_NAMES: Final = {
    Code.ENQUEUE: "enqueue",
    Code.DEQUEUE: "dequeue",
    Code.EMPTY: "dequeue",
    Code.APPEND: "append",
    Code.LOG_READ: "read",
    Code.LOG_END: "read",
}
_BLOCK: Final = 10_000


def _values(ops: Operations) -> tuple[list[str], list[str]]:
    """Return the values at the invocation and at the completion of each row, as JSON."""
    assert ops.a is not None
    asked, answered = [], []
    offsets = [NULL] * len(ops) if ops.b is None else ops.b.tolist()
    for code, value, offset in zip(ops.f.tolist(), ops.a.tolist(), offsets, strict=True):
        shown = "null" if value == NULL else str(value)
        if code in (Code.ENQUEUE, Code.DEQUEUE, Code.EMPTY):
            asked.append(shown if code == Code.ENQUEUE else "null")
            answered.append("null" if code == Code.EMPTY else shown)
        else:
            asked.append(f"[null,{shown}]" if code == Code.APPEND else f"[{offset},null]")
            answered.append(f"[{offset},{'null' if code == Code.LOG_END else shown}]")
    return asked, answered


def write_history(ops: Operations, model: str, path: Path) -> int:
    """Write queue or log operations whose times are positions of events; return how many lines.

    Rows that never returned have no completion. Each operation has a process that no open operation has.
    """
    if model not in ("fifo-queue", "append-log"):
        raise ValueError(f"no shape for {model}")
    asked, answered = _values(ops)
    names = [_NAMES[Code(code)] for code in ops.f.tolist()]
    times = np.concatenate([ops.call, ops.ret])
    events = np.argsort(times, kind="stable")
    events = events[times[events] != NEVER]
    n, free, process = len(ops), list[int](), [0] * len(ops)
    fresh = 0
    lines: list[str] = []
    with path.open("wb") as file, zstandard.ZstdCompressor(level=3).stream_writer(file) as packed:
        for index, event in enumerate(events.tolist()):
            row, kind, value = (event, "invoke", asked) if event < n else (event - n, "ok", answered)
            if event < n:
                if not free:
                    free.append(fresh)
                    fresh += 1
                process[row] = free.pop()
            else:
                free.append(process[row])
            lines.append(
                f'{{"index":{index},"process":{process[row]},"type":"{kind}","f":"{names[row]}",'
                f'"value":{value[row]},"time":{index}}}\n'
            )
            if len(lines) == _BLOCK:
                packed.write("".join(lines).encode())
                lines.clear()
        packed.write("".join(lines).encode())
    return len(events)
