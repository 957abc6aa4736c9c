"""The values of a recording as columns, as long as they are regular: numbers, strings, or pairs of these.

A block of values is turned into numbers while it is still in the processor's cache; a million small objects scattered
over the memory would cost more than decoding them did. What is irregular is kept as it came.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeAlias

import numpy as np

from checkers.linearizability.operations import NULL, Int

_NONE = type(None)

Cells: TypeAlias = "Int | list[str | None]"
"""A column of a block: whole numbers, `NULL` where there is none, or strings."""


def _numbering() -> dict[str | None, int]:
    """A table that gives each new string the next number; None is `NULL`."""
    return defaultdict(count().__next__, {None: NULL})


@dataclass(slots=True)
class Column:
    """Values that are all whole numbers (`numbers`), all strings (`texts`), or anything (`plain`); None in each."""

    kind: str = ""
    _parts: list[Int] = field(default_factory=list)
    _names: dict[str | None, int] = field(default_factory=_numbering)
    _plain: list[Any] = field(default_factory=list)
    _ids: Int | None = None
    _listed: list[str] | None = None

    def add(self, values: Sequence[Any], kinds: set[type] | None = None) -> None:
        """Append values; `kinds` are their types, if they are known."""
        if self.kind != "plain":
            kinds = (set(map(type, values)) if kinds is None else kinds) - {_NONE}
            kind = "numbers" if kinds == {int} else "texts" if kinds == {str} else "plain" if kinds else self.kind
            if self.kind in ("", kind) and kind != "plain" and self._encoded(kind, values):
                self.kind = kind
                return
            self._plain = self.tolist()
            self._parts, self.kind = [], "plain"
        self._plain.extend(values)

    def extend(self, cells: Cells) -> None:
        """Append cells."""
        if isinstance(cells, list):
            self.add(cells, {str})
        else:
            some = bool((cells != NULL).any())
            if self.kind == "plain" or (self.kind == "texts" and some):
                self.add([None if number == NULL else number for number in cells.tolist()])
            else:
                self.kind = self.kind or ("numbers" if some else "")
                self._parts.append(cells)
                self._ids = self._listed = None

    def _encoded(self, kind: str, values: Sequence[Any]) -> bool:
        try:
            if kind == "texts":
                found = list(map(self._names.__getitem__, values))
            elif NULL in values:
                return False
            else:
                found = [NULL if value is None else value for value in values]
            self._parts.append(np.array(found, dtype=np.int64))
            self._ids = self._listed = None
        except OverflowError:
            return False
        return True

    @property
    def ids(self) -> Int:
        """Return the numbers, `NULL` for None; for texts, their places in `names`."""
        if self._ids is None:
            self._ids = np.concatenate(self._parts) if self._parts else np.zeros(0, dtype=np.int64)
            self._parts = [self._ids]
        return self._ids

    @property
    def names(self) -> list[str] | None:
        """Return the strings that the ids stand for, None for numbers."""
        if self.kind != "texts":
            return None
        if self._listed is None:
            self._listed = [name for name in self._names if name is not None]
        return self._listed

    def __len__(self) -> int:
        return len(self._plain) if self.kind == "plain" else len(self.ids)

    def __getitem__(self, place: int) -> Any:
        if self.kind == "plain":
            return self._plain[place]
        number = int(self.ids[place])
        if number == NULL:
            return None
        names = self.names
        return number if names is None else names[number]

    def tolist(self) -> list[Any]:
        """Return all values."""
        if self.kind == "plain":
            return self._plain
        names = self.names
        if names is None:
            return [None if number == NULL else number for number in self.ids.tolist()]
        return [None if number == NULL else names[number] for number in self.ids.tolist()]


@dataclass(slots=True)
class Values:
    """All values of a recording: one column, or two where each value is a pair or None."""

    count: int = 0
    pairs: bool = False
    one: Column = field(default_factory=Column)
    first: Column = field(default_factory=Column)
    second: Column = field(default_factory=Column)
    nothing: set[int] = field(default_factory=set)

    def add(self, values: Sequence[Any]) -> None:
        """Append the values of a block."""
        kinds = set(map(type, values))
        if (self.pairs or not self.count) and list in kinds and self._paired(values, kinds):
            self.pairs = True
        else:
            if self.pairs:
                self.one.add(self.tolist())
                self.pairs = False
                self.first, self.second = Column(), Column()
            self.one.add(values, kinds)
        self.count += len(values)

    def extend(self, rows: int, first: Cells, second: Cells | None, nothing: Sequence[int]) -> None:
        """Append a block of values as cells, in pairs where there is a `second`; the places in `nothing` are None."""
        pairs = second is not None or (self.pairs and len(nothing) == rows)
        if pairs and (self.pairs or not self.count):
            self.pairs = True
            self.nothing.update(self.count + place for place in nothing)
            self.first.extend(first)
            self.second.extend(first if second is None else second)
            self.count += rows
        elif not pairs and not self.pairs:
            self.one.extend(first)
            self.count += rows
        else:
            block = Values()
            block.extend(rows, first, second, nothing)
            self.add(block.tolist())

    def _paired(self, values: Sequence[Any], kinds: set[type]) -> bool:
        if not kinds <= {list, _NONE}:
            return False
        if _NONE in kinds:
            blank = [place for place, value in enumerate(values) if value is None]
            nobody = [None, None]
            values = [nobody if value is None else value for value in values]
        else:
            blank = []
        if set(map(len, values)) != {2}:
            return False
        self.nothing.update(self.count + place for place in blank)
        self.first.add([value[0] for value in values])
        self.second.add([value[1] for value in values])
        return True

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> Any:
        if not self.pairs:
            return self.one[place]
        return None if place in self.nothing else [self.first[place], self.second[place]]

    def tolist(self) -> list[Any]:
        """Return all values."""
        if not self.pairs:
            return self.one.tolist()
        found: list[Any] = list(map(list, zip(self.first.tolist(), self.second.tolist(), strict=True)))
        for place in self.nothing:
            found[place] = None
        return found
