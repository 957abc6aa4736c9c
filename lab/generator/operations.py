"""When each client thread asks for what; pure, seeded, open loop.

Intended times are nanoseconds since load began and never wait for answers. Values are ``run/thread/counter``: unique
in the history, and recognisable when a store of another run turns up.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from lab.duration import NS_PER_S
from lab.generator.threads import Thread
from lab.plan import Plan
from lab.randomness import child
from lab.topology import Queue

JITTER: Final = 0.2  # of the interval, so that threads do not beat in time
APPEND_SHARE: Final = 0.7  # workload log: the rest are reads, and one operation in ten asks for the end
END_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Op:
    """One intended operation. ``position`` (0 to 1) says where in the known log a read starts."""

    at_ns: int
    f: str
    queue: Queue
    counter: int
    position: float = 0.0


def send_schedule(plan: Plan, seed: int, thread: Thread) -> Iterator[Op]:
    """The sends of one thread: its share of the plan's rate, queues drawn so that each gets its turn."""
    chance = child(seed, "send", thread.number)
    deck: list[Queue] = []
    for counter, at_ns in enumerate(_times(plan, thread, chance)):
        if not deck:
            deck = chance.sample(thread.queues, len(thread.queues))
        yield Op(at_ns, "send", deck.pop(), counter)


def log_schedule(plan: Plan, seed: int, thread: Thread) -> Iterator[Op]:
    """Appends, reads from an offset, and questions for the end offset."""
    chance = child(seed, "log", thread.number)
    for counter, at_ns in enumerate(_times(plan, thread, chance)):
        draw = chance.random()
        f = "append" if draw < APPEND_SHARE else "end" if draw >= 1 - END_SHARE else "read"
        yield Op(at_ns, f, chance.choice(thread.queues), counter, chance.random())


def _times(plan: Plan, thread: Thread, chance: Random) -> Iterator[int]:
    interval = plan.load.clients * NS_PER_S / plan.load.rate
    start = interval * (thread.number % plan.load.clients) / plan.load.clients
    limit = plan.time_limit.ns
    for turn in range(int(limit / interval) + 1):
        at_ns = int(start + turn * interval + chance.uniform(0, JITTER) * interval)
        if at_ns >= limit:
            return
        yield at_ns
