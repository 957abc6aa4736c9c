"""Which logical client threads a plan needs, on which client host each one lives, and which queues it cares for; pure.

Thread ``j`` of ``n`` starts as process ``j`` of the history; after an unknown outcome it goes on as ``process + n``
(checkers 1.3), so ``n`` counts every thread of the run, those of the drain included.
"""

from dataclasses import dataclass
from enum import Enum

from lab.plan import Plan
from lab.topology import Queue, Topology


class Kind(str, Enum):
    """What a thread does for a living."""

    SEND = "send"
    LOG = "log"  # appends, reads by offset, asks for ends
    PULL = "pull"  # consumes assigned queues for the consumer group
    PUSH = "push"  # a push consumer's pulls; its handler calls are the thread after it
    HANDLE = "handle"
    LATE = "late"  # a fresh client without a cached route
    DRAIN = "drain"  # sentinels and drains of one queue


@dataclass(frozen=True, slots=True)
class Thread:
    """One logical client thread."""

    number: int
    kind: Kind
    host: str
    queues: tuple[Queue, ...]


@dataclass(frozen=True, slots=True)
class Threads:
    """All threads of a run; ``len`` is the n of ``thread = process mod n``."""

    all: tuple[Thread, ...]

    def __len__(self) -> int:
        return len(self.all)

    def on(self, host: str) -> tuple[Thread, ...]:
        """The threads that one client host runs."""
        return tuple(thread for thread in self.all if thread.host == host)

    def of(self, *kinds: Kind) -> tuple[Thread, ...]:
        """The threads of these kinds, in order."""
        return tuple(thread for thread in self.all if thread.kind in kinds)


def threads_of(plan: Plan, topology: Topology) -> Threads:
    """Lay out the threads: clients, consumers, late clients, then one drain thread a queue; hosts take turns."""
    load = plan.load
    made: list[Thread] = []

    def add(kind: Kind, index: int, queues: tuple[Queue, ...]) -> None:
        made.append(Thread(len(made), kind, topology.clients[index % len(topology.clients)], queues))

    kind = Kind.LOG if load.workload == "log" else Kind.SEND
    for index in range(load.clients):
        add(kind, index, topology.queues)
    if load.workload == "queue":
        for index in range(load.consumers):
            if load.consume == "push":
                add(Kind.PUSH, index, topology.queues)
                add(Kind.HANDLE, index, topology.queues)
            else:
                add(Kind.PULL, index, _share(topology, index, load.consumers))
    for index in range(load.late_clients):
        add(Kind.LATE, index, topology.queues)
    for index, queue in enumerate(topology.queues):
        add(Kind.DRAIN, index, (queue,))
    return Threads(tuple(made))


def _share(topology: Topology, index: int, consumers: int) -> tuple[Queue, ...]:
    """Every queue has exactly one consumer thread, and as few groups meet in one thread as possible.

    A group that is down then stops only the threads that own its queues.
    """
    groups = len(topology.groups)
    if consumers < groups:
        mine = [group.name for number, group in enumerate(topology.groups) if number % consumers == index]
        return tuple(queue for queue in topology.queues if queue.group in mine)
    group = topology.groups[index % groups].name
    rank, of = index // groups, (consumers - index % groups + groups - 1) // groups
    queues = [queue for queue in topology.queues if queue.group == group]
    return tuple(queue for number, queue in enumerate(queues) if number % of == rank)
