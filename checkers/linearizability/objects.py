"""Histories of several independent objects (the queues of a run): each is judged alone, the worst verdict is the whole.

A history is linearizable iff the history of each object is (locality, Herlihy & Wing 1990).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from checkers.linearizability.decision import Decision, Explanation, Witness
from checkers.linearizability.operations import NEVER, Operation, Operations, columns
from checkers.verdict import Validity, worst

KEPT: Final = 32


def by_key(operations: Sequence[Operation], key: Callable[[Operation], Hashable]) -> dict[Hashable, list[Operation]]:
    """Return the operations of each object."""
    found: dict[Hashable, list[Operation]] = {}
    for one in operations:
        found.setdefault(key(one), []).append(one)
    return found


def decide_apart(
    parts: dict[Hashable, list[Operation]], decide_one: Callable[[Sequence[Operation]], Decision]
) -> Decision:
    """Decide each object alone; rows of the decision count the operations of all of them."""
    names = ["" if operations[0].key is None else f"{operations[0].key}: " for operations in parts.values()]
    return _Together([decide_one(operations) for operations in parts.values()], names).decision()


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
        source = [part.operation(row) for part in parts for row in range(len(part))]
        whole = columns(
            np.concatenate([part.call for part in parts]),
            np.concatenate([part.ret for part in parts]),
            np.concatenate([part.f for part in parts]),
            np.zeros(self.start[-1], np.int64),
        )
        return replace(whole, source=[one for one in source if one is not None] if None not in source else None)

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
