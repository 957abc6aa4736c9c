"""`lab run --system rocketmq`: a release of Apache's on the lab's hosts, from plan to verdict."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab import doctor
from tests.interop.conftest import release_or_skip
from tests.live.judged import ROOT, Judged, lab

pytestmark = [pytest.mark.interop, pytest.mark.live, pytest.mark.timeout(400)]

BASE = ("run", "--system", "rocketmq", "--rate", "50", "--time-limit", "10s", "--seed", "7")


@pytest.fixture(autouse=True)
def _needs_hosts() -> None:
    lacking = doctor.missing(*doctor.REQUIRED)
    if lacking is not None:
        if os.environ.get("CI"):
            pytest.fail(f"CI machines have {lacking}, and this one lacks it: nothing was proven")
        pytest.skip(f"this machine lacks {lacking}")


def effective(judged: Judged, node: str) -> str:
    """What a broker said it runs with."""
    return (judged.run / "nodes" / node / "effective.properties").read_text(encoding="utf-8")


def test_4_9_with_a_slave_is_judged_and_its_replicas_agree(tmp_path: Path) -> None:
    """All that was acknowledged is in both brokers' store files, record by record."""
    release_or_skip("4.9.7", "server")
    judged = lab(tmp_path, *BASE, "--version", "4.9.7", "--set", "brokerRole=SYNC_MASTER")
    assert judged.code == 0, str(judged)
    counts = judged.record("C7")["counts"]
    assert counts["dumps"] == 2
    assert counts["records"] >= 2 * 400
    assert "brokerRole=SYNC_MASTER" in effective(judged, "broker-a-0")
    assert "brokerRole=SLAVE" in effective(judged, "broker-a-1")


def test_5_3_names_the_promise_of_a_stock_sync_master(tmp_path: Path) -> None:
    """It waits for nobody, and the verdict says so."""
    release_or_skip("5.3.3", "server")
    judged = lab(tmp_path, *BASE, "--version", "5.3.3", "--replicas", "1", "--set", "brokerRole=SYNC_MASTER")
    assert judged.code == 0, str(judged)
    assert "inSyncReplicas is 1" in " ".join(judged.out.split())
    assert judged.record("C7")["counts"]["records"] >= 400


def test_4_9_elects_another_leader_and_is_judged(tmp_path: Path) -> None:
    """kill -9 of the leader of a DLedger group: terms by its Raft port, replicas record by record by their ledgers."""
    release_or_skip("4.9.7", "server")
    judged = lab(tmp_path, "run", "plans/rocketmq/dledger-kill.toml", "--version", "4.9.7", "--time-limit", "35s")
    assert judged.code == 0, str(judged)
    assert judged.record("C7")["counts"]["dumps"] == 3
    assert judged.record("C8")["counts"]["terms"] >= 2
    assert judged.record("C18")["counts"]["answers"] > 0
    assert "written by 2 of 3 replicas, and synced by none of them yet" in " ".join(judged.out.split())
    assert "enableDLegerCommitLog=true" in effective(judged, "broker-a-0")


def test_4_9_has_no_controllers_and_our_nodes_have_none(tmp_path: Path) -> None:
    """Each refusal names what there is instead."""
    release_or_skip("4.9.7", "server")
    judged = lab(tmp_path, *BASE, "--mode", "controller", "--version", "4.9.7")
    assert judged.code == 2, str(judged)
    assert "RocketMQ 4.9.7 has no controller mode" in judged.err
    judged = lab(tmp_path, "run", "--mode", "controller")
    assert judged.code == 2, str(judged)
    assert "our own nodes have no controller; their modes are master-slave and dledger" in judged.err
    assert not list(tmp_path.iterdir())


def test_what_a_release_lacks_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """RocketMQ would ignore the key; a plan that sets it means another cluster."""
    release_or_skip("4.9.7", "server")
    for key in ("inSyncReplicas=2", "slaveReadEnabel=true"):
        judged = lab(tmp_path, *BASE, "--version", "4.9.7", "--set", key)
        assert judged.code == 2, str(judged)
        assert f"RocketMQ 4.9.7 has no broker setting '{key.partition('=')[0]}'" in judged.err
    assert not list(tmp_path.iterdir())


def test_a_release_that_is_not_here_is_named_with_the_command_that_brings_it(tmp_path: Path) -> None:
    """Nothing is fetched behind the user's back."""
    release_or_skip("4.9.7", "server")  # so that Java is known to be here
    judged = lab(tmp_path, *BASE, "--version", "0.0.1")
    assert judged.code == 4, str(judged)
    assert "make rocketmq VERSION=0.0.1" in judged.err


@pytest.mark.parametrize("path", sorted((ROOT / "plans" / "rocketmq").glob("*.toml")), ids=lambda path: path.stem)
def test_every_plan_for_a_release_is_possible(path: Path) -> None:
    """What ships is accepted with the release that it names."""
    from lab.planfile import build_plan, read_plan
    from lab.systems.settings import check_settings
    from lab.topology import topology_of
    from lab.validate import validate

    plan = build_plan(read_plan(path), str(path))
    release_or_skip(plan.cluster.version, "server")
    validate(plan, topology_of(plan))
    assert check_settings(plan) == []
