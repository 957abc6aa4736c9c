"""C14: how long was the service away? RTO per fault and scope as an interval, and the largest gaps.

The lower end is what is proven (from the fault's effect to the last failing call), the upper end what cannot be
excluded (from the asking of the fault to the end of the first call of lasting success). An unknown outcome counts as
failing: the caller got no answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from checkers.columns import HANDLE, NEVER, OK, POLL, READ, Int, Mask
from checkers.departures import departures, worst
from checkers.drain import split_queue
from checkers.explain import span
from checkers.facts import Facts
from checkers.verdict import Anomaly, Findings, Record, Severity
from checkers.windows import ROLE_CHANGES, Window

NAME: Final = "C14"
TITLE: Final = "time to recover"

HOLD_NS: Final = 5_000_000_000
"""Success must last this long (or three periods of the load) to count as recovered."""

NEEDED: Final = 10
"""And this many operations must succeed within it."""

FEWEST: Final = 3
"""Successes it takes at the very least, where the load ends before the hold time does."""

NONE_VISIBLE: Final = "none visible"
RECOVERED: Final = "recovered"
AFTER_HEAL: Final = "after heal"
NEVER_BACK: Final = "never"
CENSORED: Final = "censored"
NO_DATA: Final = "no data"


@dataclass(frozen=True, eq=False)
class Scope:
    """The operations of one scope in order of invocation, times in nanoseconds."""

    name: str
    begin: Int
    end: Int
    good: Mask

    def __len__(self) -> int:
        return len(self.begin)

    @cached_property
    def period(self) -> float:
        """Return the median distance of invocations in nanoseconds."""
        return float(np.median(np.diff(self.begin))) if len(self) > 2 else 0.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """RTO of one fault in one scope, seconds. `gap` is the longest time between successes around the fault."""

    fault: str
    scope: str
    state: str
    lower: float
    upper: float
    gap: float
    failing: int
    after_heal: tuple[float, float] | None = None
    cut_short: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return plain values; an open upper end is null."""
        return {
            "fault": self.fault,
            "scope": self.scope,
            "state": self.state,
            "rto": [round(self.lower, 3), None if self.upper == float("inf") else round(self.upper, 3)],
            "gap": round(self.gap, 3),
            "failing": self.failing,
            "after_heal": None
            if self.after_heal is None
            else [
                round(self.after_heal[0], 3),
                None if self.after_heal[1] == float("inf") else round(self.after_heal[1], 3),
            ],
            "cut_short": self.cut_short,
        }


def _sorted(name: str, begin: Int, end: Int, good: Mask) -> Scope:
    order = np.argsort(begin, kind="stable")
    return Scope(name, begin[order], end[order], good[order])


def scopes(facts: Facts) -> list[Scope]:
    """Build the scopes of a history: all sends, each group, each queue, and what consumers received."""
    history = facts.history
    sends, time = history.sends, history.events.time
    load = (sends.sentinel == 0) & (time[sends.invoked] <= facts.span.load_end) if len(sends) else np.zeros(0, bool)
    begin = time[sends.invoked]
    end = np.where(sends.returned >= 0, time[sends.returned], NEVER)
    good = sends.type == OK
    found = [_sorted("send", begin[load], end[load], good[load])]
    groups = np.array([facts.group_of(queue) for queue in range(len(history.queues))], dtype=object)
    names = sorted({split_queue(name)[1] for name in history.queues} - {""})
    for name in names:
        mine = load & (facts.send_queue >= 0)
        mine[mine] = groups[facts.send_queue[mine]] == name
        if bool(mine.any()):
            found.append(_sorted(f"send {name}", begin[mine], end[mine], good[mine]))
    for queue in np.unique(facts.send_queue[load]).tolist():
        mine = load & (facts.send_queue == queue)
        if queue >= 0:
            found.append(_sorted(f"send {history.queues[queue]}", begin[mine], end[mine], good[mine]))
    found.append(_deliveries(facts))
    return [scope for scope in found if len(scope)]


def _deliveries(facts: Facts) -> Scope:
    """What consumers got: reads that brought something new succeed, failing ones fail, empty ones say nothing."""
    history, logs = facts.history, facts.logs
    reads, entries, time = history.reads, history.entries, history.events.time
    wanted = ((reads.kind == POLL) | (reads.kind == READ) | (reads.kind == HANDLE)) & (
        time[reads.invoked] <= facts.span.load_end if len(reads) else np.zeros(0, bool)
    )
    newest = np.full(len(logs.queue), NEVER, dtype=np.int64)
    usable = (logs.entry_row >= 0) & wanted[entries.read]
    position = history.events.position[reads.returned[entries.read]]
    np.minimum.at(newest, logs.entry_row[usable], position[usable])
    fresh = np.zeros(len(reads), dtype=bool)
    new = usable.copy()
    new[usable] = newest[logs.entry_row[usable]] == position[usable]
    fresh[entries.read[new]] = True
    rows = np.flatnonzero(wanted & (((reads.type == OK) & fresh) | (reads.type != OK)))
    _, first = np.unique(reads.invoked[rows], return_index=True)
    rows = rows[np.sort(first)]
    good = reads.type[rows] == OK
    return _sorted("delivery", time[reads.invoked[rows]], time[reads.returned[rows]], good)


def recovery_point(scope: Scope, since: int, until: int, hold: float, needed: int) -> tuple[int, bool] | None:
    """Return the row of the first success that lasts, and whether the hold time was cut short by `until`.

    Lasting means: within `hold` nanoseconds nothing fails and at least `needed` operations succeed; where `until` comes
    first, in what is left of it, and in proportion.
    """
    failing = np.flatnonzero(~scope.good)
    candidates = np.flatnonzero(scope.good & (scope.begin >= since) & (scope.begin <= until))
    if not len(candidates):
        return None
    following = np.searchsorted(failing, candidates)
    next_failure = (
        np.where(following < len(failing), scope.begin[failing[np.minimum(following, len(failing) - 1)]], NEVER)
        if len(failing)
        else np.full(len(candidates), NEVER, dtype=np.int64)
    )
    limit = scope.begin[candidates] + int(hold)
    successes = np.concatenate([[0], np.cumsum(scope.good)])
    last = np.searchsorted(scope.begin, limit, side="right")
    left = np.clip((until - scope.begin[candidates]) / hold, 0.0, 1.0)
    wanted = np.clip(np.floor(needed * left), min(FEWEST, needed), needed)
    enough = successes[last] - successes[candidates] >= wanted
    lasting = np.flatnonzero((next_failure > limit) & enough)
    if not len(lasting):
        return None
    row = int(candidates[lasting[0]])
    return row, bool(scope.begin[row] + hold > until)


def _gap(scope: Scope, since: int, until: int) -> float:
    """Return the longest time between completions of successes around a span, in nanoseconds."""
    done = np.sort(scope.end[scope.good & (scope.end < NEVER)])
    if not len(done):
        return float(until - since)
    low = max(int(np.searchsorted(done, since)) - 1, 0)
    high = min(int(np.searchsorted(done, until)) + 1, len(done))
    around = done[low:high]
    return float(np.diff(around).max()) if len(around) > 1 else 0.0


def measure(scope: Scope, window: Window, end: int, next_fault: int | None, needed: int = NEEDED) -> Recovery:
    """Measure one fault in one scope. `end` is the end of the load, `next_fault` when the next fault began."""
    hold = max(HOLD_NS, 3 * scope.period)
    if scope.period:
        # A scope with little load cannot show ten successes in that time; half of what it does is enough.
        needed = max(1, min(needed, int(hold / scope.period / 2)))
    gap = _gap(scope, window.a1, min(window.h2, end)) / 1e9
    after = scope.begin >= window.a1
    if not bool((after & (scope.begin <= end)).any()):
        return Recovery(window.id, scope.name, NO_DATA, 0.0, float("inf"), gap, 0)
    point = recovery_point(scope, window.a1, end, hold, needed)
    row = point[0] if point else len(scope)
    back_at = int(scope.begin[row]) if point else int(NEVER)
    failing = np.flatnonzero(~scope.good & after & (scope.begin < back_at))
    count = len(failing)
    if next_fault is not None and next_fault < back_at:
        before = failing[scope.begin[failing] < next_fault]
        if not len(before):
            gap = _gap(scope, window.a1, next_fault) / 1e9
            return Recovery(window.id, scope.name, NONE_VISIBLE, 0.0, gap, gap, 0, cut_short=True)
        lower = max(0, int(scope.begin[before[-1]]) - window.a2)
        return Recovery(window.id, scope.name, CENSORED, lower / 1e9, float("inf"), gap, len(before))
    if point is not None and not count:
        return Recovery(window.id, scope.name, NONE_VISIBLE, 0.0, gap, gap, 0, cut_short=point[1])
    lower = max(0, int(scope.begin[failing[-1]]) - window.a2) if count else 0
    if point is not None and (back_at <= window.h1 or not window.heal_seen):
        upper = int(scope.end[row]) - window.a1
        return Recovery(window.id, scope.name, RECOVERED, lower / 1e9, upper / 1e9, gap, count, cut_short=point[1])
    if not window.heal_seen or point is None:
        lower = max(lower, (window.h1 if window.heal_seen else end) - window.a2)
        return Recovery(window.id, scope.name, NEVER_BACK, lower / 1e9, float("inf"), gap, count)
    healed = (
        max(0, int(scope.begin[failing[-1]]) - window.h2) / 1e9 if count else 0.0,
        max(0, int(scope.end[row]) - window.h1) / 1e9,
    )
    return Recovery(
        window.id, scope.name, AFTER_HEAL, max(0, window.h1 - window.a2) / 1e9, float("inf"), gap, count, healed,
        point[1],
    )  # fmt: skip


def recoveries(facts: Facts, among: Sequence[Scope]) -> list[Recovery]:
    """Measure every fault in every scope."""
    # Promoting a replica is what people do to recover, no further fault that ends the measurement.
    starts = [window.a1 for window in facts.windows if window.family not in ROLE_CHANGES]
    found: list[Recovery] = []
    for scope in among:
        needed = 1 if scope.name == "delivery" else NEEDED
        for window in facts.windows:
            later = min((start for start in starts if start > window.a1), default=None)
            found.append(measure(scope, window, facts.span.load_end, later, needed))
    return found


_RANK: Final = {NEVER_BACK: 5, AFTER_HEAL: 4, CENSORED: 3, RECOVERED: 2, NONE_VISIBLE: 1, NO_DATA: 0}


def service_recovery(rows: Sequence[Recovery]) -> Recovery | None:
    """Return the worst queue's recovery: the service is back when its last queue is."""
    queues = [row for row in rows if row.scope.startswith("send ") and row.scope.count("/") >= 2]
    candidates = queues or [row for row in rows if row.scope == "send"]
    return max(candidates, key=lambda row: (_RANK[row.state], row.upper, row.lower), default=None)


def check_availability(facts: Facts) -> Record:
    """Run C14."""
    findings = Findings(NAME, TITLE)
    among = scopes(facts)
    found = recoveries(facts, among)
    by_fault: dict[str, list[Recovery]] = {}
    for row in found:
        by_fault.setdefault(row.fault, []).append(row)
    findings.details["recoveries"] = [row.to_json() for row in found]
    _shares(facts, among, findings)
    bounds = facts.history.meta.bounds
    service_rows: dict[str, Any] = {}
    findings.details["service"] = service_rows
    listed = departures(facts)
    findings.details["departures"] = [row.to_json() for row in listed]
    for window in facts.windows:
        rows = by_fault.get(window.id, [])
        service = service_recovery(rows)
        consumer = next((row for row in rows if row.scope == "delivery"), None)
        if service is not None:
            findings.metrics[f"RTO {window.id} s"] = _interval(service)
            service_rows[window.id] = service.to_json()
            queues = sorted(
                (row for row in rows if row.scope.count("/") >= 2), key=lambda row: (row.upper, row.lower, row.scope)
            )
            if queues:
                findings.details.setdefault("queues", {})[window.id] = {
                    "first": queues[0].to_json(),
                    "median": queues[len(queues) // 2].to_json(),
                    "last": queues[-1].to_json(),
                }
            _bounded(findings, window, service, bounds.rto_s, "service")
        elif bounds.rto_s is not None:
            findings.doubt(f"{window.kind} ({window.id}): no sends to measure")
        if consumer is not None:
            findings.metrics[f"consumer RTO {window.id} s"] = _interval(consumer)
            _bounded(findings, window, consumer, bounds.consumer_rto_s, "consumers")
        elif bounds.consumer_rto_s is not None:
            findings.doubt(f"{window.kind} ({window.id}): no deliveries to measure")
        if (longest := worst(listed, window.id)) is not None:
            findings.metrics[f"listed after {window.id} s"] = (round(longest[0], 3), round(longest[1], 3))
    return findings.record()


def _interval(row: Recovery) -> tuple[float, float]:
    return (round(row.lower, 3), row.upper if row.upper == float("inf") else round(row.upper, 3))


def _bounded(findings: Findings, window: Window, row: Recovery, bound: float | None, who: str) -> None:
    """Hold a recovery against the plan's bound: proven longer is a violation, perhaps longer is unknown."""
    if bound is None or row.upper <= bound:
        return
    text = f"{window.kind} ({window.id}): {who} away for {span(row.lower, row.upper)}, allowed are {bound:g} s"
    proven = row.lower > bound
    findings.found(
        Anomaly(
            "rto-exceeded",
            Severity.VIOLATION if proven else Severity.UNDECIDED,
            text if proven else text + " (the measurement is too coarse to tell)",
            scope=row.scope,
            ops=window.ops,
            core=window.ops,
            fault=window.id,
        )
    )


def _shares(facts: Facts, among: Sequence[Scope], findings: Findings) -> None:
    """Share of sends answered ok before, during and after the faults, and the largest gap of all."""
    send = next((scope for scope in among if scope.name == "send"), None)
    if send is None or not len(send):
        return
    findings.metrics["largest gap s"] = round(
        _gap(send, int(send.begin[0]), max(int(send.begin[-1]), int(send.begin[0]))) / 1e9, 3
    )
    faulty = np.zeros(len(send), dtype=bool)
    for window in facts.windows:
        faulty |= (send.begin >= window.a1) & (send.begin <= window.h2)
    first = min((window.a1 for window in facts.windows), default=int(NEVER))
    for name, mask in (("before", send.begin < first), ("during", faulty), ("after", ~faulty & (send.begin >= first))):
        if total := int(np.count_nonzero(mask)):
            findings.metrics[f"available {name}"] = round(int(np.count_nonzero(send.good & mask)) / total, 5)
