"""C12: was a reader shown data that the final log disowns?

Needs a decidable drain. What was promised and is gone is C1's finding; here it is the reader's view of it. A value
without SEND_OK that a promotion by hand took back is a note, since nothing was promised; without one, and without
a fault that takes a store away, it is a violation: somebody acted on a message that never was. In a Raft group readers
see committed messages only, so an election excuses nothing there.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from checkers.columns import Int, marked
from checkers.explain import value_name
from checkers.facts import Facts
from checkers.verdict import KEPT_PER_TYPE, Anomaly, Findings, Record, Severity

NAME: Final = "C12"
TITLE: Final = "nothing read is taken back"


def check_dirty_reads(facts: Facts) -> Record:
    """Run C12."""
    findings = Findings(NAME, TITLE)
    history, logs, drain = facts.history, facts.logs, facts.drain
    entries = history.entries
    findings.counts["entries judged"] = 0
    if not len(entries):
        if history.meta.mode == "dledger":
            findings.doubt("nothing was read, so nothing could be taken back")
        return findings.record()
    # A first drain that a restart of everything followed (D8) is an ordinary read. Whatever was shown was shown: to
    # handlers however they took it, and by an answer that broke off.
    ordinary = ~drain.final
    usable = ordinary[entries.read] & (logs.entry_row >= 0) & drain.decided[history.reads.queue[entries.read]]
    findings.counts["entries judged"] = int(np.count_nonzero(usable))
    total = int(np.count_nonzero(ordinary[entries.read] & (logs.entry_row >= 0)))
    if total:
        findings.coverage["entries read"] = int(np.count_nonzero(usable)) / total
    if unjudged := total - findings.counts["entries judged"]:
        findings.doubt(f"{unjudged} of {total} entries were read from queues whose final content is not known")
    final = np.zeros(len(logs.queue), dtype=bool)
    in_drain = drain.final[entries.read] & (logs.entry_row >= 0)
    final[logs.entry_row[in_drain]] = True
    rows = np.flatnonzero(marked(logs.entry_row[usable], len(logs.queue)))
    disowned = rows[~final[rows] & (logs.value[rows] >= 0)]
    kept = np.flatnonzero(final)
    taken = _key(facts, kept)
    replaced = np.isin(_key(facts, disowned), taken)
    promised = logs.promised[logs.value[disowned]]
    excused = ~promised & logs.revocable[disowned]
    for strong in (True, False):
        for other in (True, False):
            for note in (True, False):
                mine = disowned[(promised == strong) & (replaced == other) & (excused == note)]
                kind = ("" if strong else "unacked-") + ("dirty-read" if other else "vanished-read")
                severity = Severity.NOTE if note else Severity.VIOLATION
                for row in mine[:KEPT_PER_TYPE].tolist():
                    entry = int(np.flatnonzero(usable & (logs.entry_row == row))[0])
                    findings.found(
                        _shown(facts, kind, severity, row, int(entries.read[entry]), kept[taken == _key(facts, row)])
                    )
                findings.more(kind, severity, len(mine) - KEPT_PER_TYPE)
    return findings.record()


def _key(facts: Facts, rows: Any) -> Any:
    """Return one number for queue and offset of rows of the log table."""
    span = int(facts.logs.offset.max()) + 1 if len(facts.logs.offset) else 1
    return facts.logs.queue[rows].astype(np.int64) * span + facts.logs.offset[rows]


def _shown(facts: Facts, kind: str, severity: Severity, row: int, read: int, others: Int) -> Anomaly:
    history, logs, reads = facts.history, facts.logs, facts.history.reads
    value, queue, offset = int(logs.value[row]), int(logs.queue[row]), int(logs.offset[row])
    instead = (
        f"there is {value_name(history, int(logs.value[others[0]]))} now" if len(others) else "nothing of it is left"
    )
    why = (
        "; it was not acknowledged with SEND_OK, and a promotion or the loss of a store took it away"
        if severity is Severity.NOTE
        else ""
    )
    ops = (int(reads.invoked[read]), int(reads.returned[read]))
    return Anomaly(
        kind,
        severity,
        f"process {int(reads.process[read])} was given {value_name(history, value)} at offset {offset} of "
        f"{facts.queue_name(queue)}, and {instead}{why}",
        scope=facts.queue_name(queue),
        values=(value_name(history, value),),
        offsets=(offset,),
        ops=ops,
        core=ops,
    )
