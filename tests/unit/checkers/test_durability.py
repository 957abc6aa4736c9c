"""C10: what each level promised under what was broken; the reference example is a group of three with two copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from checkers.durability import LOCAL, REPLICATED, Level, check_durability, promise_words
from checkers.facts import gather
from checkers.meta import GroupMeta
from checkers.verdict import Record, Severity, Validity
from tests.unit.checkers.raft import THREE, A, B, C, RaftStory
from tests.unit.checkers.story import GROUP, NODES, Story


def c10(story: Story) -> Record:
    return check_durability(gather(story.history()))


def types(record: Record, severity: Severity = Severity.VIOLATION) -> set[str]:
    return {anomaly.type for anomaly in record.anomalies if anomaly.severity is severity}


def lost(*faults: tuple[str, list[str]], flushed: bool = True, before: bool = False, **meta: Any) -> RaftStory:
    """A promise, the faults (or the faults before it), and a drain without the message."""
    story = RaftStory(**meta)

    def promise() -> None:
        story.tell("0>s(a) 0<s(a)@0")
        story.events[-1].flushed = flushed

    if not before:
        promise()
    for number, (kind, targets) in enumerate(faults):
        story.fault(f"f{number}", kind, targets=targets)
        story.fault(f"f{number}", kind, "heal", targets=targets)
    if before:
        promise()
    story.drain("[]")
    return story


def group(**more: Any) -> dict[str, Any]:
    return {"groups": {GROUP: {"nodes": THREE, "copies": 2, "flush": "SYNC_FLUSH", "role": "LEADER", **more}}}


PROMISED: list[Callable[[], RaftStory]] = [
    lost,
    lambda: lost(("kill", [A, B, C])),
    lambda: lost(("pause", [A]), ("partition", [B])),
    lambda: lost(("power", [A, B, C])),  # synced on the copies that count
    lambda: lost(("destroy:rejoin", [A]), before=True),  # before the message was there
    lambda: lost(("destroy:rejoin", [A]), **group(copies=3)),  # 2 + 2 > 3: every quorum meets a holder
    lambda: lost(("kill", [A]), **group(unclean=True)),
]

EXCUSED: list[Callable[[], RaftStory]] = [
    lambda: lost(("power", [A]), flushed=False),  # 1 + 2 > 3 is false: the two without it may elect each other
    lambda: lost(("destroy:rejoin", [A])),
    lambda: lost(("destroy:rejoin", [A]), ("destroy:rejoin", [B]), **group(copies=3)),
    lambda: lost(("power", [A]), flushed=False, **group(elects="in-sync")),
    lambda: lost(("kill", [A, B, C]), **group(unclean=True)),
]


@pytest.mark.parametrize("story", PROMISED, ids=range(len(PROMISED)))
def test_what_the_configuration_promised_is_a_broken_promise(story: Callable[[], RaftStory]) -> None:
    record = c10(story())
    assert types(record) == {"lost-promised"}
    assert record.valid is Validity.INVALID
    row = record.details["durability"][0]
    assert (row["acknowledged"], row["survived"], row["lost"]) == (1, 0, 1)


@pytest.mark.parametrize("story", EXCUSED, ids=range(len(EXCUSED)))
def test_what_it_never_promised_is_counted_and_named_weak(story: Callable[[], RaftStory]) -> None:
    record = c10(story())
    assert types(record) == set()
    assert types(record, Severity.NOTE) == {"lost-weak"}
    assert record.valid is Validity.VALID
    assert record.details["durability"][0]["lost"] == 1
    assert record.details["durability"][0]["promise"]


def test_no_fsync_shows_under_power_loss_only() -> None:
    """Planted: skips fsync and claims to have synced. A kill loses nothing; power loss then breaks the promise."""
    assert types(c10(lost(("power", [A, B, C]), flushed=True))) == {"lost-promised"}
    story = RaftStory().say("0>s(a) 0<s(a)@0")
    story.fault("k", "kill", targets=THREE).fault("k", "kill", "heal", targets=THREE)
    assert c10(story.drain("[a]")).valid is Validity.VALID


def test_survivors_are_valid_with_their_promise_in_words() -> None:
    story = RaftStory().say("0>s(a) 0<s(a)@0")
    record = c10(story.drain("[a]"))
    assert record.valid is Validity.VALID, record.reasons
    assert record.details["durability"][0]["promise"].startswith("on 2 nodes")


def test_undecided_losses_of_promises_are_unknown_and_of_others_are_not() -> None:
    story = RaftStory().say("0>s(a) 0<s(a)@0")
    record = c10(story.drain("[]", rules={"D4": False}))
    assert record.valid is Validity.UNKNOWN
    assert types(record, Severity.UNDECIDED) == {"promised-undecided"}
    story = RaftStory().say("0>s(a) 0<s(a)@0")
    assert c10(story.drain("[a]", rules={"D4": False})).valid is Validity.UNKNOWN


def test_a_group_that_is_not_described_makes_it_unknown() -> None:
    story = RaftStory(groups={}).say("0>s(a) 0<s(a)@0")
    assert c10(story.drain("[a]")).valid is Validity.UNKNOWN


def local(*faults: tuple[str, list[str]], promote: bool = False) -> Story:
    story = Story().tell("0>s(a) 0<s(a)@0")
    for number, (kind, targets) in enumerate(faults):
        story.fault(f"f{number}", kind, targets=targets)
        if kind != "destroy":
            story.fault(f"f{number}", kind, "heal", targets=targets)
    if promote:
        story.promote()
    story.events[0].value["addresses"] = {f"{node}:10911": node for node in NODES}
    return story.drain("[]", excluded=tuple(t for k, targets in faults if k == "destroy" for t in targets))


def test_one_copy_survives_a_kill_and_nothing_more() -> None:
    assert types(c10(local(("kill", [NODES[0]])))) == {"lost-promised"}
    for story in (local(("destroy", [NODES[0]])), local(("power", [NODES[0]])), local(promote=True)):
        record = c10(story)
        assert types(record) == set()
        assert types(record, Severity.NOTE) == {"lost-weak"}
    assert types(c10(local(("destroy", [NODES[1]])))) == {"lost-promised"}


def test_where_nobody_knows_who_held_the_only_copy_any_fault_that_could_excuse_it_does() -> None:
    def story(**how: Any) -> Story:
        made = local(("kill", [NODES[0]]), **how)
        made.events[0].value["addresses"] = {}
        return made

    assert types(c10(story())) == {"lost-promised"}
    assert types(c10(story(promote=True)), Severity.NOTE) == {"lost-weak"}


@pytest.mark.parametrize("kind", [REPLICATED, LOCAL])
def test_a_level_without_fsync_is_called_weaker(kind: str) -> None:
    meta = GroupMeta(nodes=["a", "b", "c"], copies=2)
    assert "weaker" in promise_words(Level(kind, False), meta, "majority")
    assert "weaker" not in promise_words(Level(kind, True), meta, "majority")


def test_a_weaker_status_promises_nothing() -> None:
    record = c10(Story().tell("0>s(a) 0<s(a)@0!FLUSH_SLAVE_TIMEOUT").drain("[]", top=1))
    assert record.valid is Validity.VALID
    assert types(record, Severity.NOTE) == {"lost-weak"}
    assert record.details["durability"][0]["level"] == "accepted"
    assert record.details["durability"][0]["promise"] == "nothing"


@pytest.mark.parametrize(
    ("level", "meta", "elects", "words"),
    [
        (Level("replicated", True), GroupMeta(nodes=THREE, copies=2), "majority", "pauses, partitions and power loss"),
        (Level("replicated", True), GroupMeta(nodes=THREE, copies=3), "majority", "the loss of 1 of their disks"),
        (Level("replicated", False), GroupMeta(nodes=THREE, copies=2), "majority", "power loss counts"),
        (Level("replicated", False), GroupMeta(nodes=THREE, copies=2), "by-hand", "if one of them is promoted"),
        (Level("local", False), GroupMeta(nodes=THREE), "by-hand", "nobody else takes over"),
        (Level("local", False), GroupMeta(nodes=THREE, unclean=True), "in-sync", "nothing"),
        (Level("replicated", True), GroupMeta(nodes=THREE, copies=2, unclean=True), "in-sync", "down at once"),
        (Level("accepted", False), GroupMeta(nodes=THREE), "majority", "nothing"),
    ],
)  # fmt: skip
def test_each_promise_in_words(level: Level, meta: GroupMeta, elects: str, words: str) -> None:
    assert words in promise_words(level, meta, elects)
