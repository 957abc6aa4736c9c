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
from lab.systems.rocketmq import system
from lab.systems.rocketmq.release import Release
from lab.systems.rocketmq.system import check_rocketmq, delayed_of, ends_of
from lab.topology import topology_of
from nodes.remoting.codes import RequestCode
from nodes.remoting.command import Command, request


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


@pytest.mark.parametrize(
    ("told", "asked", "reads"),
    [((None, "0"), 2, True), (("7", None, "0"), 3, True), (("0",), 1, True), ((None,), 1, False), (("7",), 1, True)],
)
def test_an_index_is_read_once_the_broker_told_how_far_it_is(
    told: tuple[str | None, ...], asked: int, reads: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that never told may still be writing it, and what lacks in it would be called lost; one that stays
    behind has lost it."""
    monkeypatch.setattr(system, "release_of", lambda plan: Release("5.3.3", tmp_path))
    monkeypatch.setattr(system, "DISPATCH_POLL_S", 0.0)
    slave = Slave(build_plan({"cluster": {"system": "rocketmq", "version": "5.3.3"}}, "plan"), tmp_path)
    slave.dispatch_s = 0.0 if len(told) == 1 else 600.0
    answers = list(told)

    async def runtime(node: str) -> dict[str, str] | None:
        slave.asked.append(RequestCode.GET_BROKER_RUNTIME_INFO)
        behind = answers.pop(0)
        return None if behind is None else {"dispatchBehindBytes": behind}

    monkeypatch.setattr(slave, "_runtime", runtime)
    found = asyncio.run(slave.read_index("broker-a-1", "lab", 0, 0))
    assert found == ((b"", 0, 0) if reads else None)
    assert len(slave.asked) == asked


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
