"""Golden vectors of the checkers by their numbers: the smallest histories whose verdict nobody may change.

Those of replicas (27-29), leaders (30, 31), consumer offsets (32-34) and sets (38-40) are beside their checkers' tests;
the last test here sees to it that none of the 42 is missing anywhere.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from checkers.append_log import STRICT, check_append_log
from checkers.compose import judge
from checkers.facts import Facts, gather
from checkers.fault_proof import check_fault_proof
from checkers.fifo_queue import check_fifo_queue
from checkers.history import History
from checkers.loss import losses
from checkers.queue_log import check_queue_log
from checkers.total_queue import check_total_queue
from checkers.verdict import ExitCode, Record, Severity, Validity, exit_code
from tests.unit.checkers.story import MS, Story

VALID, UNKNOWN, INVALID = Validity.VALID, Validity.UNKNOWN, Validity.INVALID


def facts(story: Story) -> Facts:
    return gather(story.history())


def c1(story: Story) -> Record:
    return check_total_queue(facts(story))


def c5(story: Story, mode: str | None = None) -> Record:
    return check_append_log(facts(story), mode)


def c6(story: Story) -> Record:
    return check_queue_log(facts(story))


def types(record: Record, severity: Severity = Severity.VIOLATION) -> set[str]:
    return {anomaly.type for anomaly in record.anomalies if anomaly.severity is severity}


def test_1_an_acknowledged_and_drained_value_is_valid() -> None:
    assert c1(Story().tell("0>s(a) 0<s(a)@0").drain("[a]")).valid is VALID


def test_2_an_acknowledged_value_missing_from_a_decidable_drain_is_lost() -> None:
    record = c1(Story().tell("0>s(a) 0<s(a)@0").drain("[]"))
    assert record.valid is INVALID
    assert record.counts["lost"] == 1
    assert record.anomalies[0].values == ("r/0/a",)
    assert record.anomalies[0].core == (2, 3)


@pytest.mark.parametrize("rule", ["D2", "D3", "D4", "D5", "D6", "D10"])
def test_3_missing_from_a_drain_that_broke_a_rule_is_undecided(rule: str) -> None:
    record = c1(Story().tell("0>s(a) 0<s(a)@0").drain("[]", rules={rule: False}))
    assert record.valid is UNKNOWN
    assert record.counts["lost (undecided)"] == 1


def test_4_an_unknown_send_may_be_absent() -> None:
    assert c1(Story().tell("0>s(a) 0?s(a)").drain("[]")).valid is VALID


def test_5_an_unknown_send_may_be_present() -> None:
    record = c1(Story().tell("0>s(a) 0?s(a)").drain("[a]"))
    assert record.valid is VALID
    assert record.counts["recovered (note)"] == 1


def test_6_a_failed_send_that_shows_up_is_revived_and_an_aborted_read() -> None:
    story = Story().tell("0>s(a) 0xs(a)").drain("[a]")
    assert types(c1(story)) == {"revived"}
    assert "G1a" in types(c6(story))


def test_7_a_value_nobody_sent_is_unexpected() -> None:
    assert types(c1(Story().drain("[z]"))) == {"unexpected"}


def test_8_one_attempt_at_two_offsets_is_a_duplicate() -> None:
    story = Story().tell("0>s(a) 0<s(a)@3 1>poll 1<poll=[3:a] 1>poll 1<poll=[7:a]")
    record = c6(story)
    assert record.valid is INVALID
    assert "duplicate" in types(record)
    assert "duplicated" in types(c1(story))
    assert c1(story).anomalies[0].core == (2, 3, 5, 7), "the send, its answer, and a read of each copy"


def test_9_two_attempts_may_leave_two_copies() -> None:
    record = c6(Story().tell("0>s(a) 0<s(a)@3*2 1>poll 1<poll=[3:a] 1>poll 1<poll=[7:a]"))
    assert record.valid is VALID
    assert types(record, Severity.NOTE) == {"retry-duplicate"}
    drained = "0>s(a) 0<s(a)@0*2 1>s(b) 1<s(b)@1 2>poll 2<poll=[0:a,1:b,2:a]"
    record = c6(Story().tell(drained).drain("[a,b,a]"))
    assert record.valid is VALID
    assert "retry-duplicate" in types(record, Severity.NOTE)


def test_10_a_drain_that_broke_off_counts_what_it_found() -> None:
    story = Story().tell("0>s(a) 0<s(a)@0 1>s(b) 1<s(b)@1").drain("[a]", kind="info")
    record = c1(story)
    assert record.valid is UNKNOWN
    assert record.counts["lost (undecided)"] == 2  # b, and the sentinel nobody got to
    assert all("r/0/a" not in anomaly.values for anomaly in record.anomalies)


A_THEN_B = "0>s(a) 0<s(a) 0>s(b) 0<s(b)"
QUEUES: list[tuple[int, str, str | None, int]] = [
    (11, f"{A_THEN_B} 1>d 1<d=b 1>d 1<d=a", "order", 8),
    (12, "0>s(a) 1>s(b) 0<s(a) 1<s(b) 2>d 2<d=b 2>d 2<d=a", None, 0),
    (13, f"{A_THEN_B} 1>d 1<d=b", "order", 6),
    (14, f"{A_THEN_B} 1>d 2>d 2?d 1<d=b", None, 0),
    (15, f"{A_THEN_B} 1>d 1<d=b 2>d 2?d", "order", 6),
    (16, "0>s(a) 0<s(a) 1>d 1<d=∅", "empty", 4),
    (17, "0>s(a) 1>d 1<d=∅ 0<s(a)", None, 0),
    (18, "1>d 1<d=a 0>s(a) 0<s(a)", "fresh", 4),
    (19, "0>s(a) 0?s(a) 1>d 1<d=a", None, 0),
]


@pytest.mark.parametrize(("number", "tale", "kind", "events"), QUEUES, ids=[f"vector {one[0]}" for one in QUEUES])
def test_11_to_19_a_queue_gives_first_what_was_put_in_first(
    number: int, tale: str, kind: str | None, events: int
) -> None:
    record = check_fifo_queue(facts(Story().tell(tale)))
    assert record.valid is (VALID if kind is None else INVALID), number
    assert types(record) == (set() if kind is None else {kind})
    if kind is not None:
        assert len(record.anomalies[0].core) == events
        assert "r/0/a" in record.anomalies[0].text


def test_20_an_append_over_before_another_began_may_not_stand_above_it() -> None:
    story = Story().tell("0>s(a) 0<s(a)@1 1>s(b) 1<s(b)@0").drain("[b,a]")
    record = c5(story)
    assert record.valid is INVALID
    assert record.anomalies[0].core == (2, 3, 4, 5)
    assert record.anomalies[0].offsets == (1, 0)


def test_21_overlapping_appends_may_stand_in_either_order() -> None:
    assert c5(Story().tell("0>s(a) 1>s(b) 0<s(a)@1 1<s(b)@0").drain("[b,a]")).valid is VALID


def test_22_a_stale_end_offset_counts_only_in_strict_mode() -> None:
    story = Story().tell("0>s(a) 0<s(a)@0 1>end 1<end=0").drain("[a]")
    assert c5(story, STRICT).valid is INVALID
    assert c5(story).valid is VALID


def test_23_a_reader_that_skips_is_wrong_when_assigned_and_noted_when_subscribed() -> None:
    tale = "0>s(a) 0<s(a)@0 0>s(b) 0<s(b)@1 0>s(c) 0<s(c)@2 0>s(d) 0<s(d)@3 1>poll 1<poll=[0:a,1:b] 1>poll 1<poll=[3:d]"
    record = c6(Story().tell(tale).drain("[a,b,c,d]"))
    assert types(record) == {"poll-skip"}
    assert record.anomalies[0].values == ("r/0/c",)
    record = c6(Story(mode="subscribe").tell(tale).drain("[a,b,c,d]"))
    assert record.valid is VALID
    assert "poll-skip" in types(record, Severity.NOTE)


def test_24_the_successor_of_a_retired_reader_starts_with_no_memory() -> None:
    for again in ("[1:b]", "[0:a,1:b]"):
        tale = f"0>s(a) 0<s(a)@0 0>s(b) 0<s(b)@1 1>poll 1?poll=[1:b] 11>poll 11<poll={again}"
        assert c6(Story().tell(tale).drain("[a,b]")).valid is VALID


def test_25_a_message_readers_went_beyond_and_never_saw_is_a_lost_write() -> None:
    tale = "0>s(a) 0<s(a)@0 0>s(b) 0<s(b)@1 0>s(c) 0<s(c)@2 1>poll 1<poll=[0:a] 2>poll 2<poll=[2:c]"
    record = c6(Story().tell(tale))
    assert types(record) == {"lost-write"}
    assert record.anomalies[0].values == ("r/0/b",)


def test_26_two_values_at_one_offset() -> None:
    tale = "0>s(x) 0<s(x)@5 1>s(y) 1<s(y)@5 2>poll 2<poll=[5:x] 3>poll 3<poll=[5:y]"
    story = Story().tell(tale)
    assert "inconsistent-offsets" in types(c6(story))
    record = c5(story)
    assert record.valid is UNKNOWN
    assert "see C6" in record.reasons[0]


def availability_story() -> Story:
    story = Story()
    for number in range(100):
        story.at(number / 10).tell(f"{number}>s({number}) {number}<s({number})@{number}")
    return story


def test_35_time_to_recover_is_an_interval() -> None:
    story = availability_story()
    story.at(10.0).fault("k", "kill", targets=["broker-a-0"], lasts=0.1)
    story.at(13.0 - 0.001).tell("200>s(200) 200?s(200)")
    for number in range(80):
        at = 13.1 + number / 10
        story.at(at - 0.001).tell(f"{300 + number}>s({300 + number})")
        story.at(at + 0.1 - 0.001).tell(f"{300 + number}<s({300 + number})@{100 + number}")
        if number == 5:
            story.fault("k", "kill", "heal", targets=["broker-a-0"], lasts=0.0)
    story.drain("[]")
    verdict = judge(story.events, only=["C14"])
    rto = verdict.faults[0]["rto"]
    assert (rto["state"], rto["rto"]) == ("recovered", [2.9, 3.2])
    assert rto["scope"] == "send t/broker-a/0"


def test_36_without_a_failing_operation_the_gap_is_the_bound_and_the_gate_speaks() -> None:
    story = Story(gates={"attempts_per_fault": 1})
    for number in range(200):
        at = number / 10 if number < 100 else 13 + (number - 100) / 10
        if number == 100:
            story.at(10.0).fault("k", "kill", targets=["broker-a-0"], lasts=0.1)
            story.at(12.0).fault("k", "kill", "heal", targets=["broker-a-0"], lasts=0.1)
        story.at(at).tell(f"{number}>s({number}) {number}<s({number})@{number}")
    story.drain("[]")
    verdict = judge(story.events, only=["C0", "C14"])
    rto = verdict.faults[0]["rto"]
    assert rto["state"] == "none visible"
    assert rto["rto"] == [0.0, pytest.approx(3.1, abs=0.01)]
    activity = verdict.record("C0")
    assert activity is not None
    assert activity.valid is UNKNOWN
    assert "only 0 sends were attempted while kill" in activity.reasons[0]


def test_37_the_age_of_the_oldest_lost_acknowledgement() -> None:
    story = Story()
    story.at(9.4 - 0.002).tell("0>s(a) 0<s(a)@0")
    story.at(10.0).fault("d", "destroy", targets=["broker-a-0"], lasts=0.1)
    story.at(12.0).drain("[]", excluded=("broker-a-0",))
    (loss,) = losses(facts(story))
    assert (loss.fault, loss.promised) == ("d", 1)
    assert loss.age == pytest.approx((0.6, 0.7))


def test_41_a_heal_that_is_not_proven_decides_nothing() -> None:
    story = Story().tell("0>s(a) 0<s(a)@0")
    story.fault("p", "partition", targets=["broker-a-0", "broker-a-1"])
    story.fault("p", "partition", "heal", targets=["broker-a-0", "broker-a-1"], verified=False)
    story.drain("[]")
    proof = check_fault_proof(facts(story))
    assert proof.valid is UNKNOWN
    assert [anomaly.type for anomaly in proof.anomalies] == ["unproven-heal"]
    assert c1(story).valid is UNKNOWN


def test_42_in_a_batch_invalid_dominates() -> None:
    assert exit_code([VALID, UNKNOWN, INVALID]) is ExitCode.INVALID
    assert exit_code([VALID, UNKNOWN]) is ExitCode.UNKNOWN
    assert exit_code([VALID]) is ExitCode.VALID
    assert exit_code([]) is ExitCode.UNKNOWN


def test_none_of_the_vectors_is_missing() -> None:
    found: set[int] = set()
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for numbers in re.findall(r"def test_((?:\d+_)(?:to_\d+_)?)", path.read_text(encoding="utf-8")):
            first, *last = (int(one) for one in re.findall(r"\d+", numbers))
            found.update(range(first, (last[0] if last else first) + 1))
    assert found == set(range(1, 43))
    assert [number for number, *_ in QUEUES] == list(range(11, 20))


def test_the_notation_numbers_events_densely() -> None:
    history: History = Story().tell("0>s(a) 0<s(a)@0").history()
    assert history.breach_counts == {}
    assert history.time_of(2) == MS
