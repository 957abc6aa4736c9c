"""C13: registers, by key, of a metadata service (a controller, a versioned name service): is each linearizable?

A register holds a value or nothing (null): `read` answers it, `write` sets it, `cas` [old, new] sets new where it held
old. A `cas` that failed with the code `mismatch` saw something else than old at some instant; any other failure says
nothing. Reads of unknown outcome are dropped, writes and swaps of unknown outcome may take effect at any later time, or
never. Keys are independent (locality, Herlihy & Wing 1990). A key whose writes are unique and that nobody compares is
decided by the zones of its values in O(n) (Gibbons & Korach 1997); any other by a search that is exponential in how
many operations were open at once, within a budget: past it the key is undecided, and the record says which share of
the keys was decided. Keep keys short-lived (150 operations, 10 processes, 5 unknown outcomes).
Checker C13; Knossos and Porcupine for the search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from checkers import api
from checkers.builder import REGISTER_READ
from checkers.columns import NEVER
from checkers.facts import Facts
from checkers.linearizability.decision import Budget, Decision, decide
from checkers.linearizability.operations import HistoryError, Operation
from checkers.linearizability.order import spoken
from checkers.rare import operations_of
from checkers.verdict import Anomaly, Findings, Record, Severity, Validity

NAME: Final = "C13"
TITLE: Final = "registers are linearizable"
REGISTER_OPERATIONS: Final = ("write", "cas", REGISTER_READ)
"""The names under which a history keeps what this checker judges."""

MISMATCH: Final = "mismatch"
BUDGET: Final = Budget(wall_ms=None, memory_mb=500, nodes=1_000_000)
"""For one key. Counted in configurations, so that judging again says the same on any machine."""

SHRUNK_MAX: Final = 400
"""Larger keys are shown by the checker's own witness, since shrinking them could take longer than judging them."""

KEYS_LISTED: Final = 64


@dataclass(frozen=True, slots=True)
class _Key:
    """The operations on one key, with the events of each (in the order of the operations)."""

    operations: list[Operation]
    compares: bool

    @property
    def model(self) -> str:
        """Return the model that judges it."""
        return "cas-register" if self.compares else "register"


def check_registers(facts: Facts) -> Record:
    """Run C13."""
    findings = Findings(NAME, TITLE)
    keys = _keys(facts)
    decided = 0
    listed: list[dict[str, Any]] = []
    for name, key in sorted(keys.items()):
        try:
            decision = decide(key.model, key.operations, budget=BUDGET)
        except HistoryError as error:
            findings.doubt(f"key {name} cannot be judged: {error}")
            listed.append({"key": name, "operations": len(key.operations), "verdict": "unknown"})
            continue
        decided += decision.validity is not Validity.UNKNOWN
        if decision.validity is Validity.INVALID:
            findings.found(_anomaly(name, key, decision))
        elif decision.validity is Validity.UNKNOWN:
            findings.doubt(f"key {name} could not be decided: {'; '.join(decision.reasons)}")
        listed.append(_row(name, key, decision))
    findings.counts["keys"] = len(keys)
    findings.counts["operations"] = sum(len(key.operations) for key in keys.values())
    findings.counts["unknown outcome"] = sum(one.outcome == "info" for key in keys.values() for one in key.operations)
    order = {"invalid": 0, "unknown": 1, "valid": 2}
    listed.sort(key=lambda row: (order[row["verdict"]], row["key"]))
    findings.details["keys"] = listed[:KEYS_LISTED]
    if keys:
        findings.coverage["keys"] = decided / len(keys)
    else:
        findings.doubt("no operation of a register was recorded")
    return findings.record()


def _keys(facts: Facts) -> dict[str, _Key]:
    """Return the operations of each key, certain failures left out, in the order of their invocations."""
    found: dict[str, list[Operation]] = {}
    compared: set[str] = set()
    for f in REGISTER_OPERATIONS:
        for one in operations_of(facts.history, f):
            key = str(one.extra("key") or "")
            if one.f == "cas":
                compared.add(key)
            error = one.returned.error if one.returned is not None else None
            observed = one.f == "cas" and one.type == "fail" and _code(error) == MISMATCH
            if one.type == "fail" and not observed:
                continue
            unknown = one.type == "info"
            if unknown and one.f == "read":
                continue
            returned = one.returned
            found.setdefault(key, []).append(
                Operation(
                    f=one.f, process=one.process, invoked=one.begin, returned=None if one.end == NEVER else one.end,
                    outcome="info" if unknown else "ok", argument=None if one.f == "read" else one.asked,
                    result=one.answer if one.f == "read" else False if observed else None,
                    node=one.extra("node"), invoked_line=one.invoked.index,
                    returned_line=None if returned is None else returned.index, invoked_time=one.invoked.time,
                    returned_time=None if returned is None else returned.time,
                )
            )  # fmt: skip
    return {
        key: _Key(sorted(operations, key=lambda one: one.invoked), key in compared) for key, operations in found.items()
    }


def _code(error: Any) -> Any:
    return error.get("code") if isinstance(error, dict) else error


def _events(operations: Sequence[Operation]) -> tuple[int, ...]:
    events = {index for one in operations for index in (one.invoked_line, one.returned_line) if index is not None}
    return tuple(sorted(events))


def _told(one: Operation) -> str:
    when = f"at {(one.invoked_time or 0) / 1e9:.3f} s"
    if one.returned_time is not None and one.outcome == "ok":
        when = f"from {(one.invoked_time or 0) / 1e9:.3f} to {one.returned_time / 1e9:.3f} s"
    if one.f == "read":
        return f"process {one.process} read {spoken(one.result)} {when}"
    if one.f == "write":
        return f"process {one.process} wrote {spoken(one.argument)} {when}{_unsure(one)}"
    old, new = (spoken(value) for value in one.argument)
    verb = f"found no {old} to change" if one.result is False else f"changed {old} into {new}"
    return f"process {one.process} {verb} {when}{_unsure(one)}"


def _unsure(one: Operation) -> str:
    return " (perhaps)" if one.outcome == "info" else ""


def _anomaly(name: str, key: _Key, decision: Decision) -> Anomaly:
    """Tell why a key is not linearizable, with the few operations that alone show it."""
    core: Sequence[Operation] = api.witness_operations(decision)
    if len(key.operations) <= SHRUNK_MAX:
        core = api.minimal(key.operations, key.model, decision=decision, budget=BUDGET).operations
    witness = decision.witness
    kind = "not-linearizable" if witness is None else witness.anomaly.replace(" ", "-")
    listed = [_told(one) for one in core[-4:]]
    earlier = f"{len(core) - len(listed)} earlier operations, " if len(core) > len(listed) else ""
    text = f"no order explains what clients saw of key {name}: {earlier}{', '.join(listed)}"
    last = next((one for one in reversed(core) if one.f == "read"), core[-1])
    values = () if last.result is None else (spoken(last.result),)
    prefix = decision.prefix
    failing = None if prefix is None else decision.operations.operation(prefix.failing)
    ops = _events([*core, *([failing] if failing is not None else [])])
    return Anomaly(kind, Severity.VIOLATION, text, name, values, (), ops, _events(core))


def _row(name: str, key: _Key, decision: Decision) -> dict[str, Any]:
    """Return a key's line of the report: the verdict, and for a searched key where the search could go no further."""
    row: dict[str, Any] = {
        "key": name, "operations": len(key.operations), "verdict": decision.verdict, "method": decision.method,
        "why": decision.why,
    }  # fmt: skip
    if decision.validity is Validity.INVALID and (prefix := decision.prefix) is not None:
        failing = decision.operations.operation(prefix.failing)
        row["legal before event"] = None if failing is None else failing.returned_line
        row["could not be placed"] = None if failing is None else _told(failing)
        row["states tried"] = [f"{one.state}: {one.why}" for one in prefix.configurations[:8]]
    return row
