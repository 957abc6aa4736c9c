"""What a start makes of the files it finds: torn, zeroed and garbled tails are cut, corruption is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nodes.flaws import Flaw
from nodes.remoting.message import decode_record
from nodes.store import commit_log, recovery
from nodes.store.disk import RealDisk
from nodes.store.errors import StoreCorrupt
from nodes.store.settings import StoreConfig
from nodes.store.store import MessageStore
from tests.unit.nodes.forgetful_disk import ForgetfulDisk, Keep
from tests.unit.nodes.store_samples import HOST, SMALL, TOPIC, ManualClock, message, new_store, open_store
from tests.unit.nodes.test_store_messages import bodies, fill


def killed(count: int, *, unflushed: int = 0, config: StoreConfig = SMALL) -> tuple[ForgetfulDisk, list[int]]:
    """A store that was killed after `count` flushed and `unflushed` written messages; their log offsets."""
    disk = ForgetfulDisk()
    store = open_store(disk, config)
    offsets = fill(store, count)
    for number in range(unflushed):
        offsets.append(store.append([message(f"late {number}")], HOST).places[0].offset_log)
        store.write_pending()
    disk.kill()
    return disk, offsets


def damage(disk: ForgetfulDisk, position: int, data: bytes | None, segment_size: int = 2048) -> None:
    """Overwrite bytes of the log behind the store's back; None cuts the file there."""
    start = position - position % segment_size
    file = disk.open(f"/store/commitlog/{start:020d}")
    if data is None:
        file.truncate(position - start)
    else:
        file.pwrite(position - start, data)
    file.fsync()


def record_bytes(disk: ForgetfulDisk, offset: int) -> int:
    """Size of the record at that log offset."""
    name = disk.listdir("/store/commitlog")[offset // 2048]
    return int.from_bytes(disk.open(f"/store/commitlog/{name}").pread(offset % 2048, 4), "big")


def numbers(store: MessageStore) -> list[int]:
    return [int(body.split(":")[0]) for body in bodies(store, count=1000)]


def test_a_killed_process_loses_nothing_that_it_wrote() -> None:
    disk, offsets = killed(40, unflushed=5)
    store = new_store(disk)
    found = store.open()
    assert (found.clean, found.cut, found.lost_flushed) == (False, 0, 0)
    assert len(bodies(store, count=1000)) == len(offsets) == 45
    assert store.flushed_end == store.written_end == found.end
    store.append([message("next")], HOST)
    store.write_pending()
    asyncio.run(store.sync())
    assert bodies(store, count=1000)[-1] == "next"


def test_a_clean_stop_is_known_and_costs_no_indexing() -> None:
    disk = ForgetfulDisk()
    store = open_store(disk)
    assert disk.exists("/store/abort")
    fill(store, 30)
    store.close()
    assert not disk.exists("/store/abort")
    again = new_store(disk)
    found = again.open()
    assert (found.clean, found.dispatched, found.rebuilt) == (True, 0, False)
    assert numbers(again) == list(range(30))


@pytest.mark.parametrize("keep", list(Keep))
def test_power_loss_leaves_the_flushed_messages(keep: Keep) -> None:
    for seed in range(10):
        disk, _ = killed(30, unflushed=8)
        store = open_store(disk.survivor(keep, seed))
        found = bodies(store, count=1000)
        assert [int(body.split(":")[0]) for body in found[:30]] == list(range(30))
        assert found[30:] == [f"late {number}" for number in range(len(found) - 30)]


TAILS: dict[str, Callable[[int, int], tuple[int, bytes | None]]] = {
    "cut in the middle of a record": (lambda at, size: (at + size // 2, None)),
    "cut in the middle of the size": (lambda at, size: (at + 2, None)),
    "zeros": (lambda at, size: (at, bytes(300))),
    "garbage": (lambda at, size: (at, bytes(range(7, 250)))),
    "one flipped byte of the body": (lambda at, size: (at + 90, b"\xff")),
    "size of almost everything": (lambda at, size: (at, b"\x7f\xff\xff\xff")),
    "negative size": (lambda at, size: (at, b"\xff\xff\xff\xff")),
    "zero size": (lambda at, size: (at, bytes(4))),
    "another place's record": (lambda at, size: (at + 28, bytes(8))),
}


@pytest.mark.parametrize("kind", list(TAILS))
@pytest.mark.parametrize("flushed", [True, False])
def test_a_damaged_tail_is_cut_to_the_last_whole_record(kind: str, flushed: bool) -> None:
    disk, offsets = killed(30, unflushed=0 if flushed else 1, config=replace(SMALL, refuse_lost_tail=False))
    position, data = TAILS[kind](offsets[-1], record_bytes(disk, offsets[-1]))
    damage(disk, position, data)
    store = new_store(disk, refuse_lost_tail=False)
    found = store.open()
    assert found.end == offsets[-1]
    assert bool(found.lost_flushed) is flushed
    assert len(bodies(store, count=1000)) == len(offsets) - 1
    place = store.append([message("next")], HOST).places[0]
    assert place.offset_log == offsets[-1]
    assert place.offset_queue == len(offsets) - 1
    store.write_pending()
    asyncio.run(store.sync())
    again = open_store(disk.survivor(Keep.NOTHING))
    assert bodies(again, count=1000)[-1] == "next"


def test_corruption_in_the_middle_is_refused_by_file_and_byte() -> None:
    disk, offsets = killed(60)
    damage(disk, offsets[20] + 92, b"\xff\xfe")
    with pytest.raises(StoreCorrupt) as caught:
        open_store(disk)
    start = offsets[20] - offsets[20] % 2048
    assert caught.value.path == f"/store/commitlog/{start:020d}"
    assert caught.value.position == offsets[20] - start
    assert "CRC" in str(caught.value)
    assert str(offsets[21]) in str(caught.value), "it says where whole records go on"
    with pytest.raises(StoreCorrupt):
        open_store(disk)
    assert len(disk.read_bytes(caught.value.path)) == 2048, "nothing was changed"


def test_corruption_of_the_first_record_is_refused() -> None:
    disk, _ = killed(3)
    damage(disk, 0, bytes(60))
    with pytest.raises(StoreCorrupt, match=r"00000000000000000000 is corrupt at byte 0"):
        open_store(disk, refuse_lost_tail=False)


def test_a_log_that_is_nothing_but_garbage_is_refused() -> None:
    disk, _ = killed(3)
    damage(disk, 0, b"\x5a" * 400)
    with pytest.raises(StoreCorrupt):
        open_store(disk, refuse_lost_tail=False)


def test_unflushed_damage_before_whole_unflushed_records_is_a_torn_tail() -> None:
    disk, offsets = killed(5, unflushed=6)
    damage(disk, offsets[7], bytes(40))
    store = new_store(disk)
    found = store.open()
    assert (found.end, found.lost_flushed) == (offsets[7], 0)
    assert len(bodies(store, count=100)) == 7


@pytest.mark.parametrize("lost", ["missing", "garbled"])
@pytest.mark.parametrize("flushed", [True, False])
def test_without_a_flush_mark_only_a_tail_is_cut(flushed: bool, lost: str) -> None:
    """Nobody knows what was promised: what has whole records behind it may have been."""
    for place, refused in ((2, True), (-1, False)):
        disk, offsets = killed(5, unflushed=0 if flushed else 5)
        damage(disk, offsets[place] + 92, b"\xff\xfe")
        if lost == "missing":
            disk.remove("/store/checkpoint")
        else:
            disk.open("/store/checkpoint").pwrite(0, bytes(1024))
        if not refused:
            assert new_store(disk).open().end == offsets[place]
            continue
        for _ in range(2):
            with pytest.raises(StoreCorrupt, match=r"unknown, since /store/checkpoint is missing or damaged") as caught:
                open_store(disk)
        assert str(offsets[place + 1]) in str(caught.value)


def test_without_a_flush_mark_no_file_behind_a_hole_is_dropped() -> None:
    disk, _ = killed(60)
    names = disk.listdir("/store/commitlog")
    disk.remove("/store/checkpoint")
    disk.remove(f"/store/commitlog/{names[1]}")
    with pytest.raises(StoreCorrupt, match=f"{names[1]}.*missing"):
        open_store(disk)
    assert disk.listdir("/store/commitlog") == [names[0], *names[2:]]


def test_a_missing_file_in_the_middle_is_refused() -> None:
    disk, _ = killed(60)
    names = disk.listdir("/store/commitlog")
    disk.remove(f"/store/commitlog/{names[1]}")
    with pytest.raises(StoreCorrupt, match=f"{names[1]}.*missing"):
        open_store(disk)


def test_missing_files_at_the_end_are_refused() -> None:
    disk, _ = killed(60)
    for name in disk.listdir("/store/commitlog"):
        disk.remove(f"/store/commitlog/{name}")
    with pytest.raises(StoreCorrupt, match="no commit-log files"):
        open_store(disk)


def test_a_short_file_in_the_middle_is_refused() -> None:
    disk, _ = killed(60)
    damage(disk, 2048 + 1000, None)
    with pytest.raises(StoreCorrupt, match=f"{2048:020d}"):
        open_store(disk)


@pytest.mark.parametrize("size", [1024, 4096, 3000])
def test_another_segment_size_is_refused(size: int) -> None:
    disk, _ = killed(60)
    with pytest.raises(StoreCorrupt, match="mappedFileSizeCommitLog"):
        open_store(disk, segment_size=size)


def test_too_much_lost_at_the_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "LOST_TAIL_MAX", 500)
    disk, offsets = killed(60)
    for name in disk.listdir("/store/commitlog")[2:]:
        disk.remove(f"/store/commitlog/{name}")
    with pytest.raises(StoreCorrupt, match="flushed bytes are missing"):
        open_store(disk, refuse_lost_tail=False)
    assert offsets


def test_only_the_newest_files_are_verified_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = ForgetfulDisk()
    store = open_store(disk)
    fill(store, 100)
    store.close()
    monkeypatch.setattr(recovery, "VERIFY_MAX", 5000)
    again = new_store(disk)
    assert 0 < again.open().checked < 60
    assert numbers(again) == list(range(100))


@pytest.mark.parametrize("lost", ["queues.json", "consumequeue", "index", "checkpoint"])
def test_derived_files_are_made_again(lost: str) -> None:
    disk = ForgetfulDisk()
    store = open_store(disk)
    for number in range(60):
        store.append([message(f"{number}:", unique=f"U{number}")], HOST)
    store.close()

    def remove(path: str) -> None:
        if disk.isdir(path):
            for name in disk.listdir(path):
                remove(f"{path}/{name}")
        disk.remove(path)

    remove(f"/store/{lost}")
    again = new_store(disk)
    found = again.open()
    assert found.rebuilt is (lost != "checkpoint")
    assert numbers(again) == list(range(60))
    assert len(again.query_by_key(TOPIC, "U33", 5, 0, 1 << 60)) == 1
    assert again.append([message("x")], HOST).places[0].offset_queue == 60


def test_garbled_queue_state_means_a_rebuild() -> None:
    disk, _ = killed(30)
    disk.open("/store/queues.json").pwrite(0, b"\xff{")
    store = new_store(disk)
    assert store.open().rebuilt
    assert numbers(store) == list(range(30))


def test_queue_entries_behind_the_checkpoint_are_not_believed() -> None:
    disk = ForgetfulDisk()
    store = open_store(disk)
    fill(store, 20)
    asyncio.run(store.checkpoint())
    fill(store, 20)
    store._queues.spill()
    disk.kill()
    for name in disk.listdir(f"/store/consumequeue/{TOPIC}/0")[2:]:
        disk.open(f"/store/consumequeue/{TOPIC}/0/{name}").pwrite(0, b"\xff" * 200)
    again = new_store(disk)
    found = again.open()
    assert (found.rebuilt, found.dispatched) == (False, 20)
    assert len(bodies(again, count=100)) == 40
    assert [decode_record(r).queue_offset for r in again.read_queue(TOPIC, 0, 0, 99, 1 << 20).records] == list(
        range(40)
    )


def test_a_checkpoint_shortens_the_next_start() -> None:
    disk = ForgetfulDisk()
    store = open_store(disk)
    fill(store, 50)
    assert not store.checkpoint_due
    asyncio.run(store.checkpoint())
    fill(store, 3)
    disk.kill()
    assert new_store(disk).open().dispatched == 3


@pytest.mark.flaws
def test_skipping_the_crc_lets_a_garbled_message_through() -> None:
    for flaws, garbled in ((frozenset[Flaw](), False), (frozenset({Flaw.SKIP_CRC}), True)):
        disk, offsets = killed(10, unflushed=1)
        damage(disk, offsets[-1] + 90, b"\xff")
        store = open_store(disk, flaws=flaws)
        assert (len(store.read_queue(TOPIC, 0, 0, 99, 1 << 20).records) == 11) is garbled


# ---- truncation ----------------------------------------------------------------------------------------------------


def test_truncation_cuts_log_queues_and_keys() -> None:
    disk = ForgetfulDisk()
    store = open_store(disk)
    places = [store.append([message(f"{n}:", queue_id=n % 2, unique=f"U{n}")], HOST).places[0] for n in range(60)]
    store.write_pending()
    asyncio.run(store.sync())
    store.append([message("never written")], HOST)
    store.truncate_to(places[31].offset_log)
    assert store.written_end == store.flushed_end == store.visible_end == places[31].offset_log
    assert [store.queue_bounds(TOPIC, q) for q in (0, 1)] == [(0, 16), (0, 15)]
    assert store.query_by_key(TOPIC, "U31", 1, 0, 1 << 60) == []
    assert len(store.query_by_key(TOPIC, "U30", 1, 0, 1 << 60)) == 1
    new = store.append([message("new", queue_id=1)], HOST).places[0]
    assert (new.offset_log, new.offset_queue) == (places[31].offset_log, 15)
    store.write_pending()
    asyncio.run(store.sync())
    again = open_store(disk.survivor(Keep.NOTHING))
    assert bodies(again, 1)[-1] == "new"
    assert again.query_by_key(TOPIC, "U31", 1, 0, 1 << 60) == []


def test_truncation_to_nothing_and_to_a_segment_border() -> None:
    disk = ForgetfulDisk()
    store = open_store(disk)
    fill(store, 60)
    store.truncate_to(4096)
    assert store.written_end == 4096
    assert disk.listdir("/store/commitlog") == [f"{0:020d}", f"{2048:020d}"]
    next_offset = store.queue_bounds(TOPIC, 0)[1]
    assert store.append([message("x")], HOST).places[0] == (4096, 98, next_offset)
    store.truncate_to(0)
    assert (store.min_offset, store.written_end) == (0, 0)
    assert store.queue_bounds(TOPIC, 0) == (0, 0)
    assert store.append([message("y")], HOST).places[0] == (0, 98, 0)
    store.close()
    assert bodies(open_store(disk)) == ["y"]


@pytest.mark.parametrize("where", [1, 150, 10**9, -1])
def test_truncation_within_a_record_or_beyond_the_log_is_refused(where: int) -> None:
    store = open_store(ForgetfulDisk())
    fill(store, 60)
    end = store.written_end
    with pytest.raises(ValueError, match="cannot cut"):
        store.truncate_to(where)
    assert store.written_end == end


def test_a_sync_that_runs_during_a_truncation_flushes_nothing_of_the_new_tail() -> None:
    store = open_store(ForgetfulDisk())
    offsets = fill(store, 10)

    async def main() -> None:
        store.append([message("old tail")], HOST)
        store.write_pending()
        running = asyncio.ensure_future(store.sync())
        await asyncio.sleep(0)
        store.truncate_to(offsets[5])
        store.append([message("new tail"), message("new tail")], HOST)
        store.write_pending()
        await running
        assert store.flushed_end == offsets[5]
        assert await store.sync() == store.written_end

    asyncio.run(main())
    assert bodies(store)[5:] == ["new tail", "new tail"]


# ---- on the real disk ----------------------------------------------------------------------------------------------


def test_the_same_on_the_real_disk(tmp_path: Path) -> None:
    disk = RealDisk()
    root = str(tmp_path / "deep" / "store")
    store = open_store(disk, root=root)
    offsets = fill(store, 60)
    asyncio.run(store.checkpoint())
    disk.unlock(f"{root}/lock")
    again = new_store(disk, root=root)
    assert not again.open().clean
    assert numbers(again) == list(range(60))
    again.truncate_to(offsets[40])
    fill(again, 5)
    again.close()
    third = new_store(disk, root=root)
    assert third.open().clean
    assert len(bodies(third, count=100)) == 45
    with pytest.raises(OSError, match="another process"):
        open_store(disk, root=root)
    third.close()
    disk.close()


def test_time_does_not_matter_to_recovery() -> None:
    clock = ManualClock()
    disk = ForgetfulDisk()
    store = open_store(disk, clock=clock)
    for jump in (0, 10**9, -(10**9)):
        clock.now += jump
        fill(store, 5)
    disk.kill()
    assert len(bodies(open_store(disk), count=100)) == 15


def test_a_start_syncs_more_files_than_it_keeps_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a flush mark nothing is known to be synced, however many files there are."""
    monkeypatch.setattr(commit_log, "OPEN_SEGMENTS_MAX", 3)
    monkeypatch.setattr(recovery, "REWRITE_MAX", 0)  # a log so long is not written once more
    disk = ForgetfulDisk()
    store = open_store(disk)
    for number in range(30):
        store.append([message(f"{number}-" + "x" * 300)], HOST)
    store.write_pending()
    store.close()
    disk.remove("/store/checkpoint")
    again = open_store(disk)
    assert again.min_offset == 0
    assert len(bodies(again)) == 30
    found = disk.survivor(Keep.NOTHING)
    assert len(bodies(open_store(found))) == 30
