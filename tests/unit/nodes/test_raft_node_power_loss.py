"""Power loss under a whole group: what was acknowledged is there afterwards, in any majority of its members."""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from nodes.dledger.changes import GroupChanges
from nodes.dledger.settings import GroupError
from nodes.flaws import Flaw
from nodes.store.disk import File
from tests.unit.nodes.forgetful_disk import ForgetfulDisk, Keep
from tests.unit.nodes.group_support import Group

SENDERS = 6
SENDS = 10


class SlowDisk(ForgetfulDisk):
    """A disk whose log syncs take their time, so that an answer that does not wait for them comes before."""

    async def sync_async(self, files: Sequence[File], folders: Sequence[str]) -> None:
        await asyncio.sleep(0.003)
        await super().sync_async(files, folders)


class Moment:
    """The disks as a power loss of all members would leave them, and what producers had been promised before."""

    def __init__(self, cluster: Group, rng: random.Random, promised: Sequence[bytes], keep: Keep | None = None) -> None:
        self.disks = {
            name: disk.survivor(keep or rng.choice(list(Keep)), rng.randrange(1000))
            for name, disk in cluster.disks.items()
            if isinstance(disk, ForgetfulDisk)
        }
        self.promised = list(promised)


async def lives(flaws: frozenset[Flaw], seed: int) -> list[Moment]:
    """Producers send, the leadership goes round, and now and then somebody notes what a power loss would leave."""
    rng = random.Random(seed)
    cluster = Group(Path("/"), flaws=flaws)
    cluster.disks = {name: SlowDisk() for name in cluster.initial}
    moments: list[Moment] = []
    promised: list[bytes] = []

    async def produce(sender: int) -> None:
        for number in range(SENDS):
            body = b"%d/%d" % (sender, number)
            await cluster.send_ok(body, queue=sender % 2)
            promised.append(body)
            if rng.random() < 0.12:
                moments.append(Moment(cluster, rng, promised))
            if rng.random() < 0.06 and cluster.masters:
                with contextlib.suppress(GroupError):  # another producer has just had it handed over
                    await GroupChanges(cluster.member(cluster.masters[0])).hand_over()

    try:
        await cluster.start()
        await cluster.leader()
        await asyncio.gather(*(produce(sender) for sender in range(SENDERS)))
        moments.append(Moment(cluster, rng, promised, Keep.NOTHING))
    finally:
        await cluster.close()
    return moments


async def lost(moment: Moment, names: Sequence[str]) -> set[bytes]:
    """Promised messages that these members, started on what the power loss has left, do not have."""
    cluster = Group(Path("/"))
    cluster.disks = dict(moment.disks)
    try:
        await cluster.start(*names)
        leader = await cluster.leader()
        node = cluster.nodes[leader]
        found = set(await node.bodies(queue=0)) | set(await node.bodies(queue=1))
        await cluster.send_ok(b"goes on")
        return set(moment.promised) - found
    finally:
        await cluster.close()


def losses(flaws: frozenset[Flaw], seed: int) -> int:
    """Promised messages lost over some noted moments of one life, each with a majority drawn by the seed."""

    async def story() -> int:
        rng = random.Random(seed)
        moments = await lives(flaws, seed)
        chosen = [*rng.sample(moments[:-1], min(2, len(moments) - 1)), moments[-1]]
        return sum([len(await lost(moment, rng.sample(["n0", "n1", "n2"], 2))) for moment in chosen])

    return asyncio.run(story())


@pytest.mark.random
@pytest.mark.parametrize("seed", range(4))
def test_what_was_acknowledged_survives_the_power_loss_of_all_in_any_majority(seed: int) -> None:
    assert losses(frozenset(), seed) == 0, f"seed {seed}"


@pytest.mark.flaws
def test_planted_acknowledgement_before_fsync_loses_messages() -> None:
    """Within so many lives: whether one loses anything depends on how the syncs of three members fall together."""
    assert any(losses(frozenset({Flaw.ACK_BEFORE_FSYNC}), seed) > 0 for seed in range(1, 17))
