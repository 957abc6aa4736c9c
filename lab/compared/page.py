"""docs/compared.md from the results so far: a table a mode, systems side by side, the command of each cell. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from checkers.report.terminal import interval, lost_words
from lab.compared.cells import Cell, Comparison
from lab.compared.results import Result

HEAD: Final = """# Compared with Apache RocketMQ

Written by `make compared`; do not edit. The same seed, schedule, load and client on one machine: our nodes beside
Apache's releases, whose writer is hit once. Each cell tells the verdict, how long sends were away (RTO, from the fault
on, as an interval: what is proven, and what cannot be excluded) and what was lost of what was acknowledged (RPO).

*Client* is the library that applications use, and how often it asks for all routes again; 30 s is RocketMQ's default.
Python is ours: beside its polls it asks for the route as soon as a broker refuses or keeps it waiting. Java is
RocketMQ's own, which waits for its next poll: where that is the longer wait, it bounds the RTO of every system alike.
"""
NOTHING: Final = "not run yet"


def page(comparison: Comparison, results: Sequence[Result], machine: Mapping[str, object]) -> str:
    """The whole page; cells without a result say so, and what is not valid is explained below its table."""
    known = {cell.name for cell in comparison.cells}
    shown = [one for one in results if one.cell in known]
    parts = [HEAD, _facts(shown, len(comparison.cells), machine)]
    for mode, title in comparison.modes.items():
        cells = [cell for cell in comparison.cells if cell.mode == mode]
        parts += [f"## {title}\n", _table(comparison, cells, shown), _promises(comparison, cells, shown)]
        parts.append(_reasons(cells, shown))
    return "\n".join(part for part in (*parts, _commands(comparison.cells)) if part)


def result_words(result: Result) -> str:
    """One run in one cell."""
    if not result.ran:
        return "did not run"
    return f"**{result.verdict}** · {rto_words(result.rto)} · {lost_words(result.rpo)} lost".replace(
        "nothing lost", "0 lost"
    )


def rto_words(row: Mapping[str, Any] | None) -> str:
    """How long sends were away, from the fault on; what lasted as long as the fault, with what came after its heal."""
    if row is None or row["state"] != "after heal":
        return interval(row)
    after = row.get("after_heal")
    more = "never back" if after is None or after[1] is None else f"then {after[0]:.2f}–{after[1]:.2f} s"
    return f"all {row['rto'][0]:.1f} s of the fault, {more}"


def _facts(results: Sequence[Result], cells: int, machine: Mapping[str, object]) -> str:
    ran = [one for one in results if one.ran]
    if not ran:
        return "Nothing has been run yet.\n"
    loads = [one.load for one in ran]
    keys = sorted({key for one in ran for key in one.versions})
    versions = ", ".join(f"{key} {_words(one.versions.get(key) for one in ran)}" for key in keys)
    here = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in machine.items() if key not in keys)
    facts = {
        "runs": f"{len(ran)}, of {len({one.cell for one in ran})} of {cells} cells, {min(one.began for one in ran)} to "
        f"{max(one.began for one in ran)} UTC",
        "seeds": _words(str(one.seed) for one in ran),
        "commit": _words(one.commit for one in ran),
        "versions": versions,
        "machine": here,
        "load average before each run": f"{min(loads):g} to {max(loads):g}"
        + (" (a busy machine: take times as upper bounds)" if max(loads) > _cores(machine) else ""),
    }
    return "\n".join(f"- {key}: {value}" for key, value in facts.items()) + "\n"


def _cores(machine: Mapping[str, object]) -> float:
    cores = machine.get("cpus")
    return float(cores) if isinstance(cores, int) else 1.0


def _table(comparison: Comparison, cells: Sequence[Cell], results: Sequence[Result]) -> str:
    """A row for each fault and client of which anything was run."""
    rows = []
    for client, library in comparison.clients.items():
        for fault, title in comparison.faults.items():
            names = {cell.system: cell.name for cell in cells if (cell.fault, cell.client) == (fault, client)}
            runs = {system: [result_words(one) for one in results if one.cell == names[system]] for system in names}
            if any(runs.values()):
                rows.append([title, library, *("<br>".join(of) or NOTHING for of in runs.values())])
    if not rows:
        return "Nothing has been run yet.\n"
    head = [["fault", "client", *comparison.systems.values()], ["---"] * (2 + len(comparison.systems))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [*head, *rows]) + "\n"


def _promises(comparison: Comparison, cells: Sequence[Cell], results: Sequence[Result]) -> str:
    """What SEND_OK meant, which the verdicts measure by."""
    lines = []
    for system, title in comparison.systems.items():
        names = {cell.name for cell in cells if cell.system == system}
        promise = _words(one.promise for one in results if one.cell in names and one.ran)
        if promise:
            lines.append(f"- {title}: {promise}")
    return "What SEND_OK promised:\n\n" + "\n".join(lines) + "\n" if lines else ""


def _reasons(cells: Sequence[Cell], results: Sequence[Result]) -> str:
    """Why a run is not valid, or was none; equal reasons once."""
    names = {cell.name for cell in cells}
    reasons: dict[str, list[str]] = {}
    for one in results:
        if one.cell in names and one.verdict != "valid":
            words = f"{one.verdict}: {'; '.join(one.why)}"
            reasons.setdefault(words, []).append(f"{one.cell} (seed {one.seed})")
    if not reasons:
        return ""
    return "Not valid:\n\n" + "\n".join(f"- {', '.join(of)}: {words}" for words, of in reasons.items()) + "\n"


def _commands(cells: Sequence[Cell]) -> str:
    lines = [f"{cell.command()}  # {cell.name}" for cell in cells]
    return "## One command a cell\n\n```\n" + "\n".join(lines) + "\n```\n"


def _words(values: Iterable[object]) -> str:
    return ", ".join(sorted({str(value) for value in values if value}))
