"""C11: does a consumer group find its committed offsets again?

For each group and queue a fetch must not answer less than the largest offset whose commit had ended before it began,
nor more than any commit that began before it ended; a reset starts anew. How far a commit binds is the system's to say
(`offsets.durable`): without it a rollback is a note, up to `max_rollback` messages, and so is a table that vanished
with a fault in master/slave groups. After each fault on a group it measures how long it took until the answers were
right for good. O(n log n).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final

import numpy as np

from checkers.columns import NEVER
from checkers.drain import split_queue
from checkers.explain import seconds
from checkers.facts import Facts
from checkers.observations import whole
from checkers.rare import Operation, operations_of
from checkers.verdict import Anomaly, Findings, Record, Severity

NAME: Final = "C11"
TITLE: Final = "consumer offsets are found again"

WRITES: Final = ("commit", "reset-offset")
KINDS: Final = (*WRITES, "fetch-offset", "start-offset")


def check_consumer_offsets(facts: Facts) -> Record:
    """Run C11."""
    findings = Findings(NAME, TITLE)
    by_place: dict[tuple[str, str], list[_Step]] = {}
    for kind in KINDS:
        for one in operations_of(facts.history, kind):
            group, queues = one.extra("group"), _queues(one)
            if not isinstance(group, str) or not queues:
                findings.doubt(f"a {kind} does not name its group and queue")
                continue
            for queue in queues:
                by_place.setdefault((group, queue), []).append(
                    _Step(one, _value(one.asked, queue), _value(one.answer, queue))
                )
    # Where a client library commits by itself no commit is recorded, and an offset may come from one of those.
    commits = {group for (group, _), mine in by_place.items() if any(step.one.f in WRITES for step in mine)}
    judged = 0
    worst: list[dict[str, Any]] = []
    recoveries: list[dict[str, Any]] = []
    for (group, queue), mine in sorted(by_place.items()):
        place = _Place(facts, group, queue, findings, told=group in commits)
        place.sweep(mine)
        judged += place.judged
        worst.append(
            {"group": group, "queue": queue, "fetched": place.judged, "largest rollback": place.largest,
             "taken back": place.taken_back}
        )  # fmt: skip
        recoveries += _recoveries(facts, place)
    findings.counts["fetched"] = judged
    findings.details["offsets"] = worst
    findings.details["after faults"] = recoveries
    if recoveries:
        spans = [(row["right after"][0], _endless(row["right after"][1])) for row in recoveries]
        findings.metrics["right after a fault s"] = max(spans, key=lambda span: (span[1], span[0]))
    if worst:
        findings.metrics["largest rollback"] = max(int(row["largest rollback"]) for row in worst)
    if not judged:
        findings.doubt("no committed offset was ever fetched")
    return findings.record()


def _endless(seconds_: float | None) -> float:
    return float("inf") if seconds_ is None else seconds_


@dataclass(frozen=True, slots=True)
class _Answer:
    """One question for an offset: when it was asked and answered, whether rightly, and by which node."""

    asked: int
    answered: int
    right: bool
    node: str


def _recoveries(facts: Facts, place: _Place) -> list[dict[str, Any]]:
    """Return for each fault on the group of a queue when its offset was answered rightly for good (seconds).

    `right after` is an interval: from the end of the injection to the last question that got no right answer, from
    its beginning to the first right answer behind that. Its upper end is null where there was none before the next
    fault or the end.
    """
    broker_group = split_queue(place.queue)[1]
    configured = facts.history.meta.groups.get(broker_group)
    names = {*(configured.nodes if configured else ()), broker_group}
    near = sorted((window for window in facts.windows if window.touches(names)), key=lambda window: window.a1)
    answers = sorted(place.answers, key=lambda answer: answer.asked)
    rows: list[dict[str, Any]] = []
    for number, window in enumerate(near):
        until = near[number + 1].a1 if number + 1 < len(near) else int(NEVER)
        mine = [answer for answer in answers if window.a1 <= answer.asked < until]
        if not mine:
            continue
        wrong = [answer for answer in mine if not answer.right]
        last = wrong[-1].asked if wrong else window.a1 - 1
        first = next((answer for answer in mine if answer.right and answer.asked > last), None)
        lower = max(0.0, (last - window.a2) / 1e9) if wrong else 0.0
        upper = None if first is None else round((first.answered - window.a1) / 1e9, 3)
        rows.append(
            {
                "fault": window.id,
                "group": place.group,
                "queue": place.queue,
                "asked": len(mine),
                "not right": len(wrong),
                "by": sorted({answer.node for answer in wrong if answer.node}),
                "right after": [round(lower, 3), upper],
            }
        )
    return rows


@dataclass(frozen=True, slots=True)
class _Step:
    """What one operation said of one queue: the offset it named, and the one it was answered."""

    one: Operation
    asked: Any
    answer: Any


def _queues(one: Operation) -> list[str]:
    """Return the queues an operation speaks of: the extra, or the keys of its value."""
    named = one.extra("queue")
    if isinstance(named, str):
        return [named]
    value = one.asked if isinstance(one.asked, dict) else one.answer
    return [str(queue) for queue in value] if isinstance(value, dict) else []


def _value(value: Any, queue: str) -> Any:
    """Return the offset in a value: the value itself, or what a table of queues says of one."""
    return value.get(queue) if isinstance(value, dict) else value


@dataclass(slots=True)
class _Open:
    """A fetch under way: what held when it was invoked."""

    floor: tuple[int, Operation] | None
    resets: int


@dataclass(slots=True)
class _Place:
    """One group and queue, swept in order of the history."""

    facts: Facts
    group: str
    queue: str
    findings: Findings
    told: bool = True
    judged: int = 0
    largest: int = 0
    taken_back: int = 0
    wrong: int = 0
    answers: list[_Answer] = field(default_factory=list)
    begins: tuple[list[int], list[tuple[int, int]]] | None = None
    floor: tuple[int, Operation] | None = None
    ceiling: int = -1
    known: set[int] = field(default_factory=set)
    unsure: set[int] = field(default_factory=set)
    resets: int = 0
    resetting: int = 0
    last_reset: int = -1
    committing: dict[int, int] = field(default_factory=dict)
    fetching: dict[int, _Open] = field(default_factory=dict)

    def sweep(self, steps: Iterable[_Step]) -> None:
        """Walk through all events of the operations in order."""
        marks: list[tuple[int, int, _Step]] = []
        for step in steps:
            one = step.one
            marks.append((one.begin, 0, step))
            if one.end < NEVER:
                marks.append((one.end, 1, step))
            elif one.returned is not None:
                marks.append((int(self.facts.history.events.position[one.returned.index]), 1, step))
        lengths = _lengths(self.facts, self.queue)
        for _, what, step in sorted(marks, key=lambda mark: mark[:2]):
            if step.one.f in WRITES:
                self._write(step.one, step.asked, begins=what == 0)
            elif what == 0:
                self.fetching[step.one.invoked.index] = _Open(self.floor, self.resets)
            else:
                began = self.fetching.pop(step.one.invoked.index)
                right = step.one.type == "ok" and self._judge(step.one, step.answer, began, lengths)
                self._answered(step.one, right=right)

    def _answered(self, one: Operation, *, right: bool) -> None:
        time_of = self.facts.history.time_of
        if one.returned is not None:
            address = str(one.extra("node") or "")
            node = self.facts.history.meta.node_at(address) or address
            self.answers.append(_Answer(time_of(one.invoked.index), time_of(one.returned.index), right, node))

    def _write(self, one: Operation, asked: Any, *, begins: bool) -> None:
        if one.f == "reset-offset" and one.type == "fail":  # it never was, so what held before goes on to hold
            return
        value = whole(asked)
        if value is None:
            self.findings.doubt(f"a {one.f} of {self.group} on {self.queue} has no offset")
            self.told = False
            return
        if begins:
            if one.type != "fail":
                self.ceiling = max(self.ceiling, value)
                self.known.add(value)
            if one.type == "info":
                self.unsure.add(value)
            if one.f == "reset-offset":
                self.resets, self.resetting, self.floor = self.resets + 1, self.resetting + 1, None
            else:
                if self.committing:
                    self.findings.doubt(
                        f"{self.group} had two commits to {self.queue} under way at once: their order is not known"
                    )
                if one.end < NEVER:
                    self.committing[one.invoked.index] = value
            return
        if one.f == "commit":
            self.committing.pop(one.invoked.index, None)
            if one.type == "ok" and not self.resetting and one.begin > self.last_reset:
                self.floor = (value, one)  # a smaller commit takes the larger one back
        elif one.type != "info":
            self.resetting -= 1
            self.last_reset = one.end
            if one.type == "ok" and not self.resetting:
                self.floor = (value, one)

    def _judge(
        self, one: Operation, answer: Any, began: _Open, lengths: tuple[Sequence[int], Sequence[int]] | None
    ) -> bool:
        """Judge one answer; return whether it was right."""
        value = -1 if answer is None else whole(answer)
        if value is None:
            self.findings.doubt(f"a {one.f} of {self.group} on {self.queue} ended with no offset")
            return False
        self.judged += 1
        before = self.wrong
        floor = began.floor if began.resets == self.resets and not self.resetting else None
        none = value <= 0
        if floor is not None and floor[0] > 0 and none and one.f == "fetch-offset":
            severity = Severity.NOTE if self._excused(one) else Severity.VIOLATION
            self._found("vanished", severity, one, f"answered {'none' if value < 0 else value}", floor)
            self._rebase(max(value, 0), one)
        elif floor is not None and value < floor[0]:
            lost = floor[0] - max(value, 0)
            self.largest, self.taken_back = max(self.largest, lost), self.taken_back + lost
            severity = self._severity(lost)
            if value in self.unsure:  # a commit nobody heard back of may have come in late
                severity = Severity.NOTE
            self._found("rollback", severity, one, f"answered {value}, {lost} less", floor)
            self._rebase(max(value, 0), one)
        wrote = self.ceiling >= 0
        if not wrote and not none and one.f == "fetch-offset":
            if self.told:
                self._found("from-nowhere", Severity.VIOLATION, one, f"answered {value}, and nothing was committed yet")
            else:
                self.findings.doubt(f"{self.group} found offsets of which no commit is recorded")
        if wrote and value > self.ceiling:
            kind = "start-mismatch" if one.f == "start-offset" else "from-nowhere"
            self._found(kind, Severity.VIOLATION, one, f"answered {value}, and at most {self.ceiling} was committed")
        elif wrote and not none and value not in self.known and one.f == "fetch-offset":
            self._found("from-nowhere", Severity.VIOLATION, one, f"answered {value}, which nobody ever committed")
        if lengths is not None and value > 0:
            times, tops = lengths
            place = bisect_left(times, one.end) - 1
            length = tops[place] if place >= 0 else 0
            if value > length:
                text = f"answered {value}, but the queue had at most {length} messages by then"
                self._found("beyond-end", Severity.VIOLATION, one, text)
        right = self.wrong == before
        low = self._queue_begin(one)
        if low is not None and 0 <= value < low[0] and one.f == "fetch-offset" and value in self.known:
            text = f"answered {value}, but the queue began at {low[0]} already (event {low[1]})"
            self._found("before-begin", Severity.NOTE, one, text)
        return right

    def _queue_begin(self, one: Operation) -> tuple[int, int] | None:
        """Return the first offset of the queue as a node told it before a question was asked, and by which event."""
        if self.begins is None:
            told = sorted(
                (status.time, status.queues[self.queue][0], status.index)
                for status in self.facts.observed.statuses
                if status.serving and self.queue in status.queues
            )
            furthest = accumulate(((low, index) for _, low, index in told), max)
            self.begins = ([time for time, _, _ in told], list(furthest))
        times, furthest_by_then = self.begins
        place = bisect_left(times, self.facts.history.time_of(one.invoked.index)) - 1
        return furthest_by_then[place] if place >= 0 else None

    def _rebase(self, value: int, one: Operation) -> None:
        """One rollback is one finding: what comes after is held against what it left."""
        if self.floor is not None and self.floor[0] > value:
            self.floor = (value, one)

    def _excused(self, one: Operation) -> bool:
        """Tell whether a fault explains that a table of offsets is gone which nobody promised to keep."""
        meta = self.facts.history.meta
        if meta.offsets.durable or (meta.offsets.durable is None and meta.mode == "dledger"):
            return False
        group = meta.groups.get(split_queue(self.queue)[1])
        names = {*(group.nodes if group else ()), split_queue(self.queue)[1]}
        when = self.facts.history.time_of(one.invoked.index)
        return any(window.touches(names) and window.a1 <= when for window in self.facts.windows)

    def _severity(self, lost: int) -> Severity:
        promised = self.facts.history.meta.offsets
        if promised.max_rollback is not None:
            return Severity.VIOLATION if lost > promised.max_rollback else Severity.NOTE
        return Severity.VIOLATION if promised.durable else Severity.NOTE

    def _found(
        self, kind: str, severity: Severity, one: Operation, what: str, floor: tuple[int, Operation] | None = None
    ) -> None:
        self.wrong += 1
        when = self.facts.history.time_of(one.invoked.index)
        window = max((w for w in self.facts.windows if w.a1 <= when), key=lambda w: w.a1, default=None)
        node = f" by {one.extra('node')}" if one.extra("node") else ""
        text = f"{self.group} asked for its offset of {self.queue} at {seconds(when)} and was{node} {what}"
        ops = one.ops
        if floor is not None:
            text += f"; {floor[0]} had been committed before"
            ops = (*floor[1].ops, *one.ops)
        self.findings.found(
            Anomaly(kind, severity, text, self.queue, (), (), tuple(sorted(ops)), tuple(sorted(ops)),
                    window.id if window is not None else None)
        )  # fmt: skip


def _lengths(facts: Facts, queue: str) -> tuple[Sequence[int], Sequence[int]] | None:
    """Return for a queue that was drained to its end when (positions of invocations) its length could first be what.

    None where messages may be in it that nobody knows.
    """
    numbers: Mapping[Any, int] = facts.history.queue_numbers
    number = numbers.get(queue, -1)
    if number < 0 or not facts.drain.decided[number] or facts.logs.rewound[number]:
        return None
    low, high = facts.logs.span(number)
    value, offset = facts.logs.value[low:high], facts.logs.offset[low:high]
    sender = np.where(value >= 0, facts.logs.sender[np.maximum(value, 0)], -1)
    if bool((sender < 0).any()):
        return None
    begun = facts.history.sends.begin[sender]
    order = np.argsort(begun, kind="stable")
    return begun[order].tolist(), np.maximum.accumulate(offset[order] + 1).tolist() if len(order) else []
