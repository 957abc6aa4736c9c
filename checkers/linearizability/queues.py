"""FIFO queues and bags whose values are unique: the rules as numpy sweeps, and the operations that prove a breach.

A history is bad iff a value is taken twice, or never put in, or taken before it was put in; or, for a FIFO, `a` was
certainly put in before `b` and `b` certainly taken before `a`; or "it was empty" has no good instant. Dequeues of
unknown outcome: N(t) counts acknowledged values never seen again that were in before t, M(t) the unknown dequeues
called before t. Every value `b` that was taken demands N(its enqueue's call) <= M(its dequeue's return), and an
instant is good for "empty" iff nothing seen later is certainly inside and N <= M there. The demands are nested, so
counting is exact. Source: Henzinger, Sezgin & Vafeiadis, CONCUR 2013, extended to unknown outcomes; checker C4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from checkers.linearizability.decision import Witness
from checkers.linearizability.operations import NEVER, NULL, Code, Int, Mask, Operations
from checkers.linearizability.order import called, named, rank, returned, spoken

CLASSES: Final = ("duplicate", "unexpected", "premature", "order", "lost", "empty")
METRICS: Final = ("missing", "unknown dequeues", "recovered")
KEPT: Final = 32
_LEAST: Final = np.iinfo(np.int64).min
_ENDLESS: Final = 1 << 30


@dataclass(slots=True, eq=False)
class Queue:
    """A queue history taken apart: the enqueue and first dequeue of each value, prefix counts, rows of each anomaly."""

    ops: Operations
    ordered: bool
    ambiguous: bool = False
    enqueue: Int = field(default_factory=lambda: np.zeros(0, np.int64))
    dequeue: Int = field(default_factory=lambda: np.zeros(0, np.int64))
    rows: dict[str, Int] = field(default_factory=dict)
    metrics: dict[str, int] = field(default_factory=dict)
    lost: Int = field(default_factory=lambda: np.zeros(0, np.int64))
    takers: Int = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def counts(self) -> dict[str, int]:
        """Return how many anomalies of each class there are."""
        return {name: len(rows) for name, rows in self.rows.items() if len(rows)}


def sweep(ops: Operations, *, ordered: bool) -> Queue:
    """Take a history of ENQUEUE, DEQUEUE, EMPTY (and unknown DRAIN) rows apart. O(n log n) where ids must be sorted."""
    call, ret, f = ops.call, ops.ret, ops.f
    assert ops.a is not None
    out = Queue(ops, ordered)
    puts = np.flatnonzero(f == Code.ENQUEUE)
    values, first = np.unique(ops.a[puts], return_index=True)
    if len(values) < len(puts):
        out.ambiguous = True
        return out
    puts = puts[first]
    unknown = (f == Code.DEQUEUE) & (ret == NEVER) & (ops.a == NULL)
    out.takers = np.flatnonzero(unknown)
    takes = np.flatnonzero((f == Code.DEQUEUE) & ~unknown)
    at = np.searchsorted(values, ops.a[takes])
    known = at < len(values)
    known[known] = values[at[known]] == ops.a[takes[known]]
    unexpected, takes, at = takes[~known], takes[known], at[known]
    number, once = np.unique(at, return_index=True)
    again = np.ones(len(takes), dtype=bool)
    again[once] = False
    e, d = puts[number], takes[once]
    out.enqueue, out.dequeue = e, d
    missing = np.ones(len(puts), dtype=bool)
    missing[number] = False
    out.lost = puts[missing & (ret[puts] != NEVER)]
    drains = np.flatnonzero((f == Code.DRAIN) & (ret == NEVER))
    ranks = rank(call, ret)
    m = ranks.count
    lost = _prefix(ranks.ret[out.lost], m)
    taken = _prefix(ranks.call[out.takers], m) + _ENDLESS * _prefix(ranks.call[drains], m)
    early = ret[d] < call[e]
    empty_order = np.zeros(0, np.int64)
    out.rows = {
        "duplicate": takes[again],
        "unexpected": unexpected,
        "premature": d[early],
        "order": empty_order,
        "lost": empty_order,
        "empty": _empties(ops, ranks.call, ranks.ret, e, d, lost <= taken, m),
    }
    if ordered:
        latest = np.full(m + 1, _LEAST, dtype=np.int64)
        done = ret[e] != NEVER
        latest[ranks.ret[e[done]] + 1] = call[d[done]]
        latest = np.maximum.accumulate(latest)
        out.rows["order"] = d[~early & (ret[d] < latest[ranks.call[e]])]
        # lost[i], taken[i]: after event i - 1; an operation that never returned looks at the end
        until = np.minimum(ranks.ret[d], m)
        out.rows["lost"] = d[~early & (lost[ranks.call[e]] > taken[until])]
    out.rows = {name: np.sort(rows) for name, rows in out.rows.items()}
    out.metrics = {
        "missing": len(out.lost),
        "unknown dequeues": len(out.takers),
        "recovered": int(np.count_nonzero(ret[e] == NEVER)),
    }
    return out


def _prefix(positions: Int, m: int) -> Int:
    """Return counts: cell i holds how many of the positions are below i."""
    marks = np.zeros(m + 1, dtype=np.int64)
    np.add.at(marks, positions + 1, 1) if len(positions) < 64 else marks.__iadd__(
        np.bincount(positions + 1, minlength=m + 1)
    )
    return np.cumsum(marks)


def _empties(ops: Operations, call: Int, ret: Int, e: Int, d: Int, enough: Mask, m: int) -> Int:
    """Return the rows of EMPTY that have no good instant between call and return."""
    rows = np.flatnonzero((ops.f == Code.EMPTY) & (ops.ret != NEVER))
    if not len(rows):
        return rows
    sure = ret[e] < call[d]
    inside = _prefix(ret[e[sure]], m) - _prefix(call[d[sure]], m)
    good = (inside == 0) & enough
    last = np.maximum.accumulate(np.where(good, np.arange(m + 1), -1))
    # the instant after event i - 1 is cell i; the instants of an operation begin after its call
    return rows[last[ret[rows]] < call[rows] + 1]


def witnesses(queue: Queue) -> tuple[Witness, ...]:
    """Return up to 32 anomalies of each class with the operations that alone prove each."""
    ops = queue.ops
    assert ops.a is not None
    make = {
        "duplicate": _duplicate,
        "unexpected": _unexpected,
        "premature": _premature,
        "order": _order,
        "lost": _lost,
        "empty": _empty,
    }
    return tuple(
        Witness(name, *make[name](queue, row)) for name, rows in queue.rows.items() for row in rows[:KEPT].tolist()
    )


def _value(ops: Operations, row: int) -> str:
    assert ops.a is not None
    return spoken(ops.value(int(ops.a[row])))


def _put(queue: Queue, row: int) -> int:
    """Return the enqueue of the value that a dequeue took."""
    assert queue.ops.a is not None
    return int(queue.enqueue[np.flatnonzero(queue.ops.a[queue.enqueue] == queue.ops.a[row])[0]])


def _duplicate(queue: Queue, row: int) -> tuple[tuple[int, ...], str]:
    ops, put = queue.ops, _put(queue, row)
    first = int(queue.dequeue[np.flatnonzero(queue.enqueue == put)[0]])
    text = (
        f"{_value(ops, row)} was put in once, yet taken twice: by the {named(ops, first)} (returned "
        f"{returned(ops, first)}) and by the {named(ops, row)} (returned {returned(ops, row)})"
    )
    return (put, first, row), text


def _unexpected(queue: Queue, row: int) -> tuple[tuple[int, ...], str]:
    ops = queue.ops
    return (row,), f"{_value(ops, row)} was taken by the {named(ops, row)}, but nobody put it in"


def _premature(queue: Queue, row: int) -> tuple[tuple[int, ...], str]:
    ops, put = queue.ops, _put(queue, row)
    text = (
        f"{_value(ops, row)} was taken by {returned(ops, row)}, before the {named(ops, put)} was called at "
        f"{called(ops, put)}"
    )
    return (put, row), text


def _order(queue: Queue, row: int) -> tuple[tuple[int, ...], str]:
    ops, put = queue.ops, _put(queue, row)
    before = np.flatnonzero(ops.ret[queue.enqueue] < ops.call[put])
    worst = before[int(np.argmax(ops.call[queue.dequeue[before]]))]
    a, out = int(queue.enqueue[worst]), int(queue.dequeue[worst])
    text = (
        f"the {named(ops, a)} returned at {returned(ops, a)} before the {named(ops, put)} was called at "
        f"{called(ops, put)}, but {_value(ops, put)} was taken by {returned(ops, row)} and {_value(ops, a)} not before "
        f"{called(ops, out)}"
    )
    return (a, put, row, out), text


def _lost(queue: Queue, row: int) -> tuple[tuple[int, ...], str]:
    ops, put = queue.ops, _put(queue, row)
    takers = queue.takers[ops.call[queue.takers] <= ops.ret[row]]
    before = queue.lost[ops.ret[queue.lost] < ops.call[put]]
    gone = before[np.argsort(ops.ret[before], kind="stable")][: len(takers) + 1]
    a = int(gone[0])
    others = f" (and {len(gone) - 1} more)" if len(gone) > 1 else ""
    late = len(queue.takers) - len(takers)
    could = f"{len(takers)} dequeues of unknown outcome could have taken {'it' if len(gone) == 1 else 'them'}"
    text = (
        f"the {named(ops, a)}{others} returned at {returned(ops, a)} before the {named(ops, put)} was called at "
        f"{called(ops, put)}, {_value(ops, put)} was taken by {returned(ops, row)}, {_value(ops, a)}{others} never; "
        + (could if len(takers) else "no dequeue of unknown outcome could have taken it")
        + (f", {late} more were called too late" if late else "")
    )
    return (*map(int, gone), put, row, *map(int, takers)), text


def _empty(queue: Queue, row: int) -> tuple[tuple[int, ...], str]:
    """Cover the interval by values that are certainly inside, the farthest reaching first."""
    ops = queue.ops
    ranks = rank(ops.call, ops.ret)
    e, d = queue.enqueue, queue.dequeue
    begin, end = ranks.ret[e], ranks.call[d]
    takers = queue.takers[ranks.call[queue.takers] < ranks.ret[row]]
    gone = queue.lost[np.argsort(ranks.ret[queue.lost], kind="stable")]
    taken = np.sort(ranks.call[takers])
    chain: list[int] = []
    most = 0
    at, stop = int(ranks.call[row]), int(ranks.ret[row])
    while at < stop:  # the instant after event `at`
        covering = np.flatnonzero((begin <= at) & (end > at))
        if len(covering):
            best = covering[int(np.argmax(end[covering]))]
            chain += [int(e[best]), int(d[best])]
            at = int(end[best])
            continue
        could = int(np.count_nonzero(taken <= at))
        most = max(most, could + 1)
        at = int(taken[could]) if could < len(taken) else stop
    drains = np.flatnonzero((ops.f == Code.DRAIN) & (ops.ret == NEVER) & (ops.call <= ops.ret[row]))
    rows = [*map(int, gone[:most]), *chain, row, *(map(int, [*takers, *drains]) if most else ())]
    inside = sorted({_value(ops, r) for r in [*chain[::2], *map(int, gone[:most])]})
    text = (
        f"the {named(ops, row)} (called {called(ops, row)}, returned {returned(ops, row)}) has no instant at which the "
        f"queue can have been empty: {', '.join(inside[:8])} {'was' if len(inside) == 1 else 'were'} certainly inside"
        + (f", and the {len(takers)} dequeues of unknown outcome cannot have taken all" if most and len(takers) else "")
    )
    return tuple(rows), text
