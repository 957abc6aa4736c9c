"""RTO and RPO against the bounds of a plan, and the corners of both measurements."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from checkers.availability import HOLD_NS, Scope, recovery_point
from checkers.compose import judge
from checkers.history import Event
from checkers.meta import MetaError
from checkers.verdict import Validity, Verdict
from tests.unit.checkers.runs import Pretend, pretend_run
from tests.unit.checkers.story import NODES, Story

S = 1_000_000_000


def bounded(synchronous: bool, **bounds: Any) -> dict[str, Validity]:
    events: list[Event] = pretend_run(Pretend(synchronous=synchronous))
    events[0].value["bounds"] = bounds
    return {record.checker: record.valid for record in judge(events).records}


@pytest.mark.parametrize(
    ("bound", "expected"), [(1.0, Validity.INVALID), (2.5, Validity.UNKNOWN), (5.0, Validity.VALID)]
)
def test_a_bound_on_recovery_is_broken_undecided_or_kept(bound: float, expected: Validity) -> None:
    assert bounded(True, rto_s=bound)["C14"] is expected


@pytest.mark.parametrize(
    ("synchronous", "bounds", "expected"),
    [
        (True, {"rpo_count": 0, "rpo_s": 0.0}, Validity.VALID),
        (True, {"lost_weak": 10}, Validity.INVALID),
        (True, {"lost_weak": 1000}, Validity.VALID),
        (False, {}, Validity.VALID),  # C1 judges the loss; C16 measures it
        (False, {"rpo_count": 1000, "rpo_s": 10.0}, Validity.VALID),
        (False, {"rpo_count": 100}, Validity.INVALID),
        (False, {"rpo_s": 3.05}, Validity.UNKNOWN),
        (False, {"rpo_s": 1.0}, Validity.INVALID),
    ],
)
def test_a_bound_on_loss(synchronous: bool, bounds: dict[str, float], expected: Validity) -> None:
    assert bounded(synchronous, **bounds)["C16"] is expected


def scope(text: str, period_s: float) -> Scope:
    """Read `+` as a success and `-` as a failure, one each period."""
    begin = np.array([round(place * period_s * S) for place in range(len(text))], dtype=np.int64)
    return Scope("send", begin, begin + 1, np.array([mark == "+" for mark in text]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+" * 80, 0),
        ("--" + "+" * 80, 2),
        ("--++--" + "+" * 80, 6),
        ("-" * 80, None),
        ("-" * 78 + "++", None),
        ("-" * 70 + "+" * 10, 70),
    ],
)
def test_recovery_is_the_first_success_that_lasts(text: str, expected: int | None) -> None:
    one = scope(text, 0.1)
    point = recovery_point(one, 0, int(one.begin[-1]), HOLD_NS, 10)
    assert (None if point is None else point[0]) == expected
    if expected == 70:
        assert point is not None
        assert point[1]


def test_a_service_that_stays_away_until_its_healing() -> None:
    story = Story()
    story.at(1.0).fault("p", "partition", targets=[NODES[0]])
    for number, tenth in enumerate(range(10, 200)):
        at = 1.2 + tenth / 10
        if tenth == 100:
            story.fault("p", "partition", "heal", targets=[NODES[0]])
        story.at(max(at, story.now / 1e9)).tell(f"{number}>s({number})")
        story.tell(f"{number}<s({number})@{number}" if tenth >= 105 else f"{number}xs({number})")
    fault = judge(story.drain("[]").events, only=["C14"]).faults[0]
    assert fault["rto"]["state"] == "after heal"
    assert fault["rto"]["rto"][1] is None
    lower, upper = fault["rto"]["after_heal"]
    assert 0.3 < lower < upper < 0.8


def test_a_group_that_waits_for_nobody_is_called_so() -> None:
    groups = {"broker-a": {"nodes": NODES, "copies": 1, "flush": "SYNC_FLUSH", "role": "SYNC_MASTER"}}
    assert "waits for nobody" in judge(Story(groups=groups).drain("[]").events).promise


def test_an_interrupted_run_is_valid_at_no_rate() -> None:
    """Nobody signs for what was left out; what was lost until then is lost all the same."""

    def cut(drained: str) -> Verdict:
        story = Story().tell("0>s(a) 0<s(a)@0")
        story.phase("interrupted")
        return judge(story.drain(drained).events)

    assert cut("[a]").valid is Validity.UNKNOWN
    assert any("cut short" in reason for reason in cut("[a]").why)
    assert "interrupted" in cut("[a]").why[0], "what explains most comes first"
    assert cut("[]").valid is Validity.INVALID


def test_gates_can_be_set_by_name_only() -> None:
    verdict = judge(Story(gates={"send_okk": 1}).tell("0>s(a) 0<s(a)@0").drain("[a]").events)
    assert verdict.valid is Validity.UNKNOWN
    assert any("there is no gate send_okk" in reason for reason in verdict.why)


@pytest.mark.parametrize(
    "meta",
    [
        {"bounds": {"rto": 5}},
        {"progress": {"grace": 1}},
        {"routing": {"register": 1}},
        {"offsets": {"durables": True}},
    ],
)
def test_a_limit_of_an_unknown_name_is_refused_and_not_ignored(meta: dict[str, Any]) -> None:
    with pytest.raises(MetaError, match="unknown field"):
        judge(Story(**meta).tell("0>s(a) 0<s(a)@0").drain("[a]").events)


def test_a_bound_on_a_service_that_nobody_used_is_not_kept() -> None:
    story = Story(bounds={"rto_s": 5}).fault("k", "kill", targets=[NODES[0]])
    record = judge(story.drain("[]").events, only=["C14"]).record("C14")
    assert record is not None
    assert record.valid is not Validity.VALID


def test_a_bound_on_weak_losses_is_unknown_where_the_drain_proves_nothing() -> None:
    def c16(**rules: bool) -> Validity:
        story = Story(bounds={"lost_weak": 0}).tell("0>s(a) 0<s(a)@0 1>s(b) 1<s(b)@1!FLUSH_SLAVE_TIMEOUT")
        record = judge(story.drain("[a,b]" if not rules else "[a]", rules=rules).events, only=["C16"]).record("C16")
        assert record is not None
        return record.valid

    assert c16() is Validity.VALID
    assert c16(D4=False) is Validity.UNKNOWN
