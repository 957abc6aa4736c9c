"""A time diagram of a counter-example: which operation lay where, as text for a terminal and as SVG.

Only order counts, so the axis counts the events that are shown. Whatever came out of a history is cut to a bearable
length, freed of control characters, and in the SVG escaped: a history must not be able to draw.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from checkers.linearizability.operations import Operation

SHOWN_MAX: Final = 60
"""More operations make no picture."""

LABEL_MAX: Final = 44
TEXT_WIDTH: Final = 60

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufff9-\uffff]")


def clean(text: str, size: int = LABEL_MAX) -> str:
    """Return a text without what could move a cursor, turn the direction or break a page, at most `size` long."""
    text = _CONTROL.sub("�", text)
    return text if len(text) <= size else f"{text[: size - 1]}…"


def value_text(value: Any, size: int = LABEL_MAX) -> str:
    """Return a value as JSON, cut to `size`."""
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, msgspec.MsgspecError):
        text = repr(value)
    return clean(text, size)


def label(operation: Operation) -> str:
    """Return an operation as people write it: `dequeue() → 7`, `write(3)`, `read() → ?`."""
    f, argument, result = clean(operation.f, 24), operation.argument, operation.result
    key = "" if operation.key is None else f"{clean(str(operation.key), 24)}: "
    asked, answer = _parts(argument, result)
    text = f"{key}{f}({asked})"
    if operation.outcome == "fail":
        return f"{text} failed"
    if operation.outcome == "info":
        return f"{text} → {'?' if answer is None else f'{answer}, then unknown'}"
    return text if answer is None else f"{text} → {answer}"


_EMPTY_ANSWER: Final = {"dequeue": "empty"}


def _parts(argument: Any, result: Any) -> tuple[str, str | None]:
    """Return what was asked and answered, without saying twice what is the same (a key, an appended value)."""
    if argument.__class__ is list and len(argument) == 2 and result.__class__ is list and len(result) == 2:
        if argument[1] is None:
            return value_text(argument[0], 20), "end" if result[1] is None else value_text(result[1], 20)
        if argument[0] is None:
            return value_text(argument[1], 20), "?" if result[0] is None else f"offset {value_text(result[0], 20)}"
    if argument.__class__ is list and len(argument) == 2 and argument[0] is None:
        argument = argument[1]
    elif argument.__class__ is list and len(argument) == 2 and argument[1] is None:
        argument = argument[0]
    asked = "" if argument is None else value_text(argument, 24)
    if asked.startswith("[") and asked.endswith("]"):
        asked = asked[1:-1].replace(",", ", ")
    if result is None or result is True:
        return asked, None
    return asked, "compare failed" if result is False else value_text(result, 24)


def described(operation: Operation) -> str:
    """Return the label, with the answer of an operation that took nothing spelled out."""
    if operation.outcome == "ok" and operation.result is None and operation.argument is None:
        empty = _EMPTY_ANSWER.get(operation.f, "null" if operation.f == "read" else None)
        if empty is not None:
            return f"{label(operation)} → {empty}"
    return label(operation)


def where(operation: Operation) -> str:
    """Return the lines of an operation's two events."""
    first, last = operation.invoked_line, operation.returned_line
    if first is None:
        return "-"
    return f"{first}-{last}" if last is not None else f"{first}-"


@dataclass(frozen=True, slots=True, eq=False)
class Bar:
    """An operation in the diagram: its ends as counts of shown events; an open one has no right end."""

    operation: Operation
    left: int
    right: int | None
    proves: bool


@dataclass(frozen=True, slots=True)
class Diagram:
    """Bars by process, and how many operations found no room."""

    bars: tuple[Bar, ...]
    width: int
    hidden: int

    @property
    def processes(self) -> list[int | str]:
        """Return the processes in the order of their first operation."""
        return list(dict.fromkeys(bar.operation.process for bar in self.bars))


def around(operations: Sequence[Operation], proof: Sequence[Operation]) -> list[Operation]:
    """Return the operations of a proof and those that overlap one of them, in the order of their invocations."""
    spans = [(one.invoked, one.returned) for one in proof]
    lines = {_identity(one) for one in proof}
    near = []
    for one in operations:
        beside = any(
            (end is None or one.invoked < end) and (one.returned is None or begin < one.returned)
            for begin, end in spans
        )
        if one.outcome != "fail" and beside and (one.returned is not None or one.f != "read"):
            near.append(one)
    near = [one for one in near if _identity(one) not in lines]
    kept = [*proof, *near[: max(0, SHOWN_MAX - len(proof))]]
    return sorted(kept, key=lambda one: one.invoked)


def _identity(operation: Operation) -> tuple[Any, ...]:
    return operation.process, operation.invoked, operation.f, operation.key, repr(operation.result)


def diagram(operations: Sequence[Operation], proof: Collection[Operation] = ()) -> Diagram:
    """Lay out operations; those of `proof` are marked. At most `SHOWN_MAX` are shown, those of the proof first."""
    proving = {_identity(one) for one in proof}
    ranked = sorted(operations, key=lambda one: (_identity(one) not in proving, one.invoked))
    shown = sorted(ranked[:SHOWN_MAX], key=lambda one: one.invoked)
    ends = {one.returned for one in shown if one.returned is not None}
    places = {time: place for place, time in enumerate(sorted({one.invoked for one in shown} | ends))}
    bars = tuple(
        Bar(
            one,
            places[one.invoked],
            None if one.returned is None else places[one.returned],
            _identity(one) in proving,
        )
        for one in shown
    )
    return Diagram(bars, len(places), len(operations) - len(shown))


def text(found: Diagram) -> str:
    """Return the diagram for a terminal: one line an operation, its interval drawn, `*` beside those that prove it."""
    if not found.bars:
        return ""
    step = max(1, min(6, TEXT_WIDTH // max(1, found.width)))
    scale = min(1.0, TEXT_WIDTH / (found.width * step))
    width = int(found.width * step * scale) + 1
    names = {bar: clean(str(bar.operation.process), 12) for bar in found.bars}
    margin = max(map(len, names.values()))
    lines = []
    for bar in found.bars:
        left = int(bar.left * step * scale)
        right = width if bar.right is None else max(left + 1, int(bar.right * step * scale))
        drawn = " " * left + "├" + "─" * (right - left - 1) + ("→" if bar.right is None else "┤")
        mark = "*" if bar.proves else " "
        lines.append(f"{mark} {names[bar]:>{margin}} {drawn:<{width + 1}}  {described(bar.operation)}")
    if found.hidden:
        lines.append(f"  and {found.hidden} more")
    return "\n".join(line.rstrip() for line in lines)


_STEP_MIN: Final = 18
_STEP_MAX: Final = 64
_WIDE: Final = 1400
_ROW: Final = 46
_TOP: Final = 64
_CHARACTER: Final = 6.7

_STYLE: Final = (
    "text{font:11px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#1f2933}"
    ".title{font-size:14px;font-weight:600}.note{fill:#6b7280}"
    ".bar{fill:#c7d7ee;stroke:#4a6fa5}.proves{fill:#f6c6c4;stroke:#b3261e;stroke-width:1.6}"
    ".open{stroke-dasharray:4 3}.lane{stroke:#e5e7eb}"
)


def svg(found: Diagram, title: str, subtitle: str = "") -> str:
    """Return the diagram as an SVG document: a lane a process, time from left to right, the proof in red."""
    labels = {bar: described(bar.operation) for bar in found.bars}
    step = max(_STEP_MIN, min(_STEP_MAX, _WIDE // (found.width + 1)))
    lanes = _lanes(found, {bar: bar.left * step + int(_CHARACTER * len(labels[bar])) + 12 for bar in found.bars}, step)
    rows = 1 + max((row for row in lanes.values()), default=0)
    margin = 24 + int(_CHARACTER * max((len(_process(bar.operation)) for bar in found.bars), default=8))
    edge = margin + (found.width + 1) * step
    reach = [margin + bar.left * step + int(_CHARACTER * len(labels[bar])) + 16 for bar in found.bars]
    legend = "red: the operations that prove it · dashed: outcome unknown, may happen at any later time"
    if found.hidden:
        legend += f" · {found.hidden} more operations not shown"
    head = 32 + int(8.6 * max(len(clean(title, 110)), len(clean(subtitle, 140))))
    width = max([edge + 24, head, 32 + int(_CHARACTER * len(legend)), *reach])
    height = _TOP + rows * _ROW + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" role="img">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text class="title" x="16" y="24">{_escaped(title, 110)}</text>',
        f'<text class="note" x="16" y="42">{_escaped(subtitle, 140)}</text>',
    ]
    named: set[int] = set()
    processes: set[int | str] = set()
    for bar in found.bars:
        row = lanes[bar]
        y = _TOP + row * _ROW
        if row not in named:
            named.add(row)
            parts.append(f'<line class="lane" x1="{margin}" y1="{y + 40}" x2="{width - 12}" y2="{y + 40}"/>')
            if (process := bar.operation.process) not in processes:
                processes.add(process)
                parts.append(f'<text x="16" y="{y + 28}">{_escaped(_process(bar.operation), 40)}</text>')
        left = margin + bar.left * step
        right = edge if bar.right is None else margin + bar.right * step
        kind = f"bar{' proves' if bar.proves else ''}{' open' if bar.right is None else ''}"
        tip = f"{labels[bar]} · process {bar.operation.process} · lines {where(bar.operation)}"
        name = _escaped(labels[bar], 120)
        parts.append(
            f'<g><title>{_escaped(tip, 200)}</title><text x="{left}" y="{y + 12}">{name}</text>'
            f'<rect class="{kind}" x="{left}" y="{y + 18}" width="{max(4, right - left)}" height="14" rx="3"/></g>'
        )
    parts.append(f'<text class="note" x="16" y="{height - 12}">{_escaped(legend, 160)}</text></svg>')
    return "\n".join(parts) + "\n"


def _process(operation: Operation) -> str:
    return f"process {clean(str(operation.process), 12)}"


def _lanes(found: Diagram, ends: dict[Bar, int], step: int) -> dict[Bar, int]:
    """A lane a process, and further ones below it for what overlaps (a batch) or whose label (to `ends`) would."""
    free: dict[int | str, list[float]] = {}
    place: dict[Bar, tuple[int | str, int]] = {}
    for bar in found.bars:
        taken = free.setdefault(bar.operation.process, [])
        right = float("inf") if bar.right is None else max(ends[bar], bar.right * step)
        lane = next((lane for lane, end in enumerate(taken) if end < bar.left * step), len(taken))
        taken[lane : lane + 1] = [right]
        place[bar] = (bar.operation.process, lane)
    start, below = {}, 0
    for process in found.processes:
        start[process] = below
        below += len(free[process])
    return {bar: start[process] + lane for bar, (process, lane) in place.items()}


def _escaped(text: str, size: int) -> str:
    return html.escape(clean(text, size), quote=True)
