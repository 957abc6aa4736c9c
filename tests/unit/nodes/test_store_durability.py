"""The proof of durability without power loss.

A script (appends under SYNC_FLUSH, roll-overs, offset tables, a checkpoint, a truncation) runs on a disk that forgets;
the power is cut at every single operation of it, and every kind of survivor is recovered. What was acknowledged must be
there, what was cut must stay away, nothing may be garbled, and the store must start.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from nodes.flaws import Flaw
from nodes.store.errors import StoreCorrupt, StoreFailed
from nodes.store.results import Appended, MessageIn
from nodes.store.store import MessageStore
from nodes.store.tables import CONSUMER_OFFSETS, Table
from tests.unit.nodes.forgetful_disk import Crash, ForgetfulDisk, Keep
from tests.unit.nodes.store_samples import HOST, SMALL, TOPIC, message, new_store, open_store

CONFIG_FOLDER = f"{SMALL.root}/config"


@dataclass
class Witness:
    """What the outside was told, and what it could legally find afterwards."""

    acknowledged: dict[int, tuple[int, int, bytes]] = field(default_factory=dict)
    """Log offset: queue, queue offset, body."""
    waiting: list[tuple[int, int, int, int, bytes]] = field(default_factory=list)
    written: dict[int, set[bytes]] = field(default_factory=dict)
    """Log offset: every body that was ever to be stored there."""
    cutting: int | None = None
    forbidden: dict[int, set[bytes]] = field(default_factory=dict)
    """Bodies that a completed truncation removed."""
    table_saved: int | None = None
    table_tried: int | None = None

    def appended(self, result: Appended, messages: list[MessageIn]) -> None:
        for place, sent in zip(result.places, messages, strict=True):
            self.waiting.append((result.end, place.offset_log, sent.queue_id, place.offset_queue, sent.body))
            self.written.setdefault(place.offset_log, set()).add(sent.body)

    def acknowledge(self, flushed_end: int) -> None:
        """The rule of SYNC_FLUSH: a reply leaves when the flushed end has reached the message's end."""
        for end, offset_log, queue_id, offset_queue, body in self.waiting:
            if end <= flushed_end:
                self.acknowledged[offset_log] = (queue_id, offset_queue, body)
        self.waiting = [entry for entry in self.waiting if entry[0] > flushed_end]

    def cut_begins(self, end: int) -> None:
        self.cutting = end
        self.waiting.clear()
        self.acknowledged = {at: what for at, what in self.acknowledged.items() if at < end}

    def cut_done(self) -> None:
        assert self.cutting is not None
        for offset_log, bodies in self.written.items():
            if offset_log >= self.cutting:
                self.forbidden.setdefault(offset_log, set()).update(bodies)
        self.cutting = None


async def script(store: MessageStore, table: Table, witness: Witness) -> None:
    """What a broker does, in small."""
    number = 0

    def batch(count: int) -> list[MessageIn]:
        nonlocal number
        number += count
        return [
            message(f"value-{n}-" + "x" * (n * 37 % 150), queue_id=n % 3, key=f"k{n}", tag="red" if n % 2 else None)
            for n in range(number - count, number)
        ]

    async def send(count: int) -> None:
        messages = batch(count)
        witness.appended(store.append(messages, HOST), messages)
        store.write_pending()
        witness.acknowledge(store.flushed_end)
        await store.sync()
        witness.acknowledge(store.flushed_end)

    def save(value: int) -> None:
        witness.table_tried = value
        table.save({"version": value})
        witness.table_saved = value

    store.open()
    for turn in range(6):
        await send(1 + turn % 3)
    save(1)
    # two writes while one sync runs: the second one waits for the next sync
    messages = batch(2)
    witness.appended(store.append(messages[:1], HOST), messages[:1])
    store.write_pending()
    running = asyncio.ensure_future(store.sync())
    running.add_done_callback(lambda done: None if done.cancelled() else done.exception())  # the script may crash first
    await asyncio.sleep(0)
    witness.appended(store.append(messages[1:], HOST), messages[1:])
    store.write_pending()
    witness.acknowledge(store.flushed_end)
    await running
    witness.acknowledge(store.flushed_end)
    await store.sync()
    witness.acknowledge(store.flushed_end)
    await store.checkpoint()
    for _ in range(6):
        await send(2)
    save(2)
    cut_at = sorted(witness.acknowledged)[9]
    witness.cut_begins(cut_at)
    store.truncate_to(cut_at)
    witness.cut_done()
    for _ in range(4):
        await send(3)
    save(3)
    store.close()


def run(crash_at: int | None, flaws: frozenset[Flaw] = frozenset()) -> tuple[ForgetfulDisk, Witness, bool]:
    """Run the script until the power goes; returns the disk, the witness and whether it went."""
    disk = ForgetfulDisk(crash_at=crash_at)
    witness = Witness()
    store = new_store(disk, flaws=flaws)
    table = Table(disk, CONFIG_FOLDER, CONSUMER_OFFSETS)

    async def main() -> bool:
        tasks = asyncio.ensure_future(script(store, table, witness))
        try:
            await tasks
        except Crash:
            return True
        return False

    try:
        return disk, witness, asyncio.run(main())
    except Crash:  # a task that runs beside the script met it first
        return disk, witness, True


def verify(disk: ForgetfulDisk, witness: Witness) -> None:
    """Open what is left and compare it with what the witness was told. Raises AssertionError or the store's errors."""
    store = open_store(disk)
    try:
        for offset_log, (queue_id, offset_queue, body) in witness.acknowledged.items():
            record = store.message_at(offset_log)
            assert record is not None, f"acknowledged message at {offset_log} is gone"
            assert body in record
            found = store.read_queue(TOPIC, queue_id, offset_queue, 1, 1 << 20)
            assert [bytes(each) for each in found.records] == [record], f"queue {queue_id} lost offset {offset_queue}"
        seen = 0
        for topic, queue_id, begin, end in store.queues():
            assert topic == TOPIC
            assert begin == 0
            for offset_queue in range(begin, end):
                records = store.read_queue(topic, queue_id, offset_queue, 1, 1 << 20).records
                assert len(records) == 1
                offset_log = int.from_bytes(bytes(records[0])[28:36], "big")
                assert int.from_bytes(bytes(records[0])[20:28], "big") == offset_queue
                assert bytes(records[0]) == store.message_at(offset_log), "a garbled record is readable"
                bodies = [body for body in witness.written.get(offset_log, ()) if body in bytes(records[0])]
                assert bodies, f"nobody ever stored what lies at {offset_log}"
                assert not set(bodies) & witness.forbidden.get(offset_log, set()), f"cut message {bodies} came back"
                seen += 1
        assert seen >= len(witness.acknowledged)
        loaded = Table(disk, CONFIG_FOLDER, CONSUMER_OFFSETS).load()
        version = None if loaded is None else loaded["version"]
        assert version in {witness.table_saved, witness.table_tried}, f"table says {version}"
        # and the store goes on
        extra = store.append([message("after")], HOST)
        store.write_pending()
        assert asyncio.run(store.sync()) == extra.end
        assert store.message_at(extra.places[0].offset_log) is not None
    finally:
        store.close()


def operations() -> int:
    disk, witness, crashed = run(None)
    assert not crashed
    assert len(witness.acknowledged) >= 20
    assert len([line for line in disk.trace if line.startswith("create") and "commitlog" in line]) >= 3, "no roll-over"
    return disk.steps


@pytest.mark.parametrize("keep", list(Keep))
def test_every_acknowledged_message_survives_a_crash_at_every_operation(keep: Keep) -> None:
    total = operations()
    assert total > 100
    for crash_at in range(total):
        disk, witness, crashed = run(crash_at)
        assert crashed
        try:
            verify(disk.survivor(keep, seed=crash_at), witness)
        except Exception as error:
            last = disk.trace[-1] if disk.trace else "nothing"
            raise AssertionError(f"crash at operation {crash_at} after {last!r}: {error}") from error


def test_a_crash_during_recovery_harms_nothing() -> None:
    total = operations()
    for crash_at in range(0, total, 7):
        disk, witness, _ = run(crash_at)
        found = disk.survivor(Keep.SCATTERED, seed=crash_at)
        for second in range(0, 60, 4):
            again = disk.survivor(Keep.SCATTERED, seed=crash_at)
            again.crash_at = second
            try:
                store = open_store(again)
            except Crash:
                verify(again.survivor(Keep.PREFIX, seed=second), witness)
                continue
            again.crash_at = None
            store.close()
            verify(again.survivor(Keep.NOTHING), witness)
            break
        verify(found, witness)


@pytest.mark.flaws
def test_a_reply_before_the_fsync_is_caught() -> None:
    """The same proof, on a store with the planted flaw: it must fail, and for the right reason."""
    total = run(None, frozenset({Flaw.REPLY_BEFORE_FSYNC}))[0].steps
    caught = []
    for crash_at in range(total):
        disk, witness, _ = run(crash_at, frozenset({Flaw.REPLY_BEFORE_FSYNC}))
        try:
            verify(disk.survivor(Keep.NOTHING), witness)
        except AssertionError as error:
            caught.append(str(error))
    assert any("acknowledged message" in text for text in caught)


@pytest.mark.flaws
def test_an_ignored_sync_error_is_caught() -> None:
    for flaws, lost in ((frozenset[Flaw](), False), (frozenset({Flaw.IGNORE_FSYNC_ERROR}), True)):
        disk = ForgetfulDisk()
        store = open_store(disk, flaws=flaws)
        witness = Witness()
        messages = [message("promised")]
        witness.appended(store.append(messages, HOST), messages)
        store.write_pending()
        disk.fail_once("sync", "commitlog")
        try:
            asyncio.run(store.sync())
        except StoreFailed:
            assert not lost
        witness.acknowledge(store.flushed_end)
        assert bool(witness.acknowledged) is lost
        found = disk.survivor(Keep.NOTHING)
        if lost:
            with pytest.raises(AssertionError, match="acknowledged message"):
                verify_lenient(found, witness)
        else:
            verify(found, witness)


def verify_lenient(disk: ForgetfulDisk, witness: Witness) -> None:
    """Only whether the acknowledged messages are there, by a store that tolerates a lost tail or none."""
    try:
        store = open_store(disk, refuse_lost_tail=False)
    except StoreCorrupt as error:
        raise AssertionError(f"acknowledged message lost: {error}") from error
    for offset_log in witness.acknowledged:
        assert store.message_at(offset_log) is not None, "acknowledged message lost"


@pytest.mark.parametrize("keep", [Keep.NOTHING, Keep.SCATTERED])
def test_a_cut_makes_the_files_before_the_cut_one_durable_too(keep: Keep) -> None:
    """Unsynced records in two files, cut in the second: what is left is said to be durable, in both."""
    disk = ForgetfulDisk()
    store = open_store(disk)
    witness = Witness()
    ends = []
    for number in range(8):
        sent = [message(f"value-{number}-" + "x" * 300)]
        result = store.append(sent, HOST)
        witness.appended(result, sent)
        ends.append(result.end)
    store.write_pending()
    assert store.flushed_end == 0
    cut_at = ends[5]
    assert SMALL.segment_size < cut_at, "the cut is in the second file"
    store.truncate_to(cut_at)
    assert store.flushed_end == cut_at
    witness.acknowledge(store.flushed_end)
    assert len(witness.acknowledged) == 6
    verify(disk.survivor(keep, seed=1), witness)
