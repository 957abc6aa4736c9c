"""The program that holds a client host's Java clients: where its jars and classes are, and how it is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.duration import NS_PER_S
from lab.errors import SetupError
from lab.generator.faults import fault_schedule
from lab.plan import JAVA_CLIENT, Plan
from lab.systems.rocketmq.release import Release, ReleaseMissing, java, release
from lab.systems.rocketmq.sources import compiled
from lab.workloads.actor import PRODUCER_GROUP

SOURCE: Final = Path(__file__).with_name("Worker.java")
PARTS: Final = tuple(sorted(path for path in SOURCE.parent.glob("*.java") if path != SOURCE))
HEAP_MB: Final = 256
REBALANCE_MS: Final = 2000
"""How often a group's queues are shared anew, as by our own push consumers; the client has no setter for it."""


@dataclass(frozen=True, slots=True)
class JavaWorker:
    """A release's client with the program compiled against it."""

    release: Release
    classes: Path
    java: str

    def argv(self, plan: Plan, name_servers: tuple[str, ...], address: str, home: Path) -> list[str]:
        """The command line for one client host; the client's own log goes below ``home``."""
        load = plan.load
        return [
            self.java,
            f"-Xmx{HEAP_MB}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",  # ready soon; a worker's load is small
            "-XX:-UsePerfData",
            f"-Duser.home={home}",
            f"-Drocketmq.client.logRoot={home}",
            *((f"-Drocketmq.client.rebalance.waitInterval={REBALANCE_MS}",) if load.pushes else ()),
            "-Drocketmq.client.logLevel=WARN",
            "-cp",
            f"{self.classes}:{self.release.classpath}",
            SOURCE.stem,
            f"names={';'.join(name_servers)}",
            f"address={address}",
            f"topic={load.topic}",
            f"producer={PRODUCER_GROUP}",
            f"retries={load.retries}",
            f"poll={load.route_poll.ns // 1_000_000}",
            f"timeout={load.operation_timeout.ns // 1_000_000}",
        ]


def doubts(plan: Plan) -> str:
    """What a plan may be too short to show, in words; empty if it is not."""
    last = max((fault.at_ns for fault in fault_schedule(plan, plan.seed or 0)), default=None)
    if last is None or plan.time_limit.ns - last >= plan.load.route_poll.ns:
        return ""
    return (
        f"load ends {(plan.time_limit.ns - last) / NS_PER_S:.0f} s after the last fault begins, and clients that ask "
        f"for routes every {plan.load.route_poll} may not be back by then: --time-limit or --route-poll"
    )


def client_release(plan: Plan) -> Release:
    """The release whose client a plan asks for, which must be on this machine.

    Raises SetupError that names what is missing, and what brings it.
    """
    try:
        return release(plan.load.client_version or JAVA_CLIENT, "client")
    except ReleaseMissing as missing:
        raise SetupError(f"the Java client cannot run: {missing}") from None


def java_worker(plan: Plan) -> JavaWorker:
    """The program for a plan, compiled if need be. Raises SetupError."""
    found = client_release(plan)
    try:
        return JavaWorker(found, compiled(found, SOURCE, *PARTS), java())
    except ReleaseMissing as missing:
        raise SetupError(f"the Java client cannot run: {missing}") from None
