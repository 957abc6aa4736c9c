"""What a release's runtime information tells, and what it leaves out."""

import asyncio
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from lab.cluster.hosts import Hosts
from lab.errors import PlanError
from lab.plan import Plan
from lab.planfile import build_plan
from lab.rundir import RunDir
from lab.systems.rocketmq import controlled, system
from lab.systems.rocketmq.release import Release
from lab.systems.rocketmq.store_files import StoreFiles
from lab.systems.rocketmq.system import check_rocketmq, delayed_of, ends_of
from lab.systems.system import NodeStatus
from lab.topology import topology_of
from nodes.remoting.codes import RequestCode
from nodes.remoting.command import Command, request

LAB = {"lab@0": {"min": 0, "max": 9}}


def test_ends_of_an_empty_log_are_not_negative() -> None:
    """RocketMQ tells -1 as the begin of a log without files."""
    assert ends_of({"commitLogMinOffset": "-1", "commitLogMaxOffset": "0"}) == (0, 0)


def test_delayed_messages_are_those_that_no_level_has_delivered() -> None:
    """A level that has delivered nothing yet is not in the table at all."""
    runtime = {"scheduleMessageOffset_3": "5,7"}
    queues = {
        "SCHEDULE_TOPIC_XXXX@2": {"min": 0, "max": 7},
        "SCHEDULE_TOPIC_XXXX@3": {"min": 0, "max": 4},
        "lab@0": {"min": 0, "max": 99},
    }
    assert delayed_of(runtime, queues) == 2 + 4
    assert delayed_of({"scheduleMessageOffset_3": "7,7", "scheduleMessageOffset_4": "4,4"}, queues) == 0


@pytest.mark.parametrize(
    "tables",
    [
        {"broker": {"enableControllerMode": True}},
        {"master": {"enableControllerMode": "true"}},
        {"namesrv": {"enableControllerInNamesrv": True}},
    ],
)
def test_controller_mode_is_refused_in_words(
    tables: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a mode where the plan appoints masters, a controller would appoint others behind its back."""
    monkeypatch.setattr(system, "release_of", lambda plan: Release("5.3.3", tmp_path))
    plan = build_plan({"cluster": {"system": "rocketmq", "version": "5.3.3"}, **tables}, "plan")
    with pytest.raises(PlanError, match=r"set cluster\.mode = \"controller\""):
        check_rocketmq(plan)


class Slave(system.RocketMQSystem):
    """Answers come from a table instead of a network."""

    boot, role = "1000", "SLAVE"

    def __init__(self, plan: Plan, folder: Path) -> None:
        super().__init__(plan, topology_of(plan), RunDir(folder), cast(Hosts, None))
        self.asked: list[int] = []

    async def _call(self, node: str, command: Command, timeout_s: float | None = None, **more: Any) -> Command | None:
        self.asked.append(command.code)
        if command.code == RequestCode.GET_BROKER_CONFIG:
            return request(0, None, f"brokerRole={self.role}\nbrokerId=1\n".encode())
        table = {"commitLogMinOffset": "0", "commitLogMaxOffset": "7", "bootTimestamp": self.boot}
        return request(0, None, msgspec.json.encode({"table": {key: value for key, value in table.items() if value}}))


def test_a_broker_is_asked_for_its_role_once_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is long, and four a second kept a busy JVM from all else; a restarted broker may have another role."""
    monkeypatch.setattr(system, "release_of", lambda plan: Release("5.3.3", tmp_path))
    slave = Slave(build_plan({"cluster": {"system": "rocketmq", "version": "5.3.3"}}, "plan"), tmp_path)

    def told() -> tuple[str, int, int]:
        found = asyncio.run(slave.status("broker-a-1"))
        assert found is not None
        return str(found.raw["role"]), found.broker_id, slave.asked.count(RequestCode.GET_BROKER_CONFIG)

    assert [told(), told()] == [("SLAVE", 1, 1)] * 2
    slave.boot, slave.role = "2000", "OTHER"
    assert [told(), told()] == [("OTHER", 1, 2)] * 2
    slave.boot = ""
    assert [told()[2], told()[2]] == [3, 4], "one that does not tell when it started is asked every time"


# How far the queues lead of a log of 900 bytes, and how far behind the broker says that it is; None: no answer.
AHEAD, DONE, MUTE = (400, 500), (900, 0), None
NEARER = ((400, 500), (500, 400), (600, 300), (700, 200))
CALM, STEP = (900, 700), (400, 0)


@pytest.mark.parametrize(
    ("looks", "asked", "known"),
    [
        ([DONE], 1, True),
        ([MUTE, AHEAD, MUTE, DONE], 4, True),
        ([STEP, STEP, DONE], 3, True),  # not behind what it may dispatch, which is not the end of the log
        ([AHEAD] * 99, 6, True),  # it stands still, and has lost what it lacks
        ([STEP] * 99, 6, True),
        ([CALM] * 99, 6, True),  # others came after the end
        ([MUTE] * 99, 21, False),
        ([AHEAD, MUTE] * 99, 21, False),  # without processor time nobody gets on
        ([look for look in NEARER for _ in range(5)] + [DONE] * 9, 21, True),
        ([look for look in (*NEARER, AHEAD) for _ in range(5)] * 9, 21, False),
    ],
)
def test_an_index_is_complete_or_stands_still_or_nobody_knows(
    looks: list[tuple[int, int] | None], asked: int, known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lacks in it is called lost: so not while a broker that is short of processor time may still write it."""
    monkeypatch.setattr(system, "release_of", lambda plan: Release("5.3.3", tmp_path))
    slave = Slave(build_plan({"cluster": {"system": "rocketmq", "version": "5.3.3"}}, "plan"), tmp_path)
    left, now = list(looks), 0.0

    async def runtime(node: str) -> dict[str, str] | None:
        slave.asked.append(RequestCode.GET_BROKER_RUNTIME_INFO)
        look = left.pop(0)
        if look is None:
            return None
        monkeypatch.setattr(StoreFiles, "indexed_end", lambda self: look[0])
        return {"dispatchBehindBytes": str(look[1])}

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += 1.0

    monkeypatch.setattr(slave, "_runtime", runtime)
    monkeypatch.setattr(StoreFiles, "queues", lambda self: {"%RETRY%readers@0": {"min": 0, "max": 1}})
    monkeypatch.setattr(asyncio, "sleep", sleep)

    async def story() -> object:
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
        return await slave.indexed(NodeStatus("broker-a-1", False, 1, (0, ""), (), 0, 900, None, (), True, LAB))

    assert asyncio.run(story()) == ([("%RETRY%readers", 0), ("lab", 0)] if known else None)
    assert len(slave.asked) == asked


def test_a_store_that_is_taken_away_while_it_is_read_is_one_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault destroys the node between two questions: that ended the whole run."""
    monkeypatch.setattr(system, "release_of", lambda plan: Release("5.3.3", tmp_path))
    slave = Slave(build_plan({"cluster": {"system": "rocketmq", "version": "5.3.3"}}, "plan"), tmp_path)

    def gone(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    for name in ("queues", "indexed_end", "read_log", "read_index"):
        monkeypatch.setattr(StoreFiles, name, gone)

    async def story() -> list[object]:
        last = NodeStatus("broker-a-1", False, 1, (0, ""), (), 0, 0, None, (), True)
        return [
            await slave.status("broker-a-1"),
            await slave.indexed(last),
            await slave.read_log("broker-a-1", 0),
            await slave.read_index("broker-a-1", "lab", 0, 0),
        ]

    assert asyncio.run(story()) == [None] * 4


@pytest.mark.parametrize("mode", ["master-slave", "dledger", "controller"])
def test_queues_that_the_lab_cannot_read_are_refused(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All their entries would seem to be missing."""
    monkeypatch.setattr(system, "release_of", lambda plan: Release("5.3.3", tmp_path))
    for module in (system, controlled):
        monkeypatch.setattr(module, "translated", lambda release, kind, settings: dict(settings))
    cluster = {"system": "rocketmq", "version": "5.3.3", "mode": mode}
    check_rocketmq(build_plan({"cluster": cluster, "broker": {"storeType": "default"}}, "plan"))
    plan = build_plan({"cluster": cluster, "broker": {"storeType": "defaultRocksDB"}}, "plan")
    with pytest.raises(PlanError, match=r"storeType in \[broker\]"):
        check_rocketmq(plan)


@pytest.mark.parametrize(("version", "first_only"), [("4.9.7", True), ("5.3.3", False)])
def test_a_5_x_broker_has_both_compilers(
    version: str, first_only: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the first one alone it needs three quarters of a core for its timer wheel, whatever the load is."""
    monkeypatch.setattr(system, "release_of", lambda plan: Release(version, tmp_path))
    monkeypatch.setattr("lab.systems.rocketmq.programs.java", lambda: "java")
    made = Slave(build_plan({"cluster": {"system": "rocketmq", "version": version}}, "plan"), tmp_path)
    monkeypatch.setattr(made, "_settings", lambda node: {})
    monkeypatch.setattr(made, "_port", lambda node: 10911)
    assert ("-XX:TieredStopAtLevel=1" in made.prepare("broker-a-0").argv) is first_only
