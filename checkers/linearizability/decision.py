"""What the engine says about a history, and the one door to it: `decide`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from checkers.linearizability.operations import HistoryError, Operation, Operations
from checkers.verdict import Validity

NullRead = Literal["observed", "unknown"]
Delivery = Literal["exactly-once", "at-most-once", "at-least-once", "per-key"]
"""What a queue promises about deliveries; see `checkers.linearizability.contracts`."""


Engine = Literal["auto", "core", "fallback"]

QUEUES: Final = ("fifo-queue", "total-queue")
"""The models that deliver something."""


class _Default:
    """The initial state that the model itself names."""

    def __repr__(self) -> str:
        return "the model's own"


DEFAULT: Final = _Default()


@dataclass(frozen=True, slots=True)
class Budget:
    """What a search may cost before it answers `unknown`: milliseconds, megabytes, configurations. None: no limit."""

    wall_ms: int | None = 60_000
    memory_mb: int | None = 1_000
    nodes: int | None = None


@dataclass(frozen=True, slots=True)
class Witness:
    """Operations that alone prove an anomaly: its class, the rows, one plain sentence with times and lines."""

    anomaly: str
    rows: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Configuration:
    """One of the last states that a search reached: what was linearized, and why the next operation is illegal."""

    state: str
    linearized: tuple[int, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Prefix:
    """The shortest prefix of the history that is already illegal.

    `event` is the time of its last event, `failing` the row that could not be linearized, `rows` every operation that
    was called before that event (open ones count as unknown), `last_good` the row linearized before it.
    """

    event: int
    failing: int
    rows: tuple[int, ...]
    last_good: int | None
    configurations: tuple[Configuration, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The part of a decision that costs extra and is made when it is first asked for."""

    witnesses: tuple[Witness, ...] = ()
    prefix: Prefix | None = None


@dataclass(slots=True, eq=False)
class Decision:
    """A verdict with its reasons. Witnesses, failing prefix, coverage and linearization are worked out when first
    asked for.

    `method` names what decided and `why` says why it may; `engine` is `core` (compiled) or `fallback`.
    `counts` holds the number of anomalies of each class (for models that are searched: of failed partitions).
    `reasons` says why a verdict is unknown. `decided` is what `coverage` gives, or works it out.
    """

    model: str
    validity: Validity
    method: str
    why: str
    engine: str
    operations: Operations
    counts: Mapping[str, int] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    decided: float | Callable[[], float] = 1.0
    nodes: int = 0
    metrics: Mapping[str, int] = field(default_factory=dict)
    explain: Callable[[], Explanation] | None = None
    order: Callable[[], tuple[int, ...]] | None = None
    _explanation: Explanation | None = None

    @property
    def verdict(self) -> str:
        """Return `valid`, `invalid` or `unknown`."""
        return self.validity.word

    @property
    def coverage(self) -> float:
        """Return decided operations over all operations: a search stops at the first part that is not linearizable."""
        if callable(self.decided):
            self.decided = self.decided()
        return self.decided

    def _explained(self) -> Explanation:
        if self._explanation is None:
            self._explanation = Explanation() if self.explain is None else self.explain()
        return self._explanation

    @property
    def witness(self) -> Witness | None:
        """Return the first anomaly with the smallest set of operations that proves it; None unless invalid."""
        found = self._explained().witnesses
        return found[0] if found else None

    @property
    def witnesses(self) -> tuple[Witness, ...]:
        """Return the first anomalies of every class (32 of each at most)."""
        return self._explained().witnesses

    @property
    def prefix(self) -> Prefix | None:
        """Return the shortest illegal prefix with the last configurations; None unless a search said invalid."""
        return self._explained().prefix

    def linearization(self) -> tuple[int, ...] | None:
        """Return the rows in a legal order, without operations of unknown outcome that need not have happened.

        None unless valid. For a model with keys the rows of all keys are merged in one legal order.
        """
        return self.order() if self.validity is Validity.VALID and self.order is not None else None


@dataclass(frozen=True, slots=True)
class Options:
    """What a judge is told beside the operations; see `decide`."""

    init: Any
    null_read: NullRead
    budget: Budget
    delivery: Delivery
    engine: Engine


def decide(
    model: str | Any,
    operations: Operations | Sequence[Operation],
    *,
    init: Any = DEFAULT,
    null_read: NullRead = "observed",
    budget: Budget = Budget(),
    delivery: Delivery = "exactly-once",
    engine: Engine = "auto",
) -> Decision:
    """Decide whether operations are linearizable under a model.

    `model` is a name of `checkers.linearizability.models.NAMES` or an instance of a user's `Model`. The method is
    chosen by preconditions that are checked, never assumed. `init` is the initial state, `null_read` says whether a
    register read of null is an observation, `delivery` what a queue promises. Raises HistoryError when an operation
    does not have the shape that the model needs, or the model no such promise. See docs/linearizability.md.
    """
    if delivery != "exactly-once":
        _insist_on_contract(model, delivery)
    from checkers.linearizability.models import resolve  # the models need the types above

    return resolve(model).decide(operations, Options(init, null_read, budget, delivery, engine))


def _insist_on_contract(model: str | Any, delivery: str) -> None:
    known = get_args(Delivery)
    if delivery not in known:
        raise HistoryError(f"there is no delivery contract {delivery!r}; there are {', '.join(known)}")
    if not isinstance(model, str) or model not in QUEUES:
        name = model if isinstance(model, str) else type(model).__name__
        raise HistoryError(f"a delivery contract is for {' and '.join(QUEUES)}, not for {name}")
