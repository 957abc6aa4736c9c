"""Partitions of every shape that leave somebody in touch with a majority: the group goes on, and goes on quietly.

Not healed: within 4 virtual seconds a leader commits again, and in the 20 seconds after that the lead does not change.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nodes.replication.raft.orders import Role
from tests.unit.nodes.raft_world import World

NAMES = ("n0", "n1", "n2", "n3", "n4")
Pairs = set[tuple[str, str]]


def both(*pairs: tuple[str, str]) -> Pairs:
    return {pair for a, b in pairs for pair in ((a, b), (b, a))}


def isolated(names: tuple[str, ...], leader: str) -> Pairs:
    return both(*((leader, name) for name in names if name != leader))


def unheard(names: tuple[str, ...], leader: str) -> Pairs:
    """What the leader says is lost."""
    return {(leader, name) for name in names if name != leader}


def deaf(names: tuple[str, ...], leader: str) -> Pairs:
    """What the leader is told is lost."""
    return {(name, leader) for name in names if name != leader}


def follower_deaf(names: tuple[str, ...], leader: str) -> Pairs:
    follower = next(name for name in names if name != leader)
    return {(name, follower) for name in names if name != follower}


def chain(names: tuple[str, ...], leader: str) -> Pairs:
    """The leader and the last one do not see one another; everybody else sees all."""
    return both((leader, next(name for name in reversed(names) if name != leader)))


def bridge(names: tuple[str, ...], leader: str) -> Pairs:
    """Two halves that share only one node, which does not lead."""
    middle, *rest = [name for name in names if name != leader]
    rest = [leader, *rest]
    half = len(rest) // 2
    return both(*((a, b) for a in rest[:half] for b in rest[half:] if middle not in (a, b)))


def ring(names: tuple[str, ...], leader: str) -> Pairs:
    """Each sees its two neighbours only: a majority for each, and a different one."""
    at = {name: index for index, name in enumerate(names)}
    return {(a, b) for a in names for b in names if (at[a] - at[b]) % len(names) not in (0, 1, len(names) - 1)}


@pytest.mark.partition
@pytest.mark.parametrize("voters", [3, 5])
@pytest.mark.parametrize("shape", [isolated, unheard, deaf, follower_deaf, chain, bridge, ring])
def test_the_group_goes_on(shape: Callable[[tuple[str, ...], str], Pairs], voters: int) -> None:
    for seed in range(6):
        world = World(NAMES[:voters], seed)
        old = world.elect()
        world.run(0.3)
        world.cut = shape(NAMES[:voters], old.name)
        agreed = world.invariants.agreed_end
        began = world.now

        def going_on(world: World = world, agreed: int = agreed) -> bool:
            for node in world.nodes.values():
                if node.raft.accepts and node.raft.end == node.raft.committed:
                    node.append("more")
            return world.invariants.agreed_end > agreed

        assert world.run(4.0, going_on), f"{shape.__name__} seed {seed}: nothing is committed"
        world.run(max(0.0, began + 4.0 - world.now))
        terms = len(world.invariants.leaders)
        agreed = world.invariants.agreed_end
        for _ in range(20):
            for node in world.nodes.values():
                node.append("x")
            world.run(1.0)
            assert world.invariants.agreed_end > agreed, f"{shape.__name__} seed {seed}: it stands still"
            agreed = world.invariants.agreed_end
        assert len(world.invariants.leaders) == terms, f"{shape.__name__} seed {seed}: the lead changes again"
        led = [node for node in world.nodes.values() if node.raft.role is Role.LEADER]
        assert len(led) == 1, f"{shape.__name__} seed {seed}: {[node.name for node in led]} believe to lead"
        world.heal()
        assert world.run(5.0, world.level), f"{shape.__name__} seed {seed}: not level after the heal"
        assert len(world.invariants.leaders) == terms, f"{shape.__name__} seed {seed}: the heal costs an election"


@pytest.mark.partition
@pytest.mark.parametrize("voters", [3, 5])
def test_a_minority_commits_nothing_and_a_majority_that_returns_leads(voters: int) -> None:
    """Majority down: no commit; majority back: a leader within 4 s."""
    world = World(NAMES[:voters], 3)
    world.elect()
    world.run(0.3)
    down = NAMES[: voters // 2 + 1]
    for name in down:
        world.crash(name, power=True)
    world.run(3.0)
    agreed = world.invariants.agreed_end
    for node in world.nodes.values():
        node.append("never")
    world.run(3.0)
    assert world.invariants.agreed_end == agreed
    assert all(node.raft.role is not Role.LEADER for node in world.nodes.values() if node.up)
    for name in down:
        world.restart(name)
    assert world.run(4.0, world.level)
