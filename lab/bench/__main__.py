"""`make bench`: start-up, tear-down, throughput, memory and the checkers, each with its goal; writes bench.json."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import click

from checkers import bench as checkers_bench
from lab.bench import rto
from lab.bench.apache import Rivals
from lab.bench.figures import Figure, table, write
from lab.bench.machine import machine
from lab.bench.rig import CONFIGURATIONS, DLEDGER_ROLE, Rig
from lab.errors import LabError

SIZES: Final = (3, 5, 7)
SIZES_CLIENTS: Final = 16
GROWTH: Final = (1_000, 10_000, 100_000, 1_000_000)
PARTS: Final = ("startup", "throughput", "replicas", "growth", "rto", "memory", "checkers")


def _say(text: str) -> None:
    click.echo(text, err=True)


def startup(rounds: int) -> list[Figure]:
    """Time to the first acknowledged message and of the taking down; the median of some runs."""
    acks, downs = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="brokerlab-bench-") as folder:
            argv = [sys.executable, "-m", "lab.bench.startup", folder]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False)
            if done.returncode:
                raise LabError(f"the start-up run failed: {done.stderr[-400:]}")
            timings = json.loads(done.stdout.splitlines()[-1])
            acks.append(float(timings["first_ack_s"]))
            downs.append(float(timings["tear_down_s"]))
    middle = len(acks) // 2
    nodes = "3 name servers, 2 groups with a slave"
    return [
        Figure(
            "command to first acknowledged message", sorted(acks)[middle], "s", 3.0, compared_to=f"aim 2 s; {nodes}"
        ),
        Figure("tear-down", sorted(downs)[middle], "s", 0.5, compared_to=nodes),
    ]


def throughput(seconds: float, rivals: Rivals) -> tuple[list[Figure], dict[str, Any]]:
    """Acknowledged sends per second for each configuration and number of clients."""
    figures: list[Figure] = []
    detail: dict[str, Any] = {}
    for role, flush in CONFIGURATIONS:
        with Rig(role, flush) as rig:
            place = "ext4 image in tmpfs" if rig.on_image else "plain folder (no right to mount)"
            for clients in (1, 16, 64):
                got = rig.load(clients, seconds)
                name = f"{role}/{flush}, {clients} client{'s' if clients > 1 else ''}"
                shares = ", ".join(f"{node} {share:.0%}" for node, share in got["nodes_cpu"].items())
                rate = f"{got['acks_per_s']:,.0f}/s, p50 {got['p50_ms']:.2f} ms"
                own = " + ".join(f"{share:.0%}" for share in got["client_cpu"])
                _say(f"{name}: {rate}, CPU: clients {own}, {shares}")
                detail[name] = got | {"logs": place}
                rival = rivals.of(role, flush, clients)
                figures.append(Figure(name, got["acks_per_s"], "acks/s", rival.acks_per_s, True, rival.words))
    return figures, detail


def sizes(seconds: float) -> tuple[list[Figure], dict[str, Any]]:
    """What more replicas cost: the same load on groups of 3, 5 and 7."""
    figures: list[Figure] = []
    detail: dict[str, Any] = {}
    for replicas in SIZES:
        with Rig(DLEDGER_ROLE, "SYNC_FLUSH", replicas) as rig:
            got = rig.load(SIZES_CLIENTS, seconds)
        name = f"{DLEDGER_ROLE} of {replicas}/SYNC_FLUSH, {SIZES_CLIENTS} clients"
        _say(f"{name}: {got['acks_per_s']:,.0f}/s, p50 {got['p50_ms']:.2f} ms")
        detail[name] = got
        figures.append(Figure(name, got["acks_per_s"], "acks/s", None, True, "all replicas on this machine"))
    return figures, detail


def growth(seconds: float) -> tuple[list[Figure], dict[str, Any]]:
    """What a long log costs: the same load on a DLedger group that holds more and more messages."""
    figures: list[Figure] = []
    detail: dict[str, Any] = {}
    held = 0
    with Rig(DLEDGER_ROLE, "SYNC_FLUSH") as rig:
        for messages in GROWTH:
            rig.fill(messages - held)
            held = messages
            got = rig.load(SIZES_CLIENTS, seconds)
            name = f"{DLEDGER_ROLE} holding {messages:,} messages, {SIZES_CLIENTS} clients"
            _say(f"{name}: {got['acks_per_s']:,.0f}/s, p50 {got['p50_ms']:.2f} ms")
            detail[name] = got
            figures.append(Figure(name, got["acks_per_s"], "acks/s", None, True, "what the load sent comes on top"))
    return figures, detail


def memory(messages: int) -> Figure:
    """Resident memory of a master after so many messages of 300 bytes."""
    with Rig("ASYNC_MASTER", "ASYNC_FLUSH") as rig:
        rig.fill(messages)
        return Figure(f"broker RSS after {messages:,} messages", rig.rss_mb("master"), "MB", 150.0)


def judging() -> list[Figure]:
    """C1, C5 and C6 together over a million operations."""
    judged = checkers_bench.measure()
    return [
        Figure("C1 + C5 + C6, 1,000,000 operations", judged.total_s, "s", checkers_bench.GOAL_SECONDS),
        Figure("peak memory of that", judged.peak_mb, "MB", checkers_bench.GOAL_MB),
    ]


@click.command()
@click.option("--seconds", default=4.0, show_default=True, help="Measured time of each throughput figure.")
@click.option("--messages", default=1_000_000, show_default=True, help="Messages before the broker's memory is read.")
@click.option("--rounds", default=3, show_default=True, help="Runs for the start-up figure; the median counts.")
@click.option("--only", type=click.Choice(PARTS), multiple=True)
@click.option("--out", default="bench.json", show_default=True, type=click.Path(path_type=Path))
def main(seconds: float, messages: int, rounds: int, only: tuple[str, ...], out: Path) -> None:
    """Measure and print; goals that are not met are said, and change no exit code."""
    wanted = only or PARTS
    found: list[Figure] = []
    facts = machine()
    _say(f"{facts['cpus']} cores, median fsync of this disk {facts['disk_fsync_median_ms']} ms")
    _say(f"nodes run {facts['nodes']}")
    try:
        if "startup" in wanted:
            found += startup(rounds)
        if "throughput" in wanted:
            figures, facts["throughput"] = throughput(seconds, Rivals(facts))
            found += figures
        if "replicas" in wanted:
            figures, facts["replicas"] = sizes(seconds)
            found += figures
        if "growth" in wanted:
            figures, facts["growth"] = growth(seconds)
            found += figures
        if "rto" in wanted:
            for kind in rto.GOALS:
                _say(f"RTO: {rto.TIMES} times {kind} of the leader, about {rto.TIMES * rto.EVERY_S // 60} minutes")
                figures, facts[f"rto_{kind}"] = rto.measure(kind)
                found += figures
        if "memory" in wanted:
            found.append(memory(messages))
        if "checkers" in wanted:
            found += judging()
    except LabError as error:
        raise click.ClickException(str(error)) from None
    write(found, facts, out)
    click.echo(table(found))
    click.echo(f"written to {out}")


if __name__ == "__main__":
    main()
