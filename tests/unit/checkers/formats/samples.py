"""Small histories as text, for the tests of the readers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checkers.linearizability.formats.read import Imported, Options, read_source
from checkers.linearizability.formats.source import Limits, Source

GOLDEN = Path(__file__).parents[3] / "golden" / "linearizability"

LETTER = {">": "invoke", "<": "ok", "x": "fail", "?": "info"}


def line(index: int, process: Any, kind: str, f: str, value: Any = None, **extra: Any) -> str:
    """One line of the JSON-lines format."""
    event = {"index": index, "process": process, "type": kind, "f": f, "value": value, "time": index, **extra}
    return json.dumps(event) + "\n"


def history(*events: tuple[Any, str, str, Any]) -> str:
    """Lines of (process, one of > < x ?, f, value)."""
    return "".join(
        line(index, process, LETTER[kind], f, value) for index, (process, kind, f, value) in enumerate(events)
    )


def imported(
    text: str | bytes, model: str | None, *, piece: int = 1 << 18, limits: Limits | None = None, **options: Any
) -> Imported:
    """Read a text as a history, in pieces of some size."""
    data = text.encode() if isinstance(text, str) else text

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(data), piece):
            yield data[start : start + piece]

    return read_source(Source.of(pieces(), "h", limits), model, Options(**options))
