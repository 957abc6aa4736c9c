"""Faults of processes: kill and restart, destroy, pause and resume."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from nemesis.fault import Done, FaultError, Proof
from nemesis.targets import resolve
from nemesis.waiting import named, poll, roles_for
from nemesis.world import LeverError, NodeState, PortState, World

_DEAD = (NodeState.DEAD, NodeState.DESTROYED)


@dataclass(frozen=True, slots=True)
class Victim:
    """A node as it was when it was hurt."""

    node: str
    pid: int | None
    incarnation: int


class ProcessFault(ABC):
    """What kill, destroy and pause share: targets, one lever call each at the same moment, and what was refused."""

    kind = "process"
    permanent = False

    def __init__(self, asked: str, *, word: str = "", after_s: float = 0.0) -> None:
        self.asked = asked
        self._word = word or asked
        self._after_s = after_s  # seconds after the moment of an election that the word waits for
        self._fault_id = ""
        self._victims: list[Victim] = []
        self._refused: dict[str, str] = {}
        self._left: dict[str, str] = {}  # not healed by this fault, and why

    async def inject(self, world: World, fault_id: str) -> Done:
        """Hurt all targets at once. Raises FaultError if no target could be hurt."""
        self._fault_id = fault_id
        roles = await roles_for(self._word, world)  # asked before the moment comes, since asking takes time
        word, seen = await named(self._word, world, self._after_s)
        nodes = resolve(word, roles, world.rng)
        known = world.processes.nodes()
        if not seen:  # whom an election has just named does serve, and must be hit at that moment
            await asyncio.gather(*(self._until_fit(world, node) for node in nodes if node in known))
        victims = [_as_now(world, node) for node in nodes if node in known]
        refused = {node: f"{node} is not a process of this lab" for node in nodes if node not in known}
        # On record before the lever: a healing that begins meanwhile must leave them to this fault.
        world.ledger.hurt(fault_id, [victim.node for victim in victims])
        said, lever_refused = await _at_once(victims, lambda victim: self._hurt(world, victim))
        done_ns = world.now_ns()
        self._refused = {**refused, **lever_refused}
        # A lever waits for another that works on the same node: whom it struck is known now only.
        self._victims = [_as_now(world, victim.node) for victim in victims if victim.node not in self._refused]
        if not self._victims:
            world.ledger.unhurt(fault_id)
            raise FaultError("; ".join(self._refused.values()))
        world.ledger.hurt(fault_id, [victim.node for victim in self._victims])
        return Done(self._names(), "; ".join(said), done_ns, {**self._pids(), **seen})

    async def prove_injected(self, world: World) -> Proof:
        """Every target shows the injected state, and none was refused."""
        return await self._prove(world, self._victims, self._shows_hurt, self._refused)

    async def heal(self, world: World) -> Done:
        """Heal all victims at once, except those that a later fault hurts too: that one answers for them.

        A victim that is as it should be already needs no lever, but is proven like the others.
        """
        later = {victim.node: world.ledger.later(self._fault_id, victim.node) for victim in self._victims}
        self._left = {node: f"left to {', '.join(faults)}" for node, faults in later.items() if faults}
        mine = self._mine()
        superseded = {victim.node: self._superseded(world, victim) for victim in mine}
        todo = [victim for victim in mine if superseded[victim.node] is None]
        said, self._refused = await _at_once(todo, lambda victim: self._soothe(world, victim))
        done_ns = world.now_ns()
        world.ledger.unhurt(self._fault_id)
        said += [f"{node} {reason}" for node, reason in superseded.items() if reason is not None]
        what = "; ".join(said) or "nothing to heal"
        return Done(tuple(victim.node for victim in mine), what, done_ns, dict(self._left))

    async def prove_healed(self, world: World) -> Proof:
        """Every healed node shows the healed state, and none was refused."""
        return await self._prove(world, self._mine(), self._shows_healed, self._refused)

    # --- what the kinds differ in

    async def _until_fit(self, world: World, node: str) -> None:
        """Wait, but not for ever, until this fault would show on the node."""
        del world, node

    @abstractmethod
    async def _hurt(self, world: World, victim: Victim) -> str:
        """Pull the lever on one victim; what was done in words."""

    @abstractmethod
    async def _soothe(self, world: World, victim: Victim) -> str:
        """Undo it on one victim; what was done in words."""

    @abstractmethod
    async def _shows_hurt(self, world: World, victim: Victim) -> tuple[bool, dict[str, object]]:
        """Whether the victim shows the injected state, and what was seen."""

    @abstractmethod
    async def _shows_healed(self, world: World, victim: Victim) -> tuple[bool, dict[str, object]]:
        """Whether the victim shows the healed state, and what was seen."""

    def _superseded(self, world: World, victim: Victim) -> str | None:
        """Why no lever is needed any more on this node, or None."""
        del world, victim
        return None

    # --- inside

    async def _prove(
        self,
        world: World,
        victims: Sequence[Victim],
        look: Callable[[World, Victim], Awaitable[tuple[bool, dict[str, object]]]],
        refused: dict[str, str],
    ) -> Proof:
        looks = await asyncio.gather(*(look(world, victim) for victim in victims))
        evidence: dict[str, object] = {victim.node: seen for victim, (_, seen) in zip(victims, looks, strict=True)}
        if refused:
            evidence["refused"] = dict(refused)
        return Proof.of(all(holds for holds, _ in looks) and not refused, **evidence)

    def _names(self) -> tuple[str, ...]:
        return tuple(victim.node for victim in self._victims)

    def _mine(self) -> list[Victim]:
        return [victim for victim in self._victims if victim.node not in self._left]

    def _pids(self) -> dict[str, object]:
        return {"pids": {victim.node: victim.pid for victim in self._victims}}


class Kill(ProcessFault):
    """kill -9; healed by starting the node again with the store it left."""

    kind = "kill"

    async def _hurt(self, world: World, victim: Victim) -> str:
        return await world.processes.kill(victim.node, self._fault_id)

    async def _soothe(self, world: World, victim: Victim) -> str:
        return await world.processes.start(victim.node)

    async def _shows_hurt(self, world: World, victim: Victim) -> tuple[bool, dict[str, object]]:
        """The process is gone and its port refuses."""
        return await _shows_dead(world, victim)

    async def _shows_healed(self, world: World, victim: Victim) -> tuple[bool, dict[str, object]]:
        """Another process, a later incarnation, and it answers."""
        port = await _await_port(world, victim.node, PortState.ANSWERS, world.patience.start_s)
        pid, incarnation = world.processes.pid(victim.node), world.processes.incarnation(victim.node)
        holds = port is PortState.ANSWERS and pid != victim.pid and incarnation > victim.incarnation
        return holds, {"pid": pid, "incarnation": incarnation, "port": port.value}

    def _superseded(self, world: World, victim: Victim) -> str | None:
        if world.processes.incarnation(victim.node) > victim.incarnation:
            return "was started again meanwhile"
        return None


class Destroy(Kill):
    """kill -9 and delete the store. Lasts, unless asked to rejoin: then the node starts again with nothing."""

    kind = "destroy"

    def __init__(self, asked: str, *, word: str = "", after_s: float = 0.0, rejoin: bool = False) -> None:
        super().__init__(asked, word=word, after_s=after_s)
        self.permanent = not rejoin

    async def heal(self, world: World) -> Done:
        """Start the empty node if it shall rejoin; else there is nothing to heal."""
        if self.permanent:
            return Done((), "nothing to heal: it is meant to last", world.now_ns())
        return await super().heal(world)

    async def prove_healed(self, world: World) -> Proof:
        """What is meant to last is still so; a node that rejoined answers."""
        if self.permanent:
            return await self._prove(world, self._victims, self._shows_hurt, {})
        return await super().prove_healed(world)

    async def _hurt(self, world: World, victim: Victim) -> str:
        return await world.processes.destroy(victim.node, self._fault_id)

    async def _shows_hurt(self, world: World, victim: Victim) -> tuple[bool, dict[str, object]]:
        """Dead, and the store folder is gone."""
        dead, evidence = await _shows_dead(world, victim)
        gone = await world.processes.store_gone(victim.node)
        return dead and gone, {**evidence, "store_gone": gone}


class Pause(ProcessFault):
    """All threads stand still while sockets stay open; healed by letting them go on."""

    kind = "pause"

    async def _until_fit(self, world: World, node: str) -> None:
        """A node that was just started (by an earlier fault's healing) serves nobody yet: nothing would fall silent."""

        async def serves() -> bool:
            running = world.processes.state(node) is NodeState.RUNNING
            return not running or await world.processes.port(node, world.patience.ask_s) is not PortState.REFUSES

        await poll(world, serves, world.patience.start_s)

    async def _hurt(self, world: World, victim: Victim) -> str:
        return await world.processes.pause(victim.node)

    async def _soothe(self, world: World, victim: Victim) -> str:
        return await world.processes.resume(victim.node)

    async def _shows_hurt(self, world: World, victim: Victim) -> tuple[bool, dict[str, object]]:
        """The kernel says that every thread stands still, and nobody answers."""
        stopped = await world.processes.stopped(victim.node)
        port = await world.processes.port(victim.node, world.patience.silent_s)
        return stopped and port is PortState.SILENT, {"stopped": stopped, "port": port.value}

    async def _shows_healed(self, world: World, victim: Victim) -> tuple[bool, dict[str, object]]:
        """It answers again, in the same process unless it was started anew; or it was killed since, which is final."""
        if world.processes.state(victim.node) in _DEAD:
            return True, {"state": world.processes.state(victim.node).value}
        port = await _await_port(world, victim.node, PortState.ANSWERS, world.patience.resume_s)
        pid, incarnation = world.processes.pid(victim.node), world.processes.incarnation(victim.node)
        meant = pid == victim.pid or incarnation > victim.incarnation
        evidence: dict[str, object] = {"pid": pid, "incarnation": incarnation, "port": port.value}
        return meant and port is PortState.ANSWERS, evidence

    def _superseded(self, world: World, victim: Victim) -> str | None:
        if world.processes.incarnation(victim.node) > victim.incarnation:
            return "was killed and started again meanwhile"
        return {
            NodeState.DEAD: "was killed meanwhile",
            NodeState.DESTROYED: "was destroyed meanwhile",
            NodeState.RUNNING: "goes on already",
        }.get(world.processes.state(victim.node))


def _as_now(world: World, node: str) -> Victim:
    return Victim(node, world.processes.pid(node), world.processes.incarnation(node))


async def _shows_dead(world: World, victim: Victim) -> tuple[bool, dict[str, object]]:
    """Its process is gone, no other has taken its place, and nobody listens."""
    port = await _await_port(world, victim.node, PortState.REFUSES, world.patience.refuse_s)
    gone = victim.pid is not None and await world.processes.gone(victim.pid)
    dead = world.processes.state(victim.node) in _DEAD
    return gone and dead and port is PortState.REFUSES, {"pid_gone": gone, "port": port.value}


async def _await_port(world: World, node: str, wanted: PortState, timeout_s: float) -> PortState:
    """Ask until the port is in the wanted state; return the last that was seen."""
    seen: list[PortState] = []

    async def shows() -> bool:
        seen[:] = [await world.processes.port(node, world.patience.ask_s)]
        return seen[0] is wanted

    await poll(world, shows, timeout_s)
    return seen[0]


async def _at_once(
    victims: Sequence[Victim], act: Callable[[Victim], Awaitable[str]]
) -> tuple[list[str], dict[str, str]]:
    """Act on all at the same time; what was done in words, and the reason for each that was refused."""
    outcomes = await asyncio.gather(*(act(victim) for victim in victims), return_exceptions=True)
    said, refused = [], {}
    for victim, outcome in zip(victims, outcomes, strict=True):
        if isinstance(outcome, str):
            said.append(outcome)
        elif isinstance(outcome, LeverError):
            refused[victim.node] = str(outcome)
        else:
            raise outcome
    return said, refused
