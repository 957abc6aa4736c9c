"""Sets that only grow: reads show all members, so they must form a chain, and every add has its place in it. O(n).

Reads are put in order of their size; each must hold all that the one before held. An element stands between the last
read without it and the first read with it, or after all reads. No operation may have returned before the call of
another one that stands earlier. Adding an element again changes nothing, so its earliest call and return count.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from checkers.linearizability.decision import Witness
from checkers.linearizability.operations import NEVER, Code, Int, Operations
from checkers.linearizability.order import called, named, returned, spoken

CLASSES: Final = ("duplicate", "unexpected", "fork", "lost", "future", "order")
KEPT: Final = 32


@dataclass(slots=True, eq=False)
class Members:
    """A set history taken apart. `row`, `level` (and bounds `call`, `ret`) of everything that has a place."""

    ops: Operations
    rows: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in CLASSES})
    causes: dict[int, int] = field(default_factory=dict)
    level: dict[int, int] = field(default_factory=dict)
    floats: dict[int, int] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Return how many anomalies of each class there are."""
        return {name: len(rows) for name, rows in self.rows.items() if rows}

    def items(self, row: int) -> Int:
        """Return the members that a read showed."""
        assert self.ops.items is not None
        assert self.ops.item_start is not None
        return self.ops.items[self.ops.item_start[row] : self.ops.item_start[row + 1]]


def sweep(ops: Operations) -> Members:
    """Take a history of ADD and SET_READ rows apart."""
    out = Members(ops)
    assert ops.a is not None
    adds: dict[int, list[int]] = {}
    for row in np.flatnonzero(ops.f == Code.ADD).tolist():
        adds.setdefault(int(ops.a[row]), []).append(row)
    reads = [row for row in np.flatnonzero(ops.f == Code.SET_READ).tolist() if ops.ret[row] != NEVER]
    sets = {}
    for row in reads:
        items = out.items(row).tolist()
        sets[row] = frozenset(items)
        if len(sets[row]) < len(items):
            out.rows["duplicate"].append(row)
        if not sets[row] <= adds.keys():
            out.rows["unexpected"].append(row)
    if out.counts:
        return out
    chain = sorted(reads, key=lambda row: len(sets[row]))
    place: dict[int, int] = {}
    step, before = 0, -1
    for row in chain:
        if len(sets[row]) != before:
            step, before = step + 1, len(sets[row])
        for item in sets[row]:
            place.setdefault(item, 2 * step - 1)
        if len(place) != len(sets[row]):
            out.rows["fork"].append(row)
        out.level[row] = 2 * step
    if out.counts:
        return out
    entries: list[tuple[int, int, int, int]] = [
        (out.level[row], int(ops.call[row]), int(ops.ret[row]), row) for row in chain
    ]
    for item, rows in adds.items():
        first = min(rows, key=lambda row: int(ops.call[row]))
        ended = min(rows, key=lambda row: int(ops.ret[row]))
        if item not in place and ops.ret[ended] == NEVER:
            continue
        level = place.get(item, 2 * step + 1)
        out.level[first] = level
        out.floats.update({row: level for row in rows if row != first and ops.ret[row] != NEVER})
        entries.append((level, int(ops.call[first]), int(ops.ret[ended]), ended))
        if first != ended:
            out.causes[ended] = first
    _compare(out, sorted(entries))
    return out


def _compare(out: Members, entries: list[tuple[int, int, int, int]]) -> None:
    """Find every entry that returned before the call of one that stands earlier."""
    code = out.ops.f
    latest, latest_row, pending, pending_row, level = -(1 << 63), -1, -(1 << 63), -1, -1
    for at, call, ret, row in entries:
        if at != level:
            latest, latest_row, level = pending, pending_row, at
        if ret < latest:
            mine, other = code[row] == Code.ADD, code[latest_row] == Code.ADD
            name = "order" if mine and other else "future" if other else "lost"
            out.rows[name].append(row)
            out.causes[~row] = latest_row
        if call > pending:
            pending, pending_row = call, out.causes.get(row, row)


def witnesses(found: Members) -> tuple[Witness, ...]:
    """Return up to 32 anomalies of each class with the operations that alone prove each."""
    return tuple(Witness(name, *_one(found, name, row)) for name, rows in found.rows.items() for row in rows[:KEPT])


def _adds(found: Members, items: set[int]) -> tuple[int, ...]:
    assert found.ops.a is not None
    rows = np.flatnonzero(found.ops.f == Code.ADD).tolist()
    return tuple(row for row in rows if int(found.ops.a[row]) in items)


def _one(found: Members, name: str, row: int) -> tuple[tuple[int, ...], str]:
    """Return the operations that matter: of all that reads show, only the adds of the members in question."""
    ops = found.ops
    assert ops.a is not None
    shown = set(found.items(row).tolist()) if ops.f[row] == Code.SET_READ else {int(ops.a[row])}
    if name == "duplicate":
        members, times = np.unique(found.items(row), return_counts=True)
        twice = int(members[times > 1][0])
        return (*_adds(found, {twice}), row), f"the {named(ops, row)} shows {spoken(ops.value(twice))} more than once"
    if name == "unexpected":
        strange = shown - set(ops.a[ops.f == Code.ADD].tolist())
        names = ", ".join(spoken(ops.value(i)) for i in sorted(strange))
        return (row,), f"the {named(ops, row)} shows {names}, which nobody added"
    if name == "fork":
        other = next(
            r
            for r in np.flatnonzero(ops.f == Code.SET_READ).tolist()
            if ops.ret[r] != NEVER and len(found.items(r)) <= len(shown) and set(found.items(r).tolist()) - shown
        )
        theirs = set(found.items(other).tolist())
        lacks, has = min(theirs - shown), min(shown - theirs)
        text = (
            f"the {named(ops, other)} shows {spoken(ops.value(lacks))} but not {spoken(ops.value(has))}, the "
            f"{named(ops, row)} {spoken(ops.value(has))} but not {spoken(ops.value(lacks))}, and members are never "
            "taken out"
        )
        return (*_adds(found, {lacks, has}), other, row), text
    other = found.causes[~row]
    first = f"the {named(ops, row)} returned at {returned(ops, row)}"
    then = f"before the {named(ops, other)} was called at {called(ops, other)}"
    if name == "future":
        member = int(ops.a[other])
        text = f"{first}, {then}, and yet shows {spoken(ops.value(member))}"
        return (row, *_adds(found, {member})), text
    if name == "lost":
        gone = min(shown - set(found.items(other).tolist()))
        text = f"{first}, {then}, and the second does not show {spoken(ops.value(gone))}"
        adds = () if ops.f[row] == Code.ADD else _adds(found, {gone})
        return (*adds, row, other), text
    mine, member = int(ops.a[row]), int(ops.a[other])
    later = [r for r, level in found.level.items() if ops.f[r] == Code.SET_READ and level > found.level[other]]
    read = min(later, key=lambda r: found.level[r])
    text = f"{first} {then}, but the {named(ops, read)} shows {spoken(ops.value(member))} and not "
    return (row, *_adds(found, {member}), read), text + spoken(ops.value(mine))
