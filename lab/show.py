"""What people see while a run goes on: one live line on a terminal, plain lines elsewhere; always on stderr."""

import contextlib
import sys
import time
from typing import Protocol, TextIO

import click


class Show(Protocol):
    """Where progress goes."""

    def line(self, text: str) -> None:
        """Something happened."""
        ...

    def progress(self, text: str) -> None:
        """How things stand now; replaces what this said before."""
        ...

    def close(self) -> None:
        """End the live line."""
        ...


class Silent:
    """Shows nothing."""

    def line(self, text: str) -> None:
        """Nothing."""

    def progress(self, text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Plain:
    """Lines with the seconds since the start; progress now and then."""

    EVERY_S = 5.0

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._start = time.monotonic()
        self._last = 0.0

    def line(self, text: str) -> None:
        """One line."""
        with contextlib.suppress(OSError):  # nobody reads any more (`lab run 2>&1 | head`): the run goes on
            click.echo(f"{time.monotonic() - self._start:6.1f} s  {text}", file=self._out)

    def progress(self, text: str) -> None:
        """One line every few seconds."""
        now = time.monotonic()
        if now - self._last >= self.EVERY_S:
            self._last = now
            self.line(text)

    def close(self) -> None:
        """Nothing to end."""


class Live:
    """A live line under the lines that stay (rich)."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.status import Status

        self._console = Console(stderr=True, highlight=False)
        self._status = Status("starting", console=self._console)
        self._status.start()
        self._start = time.monotonic()

    def line(self, text: str) -> None:
        """One line above the live one."""
        self._console.print(f"[dim]{time.monotonic() - self._start:6.1f} s[/dim]  {_plain(text)}")

    def progress(self, text: str) -> None:
        """Replace the live line."""
        self._status.update(f"{time.monotonic() - self._start:6.1f} s  {_plain(text)}")

    def close(self) -> None:
        """Remove the live line."""
        self._status.stop()


def show_for(out: TextIO | None = None) -> Show:
    """Live on a terminal, plain lines elsewhere."""
    return Live() if (out or sys.stderr).isatty() else Plain(out)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
