"""Power loss under a whole broker: what SYNC_FLUSH acknowledged is there afterwards, whatever else the disk forgot."""

import asyncio
import random
from pathlib import Path

import pytest

from nodes.remoting.codes import RequestCode
from tests.unit.nodes.broker_support import Flaw, FlushDiskType, Node, running, settings
from tests.unit.nodes.forgetful_disk import ForgetfulDisk, Keep

SENDERS = 8
SENDS = 12


class Moment:
    """The disk as a power loss would leave it, and what producers had been promised before."""

    def __init__(self, disk: ForgetfulDisk, keep: Keep, seed: int, promised: list[bytes]) -> None:
        self.disk = disk.survivor(keep, seed)
        self.promised = list(promised)


async def lives(disk: ForgetfulDisk, flaws: frozenset[Flaw], seed: int) -> list[Moment]:
    """Several producers send; now and then somebody notes what a power loss would leave."""
    rng = random.Random(seed)
    moments: list[Moment] = []
    promised: list[bytes] = []
    config = settings(
        Path("/"), "s", flush_disk_type=FlushDiskType.SYNC_FLUSH, flaws=flaws, flush_interval_commit_log=5000
    )

    async def produce(node: Node, sender: int) -> None:
        for number in range(SENDS):
            body = b"%d/%d" % (sender, number)
            answer = await node.send(body, queue=sender % 2)
            assert answer.code == 0
            promised.append(body)
            if rng.random() < 0.15:
                moments.append(Moment(disk, rng.choice(list(Keep)), rng.randrange(1000), promised))

    async with running(config, disk=disk) as node:
        await asyncio.gather(*(produce(node, sender) for sender in range(SENDERS)))
        moments.append(Moment(disk, Keep.NOTHING, 0, promised))
    return moments


async def lost(moment: Moment) -> set[bytes]:
    """Promised messages that the next broker on this disk does not have."""
    config = settings(Path("/"), "s", flush_disk_type=FlushDiskType.SYNC_FLUSH)
    async with running(config, disk=moment.disk) as node:
        found = set(await node.bodies(queue=0)) | set(await node.bodies(queue=1))
        assert (await node.send(b"goes on")).code == 0
        status = await node.ask(RequestCode.LAB_STATUS)
        assert status.code == 0
        return set(moment.promised) - found


def losses(flaws: frozenset[Flaw], seed: int) -> int:
    """Promised messages lost over all noted moments of one life."""

    async def story() -> int:
        moments = await lives(ForgetfulDisk(), flaws, seed)
        assert len(moments) >= 3
        return sum([len(await lost(moment)) for moment in moments])

    return asyncio.run(story())


@pytest.mark.random
@pytest.mark.parametrize("seed", range(6))
def test_what_was_acknowledged_survives_power_loss(seed: int) -> None:
    assert losses(frozenset(), seed) == 0


@pytest.mark.flaws
def test_planted_reply_before_fsync_loses_messages() -> None:
    assert losses(frozenset({Flaw.REPLY_BEFORE_FSYNC}), 1) > 0
