"""Stories and made-up runs of a Raft group of three, for the checkers that judge terms, positions and progress."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from checkers.event import Event
from tests.unit.checkers.story import GROUP, MS, QUEUE, Story

A, B, C = (f"broker-a-{number}" for number in range(3))
THREE = [A, B, C]
ADDRESS = {node: f"10.0.0.{number}:10911" for number, node in enumerate(THREE, 1)}
CLIENT, SERVERS = "client-1", ["namesrv-1", "namesrv-2"]

META: dict[str, Any] = {
    "groups": {GROUP: {"nodes": THREE, "copies": 2, "flush": "SYNC_FLUSH", "role": "LEADER"}},
    "addresses": {address: node for node, address in ADDRESS.items()},
    "clients": [CLIENT],
    "name_servers": SERVERS,
    "progress": {"grace_s": 3, "window_s": 1},
    "routing": {"register_s": 1, "expiry_s": 10, "scan_s": 2, "slack_s": 1},
}


class RaftStory(Story):
    """A story of a group of three; `lead` says who answers the sends that follow, and in which term."""

    def __init__(self, **meta: Any) -> None:
        super().__init__(**{**META, "not_applicable": {}, **meta})
        self.events[0].value["mode"] = "dledger"
        self.level = "replicated"
        self.incarnation = dict.fromkeys(THREE, 1)
        self.lead(A, 1)

    def lead(self, node: str, term: int) -> Self:
        self.leader, self.epoch, self.node = node, term, ADDRESS[node]
        return self

    def say(self, text: str) -> Self:
        self.tell(text)
        return self

    def status(
        self, node: str, role: str = "follower", term: int | Literal["drop"] = 1, *, took: int = MS, **more: Any
    ) -> Self:
        """Ask one node; the question takes two milliseconds by default. Its answer lacks what is `drop`."""
        self.now += MS
        asked = self.now
        self.now += took
        said = {
            "node": node, "group": GROUP, "incarnation": self.incarnation.get(node, 1), "t_asked": asked,
            "answered": True, "role": role, "serving": role == "leader", "term": term, "leader": None, "begin": 0,
            "end": 0, "durable": 0, "commit": 0, "queues": {QUEUE: [0, 0]},
        }  # fmt: skip
        said.update(more)
        self.add("lab", "info", "status", {key: value for key, value in said.items() if value != "drop"})
        return self

    def asked(self, term: int | Literal["drop"] = 1, leader: str | None = A, **more: Any) -> Self:
        """Ask all three nodes."""
        for node in THREE:
            self.status(node, "leader" if node == leader else "follower", term, **more)
        return self

    def ballot(self, node: str, event: str, term: int, *, to: str | None = None, at: float | None = None) -> Self:
        value: dict[str, Any] = {"node": node, "group": GROUP, "event": event, "term": term, "to": to}
        if at is not None:
            value["t"] = round(at * 1e9)
        self.now += MS
        self.add("lab", "info", "election", value)
        return self

    def cut(
        self,
        name: str,
        pairs: list[tuple[str, str]] | None,
        action: str = "inject",
        *,
        kind: str = "partition",
        **more: Any,
    ) -> Self:
        """Cut ordered pairs of hosts, or heal that cut."""
        self.fault(name, kind, action, **more)
        if pairs is not None and action == "inject":
            self.events[-1].value["cut"] = [list(pair) for pair in pairs]
        return self

    def route(self, ns: str, leader: str | None, term: int | None = 1, **more: Any) -> Self:
        """Ask a name server for the route of the topic."""
        self.now += MS
        asked = self.now
        self.now += MS
        brokers = {"0": leader} if leader is not None else {}
        value = {
            "ns": ns, "incarnation": 1, "from": "lab", "t_asked": asked, "answered": True, "topic": "t",
            "groups": {GROUP: {"brokers": brokers, "term": term, "queues": 1}},
        }  # fmt: skip
        self.add("lab", "info", "route", {**value, **more})
        return self


def apart(*sides: list[str]) -> list[tuple[str, str]]:
    """Return the ordered pairs between hosts of different sides."""
    return [
        (a, b) for n, side in enumerate(sides) for m, other in enumerate(sides) if n != m for a in side for b in other
    ]


@dataclass
class RaftPretend:
    """What a made-up legal run looks like; `seed` decides who leads, when faults come and how long answers take."""

    seed: int = 1
    seconds: float = 30.0
    rate: int = 40
    faults: int = 2
    gates: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)


def raft_run(how: RaftPretend) -> list[Event]:
    """Play a legal run: load on one queue, leaders killed and cut off in turn, failover within a second, a drain."""
    rng = random.Random(how.seed)
    story = RaftStory(gates=how.gates, not_applicable={"C7": "no dumps in this run"}, **how.meta)
    todo: list[tuple[int, int, dict[str, Any]]] = []

    def put(at: float, process: int | str, kind: str, f: str, value: Any = None, **extras: Any) -> None:
        order = 0 if kind == "invoke" else 1
        todo.append(
            (round(at * 1e9) * 2 + order, len(todo), dict(process=process, kind=kind, f=f, value=value, **extras))
        )

    # Who leads which term from when, and what is broken.
    leader, term = rng.choice(THREE), 1
    reigns: list[tuple[float, str, int]] = [(0.0, leader, term)]
    broken: list[tuple[float, float, str, str]] = []
    at = 5.0
    for number in range(how.faults):
        at += 1 + rng.random()
        kind = rng.choice(["kill", "pause", "partition"])
        victim = leader if rng.random() < 0.8 else rng.choice([n for n in THREE if n != leader])
        until = at + 4.5 + rng.random()
        broken.append((at, until, kind, victim))
        fault = {"id": f"f{number}", "kind": kind, "asked": victim}
        for action, moment in (("inject", at), ("heal", until)):
            begin = {**fault, "action": action}
            done = {**begin, "targets": [victim], "done": "did it", "t_done": round((moment + 0.05) * 1e9),
                    "verified": True, "evidence": {}}  # fmt: skip
            if kind == "partition" and action == "inject":
                done["cut"] = [list(p) for p in apart([victim], [n for n in (*THREE, CLIENT, *SERVERS) if n != victim])]
            put(moment, f"nemesis/f{number}", "info", kind, begin)
            put(moment + 0.1, f"nemesis/f{number}", "info", kind, done)
        if victim == leader:
            term += 1
            leader = rng.choice([node for node in THREE if node != victim])
            reigns.append((at + 0.3 + rng.random() / 2, leader, term))
        at = until + 4

    def reign(when: float) -> tuple[float, str, int]:
        return max(one for one in reigns if one[0] <= when)

    def state(node: str, when: float) -> str:
        return next((kind for a, b, kind, victim in broken if victim == node and a <= when <= b + 0.2), "")

    end = how.seconds
    log: list[tuple[float, str]] = []
    now, count = 0.5, 0
    process = 0
    while now < end:
        _, boss, number = reign(now)
        value = f"r/{process % 8}/{count}"
        took = 0.002 + rng.expovariate(500)
        put(now, process, "invoke", "send", value, queue=QUEUE, intended=round(now * 1e9))
        if state(boss, now) or state(boss, now + took):
            kind = "info" if rng.random() < 0.2 else "fail"
            put(now + took, process, kind, "send", value, error={"phase": "connect", "code": "refused"})
        else:
            offset = len(log)
            log.append((now + took, value))
            put(now + took, process, "ok", "send", value, queue=QUEUE, offset=offset, status="SEND_OK",
                ack="replicated", flushed=True, node=ADDRESS[boss], epoch=number, attempts=1)  # fmt: skip
        process = count + 1
        count += 1
        now += 1 / how.rate
    read, now = 0, 0.6
    while now < end:
        have = sum(1 for acked, _ in log if acked <= now)
        put(now, 5000, "invoke", "poll", None, queue=QUEUE, mode="assign")
        batch = [[place, log[place][1]] for place in range(read, have)]
        put(now + 0.004, 5000, "ok", "poll", {QUEUE: batch}, queue=QUEUE, mode="assign")
        read, now = have, now + 0.2
    now = 0.2
    lives = dict.fromkeys(THREE, 1)
    dead = dict.fromkeys(THREE, False)
    commits = dict.fromkeys(THREE, 0)
    terms = dict.fromkeys(THREE, 1)
    while now < end + 1:
        for node in THREE:
            trouble = state(node, now)
            if trouble == "kill":
                dead[node] = True
            elif dead[node]:
                dead[node], lives[node], commits[node] = False, lives[node] + 1, 0
            asked = {"node": node, "group": GROUP, "incarnation": lives[node], "t_asked": round(now * 1e9)}
            if trouble in ("kill", "pause"):
                put(now + 0.05, "lab", "info", "status", {**asked, "answered": False})
                continue
            _, boss, number = reign(now)
            if trouble != "partition":
                terms[node] = max(terms[node], number)
                commits[node] = max(commits[node], sum(1 for acked, _ in log if acked <= now))
            leads = node == boss and trouble != "partition"
            deposed = trouble == "partition" and terms[node] < number and any(
                who == node and n == terms[node] for _, who, n in reigns
            ) and now < next(a for a, _, _, victim in broken if victim == node and a <= now) + 0.8  # fmt: skip
            held = commits[node] * 100
            put(now + 0.001, "lab", "info", "status", {
                **asked, "answered": True, "role": "leader" if leads or deposed else "follower", "serving": leads,
                "term": terms[node], "begin": 0, "end": held + (100 if leads else 0), "durable": held,
                "commit": held, "queues": {QUEUE: [0, commits[node]]},
            })  # fmt: skip
        now += 0.25
    for begun, who, number in reigns:
        put(begun, "lab", "info", "election", {"node": who, "group": GROUP, "event": "elected", "term": number,
                                               "t": round(begun * 1e9)})  # fmt: skip
        for voter in rng.sample(THREE, 2):
            put(begun, "lab", "info", "election", {"node": voter, "group": GROUP, "event": "granted", "term": number,
                                                   "to": who})  # fmt: skip
    now = 0.3
    while now < end:
        for server in SERVERS:
            begun, boss, number = reign(now)
            if begun + 0.5 > now and number > 1:
                _, boss, number = reign(begun - 0.001)
            groups = {GROUP: {"brokers": {"0": boss}, "term": number, "queues": 1}}
            put(now + 0.001, "lab", "info", "route", {
                "ns": server, "incarnation": 1, "from": "lab", "t_asked": round(now * 1e9), "answered": True,
                "topic": "t", "groups": groups,
            })  # fmt: skip
        now += 0.5
    for _, _, one in sorted(todo, key=lambda item: item[:2]):
        story.now = max(story.now, 0)
        extras = {key: value for key, value in one.items() if key not in ("process", "kind", "f", "value")}
        story.add(one["process"], one["kind"], one["f"], one["value"], **extras)
    for (when, _, _), event in zip(sorted(todo, key=lambda item: item[:2]), story.events[-len(todo) :], strict=True):
        event.time = when // 2
    story.now = max(event.time for event in story.events) + MS
    _, boss, number = reign(end)
    story.lead(boss, number)
    story.drain("[" + ",".join(f"{place}:{value}" for place, (_, value) in enumerate(log)) + "]", top=len(log))
    return story.events
