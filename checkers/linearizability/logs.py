"""Logs whose appends answer an offset: the offsets are the order, so nothing has to be searched.

For each offset o, L(o) is the call of its append, or of a read that found the end there; U(o) is the return of its
append or of a read of it. The log is linearizable iff every offset has one writer, all reads of an offset agree with
it, and the largest L of offsets up to o never exceeds U(o). An append of unknown outcome whose value was read has its
offset from the read and an open return; others may fill holes, the k-th earliest the k-th hole. Checker C5, strict.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from checkers.linearizability.decision import Witness
from checkers.linearizability.operations import NEVER, NULL, Code, Int, Operations
from checkers.linearizability.order import called, named, returned, spoken

CLASSES: Final = ("clash", "disagreement", "unwritten", "hole", "order", "future", "stale")
KEPT: Final = 32
_LEAST: Final = np.iinfo(np.int64).min


@dataclass(slots=True, eq=False)
class Log:
    """A log history taken apart: who wrote each offset, what filled the holes, rows (or offsets) of each anomaly."""

    ops: Operations
    ambiguous: bool = False
    owner: Int = field(default_factory=lambda: np.zeros(0, np.int64))
    value: Int = field(default_factory=lambda: np.zeros(0, np.int64))
    rows: dict[str, Int] = field(default_factory=dict)
    holes: Int = field(default_factory=lambda: np.zeros(0, np.int64))
    spare: Int = field(default_factory=lambda: np.zeros(0, np.int64))
    filled: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Return how many anomalies of each class there are."""
        out = {name: len(rows) for name, rows in self.rows.items()}
        if len(self.holes):
            out["hole"] += len(self.holes)
        return {name: count for name, count in out.items() if count}


def sweep(ops: Operations) -> Log:
    """Take a history of APPEND, LOG_READ and LOG_END rows apart. O(n) and a sort of appends of unknown outcome."""
    call, ret, f, a, b = ops.call, ops.ret, ops.f, ops.a, ops.b
    assert a is not None
    assert b is not None
    out = Log(ops)
    appends = np.flatnonzero(f == Code.APPEND)
    n = len(appends)
    unplaced = appends[b[appends] == NULL]
    if len(np.unique(a[unplaced])) < len(unplaced) or bool((ret[unplaced] != NEVER).any()):
        out.ambiguous = True
        return out
    placed = appends[b[appends] != NULL]
    within = (b[placed] >= 0) & (b[placed] < n)
    beyond, placed = placed[~within], placed[within]
    at, first = np.unique(b[placed], return_index=True)
    clash = np.ones(len(placed), dtype=bool)
    clash[first] = False
    owner = np.full(n, -1, dtype=np.int64)
    value = np.zeros(n, dtype=np.int64)
    append = np.full(n, _LEAST, dtype=np.int64)
    owner[at] = placed[first]
    value[at] = a[owner[at]]
    append[at] = call[owner[at]]
    reads = np.flatnonzero(f == Code.LOG_READ)
    negative = reads[b[reads] < 0]
    far = reads[b[reads] >= n]
    reads = reads[(b[reads] >= 0) & (b[reads] < n)]
    seen = np.zeros(n, dtype=bool)
    spare = {int(a[row]): int(row) for row in unplaced.tolist()}
    orphans = reads[owner[b[reads]] < 0]
    for row in orphans[np.sort(np.unique(b[orphans], return_index=True)[1])].tolist():
        offset = int(b[row])
        seen[offset] = True
        value[offset] = a[row]
        writer = spare.pop(int(a[row]), None)
        if writer is not None:
            owner[offset] = writer
            append[offset] = call[writer]
    agrees = value[b[reads]] == a[reads]
    nobody = agrees & (owner[b[reads]] < 0)
    ends = np.flatnonzero(f == Code.LOG_END)
    end = np.full(n, _LEAST, dtype=np.int64)
    below = ends[b[ends] < 0]
    ends = ends[(b[ends] >= 0) & (b[ends] < n)]
    np.maximum.at(end, b[ends], call[ends])
    named_offsets = np.flatnonzero((owner >= 0) | seen)
    top = int(named_offsets[-1]) + 1 if len(named_offsets) else 0
    append = np.maximum.accumulate(append[:top]) if top else append[:0]
    end = np.maximum.accumulate(end[:top]) if top else end[:0]
    judged = np.concatenate([owner[at], reads[agrees]])
    late = ret[judged] < append[b[judged]]
    stale = ~late & (ret[judged] < end[b[judged]])
    is_append = f[judged] == Code.APPEND
    out.owner, out.value = owner[:top], value[:top]
    out.spare = np.array(sorted(spare.values(), key=lambda row: int(call[row])), dtype=np.int64)
    out.rows = {
        "clash": placed[clash],
        "disagreement": reads[~agrees],
        "unwritten": np.concatenate([negative, reads[nobody]]),
        "hole": np.concatenate([beyond, far]),
        "order": judged[late & is_append],
        "future": judged[late & ~is_append],
        "stale": np.concatenate([below, judged[stale]]),
    }
    out.rows = {name: np.sort(rows) for name, rows in out.rows.items()}
    _fill(out, seen[:top], top)
    return out


def _fill(log: Log, seen: Int, top: int) -> None:
    """Put the earliest spare appends of unknown outcome into the holes; those too late leave holes open."""
    ops = log.ops
    assert ops.b is not None
    holes = np.flatnonzero((log.owner < 0) & ~seen)
    if not len(holes):
        return
    until = np.full(top, NEVER, dtype=np.int64)
    rows = np.flatnonzero((ops.f == Code.APPEND) | (ops.f == Code.LOG_READ))
    rows = rows[(ops.b[rows] >= 0) & (ops.b[rows] < top)]
    np.minimum.at(until, ops.b[rows], ops.ret[rows])
    until = np.minimum.accumulate(until[::-1])[::-1]
    pairs = min(len(holes), len(log.spare))
    bad = np.ones(len(holes), dtype=bool)
    bad[:pairs] = ops.call[log.spare[:pairs]] > until[holes[:pairs]]
    log.owner = log.owner.copy()
    log.owner[holes[:pairs][~bad[:pairs]]] = log.spare[:pairs][~bad[:pairs]]
    log.holes, log.filled = holes[bad], pairs


def witnesses(log: Log) -> tuple[Witness, ...]:
    """Return up to 32 anomalies of each class with the operations that alone prove each."""
    out = [Witness(name, *_one(log, name, row)) for name, rows in log.rows.items() for row in rows[:KEPT].tolist()]
    out += [Witness("hole", *_hole(log, offset)) for offset in log.holes[:KEPT].tolist()]
    return tuple(out)


def _one(log: Log, name: str, row: int) -> tuple[tuple[int, ...], str]:
    ops = log.ops
    assert ops.a is not None
    assert ops.b is not None
    offset = int(ops.b[row])
    if name == "clash":
        other = int(log.owner[offset])
        text = f"offset {offset} was given twice: to the {named(ops, other)} and to the {named(ops, row)}"
        return (other, row), text
    if name == "disagreement":
        same = np.flatnonzero((ops.f == Code.LOG_READ) & (ops.b == offset) & (ops.a == log.value[offset]))
        writer = int(log.owner[offset])
        other = writer if writer >= 0 and ops.b[writer] == offset else int(same[0])
        text = f"offset {offset} held {spoken(ops.value(int(log.value[offset])))} for the {named(ops, other)}, "
        return (other, row), text + f"but {spoken(ops.value(int(ops.a[row])))} for the {named(ops, row)}"
    if name == "unwritten":
        text = f"the {named(ops, row)} found {spoken(ops.value(int(ops.a[row])))} at offset {offset}, which no append "
        return (row, *_writers(log, row)), text + "can have put there"
    if name == "hole":
        total = np.flatnonzero(ops.f == Code.APPEND)
        text = f"the {named(ops, row)} is at offset {offset}, but there are only {len(total)} appends in all"
        return (*total[: offset + 1].tolist(), *((row,) if ops.f[row] != Code.APPEND else ())), text
    if name == "stale":
        return _stale(log, row, offset)
    writers = log.owner[: offset + 1]
    writers = writers[writers >= 0]
    writer = int(writers[int(np.argmax(ops.call[writers]))])
    at = int(np.flatnonzero(log.owner == writer)[0])
    text = (
        f"the {named(ops, row)} at offset {offset} had returned at {returned(ops, row)} before the "
        f"{named(ops, writer)}, which stands at offset {at}, was called at {called(ops, writer)}"
    )
    own = _evidence(log, writer, at)
    return tuple(dict.fromkeys((writer, *own, row, *_evidence(log, int(log.owner[offset]), offset)))), text


def _evidence(log: Log, writer: int, offset: int) -> tuple[int, ...]:
    """Return what an offset stands on: the append, and a read of it where the append's answer is unknown."""
    ops = log.ops
    assert ops.b is not None
    if writer < 0:
        return ()
    if ops.b[writer] == offset:
        return (writer,)
    reads = np.flatnonzero((ops.f == Code.LOG_READ) & (ops.b == offset))
    return (writer, *map(int, reads[:1]))


def _writers(log: Log, row: int) -> tuple[int, ...]:
    """Return appends of unknown outcome of a value that was read, with a read of the offset where each is known."""
    ops = log.ops
    assert ops.a is not None
    assert ops.b is not None
    rows = np.flatnonzero((ops.f == Code.APPEND) & (ops.b == NULL) & (ops.a == ops.a[row]))
    reads = np.flatnonzero((ops.f == Code.LOG_READ) & (ops.a == ops.a[row]) & (ops.b != ops.b[row]))
    return (*map(int, rows), *(map(int, reads[:1]) if len(rows) else ()))


def _stale(log: Log, row: int, offset: int) -> tuple[tuple[int, ...], str]:
    ops = log.ops
    assert ops.b is not None
    if offset < 0:
        return (row,), f"the {named(ops, row)} asked for offset {offset}, which no log has"
    ends = np.flatnonzero((ops.f == Code.LOG_END) & (ops.b <= offset) & (ops.b >= 0))
    end = int(ends[int(np.argmax(ops.call[ends]))])
    text = (
        f"the {named(ops, row)} showed offset {offset} by {returned(ops, row)}, but the {named(ops, end)} called at "
        f"{called(ops, end)} still found the end at offset {int(ops.b[end])}"
    )
    return tuple(dict.fromkeys((*_evidence(log, int(log.owner[offset]), offset), row, end))), text


def _hole(log: Log, offset: int) -> tuple[tuple[int, ...], str]:
    ops = log.ops
    assert ops.b is not None
    placed = (ops.f == Code.APPEND) | (ops.f == Code.LOG_READ)
    later = np.flatnonzero(placed & (ops.b > offset) & (ops.b < len(log.owner)))
    row = int(later[int(np.argmin(ops.ret[later]))])
    known = log.owner[: offset + 1]
    fillers = [int(r) for r in log.spare if ops.call[r] <= ops.ret[row]]
    below = [r for o in range(offset) for r in _evidence(log, int(known[o]), o)] if fillers else []
    text = (
        f"nobody wrote offset {offset}, yet the {named(ops, row)} at offset {int(ops.b[row])} was there by "
        f"{returned(ops, row)}; {len(log.spare)} appends of unknown outcome were left, {len(fillers)} of them in time"
    )
    return tuple(
        dict.fromkeys((*below, *fillers, *_evidence(log, int(log.owner[int(ops.b[row])]), int(ops.b[row])), row))
    ), text
