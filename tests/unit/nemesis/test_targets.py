"""Target words mean whom they should, at the moment they are resolved."""

import asyncio
import random

import pytest

from nemesis.targets import TargetError, resolve
from nemesis.world import NodeState, Role, RoleReport
from tests.unit.nemesis.fake_world import FakeWorld


def roles_of(fake: FakeWorld) -> dict[str, RoleReport]:
    return dict(asyncio.run(fake.role_reports.roles()))


@pytest.fixture
def fake() -> FakeWorld:
    return FakeWorld()


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("masters", ("broker-a-0", "broker-b-0")),
        ("slaves", ("broker-a-1", "broker-b-1")),
        ("brokers", ("broker-a-0", "broker-a-1", "broker-b-0", "broker-b-1")),
        ("all", ("broker-a-0", "broker-a-1", "broker-b-0", "broker-b-1")),
        ("namesrvs", ("namesrv-1", "namesrv-2")),
        ("clients", ("client-1", "client-2")),
        ("broker-b/master", ("broker-b-0",)),
        ("broker-b/slave", ("broker-b-1",)),
        ("broker-a/all", ("broker-a-0", "broker-a-1")),
        ("broker-a-1", ("broker-a-1",)),
        ("client-2+broker-a-0", ("broker-a-0", "client-2")),
        ("masters + broker-a-0", ("broker-a-0", "broker-b-0")),
    ],
)
def test_words_without_chance(fake: FakeWorld, word: str, expected: tuple[str, ...]) -> None:
    assert resolve(word, roles_of(fake), random.Random(0)) == expected


@pytest.mark.parametrize(
    ("word", "count", "among"),
    [
        ("master", 1, {"broker-a-0", "broker-b-0"}),
        ("slave", 1, {"broker-a-1", "broker-b-1"}),
        ("namesrv", 1, {"namesrv-1", "namesrv-2"}),
        ("client", 1, {"client-1", "client-2"}),
        ("one", 1, {"broker-a-0", "broker-a-1", "broker-b-0", "broker-b-1"}),
        ("minority", 1, {"broker-a-0", "broker-a-1", "broker-b-0", "broker-b-1"}),
        ("majority", 3, {"broker-a-0", "broker-a-1", "broker-b-0", "broker-b-1"}),
    ],
)
def test_words_by_chance_choose_everybody_sooner_or_later(
    fake: FakeWorld, word: str, count: int, among: set[str]
) -> None:
    rng = random.Random(7)
    drawn = [resolve(word, roles_of(fake), rng) for _ in range(100)]
    assert {len(names) for names in drawn} == {count}
    assert {name for names in drawn for name in names} == among


def test_the_same_seed_chooses_the_same(fake: FakeWorld) -> None:
    draws = [[resolve("one", roles_of(fake), rng) for _ in range(20)] for rng in (random.Random(3), random.Random(3))]
    assert draws[0] == draws[1]


def test_roles_are_those_of_now_and_not_those_of_the_names(fake: FakeWorld) -> None:
    fake.role_reports.of["broker-a-0"] = (Role.SLAVE, 2)
    fake.role_reports.of["broker-a-1"] = (Role.MASTER, 2)
    assert resolve("broker-a/master", roles_of(fake), random.Random(0)) == ("broker-a-1",)


def test_a_dead_master_is_not_meant_while_another_lives(fake: FakeWorld) -> None:
    fake.role_reports.of["broker-a-1"] = (Role.MASTER, 2)
    fake.processes.states["broker-a-0"] = NodeState.DEAD
    assert resolve("broker-a/masters", roles_of(fake), random.Random(0)) == ("broker-a-1",)


def test_a_plural_means_one_of_another_group_that_is_only_slow(fake: FakeWorld) -> None:
    """On a busy machine it was left out, and what was hit was one master in place of all."""
    fake.role_reports.slow = {"broker-b-0"}
    assert resolve("masters", roles_of(fake), random.Random(0)) == ("broker-a-0", "broker-b-0")
    assert resolve("master", roles_of(fake), random.Random(0)) == ("broker-a-0",)
    fake.processes.states["broker-b-0"] = NodeState.DEAD
    assert resolve("masters", roles_of(fake), random.Random(0)) == ("broker-a-0",)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("broker-a/minority", "2 brokers have no minority"),
        ("broker-c/master", "no broker group is called broker-c"),
        ("mastr", "mastr is neither a node nor one of"),
        ("broker-a/namesrv", "nobody is broker-a/namesrv now"),
    ],
)
def test_words_that_fit_nobody_say_why(fake: FakeWorld, word: str, reason: str) -> None:
    with pytest.raises(TargetError, match=reason):
        resolve(word, roles_of(fake), random.Random(0))


def test_a_deposed_leader_that_has_not_noticed_is_not_the_leader() -> None:
    """Of two of one group that say so, the newer term is meant."""
    roles = {
        "n0": RoleReport("n0", "n0", "g", Role.MASTER, 4),
        "n1": RoleReport("n1", "n1", "g", Role.MASTER, 7),
        "n2": RoleReport("n2", "n2", "g", Role.SLAVE, 7),
    }
    assert {resolve("leader", roles, random.Random(seed)) for seed in range(20)} == {("n1",)}
    assert resolve("leaders", roles, random.Random(1)) == ("n1",)
    assert resolve("g/follower", roles, random.Random(1)) == ("n2",)


def test_shares_of_a_group_with_its_leader() -> None:
    """The leader is always in it; the fellows change."""
    roles = {
        f"n{number}": RoleReport(f"n{number}", f"n{number}", "g", Role.MASTER if number == 2 else Role.SLAVE, 3)
        for number in range(5)
    }
    minorities = {resolve("leader-minority", roles, random.Random(seed)) for seed in range(60)}
    majorities = {resolve("leader-majority", roles, random.Random(seed)) for seed in range(60)}
    assert {len(nodes) for nodes in minorities} == {2}
    assert {len(nodes) for nodes in majorities} == {3}
    assert len(minorities) == 4
    assert all("n2" in nodes for nodes in minorities | majorities)
    with pytest.raises(TargetError, match="have no minority"):
        resolve("leader-minority", {"n2": roles["n2"]}, random.Random(1))
