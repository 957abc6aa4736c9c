"""Command-line options laid over a plan's tables; an option overrules the plan's field of the same name. Pure."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.errors import PlanError
from lab.plan import CONTROLLER, DLEDGER, MASTER_SLAVE, ROCKETMQ
from nodes.config.broker import BrokerConfig
from nodes.config.genuine import BROKER_GENUINE, NAMESRV_GENUINE
from nodes.config.namesrv import NamesrvConfig

DEFAULT_FAULTS = ("partition:isolate-leader", "kill:leader")
MASTER_KEYS = ("brokerRole",)  # of those that start as master only: a slave's role is not a setting


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What `lab run` was told; None and empty mean: as in the plan."""

    system: str | None = None
    version: str | None = None
    mode: str | None = None
    replicas: int | None = None
    groups: int | None = None
    namesrvs: int | None = None
    lever: str | None = None
    client: str | None = None
    client_version: str | None = None
    route_poll: str | None = None
    settings: tuple[str, ...] = ()
    workload: str | None = None
    nemesis: tuple[str, ...] = ()
    rate: int | None = None
    clients: int | None = None
    time_limit: str | None = None
    seed: int | None = None
    flaws: tuple[str, ...] = ()
    lever_flaws: tuple[str, ...] = ()
    client_flaws: tuple[str, ...] = ()


APPOINTED_KEYS = ("brokerRole", "inSyncReplicas")
"""Settings that mean something only for masters and slaves, and so ask for that mode."""


RELEASE_TIME_LIMIT = "90s"
"""JVMs start, register and elect slowly: in less a run with faults often proves nothing."""


def default_tables(options: RunOptions) -> dict[str, Any]:
    """The plan of a run that was given none: a DLedger group loses its leader twice, to a cut and to a kill.

    Whoever names a mode, a setting of masters and slaves, or a promotion gets the mode that goes with it; whoever
    names faults gets those alone.
    """
    keys = {setting.partition("=")[0].strip() for setting in options.settings}
    appointed = bool(keys & set(APPOINTED_KEYS)) or any(spec.startswith("promote") for spec in options.nemesis)
    release = options.system == ROCKETMQ  # which most people run with masters and slaves
    mode = options.mode or (MASTER_SLAVE if appointed or release else DLEDGER)
    tables: dict[str, Any] = {"time_limit": RELEASE_TIME_LIMIT} if release else {}
    if mode not in (DLEDGER, CONTROLLER):
        return tables | {"cluster": {"mode": mode}}
    tables["cluster"] = {"mode": mode, "namesrvs": 3}
    if not options.nemesis:
        tables["nemesis"] = {"faults": list(DEFAULT_FAULTS), "count": len(DEFAULT_FAULTS)}
    return tables


def overlay(tables: Mapping[str, Any], options: RunOptions) -> dict[str, Any]:
    """The plan's tables with the options laid over them; the input is not changed. Raises PlanError."""
    merged: dict[str, Any] = {key: dict(part) if isinstance(part, Mapping) else part for key, part in tables.items()}
    for table, key, value in (
        ("cluster", "system", options.system),
        ("cluster", "version", options.version),
        ("cluster", "mode", options.mode),
        ("cluster", "replicas", options.replicas),
        ("cluster", "groups", options.groups),
        ("cluster", "namesrvs", options.namesrvs),
        ("cluster", "lever", options.lever),
        ("load", "client", options.client),
        ("load", "client_version", options.client_version),
        ("load", "route_poll", options.route_poll),
        ("load", "workload", options.workload),
        ("load", "rate", options.rate),
        ("load", "clients", options.clients),
    ):
        if value is not None:
            merged.setdefault(table, {})[key] = value
    if options.time_limit is not None:
        merged["time_limit"] = options.time_limit
    if options.seed is not None:
        merged["seed"] = options.seed
    if options.nemesis:
        nemesis = merged.setdefault("nemesis", {})
        nemesis["faults"] = [*nemesis.get("faults", ()), *options.nemesis]
    if options.flaws:
        merged["flaws"] = [*merged.get("flaws", ()), *options.flaws]
    if options.lever_flaws:
        merged["lever_flaws"] = [*merged.get("lever_flaws", ()), *options.lever_flaws]
    if options.client_flaws:
        merged["client_flaws"] = [*merged.get("client_flaws", ()), *options.client_flaws]
    for setting in options.settings:
        _set(merged, setting)
    return merged


def set_options(plan_options: Sequence[str]) -> dict[str, str]:
    """``key=value`` texts as a table. Raises PlanError."""
    found = {}
    for text in plan_options:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise PlanError(f"--set {text!r}: write key=value, for example --set brokerRole=SYNC_MASTER")
        found[key.strip()] = value.strip()
    return found


def _set(merged: dict[str, Any], setting: str) -> None:
    ((key, value),) = set_options([setting]).items()
    of_namesrv = key in _keys(NamesrvConfig) or key in NAMESRV_GENUINE
    only_namesrv = of_namesrv and key not in _keys(BrokerConfig) and key not in BROKER_GENUINE
    home = "master" if key in MASTER_KEYS else "namesrv" if only_namesrv else "broker"
    for table in ("broker", "master", "slave", "namesrv"):
        if isinstance(merged.get(table), dict):
            merged[table].pop(key, None)
    merged.setdefault(home, {})[key] = value


def _keys(kind: type[BrokerConfig] | type[NamesrvConfig]) -> set[str]:
    return {str(field.metadata["key"]) for field in dataclasses.fields(kind)}
