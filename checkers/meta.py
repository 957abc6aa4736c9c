"""What a history says about itself in its first event: the cluster, the promise, the gates and the bounds."""

from __future__ import annotations

from typing import Any, Final

import msgspec


class GroupMeta(msgspec.Struct, frozen=True):
    """One broker group: its nodes, and how many copies (primary included) exist before SEND_OK."""

    nodes: list[str] = msgspec.field(default_factory=list)
    copies: int = 1
    flush: str = "ASYNC_FLUSH"
    role: str = "ASYNC_MASTER"
    voters: list[str] = msgspec.field(default_factory=list)
    learners: list[str] = msgspec.field(default_factory=list)
    quorum: int | None = None
    elects: str | None = None
    unclean: bool = False
    partial: bool = False

    @property
    def electors(self) -> list[str]:
        """Return the nodes that vote; all that are no learners, where the run does not name them."""
        return self.voters or [node for node in self.nodes if node not in self.learners]

    @property
    def votes(self) -> int:
        """Return how many votes it takes to elect a leader and to commit."""
        return self.quorum if self.quorum is not None else len(self.electors) // 2 + 1


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What C15 asks for: after `grace_s` seconds of good conditions, a success in every `window_s` seconds.

    A grace beyond `GRACE_MOST_S` hides stalls, so it must be explained by the timers it follows from (`because`).
    """

    grace_s: float = 5.0
    window_s: float = 3.0
    because: str = ""


GRACE_MOST_S: Final = 5.0


class Routing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Timers of the name servers and of registration, seconds; the defaults are RocketMQ's own."""

    register_s: float = 30.0
    refresh_s: float = 30.0
    expiry_s: float = 120.0
    scan_s: float = 10.0
    slack_s: float = 2.0

    @property
    def up_s(self) -> float:
        """Return after how long a name server must tell of a new leader."""
        return self.register_s + self.slack_s

    @property
    def dead_s(self) -> float:
        """Return after how long a name server must have dropped a dead broker."""
        return self.expiry_s + self.scan_s + self.slack_s


class Offsets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What commits of consumer offsets promise: nothing may be taken back, or no more than `max_rollback` messages.

    Of a run that does not say (None) a table that vanished is excused by a fault, but not where groups elect.
    """

    durable: bool | None = None
    max_rollback: int | None = None


class Gates(msgspec.Struct, frozen=True):
    """How much must have happened before a run may be called valid. Counts, and ratios in 0..1.

    `send_ok` and `deliveries` over the whole run; `warm_send_ok` before the first fault and `recovered_send_ok` after
    the last heal, both per broker group; `attempts_per_fault` sends invoked inside each fault; `info_ratio` is the
    largest share of unknown outcomes outside fault windows.
    """

    send_ok: float = 100
    deliveries: float = 100
    warm_send_ok: float = 20
    recovered_send_ok: float = 20
    attempts_per_fault: float = 20
    info_ratio: float = 0.05


MODES: Final = ("master-slave", "dledger", "controller")
"""How the broker groups of a run may replicate; which checkers are required depends on it."""

GATE_NAMES: Final = Gates.__struct_fields__
"""The names a plan may set."""


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits a plan may set; passing one is a violation. Seconds and counts; absent means only measured.

    A limit of an unknown name is refused with the whole history: it would otherwise never be held against anything.
    """

    rto_s: float | None = None
    consumer_rto_s: float | None = None
    rpo_count: int | None = None
    rpo_s: float | None = None
    lost_weak: int | None = None
    send_ms: dict[str, float] = msgspec.field(default_factory=dict)
    delivery_ms: dict[str, float] = msgspec.field(default_factory=dict)


class Meta(msgspec.Struct, frozen=True):
    """The value of the `meta` event."""

    format: int = 1
    run: str = ""
    mode: str = "master-slave"
    workload: str = "queue"
    system: str = ""
    client: str = ""
    seed: Any = None
    groups: dict[str, GroupMeta] = msgspec.field(default_factory=dict)
    name_servers: list[str] = msgspec.field(default_factory=list)
    topics: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    consumer_groups: list[str] = msgspec.field(default_factory=list)
    threads: int = 0
    operation_timeout_ns: int = 3_000_000_000
    rate: float | None = None
    gates: dict[str, float] = msgspec.field(default_factory=dict)
    bounds: Bounds = msgspec.field(default_factory=Bounds)
    required: list[str] = msgspec.field(default_factory=list)
    not_applicable: dict[str, str] = msgspec.field(default_factory=dict)
    expected_faults: dict[str, int] = msgspec.field(default_factory=dict)
    promise: str = ""
    weakened: list[str] = msgspec.field(default_factory=list)
    flaws: list[str] = msgspec.field(default_factory=list)
    c5_mode: str = "append-only"
    exactly_once: bool = False
    orderly: bool = False
    addresses: dict[str, str] = msgspec.field(default_factory=dict)
    hosts: dict[str, str] = msgspec.field(default_factory=dict)
    clients: list[str] = msgspec.field(default_factory=list)
    progress: Progress = msgspec.field(default_factory=Progress)
    routing: Routing = msgspec.field(default_factory=Routing)
    offsets: Offsets = msgspec.field(default_factory=Offsets)
    set_linearizable: bool = False

    def node_at(self, address: str) -> str | None:
        """Return the node that answers at an address (or is called so itself); None if the run does not say."""
        if address in self.addresses:
            return self.addresses[address]
        known = any(address in group.nodes for group in self.groups.values())
        return address if known else None

    def host_of(self, node: str) -> str:
        """Return the host a node runs on; where the run does not say, it has the node's name."""
        return self.hosts.get(node, node)

    def group_of_node(self, node: str) -> str | None:
        """Return the group a node belongs to, None for others."""
        return next((name for name, group in self.groups.items() if node in (*group.nodes, *group.learners)), None)

    def elects(self, group: str) -> str:
        """Return how a group finds its next primary: `majority`, `in-sync` or `by-hand`."""
        found = self.groups.get(group)
        if found is not None and found.elects is not None:
            return found.elects
        return {"dledger": "majority", "controller": "in-sync"}.get(self.mode, "by-hand")

    def gate_values(self) -> Gates:
        """Return the gates of this run: the defaults, overridden by what the run set; unknown names are left out."""
        return Gates(**{name: value for name, value in self.gates.items() if name in GATE_NAMES})

    def queues(self) -> list[str]:
        """Return the names of all queues the run was configured with, `topic/group/number`."""
        return [
            f"{topic}/{group}/{number}"
            for topic, groups in self.topics.items()
            for group, count in groups.items()
            for number in range(count)
        ]


class MetaError(ValueError):
    """The meta event does not have the shape of format 1; the message names the field."""


def parse_meta(value: Any) -> Meta:
    """Read the meta event's value; raises `MetaError`."""
    try:
        meta = msgspec.convert(value, Meta)
    except msgspec.ValidationError as error:
        raise MetaError(f"the meta event is not of format 1: {error}") from error
    if meta.format != 1:
        raise MetaError(f"the history is of format {meta.format}; this program reads format 1")
    return meta
