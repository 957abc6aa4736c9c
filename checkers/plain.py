"""Plain lines of histories and dumps straight to rows of numbers, by the compiled reader where it was built.

checkers/core says what is plain. Whatever is not is left where it stands, and the typed decoder takes it; without the
compiled reader the decoder takes everything, slower and with the same result.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Final, Protocol, TypeAlias

Tables: TypeAlias = tuple[Any, ...]
"""What plain events are added to, in the order of `state` in checkers/core/events.c."""


class Plain(Protocol):
    """The compiled reader. Both take the plain lines of a block from byte `at` on, and return where they stopped."""

    def take_events(self, block: bytes, at: int, count: int, time: int, tables: Tables, /) -> tuple[int, int, int]:
        """Take events into a builder's tables; `count` is the index that comes next, `time` that of the last event.

        Returns (at, count, time) behind the last one taken.
        """
        ...

    def take_records(
        self,
        block: bytes,
        at: int,
        rows: bytearray,
        queues: dict[Any, int],
        names: list[str],
        values: Mapping[Any, int],
        /,
    ) -> int:
        """Append a row of nine 64-bit numbers for each record of a dump; new queues get numbers, new values do not."""
        ...


def _load() -> Plain | None:
    try:
        compiled: Any = importlib.import_module("checkers._core")
    except ImportError:
        return None
    found: Plain = compiled
    return found


PLAIN: Final = _load()
"""The compiled reader, None where it was not built."""
