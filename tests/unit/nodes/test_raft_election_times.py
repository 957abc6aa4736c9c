"""How long a group is without a leader, in virtual time with the default timers: part of what an operator waits for.

Measured from the fault to the moment at which the new leader has committed its marker (from then on it acknowledges).
The network takes 0.2 to 1 ms one way, a sync 0.5 to 3 ms, a hard state 0.5 to 3 ms.
"""

from __future__ import annotations

from functools import partial

import pytest

from tests.unit.nodes.raft_world import Node, Weather, World

NAMES = ("n0", "n1", "n2", "n3", "n4")


def serves(nodes: list[Node]) -> bool:
    """One of them leads and has committed its marker."""
    return any(node.up and node.raft.accepts and node.raft.committed == node.raft.end for node in nodes)


def times(fault: str, voters: int, seeds: int) -> list[float]:
    """Sorted seconds."""
    found = []
    for seed in range(seeds):
        world = World(NAMES[:voters], seed)
        world.weather = Weather(save=(0.0005, 0.003))
        old = world.elect()
        world.run(0.5 + world.rng.random())
        for i in range(3):
            old.append(f"{i}")
        began = world.now
        if fault == "kill":
            world.crash(old.name, power=False)
        else:
            world.cut_off(old.name)
        others = [node for node in world.nodes.values() if node is not old]
        assert world.run(20.0, partial(serves, others)), seed
        found.append(world.now - began)
    return sorted(found)


def at(share: float, values: list[float]) -> float:
    return values[min(len(values) - 1, int(share * len(values)))]


@pytest.mark.parametrize("voters", [3, 5])
@pytest.mark.parametrize(("fault", "median", "p95"), [("kill", 0.15, 0.4), ("blackhole", 1.0, 1.5)])
def test_a_new_leader_within(fault: str, voters: int, median: float, p95: float) -> None:
    """The client's own time to notice comes on top; docs/raft.md has the figures of more seeds."""
    found = times(fault, voters, 60)
    assert at(0.5, found) < median
    assert at(0.95, found) < p95
