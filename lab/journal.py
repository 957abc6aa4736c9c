"""Journals: what one process of the lab saw, appended as it happens.

Each event is one `os.write` of a whole line *before* what it announces happens, so that a killed worker loses nothing
that reached the wire, and leaves at most one unfinished line behind. Times are nanoseconds of the machine's monotonic
clock since the run began; within one journal they strictly grow, so that sorting keeps the order of one process.
"""

import errno
import os
import time
from pathlib import Path

from lab.event import Event, encode_line, event


class Journal:
    """Appends events to one file. ``start_ns`` is the run's zero on the monotonic clock."""

    def __init__(self, path: Path, start_ns: int) -> None:
        self.path = path
        self._start = start_ns
        self._last = -1
        self._failed: OSError | None = None
        self.size = 0  # bytes written so far
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def now(self) -> int:
        """Nanoseconds since the run began."""
        return time.monotonic_ns() - self._start

    def monotonic(self) -> int:
        """The machine's monotonic clock."""
        return time.monotonic_ns()

    def write(self, process: int | str, kind: str, f: str, value: object, **extras: object) -> Event:
        """Append one event with the present time and return it.

        Raises OSError if the disk does not take it whole; from then on the journal takes nothing more, since what
        followed a torn line could not be told from it.
        """
        if self._failed is not None:
            raise self._failed
        self._last = max(self._last + 1, self.now())
        made = event(self._last, process, kind, f, value, **extras)
        line = encode_line(made) + b"\n"
        try:
            if os.write(self._fd, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        except OSError as error:
            self._failed = error
            raise
        self.size += len(line)
        return made

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
