"""What a queue promises about deliveries, as histories of a queue that promises exactly one.

exactly-once    nothing is changed
at-most-once    a value may vanish: what was put in and never seen to come out is left out, and with it the unknown
                dequeues that might have taken it
at-least-once   a value may come out again: all its deliveries count as one, which happened after the first of them was
                called and before the first of them returned
per-key         at least once, in order only among values of one key: values are [key, value], and each key is a queue
                of its own; "it was empty" speaks of all keys at once

The change is exact: linearizable under *exactly once* iff the history is under the contract. Only where values may come
out again an unknown dequeue may also have been the first delivery of a value that others saw later; what it may
explain is no anomaly (`keep_certain`), and without any other the verdict is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

import msgspec
import numpy as np

from checkers.linearizability.decision import Delivery
from checkers.linearizability.encoding import canonical
from checkers.linearizability.operations import (
    NEVER,
    NULL,
    Code,
    HistoryError,
    Int,
    LazyOperations,
    Mask,
    Operation,
    Operations,
)
from checkers.linearizability.queues import Queue

PER_KEY: Final = "per-key"
CLAIMS_MAX: Final = 256
"""So many anomalies of a class are held against unknown dequeues one by one; further ones are left open."""


def first_deliveries(value: Int, begin: Int, end: Int) -> tuple[Int, Int]:
    """Return for each distinct value, in order, the row of the delivery that began first and of that which ended first.

    The value came out at an instant after the one began and before the other ended, and any such instant lies inside
    some delivery: that which began first was under way at all of them. O(n log n).
    """
    earliest = np.lexsort((begin, value))
    soonest = np.lexsort((end, value))
    sorted_value = value[earliest]
    edge = np.flatnonzero(np.concatenate([[True], sorted_value[1:] != sorted_value[:-1]])) if len(value) else earliest
    return earliest[edge], soonest[edge]


def applied(ops: Operations, delivery: Delivery) -> Operations:
    """Return the rows of a queue as a contract has them judged."""
    if delivery == "at-most-once":
        return _without_missing(ops)
    if delivery in ("at-least-once", PER_KEY):
        return _delivered_once(ops)
    return ops


def _taken(ops: Operations) -> Mask:
    return np.asarray((ops.f == Code.DEQUEUE) & (ops.a != NULL))


def _without_missing(ops: Operations) -> Operations:
    assert ops.a is not None
    missing = (ops.f == Code.ENQUEUE) & ~np.isin(ops.a, ops.a[_taken(ops)])
    unknown = (ops.f == Code.DEQUEUE) & (ops.a == NULL)
    return rows_of(ops, np.flatnonzero(~missing & ~unknown))


def _delivered_once(ops: Operations) -> Operations:
    assert ops.a is not None
    taken = np.flatnonzero(_taken(ops))
    first, over = first_deliveries(ops.a[taken], ops.call[taken], ops.ret[taken])
    if len(first) == len(taken):
        return ops
    first, over = taken[first], taken[over]
    ret = ops.ret.copy()
    ret[first] = ops.ret[over]
    keep = np.ones(len(ops), dtype=bool)
    keep[taken] = False
    keep[first] = True
    kept = np.flatnonzero(keep)
    out = rows_of(replace(ops, ret=ret), kept)
    if ops.source is None:
        return out
    ends = dict(zip(np.searchsorted(kept, first).tolist(), over.tolist(), strict=True))
    return replace(out, source=_Merged(ops, kept, ends), row_source=None)


class _Merged(LazyOperations):
    """Rows as operations, made when they are looked at; a merged delivery ends as the one that ended first."""

    def __init__(self, ops: Operations, rows: Int, ends: dict[int, int]) -> None:
        self.ops, self.rows, self.ends = ops, rows, ends

    def __len__(self) -> int:
        return len(self.rows)

    def made(self, place: int) -> Operation:
        one = _of(self.ops, int(self.rows[place]))
        if place not in self.ends or self.ends[place] == int(self.rows[place]):
            return one
        end = _of(self.ops, self.ends[place])
        return msgspec.structs.replace(
            one, returned=end.returned, returned_line=end.returned_line, returned_time=end.returned_time,
            outcome=end.outcome, result=one.result if one.result is not None else end.result,
        )  # fmt: skip


def keep_certain(queue: Queue) -> int:
    """Leave only those anomalies that no unknown dequeue explains; return how many others there were.

    For `b` that came out by t while N values put in before it were not known to have come out by t, N takers are
    needed that were called by t; an empty answer needs at least one. Deciding more would take a matching.
    """
    ops = queue.ops
    drains = np.flatnonzero((ops.f == Code.DRAIN) & (ops.ret == NEVER))
    takers = np.sort(ops.call[np.concatenate([queue.takers, drains])])
    order, empty = queue.rows["order"], queue.rows["empty"]
    if not len(takers) or not len(order) + len(empty):
        return 0
    came_in = np.concatenate([ops.ret[queue.enqueue], ops.ret[queue.lost]])
    came_out = np.concatenate([ops.call[queue.dequeue], np.full(len(queue.lost), NEVER)])
    place = {int(row): at for at, row in enumerate(queue.dequeue)}
    sure = [
        row
        for row in order[:CLAIMS_MAX].tolist()
        if np.count_nonzero((came_in < ops.call[queue.enqueue[place[row]]]) & (came_out > ops.ret[row]))
        > np.searchsorted(takers, ops.ret[row], side="right")
    ]
    queue.rows["order"] = np.array(sure, dtype=np.int64)
    queue.rows["empty"] = empty[ops.ret[empty] < takers[0]]
    return len(order) + len(empty) - len(sure) - len(queue.rows["empty"])


def _of(ops: Operations, row: int) -> Operation:
    found = ops.operation(row)
    assert found is not None
    return found


def rows_of(ops: Operations, rows: Int) -> Operations:
    """Return some rows of a queue."""
    assert ops.a is not None
    place: Sequence[int] = range(len(ops)) if ops.row_source is None else ops.row_source
    return replace(
        ops,
        call=ops.call[rows],
        ret=ops.ret[rows],
        f=ops.f[rows],
        a=ops.a[rows],
        b=None if ops.b is None else ops.b[rows],
        items=None,
        item_start=None,
        row_source=None if ops.source is None else [place[row] for row in rows.tolist()],
    )


def by_key(ops: Operations) -> list[Int]:
    """Return the rows of each key of [key, value] values: its enqueues and dequeues, and every unknown dequeue that
    may have taken what is missing of it.

    Raises HistoryError for a value without a key.
    """
    assert ops.a is not None
    ids, number = np.unique(ops.a, return_inverse=True)
    keys: dict[Any, int] = {}
    of_id = np.full(len(ids), -1, dtype=np.int64)
    for place, one in enumerate(ids.tolist()):
        if one == NULL:
            continue
        value = ops.value(one)
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise HistoryError(f"with the contract {PER_KEY} a value is [key, value], not {value!r}")
        of_id[place] = keys.setdefault(canonical(value[0]), len(keys))
    key = of_id[number]
    unknown = np.flatnonzero((ops.f == Code.DEQUEUE) & (ops.a == NULL))
    missing = key[(ops.f == Code.ENQUEUE) & (ops.ret != NEVER) & ~np.isin(ops.a, ops.a[_taken(ops)])]
    open_keys = set(missing.tolist())
    order = np.argsort(key, kind="stable")
    bounds = np.searchsorted(key[order], np.arange(len(keys) + 1)).tolist()
    spans = pairwise(bounds)
    none = unknown[:0]
    return [
        np.sort(np.concatenate([order[low:high], unknown if number in open_keys else none]))
        for number, (low, high) in enumerate(spans)
    ]
