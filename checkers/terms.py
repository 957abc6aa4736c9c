"""Who led which term of a group, by everything that shows it: acknowledgements, status, election logs, replica logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from checkers.columns import NEVER, OK, Int, Mask
from checkers.facts import Facts

ACK: Final = "acknowledgements"
STATUS: Final = "status"
SERVING: Final = "serving"
ELECTION: Final = "election log"
LOG: Final = "replica log"


@dataclass(frozen=True, slots=True, eq=False)
class Acks:
    """Sends that were answered ok in a known group, as columns: one row each, in the order of `Sends`.

    `row` is the row of `Sends`, `group` and `node` count in the names beside (-1: not known), `begin` and `end` are
    times, `before` and `after` positions of the invocation and the completion, `strong` marks promises.
    """

    row: Int
    group: Int
    node: Int
    term: Int
    begin: Int
    end: Int
    before: Int
    after: Int
    strong: Mask
    groups: Sequence[str]
    nodes: Sequence[str]

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, slots=True)
class Claim:
    """One kind of evidence that a node led a term. `first` and `last` bound the instants of the earliest and of the
    latest such evidence (None: without a time), `ops` are the events that show them."""

    group: str
    term: int
    node: str
    kind: str
    first: tuple[int, int] | None
    last: tuple[int, int] | None
    count: int
    ops: tuple[int, ...]


def group_numbers(facts: Facts, names: Sequence[str]) -> Int:
    """Return for each queue number the place of its group in `names` (-1: not among them)."""
    place = {name: number for number, name in enumerate(names)}
    return np.array(
        [place.get(facts.group_of(queue), -1) for queue in range(len(facts.history.queues))], dtype=np.int64
    )


def acknowledgements(facts: Facts) -> Acks:
    """Return all acknowledged sends with their group, node and term."""
    history, sends, time = facts.history, facts.history.sends, facts.history.events.time
    groups = sorted(history.meta.groups)
    of_queue = group_numbers(facts, groups)
    rows = np.flatnonzero((sends.type == OK) & (sends.returned >= 0) & (facts.send_queue >= 0))
    group = of_queue[facts.send_queue[rows]] if len(rows) else np.zeros(0, np.int64)
    rows, group = rows[group >= 0], group[group >= 0]
    names: list[str] = sorted({node for one in history.meta.groups.values() for node in (*one.nodes, *one.learners)})
    place = {name: number for number, name in enumerate(names)}
    of_node = np.array([place.get(history.meta.node_at(name) or "", -1) for name in history.nodes] + [-1], np.int64)
    return Acks(
        row=rows, group=group, node=of_node[sends.node[rows]], term=facts.send_term[rows],
        begin=time[sends.invoked[rows]], end=time[sends.returned[rows]],
        before=sends.begin[rows], after=sends.end[rows], strong=facts.promised[rows], groups=groups, nodes=names,
    )  # fmt: skip


def _ack_claims(facts: Facts, acks: Acks) -> list[Claim]:
    sends = facts.history.sends
    known = np.flatnonzero((acks.node >= 0) & (acks.term >= 0))
    if not len(known):
        return []
    order = known[np.lexsort((acks.end[known], acks.term[known], acks.node[known], acks.group[known]))]
    keys = np.stack([acks.group[order], acks.node[order], acks.term[order]])
    starts = np.flatnonzero(np.concatenate([[True], (keys[:, 1:] != keys[:, :-1]).any(axis=0)]))
    stops = np.concatenate([starts[1:], [len(order)]])
    found = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        mine = order[start:stop]
        early, late = int(mine[0]), int(mine[np.argmax(acks.begin[mine])])
        ops = (int(sends.invoked[acks.row[early]]), int(sends.returned[acks.row[early]]))
        found.append(
            Claim(
                acks.groups[int(acks.group[early])], int(acks.term[early]), acks.nodes[int(acks.node[early])], ACK,
                (int(acks.begin[early]), int(acks.end[early])), (int(acks.begin[late]), int(acks.end[late])),
                len(mine), ops,
            )
        )  # fmt: skip
    return found


def claims(facts: Facts, acks: Acks) -> list[Claim]:
    """Return all claims of leadership, by group, term and node."""
    merged: dict[tuple[str, int, str, str], Claim] = {}

    def add(claim: Claim) -> None:
        key = (claim.group, claim.term, claim.node, claim.kind)
        old = merged.get(key)
        if old is None:
            merged[key] = claim
            return
        first = min((one for one in (old.first, claim.first) if one is not None), key=lambda one: one[1], default=None)
        last = max((one for one in (old.last, claim.last) if one is not None), key=lambda one: one[0], default=None)
        merged[key] = replace(old, first=first, last=last, count=old.count + claim.count)

    # Where answers to sends tell an epoch, those are the evidence between masters; a release's tell none. Where a
    # controller appoints masters both are.
    told = bool((acks.term >= 0).any()) and facts.history.meta.mode != "controller"
    appointed = () if told else facts.observed.appointed
    for status in (*facts.observed.statuses, *appointed):
        if status.leads and status.term is not None:
            when = (status.asked, status.time)
            kind = SERVING if status.serving else STATUS
            add(Claim(status.group, status.term, status.node, kind, when, when, 1, (status.index,)))
    for ballot in facts.observed.ballots:
        if ballot.event == "elected":
            at = None if ballot.time is None else (ballot.time, ballot.time)
            add(Claim(ballot.group, ballot.term, ballot.node, ELECTION, at, at, 1, (ballot.index,)))
    if facts.history.meta.mode == "dledger":
        for dump in facts.replicas.dumps:
            for epoch in dump.epochs:
                if facts.history.meta.group_of_node(epoch.id) == dump.group:
                    add(Claim(dump.group, epoch.number, epoch.id, LOG, None, None, 1, (dump.index,)))
    found = [*merged.values(), *_ack_claims(facts, acks)]
    return sorted(found, key=lambda one: (one.group, one.term, one.node, one.kind))


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a group and who led it, all evidence together. `first` and `last` bound the instants at which its
    leader surely was one, `begun` is the lower end of its earliest sign of any kind. `served` is the upper end of the
    earliest evidence that the leader served (an acknowledgement, or its own word), `seen` the lower end of the latest;
    None without any."""

    group: str
    number: int
    leaders: tuple[str, ...]
    first: int | None
    last: int | None
    begun: int | None
    served: int | None
    seen: int | None
    acks: int
    kinds: tuple[str, ...]


def timeline(found: Sequence[Claim]) -> Mapping[str, list[Term]]:
    """Return the terms of each group in order."""
    by_term: dict[tuple[str, int], list[Claim]] = {}
    for claim in found:
        by_term.setdefault((claim.group, claim.term), []).append(claim)
    terms: dict[str, list[Term]] = {}
    for (group, number), mine in sorted(by_term.items()):
        timed = [claim for claim in mine if claim.first is not None and claim.last is not None]
        serving = [claim for claim in timed if claim.kind in (ACK, SERVING)]
        terms.setdefault(group, []).append(
            Term(
                group, number, tuple(sorted({claim.node for claim in mine})),
                first=min((c.first[1] for c in timed if c.first), default=None),
                last=max((c.last[0] for c in timed if c.last), default=None),
                begun=min((c.first[0] for c in timed if c.first), default=None),
                served=min((c.first[1] for c in serving if c.first), default=None),
                seen=max((c.last[0] for c in serving if c.last), default=None),
                acks=sum(c.count for c in mine if c.kind == ACK),
                kinds=tuple(sorted({c.kind for c in mine})),
            )
        )  # fmt: skip
    return terms


def prefix_maximum(end: Int, key: Int, begin: Int) -> tuple[Int, Int]:
    """Return for each row the largest `key` among rows whose `end` lies before its `begin`, and that row (-1: none)."""
    order = np.argsort(end, kind="stable")
    sorted_end, sorted_key = end[order], key[order]
    highest = np.maximum.accumulate(sorted_key) if len(order) else sorted_key
    fresh = np.concatenate([[True], highest[1:] > highest[:-1]]) if len(order) else np.zeros(0, bool)
    holder = np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0)) if len(order) else order
    place = np.searchsorted(sorted_end, begin, side="left") - 1
    some = place >= 0
    best = np.where(some, highest[np.maximum(place, 0)] if len(order) else -1, -NEVER)
    row = np.where(some, order[holder[np.maximum(place, 0)]] if len(order) else -1, -1)
    return best, row
