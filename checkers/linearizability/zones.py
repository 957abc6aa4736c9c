"""Registers, one or one a key, whose writes are unique: every value has a zone of time, and zones must be in line.

The zone of a value goes from the first return to the last call of the operations on it. Value i has to come before
value j if i's first return lies before j's last call; the history is linearizable iff no value is read before its
write was called, every value read was written, and no two values have to come before each other. That is: no two
forward zones overlap, and no backward zone lies inside a forward one. Source: Gibbons & Korach, SIAM J. Comput. 1997.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from checkers.linearizability.decision import Witness
from checkers.linearizability.operations import NEVER, NULL, Code, Int, Mask, Operations
from checkers.linearizability.order import called, named, returned, spoken

CLASSES: Final = ("unexpected", "future", "overlap", "inside")
KEPT: Final = 32


def _none() -> Int:
    return np.zeros(0, np.int64)


@dataclass(slots=True, eq=False)
class Zones:
    """Values as zones (sorted by key, then by number), and the rows or zones of each anomaly."""

    ops: Operations
    ambiguous: Mask
    key: Int = field(default_factory=_none)
    value: Int = field(default_factory=_none)
    first: Int = field(default_factory=_none)
    last: Int = field(default_factory=_none)
    write: Int = field(default_factory=_none)
    zone: Int = field(default_factory=_none)
    unexpected: Int = field(default_factory=_none)
    future: Int = field(default_factory=_none)
    overlap: list[tuple[int, int]] = field(default_factory=list)
    inside: list[tuple[int, int]] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Return how many anomalies of each class there are."""
        out = {name: len(getattr(self, name)) for name in CLASSES}
        return {name: count for name, count in out.items() if count}


def sweep(ops: Operations, init: int, *, null_unknown: bool) -> Zones:
    """Take a history of READ and WRITE rows apart; `ambiguous` marks rows of keys whose writes are not unique."""
    call, ret, f, a = ops.call, ops.ret, ops.f, ops.a
    assert a is not None
    n = len(call)
    if ops.key is None:
        key, keys = np.zeros(n, dtype=np.int64), 1
    else:
        names, key = np.unique(ops.key, return_inverse=True)
        keys = max(len(names), 1)
    begin = int(call.min()) - 1 if n else 0
    values, number = np.unique(np.concatenate([a, np.array([init], dtype=np.int64)]), return_inverse=True)
    span = len(values)
    pair = key * span + number[:n]
    writes = np.flatnonzero(f == Code.WRITE)
    # zones: the initial value of each key (row -1), then the writes
    written = np.concatenate([np.arange(keys) * span + number[n], pair[writes]])
    rows = np.concatenate([np.full(keys, -1), writes])
    order = np.argsort(written, kind="stable")
    written, rows = written[order], rows[order]
    again = np.flatnonzero(written[1:] == written[:-1]) + 1
    bad = np.zeros(keys, dtype=bool)
    bad[written[again] // span] = True
    out = Zones(ops, bad[key] if n else np.zeros(0, dtype=bool))
    kept = ~bad[written // span]
    written, rows = written[kept], rows[kept]
    out.key, out.value, out.write = written // span, values[written % span], rows
    out.first = np.where(rows < 0, begin, ret[rows] if n else begin)
    out.last = np.where(rows < 0, begin, call[rows] if n else begin)
    reads = np.flatnonzero((f == Code.READ) & ~out.ambiguous & (ret != NEVER))
    if null_unknown:
        reads = reads[a[reads] != NULL]
    at = np.searchsorted(written, pair[reads])
    known = at < len(written)
    known[known] = written[at[known]] == pair[reads[known]]
    out.unexpected = reads[~known]
    reads, at = reads[known], at[known]
    early = ret[reads] < out.last[at]
    out.future = reads[early]
    reads, at = reads[~early], at[~early]
    out.zone = np.full(n, -1, dtype=np.int64)
    out.zone[reads] = at
    out.zone[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
    first, last = out.first.copy(), out.last.copy()
    np.minimum.at(first, at, ret[reads])
    np.maximum.at(last, at, call[reads])
    out.first, out.last = first, last
    _conflicts(out)
    return out


def _conflicts(z: Zones) -> None:
    forward = np.flatnonzero(z.first < z.last)
    backward = np.flatnonzero((z.first >= z.last) & (z.first != NEVER))
    forward = forward[np.lexsort((z.first[forward], z.key[forward]))]
    if not len(forward):
        return
    start = np.searchsorted(z.key[forward], np.arange(int(z.key.max()) + 2))
    reach = np.empty(len(forward), dtype=np.int64)
    holder = np.empty(len(forward), dtype=np.int64)
    lasts, firsts, keys = z.last[forward], z.first[forward], z.key[forward]
    # running maximum within each key: lift each key above the one before by its number
    ranked = np.argsort(np.argsort(lasts, kind="stable"), kind="stable") + keys * len(forward)
    high = np.maximum.accumulate(ranked)
    by_rank = np.argsort(lasts, kind="stable")
    holder = by_rank[high - keys * len(forward)]
    reach = lasts[holder]
    same = keys[1:] == keys[:-1]
    hit = np.flatnonzero(same & (reach[:-1] > firsts[1:])) + 1
    z.overlap = [(int(forward[holder[i - 1]]), int(forward[i])) for i in hit.tolist()]
    # for each backward zone the forward zones of its key that begin before its last call
    place = _search(keys, firsts, z.key[backward], z.last[backward])
    some = place > start[z.key[backward]]
    inside = np.zeros(len(backward), dtype=bool)
    inside[some] = reach[place[some] - 1] > z.first[backward[some]]
    z.inside = [(int(forward[holder[p - 1]]), int(b)) for b, p in zip(backward[inside], place[inside], strict=True)]


def _search(keys: Int, firsts: Int, key: Int, limit: Int) -> Int:
    """Return for each (key, limit) how many of the sorted (keys, firsts) come before it."""
    both = np.concatenate([keys, key])
    order = np.lexsort(
        (np.concatenate([np.ones(len(keys)), np.zeros(len(key))]), np.concatenate([firsts, limit]), both)
    )
    mine = order >= len(keys)
    before = np.cumsum(~mine)
    out = np.empty(len(key), dtype=np.int64)
    out[order[mine] - len(keys)] = before[mine]
    return out


def witnesses(z: Zones) -> tuple[Witness, ...]:
    """Return up to 32 anomalies of each class with the operations that alone prove each."""
    ops = z.ops
    assert ops.a is not None
    out = []
    for row in z.unexpected[:KEPT].tolist():
        text = f"the {named(ops, row)} saw {spoken(ops.value(int(ops.a[row])))}, which nobody wrote"
        out.append(Witness("unexpected", (row,), text))
    for row in z.future[:KEPT].tolist():
        same = (z.ops.a == ops.a[row]) & (ops.f == Code.WRITE)
        if ops.key is not None:
            same &= ops.key == ops.key[row]
        write = int(np.flatnonzero(same)[0])
        text = f"the {named(ops, row)} returned at {returned(ops, row)}, before the {named(ops, write)} was called at "
        out.append(Witness("future", (write, row), text + called(ops, write)))
    out += [Witness("overlap", *_pair(z, i, j)) for i, j in z.overlap[:KEPT]]
    out += [Witness("inside", *_pair(z, i, j)) for i, j in z.inside[:KEPT]]
    return tuple(out)


def _pair(z: Zones, i: int, j: int) -> tuple[tuple[int, ...], str]:
    """Prove that each of two values has to come before the other."""
    ops = z.ops

    def ends(zone: int) -> tuple[int, int]:
        mine = np.flatnonzero(z.zone == zone)
        return int(mine[np.argmin(ops.ret[mine])]), int(mine[np.argmax(ops.call[mine])])

    (early_i, late_i), (early_j, late_j) = ends(i), ends(j)
    parts, rows = [], []
    for zone, early, other, late in ((i, early_i, j, late_j), (j, early_j, i, late_i)):
        one, two = (spoken(ops.value(int(z.value[k]))) for k in (zone, other))
        if z.write[zone] < 0:
            parts.append(f"{one} was there from the start, so before {two}")
        else:
            parts.append(
                f"the {named(ops, early)} returned at {returned(ops, early)}, before the {named(ops, late)} was called "
                f"at {called(ops, late)}, so {one} was there before {two}"
            )
            rows.append(early)
        rows.append(late)
    rows += [int(z.write[k]) for k in (i, j) if z.write[k] >= 0]
    return tuple(dict.fromkeys(rows)), "; but ".join(parts) + "; and no value was written twice"
