"""A cgroup for each node: freeze it whole, kill it whole, children and all (cgroup version 2 core features)."""

from __future__ import annotations

import time
from pathlib import Path

REMOVE_WAIT_S = 0.3
"""How long to wait for the kernel to let go of a killed cgroup's processes."""


def find_root() -> Path | None:
    """The folder in which this process may make cgroups of version 2, or None if the machine has none for us."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mountpoint, kind, *_ = line.split()
        if kind == "cgroup2":
            own = next((path for path in Path("/proc/self/cgroup").read_text().splitlines() if path[:3] == "0::"), "")
            folder = Path(mountpoint, own[3:].lstrip("/"))
            if (folder / "cgroup.procs").exists():
                return folder
    return None


class Cgroup:
    """One folder of the version 2 tree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> None:
        """Make the folder. Raises OSError if the machine does not allow it."""
        self.folder.mkdir(exist_ok=True)

    def add(self, pid: int) -> None:
        """Move a process in; its future children are born inside."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    def pids(self) -> list[int]:
        """Processes inside this folder itself."""
        return [int(pid) for pid in (self.folder / "cgroup.procs").read_text().split()]

    def freeze(self, frozen: bool) -> None:
        """Stop all threads inside, or let them go on; takes effect in the background, see ``frozen``."""
        (self.folder / "cgroup.freeze").write_text("1" if frozen else "0")

    def frozen(self) -> bool:
        """Whether the kernel reports that every thread inside stands still."""
        return "frozen 1" in (self.folder / "cgroup.events").read_text()

    def starved_ns(self) -> int | None:
        """For how long so far something inside was ready to run and nothing inside had a CPU; None if the kernel does
        not tell (`cpu.pressure`, line *full*: pressure stall information)."""
        try:
            lines = (self.folder / "cpu.pressure").read_text().splitlines()
        except OSError:
            return None
        full = next((line for line in lines if line.startswith("full ")), "")
        total = full.rpartition("total=")[2]
        return int(total) * 1000 if total.isdecimal() else None

    def kill(self) -> None:
        """SIGKILL everything inside, frozen or not."""
        (self.folder / "cgroup.kill").write_text("1")

    def remove(self, wait_s: float = REMOVE_WAIT_S) -> bool:
        """Remove the folder once it is empty; False if it still is in use after ``wait_s``. Blocking."""
        deadline = time.monotonic() + wait_s
        while True:
            try:
                self.folder.rmdir()
                return True
            except FileNotFoundError:
                return True
            except OSError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.002)  # a killed process leaves its cgroup a moment after it was reaped
