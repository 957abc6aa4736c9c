"""C2 and C3: a set that elements are added to and that is read as a whole.

C2 holds the last read (of each replica, where reads name one) against everything that was added. C3 follows every
element through all reads: when it was known, when it was last absent and last present. After Jepsen's `set` and
`set-full`; O(elements in all reads + elements · log reads).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from checkers.builder import SET_READ
from checkers.columns import NEVER, Int
from checkers.explain import seconds
from checkers.facts import Facts
from checkers.rare import Operation, operations_of
from checkers.verdict import KEPT_PER_TYPE, Anomaly, Findings, Record, Severity

NAME_SET: Final = "C2"
TITLE_SET: Final = "a set keeps its elements"
NAME_FULL: Final = "C3"
TITLE_FULL: Final = "elements of a set stay once known"

WORST_STALE: Final = 8
QUANTILES: Final = (0.0, 0.5, 0.95, 0.99, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class SetHistory:
    """All adds and reads of a set. Elements are numbered; `add[x]` is the add of element x (None: never added)."""

    names: Sequence[str]
    add: Sequence[Operation | None]
    reads: Sequence[Operation]
    content: Sequence[Int]
    twice: int


def _name(element: Any) -> str:
    return element if isinstance(element, str) else msgspec.json.encode(element).decode()


def read_sets(facts: Facts) -> SetHistory:
    """Collect the adds and the reads that returned something, in order of their completion."""
    numbers: dict[str, int] = {}
    add: list[Operation | None] = []
    twice = 0

    def number(element: Any) -> int:
        found = numbers.setdefault(_name(element), len(numbers))
        if found == len(add):
            add.append(None)
        return found

    for one in operations_of(facts.history, "add"):
        place = number(one.asked)
        twice += add[place] is not None
        add[place] = one
    reads = [one for one in operations_of(facts.history, SET_READ) if isinstance(one.answer, list)]
    content = [np.array([number(element) for element in one.answer], dtype=np.int64) for one in reads]
    return SetHistory(list(numbers), add, reads, content, twice)


def _added(found: SetHistory) -> dict[str, Int]:
    """Return the numbers of the elements whose add ended ok, and of those that were attempted at all."""
    ok = [place for place, one in enumerate(found.add) if one is not None and one.type == "ok"]
    tried = [place for place, one in enumerate(found.add) if one is not None]
    return {"ok": np.array(ok, dtype=np.int64), "tried": np.array(tried, dtype=np.int64)}


def _offer(
    findings: Findings, found: SetHistory, kind: str, severity: Severity, elements: Sequence[int], text: str,
    *reads: Operation,
) -> None:  # fmt: skip
    for element in elements[:KEPT_PER_TYPE]:
        added = found.add[element]
        ops = tuple(sorted({*(added.ops if added is not None else ()), *(i for one in reads for i in one.ops)}))
        name = found.names[element]
        findings.found(Anomaly(kind, severity, text.replace("{}", name), values=(name,), ops=ops, core=ops))
    findings.more(kind, severity, len(elements) - KEPT_PER_TYPE)


def check_set(facts: Facts) -> Record:
    """Run C2."""
    findings = Findings(NAME_SET, TITLE_SET)
    found = read_sets(facts)
    added = _added(found)
    last: dict[str, int] = {}
    for place, one in enumerate(found.reads):
        node = str(one.extra("node") or "")
        if one.type == "ok" and (node not in last or one.begin > found.reads[last[node]].begin):
            last[node] = place
    if not last:
        findings.doubt("no read of the set ended ok")
    if found.twice:
        findings.doubt(f"{found.twice} elements were added twice, so nobody knows which add a read shows")
    begun = np.array([one.end if one is not None else NEVER for one in found.add], dtype=np.int64)
    findings.counts["attempted"], findings.counts["acknowledged"] = len(added["tried"]), len(added["ok"])
    _revived(found, findings)
    for node, place in sorted(last.items()):
        read = found.reads[place]
        where = f" on {node}" if node else ""
        content = np.unique(found.content[place])
        due = added["ok"][begun[added["ok"]] < read.begin]
        gone = np.setdiff1d(due, content)
        early = np.setdiff1d(np.setdiff1d(added["ok"], due), content)
        strange = np.setdiff1d(content, added["tried"])
        when = seconds(facts.history.time_of(read.invoked.index))
        _offer(findings, found, "lost", Severity.VIOLATION, gone.tolist(),
               f"{{}} was acknowledged before the last read{where} at {when} and is not in it", read)  # fmt: skip
        _offer(findings, found, "unread", Severity.UNDECIDED, early.tolist(),
               f"{{}} was acknowledged after the last read{where} had begun, and is not in it", read)  # fmt: skip
        _offer(findings, found, "unexpected", Severity.VIOLATION, strange.tolist(),
               f"the last read{where} at {when} shows {{}}, which nobody added", read)  # fmt: skip
        unsure = np.setdiff1d(np.intersect1d(content, added["tried"]), added["ok"])
        findings.counts[f"recovered{where}"] = len(unsure)
        findings.counts[f"ok{where}"] = len(np.intersect1d(content, added["tried"]))
    return findings.record()


def _revived(found: SetHistory, findings: Findings) -> None:
    """What certainly failed must not turn up in any read, not even in one that did not end ok."""
    if found.twice:  # one of them may have been added all the same; that nobody knows is said already
        return
    failed = {place for place, one in enumerate(found.add) if one is not None and one.type == "fail"}
    shown: dict[int, Operation] = {}
    for read, content in zip(found.reads, found.content, strict=True) if failed else ():
        for element in failed.intersection(content.tolist()):
            shown.setdefault(element, read)
    for element, read in sorted(shown.items()):
        _offer(findings, found, "revived", Severity.VIOLATION, [element],
               f"{{}} was certainly not added, and the read at event {read.ops[-1]} shows it", read)  # fmt: skip


def check_set_full(facts: Facts) -> Record:
    """Run C3."""
    findings = Findings(NAME_FULL, TITLE_FULL)
    found = read_sets(facts)
    count = len(found.names)
    if found.twice:
        findings.doubt(f"{found.twice} elements were added twice, so nobody knows which add a read shows")
    _twice_in_one(found, findings)
    rows = [place for place, one in enumerate(found.reads) if one.type == "ok"]
    rows.sort(key=lambda place: found.reads[place].begin)
    reads = [found.reads[place] for place in rows]
    position = facts.history.events.position
    known = np.full(count, NEVER, dtype=np.int64)
    witness = np.full(count, -1, dtype=np.int64)
    for element, one in enumerate(found.add):
        if one is not None and one.type == "ok" and one.returned is not None:
            known[element], witness[element] = position[one.returned.index], one.returned.index
    for place in sorted(rows, key=lambda row: found.reads[row].end):
        read = found.reads[place]
        fresh = found.content[place][known[found.content[place]] > read.end]
        known[fresh], witness[fresh] = read.end, read.ops[-1]
    present = np.full(count, -1, dtype=np.int64)
    streak = np.zeros(count, dtype=np.int64)
    for back, place in enumerate(reversed(rows)):
        content = np.unique(found.content[place])
        unseen = content[present[content] < 0]
        present[unseen] = len(rows) - 1 - back
        streak[content[streak[content] == back]] += 1
    absent = len(rows) - 1 - streak
    begin = np.array([one.begin for one in reads] + [-1], dtype=np.int64)
    when = np.array([facts.history.time_of(one.invoked.index) for one in reads] + [0], dtype=np.int64)
    tried = np.array([one is not None for one in found.add], dtype=bool)
    stable = (present >= 0) & (begin[present] > np.where(absent >= 0, begin[absent], -1))
    lost = (known < NEVER) & (absent >= 0) & (begin[absent] > np.where(present >= 0, begin[present], -1))
    lost &= begin[absent] > known
    known_time = np.array([facts.history.time_of(int(index)) for index in witness], dtype=np.int64)
    wait = np.where(absent >= 0, when[absent] + 1, 0)
    latency = np.where(stable & (absent >= 0), np.maximum(0, wait - known_time), 0)
    gone_after = np.where(present >= 0, np.maximum(0, when[present] + 1 - known_time), 0)
    stale = stable & (latency > 0)
    findings.counts.update(
        {"elements": count, "stable": int(stable.sum()), "lost elements": int(lost.sum()),
         "stale elements": int(stale.sum()), "never read": int((tried & ~stable & ~lost).sum())}
    )  # fmt: skip
    for name, times in (("stable latency ms", latency[stable]), ("lost latency ms", gone_after[lost])):
        if len(times):
            values = np.quantile(times / 1e6, QUANTILES, method="higher")
            findings.details[name] = {f"p{share * 100:g}": round(float(v), 3) for share, v in zip(QUANTILES, values,
                                                                                            strict=True)}  # fmt: skip
    showed = {read.ops[-1]: read for read in found.reads}
    for element in np.flatnonzero(lost)[:KEPT_PER_TYPE].tolist():
        by = showed.get(int(witness[element]))  # the read that made it known, where no acknowledgement had
        how = "acknowledged" if by is None else "shown by a read"
        text = (
            f"{{}} had been {how} by {seconds(int(known_time[element]))}, and the last read, begun at "
            f"{seconds(int(when[len(reads) - 1]))}, does not show it"
        )
        _offer(findings, found, "lost", Severity.VIOLATION, [element], text, *reads[-1:], *([by] if by else []))
    findings.more("lost", Severity.VIOLATION, int(lost.sum()) - KEPT_PER_TYPE)
    _stale(facts, findings, found, reads, latency, absent, stale)
    if not bool(stable.any()):
        findings.doubt("no element was ever seen to stay")
    return findings.record()


def _stale(
    facts: Facts,
    findings: Findings,
    found: SetHistory,
    reads: Sequence[Operation],
    latency: Int,
    absent: Int,
    stale: Any,
) -> None:
    """Elements that some read missed although they were known before it began, worst first."""
    worst = np.flatnonzero(stale)
    worst = worst[np.argsort(-latency[worst], kind="stable")]
    severity = Severity.VIOLATION if facts.history.meta.set_linearizable else Severity.NOTE
    for element in worst[:WORST_STALE].tolist():
        read = reads[int(absent[element])]
        text = (
            f"{{}} had been known for {latency[element] / 1e6:.1f} ms when a read began at "
            f"{seconds(facts.history.time_of(read.invoked.index))} that missed it"
        )
        _offer(findings, found, "stale", severity, [element], text, read)
    findings.more("stale", severity, len(worst) - WORST_STALE)


def _twice_in_one(found: SetHistory, findings: Findings) -> None:
    """No read shows an element more than once, not even one that did not end ok."""
    for read, content in zip(found.reads, found.content, strict=True):
        elements, times = np.unique(content, return_counts=True)
        _offer(findings, found, "duplicate", Severity.VIOLATION, elements[times > 1].tolist(),
               f"one read at event {read.ops[-1]} shows {{}} more than once", read)  # fmt: skip
