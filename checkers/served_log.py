"""C7, the clients' side: do the replicas' logs hold what clients were told of them?

A record carries its queue and its place there. Where the final drain read a message elsewhere, the index that leads
readers does not point to the record that carries that place; where it read a message of which no replica holds a
record, it points to none. And in a Raft group a message was acknowledged in the term
of its record or, by a leader that was elected again, in a later one. Comparing replicas with each other can see
neither, since all may hold the same. O(entries read + records).
"""

from __future__ import annotations

import numpy as np

from checkers.columns import Int, Mask
from checkers.drain import split_queue
from checkers.dumps import Dump
from checkers.explain import value_name
from checkers.facts import Facts
from checkers.verdict import KEPT_PER_TYPE, Anomaly, Findings, Severity


def report_misplaced(facts: Facts, findings: Findings) -> None:
    """Report records that carry another place than the one at which the final drain read their message."""
    logs = facts.logs
    read = _drained(facts)
    place = np.full(len(facts.history.values), -1, dtype=np.int64)
    place[logs.value[read]] = _place(logs.queue[read], logs.offset[read])
    several = np.bincount(logs.value[read], minlength=len(place)) > 1  # copies, which C1 and C6 tell of
    judged = _judged(facts)
    for group, dumps in facts.replicas.final.items():
        severity = Severity.VIOLATION if _settled(facts, group) else Severity.UNDECIDED
        for dump in dumps:
            known = np.flatnonzero((dump.value >= 0) & (dump.queue >= 0) & (dump.queue_offset >= 0))
            known = known[judged[dump.queue[known]] & (place[dump.value[known]] >= 0) & ~several[dump.value[known]]]
            # What was written after the last sentinel was not drained any more: a late copy, say.
            known = known[~_late(facts, dump, known)]
            bad = known[place[dump.value[known]] != _place(dump.queue[known], dump.queue_offset[known])]
            for row in bad[:KEPT_PER_TYPE].tolist():
                findings.found(_misplaced(facts, dump, row, read, severity))
            findings.more("index-mismatch", severity, len(bad) - KEPT_PER_TYPE)


def report_unheld(facts: Facts, findings: Findings) -> None:
    """Report messages that the final drain read and of which no replica's log holds a record of that queue.

    Only where every replica was read whole, from the beginning of its log, after all had become equal. A promise that
    no log holds at all is *under-replicated*.
    """
    history, logs, drain = facts.history, facts.logs, facts.drain
    read = _drained(facts)
    read = read[logs.offset[read] <= drain.sentinel[logs.queue[read]]]
    groups = np.array([facts.group_of(queue) for queue in range(len(history.queues))], dtype=object)
    queue_of = np.full(len(history.values), -1, dtype=np.int64)
    queue_of[logs.value[read]] = logs.queue[read]
    for group, dumps in facts.replicas.final.items():
        meta = history.meta.groups.get(group)
        whole = meta is not None and set(meta.nodes) - drain.excluded <= {dump.node for dump in dumps}
        if not whole or any(d.problem is not None or d.begin > 0 for d in dumps) or not _settled(facts, group):
            continue
        held = np.zeros(len(history.values), dtype=bool)
        for dump in dumps:
            known = np.flatnonzero(dump.value >= 0)
            held[dump.value[known[queue_of[dump.value[known]] == dump.queue[known]]]] = True
        bad = read[(groups[logs.queue[read]] == group) & ~held[logs.value[read]]]
        if bool(logs.promised[logs.value[bad]].any()):
            nowhere = facts.replicas.holders(group, len(history.values)) == 0
            bad = bad[~(logs.promised[logs.value[bad]] & nowhere[logs.value[bad]])]
        for row in bad[:KEPT_PER_TYPE].tolist():
            name, value = facts.queue_name(int(logs.queue[row])), value_name(history, int(logs.value[row]))
            at = _drain_of(facts, row)
            ops = tuple(sorted({*at, *(dump.index for dump in dumps)}))
            text = (
                f"readers found {value} at {int(logs.offset[row])} of {name} in the end, and no replica of {group} "
                "holds a record of it there"
            )
            findings.found(
                Anomaly("index-mismatch", Severity.VIOLATION, text, group, (value,), (int(logs.offset[row]),), ops, ops)
            )
        findings.more("index-mismatch", Severity.VIOLATION, len(bad) - KEPT_PER_TYPE)


def report_early_answers(facts: Facts, findings: Findings) -> None:
    """Report records of a Raft group that are of a later term than the one their message was acknowledged in."""
    if facts.history.meta.mode != "dledger":
        return
    sends = facts.history.sends
    told = facts.promised & (sends.epoch >= 0) & (sends.attempts <= 1)
    term = np.full(len(facts.history.values), np.iinfo(np.int64).max, dtype=np.int64)
    term[sends.value[told]] = sends.epoch[told]
    home = np.full(len(facts.history.values), -1, dtype=np.int64)
    home[sends.value] = facts.send_queue
    for group, dumps in facts.replicas.final.items():
        for dump in dumps:
            known = np.flatnonzero((dump.value >= 0) & (dump.queue >= 0))
            known = known[home[dump.value[known]] == dump.queue[known]]  # copies that were sent back come later
            bad = known[dump.epoch[known] > term[dump.value[known]]]
            for row in bad[:KEPT_PER_TYPE].tolist():
                value = int(dump.value[row])
                send = int(facts.logs.sender[value])
                text = (
                    f"{value_name(facts.history, value)} was acknowledged in term {int(term[value])} of {group}, but "
                    f"its record at {int(dump.offset[row])} on {dump.node} is of term {int(dump.epoch[row])}"
                )
                ops = (int(sends.invoked[send]), int(sends.returned[send]), dump.index)
                findings.found(
                    Anomaly(
                        "ack-before-record", Severity.VIOLATION, text, group, (), (int(dump.offset[row]),), ops, ops
                    )
                )
            findings.more("ack-before-record", Severity.VIOLATION, len(bad) - KEPT_PER_TYPE)


def _settled(facts: Facts, group: str) -> bool:
    return facts.drain.step("D4", ("*", "", group)) is True


def _drain_of(facts: Facts, row: int) -> tuple[int, int]:
    """Return the events of a final drain that showed a row of the log table."""
    entries, reads = facts.history.entries, facts.history.reads
    entry = int(np.flatnonzero((facts.logs.entry_row == row) & facts.drain.final[entries.read])[0])
    at = int(entries.read[entry])
    return int(reads.invoked[at]), int(reads.returned[at])


def _drained(facts: Facts) -> Int:
    """Return the rows of the log table that the final drains of decidable queues showed."""
    history, logs, drain = facts.history, facts.logs, facts.drain
    entries = history.entries
    if not len(entries):
        return np.zeros(0, dtype=np.int64)
    final = drain.final[entries.read] & (logs.entry_row >= 0) & drain.decided[history.reads.queue[entries.read]]
    shown = np.zeros(len(logs.queue), dtype=bool)
    shown[logs.entry_row[final]] = True
    return np.flatnonzero(shown & (logs.value >= 0))


def _judged(facts: Facts) -> Mask:
    """Mark the queues whose topic clients use by themselves, those that only a dump has shown among them."""
    history = facts.history
    topics = {split_queue(name)[0] for name, alias in zip(history.queues, facts.logs.alias, strict=True) if not alias}
    return np.array([split_queue(name)[0] in topics for name in facts.replicas.queue_names] or [False], dtype=bool)


def _late(facts: Facts, dump: Dump, rows: Int) -> Mask:
    top = np.full(len(facts.replicas.queue_names) + 1, -1, dtype=np.int64)
    top[: len(facts.drain.sentinel)] = facts.drain.sentinel
    reached: Mask = (top[dump.queue[rows]] >= 0) & (dump.queue_offset[rows] > top[dump.queue[rows]])
    return reached


def _place(queue: Int, offset: Int) -> Int:
    """Return one number for queue and offset."""
    return queue.astype(np.int64) * 2**40 + offset


def _misplaced(facts: Facts, dump: Dump, row: int, read: Int, severity: Severity) -> Anomaly:
    logs, value = facts.logs, int(dump.value[row])
    seen = int(read[np.flatnonzero(logs.value[read] == value)[0]])
    text = (
        f"the record of {value_name(facts.history, value)} at {int(dump.offset[row])} on {dump.node} is entry "
        f"{int(dump.queue_offset[row])} of {facts.queue_name(int(dump.queue[row]))}, but readers found it at "
        f"{int(logs.offset[seen])} of {facts.queue_name(int(logs.queue[seen]))}"
    )
    ops = tuple(sorted({dump.index, *_drain_of(facts, seen)}))
    return Anomaly("index-mismatch", severity, text, dump.group, (), (int(dump.offset[row]),), ops, ops)
