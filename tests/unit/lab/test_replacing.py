"""Destroyed nodes get an empty one in their place: once, whatever happens at the same time."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from lab.record import LabRecord
from lab.schedule import Schedule
from lab.stage import Stage
from lab.survivors import Survivors
from lab.topology import Group
from nemesis.world import LeverError, NodeState, Patience, PortState

GROUP = Group("broker-a", ("broker-a-0", "broker-a-1", "broker-a-2"), ("broker-a-3", "broker-a-4"))


class Processes:
    """Nodes of which some are destroyed; starting takes a moment."""

    def __init__(self, **destroyed: str) -> None:
        self.destroyed = {node.replace("_", "-"): fault for node, fault in destroyed.items()}
        self.states = dict.fromkeys(GROUP.nodes, NodeState.RUNNING) | dict.fromkeys(GROUP.spares, NodeState.ABSENT)
        self.states |= dict.fromkeys(self.destroyed, NodeState.DESTROYED)
        self.started: list[str] = []

    def nodes(self) -> Sequence[str]:
        return list(self.states)

    def state(self, node: str) -> NodeState:
        return self.states[node]

    def destroyed_by(self, node: str) -> str | None:
        return self.destroyed.get(node)

    def declare(self, spec: object) -> None:
        """Nothing is kept of it."""

    async def start(self, node: str) -> str:
        self.started.append(node)
        await asyncio.sleep(0)
        self.states[node] = NodeState.RUNNING
        return f"started {node}"

    def running_pids(self) -> dict[str, int]:
        return {node: 1 for node, state in self.states.items() if state is NodeState.RUNNING}

    async def port(self, node: str, timeout_s: float) -> PortState:
        return PortState.ANSWERS


class Elected:
    """A group that elects, and has no leader yet at the first call."""

    def __init__(self, refusals: int) -> None:
        self.left: list[str] = []
        self.refusals = refusals
        self.calls: list[tuple[str, str]] = []

    async def replace(self, lost: str, spare: str) -> Sequence[str]:
        self.calls.append((lost, spare))
        if len(self.calls) <= self.refusals:
            raise LeverError("broker-a has no leader")
        return [f"{spare} for {lost}"]


def stage_of(processes: Processes, elected: Elected | None = None) -> Stage:
    stage: Any = Stage.__new__(Stage)
    stage.replaced, stage.unreplaced, stage._replacing = {}, {}, asyncio.Lock()
    stage.topology = SimpleNamespace(
        brokers=GROUP.nodes, spares=GROUP.spares, groups=(GROUP,), group_of=lambda node: GROUP
    )
    stage._supervisor, stage.elected = processes, elected
    stage.system = SimpleNamespace(
        prepare=lambda node: node,
        assigned=lambda node: SimpleNamespace(master=node == "broker-a-0"),
        patience=Patience(start_s=0.05),
    )
    return cast(Stage, stage)


def test_a_replacement_that_failed_is_tried_again_and_the_drain_says_if_it_never_came() -> None:
    """A group without a leader for ten seconds was given up, its drain said that all runs, and C15 blamed the group."""
    elected = Elected(refusals=1)
    stage = stage_of(Processes(broker_a_0="f1"), elected)
    assert asyncio.run(stage.replace_destroyed()) == ["broker-a-0 was not replaced: broker-a has no leader"]
    survivors = Survivors(stage, cast(Schedule, None), cast(LabRecord, None))
    assert asyncio.run(survivors.revive())[0]
    assert elected.calls == [("broker-a-0", "broker-a-3")] * 2, "the spare that was meant for it at first"
    assert asyncio.run(stage.replace_destroyed()) == [], "and not again"
    never = stage_of(Processes(broker_a_0="f1"), Elected(refusals=9))
    kept, words = asyncio.run(Survivors(never, cast(Schedule, None), cast(LabRecord, None)).revive())
    assert not kept
    assert "broker-a-0 was not replaced" in words


def test_two_destructions_at_once_take_two_spares() -> None:
    """One spare was started twice, and ended by the end of its double."""
    processes = Processes(broker_a_1="f1", broker_a_2="f2")
    stage = stage_of(processes)

    async def story() -> None:
        await asyncio.gather(stage.replace_destroyed(), stage.replace_destroyed())

    asyncio.run(story())
    assert sorted(processes.started) == ["broker-a-3", "broker-a-4"]
    assert stage.free_spare(GROUP) is None


def test_a_spare_that_is_meant_for_another_is_not_free() -> None:
    """`add` would take it while a destroyed node is being removed."""
    stage = stage_of(Processes(broker_a_0="f1"), Elected(refusals=9))
    asyncio.run(stage.replace_destroyed())
    assert stage.free_spare(GROUP) == "broker-a-4"


def test_a_node_that_shall_rejoin_is_not_replaced() -> None:
    """Another fault that lasts made the lab throw it out, and its rejoining was never tested."""
    processes = Processes(broker_a_1="f1", broker_a_2="f2")
    stage = stage_of(processes)
    asyncio.run(stage.replace_destroyed(returning=("f1",)))
    assert stage.replaced == {"broker-a-2": "broker-a-3"}
