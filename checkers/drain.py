"""Whether absence proves loss: what the drain phase did for each queue, and what it read.

A missing message is a lost one only where the drain kept its rules (docs/checkers.md, "The drain"): every fault healed
and proven so (D2), everything running (D3), replicas agreed (D4), a sentinel acknowledged after all of it (D5), the
queue read twice up to that sentinel with one result (D6), and no retention (D10). The lab's word for a step is
checked against the history wherever the history can tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from checkers.columns import DRAIN, OK, History, Int, Mask, Reads, distinct
from checkers.windows import STORE_REMOVERS, Window

RULES: Final = ("D2", "D3", "D4", "D5", "D6", "D10")


def split_queue(name: str) -> tuple[str, str, str]:
    """Split `topic/group/number`; a name without that shape is all topic."""
    parts = name.rsplit("/", 2)
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else (name, "", "")


@dataclass(frozen=True, slots=True)
class Step:
    """The lab's last word on one drain rule in one scope."""

    rule: str
    scope: str
    ok: bool
    detail: str
    index: int
    time: int


@dataclass(frozen=True, slots=True)
class Unstable:
    """A queue whose two drains differ: offsets, values and drain operations that show it."""

    queue: int
    offset: int
    values: tuple[int, ...]
    ops: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Drain:
    """What the drain established, per queue number.

    `decided[q]` tells that absence from the drain of q is loss, `why[q]` else which rule failed. `entries[q]` are the
    rows of `Entries` the drains of q returned, `sentinel[q]` the offset of the sentinel they reached (-1: none), and
    `asked[q]` the event that sent it (-1: none): of what was answered after that, absence proves nothing.
    `final` marks the rows of `Reads` that are drains: where everything was restarted and drained again (rounds 3 and
    4), only those count as what is there in the end.
    """

    steps: Mapping[tuple[str, str], Step]
    decided: Mask
    why: Mapping[int, tuple[str, ...]]
    entries: Mapping[int, Int]
    sentinel: Int
    asked: Int
    unstable: tuple[Unstable, ...]
    excluded: frozenset[str]
    final: Mask

    def step(self, rule: str, scopes: Sequence[str]) -> bool | None:
        """Tell whether a rule was kept in all of these scopes that the lab spoke about; None: it never spoke."""
        said = [self.steps[key] for scope in scopes if (key := (rule, scope)) in self.steps]
        return all(step.ok for step in said) if said else None

    def time(self, rule: str, scopes: Sequence[str]) -> int:
        """Return when the lab last spoke about a rule in these scopes; 0 if it never did."""
        return max((self.steps[rule, scope].time for scope in scopes if (rule, scope) in self.steps), default=0)

    def detail(self, rule: str, scopes: Sequence[str]) -> str:
        """Return what the lab said about a rule that was not kept."""
        said = [self.steps[key] for scope in scopes if (key := (rule, scope)) in self.steps]
        return "; ".join(step.detail or f"{rule} failed for {step.scope}" for step in said if not step.ok)


def queue_scopes(name: str) -> tuple[str, ...]:
    """Return the scopes of drain steps that speak about a queue."""
    topic, group, _ = split_queue(name)
    return ("*", "", group, topic, name) if group else ("*", "", name)


def read_steps(history: History) -> dict[tuple[str, str], Step]:
    """Collect the lab's drain steps; the last word on a rule and scope counts."""
    steps: dict[tuple[str, str], Step] = {}
    for event in history.lab("drain-step"):
        value: dict[str, Any] = event.value if isinstance(event.value, dict) else {}
        rule, scope = str(value.get("rule", "")), str(value.get("scope", "*"))
        steps[(rule, scope)] = Step(
            rule, scope, value.get("ok") is True, str(value.get("detail") or ""), event.index, event.time
        )
    return steps


def excluded_nodes(history: History) -> frozenset[str]:
    """Return the nodes the drain left out by name, since the plan destroyed them."""
    names: set[str] = set()
    for event in history.lab("drain-step"):
        if isinstance(event.value, dict):
            names.update(str(name) for name in event.value.get("excluded") or ())
    return frozenset(names)


def unhealed(windows: Sequence[Window], excluded: frozenset[str]) -> list[Window]:
    """Return the faults whose healing is not proven, apart from those that only struck nodes that are gone."""
    return [window for window in windows if not window.healed.holds and not window.gone_with(excluded)]


def judge_drain(history: History, windows: Sequence[Window], load_end: int = 0) -> Drain:
    """Work out which queues are decidable, and what their drains read. `load_end` is when the load ended."""
    steps = read_steps(history)
    excluded = excluded_nodes(history)
    run_wide: list[str] = []
    open_faults = unhealed(windows, excluded)
    if open_faults:
        names = ", ".join(f"{window.kind} ({window.id})" for window in open_faults)
        run_wide.append(f"D2: the healing of {names} is not proven")
    removers = [window for window in windows if window.family in STORE_REMOVERS]
    destroyed = {name for window in removers if window.permanent or not window.heal_seen for name in window.targets}
    if stray := sorted(excluded - destroyed):
        run_wide.append(f"D3: {', '.join(stray)} left out, though no fault of the plan destroyed it for good")

    # A sentinel shows nothing of what was broken, healed or sent after it.
    before = [(load_end, "the load had ended")]
    before += [
        (window.h2 if window.heal_seen else window.a2, f"{window.kind} ({window.id}) was over") for window in windows
    ]
    changed, what = max(before)
    reads, entries, sends = history.reads, history.entries, history.sends
    promised = (sends.type == OK) & (sends.sentinel == 1) & promises(history)
    turn = (reads.round.astype(np.int64) + 1) // 2
    drain_rows = reads.kind == DRAIN
    last_turn = int(turn[drain_rows].max()) if bool(drain_rows.any()) else 1
    final: Mask = drain_rows & (turn == last_turn)
    drains = np.flatnonzero(final)
    count = len(history.queues)
    decided = np.zeros(count, dtype=bool)
    sentinel = np.full(count, -1, dtype=np.int64)
    asked = np.full(count, -1, dtype=np.int64)
    kept: dict[int, Int] = {}
    why: dict[int, tuple[str, ...]] = {}
    unstable: list[Unstable] = []
    for queue in range(count):
        name = history.queues[queue]
        reasons = list(run_wide)
        scopes = queue_scopes(name)
        outcome = Drain(steps, decided, why, kept, sentinel, asked, (), excluded, final)
        for rule in RULES:
            said = outcome.step(rule, scopes)
            if said is None:
                reasons.append(f"{rule}: never reported")
            elif not said:
                reasons.append(f"{rule}: {outcome.detail(rule, scopes)}")
        placed = np.flatnonzero(promised & (sends.queue == queue))
        if not len(placed):
            reasons.append("D5: no sentinel of this queue was answered SEND_OK")
        elif history.time_of(int(sends.invoked[placed[-1]])) < changed:
            reasons.append(f"D5: the sentinel was sent before {what}")
        if len(placed):
            asked[queue] = sends.invoked[placed[-1]]
        last_mark = int(sends.value[placed[-1]]) if len(placed) else -2
        placed_at = int(sends.end[placed[-1]]) if len(placed) else -1
        rows = drains[reads.queue[drains] == queue]
        kept[queue] = _places(reads, rows)
        looks: list[Int] = []  # what each round's whole read showed, and what all its tries together did
        read_by: list[int] = []
        for number in (2 * last_turn - 1, 2 * last_turn):
            mine = rows[reads.round[rows] == number]
            whole = mine[(reads.complete[mine] == 1) & (reads.type[mine] == OK)]
            seen, tried = _places(reads, whole), _places(reads, mine)
            hits = seen[entries.value[seen] == last_mark]
            if not len(whole):
                reasons.append(f"D6: drain {number} did not run to its end")
            elif not len(hits):
                reasons.append(f"D6: drain {number} never saw the sentinel")
            elif int(reads.begin[whole].max()) < placed_at:
                reasons.append(f"D6: drain {number} had begun before the sentinel was answered")
            else:
                sentinel[queue] = max(int(sentinel[queue]), int(entries.offset[hits].max()))
                looks += [_pairs(history, seen), _pairs(history, tried)]
                read_by += [int(reads.returned[row]) for row in mine]
        if len(looks) == 4:
            last = int(sentinel[queue])
            others = [
                np.setxor1d(looks[0], look, assume_unique=True)
                for look in looks[1:]
                if not np.array_equal(looks[0], look)
            ]
            offsets, values = np.divmod(distinct(np.concatenate([looks[0][:0], *others])), len(history.values) + 1)
            differing = np.flatnonzero(offsets <= last)
            if len(differing):
                shown = tuple(int(value) - 1 for value in values[differing][:8])
                unstable.append(Unstable(queue, int(offsets[differing[0]]), shown, tuple(read_by)))
                reasons.append("D6: the two drains differ")
        decided[queue] = not reasons
        if reasons:
            why[queue] = tuple(reasons)
    return Drain(steps, decided, why, kept, sentinel, asked, tuple(unstable), excluded, final)


def _places(reads: Reads, rows: Int) -> Int:
    """Return the rows of `Entries` that these reads returned."""
    places = [np.arange(reads.start[row], reads.stop[row]) for row in rows]
    return np.concatenate(places) if places else np.zeros(0, dtype=np.int64)


def _pairs(history: History, rows: Int) -> Int:
    """Return a number for each distinct (offset, value) of some rows of `Entries`, in their order."""
    entries = history.entries
    return distinct(entries.offset[rows] * (len(history.values) + 1) + entries.value[rows] + 1)


def promises(history: History) -> Mask:
    """Mark the sends that were answered with a promise: SEND_OK, or ok where the system knows no statuses."""
    sends = history.sends
    names = list(history.statuses)
    strong = names.index("SEND_OK") if "SEND_OK" in names else -2
    weak = list(history.acks).index("weak") if "weak" in history.acks else -2
    none = (sends.status < 0) & (sends.ack != weak)
    result: Mask = (sends.type == OK) & ((sends.status == strong) | none)
    return result
