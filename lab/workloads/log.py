"""Workload ``log``: append to a queue, read it from an offset, ask for its end; what C5 judges."""

from collections.abc import Iterator

from lab.generator.operations import Op
from lab.topology import Queue
from lab.workloads.actor import Actor
from lab.workloads.pace import Pace
from lab.workloads.reading import poll_one, recorded
from lab.workloads.sending import message_queue, send_one
from lab.workloads.values import value_of


async def log_loop(actor: Actor, pace: Pace, schedule: Iterator[Op], intended_zero: int) -> None:
    """Do what the schedule says until it ends or load is stopped."""
    ends: dict[Queue, int] = {}
    for op in schedule:
        if pace.too_late(op.at_ns):
            actor.scene.tally.skipped += 1
            continue
        if not await pace.until(op.at_ns):
            return
        if op.f == "append":
            value = value_of(actor.scene.run, actor.thread, op.counter)
            done = await send_one(actor, "append", op.queue, value, intended=intended_zero + op.at_ns)
            if done.kind == "ok":
                ends[op.queue] = max(ends.get(op.queue, 0), int(done.extras["offset"]) + 1)
        elif op.f == "read":
            start = int(op.position * ends.get(op.queue, 0))
            result = await poll_one(actor, op.queue, start, group=None, seek=True, f="read", broker="master")
            if result is not None:
                actor.scene.tally.polled += len(result.messages)
                ends[op.queue] = max(ends.get(op.queue, 0), result.max_offset)
        else:
            end = await ask_end(actor, op.queue)
            if end is not None:
                ends[op.queue] = max(ends.get(op.queue, 0), end)


async def ask_end(actor: Actor, queue: Queue) -> int | None:
    """The queue's end offset as the master tells it, recorded; None without an answer."""

    async def call() -> int:
        consumer = await actor.puller()
        return int((await consumer.bounds(message_queue(queue), broker="master"))[1])

    def words(end: int) -> tuple[object, dict[str, object]]:
        return end, {}

    return await recorded(actor, "end", str(queue), call, words, queue=str(queue))
