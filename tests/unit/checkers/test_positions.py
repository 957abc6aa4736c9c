"""C9 over positions told by status: each anomaly with the smallest history that shows it, and a near miss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest

from checkers.facts import gather
from checkers.positions import check_positions
from checkers.verdict import Record, Validity
from tests.unit.checkers.raft import THREE, A, B, RaftStory
from tests.unit.checkers.story import GROUP, QUEUE


def c9(story: RaftStory) -> Record:
    return check_positions(gather(story.history()))


def types(record: Record) -> set[str]:
    return {anomaly.type for anomaly in record.anomalies}


def at(commit: int | Literal["drop"] = 0, end: int = 1000, **more: Any) -> RaftStory:
    """All three nodes told their positions."""
    return RaftStory().asked(commit=commit, end=end, **more)


def again(story: RaftStory, node: str = B) -> RaftStory:
    """The node is started anew."""
    story.incarnation[node] += 1
    return story


CASES: list[tuple[str, Callable[[], RaftStory], Callable[[], RaftStory]]] = [
    (
        "commit-decrease",
        lambda: at(300).status(B, commit=200, end=1000),
        lambda: again(at(300)).status(B, commit=200, end=1000),
    ),
    (
        "term-decrease",
        lambda: at(term=3).status(B, term=2, end=1000),
        lambda: again(at(term=3)).status(B, term=3, end=1000),
    ),
    (
        "begin-decrease",
        lambda: at(begin=100).status(B, begin=0, end=1000),
        lambda: at(begin=100).status(B, begin=200, end=1000),
    ),
    (
        "commit-beyond-end",
        lambda: at().status(B, commit=1001, end=1000),
        lambda: at().status(B, commit=1000, end=1000),
    ),
    (
        "durable-beyond-end",
        lambda: at().status(B, durable=1001, end=1000),
        lambda: at().status(B, durable=1000, end=1000),
    ),
    (
        "begin-beyond-end",
        lambda: at().status(B, begin=1001, end=1000),
        lambda: at().status(B, begin=1000, end=1000),
    ),
    (
        "queue-max-decrease",
        lambda: at(queues={QUEUE: [0, 5]}).status(B, end=1000, queues={QUEUE: [0, 4]}),
        lambda: again(at(queues={QUEUE: [0, 5]})).status(B, end=1000, queues={QUEUE: [0, 4]}),
    ),
    (
        "queue-min-decrease",
        lambda: at(queues={QUEUE: [2, 5]}).status(B, end=1000, queues={QUEUE: [1, 5]}),
        lambda: at(queues={QUEUE: [2, 5]}).status(B, end=1000, queues={QUEUE: [3, 5]}),
    ),
    (
        "queue-rollback",  # a new leader lacks what the old one had promised
        lambda: at().say("0>s(a) 0<s(a)@0").status(B, "leader", 2, end=1000, queues={QUEUE: [0, 0]}),
        lambda: at().say("0>s(a) 0<s(a)@0").status(B, "leader", 2, end=1000, queues={QUEUE: [0, 1]}),
    ),
    (
        "queue-rollback",  # a new leader lacks what the old one had shown as committed
        lambda: at(queues={QUEUE: [0, 7]}).status(B, "leader", 2, incarnation=9, end=1000, queues={QUEUE: [0, 6]}),
        lambda: at(queues={QUEUE: [0, 7]}).status(B, "leader", 2, incarnation=9, end=1000, queues={QUEUE: [0, 7]}),
    ),
    (
        "queue-rollback",  # until it serves, it may know less
        lambda: at().say("0>s(a) 0<s(a)@0").status(B, "leader", 2, end=1000),
        lambda: at().say("0>s(a) 0<s(a)@0").status(B, "leader", 2, end=1000, serving=False),
    ),
]


@pytest.mark.parametrize(("kind", "caught", "passes"), CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)])
def test_each_anomaly_is_caught_and_its_near_miss_passes(
    kind: str, caught: Callable[[], RaftStory], passes: Callable[[], RaftStory]
) -> None:
    record = c9(caught())
    assert types(record) == {kind}
    assert record.valid is Validity.INVALID
    assert record.anomalies[0].core
    near = c9(passes())
    assert near.valid is Validity.VALID, near.reasons


def test_an_old_leader_that_does_not_know_is_held_to_its_own_term_only() -> None:
    story = at().say("0>s(a) 0<s(a)@0").status(A, "leader", 1, end=1000, queues={QUEUE: [0, 1]})
    story.lead(B, 2).say("0>s(b) 0<s(b)@1").status(A, "leader", 1, end=1000, queues={QUEUE: [0, 1]})
    assert c9(story).valid is Validity.VALID


def test_an_old_leader_need_not_show_what_a_later_one_has_shown() -> None:
    story = at(queues={QUEUE: [0, 5]}).status(B, "leader", 2, end=1000, queues={QUEUE: [0, 9]})
    assert c9(story.status(A, "leader", 1, end=1000, queues={QUEUE: [0, 5]})).valid is Validity.VALID


def test_a_promise_that_came_after_the_question_binds_nobody() -> None:
    story = at().say("0>s(a) 0<s(a)@0")
    story.status(B, "leader", 2, end=1000, t_asked=0)
    assert c9(story).valid is Validity.VALID


def test_a_follower_that_was_seeded_anew_counts_its_queues_anew() -> None:
    def story(begin: int) -> RaftStory:
        made = at(300, queues={QUEUE: [0, 5]})
        return made.status(B, begin=begin, end=2000, commit=1500, queues={QUEUE: [0, 0]})

    assert c9(story(1500)).valid is Validity.VALID
    assert types(c9(story(900))) == {"queue-max-decrease"}


def test_answers_that_overlap_are_not_ordered() -> None:
    story = at()
    story.status(B, commit=300, end=1000)
    asked = story.events[-1].value["t_asked"]
    story.status(B, commit=200, end=1000, t_asked=asked)
    assert c9(story).valid is Validity.VALID


@pytest.mark.parametrize(
    ("story", "words"),
    [
        (RaftStory, "nobody asked"),
        (lambda: at().at(20).asked(commit=0, end=1000), "between"),
        (lambda: at(commit="drop"), "do not tell commit"),
        (lambda: at(incarnation="drop"), "do not tell incarnation"),
        (lambda: at(queues={}), "rollback could go unseen"),
        (lambda: at(queues={"t@0": [0, 0]}).say("0>s(a) 0<s(a)@0"), "told how far t/broker-a/0"),
        (lambda: at(serving=None), "rollback could go unseen"),
        (lambda: RaftStory(groups={}), "names no broker group"),
    ],
)
def test_missing_input_is_unknown_never_valid(story: Callable[[], RaftStory], words: str) -> None:
    record = c9(story())
    assert record.valid is Validity.UNKNOWN
    assert any(words in reason for reason in record.reasons), record.reasons


def test_a_status_that_cannot_be_read_is_counted_and_makes_it_unknown() -> None:
    story = at()
    story.add("lab", "info", "status", ["what", "is", "this"])
    record = c9(story)
    assert record.valid is Validity.UNKNOWN
    assert any("1 status events could not be read" in reason for reason in record.reasons)


def test_a_promise_of_an_unknown_term_binds_only_who_gave_it() -> None:
    """It may be that of a later leader, of which one that is cut off has not heard."""

    def run(node: str) -> RaftStory:
        story = RaftStory().asked(1, A).lead(B, 2)
        story.epoch = None
        story.say("1>s(b) 1<s(b)@0")
        return story.status(node, "leader", 1 if node == A else 2, queues={QUEUE: [0, 0]})

    assert types(c9(run(A))) == set()
    assert types(c9(run(B))) == {"queue-rollback"}


def test_a_quorum_that_is_no_majority_is_none() -> None:
    def run(quorum: int) -> bool:
        story = RaftStory().asked(1, A)
        value = {"group": GROUP, "voters": THREE, "learners": [], "quorum": quorum, "node": A, "term": 1}
        story.add("lab", "info", "membership", value)
        return any("as a quorum" in reason for reason in c9(story).reasons)

    assert not run(2)
    assert run(1)
