"""Planted flaws and what must catch them, as data (plans/flaws.toml), and the program that tries them all.

``python -m lab.flawtable`` runs every row until a seed is found under which the named checkers find what is named, and
every seed that it tries without the flaw as well, which must be valid and find nothing of the kind.
"""

import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import click

from checkers.verdict import Severity, Validity, Verdict
from lab.commands import carry_out
from lab.errors import ExitCode, PlanError
from lab.plan import Plan
from lab.planfile import build_plan, nearest, read_plan, write_plan
from lab.scenarios import ELECTED_PLAN, table
from lab.workloads.flaws import ClientFlaw
from nemesis.flaws import LeverFlaw

PLANS: Final = Path(__file__).resolve().parents[1] / "plans"
FILE: Final = "flaws.toml"
FIRST_SEED: Final = 501
TIME_LIMIT: Final = "16s"
QUICK: Final = {"ready_for": "1s", "recover_within": "15s", "consume_within": "10s", "budget": "30s"}
"""A cluster with a flaw may never become ready; what it did wrong is on record by then."""
OVERLAID: Final = ("cluster", "load", "broker", "namesrv")
"""Tables of the plan that a row may lay its own keys over."""


@dataclass(frozen=True, slots=True)
class Row:
    """One flaw: the faults that bring it to light, and what of `caught_by` must be said of it: one is enough, but of
    one that is a list every part. ``C7`` stands for any violation of that checker, ``C7 truncated-commit`` for that
    count of its record, as printed: ``C19 unproven-heal (undecided)``, ``C16 lost SEND_OK``."""

    name: str
    caught_by: tuple[str | tuple[str, ...], ...]
    seeds: int
    tables: Mapping[str, Any]
    base: str = ELECTED_PLAN

    @property
    def plants(self) -> str:
        """The plan's key that the flaw belongs to: one of the nodes, of the nemesis or of the clients."""
        if self.name in {flaw.value for flaw in LeverFlaw}:
            return "lever_flaws"
        return "client_flaws" if self.name in {flaw.value for flaw in ClientFlaw} else "flaws"

    @property
    def findings(self) -> tuple[str, ...]:
        """All that may be said of it."""
        return tuple(part for one in self.caught_by for part in ((one,) if isinstance(one, str) else one))

    def plan(self, seed: int, *, flawed: bool = True) -> Plan:
        """The run with or without the flaw."""
        found = read_plan(PLANS / self.base)
        tables = {**found, "drain": QUICK, **self.tables}
        for key in OVERLAID:
            tables[key] = {**found.get(key, {}), **self.tables.get(key, {})}
        tables |= {"name": f"flaw-{self.name}", "text": "", "seed": seed, "judge": {}}
        if not flawed:
            return build_plan({**tables, "name": "unflawed"}, FILE)
        return build_plan({**tables, self.plants: [self.name]}, FILE)

    def caught(self, verdict: Verdict) -> bool:
        """Whether what is named was found."""
        return any(
            _said(one, verdict) if isinstance(one, str) else all(_said(part, verdict) for part in one)
            for one in self.caught_by
        )


def _said(finding: str, verdict: Verdict) -> bool:
    """Whether a checker violated, or found what is named behind it."""
    checker, _, kind = finding.partition(" ")
    record = verdict.record(checker)
    if record is None:
        return False
    return record.counts.get(kind, 0) > 0 if kind else record.valid is Validity.INVALID


def spoken(verdict: Verdict) -> str:
    """All findings of a verdict that are more than notes, as ``caught_by`` names them."""
    found: dict[str, None] = {}
    for record in verdict.records:
        for anomaly in record.anomalies:
            if anomaly.severity is not Severity.NOTE:
                ending = "" if anomaly.severity is Severity.VIOLATION else f" ({anomaly.severity.value})"
                found[f"{record.checker} {anomaly.type}{ending}"] = None
    return ", ".join(found)


def read_flaws(path: Path = PLANS / FILE) -> tuple[Row, ...]:
    """All rows. Raises PlanError."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise PlanError(f"cannot read the table of flaws {path}: {error}") from None
    return tuple(
        Row(
            entry["name"],
            tuple(one if isinstance(one, str) else tuple(one) for one in entry["caught_by"]),
            int(entry.get("seeds", tables["seeds"])),
            {
                "time_limit": entry.get("time_limit", TIME_LIMIT),
                "fault": entry["faults"],
                **{key: entry[key] for key in OVERLAID if key in entry},
            },
            entry.get("plan", ELECTED_PLAN),
        )
        for entry in tables["flaw"]
    )


def try_row(row: Row, out: Path, clean: dict[str, Verdict]) -> tuple[bool, Sequence[str]]:
    """Run seeds until the flaw is caught, each without it, too: whether all went as they must, in cells.

    `clean` holds the verdicts over runs without a flaw: rows that differ in the flaw alone share one.
    """
    demanded = " or ".join(one if isinstance(one, str) else " + ".join(one) for one in row.caught_by)
    asked = ", ".join(
        f"{fault['kind']} at {fault['at']} for {fault.get('for', 'good')}" for fault in row.tables["fault"]
    )
    words: list[str] = []
    good = True
    for turn in range(row.seeds):
        seed = FIRST_SEED + turn
        click.echo(f"{row.name}: seed {seed}", err=True)
        verdict = carry_out(row.plan(seed), out).verdict
        click.echo(f"{row.name}: {verdict.valid.word}: {spoken(verdict)}", err=True)
        plan = row.plan(seed, flawed=False)
        key = write_plan(plan)
        if key not in clean:
            clean[key] = carry_out(plan, out).verdict
        words.append(clean[key].valid.word)
        good = good and words[-1] == "valid" and not row.caught(clean[key])
        if row.caught(verdict):
            without = " ".join(words) if good else f"NOT GOOD: {' '.join(words)}"
            return good, (row.name, asked, demanded, str(seed), str(turn + 1), without)
    return False, (row.name, asked, demanded, "none", str(row.seeds), "NOT CAUGHT")


@click.command()
@click.argument("names", nargs=-1)
@click.option("--seeds", type=click.IntRange(1), help="Try so many at most, instead of what the table says.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs"), help="Where the runs are kept.")
def main(names: tuple[str, ...], seeds: int | None, out: Path) -> None:
    """Try the named flaws, or all."""
    known = read_flaws()
    for name in names:
        if name not in {row.name for row in known}:
            raise click.UsageError(f"no flaw {name!r} in {FILE}{nearest(name, [row.name for row in known])}")
    rows = [replace(row, seeds=seeds or row.seeds) for row in known if not names or row.name in names]
    clean: dict[str, Verdict] = {}
    done = []
    for row in rows:
        done.append(try_row(row, out, clean))
        click.echo("  ".join(done[-1][1]), err=True)  # a table that is broken off has told what it found
    head = ("flaw", "faults", "must be found", "with seed", "tries", "without it")
    click.echo(table(head, [cells for _, cells in done]))
    sys.exit(ExitCode.VALID if all(good for good, _ in done) else ExitCode.INVALID)


if __name__ == "__main__":
    main()
