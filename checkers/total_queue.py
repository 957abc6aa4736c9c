"""C1: does every acknowledged message survive, and is nothing delivered that was never sent?

Works on the log of each queue: reading an offset again is no second delivery. A promise is SEND_OK and nothing else;
what was answered with a weaker status is counted when it is gone, and never held against the system.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from checkers.columns import FAIL, INFO, OK, Int
from checkers.explain import send_story, some, value_name
from checkers.facts import Facts
from checkers.logs import first_seen
from checkers.loss import attribute
from checkers.queue_offsets import shown_by
from checkers.verdict import KEPT_PER_TYPE, Anomaly, Findings, Record, Severity

NAME: Final = "C1"
TITLE: Final = "acknowledged messages survive"

_LOSSES: Final = frozenset({"lost", "vanished", "lost-weak"})


def check_total_queue(facts: Facts) -> Record:
    """Run C1."""
    findings = Findings(NAME, TITLE)
    _losses(facts, findings)
    _strangers(facts, findings)
    _duplicates(facts, findings)
    _drain(facts, findings)
    return findings.record()


def _ops(facts: Facts, row: int) -> tuple[int, ...]:
    sends = facts.history.sends
    return tuple(index for index in (int(sends.invoked[row]), int(sends.returned[row])) if index >= 0)


def _offer(facts: Facts, findings: Findings, kind: str, severity: Severity, rows: Int, tail: str) -> None:
    """Report sends, earliest first, each with its story and what became of it."""
    sends = facts.history.sends
    faults = attribute(facts, rows[:KEPT_PER_TYPE]) if kind in _LOSSES else [None] * KEPT_PER_TYPE
    for row, fault in zip(rows[:KEPT_PER_TYPE].tolist(), faults, strict=False):
        ops = _ops(facts, row)
        queue = int(facts.send_queue[row])
        findings.found(
            Anomaly(
                kind,
                severity,
                f"{send_story(facts.history, row)}; {tail}",
                scope=facts.queue_name(queue),
                values=(value_name(facts.history, int(sends.value[row])),),
                offsets=(int(sends.offset[row]),) if sends.offset[row] >= 0 else (),
                ops=ops,
                core=ops,
                fault=fault,
            )
        )
    findings.more(kind, severity, len(rows) - KEPT_PER_TYPE)


def _losses(facts: Facts, findings: Findings) -> None:
    lost = facts.lost
    _offer(
        facts, findings, "lost", Severity.VIOLATION, lost.lost,
        "it was acknowledged, the queue was read to its end after everything had healed, and it is not there",
    )  # fmt: skip
    _offer(
        facts, findings, "vanished", Severity.VIOLATION, lost.vanished,
        "it was acknowledged and delivered to a reader, and after everything had healed it is gone from the queue",
    )  # fmt: skip
    _offer(
        facts, findings, "lost", Severity.UNDECIDED, lost.undecided,
        "the drain did not show it, and proves nothing of it",
    )  # fmt: skip
    _offer(
        facts, findings, "lost-weak", Severity.NOTE, lost.weak,
        "that status promises nothing, and the message is gone",
    )  # fmt: skip
    findings.more("lost-weak-undecided", Severity.NOTE, len(lost.weak_undecided))
    sends = facts.history.sends
    findings.counts["attempted"] = len(sends)
    findings.counts["SEND_OK"] = int(np.count_nonzero(facts.promised))
    findings.counts["weaker status"] = int(np.count_nonzero(facts.weak))
    findings.counts["failed"] = int(np.count_nonzero(sends.type == FAIL))
    findings.counts["unknown outcome"] = int(np.count_nonzero(sends.type == INFO))
    findings.details["by status"] = status_table(facts)
    judged = np.ones(len(sends), dtype=bool)
    judged[lost.undecided] = False
    if promised := int(np.count_nonzero(facts.promised)):
        findings.coverage["promised messages"] = int(np.count_nonzero(facts.promised & judged)) / promised


def status_table(facts: Facts) -> list[dict[str, object]]:
    """Count by send outcome and status what was sent, what is proven kept, lost or undecided."""
    history, sends = facts.history, facts.history.sends
    lost = np.zeros(len(sends), dtype=bool)
    undecided = np.zeros(len(sends), dtype=bool)
    for rows in (facts.lost.lost, facts.lost.vanished, facts.lost.weak):
        lost[rows] = True
    for rows in (facts.lost.undecided, facts.lost.weak_undecided):
        undecided[rows] = True
    seen = facts.logs.seen[sends.value] if len(sends) else np.zeros(0, dtype=bool)
    table: list[dict[str, object]] = []
    status = np.where(sends.type == OK, sends.status.astype(np.int64), -1)
    for kind in (OK, FAIL, INFO):
        for number in np.unique(status[sends.type == kind]).tolist():
            mine = (sends.type == kind) & (status == number)
            word = (
                history.statuses[number] if number >= 0 else {OK: "ok", FAIL: "failed", INFO: "unknown outcome"}[kind]
            )
            promise = bool(facts.promised[mine].all())
            table.append(
                {
                    "status": word,
                    "promise": "must survive" if promise else "must not appear" if kind == FAIL else "nothing",
                    "sent": int(np.count_nonzero(mine)),
                    "kept": int(np.count_nonzero(mine & ~lost & ~undecided & (seen | (kind == OK)))),
                    "lost": int(np.count_nonzero(mine & lost)) if kind == OK else 0,
                    "undecided": int(np.count_nonzero(mine & undecided)),
                }
            )
    order = {"must survive": 0, "nothing": 1, "must not appear": 2}
    return sorted(table, key=lambda row: (order[str(row["promise"])], str(row["status"])))


def _strangers(facts: Facts, findings: Findings) -> None:
    """Values delivered though never attempted, or though their send certainly failed."""
    history, logs = facts.history, facts.logs
    sends, entries, reads = history.sends, history.entries, history.reads
    when = first_seen(history)
    unexpected = np.flatnonzero(logs.seen & ~logs.attempted)
    unexpected = unexpected[np.argsort(when[unexpected], kind="stable")]
    for value in unexpected[:KEPT_PER_TYPE].tolist():
        place = int(np.flatnonzero(entries.value == value)[0])
        read = int(entries.read[place])
        queue = int(reads.queue[read])
        offset = int(entries.offset[place])
        ops = (int(reads.returned[read]),)
        findings.found(
            Anomaly(
                "unexpected",
                Severity.VIOLATION,
                f"{facts.queue_name(queue)} delivered {value_name(history, value)} at offset {offset}, "
                "which nobody ever sent",
                scope=facts.queue_name(queue),
                values=(value_name(history, value),),
                offsets=(offset,),
                ops=ops,
                core=ops,
            )
        )
    findings.more("unexpected", Severity.VIOLATION, len(unexpected) - KEPT_PER_TYPE)
    _unreadable(facts, findings)
    if not len(sends):
        return
    failed = np.flatnonzero((sends.type == FAIL) & logs.seen[sends.value])
    _offer(
        facts, findings, "revived", Severity.VIOLATION, failed,
        "it was reported as certainly not done, and was delivered all the same",
    )  # fmt: skip
    recovered = np.flatnonzero((sends.type == INFO) & logs.seen[sends.value])
    findings.more("recovered", Severity.NOTE, len(recovered))


def _unreadable(facts: Facts, findings: Findings) -> None:
    """Bodies that no reader could read: nobody sent them, whatever was sent in their place."""
    logs = facts.logs
    rows = np.flatnonzero(logs.observed & (logs.value < 0))
    for row in rows[:KEPT_PER_TYPE].tolist():
        name, offset = facts.queue_name(int(logs.queue[row])), int(logs.offset[row])
        ops = shown_by(facts, row)
        text = f"{name} delivered an unreadable body at offset {offset}, which nobody ever sent"
        findings.found(Anomaly("unexpected", Severity.VIOLATION, text, name, (), (offset,), ops, ops))
    findings.more("unexpected", Severity.VIOLATION, len(rows) - KEPT_PER_TYPE)


def _duplicates(facts: Facts, findings: Findings) -> None:
    """The same value at several offsets, and the identity that ties all counts together."""
    history, logs = facts.history, facts.logs
    rows = np.flatnonzero(logs.observed & (logs.value >= 0))
    copies = np.bincount(logs.value[rows], minlength=len(history.values))
    # Values that only second-copy topics have shown were delivered once for this purpose.
    only_alias = logs.seen & (copies == 0)
    copies = copies + only_alias
    known = logs.attempted & (copies > 0)
    ok = int(np.count_nonzero(known))
    unexpected = int(copies[~logs.attempted].sum())
    duplicated = int((copies[known] - 1).sum())
    delivered = int(copies.sum())
    assert delivered == ok + unexpected + duplicated, (delivered, ok, unexpected, duplicated)
    findings.counts.update({"delivered": delivered, "delivered ok": ok})
    several = np.flatnonzero(known & (copies > 1))
    if not len(several):
        return
    attempts = history.sends.attempts[logs.sender[several]]
    strict = history.meta.exactly_once
    retried = (attempts > 1) & (copies[several] <= attempts)
    for values, kind, severity in (
        (several[~retried], "duplicated", Severity.VIOLATION),
        (several[retried], "retry-duplicate", Severity.VIOLATION if strict else Severity.NOTE),
    ):
        for value in values[:KEPT_PER_TYPE].tolist():
            mine = rows[logs.value[rows] == value]
            offsets = tuple(int(offset) for offset in logs.offset[mine])
            send = int(logs.sender[value])
            ops = tuple(
                dict.fromkeys((*_ops(facts, send), *(i for row in mine[:2] for i in shown_by(facts, int(row)))))
            )
            findings.found(
                Anomaly(
                    kind,
                    severity,
                    f"{value_name(history, value)} was sent with {int(history.sends.attempts[send])} attempt(s), and "
                    f"readers found it at offsets {', '.join(map(str, offsets))}",
                    scope=facts.queue_name(int(logs.queue[mine[0]])),
                    values=(value_name(history, value),),
                    offsets=offsets,
                    ops=ops,
                    core=ops,
                )
            )
        findings.more(kind, severity, len(values) - KEPT_PER_TYPE)


def _drain(facts: Facts, findings: Findings) -> None:
    """Say for which queues absence proves nothing, and where two drains of one queue differ."""
    drain, history = facts.drain, facts.history
    for unstable in drain.unstable:
        ready = facts.step("D4", unstable.queue) is True
        name = facts.queue_name(unstable.queue)
        findings.found(
            Anomaly(
                "unstable-drain",
                Severity.VIOLATION if ready else Severity.UNDECIDED,
                f"the reads of {name} after the load had stopped differ from offset {unstable.offset} on",
                scope=name,
                values=tuple(value_name(history, value) for value in unstable.values),
                offsets=(unstable.offset,),
                ops=unstable.ops,
                core=unstable.ops,
            )
        )
    # What failed must not turn up anywhere, so a queue of the run without a promise is read to its end as well.
    configured = history.meta.queues()
    numbers = {history.queue_numbers[name] for name in configured if name in history.queue_numbers}
    used = sorted(numbers | {int(queue) for queue in np.unique(facts.send_queue) if queue >= 0})
    open_queues = [queue for queue in used if not drain.decided[queue]]
    untouched = [name for name in configured if name not in history.queue_numbers]
    if untouched:
        findings.doubt(f"nobody wrote to {some(untouched)} or read from there, so what stands there is not known")
    if total := len(used) + len(untouched):
        findings.coverage["queues"] = 1 - (len(open_queues) + len(untouched)) / total
    for queue in open_queues:
        reasons = "; ".join(drain.why.get(queue, ()))
        text = f"{facts.queue_name(queue)}: what is missing proves nothing, because {reasons}"
        findings.found(Anomaly("undecidable", Severity.UNDECIDED, text, scope=facts.queue_name(queue)))
