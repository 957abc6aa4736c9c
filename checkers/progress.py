"""C15: does a group work whenever it must?

From the topology and the faults follows at each instant whether a group has to serve (`conditions.tolerable`). Once
that has held for the grace period, every window of a fixed length must see a send answered SEND_OK, and a delivery
where messages wait; otherwise the group has stalled. After the drain's deadline a group that never became ready never
recovered, unless it served and its followers were still coming nearer (`catch_up.py`). O(n log n) in operations plus
the number of changes of state.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np

from checkers.catch_up import late_only
from checkers.columns import HANDLE, NEVER, POLL, READ, Int, distinct
from checkers.conditions import VOTERS_MOST, Needs, states, tolerable
from checkers.explain import seconds
from checkers.facts import Facts
from checkers.meta import GRACE_MOST_S
from checkers.verdict import Anomaly, Findings, Record, Severity

NAME: Final = "C15"
TITLE: Final = "progress whenever a quorum is reachable"

IDLE_MOST: Final = 0.1
"""Share of the time under obligation in which nothing may be asked for; more leaves too much unseen."""

STARVED: Final = 0.8
"""A node that waits for a CPU for so much of the time runs at a fifth of its pace: its timers then mean nothing."""

PERIODS: Final = 3
"""A window holds at least so many periods of the load."""


@dataclass(frozen=True, slots=True)
class Obligation:
    """A span in which a group owes progress: from the end of the grace period until the conditions change."""

    group: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Stall:
    """A span inside an obligation without any success although something was asked for all that time: `count` sends
    that were tried, or messages that waited to be delivered. Of `what` *idle*: nobody asked for anything."""

    group: str
    what: str
    begin: int
    end: int
    count: int = 0


def check_progress(facts: Facts) -> Record:
    """Run C15."""
    findings = Findings(NAME, TITLE)
    meta = facts.history.meta
    asked = meta.progress
    findings.metrics["grace s"], findings.metrics["window s"] = asked.grace_s, asked.window_s
    if asked.grace_s > GRACE_MOST_S and not asked.because:
        findings.doubt(
            f"a grace period of {asked.grace_s:g} s hides stalls: more than {GRACE_MOST_S:g} s must be explained by "
            "the timers it follows from"
        )
    if not (asked.grace_s >= 0 and asked.window_s > 0):
        findings.doubt("the grace period and the window must be positive")
        return findings.record()
    if not meta.groups:
        findings.doubt("the run names no broker group")
    if not meta.clients or not meta.name_servers:
        findings.doubt("the run does not name its client hosts and name servers, so nobody knows who could be served")
    if count := facts.observed.unreadable.get("membership", 0):
        findings.doubt(f"{count} membership events could not be read")
    silent = facts.span.load_end - _last_asked(facts)
    if silent > 2 * meta.operation_timeout_ns + asked.window_s * 1e9:
        findings.doubt(f"nobody sent anything in the last {silent / 1e9:.1f} s of the load")
    ready = _recovered(facts, findings)
    owed = kept = idle = 0
    rows: list[dict[str, Any]] = []
    for group in sorted(meta.groups):
        voters, votes = len(meta.groups[group].electors), meta.groups[group].votes
        if voters > VOTERS_MOST:
            findings.doubt(f"{group} has more than {VOTERS_MOST} voters, which is not judged")
        if not voters // 2 < votes <= voters:
            findings.doubt(f"{group}: {votes} votes are no majority of {voters} voters")
        found, stalls = _judge(facts, group, findings)
        length = sum(one.end - one.begin for one in found)
        missed = sum(stall.end - stall.begin for stall in stalls if stall.what == "send")
        owed, kept = owed + length, kept + length - missed
        idle += sum(stall.end - stall.begin for stall in stalls if stall.what == "idle")
        rows += [
            {"group": one.group, "from": round(one.begin / 1e9, 3), "to": round(one.end / 1e9, 3),
             "stalls": [[s.what, round(s.begin / 1e9, 3), round(s.end / 1e9, 3)] for s in stalls
                        if one.begin <= s.begin and s.end <= one.end]}
            for one in found
        ]  # fmt: skip
        if not found and not ready.get(group):
            findings.doubt(f"{group} never owed progress for as long as a window, and nothing shows that it recovered")
    findings.details["obligations"] = rows
    findings.counts["obligations"] = len(rows)
    load = max(1, (facts.span.load_end - facts.span.load_begin) * max(1, len(meta.groups)))
    findings.metrics["load under obligation"] = round(owed / load, 4)
    if owed:
        findings.metrics["satisfied"] = round(kept / owed, 4)
        findings.metrics["idle s"] = round(idle / 1e9, 3)
    if idle > IDLE_MOST * owed:
        findings.doubt(f"for {idle / 1e9:.1f} of {owed / 1e9:.1f} s in which progress was owed nobody asked for any")
    if opaque := sorted({w.id for w in facts.windows if w.cut is None}):
        findings.doubt(f"what {', '.join(opaque)} cut is not recorded, so it is not known when progress was owed")
    for window in facts.windows:
        if not window.injected.holds:
            findings.doubt(f"{window.kind} ({window.id}) is not proven, so it is not known when progress was owed")
    return findings.record()


def needs(facts: Facts, group: str, at: int) -> Needs:
    """Return who takes part in serving a group at an instant: the configured nodes, or the last committed change."""
    meta = facts.history.meta
    configured = meta.groups[group]
    voters, quorum = tuple(configured.electors), configured.votes
    for change in sorted(facts.observed.memberships, key=lambda one: one.time):
        if change.group == group and change.time <= at:
            voters, quorum = change.voters, change.quorum
    return Needs(voters, quorum, tuple(meta.clients), tuple(meta.name_servers))


def obligations(facts: Facts, group: str, *, every_client: bool = False) -> list[Obligation]:
    """Return the spans in which a group owes progress. Each change of what concerns it starts a new grace period."""
    begin, end = facts.span.load_begin, _last_asked(facts)
    changes = sorted({c.time for c in facts.observed.memberships if c.group == group and begin < c.time < end})
    grace = round(facts.history.meta.progress.grace_s * 1e9)
    found: list[Obligation] = []
    edges = [begin, *changes, end]
    for low, high in pairwise(edges):
        parts = needs(facts, group, low)
        names = (*parts.voters, *parts.clients, *parts.name_servers)
        found += [
            Obligation(group, state.begin + grace, state.end)
            for state in states(facts, names, low, high)
            if tolerable(facts, state, parts, every_client=every_client)
        ]
    return [one for one in found if one.begin < one.end]


def _last_asked(facts: Facts) -> int:
    """Return when the load sent its last message: while it waits for the last answers it asks for nothing."""
    sends, time = facts.history.sends, facts.history.events.time
    begun = time[sends.invoked[sends.sentinel == 0]]
    begun = begun[begun <= facts.span.load_end]
    return int(begun.max()) if len(begun) else facts.span.load_end


def _judge(facts: Facts, group: str, findings: Findings) -> tuple[list[Obligation], list[Stall]]:
    done, tried = _sends(facts, group)
    period = float(np.median(np.diff(tried))) if len(tried) > 2 else 0.0
    window = max(round(facts.history.meta.progress.window_s * 1e9), round(PERIODS * period))
    found = [one for one in obligations(facts, group) if one.end - one.begin > window]
    stalls: list[Stall] = []
    for one in found:
        for low, high in gaps(done, one.begin, one.end, window):
            asked = tried[np.searchsorted(tried, low, side="right") : np.searchsorted(tried, high)]
            begin = max(low, int(asked[0])) if len(asked) else high
            if high - begin > window:
                stalls.append(Stall(group, "send", begin, high, len(asked)))
            else:
                stalls.append(Stall(group, "idle", low, begin))
    readers, got, acked, first = _deliveries(facts, group)
    for one in obligations(facts, group, every_client=True) if readers else ():
        for low, high in gaps(got, one.begin, one.end, window) if one.end - one.begin > window else ():
            waiting = acked[first >= high]
            begin = max(low, int(waiting.min())) if len(waiting) else high
            if high - begin > window:
                stalls.append(Stall(group, "delivery", begin, high, int(np.count_nonzero(waiting < high))))
    for stall in sorted(stalls, key=lambda s: s.begin - s.end):
        if stall.what != "idle":
            _report(facts, stall, findings)
    return found, stalls


def gaps(done: Int, begin: int, end: int, window: int) -> list[tuple[int, int]]:
    """Return the spans longer than a window within `[begin, end]` that hold none of the (sorted) instants."""
    inside = done[np.searchsorted(done, begin, side="left") : np.searchsorted(done, end, side="right")]
    edges = np.concatenate([[begin], inside, [end]])
    wide = np.flatnonzero(np.diff(edges) > window)
    return [(int(edges[place]), int(edges[place + 1])) for place in wide]


def _sends(facts: Facts, group: str) -> tuple[Int, Int]:
    """Return when promises of a group were given, and when any send that might go to it was invoked."""
    sends, time = facts.history.sends, facts.history.events.time
    mine = _of_group(facts, group, facts.send_queue)
    good = np.flatnonzero(facts.promised & mine & (sends.returned >= 0))
    tried = np.sort(time[sends.invoked[mine | (facts.send_queue < 0)]])
    return np.sort(time[sends.returned[good]]), tried


def _of_group(facts: Facts, group: str, queue: Int) -> Any:
    here = np.array([facts.group_of(number) == group for number in range(len(facts.history.queues))] + [False])
    return here[queue]


def _deliveries(facts: Facts, group: str) -> tuple[bool, Int, Int, Int]:
    """Return whether anybody reads from a group during the load, or should; when new messages of it were delivered, and
    for each of its promised messages when it was acknowledged and first delivered."""
    history, time = facts.history, facts.history.events.time
    reads, entries, sends = history.reads, history.entries, history.sends
    ordinary = (reads.kind == POLL) | (reads.kind == READ) | (reads.kind == HANDLE)
    ordinary &= _of_group(facts, group, reads.queue) & (time[reads.invoked] <= facts.span.load_end)
    first = np.full(len(history.values), NEVER, dtype=np.int64)
    usable = ordinary[entries.read] & (entries.value >= 0)
    np.minimum.at(first, entries.value[usable], time[reads.returned[entries.read[usable]]])
    rows = np.flatnonzero(facts.promised & _of_group(facts, group, facts.send_queue) & (sends.sentinel == 0))
    delivered = distinct(first[first < NEVER])
    # Who should read and has not been given anything since the beginning is waiting as well.
    readers = bool(ordinary.any()) or bool(history.meta.consumer_groups)
    return readers, delivered, time[sends.returned[rows]], first[sends.value[rows]]


def _report(facts: Facts, stall: Stall, findings: Findings) -> None:
    length = f"for {(stall.end - stall.begin) / 1e9:.2f} s, from {seconds(stall.begin)} to {seconds(stall.end)}"
    told = _said(facts, stall)
    window = next((w for w in facts.windows if w.a1 <= stall.begin <= w.h2), None)
    what = (
        f"{stall.group} answered none of {stall.count} sends with SEND_OK"
        if stall.what == "send"
        else f"nothing was delivered from {stall.group} although {stall.count} acknowledged messages waited"
    )
    excuse = _starved_out(facts, stall)
    text = f"{what} {length}, although a quorum ran and was reachable{told}{excuse}"
    ops = _witnesses(facts, stall)
    severity = Severity.UNDECIDED if excuse else Severity.VIOLATION
    findings.found(
        Anomaly("stall", severity, text, stall.group, ops=ops, core=ops,
                fault=window.id if window is not None else None)
    )  # fmt: skip


def starved(facts: Facts, group: str, begin: int, end: int) -> dict[str, float]:
    """Return the share of a span for which nodes had no CPU although they were ready to run, where the lab knows it."""
    marks: dict[tuple[str, str | None], list[tuple[int, int]]] = {}
    for status in (*facts.observed.statuses, *facts.observed.appointed):
        if status.group == group and status.starved is not None:
            marks.setdefault((status.node, status.incarnation), []).append((status.time, status.starved))
    found: dict[str, float] = {}
    for (node, _), told in marks.items():
        before = [mark for mark in told if mark[0] <= begin]
        after = [mark for mark in told if mark[0] >= end]
        if before and after:
            (first, low), (last, high) = before[-1], after[0]
            found[node] = (high - low) / max(1, last - first)
    return found


def _starved_out(facts: Facts, stall: Stall) -> str:
    """Return, in words, that too few nodes for a quorum had a CPU during a stall; empty if that is not shown."""
    shares = starved(facts, stall.group, stall.begin, stall.end)
    parts = needs(facts, stall.group, stall.begin)
    hungry = [node for node in parts.voters if shares.get(node, 0.0) >= STARVED]
    if len(parts.voters) - len(hungry) >= parts.quorum:
        return ""
    told = ", ".join(f"{node} for {shares[node]:.0%} of it" for node in hungry)
    return f"; but this machine had no CPU for {told}, though they were ready to run: nobody can say whose fault it was"


def _said(facts: Facts, stall: Stall) -> str:
    """Return what the nodes last said of themselves before the stall ended."""
    last: dict[str, str] = {}
    for status in facts.observed.statuses:
        if status.group == stall.group and status.time <= stall.end and status.answered:
            last[status.node] = f"{status.node} {status.role}" + (f" of term {status.term}" if status.term else "")
    return f"; {', '.join(last[node] for node in sorted(last))}" if last else ""


def _witnesses(facts: Facts, stall: Stall) -> tuple[int, ...]:
    """Return the first sends inside a stall, none of which got its promise while it lasted."""
    sends, time = facts.history.sends, facts.history.events.time
    mine = np.flatnonzero(_of_group(facts, stall.group, facts.send_queue))
    begun = time[sends.invoked[mine]]
    inside = mine[(begun >= stall.begin) & (begun < stall.end)]
    return tuple(
        index
        for row in inside[:2].tolist()
        for index in (int(sends.invoked[row]), int(sends.returned[row]))
        if index >= 0
    )


def _recovered(facts: Facts, findings: Findings) -> dict[str, bool]:
    """Tell which groups became ready in the drain (D4), and report those that never did."""
    found: dict[str, bool] = {}
    for group in sorted(facts.history.meta.groups):
        said = facts.drain.step("D4", ("*", "", group))
        found[group] = said is True
        if said is None:
            findings.doubt(f"{group}: the drain never said whether it became ready")
        elif not said:
            detail = facts.drain.detail("D4", ("*", "", group))
            healed = facts.drain.step("D2", ("*", "", group)) and facts.drain.step("D3", ("*", "", group))
            proven = all(
                (window.healed.holds and (window.injected.holds or not window.permanent))
                or set(window.targets) <= facts.drain.excluded
                for window in facts.windows
            )
            lost = _lost_for_good(facts, group)
            sure = bool(healed) and proven and not lost
            late = late_only(facts, group, facts.drain.time("D4", ("*", "", group)))
            steps = [step.index for (rule, _), step in facts.drain.steps.items() if rule == "D4" and not step.ok]
            why = lost or ("" if sure else "whether everything was healed is not proven")
            text = f"{group} did not become ready after everything was healed: {detail}{f'; {why}' if why else ''}"
            text += f"; it served, and was only late: {late}" if late else ""
            severity = Severity.VIOLATION if sure and not late else Severity.UNDECIDED
            findings.found(Anomaly("never-recovered", severity, text, group, ops=tuple(steps), core=tuple(steps)))
    return found


def _lost_for_good(facts: Facts, group: str) -> str:
    """Tell why a group that elects cannot recover whatever is healed: too many of its voters lost their disks."""
    if facts.history.meta.elects(group) != "majority":
        return ""
    parts = needs(facts, group, int(NEVER))
    destroyed = {node for window in facts.windows if window.family == "destroy" for node in window.targets}
    gone = [node for node in parts.voters if node in destroyed and node in facts.drain.excluded]
    if len(parts.voters) - len(gone) >= parts.quorum:
        return ""
    return f"{', '.join(gone)} lost their disks for good, and no quorum of {parts.quorum} is left to agree on others"
