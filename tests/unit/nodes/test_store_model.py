"""The store against a model: lists of messages, with crashes, restarts, truncations and full syncs in any order."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nodes.remoting.message import decode_record
from nodes.store.store import MessageStore
from tests.unit.nodes.forgetful_disk import ForgetfulDisk, Keep
from tests.unit.nodes.store_samples import HOST, TOPIC, message, open_store

QUEUES = 3


@dataclass
class Entry:
    """One message of the model."""

    offset_log: int
    end: int
    queue_id: int
    body: bytes


class StoreMachine(RuleBasedStateMachine):
    """`log` is what the store must hold up to its own `flushed_end`, and may hold beyond."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = ForgetfulDisk()
        self.store: MessageStore = open_store(self.disk)
        self.log: list[Entry] = []
        self.end = 0
        """Where the next record or filler goes; behind the last message where a cut or a crash left a filler."""
        self.number = 0

    @rule(sizes=st.lists(st.integers(0, 400), min_size=1, max_size=5), queue_id=st.integers(0, QUEUES - 1))
    def append(self, sizes: list[int], queue_id: int) -> None:
        messages = []
        for size in sizes:
            self.number += 1
            messages.append(
                message(f"{self.number}|".encode() + b"x" * size, queue_id=queue_id, unique=f"U{self.number}")
            )
        result = self.store.append(messages, HOST)
        for place, sent in zip(result.places, messages, strict=True):
            expected = sum(entry.queue_id == queue_id for entry in self.log)
            assert place.offset_queue == expected
            self.log.append(Entry(place.offset_log, place.offset_log + place.size, queue_id, sent.body))
        self.end = result.end
        assert result.end == self.log[-1].end

    @rule()
    def write(self) -> None:
        end = self.store.write_pending()
        assert end == self.end

    @rule()
    def sync(self) -> None:
        assert asyncio.run(self.store.sync()) == self.store.written_end

    @rule()
    def checkpoint(self) -> None:
        asyncio.run(self.store.checkpoint())

    @rule()
    def close_and_open(self) -> None:
        self.store.close()
        self.store = open_store(self.disk)
        assert self.store.written_end == self.end

    @rule()
    def kill(self) -> None:
        """What was written stays, what was only appended is gone."""
        end = self.store.written_end
        self.disk.kill()
        self.store = open_store(self.disk)
        assert self.store.written_end == end
        self.end = end
        self.log = [entry for entry in self.log if entry.end <= end]

    @rule(keep=st.sampled_from(list(Keep)), seed=st.integers(0, 1000))
    def lose_power(self, keep: Keep, seed: int) -> None:
        """What was flushed stays; of the rest a prefix."""
        flushed, written = self.store.flushed_end, self.store.written_end
        self.disk = self.disk.survivor(keep, seed)
        self.store = open_store(self.disk)
        self.end = self.store.written_end
        assert flushed <= self.end
        self.log = [entry for entry in self.log if entry.end <= self.store.written_end]
        assert self.store.written_end <= max(written, 2048 * (written // 2048 + 1))

    @precondition(lambda self: any(entry.end <= self.store.written_end for entry in self.log))
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        written = [entry for entry in self.log if entry.end <= self.store.written_end]
        chosen = data.draw(st.sampled_from(written))
        self.store.truncate_to(chosen.offset_log)
        self.end = chosen.offset_log
        self.log = [entry for entry in self.log if entry.offset_log < chosen.offset_log]

    @rule(chunk=st.integers(50, 3000))
    def replicate_to_an_empty_replica(self, chunk: int) -> None:
        replica = open_store(ForgetfulDisk())
        while replica.raw_end < self.store.written_end:
            replica.append_raw(replica.raw_end, self.store.read_log(replica.raw_end, chunk))
        asyncio.run(replica.sync())
        assert replica.written_end == self.store.written_end
        self.compare(replica, replica.written_end)

    @invariant()
    def visible_is_what_was_flushed(self) -> None:
        assert self.store.visible_end == self.store.flushed_end <= self.store.written_end
        self.compare(self.store, self.store.flushed_end)

    def compare(self, store: MessageStore, end: int) -> None:
        for queue_id in range(QUEUES):
            wanted = [entry for entry in self.log if entry.queue_id == queue_id and entry.end <= end]
            assert store.queue_bounds(TOPIC, queue_id) == (0, len(wanted))
            records = store.read_queue(TOPIC, queue_id, 0, 10_000, 1 << 30).records
            found = [decode_record(record, check_crc=True) for record in records]
            assert [each.body for each in found] == [entry.body for entry in wanted]
            assert [each.offset_log for each in found] == [entry.offset_log for entry in wanted]
            assert [each.queue_offset for each in found] == list(range(len(wanted)))
        visible = [entry for entry in self.log if entry.end <= end]
        if visible:
            key = "U" + visible[-1].body.split(b"|")[0].decode()
            assert len(store.query_by_key(TOPIC, key, 9, 0, 1 << 60)) == 1


TestStoreModel = StoreMachine.TestCase
TestStoreModel.settings = settings(
    max_examples=50,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
