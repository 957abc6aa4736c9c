"""What the lab and its workers say to each other over their pipes; plain frozen values."""

from dataclasses import dataclass, field

from lab.topology import Queue
from lab.workloads.classify import Guarantee
from lab.workloads.draining import Sentinel


@dataclass(frozen=True, slots=True)
class Begin:
    """Start the load at this moment of the monotonic clock, against these name servers."""

    begin_ns: int
    guarantees: dict[str, Guarantee]


@dataclass(frozen=True, slots=True)
class Guarantees:
    """What each broker address guarantees from now on."""

    of: dict[str, Guarantee]


@dataclass(frozen=True, slots=True)
class StopLoad:
    """Stop asking; answer LoadEnded when nothing is outstanding any more. Consumers go on."""


@dataclass(frozen=True, slots=True)
class PlaceSentinels:
    """D5: place one sentinel in each queue; answer SentinelsPlaced."""

    queues: tuple[Queue, ...]
    deadline_ns: int
    first_counter: int


@dataclass(frozen=True, slots=True)
class DrainQueues:
    """D6: read each queue until its sentinel; answer Drained."""

    round: int
    sentinels: tuple[Sentinel, ...]
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class ConsumeUntil:
    """D9: answer Consumed when the group handled and committed all below these offsets, or at the deadline."""

    goal: dict[Queue, int]
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class TellRecorded:
    """Answer Recorded, so that the lab can see whether the journal is whole when it reads it."""


@dataclass(frozen=True, slots=True)
class Quit:
    """Close everything and exit."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker lives in its host and waits for Begin."""

    host: str


@dataclass(frozen=True, slots=True)
class LoadEnded:
    """All generators of this worker are done; nothing is outstanding."""

    host: str


@dataclass(frozen=True, slots=True)
class SentinelsPlaced:
    """The sentinels that were acknowledged, and the queues without one."""

    placed: tuple[Sentinel, ...]
    missing: tuple[Queue, ...]


@dataclass(frozen=True, slots=True)
class Drained:
    """Queues that were read to their sentinel in this round, and those that were not."""

    round: int
    complete: tuple[Queue, ...]
    incomplete: tuple[Queue, ...]


@dataclass(frozen=True, slots=True)
class Consumed:
    """What this worker's consumers still lack, by queue name; empty is good."""

    behind: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recorded:
    """How many bytes this worker's journal has by now."""

    host: str
    size: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts so far, for the live view."""

    host: str
    ok: int
    fail: int
    info: int
    weak: int
    polled: int
    skipped: int
    first_ack_ns: int | None


@dataclass(frozen=True, slots=True)
class Crashed:
    """The worker met an error of its own and ends."""

    host: str
    text: str
    machine: bool = False
    """It was the machine's fault, such as a full disk, and not the lab's."""


Command = Begin | Guarantees | StopLoad | PlaceSentinels | DrainQueues | ConsumeUntil | TellRecorded | Quit
Answer = Ready | LoadEnded | SentinelsPlaced | Drained | Consumed | Recorded | Progress | Crashed
