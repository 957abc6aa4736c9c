"""The text logs in Porcupine's test data: etcd registers as Jepsen logged them, and key-value stores as EDN lines.

A register line is `INFO  jepsen.util - PROCESS :TYPE :F VALUE`, the parts after the dash set off by tabs; lines of
other loggers are skipped. Where a `cas` ends `:fail` with its argument, the server had answered "compare failed".
"""

from __future__ import annotations

import re
from typing import Final

from checkers.linearizability.formats import edn, jepsen
from checkers.linearizability.formats.recording import TYPE_NUMBER, GrowingBlock, Recorder, Recording
from checkers.linearizability.formats.source import Source

_LOGGED: Final = re.compile(r"[A-Z]+\s+[\w.$-]+\s+-\s")
_EVENT: Final = re.compile(r"INFO\s+jepsen\.util\s+-\s+(\S+)\s+:(\w+)\s+:(\S+)(?:\s+(.*))?\Z")
NUMBER_DIGITS: Final = 18


def is_register_log(line: str) -> bool:
    """Tell whether a line is one of a log."""
    return _LOGGED.match(line) is not None


def read(source: Source) -> Recording:
    """Read a log. Raises `FormatError` at the first line that is damaged."""
    if source.head(1).startswith((b"{", b"[", b";")):
        return jepsen.read(source)
    recorder = Recorder(source)
    block = GrowingBlock(recorder)
    for number, line in source.lines():
        if not line.strip():
            continue
        if not is_register_log(line):
            raise source.error(number, "not a line of a log like `INFO  jepsen.util - 0 :invoke :read nil`")
        found = _EVENT.match(line)
        if found is None:
            if "jepsen.util" in line.split("-")[0]:
                raise source.error(number, "this log line has no process, :type and :f: it was cut short")
            continue
        recorder.events += 1
        _add(source, block, number, found)
    block.hand_over()
    return recorder.recording()


def _add(source: Source, block: GrowingBlock, number: int, found: re.Match[str]) -> None:
    process, kind, f, text = found.groups()
    if process == ":nemesis":
        return
    if not process.isascii() or not process.isdigit() or len(process) > NUMBER_DIGITS:
        raise source.error(number, f"the process is a whole number or :nemesis, not {process[:40]!r}")
    if kind not in TYPE_NUMBER:
        raise source.error(number, f"the type is :invoke, :ok, :fail or :info, not ':{kind[:40]}'")
    if text is None:
        raise source.error(number, "the line ends before its value: it was cut short")
    try:
        value = edn.parse(text)
    except ValueError as error:
        raise source.error(number, f"the value {text[:60]!r} is no EDN ({error})") from None
    unknown = kind in ("fail", "info") and value.__class__ is edn.Keyword
    value = None if unknown else edn.plain(value)
    block.add(number, int(process), TYPE_NUMBER[kind], f, value, number - 1, error=unknown)
