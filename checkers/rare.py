"""Client operations that are rare enough to be kept as events: invocation and completion, as one value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from checkers.columns import NEVER, History
from checkers.event import Event


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a client. `begin` and `end` are positions, `end` NEVER where the outcome is unknown; `type` is
    that of the completion, `info` where there is none. `asked` and `answer` are the two values."""

    f: str
    process: int
    type: str
    begin: int
    end: int
    invoked: Event
    returned: Event | None

    @property
    def asked(self) -> Any:
        """Return the argument."""
        return self.invoked.value

    @property
    def answer(self) -> Any:
        """Return the result, None without one."""
        return self.returned.value if self.returned is not None else None

    @property
    def ops(self) -> tuple[int, ...]:
        """Return the indices of its events."""
        return (self.invoked.index,) if self.returned is None else (self.invoked.index, self.returned.index)

    def extra(self, name: str) -> Any:
        """Return an extra field of the completion, else of the invocation."""
        found = getattr(self.returned, name) if self.returned is not None else None
        return getattr(self.invoked, name) if found is None else found


def operations_of(history: History, name: str) -> Iterator[Operation]:
    """Yield the operations that a history keeps under a name, in order of their completion.

    A completion follows its invocation directly there; an invocation without one never completed.
    """
    position = history.events.position
    asked: Event | None = None

    def made(invoked: Event, returned: Event | None) -> Operation:
        unknown = returned is None or returned.type == "info"
        end = int(NEVER) if unknown or returned is None else int(position[returned.index])
        kind = "info" if returned is None else returned.type
        return Operation(invoked.f, int(invoked.process), kind, int(position[invoked.index]), end, invoked, returned)

    for event in history.lab(name):
        if not isinstance(event.process, int):
            continue
        if event.type == "invoke":
            if asked is not None:
                yield made(asked, None)
            asked = event
        elif asked is not None and asked.process == event.process:
            yield made(asked, event)
            asked = None
    if asked is not None:
        yield made(asked, None)
