"""The RTO part of `make bench-rocketmq`: the same plan and seed on both sides, with each kind of client.

One run holds one kill and one blackhole of the leader of a group of three that elects. Each lasts long enough for the
group to elect another one, whatever its timers are: what is measured is failover, and not the return of the old leader.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from checkers.compose import INTERRUPTED
from lab.bench.rto import CLIENTS, RATE
from lab.commands import carry_out
from lab.errors import LabError
from lab.plan import DLEDGER, Plan
from lab.planfile import build_plan
from lab.show import Silent

RTO_CLIENTS: Final[Mapping[str, tuple[str, str]]] = {
    "python": ("python", "30s"),  # it asks for the route when something fails, not only by its timer
    "java-1s": ("java", "1s"),
    "java-30s": ("java", "30s"),
}
"""Library, and how often it asks for routes."""
POLL_BOUNDS: Final = "the client's poll of 30 s bounds both sides"
KINDS: Final = ("kill", "blackhole")
FIRST_S: Final = 6
LASTING_S: Final = {"1s": 25, "30s": 40}
AFTER_S: Final = 15
SEED: Final = 5
BRIEF: Final = 200


@dataclass(frozen=True, slots=True)
class RtoRow:
    """One fault of one run: the upper bound of its RTO, None if there is none; words where something has to be said."""

    figure: str
    ours: bool
    upper_s: float | None
    verdict: str = ""
    words: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the file."""
        return asdict(self)


def brief(text: str) -> str:
    """The beginning of the first line: what nodes said last can be long."""
    return text.partition("\n")[0][:BRIEF]


def figure_name(kind: str, client: str) -> str:
    """With what bounds it, where the client's poll does."""
    return f"RTO, {kind} of the leader, client {client}" + (f"; {POLL_BOUNDS}" if client == "java-30s" else "")


def rto_plan(version: str, client: str, client_version: str, round_number: int) -> Plan:
    """One kill and one blackhole; ``version`` is empty for our own nodes."""
    library, poll = RTO_CLIENTS[client]
    lasting = LASTING_S["30s" if client == "java-30s" else "1s"]
    span = lasting + AFTER_S
    load: dict[str, Any] = {"rate": RATE, "clients": CLIENTS, "consumers": 1, "retries": 0, "operation_timeout": "1s"}
    load |= {"client": library, "route_poll": poll}
    cluster: dict[str, Any] = {"mode": DLEDGER, "replicas": 3, "namesrvs": 3}
    tables: dict[str, Any] = {
        "name": f"compared-{'rocketmq' if version else 'ours'}-{client}",
        "seed": SEED + round_number,
        "time_limit": f"{FIRST_S + span * len(KINDS)}s",
        "cluster": cluster | ({"system": "rocketmq", "version": version} if version else {}),
        "load": load | ({"client_version": client_version} if library == "java" else {}),
        "fault": [
            {"kind": f"{kind}:leader", "id": kind, "at": f"{FIRST_S + span * turn}s", "for": f"{lasting}s"}
            for turn, kind in enumerate(KINDS)
        ],
        "judge": {"gates": {"info_ratio": 0.5}},
    }
    return build_plan(tables, "bench")


def measure_rto(
    version: str, client_version: str, clients: Sequence[str], runs: int, quick: bool, say: Callable[[str], None]
) -> Iterator[RtoRow]:
    """All rows; the sides alternate. What cannot run says so in its row."""
    for client in clients[:1] if quick else clients:
        for turn in range(runs):
            for ours in (True, False) if turn % 2 == 0 else (False, True):
                plan = rto_plan("" if ours else version, client, client_version, turn)
                say(f"RTO, run {turn + 1} of {runs}, client {client}: {'ours' if ours else 'RocketMQ'}")
                yield from _rows(plan, client, ours, say)


def _rows(plan: Plan, client: str, ours: bool, say: Callable[[str], None]) -> Iterator[RtoRow]:
    folder = Path(tempfile.mkdtemp(prefix="brokerlab-bench-"))
    try:
        result = carry_out(plan, folder, show=Silent())
        verdict = result.verdict.to_json()
    except LabError as error:
        shutil.rmtree(folder)
        say(f"not measured: {error}")
        yield from (
            RtoRow(figure_name(kind, client), ours, None, "", f"not available: {brief(str(error))}") for kind in KINDS
        )
        return
    if _word(verdict) == "valid" or INTERRUPTED in verdict["why"]:
        shutil.rmtree(folder)
    else:
        say(f"not valid, kept to be looked at: {result.folder.path}")
    if INTERRUPTED in verdict["why"]:
        raise LabError("interrupted: nothing of this measurement is kept")
    yield from rows_of(verdict, client, ours)


def rows_of(verdict: Mapping[str, Any], client: str, ours: bool) -> Iterator[RtoRow]:
    """What C14 measured of each fault; the verdict stands beside it, whatever it is."""
    record = next((one for one in verdict["records"] if one["checker"].split()[0] == "C14"), None)
    service = {} if record is None else record["details"].get("service", {})
    word = _word(verdict)
    about = f"the run is {word}" + "".join(f": {brief(why)}" for why in verdict["why"][:1])
    for kind in KINDS:
        found = service.get(kind)
        if found is None or found["rto"] is None or found["rto"][1] is None:
            state = "was not measured" if found is None else f"did not end before the next fault ({found['state']})"
            yield RtoRow(figure_name(kind, client), ours, None, word, f"{state}; {about}")
        else:
            upper_s = float(found["rto"][1])
            yield RtoRow(figure_name(kind, client), ours, upper_s, word, "" if word == "valid" else about)


def _word(verdict: Mapping[str, Any]) -> str:
    """valid, invalid or unknown."""
    return str(verdict["headline"]).split()[0]
