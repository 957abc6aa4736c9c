"""The partition matrix: every shape of partition with both roles of master, and the expected verdict as data."""

import copy
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lab.duration import Duration
from lab.errors import PlanError
from lab.plan import MASTER_ROLES, Plan
from lab.planfile import build_plan

THEN_EVERY: Final = Duration.seconds(1.5)  # between the cut's last second and each fault that follows from it


@dataclass(frozen=True, slots=True)
class Case:
    """One cell: a shape, a role, what follows the cut, and the verdict it must reach."""

    shape: str
    role: str
    then: tuple[str, ...]
    expect: str
    plan: Plan

    @property
    def name(self) -> str:
        """For test ids and tables."""
        return f"{self.shape}{'+promote' if self.then else ''}-{self.role}"


def read_matrix(path: Path) -> tuple[Case, ...]:
    """All cells of a matrix file. Raises PlanError."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise PlanError(f"cannot read the matrix {path}: {error}") from None
    return tuple(_case(tables, entry, role) for entry in tables["case"] for role in MASTER_ROLES if role in entry)


def _case(tables: Mapping[str, Any], entry: Mapping[str, Any], role: str) -> Case:
    plan = copy.deepcopy(tables["plan"])
    plan.setdefault("master", {})["brokerRole"] = role
    at, lasting = Duration.parse(tables["times"]["at"]), Duration.parse(tables["times"]["for"])
    plan["fault"] = [{"kind": f"partition:{entry['shape']}", "at": str(at), "for": str(lasting)}]
    then = tuple(entry.get("then", ()))
    moment = at.ns + lasting.ns // 2
    for spec in then:
        plan["fault"].append({"kind": spec, "at": str(Duration(moment))})
        moment += THEN_EVERY.ns
    if then:
        # Time for the promotion and for sends after it, beside what a plain partition needs.
        plan["time_limit"] = str(Duration(Duration.parse(plan["time_limit"]).ns + THEN_EVERY.ns * 2))
    return Case(entry["shape"], role, then, str(entry[role]), build_plan(plan, "partition matrix"))
