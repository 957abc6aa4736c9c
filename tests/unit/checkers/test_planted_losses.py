"""What the drain proves of messages that are missing in the end (C1), and what it proves nothing of."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkers.facts import gather
from checkers.fault_proof import check_fault_proof
from checkers.history import LineWriter
from checkers.loss import check_loss
from checkers.total_queue import check_total_queue
from checkers.verdict import Record, Validity
from tests.unit.checkers.planted import c1, two, types
from tests.unit.checkers.story import GROUP, NODES, QUEUE, Story, pairs, value


def test_two_drains_that_differ_are_unstable() -> None:
    story = two("").drain("[a,b]", second="[a]")
    assert "unstable-drain" in types(c1(story))
    assert types(c1(two("").drain("[a,b]", rules={"D4": False}, second="[a]"))) == set()


@pytest.mark.parametrize(("first_tries", "valid"), [("[a,b]", False), ("[a]", True)])
def test_what_only_tries_that_broke_off_saw_is_not_there(first_tries: str, valid: bool) -> None:
    """Each drain's first try was answered by a replica that still had it, and then by one that has not."""
    story = two("") if not valid else Story().tell("0>s(a) 0<s(a)@0")
    story.drain("[a]", top=2, finish=False)
    for number in (1, 2):
        story.add(9100 + number, "invoke", "drain", None, queue=QUEUE, round=number)
        story.add(
            9100 + number, "info", "drain", {QUEUE: pairs(first_tries)}, queue=QUEUE, round=number, complete=False
        )
    record = c1(story.finish())
    assert record.valid is (Validity.VALID if valid else Validity.INVALID)
    assert types(record) == (set() if valid else {"unstable-drain"})


def test_seen_once_and_gone_is_vanished() -> None:
    story = two("1>poll 1<poll=[0:a,1:b]").drain("[a]")
    record = c1(story)
    assert types(record) == {"vanished"}
    assert record.counts["vanished"] == 1


def test_weak_statuses_are_counted_and_never_held_against_anyone() -> None:
    story = two("1>s(w) 1<s(w)@2!FLUSH_SLAVE_TIMEOUT").drain("[a,b]")
    record = c1(story)
    assert record.valid is Validity.VALID
    assert record.counts["lost-weak (note)"] == 1
    table = {row["status"]: row for row in record.details["by status"]}
    assert table["FLUSH_SLAVE_TIMEOUT"]["lost"] == 1
    assert (table["SEND_OK"]["kept"], table["SEND_OK"]["lost"]) == (3, 0)


def test_a_node_left_out_without_a_fault_that_destroyed_it_decides_nothing() -> None:
    story = two("").drain("[a]", excluded=(NODES[0],))
    assert c1(story).valid is Validity.UNKNOWN
    story = two("").fault("d", "destroy", targets=[NODES[0]]).drain("[a]", excluded=(NODES[0],))
    assert c1(story).valid is Validity.INVALID


def test_a_node_that_came_back_must_not_be_left_out() -> None:
    """Planted: the lab throws a node out that was to rejoin; that its rejoining worked was never tested."""
    story = two("").fault("d", "destroy", targets=[NODES[0]]).fault("d", "destroy", "heal", targets=[NODES[0]])
    story.drain("[a]", excluded=(NODES[0],))
    for event in story.events:
        if event.f == "destroy":
            event.value["permanent"] = False
    record = c1(story)
    assert record.valid is Validity.UNKNOWN
    assert any("for good" in reason for reason in record.reasons)


@pytest.mark.parametrize(
    ("cut", "valid"), [([NODES[0], NODES[1]], True), (["client-1", NODES[1]], False), (None, False)]
)
def test_a_cut_ends_with_a_node_that_is_gone_only_where_it_cut_nobody_else(cut: list[str] | None, valid: bool) -> None:
    """Clients that stood on its side are cut off still; what it cut beside it may be unknown, too."""
    story = two("").fault("p", "partition", targets=[NODES[0]])
    if cut is not None:
        story.events[-1].value["cut"] = [cut]
    story.fault("d", "destroy", targets=[NODES[0]]).promote()
    facts = gather(story.drain("[a,b]", excluded=(NODES[0],)).history())
    assert check_total_queue(facts).valid is (Validity.VALID if valid else Validity.UNKNOWN)
    assert check_fault_proof(facts).valid is (Validity.VALID if valid else Validity.UNKNOWN)


def test_a_fault_nobody_healed_decides_nothing() -> None:
    story = two("").fault("p", "partition", targets=[NODES[0]]).drain("[a]")
    assert c1(story).valid is Validity.UNKNOWN


def test_a_sentinel_nobody_saw_decides_nothing() -> None:
    story = two("").drain("[a]", complete=False)
    assert c1(story).valid is Validity.UNKNOWN
    story = two("").drain("[a]")
    for event in story.events:
        if event.f == "drain" and event.type == "ok":
            event.value = {QUEUE: [[0, value("a")]]}
    assert c1(story).valid is Validity.UNKNOWN


def test_a_second_copy_in_a_retry_topic_is_not_the_message() -> None:
    def run(content: str, retried: str) -> set[str]:
        story = two("").drain(content, finish=False)
        for number in (1, 2):
            story.now += 1
            story.add(70 + number, "invoke", "drain", None, queue="%RETRY%g/broker-a/0", round=number)
            got = {"%RETRY%g/broker-a/0": [[0, value(retried)]]}
            story.add(70 + number, "ok", "drain", got, queue="%RETRY%g/broker-a/0", round=number, complete=True)
        return types(c1(story.finish()))

    assert run("[a,b]", "b") == set()
    assert run("[a]", "b") == {"vanished"}


def test_a_failed_send_might_be_in_a_queue_that_nobody_drained() -> None:
    story = two("")
    story.queue = "t/broker-a/1"
    story.tell("5>s(z) 5xs(z)")
    story.queue = QUEUE
    record = c1(story.drain("[a,b]"))
    assert record.valid is Validity.UNKNOWN
    assert "t/broker-a/1" in record.reasons[0]


def test_a_sentinel_proves_nothing_of_what_came_after_it() -> None:
    def run(name: str) -> Validity:
        story = two("").drain("[a,b]", finish=False)
        if name == "fault":
            story.fault("k", "kill", targets=[NODES[0]]).fault("k", "kill", "heal", targets=[NODES[0]])
        elif name == "load":
            story.phase("load-end")
        return c1(story.finish()).valid

    assert run("nothing") is Validity.VALID
    assert run("fault") is Validity.UNKNOWN
    assert run("load") is Validity.UNKNOWN


def test_a_sentinel_proves_nothing_of_what_was_answered_after_it() -> None:
    """A send that was outstanding all the time may stand behind it; one that was answered before is lost."""

    def run(*, before: bool, read: str = "") -> Record:
        story = Story().tell(f"0>s(a) 0<s(a)@0 1>s(b) {read}")
        if before:
            story.tell("1<s(b)@1")
        story.drain("[a]", top=1, finish=False)
        if not before:
            story.tell("1<s(b)@2")
        return c1(story.finish())

    def told(record: Record) -> tuple[Validity, int, int]:
        return record.valid, record.counts.get("lost", 0), record.counts.get("lost (undecided)", 0)

    assert told(run(before=True)) == (Validity.INVALID, 1, 0)
    assert told(run(before=False)) == (Validity.UNKNOWN, 0, 1)
    assert told(run(before=False, read="2>poll 2<poll=[0:a,1:b]")) == (Validity.UNKNOWN, 0, 1)


def test_a_message_that_was_read_once_is_not_kept_if_the_drain_proves_nothing() -> None:
    """It may have vanished since; the tables of promises and of faults say so."""
    facts = gather(two("1>poll 1<poll=[0:a,1:b]").drain("[a]", rules={"D4": False}).history())
    record = check_total_queue(facts)
    assert record.valid is Validity.UNKNOWN
    assert [(row["kept"], row["undecided"]) for row in record.details["by status"]] == [(2, 1)]
    assert check_loss(facts).counts["undecided SEND_OK"] == 1


@pytest.mark.parametrize("before", [True, False])
def test_a_dump_proves_nothing_of_what_was_answered_after_it(before: bool, tmp_path: Path) -> None:
    """Where the replicas alone decide, since no queue could be read to its end."""
    story = Story(not_applicable={}).tell("0>s(a) 0<s(a)@0 1>s(b)")
    if before:
        story.tell("1<s(b)@1")
    for rule in ("D2", "D3", "D7", "D10"):
        story.step(rule)
    story.step("D4", ok=False)
    for node in NODES:
        with LineWriter(tmp_path / f"{node}.jsonl") as out:
            out.write({"o": 0, "s": 10, "d": "00", "t": 1, "q": QUEUE, "k": 0, "v": value("a"), "x": True})
        dump = {"group": GROUP, "node": node, "file": f"{node}.jsonl", "begin": 0, "end": 10, "complete": True}
        story.add("lab", "info", "dump", {**dump, "commit": 0})
    if not before:
        story.tell("1<s(b)@1")
    record = check_total_queue(gather(story.finish().history(), tmp_path))
    assert record.counts.get("lost", 0) == int(before)
    assert record.valid is (Validity.INVALID if before else Validity.UNKNOWN)
