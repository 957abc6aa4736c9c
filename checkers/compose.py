"""From a history to a verdict: runs every checker, keeps a crash of one from hurting the others, and composes.

Judging a stored history again gives the identical verdict: no checker looks at a clock or at chance. Only the cost
(and a budget that was passed, which makes a checker unknown) depends on the machine.
"""

from __future__ import annotations

import resource
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Final

from checkers.append_log import check_append_log
from checkers.availability import check_availability
from checkers.builder import build_history, load_history
from checkers.columns import History
from checkers.consumer_offsets import check_consumer_offsets
from checkers.delivery import check_delivery
from checkers.dirty_reads import check_dirty_reads
from checkers.durability import check_durability
from checkers.event import Event
from checkers.facts import Facts, gather
from checkers.fault_proof import check_fault_proof
from checkers.fifo_queue import check_fifo_queue, has_streams
from checkers.latency import check_latency
from checkers.leaders import check_leaders
from checkers.loss import check_loss
from checkers.positions import check_positions
from checkers.process_health import check_process_health
from checkers.progress import check_progress
from checkers.queue_log import check_queue_log
from checkers.registers import REGISTER_OPERATIONS, check_registers
from checkers.replica_log import check_replica_log
from checkers.routes import check_routes
from checkers.set_reads import check_set, check_set_full
from checkers.total_queue import check_total_queue
from checkers.verdict import Cost, Record, Validity, Verdict, worst
from checkers.wellformed import check_wellformed, is_broken


@dataclass(frozen=True, slots=True)
class Checker:
    """One checker: its name, what it asks in a few words, and the function that judges the facts of a run.

    `applies` tells for which runs it asks anything at all; one that is required or named runs in any case.
    """

    name: str
    title: str
    check: Callable[[Facts], Record]
    applies: Callable[[Facts], bool] = lambda facts: True


def is_raft(facts: Facts) -> bool:
    """Tell whether the groups of a run are Raft groups."""
    return facts.history.meta.mode == "dledger"


def has_terms(facts: Facts) -> bool:
    """Tell whether the groups of a run find their leaders by themselves, one a term."""
    return facts.history.meta.mode in ("dledger", "controller")


def has(*names: str) -> Callable[[Facts], bool]:
    """Return a test for runs that hold events or operations of one of these kinds."""
    return lambda facts: any(facts.history.lab(name) for name in names)


def has_answer(*names: str) -> Callable[[Facts], bool]:
    """Return a test for runs in which an operation of one of these kinds ended ok."""
    return lambda facts: any(event.type == "ok" for name in names for event in facts.history.lab(name))


CHECKERS: Final[tuple[Checker, ...]] = (
    Checker("C0", "history and activity", check_wellformed),
    Checker("C19", "faults are proven", check_fault_proof),
    Checker("C1", "acknowledged messages survive", check_total_queue),
    Checker("C2", "a set keeps its elements", check_set, has("add")),
    Checker("C3", "elements of a set stay once known", check_set_full, has("add")),
    Checker("C4", "queues give first what was put in first", check_fifo_queue, has_streams),
    Checker("C5", "order of the log agrees with real time", check_append_log),
    Checker("C6", "queues read as they were written", check_queue_log),
    Checker("C7", "replicas agree", check_replica_log),
    Checker("C8", "one leader a term, and deposed ones are silent", check_leaders, has_terms),
    Checker("C9", "positions only go forward", check_positions, is_raft),
    Checker("C10", "each level of acknowledgement holds", check_durability),
    Checker(
        "C11", "consumer offsets are found again", check_consumer_offsets, has_answer("fetch-offset", "start-offset")
    ),
    Checker("C12", "nothing read is taken back", check_dirty_reads),
    Checker("C13", "registers are linearizable", check_registers, has(*REGISTER_OPERATIONS)),
    Checker("C14", "time to recover", check_availability),
    Checker("C15", "progress whenever a quorum is reachable", check_progress, is_raft),
    Checker("C16", "data lost per fault", check_loss),
    Checker("C17", "latency", check_latency),
    Checker("C18", "routes lead to who serves", check_routes, has("route")),
    Checker("C20", "processes stay healthy", check_process_health),
    Checker("delivery", "consumers get every promised message", check_delivery),
)
"""All checkers in the order they run."""

REQUIRED: Final = ("C0", "C1", "C5", "C6", "C7", "C16", "C19", "C20")
REQUIRED_DLEDGER: Final = ("C8", "C9", "C10", "C12", "C15")
REQUIRED_CONTROLLER: Final = ("C8", "C10", "C12")
ALWAYS: Final = ("C0", "C1", "C19")
"""No run can do without these, whatever it declares as not applicable."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What one checker may use: milliseconds of wall time and megabytes of additional memory."""

    wall_ms: float = 60_000.0
    memory_mb: float = 1024.0


INTERRUPTED: Final = "the run was interrupted; what there was until then is judged"
"""The last of a verdict's reasons where somebody stopped the run."""


def required_checkers(history: History) -> tuple[str, ...]:
    """Return the names of the checkers without which a run cannot be valid."""
    names = list(REQUIRED)
    names += {"dledger": REQUIRED_DLEDGER, "controller": REQUIRED_CONTROLLER}.get(history.meta.mode, ())
    if history.meta.consumer_groups:
        names.append("delivery")
    names += [name for name in history.meta.required if name not in names]
    return tuple(name for name in names if name in ALWAYS or name not in history.meta.not_applicable)


def _applies(checker: Checker, facts: Facts) -> bool:
    """Tell whether a checker asks anything of a run; one that cannot tell is run, and says why itself."""
    try:
        return checker.applies(facts)
    except Exception:
        return True


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_checker(checker: Checker, facts: Facts, budget: Budget) -> Record:
    """Run one checker; an exception or a passed budget makes its record unknown, never valid."""
    start, memory = perf_counter_ns(), _peak_mb()
    try:
        record = checker.check(facts)
    except Exception as error:
        record = Record(checker.name, checker.title, Validity.UNKNOWN, (f"the checker crashed: {_crash(error)}",))
    cost = Cost((perf_counter_ns() - start) / 1e6, _peak_mb() - memory, len(facts.history))
    over = []
    if cost.wall_ms > budget.wall_ms:
        over.append(f"the checker took more than its budget of {budget.wall_ms / 1000:g} s")
    if cost.peak_mb > budget.memory_mb:
        over.append(f"the checker took more than its budget of {budget.memory_mb:g} MB")
    if over:
        record = replace(record, valid=max(record.valid, Validity.UNKNOWN), reasons=(*record.reasons, *over))
    return replace(record, cost=cost)


def judge(
    history: History | Path | str | Iterable[Event],
    dumps_dir: Path | str | None = None,
    only: Sequence[str] | None = None,
    *,
    without: Sequence[str] = (),
    budget: Budget = Budget(),
) -> Verdict:
    """Judge a run.

    `history` is a file, events in memory or a loaded history; `dumps_dir` the folder that the names of its replica
    dumps are relative to (for a file: its own folder by default). `only` names the checkers to run, `without` those to
    leave out of what would run; leaving out a required one makes the verdict at most unknown. Raises `HistoryError`
    for a file that is no history at all, `KeyError` for a checker that does not exist, and `OSError` if a file cannot
    be opened.
    """
    known = [checker.name for checker in CHECKERS]
    for name in (*(only or ()), *without):
        if name not in known:
            raise KeyError(f"there is no checker {name}; there are {', '.join(known)}")
    if isinstance(history, (str, Path)):
        dumps_dir = Path(history).parent if dumps_dir is None else dumps_dir
        history = load_history(history)
    elif not isinstance(history, History):
        history = build_history(history)
    try:
        facts = gather(history, Path(dumps_dir) if dumps_dir is not None else None)
    except Exception as error:
        return _unreadable(history, error)
    required = required_checkers(history)
    wanted = [
        checker
        for checker in CHECKERS
        if (_applies(checker, facts) or checker.name in required if only is None else checker.name in only)
        and (checker.name in ALWAYS or checker.name not in history.meta.not_applicable)
        and checker.name not in without
    ]
    records = tuple(run_checker(checker, facts, budget) for checker in wanted)
    return compose(facts, records)


def _unreadable(history: History, error: Exception) -> Verdict:
    """Return the verdict over a history whose facts could not be worked out: our bug, so nothing is known."""
    return Verdict(
        valid=Validity.UNKNOWN,
        why=(f"the facts of the run could not be worked out: {_crash(error)}",),
        records=(),
        promise=promise_text(history),
        faults=(),
        seed=history.meta.seed,
        run=history.meta.run,
        headline=Validity.UNKNOWN.word,
        required=required_checkers(history),
        not_applicable=dict(history.meta.not_applicable),
    )


def _crash(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"


def compose(facts: Facts, records: Sequence[Record]) -> Verdict:
    """Compose the records of one run into its verdict."""
    history = facts.history
    required = required_checkers(history)
    ran = {record.checker for record in records}
    missing = [name for name in required if name not in ran]
    valid = worst(record.valid for record in records)
    if missing:
        valid = max(valid, Validity.UNKNOWN)
    broken = is_broken(history)
    if broken:
        valid = Validity.UNKNOWN
    return Verdict(
        valid=valid,
        why=_why(facts, records, missing, broken, valid),
        records=tuple(records),
        promise=promise_text(history),
        faults=tuple(fault_table(facts, records)),
        seed=history.meta.seed,
        run=history.meta.run,
        headline=_headline(records, valid),
        required=required,
        not_applicable=dict(history.meta.not_applicable),
    )


def _headline(records: Sequence[Record], valid: Validity) -> str:
    """Return the verdict line: the word, and how C5 judged."""
    order = next((record for record in records if record.checker == "C5"), None)
    mode = f" — order: {order.mode}" if order is not None and order.mode else ""
    return f"{valid.word}{mode}"


def _why(
    facts: Facts, records: Sequence[Record], missing: Sequence[str], broken: bool, valid: Validity
) -> tuple[str, ...]:
    interrupted = (INTERRUPTED,) if facts.span.interrupted else ()
    reasons = list(interrupted if valid is not Validity.INVALID else ())  # what explains most comes first
    if broken:
        first = next((record for record in records if record.checker == "C0"), None)
        detail = f": {first.reasons[0]}" if first is not None and first.reasons else ""
        reasons.append(f"the history is broken, so nothing it shows can be relied on{detail}")
    reasons.extend(_survival(next((record for record in records if record.checker == "C1"), None), valid))
    for level in (Validity.INVALID, Validity.UNKNOWN):
        for record in records:
            if record.valid is level:
                reasons.extend(f"{record.checker} ({record.title}): {reason}" for reason in record.reasons)
    reasons.extend(f"{name} is required and did not run" for name in missing)
    reasons.extend(interrupted)
    return tuple(dict.fromkeys(reasons))


def _survival(c1: Record | None, valid: Validity) -> list[str]:
    """Say first what everybody asks first: what became of the promised messages, and of the others."""
    if c1 is None:
        return []
    counts = c1.counts
    promised, weak = counts.get("SEND_OK", 0), counts.get("weaker status", 0)
    gone = counts.get("lost", 0) + counts.get("vanished", 0)
    weak_gone = counts.get("lost-weak (note)", 0)
    lines: list[str] = []
    if gone:
        lines.append(f"{gone} of {promised} messages answered SEND_OK are gone")
    elif valid is Validity.VALID:
        lines.append(
            f"all {promised} messages answered SEND_OK were there at the end, in order, and every required check passed"
        )
    if weak:
        rest = f"{weak_gone} of them are gone" if weak_gone else "none of them is proven gone"
        lines.append(f"{weak} messages were answered with a weaker status, which promises nothing; {rest}")
    return lines


def promise_text(history: History) -> str:
    """Return what SEND_OK meant in this run, in words; flaws that were planted belong to it."""
    alone = [
        name for name, group in sorted(history.meta.groups.items()) if group.role == "SYNC_MASTER" and group.copies <= 1
    ]
    warning = f" (SYNC_MASTER of {', '.join(alone)} waits for nobody: inSyncReplicas is 1)" if alone else ""
    if history.meta.weakened:
        warning += f". Weakened by {'; by '.join(history.meta.weakened)}"
    if history.meta.flaws:
        planted = ", ".join(history.meta.flaws)
        warning += f". Flaws are planted ({planted}), so this says nothing of a cluster without them"
    if history.meta.promise:
        return history.meta.promise + warning
    parts = []
    for name, group in sorted(history.meta.groups.items()):
        copies = "one copy" if group.copies <= 1 else f"{group.copies} copies"
        synced = group.flush == "SYNC_FLUSH"
        if history.meta.elects(name) == "majority":
            disk = "synced" if synced else "written and not synced: weaker, a majority that loses power may lose it"
            parts.append(f"{name}: SEND_OK means {copies} of {len(group.electors)}, {disk}")
            continue
        disk = "on disk (fsync)" if synced else "in the page cache: weaker, a loss of power may take it"
        parts.append(f"{name}: SEND_OK means {copies}, the primary's {disk}")
    return ("; ".join(parts) or "only SEND_OK is a promise") + warning


def fault_table(facts: Facts, records: Sequence[Record]) -> list[Mapping[str, Any]]:
    """Return one row a fault: what was done, its proofs, its RTO and its RPO."""
    service: dict[str, Any] = {}
    consumers: dict[str, Any] = {}
    losses: dict[str, Any] = {}
    for record in records:
        if record.checker == "C14":
            service = record.details.get("service", {})
            consumers = {
                row["fault"]: row for row in record.details.get("recoveries", ()) if row["scope"] == "delivery"
            }
        if record.checker == "C16":
            losses = {row["fault"]: row for row in record.details.get("losses", ())}
    return [
        {
            "id": window.id,
            "kind": window.kind,
            "title": window.title,
            "asked": window.asked,
            "targets": list(window.targets),
            "done": window.done,
            "from": [window.a1 / 1e9, window.a2 / 1e9],
            "to": [window.h1 / 1e9, window.h2 / 1e9],
            "healed": window.heal_seen,
            "permanent": window.permanent,
            "injection proven": window.injected.value,
            "healing proven": window.healed.value,
            "rto": service.get(window.id),
            "consumer rto": consumers.get(window.id),
            "rpo": losses.get(window.id),
            "evidence": dict(window.evidence),
        }
        for window in facts.windows
    ]
