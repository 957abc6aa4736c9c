"""The epoch file: what it says after every crash, and when it is not believed."""

from __future__ import annotations

from random import Random

import pytest

from nodes.flaws import Flaw
from nodes.replication.epochs import Epoch, EpochTable
from nodes.replication.lineage import Lineage, LineageError
from tests.unit.nodes.replication_world import Fuse, MemoryDisk, PowerCut

PATH = "epochs"


def reopened(disk: MemoryDisk, end: int = 0, begin: int = 0) -> Lineage:
    disk.fuse = Fuse()
    return Lineage.open(disk, PATH, log_begin=begin, log_end=end, rng=Random(99))


def starts(lineage: Lineage) -> list[tuple[int, int]]:
    return [(epoch.number, epoch.start_offset) for epoch in lineage.table]


def test_an_epoch_is_on_disk_before_mint_returns() -> None:
    disk = MemoryDisk()
    lineage = reopened(disk)
    epoch = lineage.mint(0, 0, Random(1))
    assert reopened(disk).table.last == epoch
    assert reopened(disk).store_id == lineage.store_id
    second = lineage.mint(0, 500, Random(2))
    assert starts(reopened(disk, 500)) == [(1, 0), (2, 500)]
    assert second.id != epoch.id
    assert len(second.id) == 16


@pytest.mark.parametrize("step", [0, 1])
def test_a_crash_while_minting_leaves_the_old_or_the_new_table(step: int) -> None:
    disk = MemoryDisk()
    lineage = reopened(disk)
    lineage.mint(0, 0, Random(1))
    disk.fuse = Fuse(step)
    with pytest.raises(PowerCut):
        lineage.mint(0, 500, Random(2))
    assert starts(lineage) == [(1, 0)], "memory never claims what the disk may not hold"
    assert starts(reopened(disk, 500)) == ([(1, 0)], [(1, 0), (2, 500)])[step]


def test_numbers_are_never_used_again() -> None:
    """Epochs that lost all their bytes leave the table, not the count."""
    disk = MemoryDisk()
    lineage = reopened(disk)
    for expected in (1, 2, 3):
        assert lineage.mint(0, 0, Random(expected)).number == expected
    assert len(lineage.table) == 1
    lineage.note(10)
    assert reopened(disk).mint(0, 0, Random(5)).number == 11
    assert starts(reopened(disk)) == [(11, 0)]


def test_epochs_beyond_the_end_claim_nothing_and_are_replaced() -> None:
    disk = MemoryDisk()
    lineage = reopened(disk)
    lineage.mint(0, 0, Random(1))
    lineage.mint(0, 500, Random(2))
    after_loss = reopened(disk, 300)
    assert [epoch.number for epoch in after_loss.claims(300)] == [1]
    after_loss.mint(0, 300, Random(3))
    assert starts(reopened(disk, 300)) == [(1, 0), (3, 300)]


def test_retention_shortens_the_file() -> None:
    disk = MemoryDisk()
    lineage = reopened(disk)
    for number in range(5):
        lineage.mint(0, number * 100, Random(number))
    lineage.mint(250, 700, Random(9))
    assert starts(reopened(disk, 700, 250)) == [(3, 200), (4, 300), (5, 400), (6, 700)]


def test_a_log_without_a_file_vouches_only_for_itself() -> None:
    one, two = (
        reopened(MemoryDisk(), 900, 100),
        Lineage.open(MemoryDisk(), PATH, log_begin=100, log_end=900, rng=Random(3)),
    )
    assert starts(one) == starts(two) == [(1, 100)]
    assert one.table != two.table
    assert len(reopened(MemoryDisk(), 0).table) == 0


def test_adopting_remembers_who_was_followed() -> None:
    disk = MemoryDisk()
    lineage = reopened(disk)
    table = EpochTable((Epoch(4, "a" * 16, 0),))
    lineage.adopt(table, 6)
    again = reopened(disk)
    assert (again.table, again.followed, again.highest) == (table, (4, "a" * 16), 6)
    writes = disk.fuse.taken
    again.adopt(table, 6)
    assert disk.fuse.taken == writes, "nothing new is not written again"
    again.disown()
    assert (len(reopened(disk).table), reopened(disk).followed) == (0, (4, "a" * 16))


@pytest.mark.flaws
def test_the_flaw_forgets_to_mint() -> None:
    lineage = reopened(MemoryDisk())
    flaws = frozenset({Flaw.FORGET_EPOCH})
    first = lineage.mint(0, 0, Random(1), flaws)
    assert lineage.mint(0, 500, Random(2), flaws) == first


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-20],
        lambda data: data.replace(b'"highest":1', b'"highest":2'),
        lambda data: b"\xff" * len(data),
        lambda data: data[: len(data) // 2] + b"\0" * (len(data) // 2),
    ],
    ids=["empty", "short", "altered", "noise", "zeroed half"],
)
def test_a_damaged_file_is_refused(damage: object) -> None:
    disk = MemoryDisk()
    reopened(disk).mint(0, 0, Random(1))
    assert callable(damage)
    disk.files[PATH] = damage(disk.files[PATH])
    with pytest.raises(LineageError, match=PATH):
        reopened(disk)


def test_a_disk_that_refuses_changes_nothing_in_memory() -> None:
    disk = MemoryDisk()
    lineage = reopened(disk)
    lineage.mint(0, 0, Random(1))

    def refuse(path: str, data: bytes) -> None:
        raise OSError(28, "no space left")

    disk.replace_atomically = refuse  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no space"):
        lineage.mint(0, 500, Random(2))
    assert starts(lineage) == [(1, 0)]
    assert lineage.highest == 1
