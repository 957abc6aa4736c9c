"""The judges of the built-in models: each checks what its fast method needs and says which method it used and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from checkers.linearizability import logs, members, schedule, steps
from checkers.linearizability.compiled import core_for
from checkers.linearizability.decision import (
    Budget,
    Decision,
    Engine,
    Explanation,
    Options,
)
from checkers.linearizability.encoding import ENCODERS, canonical, initial_list
from checkers.linearizability.operations import NULL, Code, HistoryError, Int, Operation, Operations
from checkers.linearizability.searching import Table, Task, table_search
from checkers.verdict import Validity


def encoded(name: str, operations: Operations | Sequence[Operation], init: Any) -> Operations:
    """Return columns: those given (with an initial list put before them), or those made from operations."""
    if not isinstance(operations, Operations):
        return ENCODERS[name](operations, init)
    values = initial_list(init, name) if name in ("append-log", "fifo-queue", "set", "total-queue") else []
    return _prepended(operations, values, name) if values else operations


def identity(ops: Operations, value: Any) -> tuple[Operations, int]:
    """Return the number of a value among an operation's ids, and the operations with the value named."""
    if value is None:
        return ops, NULL
    if ops.names is None:
        if value.__class__ is not int:
            raise HistoryError(f"the values are numbers, the initial state is {value!r}")
        return ops, int(value)
    wanted = canonical(value)
    for number, name in enumerate(ops.names):
        if name == value and canonical(name) == wanted:
            return ops, number
    return replace(ops, names=[*ops.names, value]), len(ops.names)


def _prepended(ops: Operations, values: Sequence[Any], name: str) -> Operations:
    """Put rows before all others that make the initial contents."""
    numbers = []
    for value in values:
        ops, number = identity(ops, value)
        numbers.append(number)
    k, n = len(values), len(ops)
    at = (int(ops.call.min()) if n else 0) - 2 * k + 2 * np.arange(k)
    code = {"append-log": Code.APPEND, "set": Code.ADD}.get(name, Code.ENQUEUE)
    assert ops.a is not None
    source = None
    if ops.source is not None:
        first = [
            Operation(f=code.name.lower(), process="initial state", invoked=int(t), argument=v)
            for t, v in zip(at, values, strict=True)
        ]
        rows = range(n) if ops.row_source is None else ops.row_source
        source = first + [ops.source[int(row)] for row in rows]
    return replace(
        ops,
        call=np.concatenate([at, ops.call]),
        ret=np.concatenate([at + 1, ops.ret]),
        f=np.concatenate([np.full(k, code, np.uint8), ops.f]),
        a=np.concatenate([np.array(numbers, np.int64), ops.a]),
        b=np.concatenate([np.arange(k), ops.b]) if ops.b is not None else None,
        item_start=None if ops.item_start is None else np.concatenate([np.zeros(k, np.int64), ops.item_start]),
        source=source,
        row_source=None,
    )


def linear(
    name: str,
    ops: Operations,
    counts: dict[str, int],
    *,
    method: str,
    why: str,
    engine: str,
    explain: Callable[[], Explanation],
    order: Callable[[], tuple[int, ...]] | None,
    metrics: dict[str, int] | None = None,
) -> Decision:
    return Decision(
        model=name,
        validity=Validity.INVALID if counts else Validity.VALID,
        method=method,
        why=why,
        engine=engine,
        operations=ops,
        counts=counts,
        metrics=metrics or {},
        explain=explain,
        order=order,
    )


def named_counts(names: Sequence[str], found: Sequence[int]) -> dict[str, int]:
    return {name: count for name, count in zip(names, found, strict=True) if count}


def classes_of(ops: Operations) -> tuple[Int, list[tuple[int, int, int]]]:
    """Number the distinct (code, a, b)."""
    a = np.full(len(ops), NULL) if ops.a is None else ops.a
    b = np.full(len(ops), NULL) if ops.b is None else ops.b
    triples = np.stack([ops.f.astype(np.int64), a, b], axis=1) if len(ops) else np.zeros((0, 3), np.int64)
    distinct, number = np.unique(triples, axis=0, return_inverse=True)
    return number.reshape(-1).astype(np.int64), [(int(f), int(x), int(y)) for f, x, y in distinct.tolist()]


def columns_search(
    name: str, ops: Operations, step: steps.Stepper, init: Any, budget: Budget, engine: Engine, why: str
) -> Decision:
    """Search rows of columns with a step in Python."""
    numbers, distinct = classes_of(ops)
    pure = [steps.is_pure(*distinct[k]) for k in numbers.tolist()]
    table = Table(lambda state, k: step(state, *distinct[k]))
    task = Task(ops.call, ops.ret, None, None, lambda: pure)
    return table_search(
        name, ops, task, classes=numbers, pure=pure, table=table, inits=[init], budget=budget, engine=engine, why=why
    ).decide()


class LogJudge:
    """append-log."""

    name = "append-log"

    def decide(self, operations: Operations | Sequence[Operation], options: Options) -> Decision:
        """Decide by offsets, or by search where values of appends of unknown outcome repeat."""
        ops = encoded(self.name, operations, options.init)
        core = core_for(options.engine)
        if core is None:
            found = logs.sweep(ops)
            counts, ambiguous, filled = found.counts, found.ambiguous, found.filled
        else:
            numbers = core.log(ops.call, ops.ret, ops.f, ops.a, ops.b)
            ambiguous = numbers is None
            counts = {} if ambiguous else named_counts(logs.CLASSES, numbers[: len(logs.CLASSES)])
            filled = 0 if ambiguous else numbers[-1]
        if ambiguous:
            why = "the place of some append cannot be told: its offset is unknown and its value not unique"
            return columns_search(self.name, ops, steps.log, (), options.budget, options.engine, why)
        return linear(
            self.name,
            ops,
            counts,
            method="offsets against real time (append log, linear time)",
            why="every append has an offset, or a value by which it can be told from others of unknown outcome",
            engine="fallback" if core is None else "core",
            explain=lambda: Explanation(logs.witnesses(logs.sweep(ops))),
            order=lambda: schedule.log_order(logs.sweep(ops)),
            metrics={"filled holes": filled},
        )


class SetJudge:
    """set."""

    name = "set"

    def decide(self, operations: Operations | Sequence[Operation], options: Options) -> Decision:
        """Decide by the chain that reads must form."""
        ops = encoded(self.name, operations, options.init)
        found = members.sweep(ops)
        return linear(
            self.name,
            ops,
            found.counts,
            method="chain of reads (set, linear time)",
            why="members are only added, so reads are ordered by what they show",
            engine="fallback" if core_for(options.engine) is None else "core",
            explain=lambda: Explanation(members.witnesses(found)),
            order=lambda: schedule.set_order(found),
        )
