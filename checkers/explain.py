"""One plain sentence for what the checkers find, and short descriptions of operations for reports."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from checkers.columns import NEVER, TYPES, History

NS = 1_000_000_000

_OUTCOMES = {"ok": "ok", "fail": "a certain failure", "info": "an unknown outcome"}


def seconds(time: int | float) -> str:
    """Print an instant or a span in nanoseconds as seconds."""
    return "never" if time >= NEVER else f"{time / NS:.3f} s"


def span(lower: float, upper: float) -> str:
    """Print an interval in seconds."""
    top = "∞" if upper == float("inf") else f"{upper:.2f} s"
    return f"{lower:.2f} – {top}"


def some(names: Iterable[str], limit: int = 6) -> str:
    """Join a few names, and say how many more there are."""
    listed = list(names)
    rest = len(listed) - limit
    return ", ".join(listed[:limit]) + (f" and {rest} more" if rest > 0 else "")


def value_name(history: History, value: int) -> str:
    """Return a value as it was sent; bodies nobody could read are called so."""
    return history.values[value] if value >= 0 else "an unreadable body"


def send_story(history: History, row: int) -> str:
    """Describe one send: who, when, what came back."""
    sends = history.sends
    value = value_name(history, int(sends.value[row]))
    begun = f"process {int(sends.process[row])} sent {value} at {seconds(history.time_of(int(sends.invoked[row])))}"
    if int(sends.returned[row]) < 0:
        return f"{begun} and never heard back"
    return f"{begun} and got {_answered(history, row)}"


def _asked(history: History, row: int) -> str:
    sends = history.sends
    queue = int(sends.asked[row])
    where = f" to {history.queues[queue]}" if queue >= 0 else ""
    return f"{value_name(history, int(sends.value[row]))}{where}"


def _answered(history: History, row: int) -> str:
    sends = history.sends
    took = (history.time_of(int(sends.returned[row])) - history.time_of(int(sends.invoked[row]))) / 1e6
    status = int(sends.status[row])
    word = history.statuses[status] if status >= 0 else _OUTCOMES[TYPES[int(sends.type[row])]]
    node, offset, epoch, error = (int(column[row]) for column in (sends.node, sends.offset, sends.epoch, sends.error))
    by = f" from {history.nodes[node]}" if node >= 0 else ""
    place = f" at offset {offset}" if offset >= 0 else ""
    term = f", epoch {epoch}" if epoch >= 0 else ""
    cause = f" ({history.errors[error]})" if error >= 0 else ""
    return f"{word}{by}{place}{term}{cause} after {took:.1f} ms"


def operation(history: History, index: int) -> dict[str, Any]:
    """Describe one event of a history for a report: index, seconds, process, type, f and a sentence."""
    events = history.events
    process = int(events.process[index])
    who = {-1: "nemesis", -2: "lab"}.get(process, str(process))
    f = history.functions[int(events.f[index])]
    return {
        "index": index,
        "time": seconds(int(events.time[index])),
        "process": who,
        "type": TYPES[int(events.type[index])],
        "f": f,
        "text": _event_text(history, index, f),
    }


def _event_text(history: History, index: int, f: str) -> str:
    sends, reads, entries = history.sends, history.reads, history.entries
    partner = int(history.events.partner[index])
    if f in {"send", "append"}:
        hits = ((sends.invoked == index) | (sends.returned == index)).nonzero()[0]
        if not len(hits):
            return ""
        row = int(hits[0])
        return _asked(history, row) if int(sends.invoked[row]) == index else _answered(history, row)
    rows = ((reads.returned == index) | (reads.invoked == index)).nonzero()[0]
    parts: list[str] = []
    for row in rows[:4]:
        start, stop = int(reads.start[row]), int(reads.stop[row])
        queue = history.queues[int(reads.queue[row])]
        node = int(reads.node[row])
        by = f" from {history.nodes[node]}" if node >= 0 else ""
        if stop == start:
            parts.append(f"{queue}: nothing{by}")
            continue
        first = f"{int(entries.offset[start])}: {value_name(history, int(entries.value[start]))}"
        last = f"{int(entries.offset[stop - 1])}: {value_name(history, int(entries.value[stop - 1]))}"
        parts.append(f"{queue}: {first}" + (f" … {last} ({stop - start} messages)" if stop - start > 1 else "") + by)
    if parts:
        return "; ".join(parts)
    if partner >= 0:
        return f"with event {partner}"
    for event in (*history.nemesis, *(event for events in history.side.values() for event in events)):
        if event.index == index:
            return _observed(event.f, event.value) or str(event.value)[:400]
    return ""


def _observed(f: str, value: Any) -> str:
    """Say in words what a node or a name server answered; empty for anything else."""
    if not isinstance(value, dict):
        return ""
    if f == "status" and value.get("answered") is not False:
        places = [f"{name} {value[name]}" for name in ("begin", "commit", "durable", "end") if name in value]
        return f"{value.get('node')} says: {value.get('role')} of term {value.get('term')}; {', '.join(places)}"
    if f == "status":
        return f"{value.get('node')} does not answer"
    if f == "election":
        whom = f" to {value['to']}" if value.get("to") else ""
        return f"{value.get('node')} logs: {value.get('event')}{whom}, term {value.get('term')}"
    if f == "route" and isinstance(value.get("groups"), dict):
        listed = [f"{name}: {one.get('brokers')}" for name, one in value["groups"].items() if isinstance(one, dict)]
        return f"{value.get('ns')} answers {value.get('from')}: {'; '.join(listed) or 'no route'}"
    return ""
