"""How long did name servers go on listing a broker that was away? Measured for C14.

It is a part of every client's RTO, and differs by the kind of death: a process that dies closes its connections, which
a name server sees at once; a host that goes silent closes none, and is listed until it expires. O(windows x answers).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from checkers.conditions import DOWN, hits_process
from checkers.facts import Facts
from checkers.observations import SIDE, Route
from checkers.windows import Window


@dataclass(frozen=True, slots=True)
class Departure:
    """For how long one name server listed one broker that a fault took away, seconds: proven, and not excluded.

    `upper` is None where it listed the broker until the fault was healed.
    """

    fault: str
    node: str
    ns: str
    lower: float
    upper: float | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        upper = None if self.upper is None else round(self.upper, 3)
        return {"fault": self.fault, "node": self.node, "name server": self.ns, "listed": [round(self.lower, 3), upper]}


def departures(facts: Facts) -> list[Departure]:
    """Measure each broker that a fault hides from a name server that runs, by the answers to the lab."""
    answers: dict[str, list[Route]] = {}
    for route in sorted(facts.observed.routes, key=lambda one: one.asked):
        if route.answered and route.source == SIDE:
            answers.setdefault(route.ns, []).append(route)
    brokers = [node for group in facts.history.meta.groups.values() for node in group.nodes]
    found = []
    for window in facts.windows:
        for node in brokers:
            for ns in sorted(answers):
                if _hides(facts, window, node, ns) and not _down(facts, window, ns):
                    row = _departure(window, node, ns, answers[ns])
                    found += [] if row is None else [row]
    return found


def worst(rows: Iterable[Departure], fault: str) -> tuple[float, float] | None:
    """Return the longest listing after a fault as an interval, None if nobody was hidden by it."""
    spans = [(row.lower, float("inf") if row.upper is None else row.upper) for row in rows if row.fault == fault]
    return max(spans, key=lambda span: (span[1], span[0]), default=None)


def _hides(facts: Facts, window: Window, node: str, ns: str) -> bool:
    """Tell whether a proven fault ends the broker's process or loses its packets to the name server."""
    if not window.injected.holds:
        return False
    if hits_process(window):
        return node in window.targets and window.family != "restart"
    host = facts.history.meta.host_of
    return bool(window.cut) and (host(node), host(ns)) in (window.cut or ())


def _down(facts: Facts, window: Window, ns: str) -> bool:
    """Tell whether the name server itself may have been away meanwhile, so that it proves nothing."""
    return any(
        other.family in DOWN and ns in other.targets and other.a1 <= window.h2 and other.h2 >= window.a1
        for other in facts.windows
    )


def _departure(window: Window, node: str, ns: str, answers: Sequence[Route]) -> Departure | None:
    before = [route for route in answers if route.time <= window.a1]
    until = [
        route for route in answers if route.asked >= window.a1 and (route.time < window.h1 or not window.heal_seen)
    ]
    if not before or not _lists(before[-1], node) or not until:
        return None
    gone = next((route for route in until if not _lists(route, node)), None)
    stale = [route for route in until if gone is None or route.asked < gone.asked]
    lower = max(0.0, (stale[-1].asked - window.a2) / 1e9) if stale else 0.0
    return Departure(window.id, node, ns, lower, None if gone is None else (gone.time - window.a1) / 1e9)


def _lists(route: Route, node: str) -> bool:
    return any(node in listing.brokers.values() for listing in route.groups.values())
