"""``make soak``, ``make soak-dledger``: many runs with different seeds and mixed faults, all of which must be valid.

Afterwards each lever's injection and healing is replaced by a no-op, and each of these runs must be unknown; and the
machine must look as before. The soak of DLedger groups does so on three and on five replicas.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import msgspec

from checkers.verdict import Validity
from lab.commands import batch_code, carry_out, plan_of, setup_failure
from lab.duration import Duration
from lab.errors import ExitCode, LabError
from lab.leaks import traces
from lab.options import RunOptions
from lab.plan import Drain, FaultStep, Nemesis, Plan
from lab.scenarios import table
from nemesis.catalogue import parse
from nemesis.flaws import ELECTED_INJECTIONS, HEALINGS, INJECTIONS, LeverFlaw

FIRST_SEED: Final = 1001
PLANS: Final = Path(__file__).resolve().parents[1] / "plans"
PLAN: Final = PLANS / "soak.toml"
DLEDGER_PLAN: Final = PLANS / "soak-dledger.toml"
RUN_MAX_S: Final = 180.0  # a run that takes longer has hung somewhere, even if it ended

LIES: Final = {
    LeverFlaw.NO_CUT: "partition:isolate-master",
    LeverFlaw.NO_RESTORE: "partition:isolate-slave",
    LeverFlaw.NO_KILL: "kill:master",
    LeverFlaw.NO_START: "kill:slave",
    LeverFlaw.NO_PAUSE: "pause:master",
    LeverFlaw.NO_RESUME: "pause:slave",
    LeverFlaw.NO_DESTROY: "destroy:slave",
    LeverFlaw.NO_PROMOTE: "promote:slave",
}
"""A fault that each lying lever is asked for."""

ELECTED_LIES: Final = {
    LeverFlaw.NO_CUT: "partition:isolate-leader",
    LeverFlaw.NO_RESTORE: "partition:isolate-follower",
    LeverFlaw.NO_KILL: "kill:leader",
    LeverFlaw.NO_START: "kill:follower",
    LeverFlaw.NO_PAUSE: "pause:leader",
    LeverFlaw.NO_RESUME: "pause:follower",
    LeverFlaw.NO_TRANSFER: "transfer:follower",
    LeverFlaw.NO_ADD: "add",
    LeverFlaw.NO_REMOVE: "remove:follower",
}
"""The same for groups that elect."""


@dataclass(frozen=True, slots=True)
class Row:
    """One run of the soak."""

    name: str
    seed: int
    expected: str
    found: str
    seconds: float
    detail: str

    @property
    def good(self) -> bool:
        """Whether the verdict is the expected one, in time."""
        return self.found == self.expected and self.seconds < RUN_MAX_S


@dataclass(frozen=True, slots=True)
class Course:
    """What a soak goes through: a plan, how often, with how many replicas (none: as planned), and the lies."""

    plan: Path
    runs: int
    replicas: tuple[int | None, ...]
    lies: tuple[LeverFlaw, ...]
    asked: Mapping[LeverFlaw, str]


APPOINTED: Final = Course(PLAN, 20, (None,), (*INJECTIONS, *HEALINGS), LIES)
ELECTED: Final = Course(DLEDGER_PLAN, 50, (3, 5), (*ELECTED_INJECTIONS, *HEALINGS), ELECTED_LIES)
COURSES: Final = {"master-slave": APPOINTED, "dledger": ELECTED}


def soak(out: Path, course: Course = APPOINTED, *, runs: int | None = None, lies: bool = True) -> tuple[ExitCode, str]:
    """All runs, one after the other; the exit code and a table."""
    before = traces(out)
    rows = []
    for number in range(course.runs if runs is None else runs):
        for replicas in course.replicas:
            name = f"soak {number + 1}" if replicas is None else f"soak {number + 1}, {replicas} replicas"
            options = RunOptions(seed=FIRST_SEED + number, replicas=replicas)
            rows.append(_one(name, plan_of(course.plan, options), "valid", out))
    if lies:
        rows += [_one(flaw.value, lying_plan(flaw, course), "unknown", out) for flaw in course.lies]
    left = traces(out).more_than(before)
    codes = [Validity.VALID if row.good else Validity.INVALID for row in rows if row.found != "set-up failed"]
    failures = sum(row.found == "set-up failed" for row in rows)
    code = batch_code(codes, failures)
    cells: list[Sequence[str]] = [
        (row.name, str(row.seed), row.expected, f"{row.found} {'✓' if row.good else '✗'}", f"{row.seconds:.1f} s",
         row.detail) for row in rows
    ]  # fmt: skip
    lines = [table(("run", "seed", "expected", "found", "took", "detail"), cells), ""]
    lines.append(f"{sum(row.good for row in rows)} of {len(rows)} as expected, {failures} set-up failures")
    lines.append("nothing was left behind" if not left else "LEFT BEHIND:\n  " + "\n  ".join(left))
    return (ExitCode.INVALID if left and code is ExitCode.VALID else code), "\n".join(lines)


def lying_plan(flaw: LeverFlaw, course: Course = APPOINTED) -> Plan:
    """A short run in which one lever lies about one half of one fault."""
    base = plan_of(course.plan, RunOptions(seed=FIRST_SEED))
    permanent = parse(course.asked[flaw]).permanent
    step = FaultStep(
        kind=course.asked[flaw], at=Duration.seconds(3), lasting=None if permanent else Duration.seconds(3)
    )
    return msgspec.structs.replace(
        base,
        name="lying-lever",
        time_limit=Duration.seconds(10),
        fault=(step,),
        nemesis=Nemesis(),
        lever_flaws=(flaw.value,),
        drain=Drain(
            ready_for=Duration.seconds(1),
            recover_within=Duration.seconds(5),
            consume_within=Duration.seconds(5),
            budget=Duration.seconds(20),
        ),
    )


def _one(name: str, plan: Plan, expected: str, out: Path) -> Row:
    began = time.monotonic()
    click.echo(f"{name}: seed {plan.seed}", err=True)
    try:
        result = carry_out(plan, out)
    except LabError as error:
        words = setup_failure(error)
        if words is None:
            raise
        return Row(name, plan.seed or 0, expected, "set-up failed", time.monotonic() - began, words)
    found = result.verdict.valid.word
    detail = str(result.folder.path) if found != expected else ""
    row = Row(name, plan.seed or 0, expected, found, time.monotonic() - began, detail)
    click.echo(f"{name}: {found} after {row.seconds:.1f} s {detail}", err=True)
    return row


@click.command()
@click.option("--mode", type=click.Choice(sorted(COURSES)), default="master-slave", show_default=True)
@click.option("--runs", type=int, metavar="N", help="Seeds, instead of the course's own number.")
@click.option("--no-lies", is_flag=True, help="Leave out the runs with levers that lie.")
def main(mode: str, runs: int | None, no_lies: bool) -> None:
    """Many runs of different seeds; the exit code says whether all were as expected."""
    code, text = soak(Path("runs"), COURSES[mode], runs=runs, lies=not no_lies)
    click.echo(text)
    sys.exit(code)


if __name__ == "__main__":
    main()
