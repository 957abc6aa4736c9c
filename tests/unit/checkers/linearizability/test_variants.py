"""What the models can be told besides their histories, against every order: drains, initial states, nulls, own models.

Also results that came with an unknown outcome, and all three verdicts of a queue that may still hold what is missing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from checkers.linearizability.decision import Budget, Decision, decide
from checkers.linearizability.operations import Operation
from tests.unit.checkers.linearizability import oracle
from tests.unit.checkers.linearizability.histories import KINDS, Kind, changed, history, shape
from tests.unit.checkers.linearizability.oracle import Spec, brute_force, replay
from tests.unit.checkers.linearizability.test_brute_force import shown, sources

HISTORIES = 1200
BOTH: tuple[Any, ...] = ("core", "fallback")


def said(ops: Sequence[Operation], model: Any, number: int, **told: Any) -> Decision:
    """Judge by both implementations, which must agree."""
    first, second = (decide(model, ops, engine=engine, **told) for engine in BOTH)
    assert (first.verdict, first.counts) == (second.verdict, second.counts), (number, shown(ops))
    return first if number % 2 else second


# ---- drains


def _drain_act(rng: random.Random, state: Any, number: int) -> Any:
    if rng.random() < 0.25:
        return "drain", None, lambda s: ((), list(s))
    return KINDS["bag"].act(rng, state, number)


def _drain_wrong(rng: random.Random, op: Operation) -> Operation:
    if op.f != "drain" or op.outcome == "info" or rng.random() < 0.3:
        return KINDS["bag"].wrong(rng, op) if op.f != "drain" else op
    some = [value for value in op.result if rng.random() < 0.7]
    return changed(op, result=some + [rng.randrange(6)] * (rng.random() < 0.3))


DRAINED = replace(KINDS["bag"], act=_drain_act, wrong=_drain_wrong)


def apart(ops: Sequence[Operation]) -> list[Operation]:
    """Write a drain as what it is: a dequeue of each value, and after them one that found nothing (`nothing-left`)."""
    out: list[Operation] = []
    for op in ops:
        if op.f != "drain":
            out.append(op)
        elif op.outcome == "info":
            out += [changed(op, f="dequeue", process=f"{op.process}/{n}") for n in range(len(ops))]
        else:
            out += [changed(op, f="dequeue", result=value, process=f"{op.process}/{value}") for value in op.result]
            out.append(changed(op, f="nothing-left"))
    return out


def drained(state: tuple[tuple[Any, ...], frozenset[Any]], op: Operation, unknown: bool) -> Iterable[Any]:
    """A bag that remembers what came out of it: a drain finds nothing only when all of its values have."""
    inside, given = state
    if op.f == "nothing-left":
        return [state] if not inside and set(op.result) <= given else []
    after = oracle.bag(inside, op, unknown)
    return [(one, given | (set(inside) - set(one))) for one in after]


def still_inside(ops: Sequence[Operation]) -> bool:
    """Tell whether an acknowledged value was never seen, and no drain can have looked for it."""
    seen = {op.result for op in ops if op.f == "dequeue"} | {
        v for op in ops if op.f == "drain" for v in op.result or ()
    }
    put = {op.argument: op for op in ops if op.f == "enqueue"}
    drains = [op for op in ops if op.f == "drain" and op.outcome == "ok"]
    ends = [max([op.invoked, *(put[v].invoked + 1 for v in op.result if v in put)]) for op in drains]
    return any(
        op.outcome == "ok" and value not in seen and op.returned is not None and op.returned >= max(ends, default=-1)
        for value, op in put.items()
    )


@pytest.mark.random
def test_all_three_verdicts_of_a_total_queue_with_drains() -> None:
    rng, verdicts, hits = random.Random("drains"), Counter[str](), Counter[str]()
    for number in range(4 * HISTORIES):
        ops = history(DRAINED, rng, *shape(rng))
        legal = brute_force(drained, ((), frozenset()), apart(ops))
        decision = said(ops, "total-queue", number)
        wanted = "invalid" if not legal else "unknown" if still_inside(ops) else "valid"
        assert decision.verdict == wanted, (number, decision.counts, shown(ops))
        verdicts[wanted] += 1
        hits.update(decision.counts)
        for witness in decision.witnesses if wanted == "invalid" else ():
            part = [ops[i] for i in sorted(sources(decision, witness.rows))]
            assert not brute_force(drained, ((), frozenset()), apart(part)), (witness, shown(ops))
    assert min(verdicts.values()) > HISTORIES / 4, verdicts
    assert set(hits) == {"duplicate", "unexpected", "premature", "empty"}


# ---- initial states

INITIAL: list[tuple[str, Any, Any]] = [
    ("fifo", [7, 8], (7, 8)),
    ("bag-repeated", [1], (1,)),
    ("log", [70, 71], (70, 71)),
    ("set", [1, 4], frozenset({1, 4})),
    ("register", 1, 1),
    ("register-unique", 2, 2),
    ("cas-register", 2, 2),
    ("kv", {"x": 1}, (("x", 1),)),
    ("kv-append", {"x": "ab"}, (("x", "ab"),)),
    ("mutex", True, True),
    ("multi-register", {"x": 1}, (("x", 1),)),
]


def started(kind: Kind, init: Any, state: Any) -> Kind:
    """Begin with a state of its own, which the history is made from too."""
    begin = dict(init) if isinstance(init, dict) else state
    return replace(kind, init=state, start=lambda: begin)


@pytest.mark.random
@pytest.mark.parametrize(("name", "init", "state"), INITIAL, ids=[one[0] for one in INITIAL])
def test_an_initial_state_is_where_every_order_begins(name: str, init: Any, state: Any) -> None:
    kind, rng, verdicts = started(KINDS[name], init, state), random.Random(f"init {name}"), Counter[bool]()
    for number in range(HISTORIES // 2):
        ops = history(kind, rng, *shape(rng))
        legal = brute_force(kind.spec, kind.init, ops)
        verdicts[legal] += 1
        decision = said(ops, kind.model, number, init=init)
        assert (decision.verdict != "invalid") == legal, (number, decision.counts, shown(ops))
    assert min(verdicts.values()) > HISTORIES / 30, verdicts


# ---- what a read of null means


def blind(spec: Spec) -> Spec:
    def step(state: Any, op: Operation, unknown: bool) -> Iterable[Any]:
        if op.f == "read" and op.result is None:
            return [state]
        if op.f == "get" and op.result is not None and op.result[1] is None:
            return [state]
        if op.f == "txn" and op.result is not None:
            seen = [step for step in op.result if step[0] == "write" or step[2] is not None]
            return spec(state, changed(op, argument=seen, result=seen), unknown)
        return spec(state, op, unknown)

    return step


@pytest.mark.random
@pytest.mark.parametrize("name", ["register", "register-unique", "cas-register", "kv", "kv-unique", "multi-register"])
def test_a_read_of_null_may_have_seen_nothing(name: str) -> None:
    kind, rng, verdicts = KINDS[name], random.Random(f"null {name}"), Counter[bool]()
    for number in range(HISTORIES // 2):
        ops = history(kind, rng, *shape(rng))
        legal = brute_force(blind(kind.spec), kind.init, ops)
        verdicts[legal] += 1
        decision = said(ops, kind.model, number, null_read="unknown")
        assert (decision.verdict == "valid") == legal, (number, decision.counts, shown(ops))
    assert min(verdicts.values()) > HISTORIES / 30, verdicts


# ---- models of users


class Own:
    """A user's model made of a specification; `pure` and `partition` where it may say so."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def init(self) -> Any:
        return self.kind.init

    def step(self, state: Any, op: Operation) -> tuple[bool, Any]:
        following = list(self.kind.spec(state, op, op.outcome == "info"))
        return bool(following), following[0] if following else state


class OwnPure(Own):
    def pure(self, op: Operation) -> bool:
        return op.f in ("read", "get")


class OwnByKey(OwnPure):
    def partition(self, op: Operation) -> Any:
        return op.argument[0]


OWN: list[tuple[str, type[Own]]] = [
    ("fifo", Own), ("fifo-repeated", Own), ("log", Own), ("set", OwnPure), ("register", OwnPure),
    ("cas-register", OwnPure), ("mutex", Own), ("multi-register", Own), ("kv", OwnByKey), ("kv-append", OwnByKey),
]  # fmt: skip


@pytest.mark.random
@pytest.mark.parametrize(("name", "own"), OWN, ids=[f"{one[0]}-{one[1].__name__}" for one in OWN])
def test_a_model_of_ones_own_says_what_the_specification_says(name: str, own: type[Own]) -> None:
    kind, rng, verdicts = KINDS[name], random.Random(f"own {name}"), Counter[bool]()
    for number in range(HISTORIES // 3):
        ops = history(kind, rng, *shape(rng))
        legal = brute_force(kind.spec, kind.init, ops)
        verdicts[legal] += 1
        decision = said(ops, own(kind), number)
        assert (decision.verdict == "valid") == legal, (number, shown(ops))
        order = decision.linearization()
        assert legal == (order is not None) == (decision.prefix is None)
        if order is not None:
            assert replay(kind.spec, kind.init, ops, sources(decision, order)), shown(ops)
    assert min(verdicts.values()) > HISTORIES / 60, verdicts


FAST: list[tuple[str, type[Own]]] = [
    ("fifo", Own), ("log", Own), ("set", OwnPure), ("register-unique", OwnPure), ("kv-unique", OwnByKey),
]  # fmt: skip


@pytest.mark.random
@pytest.mark.parametrize(("name", "own"), FAST, ids=[one[0] for one in FAST])
def test_what_is_counted_says_what_a_search_says(name: str, own: type[Own]) -> None:
    """On histories too long for every order; the search may give up, and may not say anything else."""
    kind, rng, verdicts = KINDS[name], random.Random(f"searched {name}"), Counter[tuple[str, str]]()
    for number in range(HISTORIES // 4):
        ops = history(kind, rng, rng.randint(12, 40), rng.randint(2, 5), rng.choice((0.0, 0.05, 0.2)), 0.6)
        counted = said(ops, kind.model, number)
        assert counted.nodes == 0
        searched = decide(own(kind), ops, budget=Budget(wall_ms=None, nodes=20_000))
        assert searched.verdict in (counted.verdict, "unknown"), (number, counted.counts, shown(ops))
        verdicts[counted.verdict, searched.verdict] += 1
    assert verdicts["valid", "valid"] > HISTORIES / 40, verdicts
    assert verdicts["invalid", "invalid"] > HISTORIES / 40, verdicts


# ---- what was seen all the same


def seen_all_the_same(spec: Spec) -> Spec:
    """An operation of unknown outcome that carries a result happened, and saw it."""
    return lambda state, op, unknown: spec(state, op, unknown and op.result is None)


@pytest.mark.random
@pytest.mark.parametrize("name", ["fifo", "bag", "log"])
def test_a_result_that_came_with_an_unknown_outcome_was_seen(name: str) -> None:
    """It is one that returned after everything else."""
    kind, rng, verdicts = KINDS[name], random.Random(f"seen {name}"), Counter[bool]()
    for number in range(HISTORIES):
        ops = history(kind, rng, *shape(rng))
        carry = [op.outcome == "ok" and op.result is not None and rng.random() < 0.4 for op in ops]
        ops = [changed(op, outcome="info", returned=None) if it else op for op, it in zip(ops, carry, strict=True)]
        told = [changed(op, outcome="ok", returned=10_000) if it else op for op, it in zip(ops, carry, strict=True)]
        if name == "log" and any(
            it and op.f == "read" and op.result[1] is None for op, it in zip(ops, carry, strict=True)
        ):
            continue
        legal = brute_force(seen_all_the_same(kind.spec), kind.init, told)
        verdicts[legal] += 1
        decision = said(ops, kind.model, number)
        assert (decision.verdict != "invalid") == legal, (number, decision.counts, shown(ops))
        order = decision.linearization()
        if order is not None:
            assert replay(kind.spec, kind.init, told, sources(decision, order)), shown(ops)
    assert min(verdicts.values()) > HISTORIES / 20, verdicts
