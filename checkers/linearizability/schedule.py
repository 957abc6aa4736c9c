"""Legal orders of histories that a linear-time decider found good, so that nobody has to take its word for it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

import numpy as np

from checkers.linearizability.logs import Log
from checkers.linearizability.members import Members
from checkers.linearizability.operations import NEVER, Code, Int, Mask, Operations
from checkers.linearizability.order import rank
from checkers.linearizability.queues import Queue
from checkers.linearizability.zones import Zones


def _by_level(ops: Operations, levels: dict[int, int], reads: dict[int, int], leads: Mask) -> tuple[int, ...]:
    """Order rows by level, `leads` first in theirs.

    `reads` have a least level and are raised to the highest of those that had returned at their call.
    """
    events = sorted(
        [(int(ops.call[row]), 0, row) for row in (*levels, *reads)]
        + [(int(ops.ret[row]), 1, row) for row in (*levels, *reads) if ops.ret[row] != NEVER]
    )
    out = dict(levels)
    base = min((*levels.values(), *reads.values(), 0))
    for _, is_return, row in events:
        if is_return:
            base = max(base, out[row])
        elif row in reads:
            out[row] = max(base, reads[row])
    return tuple(sorted(out, key=lambda row: (out[row], not leads[row], int(ops.call[row]), int(ops.ret[row]), row)))


def log_order(log: Log) -> tuple[int, ...]:
    """Order a good log: appends by offset, reads as early as they may."""
    ops = log.ops
    assert ops.b is not None
    levels = {int(row): 2 * offset + 1 for offset, row in enumerate(log.owner.tolist())}
    reads = {row: 2 * int(ops.b[row]) + 1 for row in np.flatnonzero(ops.f == Code.LOG_READ).tolist()}
    reads |= dict.fromkeys(np.flatnonzero((ops.f == Code.LOG_END) & (ops.ret != NEVER)).tolist(), 0)
    return _by_level(ops, levels, reads, ops.f == Code.APPEND)


def set_order(found: Members) -> tuple[int, ...]:
    """Order a good set history: first adds and reads by their place, other adds as early as they may."""
    return _by_level(found.ops, found.level, found.floats, np.zeros(len(found.ops), dtype=bool))


def zone_orders(z: Zones) -> list[Int]:
    """Order a good register history, one order a key: values by their zones, in each the write first."""
    ops = z.ops
    out: list[Int] = []
    members: dict[int, list[int]] = {}
    for row in np.flatnonzero(z.zone >= 0).tolist():
        members.setdefault(int(z.zone[row]), []).append(row)
    by_key: dict[int, list[int]] = {}
    for zone, key in enumerate(z.key.tolist()):
        by_key.setdefault(key, []).append(zone)
    for zones in by_key.values():
        forward = sorted((int(z.first[i]), int(z.last[i]), i) for i in zones if z.first[i] < z.last[i])
        points = [(first, 1, i) for first, _, i in forward]
        starts = [first for first, _, _ in forward]
        for i in zones:
            if z.first[i] < z.last[i] or z.first[i] == NEVER:
                continue
            at = int(z.last[i])
            place = int(np.searchsorted(starts, at)) - 1
            # inside a forward zone it waits for the zone's end, which cannot be after its own
            points.append((max(at, forward[place][1]) if place >= 0 else at, 0, i))
        order: list[int] = []
        for _, _, i in sorted(points):
            order += sorted(members.get(i, ()), key=lambda row: (ops.f[row] != Code.WRITE, int(ops.call[row]), row))
        out.append(np.array(order, dtype=np.int64))
    return out


def queue_order(queue: Queue) -> tuple[int, ...]:
    """Order a good queue or bag history: values one by one between the instants at which it was empty."""
    ops = queue.ops
    ranks = rank(ops.call, ops.ret)
    far = ranks.count + 1
    takers = queue.takers[np.argsort(ops.call[queue.takers], kind="stable")].tolist()
    lost = queue.lost[np.argsort(ops.ret[queue.lost], kind="stable")].tolist()
    pairs: list[tuple[int, int | None]] = list(zip(queue.enqueue.tolist(), queue.dequeue.tolist(), strict=True))
    pairs += [(put, takers[i] if i < len(takers) else None) for i, put in enumerate(lost)]
    gaps = _empty_gaps(queue, ranks.call, ranks.ret, ranks.count)
    instants = sorted(set(gaps.values()))
    values: list[tuple[int, int, int, int, int, int, int | None]] = []
    for put, out in pairs:
        enq_call, enq_ret = int(ranks.call[put]), int(ranks.ret[put])
        deq_call = int(ranks.call[out]) if out is not None else far
        deq_ret = min(int(ranks.ret[out]), far) if out is not None else far
        enq_ret, deq_call = min(enq_ret, deq_ret), max(deq_call, enq_call)
        # what is never taken was put in after the last instant of emptiness
        segment = int(np.searchsorted(instants, deq_call)) if deq_call < far else len(instants)
        values.append((segment, enq_call, enq_ret, deq_call, deq_ret, put, out))
    steps: list[tuple[int, int, int, int, int]] = []  # instant, segment, number of the value, 0 put or 1 take, row
    enq_at = deq_at = -1
    for number, (segment, enq_call, _, deq_call, _, put, out) in enumerate(_line(values, queue.ordered)):
        floor = instants[segment - 1] if segment else -1
        if not queue.ordered:
            enq_at = deq_at = -1
        enq_at = max(enq_call, enq_at, floor)
        steps.append((enq_at, 2 * segment + 1, number, 0, put))
        if deq_call < far and out is not None:
            deq_at = max(deq_call, enq_at, deq_at, floor)
            steps.append((deq_at, 2 * segment + 1, number, 1, out))
    steps += [(gap, 2 * instants.index(gap) + 2, -1, 0, row) for row, gap in gaps.items()]
    return tuple(row for _, _, _, _, row in sorted(steps))


def _empty_gaps(queue: Queue, call: Int, ret: Int, m: int) -> dict[int, int]:
    """Return for every EMPTY row the last event before an instant at which the queue can have been empty."""
    ops = queue.ops
    rows = np.flatnonzero((ops.f == Code.EMPTY) & (ops.ret != NEVER))
    if not len(rows):
        return {}
    e, d = queue.enqueue, queue.dequeue
    sure = ops.ret[e] < ops.call[d]
    change = np.zeros(m + 1, dtype=np.int64)
    np.add.at(change, ret[e[sure]], 1)
    np.add.at(change, call[d[sure]], -1)
    spare = np.zeros(m + 1, dtype=np.int64)
    np.add.at(spare, call[queue.takers], 1)
    np.add.at(spare, ret[queue.lost], -1)
    good = (np.cumsum(change) == 0) & (np.cumsum(spare) >= 0)
    last = np.maximum.accumulate(np.where(good, np.arange(m + 1), -1))
    return {row: int(last[ret[row] - 1]) for row in rows.tolist()}


Value = tuple[int, int, int, int, int, int, "int | None"]


def _line(values: Sequence[Value], ordered: bool) -> Iterable[Value]:
    """Put values in an order in which none was put in, or taken, wholly before one that stands earlier."""
    values = sorted(values, key=lambda v: (v[0], v[1]))
    if not ordered:
        return values
    out: list[Value] = []
    begin = 0
    while begin < len(values):
        stop = begin
        while stop < len(values) and values[stop][0] == values[begin][0]:
            stop += 1
        out += _segment(values[begin:stop])
        begin = stop
    return out


def _segment(values: Sequence[Value]) -> list[Value]:
    ends = sorted((v[2], i) for i, v in enumerate(values))
    done = [False] * len(values)
    ready: list[tuple[int, int]] = []
    out: list[Value] = []
    first = at = 0
    while len(out) < len(values):
        while done[ends[first][1]]:
            first += 1
        while at < len(values) and values[at][1] <= ends[first][0]:
            heapq.heappush(ready, (values[at][3], at))
            at += 1
        i = heapq.heappop(ready)[1]
        done[i] = True
        out.append(values[i])
    return out
