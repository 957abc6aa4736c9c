"""Models by name, and what a user's own model class must offer."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Sequence
from typing import Any, Final, Protocol, runtime_checkable

from checkers.linearizability.decision import Decision, Options
from checkers.linearizability.operations import HistoryError, Operation, Operations

NAMES: Final = (
    "append-log",
    "cas-register",
    "fifo-queue",
    "kv",
    "kv-append",
    "multi-register",
    "mutex",
    "register",
    "set",
    "total-queue",
)
"""The models that are built in.

fifo-queue      enqueue(v); dequeue() -> v, or None: it was empty
total-queue     as fifo-queue without order; drain() -> list of everything that was there
append-log      append argument [None, v] -> result [offset, v]; read [offset, None] -> [offset, v] or [offset, None]
register        read() -> v; write(v)                 cas-register   also cas([from, to]); result False: compare failed
kv              get(key) -> v; put(key, v)            kv-append      also append; all values are strings
                argument [key, v] or [key, None], result [key, v]
mutex           acquire(); release()
multi-register  txn([["read" | "write", key, v], ...]), result the same list with the values read
set             add(v); read() -> list of members
"""


@runtime_checkable
class Model(Protocol):
    """A sequential specification written by a user. States and keys must be hashable and are never changed in place.

    An operation of unknown outcome comes with `outcome == "info"`; `step` then says what it would do if it happened.
    Optional methods: `partition(op) -> Hashable` names the independent object that an operation belongs to;
    `pure(op) -> bool` is True for operations that never change *any* state (reads, not writes of the present value);
    `may_reach(state, op) -> bool` is False only if `op` can never become legal from `state`, whatever happens between.
    """

    def init(self) -> Hashable:
        """Return the state before the first operation (of each partition)."""

    def step(self, state: Any, op: Operation) -> tuple[bool, Hashable]:
        """Return (legal, next state)."""


class Judge(Protocol):
    """What decides histories of one model."""

    def decide(self, operations: Operations | Sequence[Operation], options: Options) -> Decision:
        """Decide; see `checkers.linearizability.decision.decide`."""


def _judges() -> dict[str, Judge]:
    from checkers.linearizability.judges import LogJudge, SetJudge
    from checkers.linearizability.queue_judge import QueueJudge
    from checkers.linearizability.registers import RegisterJudge
    from checkers.linearizability.searched import MultiRegisterJudge, TextJudge

    return {
        "append-log": LogJudge(),
        "fifo-queue": QueueJudge(ordered=True),
        "kv-append": TextJudge(),
        "multi-register": MultiRegisterJudge(),
        "set": SetJudge(),
        "total-queue": QueueJudge(ordered=False),
        **{name: RegisterJudge(name) for name in ("cas-register", "kv", "mutex", "register")},
    }


_JUDGES: Final[dict[str, Judge]] = {}


def resolve(model: str | Any) -> Judge:
    """Return the judge of a built-in model's name or of a user's model. Raises HistoryError for an unknown one."""
    if not _JUDGES:
        _JUDGES.update(_judges())
    if isinstance(model, str):
        if model in _JUDGES:
            return _JUDGES[model]
        near = difflib.get_close_matches(model, NAMES, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise HistoryError(f"unknown model {model!r}{hint} There are {', '.join(NAMES)}, and classes of your own")
    if not callable(getattr(model, "init", None)) or not callable(getattr(model, "step", None)):
        raise HistoryError(f"{model!r} is no model: it needs init() and step(state, operation)")
    from checkers.linearizability.searched import UserJudge

    return UserJudge(model)
