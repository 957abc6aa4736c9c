"""`make bench-rocketmq`: our nodes against a release of Apache's, same machine, same clients, same kind of file system.

Runs alternate between the sides, and the median of the runs counts. A run of the throughput part starts a cluster on
fresh images, warms it up, and measures with our client and with the Java client; its start-up time and its memory are
measured on the way. The RTO part runs the same plan with the same seed on both sides, through `lab run`.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from lab.bench.compared_rto import POLL_BOUNDS, RTO_CLIENTS, brief, measure_rto
from lab.bench.figures import Figure, table
from lab.bench.java_load import JavaLoad, java_load
from lab.bench.machine import machine
from lab.bench.rig import CONFIGURATIONS, Rig
from lab.bench.sides import Apache, Ours, Side
from lab.errors import LabError, SetupError
from lab.plan import JAVA_CLIENT
from lab.systems.rocketmq.release import ReleaseMissing, release

CLIENTS: Final = (1, 16, 64)
WARM_CLIENTS: Final = 64
PARTS: Final = ("throughput", "rto")
NAMES: Final = {"ASYNC_MASTER": "async", "SYNC_MASTER": "sync", "DLEDGER": "dledger"}
WARM_WINDOW_S: Final = 6.0
WARM_WINDOWS_MAX: Final = 12
WARM_GAIN: Final = 1.05
"""A window that brings no more than this times the best before is no gain. A release's JVM compiles what is hot for
half a minute under load, and gives several times as much afterwards."""
QUICK_SECONDS: Final = 0.5


@dataclass(slots=True)
class Samples:
    """What the runs of both sides gave, by figure and side, and what has to be said about them."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    more_is_better: dict[str, bool] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    raw: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, side: str, value: float, unit: str, *, more_is_better: bool = False) -> None:
        """One value of one run."""
        self.values.setdefault(name, {}).setdefault(side, []).append(value)
        self.units[name], self.more_is_better[name] = unit, more_is_better


def figures(samples: Samples, ours: str, theirs: str, factor: Callable[[str], float]) -> list[Figure]:
    """Our medians, each with the other side's as its goal, ``factor`` times over for the figures of that name."""
    found = []
    for name, sides in samples.values.items():
        mine, other = sides.get(ours), sides.get(theirs)
        if not mine:
            continue
        value, more = statistics.median(mine), samples.more_is_better[name]
        goal, words = None, f"{theirs}: not available"
        if other:
            median = statistics.median(other)
            goal = median * factor(name) if more else median / factor(name)
            times = (value / median if more else median / value) if min(value, median) > 0 else 0.0
            words = f"{theirs}: {median:,.4g} {samples.units[name]}; ours {times:.2f} times as good"
            words += f" ({len(mine)} and {len(other)} runs)"
        found.append(Figure(name, value, samples.units[name], goal, more, words))
    return found


def factor_of(name: str) -> float:
    """How many times better ours is meant to be."""
    return 5.0 if name.startswith("RTO") and POLL_BOUNDS not in name else 1.0


def throughput(
    samples: Samples, sides: Sequence[Side], configurations: Sequence[tuple[str, str]], load: JavaLoad | None,
    runs: int, seconds: float, say: Callable[[str], None],
) -> str:  # fmt: skip
    """All runs of the throughput part; returns the file system that the nodes wrote to."""
    place = ""
    for role, flush in configurations:
        for turn in range(runs):
            for side in sides if turn % 2 == 0 else tuple(reversed(sides)):  # neither side always comes second
                name = f"{role}/{flush}"
                say(f"{name}, run {turn + 1} of {runs}: {side.name}")
                try:
                    with Rig(role, flush, side=side) as rig:
                        place = "ext4 image in tmpfs" if rig.on_image else "plain folder (no right to mount)"
                        _one(samples, rig, side.name, name, load, seconds)
                except LabError as error:
                    samples.notes.append(f"{name}, run {turn + 1}, {side.name}: {brief(str(error))}")
                    say(f"not measured: {error}")
    return place


def warm(window: Callable[[], float]) -> int:
    """Load a side, uncounted, until two windows in a row are no better than the best before; returns the windows.

    ``window`` loads it once and returns the acknowledgements a second.
    """
    best, level = 0.0, 0
    for number in range(1, WARM_WINDOWS_MAX + 1):
        found = window()
        level = level + 1 if found <= best * WARM_GAIN else 0
        best = max(best, found)
        if level == 2:
            return number
    return WARM_WINDOWS_MAX


def _one(samples: Samples, rig: Rig, side: str, name: str, load: JavaLoad | None, seconds: float) -> None:
    samples.add(f"{name}, start to first SEND_OK", side, rig.started_s, "s")
    if seconds <= QUICK_SECONDS:
        rig.load(WARM_CLIENTS, QUICK_SECONDS)
    else:
        warm(lambda: float(rig.load(WARM_CLIENTS, WARM_WINDOW_S)["acks_per_s"]))
    found = [("Python client", clients, rig.load(clients, seconds)) for clients in CLIENTS]
    if load is not None:
        answers = rig.java_load(load, CLIENTS, seconds)
        found += [(f"Java client {load.release.version}", answer["clients"], answer) for answer in answers]
    for client, clients, got in found:
        figure = f"{name}, {client}, {clients} client{'s' if clients > 1 else ''}"
        samples.add(figure, side, got["acks_per_s"], "acks/s", more_is_better=True)
        samples.raw.append({"figure": figure, "side": side, **got})
        if got["weak"] or got["failed"]:
            samples.notes.append(f"{figure}, {side}: {got['weak']} weak and {got['failed']} failed are not counted")
    samples.add(f"{name}, memory of all nodes", side, rig.memory_mb(), "MB")


def write(path: Path, samples: Samples, found: Sequence[Figure], facts: Mapping[str, object]) -> None:
    """Medians, all values of all runs, and what is missing."""
    rows = [{"name": f.name, "ours": f.value, "unit": f.unit, "goal": f.goal, "met": f.met} for f in found]
    value = {"machine": facts, "figures": rows, "samples": samples.values, "runs": samples.raw}
    path.write_text(json.dumps({**value, "notes": samples.notes}, indent=1, ensure_ascii=False) + "\n")


@click.command()
@click.option("--version", default="5.3.3", show_default=True, help="The release, or an unpacked one's folder.")
@click.option("--client-version", default=JAVA_CLIENT, show_default=True, help="Release of the Java client.")
@click.option("--runs", default=5, show_default=True, help="Runs of each side.")
@click.option("--seconds", default=2.0, show_default=True, help="Measured time of each throughput figure.")
@click.option("--quick", is_flag=True, help="One short run of each: shows that it works, measures nothing.")
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="By default both, an hour each.")
@click.option("--config", "wanted", type=click.Choice(list(NAMES.values())), multiple=True, help="Configurations.")
@click.option("--client", "clients", type=click.Choice(list(RTO_CLIENTS)), multiple=True, help="Clients of part rto.")
@click.option("--out", default="bench-rocketmq.json", show_default=True, type=click.Path(path_type=Path))
def main(
    version: str, client_version: str, runs: int, seconds: float, quick: bool, only: tuple[str, ...],
    wanted: tuple[str, ...], clients: tuple[str, ...], out: Path,
) -> None:  # fmt: skip
    """Measure both sides and print them beside each other."""
    runs, seconds = (1, QUICK_SECONDS) if quick else (runs, seconds)
    parts = only or PARTS
    samples, facts = Samples(), machine()

    def say(text: str) -> None:
        click.echo(text, err=True)

    try:
        apache = Apache(_release(version))
        ours = Ours()
        if "throughput" in parts:
            chosen = [pair for pair in CONFIGURATIONS if not wanted or NAMES[pair[0]] in wanted]
            load = java_load(client_version)
            facts["file_system"] = throughput(samples, (ours, apache), chosen, load, runs, seconds, say)
        if "rto" in parts:
            for row in measure_rto(version, client_version, clients or tuple(RTO_CLIENTS), runs, quick, say):
                side = ours.name if row.ours else apache.name
                samples.raw.append(row.to_json() | {"side": side})
                if row.words:
                    samples.notes.append(f"{row.figure}, {side}: {row.words}")
                if row.upper_s is not None:
                    samples.add(row.figure, side, row.upper_s, "s")
    except LabError as error:
        raise click.ClickException(str(error)) from None
    found = figures(samples, ours.name, apache.name, factor_of)
    facts |= {"release": apache.name, "java_client": client_version, "runs": runs, "seconds": seconds}
    write(out, samples, found, facts)
    click.echo(table(found))
    if quick:
        click.echo("note: --quick shows that all of it works; these are no measurements")
    for words in samples.notes:
        click.echo(f"note: {words}")
    click.echo(f"logs: {facts.get('file_system', 'the run folders')}, the same for both sides; written to {out}")


def _release(version: str) -> Any:
    try:
        return release(version, "server")
    except ReleaseMissing as missing:
        raise SetupError(str(missing)) from None


if __name__ == "__main__":
    main()
