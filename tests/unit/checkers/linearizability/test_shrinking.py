"""Operations drawn freely, without any object behind them: what hypothesis finds it also shrinks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checkers.linearizability.decision import decide
from checkers.linearizability.operations import Operation
from tests.unit.checkers.linearizability.histories import KINDS
from tests.unit.checkers.linearizability.oracle import brute_force
from tests.unit.checkers.linearizability.test_brute_force import judged, prove, shown

SMALL = st.integers(0, 2)
MAYBE = st.none() | SMALL


def calls(name: str) -> st.SearchStrategy[tuple[str, Any, Any]]:
    """Draw (f, argument, result) of a model."""
    if name == "log":
        appends = st.tuples(st.just("append"), SMALL, SMALL).map(lambda t: (t[0], [None, t[1]], [t[2], t[1]]))
        reads = st.tuples(SMALL, MAYBE).map(lambda t: ("read", [t[0], None], [t[0], t[1]]))
        return appends | reads
    if name == "set":
        adds = st.tuples(st.just("add"), SMALL, st.none())
        return adds | st.tuples(st.just("read"), st.none(), st.lists(SMALL, max_size=3))
    if name in ("fifo", "bag"):
        return st.tuples(st.just("enqueue"), SMALL, st.none()) | st.tuples(st.just("dequeue"), st.none(), MAYBE)
    reads = st.tuples(st.just("read"), st.none(), MAYBE)
    writes = st.tuples(st.just("write"), SMALL, st.none())
    swaps = st.tuples(st.just("cas"), st.lists(SMALL, min_size=2, max_size=2), st.booleans())
    return reads | writes if name == "register" else reads | writes | swaps


@st.composite
def histories(draw: st.DrawFn, name: str) -> list[Operation]:
    """Draw up to seven operations with intervals on a short line of time; ties are common."""
    out = []
    for process in range(draw(st.integers(1, 7))):
        f, argument, result = draw(calls(name))
        invoked = draw(st.integers(0, 9))
        lasts = draw(st.none() | st.integers(0, 4))
        out.append(
            Operation(
                f=f,
                argument=argument,
                result=None if lasts is None else result,
                process=process,
                invoked=invoked,
                returned=None if lasts is None else invoked + lasts,
                outcome="info" if lasts is None else "ok",
            )
        )
    return out


@pytest.mark.random
@pytest.mark.parametrize("name", ["fifo", "bag", "log", "set", "register", "cas-register"])
def test_any_operations(name: str) -> None:
    kind = KINDS[name]

    @settings(max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(histories(name))
    def agree(ops: list[Operation]) -> None:
        legal = brute_force(kind.spec, kind.init, ops)
        decisions = [decide(kind.model, ops, engine=engine) for engine in ("core", "fallback")]
        assert [judged(kind, one) for one in decisions] == [legal, legal], shown(ops)
        assert decisions[0].counts == decisions[1].counts
        prove(kind, ops, decisions[0])

    agree()
