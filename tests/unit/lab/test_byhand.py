"""Clusters by hand: whoever gives up waiting for one leaves nothing behind, and so does whoever is told it is down."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lab import byhand
from lab.byhand import down_again, entering, serving, wait_for_end
from lab.errors import SetupError
from lab.rundir import RunDir

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("reason", [KeyboardInterrupt(), SetupError("it was not ready in time")])
def test_a_wait_that_ends_early_takes_the_cluster_down(reason: BaseException) -> None:
    """The background process ends with the interrupt of whoever started it, and with its patience."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with pytest.raises(type(reason)), down_again(process):
        raise reason
    assert process.returncode is not None


def test_the_background_process_is_this_lab_wherever_it_is_started(tmp_path: Path) -> None:
    """A folder with a module of the same name, another checkout say, ran that one's code."""
    (tmp_path / "lab.py").write_text("print('another lab')")
    argv = [*serving(RunDir(tmp_path))[:-1], "--help"]
    said = subprocess.run(
        argv, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert "The background process" in said.stdout, said


def test_a_cluster_that_came_up_stays() -> None:
    """Until it is told to end."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        with down_again(process):
            pass
        assert process.poll() is None
        process.kill()


def test_a_cluster_is_down_when_its_process_is_gone() -> None:
    """Not when it has heard of it: what it held, a new cluster or a look at the machine would meet."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        ended = threading.Event()

        def wait() -> None:
            wait_for_end(process.pid)
            ended.set()

        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not ended.wait(0.2)  # it cannot be: the process waits for a line
        process.stdin.write(b"\n")
        process.stdin.close()
        assert ended.wait(60.0)
        waiting.join()
    wait_for_end(process.pid)  # it is gone for good


def test_hosts_in_a_user_namespace_are_entered_through_it() -> None:
    """A cluster that was started without root lives in one; anybody outside is refused by the kernel."""
    assert entering("/host", "/proc/self/ns/user") == ["nsenter", "--net=/host", "--"]
    another = "/proc/self/ns/net"  # any that is not ours
    assert entering("/host", another) == ["nsenter", f"--user={another}", "--preserve-credentials", "--net=/host", "--"]


@pytest.mark.parametrize(("ends", "words"), [(True, "went away before it answered"), (False, "it stands still")])
def test_a_cluster_that_gives_no_answer_is_no_bug_of_the_lab(
    tmp_path: Path, ends: bool, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process was killed, or is stopped."""
    monkeypatch.setattr(byhand, "ASK_S", 60.0 if ends else 0.05)
    folder = RunDir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # the path of a test's folder may be too long for a socket
        server.bind(folder.socket.name)
        server.listen()
        answering = threading.Thread(target=lambda: server.accept()[0].close() if ends else None)
        answering.start()
        with pytest.raises(SetupError, match=words):
            byhand.ask(folder, {"do": "status"})
        answering.join()
