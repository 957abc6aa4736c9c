"""C9: do the positions of a node only go forward, and does a new leader keep what the old one had acknowledged?

Within one incarnation the term, the commit position, the begin of the log and the ends of queues (as consumers see
them) never go back; commit never passes the end. A leader that serves shows each queue at least as far as anybody
was promised in its term or an earlier one. After a restart commit may begin lower: what is below it is C7's business.
Answers that overlap in time are not ordered. O(n log n) in status answers and promises.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from checkers.explain import seconds, send_story, some
from checkers.facts import Facts
from checkers.observations import Status, unwatched
from checkers.verdict import Anomaly, Findings, Record, Severity

NAME: Final = "C9"
TITLE: Final = "positions only go forward"

_FORWARD: Final = (("term", "term-decrease"), ("commit", "commit-decrease"), ("begin", "begin-decrease"))
"""Fields that never go back within an incarnation, and what it is called if they do."""


def check_positions(facts: Facts) -> Record:
    """Run C9."""
    findings = Findings(NAME, TITLE)
    statuses = [status for status in facts.observed.statuses if status.answered]
    lives: dict[tuple[str, str, str | None], list[Status]] = {}
    for status in statuses:
        lives.setdefault((status.group, status.node, status.incarnation), []).append(status)
        _within(status, findings)
    for key in sorted(lives, key=str):
        _forward(lives[key], findings)
    leaders = [status for status in statuses if status.leads and status.serving is True]
    _rollback(facts, leaders, findings)
    findings.counts["status answers"] = len(statuses)
    findings.counts["incarnations"] = len(lives)
    findings.counts["answers of serving leaders"] = len(leaders)
    _doubts(facts, statuses, leaders, findings)
    return findings.record()


def _doubts(facts: Facts, statuses: Sequence[Status], leaders: Sequence[Status], findings: Findings) -> None:
    meta, span = facts.history.meta, facts.span
    for doubt in unwatched(facts.history, facts.observed, facts.drain.excluded, span.load_begin, span.load_end):
        findings.doubt(doubt)
    for group in sorted(meta.groups):
        mine = [status for status in statuses if status.group == group]
        for name in ("incarnation", "term", "commit", "begin", "end"):
            if missing := sum(getattr(status, name) is None for status in mine):
                findings.doubt(f"{group}: {missing} of {len(mine)} status answers do not tell {name}")
        serving = [status for status in leaders if status.group == group]
        shown = {queue for status in serving for queue in status.queues}
        if mine and not shown:
            findings.doubt(f"{group}: no serving leader told how far its queues reach, so a rollback could go unseen")
        elif hidden := sorted(_promised_queues(facts, group) - shown):
            findings.doubt(
                f"{group}: no serving leader told how far {some(hidden)} reach, so a rollback could go unseen"
            )


def _promised_queues(facts: Facts, group: str) -> set[str]:
    """Return the queues of a group in which a SEND_OK has a place."""
    sends = facts.history.sends
    used = np.unique(sends.queue[facts.promised & (sends.queue >= 0) & (sends.offset >= 0)])
    return {facts.queue_name(queue) for queue in used.tolist() if facts.group_of(queue) == group}


def _at(status: Status) -> str:
    return f" at {seconds(status.time)}"


def _who(status: Status) -> str:
    return f"{status.node} of {status.group}"


def _report(
    findings: Findings, kind: str, text: str, status: Status, *others: int, offsets: Sequence[int] = ()
) -> None:
    ops = tuple(sorted({*others, status.index}))
    findings.found(Anomaly(kind, Severity.VIOLATION, text, status.group, (), tuple(offsets), ops, ops))


def _within(status: Status, findings: Findings) -> None:
    """Judge one answer by itself."""
    if status.commit is not None and status.end is not None and status.commit > status.end:
        text = f"{_who(status)} calls {status.commit} committed, but its log ends at {status.end}{_at(status)}"
        _report(findings, "commit-beyond-end", text, status, offsets=(status.commit, status.end))
    if status.durable is not None and status.end is not None and status.durable > status.end:
        text = (
            f"{_who(status)} calls {status.durable} synced at {seconds(status.time)}, but its log ends at {status.end}"
        )
        _report(findings, "durable-beyond-end", text, status, offsets=(status.durable, status.end))
    if status.begin is not None and status.end is not None and status.begin > status.end:
        text = f"the log of {_who(status)} begins at {status.begin} and ends at {status.end} at {seconds(status.time)}"
        _report(findings, "begin-beyond-end", text, status, offsets=(status.begin, status.end))
    for queue, (low, high) in sorted(status.queues.items()):
        if low > high:
            text = f"{queue} begins at {low} and ends at {high} on {_who(status)} at {seconds(status.time)}"
            _report(findings, "begin-beyond-end", text, status, offsets=(low, high))


@dataclass(slots=True)
class _Best:
    value: int
    status: Status


def _preceded(statuses: Sequence[Status]) -> Iterator[tuple[Status, list[Status]]]:
    """Yield each answer with those that had come in before it was asked for since the last one yielded."""
    done = sorted(statuses, key=lambda one: (one.time, one.index))
    place = 0
    for status in sorted(statuses, key=lambda one: (one.asked, one.index)):
        fresh: list[Status] = []
        while place < len(done) and done[place].time < status.asked:
            fresh.append(done[place])
            place += 1
        yield status, fresh


def _forward(statuses: Sequence[Status], findings: Findings) -> None:
    """Judge the answers of one incarnation."""
    best: dict[str, _Best] = {}

    def learn(name: str, value: int | None, status: Status) -> None:
        if value is not None and (name not in best or value > best[name].value):
            best[name] = _Best(value, status)

    def fell(name: str, value: int | None) -> _Best | None:
        found = best.get(name)
        return found if found is not None and value is not None and value < found.value else None

    top = -1
    for status, fresh in _preceded(statuses):
        for earlier in fresh:
            top = max(top, earlier.end if earlier.end is not None else -1)
            for name, _ in _FORWARD:
                learn(name, getattr(earlier, name), earlier)
            for queue, (low, high) in earlier.queues.items():
                learn(f"max {queue}", high, earlier)
                learn(f"min {queue}", low, earlier)
        if status.begin is not None and status.begin > top >= 0:
            # It was seeded anew, from a point beyond all it had: its queues begin anew with its log.
            for name in [name for name in best if name.startswith(("max ", "min "))]:
                del best[name]
        for name, kind in _FORWARD:
            if (old := fell(name, getattr(status, name))) is not None:
                new = getattr(status, name)
                text = (
                    f"{name} of {_who(status)} was {old.value} at {seconds(old.status.time)} and {new} at "
                    f"{seconds(status.time)}, without a restart in between"
                )
                _report(findings, kind, text, status, old.status.index, offsets=(old.value, new))
        for queue, (low, high) in sorted(status.queues.items()):
            for name, value in (("max", high), ("min", low)):
                if (old := fell(f"{name} {queue}", value)) is not None:
                    text = (
                        f"the {name} offset of {queue} on {_who(status)} was {old.value} at {seconds(old.status.time)} "
                        f"and {value} at {seconds(status.time)}, without a restart in between"
                    )
                    _report(
                        findings, f"queue-{name}-decrease", text, status, old.status.index, offsets=(old.value, value)
                    )


class _Floors:
    """How far each queue was promised by when, in terms up to a given one.

    A promise whose term nobody knows may be that of a later leader, of which one that is cut off has not heard: it
    binds the node that gave it, and no other.
    """

    def __init__(self, facts: Facts) -> None:
        sends = facts.history.sends
        self._facts = facts
        self._rows = np.flatnonzero(facts.promised & (sends.offset >= 0) & (sends.queue >= 0) & (sends.returned >= 0))
        self._queue = sends.queue[self._rows]
        self._term = facts.send_term[self._rows]
        nodes = [facts.history.meta.node_at(name) for name in facts.history.nodes]
        self._numbers = {name: number for number, name in enumerate(dict.fromkeys(nodes))}
        self._node = np.array([self._numbers[name] for name in nodes] + [-1], dtype=np.int64)[sends.node[self._rows]]
        self._made: dict[tuple[int, int, str], tuple[list[int], list[int]]] = {}

    def before(self, queue: int, term: int, node: str, time: int) -> int:
        """Return the row of the send with the largest offset that was promised before an instant and binds a leader of
        a term, -1 if there is none."""
        key = (queue, term, node)
        if key not in self._made:
            sends, when = self._facts.history.sends, self._facts.history.events.time
            own = self._node == self._numbers.get(node, -2)
            binds = np.where(self._term >= 0, self._term <= term, own)
            mine = self._rows[(self._queue == queue) & binds]
            mine = mine[np.argsort(when[sends.returned[mine]], kind="stable")]
            offsets = sends.offset[mine]
            fresh = np.flatnonzero(offsets == np.maximum.accumulate(offsets)) if len(mine) else mine
            self._made[key] = (when[sends.returned[mine[fresh]]].tolist(), mine[fresh].tolist())
        times, rows = self._made[key]
        place = bisect_left(times, time) - 1
        return rows[place] if place >= 0 else -1


def _rollback(facts: Facts, leaders: Sequence[Status], findings: Findings) -> None:
    """A serving leader shows all that was promised before, and all that a leader before it had shown as committed."""
    floors = _Floors(facts)
    numbers: Mapping[Any, int] = facts.history.queue_numbers
    sends = facts.history.sends
    told: set[tuple[str, int, str]] = set()
    shown: dict[tuple[str, str], dict[int, _Best]] = {}
    for status, fresh in _preceded(leaders):
        for earlier in fresh:
            for queue, (_, high) in earlier.queues.items():
                by_term = shown.setdefault((earlier.group, queue), {})
                old = by_term.get(earlier.term or 0)
                if old is None or high > old.value:
                    by_term[earlier.term or 0] = _Best(high, earlier)
        for queue, (_, high) in sorted(status.queues.items()):
            key = (status.node, status.term or 0, queue)
            if key in told:
                continue
            number = numbers.get(queue, -1)
            row = floors.before(number, status.term or 0, status.node, status.asked) if number >= 0 else -1
            if row >= 0 and high < int(sends.offset[row]) + 1:
                told.add(key)
                text = (
                    f"{_who(status)} serves term {status.term} and shows {queue} up to {high}{_at(status)}, "
                    f"although {send_story(facts.history, row)}"
                )
                _report(
                    findings, "queue-rollback", text, status, int(sends.invoked[row]), int(sends.returned[row]),
                    offsets=(high, int(sends.offset[row])),
                )  # fmt: skip
                continue
            before = [b for t, b in shown.get((status.group, queue), {}).items() if t < (status.term or 0)]
            top = max(before, key=lambda one: one.value, default=None)
            if top is not None and high < top.value:
                told.add(key)
                text = (
                    f"{_who(status)} serves term {status.term} and shows {queue} up to {high}{_at(status)}; "
                    f"{top.status.node} had shown it up to {top.value} in term {top.status.term}"
                )
                _report(findings, "queue-rollback", text, status, top.status.index, offsets=(high, top.value))
