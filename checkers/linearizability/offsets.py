"""A log taken apart by offsets, so that any of them can be left out: those behind count anew.

If a log is linearizable, it is so without all that stands at some offsets, as if that had never been appended.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Final

import msgspec

from checkers.linearizability.operations import Operation
from checkers.linearizability.subhistory import frozen, opened

HOLES: Final = 8
OFFSET: Final = "offset"
READ: Final = "read"
Item = tuple[str, int]
"""What can be taken out of a log: an offset with all that stands there, or a read by its place."""


class Log:
    """A log by offsets."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.operations = operations
        self.seen: dict[Hashable, set[int]] = {}
        for one in operations:
            if one.result is not None and one.result[0] is not None and one.result[1] is not None:
                self.seen.setdefault(frozen(one.result[1]), set()).add(int(one.result[0]))
        self.reads = [place for place, one in enumerate(operations) if one.f == "read" and one.outcome == "ok"]
        self.appends: dict[int, list[Operation]] = {}
        self.blank: list[Operation] = []
        times = Counter(frozen(one.argument[1]) for one in operations if one.f == "append")
        for one in operations:
            if one.f == "append":
                places = self._places(one)
                for place in places:
                    self.appends.setdefault(place, []).append(one)
                if not places or len(places) > 1 or times[frozen(one.argument[1])] > 1:
                    self.blank.append(one)  # it may stand where nobody looked
        self.blank = [one for one in self.blank if one.result is None or one.result[0] is None]
        self.blank.sort(key=lambda one: one.invoked)

    def _places(self, one: Operation) -> set[int]:
        """Return where an operation stands in the log, as far as anybody saw."""
        if one.f == "read":
            return {int(one.argument[0])}
        if one.result is not None and one.result[0] is not None:
            return {int(one.result[0])}
        return self.seen.get(frozen(one.argument[1]), set())

    def items(self) -> list[Item]:
        """Return everything that can be taken out."""
        places = {*self.appends, *(int(self.operations[read].argument[0]) for read in self.reads)}
        return self._with_holes(places) + [(READ, read) for read in self.reads]

    def items_of(self, proof: Sequence[Operation]) -> list[Item]:
        """Return what a proof needs."""
        proving = {(one.process, one.invoked, repr(one.argument)) for one in proof}
        places = set[int]().union(*(self._places(one) for one in proof))
        reads = [
            (READ, read)
            for read in self.reads
            if (one := self.operations[read]) and (one.process, one.invoked, repr(one.argument)) in proving
        ]
        return self._with_holes(places) + reads

    def _with_holes(self, places: set[int]) -> list[Item]:
        """Add the first offsets below that nobody is known to have filled: the failure may be one of them."""
        top, holes = max(places, default=-1), 0
        found = set(places)
        for offset in range(top + 1):
            if offset not in self.appends:
                found.add(offset)
                holes += 1
                if holes == HOLES:
                    break
        return [(OFFSET, place) for place in sorted(found)]

    def only(self, items: Iterable[Item]) -> list[Operation]:
        """Return the operations of some items, with offsets counted from 0.

        What was appended somewhere unseen counts as unknown, since its place may be one of those taken out.
        """
        some = list(items)
        order = sorted(place for kind, place in some if kind == OFFSET)
        new = {offset: place for place, offset in enumerate(order)}
        found: list[Operation] = []
        loose: dict[int, Operation] = {}
        for offset in order:
            for one in self.appends.get(offset, ()):
                if one.result is not None and one.result[0] is not None:
                    found.append(msgspec.structs.replace(one, result=[new[offset], one.result[1]]))
                else:
                    loose[id(one)] = one
        holes = sum(all(id(one) in loose for one in self.appends.get(offset, ())) for offset in order)
        for one in self.blank[:holes]:
            loose[id(one)] = one
        found.extend(opened(one) for one in loose.values())
        for kind, place in some:
            if kind == READ:
                one = self.operations[place]
                offset = int(one.argument[0])
                if one.result[1] is None:
                    here = bisect_left(order, offset)
                elif offset in new:
                    here = new[offset]
                else:
                    continue
                found.append(msgspec.structs.replace(one, argument=[here, None], result=[here, one.result[1]]))
        return sorted(found, key=lambda one: one.invoked)
