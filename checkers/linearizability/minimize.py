"""Makes a counter-example small, by sound steps only: what remains is wrong because the whole was wrong.

A step is sound if it turns every linearizable history into a linearizable one. Then a remainder that is not proves that
the whole is not, and nothing else has to be trusted. These are the steps:

* cutting the history at an event; operations open there become unknown (histories are closed under prefixes);
* taking out an operation that changes no state in any case: reads, failed compares, "empty" answers;
* everything of one key, of one value of a queue, of one member of a set, of one value of a register without
  compare-and-set: what is left of a legal order is legal;
* all that stands at one offset of a log: the later offsets count one less, as if it had never been appended;
* of the unknown dequeues, all but the earliest as many as values remain that nobody is known to have taken; of the
  unknown appends that nobody read, all but the earliest as many as offsets remain that nobody is known to have filled.
* all that returned before a write, put or other blind overwrite of one object was called, where nothing that overlaps
  the write depends on what was there before it: from the write on the object is as it would have been.

Otherwise a lone write, compare-and-set, append or lock operation of a searched model is never taken out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import msgspec

from checkers.linearizability.offsets import OFFSET, Log
from checkers.linearizability.operations import Operation
from checkers.linearizability.subhistory import cut, frozen

Failing = Callable[[list[Operation]], bool]
"""Tells whether operations are certainly not linearizable; False also stands for "could not be decided"."""

WALL_S: Final = 20.0
_READS: Final = {
    "register": ("read",), "cas-register": ("read",), "set": ("read",), "kv": ("get",), "kv-append": ("get",),
    "append-log": ("read",), "fifo-queue": (), "total-queue": (), "mutex": (), "multi-register": (),
}  # fmt: skip


_OVERWRITES: Final = {
    "register": ("write",), "cas-register": ("write",), "kv": ("put",), "kv-append": ("put",),
}  # fmt: skip
_KEYED: Final = ("get", "put", "append")
NEAR_WRITES: Final = 32
"""So many writes before the failure are tried one after the other, those further back ever more sparsely."""


@dataclass(frozen=True, slots=True)
class Minimal:
    """A small history that is wrong alone. `notes` say what was done to it that a reader must know."""

    operations: tuple[Operation, ...]
    of: int
    checks: int
    notes: tuple[str, ...] = ()


def minimize(
    model: str | None,
    operations: Sequence[Operation],
    failing: Failing,
    *,
    proof: Sequence[Operation] = (),
    last_event: int | None = None,
    pure: Callable[[Operation], bool] | None = None,
    partition: Callable[[Operation], Hashable] | None = None,
    wall_s: float = WALL_S,
) -> Minimal:
    """Return a small part of operations that are not linearizable, which `failing` still calls so.

    `model` is the name of a built-in model, None a user's own with its optional `pure` and `partition`. `proof` are
    operations that the checker named, `last_event` where it could go no further; both only save time. After `wall_s`
    seconds it returns what it has.
    """
    whole = [one for one in operations if one.outcome != "fail"]
    search = _Search(model, failing, pure, partition, monotonic() + wall_s)
    ends = [one.returned for one in proof if one.returned is not None]
    kept = whole
    for event in dict.fromkeys(event for event in (max(ends, default=None), last_event) if event is not None):
        kept = search.take(cut(whole, event)) or kept
        if kept is not whole:
            break
    kept = search.parts(kept, proof)
    kept = search.prefix(kept)
    kept = search.after_write(kept)
    kept = search.pure_ones(kept, proof)
    kept = search.prefix(kept)
    kept = search.after_write(kept)
    return Minimal(tuple(search.final(kept)), len(whole), search.checks, tuple(search.notes))


class _Search:
    def __init__(
        self,
        model: str | None,
        failing: Failing,
        pure: Callable[[Operation], bool] | None,
        partition: Callable[[Operation], Hashable] | None,
        deadline: float,
    ) -> None:
        self.model = model
        self.failing = failing
        self.user_pure = pure
        self.partition = partition
        self.deadline = deadline
        self.checks = 0
        self.notes: list[str] = []

    def take(self, candidate: list[Operation]) -> list[Operation] | None:
        """Return a candidate if it still fails."""
        if not candidate or (self.checks and monotonic() > self.deadline):
            return None
        self.checks += 1
        return candidate if self.failing(candidate) else None

    def parts(self, operations: list[Operation], proof: Sequence[Operation]) -> list[Operation]:
        """Leave only the keys, values, members or offsets that the failure needs, those of the proof tried first."""
        if self.model == "append-log":
            return _Offsets(self).reduce(operations, proof)
        for of in self._divisions(operations):
            names = list(dict.fromkeys(name for one in operations for name in of(one)))
            wanted = {name for one in proof for name in of(one)}
            operations = self.names(operations, names, wanted, of)
        return operations

    def _divisions(self, operations: Sequence[Operation]) -> list[Callable[[Operation], list[Hashable]]]:
        found: list[Callable[[Operation], list[Hashable]]] = []
        if any(one.key is not None for one in operations):
            found.append(lambda one: [frozen(one.key)])
        if self.model in ("kv", "kv-append"):
            found.append(lambda one: [frozen(one.argument[0])])
        if self.model is None and self.partition is not None:
            user = self.partition
            found.append(lambda one: [user(one)])
        if self.model in ("fifo-queue", "total-queue", "set") or (
            self.model in ("register", "kv") or (self.model == "cas-register" and not _any_cas(operations))
        ):
            found.append(_values)
        return found

    def names(
        self,
        operations: list[Operation],
        names: list[Hashable],
        wanted: set[Hashable],
        of: Callable[[Operation], list[Hashable]],
    ) -> list[Operation]:
        """Leave only the operations on some names."""

        def only(kept: Iterable[Hashable]) -> list[Operation]:
            return self._spared(project(operations, set(kept), of))

        kept = [name for name in names if name in wanted]
        if kept and len(kept) < len(names) and (smaller := self.take(only(kept))) is not None:
            operations, names = smaller, kept
        kept = shrink(names, lambda some: self.take(only(some)) is not None)
        return only(kept) if len(kept) < len(names) else operations

    def _spared(self, operations: list[Operation]) -> list[Operation]:
        """Leave out unknown dequeues beyond the values that they could have taken."""
        if self.model not in ("fifo-queue", "total-queue"):
            return operations
        taken = {frozen(one.result) for one in operations if one.f == "dequeue" and one.result is not None}
        taken |= {frozen(item) for one in operations if one.f == "drain" and one.result for item in one.result}
        values = [frozen(one.argument) for one in operations if one.f == "enqueue"]
        if any(one.f == "drain" and one.outcome != "ok" for one in operations):
            return operations
        spare = sum(value not in taken for value in values)
        blank = [one for one in operations if one.f == "dequeue" and one.outcome == "info" and one.result is None]
        dropped = {id(one) for one in sorted(blank, key=lambda one: one.invoked)[spare:]}
        return [one for one in operations if id(one) not in dropped]

    def prefix(self, operations: list[Operation]) -> list[Operation]:
        """Cut at the first event after which the history is lost."""
        ends = sorted({one.returned for one in operations if one.returned is not None})
        low, high = 0, len(ends) - 1
        found = operations
        while low < high:
            middle = (low + high) // 2
            if (shorter := self.take(self._spared(cut(operations, ends[middle])))) is not None:
                high, found = middle, shorter
            else:
                low = middle + 1
        return found

    def after_write(self, operations: list[Operation]) -> list[Operation]:
        """Leave out what came before a write that makes it forgotten, the last such write tried first."""
        overwrites = _OVERWRITES.get(self.model or "", ())
        if not overwrites or len({frozen(one.argument[0]) for one in operations if one.f in _KEYED}) > 1:
            return operations
        writes = [one for one in operations if one.f in overwrites and one.returned is not None]
        writes.sort(key=lambda one: one.invoked, reverse=True)
        place = 0
        while place < len(writes):
            found = self._forgetting(operations, writes[place])
            if found is not None and len(found) < len(operations) and self.take(found) is not None:
                return found
            place = place + 1 if place < NEAR_WRITES else place * 2
        return operations

    def _forgetting(self, operations: list[Operation], write: Operation) -> list[Operation] | None:
        """Return what is left without a write's past and the reads beside it, None if more beside it needs it."""
        end = write.returned
        assert end is not None
        found = []
        for one in operations:
            if one.returned is not None and one.returned < write.invoked:
                continue
            if one is not write and one.returned is not None and one.invoked <= end:
                if self._is_pure(one):
                    continue
                if one.f not in _OVERWRITES[self.model or ""]:
                    return None
            found.append(one)
        return found

    def pure_ones(self, operations: list[Operation], proof: Sequence[Operation]) -> list[Operation]:
        """Take out operations that change nothing, those outside the proof first."""
        if self.model == "append-log":
            return operations
        proving = {(one.process, one.invoked) for one in proof}
        places = [place for place, one in enumerate(operations) if self._is_pure(one)]
        near = [place for place in places if (operations[place].process, operations[place].invoked) in proving]

        def without(kept: Iterable[int]) -> list[Operation]:
            gone = set(places).difference(kept)
            return [one for place, one in enumerate(operations) if place not in gone]

        start = near if near != places and self.take(without(near)) is not None else places
        kept = shrink(start, lambda some: self.take(without(some)) is not None)
        return without(kept)

    def _is_pure(self, one: Operation) -> bool:
        if self.model is None:
            return self.user_pure is not None and self.user_pure(one)
        if one.f in _READS[self.model] or (one.f == "cas" and one.result is False):
            return True
        if self.model == "multi-register":
            return all(step[0] == "read" for step in one.argument)
        return one.f == "dequeue" and one.outcome == "ok" and one.result is None

    def final(self, operations: list[Operation]) -> list[Operation]:
        """Leave out reads of unknown outcome: they say nothing."""
        return [one for one in operations if one.outcome == "ok" or not self._is_pure(one)]


def _any_cas(operations: Iterable[Operation]) -> bool:
    return any(one.f == "cas" for one in operations)


def _values(one: Operation) -> list[Hashable]:
    """Return the values that an operation deals with; lists have one entry a member."""
    if one.f == "drain" or (one.f == "read" and one.result.__class__ is list):
        return [frozen(item) for item in one.result or ()]
    if one.f in ("get", "put"):
        pair = one.argument if one.f == "put" else one.result
        return [] if pair is None else [(frozen(pair[0]), frozen(pair[1]))]
    value = one.argument if one.argument is not None else one.result
    return [] if value is None else [frozen(value)]


def project(
    operations: Iterable[Operation], kept: set[Hashable], of: Callable[[Operation], list[Hashable]]
) -> list[Operation]:
    """Return the operations on kept names; a list loses its other members, and what names nothing stays."""
    found = []
    for one in operations:
        names = of(one)
        if not names or kept.issuperset(names):
            found.append(one)
        elif of is _values and one.result.__class__ is list and one.f in ("drain", "read"):
            members = [item for item, name in zip(one.result, names, strict=True) if name in kept]
            found.append(msgspec.structs.replace(one, result=members))
    return found


def shrink(items: Sequence[Any], fails: Callable[[list[Any]], bool]) -> list[Any]:
    """Return a part of items that still fails and of which no single one can be left out (delta debugging)."""
    kept = list(items)
    size = max(1, len(kept) // 2)
    while kept:
        start, found = 0, False
        while start < len(kept):
            without = kept[:start] + kept[start + size :]
            if fails(without):
                kept, found = without, True
            else:
                start += size
        if size == 1 and not found:
            break
        size = max(1, size // 2)
    return kept


class _Offsets:
    """Takes offsets out of a log; those behind count anew."""

    def __init__(self, search: _Search) -> None:
        self.search = search

    def reduce(self, operations: list[Operation], proof: Sequence[Operation]) -> list[Operation]:
        """Return a log with only the offsets, appends and reads that the failure needs."""
        search = self.search
        if any(one.key is not None for one in operations):
            names = list(dict.fromkeys(frozen(one.key) for one in operations))
            operations = search.names(
                operations, names, {frozen(one.key) for one in proof}, lambda one: [frozen(one.key)]
            )
        log = Log(operations)
        kept = log.items_of(proof)
        if not kept or search.take(log.only(kept)) is None:
            kept = log.items()
            if search.take(log.only(kept)) is None:
                return operations
        kept = shrink(kept, lambda some: search.take(log.only(some)) is not None)
        offsets = sorted(place for kind, place in kept if kind == OFFSET)
        if offsets != list(range(len(offsets))):
            was = ", ".join(f"{place} was {offset}" for place, offset in enumerate(offsets[:12]))
            search.notes.append(f"offsets count anew from 0: {was}{', …' if len(offsets) > 12 else ''}")
        return log.only(kept)
