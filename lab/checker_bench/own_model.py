"""A model as a user writes it, for the benchmark."""

from __future__ import annotations

from typing import Any

from checkers.linearizability.operations import Operation


class CasRegister:
    """A register with compare-and-set, initially null."""

    def init(self) -> Any:
        """Return the first state."""
        return None

    def step(self, state: Any, op: Operation) -> tuple[bool, Any]:
        """Return (legal, next state)."""
        if op.f == "read":
            return op.outcome == "info" or state == op.result, state
        if op.f == "write":
            return True, op.argument
        if op.result is False:
            return state != op.argument[0], state
        return state == op.argument[0], op.argument[1]

    def pure(self, op: Operation) -> bool:
        """Reads and failed compares change nothing."""
        return op.f == "read" or op.result is False
