"""C8: does every term have one leader, and does a deposed one stop acknowledging?

Two leaders at one time are normal where a cut-off old one has not noticed yet, as long as their terms differ; that
overlap is measured. Two leaders of one term, a term that goes back, a vote given twice or forgotten, and a promise
made by a leader that had been replaced, or that could not have reached enough replicas, are violations (Raft, sections
5.2 and 5.4; election safety). O(n log n) in acknowledged sends.

Where controllers appoint masters, terms are their epochs. Replicas do not vote there, and no answer tells its epoch:
what is asked is whether an epoch had two masters, and whether a broker's log goes back. A promise by a master that
could reach nobody is a note: the set of replicas in sync may shrink while a send waits, and the master then answers
alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np

from checkers.columns import NEVER, Int, Mask
from checkers.conditions import is_opaque, surely_down, unreachable
from checkers.explain import seconds, send_story
from checkers.facts import Facts
from checkers.observations import Status, unwatched
from checkers.terms import Acks, Claim, Term, acknowledgements, claims, prefix_maximum, timeline
from checkers.verdict import KEPT_PER_TYPE, Anomaly, Findings, Record, Severity
from checkers.windows import STORE_REMOVERS

NAME: Final = "C8"
TITLE: Final = "one leader a term, and deposed ones are silent"


def check_leaders(facts: Facts) -> Record:
    """Run C8."""
    findings = Findings(NAME, TITLE)
    acks = acknowledgements(facts)
    found = claims(facts, acks)
    terms = timeline(found)
    _two_leaders(found, findings)
    _double_votes(facts, findings)
    _forgotten_votes(facts, findings)
    _terms_go_back(facts, acks, findings)
    _stale(facts, acks, findings)
    _impossible(facts, acks, findings)
    _overlaps(facts, terms, findings)
    findings.details["terms"] = [_row(term) for group in sorted(terms) for term in terms[group]]
    findings.counts["terms"] = sum(len(of_group) for of_group in terms.values())
    statuses = facts.observed.statuses or facts.observed.appointed
    findings.counts["status answers"] = sum(status.answered for status in statuses)
    findings.counts["election log lines"] = len(facts.observed.ballots)
    findings.counts["votes granted"] = sum(ballot.event == "granted" for ballot in facts.observed.ballots)
    _doubts(facts, acks, terms, findings)
    return findings.record()


def _row(term: Term) -> dict[str, Any]:
    return {
        "group": term.group,
        "term": term.number,
        "leader": ", ".join(term.leaders),
        "first": None if term.first is None else round(term.first / 1e9, 3),
        "last": None if term.last is None else round(term.last / 1e9, 3),
        "acknowledged": term.acks,
        "evidence": ", ".join(term.kinds),
    }


def _doubts(facts: Facts, acks: Acks, terms: Mapping[str, list[Term]], findings: Findings) -> None:
    """Say what is missing for a verdict: without asking every node a second leader could go unseen."""
    meta, span = facts.history.meta, facts.span
    if meta.mode not in ("dledger", "controller"):
        findings.doubt(f"terms are those of groups that elect, and the mode of this run is {meta.mode}")
    for doubt in unwatched(facts.history, facts.observed, facts.drain.excluded, span.load_begin, span.load_end):
        findings.doubt(doubt)
    for group in sorted(meta.groups):
        if not terms.get(group):
            findings.doubt(f"{group}: nothing shows who led which term")
        statuses = facts.observed.of_group(group)
        if dumb := sum(s.answered and s.term is None for s in statuses):
            findings.doubt(f"{group}: {dumb} status answers do not tell their term")
    strong = acks.strong
    blind = int(np.count_nonzero(strong & ((acks.term < 0) | (acks.node < 0))))
    if blind and meta.mode != "controller":
        findings.doubt(f"{blind} of {int(strong.sum())} SEND_OK do not tell which node gave them, and in which term")
    if count := facts.observed.unreadable.get("election", 0):
        findings.doubt(f"{count} election events could not be read")
    for window in facts.windows:
        if is_opaque(window) and bool((strong & (acks.begin >= window.a2) & (acks.end <= window.h1)).any()):
            findings.doubt(
                f"{window.kind} ({window.id}) does not say what it cut, so promises made inside are unjudged"
            )


def _two_leaders(found: Sequence[Claim], findings: Findings) -> None:
    by_term: dict[tuple[str, int], dict[str, Claim]] = {}
    for claim in found:
        by_term.setdefault((claim.group, claim.term), {}).setdefault(claim.node, claim)
    for (group, term), nodes in sorted(by_term.items()):
        if len(nodes) < 2:
            continue
        first, second = list(nodes.values())[:2]
        text = (
            f"{group}: {first.node} led term {term} (by its {first.kind}{_when(first)}), and so did {second.node} "
            f"(by its {second.kind}{_when(second)})"
        )
        ops = tuple(dict.fromkeys((*first.ops, *second.ops)))
        findings.found(Anomaly("two-leaders-one-term", Severity.VIOLATION, text, group, ops=ops, core=ops))


def _when(claim: Claim) -> str:
    return "" if claim.first is None else f" at {seconds(claim.first[1])}"


def _double_votes(facts: Facts, findings: Findings) -> None:
    """A node votes once a term, also across its restarts; only the loss of its store excuses it."""
    given: dict[tuple[str, str, int], tuple[str, int, int | None]] = {}
    votes: list[tuple[tuple[str, str, int], str, int, int | None]] = [
        ((ballot.group, ballot.node, ballot.term), ballot.to, ballot.index, ballot.time)
        for ballot in facts.observed.ballots
        if ballot.event == "granted" and ballot.to is not None
    ]
    votes += [
        ((status.group, status.node, status.term), status.vote, status.index, status.time)
        for status in facts.observed.statuses
        if status.term is not None and status.vote
    ]
    told: set[tuple[tuple[str, str, int], str]] = set()
    for key, to, index, time in votes:
        first, where, when = given.setdefault(key, (to, index, time))
        group, node, term = key
        if first == to or (key, to) in told:
            continue
        told.add((key, to))
        wiped = _lost_store(facts, node)
        if wiped and (when is None or time is None or any(min(when, time) <= w <= max(when, time) for w in wiped)):
            continue
        text = f"{node} of {group} gave its vote of term {term} to {first} and to {to}"
        ops = tuple(sorted({where, index}))
        findings.found(Anomaly("double-vote", Severity.VIOLATION, text, group, ops=ops, core=ops))


def _forgotten_votes(facts: Facts, findings: Findings) -> None:
    """Whom a node voted for in a term it must know for as long as it is in that term (Raft, figure 2: votedFor).

    A node that has forgotten may vote again, whether or not anybody asks it to before the term is over.
    """
    given: dict[tuple[str, str, int], list[tuple[int, str, int]]] = {}  # when it was surely so, to whom, shown by
    for ballot in facts.observed.ballots:
        if ballot.event == "granted" and ballot.to and ballot.time is not None:
            given.setdefault((ballot.group, ballot.node, ballot.term), []).append(
                (ballot.time, ballot.to, ballot.index)
            )
    for status in facts.observed.statuses:
        if status.term is not None and status.vote:
            key = (status.group, status.node, status.term)
            given.setdefault(key, []).append((status.time, status.vote, status.index))
    told: set[tuple[str, str, int]] = set()
    for status in facts.observed.statuses:
        key = (status.group, status.node, status.term if status.term is not None else -1)
        if status.vote != "" or key in told or key not in given:
            continue
        when, to, index = min(given[key])
        if when >= status.asked or any(when <= wiped <= status.time for wiped in _lost_store(facts, status.node)):
            continue
        told.add(key)
        text = (
            f"{status.node} of {status.group} gave its vote of term {status.term} to {to} at {seconds(when)}, and at "
            f"{seconds(status.time)}, still in that term, it has voted for nobody: it forgot its vote"
        )
        ops = tuple(sorted({index, status.index}))
        findings.found(Anomaly("forgotten-vote", Severity.VIOLATION, text, status.group, ops=ops, core=ops))


def _lost_store(facts: Facts, node: str) -> list[int]:
    """Return when a store, and with it term and vote, was gone for certain; until then the node may have spoken."""
    return sorted(w.a2 for w in facts.windows if w.family in STORE_REMOVERS and node in w.targets)


def _terms_go_back(facts: Facts, acks: Acks, findings: Findings) -> None:
    """What a node once said of its term it must not undercut, in any incarnation that still has its store."""
    by_node: dict[str, list[tuple[int, int, int, int]]] = {}
    for status in facts.observed.statuses:
        if status.answered and status.term is not None:
            by_node.setdefault(status.node, []).append((status.asked, status.time, status.term, status.index))
    logs: dict[str, list[tuple[int, int]]] = {}
    for ballot in facts.observed.ballots:
        if ballot.time is not None:
            by_node.setdefault(ballot.node, []).append((ballot.time, ballot.time, ballot.term, ballot.index))
        else:
            logs.setdefault(ballot.node, []).append((ballot.term, ballot.index))
    for node in sorted({*by_node, *acks.nodes}):
        rows = by_node.get(node, [])
        low, high, term, index = (np.array([row[n] for row in rows], dtype=np.int64) for n in range(4))
        number = acks.nodes.index(node) if node in acks.nodes else -2
        mine = np.flatnonzero((acks.node == number) & (acks.term >= 0))
        low = np.concatenate([low, acks.begin[mine]])
        high = np.concatenate([high, acks.end[mine]])
        term = np.concatenate([term, acks.term[mine]])
        index = np.concatenate([index, facts.history.sends.returned[acks.row[mine]]])
        wiped = _lost_store(facts, node)
        life = np.searchsorted(np.array(wiped, dtype=np.int64), low, side="right")
        for part in range(len(wiped) + 1):
            here = np.flatnonzero(life == part)
            best, holder = prefix_maximum(high[here], term[here], low[here])
            bad = np.flatnonzero(best > term[here])
            for place in bad[:KEPT_PER_TYPE].tolist():
                now, before = int(here[place]), int(here[holder[place]])
                text = (
                    f"{node} was in term {int(term[before])} at {seconds(int(high[before]))} and in term "
                    f"{int(term[now])} after {seconds(int(low[now]))}: it forgot its term"
                )
                ops = (int(index[before]), int(index[now]))
                findings.found(Anomaly("term-regression", Severity.VIOLATION, text, node, ops=ops, core=ops))
            findings.more("term-regression", Severity.VIOLATION, len(bad) - KEPT_PER_TYPE)
    for node, lines in sorted(logs.items()):
        if _lost_store(facts, node):
            continue
        for (earlier, one), (later, two) in pairwise(lines):
            if later < earlier:
                text = f"the log of {node} tells of term {earlier}, and after that of term {later}"
                findings.found(Anomaly("term-regression", Severity.VIOLATION, text, node, ops=(one, two),
                                       core=(one, two)))  # fmt: skip


def _promises(facts: Facts, acks: Acks) -> Mask:
    """Mark acknowledgements that say *replicated*: in DLedger mode every SEND_OK does, whatever it was recorded as."""
    levels = list(facts.history.acks)
    replicated = facts.history.sends.ack[acks.row] == (levels.index("replicated") if "replicated" in levels else -2)
    marked: Mask = acks.strong & (replicated | (facts.history.meta.mode == "dledger"))
    return marked


def _stale(facts: Facts, acks: Acks, findings: Findings) -> None:
    """A send that began after a later term had acknowledged must not be acknowledged by an earlier one."""
    promised = _promises(facts, acks)
    longest = 0
    for number, group in enumerate(acks.groups):
        mine = np.flatnonzero((acks.group == number) & (acks.term >= 0))
        best, holder = prefix_maximum(acks.after[mine], acks.term[mine], acks.before[mine])
        bad = np.flatnonzero(best > acks.term[mine])
        for strong in (True, False):
            kind, severity = ("stale-ack", Severity.VIOLATION) if strong else ("stale-ack-weak", Severity.NOTE)
            late = bad[promised[mine[bad]] == strong]
            for place in late[:KEPT_PER_TYPE].tolist():
                now, before = int(acks.row[mine[place]]), int(acks.row[mine[holder[place]]])
                text = (
                    f"{send_story(facts.history, now)}, but term {int(best[place])} of {group} had acknowledged "
                    f"before it began: {send_story(facts.history, before)}"
                )
                sends = facts.history.sends
                core = tuple(sorted(int(i) for r in (before, now) for i in (sends.invoked[r], sends.returned[r])))
                findings.found(Anomaly(kind, severity, text, group, ops=core, core=core))
            findings.more(kind, severity, len(late) - KEPT_PER_TYPE)
        if len(bad):
            longest = max(longest, int((acks.begin[mine[bad]] - acks.end[mine[holder[bad]]]).max()))
    if longest:
        findings.metrics["deposed leader acknowledged for s"] = round(longest / 1e9, 3)


def _impossible(facts: Facts, acks: Acks, findings: Findings) -> None:
    """A promise of m copies, given while fewer than m - 1 other replicas could be reached, was made up."""
    promised = _promises(facts, acks)
    for number, node in enumerate(acks.nodes):
        rows = np.flatnonzero((acks.node == number) & promised)
        group = facts.history.meta.group_of_node(node)
        if not len(rows) or group is None:
            continue
        configured = facts.history.meta.groups[group]
        others = [one for one in dict.fromkeys((*configured.nodes, *configured.voters)) if one != node]
        extra = {voter for change in facts.observed.memberships if change.group == group for voter in change.voters}
        # Whoever was ever asked as a member counts too: one that replaced another may have held a copy.
        asked = {status.node for status in facts.observed.statuses if status.group == group}
        others += sorted((extra | asked) - {node, *others})
        needed = max(configured.copies, configured.votes if facts.history.meta.mode == "dledger" else 1)
        if extra:  # the configuration changed meanwhile: the smallest quorum it ever had is owed
            quorums = [change.quorum for change in facts.observed.memberships if change.group == group]
            needed = min([needed, *quorums])
        possible = np.zeros(len(rows), dtype=np.int64)
        for other in others:
            possible += ~_inside(unreachable(facts, node, other), acks.begin[rows], acks.end[rows])
        dead = _inside(surely_down(facts, node), acks.begin[rows], acks.end[rows])
        bad = np.flatnonzero((possible < needed - 1) & ~dead)
        kind, severity = "impossible-ack", Severity.VIOLATION
        if facts.history.meta.elects(group) == "in-sync":
            kind, severity = "impossible-ack-weak", Severity.NOTE
        for place in bad[:KEPT_PER_TYPE].tolist():
            row = int(acks.row[rows[place]])
            window = next((w for w in facts.windows if w.a2 <= acks.begin[rows[place]] <= w.h1), None)
            text = (
                f"{send_story(facts.history, row)}: that promises {needed} copies, but {node} could reach "
                f"{int(possible[place])} other replica(s) all that time"
            )
            sends = facts.history.sends
            core = (int(sends.invoked[row]), int(sends.returned[row]))
            ops = (*core, *(window.ops if window is not None else ()))
            findings.found(
                Anomaly(kind, severity, text, group, ops=tuple(sorted(ops)),
                        core=tuple(sorted(ops)), fault=window.id if window is not None else None)
            )  # fmt: skip
        findings.more(kind, severity, len(bad) - KEPT_PER_TYPE)


def _inside(spans: Sequence[tuple[int, int]], begin: Int, end: Int) -> Mask:
    """Mark the intervals that lie wholly inside one of the (disjoint, sorted) spans."""
    if not spans:
        return np.zeros(len(begin), dtype=bool)
    lows = np.array([span[0] for span in spans], dtype=np.int64)
    highs = np.array([span[1] for span in spans], dtype=np.int64)
    place = np.searchsorted(lows, begin, side="right") - 1
    inside: Mask = (place >= 0) & (end <= highs[np.maximum(place, 0)])
    return inside


def _overlaps(facts: Facts, terms: Mapping[str, list[Term]], findings: Findings) -> None:
    """Measure how long a deposed leader still called itself one: from what is proven to what cannot be excluded."""
    rows: list[dict[str, Any]] = []
    worst = (0.0, 0.0)
    by_node: dict[str, list[Status]] = {}
    for status in facts.observed.statuses or facts.observed.appointed:
        if status.answered and status.term is not None:
            by_node.setdefault(status.node, []).append(status)
    for group in sorted(terms):
        timed = [t for t in terms[group] if t.first is not None and t.last is not None and len(t.leaders) == 1]
        for old, new in pairwise(timed):
            if old.leaders == new.leaders or old.last is None or new.first is None or new.begun is None:
                continue
            lower = max(0, old.last - new.first)
            ended = [
                s.time for s in by_node.get(old.leaders[0], [])
                if s.asked >= old.last and (s.role != "leader" or (s.term or 0) > old.number)
            ]  # fmt: skip
            ended += [w.a2 for w in facts.windows if w.family == "kill" and old.leaders[0] in w.targets
                      and w.a2 >= old.last]  # fmt: skip
            begun = [
                s.asked for s in by_node.get(new.leaders[0], [])
                if s.time <= new.first and ((s.term or 0) < new.number or s.role != "leader")
            ]  # fmt: skip
            upper = max(lower, min(ended, default=int(NEVER)) - max(begun, default=0))
            top = float("inf") if not ended else upper / 1e9
            worst = (max(worst[0], lower / 1e9), max(worst[1], top))
            rows.append(
                {
                    "group": group,
                    "terms": [old.number, new.number],
                    "leaders": [old.leaders[0], new.leaders[0]],
                    "overlap": [round(lower / 1e9, 3), None if top == float("inf") else round(top, 3)],
                }
            )
    findings.details["overlaps"] = rows
    if rows:
        findings.metrics["overlap s"] = (
            round(worst[0], 3),
            worst[1] if worst[1] == float("inf") else round(worst[1], 3),
        )
