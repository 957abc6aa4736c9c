"""Judges of registers, one or one a key, with compare-and-set or without, and of the mutex, which is one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from checkers.linearizability import schedule, steps, window, zones
from checkers.linearizability.compiled import core_for
from checkers.linearizability.decision import (
    DEFAULT,
    Budget,
    Decision,
    Engine,
    Explanation,
    Options,
)
from checkers.linearizability.encoding import canonical
from checkers.linearizability.judges import classes_of, encoded, identity, linear, named_counts
from checkers.linearizability.operations import NULL, Code, Int, Mask, Operation, Operations
from checkers.linearizability.searching import Answer, Search, Subset, Table, Task, limits, merged, pick, read_answer
from checkers.verdict import Validity

_CAS: Final = int(Code.CAS)
"""A constant, and `reduce` for `max`, as the question is asked of every short history and shows there."""

_HELD: Final = {True: "held", False: "free"}
"""What the states of a mutex are called in reports."""


class RegisterJudge:
    """register, cas-register, kv and mutex."""

    def __init__(self, name: str) -> None:
        self.name = name

    def decide(self, operations: Operations | Sequence[Operation], options: Options) -> Decision:
        """Decide by zones where writes are unique and nothing compares, else by search, key by key."""
        ops = encoded(self.name, operations, options.init)
        start: Any = (False if self.name == "mutex" else None) if options.init is DEFAULT else options.init
        inits: dict[Any, int] = {}
        if self.name == "kv" and isinstance(start, dict):
            for key, value in start.items():
                ops, number = identity(ops, value)
                inits[canonical(key)] = number
            start = None
        if self.name == "mutex" and start is None:
            start = False
        ops, first = identity(ops, start)
        unknown = options.null_read == "unknown"
        if self.name == "mutex" or (len(ops) and np.maximum.reduce(ops.f) >= _CAS):
            why = "a mutex is searched" if self.name == "mutex" else "there are compare-and-set operations"
            return _one_register(self.name, ops, first, unknown, options.budget, options.engine, why)
        if inits:
            return self._by_key(
                ops, first, inits, unknown, options.budget, options.engine, np.ones(len(ops), dtype=bool), {}
            )
        core = core_for(options.engine)
        if core is None:
            swept = zones.sweep(ops, first, null_unknown=unknown)
            counts = swept.counts
            ambiguous = swept.ambiguous if bool(swept.ambiguous.any()) else None
        else:
            numbers, marks = core.zones(ops.call, ops.ret, ops.f, ops.a, ops.key, first, unknown)
            counts = named_counts(zones.CLASSES, numbers)
            ambiguous = None if marks is None else np.frombuffer(marks, np.bool_)
        if ambiguous is None:
            return self._zones(ops, first, unknown, counts, core is not None)
        return self._by_key(ops, first, inits, unknown, options.budget, options.engine, ambiguous, counts)

    def _zones(self, ops: Operations, first: int, unknown: bool, counts: dict[str, int], compiled: bool) -> Decision:
        def swept() -> zones.Zones:
            return zones.sweep(ops, first, null_unknown=unknown)

        def order() -> tuple[int, ...]:
            return merged(ops, schedule.zone_orders(swept()))

        return linear(
            self.name,
            ops,
            counts,
            method="zones of values (unique writes, linear time)",
            why="every value was written once" + (" a key" if ops.key is not None else ""),
            engine="core" if compiled else "fallback",
            explain=lambda: Explanation(zones.witnesses(swept())),
            order=order,
        )

    def _by_key(
        self,
        ops: Operations,
        first: int,
        inits: dict[Any, int],
        unknown: bool,
        budget: Budget,
        engine: Engine,
        ambiguous: Any,
        counts: dict[str, int],
    ) -> Decision:
        """Search the keys whose writes are not unique; the others were decided by their zones."""
        rows = np.flatnonzero(ambiguous)
        key = np.zeros(len(rows), np.int64) if ops.key is None else ops.key[rows]
        rows = rows[np.argsort(key, kind="stable")]
        key = np.sort(key, kind="stable")
        begins = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])) if len(key) else np.zeros(0, np.int64)
        starts = np.concatenate([begins, [len(rows)]]).astype(np.int64)
        firsts = [first] * len(begins)
        if inits:
            names = [ops.keys[k] if ops.keys is not None else k for k in key[begins].tolist()]
            firsts = [inits.get(canonical(name), NULL) for name in names]
        why = "some value was written more than once" + (f" in {len(begins)} keys" if ops.key is not None else "")
        if inits:
            why = "keys begin with values of their own"
        search = register_search(self.name, ops, (rows, starts), firsts, unknown, budget, engine, why)
        decision = search.decide()
        if bool(np.asarray(ambiguous).all()):
            return decision
        both = {**counts, **decision.counts}
        searched = decision.explain

        def explain() -> Explanation:
            found = zones.witnesses(zones.sweep(ops, first, null_unknown=unknown))
            more = searched() if searched is not None and decision.counts else Explanation()
            return Explanation(found + more.witnesses, more.prefix)

        def order() -> tuple[int, ...]:
            zoned = zones.sweep(ops, first, null_unknown=unknown)
            return merged(ops, schedule.zone_orders(zoned) + search.orders())

        return replace(
            decision,
            validity=Validity.INVALID if both else decision.validity,
            counts=both,
            method="zones of values where writes are unique, search of the other keys",
            decided=1 - (1 - decision.coverage) * len(rows) / max(len(ops), 1),
            explain=explain,
            order=order,
        )


def _one_register(
    name: str, ops: Operations, first: int, unknown: bool, budget: Budget, engine: Engine, why: str
) -> Decision:
    """Search one register. Histories are often short, so little is done here before the core is called."""

    def search() -> Search:
        return register_search(name, ops, None, [first], unknown, budget, engine, why)

    core = core_for(engine)
    if core is None or unknown:
        return search().decide()
    answer = core.registers(ops.call, ops.ret, ops.f, ops.a, ops.b, None, first, False, *limits(budget), True, False)
    return read_answer(answer, name, ops, why, "core", search)


def register_search(
    name: str,
    ops: Operations,
    parts: tuple[Int, Int] | None,
    inits: Sequence[int],
    null_unknown: bool,
    budget: Budget,
    engine: Engine,
    why: str,
) -> Search:
    """Search registers. `parts`: (rows sorted by part, bounds of the parts); None: all rows are one register."""
    core = core_for(engine)
    rows, starts = (None, None) if parts is None else parts
    if null_unknown:
        assert ops.a is not None
        rows = np.arange(len(ops)) if rows is None else rows
        kept = ~((ops.f[rows] == Code.READ) & (ops.a[rows] == NULL))
        if starts is not None:
            starts = np.concatenate([[0], np.cumsum(kept)])[starts]
        rows = rows[kept]

    def column(of: Any) -> Any:
        return of if rows is None or of is None else np.ascontiguousarray(of[rows])

    f, a, b = column(ops.f), column(ops.a), column(ops.b)
    firsts = np.array(inits, dtype=np.int64)
    whole_starts: Any = starts

    def is_pure() -> Mask:
        same = (f == Code.CAS) & (a == b) if b is not None else False
        return np.asarray((f == Code.READ) | (f == Code.CAS_FAILED) | same)

    task = Task(column(ops.call), column(ops.ret), rows, starts, is_pure)

    def start_of(task: Task) -> Int:
        if isinstance(task, Subset) and len(firsts) > 1:
            part = int(np.searchsorted(whole_starts, task.first, side="right")) - 1
            return firsts[part : part + 1]
        return firsts

    def run(task: Task, budget: Budget, stop: bool, details: bool) -> Answer:
        first = start_of(task)
        if core is not None:
            answer: Answer = core.registers(
                task.call,
                task.ret,
                pick(f, task),
                pick(a, task),
                None if b is None else pick(b, task),
                task.starts,
                first if len(first) != 1 else int(first[0]),
                False,
                *limits(budget),
                stop,
                details,
            )
            return answer
        zeros = np.zeros(len(f), np.int64)
        numbers, distinct = classes_of(
            replace(
                ops,
                call=task.call,
                ret=task.ret,
                f=pick(f, task),
                a=pick(a, task),
                b=pick(zeros if b is None else b, task),
                key=None,
            )
        )
        table = Table(lambda state, k: steps.register(state, *distinct[k]))
        starting = np.array([table.number(int(value)) for value in first], dtype=np.int64)
        verdicts, nodes, out_of, found = window.table(
            task.call,
            task.ret,
            numbers,
            np.asarray(pick(np.asarray(is_pure()), task), dtype=np.uint8),
            task.starts,
            starting,
            table.next,
            None,
            *limits(budget),
            stop,
            details,
        )
        return verdicts, nodes, out_of, found and [_states(one, table) for one in found]

    return Search(
        model=name,
        ops=ops,
        task=task,
        run=run,
        state=lambda number: _HELD.get(ops.value(number), "?") if name == "mutex" else ops.value(number),
        budget=budget,
        why=why,
        engine="fallback" if core is None else "core",
        ahead=core is not None,
    )


def _states(detail: Any, table: Table) -> Any:
    """Put states in place of their numbers."""
    if detail[3] is None:
        return detail
    failing, good, count, last = detail[3]
    return (*detail[:3], (failing, good, count, [(table.states[s], rows) for s, rows in last]))
