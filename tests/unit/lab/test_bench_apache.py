"""Against whom throughput is held: the release as measured on this machine, or else as recorded elsewhere."""

import json
from pathlib import Path
from typing import Any

import pytest

from lab.bench.apache import RECORDED, Rivals

HERE: dict[str, object] = {"cpus": 2, "memory_gb": 25.3, "kernel": "6.1"}
NAME = "SYNC_MASTER/SYNC_FLUSH"


def _measured(folder: Path, machine: dict[str, object]) -> Path:
    samples = {
        f"{NAME}, Python client, 1 client": {"ours": [900.0], "RocketMQ 5.3.3": [400.0, 450.0, 9_000.0]},
        f"{NAME}, Java client 5.3.3, 1 client": {"ours": [500.0], "RocketMQ 5.3.3": [340.0]},
        f"{NAME}, Python client, 16 clients": {"ours": [6_000.0]},
        f"{NAME}, memory of all nodes": {"ours": [90.0], "RocketMQ 5.3.3": [680.0]},
    }
    value: dict[str, Any] = {"machine": {**machine, "release": "RocketMQ 5.3.3"}, "samples": samples}
    path = folder / "bench-rocketmq.json"
    path.write_text(json.dumps(value))
    return path


def test_measured_here_the_better_of_its_clients_counts_by_its_median(tmp_path: Path) -> None:
    rival = Rivals(HERE, _measured(tmp_path, HERE)).of("SYNC_MASTER", "SYNC_FLUSH", 1)
    assert rival.acks_per_s == 450.0
    assert rival.words.startswith("RocketMQ 5.3.3, Python client, on this machine")
    assert "1,100" in rival.words  # what was recorded elsewhere is still told


@pytest.mark.parametrize(
    ("role", "flush", "clients"), [("SYNC_MASTER", "SYNC_FLUSH", 16), ("DLEDGER", "SYNC_FLUSH", 1)]
)
def test_what_was_not_measured_here_is_as_recorded(tmp_path: Path, role: str, flush: str, clients: int) -> None:
    rival = Rivals(HERE, _measured(tmp_path, HERE)).of(role, flush, clients)
    assert rival.acks_per_s == RECORDED[role, clients]
    assert "another machine" in rival.words


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"machine": null}', '{"machine": {"cpus": 2}}', "\udcff"])
def test_a_file_that_says_nothing_counts_for_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bench-rocketmq.json"
    path.write_text(text, errors="surrogateescape")
    assert Rivals(HERE, path).of("ASYNC_MASTER", "ASYNC_FLUSH", 64).acks_per_s == 21_900.0


def test_another_machines_measurements_do_not_count(tmp_path: Path) -> None:
    path = _measured(tmp_path, {**HERE, "cpus": 64})
    assert Rivals(HERE, path).of("SYNC_MASTER", "SYNC_FLUSH", 1).acks_per_s == 1_100.0
    assert Rivals(HERE, tmp_path / "absent.json").of("SYNC_MASTER", "SYNC_FLUSH", 1).acks_per_s == 1_100.0
