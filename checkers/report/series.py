"""What the report's charts draw: sends and deliveries a second, latency, and the faults behind them, in time bins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from checkers.columns import FAIL, HANDLE, INFO, OK, POLL, READ, History, Mask
from checkers.windows import Phases, Window, phases, windows

BINS: Final = 150
_STEPS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)


@dataclass(frozen=True, slots=True)
class Series:
    """Binned activity. Rates are per second, latencies in milliseconds; a bin without data is None in the latencies.

    Bin n covers `[start + n·width, start + (n+1)·width)` seconds; `ok`, `fail` and `info` are sends by outcome in the
    bin of their invocation.
    """

    start: float
    end: float
    width: float
    ok: tuple[float, ...]
    fail: tuple[float, ...]
    info: tuple[float, ...]
    delivered: tuple[float, ...]
    p50: tuple[float | None, ...]
    p95: tuple[float | None, ...]
    worst: tuple[float | None, ...]
    windows: tuple[Window, ...]
    load: tuple[float, float]


def nice_step(span: float, parts: int) -> float:
    """Return the smallest round step that cuts a span of seconds into at most that many parts."""
    return next((step for step in _STEPS if span / step <= parts), float(_STEPS[-1]))


def read_series(history: History) -> Series:
    """Bin a history."""
    span: Phases = phases(history)
    events, sends, reads, entries = history.events, history.sends, history.reads, history.entries
    start, end = 0.0, max(span.end / 1e9, 0.001)
    width = nice_step(end - start, BINS)
    bins = max(1, int(np.ceil((end - start) / width)))
    begun = events.time[sends.invoked] / 1e9 if len(sends) else np.zeros(0)
    place = np.minimum((begun / width).astype(np.int64), bins - 1)

    def rate(mask: Mask) -> tuple[float, ...]:
        counts = np.bincount(place[mask], minlength=bins)
        return tuple(round(float(count) / width, 2) for count in counts)

    done = sends.returned >= 0
    finished = np.where(done, events.time[sends.returned], events.time[sends.invoked]) / 1e9
    latency = (finished - begun) * 1000
    answered = done & (sends.type == OK)
    p50: list[float | None] = [None] * bins
    p95: list[float | None] = [None] * bins
    worst: list[float | None] = [None] * bins
    order = np.argsort(place[answered], kind="stable")
    values, where = latency[answered][order], place[answered][order]
    edges = np.searchsorted(where, np.arange(bins + 1))
    for number in range(bins):
        mine = values[edges[number] : edges[number + 1]]
        if len(mine):
            p50[number], p95[number] = (round(float(q), 3) for q in np.percentile(mine, [50, 95]))
            worst[number] = round(float(mine.max()), 3)
    # Where handlers are recorded beside the pulls that fed them, the pulls count.
    kinds = reads.kind[entries.read]
    pulled = (kinds == POLL) | (kinds == READ)
    ordinary = pulled if bool(pulled.any()) else kinds == HANDLE
    when = events.time[reads.returned[entries.read[ordinary]]] / 1e9
    delivered = np.bincount(np.minimum((when / width).astype(np.int64), bins - 1), minlength=bins)
    return Series(
        start=start,
        end=end,
        width=width,
        ok=rate(sends.type == OK),
        fail=rate(sends.type == FAIL),
        info=rate(sends.type == INFO),
        delivered=tuple(round(float(count) / width, 2) for count in delivered),
        p50=tuple(p50),
        p95=tuple(p95),
        worst=tuple(worst),
        windows=windows(history, span),
        load=(span.load_begin / 1e9, span.load_end / 1e9),
    )
