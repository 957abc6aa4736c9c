"""What the nemesis can touch and see: small protocols that whoever runs a cluster implements.

The nemesis knows hosts (places with an address), nodes (programs with a role on a host) and roles. It never knows how
they are made: namespaces or machines, our nodes or somebody else's. A lever (``cut``, ``kill`` …) only acts and must
not judge its own success; the observations (``matrix``, ``port`` …) only look. Proofs compare the two, and what was
intended is kept by the nemesis itself (``ledger``), so that a lever that does nothing is noticed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from nemesis.ledger import Ledger

Pair = tuple[str, str]
"""An ordered pair of host names: packets from the first to the second."""


class LeverError(Exception):
    """A lever could not act; the message says what and why. Faults turn it into ``verified: false``."""


class NodeState(StrEnum):
    """What the supervisor of a node's process says about it."""

    RUNNING = "running"
    PAUSED = "paused"
    DEAD = "dead"
    DESTROYED = "destroyed"  # dead, and its store folder is gone
    ABSENT = "absent"  # never started


class PortState(StrEnum):
    """What a client that asks a node something simple sees, from inside the node's own host."""

    ANSWERS = "answers"
    REFUSES = "refuses"  # nobody listens: connection refused or reset
    SILENT = "silent"  # no reply within the time allowed, although the connection may open


class Role(StrEnum):
    """The part that a node plays at the moment it is asked."""

    MASTER = "master"
    SLAVE = "slave"
    NAME_SERVER = "namesrv"
    CLIENT = "client"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class RoleReport:
    """What one node says about its role; if it does not answer, the last that was known, with ``alive`` false."""

    node: str
    host: str
    group: str  # the broker group's name; "" for name servers and clients
    role: Role
    epoch: int | None = None  # number of the epoch it serves in, brokers only
    alive: bool = True
    running: bool = True  # its process: one that does not answer may only be slow


@dataclass(frozen=True, slots=True)
class Matrix:
    """One measurement of who reaches whom, for ordered pairs of hosts; three ways of looking at the same wires.

    ``datagrams``: a packet of a new flow arrived (one way). ``flows``: a packet of a TCP connection that was
    established while the network was whole arrived (one way). ``connects``: a new TCP connection opened (both ways).
    """

    pairs: tuple[Pair, ...]  # all that were probed
    datagrams: frozenset[Pair]
    flows: frozenset[Pair]
    connects: frozenset[Pair]
    took_ms: float

    def mismatches(self, cut: frozenset[Pair]) -> tuple[str, ...]:
        """Say in words, sorted, where this measurement differs from a network in which exactly ``cut`` is lost."""
        found = []
        for pair in sorted(self.pairs):
            one_way = pair not in cut
            both_ways = one_way and (pair[1], pair[0]) not in cut
            looks = (
                ("new flow", pair in self.datagrams, one_way),
                ("established flow", pair in self.flows, one_way),
                ("connect", pair in self.connects, both_ways),
            )
            for look, seen, meant in looks:
                if seen != meant:
                    found.append(f"{pair[0]} -> {pair[1]} {look}: {'passes' if seen else 'lost'}")
        return tuple(found)


class Network(Protocol):
    """The wires between hosts. Cuts of several faults overlap: what is lost is the union of all cuts in force."""

    def hosts(self) -> Sequence[str]:
        """Names of all hosts, in a fixed order; clients and name servers are hosts too."""
        ...

    async def cut(self, fault_id: str, pairs: frozenset[Pair]) -> str:
        """Lose every packet of these ordered pairs from now on, as one fault; return what was done, for the record.

        A second call with the same ``fault_id`` replaces that fault's pairs. Raises LeverError.
        """
        ...

    async def restore(self, fault_id: str) -> str:
        """End this fault's cut; pairs that other faults cut too stay lost. Raises LeverError."""
        ...

    async def matrix(self, expected_cut: frozenset[Pair]) -> Matrix:
        """Measure all ordered pairs; may stop early once it equals ``expected_cut`` and had time to differ."""
        ...

    async def reachable(self, src: str, dst: str) -> bool:
        """Whether a packet of a new flow gets from ``src`` to ``dst``."""
        ...

    async def flow(self, src: str, dst: str) -> bool:
        """Whether a packet of an established TCP connection gets from ``src`` to ``dst``."""
        ...

    async def baseline(self) -> Sequence[str]:
        """Filter rules that exist now and did not at the start (or the reverse); empty means as at the start."""
        ...


class Processes(Protocol):
    """The nodes' processes. Levers act on one node; asking for the impossible (kill a dead node) raises LeverError."""

    def nodes(self) -> Sequence[str]:
        """Names of all nodes that run as processes, in a fixed order."""
        ...

    def state(self, node: str) -> NodeState:
        """The state as the supervisor knows it."""
        ...

    def pid(self, node: str) -> int | None:
        """Process id of the current or, if it is dead, of the last incarnation; None if never started."""
        ...

    def incarnation(self, node: str) -> int:
        """How many times this node has been started."""
        ...

    async def kill(self, node: str, fault_id: str) -> str:
        """SIGKILL the node with all its children; return what was done. The exit counts as expected by this fault."""
        ...

    async def start(self, node: str) -> str:
        """Start the node again with its present configuration and store; return without waiting until it serves."""
        ...

    async def destroy(self, node: str, fault_id: str) -> str:
        """SIGKILL the node and delete its store folder."""
        ...

    async def pause(self, node: str) -> str:
        """Stop all threads of the node (frozen cgroup or SIGSTOP)."""
        ...

    async def resume(self, node: str) -> str:
        """Let a paused node go on."""
        ...

    async def gone(self, pid: int) -> bool:
        """Whether no living process with this id exists that the supervisor started (a zombie counts as gone)."""
        ...

    async def stopped(self, node: str) -> bool:
        """Whether the kernel says that every thread of the node stands still."""
        ...

    async def port(self, node: str, timeout_s: float) -> PortState:
        """Ask the node something simple through its service port, from inside its host."""
        ...

    async def store_gone(self, node: str) -> bool:
        """Whether the node's store folder does not exist (or is empty)."""
        ...


class Roles(Protocol):
    """Who plays which part, asked of the nodes themselves."""

    async def roles(self) -> Mapping[str, RoleReport]:
        """Node (or client host) name to its report; nodes that do not answer are in it with ``alive`` false."""
        ...

    async def promote(self, node: str) -> str:
        """Make this slave the master of its group, by the admin call or by the seed's procedure. Raises LeverError."""
        ...


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who belongs to a replicated group by the word of one of its nodes, and whether that is committed."""

    node: str
    voters: frozenset[str]
    learners: frozenset[str] = frozenset()
    committed: bool = True


class Members(Protocol):
    """Groups that elect their leader by majority: who belongs to them, and who leads. Levers raise LeverError."""

    async def configurations(self, group: str) -> Mapping[str, Configuration]:
        """Node to the configuration it reports, of all nodes of the group that answer and were not taken out of it."""
        ...

    async def spare(self, group: str) -> str | None:
        """A node that is kept ready for this group and has never been part of it; None if there is none left."""
        ...

    async def join(self, node: str) -> str:
        """Start the node if it does not run, and make it a voter of its group; return what was done."""
        ...

    async def leave(self, node: str, *, stop: bool = True, by: str = "") -> str:
        """Take the node out of its group for good, and end its process if it is to ``stop``; return what was done.

        The node ``by`` is asked first, whether or not it serves as leader yet.
        """
        ...

    async def transfer(self, node: str) -> str:
        """Ask the leader of the node's group to hand over to this node; return what was done."""
        ...


class Moment(StrEnum):
    """What may happen to a node while its group elects a leader; the values are the words of plans."""

    ELECTED = "elected"  # it has won an election
    VOTER = "voter"  # it has given its vote to another node


@dataclass(frozen=True, slots=True)
class Election:
    """One such moment of one node."""

    node: str
    group: str
    term: int


class Elections(Protocol):
    """What nodes write about elections, as they write it: faults wait for it."""

    async def next(self, moment: Moment, group: str) -> Election:
        """Wait, maybe for ever, until this happens to a node of the group ("": of any), counted from the call."""
        ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How long proofs wait for the world to show what was done, in seconds. Proofs end early when it shows."""

    ask_s: float = 1.0  # for one question to a port, before the question counts as not answered
    silent_s: float = 0.5  # a paused node must not answer for this long
    refuse_s: float = 2.0  # until the port of a killed node refuses
    matrix_s: float = 5.0  # until the reachability matrix equals the intended one
    start_s: float = 30.0  # until a restarted node answers
    resume_s: float = 10.0  # until a resumed node answers
    promote_s: float = 15.0  # until the new master reports role and epoch
    member_s: float = 20.0  # until every living member reports the new configuration
    elect_s: float = 5.0  # until a group that elects has a leader for a fault to hit
    moment_s: float = 20.0  # until what a fault waits for happens in an election
    poll_s: float = 0.02  # between two looks


@dataclass(frozen=True, slots=True)
class World:
    """All that a fault acts on, and the nemesis's own memory of what it has done to it."""

    network: Network
    processes: Processes
    roles: Roles
    rng: random.Random
    now_ns: Callable[[], int]  # the clock of the history
    patience: Patience = field(default_factory=Patience)
    ledger: Ledger = field(default_factory=Ledger)
    members: Members | None = None  # None: groups here do not elect
    elections: Elections | None = None
