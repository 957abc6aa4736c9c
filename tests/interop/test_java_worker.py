"""`lab run --client java`: RocketMQ's own clients do the workload on our nodes, from plan to verdict."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab import doctor
from tests.interop.conftest import release_or_skip
from tests.live.judged import Judged, lab

pytestmark = [pytest.mark.interop, pytest.mark.live, pytest.mark.timeout(400)]

# Fewer clients than by default: their threads are many, and a busy machine is to have done its first sends in time.
PLAN = """
name = "java"
seed = 7
time_limit = "12s"
[cluster]
mode = "dledger"
namesrvs = 1
[load]
client = "java"
client_version = "{version}"
route_poll = "1s"
rate = 60
clients = 6
consumers = 1
operation_timeout = "3s"
[[fault]]
kind = "kill:leader"
at = "4s"
for = "3s"
[drain]
ready_for = "1s"
[judge.gates]
info_ratio = 0.2
"""


@pytest.fixture(autouse=True)
def _needs_hosts() -> None:
    lacking = doctor.missing(*doctor.REQUIRED)
    if lacking is not None:
        if os.environ.get("CI"):
            pytest.fail(f"CI machines have {lacking}, and this one lacks it: nothing was proven")
        pytest.skip(f"this machine lacks {lacking}")


def run(folder: Path, version: str, *options: str, plan: str = PLAN) -> Judged:
    """Run the plan with one client release."""
    release_or_skip(version, "client")
    file = folder / "plan.toml"
    file.write_text(plan.format(version=version), encoding="utf-8")
    return lab(folder / "runs", "run", str(file), *options)


def journals(judged: Judged) -> list[str]:
    """What the clients journalled, line by line."""
    files = (judged.run / "journals").glob("*.jsonl")
    return [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def test_a_group_that_loses_its_leader_keeps_what_java_clients_were_promised(tmp_path: Path) -> None:
    """With the terms that the replies named, though the Java client shows none: who led is judged too."""
    judged = run(tmp_path, "5.3.3")
    assert judged.code == 0, str(judged)
    assert "clients: RocketMQ's Java client 5.3.3, routes asked for every 1s" in judged.err
    assert judged.record("C1")["counts"]["SEND_OK"] >= 100
    assert judged.record("C8")["counts"]["terms"] >= 2
    assert judged.record("delivery")["valid"] is True


@pytest.mark.flaws
def test_a_planted_flaw_is_caught_by_what_java_clients_saw(tmp_path: Path) -> None:
    """A broker that loses a message that it has acknowledged; the older client line saw it acknowledged."""
    judged = run(tmp_path, "4.9.8", "--flaw", "drop-acked")
    assert judged.code == 1, str(judged)
    assert judged.record("C1")["valid"] is False


PUSH = """
name = "java-push"
seed = 7
time_limit = "12s"
[cluster]
mode = "master-slave"
namesrvs = 1
[broker]
slaveTimeout = 1000
messageDelayLevel = "1s 2s 3s"
[master]
brokerRole = "SYNC_MASTER"
[load]
client = "java"
client_version = "{version}"
consume = "push"
reconsume_share = 0.1
route_poll = "1s"
rate = 60
clients = 6
consumers = 2
operation_timeout = "3s"
[[fault]]
kind = "kill"
target = "master"
at = "4s"
for = "2s"
[drain]
ready_for = "1s"
[judge.gates]
info_ratio = 0.2
"""


def test_java_push_consumers_get_every_message_through_a_kill(tmp_path: Path) -> None:
    """Two members share the queues; what they send back comes again; the drain waits for their commits."""
    judged = run(tmp_path, "5.3.3", plan=PUSH)
    assert judged.code == 0, str(judged)
    counts = judged.record("delivery")["counts"]
    assert counts["readers handled"] == counts["readers required"] >= 100
    assert any('"fail"' in line and '"handle"' in line for line in journals(judged)), "nothing was sent back"
    assert any('"%RETRY%readers' in line and '"ok"' in line for line in journals(judged)), "nothing came again"


@pytest.mark.flaws
def test_a_java_push_consumer_that_skips_messages_is_caught(tmp_path: Path) -> None:
    """Of the older line: its handler takes one message of each queue for handled without a look at it."""
    judged = run(tmp_path, "4.9.8", "--client-flaw", "overlook", plan=PUSH)
    assert judged.code == 1, str(judged)
    assert judged.record("delivery")["counts"]["skipped"] >= 1
