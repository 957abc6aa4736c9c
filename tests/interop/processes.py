"""Programs that interoperability tests start on loopback: each dies with the test run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

STOP_S = 30.0


def mortal(argv: Sequence[str]) -> list[str]:
    """The same command, killed by the kernel when this process dies, where setpriv is there to say so."""
    guard = shutil.which("setpriv")
    return [*([guard, "--pdeathsig", "KILL"] if guard else []), *argv]


class Program:
    """One node as a process; its words go to files in its folder."""

    def __init__(self, name: str, argv: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.folder = folder
        self._argv = list(argv)
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Start it, again if it was stopped."""
        assert self._process is None, f"{self.name} runs already"
        with (self.folder / "output.txt").open("ab") as output:
            self._process = subprocess.Popen(
                mortal(self._argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._env,
                cwd=self.folder,
            )

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not help in time."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def running(self) -> bool:
        """Whether it is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def words(self) -> str:
        """The end of what it wrote, for messages of tests that fail."""
        text = (self.folder / "output.txt").read_text(encoding="utf-8", errors="replace")
        return f"{self.name} wrote: {text[-3000:]}"
