"""Storing and reading messages: places, visibility, filters, limits, keys, times."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nodes.flaws import Flaw
from nodes.remoting.message import SYS_BORN_HOST_V6, SYS_STORE_HOST_V6, decode_record, tag_hash
from nodes.store.consume_queue import ENTRY
from nodes.store.errors import Refusal, StoreFailed, StoreRefused
from nodes.store.results import MessageIn, ReadStatus
from nodes.store.settings import SCHEDULE_TOPIC, StoreConfig, parse_delay_levels
from nodes.store.store import MessageStore
from tests.unit.nodes.forgetful_disk import ForgetfulDisk, Keep
from tests.unit.nodes.store_samples import HOST, SMALL, TOPIC, ManualClock, message, new_store, open_store

ALL = 1 << 30


def fill(store: MessageStore, count: int, *, queues: int = 1, size: int = 20) -> list[int]:
    """Write and sync numbered messages one by one; returns their log offsets."""
    offsets = []
    for number in range(count):
        body = f"{number}:".ljust(size, "x")
        offsets.append(store.append([message(body, queue_id=number % queues)], HOST).places[0].offset_log)
        store.write_pending()
    asyncio.run(store.sync())
    return offsets


def bodies(store: MessageStore, queue_id: int = 0, offset: int = 0, count: int = 32, **options: Any) -> list[str]:
    found = store.read_queue(TOPIC, queue_id, offset, count, ALL, **options)
    return [decode_record(record).body.decode() for record in found.records]


def test_places_are_consecutive_and_records_carry_them() -> None:
    store = open_store(ForgetfulDisk())
    first = store.append([message("a", tag="t", key="k"), message("b", queue_id=1), message("c")], HOST)
    assert [place.offset_queue for place in first.places] == [0, 0, 1]
    assert first.places[0].offset_log == 0
    assert first.places[1].offset_log == first.places[0].size
    assert first.end == sum(place.size for place in first.places)
    store.write_pending()
    asyncio.run(store.sync())
    record = decode_record(store.message_at(first.places[2].offset_log) or b"", check_crc=True)
    assert (record.body, record.queue_offset, record.offset_log) == (b"c", 1, first.places[2].offset_log)
    assert record.store_host == HOST
    assert record.store_timestamp == first.store_timestamp == 1_700_000_000_000
    assert decode_record(store.message_at(0) or b"").properties == {"TAGS": "t", "KEYS": "k"}


def test_hosts_of_both_kinds_are_stored() -> None:
    store = open_store(ForgetfulDisk())
    v6 = (bytes(range(16)), 99)
    messages = [message("a", born_host=v6), message("b")]
    messages[1].sys_flag = SYS_BORN_HOST_V6  # a client cannot claim what its address is not
    store.append(messages, HOST)
    store.append([message("c")], v6)
    store.append([message("d", born_host=v6)], v6)
    store.write_pending()
    asyncio.run(store.sync())
    found = [decode_record(record, check_crc=True) for record in store.read_queue(TOPIC, 0, 0, 32, ALL).records]
    assert [each.born_host[1] for each in found] == [99, 40001, 40001, 99]
    assert [each.sys_flag & 0x30 for each in found] == [
        SYS_BORN_HOST_V6,
        0,
        SYS_STORE_HOST_V6,
        SYS_BORN_HOST_V6 | SYS_STORE_HOST_V6,
    ]


@pytest.mark.parametrize("sync_flush", [True, False])
def test_a_message_is_readable_when_a_crash_cannot_take_it_away(sync_flush: bool) -> None:
    store = open_store(ForgetfulDisk(), sync_flush=sync_flush)
    told: list[tuple[str, int, int, int, int]] = []
    store.on_dispatch = lambda *what: told.append(what)
    place = store.append([message("a", tag="red")], HOST).places[0]
    assert store.queue_bounds(TOPIC, 0) == (0, 0)
    store.write_pending()
    assert store.written_end == place.size
    assert (store.queue_bounds(TOPIC, 0) == (0, 0)) is sync_flush
    assert (store.message_at(0) is None) is sync_flush
    assert bool(told) is not sync_flush
    asyncio.run(store.sync())
    assert store.flushed_end == place.size
    assert store.queue_bounds(TOPIC, 0) == (0, 1)
    assert store.message_at(0) is not None
    assert told == [(TOPIC, 0, 1, tag_hash("red"), 1_700_000_000_000)]


def test_one_write_a_turn_and_one_sync_a_group() -> None:
    disk = ForgetfulDisk()
    store = open_store(disk, segment_size=1 << 20)
    fill(store, 1)
    disk.trace.clear()

    async def main() -> None:
        for number in range(10):
            store.append([message(str(number))], HOST)
        store.write_pending()
        await asyncio.gather(*(store.sync() for _ in range(10)))

    asyncio.run(main())
    assert [line.split()[0] for line in disk.trace if "commitlog" in line] == ["write", "sync"]


def test_a_message_never_spans_files_and_fillers_lead_to_the_next() -> None:
    disk = ForgetfulDisk()
    store = open_store(disk)
    offsets = fill(store, 60)
    names = disk.listdir("/store/commitlog")
    assert names == [f"{number * 2048:020d}" for number in range(len(names))]
    assert len(names) > 3
    for name in names[:-1]:
        assert disk.open(f"/store/commitlog/{name}").size() == 2048
    for offset in offsets:
        record = decode_record(store.message_at(offset) or b"", check_crc=True)
        assert offset % 2048 + record.size + 8 <= 2048
    assert len(bodies(store, count=100)) == 60, "reading crosses files"


def test_read_statuses() -> None:
    store = open_store(ForgetfulDisk())
    assert store.read_queue(TOPIC, 0, 0, 1, ALL).status is ReadStatus.NO_MATCHED_LOGIC_QUEUE
    store.append([message("hidden")], HOST)
    assert store.read_queue(TOPIC, 0, 0, 1, ALL).status is ReadStatus.NO_MESSAGE_IN_QUEUE
    fill(store, 4)

    def outcome(offset: int) -> tuple[str, int]:
        found = store.read_queue(TOPIC, 0, offset, 2, ALL)
        assert (found.min_offset, found.max_offset) == (0, 5)
        return found.status.value, found.next_offset

    assert outcome(0) == ("FOUND", 2)
    assert outcome(4) == ("FOUND", 5)
    assert outcome(5) == ("OFFSET_OVERFLOW_ONE", 5)
    assert outcome(6) == ("OFFSET_OVERFLOW_BADLY", 5)
    assert outcome(-1) == ("OFFSET_TOO_SMALL", 0)


def test_reads_are_limited_in_number_and_bytes_but_never_to_nothing() -> None:
    store = open_store(ForgetfulDisk())
    fill(store, 10)
    size = len(store.message_at(0) or b"")
    assert len(store.read_queue(TOPIC, 0, 0, 3, ALL).records) == 3
    found = store.read_queue(TOPIC, 0, 0, 32, 2 * size)
    assert (len(found.records), found.next_offset) == (2, 2)
    assert len(store.read_queue(TOPIC, 0, 0, 32, 1).records) == 1
    assert len(store.read_queue(TOPIC, 0, 0, 0, ALL).records) == 1


def test_filters_see_tag_hashes_and_a_scan_is_bounded() -> None:
    store = open_store(ForgetfulDisk(), segment_size=1 << 20)
    store.append([message(str(number), tag="red" if number == 999 else "blue") for number in range(1000)], HOST)
    store.write_pending()
    asyncio.run(store.sync())
    wanted = tag_hash("red").__eq__
    first = store.read_queue(TOPIC, 0, 0, 32, ALL, wanted)
    assert (first.status, first.next_offset) == (ReadStatus.NO_MATCHED_MESSAGE, 800)
    assert bodies(store, offset=800, accept=wanted) == ["999"]
    assert store.read_queue(TOPIC, 0, 800, 32, ALL, wanted).next_offset == 1000


def test_queues_share_the_log_and_keep_their_order() -> None:
    store = open_store(ForgetfulDisk())
    fill(store, 30, queues=3)
    for queue_id in range(3):
        assert [int(body.split(":")[0]) for body in bodies(store, queue_id)] == list(range(queue_id, 30, 3))
    assert [(q.queue_id, q.min_offset, q.max_offset) for q in store.queues()] == [(0, 0, 10), (1, 0, 10), (2, 0, 10)]


def test_index_entries_are_raw_and_only_readable_ones() -> None:
    store = open_store(ForgetfulDisk())
    offsets = fill(store, 40)
    store.append([message("hidden")], HOST)
    entries = list(ENTRY.iter_unpack(store.index_entries(TOPIC, 0, 5, 1000)))
    assert [entry[0] for entry in entries] == offsets[5:]
    assert store.index_entries(TOPIC, 9, 0, 10) == b""
    assert store.index_entries(TOPIC, 0, -1, 10) == b""


def test_the_log_can_be_read_from_any_byte() -> None:
    store = open_store(ForgetfulDisk())
    fill(store, 50)
    whole = bytearray()
    while len(whole) < store.written_end:
        whole += store.read_log(len(whole), 777)
    assert len(whole) == store.written_end
    assert store.read_log(100, 50) == bytes(whole[100:150])
    assert store.read_log(store.written_end, 10) == b""


def test_positions_of_log_offsets_within_queues() -> None:
    store = open_store(ForgetfulDisk())
    offsets = fill(store, 40, queues=2)
    assert store.queue_offset_at(TOPIC, 0, 0) == 0
    assert store.queue_offset_at(TOPIC, 0, offsets[10]) == 5
    assert store.queue_offset_at(TOPIC, 1, offsets[10]) == 5
    assert store.queue_offset_at(TOPIC, 0, offsets[10] + 1) == 6
    assert store.queue_offset_at(TOPIC, 0, store.written_end) == 20
    assert store.queue_offset_at("unknown", 0, 0) == 0


def test_search_by_time() -> None:
    clock = ManualClock(1000)
    store = open_store(ForgetfulDisk(), clock=clock)
    for number in range(20):
        clock.now = 1000 + number * 10
        fill(store, 1)
    assert store.offset_by_time(TOPIC, 0, 0) == 0
    assert store.offset_by_time(TOPIC, 0, 1050) == 5
    assert store.offset_by_time(TOPIC, 0, 1051) == 6
    assert store.offset_by_time(TOPIC, 0, 9999) == 20
    assert store.offset_by_time("unknown", 0, 0) == 0
    assert store.earliest_time(TOPIC, 0) == 1000
    assert store.earliest_time("unknown", 0) == -1


def test_messages_are_found_by_key_newest_first() -> None:
    clock = ManualClock(1000)
    store = open_store(ForgetfulDisk(), clock=clock)
    for number in range(60):
        clock.now = 1000 + number
        store.append(
            [message(str(number), key=f"even common k{number}" if number % 2 == 0 else "odd", unique=f"U{number}")],
            HOST,
        )
        store.write_pending()
    asyncio.run(store.sync())

    def query(key: str, *, limit: int = 100, begin: int = 0, end: int = 9999, topic: str = TOPIC) -> list[int]:
        return [int(decode_record(each).body) for each in store.query_by_key(topic, key, limit, begin, end)]

    assert query("U7") == [7]
    assert query("k8") == [8]
    assert query("common") == list(range(58, -1, -2))
    assert query("common", limit=2) == [58, 56]
    assert query("odd", begin=1003, end=1007) == [7, 5, 3]
    assert query("U7", topic="Other") == []
    assert query("absent") == []
    store.close()
    again = new_store(ForgetfulDisk())
    again.open()
    assert again.query_by_key(TOPIC, "U7", 1, 0, 9999) == []


def test_without_key_index_nothing_is_found() -> None:
    store = open_store(ForgetfulDisk(), index_keys=False, sync_flush=False)
    store.append([message("a", unique="U1")], HOST)
    store.write_pending()
    assert store.query_by_key(TOPIC, "U1", 1, 0, 1 << 60) == []


def test_entries_of_the_schedule_topic_say_when_a_message_is_due() -> None:
    store = open_store(ForgetfulDisk())
    store.append([message("a", topic=SCHEDULE_TOPIC, queue_id=2, tag="red")], HOST)
    store.write_pending()
    asyncio.run(store.sync())
    assert ENTRY.unpack(store.index_entries(SCHEDULE_TOPIC, 2, 0, 1))[2] == 1_700_000_000_000 + 10_000


def test_delay_levels() -> None:
    assert parse_delay_levels("1s 2m 1h 3d") == (1000, 120_000, 3_600_000, 259_200_000)
    with pytest.raises(ValueError, match="5x"):
        parse_delay_levels("1s 5x")


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="mappedFileSizeCommitLog"):
        StoreConfig(root="/s", segment_size=100)
    with pytest.raises(ValueError, match="mappedFileSizeConsumeQueue"):
        StoreConfig(root="/s", queue_file_size=30)


# ---- refusals and failures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "refusal"),
    [
        (message("x" * 1001), Refusal.BODY_TOO_LARGE),
        (message("x", topic="t" * 128), Refusal.TOPIC_TOO_LONG),
        (message("x", key="k" * 32768), Refusal.PROPERTIES_TOO_LONG),
        (message("x", key="\U0001f600" * 8192), Refusal.PROPERTIES_TOO_LONG),
        (message("x", topic="../up"), Refusal.INVALID),
        (message("x", key="k" * 2000), Refusal.BODY_TOO_LARGE),
    ],
)
def test_what_cannot_be_stored_is_refused_as_a_whole(bad: MessageIn, refusal: Refusal) -> None:
    store = open_store(ForgetfulDisk(), message_max=1000)
    with pytest.raises(StoreRefused) as caught:
        store.append([message("good"), bad], HOST)
    assert caught.value.refusal is refusal
    assert store.write_pending() == 0
    assert store.append([message("good")], HOST).places[0] == (0, 91 + 4 + 6, 0)


def test_a_record_of_the_node_itself_is_not_bound_by_what_producers_may_send() -> None:
    store = open_store(ForgetfulDisk(), message_max=10)
    own = [message("x" * 1001), message("y" * 500)]
    with pytest.raises(StoreRefused):
        store.append(own, HOST)
    assert len(store.append(own, HOST, own=True).places) == 2
    with pytest.raises(StoreRefused, match="mappedFileSizeCommitLog"):
        store.append([message("x" * 2048)], HOST, own=True)


def test_the_largest_message_that_fits() -> None:
    store = open_store(ForgetfulDisk(), message_max=4096)
    room = 2048 - 8 - 91 - 24 - len(TOPIC)
    assert store.append([message("x" * room)], HOST).places[0].offset_log == 0
    with pytest.raises(StoreRefused):
        store.append([message("x" * (room + 1))], HOST)
    store.append([message("x" * room)], HOST)
    store.write_pending()
    asyncio.run(store.sync())
    assert len(bodies(store)) == 2


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_a_failed_write_or_sync_is_final(operation: str) -> None:
    disk = ForgetfulDisk()
    store = open_store(disk)
    fill(store, 3)
    reasons: list[str] = []
    store.on_failed = reasons.append
    end = store.flushed_end
    store.append([message("lost")], HOST)
    disk.fail_once(operation, "commitlog")
    if operation == "write":
        with pytest.raises(StoreFailed):
            store.write_pending()
    else:
        store.write_pending()
        with pytest.raises(StoreFailed):
            asyncio.run(store.sync())
    assert store.failed is not None
    assert "injected" in store.failed
    assert len(reasons) == 1
    for _ in range(2):
        with pytest.raises(StoreFailed):
            asyncio.run(store.sync())
    with pytest.raises(StoreRefused) as caught:
        store.append([message("more")], HOST)
    assert caught.value.refusal is Refusal.FAILED
    assert store.flushed_end == end
    assert len(bodies(store)) == 3, "what was acknowledged stays readable"
    store.close()
    assert disk.exists("/store/abort"), "a failed store does not count as closed"


def test_a_failed_sync_is_not_forgotten_by_a_restart() -> None:
    """The kernel believes the pages written; a new process must write them again before it calls them flushed."""
    disk = ForgetfulDisk()
    store = open_store(disk)
    fill(store, 2)
    store.append([message("unsure")], HOST)
    store.write_pending()
    disk.fail_once("sync", "commitlog")
    with pytest.raises(StoreFailed):
        asyncio.run(store.sync())
    disk.kill()
    again = open_store(disk)
    assert len(bodies(again)) == 3
    assert again.flushed_end == store.written_end
    lost_power = open_store(disk.survivor(Keep.NOTHING))
    assert len(bodies(lost_power)) == 3


def test_a_full_disk_refuses_writes_until_there_is_room() -> None:
    disk = ForgetfulDisk()
    store = open_store(disk)
    fill(store, 1)
    disk.used = 0.9
    store.retain(0)
    with pytest.raises(StoreRefused) as caught:
        store.append([message("x")], HOST)
    assert caught.value.refusal is Refusal.DISK_FULL
    disk.used = 0.89
    store.retain(0)
    store.append([message("x")], HOST)


def test_a_closed_store_refuses_and_closing_twice_is_harmless() -> None:
    store = open_store(ForgetfulDisk())
    store.close()
    store.close()
    with pytest.raises(StoreRefused) as caught:
        store.append([message("x")], HOST)
    assert caught.value.refusal is Refusal.CLOSED


def test_closing_writes_what_was_pending() -> None:
    disk = ForgetfulDisk()
    store = open_store(disk)
    store.append([message("last words")], HOST)
    store.close()
    assert bodies(open_store(disk.survivor(Keep.NOTHING))) == ["last words"]


def test_one_store_one_process() -> None:
    disk = ForgetfulDisk()
    open_store(disk)
    with pytest.raises(OSError, match="another process"):
        open_store(disk)


# ---- planted flaws -------------------------------------------------------------------------------------------------


def orders(store: MessageStore) -> tuple[list[int], list[int]]:
    """Queue offsets that were promised, and those found by walking the queue."""
    promised = [store.append([message(str(number))], HOST).places[0].offset_queue for number in range(120)]
    store.write_pending()
    asyncio.run(store.sync())
    found = store.read_queue(TOPIC, 0, 0, 1000, ALL).records
    return promised, [decode_record(record).queue_offset for record in found]


@pytest.mark.flaws
def test_swapped_appends_have_the_places_that_were_promised_in_the_wrong_order() -> None:
    promised, found = orders(open_store(ForgetfulDisk(), segment_size=1 << 20))
    assert promised == found == list(range(120))
    store = open_store(ForgetfulDisk(), segment_size=1 << 20, flaws=[Flaw.SWAP_APPENDS])
    promised, found = orders(store)
    assert promised != list(range(120))
    assert sorted(promised) == found == list(range(120))
    stored = [int(body) for body in bodies(store, count=1000)]
    assert [promised[number] for number in stored] == found  # what was promised is what a reader sees


@pytest.mark.flaws
def test_a_new_leader_that_repeats_stores_the_newest_of_every_queue_once_more() -> None:
    for flaws, expected in (([], ["0", "2"]), ([Flaw.REPEAT_AFTER_FAILOVER], ["0", "2", "2"])):
        store = open_store(ForgetfulDisk(), flaws=flaws)
        fill(store, 4, queues=2, size=1)
        store.begin_to_lead()
        store.write_pending()
        asyncio.run(store.sync())
        assert [body[0] for body in bodies(store)] == expected


@pytest.mark.flaws
def test_reused_offsets_are_visible_to_a_sender() -> None:
    promised, found = orders(open_store(ForgetfulDisk(), segment_size=1 << 20, flaws=[Flaw.OFFSET_REUSE]))
    assert len(set(promised)) < len(promised)
    assert len(found) < len(promised)


def test_the_settings_of_these_tests_are_strict() -> None:
    assert SMALL.sync_flush
    assert SMALL.refuse_lost_tail


@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize("action", ["close", "truncate"])
def test_closing_or_cutting_while_a_sync_runs(action: str, failing: bool) -> None:
    """Whether the sync under way succeeds is not known: its bytes are written and synced once more."""
    disk = ForgetfulDisk()
    store = open_store(disk)

    async def main() -> None:
        store.append([message("a"), message("b")], HOST)
        store.write_pending()
        if failing:
            disk.fail_once("sync", "commitlog")
        running = asyncio.ensure_future(store.sync())
        await asyncio.sleep(0)
        if action == "close":
            store.close()
        else:
            store.truncate_to(98)
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
    assert bodies(open_store(disk.survivor(Keep.NOTHING))) == (["a", "b"] if action == "close" else ["a"])
