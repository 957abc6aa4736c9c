"""A release in controller mode: what its brokers and controllers tell, what it promises, and what is refused."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import pytest

from lab.cluster.hosts import Hosts
from lab.errors import PlanError
from lab.insync import in_sync_promise
from lab.meta import group_value, promise, weakened
from lab.options import RunOptions, default_tables, overlay
from lab.plan import Plan
from lab.planfile import build_plan
from lab.rundir import RunDir
from lab.systems.rocketmq import controlled, keys, system
from lab.systems.rocketmq.controller_port import newest, read_epochs, read_in_sync, read_quorum
from lab.systems.rocketmq.release import Release
from lab.systems.rocketmq.store_files import StoreFiles
from lab.systems.rocketmq.switch_log import switches_in
from lab.systems.system import NodeStatus
from lab.topology import settings_of, topology_of
from lab.validate import validate
from nemesis.world import LeverError
from nodes.remoting.command import Command, request

NODES = ("broker-a-0", "broker-a-1", "broker-a-2")
IDS = {NODES[0]: 3, NODES[1]: 2, NODES[2]: 1}
ADDRESSES = {node: f"10.0.0.{number}:10911" for number, node in enumerate(NODES)}


def plan_of(**more: Any) -> Plan:
    cluster = {"system": "rocketmq", "version": "5.3.3", "mode": "controller", **more.pop("cluster", {})}
    return build_plan({"cluster": cluster, **more}, "plan")


class FakeHosts:
    """Every node has an address."""

    def address(self, node: str) -> str:
        return ("10.0.1." if node.startswith("namesrv") else "10.0.0.") + node[-1]


class Replica(controlled.ControlledRocketMQ):
    """Answers come from tables instead of a network. ``told`` are a broker's answers, one after the other."""

    def __init__(self, folder: Path, plan: Plan | None = None) -> None:
        plan = plan_of() if plan is None else plan
        super().__init__(plan, topology_of(plan), RunDir(folder), cast(Hosts, FakeHosts()))
        self.told: dict[str, list[dict[str, Any]]] = {}
        self.in_sync = set(NODES)
        self.leads = "namesrv-2"
        self.asked: list[str] = []
        self.peers = "n0:10.0.1.1:9878;n1:10.0.1.2:9878;n2:10.0.1.3:9878;"
        self.unclean = "false"
        self.dead_ids: list[tuple[str, int]] = []  # that the set still names, of nodes whose disk was lost
        self.wishes: list[dict[str, str]] = []
        self.appoints = request(0)

    async def _call(self, node: str, command: Command, timeout_s: float | None = None, **more: Any) -> Command | None:
        match command.code:
            case 1007:
                answers = self.told.get(node, [])
                return answer(**(answers.pop(0) if len(answers) > 1 else answers[0])) if answers else None
            case 1006:
                self.asked.append(node)
                if node != self.leads:
                    return request(2007)
                known = [*((one, IDS[one]) for one in sorted(self.in_sync)), *self.dead_ids]
                members = [{"brokerAddress": ADDRESSES[one], "brokerId": number} for one, number in known]
                info = {"masterAddress": ADDRESSES[NODES[0]], "masterEpoch": 3, "syncStateSetEpoch": 9}
                info |= {"inSyncReplicas": members, "notInSyncReplicas": []}
                return answer(replicasInfoTable={"broker-a": info})
            case 1002:
                self.wishes.append({"asked": node, **command.ext})
                return self.appoints
            case 1005:
                return request(0, {"peers": self.peers, "controllerLeaderId": "n1"})
            case 1010:
                config = self._settings(node) | {"enableElectUncleanMaster": self.unclean}
                return request(0, None, "".join(f"{key}={value}\n" for key, value in config.items()).encode())
            case other:
                raise AssertionError(other)

    def _linked(self, master: str) -> set[str]:
        return {"10.0.0.1", "10.0.0.2"}


def answer(**body: Any) -> Command:
    return request(0, None, json.dumps(body).encode())


def epochs(*rows: tuple[int, int], end: int = 900, broker_id: int = 0) -> dict[str, Any]:
    return {
        "brokerId": broker_id,
        "maxOffset": end,
        "epochList": [{"epoch": epoch, "startOffset": start, "endOffset": 2**63 - 1} for epoch, start in rows],
    }


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Replica:
    """Without a release on this machine; the classes of one know every key."""

    class Everything(frozenset[str]):
        def __contains__(self, key: object) -> bool:
            return True

    monkeypatch.setattr(system, "release_of", lambda plan: Release(plan.cluster.version, tmp_path))
    monkeypatch.setattr(keys, "keys_of", lambda release, kind: Everything())
    return Replica(tmp_path)


def status(replica: Replica, node: str = NODES[0]) -> NodeStatus | None:
    return asyncio.run(replica.status(node))


def test_a_master_tells_its_epoch_and_who_is_in_sync_with_it(made: Replica) -> None:
    """Confirmed is what all slaves in sync have; the leader of the controllers is asked first the next time."""
    made.told = {NODES[0]: [epochs((1, 0), (3, 500))], NODES[1]: [epochs((1, 0), end=800, broker_id=2)]}
    made.told[NODES[2]] = [epochs((1, 0), end=700, broker_id=1)]
    found = status(made)
    assert found is not None
    assert (found.master, found.serving, found.epoch, found.end) == (True, True, (3, ""), 900)
    assert found.epochs == ((1, "", 0), (3, "", 500))
    assert (found.raw["confirm"], found.raw["role"], found.slave_ack) == (700, "SYNC_MASTER", 800)
    assert sorted(made.asked) == ["namesrv-1", "namesrv-2", "namesrv-3"]
    made.asked.clear()
    made.in_sync = {NODES[0], NODES[1]}
    found = status(made)
    assert made.asked == ["namesrv-2"]
    assert found is not None
    assert [slave["connected"] for slave in found.slaves] == [True, False]
    assert found.raw["confirm"] == 800, "who is out of sync confirms nothing"


def test_a_node_that_came_back_empty_is_in_sync_by_its_new_id_only(made: Replica) -> None:
    """Planted: its old id is still in the set, with the same address. Nobody counts with another's acknowledgement."""
    made.told = {NODES[0]: [epochs((1, 0))], NODES[1]: [epochs((1, 0), end=0, broker_id=4)]}
    made.in_sync, made.dead_ids = {NODES[0]}, [(NODES[1], 2)]
    found = status(made)
    assert found is not None
    assert [slave["connected"] for slave in found.slaves] == [False]
    assert found.raw["confirm"] == 900
    made.dead_ids.append((NODES[1], 4))
    found = status(made)
    assert found is not None
    assert [slave["connected"] for slave in found.slaves] == [True]


def test_the_controller_that_leads_is_asked_to_appoint_a_slave_by_its_id(made: Replica) -> None:
    """As mqadmin electMaster asks it; a refusal and a silence are told in words."""
    made.told = {NODES[1]: [epochs((1, 0), broker_id=2)]}
    said = asyncio.run(made.hand_over(NODES[0], NODES[1]))
    wish = {"clusterName": "DefaultCluster", "brokerName": "broker-a", "brokerId": "2", "designateElect": "true"}
    assert made.wishes == [{"asked": "namesrv-2", **wish}]
    assert said == "the controller in namesrv-2 appointed broker-a-1, which is its id 2"
    made.appoints = request(2012)
    made.appoints.remark = "Failed to elect a new master"
    with pytest.raises(LeverError, match="does not appoint broker-a-1: Failed to elect a new master"):
        asyncio.run(made.hand_over(NODES[0], NODES[1]))
    made.told = {NODES[1]: [epochs((1, 0), broker_id=0)]}
    with pytest.raises(LeverError, match="broker-a-1 does not answer as a slave"):
        asyncio.run(made.hand_over(NODES[0], NODES[1]))
    assert len(made.wishes) == 2


def test_a_slave_has_indexed_all_when_its_queues_lead_to_the_end_of_its_log(
    made: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It calls itself not behind as soon as it has indexed what it knows to be confirmed: its last record was taken for
    one that its queue lacks."""
    made.told = {NODES[1]: [epochs((1, 0), end=900, broker_id=2)]}
    ends = [400, 400, 900]

    async def runtime(node: str) -> dict[str, str]:
        return {"dispatchBehindBytes": "0"}

    monkeypatch.setattr(made, "_runtime", runtime)
    monkeypatch.setattr(system, "DISPATCH_POLL_S", 0.0)
    monkeypatch.setattr(StoreFiles, "indexed_end", lambda self: ends.pop(0))
    slave = asyncio.run(made.status(NODES[1]))
    assert slave is not None
    assert asyncio.run(made.indexed(slave)) == []
    assert ends == []


def test_a_slave_and_one_that_no_controller_has_answered_yet(made: Replica) -> None:
    made.told = {NODES[1]: [epochs((1, 0), broker_id=2)], NODES[2]: [epochs(end=0, broker_id=-1)]}
    slave, fenced = status(made, NODES[1]), status(made, NODES[2])
    assert slave is not None
    assert fenced is not None
    assert (slave.master, slave.serving, slave.epoch[0], slave.raw["role"]) == (False, True, 1, "SLAVE")
    assert (fenced.master, fenced.serving, fenced.epoch[0]) == (False, False, 0)


def test_answers_of_two_epochs_are_never_put_together(made: Replica) -> None:
    """Planted: it is deposed between the questions. Without this it would be master of an epoch that another has."""
    old, new = epochs((1, 0)), epochs((1, 0), (2, 900), broker_id=2)
    made.told = {NODES[0]: [old, {**new, "brokerId": 0}, new]}
    found = status(made)
    assert found is not None
    assert (found.master, found.epoch[0]) == (False, 2)
    made.told = {NODES[0]: [epochs((number, 0)) for number in range(1, 9)]}
    assert status(made) is None, "a table that never holds still tells nothing"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"epochList": 1}', b'{"epochList": [], "maxOffset": 1}'])
def test_answers_that_are_none(body: bytes) -> None:
    """Of another release, cut off, or of another broker mode."""
    assert read_epochs(request(0, None, body)) is None
    assert read_in_sync(request(0, None, body), "broker-a") is None
    assert read_quorum(request(0, None, body)) is None
    assert read_epochs(None) is None
    assert newest([None, read_in_sync(None, "broker-a")]) is None


def test_a_deposed_controller_is_not_believed() -> None:
    """Of two that call themselves leader the one that knows the later master, or the later set, counts."""
    views = [
        read_in_sync(answer(replicasInfoTable={"a": {"masterEpoch": epoch, "syncStateSetEpoch": version}}), "a")
        for epoch, version in ((2, 9), (3, 1), (3, 4))
    ]
    found = newest(views)
    assert found is not None
    assert (found.epoch, found.version) == (3, 4)


def test_what_runs_is_read_back_from_brokers_and_controllers(made: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another quorum, or another rule for elections, is told in words and makes the verdict unknown."""

    async def effective(node: str) -> dict[str, str]:
        return made._settings(node) | {"brokerRole": "SYNC_MASTER", "brokerId": "0"}

    monkeypatch.setattr(made, "_effective", effective)
    (made._folder.node(NODES[0])).mkdir(parents=True)
    assert asyncio.run(made.unlike(NODES[0])) == []
    made.peers = "n0:10.0.1.1:9878;"
    words = asyncio.run(made.unlike(NODES[0]))
    assert len(words) == 3
    assert "knows the quorum" in words[0]


def test_an_unclean_rule_that_is_not_the_plans_is_told(tmp_path: Path, made: Replica) -> None:
    other = Replica(tmp_path, plan_of(namesrv={"enableElectUncleanMaster": True}))
    words = asyncio.run(other._unlike_controller("namesrv-1"))
    assert words == [
        "the controller in namesrv-1: enableElectUncleanMaster is 'false', its file says 'true'",
    ]


def test_the_files_of_name_servers_and_brokers(made: Replica) -> None:
    """Each name server is one of the quorum, and brokers know all of it."""
    named, broker = made._settings("namesrv-2"), made._settings(NODES[1])
    assert named["controllerDLegerSelfId"] == "n1"
    assert named["controllerDLegerPeers"] == "n0-10.0.1.1:9878;n1-10.0.1.2:9878;n2-10.0.1.3:9878"
    assert named["enableControllerInNamesrv"] == broker["enableControllerMode"] == "true"
    assert broker["controllerAddr"] == "10.0.1.1:9878;10.0.1.2:9878;10.0.1.3:9878"
    assert (broker["brokerRole"], broker["brokerId"]) == ("SLAVE", "-1"), "or it is a master before anybody says so"
    assert broker["inSyncReplicas"] == broker["minInSyncReplicas"] == "1"


def words(**tables: Any) -> tuple[str, list[str], dict[str, Any]]:
    plan = plan_of(**tables)
    settings = settings_of(plan, master=True)
    return promise(plan, settings), weakened(plan, settings), group_value(plan, topology_of(plan).groups[0])


def test_the_promise_is_what_the_settings_really_give() -> None:
    """As it ships one copy is enough and any replica in sync may take over; allAckInSyncStateSet asks all of them."""
    said, weaker, value = words()
    assert "written by 1 of 3 replicas" in said
    assert "inSyncReplicas=1" in said
    assert "1 copy is enough" in weaker[0]
    assert (value["copies"], value["partial"], value["unclean"], value["elects"]) == (1, True, False, "in-sync")
    said, weaker, value = words(broker={"allAckInSyncStateSet": True, "minInSyncReplicas": 2, "inSyncReplicas": 3})
    assert "every replica in sync, at least 2 of 3" in said
    assert "inSyncReplicas has no effect" in said
    assert weaker == []
    assert (value["copies"], value["partial"]) == (2, False)
    said, weaker, value = words(broker={"inSyncReplicas": 2})
    assert (value["copies"], value["partial"]) == (2, True)
    assert "2 copies are enough" in weaker[0]
    assert words(broker={"inSyncReplicas": 3})[2]["partial"] is False, "whoever takes over holds it"


def test_unclean_elections_flushing_and_unwaited_messages_are_named() -> None:
    strong = {"allAckInSyncStateSet": "true", "minInSyncReplicas": 2}
    said, weaker, value = words(broker=strong, namesrv={"enableElectUncleanMaster": True})
    assert "enableElectUncleanMaster=true" in said
    assert value["unclean"] is True
    assert "a replica out of sync may be appointed" in weaker[0]
    said, _, value = words(broker={**strong, "flushDiskType": "SYNC_FLUSH"})
    assert "the master's is on disk (fsync), the others' in the page cache" in said
    assert value["flush"] == "SYNC_FLUSH"
    _, weaker, value = words(broker=strong, load={"wait_store_msg_ok": False})
    assert (value["copies"], value["partial"]) == (1, True)
    assert any("WAIT=false" in one for one in weaker)
    plan = plan_of(broker=strong, load={"wait_store_msg_ok": False})
    assert not in_sync_promise(plan, settings_of(plan, master=True)).every


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"cluster": {"system": "python", "version": ""}}, "our own nodes have no controller; their modes are"),
    ({"cluster": {"namesrvs": 2}}, "an even number of them"),
    ({"master": {"flushDiskType": "SYNC_FLUSH"}}, "keys of all of them go into"),
    ({"broker": {"minInSyncReplicas": 4}}, "no message could ever be acknowledged"),
    ({"broker": {"inSyncReplicas": "many"}}, "is not a number of copies"),
    ({"fault": [{"kind": "promote", "target": "slave", "at": "5s"}]}, "ask for transfer"),
    ({"fault": [{"kind": "destroy", "target": "master", "at": "5s"}]}, "with rejoin=yes a destroyed one starts again"),
    ({"fault": [{"kind": "remove", "target": "slave", "at": "5s"}]}, "those that its controllers have registered"),
]


@pytest.mark.parametrize(("tables", "refusal"), REFUSED, ids=range(len(REFUSED)))
def test_what_the_mode_cannot_do_is_refused_in_words(tables: dict[str, Any], refusal: str) -> None:
    plan = plan_of(**{key: dict(value) if isinstance(value, dict) else value for key, value in tables.items()})
    with pytest.raises(PlanError, match=refusal):
        validate(plan, topology_of(plan))


@pytest.mark.parametrize("kind", ["kill", "pause", "blackhole"])
def test_faults_of_the_master_are_possible(kind: str) -> None:
    plan = plan_of(fault=[{"kind": kind, "target": "leader", "at": "5s", "for": "5s"}])
    validate(plan, topology_of(plan))


@pytest.mark.parametrize("kind", ["transfer:follower", "destroy:leader,rejoin=yes"])
def test_masters_can_be_appointed_anew_and_lose_their_disk(kind: str) -> None:
    plan = plan_of(fault=[{"kind": kind, "at": "5s", **({"for": "5s"} if "destroy" in kind else {})}])
    validate(plan, topology_of(plan))


def test_a_release_without_controllers_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(
        PlanError, match=r"RocketMQ 4\.9\.7 has no controller mode.*its modes are master-slave and dledger"
    ):
        controlled.check_controlled(plan_of(cluster={"version": "4.9.7"}), Release("4.9.7", tmp_path))


@pytest.mark.parametrize(
    "tables",
    [{"broker": {"enableControllerMode": False}}, {"namesrv": {"controllerDLegerPeers": "n0-a:1"}}],
)
def test_keys_that_make_the_mode_are_the_labs(tables: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="sets this key itself"):
        controlled.check_controlled(plan_of(**tables), Release("5.3.3", tmp_path))


def test_three_of_each_without_a_word() -> None:
    plan = plan_of()
    assert (plan.cluster.replicas, plan.cluster.namesrvs) == (3, 3)
    options = RunOptions(
        system="rocketmq", version="5.3.3", mode="controller", settings=("enableElectUncleanMaster=true",)
    )
    plan = build_plan(overlay(default_tables(options), options), "options")
    assert plan.cluster.namesrvs == 3
    assert plan.namesrv == {"enableElectUncleanMaster": "true"}
    assert len(plan.nemesis.faults) == 2


def test_masters_and_their_epochs_in_a_brokers_log(tmp_path: Path) -> None:
    """Lines as 5.3.3 writes them."""
    path = tmp_path / "home" / "logs" / "rocketmqlogs" / "broker.log"
    path.parent.mkdir(parents=True)
    path.write_text(
        "2026-01-01 10:34:14 INFO ReplicasManager_ExecutorService_1 - Begin to change to slave, brokerName=broker-a, "
        "brokerId=2, newMasterBrokerId=1, newMasterAddress=10.0.0.2:10911, newMasterEpoch=1\n"
        "2026-01-01 10:36:01 INFO main - Begin to change nothing\n"
        "2026-01-01 10:36:02 INFO AdminBrokerThread_3 - Begin to change to master, brokerName:broker-a, "
        "replicas:10.0.0.1:10911, new Epoch:2\n",
        encoding="utf-8",
    )
    assert list(switches_in(tmp_path, NODES[1], "broker-a")) == [
        {"node": NODES[1], "group": "broker-a", "event": "follows", "term": 1},
        {"node": NODES[1], "group": "broker-a", "event": "elected", "term": 2},
    ]
    assert list(switches_in(tmp_path / "nowhere", NODES[1], "broker-a")) == []
