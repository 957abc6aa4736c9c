"""How long name servers told different things of one group: the time of disagreement of C18.

An answer is true of some instant between its asking and its arrival, and name servers are asked again and again. So
between two equal answers a name server surely told that, and around a change it may have told either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from checkers.columns import NEVER
from checkers.observations import Listing, Route


@dataclass(frozen=True, slots=True)
class Said:
    """What one name server told without a break: surely in `[first, last]`, perhaps in `[since, until]`."""

    what: str
    since: int
    first: int
    last: int
    until: int


def told(listing: Listing | None) -> str:
    """Return an answer about one group in words."""
    if listing is None:
        return "no route"
    return f"{listing.leader or 'no leader'} with {listing.queues} queues"


def said(routes: Sequence[Route], group: str) -> list[Said]:
    """Return what one name server told of a group, from its answers about one topic in order of the asking."""
    found: list[Said] = []
    for route in routes:
        what = told(route.groups.get(group))
        before = found[-1] if found else None
        if before is not None and before.what == what:
            found[-1] = replace(before, last=max(before.last, route.asked))
            continue
        if before is not None:
            found[-1] = replace(before, until=route.time)
        since = 0 if before is None else before.last
        found.append(Said(what, since, first=route.time, last=route.time, until=int(NEVER)))
    return found


def disagreements(routes: Sequence[Route], group: str) -> list[dict[str, Any]]:
    """Return the spans in which two name servers told different things of a group (seconds), longest first.

    `lasted` bounds each: from the time in which both surely told different things to that in which they may have (null
    where it was not seen to end). One that no answers prove is left out. Answers are compared with those from the same
    place.
    """
    series: dict[tuple[str, str], dict[str, list[Route]]] = {}
    for route in sorted(routes, key=lambda one: (one.asked, one.time, one.index)):
        series.setdefault((route.source, route.topic), {}).setdefault(route.ns, []).append(route)
    rows: list[dict[str, Any]] = []
    for (source, topic), by_server in sorted(series.items()):
        spans: Mapping[str, list[Said]] = {ns: said(mine, group) for ns, mine in by_server.items()}
        for one, other in combinations(sorted(spans), 2):
            rows += [
                {"group": group, "topic": topic, "from": source, "name servers": [one, other], "told": [a.what, b.what],
                 "since": round(max(a.first, b.first) / 1e9, 3),
                 "lasted": [round((min(a.last, b.last) - max(a.first, b.first)) / 1e9, 3), _most(a, b)]}
                for a, b in _overlapping(spans[one], spans[other]) if a.what != b.what
            ]  # fmt: skip
    return sorted(rows, key=lambda row: (-row["lasted"][0], row["since"]))


def _overlapping(left: Sequence[Said], right: Sequence[Said]) -> Iterator[tuple[Said, Said]]:
    """Yield the pairs that surely held at one time; both are in order, so each is looked at once."""
    i = j = 0
    while i < len(left) and j < len(right):
        a, b = left[i], right[j]
        if min(a.last, b.last) > max(a.first, b.first):
            yield a, b
        if a.last <= b.last:
            i += 1
        else:
            j += 1


def _most(one: Said, other: Said) -> float | None:
    until = min(one.until, other.until)
    return None if until == NEVER else round((until - max(one.since, other.since)) / 1e9, 3)
