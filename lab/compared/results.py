"""What came of each run of the comparison, kept in a file so that a long table can be made in many sittings."""

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from checkers.verdict import Verdict
from lab.commands import carry_out, plan_of
from lab.compared.cells import ROOT, Cell
from lab.errors import LabError
from lab.show import Show

NOT_RUN: Final = "not run"
"""The verdict of a run that could not be: its reason says why."""


@dataclass(frozen=True, slots=True)
class Result:
    """One run of one cell. RTO, consumer RTO and RPO are the rows of the verdict's fault, None if there was none."""

    cell: str
    turn: int  # of how many, from 0; each has a seed of its own
    seed: int
    verdict: str
    why: tuple[str, ...]
    promise: str
    versions: Mapping[str, str]
    began: str
    took_s: float
    commit: str
    load: float  # of the machine in the minute before
    rto: Mapping[str, Any] | None = None
    consumer_rto: Mapping[str, Any] | None = None
    rpo: Mapping[str, Any] | None = None

    @property
    def ran(self) -> bool:
        """Whether there is a verdict; what could not run is tried again."""
        return self.verdict != NOT_RUN


def run_cell(cell: Cell, turn: int, out: Path, show: Show | None = None) -> Result:
    """Run a cell with the plan's seed plus ``turn``; what cannot run becomes a result that says why."""
    base = plan_of(ROOT / cell.plan, cell.options)
    seed = (base.seed or 0) + turn
    began = time.monotonic()
    found = Result(
        cell=cell.name,
        turn=turn,
        seed=seed,
        verdict=NOT_RUN,
        why=(),
        promise="",
        versions={},
        began=datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        took_s=0.0,
        commit=commit(),
        load=round(os.getloadavg()[0], 1),
    )
    try:
        done = carry_out(plan_of(ROOT / cell.plan, replace(cell.options, seed=seed)), out, show=show)
    except LabError as error:
        return replace(found, why=(str(error),), took_s=round(time.monotonic() - began, 1))
    found = replace(found, versions=dict(done.plan.versions), took_s=round(time.monotonic() - began, 1))
    return told(found, done.verdict)


def told(found: Result, verdict: Verdict) -> Result:
    """The result with what the verdict says, and what it says of its one fault."""
    fault: Mapping[str, Any] = verdict.faults[0] if verdict.faults else {}
    return replace(
        found,
        verdict=verdict.valid.word,
        why=tuple(verdict.why),
        promise=verdict.promise,
        rto=fault.get("rto"),
        consumer_rto=fault.get("consumer rto"),
        rpo=fault.get("rpo"),
    )


def read_results(path: Path) -> tuple[Result, ...]:
    """All results so far; none if the file is not there. Raises LabError for a file that is no such file."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["results"]
        return tuple(Result(**{**row, "why": tuple(row["why"])}) for row in rows)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LabError(f"{path} holds no results of this comparison ({error}): move it away to begin anew") from None


def write_results(path: Path, results: Sequence[Result], machine: Mapping[str, object]) -> None:
    """All results, in one step: who interrupts a long comparison loses one run at most."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    rows = {"machine": dict(machine), "results": [asdict(one) for one in results]}
    beside.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(path)


def commit() -> str:
    """The commit of this checkout, with a plus if its code differs from it; unknown outside a checkout."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "*.py", "*.toml")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}+" if changed else head


def _git(*words: str) -> str:
    argv = ["git", "-C", str(ROOT), *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
