"""C7: do the replicas of a group hold the same log, and all of what was promised?

An index is a log offset in bytes, a term is an epoch (number and random id), and committed is what the strongest
replica had acknowledged (`commit` of a dump). In a Raft group a term is its number alone, whoever led it, and every
replica tells its own commit position. Final dumps (D7) are compared pairwise, and every dump with the next one of the
same node, and with what the node called committed while it ran.
"""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any, Final

import numpy as np

from checkers.columns import Int, Mask
from checkers.dumps import Dump
from checkers.explain import some, value_name
from checkers.facts import Facts
from checkers.observations import Status
from checkers.served_log import report_early_answers, report_misplaced, report_unheld
from checkers.verdict import KEPT_PER_TYPE, Anomaly, Findings, Record, Severity
from checkers.windows import STORE_LOSS, STORE_REMOVERS

NAME: Final = "C7"
TITLE: Final = "replicas agree"


def check_replica_log(facts: Facts) -> Record:
    """Run C7."""
    findings = Findings(NAME, TITLE)
    groups = sorted(set(facts.history.meta.groups) | set(facts.replicas.final))
    read_whole = 0
    for group in groups:
        if _complete(facts, group, findings):
            read_whole += 1
        dumps = facts.replicas.final.get(group, ())
        for dump in dumps:
            _inside(facts, dump, findings)
        table: list[dict[str, Any]] = []
        for left, right in combinations(dumps, 2):
            table.append(_compare(facts, left, right, findings))
        if table:
            findings.details.setdefault("agreement", {})[group] = table
    for node in sorted({(dump.group, dump.node) for dump in facts.replicas.dumps}):
        own = [dump for dump in facts.replicas.dumps if (dump.group, dump.node) == node]
        for before, after in pairwise(own):
            _truncated(facts, before, after, findings)
        for dump in own:
            _kept_commit(facts, dump, findings)
            _superseded(facts, dump, findings)
    _copies(facts, findings)
    _stranded(facts, findings)
    report_misplaced(facts, findings)
    report_unheld(facts, findings)
    report_early_answers(facts, findings)
    if not groups:
        findings.doubt("no group and no dump is known, so no replica log was compared")
    else:
        findings.coverage["groups"] = read_whole / len(groups)
    findings.counts["dumps"] = len(facts.replicas.dumps)
    findings.counts["records"] = sum(len(dump) for dumps in facts.replicas.final.values() for dump in dumps)
    return findings.record()


def _complete(facts: Facts, group: str, findings: Findings) -> bool:
    """Tell whether every surviving replica of a group was read whole; say so if not."""
    dumps = facts.replicas.final.get(group, ())
    meta = facts.history.meta.groups.get(group)
    joined = [change for change in facts.observed.memberships if change.group == group][-1:]
    wanted = {*(meta.nodes if meta else ()), *(node for change in joined for node in change.voters)}
    wanted -= facts.drain.excluded
    missing = sorted(wanted - {dump.node for dump in dumps})
    if missing or not dumps:
        findings.doubt(f"{group}: there is no log dump of {some(missing) or 'any replica'}")
    scopes = ("*", "", group)
    if facts.drain.step("D7", scopes) is False:  # an older dump may stand there in place of the one that failed
        findings.doubt(f"{group}: not all of its replicas could be read in the end (D7): "
                       f"{facts.drain.detail('D7', scopes)}")  # fmt: skip
    if facts.history.meta.mode == "dledger":
        for dump in dumps:
            if dump.commit is None:
                findings.doubt(f"{group}: the dump of {dump.node} does not say how far it is committed")
            if not dump.epochs and len(dump):
                findings.doubt(f"{group}: the dump of {dump.node} has no table of terms")
    broken = [dump for dump in dumps if dump.problem is not None]
    for dump in broken:
        findings.doubt(f"{group}: the dump of {dump.node} is not usable: {dump.problem}")
    return bool(dumps) and not missing and not broken


def _found(
    findings: Findings, kind: str, severity: Severity, text: str, scope: str, offsets: tuple[int, ...], *dumps: Dump
) -> None:
    ops = tuple(dump.index for dump in dumps)
    findings.found(Anomaly(kind, severity, text, scope, (), offsets, ops, ops))


def _inside(facts: Facts, dump: Dump, findings: Findings) -> None:
    """Judge one dump by itself: gaps, checksums, its commit position, its epochs and its queue index."""
    who = f"{dump.group}/{dump.node}"
    if dump.commit is not None and dump.commit > dump.end:
        text = f"{who} calls {dump.commit} confirmed, but its log ends at {dump.end}"
        _found(findings, "commit-beyond-end", Severity.VIOLATION, text, who, (dump.commit, dump.end), dump)
    if dump.problem is None:
        edges = np.concatenate([dump.offset, [dump.end]])
        expected = np.concatenate([[dump.begin], dump.offset + dump.size])
        for place in np.flatnonzero(edges != expected)[:KEPT_PER_TYPE].tolist():
            text = f"{who}: after offset {int(expected[place])} the next record stands at {int(edges[place])}"
            _found(findings, "hole", Severity.VIOLATION, text, who, (int(expected[place]), int(edges[place])), dump)
        findings.more("hole", Severity.VIOLATION, int(np.count_nonzero(edges != expected)) - KEPT_PER_TYPE)
    for place in np.flatnonzero(dump.checksum == 0)[:KEPT_PER_TYPE].tolist():
        text = f"{who}: the checksum of the record at {int(dump.offset[place])} does not hold"
        _found(findings, "bad-checksum", Severity.VIOLATION, text, who, (int(dump.offset[place]),), dump)
    findings.more("bad-checksum", Severity.VIOLATION, int(np.count_nonzero(dump.checksum == 0)) - KEPT_PER_TYPE)
    _epochs(facts, dump, who, findings)
    _index(facts, dump, who, findings)


def _epochs(facts: Facts, dump: Dump, who: str, findings: Findings) -> None:
    least = 1 if facts.history.meta.mode == "dledger" else 0  # there each term begins with a record of its leader
    for before, after in pairwise(dump.epochs):
        if after.number <= before.number or after.start < before.start + least:
            text = f"{who}: epoch {after.number} from {after.start} follows epoch {before.number} from {before.start}"
            _found(findings, "term-table-mismatch", Severity.VIOLATION, text, who, (before.start, after.start), dump)
    if not dump.epochs or not len(dump):
        return
    starts = np.array([epoch.start for epoch in dump.epochs], dtype=np.int64)
    numbers = np.array([epoch.number for epoch in dump.epochs], dtype=np.int64)
    place = np.searchsorted(starts, dump.offset, side="right") - 1
    owner = np.where(place >= 0, numbers[np.maximum(place, 0)], -1)
    # A log that was trimmed may begin in a term whose start is not told; a whole one begins with its first term.
    known = (place >= 0) | (least == 1 and dump.begin == 0)
    bad = np.flatnonzero(known & (owner != dump.epoch))
    for row in bad[:KEPT_PER_TYPE].tolist():
        text = f"{who}: the record at {int(dump.offset[row])} carries epoch {int(dump.epoch[row])}, its table says "
        text += f"{int(owner[row])}"
        _found(findings, "term-table-mismatch", Severity.VIOLATION, text, who, (int(dump.offset[row]),), dump)
    findings.more("term-table-mismatch", Severity.VIOLATION, len(bad) - KEPT_PER_TYPE)


def _ready(facts: Facts, group: str) -> bool:
    return facts.drain.step("D4", ("*", "", group)) is True


def _index(facts: Facts, dump: Dump, who: str, findings: Findings) -> None:
    """The queue index points at every record, and no two records claim one place in a queue.

    A member of a Raft group indexes what it knows to be committed: of what lies above that it has promised nothing yet.
    """
    committed = dump.commit if dump.commit is not None else -1
    eager = facts.history.meta.mode != "dledger"
    if silent := int(np.count_nonzero((dump.indexed < 0) & (dump.queue >= 0))):
        findings.doubt(f"{who}: {silent} records do not tell whether their queue's index points to them")
    unindexed = np.flatnonzero((dump.indexed == 0) & (dump.queue >= 0))
    sure = dump.offset[unindexed] < committed
    if eager and _ready(facts, dump.group):
        sure[:] = True
    for severity, rows in ((Severity.VIOLATION, unindexed[sure]), (Severity.UNDECIDED, unindexed[~sure])):
        for row in rows[:KEPT_PER_TYPE].tolist():
            text = (
                f"{who}: entry {int(dump.queue_offset[row])} of {facts.queue_name(int(dump.queue[row]))} does not "
                f"point at its record at {int(dump.offset[row])}"
            )
            _found(findings, "index-mismatch", severity, text, who, (int(dump.offset[row]),), dump)
        findings.more("index-mismatch", severity, len(rows) - KEPT_PER_TYPE)
    placed = np.flatnonzero((dump.queue >= 0) & (dump.queue_offset >= 0))
    order = placed[np.lexsort((dump.offset[placed], dump.queue_offset[placed], dump.queue[placed]))]
    same = (dump.queue[order][1:] == dump.queue[order][:-1]) & (
        dump.queue_offset[order][1:] == dump.queue_offset[order][:-1]
    )
    twice = np.flatnonzero(same)
    for place in twice[:KEPT_PER_TYPE].tolist():
        first, second = int(order[place]), int(order[place + 1])
        text = (
            f"{who}: the records at {int(dump.offset[first])} and {int(dump.offset[second])} both claim entry "
            f"{int(dump.queue_offset[first])} of {facts.queue_name(int(dump.queue[first]))}"
        )
        offsets = (int(dump.offset[first]), int(dump.offset[second]))
        _found(findings, "index-mismatch", Severity.VIOLATION, text, who, offsets, dump)
    findings.more("index-mismatch", Severity.VIOLATION, len(twice) - KEPT_PER_TYPE)


def _term_ids(dump: Dump) -> dict[int, str]:
    return {epoch.number: epoch.id for epoch in dump.epochs}


def _same_terms(facts: Facts, left: Dump, right: Dump, a: Int, b: Int) -> Mask:
    """Mark pairs of records of one term: the same number, and the same random id where both tables know it.

    In a Raft group the number alone is the term: two leaders of one term are no excuse for two records.
    """
    same: Mask = a == b
    if facts.history.meta.mode == "dledger":
        return same
    ids, others = _term_ids(left), _term_ids(right)
    for number in sorted(set(ids) & set(others)):
        if ids[number] != others[number]:
            same = same & (a != number)
    return same


def _compare(facts: Facts, left: Dump, right: Dump, findings: Findings) -> dict[str, Any]:
    """Compare two replicas of a group, and return how far they agree."""
    pair = f"{left.node} and {right.node} of {left.group}"
    scope = left.group
    _tables(facts, left, right, pair, findings)
    begin = max(left.begin, right.begin)
    a, b = left.offset >= begin, right.offset >= begin
    rows = [np.flatnonzero(a), np.flatnonzero(b)]
    common = min(len(rows[0]), len(rows[1]))
    l, r = rows[0][:common], rows[1][:common]  # noqa: E741
    alike = (
        (left.offset[l] == right.offset[r])
        & (left.size[l] == right.size[r])
        & (left.digest[l] == right.digest[r])
        & _same_terms(facts, left, right, left.epoch[l], right.epoch[r])
    )
    agreed = int(np.argmin(alike)) if not bool(alike.all()) else common
    agreed_end = int(left.offset[l[agreed - 1]] + left.size[l[agreed - 1]]) if agreed else begin
    committed = min(
        left.commit if left.commit is not None else begin, right.commit if right.commit is not None else begin
    )
    result = {
        "nodes": [left.node, right.node],
        "agreed records": agreed,
        "agreed to": agreed_end,
        "ends": [left.end, right.end],
        "committed": committed,
    }
    _matching(facts, left, right, alike, rows, pair, findings)
    if agreed < common:
        x, y = int(l[agreed]), int(r[agreed])
        offsets = (int(left.offset[x]), int(right.offset[y]))
        shown = f"{_record(facts, left, x)} on {left.node}, {_record(facts, right, y)} on {right.node}"
        if min(offsets) < committed:
            text = f"{pair} both call the log confirmed up to {committed} and differ before: {shown}"
            _found(findings, "committed-divergence", Severity.VIOLATION, text, scope, offsets, left, right)
    elif agreed_end < committed <= max(left.end, right.end) and left.problem is None and right.problem is None:
        text = f"{pair} both call the log confirmed up to {committed}, but agree on records only up to {agreed_end}"
        _found(findings, "committed-divergence", Severity.VIOLATION, text, scope, (agreed_end, committed), left, right)
    _tail(facts, left, right, agreed, common, rows, pair, findings)
    return result


def _record(facts: Facts, dump: Dump, row: int) -> str:
    value = int(dump.value[row])
    name = value_name(facts.history, value) if value >= 0 else "another record"
    return f"{name} (offset {int(dump.offset[row])}, epoch {int(dump.epoch[row])})"


def _tables(facts: Facts, left: Dump, right: Dump, pair: str, findings: Findings) -> None:
    """The same epoch must begin at the same place, and one number must not have been given twice.

    A member of a Raft group need not know who led an old term: there a name that is missing contradicts none.
    """
    raft = facts.history.meta.mode == "dledger"
    begin = max(left.begin, right.begin)
    others = {epoch.number: epoch for epoch in right.epochs}
    for epoch in left.epochs:
        other = others.get(epoch.number)
        if other is None or max(epoch.start, other.start) <= begin > 0:  # where a trimmed log's first term began
            continue
        known = not raft or (epoch.id and other.id)
        if (known and epoch.id != other.id) or epoch.start != other.start:
            text = (
                f"{pair} know epoch {epoch.number} as {epoch.id} from {epoch.start} and as {other.id} from "
                f"{other.start}"
            )
            offsets = (epoch.start, other.start)
            _found(findings, "term-table-mismatch", Severity.VIOLATION, text, left.group, offsets, left, right)


def _matching(
    facts: Facts, left: Dump, right: Dump, alike: Mask, rows: list[Int], pair: str, findings: Findings
) -> None:
    """Same index and term must mean the same record, and the same records before it."""
    a, b = rows
    shared, x, y = np.intersect1d(left.offset[a], right.offset[b], assume_unique=True, return_indices=True)
    x, y = a[x], b[y]
    same_term = _same_terms(facts, left, right, left.epoch[x], right.epoch[y])
    equal = (left.digest[x] == right.digest[y]) & (left.size[x] == right.size[y])
    bad = np.flatnonzero(same_term & ~equal)
    for place in bad[:KEPT_PER_TYPE].tolist():
        offset = int(shared[place])
        text = f"{pair} hold different records at {offset}, both of epoch {int(left.epoch[x[place]])}"
        _found(findings, "matching-violation", Severity.VIOLATION, text, left.group, (offset,), left, right)
    findings.more("matching-violation", Severity.VIOLATION, len(bad) - KEPT_PER_TYPE)
    first = int(np.argmin(alike)) if not bool(alike.all()) else -1
    if first < 0:
        return
    differs_at = int(min(left.offset[a[first]], right.offset[b[first]]))
    later = np.flatnonzero(same_term & equal & (shared > differs_at))
    if len(later):
        text = f"{pair} hold the same record at {int(shared[later[0]])}, but differ before it at {differs_at}"
        offsets = (differs_at, int(shared[later[0]]))
        _found(findings, "prefix-violation", Severity.VIOLATION, text, left.group, offsets, left, right)
        findings.more("prefix-violation", Severity.VIOLATION, len(later) - 1)


def _last_sentinel(facts: Facts, dump: Dump) -> int:
    """Return the log offset of the last sentinel in a dump: everything before it was written before the drain ended."""
    sends = facts.history.sends
    marked = sends.value[(sends.sentinel == 1) & facts.promised]
    hits = np.flatnonzero(np.isin(dump.value, marked))
    return int(dump.offset[hits[-1]]) if len(hits) else -1


def _tail(
    facts: Facts, left: Dump, right: Dump, agreed: int, common: int, rows: list[Int], pair: str, findings: Findings
) -> None:
    """After D4 the replicas are equal to the end; what was written after the last sentinel may still be on its way."""
    longer = agreed == common and len(rows[0]) != len(rows[1])
    if agreed == common and not longer:
        return
    ready = _ready(facts, left.group)
    if longer:
        more, less = (left, right) if len(rows[0]) > len(rows[1]) else (right, left)
        row = int((rows[0] if more is left else rows[1])[common])
        offset = int(more.offset[row])
        sentinel = _last_sentinel(facts, more)
        late = ready and offset > sentinel >= 0
        text = f"{less.node} of {left.group} lacks what {more.node} holds from {offset} on"
        severity = Severity.NOTE if late else Severity.VIOLATION if ready else Severity.UNDECIDED
        if less.problem is not None or sentinel < 0:  # without a sentinel nobody knows what was written after D4
            severity = Severity.UNDECIDED
        _found(findings, "unreconciled-tail", severity, text, left.group, (offset,), left, right)
        return
    offset = int(min(left.offset[rows[0][agreed]], right.offset[rows[1][agreed]]))
    text = f"{pair} differ from {offset} on" + (
        ", although the cluster had settled" if ready else "; the cluster had not settled when they were read"
    )
    severity = Severity.VIOLATION if ready else Severity.UNDECIDED
    _found(findings, "unreconciled-tail", severity, text, left.group, (offset,), left, right)


def _truncated(facts: Facts, before: Dump, after: Dump, findings: Findings) -> None:
    """What a node once called confirmed it must still hold, unchanged, whenever it is read again."""
    wiped = any(
        window.family in STORE_REMOVERS and after.node in window.targets
        and before.time <= window.a2 and window.a1 <= after.time
        for window in facts.windows
    )  # fmt: skip
    if before.commit is None or after.problem is not None or wiped:
        return
    kept = (before.offset + before.size <= before.commit) & (before.offset >= after.begin)
    rows = np.flatnonzero(kept)
    place = np.searchsorted(after.offset, before.offset[rows])
    inside = place < len(after)
    held = np.zeros(len(rows), dtype=bool)
    at = place[inside]
    held[inside] = (after.offset[at] == before.offset[rows[inside]]) & (after.digest[at] == before.digest[rows[inside]])
    gone = rows[~held]
    for row in gone[:KEPT_PER_TYPE].tolist():
        text = (
            f"{before.node} of {before.group} had confirmed {_record(facts, before, row)} and no longer holds it when "
            "read again"
        )
        _found(
            findings, "truncated-commit", Severity.VIOLATION, text, before.group, (int(before.offset[row]),), before,
            after,
        )  # fmt: skip
    findings.more("truncated-commit", Severity.VIOLATION, len(gone) - KEPT_PER_TYPE)


def _kept_commit(facts: Facts, dump: Dump, findings: Findings) -> None:
    """A log that ends below what its node once called committed has lost it."""
    if dump.problem is not None:
        return
    loaded = facts.span.load_end  # later the log may grow while it is being dumped
    said = [
        status
        for status in facts.observed.statuses
        if status.node == dump.node and status.commit is not None and status.time <= min(dump.time, loaded)
    ]
    top = max(said, key=lambda status: status.commit or 0, default=None)
    if top is None or top.commit is None or top.commit <= dump.end:
        return
    if any(w.family in STORE_REMOVERS and dump.node in w.targets and w.a2 >= top.asked for w in facts.windows):
        return
    text = f"{dump.node} of {dump.group} had called {top.commit} committed, and its log ends at {dump.end}"
    ops = (top.index, dump.index)
    offsets = (top.commit, dump.end)
    findings.found(Anomaly("truncated-commit", Severity.VIOLATION, text, dump.group, (), offsets, ops, ops))


def _superseded(facts: Facts, dump: Dump, findings: Findings) -> None:
    """What any member of a Raft group called committed keeps its place: no later term begins below it.

    A node in term T holds records of terms up to T only. So where it called the log committed up to C, a record below C
    that is of a later term has taken the place of a committed one.
    """
    if dump.problem is not None or facts.history.meta.mode != "dledger":
        return
    near = [window for window in facts.windows if window.touches(_nodes(facts, dump.group))]
    lost_disk = [window for window in near if window.family in STORE_LOSS and window.family != "remove"]
    since = max((window.a2 for window in lost_disk), default=-1)
    furthest: dict[int, Status] = {}
    for status in facts.observed.statuses:
        if status.group == dump.group and status.term is not None and since < status.asked <= status.time <= dump.time:
            known = furthest.get(status.term)
            if status.commit is not None and (known is None or status.commit > (known.commit or 0)):
                furthest[status.term] = status
    terms, top, place = sorted(furthest), None, 0
    for epoch in sorted(dump.epochs, key=lambda one: one.number):
        while place < len(terms) and terms[place] < epoch.number:
            status = furthest[terms[place]]
            top = status if top is None or (status.commit or 0) > (top.commit or 0) else top
            place += 1
        if top is None or top.commit is None or not dump.begin <= epoch.start < top.commit:
            continue
        text = (
            f"{top.node} of {dump.group} had called {top.commit} committed in term {top.term}, and in the log of "
            f"{dump.node} term {epoch.number} begins at {epoch.start}: what was committed above has been replaced"
        )
        ops, offsets = (top.index, dump.index), (epoch.start, top.commit)
        findings.found(Anomaly("truncated-commit", Severity.VIOLATION, text, dump.group, (), offsets, ops, ops))


def _nodes(facts: Facts, group: str) -> tuple[str, ...]:
    meta = facts.history.meta.groups.get(group)
    joined = [voter for change in facts.observed.memberships if change.group == group for voter in change.voters]
    return (*(meta.nodes if meta else ()), *joined, group)


def _copies(facts: Facts, findings: Findings) -> None:
    """Every promised value is on as many replicas as its level promises, and on one at the very least."""
    history = facts.history
    sends = history.sends
    raft = history.meta.mode == "dledger"  # there every SEND_OK says so, whatever it was recorded as
    levels = list(history.acks)
    level = levels.index("replicated") if "replicated" in levels else -2
    reported = np.zeros(len(sends), dtype=bool)  # C1 tells of these already
    reported[np.concatenate([facts.lost.lost, facts.lost.vanished])] = True
    for group, dumps in facts.replicas.final.items():
        meta = history.meta.groups.get(group)
        if meta is None:
            continue
        copies = max(meta.copies, meta.votes) if raft else meta.copies
        # An answer that does not tell its level has what its group guarantees.
        strong = (sends.ack == level) | ((sends.ack < 0) & (meta.copies >= 2)) | raft
        # What a destroyed node held is gone with it.
        wanted = np.minimum(np.where(strong, copies, 1), len(dumps))
        mine = facts.promised & (strong | ~reported)
        in_group = np.array([facts.group_of(int(queue)) == group for queue in range(len(history.queues))], dtype=bool)
        mine &= (facts.send_queue >= 0) & in_group[facts.send_queue]
        rows = np.flatnonzero(mine)
        copies_of = facts.replicas.holders(group, len(history.values))
        held = copies_of[sends.value[rows]]
        short = rows[held < wanted[rows]]
        if not len(short):
            continue
        whole = all(dump.problem is None for dump in dumps) and not all(dump.begin > 0 for dump in dumps)
        severity = Severity.VIOLATION if whole and _ready(facts, group) else Severity.UNDECIDED
        for row in short[:KEPT_PER_TYPE].tolist():
            value = int(sends.value[row])
            number = f"{int(copies_of[value])} replica(s)"
            ops = (int(sends.invoked[row]), int(sends.returned[row]))
            findings.found(
                Anomaly(
                    "under-replicated",
                    severity,
                    f"{value_name(history, value)} was acknowledged as on {int(wanted[row])} replica(s) of {group} and "
                    f"is on {number}",
                    scope=group,
                    values=(value_name(history, value),),
                    ops=ops,
                    core=ops,
                )
            )
        findings.more("under-replicated", severity, len(short) - KEPT_PER_TYPE)


def _stranded(facts: Facts, findings: Findings) -> None:
    """Acknowledged, gone from service, and yet in some replica's log: name where."""
    history = facts.history
    sends = history.sends
    gone = np.concatenate([facts.lost.lost, facts.lost.vanished])
    missing = np.zeros(len(history.values), dtype=bool)
    missing[sends.value[gone]] = True
    for group, dumps in facts.replicas.final.items():
        for dump in dumps:
            rows = np.flatnonzero((dump.value >= 0) & missing[dump.value]) if len(missing) else np.zeros(0, np.int64)
            for row in rows[:KEPT_PER_TYPE].tolist():
                text = (
                    f"{value_name(history, int(dump.value[row]))} was acknowledged and cannot be read from the queue, "
                    f"but {dump.node} of {group} still has it at log offset {int(dump.offset[row])}"
                )
                _found(findings, "stranded", Severity.VIOLATION, text, group, (int(dump.offset[row]),), dump)
            findings.more("stranded", Severity.VIOLATION, len(rows) - KEPT_PER_TYPE)
