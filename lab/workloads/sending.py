"""Sends and appends: one operation is one attempt unless the plan allows the client library to retry."""

import asyncio
from collections.abc import Iterator

from lab.event import fault_text
from lab.generator.operations import Op
from lab.topology import Queue
from lab.workloads.actor import Actor
from lab.workloads.classify import Completion, broken, not_sent, sent
from lab.workloads.pace import Pace
from lab.workloads.values import body_of, value_of
from nodes.client.queues import MessageQueue
from nodes.client.results import SendFailed


def message_queue(queue: Queue) -> MessageQueue:
    """The client library's name of a queue."""
    return MessageQueue(queue.topic, queue.group, queue.queue_id)


async def send_loop(actor: Actor, pace: Pace, schedule: Iterator[Op], intended_zero: int) -> None:
    """Send what the schedule says until it ends or load is stopped. ``intended_zero``: load begin, run's clock."""
    for op in schedule:
        if pace.too_late(op.at_ns):
            actor.scene.tally.skipped += 1
            continue
        if not await pace.until(op.at_ns):
            return
        value = value_of(actor.scene.run, actor.thread, op.counter)
        await send_one(actor, op.f, op.queue, value, intended=intended_zero + op.at_ns)


async def send_one(actor: Actor, f: str, queue: Queue, value: str, **extras: object) -> Completion:
    """One send in the history, from invocation to completion; the process retires if the outcome is unknown.

    A library that roams is told no queue where it may retry: an attempt whose outcome is unknown may have gone to any.
    Sentinels are of one queue, and one attempt.
    """
    scene = actor.scene
    load = scene.plan.load
    timeout = load.operation_timeout.s
    inherit = extras.get("client") != "late"
    roaming = actor.roams and load.retries > 0 and not extras.get("sentinel")
    asked = {} if roaming else {"queue": str(queue)}
    actor.invoke(f, value, **asked, **extras)
    try:
        producer = await actor.producer(inherit=inherit)
        body = body_of(value, load.message_bytes)
        async with asyncio.timeout(timeout + actor.guard_s):
            outcome = await producer.send(
                queue.topic,
                body,
                queue=None if roaming else message_queue(queue),
                timeout_s=timeout,
                retries=load.retries,
                wait_store_ok=load.wait_store_msg_ok,
            )
        completion = sent(outcome, scene.guarantees, queue.topic)
    except SendFailed as failure:
        completion = not_sent(failure, scene.plan.client_flaws)
    except TimeoutError:
        completion = Completion("info", {"error": fault_text("TIMEOUT", "client", "the client library did not answer")})
    except asyncio.CancelledError:
        actor.complete(f, value, Completion("info", {"error": fault_text("CANCELLED", "lab", "the run was stopped")}))
        raise
    except Exception as error:  # a client that fails in a way nobody foresaw proves nothing about the message
        completion = broken(error, "client")
    kept: dict[str, object] = {"sentinel": True} if extras.get("sentinel") else {}
    if roaming:
        completion.extras["attempts"] = 1 + load.retries  # as many as there may have been, however many were seen
    actor.complete(f, value, completion, **asked, **kept)
    if completion.kind == "ok":
        if completion.extras["ack"] == "weak":
            scene.tally.weak += 1
        elif scene.tally.first_ack_ns is None:
            scene.tally.first_ack_ns = scene.journal.now()
    return completion
