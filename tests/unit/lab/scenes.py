"""What the actors of a test act in: a plan, a journal in a folder, and nobody else."""

from pathlib import Path
from typing import Any, Final

from lab.journal import Journal
from lab.planfile import build_plan
from lab.workloads.actor import Scene

THREADS: Final = 8


def scene_in(folder: Path, load: dict[str, Any], **tables: Any) -> Scene:
    """A scene of the run 0123abcd whose journal is ``journal.jsonl`` in this folder; nobody listens at its address."""
    return Scene(
        plan=build_plan({"load": load, **tables}, "plan"),
        run="0123abcd",
        seed=1,
        threads=THREADS,
        name_servers=("127.0.0.1:1",),
        address="127.0.0.1",
        journal=Journal(folder / "journal.jsonl", 0),
    )
