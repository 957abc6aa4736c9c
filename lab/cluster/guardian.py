"""A tiny process that outlives a killed lab by a moment, to kill what the lab could not.

The death signal reaches the processes that the lab started, but not *their* children (a shell wrapper's Java, say).
The guardian, a shell in its own session, holds one end of a pipe. When the lab is gone, however it went, the pipe
ends, and the guardian kills every process group and cgroup that it was told of, removes the cgroups, and ends.
"""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

CLOSE_WAIT_S = 2.0

_SCRIPT = r"""
groups=
while read -r verb pid; do
  kept=
  for group in $groups; do [ "$group" = "$pid" ] || kept="$kept $group"; done
  groups=$kept
  [ "$verb" = add ] && groups="$groups $pid"
done
for group in $groups; do kill -s KILL -- "-$group"; done
[ -n "$1" ] && [ -e "$1/cgroup.kill" ] || exit 0
echo 1 > "$1/cgroup.kill"
for try in 1 2 3 4 5 6 7 8 9 10; do
  rmdir "$1"/*/
  rmdir "$1" && break
  sleep 0.02
done
"""


class Guardian:
    """Watches over process groups from outside the lab's process."""

    def __init__(self, cgroup: Path | None) -> None:
        self._shell = subprocess.Popen(
            ["sh", "-c", _SCRIPT, "guardian", str(cgroup or "")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C at the terminal is for the lab, not for it
            cwd="/",
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._shell.pid

    def add(self, group: int) -> None:
        """Kill this process group when the lab is gone."""
        self._tell("add", group)

    def drop(self, group: int) -> None:
        """Forget a process group: it has ended, and its number may soon mean somebody else."""
        self._tell("drop", group)

    def close(self) -> None:
        """End the guardian; what it was told of and not told to forget is killed. Blocking, a few ms."""
        assert self._shell.stdin is not None
        with contextlib.suppress(OSError):
            self._shell.stdin.close()
        try:
            self._shell.wait(CLOSE_WAIT_S)
        except subprocess.TimeoutExpired:
            self._shell.kill()
            self._shell.wait()

    def _tell(self, verb: str, group: int) -> None:
        assert self._shell.stdin is not None
        with contextlib.suppress(OSError):  # somebody killed it: the other guards remain
            self._shell.stdin.write(f"{verb} {group}\n".encode())
            self._shell.stdin.flush()
