"""Groups whose masters a controller appoints: terms are epochs that status tells, and promises follow the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from checkers.compose import required_checkers
from checkers.durability import LOCAL, REPLICATED, Level, check_durability, promise_words
from checkers.facts import gather
from checkers.leaders import check_leaders
from checkers.meta import GroupMeta, Meta
from checkers.verdict import Record, Severity, Validity
from tests.unit.checkers.raft import CLIENT, SERVERS, THREE, A, B, C, RaftStory, apart
from tests.unit.checkers.story import GROUP
from tests.unit.checkers.test_replica_log import dump


class ControlledStory(RaftStory):
    """Masters and slaves in RocketMQ's words; answers to sends tell no epoch."""

    def __init__(self, **group: Any) -> None:
        role = {"copies": 2, "flush": "ASYNC_FLUSH", "role": "CONTROLLER"}
        super().__init__(groups={GROUP: {"nodes": THREE, **role, **group}})
        self.events[0].value["mode"] = "controller"

    def lead(self, node: str, term: int) -> ControlledStory:
        super().lead(node, term)
        self.epoch = None
        return self

    def plays(self, node: str, role: str, epoch: int) -> ControlledStory:
        number = {"number": epoch, "id": ""}
        self.status(node, role, term="drop", epoch=number, state="serving", serving="drop", commit="drop")
        return self

    def all_play(self, master: str = A, epoch: int = 1) -> ControlledStory:
        for node in THREE:
            self.plays(node, "SYNC_MASTER" if node == master else "SLAVE", epoch)
        return self


def c8(story: RaftStory) -> Record:
    return check_leaders(gather(story.history()))


def types(record: Record, severity: Severity = Severity.VIOLATION) -> set[str]:
    return {anomaly.type for anomaly in record.anomalies if anomaly.severity is severity}


def test_an_epoch_has_one_master() -> None:
    """By what brokers say of themselves: another master needs another epoch."""
    record = c8(ControlledStory().all_play().plays(B, "SYNC_MASTER", 2))
    assert record.valid is Validity.VALID, record.reasons
    assert [(row["term"], row["leader"]) for row in record.details["terms"]] == [(1, A), (2, B)]
    record = c8(ControlledStory().all_play().plays(B, "SYNC_MASTER", 1))
    assert types(record) == {"two-leaders-one-term"}
    assert record.valid is Validity.INVALID


def test_the_log_of_a_broker_tells_its_epochs_too() -> None:
    good = ControlledStory().all_play().ballot(B, "elected", 2).ballot(C, "elected", 3)
    assert c8(good).valid is Validity.VALID
    assert types(c8(ControlledStory().all_play().ballot(B, "elected", 2).ballot(C, "elected", 2))) == {
        "two-leaders-one-term"
    }
    back = ControlledStory().all_play().ballot(B, "follows", 3).ballot(B, "elected", 2)
    assert "term-regression" in types(c8(back))


def test_a_cut_off_master_is_no_second_one_and_its_time_is_measured() -> None:
    """It says that it is master until it hears of the next epoch."""
    story = ControlledStory().all_play()
    story.at(1)
    story.plays(B, "SYNC_MASTER", 2).at(3)
    record = c8(story.plays(A, "SYNC_MASTER", 1).plays(A, "SLAVE", 2))
    assert record.valid is Validity.VALID, record.reasons
    overlap = record.metrics["overlap s"]
    assert isinstance(overlap, tuple)
    assert overlap[0] > 1.5


def test_brokers_that_nobody_asked_are_a_doubt() -> None:
    record = c8(ControlledStory().plays(A, "SYNC_MASTER", 1))
    assert record.valid is Validity.UNKNOWN
    assert any("nobody asked broker-a-1" in reason or "never said" in reason for reason in record.reasons)


def test_a_promise_by_a_master_that_reached_nobody_is_a_note() -> None:
    """The set in sync may have shrunk to the master while the send waited; no other can take over then."""
    cut = apart([A, CLIENT], [B, C, *SERVERS])
    story = ControlledStory().all_play()
    story.cut("f", cut).say("0>s(a) 0<s(a)@0").at(1)
    record = c8(story.all_play())
    assert types(record) == set()
    assert types(record, Severity.NOTE) == {"impossible-ack-weak"}


def test_such_runs_require_who_led_and_what_was_promised() -> None:
    assert {"C8", "C10", "C12"} <= set(required_checkers(ControlledStory().history()))
    assert "C15" not in required_checkers(ControlledStory().history())


def test_a_controller_elects_among_those_in_sync_without_a_word() -> None:
    assert Meta(mode="controller", groups={"a": GroupMeta()}).elects("a") == "in-sync"


def lost(*, another: bool, **group: Any) -> Record:
    """A promise of A that is gone; another broker answers later, or nobody does."""
    story = ControlledStory(**group).all_play().say("0>s(a) 0<s(a)@0")
    if another:
        story.lead(B, 2).say("0>s(b) 0<s(b)@0")
    return check_durability(gather(story.drain("[0:b]" if another else "[]").history()))


@pytest.mark.parametrize("another", [True, False])
def test_what_every_replica_in_sync_holds_survives_an_election(another: bool) -> None:
    assert types(lost(another=another)) == {"lost-promised"}


def test_what_some_replicas_in_sync_hold_may_be_lost_by_an_election_only() -> None:
    record = lost(another=True, partial=True)
    assert types(record) == set()
    assert types(record, Severity.NOTE) == {"lost-weak"}
    assert "in sync and need not have held it" in record.anomalies[0].text
    assert types(lost(another=False, partial=True)) == {"lost-promised"}, "nobody took over"


def test_words_of_the_promise() -> None:
    all_of_them = GroupMeta(nodes=THREE, copies=2)
    some = GroupMeta(nodes=THREE, copies=2, partial=True)
    assert "takes over" not in promise_words(Level(REPLICATED, False), all_of_them, "in-sync")
    assert "if a replica that holds it takes over" in promise_words(Level(REPLICATED, False), some, "in-sync")
    assert "nobody else takes over" in promise_words(Level(LOCAL, False), GroupMeta(nodes=THREE), "in-sync")


@pytest.mark.parametrize(("epoch", "acknowledged"), [(1, 1), (0, 0)])
def test_a_record_tells_the_epoch_of_its_answer(tmp_path: Path, epoch: int, acknowledged: int) -> None:
    """By the table of epochs; what stands before its first one tells nothing. Status stays evidence beside it."""
    story = ControlledStory().all_play().say("0>s(a) 0<s(a)@0").plays(B, "SYNC_MASTER", 2)
    story.now += 1000
    for node in THREE:
        dump(story, tmp_path, node, f"0:t{epoch}:a", epochs=[[1, "", 0]], commit=1)
    record = check_leaders(gather(story.finish().history(), tmp_path))
    rows = {row["term"]: (row["leader"], row["acknowledged"]) for row in record.details["terms"]}
    assert rows == {1: (A, acknowledged), 2: (B, 0)}
