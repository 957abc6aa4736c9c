"""Whole runs, from plan to verdict: what must be valid is, what must be invalid is, and the unproven is unknown."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.live.judged import ROOT, lab

pytestmark = pytest.mark.live


def test_replication_cut_then_promotion_loses_what_an_async_master_promised(tmp_path: Path) -> None:
    """The first half of the truth: SEND_OK of an ASYNC_MASTER does not survive the loss of the master."""
    judged = lab(tmp_path, "run", "plans/cut-destroy-promote.toml", "--set", "brokerRole=ASYNC_MASTER")
    assert judged.code == 1, str(judged)
    assert "answered SEND_OK are gone" in judged.out


def test_replication_cut_then_promotion_keeps_what_a_sync_master_promised(tmp_path: Path) -> None:
    """The second half, same seed: SEND_OK survives, and weaker answers are counted as lost."""
    judged = lab(tmp_path, "run", "plans/cut-destroy-promote.toml", "--set", "brokerRole=SYNC_MASTER")
    assert judged.code == 0, str(judged)
    assert "weaker status" in judged.out
    assert any("lost-weak" in name and count > 0 for name, count in judged.record("C1")["counts"].items())


def test_kill_is_not_power_loss(tmp_path: Path) -> None:
    """kill -9 and restart in place of an ASYNC_MASTER with ASYNC_FLUSH loses nothing."""
    judged = lab(tmp_path, "run", "plans/kill-restart.toml", "--set", "brokerRole=ASYNC_MASTER")
    assert judged.code == 0, str(judged)


def test_running_clients_do_not_notice_that_all_name_servers_are_down(tmp_path: Path) -> None:
    """A client with a cached route goes on; a new one fails with a clear error."""
    judged = lab(tmp_path, "run", "plans/namesrvs-down.toml")
    assert judged.code == 0, str(judged)


def test_nobody_notices_that_one_name_server_is_down(tmp_path: Path) -> None:
    """The others answer."""
    judged = lab(tmp_path, "run", "plans/namesrv-down.toml")
    assert judged.code == 0, str(judged)


def test_a_killed_run_leaves_its_recording_and_nothing_else(tmp_path: Path) -> None:
    """SIGKILL of the lab ends its nodes and workers by itself; their stores go with `lab clean`, the recording can be
    judged."""
    argv = [sys.executable, "-m", "lab", "run", "plans/baseline.toml", "--out", str(tmp_path)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert any("load begins" in line for line in running.stderr)
        children = psutil.Process(running.pid).children(recursive=True)
        running.kill()
    assert len(children) >= 6
    assert psutil.wait_procs(children, timeout=60)[1] == []
    assert (tmp_path / "latest").is_symlink()
    run = (tmp_path / "latest").resolve()
    subprocess.run([sys.executable, "-m", "lab", "clean"], cwd=ROOT, check=True, capture_output=True, timeout=60)
    assert not (run / "nodes").exists()  # the next lab that starts, beside this test too, may have cleaned as well
    argv = [sys.executable, "-m", "lab", "check", str(run)]
    judged = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True, timeout=600)
    assert judged.returncode == 3, judged.stdout + judged.stderr
    assert "the history ends before its drain did" in " ".join(judged.stdout.split())


@pytest.mark.flaws
def test_a_master_that_answers_before_its_replica_is_found_out(tmp_path: Path) -> None:
    """Planted: SEND_OK under SYNC_MASTER without waiting for the slave."""
    judged = lab(tmp_path, "run", "plans/cut-destroy-promote.toml", "--flaw", "reply-before-replica")
    assert judged.code == 1, str(judged)


@pytest.mark.flaws
@pytest.mark.parametrize(
    ("fault", "flaw"),
    [
        ("partition:isolate-master", "no-cut"),
        ("partition:isolate-master", "no-restore"),
        ("partition:isolate-master", "half-restore"),
        ("kill:master", "no-kill"),
        ("kill:master", "no-start"),
        ("pause:master", "no-pause"),
        ("pause:master", "no-resume"),
    ],
)
def test_a_fault_that_does_nothing_is_not_survived(fault: str, flaw: str, tmp_path: Path) -> None:
    """Planted: an injection or a healing is replaced by nothing, and the verdict is unknown."""
    options = ("--time-limit", "10s", "--seed", "3", "--set", "brokerRole=SYNC_MASTER")
    judged = lab(tmp_path, "run", "--nemesis", fault, "--lever-flaw", flaw, *options)
    assert judged.code == 3, str(judged)


@pytest.mark.flaws
@pytest.mark.parametrize("flaw", ["no-destroy", "no-promote"])
def test_an_operator_who_does_nothing_is_noticed(flaw: str, tmp_path: Path) -> None:
    """Planted: the destruction, or the promotion, is reported and did not happen."""
    judged = lab(tmp_path, "run", "plans/cut-destroy-promote.toml", "--lever-flaw", flaw)
    assert judged.code == 3, str(judged)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "--set", "brokerRole=SYNK_MASTER"), "SYNC_MASTER"),
        (("run", "--nemesis", "partition:halfs"), "halves"),
        (("run", "--nemesis", "kill:nobody"), "nobody"),
        (("run", "--replicas", "1", "--nemesis", "promote:slave"), "slave"),
        (("run", "--replicas", "1", "--set", "brokerRole=SYNC_MASTER"), "copies"),
        (("run", "--set", "flushDiskTipe=SYNC_FLUSH"), "flushDiskType"),
        (("run", "--set", "transientStorePoolEnable=true"), "transientStorePoolEnable"),
    ],
)
def test_bad_input_gets_one_clear_message(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    """Refused before anything starts, with what to do and exit code 2."""
    judged = lab(tmp_path, *arguments)
    assert judged.code == 2, str(judged)
    assert says in judged.err
    assert "Traceback" not in judged.err
