"""Runs the lab's command as a user would, and gives what it says and leaves."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 280.0
EXIT = {"valid": 0, "invalid": 1, "unknown": 3}


@dataclass(frozen=True, slots=True)
class Judged:
    """One finished command."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def run(self) -> Path:
        """The folder of the newest run."""
        return (self.folder / "latest").resolve()

    @property
    def verdict(self) -> dict[str, Any]:
        """verdict.json."""
        found: dict[str, Any] = json.loads((self.run / "verdict.json").read_text())
        return found

    def record(self, checker: str) -> dict[str, Any]:
        """One checker's record."""
        return next(record for record in self.verdict["records"] if record["checker"].split()[0] == checker)

    def __str__(self) -> str:
        return f"exit {self.code}\n{self.out[-6000:]}\n{self.err[-3000:]}"


def lab(folder: Path, *arguments: str) -> Judged:
    """Run `lab ARGUMENTS --out FOLDER` to its end."""
    argv = [sys.executable, "-m", "lab", *arguments, "--out", str(folder)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return Judged(done.returncode, done.stdout, done.stderr, folder)
