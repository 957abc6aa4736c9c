"""C5: does the order of the log agree with the order of real time? Exact for queues whose offsets are known.

Every operation allows a range `[lo, hi]` of log states (state 2k+1: in the middle of the append at offset k; 2L: the
log holds exactly L). If `a` had ended before `b` began and `lo(a) > hi(b)`, no order of the operations explains both;
if there is no such pair, raising each operation to the largest `lo` of its predecessors is a legal order. One sweep
per queue finds the worst pair for every operation.

In `append-only` mode reads may lag (consumers read from replicas) and only speak against later appends; in `strict`
mode end offsets and empty reads must be fresh too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from checkers.columns import HANDLE, NEVER, OK, READ, Int, Mask
from checkers.explain import seconds, value_name
from checkers.facts import Facts
from checkers.queue_offsets import Clashes, find_clashes, find_copies
from checkers.verdict import KEPT_PER_TYPE, Anomaly, Findings, Record, Severity

NAME: Final = "C5"
TITLE: Final = "order of the log agrees with real time"
APPEND_ONLY: Final = "append-only"
STRICT: Final = "strict"
MODE_TEXT: Final = {
    APPEND_ONLY: "appends only; reads not judged for freshness",
    STRICT: "strict; reads judged for freshness",
}

_ANY: Final = NEVER


@dataclass(frozen=True, slots=True, eq=False)
class Ranged:
    """Operations of one or many queues with their positions and allowed log states. `what` is an event index."""

    queue: Int
    begin: Int
    end: Int
    lo: Int
    hi: Int
    what: Int
    offset: Int

    def __len__(self) -> int:
        return len(self.queue)


def inversions(ops: Ranged) -> tuple[Int, Int]:
    """Return for each operation that contradicts an earlier one (its row, the row of the worst earlier one).

    Exact and O(n log n): operations of a queue sorted by end carry the running maximum of `lo`; each operation asks
    for the maximum among those that ended before it began.
    """
    if not len(ops):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    ended = np.flatnonzero(ops.end < NEVER)
    order = ended[np.lexsort((ops.end[ended], ops.queue[ended]))]
    suspects: list[Int] = []
    causes: list[Int] = []
    queue_sorted = ops.queue[order]
    tested = np.flatnonzero(ops.hi < _ANY)
    tested = tested[np.argsort(ops.queue[tested], kind="stable")]
    for queue in np.unique(ops.queue[tested]).tolist():
        low, high = np.searchsorted(queue_sorted, [queue, queue + 1])
        mine = order[low:high]
        if not len(mine):
            continue
        highest = np.maximum.accumulate(ops.lo[mine])
        first, last = np.searchsorted(ops.queue[tested], [queue, queue + 1])
        later = tested[first:last]
        before = np.searchsorted(ops.end[mine], ops.begin[later], side="left")
        limit = np.where(before > 0, highest[np.maximum(before - 1, 0)], -1)
        bad = np.flatnonzero(limit > ops.hi[later])
        if len(bad):
            rows = later[bad]
            witness = np.searchsorted(highest, limit[bad], side="left")
            suspects.append(rows)
            causes.append(mine[witness])
    if not suspects:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate(suspects), np.concatenate(causes)


def _appends(facts: Facts) -> Ranged:
    """One operation for each settled (queue, offset, value) whose send is known."""
    logs, sends = facts.logs, facts.history.sends
    rows = np.flatnonzero(logs.settled & (logs.value >= 0))
    rows = rows[logs.sender[logs.value[rows]] >= 0]
    send = logs.sender[logs.value[rows]]
    answered = (
        (sends.type[send] == OK) & (sends.queue[send] == logs.queue[rows]) & (sends.offset[send] == logs.offset[rows])
    )
    answered |= (sends.type[send] == OK) & (sends.offset[send] < 0) & (sends.attempts[send] == 1)
    # A copy at an offset the client was never told of may have been written at any later time.
    state = 2 * logs.offset[rows] + 1
    return Ranged(
        queue=logs.queue[rows].astype(np.int64),
        begin=sends.begin[send],
        end=np.where(answered, sends.end[send], NEVER),
        lo=state,
        hi=state,
        what=sends.invoked[send].astype(np.int64),
        offset=logs.offset[rows],
    )


def _highest_settled(facts: Facts) -> Int:
    """Return for each read row the highest settled offset it returned, -1 for none."""
    reads, entries, logs = facts.history.reads, facts.history.entries, facts.logs
    highest = np.full(len(reads), -1, dtype=np.int64)
    row = logs.entry_row
    usable = row >= 0
    usable[usable] = logs.settled[row[usable]]
    np.maximum.at(highest, entries.read[usable], entries.offset[usable])
    return highest


def _reads(facts: Facts, strict: bool) -> Ranged:
    reads = facts.history.reads
    highest = _highest_settled(facts)
    rows = np.flatnonzero((highest >= 0) & (reads.kind != HANDLE))
    lo, hi = 2 * (highest[rows] + 1), np.full(len(rows), _ANY, dtype=np.int64)
    if strict:
        empty = np.flatnonzero(
            (reads.start == reads.stop) & (reads.kind == READ) & (reads.type == OK) & (reads.asked >= 0)
        )
        rows = np.concatenate([rows, empty])
        lo = np.concatenate([lo, np.zeros(len(empty), dtype=np.int64)])
        hi = np.concatenate([hi, 2 * reads.asked[empty]])
    return Ranged(
        queue=reads.queue[rows].astype(np.int64),
        begin=reads.begin[rows],
        end=reads.end[rows],
        lo=lo,
        hi=hi,
        what=reads.invoked[rows].astype(np.int64),
        offset=np.maximum(lo // 2 - 1, 0),
    )


def _lengths(facts: Facts) -> Ranged:
    ends = facts.history.ends
    return Ranged(
        queue=ends.queue.astype(np.int64),
        begin=ends.begin,
        end=ends.end,
        lo=2 * ends.length,
        hi=2 * ends.length,
        what=ends.invoked.astype(np.int64),
        offset=ends.length,
    )


def _join(parts: list[Ranged], skip: Mask) -> Ranged:
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("queue", "begin", "end", "lo", "hi", "what", "offset")
    }
    kept = ~skip[columns["queue"]] if len(skip) else np.zeros(len(columns["queue"]), dtype=bool)
    return Ranged(**{name: column[kept] for name, column in columns.items()})


def _unreliable(facts: Facts, clashes: Clashes, findings: Findings) -> Mask:
    """Mark the queues whose offsets contradict each other, which C6 reports: their order means nothing."""
    unusable = facts.logs.alias.copy()
    copied = find_copies(facts)
    queues = np.unique(np.concatenate([facts.logs.queue[clashes.violations], facts.logs.queue[copied.violations]]))
    for queue in queues.tolist():
        unusable[queue] = True
        name = facts.queue_name(queue)
        text = f"{name}: offsets or copies contradict each other (see C6), so its order cannot be judged"
        findings.found(Anomaly("unreliable-offsets", Severity.UNDECIDED, text, scope=name))
    return unusable


def check_append_log(facts: Facts, mode: str | None = None) -> Record:
    """Run C5 in the given mode, else in the one the run asks for (append-only by default)."""
    findings = Findings(NAME, TITLE)
    chosen = mode or facts.history.meta.c5_mode
    strict = chosen == STRICT
    if chosen not in MODE_TEXT:
        findings.doubt(f"there is no mode {chosen!r}; judged as {APPEND_ONLY}")
    findings.mode = MODE_TEXT[STRICT if strict else APPEND_ONLY]
    unusable = _unreliable(facts, find_clashes(facts), findings)
    parts = [_appends(facts), _reads(facts, strict)]
    if strict:
        parts.append(_lengths(facts))
    ops = _join(parts, unusable)
    later, earlier = inversions(ops)
    order = np.argsort(ops.hi[later] - ops.lo[earlier], kind="stable")
    for place in order[:KEPT_PER_TYPE].tolist():
        findings.found(_inversion(facts, ops, int(later[place]), int(earlier[place])))
    findings.more("order", Severity.VIOLATION, len(order) - KEPT_PER_TYPE)
    findings.counts["operations"] = len(ops)
    findings.counts["disowned"] = int(np.count_nonzero(~facts.logs.settled))
    if total := len(np.unique(facts.logs.queue)):
        findings.coverage["queues"] = 1 - findings.count(Severity.UNDECIDED, "unreliable-offsets") / total
    sends = facts.history.sends
    if promised := int(np.count_nonzero(facts.promised)):
        placed = facts.promised & (facts.logs.send_row >= 0)
        findings.coverage["promised messages"] = int(np.count_nonzero(placed)) / promised
        if not bool(placed[facts.promised].all()):
            # Found at an offset all the same, their order is judged by that.
            found_at = np.zeros(len(facts.history.values), dtype=bool)
            found_at[facts.logs.value[facts.logs.value >= 0]] = True
            silent = np.flatnonzero(facts.promised & ~placed & ~found_at[sends.value])
            if len(silent):
                findings.doubt(f"{len(silent)} acknowledged messages have no known offset")
    return findings.record()


def _named(facts: Facts, ops: Ranged, row: int) -> str:
    history = facts.history
    index = int(ops.what[row])
    sends = history.sends
    at = seconds(history.time_of(index))
    hits = np.flatnonzero(sends.invoked == index)
    if len(hits):
        return f"{value_name(history, int(sends.value[hits[0]]))} (sent at {at}, offset {int(ops.offset[row])})"
    if ops.lo[row] == ops.hi[row]:
        return f"the end offset {int(ops.offset[row])} (asked at {at})"
    if ops.hi[row] < _ANY:
        return f"a read at {at} that found nothing at offset {int(ops.hi[row]) // 2}"
    return f"a read at {at} that returned offset {int(ops.offset[row])}"


def _inversion(facts: Facts, ops: Ranged, later: int, earlier: int) -> Anomaly:
    history = facts.history
    queue = int(ops.queue[later])
    first, second = int(ops.what[earlier]), int(ops.what[later])
    partner = history.events.partner
    everything = tuple(int(i) for i in (first, partner[first], second, partner[second]) if i >= 0)
    text = (
        f"in {facts.queue_name(queue)}, {_named(facts, ops, earlier)} was over before "
        f"{_named(facts, ops, later)} began, and yet stands above it in the log"
    )
    return Anomaly(
        "order",
        Severity.VIOLATION,
        text,
        scope=facts.queue_name(queue),
        offsets=(int(ops.offset[earlier]), int(ops.offset[later])),
        ops=everything,
        core=everything,
    )
