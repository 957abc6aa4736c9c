"""Lines of the nodes' own logs that must not be there are found where each system writes."""

import json
from pathlib import Path

import pytest

from lab.journal import Journal
from lab.record import LabRecord
from lab.rundir import RunDir
from lab.systems.python import PythonSystem
from lab.systems.rocketmq.system import RocketMQSystem
from lab.systems.system import System

NODE = "broker-a-0"
OUT_OF_MEMORY = "ERROR ReputMessageService - caught java.lang.OutOfMemoryError: Java heap space"


@pytest.mark.parametrize(
    ("system", "name", "line", "pattern"),
    [
        (RocketMQSystem, "stderr", "java.lang.OutOfMemoryError: Java heap space", "out-of-memory"),
        (RocketMQSystem, "broker-release.log", OUT_OF_MEMORY, "out-of-memory"),
        (RocketMQSystem, "home/logs/rocketmqlogs/store.log", OUT_OF_MEMORY, "out-of-memory"),
        (PythonSystem, "stderr", "Traceback (most recent call last):", "traceback"),
        (PythonSystem, "log.jsonl", '{"event":"unhandled-exception"}', "unhandled"),
    ],
)
def test_a_line_that_must_not_be_there_is_found(
    system: type[System], name: str, line: str, pattern: str, tmp_path: Path
) -> None:
    """A release catches in its service threads what then stands in its own log alone."""
    folder = RunDir(tmp_path / "run")
    for path, text in ((folder.node(NODE) / name, f"before\n{line}\n"), (folder.node(NODE) / "store" / name, line)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    journal = Journal(tmp_path / "lab.jsonl", 0)
    LabRecord(journal).patterns(folder, [NODE, "broker-a-1"], system.log_patterns, system.log_files)
    journal.close()
    lines = (tmp_path / "lab.jsonl").read_text(encoding="utf-8").splitlines()
    expected = {"node": NODE, "pattern": pattern, "line": line, "severity": "violation"}
    assert [json.loads(one)["value"] for one in lines] == [expected]
