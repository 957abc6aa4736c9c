"""C6: the log of each queue as senders and readers saw it, after the Jepsen Kafka workload's catalogue of anomalies."""

from __future__ import annotations

from typing import Final

import numpy as np

from checkers.append_log import Ranged, inversions
from checkers.columns import FAIL, HANDLE, NEVER, OK, Int
from checkers.explain import seconds, value_name
from checkers.facts import Facts
from checkers.poll_order import (
    measure_lag,
    report_between_polls,
    report_from_elsewhere,
    report_inside_polls,
    report_send_order,
)
from checkers.queue_offsets import report_clashes, report_copies, report_lost_writes, report_strays
from checkers.verdict import KEPT_PER_TYPE, Anomaly, Findings, Record, Severity

NAME: Final = "C6"
TITLE: Final = "queues read as they were written"


def check_queue_log(facts: Facts) -> Record:
    """Run C6."""
    findings = Findings(NAME, TITLE)
    report_clashes(facts, findings)
    report_copies(facts, findings)
    report_strays(facts, findings)
    report_lost_writes(facts, findings)
    _unseen(facts, findings)
    report_inside_polls(facts, findings)
    report_between_polls(facts, findings)
    report_from_elsewhere(facts, findings)
    report_send_order(facts, findings)
    _aborted_reads(facts, findings)
    _future_reads(facts, findings)
    _key_order(facts, findings)
    _handled_counts(facts, findings)
    measure_lag(facts, findings)
    findings.counts["distinct entries"] = len(facts.logs.queue)
    findings.counts["entries read"] = len(facts.history.entries)
    return findings.record()


def _unseen(facts: Facts, findings: Findings) -> None:
    """Acknowledged and never read by the end: lost where the drain decides (C1 says so), else undecided."""
    missing = facts.lost.undecided
    undecided = missing[~facts.logs.seen[facts.history.sends.value[missing]]]
    findings.counts["unseen"] = len(undecided) + len(facts.lost.lost)
    for row in undecided[:KEPT_PER_TYPE].tolist():
        value = value_name(facts.history, int(facts.history.sends.value[row]))
        name = facts.queue_name(int(facts.send_queue[row]))
        ops = (int(facts.history.sends.invoked[row]), int(facts.history.sends.returned[row]))
        findings.found(
            Anomaly("unseen", Severity.UNDECIDED, f"{value} was acknowledged and never read from {name}", name,
                    (value,), (), ops, ops)
        )  # fmt: skip
    findings.more("unseen", Severity.UNDECIDED, len(undecided) - KEPT_PER_TYPE)


def _report_reads(facts: Facts, findings: Findings, kind: str, entries_found: Int, words: str) -> None:
    history = facts.history
    entries, reads, sends = history.entries, history.reads, history.sends
    _, first = np.unique(entries.value[entries_found], return_index=True)
    distinct = entries_found[np.sort(first)]
    for entry in distinct[:KEPT_PER_TYPE].tolist():
        value = int(entries.value[entry])
        read = int(entries.read[entry])
        send = int(facts.logs.sender[value])
        name = facts.queue_name(int(reads.queue[read]))
        ops = tuple(
            int(i)
            for i in (sends.invoked[send], sends.returned[send], reads.invoked[read], reads.returned[read])
            if i >= 0
        )
        findings.found(
            Anomaly(
                kind,
                Severity.VIOLATION,
                f"process {int(reads.process[read])} read {value_name(history, value)} from {name} by "
                f"{seconds(history.time_of(int(reads.returned[read])))}, {words}",
                scope=name,
                values=(value_name(history, value),),
                offsets=(int(entries.offset[entry]),),
                ops=ops,
                core=ops,
            )
        )
    findings.more(kind, Severity.VIOLATION, len(distinct) - KEPT_PER_TYPE)


def _aborted_reads(facts: Facts, findings: Findings) -> None:
    """G1a: an ok read returned a value whose send had certainly failed."""
    entries, reads, sends = facts.history.entries, facts.history.reads, facts.history.sends
    if not len(sends) or not len(entries):
        return
    sender = np.where(entries.value >= 0, facts.logs.sender[entries.value], -1)
    bad = (sender >= 0) & (sends.type[sender] == FAIL) & (reads.type[entries.read] == OK)
    _report_reads(facts, findings, "G1a", np.flatnonzero(bad), "although its send had certainly failed")


def _future_reads(facts: Facts, findings: Findings) -> None:
    """A read that was over before the value it returned was sent."""
    entries, reads, sends = facts.history.entries, facts.history.reads, facts.history.sends
    if not len(sends) or not len(entries):
        return
    sender = np.where(entries.value >= 0, facts.logs.sender[entries.value], -1)
    over = facts.history.events.position[reads.returned[entries.read]]
    bad = (sender >= 0) & (over < sends.begin[sender])
    _report_reads(facts, findings, "future-read", np.flatnonzero(bad), "before it was sent")


def _key_order(facts: Facts, findings: Findings) -> None:
    """Orderly groups: of two sends with one key, the earlier one's first delivery may not begin after the later's.

    The same question as C5 asks, about deliveries: sends sorted by their end carry the latest beginning of a first
    delivery; every send compares the end of its own first delivery with it.
    """
    history = facts.history
    sends, reads, entries = history.sends, history.reads, history.entries
    if not bool((sends.key >= 0).any()):
        return
    orderly = (reads.kind == HANDLE) & (reads.orderly == 1)
    for group in np.unique(reads.group[orderly]).tolist():
        mine = np.flatnonzero((orderly & (reads.group == group))[entries.read] & (entries.value >= 0))
        begun = np.full(len(history.values), NEVER, dtype=np.int64)
        over = np.full(len(history.values), NEVER, dtype=np.int64)
        np.minimum.at(begun, entries.value[mine], reads.begin[entries.read[mine]])
        np.minimum.at(over, entries.value[mine], reads.end[entries.read[mine]])
        rows = np.flatnonzero((sends.key >= 0) & (begun[sends.value] < NEVER))
        ops = Ranged(
            queue=sends.key[rows].astype(np.int64),
            begin=sends.begin[rows],
            end=sends.end[rows],
            lo=begun[sends.value[rows]],
            hi=over[sends.value[rows]],
            what=rows,
            offset=rows,
        )
        later, earlier = inversions(ops)
        name = history.groups[group] if group >= 0 else "?"
        for second, first in zip(later[:KEPT_PER_TYPE].tolist(), earlier[:KEPT_PER_TYPE].tolist(), strict=True):
            a, b = int(rows[first]), int(rows[second])
            values = tuple(value_name(history, int(sends.value[row])) for row in (a, b))
            key = history.keys[int(sends.key[a])]
            given = [_delivered(facts, mine, int(sends.value[row])) for row in (b, a)]
            sent = (int(sends.invoked[a]), int(sends.returned[a]), int(sends.invoked[b]), int(sends.returned[b]))
            shown = tuple(dict.fromkeys(i for i in (*sent, given[0][0], given[0][1], *given[1]) if i >= 0))
            findings.found(
                Anomaly(
                    "key-order",
                    Severity.VIOLATION,
                    f"with key {key}, {values[0]} was acknowledged at {_when(facts, sent[1])}, before {values[1]} was "
                    f"sent at {_when(facts, sent[2])}, but group {name} had handled {values[1]} by "
                    f"{_when(facts, given[0][1])} and was not given {values[0]} before {_when(facts, given[1][0])}",
                    scope=name,
                    values=values,
                    ops=shown,
                    core=shown,
                )
            )
        findings.more("key-order", Severity.VIOLATION, len(later) - KEPT_PER_TYPE)


def _when(facts: Facts, index: int) -> str:
    return seconds(facts.history.time_of(index))


def _delivered(facts: Facts, mine: Int, value: int) -> tuple[int, int]:
    """Return when a value's first delivery among some entries began, and when the first was over, as events."""
    reads, entries = facts.history.reads, facts.history.entries
    rows = entries.read[mine[entries.value[mine] == value]]
    return int(reads.invoked[rows[np.argmin(reads.begin[rows])]]), int(reads.returned[rows[np.argmin(reads.end[rows])]])


def _handled_counts(facts: Facts, findings: Findings) -> None:
    """Count per group how often messages were handled; more than once is only wrong where exactly-once is promised."""
    history = facts.history
    reads, entries = history.reads, history.entries
    handled = (reads.kind == HANDLE) & (reads.type == OK)
    for group in np.unique(reads.group[handled]).tolist():
        mine = (handled & (reads.group == group))[entries.read] & (entries.value >= 0)
        counts = np.bincount(entries.value[mine])
        times, messages = np.unique(counts[counts > 0], return_counts=True)
        name = history.groups[group] if group >= 0 else "?"
        findings.details.setdefault("handled times", {})[name] = {
            str(int(n)): int(m) for n, m in zip(times, messages, strict=True)
        }
        repeated = int(messages[times > 1].sum())
        if repeated:
            severity = Severity.VIOLATION if history.meta.exactly_once else Severity.NOTE
            most = int(np.argmax(counts))
            rows = np.unique(entries.read[np.flatnonzero(mine & (entries.value == most))])[:4]
            ops = tuple(int(i) for row in rows for i in (reads.invoked[row], reads.returned[row]))
            example = value_name(history, most)
            text = f"group {name} handled {repeated} messages more than once, {example} {int(counts[most])} times"
            findings.found(Anomaly("consume-count", severity, text, name, (example,), (), ops, ops))
