"""A plan is the full description of one run: frozen, typed, bounded, and the only thing a run reads.

Every table of a plan file is one structure here; a key that is no field is refused with the nearest name.
Lengths of time carry their unit (``"30s"``); rates are operations a second over the whole run.
"""

from typing import Annotated

from msgspec import Meta, Struct, field

from lab.duration import Duration

Count = Annotated[int, Meta(ge=0, le=1_000_000)]
Small = Annotated[int, Meta(ge=1, le=64)]
Share = Annotated[float, Meta(ge=0, le=1)]
Setting = str | int | float | bool


class Cluster(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is started: how many groups of brokers with how many replicas, and how many name servers."""

    system: str = "python"
    version: str = ""  # of system rocketmq: a release such as 5.3.3, or the folder of an unpacked one
    mode: str = "master-slave"
    groups: Small = 1
    replicas: Small = 2  # nodes of a group, its master included; without a word 3 in modes dledger and controller
    namesrvs: Small = 1  # without a word 3 in mode controller, where each has a controller in it
    topic_on_slaves: bool = True  # load waits until slaves have copied the topic (rocketmq: up to a minute)
    more_topics: Annotated[int, Meta(ge=0, le=5_000)] = 0  # made beside the load's, used by nobody: metadata to carry
    spares: Annotated[int, Meta(ge=0, le=4)] = 0  # hosts of each group kept ready, beside those that faults may need
    lever: str = "nft"  # how partitions are cut: nft (one set in the switch) or iptables (rules on each host)
    ready_within: Duration = Duration.seconds(30)
    # the rest of this table is for master-slave; groups that elect need no operator
    promote_as: str = "ASYNC_MASTER"  # role of a promoted slave, as in the seed's procedure
    promote_by: str = "call"  # call (one admin call) or restart (edit brokerId and brokerRole, restart)
    replace_after: Duration = Duration.seconds(
        1
    )  # an empty slave takes a destroyed node's place so long after promotion


class Load(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who asks what of the cluster, how often; open loop: intended times do not wait for answers."""

    workload: str = "queue"
    rate: Annotated[int, Meta(ge=1, le=100_000)] = 200
    clients: Small = 20  # logical clients that send (workload log: that send, read and ask for ends)
    consumers: Annotated[int, Meta(ge=0, le=64)] = 2  # logical clients that consume (workload queue)
    consume: str = "pull"  # pull, push
    reconsume_share: Share = 0.0  # of messages that a push consumer first sends back to be consumed later
    topic: str = "lab"
    group: str = "readers"
    queues: Small = 4  # queues of the topic in each group
    message_bytes: Annotated[int, Meta(ge=48, le=4_000_000)] = 300
    operation_timeout: Duration = Duration.seconds(1)
    client: str = "python"  # the library of all clients: python (ours) or java (RocketMQ's own)
    client_version: str = ""  # of client java: a release such as 4.9.8, or an unpacked one's folder; else 5.3.3
    route_poll: Duration = Duration.seconds(30)  # how often clients ask for routes (RocketMQ pollNameServerInterval)
    wait_store_msg_ok: bool = True  # no: messages ask to be answered before they are flushed or replicated (WAIT=false)
    retries: Annotated[int, Meta(ge=0, le=16)] = 0  # the client library's own; each attempt is in the history
    hosts: Small = 2  # client hosts, one worker process on each
    poll_pause: Duration = Duration.seconds(0.02)
    commit_every: Duration = Duration.seconds(0.5)
    late_clients: Annotated[int, Meta(ge=0, le=8)] = 0  # fresh clients without a cached route
    late_at: Duration = Duration.seconds(5)

    @property
    def pushes(self) -> bool:
        """Whether there are push consumers."""
        return self.workload == "queue" and self.consumers > 0 and self.consume == "push"


class FaultStep(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One fault: what, to whom, when, for how long. Without ``for`` it lasts until the drain heals it."""

    kind: str
    at: Duration
    target: str = ""
    id: str = ""
    lasting: Duration | None = field(default=None, name="for")
    options: dict[str, Setting] = {}  # of the fault, as in its words: {clients = "split"} is ``,clients=split``
    every: Duration | None = None  # with ``for``: again and again, each time healed before the next


class Nemesis(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Faults drawn from a list with the plan's seed; empty times mean: spread over the time limit."""

    faults: tuple[str, ...] = ()
    count: Annotated[int, Meta(ge=0, le=1000)] = 0  # 0: as many as there are names, at least two, within the limit
    lasting: Duration | None = None
    overlap: bool = False


class Drain(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bounds of the drain phase (checkers, section 4)."""

    ready_for: Duration = Duration.seconds(3)  # D4: Ready must hold this long without a break
    recover_within: Duration = Duration.seconds(60)  # D4's deadline
    consume_within: Duration = Duration.seconds(30)  # D9's deadline
    budget: Duration = Duration.seconds(120)  # D5 to D7 together
    restart_all: bool = False  # D8: kill and start every node, then drain again


class Judge(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which checkers must hold beside the required ones; removing a required one makes the verdict at most unknown."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    gates: dict[str, float] = {}
    bounds: dict[str, float] = {}  # demands on what is measured: rto_s, consumer_rto_s, rpo_count, rpo_s, lost_weak
    expect: str = ""  # valid, unknown, invalid: only reported beside the verdict


class Plan(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The full description of one run."""

    name: str = "run"
    text: str = ""  # what this plan shows, in a sentence or two
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None  # none: drawn when the run starts, then stored
    time_limit: Duration = Duration.seconds(30)  # the load phase; start-up and drain come on top
    cluster: Cluster = Cluster()
    load: Load = Load()
    broker: dict[str, Setting] = {}  # RocketMQ property keys of every broker
    master: dict[str, Setting] = {}  # of those that start as master
    slave: dict[str, Setting] = {}
    namesrv: dict[str, Setting] = {}
    fault: tuple[FaultStep, ...] = ()
    nemesis: Nemesis = Nemesis()
    drain: Drain = Drain()
    judge: Judge = Judge()
    flaws: tuple[str, ...] = ()  # planted flaws of the nodes
    lever_flaws: tuple[str, ...] = ()  # planted flaws of the nemesis: kind/no-inject, kind/no-heal
    client_flaws: tuple[str, ...] = ()  # planted flaws of the clients
    versions: dict[str, str] = {}  # filled when the plan is resolved


MIN_TIME_LIMIT = Duration.seconds(10)
MAX_TIME_LIMIT = Duration.seconds(24 * 3600)
ROCKETMQ = "rocketmq"
MASTER_SLAVE = "master-slave"
DLEDGER = "dledger"
CONTROLLER = "controller"
MODES = (MASTER_SLAVE, DLEDGER, CONTROLLER)
DLEDGER_SIZES = (1, 3, 5, 7)
DLEDGER_REPLICAS = 3  # without a word
CONTROLLERS = 3  # without a word, and as many replicas
WORKLOADS = ("queue", "log")
CONSUMES = ("pull", "push")
CLIENTS = ("python", "java")
JAVA_CLIENT = "5.3.3"  # without a word
REGISTER_MS = 10_000  # registerNameServerPeriod, unless the plan says otherwise
MIN_ROUTE_POLL = Duration.seconds(0.1)
LEVERS = ("nft", "iptables")
PROMOTE_BYS = ("call", "restart")
MASTER_ROLES = ("ASYNC_MASTER", "SYNC_MASTER")
