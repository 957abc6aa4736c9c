"""C19: did every fault happen, and was every one undone?

What probes did not confirm makes a run unknown, and so does a proof that the rest of the history contradicts.
"""

from __future__ import annotations

from typing import Final

from checkers.conditions import answers_across, answers_to_clients, answers_while_down
from checkers.explain import seconds, some
from checkers.facts import Facts
from checkers.verdict import Anomaly, Findings, Record, Severity
from checkers.windows import Proof, Window

NAME: Final = "C19"
TITLE: Final = "faults are proven"

_WORDS: Final = {
    Proof.FALSE: "the probes contradict it",
    Proof.MISSING: "its end was never reported",
    Proof.UNSUPPORTED: "it cannot be proven on this machine",
}


def check_fault_proof(facts: Facts) -> Record:
    """Run C19."""
    findings = Findings(NAME, TITLE)
    proven: dict[str, int] = {}
    for window in facts.windows:
        if window.injected.holds and not window.targets:
            text = f"{window.title} ({window.id}) at {seconds(window.a1)} hit nothing"
            findings.found(
                Anomaly("no-target", Severity.UNDECIDED, text, ops=window.ops, core=window.ops, fault=window.id)
            )
        elif window.injected.holds:
            for word in {window.kind, window.family}:
                proven[word] = proven.get(word, 0) + 1
            if strangers := _strangers(facts, window):
                text = f"{window.title} ({window.id}) hit {some(strangers)}, which the run does not name"
                findings.found(
                    Anomaly("no-target", Severity.UNDECIDED, text, ops=window.ops, core=window.ops, fault=window.id)
                )
        else:
            _unproven(findings, window, "unproven-injection", "injection", window.injected, window.a1)
        _contradicted(facts, findings, window)
        gone = window.gone_with(facts.drain.excluded)
        if window.healed.holds or (gone and window.healed is Proof.MISSING):
            continue
        if window.healed is Proof.MISSING and not window.heal_seen:
            text = f"{window.kind} ({window.id}) on {', '.join(window.targets) or 'all'} was never healed"
            findings.found(
                Anomaly("unhealed", Severity.UNDECIDED, text, ops=window.ops, core=window.ops, fault=window.id)
            )
            continue
        _unproven(findings, window, "unproven-heal", "healing", window.healed, window.h1)
    _orphans(facts, findings)
    for kind, wanted in sorted(facts.history.meta.expected_faults.items()):
        if proven.get(kind, 0) < wanted:
            text = f"the plan asked for {wanted} × {kind}, proven are {proven.get(kind, 0)}"
            findings.found(Anomaly("missing-fault", Severity.UNDECIDED, text))
    findings.counts["faults"] = len(facts.windows)
    findings.counts["injections proven"] = sum(1 for window in facts.windows if window.injected.holds)
    findings.counts["heals proven"] = sum(1 for window in facts.windows if window.healed is Proof.TRUE)
    if facts.windows:
        findings.coverage["faults"] = findings.counts["injections proven"] / len(facts.windows)
    return findings.record()


def _unproven(findings: Findings, window: Window, kind: str, what: str, proof: Proof, at: int) -> None:
    text = f"the {what} of {window.kind} ({window.id}) at {seconds(at)} is not proven: {_WORDS[proof]}"
    findings.found(Anomaly(kind, Severity.UNDECIDED, text, ops=window.ops, core=window.ops, fault=window.id))


def _contradicted(facts: Facts, findings: Findings, window: Window) -> None:
    """A node that was killed or stands still answers nobody, nor does one across a cut; what answers shows that the
    fault had no effect."""
    if not window.injected.holds:
        return
    shown = _contradiction(facts, window)
    if shown is not None:
        what, events = shown
        text = f"{window.title} ({window.id}) counts as proven from {seconds(window.a2)} on, but {what}"
        ops = tuple(sorted({*window.ops, *events}))
        findings.found(Anomaly("no-effect", Severity.UNDECIDED, text, ops=ops, core=ops, fault=window.id))


def _contradiction(facts: Facts, window: Window) -> tuple[str, tuple[int, ...]] | None:
    """Return in words what contradicts that a fault had an effect, and the events that show it."""

    def answered(who: str, asked: int, how: str, *events: int) -> tuple[str, tuple[int, ...]]:
        return f"{who} answered a question that was asked at {seconds(asked)}, {how}", events

    if answers := answers_while_down(facts, window):
        one = min(answers, key=lambda status: status.asked)
        return answered(one.node, one.asked, "without having been started anew", one.index)
    if served := answers_to_clients(facts, window):
        invoked, returned, node = served[0]
        return answered(node, facts.history.time_of(invoked), "by a client", invoked, returned)
    if across := answers_across(facts, window):
        route = min(across, key=lambda one: one.asked)
        return answered(route.ns, route.asked, f"from {route.source}, from which it is cut off", route.index)
    return None


def _strangers(facts: Facts, window: Window) -> list[str]:
    """Return targets that are neither nodes nor hosts nor groups of a run that names all of its own."""
    meta, observed = facts.history.meta, facts.observed
    if not (meta.groups and meta.clients and meta.name_servers):
        return []
    known = {*meta.groups, *meta.name_servers, *meta.clients, *meta.hosts, *meta.hosts.values()}
    for group in meta.groups.values():
        known.update((*group.nodes, *group.electors, *group.learners))
    for change in observed.memberships:
        known.update((*change.voters, *change.learners))
    known.update(status.node for status in (*observed.statuses, *observed.appointed))
    return [name for name in window.targets if name not in known]


def _orphans(facts: Facts, findings: Findings) -> None:
    """What was healed had been injected; a history that does not tell when has lost a part of what was done."""
    injected: set[str] = set()
    for event in facts.history.nemesis:
        value = event.value if isinstance(event.value, dict) else {}
        name = str(value.get("id", event.f))
        if str(value.get("action", "inject")) != "heal":
            injected.add(name)
        elif name not in injected:
            injected.add(name)  # told once
            text = f"{event.f} ({name}) was healed at {seconds(event.time)}, and nothing tells when it had begun"
            findings.found(
                Anomaly("unknown-injection", Severity.UNDECIDED, text, ops=(event.index,), core=(event.index,))
            )
