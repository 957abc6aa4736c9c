"""C0: is the history sound, and did enough happen in it to say anything?

Rules 1-6 (dense indices and monotonic time; completions match; one outstanding operation a process; nothing after an
unknown outcome; unique values; no values of another run) are about the evidence itself: broken, they make the whole
run unknown whatever the other checkers found. The gates then ask for a minimum of activity.
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np

from checkers.builder import RULE_DENSE, RULE_KNOWN_RUN, RULE_ONE_OPEN, RULE_PAIRED, RULE_RETIRED, RULE_UNIQUE
from checkers.columns import DRAIN, FAIL, INFO, NEVER, OK, TYPES, History, Int, Mask, marked
from checkers.drain import split_queue
from checkers.event import SEND_OK, WEAK_STATUSES
from checkers.facts import Facts
from checkers.meta import GATE_NAMES, MODES
from checkers.verdict import Anomaly, Findings, Record, Severity
from checkers.windows import Window

NAME: Final = "C0"
TITLE: Final = "history and activity"
BROKEN: Final = "broken-history"
IDLE: Final = "insufficient-activity"

LOAD_MARKS: Final = ("load-begin", "load-end")
EARLY_NS: Final = 1_000_000_000
"""Clients are told when to begin, and may do so a moment before the lab has written it down."""
SILENT_NS: Final = 10_000_000_000
"""A load is over when the last answer has come, so some silence before its end is no wonder."""

_RULES: Final = {
    RULE_DENSE: "indices are dense and time never runs backwards",
    RULE_PAIRED: "every completion belongs to one open invocation",
    RULE_ONE_OPEN: "a process has at most one operation outstanding",
    RULE_RETIRED: "a process with an unknown outcome never acts again",
    RULE_UNIQUE: "no value is sent twice",
    RULE_KNOWN_RUN: "every value seen belongs to this run",
}


def is_broken(history: History) -> bool:
    """Tell whether the evidence itself is unreliable, which no verdict survives."""
    return bool(history.breach_counts) or history.damage is not None


def check_wellformed(facts: Facts) -> Record:
    """Run C0 over a history."""
    history = facts.history
    findings = Findings(NAME, TITLE)
    _soundness(history, findings)
    _activity(facts, findings)
    return findings.record()


def _soundness(history: History, findings: Findings) -> None:
    if history.damage is not None:
        findings.found(Anomaly(BROKEN, Severity.UNDECIDED, f"the history could not be read whole: {history.damage}"))
    for breach in history.breaches:
        rule = _RULES[breach.rule]
        text = f"rule {breach.rule} ({rule}): {breach.text}"
        ops = (breach.index,) if breach.index >= 0 else ()
        findings.found(Anomaly(BROKEN, Severity.UNDECIDED, text, ops=ops, core=ops))
    findings.more(BROKEN, Severity.UNDECIDED, sum(history.breach_counts.values()) - len(history.breaches))
    for name in sorted(set(history.meta.gates) - set(GATE_NAMES)):
        findings.doubt(f"there is no gate {name}; there are {', '.join(GATE_NAMES)}")
    if history.meta.mode not in MODES:
        findings.doubt(f"there is no mode {history.meta.mode}, so nobody knows which checks it needs; there are "
                       f"{', '.join(MODES)}")  # fmt: skip
    if not history.has_meta:
        findings.doubt("there is no meta event: nothing says what the cluster promised")
    if more := len(history.lab("meta")):
        findings.doubt(f"there are {more + 1} meta events, and only the first one counts")
    _statuses(history, findings)


def _statuses(history: History, findings: Findings) -> None:
    """A status that nobody knows may be a promise, and so may one that is recorded beside another outcome."""
    sends = history.sends
    for number, name in enumerate(history.statuses):
        if name not in (SEND_OK, *WEAK_STATUSES) and (count := int(np.count_nonzero(sends.status == number))):
            findings.doubt(f"{count} sends have the status {name}, and nobody knows what that promises")
        elif name == SEND_OK and (count := int(np.count_nonzero((sends.status == number) & (sends.type != OK)))):
            findings.doubt(f"{count} sends were answered {SEND_OK} and are recorded as if nobody had promised anything")


def operations(history: History) -> tuple[Int, Int, Int]:
    """Return (invocation index, outcome, f number) of every client operation; one that never ended is INFO."""
    events = history.events
    invoked = np.flatnonzero((events.type == 0) & (events.process >= 0))
    partner = events.partner[invoked]
    outcome = np.where(partner >= 0, events.type[partner], INFO)
    return invoked, outcome.astype(np.int64), events.f[invoked].astype(np.int64)


def inside_windows(facts: Facts, begin: Int, end: Int) -> Mask:
    """Mark the intervals `[begin, end]` (times) that touch any fault from its injection to its healing."""
    inside = np.zeros(len(begin), dtype=bool)
    for window in facts.windows:
        inside |= (begin <= window.h2) & (end > window.a1)
    return inside


def _activity(facts: Facts, findings: Findings) -> None:
    history, gates = facts.history, facts.history.meta.gate_values()
    invoked, outcome, f = operations(history)
    time = history.events.time
    begin = time[invoked]
    partner = history.events.partner[invoked]
    end = np.where(partner >= 0, time[partner], NEVER)
    for number, name in enumerate(history.functions):
        for kind in (OK, FAIL, INFO):
            count = int(np.count_nonzero((f == number) & (outcome == kind)))
            if count:
                findings.counts[f"{name} {TYPES[kind]}"] = count
    _causes(facts, findings)

    def gate(name: str, actual: float, required: float, *, at_most: bool = False, what: str) -> None:
        met = actual <= required if at_most else actual >= required
        findings.details.setdefault("gates", []).append(
            {"gate": name, "actual": round(float(actual), 4), "required": required, "met": met}
        )
        if not met:
            findings.found(Anomaly(IDLE, Severity.UNDECIDED, what))

    sends = history.sends
    good = facts.promised & (sends.sentinel == 0)
    total = int(np.count_nonzero(good))
    gate(
        "send_ok", total, gates.send_ok, what=f"only {total} sends were answered SEND_OK; {gates.send_ok:g} are needed"
    )
    delivered = _deliveries(history)
    gate(
        "deliveries", delivered, gates.deliveries,
        what=f"only {delivered} messages were delivered to readers; {gates.deliveries:g} are needed",
    )  # fmt: skip
    group_of = _send_groups(facts)
    for number, name in enumerate(sorted(history.meta.groups)):
        mine = int(np.count_nonzero(good & (group_of == number)))
        gate(
            f"send_ok {name}", mine, min(1, gates.send_ok),
            what=f"no send to {name} was answered SEND_OK, so the run shows nothing of it",
        )  # fmt: skip
    _around_faults(facts, good, gate)
    outside = ~inside_windows(facts, begin, end)
    normal = int(np.count_nonzero(outside))
    unknown = int(np.count_nonzero(outside & (outcome == INFO)))
    ratio = unknown / normal if normal else 0.0
    gate(
        "info_ratio", ratio, gates.info_ratio, at_most=True,
        what=f"{unknown} of {normal} operations outside all faults had an unknown outcome ({ratio:.1%}); "
        f"at most {gates.info_ratio:.0%} may",
    )  # fmt: skip
    kinds: dict[str, int] = {}
    for window in facts.windows:
        if window.injected.holds:
            for word in {window.kind, window.family}:
                kinds[word] = kinds.get(word, 0) + 1
    for fault, wanted in sorted(history.meta.expected_faults.items()):
        actual = kinds.get(fault, 0)
        gate(
            f"fault {fault}", actual, wanted,
            what=f"the plan asked for {wanted} × {fault}, proven are {actual}",
        )  # fmt: skip
    if not facts.span.drained or "drain-end" not in facts.span.seen:
        findings.doubt("the history ends before its drain did: nothing can be concluded from what is missing")
    elif facts.span.interrupted:
        findings.details["interrupted"] = True
        findings.doubt("the run was cut short: what its plan had still to do was not seen")
    _load_marks(facts, findings)


def _load_marks(facts: Facts, findings: Findings) -> None:
    """Many questions are asked of the load only, so the history must tell truly when it was."""
    span, sends = facts.span, facts.history.sends
    if missing := [mark for mark in LOAD_MARKS if mark not in span.seen]:
        findings.doubt(f"the history does not mark {' and '.join(missing)}, so nobody knows what belongs to the load")
        return
    begun = facts.history.events.time[sends.invoked[sends.sentinel == 0]]
    early = begun < span.load_begin - EARLY_NS
    if outside := int(np.count_nonzero(early | (begun > span.load_end))):
        findings.doubt(f"{outside} sends began outside the load as the history marks it")
    meta = facts.history.meta
    silent = span.load_end - int(begun.max(initial=0))
    if len(begun) and meta.gate_values().send_ok > 0 and silent > 2 * meta.operation_timeout_ns + SILENT_NS:
        findings.doubt(f"nobody sent anything in the last {silent / 1e9:.1f} s of the load")


def _causes(facts: Facts, findings: Findings) -> None:
    """Count why sends did not end ok."""
    sends = facts.history.sends
    for kind in (FAIL, INFO):
        numbers = sends.error[(sends.type == kind) & (sends.returned >= 0)]
        names, counts = np.unique(numbers[numbers >= 0], return_counts=True)
        if len(names):
            causes = sorted(
                ((int(count), facts.history.errors[int(name)]) for name, count in zip(names, counts, strict=True)),
                key=lambda pair: (-pair[0], pair[1]),
            )
            findings.details[f"send {TYPES[kind]} causes"] = [[name, count] for count, name in causes[:16]]


def _deliveries(history: History) -> int:
    """Count the distinct messages that ordinary reads and handlers were given."""
    entries, reads = history.entries, history.reads
    ordinary = (reads.kind[entries.read] != DRAIN) & (entries.value >= 0)
    return int(np.count_nonzero(marked(entries.value[ordinary], len(history.values))))


def _last_change(facts: Facts) -> int | None:
    """Return when the last fault of the load was over: healed, or for good done; None without faults.

    A fault that the drain heals leaves nothing of the load to count, so the one before it decides.
    """
    ends = [
        window.h2 if window.heal_seen else window.a2
        for window in facts.windows
        if window.permanent or (window.heal_seen and window.h1 < facts.span.load_end)
    ]
    return max(ends, default=None)


def _send_groups(facts: Facts) -> Int:
    """Return for each send the number of its broker group in the sorted list of configured groups (-1: none)."""
    names = sorted(facts.history.meta.groups)
    of_queue = np.array(
        [names.index(group) if (group := split_queue(name)[1]) in names else -1 for name in facts.history.queues],
        dtype=np.int64,
    )
    if not len(of_queue):
        return np.full(len(facts.send_queue), -1, dtype=np.int64)
    return np.where(facts.send_queue >= 0, of_queue[facts.send_queue], -1)


class _Gate(Protocol):
    def __call__(self, name: str, actual: float, required: float, *, at_most: bool = False, what: str) -> None: ...


def _around_faults(facts: Facts, good: Mask, gate: _Gate) -> None:
    """Apply the gates before the first fault, inside each, and after the last heal."""
    if not facts.windows:
        return
    history, gates = facts.history, facts.history.meta.gate_values()
    sends = history.sends
    when = history.events.time[sends.invoked]
    first = min(window.a1 for window in facts.windows)
    last = _last_change(facts)
    group_of = _send_groups(facts)
    for number, name in enumerate(sorted(history.meta.groups)):
        mine = good & (group_of == number)
        before = int(np.count_nonzero(mine & (when < first)))
        gate(
            f"warm_send_ok {name}", before, gates.warm_send_ok,
            what=f"before the first fault only {before} sends to {name} were answered SEND_OK; "
            f"{gates.warm_send_ok:g} are needed",
        )  # fmt: skip
        if last is not None:
            after = int(np.count_nonzero(mine & (when > last) & (when <= facts.span.load_end)))
            gate(
                f"recovered_send_ok {name}", after, gates.recovered_send_ok,
                what=f"after the last fault was over only {after} sends to {name} were answered SEND_OK; "
                f"{gates.recovered_send_ok:g} are needed",
            )  # fmt: skip
    for window in facts.windows:
        inside = _attempts(window, when)
        gate(
            f"attempts_per_fault {window.id}", inside, gates.attempts_per_fault,
            what=f"only {inside} sends were attempted while {window.kind} ({window.id}) lasted; "
            f"{gates.attempts_per_fault:g} are needed",
        )  # fmt: skip


def _attempts(window: Window, when: Int) -> int:
    """Sends that were begun while a fault was in effect: from when it was done to when its healing began."""
    return int(np.count_nonzero((when >= window.a2) & (when <= window.h1)))
