"""Checkers judge files and nothing else: no sockets, no threads, no chance, and none of the other packages."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import checkers
from checkers.bench import judge_file, write_synthetic
from checkers.bench_all import judge_run, write_run
from checkers.compose import REQUIRED, REQUIRED_DLEDGER

FORBIDDEN = {"asyncio", "socket", "random", "threading", "subprocess", "secrets", "nodes", "nemesis", "lab"}
MODULES = sorted(Path(checkers.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_module_imports_nothing_that_acts(path: Path) -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert not imported & FORBIDDEN


def test_the_benchmark_history_is_valid_and_measured(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl.zst"
    write_synthetic(path, 5000)
    judged = judge_file(path, 5000)
    assert set(judged.verdicts.values()) == {"valid"}
    assert judged.events > 10_000
    assert set(judged.to_json()) >= {"total_s", "peak_mb", "met", "goal_s", "goal_mb"}


def test_the_benchmark_of_all_checkers_is_a_valid_raft_run(tmp_path: Path) -> None:
    write_run(tmp_path, 5000)
    judged = judge_run(tmp_path, 5000)
    assert judged.verdict == "valid", judged.verdicts
    assert {*REQUIRED, *REQUIRED_DLEDGER, "C17", "C18"} <= set(judged.verdicts)
    assert judged.records > 3 * 3900
    assert set(judged.to_json()) >= {"total_s", "cpu_s", "peak_mb", "met", "goal_s", "goal_mb", "checkers_s"}
