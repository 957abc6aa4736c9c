"""C18: do name servers lead clients to whoever serves?

Name servers are independent and may lag behind a change, up to bounds that follow from their timers: a leader that
serves must be told of within the registration interval and some slack (a client's own view adds its refresh interval),
a dead broker must be gone after expiry and scan. A name server that a fault cuts off from the leader, or stops, is
exempt while that lasts and for the bound after it. O(n log n) in answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from checkers.conditions import DOWN, hits_process, is_opaque, perhaps_until
from checkers.disagreement import disagreements, told
from checkers.explain import seconds
from checkers.facts import Facts
from checkers.observations import SIDE, Listing, Route
from checkers.terms import Term, acknowledgements, claims, timeline
from checkers.verdict import KEPT_PER_TYPE, Anomaly, Findings, Record, Severity
from checkers.windows import Window

NAME: Final = "C18"
TITLE: Final = "routes lead to who serves"

DEAD: Final = DOWN - {"pause", "restart"}


def check_routes(facts: Facts) -> Record:
    """Run C18."""
    findings = Findings(NAME, TITLE)
    terms = timeline(claims(facts, acknowledgements(facts)))
    routes = sorted((r for r in facts.observed.routes if r.answered), key=lambda one: (one.asked, one.time, one.index))
    judge = _Judge(facts, terms, routes, findings)
    for group in sorted(facts.history.meta.groups):
        judge.group(group)
    findings.counts["answers"] = len(routes)
    findings.counts["held against the leader due"], findings.counts["exempt"] = judge.judged, judge.exempted
    findings.details["staleness"] = judge.staleness
    _disagreement(facts, routes, findings)
    _client_view(judge.staleness, findings)
    if judge.worst is not None:
        findings.metrics["worst staleness s"] = judge.worst
    _doubts(facts, routes, terms, findings)
    return findings.record()


def _disagreement(facts: Facts, routes: Sequence[Route], findings: Findings) -> None:
    """Measure how long name servers told different things. What lasts beyond the bounds is a finding of its own."""
    loaded = [route for route in routes if route.asked >= facts.span.load_begin]
    rows: list[dict[str, Any]] = []
    for group in sorted(facts.history.meta.groups):
        rows += disagreements([r for r in loaded if group in facts.history.meta.topics.get(r.topic, {})], group)
    findings.details["disagreements"] = rows[:KEPT_PER_TYPE]
    findings.counts["disagreements measured"] = len(rows)
    if rows:
        spans = [(low, float("inf") if high is None else high) for low, high in (row["lasted"] for row in rows)]
        findings.metrics["longest disagreement s"] = max(spans)


def _client_view(staleness: Sequence[Mapping[str, Any]], findings: Findings) -> None:
    """Measure by how much answers to client hosts were staler than those to the side channel, at the worst change."""
    worst: dict[tuple[str, int], dict[bool, float]] = {}
    for row in staleness:
        views = worst.setdefault((row["group"], row["term"]), {})
        side = row["from"] == SIDE
        views[side] = max(views.get(side, 0.0), row["stale"][1])
    behind = [views[False] - views[True] for views in worst.values() if len(views) == 2]
    if behind:
        findings.metrics["clients' view later by s"] = round(max(behind), 3)


def _doubts(facts: Facts, routes: Sequence[Route], terms: Mapping[str, Any], findings: Findings) -> None:
    meta = facts.history.meta
    if not meta.groups or not meta.topics:
        findings.doubt("the run does not name its groups and topics, so nobody knows what a route should say")
    told = {route.ns for route in routes if route.source == SIDE}
    if silent := sorted(set(meta.name_servers) - told):
        findings.doubt(f"no route of {', '.join(silent)} was recorded from the side channel")
    if not routes:
        findings.doubt("no route was recorded")
    for group in sorted(meta.groups):
        if not any(term.served is not None for term in terms.get(group, ())):
            findings.doubt(f"{group}: nothing shows who served, so its routes are not judged")
    if count := facts.observed.unreadable.get("route", 0):
        findings.doubt(f"{count} route events could not be read")
    for window in facts.windows:
        if is_opaque(window):
            findings.doubt(f"{window.kind} ({window.id}) does not say what it cut, so name servers may be exempt")


class _Judge:
    """Judges the answers about one group after the other."""

    def __init__(
        self, facts: Facts, terms: Mapping[str, Sequence[Term]], routes: Sequence[Route], findings: Findings
    ) -> None:
        self._facts = facts
        self._meta = facts.history.meta
        self._terms = terms
        self._routes = routes
        self._findings = findings
        self._up = round(self._meta.routing.up_s * 1e9)
        self._dead = round(self._meta.routing.dead_s * 1e9)
        self._refresh = round(self._meta.routing.refresh_s * 1e9)
        self._troubles: dict[tuple[str, str], list[tuple[int, int]]] = {}
        self.exempted = self.judged = 0
        self.staleness: list[dict[str, Any]] = []
        self.worst: tuple[float, float] | None = None

    def _bound(self, route: Route) -> int:
        return self._up if route.source == SIDE else self._up + self._refresh

    def group(self, group: str) -> None:
        """Judge all answers about one group."""
        known = [term for term in self._terms.get(group, ()) if len(term.leaders) == 1 and term.served is not None]
        mine = [
            route for route in self._routes
            if group in self._meta.topics.get(route.topic, {}) and route.asked >= self._facts.span.load_begin
        ]  # fmt: skip
        latest: dict[tuple[str, str, str], tuple[Route, Term]] = {}
        for route in mine:
            listing = route.groups.get(group)
            self._to_dead(group, route, listing)
            self._queues(group, route, listing)
            due = self._due(known, route)
            if due is None:
                continue
            if self._exempt(route.ns, due.leaders[0], route.asked - self._bound(route), route.time):
                self.exempted += 1
                continue
            self.judged += 1
            self._follows(group, known, due, route, listing)
            self._agrees(group, known, due, route, listing, latest)
        self._regressions(group, known, mine)
        self._registered(group, known, mine)
        self._flaps(group, known, mine)
        self._lags(group, known, mine)

    # --- what an answer should say

    def _due(self, known: Sequence[Term], route: Route) -> Term | None:
        """Return the newest term that a name server must know of; None where nobody shows that its leader still
        served when the question was asked."""
        due = [t for t in known if t.served is not None and t.served + self._bound(route) < route.asked]
        newest = max(due, key=lambda term: term.number, default=None)
        return newest if newest is not None and newest.seen is not None and newest.seen >= route.asked else None

    def _told(self, group: str, listing: Listing) -> int | None:
        """Return the term that an answer gives its leader; None if it gives none, or one that another node led."""
        ours = [t for t in self._terms.get(group, ()) if t.number == listing.term and listing.leader in t.leaders]
        return ours[0].number if ours else None

    def _named(self, group: str, known: Sequence[Term], route: Route) -> int | None:
        """Return the term an answer means: as it says, else the newest that its leader had led by then."""
        listing = route.groups.get(group)
        if listing is None or listing.leader is None:
            return None
        told = self._told(group, listing)
        if told is not None:
            return told
        led = [t for t in known if t.leaders[0] == listing.leader and t.begun is not None and t.begun <= route.time]
        return max((term.number for term in led), default=None)

    def _exempt(self, ns: str, leader: str, begin: int, end: int) -> bool:
        """Tell whether a fault may have kept a name server from hearing of a leader in a span."""
        key = (ns, leader)
        if key not in self._troubles:
            a, b = self._meta.host_of(ns), self._meta.host_of(leader)
            self._troubles[key] = [
                (window.a1, self._until(window, leader))
                for window in self._facts.windows
                if is_opaque(window)
                or (window.cut and ((a, b) in window.cut or (b, a) in window.cut))
                or (not window.cut and window.family != "promote" and window.touches([ns, leader]))
            ]
        return any(low <= end and high >= begin for low, high in self._troubles[key])

    def _until(self, window: Window, leader: str) -> int:
        """Return the last instant at which a fault may keep a leader from registering.

        One whose process was hit registers again when it serves again: what was started may take long to start.
        """
        end = perhaps_until(window)
        if not (hits_process(window) and window.heal_seen and leader in window.targets):
            return end
        statuses = self._facts.observed.statuses or self._facts.observed.appointed
        again = (s.time for s in statuses if s.node == leader and s.leads and s.serving and s.asked >= window.h1)
        return max(end, min(again, default=end))

    def _follows(self, group: str, known: Sequence[Term], due: Term, route: Route, listing: Listing | None) -> None:
        leader = due.leaders[0]
        when = (
            f"at {seconds(route.time)}, {(route.asked - (due.served or 0)) / 1e9:.2f} s after {leader} began to serve"
        )
        if listing is None or listing.leader is None:
            if due.seen is not None and due.seen >= route.time:
                what = "no route" if listing is None else "no leader"
                text = f"{route.ns} had {what} for {route.topic} on {group} {when} term {due.number}"
                self._found("missing-topic", text, group, route)
            return
        named = self._named(group, known, route)
        if named is None or named < due.number:
            as_of = "" if listing.term is None else f" in term {listing.term}"
            text = f"{route.ns} named {listing.leader} as leader of {group}{as_of} {when} term {due.number}"
            self._found("stale-route", text, group, route)

    def _agrees(
        self, group: str, known: Sequence[Term], due: Term, route: Route, listing: Listing | None,
        latest: dict[tuple[str, str, str], tuple[Route, Term]],
    ) -> None:  # fmt: skip
        """Two name servers that had time to learn of one leader, and no newer one, tell the same."""
        for (ns, source, topic), (other, term) in latest.items():
            if ns == route.ns or source != route.source or topic != route.topic or term.number != due.number:
                continue
            if any(t.number > due.number and (t.begun or 0) <= route.time for t in known):
                continue
            theirs = other.groups.get(group)
            if (due.seen or 0) < route.time or listing is None or theirs is None:
                continue
            if listing.leader != theirs.leader or listing.queues != theirs.queues:
                text = (
                    f"{route.ns} told {told(listing)} for {group} at {seconds(route.time)}, {ns} told {told(theirs)} "
                    f"at {seconds(other.time)}, long after {due.leaders[0]} began to serve term {due.number}"
                )
                self._found("disagreement", text, group, other, route)
        latest[route.ns, route.source, route.topic] = (route, due)

    def _to_dead(self, group: str, route: Route, listing: Listing | None) -> None:
        for node in sorted(set(listing.brokers.values())) if listing is not None else ():
            for window in self._facts.windows:
                dead = window.family in DEAD and window.injected.holds and node in window.targets
                until = min([window.h1, *(w.h1 for w in self._facts.windows if w.heal_seen and node in w.targets
                                          and w.family in DEAD and w.h1 >= window.a2)])  # fmt: skip
                if not dead or not window.a2 + self._bound_dead(route) < route.asked or route.time >= until:
                    continue
                if self._exempt(route.ns, route.ns, route.asked - self._dead, route.time):
                    continue
                text = (
                    f"{route.ns} still listed {node} for {group} at {seconds(route.time)}, dead since "
                    f"{seconds(window.a2)}"
                )
                self._found("route-to-dead", text, group, route, fault=window.id)
                break

    def _bound_dead(self, route: Route) -> int:
        return self._dead if route.source == SIDE else self._dead + self._refresh

    def _queues(self, group: str, route: Route, listing: Listing | None) -> None:
        wanted = self._meta.topics.get(route.topic, {}).get(group)
        if listing is None or listing.queues is None or wanted is None or listing.leader is None:
            return
        if listing.queues != wanted and route.asked > self._facts.span.load_begin + self._bound(route):
            text = f"{route.ns} told {listing.queues} queues of {route.topic} on {group} at {seconds(route.time)}, "
            self._found("wrong-queues", text + f"configured are {wanted}", group, route)

    # --- how answers follow each other

    def _regressions(self, group: str, known: Sequence[Term], mine: Sequence[Route]) -> None:
        """One life of a name server must not go back to an older leader."""
        lives: dict[tuple[str, str, str, str], list[Route]] = {}
        for route in mine:
            lives.setdefault((route.ns, route.incarnation, route.source, route.topic), []).append(route)
        for key in sorted(lives):
            best: tuple[int, Route] | None = None
            done = sorted(lives[key], key=lambda one: (one.time, one.index))
            place = 0
            for route in lives[key]:
                while place < len(done) and done[place].time < route.asked:
                    low, _ = self._epochs(group, known, done[place])
                    if low is not None and (best is None or low > best[0]):
                        best = (low, done[place])
                    place += 1
                _, high = self._epochs(group, known, route)
                if best is not None and high is not None and high < best[0]:
                    text = (
                        f"{route.ns} named the leader of term {best[0]} of {group} at {seconds(best[1].time)}, "
                        f"and that of term {high} at {seconds(route.time)}"
                    )
                    self._found("route-regression", text, group, best[1], route)

    def _epochs(self, group: str, known: Sequence[Term], route: Route) -> tuple[int | None, int | None]:
        """Return the oldest and the newest term that an answer may mean."""
        listing = route.groups.get(group)
        if listing is None or listing.leader is None:
            return None, None
        told = self._told(group, listing)
        if told is not None:
            return told, told
        led = [term.number for term in known if term.leaders[0] == listing.leader]
        return (min(led), max(led)) if led else (None, None)

    def _registered(self, group: str, known: Sequence[Term], mine: Sequence[Route]) -> None:
        """A leader that served for longer than the bound is listed somewhere, until there is a newer one.

        A leader that was deposed and does not know it yet says that it serves, and no name server may name it.
        """
        for term in known:
            if term.served is None or term.seen is None or not term.acks:
                continue
            newer = (t.begun for t in self._terms[group] if t.number > term.number and t.begun is not None)
            until = min((term.seen, *newer))
            asked = [
                route for route in mine
                if route.source == SIDE and route.asked > term.served + self._up and route.time <= until
                and not self._exempt(route.ns, term.leaders[0], route.asked - self._up, route.time)
            ]  # fmt: skip
            listed = any((one := route.groups.get(group)) and one.leader == term.leaders[0] for route in asked)
            if asked and not listed:
                text = (
                    f"{term.leaders[0]} acknowledged {term.acks} sends in term {term.number} of {group} until "
                    f"{seconds(until)}, and none of {len(asked)} answers of name servers named it"
                )
                self._found("unregistered-leader", text, group, asked[0])

    def _flaps(self, group: str, known: Sequence[Term], mine: Sequence[Route]) -> None:
        """More changes of the answer than changes of the leader are worth a note."""
        said: dict[str, list[str | None]] = {}
        lives: dict[str, set[str]] = {}
        for route in mine:
            if route.source != SIDE:
                continue
            listing = route.groups.get(group)
            said.setdefault(route.ns, []).append(listing.leader if listing else None)
            lives.setdefault(route.ns, set()).add(route.incarnation)
        for ns, leaders in sorted(said.items()):
            changes = sum(a != b for a, b in pairwise(leaders))
            allowed = 2 * max(0, len(known) - 1) + 2 * (len(lives[ns]) - 1)
            if changes > allowed:
                text = f"{ns} changed its mind about the leader of {group} {changes} times, for {len(known)} terms"
                self._findings.found(Anomaly("flapping", Severity.NOTE, text, group))

    def _lags(self, group: str, known: Sequence[Term], mine: Sequence[Route]) -> None:
        """Measure how long each name server still told of the last leader after a new one served."""
        for old, term in pairwise(known):
            if term.served is None or old.leaders == term.leaders:
                continue
            for ns, source in sorted({(route.ns, route.source) for route in mine}):
                answers = [r for r in mine if r.ns == ns and r.source == source and r.asked > term.served]
                fresh = next((r for r in answers if self._knows(group, known, term, r)), None)
                if fresh is None:
                    continue
                stale = [r for r in answers if r.asked < fresh.asked]
                lower = max(0.0, (stale[-1].asked - term.served) / 1e9) if stale else 0.0
                upper = max(lower, (fresh.time - term.served) / 1e9)
                self.staleness.append(
                    {"group": group, "term": term.number, "name server": ns, "from": source,
                     "stale": [round(lower, 3), round(upper, 3)]}
                )  # fmt: skip
                if self.worst is None or (lower, upper) > self.worst:
                    self.worst = (round(lower, 3), round(upper, 3))

    def _knows(self, group: str, known: Sequence[Term], term: Term, route: Route) -> bool:
        named = self._named(group, known, route)
        return named is not None and named >= term.number

    def _found(self, kind: str, text: str, group: str, *routes: Route, fault: str | None = None) -> None:
        where = "" if routes[-1].source == SIDE else f" (asked from {routes[-1].source})"
        ops = tuple(sorted({route.index for route in routes}))
        self._findings.found(Anomaly(kind, Severity.VIOLATION, text + where, group, ops=ops, core=ops, fault=fault))
