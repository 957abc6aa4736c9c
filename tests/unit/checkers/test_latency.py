"""C17: quantiles by phase, censored deliveries, bounds, and whether stalls were hidden."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from checkers.compose import judge
from checkers.facts import gather
from checkers.latency import BIN, check_latency, phases_of
from checkers.verdict import Record, Severity, Validity
from tests.unit.checkers.raft import A, RaftPretend, RaftStory, raft_run
from tests.unit.checkers.story import MS, QUEUE, Story


def c17(story: Story) -> Record:
    return check_latency(gather(story.history()))


def sent(took_ms: list[int], *, story: Story | None = None, late_ms: int = 0, **meta: Any) -> Story:
    """Send one after the other, each answered after so many milliseconds; `late_ms` is how late they were issued."""
    story = story or Story(**meta)
    for number, took in enumerate(took_ms):
        story.now += 1000 * MS
        name = f"r/0/{number}"
        story.add(number, "invoke", "send", name, queue=QUEUE, intended=story.now - late_ms * MS)
        story.now += took * MS
        story.add(number, "ok", "send", name, queue=QUEUE, offset=number, status="SEND_OK", ack="local")
    return story


def row(record: Record, what: str = "send", phase: str = "all") -> dict[str, Any]:
    return next(one for one in record.details["quantiles ms"] if (one["what"], one["phase"]) == (what, phase))


def test_quantiles_are_exact_and_count_from_when_a_send_was_meant() -> None:
    record = c17(sent(list(range(1, 101))))
    assert record.valid is Validity.VALID
    assert record.mode == "open loop"
    assert [row(record)[name] for name in ("p50", "p90", "p99", "p999", "max")] == [50, 90, 99, 100, 100]
    late = row(c17(sent([10] * 10, late_ms=500)))
    assert late["p50"] == 510


def test_without_intended_times_it_says_that_stalls_are_hidden() -> None:
    record = c17(Story().tell("0>s(a) 0<s(a)@0"))
    assert record.mode.startswith("closed loop")


def test_unknown_outcomes_are_left_out_and_counted() -> None:
    record = c17(sent([5, 5]).tell("8>s(x) 8?s(x) 9>s(y) 9xs(y)"))
    assert record.counts["sends measured"] == 2
    assert record.counts["unknown outcome, left out"] == 1


def test_deliveries_count_from_the_send_and_the_undelivered_are_censored() -> None:
    story = sent([2, 2, 2, 2])
    story.now += 10 * MS
    story.tell("90>poll 90<poll=[0:r/0/0,1:r/0/1]")
    record = c17(story)
    found = row(record, "delivery")
    assert (found["count"], found["censored"]) == (2, 2)
    assert isinstance(found["p50"], float)
    assert found["p90"][1] is None
    assert found["p90"][0] == max(found["p50"], found["p90"][0])
    assert record.counts["never delivered"] == 2
    latest = record.metrics["delivery p99 ms"]
    assert isinstance(latest, tuple)
    assert latest[1] == float("inf")


def test_nobody_reads_so_nothing_is_censored() -> None:
    record = c17(sent([2, 2]))
    assert record.counts["never delivered"] == 0
    assert {one["what"] for one in record.details["quantiles ms"]} == {"send"}


@pytest.mark.parametrize(
    ("bounds", "valid"),
    [
        ({"send_ms": {"p50": 50, "max": 100}}, Validity.VALID),
        ({"send_ms": {"p50": 49}}, Validity.INVALID),
        ({"send_ms": {"p42": 49}}, Validity.UNKNOWN),
        ({"delivery_ms": {"p50": 49}}, Validity.UNKNOWN),
    ],
)
def test_only_a_bound_makes_it_more_than_a_figure(bounds: dict[str, Any], valid: Validity) -> None:
    record = c17(sent(list(range(1, 101)), bounds=bounds))
    assert record.valid is valid, record.reasons


def test_a_bound_on_censored_deliveries_is_undecided_until_it_is_passed_for_sure() -> None:
    def story(bound: float) -> Story:
        made = sent([2, 2, 2, 2], bounds={"delivery_ms": {"p90": bound}})
        return made.tell("90>poll 90<poll=[0:r/0/0,1:r/0/1]")

    assert c17(story(60_000)).valid is Validity.UNKNOWN
    record = c17(story(1))
    assert {anomaly.type for anomaly in record.anomalies if anomaly.severity is Severity.VIOLATION} == {
        "latency-exceeded"
    }


def test_phases_follow_the_faults_and_the_recovery() -> None:
    story = sent([2] * 5)
    story.at(10).fault("k", "kill", targets=[A]).at(15).fault("k", "kill", "heal", targets=[A])
    facts = gather(story.history())
    phase, names = phases_of(facts, np.array([1, 10.05, 14, 16], dtype=np.float64).astype(np.int64) * 10**9)
    assert [names[number] for number in phase] == ["before", "during k", "during k", "steady"]
    record = judge(raft_run(RaftPretend(seed=1, gates={"send_ok": 0, "deliveries": 0}))).record("C17")
    assert record is not None
    shown = {one["phase"] for one in record.details["quantiles ms"]}
    assert {"all", "before", "during f0", "steady"} <= shown
    total = sum(
        one["count"] for one in record.details["quantiles ms"] if one["what"] == "send" and one["phase"] != "all"
    )
    assert total == row(record)["count"]


def test_the_histogram_holds_every_send_within_a_per_cent() -> None:
    record = c17(sent([1, 10, 100, 100]))
    bins = record.details["histogram ms"]
    assert sum(count for _, count in bins) == 4
    for (upper, _), true in zip(bins, (1, 10, 100), strict=True):
        assert true <= upper * 1.000001
        assert upper / true <= BIN


def test_an_empty_history_is_no_trouble() -> None:
    record = c17(RaftStory())
    assert record.valid is Validity.VALID
    assert record.counts["sends measured"] == 0
