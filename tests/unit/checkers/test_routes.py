"""C18: stale, backward, dead, contradicting and missing routes, and the delays and faults that excuse them.

In these stories a name server must know of a leader after two seconds (register 1 s, slack 1 s) and must have dropped
a dead broker after thirteen (expiry 10 s, scan 2 s, slack 1 s).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from checkers.facts import gather
from checkers.routes import check_routes
from checkers.verdict import Record, Severity, Validity
from tests.unit.checkers.raft import ADDRESS, CLIENT, META, A, B, C, RaftStory
from tests.unit.checkers.story import GROUP

N1, N2 = "namesrv-1", "namesrv-2"


def c18(story: RaftStory) -> Record:
    return check_routes(gather(story.history()))


def types(record: Record, severity: Severity = Severity.VIOLATION) -> set[str]:
    return {anomaly.type for anomaly in record.anomalies if anomaly.severity is severity}


def serving(until: float, *, change: float = 10.0, **meta: Any) -> RaftStory:
    """A serves term 1 from 0 s, B term 2 from `change` on; both show it each half second. Routes follow."""
    story = RaftStory(**meta)
    now, number = 0.1, 0
    while now < until:
        if now >= change and story.epoch == 1:
            story.lead(B, 2)
        story.at(now).tell(f"{number}>s({number}) {number}<s({number})@{number}")
        number, now = number + 1, now + 0.5
    return story


def asked(story: RaftStory, *questions: tuple[float, str, str | None, int | None], **more: Any) -> RaftStory:
    """Add questions to name servers at their times, and put everything in order."""
    for when, ns, leader, term in questions:
        story.at(when).route(ns, leader, term, **more)
    story.events.sort(key=lambda event: event.time)
    for index, event in enumerate(story.events):
        event.index = index
    return story


def good(until: float = 20.0) -> RaftStory:
    return asked(
        serving(until), (5, N1, A, 1), (5, N2, A, 1), (11, N1, A, 1), (11.5, N2, B, 2), (13, N1, B, 2), (14, N2, B, 2)
    )


def test_routes_that_follow_within_the_bound_are_valid_and_their_lag_is_measured() -> None:
    record = c18(good())
    assert record.valid is Validity.VALID, record.reasons
    rows = {row["name server"]: row["stale"] for row in record.details["staleness"]}
    assert 0.8 < rows[N1][0] < 1.0
    assert 2.8 < rows[N1][1] < 3.0
    assert rows[N2][0] == 0.0


CASES: list[tuple[str, Callable[[], RaftStory], Callable[[], RaftStory]]] = [
    (
        "stale-route",
        lambda: asked(serving(20), (5, N1, A, 1), (5, N2, A, 1), (15, N1, A, 1)),
        lambda: asked(serving(20), (5, N1, A, 1), (5, N2, A, 1), (12, N1, A, 1)),
    ),
    (
        "stale-route",  # a node that never led
        lambda: asked(serving(20), (5, N1, A, 1), (5, N2, A, 1), (15, N1, C, None)),
        lambda: asked(serving(20), (5, N1, A, 1), (5, N2, A, 1), (15, N1, B, None)),
    ),
    (
        "route-regression",
        lambda: asked(serving(20), (10.5, N1, B, 2), (11, N1, A, 1), (11, N2, A, 1)),
        lambda: asked(serving(20), (10.5, N1, B, 2), (11, N2, A, 1)),
    ),
    (
        "disagreement",
        lambda: asked(serving(20), (5, N1, A, 1), (15, N1, B, 2), (15.5, N2, A, 1)),
        lambda: asked(serving(20), (5, N1, A, 1), (11.5, N1, B, 2), (11.6, N2, A, 1)),
    ),
    (
        "missing-topic",
        lambda: asked(asked(serving(20), (5, N1, A, 1), (5, N2, A, 1)), (15, N1, None, None), groups={}),
        lambda: asked(asked(serving(20), (5, N1, A, 1), (5, N2, A, 1)), (11, N1, None, None), groups={}),
    ),
    (
        "missing-topic",
        lambda: asked(serving(20), (5, N1, A, 1), (5, N2, A, 1), (15, N1, None, None)),
        lambda: asked(serving(20), (5, N1, A, 1), (5, N2, A, 1), (30, N1, None, None)),  # nobody serves any more
    ),
    (
        "unregistered-leader",
        lambda: asked(serving(20), (5, N1, A, 1), (5, N2, A, 1), (14, N1, A, 1), (16, N2, A, 1)),
        lambda: asked(serving(20), (5, N1, A, 1), (5, N2, A, 1), (14, N1, B, 2)),
    ),
]


@pytest.mark.parametrize(("kind", "caught", "passes"), CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)])
def test_each_anomaly_is_caught_and_its_near_miss_passes(
    kind: str, caught: Callable[[], RaftStory], passes: Callable[[], RaftStory]
) -> None:
    record = c18(caught())
    assert kind in types(record), record.reasons
    assert record.valid is Validity.INVALID
    assert next(anomaly for anomaly in record.anomalies if anomaly.type == kind).core
    near = c18(passes())
    assert near.valid is Validity.VALID, near.reasons


def test_the_number_of_queues_is_checked_after_the_bound() -> None:
    groups = {GROUP: {"brokers": {"0": A}, "term": 1, "queues": 3}}
    early = asked(asked(serving(9), (5, N1, A, 1), (5, N2, A, 1)), (1.5, N1, A, 1), groups=groups)
    assert c18(early).valid is Validity.VALID
    late = asked(asked(serving(9), (5, N1, A, 1), (5, N2, A, 1)), (6, N1, A, 1), groups=groups)
    assert "wrong-queues" in types(c18(late))


def dead(when: float, **fault: Any) -> RaftStory:
    """C is killed at 2 s and for good; name server 1 still lists it as a slave later."""
    story = serving(30, change=99)
    story.at(2).fault("k", "kill", targets=[C], **fault)
    groups = {GROUP: {"brokers": {"0": A, "3": C}, "term": 1, "queues": 1}}
    return asked(asked(story, (1, N1, A, 1), (1, N2, A, 1)), (when, N1, A, 1), groups=groups)


def test_a_dead_broker_must_be_dropped_after_expiry_and_scan() -> None:
    assert types(c18(dead(20))) == {"route-to-dead"}
    assert c18(dead(14)).valid is Validity.VALID
    assert types(c18(dead(20, verified=False))) == set(), "nobody proved that it was dead"


def test_a_broker_that_came_back_may_be_listed() -> None:
    story = serving(30, change=99)
    story.at(2).fault("k", "kill", targets=[C]).at(19).fault("k", "kill", "heal", targets=[C])
    groups = {GROUP: {"brokers": {"0": A, "3": C}, "term": 1, "queues": 1}}
    story = asked(asked(story, (1, N1, A, 1), (1, N2, A, 1)), (20, N1, A, 1), groups=groups)
    assert c18(story).valid is Validity.VALID


def deposed(until: float, *questions: tuple[float, str, str | None, int | None]) -> RaftStory:
    """A is cut off from its fellows at 10 s, and until it knows that B leads it says that it serves."""
    story = serving(20)
    for when in range(2, int(until)):
        story.at(when + 0.2).status(A, "leader", 1)
    return asked(story, (5, N1, A, 1), (5, N2, A, 1), *questions)


def test_no_name_server_owes_a_deposed_leader_a_place() -> None:
    followed = (10.5, N1, B, 2), (11, N2, B, 2), (14, N1, B, 2)
    record = c18(deposed(18, *followed))
    assert record.valid is Validity.VALID, record.reasons
    alone = asked(serving(20, change=99), (14, N1, B, None), (14, N2, B, None))
    assert "unregistered-leader" in types(c18(alone)), "nobody has deposed it"
    assert types(c18(deposed(18, *followed, (15, N1, A, 1)))) == {"stale-route", "route-regression"}


def thrice() -> RaftStory:
    """A leads term 1, B term 2 from 10 s, A term 3 from 15 s."""
    story = serving(15)
    story.lead(A, 3)
    for number in range(100, 120):
        story.at(15 + (number - 100) / 2).tell(f"{number}>s({number}) {number}<s({number})@{number}")
    return story


def test_a_name_server_that_tells_the_term_is_judged_by_it() -> None:
    """A leader that came back is another one; and a term that its node never led counts for nothing."""
    before = (5, N1, A, 1), (5, N2, A, 1), (11, N1, B, 2), (16, N1, A, 3), (16, N2, A, 3)
    assert c18(asked(thrice(), *before)).valid is Validity.VALID
    assert c18(asked(thrice(), *before, (20, N1, A, None))).valid is Validity.VALID
    assert types(c18(asked(thrice(), *before, (20, N1, A, 1)))) == {"stale-route", "route-regression"}
    assert types(c18(asked(thrice(), *before, (15.5, N1, A, 1)))) == {"route-regression"}
    lies = (5, N1, A, 1), (5, N2, A, 1), (11, N1, B, 2), (15, N1, A, 2)
    assert types(c18(asked(serving(20), *lies))) >= {"stale-route", "route-regression"}


def test_where_nobody_shows_that_the_leader_still_serves_no_answer_is_stale() -> None:
    story = asked(serving(12), (5, N1, A, 1), (5, N2, A, 1), (20, N1, A, 1))
    assert c18(story).valid is Validity.VALID


def test_a_paused_broker_is_not_dead() -> None:
    story = serving(30, change=99)
    story.at(2).fault("p", "pause", targets=[C])
    groups = {GROUP: {"brokers": {"0": A, "3": C}, "term": 1, "queues": 1}}
    record = c18(asked(asked(story, (1, N1, A, 1), (1, N2, A, 1)), (20, N1, A, 1), groups=groups))
    assert record.valid is Validity.VALID, record.reasons


@pytest.mark.parametrize("cut", [(N1, B), (B, N1)])
def test_a_name_server_that_is_cut_off_from_the_leader_is_exempt_for_the_bound(cut: tuple[str, str]) -> None:
    def story(until: float, when: float) -> RaftStory:
        made = serving(30)
        made.at(9).cut("c", [cut]).at(until).cut("c", None, "heal")
        return asked(made, (5, N1, A, 1), (5, N2, A, 1), (14, N2, B, 2), (when, N1, A, 1))

    record = c18(story(20, 19))
    assert record.valid is Validity.VALID, record.reasons
    assert record.counts["exempt"] == 1
    assert record.counts["held against the leader due"] == 3
    assert c18(story(20, 21.5)).valid is Validity.VALID
    assert "stale-route" in types(c18(story(20, 23)))


def test_a_restarted_name_server_may_know_less() -> None:
    story = asked(serving(20), (10.5, N1, B, 2), (11.2, N2, B, 2))
    story = asked(story, (11, N1, A, 1), incarnation=2)
    assert c18(story).valid is Validity.VALID


def test_a_clients_own_view_may_lag_by_its_refresh() -> None:
    routing = {**META["routing"], "refresh_s": 4}

    def story(when: float) -> RaftStory:
        made = asked(serving(30, routing=routing), (5, N1, A, 1), (5, N2, A, 1), (13, N1, B, 2))
        return asked(made, (when, N1, A, 1), **{"from": CLIENT})

    assert c18(story(15)).valid is Validity.VALID
    record = c18(story(17))
    assert "stale-route" in types(record)
    assert f"asked from {CLIENT}" in record.anomalies[0].text


def test_an_operation_of_a_client_is_no_observation() -> None:
    story = good()
    story.now += 1_000_000
    story.add(900, "invoke", "route", "t")
    story.now += 1_000_000
    story.add(900, "ok", "route", {"ns": N1, "groups": {}})
    assert c18(story).valid is Validity.VALID


def test_brokers_may_be_named_by_their_addresses() -> None:
    story = asked(serving(20), (5, N1, ADDRESS[A], 1), (5, N2, A, 1), (15, N1, ADDRESS[B], 2))
    assert c18(story).valid is Validity.VALID
    assert "stale-route" in types(c18(asked(serving(20), (5, N1, A, 1), (5, N2, A, 1), (15, N1, ADDRESS[A], 1))))


def test_a_leader_that_never_served_binds_no_name_server() -> None:
    story = serving(30, change=99)
    story.at(10).ballot(B, "elected", 2, at=10).status(B, "leader", 2, serving=False)
    story.at(25).status(B, "leader", 2, serving=False)
    assert c18(asked(story, (5, N1, A, 1), (5, N2, A, 1), (20, N1, A, 1))).valid is Validity.VALID


def test_flapping_is_a_note() -> None:
    story = asked(
        serving(30, change=99), (3, N1, A, None), (4, N1, B, None), (5, N1, A, None), (6, N1, B, None), (7, N1, A, None)
    )
    assert "flapping" in types(c18(story), Severity.NOTE)


@pytest.mark.parametrize(
    ("story", "words"),
    [
        (lambda: serving(5), "no route was recorded"),
        (lambda: asked(serving(5), (3, N1, A, 1)), "no route of namesrv-2"),
        (lambda: asked(RaftStory(), (3, N1, A, 1), (3, N2, A, 1)), "nothing shows who served"),
        (lambda: asked(serving(5, topics={}), (3, N1, A, 1), (3, N2, A, 1)), "does not name its groups and topics"),
        (lambda: asked(serving(5), (3, N1, A, 1), (3, N2, A, 1), groups=7), "could not be read"),
    ],
)
def test_missing_input_is_unknown_never_valid(story: Callable[[], RaftStory], words: str) -> None:
    record = c18(story())
    assert record.valid is Validity.UNKNOWN
    assert any(words in reason for reason in record.reasons), record.reasons


def appointed(until: float, *, change: float = 10.0) -> RaftStory:
    """Masters whose answers name no epoch: A is one until B is promoted, and goes on calling itself master of its own,
    older term; only the status tells."""
    story = RaftStory()
    story.events[0].value["mode"] = "master-slave"
    for half in range(int(2 * until)):
        now = 0.1 + half / 2
        story.at(now)
        for node, role, term in ((A, "SYNC_MASTER", 0), (B, "SYNC_MASTER" if now >= change else "SLAVE", 1)):
            value = {"node": node, "group": GROUP, "incarnation": 1, "t_asked": story.now, "answered": True}
            story.add("lab", "info", "status", {**value, "role": role, "epoch": {"number": term}, "state": "serving"})
        story.lead(B if now >= change else A, 1).epoch = None
        story.tell(f"{half}>s({half}) {half}<s({half})@{half}")
    return story


def test_masters_that_a_release_appoints_are_known_by_their_status() -> None:
    """Two name servers follow within the bound; one that goes on naming the master that was replaced is found."""
    told = ((5.0, N1, A, None), (5.0, N2, A, None), (13.0, N1, B, None), (13.0, N2, B, None))
    record = c18(asked(appointed(20), *told))
    assert record.valid is Validity.VALID, record.reasons
    stale = c18(asked(appointed(20), *told, (16.0, N1, A, None)))
    assert "stale-route" in types(stale)


def test_a_run_that_shows_no_master_is_not_judged() -> None:
    """Neither answers nor statuses tell who served: that is said, not passed over."""
    story = asked(appointed(20), (5, N1, A, None), (5, N2, A, None), (16, N1, A, None))
    story.events = [event for event in story.events if event.f != "status"]
    for index, event in enumerate(story.events):
        event.index = index
    record = c18(story)
    assert record.valid is Validity.UNKNOWN
    assert any("nothing shows who served" in reason for reason in record.reasons)


def restarted(*questions: tuple[float, str, str | None, int | None]) -> Record:
    """A is killed at 3 s and started at 4 s; it serves its old term again from 12 s on."""
    story = RaftStory()
    story.at(0.5)
    story.status(A, "leader", 1).at(3)
    story.fault("f", "kill", targets=[A])
    story.at(4)
    story.fault("f", "kill", "heal", targets=[A])
    for number in range(12, 22):
        story.at(number)
        story.status(A, "leader", 1)
    return c18(asked(story, (2, N1, A, 1), (2, N2, A, 1), *questions))


def test_a_leader_that_takes_long_to_start_is_owed_no_route_until_it_serves() -> None:
    """It was started at 4 s; only what name servers say two seconds after it serves again is held against them."""
    assert types(restarted((10, N1, None, None), (13, N1, None, None))) == set()
    assert types(restarted((16, N1, None, None))) == {"missing-topic"}
