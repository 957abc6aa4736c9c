"""How soon a DLedger group serves again after its leader was killed or went silent: C14's upper bound, many times over.

One run for each kind of fault: the leader is hit again and again, with enough time between for the service to be steady
and for the old leader to be a member again. Sixteen open-loop processes send twenty messages a second each, without
retries, so that every unanswered message is seen.
"""

import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lab.bench.figures import Figure
from lab.commands import carry_out
from lab.duration import Duration
from lab.errors import LabError
from lab.plan import DLEDGER, Plan
from lab.planfile import build_plan
from lab.show import Show

TIMES: Final = 20
CLIENTS: Final = 16
RATE: Final = 16 * 20
FIRST_S: Final = 4
EVERY_S: Final = 9  # the service must be steady for five seconds before the next one
LASTING_S: Final = 3.5
GOALS: Final = {"kill": (0.5, 1.0), "blackhole": (1.5, 2.5)}
"""Median and 95th percentile, in seconds."""
COMPARED: Final = "Apache RocketMQ 4.9.8: 18.5 s, 6.8 s if the client polls routes each second"


@dataclass(frozen=True, slots=True)
class Recoveries:
    """What came of the faults of one kind: upper bounds of RTO in seconds; None where the next fault came first."""

    kind: str
    verdict: str
    uppers: tuple[float | None, ...]
    unseen: int  # faults after which no message failed

    @property
    def known(self) -> list[float]:
        """The bounds, sorted; a fault that never ended counts as endless."""
        return sorted(math.inf if upper is None else upper for upper in self.uppers)


def rto_plan(kind: str, times: int, replicas: int = 3, broker: Mapping[str, str] | None = None) -> Plan:
    """The leader is hit so many times."""
    times_s = [FIRST_S + EVERY_S * turn for turn in range(times)]
    faults = [{"kind": f"{kind}:leader", "at": f"{at}s", "for": f"{LASTING_S}s"} for at in times_s]
    tables: dict[str, Any] = {
        "name": f"rto-{kind}",
        "seed": 5,
        "time_limit": f"{FIRST_S + EVERY_S * times + 2}s",
        "cluster": {"mode": DLEDGER, "replicas": replicas, "namesrvs": 3},
        "broker": dict(broker or {}),
        "load": {"rate": RATE, "clients": CLIENTS, "consumers": 1, "retries": 0, "operation_timeout": "3s"},
        "fault": faults,
        # sixteen processes have few messages under way, and the faults are short: twenty attempts are still there
        "judge": {"gates": {"info_ratio": 0.5}},
    }
    return build_plan(tables, "bench")


def recoveries(kind: str, verdict: Mapping[str, Any]) -> Recoveries:
    """Read C14's record of one run: the service's RTO of every fault. Raises LabError if it did not judge them."""
    record = next((one for one in verdict["records"] if one["checker"].split()[0] == "C14"), None)
    service: Mapping[str, Mapping[str, Any]] = {} if record is None else record["details"].get("service", {})
    if not service:
        raise LabError(f"C14 measured no {kind}: {'; '.join(verdict['why'])}")
    uppers = tuple(one["rto"][1] if one["rto"] is not None else None for one in service.values())
    unseen = sum(one["state"] == "none visible" for one in service.values())
    return Recoveries(kind, str(verdict["headline"]).split()[0], uppers, unseen)


def quantile(sorted_values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    return sorted_values[max(0, math.ceil(share * len(sorted_values)) - 1)]


def measure(kind: str, times: int = TIMES, show: Show | None = None) -> tuple[list[Figure], dict[str, Any]]:
    """Hit the leader so many times; median and 95th percentile with their goals. Raises LabError if not valid."""
    with tempfile.TemporaryDirectory(prefix="brokerlab-bench-") as folder:
        result = carry_out(rto_plan(kind, times), Path(folder), show=show)
        found = recoveries(kind, result.verdict.to_json())
        if found.verdict != "valid":
            raise LabError(f"the run of {times} {kind}s is {found.verdict}: {'; '.join(result.verdict.why)}")
    known = found.known
    median_goal, tail_goal = GOALS[kind]
    name = f"RTO, {kind} of the leader, {times} times"
    figures = [
        Figure(f"{name}: median", statistics.median(known), "s", median_goal, compared_to=COMPARED),
        Figure(f"{name}: 95th percentile", quantile(known, 0.95), "s", tail_goal, compared_to=COMPARED),
    ]
    detail = {"uppers_s": known, "none_visible": found.unseen, "every": str(Duration.seconds(EVERY_S))}
    return figures, detail
