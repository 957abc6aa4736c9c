"""A group that answers before its disks have synced, judged: C10 under loss of power, and not under kill -9."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from checkers.durability import check_durability
from checkers.facts import gather
from checkers.verdict import Record, Validity
from nodes.flaws import Flaw
from nodes.store.disk import File
from tests.unit.checkers.raft import THREE, RaftStory
from tests.unit.nodes.forgetful_disk import ForgetfulDisk, Keep
from tests.unit.nodes.group_support import Group

SENDS = 12


class WaitingDisk(ForgetfulDisk):
    """A disk whose syncs of files can be made to wait, for as long as the test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.open_gate = asyncio.Event()
        self.open_gate.set()

    async def sync_async(self, files: Sequence[File], folders: Sequence[str]) -> None:
        await self.open_gate.wait()
        await super().sync_async(files, folders)


async def lived(ending: str, flaws: frozenset[Flaw]) -> tuple[list[int], list[bytes]]:
    """The offsets of messages that were answered SEND_OK, and what is read after all members ended at once."""
    cluster = Group(Path("/"), flaws=flaws)
    disks = {name: WaitingDisk() for name in cluster.initial}
    cluster.disks = dict(disks)
    try:
        await cluster.start()
        await cluster.leader()
        await cluster.send_ok(b"before")
        await cluster.agree()
        if flaws:  # a member without the flaw would never answer now
            for disk in disks.values():
                disk.open_gate.clear()
        offsets = [await cluster.send_ok(b"m%d" % number) for number in range(SENDS)]
        if ending == "kill":  # what was written is in the page cache of a machine that lives on
            left: dict[str, ForgetfulDisk] = dict(disks)
        else:
            left = {name: disk.survivor(Keep.NOTHING) for name, disk in disks.items()}
    finally:
        for disk in disks.values():
            disk.open_gate.set()
        await cluster.close()
    for remains in left.values():
        remains.kill()
    again = Group(Path("/"))
    again.disks = dict(left)
    try:
        await again.start()
        node = again.nodes[await again.leader()]
        return offsets, await node.bodies(queue=0)
    finally:
        await again.close()


def judged(ending: str, *flaws: Flaw) -> Record:
    """C10 over the history of that life."""
    offsets, found = asyncio.run(lived(ending, frozenset(flaws)))
    story = RaftStory().tell("0>s(before) 0<s(before)@0")
    for number, offset in enumerate(offsets, 1):
        story.tell(f"{number}>s(m{number - 1}) {number}<s(m{number - 1})@{offset}")
    for event in story.events:
        if event.f == "send" and event.type == "ok":
            event.flushed = True
    story.fault("f1", ending, targets=THREE).fault("f1", ending, "heal", targets=THREE)
    content = ",".join(f"{offset}:{body.decode()}" for offset, body in enumerate(found))
    return check_durability(gather(story.drain(f"[{content}]", top=SENDS + 9).history()))


@pytest.mark.flaws
def test_what_was_not_synced_is_lost_with_the_power_and_c10_says_that_it_was_promised() -> None:
    record = judged("power", Flaw.ACK_BEFORE_FSYNC)
    assert record.valid is Validity.INVALID
    assert record.counts["lost-promised"] == SENDS
    assert "no disk of the group was lost" in record.anomalies[0].text


@pytest.mark.flaws
def test_kill_takes_nothing_of_it() -> None:
    record = judged("kill", Flaw.ACK_BEFORE_FSYNC)
    assert record.valid is Validity.VALID, record.reasons


@pytest.mark.parametrize("ending", ["power", "kill"])
def test_a_group_that_syncs_before_it_answers_loses_nothing(ending: str) -> None:
    record = judged(ending)
    assert record.valid is Validity.VALID, record.reasons
