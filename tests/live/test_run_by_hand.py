"""A cluster brought up by hand: seen, hurt, promoted, healed, entered, and gone without a trace."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.leaks import traces
from tests.live.judged import ROOT

PATIENCE_S = 120.0
FOLDER = "runs #1 \\" + 10 * " of a long name"  # too long for a socket, and with what property files heed


class Hands:
    """`lab` with the folder of one cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def lab(self, command: str, *arguments: str, code: int = 0) -> str:
        """Run one command; returns what it said."""
        argv = [sys.executable, "-m", "lab", command, "--out", str(self.folder), *arguments]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def nodes(self) -> dict[str, dict[str, Any]]:
        """What `lab status --json` says of each node."""
        status = json.loads(self.lab("status", "--json"))
        return {node["node"]: node for node in status["nodes"]}


@pytest.fixture
def hands(tmp_path: Path) -> Iterator[Hands]:
    """A small cluster that is up, in a folder of an inconvenient name."""
    found = Hands(tmp_path / FOLDER)
    before = traces(tmp_path)
    found.lab("up", "--groups", "1", "--namesrvs", "1", "--set", "brokerRole=SYNC_MASTER")
    try:
        yield found
    finally:
        assert (next((found.folder / "up").iterdir()) / "nodes" / "broker-a-0" / "store").is_dir()
        found.lab("down")
    found.lab("status", code=2)
    assert traces(tmp_path).more_than(before) == []


@pytest.mark.live
def test_a_master_is_killed_and_its_slave_promoted_by_hand(hands: Hands) -> None:
    """The seed's procedure, one command a step; the old master comes back as a slave."""
    assert {name: node["role"] for name, node in hands.nodes().items()} == {
        "namesrv-1": "namesrv",
        "broker-a-0": "master",
        "broker-a-1": "slave",
    }
    assert "proven" in hands.lab("hurt", "kill:master")
    assert hands.nodes()["broker-a-0"]["state"] == "dead"
    assert "proven" in hands.lab("promote", "broker-a-1")
    assert "proven" in hands.lab("heal")
    nodes = hands.nodes()
    assert (nodes["broker-a-0"]["role"], nodes["broker-a-1"]["role"]) == ("slave", "master")
    assert nodes["broker-a-1"]["epoch"] == 2


@pytest.mark.live
def test_commands_run_inside_hosts_and_mistakes_are_named(hands: Hands) -> None:
    """`lab exec` enters the host's network; unknown faults, hosts and ids get the nearest name or the list."""
    assert hands.nodes()["broker-a-0"]["address"].split(":")[0] in hands.lab("exec", "broker-a-0", "ip", "-br", "addr")
    assert "did you mean kill" in hands.lab("hurt", "kil:master", code=2)
    assert "broker-a-0" in hands.lab("exec", "broker-z-0", "true", code=2)
    assert "no open fault" in hands.lab("heal", "f9", code=2)
    assert "proven" in hands.lab("hurt", "partition:isolate-master")
    assert "open faults: f1" in hands.lab("status")
    assert "proven" in hands.lab("heal", "f1")
