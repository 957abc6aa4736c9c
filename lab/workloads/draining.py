"""The drain of one queue: a sentinel until it is acknowledged as strongly as possible, then reads that must see it.

An empty answer never ends a drain; only the sentinel does, or the deadline. Every try is a fresh client that starts at
the queue's minimum offset and belongs to no consumer group; partial results of failed tries are kept as evidence.
"""

import asyncio
import time
from dataclasses import dataclass
from functools import partial

from lab.topology import Queue
from lab.workloads.actor import Actor
from lab.workloads.classify import Completion
from lab.workloads.reading import Entries, attempt, entries_of
from lab.workloads.sending import message_queue, send_one
from lab.workloads.values import value_of
from nodes.client.results import PullResult, PullStatus

DRAIN_BATCH = 256
READER = "drain"  # brokers want the name of a group with every pull; this one never commits
RETRY_PAUSE_S = 0.2
SENTINEL_COUNTER = 0


@dataclass(frozen=True, slots=True)
class Sentinel:
    """The last message of a queue: all that were acknowledged before it have smaller offsets."""

    queue: Queue
    value: str
    offset: int
    ack: str


async def place_sentinel(actor: Actor, queue: Queue, deadline_ns: int, first_counter: int) -> Sentinel | None:
    """Send fresh values until one is answered SEND_OK; None if the deadline passes first."""
    counter = first_counter
    while time.monotonic_ns() < deadline_ns:
        value = value_of(actor.scene.run, actor.thread, counter)
        counter += 1
        done = await send_one(actor, "send", queue, value, sentinel=True)
        if done.kind == "ok" and done.extras["ack"] != "weak":
            return Sentinel(queue, value, int(done.extras["offset"]), str(done.extras["ack"]))
        await asyncio.sleep(RETRY_PAUSE_S)
    return None


async def drain_queue(actor: Actor, queue: Queue, sentinel: int, round_number: int, deadline_ns: int) -> bool:
    """Read the queue from its minimum offset until the sentinel was seen; False if the deadline passes first."""
    while True:
        actor.drop_client()  # every try is a new identity
        if await _try(actor, queue, sentinel, round_number, deadline_ns):
            return True
        if time.monotonic_ns() >= deadline_ns:
            return False
        await asyncio.sleep(RETRY_PAUSE_S)


async def _try(actor: Actor, queue: Queue, sentinel: int, round_number: int, deadline_ns: int) -> bool:
    name = str(queue)
    seen: Entries = []
    actor.invoke("drain", None, queue=name, round=round_number, sentinel=sentinel)
    trouble: Completion | None = None
    position = -1
    first = 0
    moved = 0
    while not (seen and max(int(str(entry[0])) for entry in seen[-1:]) >= sentinel):
        if time.monotonic_ns() >= deadline_ns:
            break
        if position < 0:
            bounds = await attempt(actor, partial(_bounds, actor, queue))
            if isinstance(bounds, Completion):
                trouble = bounds
                break
            position = first = bounds[0]
        result = await attempt(actor, partial(_pull, actor, queue, position))
        if isinstance(result, Completion):
            trouble = result
            break
        seen.extend(entries_of(result.messages, actor.scene.plan.load.message_bytes))
        if result.status is PullStatus.OFFSET_ILLEGAL and result.next_offset != position:
            moved += 1
        if not result.messages:
            await asyncio.sleep(0.01)
        position = result.next_offset
    complete = any(entry[0] == sentinel for entry in seen)
    extras: dict[str, object] = {"queue": name, "round": round_number, "complete": complete, "sentinel": sentinel}
    extras["begin"] = first
    if moved:
        extras["moved"] = True
    if trouble is not None and "error" in trouble.extras:
        extras["error"] = trouble.extras["error"]
    actor.complete("drain", {name: seen}, Completion("ok" if complete else "info"), **extras)
    return complete


async def _bounds(actor: Actor, queue: Queue) -> tuple[int, int]:
    consumer = await actor.puller(inherit=False)
    low, high = await consumer.bounds(message_queue(queue), broker="master")
    return low, high


async def _pull(actor: Actor, queue: Queue, position: int) -> PullResult:
    consumer = await actor.puller(inherit=False)
    return await consumer.pull(
        message_queue(queue),
        position,
        DRAIN_BATCH,
        group=READER,
        timeout_s=actor.scene.plan.load.operation_timeout.s,
        broker="master",
    )
