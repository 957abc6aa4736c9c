"""The contracts about deliveries against every order of small histories, each on both models that have it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from checkers import check, minimal
from checkers.linearizability.decision import Decision, decide
from checkers.linearizability.operations import HistoryError, Operation
from tests.unit.checkers.linearizability.histories import KINDS, changed, history, shape
from tests.unit.checkers.linearizability.oracle import Spec, brute_force, replay
from tests.unit.checkers.linearizability.test_brute_force import shown, sources

HISTORIES = 1500
State = tuple[tuple[Any, ...], frozenset[Any]]
"""What is inside, in order, and what has come out already."""


def may_vanish(spec: Spec) -> Spec:
    """What is put in may be gone at once, which says no more and no less than gone at any time."""

    def step(state: Any, op: Operation, unknown: bool) -> Iterable[Any]:
        return [*spec(state, op, unknown), *([state] if op.f == "enqueue" else ())]

    return step


def may_repeat(ordered: str) -> Spec:
    """What has come out may come out again. `ordered`: `all` values, those of one `key`, or `none`."""

    def ahead(inside: tuple[Any, ...], value: Any) -> bool:
        before = inside[: inside.index(value)]
        if ordered == "key":
            return not any(other[0] == value[0] for other in before)
        return ordered == "none" or not before

    def step(state: State, op: Operation, unknown: bool) -> Iterable[State]:
        inside, given = state
        value = op.argument if op.f == "enqueue" else op.result
        value = tuple(value) if isinstance(value, list) else value
        if op.f == "enqueue":
            return [((*inside, value), given)]
        takes = [one for one in inside if ahead(inside, one)]
        if unknown and value is None:
            return [state, *(_without(state, one) for one in takes)]
        if value is None:
            return [] if inside else [state]
        if value in given:
            return [state]
        return [_without(state, value)] if value in takes else []

    return step


def _without(state: State, value: Any) -> State:
    inside, given = state
    at = inside.index(value)
    return inside[:at] + inside[at + 1 :], given | {value}


EMPTY: State = ((), frozenset())
FIFO, BAG = KINDS["fifo"], KINDS["bag"]
CASES: list[tuple[str, str, Spec, Any]] = [
    ("fifo-queue", "at-most-once", may_vanish(FIFO.spec), ()),
    ("fifo-queue", "at-least-once", may_repeat("all"), EMPTY),
    ("fifo-queue", "per-key", may_repeat("key"), EMPTY),
    ("total-queue", "at-most-once", may_vanish(BAG.spec), ()),
    ("total-queue", "at-least-once", may_repeat("none"), EMPTY),
]


def keyed(op: Operation) -> Operation:
    """Give the values of an operation one of two keys."""

    def pair(value: Any) -> Any:
        return value if value is None else ["ab"[value % 2], value]

    return changed(op, argument=pair(op.argument), result=pair(op.result))


def drawn(rng: random.Random, model: str, delivery: str) -> list[Operation]:
    kind = FIFO if model == "fifo-queue" else BAG
    ops = history(kind, rng, *shape(rng))
    taken = [op for op in ops if op.f == "dequeue" and op.result is not None]
    for op in rng.sample(taken, min(len(taken), rng.randrange(3))):
        begin = op.invoked + rng.randrange(-3, 6)
        ops.append(changed(op, process=99, invoked=begin, returned=begin + rng.randrange(1, 6)))
    return [keyed(op) for op in ops] if delivery == "per-key" else ops


def is_open(ops: list[Operation], decision: Decision) -> bool:
    """Tell whether it may be said that nobody knows: what may still be inside, or what unknown dequeues may explain."""
    missing = decision.metrics["missing"] and decision.model == "total-queue"
    takers = any(op.f == "dequeue" and op.outcome == "info" and op.result is None for op in ops)
    return bool(missing) or takers


@pytest.mark.random
@pytest.mark.parametrize(("model", "delivery", "spec", "init"), CASES, ids=[f"{one[0]}-{one[1]}" for one in CASES])
def test_a_contract_says_what_trying_all_orders_says(model: str, delivery: Any, spec: Spec, init: Any) -> None:
    rng = random.Random(f"{model}/{delivery}")
    verdicts, hits = Counter[str](), Counter[str]()
    for number in range(HISTORIES):
        ops = drawn(rng, model, delivery)
        legal = brute_force(spec, init, ops)
        decision = decide(model, ops, delivery=delivery)
        other = decide(model, ops, delivery=delivery, engine="fallback")
        assert (other.verdict, other.counts) == (decision.verdict, decision.counts), (number, shown(ops))
        verdicts[decision.verdict] += 1
        hits.update(decision.counts)
        if decision.verdict == "unknown":
            assert is_open(ops, decision), (number, shown(ops))
            continue
        assert (decision.verdict == "valid") == legal, (number, decision.counts, shown(ops))
        if delivery == "exactly-once" or decision.verdict == "valid":
            continue
        assert decision.witnesses
        for witness in decision.witnesses:
            rows = set(witness.rows)
            whole = [op for row in sorted(rows) if (op := decision.operations.operation(row)) is not None]
            assert not brute_force(spec, init, whole), (number, witness, shown(ops))
    assert verdicts["valid"] > HISTORIES / 20, verdicts
    assert verdicts["invalid"] > HISTORIES / 10, verdicts
    assert verdicts["unknown"] < HISTORIES / 3 or model == "total-queue", verdicts
    wanted = {"unexpected", "premature", "empty"} | ({"order"} if model == "fifo-queue" else set())
    wanted |= {"duplicate"} if delivery == "at-most-once" else set()
    wanted |= {"lost"} if delivery in ("at-least-once", "per-key") and model == "fifo-queue" else set()
    assert set(hits) == wanted


def put(value: Any, at: int) -> Operation:
    return Operation(f="enqueue", process=0, invoked=at, returned=at + 1, argument=value)


def take(value: Any, at: int) -> Operation:
    return Operation(f="dequeue", process=1, invoked=at, returned=at + 1, result=value)


def test_a_duplicate_is_an_anomaly_under_two_of_the_four() -> None:
    ops = [put(["k", 1], 0), take(["k", 1], 2), take(["k", 1], 4)]
    said = {delivery: decide("fifo-queue", ops, delivery=delivery).verdict for delivery in CONTRACTS}
    assert said == {
        "exactly-once": "invalid", "at-most-once": "invalid", "at-least-once": "valid", "per-key": "valid",
    }  # fmt: skip


CONTRACTS: tuple[Any, ...] = ("exactly-once", "at-most-once", "at-least-once", "per-key")


def test_order_among_keys_is_not_promised_and_within_a_key_it_is() -> None:
    across = [put(["a", 1], 0), put(["b", 2], 2), take(["b", 2], 4), take(["a", 1], 6)]
    assert decide("fifo-queue", across).verdict == "invalid"
    decision = decide("fifo-queue", across, delivery="per-key")
    assert decision.verdict == "valid"
    order = decision.linearization()
    assert order is not None
    assert replay(may_repeat("key"), EMPTY, across, sources(decision, order))
    within = [put(["a", 1], 0), put(["a", 2], 2), take(["a", 2], 4), take(["a", 1], 6)]
    decision = decide("fifo-queue", within, delivery="per-key")
    assert decision.counts == {"order": 1}
    assert decision.witness is not None
    assert decision.witness.rows == (0, 1, 2, 3)
    skipped = [put(["a", 1], 0), put(["a", 2], 2), take(["a", 2], 4)]
    assert decide("fifo-queue", skipped, delivery="per-key").counts == {"lost": 1}


def test_what_vanished_does_not_explain_what_came_out_later() -> None:
    """An empty answer between an enqueue and its dequeue is wrong, even where messages may be lost."""
    ops = [put(1, 0), take(None, 2), take(1, 4)]
    for model in ("fifo-queue", "total-queue"):
        assert decide(model, ops, delivery="at-most-once").counts == {"empty": 1}
        assert decide(model, ops[:2], delivery="at-most-once").verdict == "valid"


def test_an_unknown_dequeue_may_have_been_the_first_delivery() -> None:
    took = Operation(f="dequeue", process=2, invoked=4, outcome="info")
    late = [put(1, 0), put(2, 2), took, take(2, 6), take(1, 8)]
    assert decide("fifo-queue", late).verdict == "invalid"
    decision = decide("fifo-queue", late, delivery="at-least-once")
    assert decision.verdict == "unknown"
    assert "come out again" in decision.reasons[0]
    two = [put(0, -4), put(1, 0), put(2, 2), took, take(2, 6), take(1, 8), take(0, 10)]
    assert decide("fifo-queue", two, delivery="at-least-once").counts == {"order": 1}, "one cannot have taken both"


def test_contracts_that_cannot_be_judged_are_refused_or_unknown() -> None:
    twice = [put(1, 0), put(1, 2), take(1, 4)]
    assert decide("fifo-queue", twice).verdict == "valid"
    assert decide("fifo-queue", twice, delivery="at-least-once").verdict == "unknown"
    with pytest.raises(HistoryError, match="is for fifo-queue and total-queue, not for register"):
        decide("register", [], delivery="at-least-once")
    with pytest.raises(HistoryError, match="only fifo-queue has"):
        decide("total-queue", [], delivery="per-key")
    with pytest.raises(HistoryError, match="there is no delivery contract 'often'"):
        decide("fifo-queue", [], delivery="often")  # type: ignore[arg-type]
    with pytest.raises(HistoryError, match=r"a value is \[key, value\], not 1"):
        decide("fifo-queue", [put(1, 0)], delivery="per-key")


def test_a_counter_example_is_made_small_under_its_contract() -> None:
    many = [op for n in range(20) for op in (put(["b", n + 10], 100 * n), take(["b", n + 10], 100 * n + 2))]
    bad = [put(["a", 1], 2001), put(["a", 2], 2003), take(["a", 2], 2005), take(["a", 1], 2007)]
    small = minimal([*many, *bad], "fifo-queue", delivery="per-key")
    assert len(small.operations) == 4
    assert check(small.operations, "fifo-queue", delivery="per-key").verdict == "invalid"
