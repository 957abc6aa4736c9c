"""Whole groups in random weather: members lose power, are cut off, hand over and come back while producers send.

Afterwards every acknowledged message lies at the place that its acknowledgement named, queues have no gap, no refused
message is there, and all logs are the same byte for byte.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from nodes.dledger.changes import GroupChanges
from nodes.dledger.settings import GroupError
from nodes.remoting.codes import ResponseCode
from nodes.remoting.connection import CallError
from tests.unit.nodes.forgetful_disk import ForgetfulDisk, Keep
from tests.unit.nodes.group_support import Group, messages_of

PRODUCERS = 4
STEPS = 14

Hurt = Callable[[Group, str, random.Random], Awaitable[object]]


async def power_loss(cluster: Group, name: str, rng: random.Random) -> None:
    """What was not synced may be gone."""
    await cluster.power_off(name, rng.choice(list(Keep)), rng.randrange(1000))


async def kill(cluster: Group, name: str, rng: random.Random) -> None:
    """kill -9: everything written is kept."""
    await cluster.kill(name)


class Producers:
    """Send to whoever serves, note what they were told."""

    def __init__(self, cluster: Group) -> None:
        self.cluster = cluster
        self.promised: dict[bytes, tuple[int, int]] = {}
        self.refused: set[bytes] = set()
        self.stopped = False

    async def produce(self, number: int) -> None:
        count = 0
        while not self.stopped:
            body = b"%d/%d" % (number, count)
            count += 1
            names = list(self.cluster.nodes)
            if not names:
                await asyncio.sleep(0.01)
                continue
            masters = self.cluster.masters
            node = self.cluster.nodes[masters[count % len(masters)] if masters else names[count % len(names)]]
            try:
                answer = await node.send(body, queue=number % 2)
            except CallError:
                continue  # nobody knows
            if answer.code == ResponseCode.SUCCESS:
                self.promised[body] = (int(answer.ext["queueId"]), int(answer.ext["queueOffset"]))
            elif answer.code == ResponseCode.SERVICE_NOT_AVAILABLE:
                self.refused.add(body)
                await asyncio.sleep(0.01)


async def weather(cluster: Group, rng: random.Random, hurt: Hurt) -> None:
    """One thing after the other goes wrong, or right again."""
    cut: dict[str, Callable[[str, bytes], bool]] = {}
    for _ in range(STEPS):
        await asyncio.sleep(rng.uniform(0.05, 0.5))
        name = rng.choice(cluster.initial)
        if name not in cluster.nodes:
            await cluster.start(name)
        elif name in cut:
            cluster.member(name)._links.send = cut.pop(name)  # type: ignore[method-assign, assignment]
        elif (what := rng.random()) < 0.4:
            await hurt(cluster, name, rng)
        elif what < 0.7:
            cut[name] = cluster.member(name)._links.send
            cluster.cut_off(name)
        elif cluster.masters:
            with contextlib.suppress(GroupError):
                await GroupChanges(cluster.member(cluster.masters[0])).hand_over(patience_s=0.5)
    for name, send in cut.items():
        if name in cluster.nodes:
            cluster.member(name)._links.send = send  # type: ignore[method-assign, assignment]
    for name in cluster.initial:
        if name not in cluster.nodes:
            await cluster.start(name)


async def storm(seed: int, hurt: Hurt = power_loss, **more: Any) -> None:
    rng = random.Random(seed)
    cluster = Group(Path("/"), max_wait_ack_time_ms=1500, flush_consumer_offset_interval=100, **more)
    cluster.disks = {name: ForgetfulDisk() for name in cluster.initial}
    producers = Producers(cluster)
    try:
        await cluster.start()
        await cluster.leader()
        tasks = [asyncio.create_task(producers.produce(number)) for number in range(PRODUCERS)]
        await weather(cluster, rng, hurt)
        await cluster.leader()
        await cluster.send_ok(b"calm")
        producers.stopped = True
        await asyncio.gather(*tasks)
        await cluster.agree()
        logs = {cluster.log_of(name) for name in cluster.nodes}
        assert len(logs) == 1, f"seed {seed}: the logs differ"
        there: dict[bytes, tuple[int, int]] = {}
        offsets: dict[int, list[int]] = {}
        for message in messages_of(logs.pop()):
            if message.topic == "T":
                assert message.body not in there, f"seed {seed}: {message.body!r} is there twice"
                there[message.body] = (message.queue_id, message.queue_offset)
                offsets.setdefault(message.queue_id, []).append(message.queue_offset)
        lost = {body: place for body, place in producers.promised.items() if there.get(body) != place}
        assert not lost, f"seed {seed}: {len(lost)} promises are broken"
        assert not producers.refused & set(there), f"seed {seed}: a refused message is there"
        for queue_id, found in offsets.items():
            assert found == list(range(len(found))), f"seed {seed}: queue {queue_id} has gaps"
        assert producers.promised, f"seed {seed}: nothing was promised"
    finally:
        producers.stopped = True
        await cluster.close()


@pytest.mark.random
@pytest.mark.parametrize("seed", range(4))
def test_promises_are_kept_in_any_weather(seed: int) -> None:
    asyncio.run(storm(seed))
