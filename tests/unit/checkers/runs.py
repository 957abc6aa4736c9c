"""A made-up run of a two-node group with a fault, of the size of a real one, for reports and whole-verdict tests."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from checkers.history import Event
from tests.unit.checkers.story import GROUP, NODES


@dataclass
class Pretend:
    """Which configuration to pretend: with `synchronous` the promoted replica holds every SEND_OK."""

    synchronous: bool = True
    seconds: int = 30
    rate: int = 60
    queues: int = 4
    seed: int = 5
    verified: bool = True
    gates: dict[str, Any] = field(default_factory=dict)
    topic: str = "t"


def pretend_run(how: Pretend) -> list[Event]:
    """Play a run: load, a cut of replication at 8 s, the primary destroyed at 11 s, the replica promoted at 13 s."""
    rng = random.Random(how.seed)
    events: list[Event] = []
    todo: list[tuple[int, int, dict[str, Any]]] = []
    serial = 0

    def put(seconds: float, process: int | str, kind: str, f: str, value: Any = None, **extras: Any) -> None:
        nonlocal serial
        serial += 1
        order = 0 if kind == "invoke" else 1
        todo.append(
            (
                round(seconds * 1e9) * 2 + order,
                serial,
                {"process": process, "type": kind, "f": f, "value": value, **extras},
            )
        )

    names = [f"{how.topic}/{GROUP}/{number}" for number in range(how.queues)]
    role = "SYNC_MASTER" if how.synchronous else "ASYNC_MASTER"
    copies = 2 if how.synchronous else 1
    meta = {
        "format": 1, "run": "r", "seed": how.seed, "mode": "master-slave", "workload": "queue", "system": "python",
        "groups": {GROUP: {"nodes": NODES, "copies": copies, "flush": "ASYNC_FLUSH", "role": role}},
        "topics": {how.topic: {GROUP: how.queues}}, "name_servers": ["namesrv-1", "namesrv-2", "namesrv-3"],
        "consumer_groups": ["readers"], "expected_faults": {"partition": 1, "destroy": 1, "promote": 1},
        "gates": how.gates, "not_applicable": {"C7": "this run was made up and has no replica dumps"},
    }  # fmt: skip
    put(0.0, "lab", "info", "meta", meta)
    put(0.001, "lab", "info", "phase", "load-begin")
    cut, destroyed, promoted, load_end = 8.0, 11.0, 13.0, float(how.seconds)
    logs: list[list[str]] = [[] for _ in names]
    safe = [0] * how.queues
    read = [0] * how.queues
    processes = list(range(16))
    busy = [0.0] * 16
    retired = 16
    count = 0
    now = 0.5
    fell = False
    while now < load_end:
        thread = min(range(16), key=lambda one: (busy[one] > now, (one - count) % 16))
        if busy[thread] > now:
            now += 0.01
            continue
        process = processes[thread]
        queue = rng.randrange(how.queues)
        value = f"r/{thread}/{count}"
        count += 1
        put(
            now,
            process,
            "invoke",
            "send",
            value,
            queue=names[queue],
            intended=round(now * 1e9),
            client=f"client-{thread}",
        )
        away = destroyed <= now < promoted + 0.4
        if now >= promoted and not fell:
            fell = True
            logs = [log[: safe[n]] for n, log in enumerate(logs)]
        if away:
            late = now + min(3.0, 0.2 + rng.random())
            outcome = "info" if now < destroyed + 0.15 else "fail"
            busy[thread] = late + 0.001
            put(late, process, outcome, "send", value, error={"phase": "connect", "code": "refused"})
            if outcome == "info":
                processes[thread] = retired
                retired += 1
        else:
            after = promoted <= now
            weak = how.synchronous and ((cut <= now < destroyed) or (after and now < promoted + 3))
            delay = 0.002 + rng.expovariate(900) + (1.0 if weak and cut <= now < cut + 0.5 else 0.0)
            offset = len(logs[queue])
            logs[queue].append(value)
            if not (cut <= now < destroyed):
                safe[queue] = len(logs[queue])
            status = "SEND_OK" if not weak else "FLUSH_SLAVE_TIMEOUT" if now < cut + 0.5 else "SLAVE_NOT_AVAILABLE"
            answered = min(now + delay, destroyed - 0.0001) if now < destroyed else now + delay
            busy[thread] = answered + 0.001
            put(
                answered, process, "ok", "send", value,
                queue=names[queue], offset=offset, status=status,
                ack="weak" if weak else "replicated" if how.synchronous else "local",
                node=f"10.0.0.{2 if after else 1}:10911", epoch=2 if after else 1, attempts=1,
            )  # fmt: skip
        if count % 5 == 0 and not away:
            number = (count // 5) % how.queues
            reader = 1000 + number
            shown = logs[number][read[number] :]
            batch = [[read[number] + place, value] for place, value in enumerate(shown)]
            put(now + 0.01, reader, "invoke", "poll", None, queue=names[number], mode="assign", group="readers")
            moved = {"moved": True} if read[number] > len(logs[number]) else {}
            put(
                now + 0.012, reader, "ok", "poll", {names[number]: batch}, queue=names[number], mode="assign",
                node="10.0.0.1:10911", group="readers", **moved,
            )  # fmt: skip
            if batch:
                put(now + 0.0121, 2000 + number, "invoke", "handle", {names[number]: batch}, group="readers")
                put(now + 0.0122, 2000 + number, "ok", "handle", {names[number]: batch}, group="readers")
            read[number] = min(read[number], len(logs[number])) if moved else len(logs[number])
        now += 1.0 / how.rate * (0.5 + rng.random())

    def fault(at: float, name: str, kind: str, targets: list[str], lasts: float, action: str = "inject") -> None:
        start = {
            "id": name,
            "action": action,
            "kind": kind.split(":")[0],
            "asked": (kind + ":" + targets[0]).split(":")[1],
        }
        put(at, "nemesis", "info", kind, start)
        done = {
            "targets": targets,
            "done": f"{action} {kind}",
            "t_done": round((at + lasts) * 1e9),
            "verified": how.verified,
        }
        put(at + lasts, "nemesis", "info", kind, {**start, **done, "evidence": {"probes": 12}})

    fault(cut, "cut-1", "partition:replication", [NODES[0], NODES[1]], 0.05)
    fault(destroyed, "destroy-1", "destroy", [NODES[0]], 0.08)
    put(
        destroyed + 0.01,
        "lab",
        "info",
        "node-exit",
        {"node": NODES[0], "pid": 7, "code": None, "signal": 9, "expected": True, "fault": "destroy-1"},
    )
    fault(promoted, "promote-1", "promote", [NODES[1]], 0.3)
    fault(load_end + 0.2, "cut-1", "partition:replication", [NODES[0], NODES[1]], 0.05, "heal")
    put(load_end, "lab", "info", "phase", "load-end")
    put(load_end + 0.1, "lab", "info", "phase", "drain-begin")
    at = load_end + 0.5
    for rule in ("D1", "D2", "D3", "D4"):
        put(
            at,
            "lab",
            "info",
            "drain-step",
            {"rule": rule, "scope": "*", "ok": True, "detail": "", "excluded": [NODES[0]]},
        )
    for number, name in enumerate(names):
        at += 0.01
        mark = f"r/99/{number}"
        put(at, 3000 + number, "invoke", "send", mark, queue=name, sentinel=True)
        put(
            at + 0.004, 3000 + number, "ok", "send", mark, queue=name, sentinel=True, offset=len(logs[number]),
            status="SEND_OK", ack="replicated" if how.synchronous else "local", node="10.0.0.2:10911", epoch=2,
        )  # fmt: skip
        logs[number].append(mark)
        for turn in (1, 2):
            at += 0.02
            content = {name: [[offset, value] for offset, value in enumerate(logs[number])]}
            put(at, 4000 + 10 * number + turn, "invoke", "drain", None, queue=name, round=turn)
            put(
                at + 0.01, 4000 + 10 * number + turn, "ok", "drain", content, queue=name, round=turn, complete=True,
                sentinel=len(logs[number]) - 1,
            )  # fmt: skip
        rest = [[offset, value] for offset, value in enumerate(logs[number])][min(read[number], len(logs[number])) :]
        put(at + 0.012, 5000 + number, "invoke", "handle", {name: rest}, group="readers")
        put(at + 0.013, 5000 + number, "ok", "handle", {name: rest}, group="readers")
    at += 0.1
    for rule in ("D5", "D6", "D7", "D9", "D10"):
        put(at, "lab", "info", "drain-step", {"rule": rule, "scope": "*", "ok": True, "detail": ""})
    put(
        at,
        "lab",
        "info",
        "group-final",
        {"group": "readers", "lag": dict.fromkeys(names, 0), "retry": [], "dead": [], "ok": True},
    )
    put(at + 0.1, "lab", "info", "phase", "drain-end")
    for place, (when, _, fields) in enumerate(sorted(todo, key=lambda item: item[:2])):
        events.append(Event(place, when // 2, **fields))
    return events
