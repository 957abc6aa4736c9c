"""A fault: something to break, with its healing, and the proof of both.

``Fault`` is what every lever's module implements; ``Incident`` runs one fault of a plan from asking to proven healing
and returns records. Nothing that happens to a fault raises out of it: what could not be proven is ``verified: false``
with the reason in the evidence (checkers C19).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Protocol

from nemesis.world import World


class Action(StrEnum):
    """The two halves of a fault."""

    INJECT = "inject"
    HEAL = "heal"


class Verified(Enum):
    """What the proof says; ``value`` is what stands in the history."""

    TRUE = True
    FALSE = False
    UNSUPPORTED = "unsupported"


class FaultError(Exception):
    """This fault cannot be carried out as asked now (no such target, already dead …); becomes ``verified: false``."""


class UnsupportedError(FaultError):
    """This world has no such lever; becomes ``verified: unsupported``."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a lever did: the targets really hit (nodes or hosts), in words, and when the last lever call returned."""

    targets: tuple[str, ...]
    what: str
    t_done_ns: int
    evidence: dict[str, object] = field(default_factory=dict)
    cut: frozenset[tuple[str, str]] = frozenset()  # ordered pairs of hosts whose packets are lost by it


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether the world shows what was done, and the observations that say so."""

    verified: Verified
    evidence: dict[str, object]

    @classmethod
    def of(cls, holds: bool, **evidence: object) -> Proof:
        """A proof that holds or not, with its observations."""
        return cls(Verified.TRUE if holds else Verified.FALSE, evidence)


class Fault(Protocol):
    """One thing to break. Used once: inject, prove, heal, prove."""

    @property
    def kind(self) -> str:
        """The word of the catalogue, e.g. ``kill``."""
        ...

    @property
    def asked(self) -> str:
        """What the plan asked for, verbatim after the kind, e.g. ``master``."""
        ...

    @property
    def permanent(self) -> bool:
        """True if it is meant to last: there is nothing to heal (destroy, promote)."""
        ...

    async def inject(self, world: World, fault_id: str) -> Done:
        """Resolve the targets now and pull the lever. Raises FaultError or LeverError."""
        ...

    async def prove_injected(self, world: World) -> Proof:
        """Look whether the world shows the injected state."""
        ...

    async def heal(self, world: World) -> Done:
        """Undo what ``inject`` did, and only that."""
        ...

    async def prove_healed(self, world: World) -> Proof:
        """Look whether the world shows the healed state."""
        ...


@dataclass(frozen=True, slots=True)
class Record:
    """The outcome of one half of a fault, ready for the history's nemesis event and for faults.jsonl."""

    id: str
    action: Action
    kind: str
    asked: str
    targets: tuple[str, ...]
    done: str
    t_done_ns: int
    verified: Verified
    evidence: dict[str, object]
    cut: frozenset[tuple[str, str]] = frozenset()
    permanent: bool = False

    def value(self) -> dict[str, object]:
        """The ``value`` of the event that ends this half."""
        found: dict[str, object] = {
            **start_value(self.id, self.action, self.kind, self.asked),
            "targets": list(self.targets),
            "done": self.done,
            "t_done": self.t_done_ns,
            "verified": self.verified.value,
            "permanent": self.permanent,
            "evidence": self.evidence,
        }
        return {**found, "cut": sorted(self.cut)} if self.cut else found


def start_value(fault_id: str, action: Action, kind: str, asked: str) -> dict[str, object]:
    """The ``value`` of the event that begins one half of a fault."""
    return {"id": fault_id, "action": action.value, "kind": kind, "asked": asked}


class Incident:
    """One fault of a run, from injection to proven healing.

    The caller writes ``start_value(...)`` before and the record's ``value()`` after each call:

        incident = Incident("f1", catalogue.parse("kill:master").fault(), world)
        record = await incident.inject()
        ...
        record = await incident.heal()
    """

    def __init__(self, fault_id: str, fault: Fault, world: World) -> None:
        self.id = fault_id
        self.fault = fault
        self.world = world
        self.injected: Record | None = None
        self.healed: Record | None = None
        self._pulled = False  # the lever was pulled, maybe half: healing has something to undo

    @property
    def open(self) -> bool:
        """Whether the fault was injected, is not meant to last, and is not healed yet."""
        return self._pulled and self.healed is None and not self.fault.permanent

    def start_value(self, action: Action) -> dict[str, object]:
        """The ``value`` of the event to write before calling ``inject`` or ``heal``."""
        return start_value(self.id, action, self.fault.kind, self.fault.asked)

    async def inject(self) -> Record:
        """Break it and prove it. Never raises, except when cancelled."""
        if self.injected is not None:
            return self._refused(Action.INJECT, "was injected before")
        self._pulled = True
        self.injected = await self._half(
            Action.INJECT,
            lambda: self.fault.inject(self.world, self.id),
            lambda: self.fault.prove_injected(self.world),
        )
        return self.injected

    async def heal(self) -> Record:
        """Undo it and prove that. Never raises, except when cancelled; may be called again if it was not proven."""
        if not self._pulled:
            return self._refused(Action.HEAL, "was never injected")
        self.healed = await self._half(
            Action.HEAL, lambda: self.fault.heal(self.world), lambda: self.fault.prove_healed(self.world)
        )
        return self.healed

    async def _half(
        self, action: Action, act: Callable[[], Awaitable[Done]], prove: Callable[[], Awaitable[Proof]]
    ) -> Record:
        done = Done((), "nothing", self.world.now_ns())
        try:
            done = await act()
            proof = await prove()
        except UnsupportedError as error:
            proof = Proof(Verified.UNSUPPORTED, {"reason": str(error)})
        except Exception as error:  # a broken lever or probe must not end the run: it makes the verdict unknown
            proof = Proof.of(False, reason=str(error) or repr(error), error=type(error).__name__)
        return Record(
            self.id,
            action,
            self.fault.kind,
            self.fault.asked,
            done.targets,
            done.what,
            done.t_done_ns,
            proof.verified,
            {**done.evidence, **proof.evidence},
            done.cut,
            self.fault.permanent,
        )

    def _refused(self, action: Action, reason: str) -> Record:
        now = self.world.now_ns()
        evidence: dict[str, object] = {"reason": reason}
        return Record(self.id, action, self.fault.kind, self.fault.asked, (), "nothing", now, Verified.FALSE, evidence)
