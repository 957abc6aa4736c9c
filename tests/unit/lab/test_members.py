"""The levers of groups that elect: whom they ask, when they ask again, and what they take for done."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest

from lab import members
from lab.members import Members
from lab.stage import Stage
from lab.systems.system import NodeStatus, RaftView
from lab.topology import Group
from nemesis.world import LeverError, NodeState

GROUP = Group("broker-a", ("broker-a-0", "broker-a-1", "broker-a-2"), ("broker-a-3",))


def member(node: str, *, leads: bool, term: int = 3, voters: tuple[str, ...] = GROUP.nodes) -> NodeStatus:
    view = RaftView("leader" if leads else "follower", term, None, None, leads, 0, 0, 0, (), voters)
    return NodeStatus(node, leads, 0, (term, ""), (), 0, 0, None, (), leads, raft=view)


class FakeStage:
    """A group whose members say what they are told to, and a supervisor that starts and stops at once."""

    def __init__(self) -> None:
        self.statuses = {node: member(node, leads=node == "broker-a-0") for node in GROUP.nodes}
        self.states = dict.fromkeys(GROUP.nodes, NodeState.RUNNING) | {"broker-a-3": NodeState.ABSENT}
        self.done: list[str] = []
        self.topology = self.supervisor = self.system = self

    def group(self, name: str) -> Group:
        assert name == GROUP.name
        return GROUP

    def group_of(self, node: str) -> Group | None:
        return GROUP if node in (*GROUP.nodes, *GROUP.spares) else None

    def members(self, group: Group) -> tuple[str, ...]:
        return tuple(node for node in group.nodes if self.states[node] is not NodeState.DESTROYED)

    def running_pids(self) -> dict[str, int]:
        return {node: 1 for node, state in self.states.items() if state is NodeState.RUNNING}

    def state(self, node: str) -> NodeState:
        return self.states[node]

    def declare(self, spec: object) -> None:
        self.done.append(f"declare {spec}")

    def free_spare(self, group: Group) -> str | None:
        return next((node for node in group.spares if self.states[node] is NodeState.ABSENT), None)

    def prepare(self, node: str) -> str:
        return node

    async def start(self, node: str) -> str:
        self.states[node] = NodeState.RUNNING
        self.statuses[node] = member(node, leads=False)
        return f"started {node}"

    async def terminate(self, node: str, grace_s: float) -> str:
        del grace_s
        self.states[node] = NodeState.DEAD
        return f"stopped {node}"

    async def ask(self, node: str) -> NodeStatus | None:
        return self.statuses.get(node)

    def weaken(self, group: Group, copies: int) -> None:
        self.done.append(f"weaken {group.name} to {copies}")


class FakeCalls:
    """Takes calls, or refuses the first ones."""

    def __init__(self, stage: FakeStage, refusals: int = 0) -> None:
        self.stage = stage
        self.refusals = refusals
        self.meanwhile: Callable[[], None] = lambda: None

    async def add_member(self, leader: str, node: str) -> str:
        return self._take(f"{leader} adds {node}")

    async def remove_member(self, leader: str, node: str) -> str:
        return self._take(f"{leader} removes {node}")

    async def hand_over(self, leader: str, node: str) -> str:
        return self._take(f"{leader} hands over to {node}")

    def _take(self, words: str) -> str:
        if self.refusals:
            self.refusals -= 1
            self.meanwhile()
            raise LeverError(f"refused: {words}")
        self.stage.done.append(words)
        return words


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PAUSE_S", 0.001), ("LINGER_S", 0.0), ("LED_S", 0.05), ("START_S", 0.05)):
        monkeypatch.setattr(members, name, value)


def levers(stage: FakeStage, calls: FakeCalls) -> Members:
    return Members(cast(Stage, stage), calls)


def test_a_spare_is_started_and_added_by_the_leader() -> None:
    """With the configuration that it gets now; and it is no spare any more."""
    stage = FakeStage()
    group = levers(stage, FakeCalls(stage))

    async def story() -> None:
        assert await group.spare("broker-a") == "broker-a-3"
        assert await group.join("broker-a-3") == "started broker-a-3; broker-a-0 adds broker-a-3"
        assert await group.spare("broker-a") is None

    asyncio.run(story())
    assert stage.done == ["declare broker-a-3", "broker-a-0 adds broker-a-3"]


def test_a_removed_node_is_stopped_and_promises_shrink_before_it_leaves() -> None:
    """No answer may be taken for stronger than the smaller group makes it."""
    stage = FakeStage()
    group = levers(stage, FakeCalls(stage))
    assert asyncio.run(group.leave("broker-a-2")) == "broker-a-0 removes broker-a-2; stopped broker-a-2"
    assert stage.done == ["weaken broker-a to 2", "broker-a-0 removes broker-a-2"]
    assert group.left == ["broker-a-2"]


def test_replacing_a_node_whose_disk_is_lost_weakens_no_promise_of_a_group_of_three() -> None:
    """It votes until it is removed: of three voters two are left, and both hold what is acknowledged from then on."""
    stage = FakeStage()
    stage.states["broker-a-2"] = NodeState.DESTROYED
    group = levers(stage, FakeCalls(stage))

    async def story() -> None:
        await group.replace("broker-a-2", "broker-a-3")
        stage.states["broker-a-0"] = NodeState.DESTROYED
        stage.statuses["broker-a-1"] = member("broker-a-1", leads=True, term=4)
        await group.leave("broker-a-0")
        await group.leave("broker-a-1")

    asyncio.run(story())
    assert [words for words in stage.done if "weaken" in words] == [
        "weaken broker-a to 2",
        "weaken broker-a to 2",
        "weaken broker-a to 1",
    ]


def test_a_removal_that_failed_may_have_been_done() -> None:
    """The next one is weakened as if it had been."""
    stage = FakeStage()
    stage.statuses = {node: replace(status, master=False) for node, status in stage.statuses.items()}
    group = levers(stage, FakeCalls(stage))

    async def story() -> None:
        for node in ("broker-a-2", "broker-a-1"):
            with pytest.raises(LeverError):
                await group.leave(node)

    asyncio.run(story())
    assert stage.done == ["weaken broker-a to 2", "weaken broker-a to 1"]


def test_of_two_that_call_themselves_leader_the_newer_term_is_asked() -> None:
    """A deposed leader could only refuse."""
    stage = FakeStage()
    stage.statuses["broker-a-1"] = member("broker-a-1", leads=True, term=4)
    assert asyncio.run(levers(stage, FakeCalls(stage)).transfer("broker-a-2")) == "broker-a-1 hands over to broker-a-2"


def test_a_refused_call_is_repeated_at_the_next_leader() -> None:
    """A leader may be deposed while it works."""
    stage = FakeStage()
    calls = FakeCalls(stage, refusals=1)

    def deposed() -> None:
        stage.statuses["broker-a-0"] = member("broker-a-0", leads=False, term=4)
        stage.statuses["broker-a-1"] = member("broker-a-1", leads=True, term=4)

    calls.meanwhile = deposed
    assert asyncio.run(levers(stage, calls).transfer("broker-a-2")) == "broker-a-1 hands over to broker-a-2"


def test_what_was_done_before_the_refusal_is_not_asked_for_again() -> None:
    """The leader answered too late, and the next one says that the node has left."""
    stage = FakeStage()
    calls = FakeCalls(stage, refusals=1)

    def left() -> None:
        rest = ("broker-a-0", "broker-a-1")
        stage.statuses["broker-a-0"] = member("broker-a-0", leads=True, voters=rest)

    calls.meanwhile = left
    assert "says that it is so" in asyncio.run(levers(stage, calls).leave("broker-a-2"))


def test_without_a_leader_patience_ends() -> None:
    """With words that say what is missing."""
    stage = FakeStage()
    stage.statuses = {node: replace(status, master=False) for node, status in stage.statuses.items()}
    with pytest.raises(LeverError, match="broker-a has no leader"):
        asyncio.run(levers(stage, FakeCalls(stage)).transfer("broker-a-1"))


def test_configurations_are_the_words_of_those_that_run() -> None:
    """Dead nodes say nothing."""
    stage = FakeStage()
    stage.states["broker-a-1"] = NodeState.DEAD
    known = asyncio.run(levers(stage, FakeCalls(stage)).configurations("broker-a"))
    assert set(known) == {"broker-a-0", "broker-a-2"}
    assert known["broker-a-0"].voters == frozenset(GROUP.nodes)


def test_a_node_that_was_taken_out_and_goes_on_has_no_say() -> None:
    """It may never have heard of it; what the others report decides whether a later change is so."""
    stage = FakeStage()
    group = levers(stage, FakeCalls(stage))
    asyncio.run(group.leave("broker-a-2", stop=False))
    assert stage.states["broker-a-2"] is NodeState.RUNNING
    assert list(asyncio.run(group.configurations("broker-a"))) == ["broker-a-0", "broker-a-1"]
    asyncio.run(group.join("broker-a-2"))
    assert len(asyncio.run(group.configurations("broker-a"))) == 3


def test_a_new_leader_is_asked_first_and_then_whoever_leads() -> None:
    """It need not serve yet; if it refuses, the change is still wanted."""
    stage = FakeStage()
    asyncio.run(levers(stage, FakeCalls(stage)).leave("broker-a-2", by="broker-a-1"))
    assert "broker-a-1 removes broker-a-2" in stage.done
    stage = FakeStage()
    asyncio.run(levers(stage, FakeCalls(stage, refusals=1)).leave("broker-a-2", by="broker-a-1"))
    assert "broker-a-0 removes broker-a-2" in stage.done
