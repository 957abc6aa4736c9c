"""The windowed just-in-time search in Python: what decides where the compiled core is not there.

The same algorithm as core/search.c, and the same signature as the core's `table`: a configuration is (position, set of
linearized open operations, state, used operations of unknown outcome by class); something is linearized only when a
return forces it, pure operations the moment they are legal; a configuration is dead if it was seen before with no more
operations of unknown outcome used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

import numpy as np

from checkers.linearizability.operations import NEVER, Byte, Int
from checkers.linearizability.order import rank

UNDECIDED: Final = 0
VALID: Final = 1
INVALID: Final = 2
QUANTUM: Final = 500
TIME, MEMORY, NODES = 1, 2, 3
_ENTRY_BYTES: Final = 300
"""What a remembered configuration costs in memory, about."""

Step = Callable[[int, int], int]
Reach = Callable[[int, int], int]
Counts = tuple[int, ...]


@dataclass(slots=True)
class _Frame:
    at: int
    state: int
    mask: int
    counts: Counts
    length: int
    ways: list[tuple[int, bool]]


@dataclass(slots=True, eq=False)
class _Part:
    """One independent object's search. Masks are sets of slots as bits of an integer."""

    rows: list[int]
    events: list[tuple[int, bool]]
    unknown: list[bool]
    klass: list[int]
    pure: list[bool]
    slot: list[int]
    infos: dict[int, int]
    at: int = 0
    state: int = 0
    mask: int = 0
    counts: Counts = ()
    active: dict[int, int] = field(default_factory=dict)
    available: list[int] = field(default_factory=list)
    line: list[tuple[int, bool]] = field(default_factory=list)
    frames: list[_Frame] = field(default_factory=list)
    memo: dict[tuple[int, int, int], list[Counts]] = field(default_factory=dict)
    stored: int = 0
    nodes: int = 0
    far: int = -1
    far_last: int = -1
    verdict: int = UNDECIDED
    started: bool = False


def _open(call: Int, ret: Int, klass: Int, pure: Byte, begin: int, end: int, init: int) -> _Part:
    calls, rets = call[begin:end], ret[begin:end]
    ranks = rank(calls, rets)
    events: list[tuple[int, bool]] = [(0, False)] * ranks.count
    unknown = (rets == NEVER).tolist()
    for o, (c, r) in enumerate(zip(ranks.call.tolist(), ranks.ret.tolist(), strict=True)):
        events[c] = (o, False)
        if not unknown[o]:
            events[r] = (o, True)
    free: list[int] = []
    slot = [-1] * len(calls)
    most = 0
    for o, is_return in events:
        if unknown[o]:
            continue
        if is_return:
            free.append(slot[o])
        else:
            if not free:
                free.append(most)
                most += 1
            slot[o] = free.pop()
    part = _Part(
        rows=list(range(begin, end)),
        events=events,
        unknown=unknown,
        klass=klass[begin:end].tolist(),
        pure=(pure[begin:end] != 0).tolist(),
        slot=slot,
        infos={},
        state=init,
    )
    for o, open_ended in enumerate(unknown):
        if open_ended and not part.pure[o]:
            part.infos.setdefault(part.klass[o], len(part.infos))
    part.available = [0] * len(part.infos)
    part.counts = (0,) * len(part.infos)
    return part


class _Search:
    """Searches one part, a number of configurations at a time."""

    def __init__(self, part: _Part, step: Step, reach: Reach | None) -> None:
        self.part, self.step, self.reach = part, step, reach
        self.samples = list(part.infos)

    def eager(self) -> None:
        p = self.part
        for slot, o in p.active.items():
            if p.pure[o] and not p.mask >> slot & 1 and self.step(p.state, p.klass[o]) >= 0:
                p.mask |= 1 << slot
                p.line.append((o, False))

    def advance(self) -> None:
        p = self.part
        while p.at < len(p.events):
            o, is_return = p.events[p.at]
            if p.unknown[o]:
                if not p.pure[o]:
                    p.available[p.infos[p.klass[o]]] += 1
            elif is_return:
                if not p.mask >> p.slot[o] & 1:
                    return
                p.mask &= ~(1 << p.slot[o])
                del p.active[p.slot[o]]
            else:
                p.active[p.slot[o]] = o
                if p.pure[o] and self.step(p.state, p.klass[o]) >= 0:
                    p.mask |= 1 << p.slot[o]
                    p.line.append((o, False))
            p.at += 1

    def go_back(self, to: int) -> None:
        p = self.part
        while p.at > to:
            p.at -= 1
            o, is_return = p.events[p.at]
            if p.unknown[o]:
                if not p.pure[o]:
                    p.available[p.infos[p.klass[o]]] -= 1
            elif is_return:
                p.active[p.slot[o]] = o
            else:
                del p.active[p.slot[o]]

    def known(self) -> bool:
        p = self.part
        seen = p.memo.setdefault((p.at, p.mask, p.state), [])
        if any(all(a <= b for a, b in zip(old, p.counts, strict=True)) for old in seen):
            return True
        seen.append(p.counts)
        p.stored += 1
        return False

    def enter(self) -> None:
        p = self.part
        if p.at > p.far:
            p.far, p.far_last = p.at, p.line[-1][0] if p.line and not p.line[-1][1] else -1
        p.nodes += 1
        if self.known():
            return
        own = p.events[p.at][0]
        ways = [(o, False) for s, o in p.active.items() if not p.pure[o] and not p.mask >> s & 1 and o != own]
        if not p.pure[own]:
            ways.insert(0, (own, False))
        ways += [(c, True) for c in range(len(p.counts)) if p.available[c] > p.counts[c]]
        p.frames.append(_Frame(p.at, p.state, p.mask, p.counts, len(p.line), ways[::-1]))

    def hopeless(self) -> bool:
        p = self.part
        return self.reach is not None and any(
            not self.reach(p.state, p.klass[o]) for s, o in p.active.items() if not p.mask >> s & 1
        )

    def run(self, nodes: int, deadline: float) -> None:
        p = self.part
        stop = p.nodes + nodes
        if not p.started:
            p.started = True
            self.advance()
            if p.at == len(p.events):
                p.verdict = VALID
                return
            self.enter()
        ticks = 0
        while p.frames:
            ticks += 1
            if p.nodes >= stop or (not ticks & 255 and deadline and monotonic() > deadline):
                return
            frame = p.frames[-1]
            self.go_back(frame.at)
            p.state, p.mask, p.counts = frame.state, frame.mask, frame.counts
            del p.line[frame.length :]
            if not frame.ways:
                p.frames.pop()
                continue
            what, is_class = frame.ways.pop()
            state = self.step(p.state, self.samples[what] if is_class else p.klass[what])
            if state < 0 or (is_class and state == p.state):
                continue
            p.state = state
            if is_class:
                p.counts = (*p.counts[:what], p.counts[what] + 1, *p.counts[what + 1 :])
            else:
                p.mask |= 1 << p.slot[what]
            p.line.append((what, is_class))
            self.eager()
            if self.hopeless():
                continue
            if p.mask >> p.slot[p.events[frame.at][0]] & 1:
                self.advance()
                if p.at == len(p.events):
                    p.verdict = VALID
                    return
            self.enter()
        p.verdict = INVALID

    def detail(self) -> tuple[int, int, bytes | None, tuple[int, int, int, list[tuple[int, tuple[int, ...]]]] | None]:
        p = self.part
        if p.verdict == VALID:
            queues: list[list[int]] = [[] for _ in p.infos]
            for o, is_return in p.events:
                if p.unknown[o] and not p.pure[o] and not is_return:
                    queues[p.infos[p.klass[o]]].append(o)
            nexts = [iter(queue) for queue in queues]
            order = [p.rows[next(nexts[what]) if is_class else what] for what, is_class in p.line]
            return p.verdict, p.nodes, np.array(order, dtype=np.uint32).tobytes(), None
        if p.verdict == UNDECIDED:
            return p.verdict, p.nodes, None, None
        opened: dict[int, int] = {}
        for o, is_return in p.events[: p.far]:
            if not is_return and not p.unknown[o]:
                opened[p.slot[o]] = o
        last = [
            (state, tuple(p.rows[opened[s]] for s in range(mask.bit_length()) if mask >> s & 1))
            for (at, mask, state), seen in p.memo.items()
            if at == p.far
            for _ in seen
        ]
        failing = p.rows[p.events[p.far][0]]
        good = p.rows[p.far_last] if p.far_last >= 0 else -1
        return p.verdict, p.nodes, None, (failing, good, len(last), last[:16])


def table(
    call: Int,
    ret: Int,
    classes: Int,
    pure: Byte,
    starts: Int | None,
    inits: Int,
    step: Step,
    reach: Reach | None,
    nodes: int,
    wall_ms: int,
    memory_mb: int,
    stop: bool,
    details: bool,
) -> tuple[bytes, int, int, list[Any] | None]:
    """Search each part; rounds of configurations double, so that the easiest bad part decides.

    Returns (verdict of each part, configurations, what ran out: 0 nothing, 1 time, 2 memory, 3 nodes; details).
    """
    bounds = [0, len(call)] if starts is None else starts.tolist()
    cache: dict[tuple[int, int], int] = {}

    def asked(state: int, klass: int) -> int:
        answer = cache.get((state, klass))
        if answer is None:
            answer = cache[state, klass] = step(state, klass)
        return answer

    searches = [
        _Search(_open(call, ret, classes, pure, bounds[i], bounds[i + 1], int(inits[i])), asked, reach)
        for i in range(len(bounds) - 1)
    ]
    deadline = monotonic() + wall_ms / 1e3 if wall_ms > 0 else 0.0
    out_of, quantum = 0, QUANTUM
    while not out_of:
        waiting = [s for s in searches if not s.part.verdict]
        if not waiting or (stop and any(s.part.verdict == INVALID for s in searches)):
            break
        for search in waiting:
            spent = sum(s.part.nodes for s in searches)
            search.run(min(quantum, nodes - spent) if nodes > 0 else quantum, deadline)
            if search.part.verdict == INVALID and stop:
                break
            if search.part.verdict:
                continue
            if deadline and monotonic() > deadline:
                out_of = TIME
            elif memory_mb > 0 and sum(s.part.stored for s in searches) * _ENTRY_BYTES > memory_mb * 1_000_000:
                out_of = MEMORY
            elif 0 < nodes <= sum(s.part.nodes for s in searches):
                out_of = NODES
            if out_of:
                break
        quantum *= 2
    verdicts = bytes(s.part.verdict for s in searches)
    return verdicts, sum(s.part.nodes for s in searches), out_of, [s.detail() for s in searches] if details else None
