"""Was a group that elects merely late when the drain gave up waiting for equal replicas (D4), or does it hang?

A release's follower may need minutes to catch up on a busy machine; nobody promises how long. What the last answers
before the deadline show decides: one leader that serves in one term, has committed all it holds and is named by every
name server, and followers that are equal to it or came nearer. A follower that lacks something and stands still, or is
silent, hangs; so does a group that changes its leader, or has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from checkers.facts import Facts
from checkers.observations import Status

LAST_NS: Final = 20_000_000_000
"""How long before the deadline the answers are looked at: many questions long, also where each takes seconds."""


def late_only(facts: Facts, group: str, deadline: int) -> str:
    """Return how a group that was not ready at the deadline of D4 was getting there, in words; empty if it hung."""
    begin = max(deadline - LAST_NS, facts.drain.time("D3", ("*", "", group)))
    voters = [node for node in facts.history.meta.groups[group].electors if node not in facts.drain.excluded]
    asked = [s for s in facts.observed.of_group(group) if s.node in voters and begin <= s.asked and s.time <= deadline]
    told = {node: [s for s in asked if s.node == node and s.answered] for node in voters}
    leaders = {status.node for status in asked if status.leads}
    terms = {status.term for answers in told.values() for status in answers}
    if len(leaders) != 1 or len(terms) != 1 or not all(told.values()):
        return ""
    (leader,) = leaders
    if not _named(facts, group, begin, deadline, leader):
        return ""
    last = told[leader][-1]
    if last.end is None or last.commit != last.end or not all(s.leads and s.serving for s in told[leader]):
        return ""
    words = []
    for node in voters:
        if node != leader:
            moved = _moved(told[node], leader, last.end)
            if moved is None:
                return ""
            words += [f"{node} {moved}"] if moved else []
    if words or all(status.answered for status in asked):
        return ", ".join(words)  # none, and all were equal and answered: it is something else that D4 found wanting
    return "all replicas were equal in their last answers, but some came too late to see it hold"


def _moved(told: Sequence[Status], leader: str, goal: int) -> str | None:
    """Return how a follower came nearer, empty if it has all; None if it stands still, falls back or goes astray."""
    marks = [(s.end, s.commit) for s in told if s.end is not None and s.commit is not None]
    if any(s.role != "follower" or s.leader != leader for s in told) or len(marks) < len(told):
        return None
    if any(late[0] < early[0] or late[1] < early[1] for early, late in pairwise(marks)):
        return None
    (end, commit), (first_end, first_commit) = marks[-1], marks[0]
    if end > goal or commit > end:
        return None
    if end == commit == goal:
        return ""
    if end < goal:
        return f"lacked {goal - end} bytes and had got {end - first_end} of them" if end > first_end else None
    return f"had committed {commit} of {goal} bytes and went on" if commit > first_commit else None


def _named(facts: Facts, group: str, begin: int, deadline: int, leader: str) -> bool:
    """Tell whether every name server named the leader when it was asked last, through the side channel."""
    last: dict[str, str | None] = {}
    for route in facts.observed.routes:
        if route.source == "lab" and route.answered and begin <= route.asked and route.time <= deadline:
            listing = route.groups.get(group)
            last[route.ns] = None if listing is None else listing.leader
    return set(facts.history.meta.name_servers) <= set(last) and set(last.values()) == {leader}
