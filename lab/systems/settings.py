"""Checks the plan's property keys with the nodes' own loader before anything starts."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from lab.errors import PlanError
from lab.plan import Plan
from lab.systems.dledger import elects, member_settings
from lab.topology import settings_of, topology_of, truth
from nodes.config import ConfigError, load_broker, load_namesrv, write_properties

# The lab itself gives each node these: where it stands, what it is called, whom it knows, where it stores.
BROKER_OWN: Final = (
    "brokerClusterName", "brokerName", "brokerId", "brokerIP1", "listenPort", "haListenPort", "namesrvAddr",
    "enableDLegerCommitLog", "dLegerGroup", "dLegerPeers", "dLegerSelfId", "storePathRootDir", "storePathCommitLog",
    "storePathDLedgerCommitLog", "rocketmqHome", "flaws",
)  # fmt: skip
NAMESRV_OWN: Final = ("listenPort", "bindAddress", "rocketmqHome", "flaws")


def check_settings(plan: Plan) -> list[str]:
    """Genuine keys without effect here; raises PlanError for what the nodes would refuse, in their words."""
    _refuse_own(plan)
    if plan.cluster.system == "rocketmq":
        from lab.systems.rocketmq.system import check_rocketmq

        return check_rocketmq(plan)
    without_effect: list[str] = []
    with tempfile.TemporaryDirectory(prefix="brokerlab-plan-") as folder:
        if elects(plan):
            group = topology_of(plan).groups[0]
            own = member_settings(group, group.nodes[0], lambda node: f"10.0.0.{group.nodes.index(node) + 1}")
            without_effect += _load(Path(folder, "broker.conf"), settings_of(plan, master=True) | own, _broker)
        else:
            for table, master, role in (("master", True, "ASYNC_MASTER"), ("slave", False, "SLAVE")):
                settings = {"brokerRole": role, **settings_of(plan, master=master)}
                settings["brokerId"] = "0" if master else "1"
                without_effect += _load(Path(folder, f"{table}.conf"), settings, _broker)
        named = {key: truth(value) for key, value in plan.namesrv.items()}
        without_effect += _load(Path(folder, "namesrv.conf"), named, _namesrv)
    return sorted(set(without_effect))


def _refuse_own(plan: Plan) -> None:
    """What the lab would overrule in silence is refused instead."""
    for table, settings, own in (
        ("broker", plan.broker, BROKER_OWN),
        ("master", plan.master, BROKER_OWN),
        ("slave", plan.slave, (*BROKER_OWN, "brokerRole")),
        ("namesrv", plan.namesrv, NAMESRV_OWN),
    ):
        for key in settings:
            if key.replace("DLedger", "DLeger").replace("dLedger", "dLeger") in own or key in own:
                raise PlanError(f"{key} in [{table}]: the lab gives each node its own; leave it out")


def _load(path: Path, settings: Mapping[str, str], load: Callable[[Path], list[str]]) -> list[str]:
    path.write_text(write_properties(settings), encoding="utf-8")
    try:
        return load(path)
    except ConfigError as error:
        words = str(error)
        if words.startswith(str(path)):
            words = words[len(str(path)) :].lstrip(":0123456789 ")
        raise PlanError(f"settings of the {path.stem}: {words}") from None


def _broker(path: Path) -> list[str]:
    return load_broker(path).without_effect


def _namesrv(path: Path) -> list[str]:
    return load_namesrv(path).without_effect
