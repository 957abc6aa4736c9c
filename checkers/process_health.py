"""C20: did a process end that nobody killed, and did a node log what it must never log?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from checkers.explain import seconds
from checkers.facts import Facts
from checkers.verdict import Anomaly, Findings, Record, Severity

NAME: Final = "C20"
TITLE: Final = "processes stay healthy"

DEADLY: Final = frozenset({"kill", "destroy", "power", "powerloss", "crash", "restart", "remove", "promote"})
"""Families of faults during which their targets may exit."""

SEVERITIES: Final[Mapping[str, Severity]] = {
    "violation": Severity.VIOLATION,
    "invalid": Severity.VIOLATION,
    "error": Severity.VIOLATION,
    "fatal": Severity.VIOLATION,
    "note": Severity.NOTE,
    "info": Severity.NOTE,
    "warning": Severity.NOTE,
}
"""What the words of a log pattern mean; any other word is undecided."""


def check_process_health(facts: Facts) -> Record:
    """Run C20."""
    findings = Findings(NAME, TITLE)
    exits = 0
    for event in facts.history.lab("node-exit"):
        value: dict[str, Any] = event.value if isinstance(event.value, dict) else {}
        node, exits = str(value.get("node", "?")), exits + 1
        expected = value.get("expected")  # who starts and stops the nodes knows whom it has ended
        if expected is True or (expected is None and _killed(facts, node, event.time)):
            continue
        how = f"signal {value['signal']}" if value.get("signal") else f"code {value.get('code')}"
        text = f"{node} (pid {value.get('pid')}) ended by {how} at {seconds(event.time)}, and no fault explains it"
        if value.get("signal") == "SIGKILL":
            text += " (no node kills itself: somebody did, or the kernel for want of memory)"
        findings.found(
            Anomaly("unexpected-exit", Severity.VIOLATION, text, scope=node, ops=(event.index,), core=(event.index,))
        )
    for event in facts.history.lab("log-pattern"):
        value = event.value if isinstance(event.value, dict) else {}
        severity = SEVERITIES.get(str(value.get("severity", "")).lower(), Severity.UNDECIDED)
        line = str(value.get("line", ""))[:300]
        text = f"{value.get('node')} logged at {seconds(event.time)}: {line} (pattern {value.get('pattern')!r})"
        findings.found(
            Anomaly("log-pattern", severity, text, scope=str(value.get("node", "*")), ops=(event.index,),
                    core=(event.index,))
        )  # fmt: skip
    findings.counts["exits"] = exits
    return findings.record()


def _killed(facts: Facts, node: str, time: int) -> bool:
    """Tell whether a proven fault explains the end of a node at an instant.

    One that nothing heals is over when it is done: a node that was promoted must not end an hour later.
    """
    return any(
        window.family in DEADLY and window.injected.holds and node in window.targets
        and window.a1 <= time <= (window.a2 if window.permanent else window.h2)
        for window in facts.windows
    )  # fmt: skip
