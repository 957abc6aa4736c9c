"""The search beyond what small histories reach: every attempt's turn, wide windows, budgets, and a user's own model."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from checkers.linearizability.batch import decide_registers
from checkers.linearizability.compiled import core
from checkers.linearizability.decision import Budget, decide
from checkers.linearizability.encoding import ENCODERS
from checkers.linearizability.operations import NEVER, NULL, Operation, Operations, columns
from tests.unit.checkers.linearizability import oracle
from tests.unit.checkers.linearizability.histories import KINDS, history
from tests.unit.checkers.linearizability.oracle import brute_force, replay
from tests.unit.checkers.linearizability.test_brute_force import shown, sources

READ, WRITE, CAS = 0, 1, 2


def run(ops: Operations, first_word: int, nodes: int = 0) -> tuple[int, list[int] | None]:
    """Search one register in the core, with so many configurations for the first attempt."""
    assert core is not None
    arrays = (ops.call, ops.ret, ops.f, ops.a, ops.b)
    verdicts, _, _, details = core.registers(*arrays, None, NULL, False, nodes, 0, 0, True, True, first_word)
    order = details[0][2]
    return verdicts[0], None if order is None else np.frombuffer(order, np.uint32).tolist()


@pytest.mark.random
def test_every_turn_says_the_same() -> None:
    """Greedy, endless and exact attempts in every order, on histories full of unknown outcomes."""
    kind, rng = KINDS["cas-register"], random.Random(77)
    found = [0, 0]
    for number in range(4000):
        ops = history(kind, rng, rng.randint(4, 9), rng.randint(2, 7), rng.choice((0.2, 0.5)), 0.8)
        legal = brute_force(kind.spec, kind.init, ops)
        encoded = ENCODERS["cas-register"](ops, None)
        verdict, order = run(encoded, 0)
        assert verdict == (1 if legal else 2), (number, shown(ops))
        found[legal] += 1
        if order is not None:
            assert encoded.row_source is not None
            assert replay(kind.spec, kind.init, ops, [encoded.row_source[row] for row in order]), shown(ops)
    assert min(found) > 500


@pytest.mark.random
@pytest.mark.parametrize("name", ["register", "cas-register"])
def test_longer_histories_agree_with_the_search_in_python(name: str) -> None:
    kind, rng = KINDS[name], random.Random(5)
    found = {"valid": 0, "invalid": 0, "unknown": 0}
    for _ in range(60):
        ops = history(kind, rng, 25, 6, rng.choice((0.0, 0.1, 0.4)), 0.6)
        one = decide(kind.model, ops)
        two = decide(kind.model, ops, engine="fallback", budget=Budget(wall_ms=None, nodes=3_000))
        found[two.verdict] += 1
        assert two.verdict in (one.verdict, "unknown"), shown(ops)
        if one.verdict == "valid":
            order = one.linearization()
            assert order is not None
            assert replay(kind.spec, kind.init, ops, sources(one, order))
    assert found["valid"] > 10
    assert found["invalid"] > 3


def crowd(writers: int, *, seen: int | None) -> Operations:
    """So many writes at once, all before a last read of the value `seen`."""
    call = [*range(writers), 3 * writers]
    ret = [*range(writers, 2 * writers), 3 * writers + 1]
    return columns(
        call, ret, [WRITE] * writers + [READ], [*range(writers), NULL if seen is None else seen], [0] * (writers + 1)
    )


@pytest.mark.parametrize("writers", [5, 63, 64, 65, 130, 200])
@pytest.mark.parametrize("engine", ["core", "fallback"])
def test_more_open_operations_than_a_word_has_bits(writers: int, engine: Any) -> None:
    swap = columns([0], [1], [CAS], [NULL], [7], None)
    assert decide("cas-register", swap, engine=engine).verdict == "valid"
    ops = crowd(writers, seen=writers - 1)
    assert ops.a is not None
    assert ops.b is not None
    with_swap = columns(
        [*ops.call, 4 * writers],
        [*ops.ret, 4 * writers + 1],
        [*ops.f, CAS],
        [*ops.a, writers - 1],
        [*ops.b, 1],
    )
    decision = decide("cas-register", with_swap, engine=engine)
    assert decision.verdict == "valid"
    assert "compare-and-set" in decision.why


def hard(n: int) -> list[Operation]:
    """Writes and swaps of a few values all at once, then a read of a value that was overwritten long ago."""
    ops = [Operation(f="write", argument=i % 7, process=i, invoked=i, returned=1000 + i) for i in range(n)]
    ops += [
        Operation(f="cas", argument=[i % 5, (3 * i) % 7], result=True, process=n + i, invoked=n + i, returned=2000 + i)
        for i in range(n)
    ]
    ops.append(Operation(f="read", result=99, process=3 * n, invoked=3000, returned=3001))
    ops.append(Operation(f="write", argument=99, process=3 * n + 1, invoked=0, returned=500))
    return ops


@pytest.mark.parametrize("engine", ["core", "fallback"])
def test_budgets_end_in_unknown_with_coverage(engine: Any) -> None:
    for budget, word in (
        (Budget(nodes=300), "configurations"),
        (Budget(wall_ms=1, memory_mb=None), "time"),
        (Budget(wall_ms=None, memory_mb=1), "memory"),
    ):
        decision = decide("cas-register", hard(24), budget=budget, engine=engine)
        assert decision.verdict == "unknown"
        assert word in decision.reasons[0]
        assert decision.coverage == 0.0
        assert decision.linearization() is None
        assert decision.witness is None


def test_one_bad_key_decides_while_others_are_hard() -> None:
    bad = [Operation(f="get", argument=["bad", None], result=["bad", "x"], process=1, invoked=1, returned=2)]
    rows = [
        Operation(f="append", argument=["hard", "ab"[i % 2]], process=9 + i, invoked=i, returned=900 + i)
        for i in range(40)
    ]
    rows.append(
        Operation(
            f="get", argument=["hard", None], result=["hard", "ab" * 19 + "bb"], process=5, invoked=950, returned=960
        )
    )
    decision = decide("kv-append", rows + bad, budget=Budget(wall_ms=20_000))
    assert decision.verdict == "invalid"
    assert decision.prefix is not None


def without_names(ops: Operations) -> Operations:
    """Ids are numbers of each history's own names; the values 0 to 9 stand for themselves."""
    assert ops.a is not None
    assert ops.b is not None
    a, b = ([NULL if v == NULL else ops.value(v) for v in column.tolist()] for column in (ops.a, ops.b))
    return columns(ops.call, ops.ret, ops.f, a, b)


def test_a_batch_says_what_single_calls_say() -> None:
    kind, rng = KINDS["cas-register"], random.Random(3)
    parts = [history(kind, rng, 8, 3, 0.2, 0.7) for _ in range(200)]
    encoded = [ENCODERS["cas-register"](ops, None) for ops in parts]
    raw = [without_names(ops) for ops in encoded]

    def joint(name: str) -> Any:
        return np.concatenate([getattr(ops, name) for ops in raw])

    joined = Operations(call=joint("call"), ret=joint("ret"), f=joint("f"), a=joint("a"), b=joint("b"))
    starts = np.concatenate([[0], np.cumsum([len(o) for o in raw])]).astype(np.int64)
    single = [decide("cas-register", o).verdict for o in raw]
    assert {"valid", "invalid"} == set(single)
    for engine in ("core", "fallback"):
        assert [v.word for v in decide_registers(joined, starts, engine=engine)] == single


class Counter:
    """A user's model: a counter with look-ahead, in parts by name."""

    def __init__(self) -> None:
        self.calls = 0

    def init(self) -> int:
        return 0

    def step(self, state: int, op: Operation) -> tuple[bool, int]:
        self.calls += 1
        if op.f == "add":
            return True, state + 1
        return op.result == state, state

    def partition(self, op: Operation) -> Any:
        return op.key

    def pure(self, op: Operation) -> bool:
        return op.f == "get"

    def may_reach(self, state: int, op: Operation) -> bool:
        return op.f != "get" or state <= op.result


def counts(last: int) -> list[Operation]:
    ops = [Operation(f="add", key=k, process=p, invoked=10 * p + k, returned=500 + p) for k in (0, 1) for p in range(6)]
    return [*ops, Operation(f="get", result=last, key=1, process=20, invoked=600, returned=601)]


@pytest.mark.parametrize("engine", ["core", "fallback"])
def test_a_users_model_is_asked_once_for_each_state_and_class(engine: Any) -> None:
    model = Counter()
    decision = decide(model, counts(6), engine=engine)
    assert decision.verdict == "valid"
    assert model.calls <= 2 * 8 * 2
    bad = decide(Counter(), counts(5), engine=engine)
    assert bad.verdict == "invalid"
    assert bad.prefix is not None
    assert bad.prefix.failing == 12
    assert {c.state for c in bad.prefix.configurations} <= {"6"}


class Kinds:
    """A user's model that remembers of which type the values were; its first state is None."""

    def init(self) -> Any:
        return None

    def step(self, state: Any, op: Operation) -> tuple[bool, Any]:
        if op.f == "put":
            return True, (*(state or ()), type(op.argument).__name__)
        return list(state or ()) == op.result, state


@pytest.mark.parametrize("engine", ["core", "fallback"])
def test_equal_values_of_other_types_are_other_operations_of_a_users_model(engine: Any) -> None:
    values = (True, 1, 1.0, None, "1")
    ops = [Operation(f="put", argument=9, process=1, invoked=0, returned=1, outcome="fail")]
    ops += [
        Operation(f="put", argument=v, process=1, invoked=2 + 2 * i, returned=3 + 2 * i) for i, v in enumerate(values)
    ]
    seen = ["bool", "int", "float", "NoneType", "str"]
    for result, verdict in ((seen, "valid"), (["bool"] * 5, "invalid")):
        read = Operation(f="read", result=result, process=2, invoked=90, returned=91)
        decision = decide(Kinds(), [*ops, read], engine=engine)
        assert decision.verdict == verdict
        if verdict == "invalid":
            assert decision.prefix is not None
            failing = decision.operations.operation(decision.prefix.failing)
            assert failing is not None
            assert failing.f == "read"


class Broken(Counter):
    def step(self, state: int, op: Operation) -> tuple[bool, int]:
        raise ZeroDivisionError("the user's own mistake")


def test_an_error_in_a_users_model_is_the_users() -> None:
    for engine in ("core", "fallback"):
        with pytest.raises(ZeroDivisionError, match="own mistake"):
            decide(Broken(), counts(6), engine=engine)


def test_users_model_against_the_built_in_one() -> None:
    class Register:
        def init(self) -> Any:
            return None

        def step(self, state: Any, op: Operation) -> tuple[bool, Any]:
            following = list(oracle.register(state, op, op.outcome == "info"))
            return bool(following), following[0] if following else state

    kind, rng = KINDS["cas-register"], random.Random(11)
    for _ in range(400):
        ops = history(kind, rng, 7, 3, 0.2, 0.7)
        assert decide(Register(), ops).verdict == decide("cas-register", ops).verdict, shown(ops)


def test_never_is_the_end_of_time() -> None:
    assert decide("cas-register", columns([0], [NEVER], [CAS], [1], [2])).verdict == "valid"
