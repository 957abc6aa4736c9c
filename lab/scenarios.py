"""Scenarios: named plans with the verdict that each configuration must reach; the truth table of the lab."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from checkers.verdict import Validity
from lab.commands import batch_code, carry_out, plan_of, setup_failure
from lab.errors import ExitCode, LabError, PlanError
from lab.judging import last_lines, report_text
from lab.options import RunOptions, overlay
from lab.plan import DLEDGER, MASTER_SLAVE, Plan
from lab.planfile import build_plan, nearest, read_plan
from lab.show import show_for

FILE: Final = "scenarios.toml"
DEFAULT: Final = "sync"
ELECTED_PLAN: Final = "dledger.toml"
"""The plan that scenarios of groups that elect are laid over."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A plan, and the expected verdict by configuration."""

    name: str
    text: str
    plan: Path
    expect: Mapping[str, str]
    elected: Mapping[str, Any] = field(default_factory=dict)  # laid over the base plan of groups that elect

    @property
    def default(self) -> str:
        """The configuration that is run unless another is named: sync, or the first where it is not judged."""
        return DEFAULT if DEFAULT in self.expect else next(iter(self.expect))


@dataclass(frozen=True, slots=True)
class Scenarios:
    """All scenarios, and the settings of each configuration."""

    all: tuple[Scenario, ...]
    configurations: Mapping[str, Mapping[str, str | int]]
    folder: Path

    def scenario(self, name: str) -> Scenario:
        """The scenario of this name. Raises PlanError with the nearest one."""
        for found in self.all:
            if found.name.lower() == name.lower():
                return found
        raise PlanError(f"unknown scenario {name!r}{nearest(name, [found.name for found in self.all])}")

    def plan(self, scenario: Scenario, configuration: str, seed: int | None = None) -> Plan:
        """The plan of a scenario in a configuration. Raises PlanError with the nearest name."""
        if configuration not in self.configurations:
            raise PlanError(f"unknown configuration {configuration!r}{nearest(configuration, self.configurations)}")
        if configuration not in scenario.expect:
            known = ", ".join(scenario.expect)
            raise PlanError(f"scenario {scenario.name} says nothing about {configuration}; it has {known}")
        keys = dict(self.configurations[configuration])
        mode, replicas = keys.pop("mode", MASTER_SLAVE), keys.pop("replicas", None)
        settings = tuple(f"{key}={value}" for key, value in keys.items())
        if mode != DLEDGER:
            return plan_of(scenario.plan, RunOptions(settings=settings, seed=seed))
        tables = {**read_plan(self.folder / ELECTED_PLAN), **scenario.elected}
        tables |= {"name": f"{scenario.name.lower()}-{configuration}", "text": scenario.text}
        options = RunOptions(replicas=None if replicas is None else int(replicas), settings=settings, seed=seed)
        return build_plan(overlay(tables, options), f"scenario {scenario.name}")


def plans_folder() -> Path:
    """Where the scenarios lie: `plans` in the current folder, else in the checkout that this package runs from."""
    here = Path("plans")
    return here if (here / FILE).exists() else Path(__file__).resolve().parents[1] / "plans"


def read_scenarios(folder: Path) -> Scenarios:
    """Read the scenarios file of a folder of plans. Raises PlanError."""
    path = folder / FILE
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(
            f"cannot read {path}: {error.strerror}; the scenarios are part of a checkout of brokerlab: run lab there"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"{path} is not TOML: {error}") from None
    found = tuple(
        Scenario(
            entry["name"],
            entry["text"],
            folder / entry.get("plan", ELECTED_PLAN),
            dict(entry["expect"]),
            entry.get("elected", {}),
        )
        for entry in tables["scenario"]
    )
    return Scenarios(found, tables["configuration"], folder)


def list_text(scenarios: Scenarios) -> str:
    """One line a scenario."""
    lines = []
    for found in scenarios.all:
        expected = ", ".join(f"{configuration} {verdict}" for configuration, verdict in found.expect.items())
        lines.append(f"{found.name:5} {found.text}\n      {expected}")
    return "\n".join(lines)


def run_one(
    scenarios: Scenarios, name: str, configuration: str | None, out: Path, *, seed: int | None = None
) -> tuple[ExitCode, str]:
    """Run one scenario; exit 0 only if the verdict is the expected one."""
    scenario = scenarios.scenario(name)
    configuration = configuration or scenario.default
    result = carry_out(scenarios.plan(scenario, configuration, seed), out, show=show_for())
    expected = scenario.expect[configuration]
    replay = ["lab", "replay", str(result.folder.path)]
    text = f"{report_text(result.verdict)}\n{last_lines(result.verdict, result.folder, replay, expected)}"
    return _match(result.verdict.valid, expected), text


def run_all(scenarios: Scenarios, out: Path) -> tuple[ExitCode, str]:
    """Run every scenario in every configuration and print what was expected and what came."""
    codes: list[Validity] = []
    failures = 0
    rows: list[Sequence[str]] = []
    for scenario in scenarios.all:
        for configuration, expected in scenario.expect.items():
            try:
                result = carry_out(scenarios.plan(scenario, configuration), out, show=show_for())
            except LabError as error:
                if setup_failure(error) is None:
                    raise
                failures += 1
                rows.append((scenario.name, configuration, expected, "set-up failed", str(error)))
                continue
            found = result.verdict.valid
            good = found.word == expected
            codes.append(Validity.VALID if good else Validity.INVALID if found is not Validity.UNKNOWN else found)
            mark = "✓" if good else "✗"
            rows.append((scenario.name, configuration, expected, f"{found.word} {mark}", str(result.folder.path)))
    return batch_code(codes, failures), table(("scenario", "config", "expected", "found", "folder"), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    return "\n".join(line.rstrip() for line in lines)


def _match(found: Validity, expected: str) -> ExitCode:
    if found.word == expected:
        return ExitCode.VALID
    return ExitCode.UNKNOWN if found is Validity.UNKNOWN else ExitCode.INVALID
