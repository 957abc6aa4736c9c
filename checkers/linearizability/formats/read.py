"""One door to histories of any format: which it is is told by `--format`, or by its first bytes."""

from __future__ import annotations

import codecs
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from checkers.linearizability.formats import jepsen, json_lines, lab_columns, lab_history, porcupine
from checkers.linearizability.formats.encode import encode
from checkers.linearizability.formats.recording import RecordedOperations, Recording, pair
from checkers.linearizability.formats.shapes import FailedCas, shape_of
from checkers.linearizability.formats.source import FormatError, Limits, Source
from checkers.linearizability.operations import Operation, Operations

Format = Literal["jsonl", "edn", "porcupine", "lab"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)

LIMITS: Final = Limits()

COLUMNS_FROM: Final = 20_000
"""Smaller histories are taken as objects, which every check of every model sees one by one."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a file is read. None: by its first bytes, and as the format usually means it."""

    format: Format | None = None
    failed_cas: FailedCas | None = None
    unknown_fields: bool = False
    limits: Limits = LIMITS


@dataclass(frozen=True, slots=True, eq=False)
class Imported:
    """A history that was read: its operations in the order of their invocations, and what the file was.

    `columns` holds them for the engines where the model has an encoding at speed, else None; `parts` where they are of
    several objects, the columns of each by its key.
    """

    path: str
    format: Format
    operations: Sequence[Operation]
    columns: Operations | None
    events: int
    parts: Mapping[str, Operations] | None = None


def read_operations(path: Path | str, model: str | None, options: Options = Options()) -> Imported:
    """Read a history for a built-in model, or for a user's own (None).

    Raises `FormatError` with the line for anything that is not as the format and the model say, `OSError`.
    """
    return read_source(Source.open(path, options.limits), model, options)


def read_source(source: Source, model: str | None, options: Options = Options()) -> Imported:
    """Read a history from an open source."""
    kind = options.format or detect(source)
    if kind not in FORMATS:
        raise ValueError(f"unknown format {kind!r}; there are {', '.join(FORMATS)}")
    if not source.head().strip():
        raise source.error(0, "holds no events: the file is empty")
    with _unhindered():
        if kind == "lab":
            return _lab(source, model)
        readers: dict[str, Callable[[Source], Recording]] = {"edn": jepsen.read, "porcupine": porcupine.read}
        if kind in readers:
            recording = readers[kind](source)
        else:
            recording = json_lines.read(source, unknown_fields=options.unknown_fields)
        failed = options.failed_cas or ("observed" if kind == "porcupine" else "dropped")
        pairs = pair(recording)
        operations = RecordedOperations(recording, pairs, shape_of(model, failed))
        columns = encode(operations, model) if len(pairs) >= COLUMNS_FROM else None
        found: Sequence[Operation] = operations if columns is not None else list(operations)
        return Imported(str(source.path), kind, found, columns, recording.events)


def _lab(source: Source, model: str | None) -> Imported:
    if model not in lab_history.MODELS:
        models = " or ".join(lab_history.MODELS)
        raise source.error(
            0,
            f"a history of the lab is judged as {models}, not as {model or 'a model of yours'}; without --model all "
            "checkers of the lab judge it",
        )
    again = source.again()
    quick = lab_columns.read(again, model) if again is not None else None
    if quick is not None and len(quick) >= COLUMNS_FROM:
        return Imported(str(source.path), "lab", quick, None, len(quick), quick.parts())
    operations = sorted(lab_history.read(source, model), key=lambda operation: operation.invoked)
    return Imported(str(source.path), "lab", operations, None, len(operations))


@contextmanager
def _unhindered() -> Iterator[None]:
    """Millions of fresh objects without cycles: the cycle collector would only walk them again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def detect(source: Source) -> Format:
    """Tell the format by the first bytes. Raises `FormatError` where they are of none."""
    head = source.head()
    start = head.lstrip()
    if not start:
        raise source.error(0, "holds no events: the file is empty")
    first = start.split(b"\n", 1)[0]
    if start.startswith(b"[") and start[1:].lstrip().startswith((b'{"', b"]")):
        raise source.error(1, "a JSON array: write one event a line, without brackets around and commas between them")
    if start.startswith(b"{") and start[1:].lstrip().startswith(b'"'):
        return "lab" if b'"f":"meta"' in first.replace(b" ", b"") and b'"lab"' in first else "jsonl"
    if start[:1] in b"{[(;#":
        return "edn"
    if porcupine.is_register_log(first.decode(errors="replace")):
        return "porcupine"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        raise source.error(
            1, "not UTF-8 text: a history is JSON lines, EDN or a log, plain or in zstd or gzip"
        ) from None
    raise source.error(
        1, f"begins like none of the formats {', '.join(FORMATS)}; --format says which one it is meant to be"
    )


__all__ = ["FORMATS", "Format", "FormatError", "Imported", "Options", "read_operations", "read_source"]
