"""Histories in which a search in depth gets lost: the attempt in breadth finds an order, and a replay accepts it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from checkers import check
from checkers.linearizability.decision import Budget, decide
from checkers.linearizability.operations import NULL, Code, Operations, columns
from lab.checker_bench import generate
from lab.checker_bench.history_file import write_history


def replayed(ops: Operations, order: tuple[int, ...]) -> bool:
    """Tell whether an order is one of a register, of every operation that returned, and in accord with real time."""
    assert ops.a is not None
    assert ops.b is not None
    state, latest = NULL, -1
    for row in order:
        f, a = ops.f[row], int(ops.a[row])
        legal = {Code.WRITE: True, Code.CAS_FAILED: state != a}.get(Code(int(f)), state == a)
        latest = max(latest, int(ops.call[row]))
        if not legal or ops.ret[row] < latest:
            return False
        state = a if f == Code.WRITE else int(ops.b[row]) if f == Code.CAS else state
    done = np.flatnonzero(ops.ret != 1 << 62)
    return len(set(order)) == len(order) and set(done.tolist()) <= set(order)


@pytest.mark.random
@pytest.mark.parametrize(
    ("n", "clients", "unknown", "seed", "most"),
    [(10_000, 20, 0.01, 1, 300_000), (10_000, 20, 0.01, 7, 300_000), (1_000, 50, 0.0, 2, 1_000_000),
     (10_000, 20, 0.05, 5, 300_000)],
)  # fmt: skip
def test_hard_registers_are_decided_within_few_configurations(
    n: int, clients: int, unknown: float, seed: int, most: int
) -> None:
    ops = generate.register(n, clients, unknown, seed=seed)
    decision = decide("cas-register", ops, budget=Budget(wall_ms=None, nodes=most))
    assert decision.verdict == "valid", decision.reasons
    assert decision.nodes > 2 * n, "not a history in which depth first gets lost"
    order = decision.linearization()
    assert order is not None
    assert replayed(ops, order)


def test_breadth_finds_no_order_where_there_is_none() -> None:
    """A history spoilt at its end, after operations of unknown outcome: never valid, whoever has the turn."""
    ops = generate.register(400, 10, 0.05, seed=3)
    end = int(ops.ret[ops.ret != 1 << 62].max())
    assert ops.a is not None
    assert ops.b is not None
    spoilt = columns(
        [*ops.call, end + 1, end + 3], [*ops.ret, end + 2, end + 4], [*ops.f, Code.WRITE, Code.READ],
        [*ops.a, 77, 78], [*ops.b, 0, 0],
    )  # fmt: skip
    assert decide("cas-register", spoilt, budget=Budget(wall_ms=None, nodes=300_000)).verdict != "valid"


@pytest.mark.parametrize(("model", "make"), [("fifo-queue", generate.queue), ("append-log", generate.log)])
def test_generated_files_say_what_their_columns_say(model: str, make: object, tmp_path: Path) -> None:
    assert callable(make)
    ops = make(2_000, 5, 0.02)
    path = tmp_path / "history.jsonl.zst"
    write_history(ops, model, path)
    assert decide(model, ops).verdict == check(path, model).verdict == "valid"
    swapped = columns(ops.call, ops.ret, ops.f, np.where(np.arange(len(ops)) == _seen(ops), 5, ops.a), ops.b)
    write_history(swapped, model, path)
    assert decide(model, swapped).verdict == check(path, model).verdict == "invalid"


def _seen(ops: Operations) -> int:
    """Return a row that saw a value."""
    return int(np.flatnonzero((ops.f == Code.DEQUEUE) | (ops.f == Code.LOG_READ))[-1])
