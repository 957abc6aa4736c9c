"""A disk that is full: one message, exit 4, and nothing left running."""

import subprocess
import sys
from pathlib import Path

import pytest

from lab.leaks import traces
from tests.live.judged import PATIENCE_S, ROOT

SMALL = "mount -t tmpfs -o size=2m small $0 && exec $@"
"""In a mount namespace of its own, which takes the small disk along when it ends."""


@pytest.mark.live("private-mounts")
def test_a_run_whose_folder_is_full_says_so_and_judges_nothing(tmp_path: Path) -> None:
    """Neither a verdict over half a history nor a traceback."""
    runs = tmp_path / "runs"
    runs.mkdir()
    before = traces(runs)
    lab = [sys.executable, "-m", "lab", "run", "--time-limit", "10s", "--seed", "5", "--out", str(runs)]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", SMALL, str(runs), *lab],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    assert "cannot be written" in done.stderr
    assert "No space left on device; nothing was judged" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert traces(runs).more_than(before) == []
