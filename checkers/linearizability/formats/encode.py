"""Recorded events straight to the engine's columns, without an object an operation: queues and logs of any length.

Only what is regular takes this way: whole numbers or strings as values, each value in its place. Anything else returns
None, and the operations are made and checked one by one, which also finds the words for what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from checkers.linearizability.formats.recording import FAIL, INFO, OK, RecordedOperations
from checkers.linearizability.formats.values import Column
from checkers.linearizability.operations import NEVER, NULL, Code, Int, Mask, Operations


class _Irregular(Exception):
    """Not for this way."""


def encode(operations: RecordedOperations, model: str | None) -> Operations | None:
    """Return the columns of a fifo-queue's or append-log's operations; None where they are irregular."""
    encoders: dict[str, type[_Queue] | type[_Log]] = {"fifo-queue": _Queue, "append-log": _Log}
    encoder = encoders.get(model or "")
    if encoder is None:
        return None
    try:
        return encoder(operations).columns()
    except _Irregular:
        return None


def _insist(good: bool | np.bool_) -> None:
    if not good:
        raise _Irregular


class _Rows:
    """The operations as rows: their events, their outcome, and which of two names they have."""

    names: tuple[str, str]

    def __init__(self, operations: RecordedOperations) -> None:
        recording = operations.recording
        self.operations = operations
        self.values = recording.values
        self.invoke = operations.pairs.invoke
        self.complete = operations.pairs.complete
        _insist(set(recording.names) <= set(self.names))
        number = {name: place for place, name in enumerate(recording.names)}
        self.writes: Mask = recording.function[self.invoke] == number.get(self.names[0], -1)
        self.outcome: Int = np.where(self.complete >= 0, recording.type[self.complete], INFO)
        self.ok: Mask = self.outcome == OK
        self.unknown: Mask = self.outcome == INFO

    def both(self, column: Column) -> tuple[Int, Int]:
        """Return a column's numbers at the invocations and at the completions, `NULL` where nothing completed."""
        _insist(column.kind != "plain")
        answered = np.where(self.complete >= 0, column.ids[self.complete], NULL)
        return column.ids[self.invoke], answered

    def rows(
        self, kept: Mask, code: npt.NDArray[np.uint8], a: Int, b: Int | None, names: Sequence[Any] | None
    ) -> Operations:
        """Return the columns of the kept rows."""
        ret = np.where(self.unknown, NEVER, self.complete)
        return Operations(
            call=self.invoke[kept],
            ret=ret[kept],
            f=code[kept],
            a=a[kept],
            b=None if b is None else b[kept],
            names=names,
            source=self.operations,
            row_source=np.flatnonzero(kept),  # type: ignore[arg-type]
        )


class _Queue(_Rows):
    names = ("enqueue", "dequeue")

    def columns(self) -> Operations:
        """Return the columns."""
        _insist(not self.values.pairs)
        asked, answered = self.both(self.values.one)
        puts, takes = self.writes, ~self.writes
        _insist((asked[takes] == NULL).all() and (asked[puts] != NULL).all())
        _insist((answered[takes & self.unknown] == NULL).all())
        done = puts & self.ok
        _insist(((answered[done] == NULL) | (answered[done] == asked[done])).all())
        code = np.where(puts, int(Code.ENQUEUE), int(Code.DEQUEUE)).astype(np.uint8)
        code[takes & self.ok & (answered == NULL)] = Code.EMPTY
        return self.rows(self.outcome != FAIL, code, np.where(puts, asked, answered), None, self.values.one.names)


class _Log(_Rows):
    names = ("append", "read")

    def columns(self) -> Operations:
        """Return the columns."""
        _insist(self.values.pairs and self.values.first.kind != "texts")
        _insist(self.values.nothing.isdisjoint(self.invoke.tolist() if self.values.nothing else ()))
        asked_at, at = self.both(self.values.first)
        asked, seen = self.both(self.values.second)
        puts, reads, ok = self.writes, ~self.writes, self.ok
        _insist((asked_at[puts] == NULL).all() and (asked[puts] != NULL).all())
        _insist((asked[reads] == NULL).all() and ((asked_at[reads] >= 0) & (asked_at[reads] < NEVER)).all())
        unknown = puts & self.unknown
        _insist((at[unknown] == NULL).all() and ((seen[unknown] == NULL) | (seen[unknown] == asked[unknown])).all())
        put, read = puts & ok, reads & ok
        _insist(((at[put] >= 0) & (at[put] < NEVER)).all() and (seen[put] == asked[put]).all())
        _insist((at[read] == asked_at[read]).all())
        code = np.where(puts, int(Code.APPEND), int(Code.LOG_READ)).astype(np.uint8)
        code[read & (seen == NULL)] = Code.LOG_END
        a = np.where(puts, asked, seen)
        b = np.where(unknown, NULL, at)
        return self.rows((self.outcome != FAIL) & (puts | ok), code, a, b, self.values.second.names)
