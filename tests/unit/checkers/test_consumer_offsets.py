"""C11 with its golden vectors 32-34: rollbacks, offsets that vanish, offsets from nowhere."""

from __future__ import annotations

import re
from typing import Any

import pytest

from checkers.compose import judge
from checkers.consumer_offsets import check_consumer_offsets
from checkers.facts import gather
from checkers.report.terminal import render_text
from checkers.verdict import Record, Severity, Validity
from tests.unit.checkers.raft import RaftStory
from tests.unit.checkers.story import MS, QUEUE, TYPE, Story

WORD = re.compile(r"(?P<process>\d+)(?P<mark>[><x?])(?P<f>commit|fetch|reset|start)(?:\((?P<value>-?\d+|none)\))?")
NAMES = {"commit": "commit", "fetch": "fetch-offset", "reset": "reset-offset", "start": "start-offset"}


def told(text: str, story: Story | None = None, *, durable: bool | None = True, **offsets: Any) -> Story:
    """Tell consumer offset operations: `0>commit(100) 0<commit(100) 1>fetch 1<fetch(40)`."""
    story = story or Story()
    story.events[0].value["offsets"] = {"durable": durable, **offsets}
    for word in text.split():
        match = WORD.fullmatch(word)
        assert match is not None, word
        story.now += MS
        value = None if match["value"] in (None, "none") else int(match["value"])
        story.add(int(match["process"]), TYPE[match["mark"]], NAMES[match["f"]], value, group="g", queue=QUEUE)
    return story


def c11(story: Story) -> Record:
    return check_consumer_offsets(gather(story.history()))


def types(record: Record, severity: Severity = Severity.VIOLATION) -> set[str]:
    return {anomaly.type for anomaly in record.anomalies if anomaly.severity is severity}


def test_32_a_durable_commit_that_is_not_found_again_is_a_rollback() -> None:
    record = c11(told("0>commit(40) 0<commit(40) 0>commit(100) 0<commit(100) 1>fetch 1<fetch(40)"))
    assert types(record) == {"rollback"}
    assert record.metrics["largest rollback"] == 60
    assert len(record.anomalies[0].core) == 4


def test_33_a_commit_of_unknown_outcome_may_be_missing() -> None:
    record = c11(told("0>commit(40) 0<commit(40) 0>commit(100) 0?commit(100) 1>fetch 1<fetch(40)"))
    assert record.valid is Validity.VALID, record.reasons


@pytest.mark.parametrize("answer", ["0", "-1", "none"])
def test_34_no_offset_after_an_acknowledged_commit_has_vanished(answer: str) -> None:
    record = c11(told(f"0>commit(100) 0<commit(100) 1>fetch 1<fetch({answer})", durable=False))
    assert types(record) == {"vanished"}
    assert record.valid is Validity.INVALID


def test_what_was_committed_and_found_is_valid() -> None:
    assert c11(told("0>commit(100) 0<commit(100) 1>fetch 1<fetch(100)")).valid is Validity.VALID
    assert c11(told("0>commit(100) 0?commit(100) 1>fetch 1<fetch(100)")).valid is Validity.VALID
    assert c11(told("1>fetch 1<fetch(none)")).valid is Validity.VALID


def test_a_fetch_that_overlaps_the_commit_may_miss_it() -> None:
    before = "0>commit(40) 0<commit(40) "
    assert c11(told(before + "0>commit(100) 1>fetch 0<commit(100) 1<fetch(40)")).valid is Validity.VALID


def test_without_a_promise_a_rollback_is_a_note_up_to_its_budget() -> None:
    text = "0>commit(40) 0<commit(40) 0>commit(100) 0<commit(100) 1>fetch 1<fetch(40)"
    record = c11(told(text, durable=False))
    assert record.valid is Validity.VALID
    assert types(record, Severity.NOTE) == {"rollback"}
    assert types(c11(told(text, durable=False, max_rollback=59))) == {"rollback"}
    assert types(c11(told(text, durable=False, max_rollback=60)), Severity.NOTE) == {"rollback"}


def test_one_rollback_is_one_finding() -> None:
    text = "0>commit(40) 0<commit(40) 0>commit(100) 0<commit(100) 1>fetch 1<fetch(40) 1>fetch 1<fetch(40)"
    record = c11(told(text))
    assert record.counts["rollback"] == 1
    assert c11(told(text + " 1>fetch 1<fetch(0)")).counts["vanished"] == 1


def test_a_reset_starts_anew() -> None:
    text = "0>commit(100) 0<commit(100) 2>reset(40) 2<reset(40) 1>fetch 1<fetch({})"
    assert c11(told(text.format(40))).valid is Validity.VALID
    assert types(c11(told("0>commit(10) 0<commit(10) " + text.format(10)))) == {"rollback"}
    during = "0>commit(100) 0<commit(100) 2>reset(40) 1>fetch 1<fetch(40) 2<reset(40)"
    assert c11(told(during)).valid is Validity.VALID
    beside = "0>commit(100) 2>reset(40) 2<reset(40) 0<commit(100) 1>fetch 1<fetch(40)"
    assert c11(told(beside)).valid is Validity.VALID, "the commit may have come before the reset"
    within = "0>commit(100) 0<commit(100) 1>fetch 2>reset(40) 2<reset(40) 1<fetch(40)"
    assert c11(told(within)).valid is Validity.VALID, "the reset may have come before the fetch"
    unknown = "0>commit(100) 0<commit(100) 2>reset(40) 2?reset(40) 1>fetch 1<fetch(40)"
    assert c11(told(unknown)).valid is Validity.VALID


def test_offsets_that_nobody_committed_come_from_nowhere() -> None:
    assert types(c11(told("0>commit(100) 0<commit(100) 1>fetch 1<fetch(101)"))) == {"from-nowhere"}
    text = "0>commit(40) 0<commit(40) 0>commit(100) 0?commit(100) 1>fetch 1<fetch(70)"
    assert types(c11(told(text))) == {"from-nowhere"}
    assert types(c11(told("0>commit(40) 0xcommit(40) 3>commit(20) 3<commit(20) 1>fetch 1<fetch(40)"))) == {
        "from-nowhere"
    }


def test_a_new_consumer_must_begin_where_the_commits_left_off() -> None:
    commits = "0>commit(40) 0<commit(40) 0>commit(100) 0<commit(100) "
    assert c11(told(commits + "1>start 1<start(100)")).valid is Validity.VALID
    assert types(c11(told(commits + "1>start 1<start(120)"))) == {"start-mismatch"}
    assert types(c11(told(commits + "1>start 1<start(40)"))) == {"rollback"}


def test_an_offset_beyond_the_queue_would_skip_messages() -> None:
    def story(offset: int) -> Story:
        made = Story().tell("0>s(a) 0<s(a)@0 0>s(b) 0<s(b)@1")
        told(f"1>commit({offset}) 1<commit({offset}) 2>fetch 2<fetch({offset})", made)
        return made.tell("0>s(c) 0<s(c)@2").drain("[a,b,c]")

    assert c11(story(2)).valid is Validity.VALID
    assert types(c11(story(3))) == {"beyond-end"}, "c had not been sent yet"


def test_a_late_commit_nobody_heard_back_of_is_a_note() -> None:
    text = "0>commit(40) 0?commit(40) 1>commit(100) 1<commit(100) 2>fetch 2<fetch(40)"
    record = c11(told(text))
    assert types(record) == set()
    assert types(record, Severity.NOTE) == {"rollback"}


def test_a_commit_that_never_completed_counts_as_unknown() -> None:
    record = c11(told("0>commit(40) 0<commit(40) 0>commit(100) 1>fetch 1<fetch(100)"))
    assert record.valid is Validity.VALID, record.reasons


def test_offsets_may_stand_in_a_table_by_queue() -> None:
    def story(answer: Any, other: Any) -> Story:
        made = told("")
        for f, asked, answered in (
            ("commit", {QUEUE: 40, "t/broker-a/1": 7}, {QUEUE: 40, "t/broker-a/1": 7}),
            ("fetch-offset", None, {QUEUE: answer, "t/broker-a/1": other}),
        ):
            made.now += MS
            made.add(0, "invoke", f, asked, group="g")
            made.now += MS
            made.add(0, "ok", f, answered, group="g")
        return made

    assert c11(story(40, 7)).valid is Validity.VALID
    assert types(c11(story(40, 6))) == {"rollback", "from-nowhere"}
    assert types(c11(story(None, 7))) == {"vanished"}


def test_in_a_master_slave_group_a_fault_explains_a_table_that_vanished() -> None:
    def story(mode: str, *, durable: bool | None) -> Story:
        made = told("0>commit(9) 0<commit(9)", durable=durable)
        made.events[0].value["mode"] = mode
        return told("1>fetch 1<fetch(none)", made.fault("k", "kill", targets=["broker-a-0"]), durable=durable)

    record = c11(story("master-slave", durable=False))
    assert record.valid is Validity.VALID
    assert types(record, Severity.NOTE) == {"vanished"}
    assert types(c11(story("master-slave", durable=True))) == {"vanished"}
    assert types(c11(story("dledger", durable=None))) == {"vanished"}, "there commits are records of the log"
    assert types(c11(story("dledger", durable=False))) == set(), "unless the run says that they are not"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0>commit(40) 0<commit(40)", "no committed offset was ever fetched"),
        ("0>commit(40) 1>commit(50) 0<commit(40) 1<commit(50) 2>fetch 2<fetch(50)", "under way at once"),
        ("0>commit 0<commit 2>fetch 2<fetch(50)", "has no offset"),
    ],
)
def test_what_cannot_be_decided_is_unknown(text: str, words: str) -> None:
    record = c11(told(text))
    assert record.valid is Validity.UNKNOWN
    assert any(words in reason for reason in record.reasons), record.reasons


def test_it_runs_where_offsets_were_fetched_and_nowhere_else() -> None:
    assert judge(Story().tell("0>s(a) 0<s(a)@0").drain("[a]").events).record("C11") is None
    story = told("0>commit(1) 0<commit(1) 1>fetch 1<fetch(1)", Story().tell("5>s(a) 5<s(a)@0")).drain("[a]")
    record = judge(story.events).record("C11")
    assert record is not None
    assert record.valid is Validity.VALID


def after(story: Story, name: str) -> Story:
    """A fault on the group's brokers, 100 ms long, and a second of time around it."""
    story.now += 1000 * MS
    story.fault(name, "kill", targets=["broker-a-0"])
    story.now += 100 * MS
    story.fault(name, "kill", "heal", targets=["broker-a-0"])
    return story


def test_how_long_offsets_are_wrong_after_a_fault_is_measured() -> None:
    story = after(told("0>commit(100) 0<commit(100)"), "f1")
    story.now += 200 * MS
    told("1>fetch 1<fetch(40)", story)
    story.now += 500 * MS
    told("1>fetch 1?fetch", story)
    story.now += 500 * MS
    told("2>fetch 2<fetch(100)", story)
    record = c11(story)
    (row,) = record.details["after faults"]
    assert (row["fault"], row["asked"], row["not right"]) == ("f1", 3, 2)
    low, high = row["right after"]
    assert 0.8 < low < 1.0 < 1.3 < high < 1.7
    assert record.metrics["right after a fault s"] == (low, high)
    text = render_text(judge(story.drain("[]").history()))
    assert "When consumers found their offsets again" in text


def test_offsets_that_are_right_at_once_or_never_are_told_so() -> None:
    story = after(told("0>commit(100) 0<commit(100)"), "f1")
    story.now += 200 * MS
    told("1>fetch 1<fetch(100)", story)
    after(story, "f2")
    told("1>fetch 1<fetch(40)", story)
    after(story, "f3")  # nobody asks after this one
    rows = {row["fault"]: row["right after"] for row in c11(story).details["after faults"]}
    assert set(rows) == {"f1", "f2"}
    assert rows["f1"][0] == 0.0
    assert 0.2 < rows["f1"][1] < 0.6
    assert rows["f2"][1] is None


def test_an_offset_before_the_begin_of_its_queue_is_noted() -> None:
    def run(begin: int) -> Record:
        story = RaftStory()
        story.status("broker-a-0", "leader", 1, queues={QUEUE: [begin, 9]})
        return c11(told("0>commit(4) 0<commit(4) 1>fetch 1<fetch(4)", story))

    assert types(run(5), Severity.NOTE) == {"before-begin"}
    assert run(5).valid is Validity.VALID
    assert types(run(4), Severity.NOTE) == set()


def test_an_offset_that_was_found_before_anything_was_committed_is_from_nowhere() -> None:
    assert types(c11(told("1>fetch 1<fetch(7) 0>commit(7) 0<commit(7)"))) == {"from-nowhere"}
    assert types(c11(told("1>fetch 1<fetch(0) 0>commit(7) 0<commit(7)"))) == set()
    assert types(c11(told("0>commit(7) 1>fetch 1<fetch(7) 0<commit(7)"))) == set(), "its commit was under way"
    assert types(c11(told("1>start 1<start(7) 0>commit(8) 0<commit(8) 2>fetch 2<fetch(8)"))) == set(), (
        "it may begin there"
    )
    unrecorded = c11(told("1>fetch 1<fetch(7)"))
    assert (types(unrecorded), unrecorded.valid) == (set(), Validity.UNKNOWN), "a library may commit by itself"


def test_a_reset_that_certainly_failed_takes_no_commit_back() -> None:
    tale = "0>commit(40) 0<commit(40) 1>reset(5) 1{}reset(5) 2>fetch 2<fetch(20)"
    known = "3>commit(20) 3<commit(20) "  # so that 20 is no offset from nowhere
    assert types(c11(told(known + tale.format("x")))) == {"rollback"}
    assert types(c11(told(known + tale.format("?")))) == set()
