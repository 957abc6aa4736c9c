"""The stable Python interface: is this history linearizable?

A history is a file of any known format, or operations that a program made:

>>> from checkers import History, Operation, check, minimal
>>> history = History.of([
...     Operation(f="enqueue", process=0, invoked=0, returned=1, argument="a"),
...     Operation(f="enqueue", process=0, invoked=2, returned=3, argument="b"),
...     Operation(f="dequeue", process=1, invoked=4, returned=5, result="b"),
...     Operation(f="dequeue", process=1, invoked=6, returned=7, result="a"),
... ])
>>> decision = check(history, "fifo-queue")
>>> decision.verdict
'invalid'
>>> decision.witness.anomaly
'order'

A model of one's own is an object with `init` and `step`:

>>> class Counter:
...     def init(self):
...         return 0
...     def step(self, state, op):
...         if op.f == "increment":
...             return True, state + 1
...         return op.outcome == "info" or op.result == state, state
>>> counted = [
...     Operation(f="increment", process=0, invoked=0, outcome="info"),
...     Operation(f="get", process=1, invoked=1, returned=2, result=1),
... ]
>>> check(counted, Counter()).verdict
'valid'

`minimal` makes a counter-example small, and `picture_of` draws it:

>>> [(one.f, one.argument or one.result) for one in minimal(history, "fifo-queue").operations]
[('enqueue', 'a'), ('enqueue', 'b'), ('dequeue', 'b'), ('dequeue', 'a')]
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from checkers.linearizability import picture
from checkers.linearizability.decision import DEFAULT, Budget, Decision, Delivery, Engine, NullRead, decide
from checkers.linearizability.formats.read import Format, Imported, Options, read_operations
from checkers.linearizability.formats.shapes import FailedCas
from checkers.linearizability.formats.source import FormatError
from checkers.linearizability.minimize import WALL_S, Minimal, minimize
from checkers.linearizability.models import NAMES, Model
from checkers.linearizability.objects import by_key, decide_apart
from checkers.linearizability.operations import HistoryError, Operation, Operations, columns
from checkers.linearizability.subhistory import frozen
from checkers.verdict import Validity

BUDGET: Final = Budget()
NOTHING: Final = "no operation of a client is in it, and of nothing nothing is known"

ModelLike: TypeAlias = "str | Model"
HistoryLike: TypeAlias = "History | str | os.PathLike[str] | Iterable[Operation]"


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Operations of one history, in the order of their invocations.

    `format` and `events` say what file they came from; a history made by a program has neither.
    """

    operations: Sequence[Operation]
    path: str = ""
    format: Format | None = None
    events: int = 0
    _columns: Operations | None = field(default=None, repr=False)
    _parts: Mapping[str, Operations] | None = field(default=None, repr=False)

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        model: ModelLike,
        *,
        format: Format | None = None,  # noqa: A002 — the word that the command line uses
        failed_cas: FailedCas | None = None,
        unknown_fields: bool = False,
    ) -> History:
        """Read a file for a model, which says what shapes its values have.

        `format` is `jsonl`, `edn`, `porcupine` or `lab`, by default what the first bytes look like. `failed_cas` says
        whether a `fail` of cas without an error is an observation, `unknown_fields` ignores members that the
        JSON-lines format does not have. Raises `FormatError` with the line, and `OSError`.
        """
        if isinstance(model, str) and model not in NAMES:
            raise HistoryError(f"unknown model {model!r}; there are {', '.join(NAMES)}, or a class of your own")
        options = Options(format=format, failed_cas=failed_cas, unknown_fields=unknown_fields)
        found: Imported = read_operations(Path(path), model if isinstance(model, str) else None, options)
        return cls(found.operations, found.path, found.format, found.events, found.columns, found.parts)

    @classmethod
    def of(cls, operations: Iterable[Operation]) -> History:
        """Take operations that a program made; `invoked` and `returned` may be times or counts of one clock."""
        return cls(sorted(operations, key=lambda one: one.invoked))

    def __len__(self) -> int:
        return len(self.operations)

    def for_engine(self, init: Any, *, apart: bool) -> Mapping[Hashable, Operations | Sequence[Operation]]:
        """Return what the engine reads, by object if independent objects are to be judged `apart`.

        Columns where there are some and no initial state has to be put before them.
        """
        if init is DEFAULT and self._columns is not None:
            return {None: self._columns}
        if init is DEFAULT and apart and self._parts is not None:
            return {key: part for key, part in self._parts.items()}  # noqa: C416 — the copy has a wider type of key
        given = list(self.operations) if self._parts is not None else self.operations
        if apart and isinstance(given, list):
            return dict(by_key(given, lambda operation: frozen(operation.key)))
        return {None: given}


def _history(history: HistoryLike, model: ModelLike) -> History:
    if isinstance(history, History):
        return history
    if isinstance(history, str | os.PathLike):
        return History.read(history, model)
    return History.of(history)


def check(
    history: HistoryLike,
    model: ModelLike,
    *,
    init: Any = DEFAULT,
    null_read: NullRead = "observed",
    budget: Budget = BUDGET,
    delivery: Delivery = "exactly-once",
    engine: Engine = "auto",
) -> Decision:
    """Decide whether a history is linearizable under a model.

    `history` is a `History`, a file, or operations; `model` one of `checkers.MODELS` or an object of a `Model` class.
    `init` is the initial state, `null_read` says what a register read of null means, `budget` bounds a search, past
    which the verdict is `unknown`. Operations with different `key`s are of independent objects. A history without
    operations is unknown too. Raises `FormatError`, `HistoryError` where an operation does not fit the model, and
    `OSError`.
    """
    found = _history(history, model)
    if not len(found):
        none = columns([], [], [], [])
        name = model if isinstance(model, str) else type(model).__name__
        return Decision(
            model=name, validity=Validity.UNKNOWN, method="none", why="there is nothing to decide", engine="none",
            operations=none, reasons=(NOTHING,), decided=0.0,
        )  # fmt: skip

    def one(operations: Operations | Sequence[Operation]) -> Decision:
        return decide(
            model, operations, init=init, null_read=null_read, budget=budget, delivery=delivery, engine=engine
        )

    parts = found.for_engine(init, apart=isinstance(model, str))
    if len(parts) > 1:
        return decide_apart(parts, one)
    return one(next(iter(parts.values())))


def witness_operations(decision: Decision) -> list[Operation]:
    """Return the operations that prove an invalid verdict, in the order of their invocations."""
    witness = decision.witness
    rows: Iterable[int] = () if witness is None else witness.rows
    if not rows and decision.prefix is not None:
        rows = (decision.prefix.failing,)
    found = {row: decision.operations.operation(int(row)) for row in rows}
    return sorted((one for one in found.values() if one is not None), key=lambda one: one.invoked)


def minimal(
    history: HistoryLike,
    model: ModelLike,
    *,
    decision: Decision | None = None,
    init: Any = DEFAULT,
    null_read: NullRead = "observed",
    budget: Budget = BUDGET,
    delivery: Delivery = "exactly-once",
    engine: Engine = "auto",
    wall_s: float = WALL_S,
) -> Minimal:
    """Return a small part of an invalid history that is invalid alone, found by sound steps within `wall_s` seconds.

    It shows the same class of anomaly as the first witness of the whole. `decision` is what `check` said with the same
    arguments; without it the history is judged first. Raises ValueError if the history is not invalid.
    """
    found = _history(history, model)

    def judge(operations: HistoryLike) -> Decision:
        return check(operations, model, init=init, null_read=null_read, budget=budget, delivery=delivery, engine=engine)

    decision = judge(found) if decision is None else decision
    if decision.validity is not Validity.INVALID:
        raise ValueError(f"only an invalid history has a counter-example; this one is {decision.verdict}")
    witness = decision.witness
    anomaly = None if witness is None or not decision.counts.get(witness.anomaly) else witness.anomaly

    def failing(operations: list[Operation]) -> bool:
        said = judge(operations)
        return said.validity is Validity.INVALID and (anomaly is None or said.counts.get(anomaly, 0) > 0)

    prefix = decision.prefix
    pure: Callable[[Operation], bool] | None = getattr(model, "pure", None)
    partition: Callable[[Operation], Hashable] | None = getattr(model, "partition", None)
    return minimize(
        model if isinstance(model, str) else None,
        found.operations,
        failing,
        proof=witness_operations(decision),
        last_event=None if prefix is None else int(np.int64(prefix.event)),
        pure=pure,
        partition=partition,
        wall_s=wall_s,
    )


def picture_of(operations: Iterable[Operation], title: str, *, proof: Iterable[Operation] = ()) -> str:
    """Return operations as an SVG time diagram, those of `proof` in red. Everything from a history is escaped."""
    return picture.svg(picture.diagram(list(operations), list(proof)), title)


__all__ = [
    "Budget", "Decision", "FormatError", "History", "HistoryError", "HistoryLike", "Minimal", "Model", "ModelLike",
    "Operation", "check", "minimal", "picture_of", "witness_operations",
]  # fmt: skip
