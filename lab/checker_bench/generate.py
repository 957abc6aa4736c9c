"""Legal histories of any length, as columns: closed-loop clients that think as long as they work, so about half of them
are inside an operation. Half of the operations of unknown outcome take effect, late. Values are unique 60-bit ids,
except for registers, which have five values and a third each of read, write and compare-and-set.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from checkers.linearizability.operations import NEVER, NULL, Code, Operations, columns

Floats = npt.NDArray[np.float64]
BITS = 50


class Run:
    """Intervals of `n` operations of `clients`, an instant of effect in each, and which outcomes are unknown."""

    def __init__(self, n: int, clients: int, unknown: float, seed: int) -> None:
        self.rng = rng = np.random.default_rng(seed)
        each = n // clients + 1
        works, thinks = rng.exponential(1.0, (clients, each)), rng.exponential(1.0, (clients, each))
        begins = np.cumsum(works + thinks, axis=1) - works
        call, ret = begins.ravel(), (begins + works).ravel()
        first = np.argsort(call)[:n]
        self.n, self.call, self.ret = n, call[first], ret[first]
        self.unknown = rng.random(n) < unknown
        at = self.call + (self.ret - self.call) * rng.random(n)
        late = self.unknown & (rng.random(n) < 0.5)
        at = np.where(late, self.ret + rng.exponential(20.0, n), at)
        order = np.argsort(at)
        self.order = order[~(self.unknown & ~late)[order]].tolist()

    def times(self, raw: bool) -> tuple[Any, Any]:
        """Return calls and returns: positions of events, or 50-bit clock values."""
        if raw:
            scale = (1 << BITS) / (float(self.ret.max()) * 1.01)
            call, ret = (self.call * scale).astype(np.int64), (self.ret * scale).astype(np.int64)
        else:
            order = np.argsort(np.concatenate([self.call, self.ret]))
            place = np.empty(2 * self.n, dtype=np.int64)
            place[order] = np.arange(2 * self.n)
            call, ret = place[: self.n], place[self.n :]
        return call, np.where(self.unknown, NEVER, ret)

    def columns(self, f: Any, a: Any, b: Any, kept: Any, *, raw: bool, shuffled: bool) -> Operations:
        """Return the kept rows."""
        call, ret = self.times(raw)
        order = np.flatnonzero(kept)
        if shuffled:
            self.rng.shuffle(order)
        pick = [np.ascontiguousarray(np.asarray(c)[order]) for c in (call, ret, f, a, b)]
        return columns(*pick)


def queue(
    n: int, clients: int, unknown: float, *, raw: bool = False, shuffled: bool = False, seed: int = 1
) -> Operations:
    """A FIFO queue."""
    run = Run(n, clients, unknown, seed)
    puts = run.rng.random(n) < 0.5
    ids = run.rng.integers(1 << 60, size=n)
    f, a = np.where(puts, Code.ENQUEUE, Code.DEQUEUE).tolist(), np.where(puts, ids, NULL).tolist()
    inside: list[int] = []
    head = 0
    for i in run.order:
        if f[i] == Code.ENQUEUE:
            inside.append(a[i])
        elif head < len(inside):
            a[i], head = inside[head], head + 1
        else:
            f[i] = Code.EMPTY
    code, value = np.array(f, np.uint8), np.array(a)
    lost = run.unknown & ~puts
    code[lost], value[lost] = Code.DEQUEUE, NULL
    return run.columns(code, value, np.zeros(n), np.ones(n, dtype=bool), raw=raw, shuffled=shuffled)


def log(
    n: int, clients: int, unknown: float, *, raw: bool = False, shuffled: bool = False, seed: int = 1
) -> Operations:
    """A log with offsets; reads look up to 50 entries back."""
    run = Run(n, clients, unknown, seed)
    appends = run.rng.random(n) < 0.5
    ids = run.rng.integers(1 << 60, size=n)
    back = run.rng.integers(0, 50, size=n).tolist()
    f = np.where(appends, Code.APPEND, Code.LOG_READ).tolist()
    a, b = np.where(appends, ids, NULL).tolist(), [NULL] * n
    entries: list[int] = []
    for i in run.order:
        if f[i] == Code.APPEND:
            b[i] = len(entries)
            entries.append(a[i])
        else:
            b[i] = max(0, len(entries) - back[i])
            if b[i] < len(entries):
                a[i] = entries[b[i]]
            else:
                f[i] = Code.LOG_END
    offset = np.array(b)
    offset[run.unknown] = NULL
    kept = ~run.unknown | appends
    return run.columns(np.array(f, np.uint8), np.array(a), offset, kept, raw=raw, shuffled=shuffled)


def register(n: int, clients: int, unknown: float, *, raw: bool = True, values: int = 5, seed: int = 1) -> Operations:
    """A register of a few values, initially null."""
    run = Run(n, clients, unknown, seed)
    kind = run.rng.integers(0, 3, size=n)
    x, y = run.rng.integers(0, values, size=(2, n))
    f, state = kind.tolist(), NULL
    a, b = np.where(kind == Code.READ, NULL, x).tolist(), np.where(kind == Code.CAS, y, 0).tolist()
    for i in run.order:
        if f[i] == Code.READ:
            a[i] = state
        elif f[i] == Code.WRITE:
            state = a[i]
        elif state == a[i]:
            state = b[i]
        else:
            f[i] = Code.CAS_FAILED
    code = np.array(f, np.uint8)
    code[run.unknown] = kind[run.unknown]
    kept = ~run.unknown | (kind != Code.READ)
    return run.columns(code, np.array(a), np.array(b), kept, raw=raw, shuffled=False)
