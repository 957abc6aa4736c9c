"""What a run says of itself cannot talk it out of being judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from checkers.compose import ALWAYS, judge, required_checkers
from checkers.dirty_reads import check_dirty_reads
from checkers.facts import gather
from checkers.leaders import check_leaders
from checkers.positions import check_positions
from checkers.progress import check_progress
from checkers.replica_log import check_replica_log
from checkers.verdict import Severity, Validity
from tests.unit.checkers.raft import THREE, A, RaftPretend, RaftStory, raft_run
from tests.unit.checkers.story import GROUP, QUEUE, Story
from tests.unit.checkers.test_progress import Load
from tests.unit.checkers.test_raft_logs import TABLE, told


@pytest.mark.parametrize("name", ALWAYS)
def test_some_checkers_apply_to_every_run(name: str) -> None:
    story = Story(not_applicable={name: "we would rather not", "C7": "no dumps"}).tell("0>s(a) 0<s(a)@0").drain("[]")
    verdict = judge(story.events)
    assert name in verdict.required
    assert verdict.record(name) is not None
    assert verdict.valid is Validity.INVALID


@pytest.mark.parametrize("mode", ["DLedger", "raft", "", "Controller"])
def test_an_unknown_mode_is_never_valid(mode: str) -> None:
    events = raft_run(RaftPretend(seed=1))
    assert judge(events).valid is Validity.VALID
    events[0].value["mode"] = mode
    verdict = judge(events)
    assert verdict.valid is Validity.UNKNOWN
    assert any("there is no mode" in reason for reason in verdict.why)


def test_a_raft_run_requires_the_checkers_of_raft() -> None:
    assert {"C8", "C9", "C10", "C12", "C15"} <= set(required_checkers(RaftStory().history()))


GROUPS: list[dict[str, Any]] = [
    {"nodes": []},
    {"nodes": THREE, "learners": THREE},
    {"nodes": THREE, "quorum": 9},
    {"nodes": THREE, "quorum": 1},
    {"nodes": THREE, "quorum": 0},
]


@pytest.mark.parametrize("group", GROUPS, ids=range(len(GROUPS)))
def test_a_group_without_voters_or_with_an_odd_quorum_is_not_vouched_for(group: dict[str, Any]) -> None:
    story = RaftStory(groups={GROUP: {"copies": 2, "flush": "SYNC_FLUSH", **group}})
    story.asked(commit=0)
    load = Load(story).until(4)
    story.asked(commit=0)
    load.until(6)
    story.asked(commit=0, queues={QUEUE: [0, load.count]})
    facts = gather(story.drain("[]").history())
    for check in (check_leaders, check_positions, check_progress):
        record = check(facts)
        assert record.valid is not Validity.VALID
        assert any("voters" in reason for reason in record.reasons), record.reasons


def test_a_run_in_which_nothing_was_read_says_nothing_about_reads() -> None:
    assert check_dirty_reads(gather(RaftStory().say("0>s(a) 0<s(a)@0").history())).valid is Validity.UNKNOWN


def test_a_promise_on_too_few_replicas_shows_whatever_it_was_called(tmp_path: Path) -> None:
    """Planted: acknowledges before the quorum has it. Each SEND_OK of a Raft group says *replicated*."""
    for level in ("replicated", "local"):
        story = RaftStory()
        story.level = level
        story.say("0>s(C) 0<s(C)@2")
        logs = {**dict.fromkeys(THREE, "0:t1:A 1:t1:B"), A: "0:t1:A 1:t1:B 2:t1:C"}
        record = told(tmp_path, logs, story=story, epochs=TABLE[:1], commit=2)
        assert "under-replicated" in {a.type for a in record.anomalies if a.severity is Severity.VIOLATION}
        near = RaftStory()
        near.level = level
        near.say("0>s(C) 0<s(C)@2")
        fine = told(tmp_path, dict.fromkeys(THREE, "0:t1:A 1:t1:B 2:t1:C"), story=near, epochs=TABLE[:1])
        assert fine.valid is Validity.VALID, fine.reasons


def test_a_destroyed_node_that_came_back_counts_again() -> None:
    """After it rejoined a stall with one more node down is owed progress, and before not."""

    def play(*, rejoined: bool) -> Validity:
        story = RaftStory()
        load = Load(story)
        load.until(5)
        story.fault("d", "destroy", targets=[A])
        load.until(10)
        if rejoined:
            story.fault("d", "destroy", "heal", targets=[A])
        load.until(15)
        story.fault("k", "kill", targets=[THREE[1]])
        load.until(25, "fail")
        story.fault("k", "kill", "heal", targets=[THREE[1]])
        load.until(30)
        return check_progress(gather(story.drain("[]").history())).valid

    assert play(rejoined=True) is Validity.INVALID
    assert play(rejoined=False) is Validity.VALID


def test_the_stored_logs_are_compared_in_raft_groups_too(tmp_path: Path) -> None:
    assert check_replica_log(gather(RaftStory().history(), tmp_path)).valid is Validity.UNKNOWN
