"""The compiled modules: used only while they fit the sources, and doing what the sources do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nodes import compiled
from tests import COMPILED

WITHOUT_DOUBLES = (
    "test_broker_acknowledgement",
    "test_broker_golden",
    "test_broker_power_loss",
    "test_broker_pull",
    "test_broker_roles",
    "test_broker_send",
    "test_client_alarms",
    "test_client_cluster",
    "test_client_not_master",
    "test_client_push",
    "test_client_send",
    "test_message",
    "test_raft_node_cluster",
    "test_raft_node_power_loss",
    "test_remoting_fastjson",
    "test_remoting_frames",
    "test_remoting_golden",
    "test_remoting_sockets",
    "test_replication_durability",
    "test_replication_frames",
    "test_replication_live",
    "test_replication_random",
    "test_replication_scripts",
    "test_replication_stores",
    "test_store_committed",
    "test_store_durability",
    "test_store_filling",
    "test_store_kill",
    "test_store_messages",
    "test_store_model",
    "test_store_recovery",
    "test_store_replica",
    "test_store_retention",
)
"""Files of tests, of the modules that are compiled, that put nothing in the place of their parts."""


def state_of_a_new_process(**environment: str) -> str:
    code = "import nodes.compiled as c, nodes.remoting.frame as f; print(f.__file__, c.found())"
    env = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True).stdout


def test_sources_run_when_nothing_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "STAMP", tmp_path / "digest")
    assert compiled.found().startswith("the sources: nothing is compiled")


def test_sources_run_when_they_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = tmp_path / "digest"
    monkeypatch.setattr(compiled, "STAMP", stamp)
    monkeypatch.setattr(compiled, "FOLDER", tmp_path)
    monkeypatch.setattr(compiled, "_PACKAGE", tmp_path)
    (tmp_path / "module.py").write_text("one = 1\n")
    stamp.write_text(compiled.digest())
    assert compiled.found() == compiled.COMPILED
    (tmp_path / "module.py").write_text("one = 2\n")
    assert "changed since" in compiled.found()
    (tmp_path / "module.py").write_text("one = 1\n")
    (tmp_path / "further.py").write_text("")
    assert "changed since" in compiled.found()


def test_a_setting_leaves_compiled_modules_out() -> None:
    said = state_of_a_new_process(BROKERLAB_NODES="sources")
    assert said.split()[0].endswith("nodes/remoting/frame.py")
    assert "BROKERLAB_NODES=sources" in said


@pytest.mark.timeout(600)
def test_compiled_modules_pass_the_tests_of_their_sources() -> None:
    found = compiled.found()
    if found != compiled.COMPILED and not os.environ.get("CI"):
        pytest.skip(f"compiled-nodes: {found}")
    assert found == compiled.COMPILED
    assert state_of_a_new_process().split()[0].endswith(".so")
    files = [str(Path(__file__).with_name(f"{name}.py")) for name in WITHOUT_DOUBLES]
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(argv, env={**os.environ, COMPILED: "compiled"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
