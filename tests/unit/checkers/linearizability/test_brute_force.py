"""Every verdict, count, order and witness against an exhaustive search over small random histories: 105,000 of them.

Each history is judged by the compiled core, every third also by numpy and Python, which must say the same. A valid
verdict comes with an order that a replay accepts, an invalid one with operations that the brute force rejects alone.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from checkers.linearizability.compiled import core
from checkers.linearizability.decision import Decision, decide
from checkers.linearizability.operations import Operation
from tests.unit.checkers.linearizability.histories import KINDS, Kind, changed, history, shape
from tests.unit.checkers.linearizability.oracle import brute_force, replay

HISTORIES = 7000
SEED = 20_260

CLASSES = {
    "fifo": {"duplicate", "unexpected", "premature", "order", "lost", "empty"},
    "fifo-repeated": {"not linearizable"},
    "bag": {"duplicate", "unexpected", "premature", "empty"},
    "bag-repeated": {"not linearizable"},
    "log": {"clash", "disagreement", "unwritten", "hole", "order", "future", "stale"},
    "log-repeated": {"not linearizable", "disagreement"},
    "set": {"duplicate", "unexpected", "fork", "lost", "future", "order"},
    "register-unique": {"unexpected", "future", "overlap", "inside"},
    "register": {"not linearizable"},
    "cas-register": {"not linearizable"},
    "kv-unique": {"unexpected", "future", "overlap", "inside"},
    "kv": {"not linearizable"},
    "kv-append": {"not linearizable"},
    "mutex": {"not linearizable"},
    "multi-register": {"not linearizable"},
}


def shown(ops: Sequence[Operation]) -> str:
    """Return a history as text for a failing assertion."""
    rows = [f"{i}: {op.f} {op.argument} {op.result} [{op.invoked}, {op.returned}]" for i, op in enumerate(ops)]
    return "\n" + "\n".join(rows)


def sources(decision: Decision, rows: Sequence[int]) -> list[int]:
    """Return which operations some rows came from."""
    of = decision.operations.row_source
    return list(dict.fromkeys(int(of[row]) if of is not None else row for row in rows))


def judged(kind: Kind, decision: Decision) -> bool:
    """Return whether a verdict says linearizable; only a total queue may leave open what is still inside."""
    if decision.verdict == "unknown":
        assert kind.model == "total-queue"
        assert "never seen again" in decision.reasons[0]
        return True
    return decision.verdict == "valid"


def only_members_of(part: Sequence[Operation]) -> list[Operation]:
    """Leave in reads only what the part adds: what else they show proves nothing."""
    added = {op.argument for op in part if op.f == "add"}
    return [
        changed(op, result=[one for one in op.result if one in added]) if op.f == "read" and op.result else op
        for op in part
    ]


def prove(kind: Kind, ops: Sequence[Operation], decision: Decision) -> None:
    """Check the evidence that comes with a verdict."""
    if decision.verdict == "valid":
        order = decision.linearization()
        assert order is not None
        assert replay(kind.spec, kind.init, ops, sources(decision, order)), (order, shown(ops))
    if decision.verdict != "invalid":
        return
    assert decision.witnesses, shown(ops)
    for witness in decision.witnesses:
        part = [ops[i] for i in sorted(sources(decision, witness.rows))]
        if witness.anomaly == "not linearizable":
            prefix = decision.prefix
            assert prefix is not None
            part = [
                op if op.returned is None or op.returned <= prefix.event else changed(op, returned=None, outcome="info")
                for op in part
            ]
        if kind.model == "set" and witness.anomaly not in ("duplicate", "unexpected"):
            part = only_members_of(part)
        assert not brute_force(kind.spec, kind.init, part), (witness, shown(ops))


@pytest.mark.random
@pytest.mark.parametrize("name", KINDS)
def test_the_engine_agrees_with_brute_force(name: str) -> None:
    kind, hits = KINDS[name], Counter[str]()
    rng = random.Random(f"{SEED}/{name}")
    verdicts = Counter[bool]()
    for number in range(HISTORIES):
        ops = history(kind, rng, *shape(rng))
        legal = brute_force(kind.spec, kind.init, ops)
        verdicts[legal] += 1
        decision = decide(kind.model, ops)
        assert judged(kind, decision) == legal, (SEED, name, number, decision.counts, shown(ops))
        hits.update(decision.counts)
        if number % 3 == 0:
            other = decide(kind.model, ops, engine="fallback")
            assert (other.verdict, other.counts) == (decision.verdict, decision.counts), (number, shown(ops))
            assert other.engine == "fallback"
            prove(kind, ops, other if number % 2 else decision)
    assert min(verdicts.values()) > HISTORIES / 50, verdicts
    assert CLASSES[name] <= set(hits), CLASSES[name] - set(hits)


def test_the_core_was_built_here() -> None:
    """Where this runs a compiler is at hand, and a build that fails silently would leave the core untested."""
    assert core is not None
