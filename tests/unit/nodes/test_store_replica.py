"""A replica's store: fed with its primary's bytes, equal to it byte for byte."""

from __future__ import annotations

import asyncio
import random

import pytest

from nodes.flaws import Flaw
from nodes.store.errors import Refusal, StoreFailed, StoreRefused
from nodes.store.store import MessageStore
from tests.unit.nodes.forgetful_disk import ForgetfulDisk, Keep
from tests.unit.nodes.store_samples import HOST, TOPIC, message, open_store
from tests.unit.nodes.test_store_messages import bodies, fill


def pump(primary: MessageStore, replica: MessageStore, chunk: int = 777) -> None:
    """Replicate until both ends are equal."""
    while replica.raw_end < primary.written_end:
        replica.append_raw(replica.raw_end, primary.read_log(replica.raw_end, chunk))
    asyncio.run(replica.sync())


def files(disk: ForgetfulDisk, folder: str = "/store/commitlog") -> dict[str, bytes]:
    return {name: disk.read_bytes(f"{folder}/{name}") for name in disk.listdir(folder)}


@pytest.mark.parametrize("chunk", [1, 7, 100, 2048, 1 << 20])
def test_replicas_are_equal_byte_for_byte(chunk: int) -> None:
    disk, copy = ForgetfulDisk(), ForgetfulDisk()
    primary, replica = open_store(disk), open_store(copy)
    fill(primary, 60, queues=3)
    told: list[int] = []
    replica.on_dispatch = lambda topic, queue, offset, tags, at: told.append(offset)
    pump(primary, replica, chunk)
    assert replica.written_end == replica.flushed_end == primary.written_end
    assert files(copy) == files(disk)
    assert list(replica.queues()) == list(primary.queues())
    assert len(told) == 60
    for queue_id in range(3):
        assert bodies(replica, queue_id) == bodies(primary, queue_id)
        assert replica.index_entries(TOPIC, queue_id, 0, 99) == primary.index_entries(TOPIC, queue_id, 0, 99)


def test_only_whole_records_count_and_a_new_connection_starts_behind_them() -> None:
    primary, replica = open_store(ForgetfulDisk()), open_store(ForgetfulDisk())
    fill(primary, 3)
    size = primary.written_end // 3
    replica.append_raw(0, primary.read_log(0, size + 10))
    assert (replica.written_end, replica.raw_end) == (size, size + 10)
    replica.append_raw(size, primary.read_log(size, 5))
    assert (replica.written_end, replica.raw_end) == (size, size + 5)
    pump(primary, replica)
    assert replica.written_end == primary.written_end


def test_bytes_that_do_not_continue_the_log_are_refused() -> None:
    primary, replica = open_store(ForgetfulDisk()), open_store(ForgetfulDisk())
    offsets = fill(primary, 10)
    replica.append_raw(0, primary.read_log(0, offsets[5]))
    for offset in (0, offsets[4], offsets[6]):
        with pytest.raises(StoreRefused) as caught:
            replica.append_raw(offset, primary.read_log(offset, 100))
        assert caught.value.refusal is Refusal.NOT_CONTIGUOUS
    assert replica.written_end == offsets[5]


def test_a_diverged_log_cannot_be_spliced() -> None:
    """Records know their place and their queue offset, so bytes of another history are noticed."""
    primary, replica = open_store(ForgetfulDisk()), open_store(ForgetfulDisk())
    offsets = fill(primary, 10)
    fill(replica, 3, size=21)
    end = replica.written_end
    with pytest.raises(StoreRefused) as caught:
        replica.append_raw(end, primary.read_log(end, 1000))
    assert caught.value.refusal is Refusal.INVALID
    other = open_store(ForgetfulDisk())
    fill(other, 3)
    other.append([message("x".ljust(20), queue_id=1)], HOST)
    other.write_pending()
    assert other.written_end == offsets[4], "of equal length, but with another message"
    with pytest.raises(StoreRefused, match="expects offset 3, the message carries 4"):
        other.append_raw(offsets[4], primary.read_log(offsets[4], 1000))


@pytest.mark.parametrize("at", [0, 2, 4, 8, 20, 30, 85, 91, 97])
def test_a_garbled_byte_is_refused_and_what_precedes_it_is_kept(at: int) -> None:
    primary, replica = open_store(ForgetfulDisk()), open_store(ForgetfulDisk())
    offsets = fill(primary, 5)
    data = bytearray(primary.read_log(0, offsets[4]))
    data[offsets[2] + at] ^= 0x41
    with pytest.raises(StoreRefused) as caught:
        replica.append_raw(0, bytes(data))
    assert caught.value.refusal is Refusal.INVALID
    assert replica.written_end == offsets[2]
    replica.append_raw(offsets[2], primary.read_log(offsets[2], 100000))
    assert replica.written_end == primary.written_end


def test_segments_of_another_size_are_refused() -> None:
    primary, replica = open_store(ForgetfulDisk()), open_store(ForgetfulDisk(), segment_size=4096)
    fill(primary, 60)
    with pytest.raises(StoreRefused, match="segments differ"):
        pump(primary, replica)


def test_a_replica_may_begin_where_its_primary_begins() -> None:
    disk, copy = ForgetfulDisk(), ForgetfulDisk()
    primary, replica = open_store(disk), open_store(copy)
    fill(primary, 100, queues=2)
    begin = 4096
    assert primary.queue_offset_at(TOPIC, 0, begin) > 0
    replica.append_raw(begin, primary.read_log(begin, 100))
    pump(primary, replica)
    assert replica.min_offset == begin
    for queue_id in (0, 1):
        first = primary.queue_offset_at(TOPIC, queue_id, begin)
        assert replica.queue_bounds(TOPIC, queue_id) == (first, 50)
        assert bodies(replica, queue_id, first, 99) == bodies(primary, queue_id, first, 99)
    copy.kill()
    again = open_store(copy)
    assert list(again.queues()) == list(replica.queues())
    with pytest.raises(ValueError, match="empty"):
        again.begin_at(0)


def test_an_empty_log_that_begins_elsewhere_remembers_it() -> None:
    disk = ForgetfulDisk()
    store = open_store(disk)
    with pytest.raises(ValueError, match="start of a segment"):
        store.begin_at(100)
    store.begin_at(4096)
    again = open_store(disk.survivor(Keep.NOTHING))
    assert (again.min_offset, again.written_end) == (4096, 4096)


def test_a_replica_becomes_primary_and_goes_on() -> None:
    primary, replica = open_store(ForgetfulDisk()), open_store(ForgetfulDisk())
    fill(primary, 20)
    pump(primary, replica, 64)
    replica.append_raw(replica.raw_end, b"")
    place = replica.append([message("promoted")], HOST).places[0]
    assert (place.offset_log, place.offset_queue) == (primary.written_end, 20)


def test_a_partial_record_is_dropped_by_the_first_own_message() -> None:
    primary, replica = open_store(ForgetfulDisk()), open_store(ForgetfulDisk())
    offsets = fill(primary, 3)
    replica.append_raw(0, primary.read_log(0, offsets[2] + 30))
    replica.truncate_to(replica.written_end)
    assert replica.raw_end == replica.written_end == offsets[2]
    fill(replica, 1)
    assert len(bodies(replica)) == 3


def test_a_failed_write_is_final_for_a_replica_too() -> None:
    disk = ForgetfulDisk()
    primary, replica = open_store(ForgetfulDisk()), open_store(disk)
    fill(primary, 3)
    disk.fail_once("write", "commitlog")
    with pytest.raises(StoreFailed):
        replica.append_raw(0, primary.read_log(0, 10000))
    assert replica.written_end == 0
    with pytest.raises(StoreRefused):
        replica.append_raw(0, primary.read_log(0, 10000))


@pytest.mark.flaws
def test_offsets_given_twice_are_refused_unless_the_replica_has_the_flaw() -> None:
    primary = open_store(ForgetfulDisk(), flaws=[Flaw.OFFSET_REUSE], segment_size=1 << 20)
    for number in range(120):
        primary.append([message(str(number))], HOST)
    primary.write_pending()
    with pytest.raises(StoreRefused, match="taken"):
        pump(primary, open_store(ForgetfulDisk(), segment_size=1 << 20))
    pump(primary, open_store(ForgetfulDisk(), segment_size=1 << 20, flaws=[Flaw.OFFSET_REUSE]))


@pytest.mark.random
def test_random_chunks_crashes_and_restarts() -> None:
    rng = random.Random(5)
    for _ in range(10):
        primary, disk = open_store(ForgetfulDisk()), ForgetfulDisk()
        fill(primary, 80, queues=3, size=rng.randrange(10, 300))
        replica = open_store(disk)
        while replica.raw_end < primary.written_end:
            replica.append_raw(replica.raw_end, primary.read_log(replica.raw_end, rng.randrange(1, 900)))
            if rng.random() < 0.2:
                asyncio.run(replica.sync())
            if rng.random() < 0.05:
                flushed = replica.flushed_end
                disk = disk.survivor(rng.choice(list(Keep)), rng.randrange(1000))
                replica = open_store(disk)
                assert replica.written_end >= flushed
        asyncio.run(replica.sync())
        for queue_id in range(3):
            assert bodies(replica, queue_id, count=99) == bodies(primary, queue_id, count=99)
