"""Measures all checkers together over a large run of a Raft group with the dumps of its three replicas.

`python -m checkers.bench --all [OPERATIONS]`, or `measure_all()` from a program. The run is synthetic and legal:
senders and readers on several queues, two kills of the leader, status of every node, routes, elections, two drains.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final

from checkers.builder import load_history
from checkers.compose import CHECKERS, Budget, compose, required_checkers, run_checker
from checkers.event import Event
from checkers.facts import gather
from checkers.files import HistoryWriter, LineWriter

GOAL_SECONDS: Final = 30.0
GOAL_MB: Final = 2048.0
QUEUES: Final = 8
BATCH: Final = 4
STEP_NS: Final = 20_000
UNKNOWN_EVERY: Final = 997
STATUS_NS: Final = 20_000_000
SIZE: Final = 300
GROUP: Final = "broker-a"
NODES: Final = tuple(f"{GROUP}-{number}" for number in range(3))
SERVERS: Final = ("namesrv-1", "namesrv-2", "namesrv-3")
TOPIC: Final = "bench"


@dataclass(frozen=True, slots=True)
class Judged:
    """What judging one run by all checkers cost: seconds by stage and checker, and what the process used in all.

    On a machine that does other things, `cpu_s` tells what the work itself took.
    """

    operations: int
    events: int
    records: int
    files_mb: float
    load_s: float
    facts_s: float
    checkers_s: dict[str, float]
    cpu_s: float
    peak_mb: float
    verdict: str
    verdicts: dict[str, str]

    @property
    def total_s(self) -> float:
        """Seconds from the files on disk to the verdict."""
        return self.load_s + self.facts_s + sum(self.checkers_s.values())

    @property
    def met(self) -> bool:
        """Tell whether the goal for a million operations is met, the reading of all files included."""
        return self.total_s < GOAL_SECONDS and self.peak_mb < GOAL_MB

    def to_json(self) -> dict[str, Any]:
        """Return plain values for bench.json."""
        return {
            "operations": self.operations,
            "events": self.events,
            "dumped records": self.records,
            "files_mb": round(self.files_mb, 1),
            "load_s": round(self.load_s, 2),
            "facts_s": round(self.facts_s, 2),
            "checkers_s": {name: round(spent, 2) for name, spent in self.checkers_s.items()},
            "total_s": round(self.total_s, 2),
            "cpu_s": round(self.cpu_s, 2),
            "peak_mb": round(self.peak_mb),
            "goal_s": GOAL_SECONDS,
            "goal_mb": GOAL_MB,
            "met": self.met,
            "verdict": self.verdict,
            "verdicts": self.verdicts,
        }


class _Run:
    """A legal run in the making: the log of the group, and who leads."""

    def __init__(self, operations: int) -> None:
        self.operations = operations
        self.names = [f"{TOPIC}/{GROUP}/{number}" for number in range(QUEUES)]
        self.queues: list[list[str]] = [[] for _ in self.names]
        self.log: list[tuple[int, int, str]] = []  # queue, queue offset, value
        self.terms: list[tuple[int, str, int]] = [(1, NODES[0], 0)]
        self.time = 0
        self.sampled = 0
        self.dead: str | None = None
        self.lives = dict.fromkeys(NODES, 1)

    @property
    def leader(self) -> str:
        return self.terms[-1][1]

    @property
    def term(self) -> int:
        return self.terms[-1][0]

    def lab(self, f: str, value: Any) -> Event:
        return Event(0, self.time, "lab", "info", f, value)

    def step(self) -> int:
        self.time += STEP_NS
        return self.time

    def append(self, queue: int, value: str) -> int:
        offset = len(self.queues[queue])
        self.queues[queue].append(value)
        self.log.append((queue, offset, value))
        return offset

    def status(self) -> Iterator[Event]:
        """Ask every node and every name server, each time the interval has passed."""
        if self.time - self.sampled < STATUS_NS:
            return
        self.sampled = self.time
        end = len(self.log) * SIZE
        reach = {name: [0, len(queue)] for name, queue in zip(self.names, self.queues, strict=True)}
        for node in NODES:
            asked = self.time
            self.step()
            said = {"node": node, "group": GROUP, "incarnation": self.lives[node], "t_asked": asked}
            if node == self.dead:
                yield self.lab("status", {**said, "answered": False})
                continue
            leads = node == self.leader
            yield self.lab("status", {
                **said, "answered": True, "role": "leader" if leads else "follower", "serving": leads,
                "term": self.term, "leader": self.leader, "begin": 0, "end": end, "durable": end, "commit": end,
                "queues": reach,
            })  # fmt: skip
        for server in SERVERS:
            asked = self.time
            self.step()
            groups = {GROUP: {"brokers": {"0": self.leader}, "term": self.term, "queues": QUEUES}}
            yield self.lab("route", {
                "ns": server, "incarnation": 1, "from": "lab", "t_asked": asked, "answered": True, "topic": TOPIC,
                "groups": groups,
            })  # fmt: skip

    def fault(self, name: str, action: str, node: str) -> Iterator[Event]:
        """Kill the leader, so that the next node leads; or start the dead one again."""
        value = {"id": name, "action": action, "kind": "kill", "asked": node}
        yield Event(0, self.step(), f"nemesis/{name}", "info", "kill", value)
        if action == "inject":
            self.dead = node
            number = (NODES.index(node) + 1) % len(NODES)
            self.terms.append((self.term + 1, NODES[number], len(self.log) * SIZE))
        else:
            self.dead = None
            self.lives[node] += 1
        done = {"targets": [node], "done": action, "t_done": self.step(), "verified": True, "evidence": {}}
        yield Event(0, self.time, f"nemesis/{name}", "info", "kill", {**value, **done})
        if action == "inject":
            said = {"group": GROUP, "incarnation": 1, "term": self.term, "t": self.time}
            for voter in NODES:
                if voter != node:
                    yield self.lab("election", {**said, "node": voter, "event": "granted", "to": self.leader})
            yield self.lab("election", {**said, "node": self.leader, "event": "elected"})


def raft_events(operations: int, run: _Run) -> Iterator[Event]:
    """Yield a legal history of about so many client operations; `run` then holds the log for the dumps."""
    addresses = {f"10.0.0.{number}:10911": node for number, node in enumerate(NODES, 1)}
    address = {node: name for name, node in addresses.items()}
    groups = {GROUP: {"nodes": list(NODES), "copies": 2, "flush": "SYNC_FLUSH", "role": "LEADER"}}
    yield run.lab("meta", {
        "format": 1, "run": "bench", "mode": "dledger", "groups": groups, "topics": {TOPIC: {GROUP: QUEUES}}, "seed": 1,
        "addresses": addresses, "clients": ["client-1"], "name_servers": list(SERVERS),
        "progress": {"grace_s": 1, "window_s": 1}, "routing": {"register_s": 1, "slack_s": 1},
    })  # fmt: skip
    yield run.lab("phase", "load-begin")
    read = [0] * QUEUES
    senders = list(range(QUEUES))
    readers = [1000 + number for number in range(QUEUES)]
    next_process, done, count = 2000, 0, 0
    faults = [(operations * part // 10, name, action) for part, name, action in (
        (2, "f1", "inject"), (4, "f1", "heal"), (6, "f2", "inject"), (8, "f2", "heal")
    )]  # fmt: skip
    while done < operations:
        while faults and done >= faults[0][0]:
            _, name, action = faults.pop(0)
            yield from run.fault(name, action, run.leader if action == "inject" else str(run.dead))
        yield from run.status()
        queue = (done // (BATCH + 1)) % QUEUES
        name = run.names[queue]
        for _ in range(BATCH):
            process = senders[queue]
            value = f"bench/{process}/{count}"
            count += 1
            run.step()
            yield Event(0, run.time, process, "invoke", "send", value, queue=name, intended=run.time)
            run.step()
            if count % UNKNOWN_EVERY == 0:
                yield Event(0, run.time, process, "info", "send", value, error={"phase": "reply", "code": "timeout"})
                senders[queue] = next_process
                next_process += 1
                if count % (2 * UNKNOWN_EVERY) == 0:
                    continue
                run.append(queue, value)
                continue
            yield Event(
                0, run.time, process, "ok", "send", value, queue=name, offset=run.append(queue, value),
                status="SEND_OK", ack="replicated", flushed=True, node=address[run.leader], epoch=run.term, attempts=1,
            )  # fmt: skip
        yield Event(0, run.step(), readers[queue], "invoke", "poll", queue=name, mode="assign")
        start, read[queue] = read[queue], len(run.queues[queue])
        batch = [[offset, run.queues[queue][offset]] for offset in range(start, read[queue])]
        yield Event(
            0, run.step(), readers[queue], "ok", "poll", {name: batch}, queue=name, mode="assign",
            node=address[run.leader],
        )  # fmt: skip
        done += BATCH + 1
    yield run.lab("phase", "load-end")
    for rule in ("D1", "D2", "D3", "D4", "D5", "D6", "D7", "D9", "D10"):
        yield run.lab("drain-step", {"rule": rule, "scope": "*", "ok": True, "detail": ""})
    for queue, name in enumerate(run.names):
        process, value = 1_000_000 + queue, f"bench/sentinel/{queue}"
        yield Event(0, run.step(), process, "invoke", "send", value, queue=name, sentinel=True)
        end = run.append(queue, value)
        yield Event(
            0, run.step(), process, "ok", "send", value, queue=name, sentinel=True, offset=end, status="SEND_OK",
            ack="replicated", node=address[run.leader], epoch=run.term,
        )  # fmt: skip
        for number in (1, 2):
            yield Event(0, run.step(), process + 100 * number, "invoke", "drain", queue=name, round=number)
            content = {name: [[offset, value] for offset, value in enumerate(run.queues[queue])]}
            yield Event(
                0, run.step(), process + 100 * number, "ok", "drain", content, queue=name, round=number, complete=True,
                sentinel=end,
            )  # fmt: skip
    end = len(run.log) * SIZE
    table = [[number, leader, start] for number, leader, start in run.terms]
    for node in NODES:
        run.step()
        yield run.lab("dump", {
            "group": GROUP, "node": node, "file": f"{node}.jsonl.zst", "begin": 0, "end": end, "commit": end,
            "epochs": table, "complete": True,
        })  # fmt: skip
    yield run.lab("phase", "drain-end")


def write_run(folder: Path, operations: int) -> None:
    """Write the history and the three dumps of such a run into a folder."""
    run = _Run(operations)
    history = HistoryWriter(folder / "history.jsonl.zst")
    with history:
        for event in raft_events(operations, run):
            history.append(event)
    starts = [start for _, _, start in run.terms]
    for node in NODES:
        with LineWriter(folder / f"{node}.jsonl.zst") as out:
            place = 0
            for number, (queue, offset, value) in enumerate(run.log):
                where = number * SIZE
                while place + 1 < len(starts) and where >= starts[place + 1]:
                    place += 1
                out.write({"o": where, "s": SIZE, "d": f"{number * 2654435761 % 2**56:015x}", "t": run.terms[place][0],
                           "q": run.names[queue], "k": offset, "v": value, "x": True})  # fmt: skip


def judge_run(folder: Path, operations: int) -> Judged:
    """Judge such a run by every checker that applies, in this process."""
    start = perf_counter()
    history = load_history(folder / "history.jsonl.zst")
    loaded = perf_counter()
    facts = gather(history, folder)
    gathered = perf_counter()
    spent: dict[str, float] = {}
    records = []
    for checker in CHECKERS:
        if checker.applies(facts) or checker.name in required_checkers(history):
            before = perf_counter()
            records.append(run_checker(checker, facts, Budget()))
            spent[checker.name] = perf_counter() - before
    verdict = compose(facts, records)
    return Judged(
        operations=operations,
        events=len(history),
        records=sum(len(dump) for dump in facts.replicas.dumps),
        files_mb=sum(path.stat().st_size for path in folder.iterdir()) / 1e6,
        load_s=loaded - start,
        facts_s=gathered - loaded,
        checkers_s=spent,
        cpu_s=process_time(),
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        verdict=verdict.valid.word,
        verdicts={record.checker: record.valid.word for record in records},
    )


def measure_all(operations: int, folder: Path | None = None) -> Judged:
    """Write a run of that size and judge it in a process of its own, so that the peak memory is its own."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            pool.apply(write_run, (Path(name), operations))
        with context.Pool(1) as pool:
            return pool.apply(judge_run, (Path(name), operations))
