"""report.html: one self-contained page without network, scripts or fonts of others; everything in it is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import jinja2
import msgspec

from checkers.builder import load_history
from checkers.columns import History
from checkers.drain import excluded_nodes
from checkers.explain import operation
from checkers.report.charts import timeline
from checkers.report.queue_view import queue_views
from checkers.report.series import read_series
from checkers.report.tables import tables
from checkers.report.terminal import interval, lost_words
from checkers.verdict import Anomaly, Record, Severity, Validity, Verdict

OPERATIONS_SHOWN: Final = 8
EVIDENCE_SHOWN: Final = 2000
ANOMALIES_WITH_OPERATIONS: Final = 12
"""Anomalies of a checker whose operations are listed one by one; the others stay with their sentence."""

_WORDS: Final = {
    Validity.VALID: "The cluster kept its promises.",
    Validity.UNKNOWN: "Nothing can be signed for: something was not proven.",
    Validity.INVALID: "The cluster broke its promises.",
}


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _anomaly(history: History, anomaly: Anomaly, with_operations: bool) -> dict[str, Any]:
    shown = anomaly.core or anomaly.ops
    return {
        "type": anomaly.type,
        "severity": anomaly.severity.value,
        "text": anomaly.text,
        "scope": anomaly.scope,
        "fault": anomaly.fault,
        "operations": [operation(history, index) for index in sorted(set(shown))[:OPERATIONS_SHOWN]]
        if with_operations
        else [],
        "more": max(0, len(set(shown)) - OPERATIONS_SHOWN) if with_operations else 0,
    }


def _findings(history: History, record: Record) -> list[dict[str, Any]]:
    """Group what a checker found by type, worst first, with the operations of the first few."""
    groups: dict[tuple[str, str], list[Anomaly]] = {}
    for anomaly in record.anomalies:
        groups.setdefault((anomaly.type, anomaly.severity.value), []).append(anomaly)
    result: list[dict[str, Any]] = []
    for (kind, severity), anomalies in groups.items():
        name = kind if severity == Severity.VIOLATION.value else f"{kind} ({severity})"
        limit = ANOMALIES_WITH_OPERATIONS if severity != Severity.NOTE.value else 2
        result.append(
            {
                "type": kind,
                "severity": severity,
                "count": record.counts.get(name, len(anomalies)),
                "anomalies": [_anomaly(history, one, place < limit) for place, one in enumerate(anomalies)],
            }
        )
    return result


def _value(number: Any) -> str:
    if isinstance(number, (tuple, list)):
        return " – ".join("∞" if part is None or part == float("inf") else f"{part:g}" for part in number)
    if isinstance(number, float):
        return "∞" if number == float("inf") else f"{number:g}"
    return str(number)


def _check(history: History, record: Record) -> dict[str, Any]:
    findings = _findings(history, record)
    told = tuple(f"{finding['count']} × {finding['type']}" for finding in findings)  # in full, as findings
    return {
        "name": record.checker,
        "title": record.title,
        "valid": record.valid.word,
        "mode": record.mode,
        "reasons": [reason for reason in record.reasons if not reason.startswith(told)],
        "counts": [(name, _value(count)) for name, count in record.counts.items()],
        "metrics": [(name, _value(metric)) for name, metric in record.metrics.items()],
        "coverage": [(name, f"{share:.1%}") for name, share in record.coverage.items()],
        "findings": findings,
        "cost": f"{record.cost.wall_ms:.0f} ms",
    }


def _promised(verdict: Verdict) -> list[Mapping[str, Any]]:
    record = verdict.record("C1")
    return list(record.details.get("by status", ())) if record is not None else []


def _facts(history: History, verdict: Verdict) -> list[tuple[str, str]]:
    meta = history.meta
    rows = [
        ("run", verdict.run),
        ("seed", str(verdict.seed)),
        ("system", meta.system or "–"),
        ("clients", meta.client or "–"),
        ("mode", meta.mode),
        ("workload", meta.workload),
        ("name servers", ", ".join(meta.name_servers) or "–"),
        ("planted flaws", ", ".join(meta.flaws) or "none"),
        ("events", f"{len(history):,}"),
        ("left out of the drain", ", ".join(sorted(excluded_nodes(history))) or "no node"),
    ]
    for name, group in sorted(meta.groups.items()):
        rows.append((name, f"{', '.join(group.nodes)} · {group.role} · {group.flush} · {group.copies} copies"))
    return rows


def _gates(verdict: Verdict) -> Sequence[Mapping[str, Any]]:
    record = verdict.record("C0")
    return record.details.get("gates", ()) if record is not None else ()


def render_html(verdict: Verdict, history: History) -> str:
    """Return the page."""
    template = _environment().get_template("report.html.j2")
    faults = [
        {
            **fault,
            "rto_words": interval(fault["rto"]),
            "consumer_words": interval(fault["consumer rto"]),
            "evidence_words": [
                (word, msgspec.json.encode(fault["evidence"].get(half)).decode()[:EVIDENCE_SHOWN])
                for half, word in (("inject", "injected"), ("heal", "healed"))
                if fault["evidence"].get(half)
            ],
            "rpo_words": lost_words(fault["rpo"]),
            "when": f"{fault['from'][0]:.2f} – {fault['to'][1]:.2f} s"
            if fault["healed"]
            else f"{fault['from'][0]:.2f} s on",
        }
        for fault in verdict.faults
    ]
    return template.render(
        verdict=verdict,
        word=verdict.valid.word,
        sentence=_WORDS[verdict.valid],
        promised=_promised(verdict),
        faults=faults,
        checks=[_check(history, record) for record in verdict.records],
        facts=_facts(history, verdict),
        gates=_gates(verdict),
        queues=queue_views(verdict, history),
        tables=tables(verdict),
        chart=timeline(read_series(history)),
    )


def write_report(verdict: Verdict, history: History | Path | str, path: Path | str) -> None:
    """Write the page to `path`; `history` is the loaded history or its file. Raises as `load_history` does."""
    loaded = history if isinstance(history, History) else load_history(history)
    Path(path).write_text(render_html(verdict, loaded), encoding="utf-8")
