"""C6, second part: what each reader saw one after another, and how far readers lagged.

Positions are compared as dense ranks among the settled offsets of a queue, so gaps that hold no message are no skips.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from checkers.columns import FAIL, HANDLE, MODE_SUBSCRIBE, NEVER, OK, POLL, READ, Int
from checkers.explain import value_name
from checkers.facts import Facts
from checkers.verdict import KEPT_PER_TYPE, Anomaly, Findings, Severity

LAG_QUEUES: Final = 64
"""Largest number of queues whose lag is listed one by one."""


def _entry_ranks(facts: Facts) -> Int:
    """Return the rank of each entry, -1 where its place in the log is unknown or disowned."""
    row = facts.logs.entry_row
    rank = np.full(len(row), -1, dtype=np.int64)
    rank[row >= 0] = facts.logs.rank[row[row >= 0]]
    return rank


def _text(facts: Facts, entry: int) -> str:
    entries = facts.history.entries
    return f"{int(entries.offset[entry])}: {value_name(facts.history, int(entries.value[entry]))}"


def report_inside_polls(facts: Facts, findings: Findings) -> None:
    """Compare neighbours within one batch: skipped, backward, or with a hole that holds nothing."""
    reads, entries = facts.history.reads, facts.history.entries
    if len(entries) < 2:
        return
    rank = _entry_ranks(facts)
    together = (entries.read[1:] == entries.read[:-1]) & ((reads.loose[entries.read] == 0) & (_kind(facts) != HANDLE))[
        1:
    ]
    delta = np.where((rank[1:] >= 0) & (rank[:-1] >= 0), rank[1:] - rank[:-1], 1)
    placed = (rank[1:] >= 0) & (rank[:-1] >= 0)
    gap = entries.offset[1:] - entries.offset[:-1]
    cases = (
        ("int-poll-skip", together & (delta > 1), "skips messages that stand between them"),
        ("int-nonmonotonic-poll", together & (delta < 1), "goes backwards"),
        (
            "hole",
            together & placed & (delta == 1) & (gap > 1),
            "leaves offsets between them that nobody ever saw filled",
        ),
    )
    for kind, mask, words in cases:
        rows = np.flatnonzero(mask)
        rows = rows[np.argsort(-np.abs(gap[rows]), kind="stable")]
        for row in rows[:KEPT_PER_TYPE].tolist():
            read = int(entries.read[row])
            name = facts.queue_name(int(reads.queue[read]))
            ops = (int(reads.invoked[read]), int(reads.returned[read]))
            findings.found(
                Anomaly(
                    kind,
                    Severity.VIOLATION,
                    f"one batch of {name} returned {_text(facts, row)} and next {_text(facts, row + 1)}; that {words}",
                    scope=name,
                    values=tuple(value_name(facts.history, int(entries.value[e])) for e in (row, row + 1)),
                    offsets=(int(entries.offset[row]), int(entries.offset[row + 1])),
                    ops=ops,
                    core=ops,
                )
            )
        findings.more(kind, Severity.VIOLATION, len(rows) - KEPT_PER_TYPE)


def _kind(facts: Facts) -> Int:
    kinds: Int = facts.history.reads.kind[facts.history.entries.read].astype(np.int64)
    return kinds


def report_between_polls(facts: Facts, findings: Findings) -> None:
    """Compare each batch with the last ok batch the same process got from the same queue.

    Only ok polls advance the memory; a seek, an offset the broker moved and a lost assignment clear it; a retired
    process has no successor in it, since the successor has another number.
    """
    reads = facts.history.reads
    rows = np.flatnonzero((reads.kind == POLL) & ~facts.logs.alias[reads.queue] if len(reads) else np.zeros(0, bool))
    if not len(rows):
        return
    rank = _entry_ranks(facts)
    order = rows[np.lexsort((reads.returned[rows], reads.queue[rows], reads.process[rows]))]
    size = reads.stop[order] - reads.start[order]
    filled = size > 0
    place = np.arange(len(order))
    new = np.ones(len(order), dtype=bool)
    new[1:] = (reads.process[order][1:] != reads.process[order][:-1]) | (
        reads.queue[order][1:] != reads.queue[order][:-1]
    )
    barrier = np.maximum.accumulate(np.where(new | (reads.clear[order] == 1), place, -1))
    anchor = np.where(filled & (reads.type[order] == OK), place, -1)
    before = np.full(len(order), -1, dtype=np.int64)
    before[1:] = np.maximum.accumulate(anchor)[:-1]
    compared = filled & (before >= barrier) & (before >= 0)
    # A row that is itself a barrier starts afresh; its own batch is the first of the new memory.
    compared &= ~(new | (reads.clear[order] == 1))
    now = place[compared]
    then = before[compared]
    first_entry = reads.start[order[now]]
    last_entry = reads.stop[order[then]] - 1
    here, there = rank[first_entry], rank[last_entry]
    delta = np.where((here >= 0) & (there >= 0), here - there, 1)
    for kind, bad, words in (
        ("poll-skip", delta > 1, "skipping what stands between"),
        ("nonmonotonic-poll", delta < 1, "going backwards"),
    ):
        found = np.flatnonzero(bad)
        found = found[np.argsort(-np.abs(delta[found]), kind="stable")]
        subscribed = reads.mode[order[now[found]]] == MODE_SUBSCRIBE
        for mine, severity in ((found[~subscribed], Severity.VIOLATION), (found[subscribed], Severity.NOTE)):
            for one in mine[:KEPT_PER_TYPE].tolist():
                _between(facts, findings, kind, severity, words, int(order[then[one]]), int(order[now[one]]))
            findings.more(kind, severity, len(mine) - KEPT_PER_TYPE)


def report_from_elsewhere(facts: Facts, findings: Findings) -> None:
    """A read from an offset that it names begins with the message there, or the next one behind a gap."""
    reads, entries, logs = facts.history.reads, facts.history.entries, facts.logs
    rows = np.flatnonzero(
        (reads.asked >= 0) & (reads.stop > reads.start) & (reads.type == OK) & (reads.loose == 0)
        & ((reads.kind == POLL) | (reads.kind == READ)) & ~logs.alias[reads.queue]
    )  # fmt: skip
    if not len(rows):
        return
    first, asked, queue = entries.offset[reads.start[rows]], reads.asked[rows], reads.queue[rows].astype(np.int64)
    standing = np.flatnonzero(logs.settled)
    span = max(int(logs.offset.max(initial=0)), int(asked.max())) + 1
    places = logs.queue[standing].astype(np.int64) * span + logs.offset[standing]
    at = np.searchsorted(places, queue * span + asked)
    skipped = np.searchsorted(places, queue * span + first) - at  # copies of one offset count, which only C6 minds
    for kind, bad in (("poll-skip", (first > asked) & (skipped > 0)), ("nonmonotonic-poll", first < asked)):
        found = np.flatnonzero(bad)
        subscribed = reads.mode[rows[found]] == MODE_SUBSCRIBE
        for mine, severity in ((found[~subscribed], Severity.VIOLATION), (found[subscribed], Severity.NOTE)):
            for place in mine[:KEPT_PER_TYPE].tolist():
                read = int(rows[place])
                name = facts.queue_name(int(reads.queue[read]))
                over = int(standing[at[place]]) if kind == "poll-skip" else -1
                left = f", leaving out {value_name(facts.history, int(logs.value[over]))}" if over >= 0 else ""
                text = (
                    f"process {int(reads.process[read])} asked for {name} from offset {int(asked[place])} on and was "
                    f"given {_text(facts, int(reads.start[read]))} first{left}"
                )
                ops = (int(reads.invoked[read]), int(reads.returned[read]))
                offsets = (int(asked[place]), int(first[place]))
                findings.found(Anomaly(kind, severity, text, name, (), offsets, ops, ops))
            findings.more(kind, severity, len(mine) - KEPT_PER_TYPE)


def _between(
    facts: Facts, findings: Findings, kind: str, severity: Severity, words: str, before: int, now: int
) -> None:
    history, logs = facts.history, facts.logs
    reads, entries = history.reads, history.entries
    last, first = int(reads.stop[before]) - 1, int(reads.start[now])
    queue = int(reads.queue[now])
    name = facts.queue_name(queue)
    low, high = logs.span(queue)
    between = np.arange(low, high)[
        (logs.offset[low:high] > entries.offset[last])
        & (logs.offset[low:high] < entries.offset[first])
        & logs.settled[low:high]
    ]
    values = tuple(value_name(history, int(logs.value[row])) for row in between[:8])
    skipped = f" ({len(between)}: {', '.join(values)})" if kind == "poll-skip" else ""
    ops = tuple(
        int(i) for i in (reads.invoked[before], reads.returned[before], reads.invoked[now], reads.returned[now])
    )
    findings.found(
        Anomaly(
            kind,
            severity,
            f"process {int(reads.process[now])} read {name} up to {_text(facts, last)} and then went on with "
            f"{_text(facts, first)}, {words}{skipped}",
            scope=name,
            values=values,
            offsets=(int(entries.offset[last]), int(entries.offset[first])),
            ops=ops,
            core=ops,
        )
    )


def report_send_order(facts: Facts, findings: Findings) -> None:
    """One process' sends to one queue must stand in the order it made them, also inside a batch."""
    history, logs = facts.history, facts.logs
    sends = history.sends
    if not len(sends):
        return
    # An unknown send has a place if somebody saw it; the first place counts.
    rank_of = np.full(len(history.values), -1, dtype=np.int64)
    queue_of = np.full(len(history.values), -1, dtype=np.int64)
    rows = np.flatnonzero(logs.settled & (logs.value >= 0))[::-1]
    rank_of[logs.value[rows]] = logs.rank[rows]
    queue_of[logs.value[rows]] = logs.queue[rows]
    rank, queue = rank_of[sends.value], queue_of[sends.value]
    known = np.flatnonzero((rank >= 0) & (sends.type != FAIL))
    order = known[np.lexsort((known, queue[known], sends.process[known]))]
    pair = (sends.process[order][1:] == sends.process[order][:-1]) & (queue[order][1:] == queue[order][:-1])
    inside = sends.invoked[order][1:] == sends.invoked[order][:-1]
    delta = rank[order][1:] - rank[order][:-1]
    single = (sends.attempts[order][1:] <= 1) & (sends.attempts[order][:-1] <= 1)
    cases = (
        ("nonmonotonic-send", pair & ~inside & (delta < 1) & single, Severity.VIOLATION),
        ("int-nonmonotonic-send", pair & inside & (delta < 1), Severity.VIOLATION),
        ("int-send-skip", pair & inside & (delta > 1), Severity.NOTE),
    )
    for kind, mask, severity in cases:
        found = np.flatnonzero(mask)
        for place in found[:KEPT_PER_TYPE].tolist():
            first, second = int(order[place]), int(order[place + 1])
            name = facts.queue_name(int(queue[first]))
            ops = tuple(
                int(i)
                for i in (
                    sends.invoked[first],
                    sends.returned[first],
                    sends.invoked[second],
                    sends.returned[second],
                )
                if i >= 0
            )
            values = tuple(value_name(history, int(sends.value[row])) for row in (first, second))
            findings.found(
                Anomaly(
                    kind,
                    severity,
                    f"process {int(sends.process[first])} sent {values[0]} and then {values[1]} to {name}, and "
                    + ("others stand between them" if delta[place] > 1 else "they stand the other way round"),
                    scope=name,
                    values=values,
                    ops=ops,
                    core=ops,
                )
            )
        findings.more(kind, severity, len(found) - KEPT_PER_TYPE)


def measure_lag(facts: Facts, findings: Findings) -> None:
    """Measure, as a lower bound, how long what a reader had not yet been given had been known to exist (C6 6.4)."""
    history, logs = facts.history, facts.logs
    reads, entries, sends, time = history.reads, history.entries, history.sends, history.events.time
    if not len(logs.queue):
        return
    born = np.full(len(logs.queue), NEVER, dtype=np.int64)
    placed = np.flatnonzero(logs.send_row >= 0)
    np.minimum.at(born, logs.send_row[placed], time[sends.returned[placed]])
    of_entry = np.flatnonzero(logs.entry_row >= 0)
    np.minimum.at(born, logs.entry_row[of_entry], time[reads.returned[entries.read[of_entry]]])
    born[~logs.settled] = NEVER
    highest = np.full(len(reads), -1, dtype=np.int64)
    np.maximum.at(highest, entries.read[of_entry], entries.offset[of_entry])
    rows = np.flatnonzero(((reads.kind == POLL) | (reads.kind == READ)) & (reads.type == OK))
    rows = rows[np.lexsort((reads.returned[rows], reads.queue[rows]))]
    worst = 0
    listed: dict[str, float] = {}
    when = 0
    queues = reads.queue[rows]
    for queue in np.unique(queues).tolist():
        low, high = logs.span(queue)
        if low == high:
            continue
        # The first moment this offset or any later one was known to exist.
        known = np.minimum.accumulate(born[low:high][::-1])[::-1]
        left, right = np.searchsorted(queues, [queue, queue + 1])
        mine = rows[left:right]
        position = _positions(mine, reads.process, highest, reads.clear)
        following = np.searchsorted(logs.offset[low:high], position + 1)
        inside = following < high - low
        lag = np.zeros(len(mine), dtype=np.int64)
        lag[inside] = time[reads.invoked[mine[inside]]] - known[following[inside]]
        lag[position < 0] = 0
        lag = np.maximum(lag, 0)
        top = int(lag.argmax())
        if len(listed) < LAG_QUEUES:
            listed[facts.queue_name(queue)] = round(int(lag[top]) / 1e9, 6)
        if int(lag[top]) > worst:
            worst, when = int(lag[top]), int(time[reads.invoked[mine[top]]])
    findings.metrics["largest lag s"] = round(worst / 1e9, 6)
    if worst:
        findings.metrics["largest lag at s"] = round(when / 1e9, 3)
        findings.details["lag by queue s"] = listed


def _positions(rows: Int, process: Int, highest: Int, clear: Int) -> Int:
    """Return for each read the highest offset its process had been given by its end, since it last moved."""
    position = np.full(len(rows), -1, dtype=np.int64)
    last: dict[int, int] = {}
    for place, (who, top, cleared) in enumerate(
        zip(process[rows].tolist(), highest[rows].tolist(), clear[rows].tolist(), strict=True)
    ):
        if cleared:
            last.pop(who, None)
        if top >= 0:
            last[who] = max(top, last.get(who, -1))
        position[place] = last.get(who, -1)
    return position
