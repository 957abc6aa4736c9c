"""The other ways of using a cluster: workload log, and push consumers that send messages back."""

from pathlib import Path

import pytest

from tests.live.judged import lab

PUSH = """
name = "push"
time_limit = "12s"
seed = 3

[cluster]
groups = 2
namesrvs = 1

[broker]
slaveTimeout = 1000
messageDelayLevel = "1s 2s 3s"

[master]
brokerRole = "SYNC_MASTER"

[load]
consume = "push"
reconsume_share = 0.05
operation_timeout = "1500ms"

[[fault]]
kind = "kill"
target = "master"
at = "4s"
for = "3s"
"""


@pytest.mark.live
def test_a_log_is_appended_and_read_through_faults(tmp_path: Path) -> None:
    """Appends, reads by offset and end offsets agree with one order."""
    faults = ("--nemesis", "kill:master", "--nemesis", "partition:isolate-master")
    judged = lab(tmp_path, "run", "--workload", "log", "--time-limit", "10s", "--seed", "5", *faults)
    assert judged.code == 0, str(judged)
    assert judged.record("C5")["counts"]["operations"] > 500


@pytest.mark.live
def test_push_consumers_get_every_message_through_a_kill(tmp_path: Path) -> None:
    """Messages that were sent back come again through the retry topic."""
    plan = tmp_path / "push.toml"
    plan.write_text(PUSH)
    judged = lab(tmp_path / "runs", "run", str(plan))
    assert judged.code == 0, str(judged)
    counts = judged.record("delivery")["counts"]
    assert counts["readers handled"] == counts["readers required"] > 500
