"""How long name servers list a broker that a fault took away: by what they answered, as an interval."""

from __future__ import annotations

from typing import Any

import pytest

from checkers.availability import check_availability
from checkers.compose import judge
from checkers.facts import gather
from checkers.report.tables import tables
from tests.unit.checkers.raft import A, B, C, RaftStory, apart

N1, N2 = "namesrv-1", "namesrv-2"
REST = [B, C, N1, N2, "client-1"]


def told(story: RaftStory, *answers: tuple[float, str, str | None]) -> RaftStory:
    """Add the answers of name servers at their times (who is listed as leader), in order."""
    for when, ns, leader in answers:
        story.at(when).route(ns, leader)
    story.events.sort(key=lambda event: event.time)
    for index, event in enumerate(story.events):
        event.index = index
    return story


def hidden(kind: str = "kill", *, heal: float | None = 40, **more: Any) -> RaftStory:
    """A is killed, or its host goes silent, from 10 s on."""
    story = RaftStory().say("0>s(a) 0<s(a)@0")
    if kind == "kill":
        story.at(10).fault("f", "kill", targets=[A], **more)
        return story if heal is None else story.at(heal).fault("f", "kill", "heal", targets=[A])
    story.at(10).cut("f", apart([A], REST), kind="blackhole", targets=[A], **more)
    return story if heal is None else story.at(heal).cut("f", None, "heal", kind="blackhole", targets=[A])


def listed(story: RaftStory) -> dict[str, list[float | None]]:
    record = check_availability(gather(story.history()))
    return {row["name server"]: row["listed"] for row in record.details["departures"]}


@pytest.mark.parametrize("kind", ["kill", "blackhole"])
def test_a_name_server_lists_who_is_away_until_its_first_answer_without_it(kind: str) -> None:
    found = listed(told(hidden(kind), (9, N1, A), (9, N2, A), (12, N1, A), (13, N1, B), (14, N1, A), (10.5, N2, B)))
    assert found[N1] == [pytest.approx(1.9, abs=0.1), pytest.approx(3.0, abs=0.1)]
    assert found[N2] == [0.0, pytest.approx(0.5, abs=0.1)]


@pytest.mark.parametrize("heal", [40, None])
def test_who_lists_it_until_the_heal_has_no_upper_bound(heal: float | None) -> None:
    found = listed(told(hidden(heal=heal), (9, N1, A), (20, N1, A), (39, N1, A), *[(41, N1, B)] * (heal is not None)))
    assert found[N1] == [pytest.approx(28.9, abs=0.1), None]


NOTHING = {
    "the name server did not list it before": told(hidden(), (9, N1, B), (11, N1, A)),
    "nobody proved the fault": told(hidden(verified=False), (9, N1, A), (11, N1, A)),
    "the fault struck another broker": told(
        RaftStory().at(10).fault("f", "kill", targets=[B]).at(40).fault("f", "kill", "heal", targets=[B]),
        (9, N1, A), (11, N1, A),
    ),
    "the cut leaves that name server": told(
        RaftStory().at(10).cut("f", apart([A], [B, C]), targets=[A]).at(40).cut("f", None, "heal", targets=[A]),
        (9, N1, A), (11, N1, A),
    ),
    "the name server was away itself": told(
        hidden().at(11).fault("n", "kill", targets=[N1]).at(12).fault("n", "kill", "heal", targets=[N1]),
        (9, N1, A), (20, N1, A),
    ),
    "nothing was asked during the fault": told(hidden(), (9, N1, A), (41, N1, A)),
}  # fmt: skip


@pytest.mark.parametrize("case", NOTHING)
def test_what_shows_nothing_is_not_measured(case: str) -> None:
    assert listed(NOTHING[case]) == {}


def test_answers_over_the_wires_of_the_experiment_are_not_taken() -> None:
    """A client that is cut off from a name server, too, would be told nothing."""
    story = told(hidden(), (9, N1, A), (11, N1, A))
    story.at(30).route(N1, B, 1, **{"from": "client-1"})
    assert listed(story)[N1][1] is None


def test_the_longest_listing_is_a_figure_and_all_are_in_the_report() -> None:
    story = told(hidden(), (9, N1, A), (9, N2, A), (12, N1, A), (13, N1, B), (10.5, N2, B))
    verdict = judge(story.history())
    record = verdict.record("C14")
    assert record is not None
    assert record.metrics["listed after f s"] == pytest.approx((1.9, 3.0), abs=0.1)
    table = next(one for one in tables(verdict) if one.title == "How long name servers listed who was away")
    assert [row[1:3] for row in table.rows] == [(A, N1), (A, N2)]
