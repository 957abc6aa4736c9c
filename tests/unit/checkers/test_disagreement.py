"""C18: how long two name servers told different things of one group, as an interval."""

from __future__ import annotations

from checkers.disagreement import disagreements
from checkers.facts import gather
from checkers.routes import check_routes
from checkers.verdict import Validity
from tests.unit.checkers.raft import CLIENT, A, B
from tests.unit.checkers.story import GROUP
from tests.unit.checkers.test_routes import N1, N2, asked, good, serving

EARLY = ((5, N1, A, 1), (5, N2, A, 1))
"""Both name servers agree."""


def test_a_disagreement_lasts_at_least_as_long_as_answers_show_it_and_at_most_until_others_exclude_it() -> None:
    """N2 follows a second later than N1: both surely differed from 11.0 to 11.5 s, perhaps from 10.2 to 12.5 s."""
    answers = (
        (10.2, N1, A, 1), (10.2, N2, A, 1), (11, N1, B, 2), (11.5, N2, A, 1), (12, N1, B, 2), (12.5, N2, B, 2)
    )  # fmt: skip
    story = asked(serving(20), *EARLY, *answers)
    (row,) = disagreements(gather(story.history()).observed.routes, GROUP)
    assert row["name servers"] == [N1, N2]
    assert row["told"] == [f"{B} with 1 queues", f"{A} with 1 queues"]
    low, high = row["lasted"]
    assert 0.49 < low < 0.51
    assert 2.29 < high < 2.31
    record = check_routes(gather(story.history()))
    assert record.valid is Validity.VALID, record.reasons
    assert record.metrics["longest disagreement s"] == (low, high)
    assert record.counts["disagreements measured"] == 1


def test_a_disagreement_that_was_not_seen_to_end_has_no_upper_bound() -> None:
    story = asked(serving(20), *EARLY, (11, N1, B, 2), (11.5, N2, A, 1), (12, N1, B, 2))
    (row,) = disagreements(gather(story.history()).observed.routes, GROUP)
    assert row["lasted"][1] is None
    high = check_routes(gather(story.history())).metrics["longest disagreement s"]
    assert isinstance(high, tuple)
    assert high[1] == float("inf")


def test_name_servers_that_change_between_two_questions_are_not_proven_to_disagree() -> None:
    story = asked(serving(20), *EARLY, (11, N1, B, 2), (11.2, N2, B, 2), (14, N1, B, 2), (14, N2, B, 2))
    assert disagreements(gather(story.history()).observed.routes, GROUP) == []
    record = check_routes(gather(story.history()))
    assert "longest disagreement s" not in record.metrics


def test_answers_from_different_places_are_not_held_against_each_other() -> None:
    story = asked(serving(20), *EARLY, (11, N1, B, 2), (12, N1, B, 2))
    story = asked(story, (11.2, N2, A, 1), (11.8, N2, A, 1), **{"from": CLIENT})
    assert disagreements(gather(story.history()).observed.routes, GROUP) == []


def test_a_client_that_learns_later_than_the_side_channel_is_measured() -> None:
    story = asked(good(), (11.6, N2, A, 1), (12.6, N2, B, 2), **{"from": CLIENT})
    record = check_routes(gather(story.history()))
    assert record.valid is Validity.VALID, record.reasons
    late = record.metrics["clients' view later by s"]
    assert isinstance(late, float)
    assert -0.5 < late < 0  # N1 told the side channel later still
