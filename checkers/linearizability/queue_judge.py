"""The judge of queues: first in, first out or in any order, under one of four contracts about deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from checkers.linearizability import contracts, queues, schedule, steps
from checkers.linearizability.compiled import core_for
from checkers.linearizability.decision import (
    Decision,
    Delivery,
    Engine,
    Explanation,
    Options,
    Witness,
)
from checkers.linearizability.judges import columns_search, encoded, linear, named_counts
from checkers.linearizability.operations import NEVER, NULL, Code, HistoryError, Int, Operation, Operations
from checkers.verdict import Validity

DOUBTFUL: Final = "perhaps anomalies"
_OF_ONE_KEY: Final = ("order", "lost")
"""Anomalies that only the operations of one key can show; the others are seen best in all of them together."""


class QueueJudge:
    """fifo-queue and total-queue."""

    def __init__(self, *, ordered: bool) -> None:
        self.ordered = ordered
        self.name = "fifo-queue" if ordered else "total-queue"

    def decide(self, operations: Operations | Sequence[Operation], options: Options) -> Decision:
        """Decide by counting where values are unique, else by search."""
        delivery = options.delivery
        if delivery == contracts.PER_KEY and not self.ordered:
            raise HistoryError(f"{contracts.PER_KEY} is a contract about order, which only fifo-queue has")
        given = encoded(self.name, operations, options.init)
        ops = contracts.applied(given, delivery)
        found = _counted(ops, delivery, ordered=self.ordered and delivery != contracts.PER_KEY, engine=options.engine)
        if found is None and delivery != "exactly-once":
            return _undecided(self.name, ops, delivery)
        if found is None:
            step: steps.Stepper = steps.fifo if self.ordered else steps.bag
            why = "some value was put in more than once, so dequeues cannot be told apart"
            start: Any = () if self.ordered else frozenset({()})
            return columns_search(self.name, ops, step, start, options.budget, options.engine, why)
        counts, metrics = found
        if delivery == "at-most-once":
            metrics["missing"] = int(
                np.count_nonzero(given.f == Code.ENQUEUE) - np.count_nonzero(ops.f == Code.ENQUEUE)
            )
        if delivery == contracts.PER_KEY:
            return _by_key(self.name, ops, counts, metrics, options.engine)

        def explain() -> Explanation:
            return Explanation(queues.witnesses(_swept(ops, delivery, ordered=self.ordered)))

        def order() -> tuple[int, ...]:
            return schedule.queue_order(queues.sweep(ops, ordered=self.ordered))

        unknown_drain = not self.ordered and bool(((ops.f == Code.DRAIN) & (ops.ret == NEVER)).any())
        decision = linear(
            self.name,
            ops,
            counts,
            method="counting over events (FIFO queue, linear time)" if self.ordered else "counting a value (bag)",
            why="every value was put in once" + _promise(delivery),
            engine=_engine(options.engine),
            explain=explain,
            order=None if unknown_drain else order,
            metrics=metrics,
        )
        decision = decision if self.ordered else _still_inside(decision, delivery)
        return _left_open(decision, metrics)


def _engine(engine: Engine) -> str:
    return "fallback" if core_for(engine) is None else "core"


def _promise(delivery: Delivery) -> str:
    return "" if delivery == "exactly-once" else f"; the contract is {delivery}"


def _counted(
    ops: Operations, delivery: Delivery, *, ordered: bool, engine: Engine
) -> tuple[dict[str, int], dict[str, int]] | None:
    """Return how many anomalies there are of each class, and the metrics; None where values are not unique."""
    core = core_for(engine)
    again = delivery in ("at-least-once", contracts.PER_KEY)
    if core is None or (again and bool(((ops.f == Code.DEQUEUE) & (ops.a == NULL)).any())):
        found = queues.sweep(ops, ordered=ordered)
        doubtful = contracts.keep_certain(found) if again and not found.ambiguous else 0
        return None if found.ambiguous else (found.counts, {**found.metrics, DOUBTFUL: doubtful})
    numbers = core.queue(ops.call, ops.ret, ops.f, ops.a, ordered)
    if numbers is None:
        return None
    at = len(queues.CLASSES)
    return named_counts(queues.CLASSES, numbers[:at]), dict(zip(queues.METRICS, numbers[at:], strict=True))


def _swept(ops: Operations, delivery: Delivery, *, ordered: bool) -> queues.Queue:
    """Return a queue taken apart, with the anomalies that its contract counts."""
    found = queues.sweep(ops, ordered=ordered)
    if delivery in ("at-least-once", contracts.PER_KEY):
        contracts.keep_certain(found)
    return found


def _left_open(decision: Decision, metrics: dict[str, int]) -> Decision:
    """A history without a certain anomaly is unknown where unknown dequeues may explain what would be one."""
    if decision.validity is not Validity.VALID or not metrics.get(DOUBTFUL):
        return decision
    reason = "what came out late may first have been taken by a dequeue of unknown outcome, and have come out again"
    return replace(decision, validity=Validity.UNKNOWN, reasons=(reason,), decided=0.0, order=None)


def _undecided(name: str, ops: Operations, delivery: Delivery) -> Decision:
    return Decision(
        model=name,
        validity=Validity.UNKNOWN,
        method="none",
        why="some value was put in more than once",
        engine="none",
        operations=ops,
        reasons=(f"the contract {delivery} can only be judged where every value was put in once",),
        decided=0.0,
    )


def _by_key(name: str, ops: Operations, counts: dict[str, int], metrics: dict[str, int], engine: Engine) -> Decision:
    """Judge the order of each key alone; `counts` are what all keys show together, whatever the order."""
    assert ops.a is not None
    parts = contracts.by_key(ops)
    bad: list[Int] = []
    for rows in parts:
        found = _counted(contracts.rows_of(ops, rows), contracts.PER_KEY, ordered=True, engine=engine)
        assert found is not None  # values are unique among all keys
        metrics[DOUBTFUL] = metrics.get(DOUBTFUL, 0) + found[1].get(DOUBTFUL, 0)
        mine = {kind: count for kind, count in found[0].items() if kind in _OF_ONE_KEY}
        for kind, count in mine.items():
            counts[kind] = counts.get(kind, 0) + count
        if mine:
            bad.append(rows)

    def swept(rows: Int) -> queues.Queue:
        return _swept(contracts.rows_of(ops, rows), contracts.PER_KEY, ordered=True)

    def explain() -> Explanation:
        witnesses = list(queues.witnesses(_swept(ops, contracts.PER_KEY, ordered=False)))
        for rows in bad:
            witnesses += [
                Witness(one.anomaly, tuple(int(rows[row]) for row in one.rows), one.text)
                for one in queues.witnesses(swept(rows))
                if one.anomaly in _OF_ONE_KEY
            ]
        return Explanation(tuple(witnesses[: queues.KEPT * len(queues.CLASSES)]))

    def order() -> tuple[int, ...]:
        found: list[tuple[int, int, int]] = []
        for rows in parts:
            latest = -NEVER
            for place, row in enumerate(schedule.queue_order(swept(rows))):
                latest = max(latest, int(ops.call[rows[row]]))
                found.append((latest, place, int(rows[row])))
        found.sort(key=lambda one: one[0])
        return tuple(row for _, _, row in found)

    plain = not bool(((ops.f == Code.EMPTY) | ((ops.f == Code.DEQUEUE) & (ops.a == NULL))).any())
    decision = linear(
        name,
        ops,
        counts,
        method="counting over events, key by key (a FIFO queue a key, linear time)",
        why=f"every value was put in once; order is promised only within each of {len(parts)} key(s)",
        engine=_engine(engine),
        explain=explain,
        order=order if plain else None,
        metrics=metrics,
    )
    if decision.validity is Validity.VALID and len(parts) > 1 and metrics["missing"] and metrics["unknown dequeues"]:
        reason = "dequeues of unknown outcome may have taken what is missing, and nobody knows of which key"
        return replace(decision, validity=Validity.UNKNOWN, reasons=(reason,), decided=0.0, order=None)
    return _left_open(decision, metrics)


def _still_inside(decision: Decision, delivery: Delivery) -> Decision:
    """Tell what is missing from what may still be inside a total queue."""
    ops = decision.operations
    if decision.validity is not Validity.VALID or not decision.metrics["missing"] or delivery == "at-most-once":
        return decision
    last = _last_drain(ops, np.flatnonzero((ops.f == Code.EMPTY) & (ops.ret != NEVER)))
    puts = queues.sweep(ops, ordered=False).lost
    undecided = int(np.count_nonzero(ops.ret[puts] >= last)) if last is not None else len(puts)
    if undecided:
        decision.validity = Validity.UNKNOWN
        decision.decided = 1 - undecided / max(len(ops), 1)
        missing = f"{undecided} acknowledged values were never seen again"
        decision.reasons = (f"{missing}, and no drain was called after them: they may still be inside",)
    return decision


def _last_drain(ops: Operations, rows: Int) -> int | None:
    """Return the latest call of a drain that answered; of any empty answer where only columns are known."""
    if ops.source is not None:
        rows = np.array(
            [row for row in rows.tolist() if (op := ops.operation(row)) and op.f == "drain"], dtype=np.int64
        )
    return int(ops.call[rows].max()) if len(rows) else None
