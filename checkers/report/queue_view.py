"""For a queue with violations: who wrote and saw what at which offset, around the first finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from markupsafe import Markup

from checkers.columns import DRAIN, History, Int
from checkers.explain import value_name
from checkers.facts import Facts, gather
from checkers.report.charts import GAP, LEFT, RIGHT, WIDTH, Canvas
from checkers.report.series import nice_step
from checkers.verdict import Severity, Verdict

QUEUES_SHOWN: Final = 3
OFFSETS_SHOWN: Final = 36
ROW: Final = 15
FINAL_COLUMN: Final = 210
MARKS_MAX: Final = 3000
Place = Callable[[int], float]

_CHECKERS: Final = ("C1", "C5", "C6", "C12")


@dataclass(frozen=True, slots=True)
class QueueView:
    """One queue's drawing."""

    queue: str
    picture: Markup


def _affected(verdict: Verdict) -> list[tuple[str, int]]:
    """Return the queues with most violations, each with the offset to look at."""
    count: Counter[str] = Counter()
    first: dict[str, int] = {}
    for record in verdict.records:
        if record.checker not in _CHECKERS:
            continue
        for anomaly in record.anomalies:
            if anomaly.severity is Severity.VIOLATION and anomaly.offsets:
                count[anomaly.scope] += 1
                first[anomaly.scope] = min(anomaly.offsets[0], first.get(anomaly.scope, anomaly.offsets[0]))
    ranked = sorted(count, key=lambda queue: (-count[queue], queue))
    return [(queue, first[queue]) for queue in ranked[:QUEUES_SHOWN]]


def queue_views(verdict: Verdict, history: History) -> list[QueueView]:
    """Draw the queues a verdict has most violations of; none for a run without."""
    affected = _affected(verdict)
    if not affected:
        return []
    facts = gather(history)
    views: list[QueueView] = []
    for queue, offset in affected:
        number = history.queue_numbers.get(queue, -1)
        if number >= 0:
            views.append(QueueView(queue, _draw(facts, number, offset)))
    return views


def _draw(facts: Facts, queue: int, around: int) -> Markup:
    history, logs = facts.history, facts.logs
    low_row, high_row = logs.span(queue)
    first = max(0, around - 4)
    rows = np.arange(low_row, high_row)
    rows = rows[(logs.offset[rows] >= first) & (logs.offset[rows] < first + OFFSETS_SHOWN)]
    top = 30
    height = top + ROW * OFFSETS_SHOWN + GAP
    canvas = Canvas(WIDTH, height, f"Who wrote and saw what in {facts.queue_name(queue)}")
    right = WIDTH - RIGHT - FINAL_COLUMN
    times = history.events.time
    end = max(facts.span.end / 1e9, 0.001)

    def x(event: int) -> float:
        return LEFT + (int(times[event]) / 1e9) / end * (right - LEFT)

    def y(offset: int) -> float:
        return top + (offset - first) * ROW + ROW / 2

    for window in facts.windows:
        x1, x2 = (LEFT + min(t / 1e9, end) / end * (right - LEFT) for t in (window.a1, window.h2))
        if window.permanent and not window.heal_seen:
            canvas.line(x1, top, x1, top + ROW * OFFSETS_SHOWN, "strike")
        else:
            canvas.rect(x1, top, x2 - x1, ROW * OFFSETS_SHOWN, "band", window.title)
    for offset in range(first, first + OFFSETS_SHOWN):
        canvas.line(LEFT, y(offset), WIDTH - RIGHT, y(offset), "grid")
        if offset % 5 == 0 or offset == around:
            canvas.text(LEFT - 8, y(offset) + 4, str(offset), "tick", "end")
    _reads(canvas, facts, rows, x, y)
    _sends(canvas, facts, rows, x, y)
    _final(canvas, facts, rows, right + 14, y)
    canvas.text(LEFT, 16, "offset", "tick", "end")
    canvas.text(right + 14, 16, "in the end", "label")
    step = nice_step(end, 10)
    for number in range(int(end / step) + 1):
        at = LEFT + number * step / end * (right - LEFT)
        canvas.text(at, top + ROW * OFFSETS_SHOWN + 18, f"{number * step:g}", "tick", "middle")
    legend = "● written with SEND_OK   ○ with another outcome   | read   time in seconds →"
    canvas.text(LEFT, top + ROW * OFFSETS_SHOWN + 40, legend, "tick")
    return canvas.markup()


def _sends(canvas: Canvas, facts: Facts, rows: Int, x: Place, y: Place) -> None:
    history, logs = facts.history, facts.logs
    for row in rows.tolist():
        value = int(logs.value[row])
        send = int(logs.sender[value]) if value >= 0 else -1
        if send < 0:
            continue
        event = int(history.sends.returned[send])
        event = event if event >= 0 else int(history.sends.invoked[send])
        kind = "dot-promised" if logs.promised[value] else "dot-weak"
        canvas.circle(x(event), y(int(logs.offset[row])), 4, kind, f"{value_name(history, value)} written")


def _reads(canvas: Canvas, facts: Facts, rows: Int, x: Place, y: Place) -> None:
    history, logs = facts.history, facts.logs
    reads, entries = history.reads, history.entries
    wanted = np.isin(logs.entry_row, rows) & (reads.kind[entries.read] != DRAIN)
    for entry in np.flatnonzero(wanted)[:MARKS_MAX].tolist():
        read = int(entries.read[entry])
        at, level = x(int(reads.returned[read])), y(int(entries.offset[entry]))
        canvas.line(at, level - 6, at, level + 6, "seen")


def _final(canvas: Canvas, facts: Facts, rows: Int, left: float, y: Place) -> None:
    """Draw what stands at each offset in the end, and in red what was promised and does not."""
    history, logs, entries = facts.history, facts.logs, facts.history.entries
    final = np.zeros(len(logs.queue), dtype=bool)
    there = (logs.entry_row >= 0) & facts.drain.final[entries.read] if len(entries) else np.zeros(0, dtype=bool)
    final[logs.entry_row[there]] = True
    used: Counter[int] = Counter()
    for row in rows.tolist():
        offset, value = int(logs.offset[row]), int(logs.value[row])
        promised = value >= 0 and bool(logs.promised[value])
        if final[row] or promised:
            place = left + 104 * used[offset]
            used[offset] += 1
            kind = "kept-value" if final[row] else "lost-value"
            words = value_name(history, value)
            canvas.text(place, y(offset) + 4, words if len(words) < 14 else "…" + words[-12:], kind)
