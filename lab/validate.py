"""What no plan may ask for, found before anything starts: unknown words, impossible topologies, senseless times."""

import math
import re

from lab.errors import PlanError
from lab.generator.faults import fault_schedule, wanted_and_room
from lab.plan import (
    CLIENTS,
    CONSUMES,
    CONTROLLER,
    DLEDGER,
    DLEDGER_SIZES,
    LEVERS,
    MASTER_ROLES,
    MASTER_SLAVE,
    MAX_TIME_LIMIT,
    MIN_ROUTE_POLL,
    MIN_TIME_LIMIT,
    MODES,
    PROMOTE_BYS,
    REGISTER_MS,
    ROCKETMQ,
    WORKLOADS,
    Plan,
)
from lab.planfile import nearest
from lab.rundir import LATEST
from lab.systems import SYSTEMS
from lab.topology import Topology, copies_of, in_sync_copies, settings_of, truth
from lab.workloads.flaws import ClientFlaw
from nemesis.catalogue import ELECTED_KINDS, CatalogueError, FaultSpec, parse
from nemesis.flaws import LeverFlaw
from nemesis.targets import MOMENT_WORDS
from nodes.flaws import Flaw

CLIENT_NAME = re.compile(r"[%|a-zA-Z0-9_-]{1,127}")  # RocketMQ class Validators
PLAN_NAME = re.compile(r"[^\W_][\w.-]{0,99}")
SLAVE_WORDS = ("slave", "slaves", "isolate-slave", "replication", "follower", "followers", "isolate-follower")


def validate(plan: Plan, topology: Topology) -> None:
    """Raise PlanError for the first thing that cannot be meant."""
    _name(plan)
    _words(plan)
    _limits(plan)
    _times(plan)
    _routing(plan)
    _shape(plan)
    _client(plan)
    _client_names(plan)
    _faults(plan, topology)


def _name(plan: Plan) -> None:
    """The plan's name becomes a folder below that of the runs, and nothing else may be hit by it."""
    if not PLAN_NAME.fullmatch(plan.name) or plan.name == LATEST:
        raise PlanError(
            f"name = {plan.name!r}: the runs lie in a folder of this name, so it has letters, digits, '-', '_' and '.' "
            f"only, begins with a letter or digit, and is not {LATEST!r}"
        )


def _limits(plan: Plan) -> None:
    """Gates and bounds that no checker knows would never be held against anything."""
    if not plan.judge.gates and not plan.judge.bounds:
        return
    from checkers.meta import GATE_NAMES, Bounds  # only now: it brings numpy with it

    for table, limits, known in (
        ("gates", plan.judge.gates, GATE_NAMES),
        ("bounds", plan.judge.bounds, Bounds.__struct_fields__),
    ):
        for key, value in limits.items():
            if key not in known:
                raise PlanError(f"unknown key {key!r} in [judge.{table}]{nearest(key, known)}")
            if not 0 <= value < math.inf:
                raise PlanError(f"{key} = {value} in [judge.{table}]: a number from 0 on")


def _words(plan: Plan) -> None:
    cluster, load = plan.cluster, plan.load
    if cluster.version and cluster.system == "python":
        raise PlanError(f"cluster.version = {cluster.version!r} is of system rocketmq: --system rocketmq")
    judged = _checkers() if plan.judge.add or plan.judge.remove else ()
    for key, value, known in (
        ("cluster.system", cluster.system, SYSTEMS),
        ("cluster.mode", cluster.mode, MODES),
        ("cluster.lever", cluster.lever, LEVERS),
        ("cluster.promote_as", cluster.promote_as, MASTER_ROLES),
        ("cluster.promote_by", cluster.promote_by, PROMOTE_BYS),
        ("load.workload", load.workload, WORKLOADS),
        ("load.consume", load.consume, CONSUMES),
        ("load.client", load.client, CLIENTS),
        ("judge.expect", plan.judge.expect, ("", "valid", "unknown", "invalid")),
        *(("flaws", flaw, tuple(f.value for f in Flaw)) for flaw in plan.flaws),
        *(("lever_flaws", flaw, tuple(f.value for f in LeverFlaw)) for flaw in plan.lever_flaws),
        *(("client_flaws", flaw, tuple(f.value for f in ClientFlaw)) for flaw in plan.client_flaws),
        *(("judge", name, judged) for name in (*plan.judge.remove, *plan.judge.add)),
    ):
        if value not in known:
            raise PlanError(f"{key}: unknown word {value!r}{nearest(value, [word for word in known if word])}")


def _checkers() -> tuple[str, ...]:
    from checkers.compose import CHECKERS  # only now: it brings numpy with it

    return tuple(checker.name for checker in CHECKERS)


def _times(plan: Plan) -> None:
    if not MIN_TIME_LIMIT <= plan.time_limit <= MAX_TIME_LIMIT:
        raise PlanError(f"time_limit = {plan.time_limit}: from {MIN_TIME_LIMIT} to {MAX_TIME_LIMIT}")
    if plan.load.operation_timeout.ns <= 0:
        raise PlanError("load.operation_timeout must be more than 0")
    if plan.load.route_poll < MIN_ROUTE_POLL:
        raise PlanError(f"load.route_poll = {plan.load.route_poll}: {MIN_ROUTE_POLL} or more")
    wanted, room = wanted_and_room(plan)
    if wanted > room:
        raise PlanError(
            f"nemesis: {wanted} faults are to be drawn, and time_limit = {plan.time_limit} has room for {room}; raise "
            "the time limit, or lower nemesis.count"
        )
    for fault in fault_schedule(plan, plan.seed or 0):
        if fault.at_ns >= plan.time_limit.ns:
            raise PlanError(f"fault {fault.spec} is due after the time limit of {plan.time_limit}")


def _routing(plan: Plan) -> None:
    """A broker of ours lives by its registrations: a name server must not forget it between two of them."""
    expiry = truth(plan.namesrv.get("brokerChannelExpiredTime", ""))
    period = settings_of(plan, master=True).get("registerNameServerPeriod", str(REGISTER_MS))
    if plan.cluster.system == ROCKETMQ or not (expiry.isdecimal() and period.isdecimal()):
        return
    if int(expiry) <= int(period):
        raise PlanError(
            f"[namesrv] brokerChannelExpiredTime = {expiry}: name servers would forget brokers that live, since those "
            f"register every registerNameServerPeriod = {period} ms; set it higher"
        )


def _client(plan: Plan) -> None:
    load = plan.load
    if ClientFlaw.OVERLOOK in plan.client_flaws and not load.pushes:
        raise PlanError(
            f'client flaw {ClientFlaw.OVERLOOK} is one of push consumers: set load.consume = "push", with workload '
            "queue and a consumer"
        )
    if load.client != "java":
        if load.client_version:
            raise PlanError(f"load.client_version = {load.client_version!r} is of client java: --client java")
        return
    if load.workload == "log" and load.retries:
        raise PlanError(
            "client java chooses another queue when it retries, and workload log asks for single queues: "
            "set load.retries = 0"
        )


def _client_names(plan: Plan) -> None:
    """Brokers and clients refuse other names, but only once all has started."""
    for key, name in (("load.topic", plan.load.topic), ("load.group", plan.load.group)):
        if not CLIENT_NAME.fullmatch(name):
            raise PlanError(f"{key} = {name!r}: RocketMQ takes 1 to 127 letters, digits, % | _ and - only")


def _elected_shape(plan: Plan) -> None:
    if not plan.load.wait_store_msg_ok:
        raise PlanError(
            "load.wait_store_msg_ok = false: a DLedger group's SEND_OK is judged as committed, which such messages do "
            f'not ask for; set cluster.mode = "{MASTER_SLAVE}"'
        )
    replicas = plan.cluster.replicas
    if replicas not in DLEDGER_SIZES:
        sizes = ", ".join(map(str, DLEDGER_SIZES))
        why = "; an even number survives no more failures than one less" if replicas % 2 == 0 else ""
        raise PlanError(f"cluster.replicas = {replicas}: a DLedger group has {sizes} replicas{why}")
    _all_alike(plan, "a DLedger group elects its leader")


def _all_alike(plan: Plan, why: str) -> None:
    for table, settings in (("master", plan.master), ("slave", plan.slave)):
        if settings:
            raise PlanError(
                f"{next(iter(settings))} in [{table}]: {why}, so its nodes differ in nothing; keys of all of them go "
                "into [broker]"
            )


def _controlled_shape(plan: Plan) -> None:
    cluster = plan.cluster
    if cluster.system != ROCKETMQ:
        raise PlanError(
            f'cluster.mode = "{CONTROLLER}": our own nodes have no controller; their modes are {MASTER_SLAVE} and '
            f"{DLEDGER}; for a release of Apache's: --system rocketmq --version 5.3.3"
        )
    if cluster.namesrvs % 2 == 0:
        raise PlanError(
            f"cluster.namesrvs = {cluster.namesrvs}: each name server has a controller in it, and an even number of "
            "them survives no more failures than one less; 1, 3 or 5"
        )
    _all_alike(plan, "its controllers appoint the master of a group")
    settings = settings_of(plan, master=True)
    for key in ("inSyncReplicas", "minInSyncReplicas"):
        if not settings.get(key, "1").isdecimal():
            raise PlanError(f"{key} = {settings[key]!r} is not a number of copies")
    if in_sync_copies(settings) > cluster.replicas or int(settings.get("minInSyncReplicas", "1")) > cluster.replicas:
        raise PlanError(
            f"a group has {cluster.replicas} replica(s), and SEND_OK would need more: no message could ever be "
            "acknowledged; raise cluster.replicas, or lower inSyncReplicas and minInSyncReplicas"
        )


def _shape(plan: Plan) -> None:
    if plan.cluster.mode == DLEDGER:
        _elected_shape(plan)
        return
    if plan.cluster.mode == CONTROLLER:
        _controlled_shape(plan)
        return
    master = settings_of(plan, master=True)
    role = master.get("brokerRole", "ASYNC_MASTER")
    if role not in MASTER_ROLES:
        raise PlanError(
            f"brokerRole = {role!r} of masters{nearest(role, MASTER_ROLES)}; slaves get theirs by themselves"
        )
    try:
        copies = copies_of(master)
    except ValueError:
        raise PlanError(f"inSyncReplicas = {master['inSyncReplicas']!r} is not a number of copies") from None
    if copies > plan.cluster.replicas:
        raise PlanError(
            f"SEND_OK would need {copies} copies, but a group has {plan.cluster.replicas} node(s): no message could "
            "ever be acknowledged; raise cluster.replicas or set brokerRole=ASYNC_MASTER"
        )


def _faults(plan: Plan, topology: Topology) -> None:
    ids: set[str] = set()
    nodes = (*topology.hosts,)
    groups = tuple(group.name for group in topology.groups)
    for fault in fault_schedule(plan, plan.seed or 0):
        if fault.id in ids:
            raise PlanError(f"two faults have the id {fault.id!r}")
        ids.add(fault.id)
        try:
            spec = parse(fault.spec)
            spec.check_names(nodes, groups)
        except CatalogueError as error:
            raise PlanError(str(error)) from None
        _possible(spec, plan, topology)


def _possible(spec: FaultSpec, plan: Plan, topology: Topology) -> None:
    if plan.cluster.mode == CONTROLLER:
        _registered_members(spec)
    if spec.kind == "promote" and plan.cluster.system == ROCKETMQ and plan.cluster.promote_by == "call":
        raise PlanError('Apache\'s brokers change their role by a restart only: set cluster.promote_by = "restart"')
    own = sorted(set(plan.master) - {"brokerRole"})
    if spec.kind == "promote" and plan.cluster.promote_by == "call" and own:
        raise PlanError(
            f"{own[0]} in [master]: a slave that a call promotes keeps the settings it was started with, and so "
            'promises something else; move it to [broker], or set cluster.promote_by = "restart"'
        )
    asked = spec.asked.replace(":", " ").replace("/", " ").replace("+", " ").replace(",", " ").split()
    elects = plan.cluster.mode == DLEDGER
    appoints = plan.cluster.mode == CONTROLLER and spec.kind == "transfer"
    if spec.kind in ELECTED_KINDS and not elects and not appoints:
        raise PlanError(f'{spec.text} needs groups that elect their leader: set cluster.mode = "{DLEDGER}"')
    moments = [word for part in asked for word in MOMENT_WORDS if part in (word, f"isolate-{word}", f"when={word}")]
    if moments and not elects:
        raise PlanError(f'{spec.text}: nobody is {moments[0]} where nobody elects: set cluster.mode = "{DLEDGER}"')
    if elects and plan.cluster.system == ROCKETMQ:
        _fixed_members(spec)
    if spec.kind == "promote" and elects:
        raise PlanError(f"{spec.text}: a DLedger group elects its leader by itself; to hand over, ask for transfer")
    wants_slave = spec.kind == "promote" or any(word in SLAVE_WORDS for word in asked)
    if wants_slave and plan.cluster.replicas < 2:
        raise PlanError(f"{spec.text} needs slaves, but cluster.replicas = 1 gives each group a master only")
    if len(topology.brokers) < 2 and any(word in ("halves", "ring", "bridge", "majority") for word in asked):
        raise PlanError(f"{spec.text} needs at least two brokers")


def _fixed_members(spec: FaultSpec) -> None:
    """A release's DLedger group keeps the members of its configuration: none can be added, removed or replaced."""
    if spec.kind in ("add", "remove") or (spec.kind == "destroy" and spec.permanent):
        other = "; with rejoin=yes a destroyed one starts again empty" if spec.kind == "destroy" else ""
        raise PlanError(f"{spec.text}: a release's DLedger group keeps the members of its configuration{other}")


def _registered_members(spec: FaultSpec) -> None:
    """Where a controller appoints masters nobody promotes, and who belongs to a group is what it has registered."""
    if spec.kind == "promote":
        raise PlanError(
            f"{spec.text}: in mode {CONTROLLER} controllers appoint masters; to have them appoint this one, ask for "
            "transfer"
        )
    if spec.kind in ("add", "remove") or (spec.kind == "destroy" and spec.permanent):
        other = "; with rejoin=yes a destroyed one starts again empty" if spec.kind == "destroy" else ""
        raise PlanError(
            f"{spec.text}: in mode {CONTROLLER} the members of a group are those that its controllers have "
            f"registered{other}"
        )


def expected_faults(plan: Plan, seed: int) -> dict[str, int]:
    """How many faults of each kind the plan will inject, for the history's first event."""
    counts: dict[str, int] = {}
    for fault in fault_schedule(plan, seed):
        counts[fault.kind] = counts.get(fault.kind, 0) + 1
    return counts
