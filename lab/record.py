"""What the lab itself writes into the history: phases, drain steps, exits, samples, log patterns, final states."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lab.cluster.supervisor import NodeExit
from lab.event import LAB
from lab.journal import Journal
from lab.meta import meta_value
from lab.plan import Plan
from lab.rundir import RunDir
from lab.systems.system import Listing, LogPattern, NodeStatus, System
from lab.topology import Topology, majority

STATUS_FIELDS: Final = (
    "role",
    "brokerId",
    "epoch",
    "epochs",
    "min",
    "max",
    "flushed",
    "slaveAck",
    "slaves",
    "confirm",
    "copies",
    "state",
    "flaws",
)
PATTERN_LINES_MAX: Final = 20  # of one pattern in one node's files; the rest says nothing new


class LabRecord:
    """The lab's own journal. Implements ``lab.drain.Recorder``."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.excluded: tuple[str, ...] = ()

    def meta(
        self,
        plan: Plan,
        topology: Topology,
        system: System,
        run: str,
        seed: int,
        threads: int,
        addresses: Mapping[str, str],
    ) -> None:
        """The first event: what this run is and what it promises."""
        self._write("meta", meta_value(plan, topology, system, run, seed, threads, addresses))

    def phase(self, name: str) -> None:
        """load-begin, load-end, drain-begin, drain-end or interrupted."""
        self._write("phase", name)

    def step(self, rule: str, scope: str, ok: bool, detail: str, excluded: Sequence[str]) -> None:
        """Whether one rule of the drain was kept in one scope."""
        value = {"rule": rule, "scope": scope, "ok": ok, "detail": detail, "excluded": list(excluded)}
        self._write("drain-step", value)

    def exit(self, ended: NodeExit) -> None:
        """The end of a node's process."""
        value = {"node": ended.node, "pid": ended.pid, "code": ended.code, "signal": ended.signal}
        self._write("node-exit", {**value, "expected": ended.expected, "fault": ended.fault})

    def status(
        self,
        node: str,
        group: str,
        incarnation: int,
        asked_ns: int,
        status: NodeStatus | None,
        topic: str,
        starved_ns: int | None = None,
    ) -> None:
        """What one broker answered, or that it did not; ``asked_ns`` is when it was asked, in the history's clock,
        ``starved_ns`` for how long this incarnation had no CPU so far although it was ready to run."""
        value: dict[str, Any] = {"node": node, "group": group, "incarnation": incarnation, "t_asked": asked_ns}
        value["answered"] = status is not None
        if starved_ns is not None:
            value["starved_ns"] = starved_ns
        if status is not None:
            value |= raft_status(status, topic, group) if status.raft is not None else appointed_status(status)
        self._write("status", value)

    def membership(self, group: str, status: NodeStatus) -> None:
        """A committed configuration of a group, as one of its members reported it first."""
        view = status.raft
        if view is None:
            return
        value: dict[str, Any] = {
            "group": group,
            "voters": sorted(view.voters),
            "learners": sorted(view.learners),
            "quorum": majority(len(view.voters)),
            "node": status.node,
            "term": view.term,
            "t": self.journal.now(),
        }
        self._write("membership", value)

    def route(
        self, ns: str, incarnation: int, asker: str, asked_ns: int, topic: str, groups: Mapping[str, Listing] | None
    ) -> None:
        """What a name server answered to ``asker`` (lab: the side channel), or that it did not."""
        value: dict[str, Any] = {"ns": ns, "incarnation": incarnation, "from": asker, "t_asked": asked_ns}
        value |= {"answered": groups is not None, "topic": topic}
        if groups is not None:
            value["groups"] = {
                name: {"brokers": dict(one.brokers), "term": one.term, "queues": one.queues}
                for name, one in groups.items()
            }
        self._write("route", value)

    def note(self, f: str, value: object) -> None:
        """Any other event of the lab."""
        self._write(f, value)

    def patterns(
        self, folder: RunDir, nodes: Sequence[str], patterns: Sequence[LogPattern], files: Sequence[str]
    ) -> None:
        """Look through the nodes' own logs for lines that must not be there; ``files`` as of `System.log_files`."""
        for node in nodes:
            for pattern, line in _matches(folder.node(node), patterns, files):
                value = {"node": node, "pattern": pattern.name, "line": line[:300], "severity": pattern.severity}
                self._write("log-pattern", value)

    def odd_setting(self, node: str, words: str) -> None:
        """A broker does not run with what its file says: what was tested is not what the plan asks for."""
        self._write(
            "log-pattern", {"node": node, "pattern": "effective-settings", "line": words, "severity": "unknown"}
        )

    def _write(self, f: str, value: object) -> None:
        self.journal.write(LAB, "info", f, value)


def appointed_status(status: NodeStatus) -> dict[str, Any]:
    """A master's or slave's own words."""
    return {key: status.raw.get(key) for key in STATUS_FIELDS}


def raft_status(status: NodeStatus, topic: str, group: str) -> dict[str, Any]:
    """A member of a group that elects, in the words of the history; what it does not say is left out."""
    view = status.raft
    if view is None:
        return {}
    queues = {
        f"{name}/{group}/{number}": [int(bounds["min"]), int(bounds["max"])]
        for key, bounds in status.queues.items()
        for name, _, number in [key.rpartition("@")]
        if name == topic
    }
    value: dict[str, Any] = {
        "role": view.role,
        "serving": status.serving,
        "term": view.term,
        "leader": view.leader,
        "begin": status.begin,
        "end": status.end,
        "commit": view.commit,
        "queues": queues,
    }
    if view.tells_vote:
        value["vote"] = view.vote  # null: for nobody
    told = {"durable": view.durable, "applied": view.applied}
    return value | {name: position for name, position in told.items() if position is not None}


def _matches(folder: Path, patterns: Sequence[LogPattern], files: Sequence[str]) -> Iterator[tuple[LogPattern, str]]:
    counts: dict[str, int] = {}
    for path in [path for name in files for path in sorted(folder.glob(name))]:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                for pattern in patterns:
                    if pattern.needle in line and counts.get(pattern.name, 0) < PATTERN_LINES_MAX:
                        counts[pattern.name] = counts.get(pattern.name, 0) + 1
                        yield pattern, line.strip()
