"""Measures the judging of a large history: `python -m checkers.bench [OPERATIONS]`, or `measure()` from a program.

With `--all` it is all checkers over a run of a Raft group with its dumps (`bench_all`).

The history is synthetic and legal: senders and readers on several queues, some unknown outcomes, two whole drains.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import click

from checkers.append_log import check_append_log
from checkers.bench_all import measure_all
from checkers.builder import load_history
from checkers.event import Event
from checkers.facts import gather
from checkers.files import HistoryWriter
from checkers.queue_log import check_queue_log
from checkers.total_queue import check_total_queue

OPERATIONS: Final = 1_000_000
GOAL_SECONDS: Final = 20.0
GOAL_MB: Final = 1500.0
QUEUES: Final = 8
BATCH: Final = 4
STEP_NS: Final = 20_000
UNKNOWN_EVERY: Final = 997


@dataclass(frozen=True, slots=True)
class Judged:
    """What judging one history cost: seconds by stage and the peak memory of the process that did it."""

    operations: int
    events: int
    file_mb: float
    load_s: float
    facts_s: float
    c1_s: float
    c5_s: float
    c6_s: float
    peak_mb: float
    verdicts: dict[str, str]

    @property
    def checkers_s(self) -> float:
        """Seconds of C1, C5 and C6 with the facts they share, without reading the file."""
        return self.facts_s + self.c1_s + self.c5_s + self.c6_s

    @property
    def total_s(self) -> float:
        """Seconds from the file on disk to the three records."""
        return self.load_s + self.checkers_s

    @property
    def met(self) -> bool:
        """Tell whether the goal for a million operations is met, the reading of the file included."""
        return self.total_s < GOAL_SECONDS and self.peak_mb < GOAL_MB

    def to_json(self) -> dict[str, Any]:
        """Return plain values for bench.json."""
        return {
            "operations": self.operations,
            "events": self.events,
            "file_mb": round(self.file_mb, 1),
            "load_s": round(self.load_s, 2),
            "facts_s": round(self.facts_s, 2),
            "c1_s": round(self.c1_s, 2),
            "c5_s": round(self.c5_s, 2),
            "c6_s": round(self.c6_s, 2),
            "total_s": round(self.total_s, 2),
            "peak_mb": round(self.peak_mb),
            "goal_s": GOAL_SECONDS,
            "goal_mb": GOAL_MB,
            "met": self.met,
            "verdicts": self.verdicts,
        }


def synthetic_events(operations: int = OPERATIONS) -> Iterator[Event]:
    """Yield a legal history with about that many client operations: four sends for each poll of four messages."""
    names = [f"bench/broker-a/{number}" for number in range(QUEUES)]
    groups = {"broker-a": {"nodes": ["broker-a-0"], "copies": 1, "flush": "ASYNC_FLUSH", "role": "ASYNC_MASTER"}}
    meta = {"format": 1, "run": "bench", "groups": groups, "topics": {"bench": {"broker-a": QUEUES}}, "seed": 1}
    time = 0

    def lab(f: str, value: Any) -> Event:
        return Event(0, time, "lab", "info", f, value)

    yield lab("meta", meta)
    yield lab("phase", "load-begin")
    logs: list[list[str]] = [[] for _ in names]
    read = [0] * QUEUES
    senders = list(range(QUEUES))
    readers = [1000 + number for number in range(QUEUES)]
    next_process = 2000
    done = count = 0
    while done < operations:
        queue = done % QUEUES
        name = names[queue]
        for _ in range(BATCH):
            process = senders[queue]
            value = f"bench/{process}/{count}"
            count += 1
            time += STEP_NS
            yield Event(0, time, process, "invoke", "send", value, queue=name, intended=time)
            time += STEP_NS
            if count % UNKNOWN_EVERY == 0:
                yield Event(0, time, process, "info", "send", value, error={"phase": "reply", "code": "timeout"})
                senders[queue] = next_process
                next_process += 1
                if count % (2 * UNKNOWN_EVERY) == 0:
                    continue
            else:
                yield Event(
                    0, time, process, "ok", "send", value, queue=name, offset=len(logs[queue]), status="SEND_OK",
                    ack="local", flushed=False, node="10.0.0.1:10911", epoch=1, attempts=1,
                )  # fmt: skip
            logs[queue].append(value)
        process = readers[queue]
        time += STEP_NS
        yield Event(0, time, process, "invoke", "poll", queue=name, mode="assign")
        time += STEP_NS
        start, read[queue] = read[queue], len(logs[queue])
        batch = [[offset, logs[queue][offset]] for offset in range(start, read[queue])]
        yield Event(0, time, process, "ok", "poll", {name: batch}, queue=name, mode="assign", node="10.0.0.1:10911")
        done += BATCH + 1
    yield lab("phase", "load-end")
    for rule in ("D1", "D2", "D3", "D4", "D5", "D6", "D7", "D9", "D10"):
        yield lab("drain-step", {"rule": rule, "scope": "*", "ok": True, "detail": ""})
    for queue, name in enumerate(names):
        process, value = 1_000_000 + queue, f"bench/sentinel/{queue}"
        time += STEP_NS
        yield Event(0, time, process, "invoke", "send", value, queue=name, sentinel=True)
        time += STEP_NS
        end = len(logs[queue])
        yield Event(
            0, time, process, "ok", "send", value, queue=name, sentinel=True, offset=end, status="SEND_OK",
            ack="local", node="10.0.0.1:10911", epoch=1,
        )  # fmt: skip
        logs[queue].append(value)
        for number in (1, 2):
            time += STEP_NS
            yield Event(0, time, process + 100 * number, "invoke", "drain", queue=name, round=number)
            time += STEP_NS
            content = {name: [[offset, value] for offset, value in enumerate(logs[queue])]}
            yield Event(
                0, time, process + 100 * number, "ok", "drain", content, queue=name, round=number, complete=True,
                sentinel=end,
            )  # fmt: skip
    yield lab("phase", "drain-end")


def write_synthetic(path: Path, operations: int = OPERATIONS) -> None:
    """Write such a history to a file."""
    out = HistoryWriter(path)
    with out:
        for event in synthetic_events(operations):
            out.append(event)


def judge_file(path: Path, operations: int) -> Judged:
    """Load a history and run C1, C5 and C6 over it in this process."""
    start = perf_counter()
    history = load_history(path)
    loaded = perf_counter()
    facts = gather(history)
    gathered = perf_counter()
    c1 = check_total_queue(facts)
    after_c1 = perf_counter()
    c5 = check_append_log(facts)
    after_c5 = perf_counter()
    c6 = check_queue_log(facts)
    after_c6 = perf_counter()
    return Judged(
        operations=operations,
        events=len(history),
        file_mb=path.stat().st_size / 1e6,
        load_s=loaded - start,
        facts_s=gathered - loaded,
        c1_s=after_c1 - gathered,
        c5_s=after_c5 - after_c1,
        c6_s=after_c6 - after_c5,
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        verdicts={record.checker: record.valid.word for record in (c1, c5, c6)},
    )


def measure(operations: int = OPERATIONS, folder: Path | None = None) -> Judged:
    """Write a history of that size and judge it in a process of its own, so that the peak memory is its own."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = Path(name) / "history.jsonl.zst"
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            pool.apply(write_synthetic, (path, operations))
        with context.Pool(1) as pool:
            return pool.apply(judge_file, (path, operations))


@click.command()
@click.argument("operations", type=click.IntRange(min=100), default=OPERATIONS)
@click.option("--all", "everything", is_flag=True, help="All checkers, over a Raft group with the dumps of 3 replicas.")
def main(operations: int, everything: bool) -> None:
    """Judge a synthetic history of OPERATIONS client operations and print what it cost, as JSON."""
    judged = measure_all(operations) if everything else measure(operations)
    click.echo(json.dumps(judged.to_json(), indent=1))


if __name__ == "__main__":
    main()
