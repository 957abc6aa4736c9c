"""What a system under test must offer to the lab. The lab's other modules know nodes only through this."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from lab.cluster.supervisor import NodeSpec
from lab.systems.log_entries import LogEntry
from nemesis.world import Patience


@dataclass(frozen=True, slots=True)
class Assigned:
    """The part that a broker is meant to play: what its configuration says at the next start."""

    role: str  # ASYNC_MASTER, SYNC_MASTER, SLAVE
    broker_id: int

    @property
    def master(self) -> bool:
        """Whether it is meant to be its group's master."""
        return self.role != "SLAVE"


@dataclass(frozen=True, slots=True)
class RaftView:
    """What a member of a group that elects says of itself; nodes by the lab's names, positions in bytes of the log."""

    role: str  # leader, follower, candidate, learner, failed
    term: int
    vote: str | None  # in this term; None: for nobody
    leader: str | None  # whom it follows, or itself
    accepts: bool  # as leader it takes sends and answers reads: its term's first record is committed
    commit: int
    durable: int | None  # None: it does not say
    applied: int | None
    terms: tuple[tuple[int, str, int], ...]  # (term, leader, start) of its log
    voters: tuple[str, ...]
    learners: tuple[str, ...] = ()
    settled: bool = True  # the membership it reports is committed
    tells_vote: bool = True  # else `vote` is None since it does not say


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What one broker says of itself through the side channel."""

    node: str
    master: bool
    broker_id: int
    epoch: tuple[int, str]  # number and id of the newest epoch
    epochs: tuple[tuple[int, str, int], ...]  # (number, id, start offset)
    begin: int
    end: int
    slave_ack: int | None  # the strongest end that a connected slave acknowledged
    slaves: tuple[Mapping[str, Any], ...]
    serving: bool
    queues: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    delayed: int | None = None  # delayed messages that do not lie under their own topic yet; None: it does not say
    raw: Mapping[str, Any] = field(default_factory=dict)
    raft: RaftView | None = None  # of members of groups that elect


def queue_of(key: str) -> tuple[str, int]:
    """Topic and number of a queue that is called ``topic@number``."""
    topic, _, number = key.rpartition("@")
    return topic, int(number)


@dataclass(frozen=True, slots=True)
class Listing:
    """One broker group in the route of a topic."""

    brokers: Mapping[str, str]  # broker id to node
    term: int | None  # in which whoever is listed as master leads, if the name server tells
    queues: int


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Whole records of a replica's log, and where the next piece begins."""

    data: bytes
    next_offset: int
    max_offset: int


@dataclass(frozen=True, slots=True)
class LogPattern:
    """A line of a node's log that says something is wrong, with what it does to the verdict and why."""

    name: str
    needle: str
    severity: str  # violation, note


class System(Protocol):
    """One system under test: configuration files, commands, and the questions that the lab asks its nodes."""

    name: str
    not_applicable: Mapping[str, str]
    log_patterns: tuple[LogPattern, ...]
    log_files: tuple[str, ...]  # where they are looked for: patterns of paths in a node's folder
    ready_s: float  # what its nodes may take to start, where that is longer than the plan says
    patience: Patience  # how long proofs wait for its nodes

    def prepare(self, node: str) -> NodeSpec:
        """Write the node's configuration as it is assigned now; say how to run it."""
        ...

    def assigned(self, node: str) -> Assigned:
        """The part that the broker is meant to play."""
        ...

    def assign(self, node: str, part: Assigned) -> None:
        """Change that part; takes effect with `prepare` and the next start."""
        ...

    async def status(self, node: str) -> NodeStatus | None:
        """Ask a broker through the side channel; None if it does not answer."""
        ...

    async def masters(self, namesrv: str) -> Mapping[str, str | None] | None:
        """Node name of each group's master as this name server tells it; None if it does not answer."""
        ...

    async def change_role(self, node: str, part: Assigned) -> str:
        """One admin call that makes the broker play another part now. Raises LeverError."""
        ...

    async def create_topic(self, node: str, topic: str, queues: int) -> str:
        """Create the topic on a master; why that failed, empty if it did not."""
        ...

    async def topic_known(self, namesrv: str, topic: str, groups: int) -> bool:
        """Whether this name server routes the topic to a master in so many groups."""
        ...

    async def read_log(self, node: str, offset: int) -> LogPiece | None:
        """A piece of the replica's log from ``offset``; None if the node did not answer."""
        ...

    def entries(self, data: bytes, offset: int) -> Iterator[LogEntry]:
        """How such a piece that begins at ``offset`` is cut into entries. Raises RecordError."""
        ...

    async def indexed(self, status: NodeStatus) -> Collection[tuple[str, int]] | None:
        """Topic and number of every queue, once their index has all of the log below the end that ``status`` tells.

        What it still lacks after a while, it has lost. None if nobody can tell how far it is.
        """
        ...

    async def read_index(self, node: str, topic: str, queue_id: int, offset: int) -> tuple[bytes, int, int] | None:
        """Index entries (20 bytes each) of a queue from ``offset``, with the queue's begin and end."""
        ...

    async def committed(self, node: str, group: str, topic: str, queue_id: int) -> int | None:
        """A consumer group's committed offset on this broker; None if there is none or no answer."""
        ...

    def elections(self, node: str, start_ns: int, starts: Sequence[int]) -> Iterator[dict[str, Any]]:
        """The values of the ``election`` events that the node's own log tells, in its order.

        ``start_ns`` is the run's zero and ``starts`` when each incarnation was started, on the monotonic clock.
        """
        ...

    async def unlike(self, node: str) -> list[str]:
        """Settings that the running broker does not have as they were written, in words; what it has is stored."""
        ...

    async def close(self) -> None:
        """Close the side channel."""
        ...


@runtime_checkable
class RouteCalls(Protocol):
    """A system whose name servers can be asked for the route of a topic, from any host of the lab."""

    async def route(self, namesrv: str, topic: str, asker: str | None = None) -> Mapping[str, Listing] | None:
        """Group to its listing, {} if the topic is unknown, None without an answer.

        Asked through the side channel, or over the wires of the experiment from the host ``asker``.
        """
        ...


@runtime_checkable
class MemberCalls(Protocol):
    """A system whose groups elect their leader and change their membership by admin calls to the leader.

    All raise LeverError with the words of the node.
    """

    async def add_member(self, leader: str, node: str) -> str:
        """Make a node that runs a voter: learner first, then promoted; returns when that is committed."""
        ...

    async def remove_member(self, leader: str, node: str) -> str:
        """Take a member out; returns when that is committed."""
        ...

    async def hand_over(self, leader: str, node: str) -> str:
        """Ask the leader to make another member leader; returns when it stopped leading."""
        ...
