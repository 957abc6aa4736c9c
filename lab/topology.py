"""Which nodes and hosts a plan asks for, by name; pure. Every node has a host of its own with the node's name."""

from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_lowercase

from lab.errors import PlanError
from lab.plan import CONTROLLER, DLEDGER, ROCKETMQ, Cluster, Plan, Setting
from nemesis.catalogue import kind_of

NAMESRV_PORT = 9876
BROKER_PORT = 10911
HA_PORT = 10912
MEMBER_PORT = 40911  # where members of a DLedger group speak to one another
CONTROLLER_PORT = 9878  # of a controller in a name server, to brokers and to its fellows
GROUPS_MAX = len(ascii_lowercase)
SPARES_MAX = 4


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue of the topic under load; ``str`` gives its name in the history."""

    topic: str
    group: str
    queue_id: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.group}/{self.queue_id}"

    @classmethod
    def parse(cls, name: str) -> "Queue":
        """The queue that `str` named; topics may hold slashes, groups may not."""
        topic, group, queue_id = name.rsplit("/", 2)
        return cls(topic, group, int(queue_id))


@dataclass(frozen=True, slots=True)
class Group:
    """One broker group: its first master, its slaves, and the hosts kept ready for replacements and additions.

    A group that elects has no first master: whoever wins leads, and ``nodes`` are the members that it begins with.
    """

    name: str
    nodes: tuple[str, ...]  # the master comes first
    spares: tuple[str, ...]

    @property
    def master(self) -> str:
        """The node that starts as master."""
        return self.nodes[0]

    @property
    def slaves(self) -> tuple[str, ...]:
        """The nodes that start as slaves."""
        return self.nodes[1:]


@dataclass(frozen=True, slots=True)
class Topology:
    """All names of a run, in a fixed order."""

    namesrvs: tuple[str, ...]
    groups: tuple[Group, ...]
    clients: tuple[str, ...]
    queues: tuple[Queue, ...]

    @property
    def brokers(self) -> tuple[str, ...]:
        """All brokers that start with the cluster."""
        return tuple(node for group in self.groups for node in group.nodes)

    @property
    def spares(self) -> tuple[str, ...]:
        """Brokers that start only as replacements of destroyed ones."""
        return tuple(node for group in self.groups for node in group.spares)

    @property
    def hosts(self) -> tuple[str, ...]:
        """All places, those of the spares included."""
        return (*self.namesrvs, *self.brokers, *self.spares, *self.clients)

    def group_of(self, node: str) -> Group | None:
        """The broker group of a node, None for name servers and clients."""
        return next((group for group in self.groups if node in group.nodes or node in group.spares), None)

    def group(self, name: str) -> Group:
        """The group of this brokerName."""
        return next(group for group in self.groups if group.name == name)


def topology_of(plan: Plan) -> Topology:
    """Name everything the plan asks for; raises PlanError if the parts do not fit together."""
    cluster, load = plan.cluster, plan.load
    if cluster.groups > GROUPS_MAX:
        raise PlanError(f"cluster.groups = {cluster.groups}: at most {GROUPS_MAX}")
    spares = min(SPARES_MAX, max(cluster.spares, _newcomers(plan)))
    groups = []
    for letter in ascii_lowercase[: cluster.groups]:
        name = f"broker-{letter}"
        nodes = tuple(f"{name}-{index}" for index in range(cluster.replicas))
        more = tuple(f"{name}-{index}" for index in range(cluster.replicas, cluster.replicas + spares))
        groups.append(Group(name, nodes, more))
    return Topology(
        namesrvs=tuple(f"namesrv-{number}" for number in range(1, cluster.namesrvs + 1)),
        groups=tuple(groups),
        clients=tuple(f"client-{number}" for number in range(1, load.hosts + 1)),
        queues=tuple(Queue(load.topic, group.name, index) for group in groups for index in range(load.queues)),
    )


def _newcomers(plan: Plan) -> int:
    """How many spare nodes the plan's faults may need: for what they destroy, and for what they add."""
    kinds = ("destroy", "add")
    listed = sum(kind_of(step.kind) in kinds for step in plan.fault)
    drawn = sum(kind_of(name) in kinds for name in plan.nemesis.faults)
    return listed + (max(SPARES_MAX, plan.nemesis.count) if drawn else 0)


def truth(value: Setting) -> str:
    """A setting as a property file writes it. A truth value in any case of letters is one, as Java reads it."""
    text = str(value)
    return text.lower() if text.lower() in ("true", "false") else text


def settings_of(plan: Plan, *, master: bool) -> dict[str, str]:
    """The plan's own broker keys of a node that starts as master or slave, as property text.

    RocketMQ 5 waits for no slave unless inSyncReplicas says so; its default stands here, since it decides the promise.
    So do those that decide it beside a controller.
    """
    cluster = plan.cluster
    stock: dict[str, Setting] = {}
    appointed = cluster.system == ROCKETMQ and cluster.mode != DLEDGER
    if appointed and not plan.versions.get("rocketmq", cluster.version).startswith("4."):
        stock = {"inSyncReplicas": 1}
        if cluster.mode == CONTROLLER:
            stock |= {"minInSyncReplicas": 1, "allAckInSyncStateSet": False}
    layers: tuple[Mapping[str, Setting], ...] = (stock, plan.broker, plan.master if master else plan.slave)
    return {key: truth(value) for layer in layers for key, value in layer.items()}


def copies_of(settings: Mapping[str, str]) -> int:
    """Copies (master included) that the settings of a master guarantee before SEND_OK.

    RocketMQ 4.9 SYNC_MASTER waits for one slave; inSyncReplicas, where it is set, counts copies with the master. With
    enableAutoInSyncReplicas it may come down to minInSyncReplicas (class DefaultMessageStore.calcNeedAckNums).
    """
    if settings.get("brokerRole", "ASYNC_MASTER") != "SYNC_MASTER":
        return 1
    copies = int(settings.get("inSyncReplicas", "2"))
    if settings.get("enableAutoInSyncReplicas") == "true":
        copies = min(copies, int(settings.get("minInSyncReplicas", "1")))
    return max(1, copies)


def in_sync_copies(settings: Mapping[str, str]) -> int:
    """Copies (master included) that the settings guarantee before SEND_OK where a controller keeps the set of replicas
    in sync.

    With allAckInSyncStateSet all of the set must have it, and sends are refused while the set is smaller than
    minInSyncReplicas; without it inSyncReplicas of them are enough (class CommitLog.asyncPutMessage of 5.x).
    """
    every = settings.get("allAckInSyncStateSet", "false").lower() == "true"
    return max(1, int(settings.get("minInSyncReplicas" if every else "inSyncReplicas", "1")))


def guaranteed(plan: Plan, settings: Mapping[str, str]) -> tuple[int, str]:
    """Copies and flushing that SEND_OK of a master with these settings guarantees to the plan's messages."""
    if not plan.load.wait_store_msg_ok:
        return 1, "ASYNC_FLUSH"
    copies = in_sync_copies(settings) if plan.cluster.mode == CONTROLLER else copies_of(settings)
    return copies, flush_of(settings, plan.cluster)


def flush_of(settings: Mapping[str, str], cluster: Cluster) -> str:
    """SYNC_FLUSH or ASYNC_FLUSH of these settings; a DLedger group of ours syncs unless it is told not to.

    A release's DLedger answers before it syncs whatever flushDiskType says: its flush thread runs by itself every 10 ms
    (DLedger class DLedgerMmapFileStore).
    """
    if cluster.mode == DLEDGER:
        return "ASYNC_FLUSH" if cluster.system == ROCKETMQ else settings.get("flushDiskType", "SYNC_FLUSH")
    return settings.get("flushDiskType", "ASYNC_FLUSH")


def majority(members: int) -> int:
    """How many of so many members decide."""
    return members // 2 + 1
