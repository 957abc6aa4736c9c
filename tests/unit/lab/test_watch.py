"""What is recorded while a run goes on: answers with the instant of the question, silence, changed memberships."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from lab.journal import Journal
from lab.merge import read_journal
from lab.record import LabRecord
from lab.stage import Stage
from lab.systems.system import Listing, NodeStatus, RaftView
from lab.topology import Group
from lab.watch import Watch
from nemesis.world import NodeState

GROUP = Group("broker-a", ("broker-a-0", "broker-a-1", "broker-a-2"), ())


def member(node: str, *, commit: int = 90, voters: tuple[str, ...] = GROUP.nodes, settled: bool = True) -> NodeStatus:
    leads = node == "broker-a-0"
    view = RaftView(
        "leader" if leads else "follower", 3, "broker-a-0", "broker-a-0", leads, commit, 95, 90, (), voters, (), settled
    )
    queues = {"lab@1": {"min": 0, "max": 7}, "other@0": {"min": 0, "max": 1}}
    return NodeStatus(node, leads, 0, (3, "broker-a-0"), (), 0, 100, None, (), leads, queues, raft=view)


class FakeStage:
    """A cluster of which the watch asks one thing at a time."""

    def __init__(self) -> None:
        self.topology = self.supervisor = self.system = self.plan = self.load = self
        self.topic = "lab"
        self.answers: dict[str, NodeStatus | None] = {node: member(node) for node in GROUP.nodes}
        self.states = dict.fromkeys((*GROUP.nodes, "namesrv-1"), NodeState.RUNNING)
        self.incarnations = dict.fromkeys(self.states, 1)
        self.listing: Mapping[str, Listing] | None = {"broker-a": Listing({"0": "broker-a-0"}, None, 4)}
        self.restarted = ""
        self.starved: int | None = None

    def state(self, node: str) -> NodeState:
        return self.states[node]

    def incarnation(self, node: str) -> int:
        return self.incarnations[node]

    def starved_ns(self, node: str) -> int | None:
        return self.starved

    def running_pids(self) -> dict[str, int]:
        return {node: 1 for node, state in self.states.items() if state is NodeState.RUNNING}

    def group_of(self, node: str) -> Group:
        assert node in GROUP.nodes
        return GROUP

    async def ask(self, node: str) -> NodeStatus | None:
        if node == self.restarted:
            self.incarnations[node] += 1
        return self.answers[node]

    async def route(self, namesrv: str, topic: str, asker: str | None = None) -> Mapping[str, Listing] | None:
        assert (namesrv, topic, asker) == ("namesrv-1", "lab", "client-1")
        return self.listing


def events(tmp_path: Path, stage: FakeStage, *steps: str) -> list[dict[str, Any]]:
    """What the journal holds after these looks (nodes) and questions (name servers)."""
    journal = Journal(tmp_path / "lab.jsonl", 0)
    clock = iter(range(100, 1000))
    watch = Watch(cast(Stage, stage), LabRecord(journal), lambda: next(clock))

    async def story() -> None:
        for step in steps:
            if step in GROUP.nodes:
                await watch._look(step)
            else:
                await watch._route(step, "client-1")

    asyncio.run(story())
    journal.close()
    return [{"f": one["f"], **one["value"]} for one in read_journal(tmp_path / "lab.jsonl")]


def test_an_answer_is_recorded_with_its_question(tmp_path: Path) -> None:
    """In the words of the history; queues of the load only; the first committed membership beside it."""
    status, membership = events(tmp_path, FakeStage(), "broker-a-0")
    assert (status["t_asked"], status["answered"], status["incarnation"]) == (100, True, 1)
    assert (status["role"], status["serving"], status["term"], status["commit"]) == ("leader", True, 3, 90)
    assert (status["begin"], status["end"], status["durable"]) == (0, 100, 95)
    assert status["queues"] == {"lab/broker-a/1": [0, 7]}
    assert (membership["f"], membership["voters"], membership["quorum"]) == ("membership", sorted(GROUP.nodes), 2)


def test_how_long_a_node_had_no_cpu_is_recorded_with_every_answer(tmp_path: Path) -> None:
    """Above all with those that did not come; where it is not known nothing is said."""
    stage = FakeStage()
    assert "starved_ns" not in events(tmp_path, stage, "broker-a-1")[0]
    stage.starved = 7
    stage.answers["broker-a-2"] = None
    found = [one for one in events(tmp_path, stage, "broker-a-1", "broker-a-2") if one["f"] == "status"]
    assert [(one["answered"], one.get("starved_ns")) for one in found[-2:]] == [(True, 7), (False, 7)]


def test_silence_is_recorded_too(tmp_path: Path) -> None:
    """A dead node is not asked, a silent one does not answer; one that was never started is no node yet."""
    stage = FakeStage()
    stage.states |= {"broker-a-1": NodeState.DEAD, "broker-a-2": NodeState.ABSENT}
    stage.answers["broker-a-0"] = None
    found = events(tmp_path, stage, *GROUP.nodes)
    assert [(one["node"], one["answered"]) for one in found] == [("broker-a-0", False), ("broker-a-1", False)]


def test_an_answer_across_a_restart_is_nobodys(tmp_path: Path) -> None:
    """It may be the old incarnation's or the new one's."""
    stage = FakeStage()
    stage.restarted = "broker-a-0"
    assert events(tmp_path, stage, "broker-a-0") == []


def test_only_news_of_the_membership_is_recorded(tmp_path: Path) -> None:
    """Not what is not committed, nor what a member that lags behind still believes."""
    stage = FakeStage()
    stage.answers["broker-a-1"] = member("broker-a-1", commit=95, voters=GROUP.nodes[:2], settled=False)
    stage.answers["broker-a-2"] = member("broker-a-2", commit=80, voters=GROUP.nodes[:2])
    found = events(tmp_path, stage, "broker-a-0", "broker-a-1", "broker-a-2", "broker-a-0")
    assert [one["voters"] for one in found if one["f"] == "membership"] == [sorted(GROUP.nodes)]


def test_routes_as_a_client_sees_them(tmp_path: Path) -> None:
    """Known, unknown to the name server, and not answered are three different things."""
    stage = FakeStage()
    (known,) = events(tmp_path, stage, "namesrv-1")
    assert (known["from"], known["groups"]["broker-a"]["brokers"]) == ("client-1", {"0": "broker-a-0"})
    stage.listing = {}
    assert events(tmp_path, stage, "namesrv-1")[-1]["groups"] == {}
    stage.listing = None
    last = events(tmp_path, stage, "namesrv-1")[-1]
    assert (last["answered"], "groups" in last) == (False, False)
