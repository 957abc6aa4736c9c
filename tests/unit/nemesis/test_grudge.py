"""Shapes of partitions lose exactly the pairs that they should."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemesis import grudge

HOSTS = ["a", "b", "c", "d", "e"]


def every_pair(hosts: list[str]) -> frozenset[tuple[str, str]]:
    return frozenset((a, b) for a in hosts for b in hosts if a != b)


def test_both_ways_and_one_way() -> None:
    assert grudge.both_ways(["a"], ["b", "c"]) == {("a", "b"), ("a", "c"), ("b", "a"), ("c", "a")}
    assert grudge.one_way(["a"], ["b", "c"]) == {("a", "b"), ("a", "c")}


def test_who_is_on_both_sides_is_cut_from_nobody() -> None:
    assert grudge.both_ways(["a", "x"], ["b", "x"]) == {("a", "b"), ("b", "a")}


def test_isolate_keeps_the_lonely_ones_together_and_isolate_each_does_not() -> None:
    assert ("a", "b") not in grudge.isolate(HOSTS, ["a", "b"])
    assert ("a", "b") in grudge.isolate_each(HOSTS, ["a", "b"])
    assert len(grudge.isolate(HOSTS, ["a", "b"])) == 12


def test_inward_and_outward_lose_opposite_directions() -> None:
    deaf, mute = grudge.inward(HOSTS, ["a"]), grudge.outward(HOSTS, ["a"])
    assert deaf == {("b", "a"), ("c", "a"), ("d", "a"), ("e", "a")}
    assert mute == {(b, a) for a, b in deaf}
    assert deaf | mute == grudge.isolate(HOSTS, ["a"])


def test_a_named_split_cuts_between_components_and_leaves_strangers_alone() -> None:
    cut = grudge.split([["a", "b"], ["c", "d"]])
    assert cut == grudge.both_ways(["a", "b"], ["c", "d"])
    assert not any("e" in pair for pair in cut)


@pytest.mark.random
@given(st.integers(2, 9), st.integers(0, 1000))
def test_halves_differ_by_one_at_most_and_lose_both_directions(count: int, seed: int) -> None:
    hosts = [f"h{number}" for number in range(count)]
    first, second = grudge.halves(hosts, random.Random(seed))
    assert sorted([*first, *second]) == sorted(hosts)
    assert len(second) - len(first) in (0, 1)
    cut = grudge.split([first, second])
    assert cut == frozenset((b, a) for a, b in cut)
    assert len(cut) == 2 * len(first) * len(second)


@pytest.mark.random
@given(st.integers(3, 9), st.integers(0, 1000))
def test_over_a_bridge_exactly_one_host_hears_everybody(count: int, seed: int) -> None:
    hosts = [f"h{number}" for number in range(count)]
    cut = grudge.split(grudge.bridge(hosts, random.Random(seed)))
    whole = [host for host in hosts if not any(host in pair for pair in cut)]
    assert len(whole) == 1 or count < 3


@pytest.mark.random
@given(st.integers(4, 11), st.integers(0, 1000))
def test_in_a_ring_everybody_hears_a_majority_and_no_two_the_same(count: int, seed: int) -> None:
    hosts = [f"h{number}" for number in range(count)]
    cut = grudge.majorities_ring(hosts, random.Random(seed))
    assert cut
    assert cut == frozenset((b, a) for a, b in cut)
    heard = [frozenset(b for b in hosts if (a, b) not in cut) for a in hosts]
    assert all(len(others) > count / 2 for others in heard)
    assert all(len(others) < count for others in heard) or count == 4
    assert len(set(heard)) == count


def test_a_ring_of_three_is_one_way() -> None:
    """Each hears itself and the next: a majority, and no two the same."""
    hosts = ["a", "b", "c"]
    cut = grudge.majorities_ring(hosts, random.Random(3))
    heard = {frozenset(b for b in hosts if (b, a) not in cut) for a in hosts}
    assert len(cut) == 3
    assert {len(others) for others in heard} == {2}
    assert len(heard) == 3


def test_the_free_ones_are_cut_from_nobody() -> None:
    assert grudge.without(every_pair(["a", "b", "c"]), ["c"]) == {("a", "b"), ("b", "a")}
