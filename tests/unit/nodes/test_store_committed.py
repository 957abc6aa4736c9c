"""A store of a group's member: readable is what the group has committed, and a log ends with a record."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

from nodes.store.store import MessageStore
from tests.unit.nodes.forgetful_disk import ForgetfulDisk, Keep
from tests.unit.nodes.store_samples import HOST, SMALL, TOPIC, message, new_store, open_store

COMMITTED = replace(SMALL, committed_only=True)


def grown(disk: ForgetfulDisk, count: int, *, size: int = 300, queues: int = 1) -> tuple[MessageStore, list[int]]:
    """A store with some messages, and where each ends."""
    store = open_store(disk, COMMITTED)
    ends = []
    for number in range(count):
        body = f"{number}:".ljust(size, "x")
        store.append([message(body, queue_id=number % queues, unique=f"U{number}")], HOST)
        ends.append(store.write_pending())
    asyncio.run(store.sync())
    return store, ends


def test_synced_is_not_readable_before_it_is_committed() -> None:
    told: list[int] = []
    store, ends = grown(ForgetfulDisk(), 10)
    store.on_dispatch = lambda topic, queue, following, tags, stored: told.append(following)
    assert store.flushed_end == ends[-1]
    assert store.queue_bounds(TOPIC, 0) == (0, 0)
    store.show_committed(ends[3])
    assert (store.queue_bounds(TOPIC, 0), told) == ((0, 4), [1, 2, 3, 4])
    store.show_committed(ends[1])
    assert store.queue_bounds(TOPIC, 0) == (0, 4), "it never goes back"
    store.show_committed(1 << 40)
    assert store.visible_end == ends[-1], "nor beyond what is there"
    assert store.message_at(ends[0]) is not None


def test_after_a_restart_only_what_is_known_to_be_committed_is_readable() -> None:
    disk = ForgetfulDisk()
    _, ends = grown(disk, 30, queues=3)
    for known, again in ((0, 30), (ends[9], 12), (ends[29], 30)):
        survivor = new_store(disk.survivor(Keep.NOTHING), COMMITTED)
        survivor.open(known)
        shown = sum(1 for end in ends if end <= known)
        assert [survivor.queue_bounds(TOPIC, queue)[1] for queue in range(3)] == [
            len([number for number in range(shown) if number % 3 == queue]) for queue in range(3)
        ]
        survivor.show_committed(ends[again - 1])
        assert sum(survivor.queue_bounds(TOPIC, queue)[1] for queue in range(3)) == again
        survivor.append([message("new")], HOST)
        survivor.write_pending()
        asyncio.run(survivor.sync())
        survivor.show_committed(ends[-1])
        assert sum(survivor.queue_bounds(TOPIC, queue)[1] for queue in range(3)) == 30, "the new one is not"
        survivor.show_committed(survivor.written_end)
        assert sum(survivor.queue_bounds(TOPIC, queue)[1] for queue in range(3)) == 31
        survivor.close()


def test_a_cut_tail_gives_its_offsets_back_and_shows_nothing() -> None:
    rng = Random(5)
    for _ in range(20):
        store, ends = grown(ForgetfulDisk(), 20)
        committed, cut = sorted(rng.sample(range(20), 2))
        store.show_committed(ends[committed])
        store.truncate_to(ends[cut])
        assert store.queue_bounds(TOPIC, 0) == (0, committed + 1)
        appended = store.append([message("in its place")], HOST)
        assert appended.places[0].offset_queue == cut + 1
        store.write_pending()
        store.show_committed(ends[cut])
        assert store.queue_bounds(TOPIC, 0) == (0, cut + 1)
        store.show_committed(store.written_end)
        assert store.queue_bounds(TOPIC, 0) == (0, cut + 2)


def test_a_filler_with_nothing_behind_it_is_cut_at_start() -> None:
    disk = ForgetfulDisk()
    store, ends = grown(disk, 5)
    end = ends[-1]
    room = store.config.segment_size - end % store.config.segment_size
    store.append([message("y" * room)], HOST)  # does not fit any more: a filler, and the record in the next file
    store.write_pending()
    path = f"{store.config.commit_log_folder}/{end - end % 2048 + 2048:020d}"
    survivor = disk.survivor(Keep.EVERYTHING)
    survivor.remove(path)  # as a power loss between the two files leaves it
    survivor.unlock("/store/lock")
    again = new_store(survivor, COMMITTED)
    assert again.open().end == end
    again.close()
    assert new_store(survivor, COMMITTED).open().end == end


def test_queues_whose_messages_are_gone_go_on_elsewhere() -> None:
    store, ends = grown(ForgetfulDisk(), 40, queues=2)
    store.show_committed(ends[-1])
    begin = 3 * store.config.segment_size
    wanted = store.queue_ends(begin)
    assert 0 < wanted[TOPIC][0] < 20
    other = open_store(ForgetfulDisk(), COMMITTED)
    other.begin_at(begin, {**wanted, "Idle": {4: 99}})
    assert other.append([message("next", topic="Idle", queue_id=4)], HOST).places[0].offset_queue == 99
    other.truncate_to(begin)
    other.append_raw(begin, store.read_log(begin, store.config.segment_size))
    other.show_committed(other.written_end)
    assert other.queue_bounds(TOPIC, 0)[0] == wanted[TOPIC][0]
    other.raise_queue_ends({"Idle": {4: 120}, TOPIC: {0: 1}})
    assert other.queue_ends(other.written_end)["Idle"] == {4: 120}, "further, never back"


def test_a_deleted_topic_is_gone_up_to_its_deletion() -> None:
    disk = ForgetfulDisk()
    store, ends = grown(disk, 10)
    store.show_committed(ends[-1])
    assert store.forget_before(TOPIC, ends[6]) == 1
    assert store.queue_bounds(TOPIC, 0) == (7, 10)
    store.checkpoint_now()
    again = new_store(disk.survivor(Keep.NOTHING), COMMITTED)
    again.open(ends[-1])
    assert again.queue_bounds(TOPIC, 0) == (7, 10)


def test_a_record_with_torn_properties_is_no_record() -> None:
    disk = ForgetfulDisk()
    store, ends = grown(disk, 2)
    store.append([message("late", unique="U" * 40)], HOST)
    store.append([message("later", unique="V" * 40)], HOST)
    store.write_pending()
    survivor = disk.survivor(Keep.EVERYTHING)
    survivor.unlock("/store/lock")
    file = survivor.open(f"{store.config.commit_log_folder}/{0:020d}")
    at = file.pread(0, 2048).index(b"U" * 40)
    file.pwrite(at + 7, bytes(33))  # the sector in which these bytes lie was never written
    again = new_store(survivor, COMMITTED)
    assert again.open().end == ends[-1], "neither it nor what follows it"
