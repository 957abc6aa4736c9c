"""The report of a run as plain lines for a terminal: verdict, reasons, promises, faults, checks."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

from checkers.report.tables import tables
from checkers.verdict import Record, Validity, Verdict

WIDTH: Final = 100
REASONS_SHOWN: Final = 12
ROWS_SHOWN: Final = 16
"""Rows of a table in a terminal; the page has all."""

_MARK: Final = {Validity.VALID: "✓", Validity.UNKNOWN: "?", Validity.INVALID: "✗"}


def render_text(verdict: Verdict, *, width: int = WIDTH) -> str:
    """Return the report as text. Sentences are wrapped at `width` columns; tables are as wide as they need."""
    lines: list[str] = []
    lines += _promised(verdict)
    lines += _faults(verdict, width)
    lines += _further(verdict, width)
    lines += _checks(verdict, width)
    lines += _verdict(verdict, width)
    return "\n".join(lines) + "\n"


def _wrap(text: str, width: int, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    ) or [first.rstrip()]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> list[str]:
    """Align columns; those numbered in `right` to the right."""
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [cell.rjust(widths[n]) if n in right else cell.ljust(widths[n]) for n, cell in enumerate(row)]
        return ("  " + "  ".join(cells)).rstrip()

    return [line(head), "  " + "  ".join("─" * width for width in widths), *(line(row) for row in rows)]


def _promised(verdict: Verdict) -> list[str]:
    record = verdict.record("C1")
    table: list[Mapping[str, Any]] = list(record.details.get("by status", ())) if record is not None else []
    if not table:
        return []
    rows = [
        [
            str(row["status"]),
            str(row["promise"]),
            str(row["sent"]),
            str(row["kept"]),
            str(row["lost"]),
            str(row["undecided"]),
        ]
        for row in table
    ]
    head = ["answer to a send", "promise", "sent", "kept", "lost", "undecided"]
    return ["What was promised, and what held", *_table(head, rows, right=(2, 3, 4, 5)), ""]


def interval(row: Mapping[str, Any] | None, key: str = "rto") -> str:
    """Print an RTO row of the fault table in words."""
    if row is None or row.get("state") == "no data":
        return "no data"
    lower, upper = row[key]
    state = row.get("state")
    if state == "none visible":
        return "none seen" if not row["gap"] else f"none seen (≤ {row['gap']:.2f} s)"
    if state == "never":
        return f"not back (> {lower:.2f} s)"
    if state == "censored":
        return f"> {lower:.2f} s, then next fault"
    if state == "after heal":
        healed = row.get("after_heal") or [0, None]
        top = "∞" if healed[1] is None else f"{healed[1]:.2f}"
        return f"all of it, {healed[0]:.2f}–{top} s after"
    return f"{lower:.2f}–{upper:.2f} s" if upper is not None else f"> {lower:.2f} s"


def lost_words(row: Mapping[str, Any] | None) -> str:
    """Print the RPO of a fault in words."""
    if row is None:
        return "not measured"
    low, high = row["rpo_count"]
    if not high and not row["lost weaker"]:
        return "nothing"
    parts = []
    if high:
        count = f"{low}" if low == high else f"{low}–{high}"
        age = f", {row['rpo_time'][0]:.2f}–{row['rpo_time'][1]:.2f} s" if row["rpo_time"][1] else ""
        parts.append(f"{count} SEND_OK{age}")
    if row["lost weaker"]:
        parts.append(f"{row['lost weaker']} weaker")
    return "; ".join(parts)


def _proof(fault: Mapping[str, Any]) -> str:
    injected, healed = fault["injection proven"], fault["healing proven"]
    words = {"true": "proven", "false": "DISPROVEN", "missing": "UNPROVEN", "unsupported": "UNPROVEN"}
    if healed == "not needed":
        return words.get(str(injected), str(injected))
    if words.get(injected) == words.get(healed) == "proven":
        return "proven"
    return f"{words.get(injected, injected)}, heal {words.get(healed, healed)}"


def _faults(verdict: Verdict, width: int) -> list[str]:
    if not verdict.faults:
        return ["Faults: none", ""]
    rows = []
    for fault in verdict.faults:
        targets = ", ".join(fault["targets"]) or "all"
        begin, end = fault["from"][0], fault["to"][1]
        lasted = f"{begin:.1f}–{end:.1f} s" if fault["healed"] else f"{begin:.1f} s on"
        kept = max(14, width // 5)
        rows.append(
            [
                str(fault["title"]),
                targets if len(targets) <= kept else targets[: kept - 1] + "…",
                lasted,
                _proof(fault),
                interval(fault["rto"]),
                lost_words(fault["rpo"]),
            ]
        )
    return ["Faults", *_table(["fault", "on", "when", "proof", "RTO", "lost"], rows), ""]


def _further(verdict: Verdict, width: int) -> list[str]:
    """Show what further checkers have to tell in tables; of long ones the rows that show something wrong, and some."""
    lines: list[str] = []
    for table in tables(verdict):
        if not table.brief:
            continue
        kept = sorted([*table.bad, *(n for n in range(len(table.rows)) if n not in table.bad)][:ROWS_SHOWN])
        lines += [table.title, *_table(table.head, [table.rows[n] for n in kept], right=table.right)]
        if len(kept) < len(table.rows):
            lines.append(f"  and {len(table.rows) - len(kept)} more rows in the report")
        lines += _wrap(table.note, width, "  ", "  ") if table.note else []
        lines.append("")
    return lines


def _summary(record: Record) -> str:
    """Pick the few counts of a record that matter at a glance."""
    wanted: dict[str, tuple[str, ...]] = {
        "C0": ("send ok", "send info", "send fail", "poll ok", "handle ok"),
        "C1": ("SEND_OK", "lost", "vanished", "lost-weak (note)", "unexpected", "duplicated", "recovered (note)"),
        "C5": ("operations", "order", "disowned"),
        "C6": ("distinct entries", "inconsistent-offsets", "duplicate", "lost-write", "poll-skip"),
        "C7": ("dumps", "records", "committed-divergence", "unreconciled-tail", "stranded"),
        "C8": ("terms", "two-leaders-one-term", "stale-ack", "impossible-ack", "term-regression", "double-vote"),
        "C9": ("status answers", "incarnations", "commit-decrease", "queue-rollback", "commit-beyond-end"),
        "C10": ("lost-promised", "promised-undecided (undecided)", "lost-weak (note)"),
        "C15": ("obligations", "stall", "never-recovered"),
        "C18": ("answers", "stale-route", "route-to-dead", "route-regression", "disagreement", "missing-topic"),
        "C16": ("lost SEND_OK", "lost weaker", "undecided SEND_OK"),
        "C19": ("faults", "injections proven", "heals proven"),
    }
    names = wanted.get(record.checker, tuple(record.counts)[:5])
    return ", ".join(f"{name.removesuffix(' (note)')} {record.counts[name]}" for name in names if name in record.counts)


def _checks(verdict: Verdict, width: int) -> list[str]:
    lines = ["Checks"]
    for record in verdict.records:
        head = f"  {_MARK[record.valid]} {record.checker:<8} {record.title}"
        summary = _summary(record)
        lines += _wrap(head + (f": {summary}" if summary else ""), width, "", " " * 13)
    for name, reason in verdict.not_applicable.items():
        lines += _wrap(f"  – {name:<8} does not apply: {reason}", width, "", " " * 13)
    return [*lines, ""]


def _verdict(verdict: Verdict, width: int) -> list[str]:
    lines = _wrap(f"Promise: {verdict.promise}", width, "", "  ")
    lines.append(f"Verdict: {verdict.headline}")
    for reason in verdict.why[:REASONS_SHOWN]:
        lines += _wrap(reason, width, "  • ", "    ")
    if len(verdict.why) > REASONS_SHOWN:
        lines.append(f"  • and {len(verdict.why) - REASONS_SHOWN} more reasons in the report")
    lines.append(f"Seed: {verdict.seed}")
    return lines
