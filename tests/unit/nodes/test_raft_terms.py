"""Term tables: what they say about positions, and how a leader finds where two logs part."""

from __future__ import annotations

from random import Random

import pytest

from nodes.replication.raft.log import ROWS_TOLD_MAX, LogView
from nodes.replication.raft.orders import RaftError, Restored
from nodes.replication.raft.quorum import held_by_majority, majority
from nodes.replication.raft.terms import TermError, TermRow, TermTable

TABLE = TermTable.of([TermRow(1, 0), TermRow(3, 50), TermRow(4, 80)])


def test_the_term_at_a_position_is_that_of_the_record_that_ends_there() -> None:
    assert [TABLE.term_at(position) for position in (0, 1, 50, 51, 80, 81, 999)] == [0, 1, 1, 3, 3, 4, 4]


def test_a_term_ends_where_the_next_begins() -> None:
    assert [TABLE.term_end(start, 100) for start in (0, 49, 50, 79, 80)] == [50, 50, 80, 80, 100]


def test_cutting_and_forgetting() -> None:
    assert TABLE.upto(80).rows == TABLE.rows[:2]
    assert TABLE.upto(81).rows == TABLE.rows
    assert TABLE.upto(0).rows == ()
    assert TABLE.since(50).rows == TABLE.rows
    assert TABLE.since(51).rows == TABLE.rows[1:]
    assert TABLE.since(80).term_at(80) == 3


@pytest.mark.parametrize(
    "rows",
    [[TermRow(0, 0)], [TermRow(2, 0), TermRow(2, 9)], [TermRow(2, 9), TermRow(3, 9)], [TermRow(3, 0), TermRow(2, 9)]],
)
def test_tables_that_cannot_be(rows: list[TermRow]) -> None:
    with pytest.raises(TermError):
        TermTable.of(rows)


def test_a_log_must_say_who_wrote_it() -> None:
    with pytest.raises(RaftError, match="who wrote the log's first record"):
        LogView(Restored(begin=10, end=20, stable=20))
    with pytest.raises(RaftError, match="out of order"):
        LogView(Restored(begin=30, end=20, stable=20))


def grown(rng: Random, shared: list[tuple[int, int]], terms: list[int]) -> list[tuple[int, int]]:
    """Records as (term, end) that go on after the shared ones in these terms."""
    found = list(shared)
    for term in terms:
        for _ in range(rng.randrange(1, 4)):
            found.append((term, (found[-1][1] if found else 0) + rng.randrange(5, 30)))
    return found


def view(records: list[tuple[int, int]]) -> LogView:
    rows, at, last = [], 0, 0
    for term, end in records:
        if term != last:
            rows.append(TermRow(term, at))
        at, last = end, term
    return LogView(Restored(end=at, stable=at, rows=tuple(rows)))


@pytest.mark.parametrize("many", [False, True])
def test_a_leader_finds_where_two_logs_part(many: bool) -> None:
    """Two random logs with a common beginning and no term in common after it, as the rules make them."""
    for seed in range(200):
        rng = Random(seed)
        common = rng.randrange(0, 4)
        terms = rng.sample(range(common + 1, common + (400 if many else 9)), 200 if many else 6)
        shared = grown(rng, [], list(range(1, common + 1)))
        half = len(terms) // 2
        leader = view(grown(rng, shared, sorted(terms[:half])))
        follower = view(grown(rng, shared, sorted(terms[half : half + rng.randrange(0, half)])))
        expected = shared[-1][1] if shared else 0
        at, rounds = leader.end, 0
        while not follower.matches(at, leader.table.term_at(at)):
            rows, end = follower.told(leader.table.term_at(at))
            at = leader.parting(rows, end)
            rounds += 1
        assert at == expected, seed
        assert rounds <= (1 + len(follower.table.rows) // ROWS_TOLD_MAX) * 2, seed


def test_counting() -> None:
    assert [majority(voters) for voters in (1, 2, 3, 4, 5)] == [1, 2, 2, 3, 3]
    assert held_by_majority([]) == 0
    assert held_by_majority([10, 30, 20]) == 20
    assert held_by_majority([10, 40, 30, 20]) == 20
