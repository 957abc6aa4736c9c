"""Judges of models that are always searched: strings by key, multi-registers, and models that users write."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from checkers.linearizability import window
from checkers.linearizability.compiled import core_for
from checkers.linearizability.decision import DEFAULT, Budget, Decision, Options
from checkers.linearizability.encoding import canonical, end, multi_register
from checkers.linearizability.judges import encoded
from checkers.linearizability.operations import Code, HistoryError, Int, Operation, Operations
from checkers.linearizability.searching import Answer, Search, Subset, Table, Task, limits, read_answer, table_search


class TextJudge:
    """kv-append: strings by key, which are got, put and appended to."""

    name = "kv-append"

    def decide(self, operations: Operations | Sequence[Operation], options: Options) -> Decision:
        """Search key by key; reads yet to come tell what a string may still be."""
        ops = encoded(self.name, operations, options.init)
        if ops.texts is None:
            raise HistoryError("kv-append needs its values as texts")
        init, budget = options.init, options.budget
        start: Any = "" if init is DEFAULT or init is None else init
        if isinstance(start, dict):
            start = {k if isinstance(k, str | int) else canonical(k): v for k, v in start.items()}
        if start != "" and not all(
            isinstance(v, str | None) for v in (start.values() if isinstance(start, dict) else [start])
        ):
            raise HistoryError(f"the initial state of kv-append is a string, or one a key, not {init!r}")
        if options.null_read == "unknown":
            ops = _without_null_reads(ops)
        core = core_for(options.engine)
        why = "appends make values depend on each other; each key is searched for itself"

        def search() -> Search:
            run = _TextRun(ops, ops.texts or [], ops.keys, start, core)
            return Search(
                model=self.name,
                ops=ops,
                task=Task(ops.call, ops.ret, None, None, lambda: np.asarray(ops.f == Code.READ), run.part_of),
                run=run,
                state=lambda state: state,
                budget=budget,
                why=why,
                engine="fallback" if core is None else "core",
                ahead=core is not None,
            )

        if core is None:
            return search().decide()
        answer = core.texts(ops.call, ops.ret, ops.f, ops.keys, ops.texts, start, *limits(budget), True, False)[0]
        return read_answer(answer, self.name, ops, why, "core", search)


def _without_null_reads(ops: Operations) -> Operations:
    assert ops.texts is not None
    kept = [i for i, text in enumerate(ops.texts) if text is not None or ops.f[i] != Code.READ]
    at = np.array(kept, dtype=np.int64)
    rows = range(len(ops)) if ops.row_source is None else ops.row_source
    return replace(
        ops,
        call=ops.call[at],
        ret=ops.ret[at],
        f=ops.f[at],
        texts=[ops.texts[i] for i in kept],
        keys=None if ops.keys is None else [ops.keys[i] for i in kept],
        row_source=[rows[i] for i in kept],
    )


class _TextRun:
    """Runs the search of strings, compiled or not; a part is a key, and tasks keep rows in their own order."""

    def __init__(self, ops: Operations, texts: list[str | None], keys: list[Any] | None, start: Any, core: Any) -> None:
        self.ops, self.texts, self.keys, self.start, self.core = ops, texts, keys, start, core

    def __call__(self, task: Task, budget: Budget, stop: bool, details: bool) -> Answer:
        rows = range(len(self.texts)) if not isinstance(task, Subset) else task.rows.tolist()  # type: ignore[union-attr]
        texts = [self.texts[r] for r in rows] if isinstance(task, Subset) else self.texts
        keys = self.keys if self.keys is None or not isinstance(task, Subset) else [self.keys[r] for r in rows]
        f = self.ops.f if not isinstance(task, Subset) else np.ascontiguousarray(self.ops.f[task.rows])
        if self.core is not None:
            answer, _ = self.core.texts(task.call, task.ret, f, keys, texts, self.start, *limits(budget), stop, details)
            return answer  # type: ignore[no-any-return]
        return self._fallback(task, f, texts, keys, budget, stop, details)

    def _fallback(
        self,
        task: Task,
        f: Any,
        texts: list[str | None],
        keys: list[Any] | None,
        budget: Budget,
        stop: bool,
        details: bool,
    ) -> Answer:
        numbers: dict[Any, int] = {}
        part = np.array([numbers.setdefault(k, len(numbers)) for k in keys or [None] * len(texts)], dtype=np.int64)
        rows = np.argsort(part, kind="stable")
        starts = np.searchsorted(part[rows], np.arange(max(len(numbers), 1) + 1)).astype(np.int64)
        classes: dict[tuple[int, str], int] = {}
        codes = f.tolist()
        number = np.array(
            [classes.setdefault((codes[r], texts[r] or ""), len(classes)) for r in rows.tolist()], dtype=np.int64
        )
        distinct = list(classes)

        def step(state: str, k: int) -> str | None:
            code, text = distinct[k]
            if code == Code.READ:
                return state if state == text else None
            return text if code == Code.WRITE else state + text

        table = Table(step)
        inits = [self._first(name) for name in numbers] or [""]
        verdicts, nodes, out_of, found = window.table(
            task.call[rows],
            task.ret[rows],
            number,
            (f[rows] == Code.READ).astype(np.uint8),
            starts,
            np.array([table.number(one) for one in inits], dtype=np.int64),
            table.next,
            None,
            *limits(budget),
            stop,
            details,
        )
        return verdicts, nodes, out_of, found and [_back(one, rows, table) for one in found]

    def part_of(self) -> Int:
        """Return the number of each row's key, keys in order of first sight."""
        numbers: dict[Any, int] = {}
        keys = self.keys or [None] * len(self.texts)
        return np.array([numbers.setdefault(k, len(numbers)) for k in keys], dtype=np.int64)

    def _first(self, key: Any) -> str:
        value = self.start.get(key) if isinstance(self.start, dict) else self.start
        return value or ""


def _back(detail: Any, rows: Int, table: Table) -> Any:
    """Name rows as before sorting, and states by their strings."""
    verdict, nodes, order, failed = detail
    if order is not None:
        order = rows[np.frombuffer(order, np.uint32)].astype(np.uint32).tobytes()
    if failed is not None:
        failing, good, count, last = failed
        shown = [(table.states[s], tuple(int(rows[r]) for r in opened)) for s, opened in last]
        failed = (int(rows[failing]), int(rows[good]) if good >= 0 else -1, count, shown)
    return verdict, nodes, order, failed


class MultiRegisterJudge:
    """multi-register: transactions of reads and writes over several registers."""

    name = "multi-register"

    def decide(self, operations: Operations | Sequence[Operation], options: Options) -> Decision:
        """Search; a state is the value of every register."""
        init = options.init
        ops = operations if isinstance(operations, Operations) else multi_register(operations, init)
        if ops.a is None or ops.names is None:
            raise HistoryError("multi-register needs transactions as names")
        start = {} if init is DEFAULT or init is None else init
        if not isinstance(start, dict):
            raise HistoryError(f"the initial state of multi-register is an object from register to value, not {init!r}")
        registers: dict[Any, int] = {}
        values: dict[Any, Any] = {}

        def place(key: Any) -> int:
            return registers.setdefault(canonical(key), len(registers))

        def value(one: Any) -> Any:
            known = canonical(one)
            values.setdefault(known, one)
            return known

        unknown = options.null_read == "unknown"
        programs = [
            [
                (step[0] == "write", place(step[1]), value(step[2]))
                for step in steps
                if step[0] == "write" or step[2] is not None or not unknown
            ]
            for steps in ops.names
        ]
        for key in start:
            place(key)
        null = value(None)
        first = [null] * len(registers)
        for key, one in start.items():
            first[place(key)] = value(one)

        def step(state: tuple[Any, ...], klass: int) -> tuple[Any, ...] | None:
            now = list(state)
            for write, at, wanted in programs[klass]:
                if write:
                    now[at] = wanted
                elif now[at] != wanted:
                    return None
            return tuple(now)

        pure = [not any(write for write, _, _ in programs[k]) for k in ops.a.tolist()]
        task = Task(ops.call, ops.ret, None, None, lambda: pure)
        search = table_search(
            self.name,
            ops,
            task,
            classes=ops.a,
            pure=pure,
            table=Table(step),
            inits=[tuple(first)],
            budget=options.budget,
            engine=options.engine,
            why="transactions over several registers are searched",
        )
        names = [key[1].decode() for key in registers]
        numbered = search.state
        search.state = lambda s: {names[i]: values[v] for i, v in enumerate(numbered(s))}
        return search.decide()


class UserJudge:
    """A model that a user wrote as a Python class."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.name = type(model).__name__

    def decide(self, operations: Operations | Sequence[Operation], options: Options) -> Decision:
        """Search; the model is asked once for each state and class of operations that meet."""
        if isinstance(operations, Operations):
            if operations.source is None:
                raise HistoryError("a model of your own needs operations as objects, not columns of numbers")
            operations = operations.source
        model = self.model
        index: Sequence[int] = [i for i, op in enumerate(operations) if op.outcome != "fail"]
        source = operations if len(index) == len(operations) else [operations[i] for i in index]
        ops = Operations(
            call=np.array([op.invoked for op in source], dtype=np.int64),
            ret=np.array([end(op) for op in source], dtype=np.int64),
            f=np.full(len(source), Code.TRANSACTION, dtype=np.uint8),
            source=operations,
            row_source=index,
        )
        if bool((ops.ret < ops.call).any()):
            raise HistoryError(f"row {int(np.argmax(ops.ret < ops.call))} returns before its call")
        call, ret, rows, at, starts = ops.call, ops.ret, source, None, None
        partition = getattr(model, "partition", None)
        if partition is not None:
            numbers: dict[Hashable, int] = {}
            part = np.array([numbers.setdefault(partition(op), len(numbers)) for op in source], dtype=np.int64)
            at = np.argsort(part, kind="stable")
            starts = np.searchsorted(part[at], np.arange(len(numbers) + 1)).astype(np.int64)
            call, ret, rows = call[at], ret[at], [source[i] for i in at.tolist()]
        classes, samples = _classes_of(rows)
        is_pure = getattr(model, "pure", None)
        flags = [bool(is_pure(op)) if is_pure is not None else False for op in samples]
        pure = [flags[k] for k in classes]
        task = Task(call, ret, at, starts, lambda: pure)
        parts = 1 if starts is None else len(starts) - 1
        search = table_search(
            self.name,
            ops,
            task,
            classes=np.array(classes, dtype=np.int64),
            pure=pure,
            table=_UserTable(model, samples),
            inits=[model.init()] * parts,
            budget=options.budget,
            engine=options.engine,
            why="a model of the user's own is searched" + ("" if parts == 1 else f", in {parts} parts"),
        )
        numbered = search.state
        search.state = lambda s: str(numbered(s))
        return search.decide()


class _UserTable(Table):
    """The transitions of a user's model. Any hashable value may be a state, None too."""

    def __init__(self, model: Any, samples: Sequence[Operation]) -> None:
        reach = getattr(model, "may_reach", None)
        super().__init__(model.step, None if reach is None else lambda state, k: bool(reach(state, samples[k])))
        self.samples = samples

    def next(self, state: int, klass: int) -> int:
        """Return the number of the next state, -1 if the operation is illegal."""
        legal, following = self.step(self.states[state], self.samples[klass])
        return self.number(following) if legal else -1


_AS_THEY_ARE: Final = frozenset({str, int, type(None)})
"""Types whose equal values are the same value; true is not 1."""


def _classes_of(rows: Sequence[Operation]) -> tuple[list[int], list[Operation]]:
    """Return the class of each operation, and an operation of each class.

    Of one class are operations of which the same was asked and answered, and whose outcome is known or not alike.
    """
    numbers: dict[Any, int] = {}
    classes: list[int] = []
    samples: list[Operation] = []
    for op in rows:
        argument, key = op.argument, op.key
        unknown = op.outcome == "info" or op.returned is None
        result = None if unknown else op.result
        number = numbers.setdefault(
            (
                op.f,
                argument if argument.__class__ in _AS_THEY_ARE else canonical(argument),
                result if result.__class__ in _AS_THEY_ARE else canonical(result),
                unknown,
                key if key.__class__ in _AS_THEY_ARE else canonical(key),
            ),
            len(samples),
        )
        if number == len(samples):
            samples.append(op)
        classes.append(number)
    return classes, samples
