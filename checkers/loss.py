"""C16: how much was lost by which fault? RPO as counts and intervals.

It only measures: whether a loss is a violation is C1's to say (SEND_OK lost always is). A bound in the plan turns
what it measures into a violation. A lost message is attributed by the terms of its group (the leader timeline of C8):
to the fault that overlaps, or last precedes, the change of term by which the log it was in was taken over; where the
terms show no such change, to the first fault that could still have touched it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from checkers.columns import Int
from checkers.facts import Facts
from checkers.terms import LOG, Term, acknowledgements, claims, timeline
from checkers.verdict import Anomaly, Findings, Record, Severity
from checkers.windows import ROLE_CHANGES, Window

NAME: Final = "C16"
TITLE: Final = "data lost per fault"
GRACE_NS: Final = 10_000_000_000
"""How long after a fault's healing a message acknowledged later may still be lost by it."""

UNATTRIBUTED: Final = "unattributed"


@dataclass(frozen=True, slots=True)
class Loss:
    """What one fault cost. Times in seconds; `age` is how old the oldest lost acknowledgement was when it struck."""

    fault: str
    promised: int
    weak: int
    undecided: int
    age: tuple[float, float]
    acked_during: int
    acked_during_span: tuple[float, float] | None
    longest_run: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "fault": self.fault,
            "lost SEND_OK": self.promised,
            "lost weaker": self.weak,
            "rpo_count": [self.promised, self.promised + self.undecided],
            "rpo_time": [round(self.age[0], 3), round(self.age[1], 3)],
            "acked_during_lost": self.acked_during,
            "acked_during": None if self.acked_during_span is None else [round(t, 3) for t in self.acked_during_span],
            "longest_run": self.longest_run,
        }


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a message is lost: the fault, and the change of term that took over or cut the log it was in, if the terms
    show one (`at`: between which instants)."""

    fault: str
    group: str = ""
    term: int | None = None
    at: tuple[int, int] | None = None


def attribute(facts: Facts, rows: Int) -> list[str]:
    """Return for each lost send the id of the fault that cost it."""
    return [cause.fault for cause in causes(facts, rows)]


def causes(facts: Facts, rows: Int) -> list[Cause]:
    """Return for each lost send what cost it (rules 1 to 3 of C16).

    1. The log of its term was taken over by the next one: the fault that overlaps that change, or the last before it.
    2. Else the first fault that could still have touched it. 3. Else nothing explains it.
    """
    if not len(rows):
        return []
    history = facts.history
    sends, time = history.sends, history.events.time
    changes = _changes(facts)
    result: list[Cause] = []
    near: dict[str, list[Window]] = {}
    by_epoch: dict[tuple[str, int], Cause | None] = {}
    for row in rows.tolist():
        group, epoch = facts.group_of(int(facts.send_queue[row])), int(facts.send_term[row])
        if group not in near:
            meta = history.meta.groups.get(group)
            touching = [window for window in facts.windows if window.touches({*(meta.nodes if meta else ()), group})]
            near[group] = [window for window in touching if window.family not in ROLE_CHANGES] or touching
        if (group, epoch) not in by_epoch:
            by_epoch[group, epoch] = _taken_over(near[group], changes.get(group, []), epoch)
        chosen = by_epoch[group, epoch]
        if chosen is None:
            acked = int(time[sends.returned[row]])
            could = [window for window in near[group] or facts.windows if window.h2 + GRACE_NS >= acked]
            first = min(could, key=lambda window: window.a1, default=None)
            chosen = Cause(first.id if first is not None else UNATTRIBUTED, group)
        result.append(chosen)
    return result


@dataclass(frozen=True, slots=True)
class _Change:
    """The beginning of a term, and between which instants it lay."""

    group: str
    term: int
    low: int
    high: int


def _changes(facts: Facts) -> dict[str, list[_Change]]:
    """Return for each group the beginnings of its terms, in order.

    By the leader timeline of C8, and where the replicas' logs tell their terms only those that left a record: another
    one has cut nothing. Where nobody knows which node answered, by the first acknowledgement of each term.
    """
    found: dict[str, list[_Change]] = {}
    for group, terms in timeline(claims(facts, acknowledgements(facts))).items():
        logged = {term.number for term in terms if LOG in term.kinds}
        found[group] = [_change(term) for term in terms if not logged or term.number in logged]
    for group, starts in _first_acks(facts).items():
        found.setdefault(group, [_Change(group, term, at, at) for term, at in starts])
    return found


def _change(term: Term) -> _Change:
    ends = [instant for instant in (term.served, term.first) if instant is not None]
    low = -1 if term.begun is None else term.begun
    return _Change(term.group, term.number, low, min(ends, default=low))


def _first_acks(facts: Facts) -> dict[str, list[tuple[int, int]]]:
    """Return for each group its epochs with the time of the first acknowledgement each gave."""
    sends, time = facts.history.sends, facts.history.events.time
    known = np.flatnonzero((facts.send_term >= 0) & (facts.promised | facts.weak) & (facts.send_queue >= 0))
    starts: dict[str, dict[int, int]] = {}
    pairs = facts.send_queue[known] * (2**31) + facts.send_term[known]
    for pair in np.unique(pairs).tolist():
        queue, epoch = divmod(pair, 2**31)
        first = int(time[sends.returned[known[pairs == pair]]].min())
        of_group = starts.setdefault(facts.group_of(queue), {})
        of_group[epoch] = min(first, of_group.get(epoch, first))
    return {group: sorted(epochs.items()) for group, epochs in starts.items()}


def _taken_over(near: Sequence[Window], changes: Sequence[_Change], epoch: int) -> Cause | None:
    """Return the fault during or before the change to the term that followed this one; None if none followed."""
    change = next((one for one in changes if one.term > epoch >= 0), None)
    if change is None or change.low < 0:
        return None
    overlapping = [window for window in near if window.a1 <= change.high and window.h2 >= change.low]
    before = overlapping or [window for window in near if window.a1 <= change.high]
    chosen = max(before, key=lambda window: window.a1, default=None)
    return None if chosen is None else Cause(chosen.id, change.group, change.term, (change.low, change.high))


def losses(facts: Facts) -> list[Loss]:
    """Measure what each fault cost; what no fault explains comes last."""
    lost = facts.lost
    promised = np.concatenate([lost.lost, lost.vanished])
    by_fault: dict[str, dict[str, list[int]]] = {}
    for kind, rows in (("promised", promised), ("weak", lost.weak), ("undecided", lost.undecided)):
        for row, fault in zip(rows.tolist(), attribute(facts, rows), strict=True):
            by_fault.setdefault(fault, {}).setdefault(kind, []).append(row)
    ids = [window.id for window in facts.windows]
    found = [_measure(facts, window, by_fault.get(window.id, {})) for window in facts.windows]
    found.extend(_measure(facts, None, by_fault[fault]) for fault in sorted(set(by_fault) - set(ids)))
    return found


def _measure(facts: Facts, window: Window | None, rows: dict[str, list[int]]) -> Loss:
    sends, time = facts.history.sends, facts.history.events.time
    promised = np.array(rows.get("promised", []), dtype=np.int64)
    acked = time[sends.returned[promised]] if len(promised) else np.zeros(0, dtype=np.int64)
    age = (0.0, 0.0)
    during = np.zeros(0, dtype=np.int64)
    if window is not None and len(promised):
        before = acked[acked < window.a2]
        if len(before):
            oldest = int(before.min())
            age = (max(0, window.a1 - oldest) / 1e9, max(0, window.a2 - oldest) / 1e9)
        during = np.sort(acked[acked >= window.a2])
    return Loss(
        fault=window.id if window is not None else UNATTRIBUTED,
        promised=len(promised),
        weak=len(rows.get("weak", [])),
        undecided=len(rows.get("undecided", [])),
        age=age,
        acked_during=len(during),
        acked_during_span=(int(during[0]) / 1e9, int(during[-1]) / 1e9) if len(during) else None,
        longest_run=_longest_run(facts, promised),
    )


def _longest_run(facts: Facts, lost: Int) -> int:
    """Return the most acknowledged messages lost one after another in any queue, by the offsets answered."""
    sends = facts.history.sends
    if not len(lost):
        return 0
    is_lost = np.zeros(len(sends), dtype=bool)
    is_lost[lost] = True
    rows = np.flatnonzero(facts.promised & (sends.offset >= 0))
    order = rows[np.lexsort((sends.begin[rows], sends.offset[rows], sends.queue[rows]))]
    longest, run, queue = 1, 0, -1
    for number, bad in zip(sends.queue[order].tolist(), is_lost[order].tolist(), strict=True):
        run = run + 1 if bad and number == queue else int(bad)
        queue = number
        longest = max(longest, run)
    return longest


def check_loss(facts: Facts) -> Record:
    """Run C16."""
    findings = Findings(NAME, TITLE)
    found = losses(facts)
    bounds = facts.history.meta.bounds
    lost = facts.lost
    findings.counts["lost SEND_OK"] = len(lost.lost) + len(lost.vanished)
    findings.counts["lost weaker"] = len(lost.weak)
    findings.counts["undecided SEND_OK"] = len(lost.undecided)
    findings.details["losses"] = [loss.to_json() for loss in found]
    findings.details["taken over"] = _costly_changes(facts)
    findings.details["promise"] = "only SEND_OK is a promise; C1 decides whether one was broken"
    for loss in found:
        findings.metrics[f"RPO {loss.fault} messages"] = (loss.promised, loss.promised + loss.undecided)
        findings.metrics[f"RPO {loss.fault} s"] = (round(loss.age[0], 3), round(loss.age[1], 3))
        _bounded(findings, loss, "rpo_count", loss.promised, loss.promised + loss.undecided, bounds.rpo_count)
        _bounded(findings, loss, "rpo_s", loss.age[0], loss.age[1], bounds.rpo_s)
        _bounded(findings, loss, "lost_weak", loss.weak, loss.weak, bounds.lost_weak)
    if bounds.lost_weak is not None and len(lost.weak_undecided):
        findings.doubt(
            f"{len(lost.weak_undecided)} messages with a weaker status are missing, and the drain proves nothing"
        )
    used = np.unique(facts.send_queue[facts.promised])
    open_queues = [queue for queue in used.tolist() if queue >= 0 and not facts.drain.decided[queue]]
    if len(lost.undecided):
        findings.doubt(f"{len(lost.undecided)} acknowledged messages are missing where the drain proves nothing")
    elif open_queues:
        findings.doubt(f"{len(open_queues)} of {len(used)} queues were not drained so that loss could be decided")
    return findings.record()


_BOUNDED: Final = {
    "rpo_count": "messages answered SEND_OK that it lost",
    "rpo_s": "seconds that the oldest acknowledgement it lost was old when it struck",
    "lost_weak": "messages answered with a weaker status that it lost",
}


def _costly_changes(facts: Facts) -> list[dict[str, Any]]:
    """Return the changes of term that cost something: between which instants, with which fault, and how many."""
    rows = np.concatenate([facts.lost.lost, facts.lost.vanished, facts.lost.weak])
    counted: dict[Cause, int] = {}
    for cause in causes(facts, rows):
        if cause.at is not None:
            counted[cause] = counted.get(cause, 0) + 1
    return [
        {"group": one.group, "term": one.term, "at": [round(t / 1e9, 3) for t in one.at or ()], "fault": one.fault,
         "lost": count}
        for one, count in sorted(counted.items(), key=lambda pair: (pair[0].group, pair[0].term or 0))
    ]  # fmt: skip


def _bounded(findings: Findings, loss: Loss, what: str, lower: float, upper: float, bound: float | None) -> None:
    if bound is None or upper <= bound:
        return
    proven = lower > bound
    measured = f"{lower:g}" if lower == upper else f"between {lower:g} and {upper:g}"
    text = f"fault {loss.fault}: {_BOUNDED[what]}: {measured}, allowed are {bound:g} ({what})"
    severity = Severity.VIOLATION if proven else Severity.UNDECIDED
    findings.found(Anomaly("rpo-exceeded", severity, text, fault=loss.fault))
