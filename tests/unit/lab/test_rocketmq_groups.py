"""A member of a release's DLedger group, by what its Raft port, its broker and its files say."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from lab.cluster.hosts import Hosts
from lab.errors import PlanError
from lab.meta import group_value, meta_value, progress, promise
from lab.plan import Plan
from lab.planfile import build_plan
from lab.record import raft_status
from lab.rundir import RunDir
from lab.systems.rocketmq import groups, system
from lab.systems.rocketmq.election_log import elections_in
from lab.systems.rocketmq.ledger_files import LedgerFiles
from lab.systems.rocketmq.release import Release
from lab.systems.system import NodeStatus
from lab.topology import flush_of, settings_of, topology_of
from lab.validate import validate
from nodes.remoting.command import Command, request
from tests.unit.lab.slow_reading import WAIT_S, SlowReading
from tests.unit.lab.test_rocketmq_ledger_files import Ledger

NODE = "broker-a-1"


def plan_of(**more: Any) -> Plan:
    cluster = {"system": "rocketmq", "version": "5.3.3", "mode": "dledger", "replicas": 3}
    return build_plan({"cluster": cluster, **more}, "plan")


class FakeHosts:
    """Every node has an address."""

    def address(self, node: str) -> str:
        return f"10.0.0.{node[-1]}"


class Member(groups.RocketMQGroups):
    """Answers come from a table instead of a network; terms one after the other."""

    def __init__(self, plan: Plan, folder: Path, terms: list[int], leader: str | None, role: str) -> None:
        super().__init__(plan, topology_of(plan), RunDir(folder), cast(Hosts, FakeHosts()))
        self.terms, self.leader, self.role = terms, leader, role
        self.commit = 0
        self.peers = {f"n{number}": f"10.0.0.{number}:40911" for number in range(3)}

    async def _call(self, node: str, command: Command, timeout_s: float | None = None, **more: Any) -> Command | None:
        match command.code:
            case 51002:
                return answer(code=403, term=self.terms.pop(0))
            case 50000:
                return answer(code=200, peers=self.peers, leaderId=self.leader)
            case 26:
                return request(0, None, f"brokerRole={self.role}\nbrokerId=0\n".encode())
            case 28:
                return answer(table={"commitLogMinOffset": "0", "commitLogMaxOffset": str(self.commit)})
            case other:
                raise AssertionError(other)


def answer(**body: Any) -> Command:
    return request(0, None, msgspec.json.encode(body))


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A maker of members, without a release on this machine."""
    monkeypatch.setattr(system, "release_of", lambda plan: Release(plan.cluster.version, tmp_path))

    def make(terms: list[int], leader: str | None = "n1", role: str = "SYNC_MASTER") -> tuple[Member, Ledger]:
        member = Member(plan_of(), tmp_path, terms, leader, role)
        ledger = Ledger(tmp_path / "nodes" / NODE / "store").put(1, 1, 2)
        (ledger.root / "currterm").write_text("voteLeader=n1\ncurrTerm=2\n", encoding="utf-8")
        member.commit = ledger.places[2]
        return member, ledger

    return make


def status(member: Member) -> NodeStatus | None:
    return asyncio.run(member.status(NODE))


def test_a_leader_serves_once_its_broker_has_taken_up_the_role(made: Any) -> None:
    """Role and term by the Raft port, commit by the broker, end, queues and vote by the files."""
    member, ledger = made([2, 2])
    found = status(member)
    assert found is not None
    assert found.raft is not None
    assert (found.master, found.serving, found.epoch) == (True, True, (2, NODE))
    assert (found.raft.commit, found.end) == (ledger.places[2], ledger.end)
    assert found.queues == {"lab@0": {"min": 0, "max": 2}}
    assert (found.raft.vote, found.raft.voters) == (NODE, ("broker-a-0", "broker-a-1", "broker-a-2"))


@pytest.mark.parametrize(
    ("leader", "role", "expected"),
    [("n1", "SLAVE", ("leader", False)), ("n0", "SLAVE", ("follower", False)), (None, "SLAVE", ("candidate", False))],
)
def test_roles(made: Any, leader: str | None, role: str, expected: tuple[str, bool]) -> None:
    """Elected and not yet master, following, and asking for votes."""
    found = status(made([2, 2], leader, role)[0])
    assert found is not None
    assert found.raft is not None
    assert (found.raft.role, found.serving) == expected


@pytest.mark.parametrize("question", ["status", "read_log"])
def test_the_lab_goes_on_while_files_are_read(made: Any, monkeypatch: pytest.MonkeyPatch, question: str) -> None:
    """A member that has caught up has thousands of entries to count: all others are asked meanwhile, faults go on."""
    member, ledger = made([2, 2])
    slow, real = SlowReading(), LedgerFiles.end

    def end(files: LedgerFiles, committed: int) -> int:
        slow.last()
        return real(files, committed)

    monkeypatch.setattr(LedgerFiles, "end", end)
    monkeypatch.setattr(system, "STATUS_S", WAIT_S)
    found = slow.beside(member.status(NODE) if question == "status" else member.read_log(NODE, 0))
    assert found is not None
    assert (found.end if question == "status" else found.max_offset) == ledger.end


def test_files_are_read_within_the_term(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: an election while they are read. What they tell then is not put beside the term of before."""
    member, ledger = made([2, 3, 3, 3])
    told = iter([0, ledger.end])
    monkeypatch.setattr(LedgerFiles, "end", lambda files, committed: next(told))
    found = status(member)
    assert found is not None
    assert (found.epoch[0], found.end) == (3, ledger.end)


@pytest.mark.parametrize("when", range(8))
def test_a_leader_that_serves_is_never_told_with_what_it_had_committed_before(
    made: Any, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    """It takes up its role while it is asked, having committed all: C9 holds its queues against every promise."""
    member, ledger = made([2] * 8, role="SLAVE")
    asked = 0
    real = member._call

    async def call(node: str, command: Command, timeout_s: float | None = None, **more: Any) -> Command | None:
        nonlocal asked
        if asked == when:
            member.commit, member.role = ledger.end, "SYNC_MASTER"
        asked += 1
        return cast(Command | None, await real(node, command, timeout_s, **more))

    monkeypatch.setattr(member, "_call", call)
    found = status(member)
    assert found is not None
    assert found.raft is not None
    assert not found.serving or (found.raft.commit, found.queues["lab@0"]["max"]) == (ledger.end, 3)


def test_answers_of_two_terms_are_never_put_together(made: Any) -> None:
    """Planted: an election falls between the questions. Asked again; a member that never settles tells nothing."""
    found = status(made([2, 3, 3, 3])[0])
    assert found is not None
    assert found.epoch[0] == 3
    assert found.raft is not None
    assert found.raft.vote is None, "the file tells the vote of an older term"
    assert found.raft.tells_vote


@pytest.mark.parametrize("text", [None, "voteLeader=n1\ncurr", "voteLeader=n0\ncurrTerm=3\n"])
def test_a_vote_that_is_being_written_is_not_told(made: Any, text: str | None) -> None:
    """Planted: the file is away for a moment, half there, or of the next term already. That is no vote for nobody."""
    member, ledger = made([2, 2])
    path = ledger.root / "currterm"
    path.unlink()
    if text is not None:
        path.write_text(text, encoding="utf-8")
    found = status(member)
    assert found is not None
    assert found.raft is not None
    assert not found.raft.tells_vote
    assert "vote" not in raft_status(found, "lab", "broker-a")


def test_a_vote_for_nobody_is_told(made: Any) -> None:
    """Which C8 holds against what was told before."""
    member, ledger = made([2, 2])
    (ledger.root / "currterm").write_text("voteLeader=\ncurrTerm=2\n", encoding="utf-8")
    found = status(member)
    assert found is not None
    assert raft_status(found, "lab", "broker-a")["vote"] is None


def test_a_member_whose_term_does_not_hold_still_tells_nothing(made: Any) -> None:
    assert status(made([2, 3, 4, 5, 6, 7])[0]) is None


def test_a_broker_with_other_peers_is_unlike_its_plan(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mode that runs is read back, and a difference is told in words."""
    member, _ = made([])
    monkeypatch.setattr(member, "_settings", lambda node: {"brokerRole": "SYNC_MASTER"})
    assert asyncio.run(member.unlike(NODE)) == []
    del member.peers["n2"]
    words = asyncio.run(member.unlike(NODE))
    assert len(words) == 1
    assert "knows the peers" in words[0]


def test_what_a_release_promises_is_told(tmp_path: Path) -> None:
    """Whatever flushDiskType says: two copies, none synced; offsets are not in the log, and it takes its time."""
    plan = plan_of(broker={"flushDiskType": "SYNC_FLUSH"})
    settings = settings_of(plan, master=True)
    assert flush_of(settings, plan.cluster) == "ASYNC_FLUSH"
    assert group_value(plan, topology_of(plan).groups[0])["flush"] == "ASYNC_FLUSH"
    assert "2 of 3 replicas, and synced by none" in promise(plan, settings)
    assert progress(plan, settings)["grace_s"] > 16
    assert progress(plan, settings)["because"]
    named = cast(Any, type("Named", (), {"name": "rocketmq 5.3.3", "not_applicable": {}}))
    assert meta_value(plan, topology_of(plan), named, "r", 1, 1, {})["offsets"] == {"durable": False}


@pytest.mark.parametrize("kind", ["add", "remove", "destroy"])
def test_members_are_those_of_the_configuration(kind: str) -> None:
    """DLedger has no way to change them; a destroyed one may come back empty."""
    target = "" if kind == "add" else "follower"
    fault = {"kind": kind, "target": target, "at": "5s"}
    plan = plan_of(fault=[fault])
    with pytest.raises(PlanError, match="keeps the members"):
        validate(plan, topology_of(plan))


@pytest.mark.parametrize("fault", ["kill:leader", "blackhole:leader", "pause:leader", "partition:isolate-leader"])
def test_faults_of_the_leader_are_possible(fault: str) -> None:
    kind, _, target = fault.partition(":")
    plan = plan_of(fault=[{"kind": kind, "target": target, "at": "5s", "for": "5s"}])
    validate(plan, topology_of(plan))


def test_elections_are_read_from_the_release_s_own_logs(tmp_path: Path) -> None:
    """Both lines' formats; lines of other members and of terms that never were are passed over."""
    (tmp_path / "broker-release.log").write_text(
        "2026-11-28 20:46:21.114 INFO io.openmessaging.storage.dledger.DLedgerLeaderElector - "
        "[n1] [ChangeRoleToCandidate] from term: 1 and currTerm: 0\n"
        "2026-11-28 20:46:21.457 INFO x - [n1][ChangeRoleToFollower] from term: 1 leaderId: n2 and currTerm: 1\n"
        "2026-11-28 20:46:22.000 INFO x - [n0] [ChangeRoleToLeader] from term: 9 and currTerm: 9\n"
        "2026-11-28 20:46:22.000 INFO x - [n1] [ChangeRoleToCandidate] from term: 0 and currTerm: -1\n"
        "garbage\n",
        encoding="utf-8",
    )
    logs = tmp_path / "home" / "logs" / "rocketmqlogs"
    logs.mkdir(parents=True)
    (logs / "broker_default.log").write_text(
        "2026-11-29 04:45:33 INFO StateMaintainer - [n1] [ChangeRoleToLeader] from term: 3 and currTerm: 3\n",
        encoding="utf-8",
    )
    group = topology_of(plan_of()).groups[0]
    assert list(elections_in(tmp_path, NODE, group)) == [
        {"node": NODE, "group": "broker-a", "event": "candidate", "term": 0},
        {"node": NODE, "group": "broker-a", "event": "follows", "term": 1, "leader": "broker-a-2"},
        {"node": NODE, "group": "broker-a", "event": "elected", "term": 3},
    ]
