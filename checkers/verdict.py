"""What a checker says, what a run's verdict is, and the exit codes of every judging command.

`valid < unknown < invalid`: together the worst wins. A false valid is the worst a judge can do, so everything that
could not be decided, was not proven or crashed is unknown.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

KEPT_PER_TYPE: Final = 32
"""How many anomalies of one type a record keeps, worst first; the counts stay exact."""


class Validity(enum.IntEnum):
    """The verdict lattice; `max` composes."""

    VALID = 0
    UNKNOWN = 1
    INVALID = 2

    @property
    def word(self) -> str:
        """Return `valid`, `unknown` or `invalid`."""
        return self.name.lower()

    @property
    def json(self) -> bool | str:
        """Return the form of a verdict record: true, false or "unknown"."""
        return {Validity.VALID: True, Validity.INVALID: False}.get(self, "unknown")


class ExitCode(enum.IntEnum):
    """Exit codes of every judging command."""

    VALID = 0
    INVALID = 1
    USAGE = 2
    UNKNOWN = 3
    SETUP_FAILED = 4
    OUR_BUG = 70


_EXIT: Final[Mapping[Validity, ExitCode]] = {
    Validity.VALID: ExitCode.VALID,
    Validity.UNKNOWN: ExitCode.UNKNOWN,
    Validity.INVALID: ExitCode.INVALID,
}


def worst(verdicts: Iterable[Validity]) -> Validity:
    """Compose verdicts: the worst wins, and of nothing nothing is known."""
    return max(verdicts, default=Validity.UNKNOWN)


def exit_code(verdicts: Iterable[Validity]) -> ExitCode:
    """Return the exit code of a run or of a batch of runs: invalid dominates unknown."""
    return _EXIT[worst(verdicts)]


class Severity(str, enum.Enum):
    """What an anomaly does to its checker's verdict."""

    VIOLATION = "violation"
    UNDECIDED = "undecided"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One finding. `ops` are event indices of everything involved, `core` the smallest set that still shows it."""

    type: str
    severity: Severity
    text: str
    scope: str = "*"
    values: tuple[str, ...] = ()
    offsets: tuple[int, ...] = ()
    ops: tuple[int, ...] = ()
    core: tuple[int, ...] = ()
    fault: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the anomaly as plain JSON values."""
        return {
            "type": self.type,
            "severity": self.severity.value,
            "scope": self.scope,
            "values": list(self.values),
            "offsets": list(self.offsets),
            "ops": list(self.ops),
            "fault": self.fault,
            "text": self.text,
            "core": list(self.core),
        }


Metric = float | int | tuple[float, float]


def _metric(value: Metric) -> Any:
    """JSON has no infinity: an open upper bound is null."""
    if isinstance(value, tuple):
        return [_metric(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True, slots=True)
class Cost:
    """What a checker used up. The only part of a record that differs when a history is judged again."""

    wall_ms: float = 0.0
    peak_mb: float = 0.0
    states: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """The verdict of one checker over one history."""

    checker: str
    title: str
    valid: Validity
    reasons: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    anomalies: tuple[Anomaly, ...] = ()
    truncated: bool = False
    coverage: Mapping[str, float] = field(default_factory=dict)
    mode: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    version: int = 1

    def to_json(self, *, with_cost: bool = True) -> dict[str, Any]:
        """Return the record as plain JSON values; without the cost it is the same on every judging."""
        record: dict[str, Any] = {
            "checker": self.checker,
            "title": self.title,
            "version": self.version,
            "valid": self.valid.json,
            "reasons": list(self.reasons),
            "counts": dict(self.counts),
            "metrics": {name: _metric(value) for name, value in self.metrics.items()},
            "anomalies": [anomaly.to_json() for anomaly in self.anomalies],
            "truncated": self.truncated,
            "coverage": dict(self.coverage),
            "mode": self.mode,
            "details": dict(self.details),
        }
        if with_cost:
            record["cost"] = {
                "wall_ms": round(self.cost.wall_ms, 1),
                "peak_mb": round(self.cost.peak_mb, 1),
                "states": self.cost.states,
            }
        return record


class Findings:
    """Collects what one checker finds and turns it into its record.

    `found` counts every anomaly and keeps the first `KEPT_PER_TYPE` of a type, so offer them worst first. A checker
    that finds very many of a type offers the worst and adds the rest by `more`.
    """

    def __init__(self, checker: str, title: str) -> None:
        self.checker = checker
        self.title = title
        self.counts: dict[str, int] = {}
        self.metrics: dict[str, Metric] = {}
        self.coverage: dict[str, float] = {}
        self.details: dict[str, Any] = {}
        self.mode = ""
        self._reasons: list[str] = []
        self._doubts: list[str] = []
        self._kept: dict[tuple[str, Severity], list[Anomaly]] = {}
        self._found: dict[tuple[str, Severity], int] = {}

    def found(self, anomaly: Anomaly) -> None:
        """Add one anomaly."""
        key = (anomaly.type, anomaly.severity)
        self._found[key] = self._found.get(key, 0) + 1
        kept = self._kept.setdefault(key, [])
        if len(kept) < KEPT_PER_TYPE:
            kept.append(anomaly)

    def more(self, kind: str, severity: Severity, count: int) -> None:
        """Count further anomalies of a type that are not worth keeping one by one."""
        if count > 0:
            key = (kind, severity)
            self._found[key] = self._found.get(key, 0) + count
            self._kept.setdefault(key, [])

    def doubt(self, reason: str) -> None:
        """Say why this checker cannot vouch for the run: its record is at best unknown."""
        if reason not in self._doubts:
            self._doubts.append(reason)

    def count(self, severity: Severity, kind: str | None = None) -> int:
        """Return how many anomalies of a severity (and type) were found."""
        return sum(n for (t, s), n in self._found.items() if s is severity and kind in (None, t))

    def record(self) -> Record:
        """Return the verdict record."""
        violated = self.count(Severity.VIOLATION) > 0
        undecided = self.count(Severity.UNDECIDED) > 0 or bool(self._doubts)
        valid = Validity.INVALID if violated else Validity.UNKNOWN if undecided else Validity.VALID
        counts = dict(self.counts)
        reasons: list[str] = []
        order = (Severity.VIOLATION, Severity.UNDECIDED, Severity.NOTE)
        keys = sorted(self._found, key=lambda key: (order.index(key[1]), key[0]))
        for key in keys:
            kind, severity = key
            name = kind if severity is Severity.VIOLATION else f"{kind} ({severity.value})"
            counts[name] = self._found[key]
            if severity is not Severity.NOTE:
                example = self._kept[key][0].text if self._kept[key] else ""
                example = (
                    f": {example}"
                    if example and self._found[key] == 1
                    else f"; for example: {example}"
                    if example
                    else ""
                )
                reasons.append(f"{self._found[key]} × {kind}{example}")
        reasons.extend(self._doubts)
        return Record(
            checker=self.checker,
            title=self.title,
            valid=valid,
            reasons=tuple(reasons) if valid is not Validity.VALID else (),
            counts=counts,
            metrics=dict(self.metrics),
            anomalies=tuple(anomaly for key in keys for anomaly in self._kept[key]),
            truncated=any(self._found[key] > len(self._kept[key]) for key in keys),
            coverage=dict(self.coverage),
            mode=self.mode,
            details=dict(self.details),
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict over one run: the worst of its checkers, except that a broken history is unknown in any case.

    `why` are plain sentences, most important first. `faults` holds one table row a fault with its proof, RTO and RPO.
    """

    valid: Validity
    why: tuple[str, ...]
    records: tuple[Record, ...]
    promise: str
    faults: tuple[Mapping[str, Any], ...]
    seed: Any
    run: str
    headline: str
    required: tuple[str, ...] = ()
    not_applicable: Mapping[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> ExitCode:
        """Return the exit code of the command that reached this verdict."""
        return exit_code([self.valid])

    def record(self, checker: str) -> Record | None:
        """Return the record of a checker, or None if it did not run."""
        return next((record for record in self.records if record.checker == checker), None)

    def to_json(self, *, with_cost: bool = True) -> dict[str, Any]:
        """Return the verdict as plain JSON values, as kept in verdict.json."""
        return {
            "valid": self.valid.word,
            "headline": self.headline,
            "why": list(self.why),
            "run": self.run,
            "seed": self.seed,
            "promise": self.promise,
            "required": list(self.required),
            "not_applicable": dict(self.not_applicable),
            "faults": [dict(fault) for fault in self.faults],
            "records": [record.to_json(with_cost=with_cost) for record in self.records],
        }

    def encode(self, *, with_cost: bool = True) -> bytes:
        """Return verdict.json; `<`, `>` and `&` are escaped so that it may stand inside a page."""
        text = msgspec.json.format(msgspec.json.encode(self.to_json(with_cost=with_cost)), indent=1)
        for character, escape in ((b"<", b"\\u003c"), (b">", b"\\u003e"), (b"&", b"\\u0026")):
            text = text.replace(character, escape)
        return text + b"\n"
