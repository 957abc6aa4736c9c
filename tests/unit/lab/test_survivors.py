"""The surviving cluster, as the drain restarts it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

from lab.record import LabRecord
from lab.schedule import Schedule
from lab.stage import Stage
from lab.survivors import Survivors
from nemesis.world import LeverError, NodeState, Patience, PortState


class Processes:
    """Three nodes, of which one dies before it can be killed, and one does not start again."""

    def __init__(self) -> None:
        self.states = dict.fromkeys(("one", "two", "three"), NodeState.RUNNING)

    def running_pids(self) -> dict[str, int]:
        return {node: 1 for node, state in self.states.items() if state is NodeState.RUNNING}

    def state(self, node: str) -> NodeState:
        return self.states[node]

    async def kill(self, node: str, fault_id: str) -> str:
        assert fault_id == "D8"
        self.states[node] = NodeState.DEAD
        if node == "two":
            raise LeverError("two is not running")
        return f"SIGKILL {node}"

    async def start(self, node: str) -> str:
        if node == "three":
            raise LeverError("three cannot be started")
        self.states[node] = NodeState.RUNNING
        return f"started {node}"

    async def port(self, node: str, timeout_s: float) -> PortState:
        return PortState.ANSWERS


def test_a_node_that_cannot_be_restarted_is_told_and_the_drain_goes_on() -> None:
    """D8 is not kept then; the others are started all the same."""
    processes = Processes()
    stage = SimpleNamespace(supervisor=processes, system=SimpleNamespace(patience=Patience(start_s=0.05)))
    survivors = Survivors(cast(Stage, stage), cast(Schedule, None), cast(LabRecord, None))
    kept, words = asyncio.run(survivors.restart_all())
    assert not kept
    assert "two is not running" in words
    assert "three cannot be started" in words
    assert processes.running_pids() == {"one": 1}
