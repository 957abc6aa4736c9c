"""When what is broken and healed; pure and seeded. Who is hit is decided at the moment of the fault, from roles."""

from dataclasses import dataclass, replace
from typing import Final

from lab.duration import Duration
from lab.errors import PlanError
from lab.plan import FaultStep, Plan, Setting
from lab.randomness import child
from nemesis.catalogue import kind_of

QUIET_SHARE: Final = 0.2  # of the load phase, before the first fault and after the last heal
QUIET_MIN: Final = Duration.seconds(2)
SLOT_MIN: Final = Duration.seconds(2)
LASTING_SHARE: Final = 0.6  # of its slot
SLOT_FILL: Final = 0.8  # at most, so that a fault is healed before the next one comes
FAULTS_BY_DEFAULT: Final = 2
EVERY: Final = ",every="
EVERY_MIN: Final = Duration.seconds(1)


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """One fault with its times since load began; ``heal_ns`` is None if the drain heals it."""

    id: str
    spec: str  # kind[:target], as the nemesis' catalogue reads it
    at_ns: int
    heal_ns: int | None

    @property
    def kind(self) -> str:
        """The word of the catalogue."""
        return kind_of(self.spec)


def fault_schedule(plan: Plan, seed: int) -> tuple[FaultPlan, ...]:
    """The faults written in the plan, and those drawn from its list, by time of injection."""
    listed: list[FaultPlan] = []
    for number, step in enumerate(plan.fault, 1):
        one = FaultPlan(
            id=step.id or f"f{number}",
            spec=spec_of(step),
            at_ns=step.at.ns,
            heal_ns=None if step.lasting is None else step.at.ns + step.lasting.ns,
        )
        listed += again(one, None if step.every is None else step.every.ns)
    return tuple(sorted([*listed, *_drawn(plan, seed, len(plan.fault))], key=lambda fault: fault.at_ns))


def spec_of(step: FaultStep) -> str:
    """The words of a fault in a plan as the catalogue reads them: its options stand behind its target."""
    words = f"{step.kind}:{step.target}" if step.target else step.kind
    options = [f"{key}={_word(value)}" for key, value in sorted(step.options.items())]
    return ",".join([words, *options])


def _word(value: Setting) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def again(fault: FaultPlan, every_ns: int | None) -> list[FaultPlan]:
    """The fault again and again for as long as it was to last, each healed before the next one, with ids of their own.

    The period is ``every_ns``, or the option ``every`` of its spec (``kill:leader,every=3s``); without either it
    comes once. Raises PlanError.
    """
    spec, comma, period = fault.spec.partition(EVERY)
    if comma:
        try:
            every_ns = Duration.parse(period).ns
        except ValueError as error:
            raise PlanError(f"{fault.spec}: every: {error}") from None
    if every_ns is None:
        return [fault]
    if fault.heal_ns is None:
        raise PlanError(f"fault {fault.spec} comes again and again, so it must say for how long")
    if every_ns < EVERY_MIN.ns:
        raise PlanError(f"fault {fault.spec} comes again every {Duration(every_ns)}: {EVERY_MIN} at least")
    lasting = int(every_ns * LASTING_SHARE)
    count = max(1, (fault.heal_ns - fault.at_ns) // every_ns)
    return [
        replace(fault, id=f"{fault.id}.{turn + 1}", spec=spec, at_ns=at_ns, heal_ns=at_ns + lasting)
        for turn in range(count)
        for at_ns in [fault.at_ns + turn * every_ns]
    ]


def wanted_and_room(plan: Plan) -> tuple[int, int]:
    """How many faults the plan wants drawn, and how many there is time for; a plan that draws none wants none."""
    nemesis = plan.nemesis
    if not nemesis.faults:
        return 0, 0
    wanted = nemesis.count or max(FAULTS_BY_DEFAULT, len(nemesis.faults))
    return wanted, max(1, (plan.time_limit.ns - 2 * _quiet_ns(plan)) // SLOT_MIN.ns)


def _quiet_ns(plan: Plan) -> int:
    return max(QUIET_MIN.ns, int(plan.time_limit.ns * QUIET_SHARE))


def _drawn(plan: Plan, seed: int, listed: int) -> list[FaultPlan]:
    nemesis = plan.nemesis
    if not nemesis.faults:
        return []
    chance = child(seed, "faults")
    limit = plan.time_limit.ns
    quiet = _quiet_ns(plan)
    span = limit - 2 * quiet
    count = min(wanted_and_room(plan))
    slot = span // count
    wished = nemesis.lasting.ns if nemesis.lasting else int(slot * LASTING_SHARE)
    lasting = min(wished, span if nemesis.overlap else int(slot * SLOT_FILL))
    deck: list[str] = []
    drawn = []
    for number in range(count):
        if not deck:
            deck = chance.sample(nemesis.faults, len(nemesis.faults))
        room = slot if nemesis.overlap else slot - lasting
        at_ns = min(quiet + number * slot + int(chance.uniform(0, 0.5) * room), quiet + span - lasting)
        drawn += again(FaultPlan(f"f{listed + number + 1}", deck.pop(), at_ns, at_ns + lasting), None)
    return drawn
