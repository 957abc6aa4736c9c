"""What Apache RocketMQ acknowledges per second: as measured on this machine, or else as recorded on another one.

Machines differ by more than programs do, so where `make bench-rocketmq` was run here its medians are what ours is held
against, the better of its two clients; the recorded figures of version 4.9.8 are for orientation then.
"""

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lab.bench.rig import DLEDGER_ROLE

RECORDED: Final = {
    ("ASYNC_MASTER", 1): 2_900.0,
    ("ASYNC_MASTER", 16): 18_700.0,
    ("ASYNC_MASTER", 64): 21_900.0,
    ("SYNC_MASTER", 1): 1_100.0,
    ("SYNC_MASTER", 16): 8_300.0,
    ("SYNC_MASTER", 64): 17_900.0,
    (DLEDGER_ROLE, 1): 316.0,  # and it does not even sync before it answers
    (DLEDGER_ROLE, 16): 2_928.0,
    (DLEDGER_ROLE, 64): 8_942.0,
}
"""Acknowledged sends per second of Apache RocketMQ 4.9.8 with its Java client on a machine with 2 cores."""
RECORDED_WORDS: Final = "Apache RocketMQ 4.9.8, Java client, another machine with 2 cores"
MEASURED: Final = Path("bench-rocketmq.json")
_SAME_MACHINE: Final = ("cpus", "memory_gb", "kernel")


@dataclass(frozen=True, slots=True)
class Rival:
    """Acknowledged sends per second, and whose they are."""

    acks_per_s: float
    words: str


class Rivals:
    """The other side of the throughput figures. ``machine`` is what this one is (`lab.bench.machine`)."""

    def __init__(self, machine: Mapping[str, object], measured: Path = MEASURED) -> None:
        self._release = ""
        self._samples: Mapping[str, Mapping[str, list[float]]] = {}
        try:
            found: Mapping[str, Any] = json.loads(measured.read_text())
            theirs: Mapping[str, Any] = found["machine"]
            if all(theirs[name] == machine[name] for name in _SAME_MACHINE):
                self._release, self._samples = theirs["release"], found["samples"]
        except (OSError, ValueError, KeyError, TypeError):
            return  # not measured here, or not by this version

    def of(self, role: str, flush: str, clients: int) -> Rival:
        """The one to hold this configuration against."""
        begin, end = f"{role}/{flush}, ", f", {clients} client{'s' if clients > 1 else ''}"
        medians = {
            name.removeprefix(begin).removesuffix(end): statistics.median(sides[self._release])
            for name, sides in self._samples.items()
            if name.startswith(begin) and name.endswith(end) and sides.get(self._release)
        }
        recorded = RECORDED[role, clients]
        if not medians:
            return Rival(recorded, RECORDED_WORDS)
        client = max(medians, key=medians.__getitem__)
        words = f"{self._release}, {client}, on this machine ({RECORDED_WORDS}: {recorded:,.0f})"
        return Rival(medians[client], words)
