"""Random lives of two and three nodes: crashes that lose unsynced tails, promotions, divergence, reconnects.

Whatever happened: once a primary and a replica are connected and at rest, their bytes are equal, and no primary ever
counted a copy that was not one. Each planted flaw breaks one of the two.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodes.flaws import Flaw
from tests.unit.nodes.replication_world import PowerCut, World

ACTS = (
    ["append"] * 6
    + ["deliver"] * 8
    + ["sync"] * 2
    + ["kill", "power", "power", "lead", "serve", "serve", "follow", "follow", "follow", "wipe", "retain", "fuse"]
)


def live(world: World, acts: list[tuple[str, int, int]]) -> None:
    """One random life. An act that makes no sense now is skipped."""
    names = sorted(world.nodes)
    for act, one, two in acts:
        name = names[one % len(names)]
        node = world.nodes[name]
        match act:
            case "append" if node.up and node.primary is not None:
                world.append(name)
            case "deliver":
                links = sorted(world.links.values(), key=lambda link: link.number)
                if links:
                    link = links[one % len(links)]
                    for _ in range(1 + two % 4):
                        guarded(world, lambda link=link: world.deliver_down(link))  # type: ignore[misc]
                        world.deliver_up(link)
            case "sync":
                node.log.sync()
            case "kill" | "power" if node.up:
                world.crash(name, power=act == "power")
            case "lead" if not node.up:
                node.lead()
            case "serve" if not node.up:
                node.serve()
            case "wipe" if not node.up and two % 3 == 0:
                node.wipe()
            case "follow" if node.up and node.replica is not None:
                leaders = [other for other in names if world.nodes[other].up and world.nodes[other].primary is not None]
                if leaders:
                    world.follow(name, leaders[two % len(leaders)])
            case "retain" if node.up and node.primary is not None:
                ends = [end for end in node.log.ends() if end <= node.log.synced]
                if ends and two % 4 == 0:
                    node.log.delete_below(ends[two % len(ends)])
            case "fuse" if node.up and node.replica is not None:
                node.log.fuse.steps = two % 5
                node.disk.fuse = node.log.fuse


def guarded(world: World, act: Callable[[], object]) -> None:
    """A node whose fuse burns in the middle of an action loses its power there."""
    try:
        act()
    except PowerCut:
        for name, node in world.nodes.items():
            if node.up and node.log.fuse.steps == 0:
                world.crash(name, power=True)


def bring_together(world: World, leader: str) -> None:
    """One primary, everybody else its replica, all at rest."""
    for name in world.nodes:
        if world.nodes[name].up:
            world.crash(name, power=False)
    world.nodes[leader].lead()
    # A primary that has been superseded says so and is started again, as its operator would.
    for _ in range(3):
        for name, node in world.nodes.items():
            if name != leader:
                node.serve()
                world.follow(name, leader)
        world.settle()
        if all(node.replica is None or node.replica.epoch_number for node in world.nodes.values()):
            break
        world.crash(leader, power=False)
        world.nodes[leader].lead()
    for _ in range(3):
        world.append(leader)
        world.settle()


def differences(world: World, leader: str) -> list[str]:
    """What is wrong after everybody has come together."""
    found = list(world.untrue)
    truth = world.nodes[leader].log
    for name, node in world.nodes.items():
        begin = max(node.log.base, truth.base)
        mine = bytes(node.log.data[begin - node.log.base :])
        if mine != bytes(truth.data[begin - truth.base :]):
            found.append(f"{name} differs from {leader}")
        if node.log.base > max(truth.base, node.log.retained):
            found.append(f"{name} lacks the beginning")
    primary = world.nodes[leader].primary
    assert primary is not None
    copies = len(world.nodes)
    if primary.acked(copies) != truth.written_end:
        found.append(f"{primary.acked(copies)} of {truth.written_end} acknowledged by {copies}")
    return found


def random_life(seed: int, flaws: frozenset[Flaw] = frozenset()) -> list[str]:
    """One long life drawn from a seed; returns what is wrong at its end."""
    rng = Random(seed)
    names = rng.choice(["AB", "ABC"])
    world = World(names, seed=seed, window_max=rng.choice([40, 1 << 20]), flaws=flaws)
    for number, name in enumerate(names):
        world.nodes[name].lead() if number == 0 else world.nodes[name].serve()
    live(world, [(rng.choice(ACTS), rng.randrange(12), rng.randrange(12)) for _ in range(rng.randrange(5, 200))])
    leader = rng.choice(names)
    try:
        bring_together(world, leader)
    except ValueError as problem:  # a spliced log can make the store refuse what comes next
        return [*world.untrue, str(problem)]
    return differences(world, leader)


@pytest.mark.random
def test_a_thousand_long_lives_end_well() -> None:
    assert {seed: wrong for seed in range(1000) if (wrong := random_life(seed))} == {}


@pytest.mark.random
@pytest.mark.flaws
@pytest.mark.parametrize(
    "flaw", [Flaw.SPLICE_DIVERGED, Flaw.STALE_ACK_OFFSET, Flaw.FORGET_EPOCH, Flaw.DOUBLE_COUNT_REPLICA]
)
def test_random_lives_find_each_planted_flaw(flaw: Flaw) -> None:
    assert any(random_life(seed, frozenset({flaw})) for seed in range(200))


lives = st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 11), st.integers(0, 11)), min_size=5, max_size=90)


@pytest.mark.random
@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(lives, st.sampled_from(["AB", "ABC"]), st.integers(0, 1000), st.sampled_from([40, 1 << 20]))
def test_every_life_ends_with_equal_logs_and_true_acknowledgements(
    acts: list[tuple[str, int, int]], names: str, seed: int, window: int
) -> None:
    world = World(names, seed=seed, window_max=window)
    for number, name in enumerate(names):
        world.nodes[name].lead() if number == 0 else world.nodes[name].serve()
    live(world, acts)
    leader = names[seed % len(names)]
    bring_together(world, leader)
    assert differences(world, leader) == []


def story(world: World) -> list[str]:
    """A slave is ahead after its master's power loss; the master grows past it. Every flaw has its chance here."""
    world.nodes["A"].lead()
    world.nodes["B"].serve()
    world.follow("B", "A")
    for _ in range(3):
        world.append("A", b"same")
    world.settle()
    world.nodes["A"].log.sync()
    for _ in range(3):
        world.append("A", b"old!")
    world.settle()
    world.crash("A", power=False)
    del world.nodes["A"].log.data[world.nodes["A"].log.synced :]
    world.nodes["A"].lead()
    world.append("A", b"new1")
    link = world.follow("B", "A")
    assert link is not None
    world.deliver_up(link)  # HELLO
    world.check(world.nodes["A"])
    world.follow("B", "A")  # the replica comes again while the primary still holds the old connection
    world.settle()
    for _ in range(4):
        world.append("A", b"new2")
    world.settle()
    return differences(world, "A")


def test_the_story_without_a_flaw_ends_well() -> None:
    assert story(World("AB")) == []


@pytest.mark.flaws
@pytest.mark.parametrize(
    ("flaw", "symptom"),
    [
        (Flaw.SPLICE_DIVERGED, "B differs from A"),
        (Flaw.STALE_ACK_OFFSET, "A counts 2 copies up to 48, 1 are true"),
        (Flaw.FORGET_EPOCH, "B differs from A"),
    ],
)
def test_a_planted_flaw_shows(flaw: Flaw, symptom: str) -> None:
    assert symptom in story(World("AB", flaws=frozenset({flaw})))


def test_two_connections_counted_twice_show() -> None:
    def twice(world: World) -> tuple[int, list[str]]:
        world.nodes["A"].lead()
        world.nodes["B"].serve()
        world.append("A", b"one")
        for _ in range(2):
            world.follow("B", "A")
            world.settle()
        primary = world.nodes["A"].primary
        assert primary is not None
        return primary.acked(3), world.untrue

    assert twice(World("AB")) == (0, [])
    counted, untrue = twice(World("AB", flaws=frozenset({Flaw.DOUBLE_COUNT_REPLICA})))
    assert counted > 0
    assert untrue == ["A counts 3 copies up to 7, 2 are true"]
