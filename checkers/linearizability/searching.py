"""Deciding by search: hands rows to the compiled search or to the one in Python, and reads their answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from checkers.linearizability import window
from checkers.linearizability.compiled import core_for
from checkers.linearizability.decision import (
    Budget,
    Configuration,
    Decision,
    Engine,
    Explanation,
    Prefix,
    Witness,
)
from checkers.linearizability.operations import NEVER, Int, Mask, Operations
from checkers.linearizability.order import called, named, returned, spoken
from checkers.verdict import Validity

_RAN_OUT: Final = ("", "time", "memory", "configurations")
_SHRINK_MAX: Final = 400
"""Failing prefixes up to this long are shrunk to the operations that matter."""

Answer = tuple[bytes, int, int, list[Any] | None]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Rows to search: parts are ranges of rows, `starts` has one bound more than there are parts (None: one part).

    `rows` says which row of the caller each row is. `names` says in words what each part is.
    """

    call: Int
    ret: Int
    rows: Int | None
    starts: Int | None
    pure: Callable[[], Sequence[bool] | Mask]
    part_of: Callable[[], Int] | None = None

    def members(self, part: int) -> Int:
        """Return the rows of a part."""
        if self.part_of is not None:
            return np.flatnonzero(self.part_of() == part)
        return np.arange(*((0, len(self.call)) if self.starts is None else self.starts[part : part + 2].tolist()))

    @property
    def sizes(self) -> Int:
        """Return how many rows each part has."""
        if self.part_of is not None:
            return np.bincount(self.part_of())
        return np.array([len(self.call)]) if self.starts is None else np.diff(self.starts)


def limits(budget: Budget) -> tuple[int, int, int]:
    """Return (configurations, milliseconds, megabytes), 0 for no limit."""
    return budget.nodes or 0, budget.wall_ms or 0, budget.memory_mb or 0


@dataclass(slots=True, eq=False)
class Table:
    """A model as a table of transitions that is filled on demand: states and classes of operations are numbers."""

    step: Callable[[Any, Any], Any]
    reach: Callable[[Any, int], bool] | None = None
    states: list[Any] = field(default_factory=list)
    _numbers: dict[Any, int] = field(default_factory=dict)

    def number(self, state: Any) -> int:
        """Return the number of a state."""
        known = self._numbers.get(state)
        if known is None:
            known = self._numbers[state] = len(self.states)
            self.states.append(state)
        return known

    def next(self, state: int, klass: int) -> int:
        """Return the number of the next state, -1 if the operation is illegal."""
        found = self.step(self.states[state], klass)
        return -1 if found is None else self.number(found)

    def may_reach(self, state: int, klass: int) -> int:
        """Return 0 if operations of a class can never become legal."""
        assert self.reach is not None
        return int(self.reach(self.states[state], klass))


def merged(ops: Operations, orders: Sequence[Int]) -> tuple[int, ...]:
    """Merge legal orders of independent parts into one that agrees with real time.

    An operation takes effect as early as its part's order allows: at the latest call up to it.
    """
    if len(orders) == 1:
        return tuple(orders[0].tolist())
    rows = np.concatenate(orders) if orders else np.zeros(0, np.int64)
    times = np.concatenate([np.maximum.accumulate(ops.call[o]) if len(o) else o for o in orders]) if orders else rows
    return tuple(rows[np.argsort(times, kind="stable")].tolist())


def read_answer(
    answer: Answer, model: str, ops: Operations, why: str, engine: str, search: Callable[[], Search]
) -> Decision:
    """Return the decision that an answer means; `search` is made when more than the verdict is asked for."""
    verdicts, nodes, out_of, _ = answer
    bad, undecided = verdicts.count(window.INVALID), verdicts.count(window.UNDECIDED)
    reasons: tuple[str, ...] = ()

    def decided() -> float:
        task = search().task
        return float(task.sizes[np.frombuffer(verdicts, np.uint8) > 0].sum()) / max(len(task.call), 1)

    validity = Validity.INVALID if bad else Validity.UNKNOWN if undecided else Validity.VALID
    if validity is Validity.UNKNOWN:
        spent = f"the budget of {_RAN_OUT[out_of]} was used up after {nodes} configurations"
        reasons = (f"{spent} with {undecided} of {len(verdicts)} parts undecided",)
    return Decision(
        model=model,
        validity=validity,
        method="search of the concurrency window",
        why=why,
        engine=engine,
        operations=ops,
        counts={"not linearizable": bad} if bad else {},
        reasons=reasons,
        decided=decided if undecided else 1.0,
        nodes=nodes,
        explain=lambda: search().explain(),
        order=lambda: search().order(),
    )


@dataclass(slots=True, eq=False)
class Search:
    """One decision by search."""

    model: str
    ops: Operations
    task: Task
    run: Callable[[Task, Budget, bool, bool], Answer]
    state: Callable[[Any], Any]
    budget: Budget
    why: str
    engine: str
    ahead: bool = False

    def row(self, row: int) -> int:
        """Return the caller's row."""
        return row if self.task.rows is None else int(self.task.rows[row])

    def decide(self) -> Decision:
        """Search, and read the answer."""
        return read_answer(
            self.run(self.task, self.budget, True, False), self.model, self.ops, self.why, self.engine, lambda: self
        )

    def order(self) -> tuple[int, ...]:
        """Return a legal order of the caller's rows."""
        return merged(self.ops, self.orders())

    def orders(self) -> list[Int]:
        """Return a legal order of every part, as the caller's rows."""
        details = self.run(self.task, self.budget, True, True)[3]
        assert details is not None
        found = [np.frombuffer(detail[2], np.uint32).astype(np.int64) for detail in details if detail[2] is not None]
        return found if self.task.rows is None else [self.task.rows[order] for order in found]

    def explain(self) -> Explanation:
        """Return the failing prefix and the operations that matter of the first bad part."""
        verdicts, _, _, details = self.run(self.task, self.budget, True, True)
        assert details is not None
        part = verdicts.find(window.INVALID)
        if part < 0:
            return Explanation()
        failing, good, count, last = details[part][3]
        mine = self.task.members(part)
        if self.ahead:
            failing, good, count, last = self._shortest(mine)
        event = int(self.task.ret[failing])
        prefix = mine[self.task.call[mine] <= event]
        small = self._shrunk(prefix, event)
        returned_before = [self.row(r) for r in prefix.tolist() if self.task.ret[r] < event]
        shown = [
            Configuration(
                state=spoken(self.state(state)),
                linearized=tuple(returned_before) + tuple(self.row(r) for r in open_rows),
                why=f"{named(self.ops, self.row(failing))} is illegal in state {spoken(self.state(state))}",
            )
            for state, open_rows in last
        ]
        rows = tuple(self.row(r) for r in small)
        states = sorted({one.state for one in shown})
        ops, row = self.ops, self.row(failing)
        text = (
            f"the {named(ops, row)} (called {called(ops, row)}, returned {returned(ops, row)}) cannot have happened: "
            f"in every order of the operations before it the state then is {' or '.join(states[:6])}"
            + (f" (or one of {count - len(shown)} more configurations)" if count > len(shown) else "")
        )
        return Explanation(
            (Witness("not linearizable", rows, text),),
            Prefix(
                event=event,
                failing=row,
                rows=tuple(self.row(r) for r in prefix.tolist()),
                last_good=None if good < 0 else self.row(good),
                configurations=tuple(shown),
            ),
        )

    def _shrunk(self, prefix: Int, event: int) -> list[int]:
        """Drop operations that never change a state while what is left stays illegal."""
        pure = self.task.pure()
        kept = [r for r in prefix.tolist() if self.task.ret[r] <= event or not pure[r]]
        if len(kept) > _SHRINK_MAX:
            return kept
        for row in [r for r in kept if pure[r]]:
            fewer = [r for r in kept if r != row]
            if self.is_bad(np.array(fewer, dtype=np.int64), event):
                kept = fewer
        return kept

    def _cut(self, rows: Int, event: int) -> Subset:
        """Return some rows of one part, cut after an event: what has not returned by then is unknown."""
        rows = rows[self.task.call[rows] <= event]
        ret = self.task.ret[rows]
        return Subset(self.task.call[rows], np.where(ret > event, NEVER, ret), rows, None, self.task.pure)

    def is_bad(self, rows: Int, event: int) -> bool:
        """Tell whether some rows of one part alone are illegal, cut after an event."""
        small = replace(self.budget, nodes=100_000)
        return self.run(self._cut(rows, event), small, True, False)[0] == bytes([window.INVALID])

    def _shortest(self, rows: Int) -> tuple[int, int, int, list[Any]]:
        """Find the first return at which a part becomes illegal.

        A search that looks ahead gives up before it gets there, so the furthest event it reached says nothing.
        Prefixes of legal histories are legal, so halving finds it.
        """
        ends = rows[self.task.ret[rows] != NEVER]
        ends = ends[np.argsort(self.task.ret[ends], kind="stable")]
        low, high = 0, len(ends) - 1
        while low < high:
            middle = (low + high) // 2
            if self.is_bad(rows, int(self.task.ret[ends[middle]])):
                high = middle
            else:
                low = middle + 1
        cut = self._cut(rows, int(self.task.ret[ends[low]]))
        details = self.run(cut, self.budget, True, True)[3]
        assert details is not None
        assert cut.rows is not None
        if details[0][3] is None:  # out of budget this time
            return int(ends[low]), -1, 0, []
        _, good, count, last = details[0][3]
        shown = [(state, tuple(int(cut.rows[r]) for r in opened)) for state, opened in last]
        return int(ends[low]), int(cut.rows[good]) if good >= 0 else -1, count, shown


class Subset(Task):
    """Some rows of a task: `rows` are rows of the task."""

    @property
    def first(self) -> int:
        """Return the first of the rows."""
        return 0 if self.rows is None or not len(self.rows) else int(self.rows[0])


def pick(column: Any, task: Task) -> Any:
    """Return a task's column for a subset of its rows."""
    return np.ascontiguousarray(column[task.rows]) if isinstance(task, Subset) else column


def table_search(
    model: str,
    ops: Operations,
    task: Task,
    *,
    classes: Int,
    pure: Sequence[bool],
    table: Table,
    inits: Sequence[Any],
    budget: Budget,
    engine: Engine,
    why: str,
) -> Search:
    """Search a model whose steps are Python, one call for each state and class that meet."""
    core = core_for(engine)
    flags = np.array(pure, dtype=np.uint8)
    numbers = np.array([table.number(init) for init in inits], dtype=np.int64)
    search = window.table if core is None else core.table
    reach = None if table.reach is None else table.may_reach

    def run(task: Task, budget: Budget, stop: bool, details: bool) -> Answer:
        start = numbers
        if isinstance(task, Subset) and len(numbers) > 1:
            part = int(np.searchsorted(whole.starts, task.first, side="right")) - 1
            start = numbers[part : part + 1]
        answer: Answer = search(
            task.call,
            task.ret,
            pick(classes, task),
            pick(flags, task),
            task.starts,
            start,
            table.next,
            reach,
            *limits(budget),
            stop,
            details,
        )
        return answer

    whole: Any = task
    return Search(
        model=model,
        ops=ops,
        task=task,
        run=run,
        state=lambda number: table.states[number],
        budget=budget,
        why=why,
        engine="fallback" if core is None else "core",
        ahead=reach is not None,
    )
