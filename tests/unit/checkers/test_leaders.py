"""C8 over terms, votes and acknowledgements: each anomaly with the smallest history that shows it, and a near miss."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from checkers.facts import gather
from checkers.leaders import check_leaders
from checkers.verdict import Record, Severity, Validity
from tests.unit.checkers.raft import ADDRESS, CLIENT, SERVERS, THREE, A, B, C, RaftStory, apart
from tests.unit.checkers.story import GROUP


def c8(story: RaftStory) -> Record:
    return check_leaders(gather(story.history()))


def types(record: Record, severity: Severity = Severity.VIOLATION) -> set[str]:
    return {anomaly.type for anomaly in record.anomalies if anomaly.severity is severity}


def changed(node: str, term: int) -> RaftStory:
    """A promise of A in term 1; then another node leads."""
    return RaftStory().asked().say("0>s(a) 0<s(a)@0").lead(node, term)


CASES: list[tuple[str, Callable[[], RaftStory], Callable[[], RaftStory]]] = [
    (
        "two-leaders-one-term",  # by acknowledgements
        lambda: changed(B, 1).say("0>s(b) 0<s(b)@1"),
        lambda: changed(B, 2).say("0>s(b) 0<s(b)@1"),
    ),
    (
        "two-leaders-one-term",  # by status alone
        lambda: RaftStory().asked().status(B, "leader", 1),
        lambda: RaftStory().asked().status(B, "leader", 2),
    ),
    (
        "two-leaders-one-term",  # by the nodes' own logs
        lambda: RaftStory().asked().ballot(C, "elected", 2).ballot(B, "elected", 2),
        lambda: RaftStory().asked().ballot(C, "elected", 2).ballot(B, "elected", 3),
    ),
    (
        "term-regression",
        lambda: RaftStory().asked(term=2).status(B, "follower", 1),
        lambda: RaftStory().asked(term=2).status(B, "follower", 2),
    ),
    (
        "double-vote",
        lambda: RaftStory().asked().ballot(C, "granted", 2, to=A).ballot(C, "granted", 2, to=B),
        lambda: RaftStory().asked().ballot(C, "granted", 2, to=A).ballot(C, "granted", 3, to=B),
    ),
    (
        "double-vote",
        lambda: RaftStory().asked(vote=A).status(C, "follower", 1, vote=B),
        lambda: RaftStory().asked(vote=A).status(B, "follower", 1, vote=A),
    ),
    (
        "forgotten-vote",  # by status alone
        lambda: RaftStory().asked(vote=A).status(C, "follower", 1, vote=None),
        lambda: RaftStory().asked(vote=A).status(C, "follower", 2, vote=None),
    ),
    (
        "forgotten-vote",  # by the line of its log and its status; a status that does not speak of votes shows nothing
        lambda: RaftStory().asked().ballot(C, "granted", 1, to=A, at=0.001).status(C, "follower", 1, vote=None),
        lambda: RaftStory().asked().ballot(C, "granted", 1, to=A, at=0.001).status(C, "follower", 1),
    ),
    (
        "stale-ack",
        lambda: changed(B, 2).say("0>s(b) 0<s(b)@1").lead(A, 1).say("1>s(c) 1<s(c)@2"),
        lambda: changed(B, 2).say("1>s(c) 0>s(b) 0<s(b)@1").lead(A, 1).say("1<s(c)@2"),
    ),
]


@pytest.mark.parametrize(("kind", "caught", "passes"), CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)])
def test_each_anomaly_is_caught_and_its_near_miss_passes(
    kind: str, caught: Callable[[], RaftStory], passes: Callable[[], RaftStory]
) -> None:
    record = c8(caught())
    assert kind in types(record)
    assert record.valid is Validity.INVALID
    shown = next(anomaly for anomaly in record.anomalies if anomaly.type == kind)
    assert shown.core
    assert shown.text
    near = c8(passes())
    assert types(near) == set(), near.reasons
    assert near.valid is Validity.VALID, near.reasons


def test_30_two_leaders_of_different_terms_are_normal_and_their_overlap_is_measured() -> None:
    story = RaftStory().status(A, "follower", 0).asked().say("0>s(a) 0<s(a)@0").lead(B, 5).say("0>s(b) 0<s(b)@1")
    story.at(2).status(A, "leader", 1).status(B, "leader", 5).at(3).status(A, "follower", 5)
    record = c8(story)
    assert record.valid is Validity.VALID, record.reasons
    overlap = record.metrics["overlap s"]
    assert isinstance(overlap, tuple)
    assert 1.9 < overlap[0] < 2.1
    assert 2.9 < overlap[1] < 3.1
    story = RaftStory().asked(term=3, leader=None).status(A, "leader", 4).status(B, "leader", 5).lead(B, 5)
    story.say("0>s(b) 0<s(b)@0 0>s(c) 0<s(c)@1").status(A, "leader", 4).status(B, "leader", 5).status(A, "follower", 5)
    record = c8(story.status(C, "follower", 5))
    assert record.valid is Validity.VALID, record.reasons
    overlap = record.metrics["overlap s"]
    assert isinstance(overlap, tuple)
    assert 0 < overlap[0] < overlap[1], "two leaders, acknowledgements only of the later one"


def test_31_a_promise_of_a_deposed_leader_shows_both_witnesses() -> None:
    story = RaftStory().asked().lead(B, 5).say("0>s(b) 0<s(b)@0").lead(A, 4).say("1>s(a) 1<s(a)@1")
    record = c8(story)
    assert types(record) == {"stale-ack"}
    anomaly = record.anomalies[0]
    assert len(anomaly.core) == 4
    assert "term 5" in anomaly.text
    assert "r/0/a" in anomaly.text


def test_a_weak_answer_of_a_deposed_leader_is_a_note_with_its_duration() -> None:
    story = RaftStory().asked().lead(B, 5).say("0>s(b) 0<s(b)@0").at(2).lead(A, 4)
    story.say("1>s(a) 1<s(a)@1!FLUSH_SLAVE_TIMEOUT")
    record = c8(story)
    assert record.valid is Validity.VALID
    assert types(record, Severity.NOTE) == {"stale-ack-weak"}
    assert record.metrics["deposed leader acknowledged for s"] == pytest.approx(2, abs=0.1)


def everybody_but(node: str) -> list[str]:
    return [name for name in (*THREE, CLIENT, *SERVERS) if name != node]


def test_a_promise_given_while_cut_off_is_impossible() -> None:
    """The client stands with the leader, and both are cut from the other replicas."""
    cut = apart([A, CLIENT], [B, C, *SERVERS])
    story = RaftStory().asked().cut("f", cut).say("0>s(a) 0<s(a)@0").at(1).asked()
    record = c8(story)
    assert types(record) == {"impossible-ack"}
    assert record.anomalies[0].fault == "f"
    assert "0 other replica(s)" in record.anomalies[0].text


@pytest.mark.parametrize(
    "near",
    [
        lambda: RaftStory().asked().cut("f", apart([A, CLIENT], [B, *SERVERS])).say("0>s(a) 0<s(a)@0"),  # C is there
        lambda: RaftStory().asked().say("0>s(a)").cut("f", apart([A, CLIENT], [B, C])).say("0<s(a)@0"),  # begun before
        lambda: RaftStory().asked().cut("f", apart([A, CLIENT], [B, C])).say("0>s(a) 0?s(a)"),
        lambda: RaftStory().asked().cut("f", apart([A, CLIENT], [B, C])).cut("f", None, "heal").say("0>s(a) 0<s(a)@0"),
        lambda: RaftStory().asked().cut("f", apart([A], [B, C]), verified=False).say("0>s(a) 0<s(a)@0"),
        lambda: RaftStory().asked().fault("f", "kill", targets=[B]).say("0>s(a) 0<s(a)@0"),
    ],
)
def test_promises_that_were_possible_pass(near: Callable[[], RaftStory]) -> None:
    record = c8(near())
    assert types(record) == set(), record.reasons


@pytest.mark.parametrize("kind", ["kill", "pause"])
def test_a_promise_given_while_both_followers_are_down_is_impossible(kind: str) -> None:
    story = RaftStory().asked().fault("f", kind, targets=[B, C]).say("0>s(a) 0<s(a)@0")
    assert types(c8(story)) == {"impossible-ack"}
    story = RaftStory().asked().fault("f", kind, targets=[B, C]).status(B).say("0>s(a) 0<s(a)@0")
    assert types(c8(story)) == set(), "B answered meanwhile, so it was back"


def test_a_node_that_took_a_lost_ones_place_may_hold_the_copy() -> None:
    story = RaftStory().asked().status("broker-a-3").fault("f", "kill", targets=[B, C]).say("0>s(a) 0<s(a)@0")
    assert types(c8(story)) == set()


def test_a_node_that_answered_was_not_dead_whatever_the_fault_says() -> None:
    story = RaftStory().asked().fault("f", "kill", targets=THREE).say("0>s(a) 0<s(a)@0")
    assert types(c8(story)) == set()


def test_one_way_is_enough_to_make_a_promise_impossible() -> None:
    story = RaftStory().asked().cut("f", [(B, A), (C, A)]).say("0>s(a) 0<s(a)@0")
    assert types(c8(story)) == {"impossible-ack"}


def test_a_node_that_lost_its_store_may_forget_its_term_and_vote() -> None:
    story = RaftStory().asked(term=3).ballot(B, "granted", 3, to=A, at=0.001)
    story.fault("d", "destroy:rejoin", targets=[B]).status(B, "follower", 0).ballot(B, "granted", 3, to=C, at=1.0)
    assert types(c8(story)) == set()
    story.status(B, "follower", 3).status(B, "follower", 2)
    assert types(c8(story)) == {"term-regression"}


def test_a_vote_counts_from_when_it_was_surely_given() -> None:
    """An answer that was asked for before is no sign of forgetting; one whose store was lost since is none either."""
    early = RaftStory().asked().ballot(C, "granted", 1, to=A, at=5.0).status(C, "follower", 1, vote=None)
    assert types(c8(early)) == set()
    emptied = RaftStory().asked(vote=A).fault("d", "destroy:rejoin", targets=[C]).status(C, "follower", 1, vote=None)
    assert types(c8(emptied)) == set()
    killed = RaftStory().asked(vote=A).fault("k", "kill", targets=[C]).fault("k", "kill", "heal", targets=[C])
    assert types(c8(killed.status(C, "follower", 1, vote=None))) == {"forgotten-vote"}


def test_a_node_may_speak_until_its_store_is_gone() -> None:
    story = RaftStory().asked(term=3)
    began = story.now / 1e9
    story.fault("d", "destroy:rejoin", targets=[B], lasts=1.0).ballot(B, "granted", 4, to=A, at=began + 0.5)
    assert types(c8(story.status(B, "follower", 0))) == set()


def test_a_killed_node_may_not_forget() -> None:
    story = RaftStory().asked(term=3).fault("k", "kill", targets=[B]).fault("k", "kill", "heal", targets=[B])
    story.incarnation[B] = 2
    assert types(c8(story.status(B, "follower", 2))) == {"term-regression"}


def test_answers_that_overlap_are_not_ordered() -> None:
    story = RaftStory().asked(term=1)
    story.status(B, "follower", 2)
    late = story.events[-1]
    story.status(B, "follower", 1, t_asked=late.value["t_asked"])
    assert types(c8(story)) == set()


@pytest.mark.parametrize(
    ("story", "words"),
    [
        (lambda: RaftStory().say("0>s(a) 0<s(a)@0"), "nobody asked"),
        (lambda: RaftStory().status(A, "leader").status(B).say("0>s(a) 0<s(a)@0"), "nobody asked broker-a-2"),
        (lambda: RaftStory().asked(leader=None), "nothing shows who led"),
        (lambda: RaftStory(groups={}).asked(), "names no broker group"),
        (lambda: RaftStory().asked(term="drop"), "do not tell their term"),
        (lambda: RaftStory().asked().at(20).asked(), "nobody asked broker-a-0 between"),
        (lambda: RaftStory(addresses={}).asked().say("0>s(a) 0<s(a)@0"), "do not tell which node"),
        (lambda: RaftStory().asked().cut("f", None).say("0>s(a) 0<s(a)@0"), "does not say what it cut"),
    ],
)
def test_missing_input_is_unknown_never_valid(story: Callable[[], RaftStory], words: str) -> None:
    record = c8(story())
    assert record.valid is Validity.UNKNOWN
    assert any(words in reason for reason in record.reasons), record.reasons


def test_a_voter_that_joined_must_be_asked_too() -> None:
    story = RaftStory().asked().say("0>s(a) 0<s(a)@0")
    voters = {"group": GROUP, "voters": [*THREE, "broker-a-3"], "learners": [], "quorum": 3}
    story.add("lab", "info", "membership", voters)
    assert c8(story).valid is Validity.UNKNOWN
    assert c8(story.status("broker-a-3")).valid is Validity.VALID
    story.add("lab", "info", "membership", {**voters, "voters": []})
    assert c8(story).valid is Validity.UNKNOWN


def test_a_run_of_another_mode_is_not_vouched_for() -> None:
    story = RaftStory().asked().say("0>s(a) 0<s(a)@0")
    story.events[0].value["mode"] = "master-slave"
    assert c8(story).valid is Validity.UNKNOWN


def test_the_timeline_names_each_term_with_its_evidence() -> None:
    story = RaftStory().asked().say("0>s(a) 0<s(a)@0").lead(C, 4).asked(4, C).say("0>s(b) 0<s(b)@1")
    story.ballot(C, "elected", 4)
    rows = c8(story).details["terms"]
    assert [(row["term"], row["leader"], row["acknowledged"]) for row in rows] == [(1, A, 1), (4, C, 1)]
    assert rows[1]["evidence"] == "acknowledgements, election log, serving"
    assert rows[0]["group"] == GROUP
    assert ADDRESS[A] not in str(rows)


def pictured(story: RaftStory, name: str, lost: list[tuple[str, str]], hosts: list[str]) -> None:
    """Inject a partition that tells what it cut by the picture of its proof only."""
    story.fault(name, "partition", targets=[lost[0][0]])
    rows = ["".join("-" if a == b else "0" if (a, b) in lost else "1" for b in hosts) for a in hosts]
    story.events[-1].value["evidence"] = {"hosts": hosts, "new_flows": rows}


def test_a_picture_beside_another_cut_does_not_tell_which_fault_cut_what() -> None:
    """The first cut is healed while the second lasts; the second's picture still shows both."""
    hosts = [*THREE, CLIENT]
    first, second = apart([A], [B, C]), apart([CLIENT], [C])
    story = RaftStory().asked()
    pictured(story, "f1", first, hosts)
    pictured(story, "f2", [*first, *second], hosts)
    story.fault("f1", "partition", "heal").say("0>s(a) 0<s(a)@0")
    record = c8(story)
    assert types(record) == set()
    assert record.valid is Validity.UNKNOWN
    alone = RaftStory().asked()
    pictured(alone, "f1", first, hosts)
    assert types(c8(alone.say("0>s(a) 0<s(a)@0"))) == {"impossible-ack"}


def test_cuts_that_overlap_and_are_recorded_each_tell_their_own() -> None:
    """The event that begins an injection cannot name its pairs yet; the one that ends it does."""
    story = RaftStory().asked().cut("f1", apart([A], [B, C])).cut("f2", apart([CLIENT], [C]))
    story.cut("f1", None, "heal").say("0>s(a) 0<s(a)@0").cut("f2", None, "heal")
    record = c8(story)
    assert record.valid is Validity.VALID, record.reasons
    both = RaftStory().asked().cut("f1", apart([A], [B, C])).cut("f2", apart([CLIENT], [C])).say("0>s(a) 0<s(a)@0")
    assert types(c8(both)) == {"impossible-ack"}
