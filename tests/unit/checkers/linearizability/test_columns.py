"""Raw columns: any ids, any times, any order; and input that no recorder would write."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest

from checkers.linearizability import logs, queues, zones
from checkers.linearizability.compiled import NOTE, core, core_for
from checkers.linearizability.decision import decide
from checkers.linearizability.encoding import ENCODERS
from checkers.linearizability.operations import NEVER, NULL, Code, HistoryError, Operation, Operations, columns
from checkers.linearizability.order import rank
from tests.unit.checkers.linearizability.histories import KINDS, changed, history
from tests.unit.checkers.linearizability.oracle import brute_force
from tests.unit.checkers.linearizability.test_brute_force import judged, shown

BIG = (1 << 60) + 12345


@pytest.mark.skipif(core is None, reason="no compiler was found, so the core is not there")
@pytest.mark.parametrize("model", ["fifo-queue", "total-queue"])
@pytest.mark.parametrize("apart", [0, 3, 40, 4000])
def test_values_leave_in_any_order(model: str, apart: int) -> None:
    """Where a value is looked for first depends on what left before it; what is found does not."""
    rng = np.random.default_rng(apart)
    n = 4000
    ids = rng.integers(1 << 60, size=n)
    leave = np.argsort(np.arange(n) + rng.integers(0, apart + 1, size=n), kind="stable")
    out = ids[leave]
    out[rng.integers(n, size=5)] = 7  # never put in
    out[100:105] = out[90:95]  # twice
    calls = np.concatenate([2 * np.arange(n), 2 * n + 2 * np.arange(n)])
    codes = np.repeat([Code.ENQUEUE, Code.DEQUEUE], n)
    ops = columns(calls, calls + 1, codes, np.concatenate([ids, out]))
    by_core, by_numpy = (decide(model, ops, engine=engine) for engine in ("core", "fallback"))
    assert dict(by_core.counts) == dict(by_numpy.counts)
    assert by_core.counts["duplicate"] == 5
    assert (by_core.counts.get("order", 0) > 0) == (apart > 0 and model == "fifo-queue")


@pytest.mark.random
@pytest.mark.parametrize("name", ["fifo", "bag", "log", "register-unique", "kv-unique"])
def test_what_may_be_changed_without_changing_the_verdict(name: str) -> None:
    """Rename ids to 60-bit numbers, stretch times to a clock's, shuffle rows: same verdict.

    Counts may differ: which of two dequeues of a value is the second depends on the order of rows.
    """
    kind, rng = KINDS[name], random.Random(name)
    shuffle = np.random.default_rng(1)
    for _ in range(500):
        ops = ENCODERS[kind.model](history(kind, rng, rng.randint(3, 30), 4, rng.choice((0.0, 0.3)), 0.7), None)
        plain = replace(ops, names=None, source=None, row_source=None)
        want = decide(kind.model, plain)
        order = shuffle.permutation(len(ops))

        def pick(column: Any, order: Any = order) -> Any:
            return None if column is None else np.ascontiguousarray(column[order])

        ids = shuffle.integers(1 << 60, size=64)
        scale = int(shuffle.integers(1 << 40)) + 1
        a = pick(plain.a)
        other = replace(
            plain,
            call=pick(plain.call) * scale - BIG,
            ret=np.where(pick(plain.ret) == NEVER, NEVER, pick(plain.ret) * scale - BIG),
            f=pick(plain.f),
            a=np.where(a == NULL, NULL, ids[np.maximum(a, 0)]),
            b=pick(plain.b),
            key=None if plain.key is None else pick(plain.key) * BIG,
            items=None,
            item_start=None,
        )
        got = decide(kind.model, other)
        assert got.verdict == want.verdict


@pytest.mark.random
@pytest.mark.parametrize("name", KINDS)
def test_metamorphic(name: str) -> None:
    """Stretching keeps good histories good, narrowing keeps bad ones bad, and a good history may be cut anywhere.

    It stays good without its reads, and with one of them made twice. What processes are called does not matter.
    """
    kind, rng = KINDS[name], random.Random(name + "m")
    good = bad = 0
    for _ in range(400):
        ops = history(kind, rng, 7, 3, 0.15, 0.6)
        wide = [
            changed(op, invoked=op.invoked - rng.randrange(3), returned=op.returned and op.returned + rng.randrange(3))
            for op in ops
        ]
        verdict = decide(kind.model, ops).verdict
        renamed = [changed(op, process=f"client {97 - int(op.process)}") for op in ops]
        assert decide(kind.model, renamed).verdict == verdict
        if verdict != "invalid":  # of a bag that nobody drained it is not known that it is good, nor that it is bad
            good += 1
            assert decide(kind.model, wide).verdict != "invalid", shown(ops)
            reads = [op for op in ops if op.outcome == "ok" and op.f in ("read", "get")]
            twice = [*ops, *(changed(op, process=99) for op in reads[:1])]
            assert decide(kind.model, twice).verdict != "invalid", shown(ops)
            fewer = [op for op in ops if op not in reads or rng.random() < 0.5]
            assert decide(kind.model, fewer).verdict != "invalid", shown(ops)
            end = rng.randrange(40)
            cut = [
                op
                if op.returned is None or op.returned <= end
                else changed(op, returned=None, outcome="info", result=None)
                for op in ops
                if op.invoked <= end
            ]
            assert decide(kind.model, cut).verdict != "invalid", (end, shown(ops))
        elif decide(kind.model, wide).verdict == "invalid":
            bad += 1
            assert decide(kind.model, ops).verdict == "invalid", shown(ops)
    assert good > 30
    assert bad > 5


@pytest.mark.random
def test_ranks_of_both_implementations() -> None:
    """Narrow, wide, tied, shuffled and recorded times: the compiled order is numpy's, up to ties of a kind."""
    assert core is not None
    rng = np.random.default_rng(8)
    sizes = ((0, 1), (1, 1), (50, 20), (50, 10**6), (3000, 1 << 50), (3000, 6000), (20_000, 1 << 62))
    for (n, span), open_at_once in product(sizes, (None, 1, 3, 40)):
        call = rng.integers(-span // 2, span // 2 + 1, size=n)
        longest = max(span // 50, 2)
        if open_at_once is not None:  # in order of calls, as clients record, with ties of calls and returns
            call = np.sort(call) // 4 * 4
            longest = max(open_at_once * span // max(n, 1), 2)
        ret = np.where(rng.random(n) < 0.1, NEVER, call + rng.integers(0, longest, size=n) // 4 * 4)
        events = np.frombuffer(core.order(call, ret), np.uint32)
        rows, is_return = events >> 1, events & 1
        times = np.where(is_return == 1, ret[rows], call[rows])
        assert sorted(events.tolist()) == sorted(
            [2 * i for i in range(n)] + [2 * i + 1 for i in range(n) if ret[i] != NEVER]
        )
        keys = times.astype(object) * 2 + is_return.astype(object)
        assert all(x <= y for x, y in pairwise(keys))
        ranks = rank(call, ret)
        assert np.array_equal(np.sort(ranks.call), np.sort(np.flatnonzero(is_return == 0)))


@pytest.mark.random
def test_both_implementations_on_long_histories() -> None:
    """Thousands of operations with mistakes put in: equal counts of every class."""
    assert core is not None
    rng = random.Random(4)
    sweeps: tuple[tuple[str, Callable[[Operations], Any]], ...] = (
        ("fifo", partial(queues.sweep, ordered=True)),
        ("log", logs.sweep),
    )
    for name, sweep in sweeps:
        kind = KINDS[name]
        for share in (0.0, 0.02, 0.2):
            ops = ENCODERS[kind.model](history(kind, rng, 3000, 20, share, 0.0), None)
            assert ops.a is not None
            a = ops.a.copy()
            spoilt = np.random.default_rng(2).integers(len(a), size=40)
            a[spoilt] = np.roll(a[spoilt], 1)
            bad = replace(ops, a=a)
            for one in (ops, bad):
                if name == "fifo":
                    numbers = core.queue(one.call, one.ret, one.f, one.a, True)
                    classes: Any = queues.CLASSES
                else:
                    numbers, classes = core.log(one.call, one.ret, one.f, one.a, one.b), logs.CLASSES
                swept = sweep(one)
                assert (numbers is None) == swept.ambiguous
                if numbers is not None:
                    assert {k: v for k, v in zip(classes, numbers, strict=False) if v} == swept.counts
    kind = KINDS["kv-unique"]
    for share in (0.0, 0.2):
        ops = ENCODERS["kv"](history(kind, rng, 3000, 20, share, 0.0), None)
        assert ops.a is not None
        a = ops.a.copy()
        reads = np.flatnonzero(ops.f == 0)[::30]
        a[reads] = np.roll(a[reads], 1)
        for one in (ops, replace(ops, a=a)):
            counts, marks = core.zones(one.call, one.ret, one.f, one.a, one.key, NULL, False)
            found = zones.sweep(one, NULL, null_unknown=False)
            assert {k: v for k, v in zip(zones.CLASSES, counts, strict=True) if v} == found.counts
            assert marks is None


def test_a_closed_interval_that_touches_another_is_concurrent_with_it() -> None:
    """Written 5 to 10, and a read called at 10 may still see nothing; one called at 11 may not."""
    for begin, verdict in ((10, "valid"), (11, "invalid")):
        ops = [
            Operation(f="write", argument=1, process=0, invoked=5, returned=10),
            Operation(f="read", result=None, process=1, invoked=begin, returned=20),
        ]
        assert decide("register", ops).verdict == verdict


def test_stray_ids_and_offsets_size_no_array() -> None:
    for model, ops in (
        ("fifo-queue", columns([0, 2, 4], [1, 3, 5], [5, 5, 6], [BIG, -BIG, BIG])),
        ("append-log", columns([0, 2], [1, 3], [4, 8], [1, 1], [0, BIG])),
        ("append-log", columns([0, 2], [1, 3], [4, 4], [1, 2], [BIG, -5])),
        ("register", columns([0, -BIG], [1 << 61, 1 << 61], [1, 0], [BIG, BIG])),
    ):
        decisions = [decide(model, ops, engine=engine) for engine in ("core", "fallback")]
        assert decisions[0].verdict == decisions[1].verdict
        assert decisions[0].counts == decisions[1].counts


def test_columns_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        columns([0, 1], [1], [5], [1])
    backwards = columns([5], [1], [5], [1])
    with pytest.raises(ValueError, match="row 0 returns at 1, before its call at 5"):
        decide("fifo-queue", backwards)
    with pytest.raises(ValueError, match="no operation of code 1"):
        decide("fifo-queue", columns([0], [1], [1], [1]))
    assert core is not None
    one = np.zeros(1, np.int64)
    for wrong in (np.zeros(2, np.int64), np.zeros(1, np.int32), b"12345678", 5, None):
        with pytest.raises((ValueError, TypeError)):
            core.queue(one, one, wrong, one, True)
    with pytest.raises(ValueError, match="part 0"):
        core.registers(one, one, np.zeros(1, np.uint8), one, one, np.array([0, 9]), 0, False, 0, 0, 0, True, False)


def test_shapes_that_no_model_knows_are_refused_with_the_line() -> None:
    op = Operation(f="enqueue", argument=None, process=3, invoked=7, returned=8, invoked_line=21)
    with pytest.raises(HistoryError, match="line 21: enqueue of process 3: null cannot be put in"):
        decide("fifo-queue", [op])
    with pytest.raises(HistoryError, match="did you mean fifo-queue"):
        decide("fifo-queu", [])
    with pytest.raises(HistoryError, match="needs init"):
        decide(object(), [])
    with pytest.raises(HistoryError, match="before its call"):
        decide("register", [Operation(f="write", argument=1, process=0, invoked=9, returned=3)])


def test_an_empty_history_is_valid_everywhere() -> None:
    for model in ENCODERS:
        for engine in ("core", "fallback"):
            decision = decide(model, [], engine=engine)
            assert decision.verdict == "valid"
            assert decision.linearization() == ()


def test_the_initial_state() -> None:
    take = Operation(f="dequeue", result="x", process=0, invoked=1, returned=2)
    assert decide("fifo-queue", [take], init=["x"]).verdict == "valid"
    assert decide("fifo-queue", [take]).verdict == "invalid"
    read = Operation(f="read", argument=[1, None], result=[1, "b"], process=0, invoked=1, returned=2)
    assert decide("append-log", [read], init=["a", "b"]).verdict == "valid"
    held = Operation(f="release", process=0, invoked=1, returned=2)
    assert decide("mutex", [held], init=True).verdict == "valid"
    assert decide("mutex", [held]).verdict == "invalid"
    get = Operation(f="get", argument=["k", None], result=["k", 5], process=0, invoked=1, returned=2)
    assert decide("kv", [get], init={"k": 5}).verdict == "valid"
    assert decide("kv", [get], init={"j": 5}).verdict == "invalid"
    assert decide("fifo-queue", columns([5], [6], [6], [9]), init=[9]).verdict == "valid"
    members = Operation(f="read", result=[1, 2], process=0, invoked=1, returned=2)
    assert decide("set", [members], init=[1, 2]).verdict == "valid"


def test_reads_of_null() -> None:
    ops = [
        Operation(f="write", argument=1, process=0, invoked=1, returned=2),
        Operation(f="read", result=None, process=1, invoked=3, returned=4),
    ]
    for model in ("register", "cas-register"):
        assert decide(model, ops).verdict == "invalid"
        assert decide(model, ops, null_read="unknown").verdict == "valid"


def test_a_drain_finds_nothing_only_after_it_has_taken_all() -> None:
    """When the queue was empty before `w` was in, `v` was not there to be taken; after that, `w` was inside."""

    def op(f: str, value: object, process: int, invoked: int, returned: int) -> Operation:
        put = f == "enqueue"
        return Operation(
            f=f,
            argument=value if put else None,
            result=None if put else value,
            process=process,
            invoked=invoked,
            returned=returned,
        )

    late = [op("enqueue", "w", 1, 1, 4), op("drain", ["v"], 2, 0, 10), op("dequeue", "w", 4, 11, 12)]
    assert decide("total-queue", [*late, op("enqueue", "v", 3, 5, 6)]).verdict == "invalid"
    assert decide("total-queue", [*late, op("enqueue", "v", 3, 2, 6)]).verdict == "valid"


def test_a_drain_decides_what_is_missing() -> None:
    put = Operation(f="enqueue", argument="v", process=0, invoked=1, returned=2)
    drain = Operation(f="drain", result=[], process=1, invoked=3, returned=4)
    assert decide("total-queue", [put]).verdict == "unknown"
    assert decide("total-queue", [put, drain]).verdict == "invalid"
    assert decide("total-queue", [put, changed(drain, result=["v"])]).verdict == "valid"
    assert decide("total-queue", [put, changed(drain, outcome="info", result=None)]).verdict == "unknown"
    twice = [put, changed(drain, result=["v"]), Operation(f="dequeue", result="v", process=2, invoked=5, returned=6)]
    assert decide("total-queue", twice).verdict == "invalid"
    assert decide("total-queue", twice, delivery="at-least-once").verdict == "valid"
    together = [
        put,
        changed(put, argument="w", process=4),
        changed(drain, result=["v"]),
        changed(drain, process=5, result=["w"]),
    ]
    assert decide("total-queue", together).verdict == "valid"


def test_true_is_not_one() -> None:
    ops = [Operation(f="write", argument=1, process=0, invoked=1, returned=2)]
    assert (
        decide("register", [*ops, Operation(f="read", result=True, process=1, invoked=3, returned=4)]).verdict
        == "invalid"
    )
    assert (
        decide("register", [*ops, Operation(f="read", result=1.0, process=1, invoked=3, returned=4)]).verdict == "valid"
    )


def test_the_fallback_says_that_it_is_in_use() -> None:
    ops = [Operation(f="write", argument=1, process=0, invoked=1, returned=2)]
    assert decide("register", ops, engine="fallback").engine == "fallback"
    assert decide("register", ops).engine == "core"
    assert "slower" in NOTE
    assert core_for("fallback") is None


def test_an_observed_unknown_enqueue_of_a_history_with_names() -> None:
    ops = [
        Operation(f="enqueue", argument={"id": [1, "é"]}, process=0, invoked=1, outcome="info"),
        Operation(f="dequeue", result={"id": [1, "é"]}, process=1, invoked=2, returned=3),
    ]
    assert brute_force(KINDS["fifo"].spec, (), [])
    decision = decide("fifo-queue", ops)
    assert judged(KINDS["fifo"], decision)
    assert decision.metrics["recovered"] == 1
    assert isinstance(decision.operations, Operations)
