"""C1, C6, C9 and C12 against their definitions, applied without any cleverness to small random histories."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise, permutations
from typing import Any

import pytest

from checkers.dirty_reads import check_dirty_reads
from checkers.facts import gather
from checkers.positions import check_positions
from checkers.queue_log import check_queue_log
from checkers.total_queue import check_total_queue
from checkers.verdict import Severity
from tests.unit.checkers.planted import types
from tests.unit.checkers.raft import ADDRESS, THREE, RaftStory
from tests.unit.checkers.story import GROUP, MS, QUEUE, Story

pytestmark = pytest.mark.random

ROUNDS = range(8)
EACH = 50
"""Histories of one round."""

Entry = tuple[int, str]
ANSWER = {"ok": "<s({0})@{1}", "weak": "<s({0})@{1}!FLUSH_SLAVE_TIMEOUT", "info": "?s({0})", "fail": "xs({0})"}


def told(entries: list[Entry]) -> str:
    return "[" + ",".join(f"{offset}:{name}" for offset, name in entries) + "]"


def sent(rng: random.Random, story: Story, kinds: list[str]) -> dict[str, str]:
    """Send one message after another, each by its own process; return what became of each."""
    outcome: dict[str, str] = {}
    for place, name in enumerate("abcdef"[: rng.randrange(1, 7)]):
        outcome[name] = rng.choice(kinds)
        process = 10 * place
        story.tell(f"{process}>s({name}) {process}{ANSWER[outcome[name]].format(name, place)}")
    return outcome


def places(shown: list[list[Entry]]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for offset, name in (entry for entries in shown for entry in entries):
        found.setdefault(name, set()).add(offset)
    return found


# ---- C1 and C12: what is there in the end


@pytest.mark.parametrize("seed", ROUNDS)
def test_c1_and_c12_say_what_their_definitions_say(seed: int) -> None:
    rng = random.Random(seed)
    for number in range(EACH):
        story = Story()
        outcome = sent(rng, story, ["ok", "ok", "weak", "info", "fail"])
        names = list(outcome)
        reads: list[list[Entry]] = []
        for reader in range(rng.randrange(3)):
            entries = [
                (place, rng.choice([*names, "z"]) if rng.random() < 0.15 else name)
                for place, name in enumerate(names) if rng.random() < 0.5
            ]  # fmt: skip
            story.tell(f"{101 + reader}>poll {101 + reader}{rng.choice('<?')}poll={told(entries)}")
            reads.append(entries)
        first = [
            (place, rng.choice([*names, "z"]) if rng.random() < 0.1 else name)
            for place, name in enumerate(names) if rng.random() < 0.8
        ]  # fmt: skip
        second = first if rng.random() < 0.9 else [entry for entry in first if rng.random() < 0.7]
        ready = rng.random() < 0.8
        story.drain(told(first), second=told(second), rules={"D4": ready}, top=len(names) + 2)

        decidable = ready and set(first) == set(second)
        drained = {name for _, name in (*first, *second)}
        seen = places([*reads, first, second])
        wrong: set[str] = set()
        undecided: set[str] = set() if decidable else {"undecidable"}
        for name, kind in outcome.items():
            if kind == "ok" and name not in drained:
                if decidable:
                    wrong.add("vanished" if name in seen else "lost")
                else:
                    undecided.add("lost")
            if kind == "fail" and name in seen:
                wrong.add("revived")
        if "z" in seen:
            wrong.add("unexpected")
        if any(len(seen.get(name, ())) > 1 for name in names):
            wrong.add("duplicated")
        if set(first) != set(second):
            (wrong if ready else undecided).add("unstable-drain")
        taken_back = {
            ("" if outcome.get(name) == "ok" else "unacked-")
            + ("dirty-read" if offset in dict(first) else "vanished-read")
            for entries in reads for offset, name in entries if (offset, name) not in first
        }  # fmt: skip

        facts = gather(story.history())
        record = check_total_queue(facts)
        assert (types(record), types(record, Severity.UNDECIDED)) == (wrong, undecided), (seed, number)
        assert types(check_dirty_reads(facts)) == (taken_back if decidable else set()), (seed, number)


# ---- C6: what readers saw one after another


@dataclass
class Poll:
    process: int
    ok: bool
    entries: list[Entry]
    sought: int | None


def polls(rng: random.Random, story: Story, names: list[str]) -> list[Poll]:
    """Let three processes read batches, now and then from a position of their own, now and then something wrong."""
    found: list[Poll] = []
    retired: set[int] = set()
    for _ in range(rng.randrange(1, 6)):
        process = rng.choice([101, 102, 103])
        if process in retired:
            continue
        start = offset = rng.randrange(len(names) + 1)
        entries: list[Entry] = []
        for _ in range(rng.randrange(4)):
            if not 0 <= offset < len(names):
                break
            entries.append((offset, names[offset] if rng.random() < 0.93 else rng.choice(names)))
            offset += 1 if rng.random() < 0.85 else rng.choice([0, 2, -1])
        ok = rng.random() < 0.75
        sought = None if rng.random() < 0.75 else start if rng.random() < 0.8 else rng.randrange(len(names) + 1)
        asked = "poll" if sought is None else f"seek@{sought}"
        story.tell(f"{process}>{asked} {process}{'<' if ok else '?'}poll={told(entries)}")
        found.append(Poll(process, ok, entries, sought))
        if not ok:
            retired.add(process)
    return found


@dataclass
class Seen:
    """What the definitions of C6 find in polls of one queue."""

    outcome: dict[str, str]
    polls: list[Poll]
    wrong: set[str] = field(default_factory=set)

    def judge(self) -> set[str]:
        names = list(self.outcome)
        acknowledged = [(place, name) for place, name in enumerate(names) if self.outcome[name] == "ok"]
        self.by_offset: dict[int, set[str]] = {}
        for offset, name in [*acknowledged, *(entry for poll in self.polls for entry in poll.entries)]:
            self.by_offset.setdefault(offset, set()).add(name)
        if any(len(values) > 1 for values in self.by_offset.values()):
            self.wrong.add("inconsistent-offsets")
        if any(len(found) > 1 for found in places([acknowledged, *(poll.entries for poll in self.polls)]).values()):
            self.wrong.add("duplicate")
        self.rank = {offset: place for place, offset in enumerate(sorted(self.by_offset))}
        self._in_turn()
        self._lost(acknowledged)
        return self.wrong

    def _in_turn(self) -> None:
        memory: dict[int, int] = {}
        for poll in self.polls:
            if poll.sought is not None:
                memory.pop(poll.process, None)
            if not poll.entries:
                continue
            first = poll.entries[0][0]
            if poll.sought is not None and poll.ok:
                if any(poll.sought <= offset < first for offset in self.by_offset):
                    self.wrong.add("poll-skip")
                if first < poll.sought:
                    self.wrong.add("nonmonotonic-poll")
            elif poll.process in memory:
                self._step(memory[poll.process], first, "poll-skip", "nonmonotonic-poll")
            for (before, _), (after, _) in pairwise(poll.entries):
                self._step(before, after, "int-poll-skip", "int-nonmonotonic-poll")
                if self.rank[after] - self.rank[before] == 1 and after - before > 1:
                    self.wrong.add("hole")
            if poll.ok:
                memory[poll.process] = poll.entries[-1][0]

    def _step(self, before: int, after: int, skip: str, back: str) -> None:
        delta = self.rank[after] - self.rank[before]
        if delta > 1:
            self.wrong.add(skip)
        if delta < 1:
            self.wrong.add(back)

    def _lost(self, acknowledged: list[Entry]) -> None:
        read = [entry for poll in self.polls if poll.ok for entry in poll.entries]
        if any(self.outcome[name] == "fail" for _, name in read):
            self.wrong.add("G1a")
        seen = {name for poll in self.polls for _, name in poll.entries}
        begun = [poll.sought for poll in self.polls if poll.ok and poll.entries and poll.sought is not None]
        offsets = [offset for offset, _ in read]
        if read and any(
            min(*offsets, *begun, offsets[0]) <= offset <= max(offsets) and name not in seen
            for offset, name in acknowledged
        ):
            self.wrong.add("lost-write")


@pytest.mark.parametrize("seed", ROUNDS)
def test_c6_says_what_its_definitions_say(seed: int) -> None:
    rng = random.Random(seed)
    for number in range(EACH):
        story = Story()
        outcome = sent(rng, story, ["ok", "ok", "ok", "info", "fail"])
        wrong = Seen(outcome, polls(rng, story, list(outcome))).judge()
        assert types(check_queue_log(gather(story.history()))) == wrong, (seed, number)


# ---- C9: what nodes told of their positions


@pytest.mark.parametrize("seed", ROUNDS)
def test_c9_says_what_its_definitions_say(seed: int) -> None:
    rng = random.Random(seed)
    for number in range(EACH):
        statuses = [
            {"node": rng.choice(THREE), "incarnation": rng.randrange(1, 3), "term": rng.randrange(1, 3),
             "t_asked": rng.randrange(1, 40), "took": rng.randrange(15), "serving": rng.random() < 0.4,
             "commit": rng.randrange(4), "top": rng.randrange(4)}
            for _ in range(rng.randrange(2, 9))
        ]  # fmt: skip
        sends = [
            {"begin": (begin := rng.randrange(1, 35)), "end": begin + rng.randrange(1, 8), "offset": offset,
             "term": rng.choice([None, 1, 2]), "node": rng.choice(THREE)}
            for offset in range(rng.randrange(4))
        ]  # fmt: skip
        assert {one.type for one in check_positions(gather(_recorded(statuses, sends).history())).anomalies} == (
            _gone_back(statuses) | _rolled_back(statuses, sends)
        ), (seed, number)


def _recorded(statuses: list[dict[str, Any]], sends: list[dict[str, Any]]) -> RaftStory:
    story = RaftStory()
    marks: list[tuple[int, int, str, dict[str, Any]]] = [(s["t_asked"] + s["took"], 1, "status", s) for s in statuses]
    marks += [(one[mark], order, mark, one) for one in sends for order, mark in enumerate(("begin", "end"))]
    for time, _, what, one in sorted(marks, key=lambda mark: mark[:2]):
        story.now = time * MS
        if what == "status":
            said = {"group": GROUP, "answered": True, "role": "leader" if one["serving"] else "follower", "begin": 0,
                    "end": 10, "queues": {QUEUE: [0, one["top"]]}}  # fmt: skip
            story.add("lab", "info", "status", {**one, **said, "t_asked": one["t_asked"] * MS})
            continue
        process, value = 100 + one["offset"], f"r/0/{one['offset']}"
        if what == "begin":
            story.add(process, "invoke", "send", value, queue=QUEUE)
        else:
            story.add(process, "ok", "send", value, queue=QUEUE, offset=one["offset"], status="SEND_OK",
                      ack="replicated", node=ADDRESS[one["node"]], epoch=one["term"])  # fmt: skip
    return story


def _gone_back(statuses: list[dict[str, Any]]) -> set[str]:
    names = {"commit": "commit-decrease", "term": "term-decrease", "top": "queue-max-decrease"}
    return {
        kind for before, after in permutations(statuses, 2) for key, kind in names.items()
        if (before["node"], before["incarnation"]) == (after["node"], after["incarnation"])
        and before["t_asked"] + before["took"] < after["t_asked"] and before[key] > after[key]
    }  # fmt: skip


def _rolled_back(statuses: list[dict[str, Any]], sends: list[dict[str, Any]]) -> set[str]:
    leaders = [one for one in statuses if one["serving"]]
    promised = any(
        send["end"] < leader["t_asked"] and leader["top"] <= send["offset"]
        and (send["node"] == leader["node"] if send["term"] is None else send["term"] <= leader["term"])
        for leader in leaders for send in sends
    )  # fmt: skip
    shown = any(
        before["term"] < after["term"] and before["t_asked"] + before["took"] < after["t_asked"]
        and after["top"] < before["top"]
        for before, after in permutations(leaders, 2)
    )  # fmt: skip
    return {"queue-rollback"} if promised or shown else set()
