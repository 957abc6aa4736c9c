"""C13: registers by key, each anomaly with a near miss; agreement with every order; budgets and bad input."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from checkers import registers
from checkers.compose import judge
from checkers.event import EventType
from checkers.facts import gather
from checkers.linearizability.decision import Budget
from checkers.linearizability.operations import Operation
from checkers.registers import check_registers
from checkers.verdict import Record, Severity, Validity
from tests.unit.checkers.linearizability.histories import KINDS, history, shape
from tests.unit.checkers.linearizability.oracle import brute_force
from tests.unit.checkers.linearizability.test_brute_force import shown
from tests.unit.checkers.story import MS, TYPE, Story

WORD = re.compile(r"(?P<process>\d+)(?P<mark>[><x?])(?P<f>r|w|cas)\((?P<key>\w+)(?:[=:](?P<value>[\w,]+))?\)")
NAME = {"r": "read", "w": "write", "cas": "cas"}


def told(text: str) -> Story:
    """Tell operations on registers: `0>w(k:1) 0<w(k:1) 1>r(k) 1<r(k=1) 2>cas(k:1,2) 2<cas(k:1,2)`."""
    story = Story()
    for word in text.split():
        match = WORD.fullmatch(word)
        assert match is not None, word
        story.now += MS
        value = None if match["value"] is None else [int(one) for one in match["value"].split(",")]
        given = value if value is None or match["f"] == "cas" else value[0]
        error = {"code": "mismatch"} if match["mark"] == "x" else None
        story.add(int(match["process"]), TYPE[match["mark"]], NAME[match["f"]], given, key=match["key"], error=error)
    return story


def c13(story: Story) -> Record:
    return check_registers(gather(story.history()))


def types(record: Record) -> set[str]:
    return {anomaly.type for anomaly in record.anomalies if anomaly.severity is Severity.VIOLATION}


CASES: list[tuple[str, str, str]] = [
    ("unexpected", "0>w(k:1) 0<w(k:1) 1>r(k) 1<r(k=9)", "0>w(k:1) 0<w(k:1) 1>r(k) 1<r(k=1)"),
    ("future", "1>r(k) 1<r(k=1) 0>w(k:1) 0<w(k:1)", "1>r(k) 0>w(k:1) 1<r(k=1) 0<w(k:1)"),
    (
        "overlap",  # of two values, each read after the other was written
        "0>w(k:1) 0<w(k:1) 0>w(k:2) 0<w(k:2) 1>r(k) 1<r(k=1) 1>r(k) 1<r(k=2)",
        "0>w(k:1) 1>w(k:2) 0<w(k:1) 1<w(k:2) 2>r(k) 2<r(k=1)",
    ),
    (
        "inside",  # a write over before it was read, while another value was there all the time
        "0>w(k:1) 0<w(k:1) 1>w(k:2) 1<w(k:2) 2>r(k) 2<r(k=1)",
        "0>w(k:1) 0<w(k:1) 1>w(k:2) 1?w(k:2) 2>r(k) 2<r(k=1)",
    ),
    (
        "not-linearizable",  # a swap that cannot have found what it found
        "0>w(k:1) 0<w(k:1) 1>cas(k:2,3) 1<cas(k:2,3)",
        "0>w(k:1) 0<w(k:1) 1>cas(k:1,3) 1<cas(k:1,3)",
    ),
    (
        "not-linearizable",  # a swap that found another value where there was none
        "0>w(k:1) 0<w(k:1) 1>cas(k:1,3) 1xcas(k:1,3)",
        "0>w(k:1) 0<w(k:1) 1>cas(k:2,3) 1xcas(k:2,3)",
    ),
    (
        "not-linearizable",  # two values, each written twice
        "0>w(k:1) 0<w(k:1) 0>w(k:2) 0<w(k:2) 0>w(k:1) 0<w(k:1) 1>r(k) 1<r(k=2)",
        "0>w(k:1) 0<w(k:1) 0>w(k:2) 0<w(k:2) 0>w(k:1) 0<w(k:1) 1>r(k) 1<r(k=1)",
    ),
]


@pytest.mark.parametrize(("kind", "caught", "passes"), CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)])
def test_each_anomaly_is_caught_and_its_near_miss_passes(kind: str, caught: str, passes: str) -> None:
    record = c13(told(caught))
    assert types(record) == {kind}
    assert record.valid is Validity.INVALID
    anomaly = record.anomalies[0]
    assert anomaly.scope == "k"
    assert anomaly.core
    assert "no order explains what clients saw of key k: " in anomaly.text
    near = c13(told(passes))
    assert near.valid is Validity.VALID, near.reasons


def test_the_core_is_the_few_operations_that_cannot_be_explained() -> None:
    before, after = (
        " ".join(f"5>w(k:{n}) 5<w(k:{n}) 6>r(k) 6<r(k={n})" for n in range(first, first + 30)) for first in (10, 50)
    )
    record = c13(told(f"{before} 0>w(k:1) 0<w(k:1) 1>w(k:2) 1<w(k:2) 2>r(k) 2<r(k=1) {after}"))
    anomaly = record.anomalies[0]
    assert len(anomaly.core) == 6
    assert anomaly.text.endswith(
        "process 0 wrote 1 from 0.121 to 0.122 s, process 1 wrote 2 from 0.123 to 0.124 s, "
        "process 2 read 1 from 0.125 to 0.126 s"
    )


def test_keys_are_judged_each_for_itself_and_the_worst_come_first() -> None:
    story = told("0>w(a:1) 0<w(a:1) 1>r(a) 1<r(a=1) 0>w(b:1) 0<w(b:1) 1>r(b) 1<r(b=2) 3>r(a) 3?r(a)")
    record = c13(story)
    assert record.counts["keys"] == 2
    assert record.counts["operations"] == 4, "a read of unknown outcome says nothing"
    assert [row["key"] for row in record.details["keys"]] == ["b", "a"]
    assert record.coverage["keys"] == 1.0


def test_a_searched_key_says_how_far_it_got() -> None:
    row = c13(told(CASES[4][1])).details["keys"][0]
    assert row["could not be placed"].startswith("process 1 changed 2 into 3")
    assert row["states tried"]
    assert row["legal before event"] is not None


def test_past_its_budget_a_key_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registers, "BUDGET", Budget(wall_ms=None, nodes=1))
    busy = " ".join(f"{p}>cas(k:{p % 3},{p % 2})" for p in range(9)) + " "
    busy += " ".join(f"{p}<cas(k:{p % 3},{p % 2})" for p in range(9))
    record = c13(told(f"9>w(k:0) {busy} 9<w(k:0) 8>w(other:1) 8<w(other:1)"))
    assert record.valid is Validity.UNKNOWN
    assert "key k could not be decided" in record.reasons[0]
    assert record.coverage["keys"] == 0.5


def test_values_of_another_shape_are_undecided_and_named() -> None:
    story = told("0>w(k:1) 0<w(k:1)")
    story.add(1, "invoke", "cas", 5, key="k")
    story.add(1, "ok", "cas", 5, key="k")
    record = c13(story)
    assert record.valid is Validity.UNKNOWN
    assert "key k cannot be judged" in record.reasons[0]
    assert "[from, to]" in record.reasons[0]


def test_it_runs_where_registers_were_used_and_nowhere_else() -> None:
    assert judge(Story().tell("0>s(a) 0<s(a)@0").events).record("C13") is None
    record = judge(told(CASES[0][1]).events).record("C13")
    assert record is not None
    assert record.valid is Validity.INVALID
    story = Story(required=["C13"]).tell("0>s(a) 0<s(a)@0")
    found = judge(story.events).record("C13")
    assert found is not None
    assert found.valid is Validity.UNKNOWN


@pytest.mark.random
@pytest.mark.parametrize("name", ["register", "cas-register", "register-unique"])
def test_it_says_what_trying_all_orders_says(name: str) -> None:
    kind, rng = KINDS[name], random.Random(f"c13 {name}")
    verdicts = Counter[bool]()
    for number in range(400):
        ops = history(kind, rng, *shape(rng))
        legal = brute_force(kind.spec, kind.init, ops)
        record = c13(as_story(ops))
        assert record.valid is (Validity.VALID if legal else Validity.INVALID), (number, shown(ops), record.reasons)
        verdicts[legal] += 1
    assert min(verdicts.values()) > 50


def as_story(ops: list[Operation]) -> Story:
    """Tell operations on one register, each by a process of its own."""
    story = Story()
    marks = [(op.invoked, 0, place, op) for place, op in enumerate(ops)]
    marks += [(op.returned, 1, place, op) for place, op in enumerate(ops) if op.returned is not None]
    for at, ended, place, op in sorted(marks, key=lambda mark: mark[:3]):
        story.now = at * MS
        failed = bool(ended) and op.result is False
        kind: EventType = "invoke" if not ended else "fail" if failed else "ok" if op.outcome == "ok" else "info"
        value = op.result if op.f == "read" else op.argument
        story.add(place, kind, op.f, value, key="k", error={"code": "mismatch"} if failed else None)
    if not any(op.outcome == "ok" or op.f != "read" for op in ops):
        story.add(99, "invoke", "write", 7, key="other")  # of nothing nothing is known
    return story
