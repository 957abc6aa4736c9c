"""The first event of a history: what the run is, what its groups promise, and what checkers may expect of it. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from lab.event import FORMAT
from lab.insync import in_sync_promise
from lab.plan import CONTROLLER, DLEDGER, REGISTER_MS, ROCKETMQ, Plan
from lab.systems.system import System
from lab.topology import Group, Topology, flush_of, guaranteed, majority, settings_of, truth
from lab.validate import expected_faults
from nodes.config.dledger import timers_for

GRACE_S: Final = 3.0  # a lost vote or two at our timers, and the clients' way to the new leader
WINDOW_S: Final = 2.0
OUR_SILENCE_S: Final = timers_for(None, 0, None, None).election_max_s
ELECTION_KEYS: Final = (
    "heartBeatTimeIntervalMs",
    "maxHeartBeatLeak",
    "minElectTimeIntervalMs",
    "maxElectTimeIntervalMs",
)
JAVA_CONNECT_S: Final = 3.0  # how long its connections take to fail (RocketMQ connectTimeoutMillis)
JAVA_PUSH_S: Final = 30.0 + 3.0 + 5.0
"""How long its push consumer may wait for the answer to a pull, how long it rests after a failed one, and how long
until a broker that does not know the group hears of it (RocketMQ class DefaultMQPushConsumerImpl; our heartbeat)."""
ASYNC_FLUSH: Final = "ASYNC_FLUSH"
RELEASE_PROGRESS: Final = {
    "grace_s": 30.0,
    "window_s": 5.0,
    "because": (
        "a release's DLedger hears nothing for up to 8 s before it votes, a round takes up to 4 s and may be split, "
        "and none of its timers can be set; its broker takes up the role later, and pulls may hang for 15 s"
    ),
}


RELEASE_SLACK_S: Final = 10.0
"""A broker of a release answers before it has registered for the first time, and its JVM is still warming up then."""


def meta_value(
    plan: Plan, topology: Topology, system: System, run: str, seed: int, threads: int, addresses: Mapping[str, str]
) -> dict[str, Any]:
    """The value of the meta event; ``addresses`` are those of all brokers, ``ip:port`` to node."""
    settings = settings_of(plan, master=True)
    load = plan.load
    consumes = load.workload == "queue" and load.consumers > 0
    gates = {key: (int(value) if value >= 1 or value == 0 else value) for key, value in plan.judge.gates.items()}
    return {
        "format": FORMAT,
        "run": run,
        "mode": plan.cluster.mode,
        "workload": load.workload,
        "system": system.name,
        "client": client_words(plan),
        "seed": seed,
        "groups": {found.name: group_value(plan, found) for found in topology.groups},
        "name_servers": list(topology.namesrvs),
        "clients": list(topology.clients),
        "addresses": dict(addresses),
        "topics": {load.topic: {found.name: load.queues for found in topology.groups}},
        "consumer_groups": [load.group] if consumes else [],
        "threads": threads,
        "operation_timeout_ns": load.operation_timeout.ns,
        "rate": float(load.rate),
        "gates": gates,
        "bounds": dict(plan.judge.bounds),
        "required": list(plan.judge.add),
        "not_applicable": dict(system.not_applicable),
        "expected_faults": expected_faults(plan, seed),
        "promise": promise(plan, settings),
        "weakened": weakened(plan, settings),
        "progress": progress(plan, settings),
        "routing": routing(plan, settings),
        "offsets": {"durable": plan.cluster.mode == DLEDGER and not _release(plan)},  # records of the replicated log
        "flaws": [*plan.flaws, *plan.lever_flaws, *plan.client_flaws],
    }


def client_words(plan: Plan) -> str:
    """Whose library the clients use, and what bounds how soon they learn a new route."""
    load = plan.load
    whose = "brokerlab's own client" if load.client == "python" else f"RocketMQ's Java client {load.client_version}"
    return f"{whose}, routes asked for every {load.route_poll}" + (f", {load.retries} retries" if load.retries else "")


def group_value(plan: Plan, group: Group) -> dict[str, Any]:
    """What one group is: its copies before SEND_OK, its flushing, and where it elects also who votes.

    Nodes that may be added later belong to it without a vote: their answers must be told apart too.
    """
    settings = settings_of(plan, master=True)
    members = list(group.nodes)
    if plan.cluster.mode != DLEDGER:
        role = settings.get("brokerRole", "ASYNC_MASTER")
        copies, flush = guaranteed(plan, settings)
        value = {"nodes": members, "copies": copies, "flush": flush, "role": role}
        return value | in_sync_promise(plan, settings).group_value() if plan.cluster.mode == CONTROLLER else value
    quorum = majority(len(members))
    return {
        "nodes": members,
        "copies": quorum,
        "flush": flush_of(settings, plan.cluster),
        "role": "DLEDGER",
        "voters": members,
        "learners": list(group.spares),
        "quorum": quorum,
        "elects": "majority",
    }


def promise(plan: Plan, settings: Mapping[str, str]) -> str:
    """What SEND_OK means where masters are not appointed by the plan, in words; empty for masters and slaves, whose
    settings say it."""
    if plan.cluster.mode == CONTROLLER:
        return in_sync_promise(plan, settings).words()
    if plan.cluster.mode != DLEDGER:
        return ""
    members, quorum = plan.cluster.replicas, majority(plan.cluster.replicas)
    if flush_of(settings, plan.cluster) == "SYNC_FLUSH":
        return f"SEND_OK: synced to the disks of {quorum} of {members} replicas"
    why = "a release's DLedger syncs in the background, whatever flushDiskType says" if _release(plan) else ASYNC_FLUSH
    return (
        f"SEND_OK: written by {quorum} of {members} replicas, and synced by none of them yet ({why}). This is "
        "weaker: what was acknowledged may be lost when a majority loses power"
    )


def weakened(plan: Plan, settings: Mapping[str, str]) -> list[str]:
    """Settings that take something away from what people expect of SEND_OK or of reads, each with what it takes."""
    found = in_sync_promise(plan, settings).weakened() if plan.cluster.mode == CONTROLLER else []
    if not plan.load.wait_store_msg_ok:
        found.append("WAIT=false on every message: it is answered before it is flushed or replicated")
    if settings.get("transientStorePoolEnable") == "true":
        found.append(
            "transientStorePoolEnable: what was acknowledged in the last 200 ms dies with the process (kill -9)"
        )
    if settings.get("enableAutoInSyncReplicas") == "true":
        least = settings.get("minInSyncReplicas", "1")
        found.append(f"enableAutoInSyncReplicas: while slaves are away {least} copies are enough")
    if settings.get("slaveReadEnable") == "true":
        found.append("slaveReadEnable: consumers may be sent to a slave, which may lag behind")
    return found


def progress(plan: Plan, settings: Mapping[str, str]) -> dict[str, Any]:
    """How soon a group must serve again once it can (C15)."""
    if plan.cluster.mode != DLEDGER:
        return {}
    release = _release(plan)
    found: dict[str, Any] = {"grace_s": GRACE_S, "window_s": WINDOW_S} if not release else dict(RELEASE_PROGRESS)
    reasons = [found["because"]] if release else []
    if plan.load.client == "java":
        # It asks for a route only when its timer says so, and may just have asked when the leader changes.
        found["grace_s"] += plan.load.route_poll.s + JAVA_CONNECT_S
        reasons.append(f"the Java client asks for routes every {plan.load.route_poll}")
        if plan.load.pushes:
            found["grace_s"] += JAVA_PUSH_S
            reasons.append("its push consumer gives up a pull that nobody answers after 30 s, and the next comes later")
    silence = OUR_SILENCE_S if release else _silence(settings)
    if silence > OUR_SILENCE_S:
        # A follower may wait that long before it asks for votes, and a vote may be split once or twice.
        found["grace_s"] += 2 * (silence - OUR_SILENCE_S)
        said = [key for key in ELECTION_KEYS if key in settings]
        reasons.append(f"{', '.join(said)}: a leader may be silent for {silence:g} s before others elect")
    found["grace_s"] = round(found["grace_s"], 3)
    if reasons:
        found["because"] = "; ".join(reasons)
    return found


def _silence(settings: Mapping[str, str]) -> float:
    """How long a leader of our nodes may be silent before others elect, in seconds."""
    beat, leak, least, most = (_whole(settings, key) for key in ELECTION_KEYS)
    try:
        return timers_for(beat, 3 if leak is None else leak, least, most).election_max_s
    except ValueError:
        return OUR_SILENCE_S  # a contradiction: the nodes refuse to start with it and say why


def _whole(settings: Mapping[str, str], key: str) -> int | None:
    said = settings.get(key, "")
    return int(said) if said.isdecimal() else None


def _release(plan: Plan) -> bool:
    """Whether the nodes are Apache's."""
    return plan.cluster.system == ROCKETMQ


def routing(plan: Plan, settings: Mapping[str, str]) -> dict[str, float]:
    """The timers of name servers and of registration, seconds (C18)."""
    named = {key: truth(value) for key, value in plan.namesrv.items()}
    found = {"register_s": _seconds(settings, "registerNameServerPeriod", REGISTER_MS)}
    if _release(plan):
        found["slack_s"] = RELEASE_SLACK_S
    for key, setting in (("expiry_s", "brokerChannelExpiredTime"), ("scan_s", "scanNotActiveBrokerInterval")):
        if setting in named:
            found[key] = _seconds(named, setting, 0)
    return found


def _seconds(settings: Mapping[str, str], key: str, default_ms: int) -> float:
    said = _whole(settings, key)
    return (default_ms if said is None else said) / 1000
