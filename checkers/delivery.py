"""Delivery: after the drain, did every consumer group handle every message that was promised?

A message counts as served when a handler of the group took it, when it sits in the group's retry or dead-letter topic,
or when handling it had an unknown outcome. What is gone from the log itself is C1's finding and not counted here.
Several deliveries are legal and counted.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from checkers.columns import HANDLE, INFO, OK, POLL, Int, Mask
from checkers.drain import split_queue
from checkers.explain import send_story, some, value_name
from checkers.facts import Facts
from checkers.verdict import KEPT_PER_TYPE, Anomaly, Findings, Record, Severity

NAME: Final = "delivery"
TITLE: Final = "consumers get every promised message"


def check_delivery(facts: Facts) -> Record:
    """Judge each consumer group."""
    findings = Findings(NAME, TITLE)
    history = facts.history
    finals = _finals(facts)
    groups = list(dict.fromkeys([*history.meta.consumer_groups, *sorted({*finals, *_handling(facts)})]))
    for group in groups:
        _group(facts, group, finals.get(group), findings)
    findings.counts["groups"] = len(groups)
    return findings.record()


def _finals(facts: Facts) -> dict[str, dict[str, Any]]:
    """Return the lab's last look at each consumer group."""
    found: dict[str, dict[str, Any]] = {}
    for event in facts.history.lab("group-final"):
        if isinstance(event.value, dict) and event.value.get("group"):
            found[str(event.value["group"])] = event.value
    return found


def _handling(facts: Facts) -> list[str]:
    """Return the groups whose handlers took messages, whether the run names them or not."""
    reads, names = facts.history.reads, facts.history.groups
    return [names[number] for number in np.unique(reads.group[reads.kind == HANDLE]).tolist() if number >= 0]


def _served(facts: Facts, group: str, final: dict[str, Any] | None) -> tuple[Mask, Mask, set[int]]:
    """Return which values a group handled, which it perhaps handled, and the topics it is known to read."""
    history = facts.history
    reads, entries = history.reads, history.entries
    number = list(history.groups).index(group) if group in history.groups else -2
    mine = reads.group == number
    kind = HANDLE if bool((mine & (reads.kind == HANDLE)).any()) else POLL
    handled = np.zeros(len(history.values), dtype=bool)
    perhaps = np.zeros(len(history.values), dtype=bool)
    known = entries.value >= 0
    for mark, outcome in ((handled, OK), (perhaps, INFO)):
        rows = (mine & (reads.kind == kind) & (reads.type == outcome))[entries.read] & known
        mark[entries.value[rows]] = True
    for part in ("retry", "dead"):
        for name in (final or {}).get(part) or ():
            value = history.value_numbers.get(name)
            if value is not None and value >= 0:
                handled[value] = True
    return handled, perhaps, set(np.unique(reads.queue[mine]).tolist())


def _subscribed(facts: Facts, used: set[int], final: dict[str, Any] | None) -> Mask:
    """Mark the queues of every topic the group reads: a queue it never touched is one it skipped."""
    names = facts.history.queues
    topics = {split_queue(names[queue])[0] for queue in used}
    topics.update(split_queue(str(name))[0] for name in (final or {}).get("lag") or ())
    topics.update(str(name) for name in (final or {}).get("topics") or ())
    topics.discard("")
    every = not topics
    return np.array([every or split_queue(name)[0] in topics for name in names], dtype=bool) & ~facts.logs.alias


def _group(facts: Facts, group: str, final: dict[str, Any] | None, findings: Findings) -> None:
    history = facts.history
    sends = history.sends
    handled, perhaps, used = _served(facts, group, final)
    queues = _subscribed(facts, used, final)
    steps = [facts.drain.steps[key] for key in sorted(facts.drain.steps) if key[0] == "D9"]
    relevant = [step for step in steps if step.scope in {"*", "", group} or step.scope in history.queues]
    settled = bool(relevant) and all(step.ok for step in relevant)
    lag: dict[str, Any] = (final or {}).get("lag") or {}
    behind = {name: count for name, count in lag.items() if not isinstance(count, int) or count != 0}
    decided = settled and final is not None and final.get("ok") is True and not behind
    if not decided:
        reason = (
            "nothing was recorded of it after the drain"
            if final is None
            else f"it still lags, or is beyond the end, in {some(behind)}"
            if behind
            else "the lab could not read its final state"
            if final.get("ok") is not True
            else "it was not waited for until it had caught up (D9)"
        )
        findings.doubt(f"group {group}: {reason}")
    required = facts.promised & (facts.send_queue >= 0)
    required[required] = queues[facts.send_queue[required]]
    finished = max((step.time for step in relevant), default=0)
    required &= np.where(sends.returned >= 0, history.events.time[sends.returned] <= finished, False) | (
        sends.sentinel == 0
    )
    gone = np.zeros(len(sends), dtype=bool)
    for rows in (facts.lost.lost, facts.lost.vanished, facts.lost.undecided):
        gone[rows] = True
    gone[facts.lost.undecided] &= ~facts.logs.seen[sends.value[facts.lost.undecided]]  # what was read could be handled
    missing = np.flatnonzero(required & ~gone & ~handled[sends.value])
    certain = missing[~perhaps[sends.value[missing]]]
    findings.more("perhaps-handled", Severity.NOTE, len(missing) - len(certain))
    strangers = [
        name for part in ("retry", "dead") for name in (final or {}).get(part) or ()
        if (value := history.value_numbers.get(name, -1)) < 0 or not facts.logs.attempted[value]
    ]  # fmt: skip
    if strangers:
        findings.doubt(f"group {group}: its retry or dead-letter topic holds {some(strangers)}, which nobody sent")
    # What was answered only after its queue's sentinel had been sent may have been stored when the group had caught up.
    begun = np.where(facts.send_queue >= 0, facts.drain.asked[facts.send_queue], -1)
    late = (sends.sentinel == 0) & (begun >= 0) & (sends.returned > begun)
    _skipped(facts, findings, group, certain[~late[certain]], decided)
    _skipped(facts, findings, group, certain[late[certain]], False)
    required_count = int(np.count_nonzero(required & ~gone))
    findings.counts[f"{group} required"] = required_count
    findings.counts[f"{group} handled"] = int(np.count_nonzero(required & ~gone & handled[sends.value]))
    findings.counts[f"{group} retry"] = len((final or {}).get("retry") or ())
    findings.counts[f"{group} dead"] = len((final or {}).get("dead") or ())
    findings.counts[f"{group} duplicates"] = _duplicates(facts, group)
    findings.coverage[group] = 1.0 if decided else 0.0


def _skipped(facts: Facts, findings: Findings, group: str, certain: Int, decided: bool) -> None:
    """Report messages that a group never handled, as skipped if it is decided that it had all it was due."""
    history, sends = facts.history, facts.history.sends
    severity = Severity.VIOLATION if decided else Severity.UNDECIDED
    for row in certain[:KEPT_PER_TYPE].tolist():
        ops = tuple(int(i) for i in (sends.invoked[row], sends.returned[row]) if i >= 0)
        findings.found(
            Anomaly(
                "skipped",
                severity,
                f"{send_story(history, row)}; group {group} "
                + ("has caught up and never handled it" if decided else "has not been seen to handle it"),
                scope=group,
                values=(value_name(history, int(sends.value[row])),),
                offsets=(int(sends.offset[row]),) if sends.offset[row] >= 0 else (),
                ops=ops,
                core=ops,
            )
        )
    findings.more("skipped", severity, len(certain) - KEPT_PER_TYPE)


def _duplicates(facts: Facts, group: str) -> int:
    """Count how often a group handled a message again."""
    history = facts.history
    reads, entries = history.reads, history.entries
    if group not in history.groups:
        return 0
    number = list(history.groups).index(group)
    mine = ((reads.group == number) & (reads.kind == HANDLE) & (reads.type == OK))[entries.read] & (entries.value >= 0)
    counts = np.bincount(entries.value[mine]) if bool(mine.any()) else np.zeros(0, dtype=np.int64)
    return int((counts[counts > 1] - 1).sum())
