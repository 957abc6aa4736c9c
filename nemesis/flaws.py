"""Planted flaws of the levers themselves: each makes one lever lie, and the proofs must notice (checkers C19).

``numb(world, flaws)`` is the same world with levers that say they acted and did not, or acted by half.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from nemesis.world import Pair, World


class LeverFlaw(StrEnum):
    """One lie of one lever. All are off unless named in a plan."""

    NO_CUT = "no-cut"  # a partition is reported and nothing is lost
    HALF_CUT = "half-cut"  # only one direction is lost where both were asked
    NO_RESTORE = "no-restore"  # healing is reported and everything stays lost
    HALF_RESTORE = "half-restore"  # healing forgets one direction
    NO_KILL = "no-kill"
    NO_START = "no-start"
    NO_DESTROY = "no-destroy"
    KILL_WITHOUT_DESTROY = "kill-without-destroy"  # the process dies, its store stays
    NO_PAUSE = "no-pause"
    NO_RESUME = "no-resume"
    NO_PROMOTE = "no-promote"
    NO_TRANSFER = "no-transfer"
    NO_ADD = "no-add"  # an added replica is reported and none was added; nor is any added back
    NO_REMOVE = "no-remove"


INJECTIONS = (LeverFlaw.NO_CUT, LeverFlaw.NO_KILL, LeverFlaw.NO_DESTROY, LeverFlaw.NO_PAUSE, LeverFlaw.NO_PROMOTE)
"""The no-op of every lever's injection, of groups whose master is appointed."""

ELECTED_INJECTIONS = (
    LeverFlaw.NO_CUT,
    LeverFlaw.NO_KILL,
    LeverFlaw.NO_PAUSE,
    LeverFlaw.NO_TRANSFER,
    LeverFlaw.NO_ADD,
    LeverFlaw.NO_REMOVE,
)
"""The same, of groups that elect their leader."""

HEALINGS = (LeverFlaw.NO_RESTORE, LeverFlaw.NO_START, LeverFlaw.NO_RESUME)
"""The no-op of every lever's healing."""

if TYPE_CHECKING:
    _Base = Any
else:
    _Base = object


class _Numb(_Base):  # type: ignore[misc]
    """Passes everything through to the real thing, except the methods that subclasses override."""

    def __init__(self, real: Any, flaws: Collection[LeverFlaw]) -> None:
        self._real = real
        self._flaws = flaws

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _NumbNetwork(_Numb):
    def __init__(self, real: Any, flaws: Collection[LeverFlaw]) -> None:
        super().__init__(real, flaws)
        self._pairs: dict[str, frozenset[Pair]] = {}

    async def cut(self, fault_id: str, pairs: frozenset[Pair]) -> str:
        if LeverFlaw.NO_CUT in self._flaws:
            return f"cut {len(pairs)} pairs"
        if LeverFlaw.HALF_CUT in self._flaws:
            pairs = _one_direction(pairs)
        self._pairs[fault_id] = pairs
        return str(await self._real.cut(fault_id, pairs))

    async def restore(self, fault_id: str) -> str:
        if LeverFlaw.NO_RESTORE in self._flaws:
            return "restored"
        if LeverFlaw.HALF_RESTORE in self._flaws:
            return str(await self._real.cut(fault_id, _one_direction(self._pairs.get(fault_id, frozenset()))))
        return str(await self._real.restore(fault_id))


class _NumbProcesses(_Numb):
    async def kill(self, node: str, fault_id: str) -> str:
        if LeverFlaw.NO_KILL in self._flaws:
            return f"SIGKILL {node}"
        return str(await self._real.kill(node, fault_id))

    async def start(self, node: str) -> str:
        if LeverFlaw.NO_START in self._flaws:
            return f"started {node}"
        return str(await self._real.start(node))

    async def destroy(self, node: str, fault_id: str) -> str:
        if LeverFlaw.NO_DESTROY in self._flaws:
            return f"SIGKILL {node}, deleted its store"
        if LeverFlaw.KILL_WITHOUT_DESTROY in self._flaws:
            return str(await self._real.kill(node, fault_id))
        return str(await self._real.destroy(node, fault_id))

    async def pause(self, node: str) -> str:
        if LeverFlaw.NO_PAUSE in self._flaws:
            return f"paused {node}"
        return str(await self._real.pause(node))

    async def resume(self, node: str) -> str:
        if LeverFlaw.NO_RESUME in self._flaws:
            return f"resumed {node}"
        return str(await self._real.resume(node))


class _NumbMembers(_Numb):
    async def transfer(self, node: str) -> str:
        if LeverFlaw.NO_TRANSFER in self._flaws:
            return f"handed over to {node}"
        return str(await self._real.transfer(node))

    async def join(self, node: str) -> str:
        if LeverFlaw.NO_ADD in self._flaws:
            return f"added {node}"
        return str(await self._real.join(node))

    async def leave(self, node: str, *, stop: bool = True, by: str = "") -> str:
        if LeverFlaw.NO_REMOVE in self._flaws:
            return f"removed {node}"
        return str(await self._real.leave(node, stop=stop, by=by))


class _NumbRoles(_Numb):
    async def promote(self, node: str) -> str:
        if LeverFlaw.NO_PROMOTE in self._flaws:
            return f"promoted {node}"
        return str(await self._real.promote(node))


def numb(world: World, flaws: Collection[LeverFlaw]) -> World:
    """The same world with these flaws in its levers; observations stay true. The ledger is shared."""
    if not flaws:
        return world
    return dataclasses.replace(
        world,
        network=_NumbNetwork(world.network, flaws),
        processes=_NumbProcesses(world.processes, flaws),
        roles=_NumbRoles(world.roles, flaws),
        members=None if world.members is None else _NumbMembers(world.members, flaws),
    )


def _one_direction(pairs: frozenset[Pair]) -> frozenset[Pair]:
    """Of every two opposite pairs only the one from the host whose name sorts first; of a single pair nothing."""
    return frozenset((a, b) for a, b in pairs if a < b and (b, a) in pairs)
