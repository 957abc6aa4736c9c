"""What the programs record about themselves while they run, so that `mqshutdown` stops these processes and no others.

One file a process, `run/<program>-<pid>.json` below the home folder: `$ROCKETMQ_HOME`, else `~/.brokerlab`. A record
counts only if the process with that id was started at the recorded time by the recorded command.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Running", "command_line", "home_folder", "recorded", "running", "start_time"]


@dataclass(frozen=True, slots=True)
class Running:
    """One recorded process. `started` is in the kernel's clock ticks since boot."""

    program: str
    pid: int
    started: int
    command: list[str]
    home: str

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return start_time(self.pid) == self.started and command_line(self.pid) == self.command


def home_folder() -> Path:
    """Where records are kept."""
    home = os.environ.get("ROCKETMQ_HOME")
    return Path(home) if home else Path.home() / ".brokerlab"


def start_time(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot; None if there is none, or only its remains."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def command_line(pid: int) -> list[str]:
    """The arguments of a process; empty if there is none."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [part.decode(errors="replace") for part in raw.split(b"\0")[:-1]]


@contextlib.contextmanager
def recorded(program: str, home: Path | None = None) -> Iterator[None]:
    """Keep a record of this process while the block runs. Raises OSError if it cannot be written."""
    pid = os.getpid()
    mine = Running(program, pid, start_time(pid) or 0, command_line(pid), str(home) if home is not None else "")
    folder = home_folder() / "run"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{program}-{pid}.json"
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(asdict(mine)))
    fresh.replace(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def running(program: str) -> list[Running]:
    """The recorded processes of a program that still run, oldest first. Records of dead ones are removed."""
    found = []
    for path in sorted((home_folder() / "run").glob(f"{program}-*.json")):
        try:
            record = Running(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            continue
        if record.alive():
            found.append(record)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
    return sorted(found, key=lambda record: record.started)
