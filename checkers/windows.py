"""When what was broken: fault windows and phases of a run, from the events of the nemesis and the lab.

A window has four instants: its injection was asked at `a1` and done at `a2`, its healing asked at `h1` and done at
`h2`. Surely faulty is `[a2, h1]`, surely healed is outside `[a1, h2]`; in between nothing is certain.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from checkers.columns import History
from checkers.event import Event

PERMANENT_KINDS: Final = frozenset({"destroy", "promote", "remove"})
"""Faults that nothing heals: what they did is part of the configuration that survives."""

STORE_REMOVERS: Final = frozenset({"destroy", "remove"})
"""Faults whose targets may be left out of the drain by name: what they held is gone by intent."""

STORE_LOSS: Final = frozenset({"destroy", "remove", "power", "powerloss", "disk"})
"""Faults that take all or the unsynced data of a node away; what had no promise may be gone after them."""

ROLE_CHANGES: Final = frozenset({"promote"})

NETWORK: Final = frozenset({"partition", "blackhole"})
"""Faults that lose packets between hosts; `Window.cut` tells between which."""

LASTING: Final = NETWORK | {"pause"}
"""Faults that go on until they are healed, whatever they were meant for: absence proves nothing before."""

FLOWS: Final = ("new_flows", "established_flows")
"""The pictures of a proof: a row a sending host, a column a receiving one, `1` where packets pass and `0` where not."""


class Proof(enum.Enum):
    """Whether probes confirmed the state a fault operation should have left behind."""

    TRUE = "true"
    FALSE = "false"
    UNSUPPORTED = "unsupported"
    MISSING = "missing"
    NOT_NEEDED = "not needed"

    @property
    def holds(self) -> bool:
        """Tell whether nothing remains to be proven."""
        return self in {Proof.TRUE, Proof.NOT_NEEDED}


@dataclass(frozen=True, slots=True)
class Window:
    """One fault from its injection to its healing, times in nanoseconds since the run began.

    `cut` holds the ordered pairs of hosts whose packets it loses; None for a fault of the network that does not say.
    """

    id: str
    kind: str
    asked: str
    targets: tuple[str, ...]
    done: str
    a1: int
    a2: int
    h1: int
    h2: int
    injected: Proof
    healed: Proof
    heal_seen: bool
    permanent: bool
    ops: tuple[int, ...]
    evidence: Mapping[str, Any]
    cut: frozenset[tuple[str, str]] | None = frozenset()

    @property
    def family(self) -> str:
        """Return the first word of the kind: `partition` of `partition:halves`."""
        return family(self.kind)

    @property
    def title(self) -> str:
        """Return the fault in words: what, and to whom it was asked."""
        return self.kind if not self.asked or self.asked in self.kind else f"{self.kind} {self.asked}"

    def touches(self, names: Iterable[str]) -> bool:
        """Tell whether the fault acted on one of these nodes; a fault without named targets acted on all."""
        return not self.targets or bool(set(names) & set(self.targets))

    def gone_with(self, nodes: frozenset[str]) -> bool:
        """Tell whether the fault acted on nothing but these nodes, so that nothing is left to heal once they are gone.

        A cut around one of them may cut others as well, such as the clients on its side.
        """
        if not self.targets or self.cut is None or not nodes.issuperset(self.targets):
            return False
        return all(a in nodes or b in nodes for a, b in self.cut)

    def covers(self, time: int) -> bool:
        """Tell whether an instant lies between the asking of the fault and the end of its healing."""
        return self.a1 <= time <= self.h2


def family(kind: str) -> str:
    """Return the first word of a fault's kind."""
    return re.split(r"[^a-z0-9]+", kind.lower(), maxsplit=1)[0]


@dataclass(frozen=True, slots=True)
class Phases:
    """Instants of the run's phases in nanoseconds; `drained` tells that the lab ran its drain to the end."""

    load_begin: int
    load_end: int
    end: int
    drained: bool
    interrupted: bool
    seen: frozenset[str]


def phases(history: History) -> Phases:
    """Read the run's phases. Without marks the load lasts from the first event to the last."""
    last = int(history.events.time[-1]) if len(history) else 0
    marks: dict[str, int] = {}
    for event in history.lab("phase"):
        if isinstance(event.value, str):
            marks[event.value] = event.time
    load_end = marks.get("load-end", marks.get("drain-begin", last))
    return Phases(
        load_begin=marks.get("load-begin", 0),
        load_end=load_end,
        end=last,
        drained="drain-end" in marks,
        interrupted="interrupted" in marks,
        seen=frozenset(marks),
    )


def _proof(value: Any) -> Proof:
    if value is True or value == "true":
        return Proof.TRUE
    if value is False or value == "false":
        return Proof.FALSE
    return Proof.UNSUPPORTED if value == "unsupported" else Proof.MISSING


def _names(value: Any) -> tuple[str, ...]:
    """Flatten the targets of a fault, however the lever grouped them (sides of a cut, say)."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Mapping):
        return tuple(name for part in value.values() for name in _names(part))
    if isinstance(value, Sequence):
        return tuple(name for part in value for name in _names(part))
    return ()


def _cut(kind: str, value: Mapping[str, Any]) -> frozenset[tuple[str, str]] | None:
    """Return the ordered pairs a fault of the network cuts: as the nemesis says, else by the picture of its proof."""
    if family(kind) not in NETWORK:
        return frozenset()
    said = value.get("cut")
    if isinstance(said, Sequence) and not isinstance(said, str):
        pairs = [tuple(pair) for pair in said if isinstance(pair, Sequence) and len(pair) == 2]
        if pairs and len(pairs) == len(said) and all(isinstance(name, str) for pair in pairs for name in pair):
            return frozenset(pairs)
        return None
    evidence = value.get("evidence")
    return frozenset(_pictured(evidence, FLOWS[0], "0")) or None


def _pictured(evidence: Any, name: str, mark: str) -> list[tuple[str, str]]:
    """Return the ordered pairs of hosts that bear a mark in a picture of what passes; none without a picture."""
    hosts = evidence.get("hosts") if isinstance(evidence, Mapping) else None
    image = evidence.get(name) if isinstance(evidence, Mapping) else None
    if not isinstance(hosts, Sequence) or not isinstance(image, Sequence) or len(hosts) != len(image):
        return []
    return [
        (str(hosts[row]), str(hosts[column]))
        for row, line in enumerate(image)
        if isinstance(line, str) and len(line) == len(hosts)
        for column, one in enumerate(line)
        if one == mark
    ]


def _held_to_pictures(window: Window, others: Iterable[Window], proven: int) -> Window:
    """Hold a cut against the pictures of its proofs: what it cuts must not pass in that of its injection, nor be lost
    in that of its healing (taken by `proven`, some time after it was done), unless another cut lasts."""
    cut = window.cut or frozenset()

    def shown(action: str, mark: str) -> bool:
        evidence = window.evidence.get(action)
        return any(not cut.isdisjoint(_pictured(evidence, name, mark)) for name in FLOWS)

    if window.injected is Proof.TRUE and shown("inject", "1"):
        window = replace(window, injected=Proof.FALSE)
    beside = any(
        other.id != window.id and other.family in NETWORK and other.a1 <= proven and other.h2 >= window.h1
        for other in others
    )
    if window.healed is Proof.TRUE and not beside and shown("heal", "0"):
        window = replace(window, healed=Proof.FALSE)
    return window


def _value(event: Event) -> dict[str, Any]:
    return event.value if isinstance(event.value, dict) else {}


def _is_end(event: Event) -> bool:
    value = _value(event)
    return any(key in value for key in ("targets", "t_done", "verified", "done"))


def windows(history: History, span: Phases) -> tuple[Window, ...]:
    """Pair the events of the nemesis into fault windows, in order of their injection.

    An injection that never reported its end stays uncertain to the end of the load and counts as unproven; so does a
    heal that was begun and never reported.
    """
    open_starts: dict[tuple[int | str, str, str], Event] = {}
    found: dict[str, Window] = {}
    order: list[str] = []
    latest: dict[str, str] = {}
    pictured: set[str] = set()
    for event in history.nemesis:
        value = _value(event)
        name = str(value.get("id", event.f))
        action = str(value.get("action", "inject"))
        key = (event.process, name, action)
        started = open_starts.pop(key, None) if _is_end(event) else None
        if not _is_end(event):
            open_starts[key] = event
        begun = started or event
        end_time = min(int(value.get("t_done", event.time)), event.time) if _is_end(event) else span.load_end
        proof = _proof(value.get("verified")) if _is_end(event) else Proof.MISSING
        if action == "heal":
            unique = latest.get(name)
            if unique is None:
                continue
            window = found[unique]
            found[unique] = replace(
                window,
                h1=min(window.h1, begun.time) if window.heal_seen else begun.time,
                h2=max(end_time, begun.time),
                healed=proof,
                heal_seen=True,
                ops=tuple(sorted({*window.ops, begun.index, event.index})),
                evidence={**window.evidence, "heal": value.get("evidence")},
            )
            continue
        if started is not None and latest.get(name) is not None:
            unique = latest[name]
        else:
            unique = name if name not in found else f"{name}#{len(order)}"
            latest[name] = unique
            order.append(unique)
        kind = str(value.get("kind", event.f))
        permanent = bool(value.get("permanent", family(kind) in PERMANENT_KINDS)) and family(kind) not in LASTING
        found[unique] = Window(
            id=unique,
            kind=kind,
            asked=str(value.get("asked", "")),
            targets=_names(value.get("targets", ())),
            done=str(value.get("done", "")),
            a1=begun.time,
            a2=max(end_time, begun.time),
            h1=max(span.load_end, begun.time),
            h2=max(span.load_end, begun.time),
            injected=proof,
            healed=Proof.NOT_NEEDED if permanent else Proof.MISSING,
            heal_seen=False,
            permanent=permanent,
            ops=tuple(sorted({begun.index, event.index})),
            evidence={"inject": value.get("evidence")},
            cut=_cut(kind, value),
        )
        if "cut" not in value and family(kind) in NETWORK:
            pictured.add(unique)
        else:  # the event that began it could not tell yet
            pictured.discard(unique)
    made = [_alone(found[name], found.values()) if name in pictured else found[name] for name in order]
    made = [_held_to_pictures(window, made, max(map(history.time_of, window.ops))) for window in made]
    return tuple(sorted(made, key=lambda window: (window.a1, window.ops)))


def _alone(window: Window, others: Iterable[Window]) -> Window:
    """A picture shows what all faults together cut: beside another one it does not tell what this one did."""
    beside = any(
        other.id != window.id and other.family in NETWORK and other.a1 <= window.h2 and other.h2 >= window.a1
        for other in others
    )
    return replace(window, cut=None) if beside else window
