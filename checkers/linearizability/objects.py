"""Histories of several independent objects (the queues of a run): each is judged alone, the worst verdict is the whole.

A history is linearizable iff the history of each object is (locality, Herlihy & Wing 1990).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from checkers.linearizability.decision import Decision, Explanation, Witness
from checkers.linearizability.operations import NEVER, LazyOperations, Operation, Operations, columns
from checkers.verdict import Validity, worst

KEPT: Final = 32


def by_key(operations: Sequence[Operation], key: Callable[[Operation], Hashable]) -> dict[Hashable, list[Operation]]:
    """Return the operations of each object."""
    found: dict[Hashable, list[Operation]] = {}
    for one in operations:
        found.setdefault(key(one), []).append(one)
    return found


def decide_apart(
    parts: Mapping[Hashable, Operations | Sequence[Operation]],
    decide_one: Callable[[Operations | Sequence[Operation]], Decision],
) -> Decision:
    """Decide each object alone; rows of the decision count the operations of all of them."""
    names = [_name(key, operations) for key, operations in parts.items()]
    return _Together([decide_one(operations) for operations in parts.values()], names).decision()


def _name(key: Hashable, operations: Operations | Sequence[Operation]) -> str:
    """Return what an object is called before its anomalies: its key as it was recorded."""
    shown = key if isinstance(operations, Operations) else operations[0].key
    return "" if shown is None else f"{shown}: "


class _Joined(LazyOperations):
    """The operations of the rows of several histories, one after the other; found when they are looked at."""

    def __init__(self, parts: Sequence[Operations], start: Sequence[int]) -> None:
        self._parts = parts
        self._start = start

    def __len__(self) -> int:
        return self._start[-1]

    def made(self, place: int) -> Operation:
        part = bisect_right(self._start, place) - 1
        found = self._parts[part].operation(place - self._start[part])
        assert found is not None
        return found


class _Together:
    """Decisions about independent objects as one."""

    def __init__(self, found: Sequence[Decision], names: Sequence[str]) -> None:
        self.found = found
        self.names = names
        self.start = np.concatenate([[0], np.cumsum([len(one.operations) for one in found])]).tolist()

    def decision(self) -> Decision:
        """Return the whole: counts and coverage add up, the method is that of the first of the worst."""
        validity = worst(one.validity for one in self.found)
        telling = next(one for one in self.found if one.validity is validity)
        counts: dict[str, int] = {}
        metrics: dict[str, int] = {}
        for one in self.found:
            for name, count in one.counts.items():
                counts[name] = counts.get(name, 0) + count
            for name, count in one.metrics.items():
                metrics[name] = metrics.get(name, 0) + count
        sizes = [max(1, len(one.operations)) for one in self.found]
        return Decision(
            model=telling.model,
            validity=validity,
            method=telling.method,
            why=f"{telling.why}; {len(self.found)} independent objects, each judged alone",
            engine=telling.engine,
            operations=self.operations(),
            counts=counts,
            reasons=tuple(dict.fromkeys(reason for one in self.found for reason in one.reasons)),
            decided=sum(one.coverage * size for one, size in zip(self.found, sizes, strict=True)) / sum(sizes),
            nodes=sum(one.nodes for one in self.found),
            metrics=metrics,
            explain=self.explain,
            order=self.order,
        )

    def operations(self) -> Operations:
        """Return the rows of all objects, one after the other."""
        parts = [one.operations for one in self.found]
        whole = columns(
            np.concatenate([part.call for part in parts]),
            np.concatenate([part.ret for part in parts]),
            np.concatenate([part.f for part in parts]),
            np.zeros(self.start[-1], np.int64),
        )
        known = all(part.source is not None for part in parts)
        return replace(whole, source=_Joined(parts, self.start) if known else None)

    def explain(self) -> Explanation:
        """Return the anomalies of all objects, and the failing prefix of the first that has one."""
        witnesses: list[Witness] = []
        prefix = None
        for start, one, name in zip(self.start, self.found, self.names, strict=False):
            if one.validity is not Validity.INVALID:
                continue
            witnesses += [
                Witness(found.anomaly, tuple(start + row for row in found.rows), name + found.text)
                for found in one.witnesses
            ]
            if prefix is None and one.prefix is not None:
                before = one.prefix
                prefix = replace(
                    before,
                    failing=start + before.failing,
                    rows=tuple(start + row for row in before.rows),
                    last_good=None if before.last_good is None else start + before.last_good,
                    configurations=tuple(
                        replace(state, linearized=tuple(start + row for row in state.linearized))
                        for state in before.configurations
                    ),
                )
        return Explanation(tuple(witnesses[: KEPT * 8]), prefix)

    def order(self) -> tuple[int, ...]:
        """Merge the legal orders: an operation takes effect at the latest call up to it in its object's order."""
        rows: list[int] = []
        times: list[int] = []
        for start, one in zip(self.start, self.found, strict=False):
            latest = -NEVER
            for row in one.linearization() or ():
                latest = max(latest, int(one.operations.call[row]))
                rows.append(start + row)
                times.append(latest)
        return tuple(rows[place] for place in sorted(range(len(rows)), key=times.__getitem__))
