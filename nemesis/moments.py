"""Any fault at a moment of an election, whomever it hits."""

from __future__ import annotations

import asyncio
import dataclasses

from nemesis.fault import Done, Fault, Proof
from nemesis.waiting import moment_of, told
from nemesis.world import Moment, World


class AtMoment:
    """Another fault, injected when a node is elected or gives its vote; its targets are chosen then."""

    def __init__(self, fault: Fault, moment: Moment, after_s: float, said: str) -> None:
        self._fault = fault
        self._moment = moment
        self._after_s = after_s
        self.kind = fault.kind
        self.asked = ",".join(filter(None, (fault.asked, said)))
        self.permanent = fault.permanent

    async def inject(self, world: World, fault_id: str) -> Done:
        """Wait for the moment, then do it. Raises what the fault raises, and FaultError if the moment does not come."""
        seen = await moment_of(world, self._moment)
        await asyncio.sleep(self._after_s)
        done = await self._fault.inject(world, fault_id)
        return dataclasses.replace(done, evidence={**told(seen), **done.evidence})

    async def prove_injected(self, world: World) -> Proof:
        """The fault's own proof."""
        return await self._fault.prove_injected(world)

    async def heal(self, world: World) -> Done:
        """The fault's own healing."""
        return await self._fault.heal(world)

    async def prove_healed(self, world: World) -> Proof:
        """The fault's own proof."""
        return await self._fault.prove_healed(world)
