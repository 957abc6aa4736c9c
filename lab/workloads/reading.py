"""One pull, one commit, one question for an offset, as operations of a history."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from lab.event import fault_text
from lab.topology import Queue
from lab.workloads.actor import Actor
from lab.workloads.classify import Completion, broken, refused
from lab.workloads.sending import message_queue
from lab.workloads.values import value_in, whole_body
from nodes.client.messages import Message
from nodes.client.pull_consumer import BrokerChoice
from nodes.client.results import CommandFailed, PullResult, PullStatus

Result = TypeVar("Result")
Entries = list[list[object]]  # [[offset, value], ...] of one queue

BATCH = 32  # messages asked for in one pull (RocketMQ pullBatchSize)


def entries_of(messages: tuple[Message, ...], size: int) -> Entries:
    """Offsets with values; ``size`` is that of the plan's bodies.

    A body that no lab wrote shows its first bytes, and one that is not as it was sent says so behind its value: nobody
    sent that, so the judgement names it, and misses what was sent.
    """
    return [[m.queue_offset, _shown(m.body, size)] for m in messages]


def _shown(body: bytes, size: int) -> str:
    value = value_in(body)
    if value is None:
        return f"foreign:{body[:24].decode('latin-1')}"
    return value if whole_body(body, size) else f"{value} damaged"


async def attempt(actor: Actor, call: Callable[[], Awaitable[Result]]) -> Result | Completion:
    """Run one client call under a guard; a failure comes back as the completion to record."""
    limit = actor.scene.plan.load.operation_timeout.s + actor.guard_s
    try:
        async with asyncio.timeout(limit):
            return await call()
    except CommandFailed as failure:
        return refused(failure, reads_only=True)
    except TimeoutError:
        return Completion("info", {"error": fault_text("TIMEOUT", "client", "the client library did not answer")})
    except asyncio.CancelledError:
        raise
    except Exception as error:  # as for sends: unforeseen means unknown
        return broken(error, "client")


async def recorded(
    actor: Actor,
    f: str,
    value: object,
    call: Callable[[], Awaitable[Result]],
    words: Callable[[Result], tuple[object, dict[str, object]]],
    **extras: object,
) -> Result | None:
    """One operation: journal the invocation, do it, journal its end as ``words`` puts it; None without a result."""
    actor.invoke(f, value, **extras)
    try:
        result = await attempt(actor, call)
    except asyncio.CancelledError:
        actor.complete(f, None, Completion("info", {"error": fault_text("CANCELLED", "lab", "the run was stopped")}))
        raise
    if isinstance(result, Completion):
        actor.complete(f, value if f == "commit" else None, result, **_kept(extras))
        return None
    shown, more = words(result)
    actor.complete(f, shown, Completion("ok", more), **_kept(extras))
    return result


async def poll_one(
    actor: Actor,
    queue: Queue,
    position: int,
    *,
    group: str | None,
    seek: bool,
    f: str = "poll",
    broker: BrokerChoice = "any",
) -> PullResult | None:
    """Read a batch at ``position``; None without an answer. ``seek``: the position was set, not reached by reading."""
    name = str(queue)
    timeout = actor.scene.plan.load.operation_timeout.s

    async def call() -> PullResult:
        consumer = await actor.puller()
        return await consumer.pull(
            message_queue(queue), position, BATCH, group=group, timeout_s=timeout, suspend_ms=0, broker=broker
        )

    def words(result: PullResult) -> tuple[object, dict[str, object]]:
        moved = result.status is PullStatus.OFFSET_ILLEGAL and result.next_offset != position
        found = entries_of(result.messages, actor.scene.plan.load.message_bytes)
        role = "master" if result.broker_id == 0 else "slave"
        extras: dict[str, object] = {"node": result.address, "role": role, "epoch": result.epoch}
        extras["positions"] = {name: result.next_offset}
        if moved:
            extras["moved"] = True
        return ({name: found} if found else {}), extras

    return await recorded(
        actor,
        f,
        {name: position} if f == "read" else None,
        call,
        words,
        queue=name,
        mode="assign",
        group=group,
        seek={name: position} if seek else None,
    )


def _kept(extras: dict[str, object]) -> dict[str, object]:
    return {key: extra for key, extra in extras.items() if extra is not None and key != "seek"}
