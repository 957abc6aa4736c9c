"""C10: what did each level of acknowledgement promise under what was broken, and did it hold?

The promise of a level follows from the configuration and from what the faults destroyed. A lost SEND_OK is C1's to
call a violation, under every configuration; this checker says whether the configuration could have kept it
(`lost-promised`: the cluster broke its word) or not (`lost-weak`: that setting never promised it). O(n).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from checkers.columns import OK, Int, Mask
from checkers.explain import send_story, value_name
from checkers.facts import Facts
from checkers.loss import attribute
from checkers.meta import GroupMeta
from checkers.terms import acknowledgements
from checkers.verdict import KEPT_PER_TYPE, Anomaly, Findings, Record, Severity
from checkers.windows import STORE_REMOVERS, Window

NAME: Final = "C10"
TITLE: Final = "each level of acknowledgement holds"

POWER: Final = frozenset({"power", "powerloss"})
DISK: Final = STORE_REMOVERS | {"disk"}

REPLICATED: Final = "replicated"
LOCAL: Final = "local"
WEAK: Final = "accepted"


@dataclass(frozen=True, slots=True)
class Level:
    """How a send was acknowledged: `kind` is replicated, local or accepted, `flushed` tells of synced copies."""

    kind: str
    flushed: bool

    @property
    def words(self) -> str:
        """Return the level as it is printed."""
        return self.kind + (", synced" if self.flushed and self.kind != WEAK else "")


def promise_words(level: Level, meta: GroupMeta, elects: str) -> str:
    """Return in words what a level promises in a group of this configuration."""
    if level.kind == WEAK:
        return "nothing"
    outlives = "kills, pauses, partitions" + (" and power loss" if level.flushed else "")
    if level.kind == LOCAL:
        if meta.unclean:
            return "nothing: unclean elections are allowed"
        held = f"survives {outlives}, if its node returns with its disk and nobody else takes over"
        return held + ("" if level.flushed else "; weaker, not power loss (ASYNC_FLUSH)")
    held = f"on {meta.copies} nodes: survives {outlives}"
    if meta.partial:
        held += ", if a replica that holds it takes over"
    if elects == "by-hand":
        held += "" if meta.copies >= len(meta.nodes) else ", if one of them is promoted"
    most = meta.copies + meta.votes - len(meta.electors) - 1 if elects == "majority" else 0
    held += f" and the loss of {most} of their disks" if most > 0 else ""
    if not level.flushed:
        held += "; weaker, power loss counts as the loss of a disk (ASYNC_FLUSH)"
    return held + ("; not if all are down at once (unclean elections are allowed)" if meta.unclean else "")


def check_durability(facts: Facts) -> Record:
    """Run C10."""
    findings = Findings(NAME, TITLE)
    sends = facts.history.sends
    lost = facts.lost
    gone = np.concatenate([lost.lost, lost.vanished, lost.weak])
    open_rows = np.concatenate([lost.undecided, lost.weak_undecided])
    judged = _Judge(facts)
    held = {row: judged.must_survive(row) for row in np.concatenate([gone, open_rows]).tolist()}
    broken = [row for row in np.sort(gone).tolist() if held[row][0]]
    excused = [row for row in np.sort(gone).tolist() if not held[row][0]]
    undecided = [row for row in np.sort(open_rows).tolist() if held[row][0]]
    for kind, severity, rows in (
        ("lost-promised", Severity.VIOLATION, broken),
        ("promised-undecided", Severity.UNDECIDED, undecided),
        ("lost-weak", Severity.NOTE, excused),
    ):
        faults = attribute(facts, np.array(rows[:KEPT_PER_TYPE], dtype=np.int64))
        for row, fault in zip(rows, faults, strict=False):
            ops = tuple(index for index in (int(sends.invoked[row]), int(sends.returned[row])) if index >= 0)
            end = "and it is gone" if severity is not Severity.UNDECIDED else "and the drain cannot tell where it is"
            text = f"{send_story(facts.history, row)}; {held[row][1]}; {end}"
            findings.found(
                Anomaly(kind, severity, text, facts.queue_name(int(facts.send_queue[row])),
                        (value_name(facts.history, int(sends.value[row])),), (), ops, ops, fault)
            )  # fmt: skip
        findings.more(kind, severity, len(rows) - KEPT_PER_TYPE)
    findings.details["durability"] = _table(facts, judged, gone, open_rows)
    findings.details["promise"] = "C1 decides whether a lost SEND_OK is a violation: it always is"
    _doubts(facts, judged, findings)
    return findings.record()


def _doubts(facts: Facts, judged: _Judge, findings: Findings) -> None:
    if not facts.history.meta.groups:
        findings.doubt("the run names no broker group, so nothing says what an acknowledgement promised")
    stray = facts.promised & (judged.group < 0)
    if bool(stray.any()):
        findings.doubt(f"{int(stray.sum())} SEND_OK belong to no broker group that the run names")
    used = np.unique(facts.send_queue[facts.promised])
    shut = [queue for queue in used.tolist() if queue >= 0 and not facts.drain.decided[queue]]
    if shut and not len(facts.lost.undecided):
        findings.doubt(f"{len(shut)} of {len(used)} queues were not drained so that loss could be decided")


class _Judge:
    """Decides for single sends whether they were promised to survive, and says why."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.names = sorted(facts.history.meta.groups)
        place = {name: number for number, name in enumerate(self.names)}
        of_queue = np.array(
            [place.get(facts.group_of(queue), -1) for queue in range(len(facts.history.queues))] + [-1], dtype=np.int64
        )
        self.group: Int = of_queue[facts.send_queue]
        self._levels = list(facts.history.acks)
        self._later: dict[str, list[tuple[int, str]]] = {}
        self._known: dict[tuple[Level, int, int, int], tuple[bool, str]] = {}
        acks = acknowledgements(facts)
        for number, name in enumerate(acks.groups):
            mine = np.flatnonzero((acks.group == number) & (acks.node >= 0) & acks.strong)
            for node in np.unique(acks.node[mine]).tolist():
                last = int(acks.begin[mine[acks.node[mine] == node]].max())
                self._later.setdefault(name, []).append((last, acks.nodes[node]))
        marks = {instant for window in facts.windows for instant in (window.a2, window.h2)}
        self._marks = sorted({*marks, *(last for others in self._later.values() for last, _ in others)})

    def level(self, row: int) -> Level:
        """Return the level of one acknowledged send; a SEND_OK that does not say has what its group guarantees."""
        sends = self.facts.history.sends
        flushed = int(sends.flushed[row]) == 1
        if not self.facts.promised[row]:
            return Level(WEAK, False)
        number = int(sends.ack[row])
        name = self._levels[number] if number >= 0 else ""
        group = int(self.group[row])
        if name in (REPLICATED, LOCAL, WEAK, "weak"):
            return Level(WEAK if name == "weak" else name, flushed)
        copies = self.facts.history.meta.groups[self.names[group]].copies if group >= 0 else 1
        return Level(REPLICATED if copies >= 2 else LOCAL, flushed)

    def must_survive(self, row: int) -> tuple[bool, str]:
        """Tell whether a send was promised to survive what happened, and say why."""
        level, number = self.level(row), int(self.group[row])
        if level.kind == WEAK:
            return False, "that status promises nothing"
        if number < 0:
            return True, "its group is not known, so its promise is taken at its word"
        acked = self.facts.history.time_of(int(self.facts.history.sends.returned[row]))
        node = int(self.facts.history.sends.node[row])
        key = (level, number, node, bisect_left(self._marks, acked))
        if key not in self._known:
            self._known[key] = self._decide(row, level, number, acked)
        return self._known[key]

    def _decide(self, row: int, level: Level, number: int, acked: int) -> tuple[bool, str]:
        name = self.names[number]
        meta = self.facts.history.meta.groups[name]
        if level.kind == REPLICATED:
            return self._replicated(level, row, name, meta, acked)
        return self._local(level, row, name, meta, acked)

    def _damage(self, meta: GroupMeta, acked: int, flushed: bool) -> dict[str, Window]:
        """Return the nodes whose copy may have been destroyed after the acknowledgement, each with the fault."""
        found: dict[str, Window] = {}
        for window in self.facts.windows:
            destroys = window.family in DISK or (window.family in POWER and not flushed)
            if destroys and perhaps_after(window, acked):
                struck = window.targets or tuple(meta.nodes)
                found.update({node: window for node in struck if node in meta.nodes or node in meta.electors})
        return found

    def _replicated(self, level: Level, row: int, name: str, meta: GroupMeta, acked: int) -> tuple[bool, str]:
        destroyed = self._damage(meta, acked, level.flushed)
        node = self._node(row)
        copies, voters, quorum = meta.copies, len(meta.electors), meta.votes
        elects = self.facts.history.meta.elects(name)
        if meta.unclean and self._all_down(meta, acked):
            return False, "all replicas were down at once and unclean elections are allowed"
        if meta.partial and self._others(name, node, acked):
            return False, f"{self._others(name, node, acked)} took over, which was in sync and need not have held it"
        if not destroyed:
            promoted = elects == "by-hand" and copies < len(meta.nodes) and self._promoted(meta, acked)
            if promoted:
                return False, f"{promoted} was promoted by hand, which need not have been one of the {copies} holders"
            return True, f"it was on {copies} copies and no disk of the group was lost"
        lost = ", ".join(sorted(destroyed))
        if elects == "majority":
            if (copies - len(destroyed)) + quorum > voters:
                meets = f"every quorum of {quorum} of {voters} still meets a holder"
                return True, f"of {copies} copies at most {len(destroyed)} were destroyed ({lost}), and {meets}"
            return False, f"{lost} lost its copy, and {quorum} of {voters} that never held it may elect each other"
        if elects == "by-hand" and copies >= len(meta.nodes) and len(destroyed) < len(meta.nodes):
            return True, f"every replica held it, and only {lost} lost its disk"
        return False, f"{lost} lost its copy, and no majority elects the next primary"

    def _local(self, level: Level, row: int, name: str, meta: GroupMeta, acked: int) -> tuple[bool, str]:
        node = self._node(row)
        if meta.unclean:
            return False, "one copy promises nothing where unclean elections are allowed"
        damage = self._damage(meta, acked, level.flushed)
        if node is None:
            cause = self._promoted(meta, acked) or next(iter(sorted(damage)), "")
            if cause:
                return (
                    False,
                    f"nobody knows which node held the only promised copy, and {cause} lost its disk or took over",
                )
            return True, "the node that held the only promised copy is not known, and no disk of the group was lost"
        if node in damage or node in self.facts.drain.excluded:
            return False, f"the only promised copy was on {node}, whose disk was lost"
        promoted = self._promoted(meta, acked, node)
        other = promoted or self._others(name, node, acked)
        if other:
            return False, f"the only promised copy was on {node}, and {other} took over"
        return True, f"its copy was on {node}, which kept its disk, and nobody else took over"

    def _node(self, row: int) -> str | None:
        """Return which node answered a send, if that is known."""
        history = self.facts.history
        number = int(history.sends.node[row])
        return history.meta.node_at(history.nodes[number]) if number >= 0 else None

    def _others(self, name: str, node: str | None, acked: int) -> str:
        """Return a node of the group other than this one that made promises after an acknowledgement; "" for none."""
        return next((other for last, other in self._later.get(name, ()) if other != node and last > acked), "")

    def _promoted(self, meta: GroupMeta, acked: int, besides: str = "") -> str:
        """Return a node that was promoted by hand after an acknowledgement."""
        for window in self.facts.windows:
            if window.family == "promote" and window.a2 >= acked:
                for node in window.targets:
                    if node in meta.nodes and node != besides:
                        return node
        return ""

    def _all_down(self, meta: GroupMeta, acked: int) -> bool:
        """Tell whether all replicas may have been down at one instant after an acknowledgement."""
        down = [w for w in self.facts.windows if w.family in ("kill", "pause", *DISK, *POWER) and w.h2 >= acked]
        return any(
            all(any(w.covers(at) and (not w.targets or node in w.targets) for w in down) for node in meta.nodes)
            for at in (window.a2 for window in down)
        )


def perhaps_after(window: Window, acked: int) -> bool:
    """Tell whether what a fault destroys may have been destroyed after an instant."""
    return window.a2 >= acked


def _table(facts: Facts, judged: _Judge, gone: Int, open_rows: Int) -> list[dict[str, Any]]:
    """Count by group and level what was acknowledged, survived, is lost or undecided, and the losses by fault."""
    history, sends = facts.history, facts.history.sends
    marks = {name: np.zeros(len(sends), dtype=bool) for name in ("lost", "undecided")}
    marks["lost"][gone], marks["undecided"][open_rows] = True, True
    kinds = {window.id: window.kind for window in facts.windows}
    rows: list[dict[str, Any]] = []
    acked = (sends.type == OK) & (judged.group >= 0) & (sends.sentinel == 0)
    merged: dict[tuple[int, Level], Mask] = {}
    # One number for each way of being acknowledged, so that each is looked at once.
    ways = ((judged.group * 4 + sends.flushed + 1) * 2 + facts.promised) * (len(history.acks) + 1) + sends.ack + 1
    ways = np.where(acked, ways, -1)
    for way in np.unique(ways[acked]).tolist():
        mask = ways == way
        level = judged.level(int(np.argmax(mask)))
        group = int(judged.group[np.argmax(mask)])
        merged[group, level] = merged.get((group, level), np.zeros(len(sends), dtype=bool)) | mask
    for (group, level), mask in sorted(merged.items(), key=lambda pair: (pair[0][0], _ORDER[pair[0][1].kind])):
        name = judged.names[group]
        missing = np.flatnonzero(mask & marks["lost"])
        causes: dict[str, int] = {}
        for fault in attribute(facts, missing):
            causes[kinds.get(fault, fault)] = causes.get(kinds.get(fault, fault), 0) + 1
        rows.append(
            {
                "group": name,
                "level": level.words,
                "promise": promise_words(level, history.meta.groups[name], history.meta.elects(name)),
                "acknowledged": int(mask.sum()),
                "survived": int((mask & ~marks["lost"] & ~marks["undecided"]).sum()),
                "lost": len(missing),
                "undecided": int((mask & marks["undecided"]).sum()),
                "lost by fault": dict(sorted(causes.items())),
            }
        )
    return rows


_ORDER: Final[Mapping[str, int]] = {REPLICATED: 0, LOCAL: 1, WEAK: 2}
