"""C17: how long did sends and deliveries take? It measures; only a bound of the plan turns a figure into a violation.

A send counts from when it was meant to be issued, or every stall would hide the sends that were not issued during it;
where that is not recorded it counts from its invocation and is called closed loop. Sends with an unknown outcome are
counted apart. A message that was never delivered is censored: where too many are, a quantile is only known to be
larger. What was sent before a fault was over belongs to the phase of its send, whenever it was delivered. O(n log n).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from checkers.availability import AFTER_HEAL, NEEDED, NEVER_BACK, RECOVERED, Scope, measure
from checkers.columns import DRAIN, INFO, NEVER, OK, Int, Mask
from checkers.facts import Facts
from checkers.verdict import Anomaly, Findings, Record, Severity
from checkers.windows import ROLE_CHANGES

NAME: Final = "C17"
TITLE: Final = "latency"

QUANTILES: Final[Mapping[str, float]] = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999, "max": 1.0}
BIN: Final = 1.01
"""Each bin of the histogram ends so much above its begin: one per cent of relative error."""


def check_latency(facts: Facts) -> Record:
    """Run C17."""
    findings = Findings(NAME, TITLE)
    history, sends, time = facts.history, facts.history.sends, facts.history.events.time
    load = (sends.sentinel == 0) & (time[sends.invoked] <= facts.span.load_end)
    begin = np.where(sends.intended >= 0, np.minimum(sends.intended, time[sends.invoked]), time[sends.invoked])
    good = load & (sends.type == OK) & (sends.returned >= 0)
    closed = bool((good & (sends.intended < 0)).any())
    findings.mode = "closed loop: stalls hide the sends that were not issued" if closed else "open loop"
    took = time[sends.returned] - begin
    phase, names = phases_of(facts, time[sends.invoked])
    rows = [_row("send", "all", took[good])]
    rows += [_row("send", name, took[good & (phase == number)]) for number, name in enumerate(names)]
    first = _delivered(facts)[sends.value] if len(sends) else np.zeros(0, np.int64)
    read = _is_read(facts)
    promised = load & facts.promised & read
    seen = promised & (first < NEVER)
    if bool(promised.any()):
        rows.append(_row("delivery", "all", (first - begin)[seen], int(promised.sum() - seen.sum())))
        for number, name in enumerate(names):
            mine = promised & (phase == number)
            rows.append(_row("delivery", name, (first - begin)[mine & seen], int((mine & ~seen).sum())))
        waited = np.maximum(first - time[sends.returned], 0)
        rows.append(_row("from answer to delivery", "all", waited[seen], int(promised.sum() - seen.sum())))
    rows = [row for row in rows if row["count"] or row["censored"]]
    findings.details["quantiles ms"] = rows
    findings.details["queues ms"] = _by_queue(facts, good, took)
    findings.details["histogram ms"] = _histogram(took[good])
    findings.counts["sends measured"] = int(good.sum())
    findings.counts["unknown outcome, left out"] = int((load & (sends.type == INFO)).sum())
    findings.counts["never delivered"] = int(promised.sum() - seen.sum())
    for row in rows:
        if row["phase"] == "all":
            for name in ("p50", "p99", "max"):
                findings.metrics[f"{row['what']} {name} ms"] = _metric(row[name])
    bounds = history.meta.bounds
    _bounded(findings, "send", bounds.send_ms, rows)
    _bounded(findings, "delivery", bounds.delivery_ms, rows)
    return findings.record()


def phases_of(facts: Facts, when: Int) -> tuple[Int, list[str]]:
    """Return for each instant the number of its phase, and the phases' names: *before* all faults, *during* each,
    *recovery* from the end of its healing until the service is back, and *steady*."""
    names = ["before", "steady"]
    phase = np.where(when < min((w.a1 for w in facts.windows), default=int(NEVER)), 0, 1).astype(np.int64)
    sends, time = facts.history.sends, facts.history.events.time
    load = np.flatnonzero((sends.sentinel == 0) & (time[sends.invoked] <= facts.span.load_end))
    end = np.where(sends.returned[load] >= 0, time[sends.returned[load]], NEVER)
    scope = Scope("send", time[sends.invoked[load]], end, sends.type[load] == OK)
    starts = [window.a1 for window in facts.windows if window.family not in ROLE_CHANGES]
    ends: list[int] = []
    for window in facts.windows:
        later = min((start for start in starts if start > window.a1), default=None)
        found = measure(scope, window, facts.span.load_end, later, NEEDED) if len(scope) else None
        over = window.h2 if window.heal_seen else window.a2
        if found is not None and found.state == RECOVERED:
            over = max(over, window.a1 + round(found.upper * 1e9))
        if found is not None and found.state == AFTER_HEAL and found.after_heal is not None:
            over = max(over, window.h1 + round(min(found.after_heal[1], 1e6) * 1e9))
        if found is not None and found.state == NEVER_BACK:
            over = facts.span.load_end
        ends.append(over)
    for number, (window, over) in enumerate(zip(facts.windows, ends, strict=True)):
        names += [f"during {window.id}", f"recovery {window.id}"]
        healed = window.h2 if window.heal_seen or not window.permanent else window.a2
        phase[(when > healed) & (when <= over)] = 3 + 2 * number
    for number, window in enumerate(facts.windows):
        healed = window.h2 if window.heal_seen or not window.permanent else window.a2
        phase[(when >= window.a1) & (when <= healed)] = 2 + 2 * number
    return phase, names


def _delivered(facts: Facts) -> Int:
    """Return for each value when an ordinary read that returned it first ended ok (NEVER: none did)."""
    history, reads, entries = facts.history, facts.history.reads, facts.history.entries
    first = np.full(len(history.values), NEVER, dtype=np.int64)
    usable = (reads.kind != DRAIN)[entries.read] & (reads.type == OK)[entries.read] & (entries.value >= 0)
    np.minimum.at(first, entries.value[usable], history.events.time[reads.returned[entries.read[usable]]])
    return first


def _is_read(facts: Facts) -> Mask:
    """Mark the sends to queues that somebody reads during the load; of others no delivery is expected."""
    reads = facts.history.reads
    read = np.zeros(len(facts.history.queues) + 1, dtype=bool)
    read[np.unique(reads.queue[(reads.kind != DRAIN) & (reads.queue >= 0)])] = True
    marked: Mask = read[facts.send_queue]
    return marked & (facts.send_queue >= 0)


def _row(what: str, phase: str, took: Int, censored: int = 0) -> dict[str, Any]:
    """Return the quantiles of one set in milliseconds; one that the censored might exceed is `[x, null]`, above x."""
    ordered = np.sort(took) / 1e6
    total = len(ordered) + censored
    row: dict[str, Any] = {"what": what, "phase": phase, "count": len(ordered), "censored": censored}
    for name, share in QUANTILES.items():
        rank = max(0, int(np.ceil(share * total)) - 1)
        if rank < len(ordered):
            row[name] = round(float(ordered[rank]), 3)
        else:
            row[name] = [round(float(ordered[-1]), 3) if len(ordered) else 0.0, None] if total else None
    return row


def _metric(value: Any) -> Any:
    return (value[0], float("inf")) if isinstance(value, list) else value


def _by_queue(facts: Facts, good: Mask, took: Int) -> list[dict[str, Any]]:
    rows = []
    for queue in np.unique(facts.send_queue[good]).tolist():
        if queue >= 0:
            row = _row("send", "all", took[good & (facts.send_queue == queue)])
            rows.append({"queue": facts.history.queues[queue], **{key: row[key] for key in ("count", *QUANTILES)}})
    return rows


def _histogram(took: Int) -> list[list[float]]:
    """Return the bins that are not empty as [upper end, count]."""
    if not len(took):
        return []
    place = np.ceil(np.log(np.maximum(took / 1e6, 1e-3)) / np.log(BIN)).astype(np.int64)
    bins, counts = np.unique(place, return_counts=True)
    return [[round(float(BIN**number), 4), int(count)] for number, count in zip(bins, counts, strict=True)]


def _bounded(findings: Findings, what: str, bounds: Mapping[str, float], rows: list[dict[str, Any]]) -> None:
    """Hold quantiles over the whole load against the plan's bounds."""
    for name, bound in sorted(bounds.items()):
        row = next((one for one in rows if one["what"] == what and one["phase"] == "all"), None)
        if name not in QUANTILES:
            findings.doubt(f"there is no quantile {name}; there are {', '.join(QUANTILES)}")
        elif row is None:
            findings.doubt(f"no {what} was measured, so whether {name} is within {bound:g} ms is not known")
        elif isinstance(row[name], list):
            lower = row[name][0]
            severity = Severity.VIOLATION if lower > bound else Severity.UNDECIDED
            text = f"{name} of {what} is above {lower:g} ms, allowed are {bound:g} ms"
            findings.found(Anomaly("latency-exceeded", severity, text))
        elif row[name] > bound:
            text = f"{name} of {what} is {row[name]:g} ms, allowed are {bound:g} ms"
            findings.found(Anomaly("latency-exceeded", Severity.VIOLATION, text))
