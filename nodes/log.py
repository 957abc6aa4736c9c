"""Structured events of one node: JSON lines for machines, one readable line for people.

Every event is a single `write` of a whole line to a file opened for appending, so a node that is killed leaves at most
its last line unfinished, and several writers do not interleave. Logs are observations and not state: a log that cannot
be written is counted and never stops the node.
"""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import TextIO

import msgspec

from nodes.clock import EventClock, SystemClock, time_of_day

__all__ = ["EventLog"]


def _plain(value: object) -> object:
    """Turn what msgspec does not know into text; an event must never fail because of a field."""
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    return str(value)


def _text(value: object) -> str:
    """One field value for the readable line, quoted when it would be ambiguous."""
    if isinstance(value, Enum):
        value = value.value
    elif isinstance(value, BaseException):
        value = _plain(value)
    text = str(value)
    if text == "" or any(mark in text for mark in ' ="\n\r\t'):
        return msgspec.json.encode(text).decode()
    return text


class EventLog:
    """Writes a node's events.

    `node` names the writer in every line. `path` receives JSON lines
    `{"t_ns": monotonic, "wall_ms": ..., "node": ..., "event": ..., fields...}`; `text` receives
    `HH:MM:SS.mmm node event key=value ...`. Either may be absent. `debug` turns on `debug()` events.
    """

    __slots__ = ("_clock", "_encoder", "_fd", "_text", "debug_on", "lost", "node")

    def __init__(
        self,
        node: str,
        path: Path | None = None,
        *,
        text: TextIO | None = None,
        debug: bool = False,
        clock: EventClock | None = None,
    ) -> None:
        self.node = node
        self.debug_on = debug
        self.lost = 0
        """Lines that could not be written."""
        self._clock: EventClock = clock if clock is not None else SystemClock()
        self._text = text
        self._encoder = msgspec.json.Encoder(enc_hook=_plain)
        self._fd: int | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def event(self, name: str, /, **fields: object) -> None:
        """Record that something of interest happened."""
        self._write(name, None, fields)

    def warning(self, name: str, /, **fields: object) -> None:
        """Record something an operator should look at."""
        self._write(name, "warning", fields)

    def error(self, name: str, /, **fields: object) -> None:
        """Record a failure of this node or of its machine."""
        self._write(name, "error", fields)

    def debug(self, name: str, /, **fields: object) -> None:
        """Record a detail; dropped unless the log was opened with `debug`."""
        if self.debug_on:
            self._write(name, "debug", fields)

    def close(self) -> None:
        """Close the file; later events go to the text only."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _write(self, name: str, level: str | None, fields: dict[str, object]) -> None:
        wall_ms = self._clock.now_ms()
        if self._fd is not None:
            record: dict[str, object] = {"t_ns": self._clock.monotonic_ns(), "wall_ms": wall_ms, "node": self.node}
            record["event"] = name
            if level is not None:
                record["level"] = level
            record.update(fields)
            try:
                os.write(self._fd, self._encoder.encode(record) + b"\n")
            except (OSError, msgspec.MsgspecError, ValueError, OverflowError):
                self.lost += 1
        if self._text is not None:
            mark = "" if level is None else f"{level.upper()} "
            words = "".join(f" {key}={_text(value)}" for key, value in fields.items())
            try:
                self._text.write(f"{time_of_day(wall_ms)} {self.node} {mark}{name}{words}\n")
                self._text.flush()
            except (OSError, ValueError):
                self.lost += 1
