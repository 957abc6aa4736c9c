"""The cells of the comparison, as data (plans/compared): who is hit how, and the one command that does it. Pure."""

import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from lab.errors import PlanError
from lab.options import RunOptions
from lab.planfile import nearest

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = Path("plans", "compared")
FILE: Final = "cells.toml"


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: a system in a mode under a fault, with clients of one kind."""

    system: str
    mode: str
    fault: str
    client: str
    plan: Path  # relative to the checkout, as the command names it
    options: RunOptions  # all but the seed

    @property
    def name(self) -> str:
        """Its name in the file of results and for ``--only``."""
        return f"{self.system}/{self.mode}/{self.fault}/{self.client}"

    def command(self) -> str:
        """What an operator types to get this cell alone, with the plan's seed."""
        options = self.options
        words = ["lab", "run", str(self.plan)]
        for option, value in (
            ("--system", options.system),
            ("--version", options.version),
            *(("--set", setting) for setting in options.settings),
            *(("--nemesis", spec) for spec in options.nemesis),
            ("--client", options.client),
            ("--route-poll", options.route_poll),
        ):
            if value is not None:
                words += [option, value]
        return shlex.join(words)


@dataclass(frozen=True, slots=True)
class Comparison:
    """All cells, and the titles by which the page calls systems, modes, faults and clients, in the order shown."""

    cells: tuple[Cell, ...]
    systems: Mapping[str, str]
    modes: Mapping[str, str]
    faults: Mapping[str, str]
    clients: Mapping[str, str]

    def chosen(self, patterns: tuple[str, ...]) -> tuple[Cell, ...]:
        """The cells whose names match one of the patterns (``ours/*``, ``*/kill/java-1s``); all without a pattern.

        Raises PlanError for a pattern that matches nothing.
        """
        names = [cell.name for cell in self.cells]
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                parts = (self.systems, self.modes, self.faults, self.clients)
                known = "/".join("{" + ",".join(part) + "}" for part in parts)
                raise PlanError(f"--only {pattern!r} matches no cell{nearest(pattern, names, known)}")
        return tuple(
            cell for cell in self.cells if not patterns or any(fnmatchcase(cell.name, one) for one in patterns)
        )


def read_cells(path: Path = ROOT / FOLDER / FILE) -> Comparison:
    """All cells, system by system within each fault, so that what is compared runs one after the other.

    Raises PlanError for a file that cannot be read.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise PlanError(f"cannot read the cells of the comparison {path}: {error}") from None
    cells = tuple(
        _cell(mode["name"], fault, client, system)
        for mode in tables["mode"]
        for client in tables["client"]
        for fault in tables["fault"]
        for system in tables["system"]
    )
    titles = {
        kind: {one["name"]: one["title"] for one in tables[kind]} for kind in ("system", "mode", "fault", "client")
    }
    return Comparison(cells, titles["system"], titles["mode"], titles["fault"], titles["client"])


def _cell(mode: str, fault: Mapping[str, Any], client: Mapping[str, str], system: Mapping[str, Any]) -> Cell:
    release = system.get("system")
    options = RunOptions(
        system=release,
        version=None if release is None else system["name"],
        settings=tuple(system.get("set", {}).get(mode, ())),
        nemesis=(fault["spec"],),
        client=client.get("client"),
        route_poll=client["route_poll"],
    )
    return Cell(system["name"], mode, fault["name"], client["name"], FOLDER / f"{mode}.toml", options)
