"""Many short register histories in one call: what a campaign of recorded runs needs."""

from __future__ import annotations

from typing import Any

import numpy as np

from checkers.linearizability.compiled import core_for
from checkers.linearizability.decision import DEFAULT, Budget, Engine
from checkers.linearizability.judges import identity
from checkers.linearizability.operations import Int, Operations
from checkers.linearizability.registers import register_search
from checkers.linearizability.searching import limits
from checkers.verdict import Validity

DEFAULT_BUDGET = Budget()
_VALIDITY = (Validity.UNKNOWN, Validity.VALID, Validity.INVALID)


def decide_registers(
    operations: Operations,
    starts: Int,
    *,
    init: Any = DEFAULT,
    budget: Budget = DEFAULT_BUDGET,
    engine: Engine = "auto",
) -> list[Validity]:
    """Decide independent register histories that stand one after the other in the same columns.

    History i has the rows from `starts[i]` up to `starts[i + 1]`; times are compared only within a history. All share
    one budget, in rounds, so that a hard history does not keep the others from being decided.
    """
    ops, first = identity(operations, None if init is DEFAULT else init)
    core = core_for(engine)
    parts = len(starts) - 1
    if core is None:
        rows = np.arange(len(ops))
        search = register_search("register", ops, (rows, starts), [first] * parts, False, budget, engine, "a batch")
        verdicts = search.run(search.task, budget, False, False)[0]
    else:
        verdicts = core.registers(
            ops.call, ops.ret, ops.f, ops.a, ops.b, starts, first, False, *limits(budget), False, False
        )[0]
    return [_VALIDITY[verdict] for verdict in verdicts]
