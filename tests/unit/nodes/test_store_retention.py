"""What goes, and what must stay: expired files, deleted topics, offsets that are never given twice."""

from __future__ import annotations

import asyncio

from nodes.clock import time_of_day
from nodes.store.results import ReadStatus
from nodes.store.store import MessageStore
from tests.unit.nodes.forgetful_disk import Crash, ForgetfulDisk, Keep
from tests.unit.nodes.store_samples import HOST, TOPIC, ManualClock, message, open_store
from tests.unit.nodes.test_store_messages import bodies, fill

HOUR = 3_600_000
START = 1_700_000_000_000


def hour_of(now_ms: int) -> int:
    return int(time_of_day(now_ms)[:2])


def aged(disk: ForgetfulDisk, clock: ManualClock, *, hour: int) -> MessageStore:
    """A store with one message an hour for 100 hours, several files; what expires goes at `hour`."""
    store = open_store(disk, clock=clock, reserved_hours=72, delete_when=(hour,))
    for number in range(100):
        clock.now = START + number * HOUR
        store.append([message(f"{number}:".ljust(60, "x"), unique=f"U{number}")], HOST)
        store.write_pending()
    asyncio.run(store.sync())
    return store


def test_expired_files_go_at_the_configured_hour() -> None:
    disk, clock = ForgetfulDisk(), ManualClock(START)
    now = START + 100 * HOUR
    store = aged(disk, clock, hour=(hour_of(now) + 1) % 24)
    before = disk.listdir("/store/commitlog")
    assert store.retain(now) == []
    deleted = store.retain(now + HOUR)
    assert deleted
    assert [path.rsplit("/", 1)[1] for path in deleted] == before[: len(deleted)]
    assert disk.listdir("/store/commitlog") == before[len(deleted) :]
    assert store.retain(now + HOUR) == []


def test_messages_younger_than_the_limit_stay_and_bounds_move() -> None:
    disk, clock = ForgetfulDisk(), ManualClock(START)
    now = START + 100 * HOUR
    store = aged(disk, clock, hour=hour_of(now))
    deleted = store.retain(now)
    assert store.min_offset == len(deleted) * 2048
    begin, end = store.queue_bounds(TOPIC, 0)
    assert end == 100
    assert 0 < begin <= 29, "everything of the last 72 hours is there"
    found = bodies(store, offset=begin, count=200)
    assert [int(body.split(":")[0]) for body in found] == list(range(begin, 100))
    too_small = store.read_queue(TOPIC, 0, begin - 1, 1, 1 << 20)
    assert (too_small.status, too_small.next_offset) == (ReadStatus.OFFSET_TOO_SMALL, begin)
    assert store.query_by_key(TOPIC, "U0", 1, 0, 1 << 60) == []
    assert len(store.query_by_key(TOPIC, f"U{begin}", 1, 0, 1 << 60)) == 1
    assert store.message_at(0) is None
    assert store.read_log(0, 10) == b""
    assert store.earliest_time(TOPIC, 0) == START + begin * HOUR
    assert store.queue_offset_at(TOPIC, 0, store.min_offset) == begin
    queue_files = disk.listdir(f"/store/consumequeue/{TOPIC}/0")
    assert int(queue_files[0]) // 20 + 10 > begin, "queue files of deleted messages are gone"


def test_a_crowded_disk_deletes_expired_files_at_any_hour_but_no_others() -> None:
    disk, clock = ForgetfulDisk(), ManualClock(START)
    now = START + 100 * HOUR
    store = aged(disk, clock, hour=(hour_of(now) + 5) % 24)
    disk.used = 0.74
    assert store.retain(now) == []
    disk.used = 0.75
    assert store.retain(now)
    disk = ForgetfulDisk()
    young = open_store(disk, clock=ManualClock(now))
    fill(young, 60)
    disk.used = 0.89
    assert young.retain(now + HOUR) == []


def test_the_newest_file_always_stays() -> None:
    disk, clock = ForgetfulDisk(), ManualClock(START)
    now = START + 10_000 * HOUR
    store = aged(disk, clock, hour=hour_of(now))
    store.retain(now)
    assert len(disk.listdir("/store/commitlog")) == 1
    assert store.queue_bounds(TOPIC, 0)[1] == 100
    assert bodies(store, offset=store.queue_bounds(TOPIC, 0)[0])[-1].startswith("99:")


def test_idle_queues_keep_their_offsets_when_all_their_messages_are_gone() -> None:
    disk, clock = ForgetfulDisk(), ManualClock(START)
    store = open_store(disk, clock=clock, delete_when=tuple(range(24)))
    for _ in range(7):
        store.append([message("idle", topic="Idle")], HOST)
    fill(store, 50)
    clock.now += 100 * HOUR
    fill(store, 50)
    assert store.retain(clock.now)
    assert store.queue_bounds("Idle", 0) == (7, 7)
    assert store.read_queue("Idle", 0, 7, 1, 1 << 20).status is ReadStatus.OFFSET_OVERFLOW_ONE
    for keep in Keep:
        again = open_store(disk.survivor(keep), clock=clock)
        assert again.queue_bounds("Idle", 0) == (7, 7)
        assert again.append([message("x", topic="Idle")], HOST).places[0].offset_queue == 7
    disk.kill()
    folder = f"/store/consumequeue/{TOPIC}/0"
    disk.remove(f"{folder}/{disk.listdir(folder)[-1]}")
    again = open_store(disk, clock=clock)
    assert again.append([message("x", topic="Idle")], HOST).places[0].offset_queue == 7, "also after a rebuild"


def test_a_crash_after_deletion_at_any_time() -> None:
    crash_at, through = 0, False
    while not through:
        disk, clock = ForgetfulDisk(), ManualClock(START)
        now = START + 100 * HOUR
        store = aged(disk, clock, hour=hour_of(now))
        disk.crash_at = disk.steps + crash_at
        try:
            store.retain(now)
            through = True
        except Crash:
            crash_at += 1
        for keep in Keep:
            again = open_store(disk.survivor(keep, crash_at), clock=clock)
            begin, end = again.queue_bounds(TOPIC, 0)
            assert end == 100
            assert [int(b.split(":")[0]) for b in bodies(again, offset=begin, count=200)] == list(range(begin, 100))
    assert crash_at > 10


def test_a_deleted_topic_leaves_no_folder_and_its_offsets_are_never_reused() -> None:
    disk = ForgetfulDisk()
    store = open_store(disk)
    fill(store, 30, queues=2)
    store.append([message("other", topic="Other")], HOST)
    store.write_pending()
    asyncio.run(store.sync())
    asyncio.run(store.checkpoint())
    store.append([message("unflushed")], HOST)
    assert store.retire_topic(TOPIC) == 2
    assert not disk.exists(f"/store/consumequeue/{TOPIC}")
    assert store.read_queue(TOPIC, 0, 0, 10, 1 << 20).status is ReadStatus.OFFSET_TOO_SMALL
    asyncio.run(store.sync())
    assert store.queue_bounds(TOPIC, 0) == (16, 16)
    assert store.queue_bounds("Other", 0) == (0, 1)
    place = store.append([message("again")], HOST).places[0]
    assert place.offset_queue == 16
    store.write_pending()
    asyncio.run(store.sync())
    for found in (disk.survivor(Keep.NOTHING), disk):
        found.kill()
        again = open_store(found)
        assert again.queue_bounds(TOPIC, 0) == (16, 17)
        assert bodies(again, offset=16) == ["again"]
        assert again.append([message("more", queue_id=1)], HOST).places[0].offset_queue == 15
    assert store.retire_topic("unknown") == 0
