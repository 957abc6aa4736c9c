"""Without the compiled core everything works, and says that it is slower."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
sys.modules["checkers.linearizability._core"] = None  # as if it had not been built
from checkers.linearizability.compiled import NOTE, core
from checkers.linearizability.decision import decide
from checkers.linearizability.operations import columns
assert core is None and "compiled core" in NOTE
queue = columns([0, 2], [1, 3], [5, 6], [8, 8])
register = columns([0, 2, 4], [1, 3, 5], [1, 2, 0], [8, 8, 9], [0, 9, 0])
for model, ops in (("fifo-queue", queue), ("cas-register", register)):
    decision = decide(model, ops)
    assert (decision.verdict, decision.engine) == ("valid", "fallback")
try:
    decide("fifo-queue", queue, engine="core")
except RuntimeError as error:
    assert str(error) == NOTE
else:
    raise SystemExit("a core that is not there was used")
"""


def test_the_engine_works_without_its_core() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
