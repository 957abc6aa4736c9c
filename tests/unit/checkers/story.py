"""Histories in a notation one can read, for tests.

`tell` takes words separated by blanks, in history order:

    0>s(a)  0<s(a)@3   process 0 sends a; it is acknowledged (SEND_OK) at offset 3
    0xs(a)  0?s(a)     it certainly failed; its outcome is unknown
    0<s(a)@3!FLUSH_SLAVE_TIMEOUT    a weaker status         0<s(a)@3*2   after two attempts
    1>poll  1<poll=[0:a,1:b]  1?poll=[1:b]    a read, what it returned, an unknown outcome with a partial result
    1>seek@5  1<poll=[5:f]    a read from an explicit offset      1<moved    the broker moved the reader
    1>read@3  1<read=[]       a read by offset                    1>end  1<end=4    the end offset
    2>handle=[0:a]  2<handle  a group's handler took a (group g)
    1>d  1<d=a  1<d=∅  2?d    a dequeue that took a, that found nothing, of unknown outcome

Polls are of the consumer group `reader` (none by default), handlers of `group` (orderly ones where `orderly`).
Every word takes a millisecond. `drain` then ends the run as the lab does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Self

from checkers.event import EventType
from checkers.history import Event, History, build_history

QUEUE = "t/broker-a/0"
GROUP = "broker-a"
NODES = ["broker-a-0", "broker-a-1"]
MS = 1_000_000

LAX = {
    "send_ok": 0,
    "deliveries": 0,
    "warm_send_ok": 0,
    "recovered_send_ok": 0,
    "attempts_per_fault": 0,
    "info_ratio": 1.0,
}

_WORD = re.compile(
    r"(?P<process>\d+)(?P<mark>[><x?])(?P<f>s|poll|seek|read|end|handle|moved|d)"
    r"(?:\((?P<value>[^)]*)\))?(?:@(?P<offset>\d+))?(?:!(?P<status>\w+))?(?:\*(?P<attempts>\d+))?(?:=(?P<result>.*))?"
)
TYPE: dict[str, EventType] = {">": "invoke", "<": "ok", "x": "fail", "?": "info"}


def value(name: str) -> str:
    """Return the full value of a short name; names with a slash are full already."""
    return name if "/" in name else f"r/0/{name}"


def pairs(text: str) -> list[list[Any]]:
    """Read `[0:a,1:b]` or `[a,b]` (offsets from 0)."""
    inner = text.strip("[]∅")
    out: list[list[Any]] = []
    for place, word in enumerate(word for word in inner.split(",") if word):
        offset, _, name = word.rpartition(":")
        out.append([int(offset) if offset else place, None if name == "null" else value(name)])
    return out


class Story:
    """A history in the making; `now` is its clock in nanoseconds."""

    def __init__(self, *, queue: str = QUEUE, mode: str = "assign", gates: dict[str, Any] | None = None, **meta: Any):
        self.events: list[Event] = []
        self.now = 0
        self.queue: str | None = queue
        self.mode = mode
        self.sentinels = 0
        self.group = "g"
        self.reader: str | None = None
        self.orderly = False
        self.node = f"{NODES[0]}:10911"
        self.epoch: int | None = 1
        self.level = "local"
        self._handling: dict[int, Any] = {}
        value = {
            "format": 1,
            "run": "r",
            "groups": {GROUP: {"nodes": NODES, "copies": 1, "flush": "ASYNC_FLUSH", "role": "ASYNC_MASTER"}},
            "topics": {"t": {GROUP: 1}},
            "gates": {**LAX, **(gates or {})},
            "seed": 7,
            "not_applicable": {"C7": "no dumps in this story"},
            **meta,
        }
        self.add("lab", "info", "meta", value)
        self.phase("load-begin")

    def add(self, process: int | str, kind: EventType, f: str, value: Any = None, **extras: Any) -> Event:
        event = Event(len(self.events), self.now, process, kind, f, value, **extras)
        self.events.append(event)
        return event

    def at(self, seconds: float) -> Self:
        """Set the clock."""
        self.now = round(seconds * 1e9)
        return self

    def phase(self, name: str) -> None:
        self.add("lab", "info", "phase", name)

    def tell(self, text: str) -> Self:
        for word in text.split():
            match = _WORD.fullmatch(word)
            assert match is not None, word
            self.now += MS
            self._word(match)
        return self

    def _word(self, match: re.Match[str]) -> None:
        process, kind, f = int(match["process"]), TYPE[match["mark"]], match["f"]
        result = match["result"]
        offset = int(match["offset"]) if match["offset"] else None
        if f == "s":
            self._send(match, process, kind, offset)
        elif f in {"poll", "seek", "moved"}:
            extras: dict[str, Any] = {"queue": self.queue, "mode": self.mode, "group": self.reader}
            if f == "seek":
                extras["seek"] = {self.queue: offset}
            if f == "moved":
                extras["moved"] = True
            self.add(process, kind, "poll", {self.queue: pairs(result)} if result else None, **extras)
        elif f == "d":
            self.add(process, kind, "dequeue", value(result) if result not in (None, "∅") else None, queue=self.queue)
        elif f == "read":
            self.add(process, kind, "read", {self.queue: offset if kind == "invoke" else pairs(result or "")})
        elif f == "end":
            self.add(process, kind, "end", self.queue if kind == "invoke" else int(result))
        else:
            if kind == "invoke":
                self._handling[process] = {self.queue: pairs(result)}
            self.add(process, kind, "handle", self._handling[process], group=self.group, orderly=self.orderly or None)

    def _send(self, match: re.Match[str], process: int, kind: EventType, offset: int | None) -> None:
        name = value(match["value"])
        if kind == "invoke":
            self.add(process, kind, "send", name, queue=self.queue)
        elif kind == "ok":
            status = match["status"] or "SEND_OK"
            self.add(
                process,
                kind,
                "send",
                name,
                queue=self.queue,
                offset=offset,
                status=status,
                ack=self.level if status == "SEND_OK" else "weak",
                node=self.node,
                epoch=self.epoch,
                attempts=int(match["attempts"] or 1),
            )
        else:
            self.add(process, kind, "send", name, error={"phase": "reply", "code": "timeout"})

    def fault(
        self,
        name: str,
        kind: str,
        action: str = "inject",
        *,
        targets: Any = (),
        lasts: float = 0.1,
        verified: Any = True,
        ends: bool = True,
    ) -> Self:
        """Inject or heal a fault, taking `lasts` seconds."""
        start = {"id": name, "action": action, "kind": kind, "asked": "one"}
        self.add("nemesis", "info", kind, start)
        self.now += round(lasts * 1e9)
        if ends:
            done = {"targets": list(targets), "done": "did it", "t_done": self.now, "verified": verified}
            self.add("nemesis", "info", kind, {**start, **done, "evidence": {"probe": "p"}})
        return self

    def promote(self, node: str = NODES[1]) -> Self:
        """Promote the other node by hand."""
        self.fault("promote", "promote", targets=[node])
        self.node = f"{node}:10911"
        self.epoch = (self.epoch or 0) + 1
        return self

    def step(self, rule: str, ok: bool = True, scope: str = "*", **more: Any) -> None:
        detail = more.pop("detail", "" if ok else f"{rule} did not hold")
        self.add("lab", "info", "drain-step", {"rule": rule, "scope": scope, "ok": ok, "detail": detail, **more})

    def drain(
        self,
        content: str,
        *,
        rules: dict[str, bool] | None = None,
        second: str | None = None,
        excluded: tuple[str, ...] = (),
        complete: bool = True,
        kind: EventType = "ok",
        finish: bool = True,
        top: int | None = None,
        waits: Callable[[], None] | None = None,
    ) -> Self:
        """End the run: `content` is what both drains read, before the sentinel that follows it (at `top`).

        `waits` tells what is seen while the lab waits for equal replicas.
        """
        said = {f"D{n}": True for n in range(1, 11) if n != 8} | (rules or {})
        self.phase("load-end")
        self.now += MS
        self.phase("drain-begin")
        for rule in ("D1", "D2", "D3", "D4"):
            if rule == "D4" and waits is not None:
                waits()
            self.step(rule, said[rule], excluded=list(excluded))
        entries = pairs(content)
        told = [event.offset for event in self.events if isinstance(event.offset, int)]
        if top is None:
            top = max([*(offset for offset, _ in (*entries, *pairs(second or ""))), *told], default=-1) + 1
        self.sentinels += 1
        mark = f"r/9/{self.sentinels}"
        process = 9000 + 10 * self.sentinels
        self.now += MS
        self.add(process, "invoke", "send", mark, queue=self.queue, sentinel=True)
        self.now += MS
        self.add(
            process, "ok", "send", mark, queue=self.queue, sentinel=True, offset=top, status="SEND_OK",
            ack=self.level, node=self.node, epoch=self.epoch,
        )  # fmt: skip
        self.step("D5", said["D5"])
        for number in (1, 2):
            got = pairs(second) if number == 2 and second is not None else list(entries)
            reader = process + number
            self.now += MS
            self.add(reader, "invoke", "drain", None, queue=self.queue, round=number)
            self.now += MS
            full = [*got, [top, mark]] if complete and kind == "ok" else got
            self.add(
                reader, kind, "drain", {self.queue: full}, queue=self.queue, round=number,
                complete=complete and kind == "ok", sentinel=top,
            )  # fmt: skip
        for rule in ("D6", "D7", "D9", "D10"):
            self.step(rule, said[rule])
        if finish:
            self.finish()
        return self

    def group_final(self, group: str = "g", *, lag: int = 0, retry: str = "", dead: str = "", ok: bool = True) -> Self:
        final = {
            "group": group,
            "lag": {self.queue: lag},
            "retry": [value(name) for name in retry.split()],
            "dead": [value(name) for name in dead.split()],
            "ok": ok,
        }
        self.add("lab", "info", "group-final", final)
        return self

    def finish(self) -> Self:
        self.now += MS
        self.phase("drain-end")
        return self

    def history(self) -> History:
        return build_history(self.events)
