"""Property keys of a release, read out of class files: what it lacks is refused, other spellings are translated."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from checkers.compose import promise_text
from checkers.facts import gather
from checkers.process_health import check_process_health
from checkers.verdict import Validity
from lab.errors import PlanError
from lab.journal import Journal
from lab.meta import weakened
from lab.plan import Cluster, Plan
from lab.planfile import build_plan
from lab.record import LabRecord
from lab.systems.rocketmq.keys import constants, differences, keys_of, translated
from lab.systems.rocketmq.release import Release
from lab.topology import copies_of, guaranteed, settings_of, topology_of
from lab.validate import validate
from tests.unit.checkers.story import Story


def class_file(*texts: str) -> bytes:
    """The beginning of a class file whose pool holds these texts, a long and a method reference among them."""
    pool = [b"\x05" + bytes(8), b"\x0a" + bytes(4)]
    pool += [b"\x01" + struct.pack(">H", len(text)) + text.encode() for text in texts]
    return b"\xca\xfe\xba\xbe" + struct.pack(">HHH", 0, 52, len(pool) + 2) + b"".join(pool)


def made(folder: Path, version: str, *setters: str) -> Release:
    """A release with one broker class."""
    folder.mkdir()
    with zipfile.ZipFile(folder / f"rocketmq-common-{version}.jar", "w") as jar:
        jar.writestr("org/apache/rocketmq/common/BrokerConfig.class", class_file(*setters, "getOther", "settle"))
        jar.writestr("org/apache/rocketmq/common/Unrelated.class", class_file("setNothing"))
    return Release(version, folder)


def test_setters_are_keys(tmp_path: Path) -> None:
    """Only setters, only of the classes that hold settings, with their first letter small."""
    found = made(tmp_path / "lib", "5.3.3", "setBrokerRole", "setdLegerGroup")
    assert keys_of(found, "broker") == {"brokerRole", "dLegerGroup"}
    with pytest.raises(PlanError, match="no classes"):
        keys_of(found, "namesrv")


def test_garbage_is_no_class_file() -> None:
    """Neither another file nor a constant that no Java knows."""
    with pytest.raises(ValueError, match="not a class file"):
        list(constants(b"PK\x03\x04"))
    with pytest.raises(ValueError, match="unknown kind 99"):
        list(constants(b"\xca\xfe\xba\xbe" + struct.pack(">HHH", 0, 52, 2) + b"\x63"))


def test_a_key_that_the_release_lacks_is_refused(tmp_path: Path) -> None:
    """RocketMQ itself would ignore it."""
    old = made(tmp_path / "lib", "4.9.7", "setBrokerRole", "setHaSlaveFallbehindMax")
    with pytest.raises(PlanError, match=r"4\.9\.7 has no broker setting 'brokerRol'; did you mean 'brokerRole'"):
        translated(old, "broker", {"brokerRol": "SYNC_MASTER"})
    with pytest.raises(PlanError, match="no broker setting 'inSyncReplicas'"):
        translated(old, "broker", {"inSyncReplicas": "2"})


def test_spellings_follow_the_line(tmp_path: Path) -> None:
    """One key of a plan serves both lines."""
    old = made(tmp_path / "old", "4.9.7", "setHaSlaveFallbehindMax")
    new = made(tmp_path / "new", "5.3.3", "setHaMaxGapNotInSync")
    for key in ("haSlaveFallbehindMax", "haMaxGapNotInSync"):
        assert translated(old, "broker", {key: "7"}) == {"haSlaveFallbehindMax": "7"}
        assert translated(new, "broker", {key: "7"}) == {"haMaxGapNotInSync": "7"}


def test_what_runs_is_compared_with_what_was_written() -> None:
    """A value that differs and a key that is not there are both found; case and spaces are not differences."""
    effective = {"a": "TRUE", "b": " 7", "c": "x"}
    assert differences({"a": "true", "b": "7"}, effective) == []
    assert differences({"c": "y", "d": "1"}, effective) == [
        "c is 'x', its file says 'y'",
        "d is not among its settings",
    ]


@pytest.mark.parametrize(("version", "copies"), [("4.9.7", 2), ("5.3.3", 1)])
def test_the_promise_of_a_stock_sync_master_depends_on_the_line(version: str, copies: int) -> None:
    """4.9 waits for a slave, 5.x for nobody unless inSyncReplicas says so."""
    plan = Plan(cluster=Cluster(system="rocketmq", version=version), master={"brokerRole": "SYNC_MASTER"})
    assert copies_of(settings_of(plan, master=True)) == copies


def test_in_sync_replicas_of_a_plan_overrules_the_stock_one() -> None:
    """What 5.x does when it is asked to wait."""
    cluster = Cluster(system="rocketmq", version="5.3.3")
    plan = Plan(cluster=cluster, broker={"inSyncReplicas": 2}, master={"brokerRole": "SYNC_MASTER"})
    assert copies_of(settings_of(plan, master=True)) == 2


def test_what_fits_no_broker_is_refused() -> None:
    """A version for our own nodes, a promotion by a call, and one that would change what is promised."""
    for tables, words in (
        ({"cluster": {"version": "5.3.3"}}, "system rocketmq"),
        (
            {
                "cluster": {"system": "rocketmq", "version": "5.3.3"},
                "fault": [{"kind": "promote", "target": "broker-a/slave", "at": "5s"}],
            },
            "promote_by",
        ),
        (
            {
                "master": {"brokerRole": "SYNC_MASTER", "flushDiskType": "SYNC_FLUSH"},
                "fault": [{"kind": "promote", "target": "broker-a/slave", "at": "5s"}],
            },
            r"flushDiskType in \[master\]: a slave that a call promotes keeps",
        ),
    ):
        plan = build_plan(tables, "plan.toml")
        with pytest.raises(PlanError, match=words):
            validate(plan, topology_of(plan))


def test_a_broker_that_runs_with_something_else_makes_the_run_unknown(tmp_path: Path) -> None:
    """What was tested is not what the plan asks for: nothing is proven, whatever else was seen."""
    journal = Journal(tmp_path / "lab.jsonl", 0)
    LabRecord(journal).odd_setting("broker-a-0", "broker-a-0: brokerRole is 'SLAVE', its file says 'SYNC_MASTER'")
    journal.close()
    event = json.loads((tmp_path / "lab.jsonl").read_text(encoding="utf-8"))
    story = Story()
    story.add("lab", "info", event["f"], event["value"])
    record = check_process_health(gather(story.history()))
    assert record.valid is Validity.UNKNOWN
    assert any("brokerRole is 'SLAVE'" in anomaly.text for anomaly in record.anomalies)


@pytest.mark.parametrize(
    ("tables", "word", "copies", "flush"),
    [
        ({"broker": {"transientStorePoolEnable": True}}, "transientStorePoolEnable", 2, "SYNC_FLUSH"),
        ({"broker": {"transientStorePoolEnable": "TRUE"}}, "transientStorePoolEnable", 2, "SYNC_FLUSH"),
        ({"broker": {"enableAutoInSyncReplicas": "True"}}, "enableAutoInSyncReplicas", 1, "SYNC_FLUSH"),
        ({"broker": {"slaveReadEnable": True}}, "slaveReadEnable", 2, "SYNC_FLUSH"),
        ({"broker": {"enableAutoInSyncReplicas": True}}, "enableAutoInSyncReplicas", 1, "SYNC_FLUSH"),
        ({"load": {"wait_store_msg_ok": False}}, "WAIT=false", 1, "ASYNC_FLUSH"),
        ({}, "", 2, "SYNC_FLUSH"),
    ],
)
def test_settings_that_weaken_a_promise_are_named_in_the_verdict(
    tables: dict[str, Any], word: str, copies: int, flush: str
) -> None:
    """And where they touch copies or flushing, what SEND_OK guarantees is less."""
    broker = {"inSyncReplicas": 2, "flushDiskType": "SYNC_FLUSH", **tables.get("broker", {})}
    cluster = {"system": "rocketmq", "version": "5.3.3"}
    whole = {**tables, "cluster": cluster, "broker": broker, "master": {"brokerRole": "SYNC_MASTER"}}
    plan = build_plan(whole, "plan")
    settings = settings_of(plan, master=True)
    assert guaranteed(plan, settings) == (copies, flush)
    told = weakened(plan, settings)
    text = promise_text(Story(weakened=told).history())
    assert (word in text) if word else ("Weakened" not in text and told == [])


def test_a_message_that_waits_for_nothing_is_no_promise_of_groups_that_elect() -> None:
    """Their SEND_OK is judged as committed."""
    plan = build_plan({"cluster": {"mode": "dledger"}, "load": {"wait_store_msg_ok": False}}, "plan")
    with pytest.raises(PlanError, match="wait_store_msg_ok"):
        validate(plan, topology_of(plan))
