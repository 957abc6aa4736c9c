"""Regular JSON lines straight to columns, by the compiled scanner where it was built; lines.c says what is regular."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from checkers.linearizability.formats.values import Cells
from checkers.linearizability.operations import Byte, Int


@dataclass(frozen=True, slots=True, eq=False)
class Scanned:
    """The client events of a block of lines as columns, a row each; `events` counts those of the nemesis too.

    `place` is the row's line in the block, from 0; `function` a number of `names`. `errors` and `nothing` are the rows
    that carry an error and whose value is null. A value is in `first`, or a pair in `first` and `second`. `clock`
    tells whether any time is another number than its index.
    """

    events: int
    place: Int
    process: Int
    time: Int
    type: Byte
    function: Byte
    names: tuple[str, ...]
    clock: bool
    errors: list[int]
    nothing: list[int]
    first: Cells
    second: Cells | None


Scan: TypeAlias = Callable[[bytes, int, bool], "Scanned | None"]
"""Takes (block of lines, index that comes first, whether unknown members are ignored); None where anything is odd."""


def _cells(found: bytes | list[str | None]) -> Cells:
    return np.frombuffer(found, np.int64) if isinstance(found, bytes) else found


def _load() -> Scan | None:
    try:
        compiled: Any = importlib.import_module("checkers.linearizability.formats._lines")
    except ImportError:
        return None

    def scan(block: bytes, first: int, unknown_members: bool) -> Scanned | None:
        found = compiled.scan(block, first, unknown_members)
        if found is None:
            return None
        events, rows, *columns, names, clock, errors, nothing, one, other = found
        place, process, time, kind, function = columns
        return Scanned(
            events=events,
            place=np.frombuffer(place, np.int64, rows),
            process=np.frombuffer(process, np.int64, rows),
            time=np.frombuffer(time, np.int64, rows),
            type=np.frombuffer(kind, np.uint8, rows),
            function=np.frombuffer(function, np.uint8, rows),
            names=names, clock=clock, errors=errors, nothing=nothing,
            first=_cells(one),
            second=None if other is None else _cells(other),
        )  # fmt: skip

    return scan


SCAN: Final = _load()
"""The scanner, None where it was not built: the decoder then reads everything, slower."""
