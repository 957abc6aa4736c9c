"""The report's charts as SVG text: faults as bands over throughput and latency, one time axis for all.

Colours come from the page's style sheet (classes), so light and dark pages use the same drawing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from markupsafe import Markup, escape

from checkers.report.series import Series, nice_step
from checkers.windows import Window

WIDTH: Final = 1120
LEFT: Final = 64
RIGHT: Final = 16
LANE: Final = 26
PLOT: Final = 170
GAP: Final = 52
LETTER: Final = 7.2  # width of a letter of a fault's name, in px
LANES_MAX: Final = 12


class Canvas:
    """Collects SVG elements; every text passes through the escape."""

    def __init__(self, width: int, height: float, title: str) -> None:
        self.parts: list[str] = [
            f'<svg viewBox="0 0 {width} {height:.0f}" role="img" class="chart" xmlns="http://www.w3.org/2000/svg">',
            f"<title>{escape(title)}</title>",
        ]

    def rect(
        self, x: float, y: float, width: float, height: float, kind: str, tip: str = "", radius: float = 0
    ) -> None:
        """Draw a rectangle, with a tip if given."""
        inner = f"<title>{escape(tip)}</title>" if tip else ""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.6):.1f}" height="{max(height, 0):.1f}" '
            f'rx="{radius:g}" class="{kind}">{inner}</rect>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """Draw a straight line."""
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>')

    def circle(self, x: float, y: float, radius: float, kind: str, tip: str) -> None:
        """Draw a dot with a tip."""
        self.parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="{kind}"><title>{escape(tip)}</title></circle>'
        )

    def text(self, x: float, y: float, text: str, kind: str = "tick", anchor: str = "start") -> None:
        """Write a text, escaped."""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>')

    def path(self, points: Sequence[tuple[float, float] | None], kind: str) -> None:
        """Draw a line through the points; None breaks it. A point alone is drawn as a dot."""
        runs: list[list[tuple[float, float]]] = [[]]
        for point in points:
            if point is None:
                runs.append([])
            else:
                runs[-1].append(point)
        for run in runs:
            if len(run) == 1:
                self.parts.append(f'<circle cx="{run[0][0]:.1f}" cy="{run[0][1]:.1f}" r="1.6" class="{kind} dot"/>')
            elif run:
                d = "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in run)
                self.parts.append(f'<path d="{d}" class="{kind}"/>')

    def markup(self) -> Markup:
        """Return the finished drawing."""
        return Markup("".join(self.parts) + "</svg>")


def lanes(faults: Sequence[Window], end: float) -> list[list[Window]]:
    """Put faults that overlap into lanes of their own, first come first served."""
    found: list[list[Window]] = []
    for window in faults:
        for lane in found:
            if (lane[-1].h2 / 1e9 if lane[-1].heal_seen else end) <= window.a1 / 1e9:
                lane.append(window)
                break
        else:
            found.append([window])
    return found


def ticks(top: float, parts: int = 4) -> list[float]:
    """Return round numbers from 0 to at least `top`."""
    if top <= 0:
        return [0.0, 1.0]
    raw = top / parts
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    return [step * number for number in range(math.ceil(top / step - 1e-9) + 1)]


def _number(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:g}"


class _Axis:
    def __init__(self, series: Series) -> None:
        self.series = series
        self.scale = (WIDTH - LEFT - RIGHT) / max(series.end - series.start, 1e-9)

    def x(self, seconds: float) -> float:
        return LEFT + (min(max(seconds, self.series.start), self.series.end) - self.series.start) * self.scale


def timeline(series: Series) -> Markup:
    """Draw faults, throughput and latency of a run over one time axis."""
    axis = _Axis(series)
    fault_lanes = lanes(series.windows, series.end)[:LANES_MAX]
    head = 26 + LANE * len(fault_lanes) + (10 if fault_lanes else 0)
    top1 = head + 18
    top2 = top1 + PLOT + GAP
    height = top2 + PLOT + 44
    canvas = Canvas(WIDTH, height, "Faults, throughput and latency over the time of the run")
    _bands(canvas, axis, fault_lanes, head, top1, top2)
    _throughput(canvas, axis, top1)
    _latency(canvas, axis, top2)
    _time_axis(canvas, axis, top1, top2, height)
    return canvas.markup()


def _bands(canvas: Canvas, axis: _Axis, fault_lanes: list[list[Window]], head: float, top1: float, top2: float) -> None:
    canvas.text(LEFT, 16, "Faults" if fault_lanes else "No faults", "label")
    for number, lane in enumerate(fault_lanes):
        y = 26 + LANE * number
        for window, following in zip(lane, [*lane[1:], None], strict=True):
            end = window.h2 / 1e9 if window.heal_seen else axis.series.end
            x1, x2 = axis.x(window.a1 / 1e9), axis.x(end)
            proven = window.injected.holds and (window.healed.holds or window.permanent)
            tip = (
                f"{window.kind} ({window.id}) on {', '.join(window.targets) or 'all'}: {window.a1 / 1e9:.2f} s to "
                + (f"{end:.2f} s" if window.heal_seen else "the end")
            )
            for top in (top1, top2):
                if window.permanent and not window.heal_seen:
                    # What it did stays for good: a mark where it struck says more than a band to the end.
                    canvas.rect(x1, top, axis.x(window.a2 / 1e9) - x1, PLOT, "band struck", tip)
                    canvas.line(x1, top, x1, top + PLOT, "strike")
                else:
                    canvas.rect(x1, top, x2 - x1, PLOT, "band", tip)
            sure1, sure2 = axis.x(window.a2 / 1e9), axis.x(window.h1 / 1e9 if window.heal_seen else end)
            canvas.rect(x1, y, x2 - x1, LANE - 6, "fault" if proven else "fault unproven", tip, 3)
            kind = "fault lasting" if window.permanent and not window.heal_seen else "fault sure"
            canvas.rect(sure1, y, sure2 - sure1, LANE - 6, kind if proven else "fault unproven", tip, 3)
            hit = [name for name in window.targets if name != window.asked]
            more = "" if len(hit) <= 3 else f" +{len(hit) - 3}"
            words = window.title + (f" · {', '.join(hit[:3])}{more}" if hit else "")
            words += "" if proven else " · unproven"
            room = LETTER * len(words) + 10
            border = axis.x(following.a1 / 1e9) if following is not None else WIDTH - RIGHT
            if room < x2 - x1:
                canvas.text(x1 + 6, y + 14, words, "fault-name")
            elif x2 + room < border:
                canvas.text(x2 + 6, y + 14, words, "fault-name outside")
            elif x2 - x1 > LETTER * 8:
                # the next fault begins where the name would stand: what fits inside, the rest is in the tip
                canvas.text(x1 + 6, y + 14, words[: int((x2 - x1 - 10) / LETTER) - 1] + "…", "fault-name")
            else:
                canvas.text(x1 - 6, y + 14, words, "fault-name outside", "end")


def _frame(canvas: Canvas, axis: _Axis, top: float, marks: Sequence[tuple[float, str]], title: str) -> None:
    for y, word in marks:
        canvas.line(LEFT, y, WIDTH - RIGHT, y, "grid")
        canvas.text(LEFT - 8, y + 4, word, "tick", "end")
    canvas.text(LEFT, top - 8, title, "label")


def _throughput(canvas: Canvas, axis: _Axis, top: float) -> None:
    series = axis.series
    total = [sum(parts) for parts in zip(series.ok, series.fail, series.info, strict=True)]
    scale = ticks(max(max(total, default=0), max(series.delivered, default=0)))
    high = scale[-1]
    base = top + PLOT
    marks = [(base - PLOT * value / high, _number(value)) for value in scale]
    _frame(canvas, axis, top, marks, "Sends per second by outcome, and deliveries")
    for number, parts in enumerate(zip(series.ok, series.info, series.fail, strict=True)):
        x1 = axis.x(series.start + number * series.width)
        x2 = axis.x(series.start + (number + 1) * series.width)
        y = base
        for value, kind, word in zip(parts, ("ok", "info", "fail"), ("ok", "unknown", "failed"), strict=True):
            if value:
                size = PLOT * value / high
                y -= size
                at = series.start + number * series.width
                canvas.rect(x1, y, x2 - x1 - 0.4, size, f"bar {kind}", f"{at:.2f} s: {value:g}/s {word}")
    points = [
        (axis.x(series.start + (number + 0.5) * series.width), base - PLOT * value / high)
        for number, value in enumerate(series.delivered)
    ]
    canvas.path(points, "delivered")
    _legend(canvas, top - 8, [("ok", "ok"), ("info", "unknown"), ("fail", "failed"), ("delivered", "delivered")])


def _legend(canvas: Canvas, y: float, entries: Sequence[tuple[str, str]]) -> None:
    x = float(WIDTH - RIGHT)
    for kind, word in reversed(entries):
        x -= 7.0 * len(word)
        canvas.text(x, y, word, "tick")
        x -= 17
        if kind in {"ok", "info", "fail"}:
            canvas.rect(x, y - 9, 11, 10, f"bar {kind}", radius=2)
        else:
            canvas.line(x, y - 4, x + 12, y - 4, kind)
        x -= 16


def _latency(canvas: Canvas, axis: _Axis, top: float) -> None:
    series = axis.series
    known = [value for value in series.worst if value is not None and value > 0]
    low_values = [value for value in series.p50 if value is not None and value > 0]
    low = math.floor(math.log10(min(low_values))) if low_values else 0
    high = max(math.ceil(math.log10(max(known))) if known else 1, low + 1)
    base = top + PLOT

    def y(value: float) -> float:
        level = (math.log10(max(value, 10**low)) - low) / (high - low)
        return base - PLOT * min(level, 1.0)

    marks = [(y(10.0**power), _millis(10.0**power)) for power in range(low, high + 1)]
    _frame(canvas, axis, top, marks, "Latency of answered sends (logarithmic)")
    for values, kind in ((series.worst, "worst"), (series.p95, "p95"), (series.p50, "p50")):
        points = [
            None if value is None else (axis.x(series.start + (number + 0.5) * series.width), y(value))
            for number, value in enumerate(values)
        ]
        canvas.path(points, kind)
    _legend(canvas, top - 8, [("p50", "median"), ("p95", "95 %"), ("worst", "largest")])


def _millis(value: float) -> str:
    return f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms" if value >= 1 else f"{value * 1000:g} µs"


def _time_axis(canvas: Canvas, axis: _Axis, top1: float, top2: float, height: float) -> None:
    series = axis.series
    step = nice_step(series.end - series.start, 12)
    number = 0
    while number * step <= series.end + 1e-9:
        x = axis.x(number * step)
        for top in (top1, top2):
            canvas.line(x, top + PLOT, x, top + PLOT + 5, "axis")
            canvas.text(x, top + PLOT + 19, f"{number * step:g}", "tick", "middle")
        number += 1
    for top in (top1, top2):
        canvas.line(LEFT, top + PLOT, WIDTH - RIGHT, top + PLOT, "axis")
    canvas.text(WIDTH - RIGHT, height - 6, "seconds since the run began", "tick", "end")
    load_end = series.load[1]
    if series.start < load_end < series.end - series.width:
        x = axis.x(load_end)
        for top in (top1, top2):
            canvas.line(x, top, x, top + PLOT, "mark")
        canvas.text(x - 5, top1 + 14, "end of load", "tick", "end")
