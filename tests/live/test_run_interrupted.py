"""Ctrl-C: the first heals, drains and judges what there is; the second takes everything down at once."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from checkers.builder import load_history
from lab.leaks import traces
from tests.live.judged import ROOT

PATIENCE_S = 120.0


@contextmanager
def running(folder: Path, plan: str) -> Iterator[subprocess.Popen[str]]:
    """A run in progress."""
    argv = [sys.executable, "-m", "lab", "run", plan, "--out", str(folder)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    """Read the run's progress until it says this."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if words in line:
            return
    raise AssertionError("".join(said))


@pytest.mark.live
def test_the_first_interrupt_ends_in_order(tmp_path: Path) -> None:
    """An open fault is healed, the queues are read, and the verdict says that the run was cut short."""
    before = traces(tmp_path)
    with running(tmp_path, "plans/isolate-master.toml") as process:
        wait_for(process, "partition:isolate-master")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 3, out
    assert "the run was interrupted; what there was until then is judged" in out
    history = load_history((tmp_path / "latest").resolve() / "history.jsonl.zst")
    steps = {event.value["rule"]: event.value["ok"] for event in history.lab("drain-step")}
    assert steps["D2"]
    assert steps["D4"]
    assert steps["D7"]
    assert traces(tmp_path).more_than(before) == []


@pytest.mark.live
def test_the_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    """Nothing is drained, nothing is left behind, and what was recorded is judged as unknown."""
    before = traces(tmp_path)
    with running(tmp_path, "plans/isolate-master.toml") as process:
        wait_for(process, "partition:isolate-master")
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        wait_for(process, "interrupted:")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 3, out
    assert "D4: never reported" in " ".join(out.split())
    assert psutil.wait_procs(children, timeout=60)[1] == []
    assert traces(tmp_path).more_than(before) == []
