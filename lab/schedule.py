"""Carries out the faults of a plan at their times, each with its proof, and heals what is still open at the end."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from lab.event import NEMESIS, encode_line
from lab.generator.faults import FaultPlan
from lab.journal import Journal
from lab.workloads.pace import Pace
from nemesis import catalogue
from nemesis.fault import Action, Fault, Incident, Record, Verified, start_value
from nemesis.world import World

MakeFault = Callable[[FaultPlan], Fault]
Permanent = Callable[[Record], Awaitable[None]]


class FaultRecorder:
    """Writes both events of a half of a fault into the journal, and its record into faults.jsonl."""

    def __init__(self, journal: Journal, path: Path) -> None:
        self._journal = journal
        self._path = path
        self.unproven: list[Record] = []
        self.records: list[Record] = []

    async def half(self, incident: Incident, action: Action) -> Record:
        """Inject or heal one incident on record."""
        process = f"{NEMESIS}/{incident.id}"  # faults may overlap, and each has one operation at a time
        kind = incident.fault.kind
        begin = start_value(incident.id, action, kind, incident.fault.asked)
        self._journal.write(process, "info", kind, begin)
        record = await (incident.inject() if action is Action.INJECT else incident.heal())
        self._journal.write(process, "info", kind, record.value())
        with self._path.open("ab") as out:
            out.write(encode_line(record.value()) + b"\n")
        self.records.append(record)
        if record.verified is not Verified.TRUE:
            self.unproven.append(record)
        return record


class Schedule:
    """The faults of one run. ``after_permanent`` is called when a fault that lasts (promotion, destruction) is done."""

    def __init__(
        self,
        faults: tuple[FaultPlan, ...],
        world: World,
        recorder: FaultRecorder,
        *,
        make: MakeFault | None = None,
        after_permanent: Permanent | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._faults = faults
        self._world = world
        self._recorder = recorder
        self._make = make or make_fault
        self._after_permanent = after_permanent
        self._say = say or (lambda _: None)
        self._open: list[Incident] = []

    @property
    def open(self) -> tuple[str, ...]:
        """Ids of faults that are injected and not healed, oldest first."""
        return tuple(incident.id for incident in self._open)

    async def run(self, pace: Pace) -> None:
        """Inject and heal on time until all is done or load is stopped; what is open then is left for `heal_all`."""
        await asyncio.gather(*(self._one(fault, pace) for fault in self._faults))

    async def inject_now(self, fault: FaultPlan) -> Record:
        """Inject one fault at once, outside any schedule."""
        incident = Incident(fault.id, self._make(fault), self._world)
        if not incident.fault.permanent:
            self._open.append(incident)
        record = await self._recorder.half(incident, Action.INJECT)
        self._say(f"{fault.id} {fault.spec}: {record.done} ({_proof(record)})")
        if incident.fault.permanent and self._after_permanent is not None:
            await self._after_permanent(record)
        return record

    async def heal_now(self, fault_id: str) -> Record | None:
        """Heal one open fault; None if there is none of this id."""
        incident = next((incident for incident in self._open if incident.id == fault_id), None)
        if incident is None:
            return None
        self._open.remove(incident)
        record = await self._recorder.half(incident, Action.HEAL)
        self._say(f"{fault_id} healed: {record.done} ({_proof(record)})")
        return record

    async def heal_all(self) -> list[Record]:
        """Heal every open fault, newest first (D2)."""
        healed = []
        for incident in list(reversed(self._open)):
            record = await self.heal_now(incident.id)
            if record is not None:
                healed.append(record)
        return healed

    async def _one(self, fault: FaultPlan, pace: Pace) -> None:
        if not await pace.until(fault.at_ns):
            return
        record = await self.inject_now(fault)
        if fault.heal_ns is None:
            return
        # One that had to wait for its moment lasts as long as another: what ends at once shows nothing.
        since_ns = pace.now() - (self._world.now_ns() - record.t_done_ns)
        if await pace.until(since_ns + fault.heal_ns - fault.at_ns):
            await self.heal_now(fault.id)


def make_fault(fault: FaultPlan) -> Fault:
    """The nemesis' fault for a plan's fault."""
    return catalogue.parse(fault.spec).fault()


def _proof(record: Record) -> str:
    return {Verified.TRUE: "proven", Verified.FALSE: "NOT proven"}.get(record.verified, "unsupported")
