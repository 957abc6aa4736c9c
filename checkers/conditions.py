"""Under which conditions a group had to work: who was down, and who could not reach whom, at which times.

Two views, each on its safe side. *Surely* broken is what a proven fault held broken between the end of its injection
and the beginning of its healing. *Perhaps* broken is anything from the asking of a fault to the end of its healing,
proven or not. What shows a violation must rest on the first, what asks for progress on the absence of the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Final

import numpy as np

from checkers.columns import HANDLE, MODE_SUBSCRIBE, NEVER, OK
from checkers.facts import Facts
from checkers.observations import SIDE, Route, Status, whole_number
from checkers.windows import NETWORK, ROLE_CHANGES, Window

DOWN: Final = frozenset({"kill", "destroy", "remove", "pause", "power", "powerloss", "crash", "restart"})
"""Faults whose targets do not work while they last."""

STRUCK: Final = frozenset({"kill", "destroy", "pause", "power", "powerloss", "crash"})
"""Those after which a node says nothing until it is started or let go on: one that is removed may still answer."""

VOTERS_MOST: Final = 13
"""Larger groups are not judged: all their quorums would have to be tried."""

Span = tuple[int, int]


def merge_spans(spans: Iterable[Span]) -> list[Span]:
    """Join overlapping spans."""
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        elif begin < end:
            merged.append((begin, end))
    return merged


def hits_process(window: Window) -> bool:
    """Tell whether a fault acts on processes."""
    return window.family in DOWN


def is_opaque(window: Window) -> bool:
    """Tell whether a fault of the network does not say what it cut."""
    return window.family in NETWORK and window.cut is None


def surely_down(facts: Facts, node: str) -> list[Span]:
    """Return when a node surely did not run: until any fault that also struck it was healed, as that starts it too."""
    mine = [window for window in facts.windows if hits_process(window) and node in window.targets]
    spans = []
    for window in mine:
        if not window.injected.holds or window.family == "restart":
            continue
        ends = [other.h1 for other in mine if other.heal_seen and other.h1 >= window.a2]
        seen = [
            status.asked for status in facts.observed.statuses
            if status.node == node and status.answered and status.asked > window.a2
        ]  # fmt: skip
        spans.append((window.a2, min([window.h1, *ends, *seen])))
    return merge_spans(spans)


def answers_while_down(facts: Facts, window: Window) -> list[Status]:
    """Return answers that a kill, a destruction or a pause rules out: asked after it was done and answered before any
    healing, by the life of the node that it had struck."""
    if window.family not in STRUCK:
        return []
    found: list[Status] = []
    for node in window.targets:
        told = [one for one in (*facts.observed.statuses, *facts.observed.appointed) if one.node == node]
        heals = [w.h1 for w in facts.windows if w.heal_seen and node in w.targets and w.h1 >= window.a2]
        until = min([window.h1, *heals])
        struck = [one for one in told if one.answered and one.time <= window.a1 and one.incarnation is not None]
        if struck:
            life = max(struck, key=lambda one: one.time).incarnation
            found += [
                one for one in told
                if one.answered and one.incarnation == life and window.a2 < one.asked and one.time < until
            ]  # fmt: skip
    return found


def answers_to_clients(facts: Facts, window: Window) -> list[tuple[int, int, str]]:
    """Return operations of clients (their two events, and the node) that a kill, a destruction or a pause rules out:
    begun after it was done and answered before any healing, by what it had struck.

    Clients are not told which life of a node answers them, so nodes are left out that may have been started more than
    once. So is what subscribed members were given, of which nobody knows when it was asked for.
    """
    if window.family not in STRUCK:
        return []
    history, time = facts.history, facts.history.events.time
    found: list[tuple[int, int, str]] = []
    for node in window.targets:
        numbers = [number for number, name in enumerate(history.nodes) if history.meta.node_at(name) == node]
        until = min(
            [window.h1, *(w.h1 for w in facts.windows if w.heal_seen and node in w.targets and w.h1 >= window.a2)]
        )
        if not numbers or not _started_once(facts, window, node, until):
            continue
        asked = (history.reads.kind != HANDLE) & (history.reads.mode != MODE_SUBSCRIBE)
        for table, timed in ((history.sends, np.ones(len(history.sends), dtype=bool)), (history.reads, asked)):
            mine = np.flatnonzero(timed & (table.type == OK) & np.isin(table.node, numbers) & (table.returned >= 0))
            inside = mine[(time[table.invoked[mine]] > window.a2) & (time[table.returned[mine]] < until)]
            found += [(int(table.invoked[row]), int(table.returned[row]), node) for row in inside.tolist()]
    return sorted(found)


def _started_once(facts: Facts, window: Window, node: str, until: int) -> bool:
    """Tell whether a fault struck the node's only life between the last answer before it and the first one after it,
    apart from the one that its healing began."""
    told = [
        (one.asked, one.time, whole_number(one.incarnation))
        for one in (*facts.observed.statuses, *facts.observed.appointed)
        if one.node == node and one.answered
    ]
    before = [life for _, answered, life in told if answered <= window.a1]
    after = [life for asked, _, life in sorted(told) if asked >= until]
    meanwhile = {life for asked, answered, life in told if asked > window.a2 and answered < until}
    if not before or before[-1] is None or not meanwhile <= {before[-1]}:
        return False
    return not after or (after[0] is not None and after[0] <= before[-1] + (window.family != "pause"))


def answers_across(facts: Facts, window: Window) -> list[Route]:
    """Return answers that a cut rules out: asked from a client's host after it was done, and answered before its
    healing, though one of the two directions was lost."""
    if not window.cut:
        return []
    return [
        one for one in facts.observed.routes
        if one.answered and one.source != SIDE and window.a2 < one.asked and one.time < window.h1
        and not window.cut.isdisjoint(_both(one.source, facts.history.meta.host_of(one.ns)))
    ]  # fmt: skip


def _both(a: str, b: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (a, b), (b, a)


def surely_apart(facts: Facts, one: str, other: str) -> list[Span]:
    """Return when two nodes surely could not exchange a question and its answer: a cut in either direction."""
    a, b = facts.history.meta.host_of(one), facts.history.meta.host_of(other)
    return merge_spans(
        (window.a2, window.h1)
        for window in facts.windows
        if window.injected.holds and window.cut and ((a, b) in window.cut or (b, a) in window.cut)
    )


def unreachable(facts: Facts, node: str, replica: str) -> list[Span]:
    """Return when a node surely could not get anything acknowledged by a replica."""
    return merge_spans([*surely_down(facts, replica), *surely_apart(facts, node, replica)])


def perhaps_until(window: Window) -> int:
    """Return the last instant at which a fault may still act: for good, if nothing healed it or it took nodes away."""
    if window.heal_seen:  # also one that could have lasted: a destroyed node may rejoin
        return window.h2
    return window.a2 if window.permanent and not hits_process(window) else int(NEVER)


@dataclass(frozen=True, slots=True)
class State:
    """What may be broken during one span: nodes that may be down, ordered pairs of hosts that may be cut.

    `vague` names faults that act in a way the conditions cannot tell (a cut that is not described, a slow link): while
    they last nobody can be held to anything.
    """

    begin: int
    end: int
    down: frozenset[str]
    cut: frozenset[tuple[str, str]]
    vague: tuple[str, ...]

    def connected(self, a: str, b: str) -> bool:
        """Tell whether two hosts surely reach each other in both directions."""
        return a == b or ((a, b) not in self.cut and (b, a) not in self.cut)


def _exits(facts: Facts) -> list[tuple[str, int, int]]:
    """Return which nodes ended by themselves, and until when: the next time they answered."""
    found = []
    for event in facts.history.lab("node-exit"):
        node = event.value.get("node") if isinstance(event.value, dict) else None
        if isinstance(node, str):
            back = [
                status.time for status in facts.observed.statuses
                if status.node == node and status.answered and status.asked > event.time
            ]  # fmt: skip
            found.append((node, event.time, min(back, default=int(NEVER))))
    return found


def states(facts: Facts, names: Sequence[str], begin: int, end: int) -> list[State]:
    """Cut the span into states in which nothing changes that concerns these nodes and hosts."""
    meta = facts.history.meta
    wanted = set(names) | {meta.host_of(name) for name in names}
    relevant: list[Window] = []
    for window in facts.windows:
        if window.family in ROLE_CHANGES:
            continue
        cut_here = any(a in wanted and b in wanted for a, b in window.cut or ())
        if hits_process(window) or (window.family not in NETWORK and not window.cut):
            if window.touches(wanted):
                relevant.append(window)
        elif cut_here or is_opaque(window):
            relevant.append(window)
    exits = [(node, a, b) for node, a, b in _exits(facts) if node in wanted]
    marks = {begin, end}
    for window in relevant:
        marks.update((window.a1, window.a2, window.h1, window.h2))
    for _, a, b in exits:
        marks.update((a, b))
    cuts = sorted(mark for mark in marks if begin <= mark <= end)
    found = []
    for low, high in pairwise(cuts):
        active = [window for window in relevant if window.a1 < high and perhaps_until(window) > low]
        down = {node for window in active if hits_process(window) for node in window.targets}
        down |= {node for node, a, b in exits if a < high and b > low}
        vague = tuple(
            window.id for window in active if is_opaque(window) or not (hits_process(window) or window.cut)
            or (hits_process(window) and not window.targets)
        )  # fmt: skip
        cut = frozenset(pair for window in active for pair in window.cut or ())
        found.append(State(low, high, frozenset(down), cut, vague))
    return found


@dataclass(frozen=True, slots=True)
class Needs:
    """Who takes part in serving one group: voters and how many of them it takes, client hosts, name servers."""

    voters: tuple[str, ...]
    quorum: int
    clients: tuple[str, ...]
    name_servers: tuple[str, ...]


def possible_leaders(facts: Facts, state: State, needs: Needs) -> list[str]:
    """Return the running voters that reach a quorum, themselves counted, both ways: any of them may lead.

    Empty if no quorum of voters reaches each other pairwise. With a handful of voters, trying all sets is cheapest.
    """
    host = facts.history.meta.host_of
    alive = [voter for voter in needs.voters if voter not in state.down]
    near = {one: {other for other in alive if state.connected(host(one), host(other))} for one in alive}
    whole = any(
        all(b in near[a] for a, b in combinations(some, 2)) for some in combinations(alive, max(needs.quorum, 0))
    )
    return [one for one in alive if len(near[one]) >= needs.quorum] if whole else []


def tolerable(facts: Facts, state: State, needs: Needs, *, every_client: bool = False) -> bool:
    """Tell whether a group must make progress in a state.

    A quorum runs and is connected; a client host (or every one) reaches whoever may lead, and so does a running name
    server that this client reaches. A client that reaches a quorum but not the leader is owed nothing: the leader has
    its quorum, so nobody will replace it.
    """
    if state.vague or needs.quorum < 1 or len(needs.voters) > VOTERS_MOST:
        return False
    host = facts.history.meta.host_of
    leaders = [host(one) for one in possible_leaders(facts, state, needs)]
    servers = [host(one) for one in needs.name_servers if one not in state.down]
    if not leaders:
        return False
    useful = [one for one in servers if all(state.connected(one, leader) for leader in leaders)]
    good = [
        client
        for client in needs.clients
        if client not in state.down
        and all(state.connected(client, leader) for leader in leaders)
        and any(state.connected(client, server) for server in useful)
    ]
    return bool(good) and (not every_client or len(good) == len(needs.clients))
