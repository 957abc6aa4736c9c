"""Everything the checkers ask about a run, worked out once: windows, phases, drain, logs and replicas."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from checkers.columns import OK, History, Int, Mask
from checkers.drain import Drain, judge_drain, promises, queue_scopes, split_queue
from checkers.dumps import Replicas, load_replicas, replicas_decide
from checkers.logs import QueueLogs, queue_logs
from checkers.observations import Observed, observe
from checkers.windows import Phases, Window, phases, windows


@dataclass(frozen=True, slots=True, eq=False)
class Lost:
    """Rows of `Sends` whose values did not survive, or may not have.

    `lost` were promised and nobody ever saw them, `vanished` were promised and seen and are gone from the log; both
    are proven. `undecided` were promised and are missing, seen before or not, where the drain proves nothing. `weak`
    were answered ok with a weaker status and are proven gone (never seen, or seen and gone); `weak_undecided` missing
    but unproven.
    """

    lost: Int
    vanished: Int
    undecided: Int
    weak: Int
    weak_undecided: Int


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """A history with all that follows from it. `promised` and `weak` mark rows of `Sends`; `send_queue` names the
    queue a send went to, and `send_term` the term in which it was answered, by the best knowledge there is (-1: none).
    """

    history: History
    span: Phases
    windows: tuple[Window, ...]
    drain: Drain
    logs: QueueLogs
    replicas: Replicas
    promised: Mask
    weak: Mask
    send_queue: Int
    send_term: Int
    lost: Lost
    observed: Observed

    def queue_name(self, queue: int) -> str:
        """Return a queue's name, also for one that only a dump has shown."""
        names = self.history.queues if queue < len(self.history.queues) else self.replicas.queue_names
        return names[queue] if 0 <= queue < len(names) else "*"

    def group_of(self, queue: int) -> str:
        """Return the broker group of a queue."""
        return split_queue(self.queue_name(queue))[1] if queue >= 0 else ""

    def step(self, rule: str, queue: int) -> bool | None:
        """Tell whether a drain rule was kept for a queue; None if the lab never said."""
        return self.drain.step(rule, queue_scopes(self.queue_name(queue)))


def _decidable_by_replicas(history: History, drain: Drain, replicas: Replicas) -> dict[int, Mask]:
    """Return for queues without a decidable drain what the replicas hold, where they alone decide (rule D7)."""
    decided: dict[int, Mask] = {}
    groups: dict[str, Mask | None] = {}
    for queue, reasons in drain.why.items():
        name = history.queues[queue]
        scopes = queue_scopes(name)
        healed = not any(reason.startswith(("D2", "D3", "D10")) for reason in reasons)
        if not healed or drain.step("D7", scopes) is not True:
            continue
        group = split_queue(name)[1]
        if group not in groups:
            groups[group] = replicas_decide(history, replicas, drain.excluded, group)
        held = groups[group]
        if held is not None:
            decided[queue] = held
    return decided


def _losses(history: History, drain: Drain, logs: QueueLogs, replicas: Replicas, queue: Int, promised: Mask) -> Lost:
    sends = history.sends
    by_replicas = _decidable_by_replicas(history, drain, replicas)
    seen = logs.seen[sends.value]
    kept = logs.drained[sends.value]
    known = queue >= 0
    decided = np.where(known, drain.decided[queue] if len(drain.decided) else False, bool(drain.decided.all()))
    # A sentinel, or a dump, tells nothing of a send that was answered after it had been sent, or made.
    load = sends.sentinel == 0
    begun = np.where(known, drain.asked[queue] if len(drain.asked) else -1, -1)
    late = load & (begun >= 0) & (sends.returned > begun)
    decided = decided.astype(bool) & ~late
    gone = ~kept & decided
    for number, held in by_replicas.items():
        read = min(dump.index for dump in replicas.final[split_queue(history.queues[number])[1]])
        here = (queue == number) & ~decided & ~(load & (sends.returned > read))
        gone |= here & ~held[sends.value] & ~kept
        decided |= here
    weak = (sends.type == 1) & ~promised
    missing = ~kept & ~decided
    return Lost(
        lost=np.flatnonzero(promised & gone & ~seen),
        vanished=np.flatnonzero(promised & gone & seen),
        undecided=np.flatnonzero(promised & missing),
        weak=np.flatnonzero(weak & gone),
        weak_undecided=np.flatnonzero(weak & missing),
    )


def _send_terms(history: History, replicas: Replicas) -> Int:
    """Return for each send the term in which it was answered: by the answer, or else by its record.

    In a Raft group a leader answers only for what it appended in its own term, and that term is part of the record
    (section 5.3); so does a master that a controller appointed, whose epochs are a table of log offsets beside the log.
    A record that replicas know under several terms, or under none, tells nothing.
    """
    sends = history.sends
    term = sends.epoch.astype(np.int64)
    rows = np.flatnonzero((sends.type == OK) & (term < 0) & (sends.queue >= 0) & (sends.offset >= 0))
    if history.meta.mode not in ("dledger", "controller") or not len(rows):
        return term
    first = 1 if history.meta.mode == "controller" else 0  # there 0 is what stands before the table's first epoch
    disputed = np.zeros(len(sends), dtype=bool)
    wanted = _places(sends.queue[rows].astype(np.int64), sends.offset[rows])
    for dump in (dump for dumps in replicas.final.values() for dump in dumps):
        held = np.flatnonzero((dump.queue >= 0) & (dump.queue_offset >= 0) & (dump.value >= 0))
        if not len(held):
            continue
        places = _places(dump.queue[held], dump.queue_offset[held])
        order = np.argsort(places, kind="stable")
        at = np.minimum(np.searchsorted(places[order], wanted), len(held) - 1)
        found = held[order[at]]
        hit = (places[order[at]] == wanted) & (dump.value[found] == sends.value[rows]) & (dump.epoch[found] >= first)
        told, mine = dump.epoch[found[hit]], rows[hit]
        disputed[mine] |= (term[mine] >= 0) & (term[mine] != told)
        term[mine] = told
    term[disputed] = -1
    return term


def _places(queue: Int, offset: Int) -> Int:
    """Return one number for each (queue, offset)."""
    return queue * 2**40 + offset


def gather(history: History, dumps: Path | None = None) -> Facts:
    """Work out the facts of a history; `dumps` is the folder its dump files are in."""
    span = phases(history)
    faults = windows(history, span)
    drain = judge_drain(history, faults, span.load_end if "load-end" in span.seen else 0)
    logs = queue_logs(history, faults, drain)
    replicas = load_replicas(history, dumps)
    promised = promises(history)
    sends = history.sends
    queue = np.where(sends.queue >= 0, sends.queue, sends.asked).astype(np.int64)
    return Facts(
        history=history,
        span=span,
        windows=faults,
        drain=drain,
        logs=logs,
        replicas=replicas,
        promised=promised,
        weak=(sends.type == 1) & ~promised,
        send_queue=queue,
        send_term=_send_terms(history, replicas),
        lost=_losses(history, drain, logs, replicas, queue, promised),
        observed=observe(history),
    )
