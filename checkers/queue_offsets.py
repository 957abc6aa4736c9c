"""C6, first part: offsets and values that contradict each other, whoever saw them.

Two values at one offset, one value at several, a value in a queue it was not sent to. Two SEND_OK values at one offset
are a violation always; after a role change an offset that was given again, where the other value had no promise, is
what a promotion does, and a note.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from checkers.columns import DRAIN, HANDLE, OK, Int
from checkers.explain import value_name
from checkers.facts import Facts
from checkers.verdict import KEPT_PER_TYPE, Anomaly, Findings, Severity


@dataclass(frozen=True, slots=True, eq=False)
class Clashes:
    """Rows of the log table that share queue and offset with the row before them, by what that means."""

    violations: Int
    notes: Int


@dataclass(frozen=True, slots=True, eq=False)
class Copies:
    """Rows of the log table whose value already stands at a smaller offset of the same queue."""

    violations: Int
    retried: Int


def find_clashes(facts: Facts) -> Clashes:
    """Find the offsets that carry two or more values."""
    logs = facts.logs
    rows = logs.clashes
    if not len(rows):
        return Clashes(rows, rows)
    real = np.flatnonzero(logs.value >= 0)
    # All rows of one (queue, offset), numbered alike.
    new = np.ones(len(real), dtype=bool)
    new[1:] = (logs.queue[real][1:] != logs.queue[real][:-1]) | (logs.offset[real][1:] != logs.offset[real][:-1])
    place = np.zeros(len(logs.queue), dtype=np.int64)
    place[real] = np.cumsum(new) - 1
    value = logs.value[real]
    strong = np.bincount(place[real], weights=logs.promised[value])
    firm = np.bincount(place[real], weights=~logs.revocable[real] & ~logs.promised[value] & ~logs.drained[value])
    excused = logs.rewound[logs.queue[rows]] & (strong[place[rows]] <= 1) & (firm[place[rows]] == 0)
    return Clashes(violations=rows[~excused], notes=rows[excused])


def find_copies(facts: Facts) -> Copies:
    """Find the values that stand at two or more offsets of one queue."""
    logs, sends = facts.logs, facts.history.sends
    rows = np.flatnonzero(logs.value >= 0)
    order = rows[np.lexsort((logs.offset[rows], logs.queue[rows], logs.value[rows]))]
    value, queue = logs.value[order], logs.queue[order]
    repeat = np.zeros(len(order), dtype=bool)
    repeat[1:] = (value[1:] == value[:-1]) & (queue[1:] == queue[:-1])
    again = order[repeat]
    if not len(again):
        return Copies(again, again)
    copies = np.bincount(logs.value[rows], minlength=len(logs.promised))
    sender = logs.sender[logs.value[again]]
    attempts = np.where(sender >= 0, sends.attempts[sender], 1) if len(sends) else np.ones(len(again))
    retried = (attempts > 1) & (copies[logs.value[again]] <= attempts)
    return Copies(violations=again[~retried], retried=again[retried])


def shown_by(facts: Facts, row: int) -> tuple[int, ...]:
    """Return the events that show a row of the log table: the send answered so, or the first reads of it."""
    history, logs = facts.history, facts.logs
    found: list[int] = []
    sends = np.flatnonzero(logs.send_row == row)
    found.extend(int(history.sends.returned[send]) for send in sends[:1])
    entries = np.flatnonzero(logs.entry_row == row)
    found.extend(int(history.reads.returned[history.entries.read[entry]]) for entry in entries[:1])
    return tuple(found)


def _promise(facts: Facts, value: int) -> str:
    sender = int(facts.logs.sender[value])
    if sender < 0:
        return "never sent"
    status = int(facts.history.sends.status[sender])
    if facts.logs.promised[value]:
        return "SEND_OK"
    return facts.history.statuses[status] if status >= 0 else "unknown outcome"


def report_clashes(facts: Facts, findings: Findings) -> None:
    """Report inconsistent offsets."""
    logs, history = facts.logs, facts.history
    clashes = find_clashes(facts)
    for rows, severity in ((clashes.violations, Severity.VIOLATION), (clashes.notes, Severity.NOTE)):
        for row in rows[:KEPT_PER_TYPE].tolist():
            before = row - 1
            while logs.value[before] < 0:
                before -= 1
            names = [value_name(history, int(logs.value[place])) for place in (before, row)]
            marks = [_promise(facts, int(logs.value[place])) for place in (before, row)]
            name, offset = facts.queue_name(int(logs.queue[row])), int(logs.offset[row])
            tail = (
                ""
                if severity is Severity.VIOLATION
                else "; after a promotion or the loss of a store only a promise must keep its place"
            )
            ops = (*shown_by(facts, before), *shown_by(facts, row))
            findings.found(
                Anomaly(
                    "inconsistent-offsets",
                    severity,
                    f"offset {offset} of {name} is both {names[0]} ({marks[0]}) and {names[1]} ({marks[1]}){tail}",
                    scope=name,
                    values=tuple(names),
                    offsets=(offset,),
                    ops=ops,
                    core=ops,
                )
            )
        findings.more("inconsistent-offsets", severity, len(rows) - KEPT_PER_TYPE)


def report_copies(facts: Facts, findings: Findings) -> None:
    """Report values at several offsets of one queue."""
    logs, history = facts.logs, facts.history
    copies = find_copies(facts)
    for rows, kind, severity in (
        (copies.violations, "duplicate", Severity.VIOLATION),
        (copies.retried, "retry-duplicate", Severity.NOTE),
    ):
        for row in rows[:KEPT_PER_TYPE].tolist():
            value = int(logs.value[row])
            places = np.flatnonzero((logs.value == value) & (logs.queue == logs.queue[row]))
            offsets = tuple(int(offset) for offset in logs.offset[places])
            ops = tuple(index for place in places[:4] for index in shown_by(facts, int(place)))
            sender = int(logs.sender[value])
            attempts = int(history.sends.attempts[sender]) if sender >= 0 else 1
            findings.found(
                Anomaly(
                    kind,
                    severity,
                    f"{value_name(history, value)} stands at offsets {', '.join(map(str, offsets))} of "
                    f"{facts.queue_name(int(logs.queue[row]))} after {attempts} attempt(s)",
                    scope=facts.queue_name(int(logs.queue[row])),
                    values=(value_name(history, value),),
                    offsets=offsets,
                    ops=ops,
                    core=ops,
                )
            )
        findings.more(kind, severity, len(rows) - KEPT_PER_TYPE)


def report_strays(facts: Facts, findings: Findings) -> None:
    """Report values seen in a queue other than the one they were sent to.

    A client library that may choose may have tried another queue before, and that attempt may have been stored.
    """
    logs, history = facts.logs, facts.history
    sends = history.sends
    if not len(sends):
        return
    rows = np.flatnonzero((logs.value >= 0) & (logs.sender[logs.value] >= 0))
    sender = logs.sender[logs.value[rows]]
    wanted = np.where(sends.asked[sender] >= 0, sends.asked[sender], sends.queue[sender])
    chosen = (sends.asked[sender] < 0) & (sends.attempts[sender] > 1)
    stray = rows[(wanted >= 0) & (wanted != logs.queue[rows]) & ~chosen]
    for row in stray[:KEPT_PER_TYPE].tolist():
        value = int(logs.value[row])
        send = int(logs.sender[value])
        asked = int(sends.asked[send]) if sends.asked[send] >= 0 else int(sends.queue[send])
        ops = (int(sends.invoked[send]), *shown_by(facts, row))
        findings.found(
            Anomaly(
                "cross-queue",
                Severity.VIOLATION,
                f"{value_name(history, value)} was sent to {facts.queue_name(asked)} and stands in "
                f"{facts.queue_name(int(logs.queue[row]))} at offset {int(logs.offset[row])}",
                scope=facts.queue_name(int(logs.queue[row])),
                values=(value_name(history, value),),
                offsets=(int(logs.offset[row]),),
                ops=ops,
                core=ops,
            )
        )
    findings.more("cross-queue", Severity.VIOLATION, len(stray) - KEPT_PER_TYPE)


def report_lost_writes(facts: Facts, findings: Findings) -> None:
    """Report messages that somebody read beyond and nobody ever saw.

    Only offsets between the lowest and the highest any ok read of the queue returned (or explicitly started at) count:
    below, a consumer may simply have begun later.
    """
    logs, history = facts.logs, facts.history
    entries, reads, sends = history.entries, history.reads, history.sends
    if not len(entries):
        return
    count = len(history.queues)
    low = np.full(count, np.iinfo(np.int64).max, dtype=np.int64)
    high = np.full(count, -1, dtype=np.int64)
    usable = (logs.entry_row >= 0) & (reads.type[entries.read] == OK) & (reads.kind[entries.read] != HANDLE)
    usable[usable] = logs.settled[logs.entry_row[usable]]
    queue = reads.queue[entries.read[usable]]
    np.minimum.at(low, queue, entries.offset[usable])
    np.maximum.at(high, queue, entries.offset[usable])
    started = np.flatnonzero((reads.asked >= 0) & (reads.type == OK) & (reads.stop > reads.start))
    np.minimum.at(low, reads.queue[started], reads.asked[started])
    drained = np.flatnonzero((reads.kind == DRAIN) & (reads.complete == 1) & (reads.type == OK))
    low[reads.queue[drained]] = 0
    rows = np.flatnonzero(
        (sends.type == OK)
        & (logs.send_row >= 0)
        & ~logs.seen[sends.value]
        & (sends.offset <= high[sends.queue])
        & (sends.offset >= low[sends.queue])
    )
    for mine, kind, severity in (
        (rows[facts.promised[rows]], "lost-write", Severity.VIOLATION),
        (rows[~facts.promised[rows]], "lost-write-weak", Severity.NOTE),
    ):
        for row in mine[:KEPT_PER_TYPE].tolist():
            queue_number, offset = int(sends.queue[row]), int(sends.offset[row])
            beyond = np.flatnonzero(usable & (entries.offset > offset))
            beyond = beyond[reads.queue[entries.read[beyond]] == queue_number]
            reader = (int(reads.returned[entries.read[beyond[0]]]),) if len(beyond) else ()
            ops = (int(sends.invoked[row]), int(sends.returned[row]), *reader)
            value = value_name(history, int(sends.value[row]))
            findings.found(
                Anomaly(
                    kind,
                    severity,
                    f"{value} was acknowledged at offset {offset} of {facts.queue_name(queue_number)}; readers went "
                    "beyond it and nobody ever saw it",
                    scope=facts.queue_name(queue_number),
                    values=(value,),
                    offsets=(offset,),
                    ops=ops,
                    core=ops,
                )
            )
        findings.more(kind, severity, len(mine) - KEPT_PER_TYPE)
