"""Replication over real sockets on loopback: following, reconnecting, half-open peers, garbage."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import pytest
import uvloop

from nodes.flaws import Flaw
from nodes.log import EventLog
from nodes.replication.driver import Primary, Replica
from nodes.replication.epochs import EpochTable
from nodes.replication.frames import Ack, Data, Hello, TableKind, encode
from nodes.replication.limits import SESSIONS_MAX
from nodes.replication.lineage import Lineage
from nodes.replication.ports import Identity, Timing
from tests.unit.nodes.replication_world import MemoryDisk, MemoryLog, MemoryTables, record

DEADLINE_S = 30.0


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for it; fail with its name."""
    end = asyncio.get_running_loop().time() + DEADLINE_S
    while not condition():
        assert asyncio.get_running_loop().time() < end, f"not within {DEADLINE_S} s: {what}"
        await asyncio.sleep(0.002)


@dataclass
class Site:
    """A node's parts."""

    name: str
    broker_id: int
    log: MemoryLog = field(default_factory=MemoryLog)
    disk: MemoryDisk = field(default_factory=MemoryDisk)
    timing: Timing = field(default_factory=Timing)
    flaws: frozenset[Flaw] = frozenset()

    def __post_init__(self) -> None:
        self.tables = MemoryTables(self.log)
        self.rng = Random(self.name)
        self.events = EventLog(self.name)

    def lineage(self) -> Lineage:
        return Lineage.open(
            self.disk, "epochs", log_begin=self.log.min_offset, log_end=self.log.written_end, rng=self.rng
        )

    def primary(self) -> Primary:
        lineage = self.lineage()
        lineage.mint(self.log.min_offset, self.log.written_end, self.rng)
        return Primary(
            self.log,
            lineage,
            self.tables,
            Identity("broker-a", 0),
            log=self.events,
            timing=self.timing,
            flaws=self.flaws,
        )

    def replica(self) -> Replica:
        return Replica(
            self.log,
            self.lineage(),
            self.tables,
            Identity("broker-a", self.broker_id),
            disk=self.disk,
            marks_path="marks",
            log=self.events,
            timing=self.timing,
            flaws=self.flaws,
        )

    def write(self, primary: Primary, content: bytes) -> int:
        self.log.data += record(content)
        primary.notify()
        return self.log.written_end


@asynccontextmanager
async def serving(site: Site) -> AsyncIterator[tuple[Primary, str]]:
    primary = site.primary()
    port = await primary.start("127.0.0.1", 0)
    try:
        yield primary, f"127.0.0.1:{port}"
    finally:
        await primary.stop()


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(4 * DEADLINE_S):
            await story()

    asyncio.run(bounded())
    uvloop.run(bounded())


def test_a_replica_copies_and_acknowledges() -> None:
    async def story() -> None:
        master, slave = Site("master", 0), Site("slave", 1)
        master.tables.topics = {"t": 4}
        acks: list[int] = []
        async with serving(master) as (primary, address):
            primary.on_ack = lambda: acks.append(primary.acked(2))
            first = master.write(primary, b"before")
            replica = slave.replica()
            written: list[int] = []
            replica.on_written = written.append
            replica.start(address)
            await until(lambda: primary.acked(2) == first, "the backlog is acknowledged")
            for number in range(2000):
                end = master.write(primary, b"m%d" % number)
                if number % 50 == 0:
                    await asyncio.sleep(0)
            await until(lambda: primary.acked(2) == end, "all is acknowledged")
            assert slave.log.data == master.log.data
            await until(lambda: written[-1:] == [end], "the replica's broker is told")
            assert acks == sorted(acks)
            assert acks[-1] == end
            assert primary.in_sync() == 1
            assert primary.acked(1) == end
            assert primary.acked(3) == 0
            assert [(state.broker_id, state.ack, state.connected) for state in primary.replicas()] == [(1, end, True)]
            assert slave.tables.topics == {"t": 4}
            replica.stop()
            await until(lambda: primary.in_sync() == 0, "the primary sees that the replica has gone")
            assert primary.acked(2) == end, "what was acknowledged stays true"

    run(story)


def test_a_record_larger_than_a_batch_travels_whole() -> None:
    async def story() -> None:
        master, slave = Site("master", 0, timing=Timing(batch_max=1024)), Site("slave", 1)
        async with serving(master) as (primary, address):
            for size in (10, 5_000_000, 20, 1020, 1021, 30):
                end = master.write(primary, b"x" * size)
            replica = slave.replica()
            replica.start(address)
            await until(lambda: primary.acked(2) == end, "all is acknowledged")
            assert slave.log.data == master.log.data
            replica.stop()

    run(story)


def test_a_new_topic_arrives_at_once_and_offsets_soon() -> None:
    async def story() -> None:
        master, slave = Site("master", 0), Site("slave", 1)
        async with serving(master) as (primary, address):
            replica = slave.replica()
            replica.start(address)
            await until(lambda: replica.following, "the replica follows")
            master.tables.topics = {"new": 8}
            master.tables.touch(TableKind.TOPICS)
            primary.tables_changed()
            await until(lambda: slave.tables.topics == {"new": 8}, "the topic is there")
            master.tables.offsets = {"new@g": {0: 17}}
            master.tables.touch(TableKind.CONSUMER_OFFSETS)
            await until(lambda: slave.tables.offsets == {"new@g": {0: 17}}, "the offset is there")
            master.tables.offsets = {"new@g": {0: 3}}
            master.tables.touch(TableKind.CONSUMER_OFFSETS)
            primary.offsets_reset({"new@g": {0: 3}})
            await until(lambda: slave.tables.offsets == {"new@g": {0: 3}}, "an operator's reset goes down")
            replica.stop()

    run(story)


def test_progress_on_the_replica_survives_the_return_of_the_primary() -> None:
    """RocketMQ issue 1094: consumers went on at the replica; the old master comes back with its old offsets."""

    async def story() -> None:
        master, slave = Site("master", 0), Site("slave", 1)
        master.tables.offsets = {"t@g": {0: 10}}
        master.tables.queue_ends = {("t@g", 0): 40}
        replica = slave.replica()
        async with serving(master) as (primary, address):
            replica.start(address)
            await until(lambda: slave.tables.offsets == {"t@g": {0: 10}}, "the offsets are there")
        await until(lambda: not replica.following, "the master is away")
        slave.tables.offsets = {"t@g": {0: 30}}
        replica.consumer_committed("t@g", 0, 30)
        replica.stop()
        # The slave is restarted too: its marks are on disk.
        replica = slave.replica()
        async with serving(master) as (primary, address):
            replica.start(address)
            await until(lambda: master.tables.offsets == {"t@g": {0: 30}}, "the master has learned of it")
            await until(lambda: replica.following, "the replica follows")
            assert slave.tables.offsets == {"t@g": {0: 30}}
            # Once merged, the primary's table is the truth again, downwards too.
            await until(lambda: not replica._marks.progress(), "the mark is gone")
            master.tables.offsets = {"t@g": {0: 5}}
            master.tables.touch(TableKind.CONSUMER_OFFSETS)
            await until(lambda: slave.tables.offsets == {"t@g": {0: 5}}, "a rewind goes down")
            assert primary.in_sync() == 1
        replica.stop()

    run(story)


def test_a_replica_reconnects_to_a_restarted_primary_and_is_cut() -> None:
    async def story() -> None:
        master, slave = Site("master", 0), Site("slave", 1)
        replica = slave.replica()
        cuts: list[int] = []
        replica.on_cut = cuts.append
        async with serving(master) as (primary, address):
            for number in range(10):
                end = master.write(primary, b"old %d" % number)
            replica.start(address)
            await until(lambda: primary.acked(2) == end, "all is acknowledged")
        del master.log.data[master.log.ends()[6] :]  # power loss: four messages are gone
        lost_from = master.log.written_end
        primary = master.primary()
        await primary.start("127.0.0.1", int(address.rpartition(":")[2]))
        await until(lambda: primary.acked(2) == lost_from, "the replica has been cut and says so")
        assert cuts == [lost_from]
        for number in range(10):
            end = master.write(primary, b"new %d" % number)
        await until(lambda: primary.acked(2) == end, "the new ones are acknowledged")
        assert slave.log.data == master.log.data
        replica.stop()
        await primary.stop()

    run(story)


async def talk(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


HELLO = Hello("broker-a", "f" * 16, 9, 0, 0, 0, (0, ""), EpochTable())


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(64),
        b"\xff" * 64,
        encode(HELLO)[:-1] + b"\xff\xff",
        encode(Ack(1, 0)),
        encode(Data(1, 0, b"data")),
        encode(HELLO).replace(b"BLHA", b"XXXX"),
        bytes([*encode(HELLO)[:4], 2, *encode(HELLO)[5:]]),
        encode(HELLO) + encode(HELLO),
        encode(HELLO) + encode(Ack(1, 10**15)),
        encode(HELLO) + encode(Ack(77, 0)),
        encode(Hello("broker-b", "e" * 16, 9, 0, 0, 0, (0, ""), EpochTable())),
    ],
    ids=[
        "http",
        "zeros",
        "ones",
        "torn hello",
        "ack first",
        "data",
        "magic",
        "version",
        "two hellos",
        "ack of the future",
        "ack of another epoch",
        "other group",
    ],
)
def test_garbage_closes_only_its_own_connection(garbage: bytes) -> None:
    async def story() -> None:
        master, slave = Site("master", 0), Site("slave", 1)
        async with serving(master) as (primary, address):
            replica = slave.replica()
            replica.start(address)
            await until(lambda: primary.in_sync() == 1, "the replica follows")
            reader, writer = await talk(address)
            writer.write(garbage)
            async with asyncio.timeout(DEADLINE_S):
                while await reader.read(65536):
                    pass
            writer.close()
            end = master.write(primary, b"after the garbage")
            await until(lambda: primary.acked(2) == end, "the replica goes on")
            assert primary.in_sync() == 1
            replica.stop()

    run(story)


def test_a_half_open_replica_is_noticed() -> None:
    """A host that vanished says nothing: its connection ends after haHousekeepingInterval, not before."""

    async def story() -> None:
        master = Site("master", 0, timing=Timing(heartbeat_s=0.05, housekeeping_s=0.4))
        async with serving(master) as (primary, address):
            _reader, writer = await talk(address)
            writer.write(encode(HELLO) + encode(Ack(primary.epoch.number, 0)))
            await until(lambda: primary.in_sync() == 1, "it counts")
            began = asyncio.get_running_loop().time()
            await until(lambda: primary.in_sync() == 0, "it does not count any more")
            assert asyncio.get_running_loop().time() - began >= 0.25
            writer.close()

    run(story)


def test_a_silent_primary_is_given_up_and_found_again() -> None:
    async def story() -> None:
        timing = Timing(heartbeat_s=0.05, housekeeping_s=0.4)
        slave = Site("slave", 1, timing=timing)
        accepted: list[asyncio.StreamWriter] = []

        async def swallow(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.append(writer)

        server = await asyncio.start_server(swallow, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        replica = slave.replica()
        replica.start(f"127.0.0.1:{port}")
        await until(lambda: len(accepted) == 1, "it connects")
        assert not replica.following
        for writer in accepted:
            writer.transport.abort()
        server.close()
        await server.wait_closed()
        master = Site("master", 0, timing=timing)
        primary = master.primary()
        await primary.start("127.0.0.1", port)
        await until(lambda: primary.in_sync() == 1, "it follows the real one")
        quiet = asyncio.get_running_loop().time() + 1.0
        while asyncio.get_running_loop().time() < quiet:
            assert primary.in_sync() == 1, "heartbeats keep an idle connection alive"
            await asyncio.sleep(0.05)
        replica.stop()
        await primary.stop()

    run(story)


def test_a_connection_that_says_nothing_does_not_keep_a_place_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        monkeypatch.setattr("nodes.replication.primary.HELLO_TIMEOUT_S", 0.2)
        master, slave = Site("master", 0), Site("slave", 1)
        async with serving(master) as (primary, address):
            silent = [await talk(address) for _ in range(SESSIONS_MAX)]
            replica = slave.replica()
            replica.start(address)
            await until(lambda: primary.in_sync() == 1, "a real replica finds room")
            for _, writer in silent:
                writer.close()
            replica.stop()

    run(story)


def test_a_replica_of_an_empty_log_says_when_it_was_compared() -> None:
    """Its acknowledged end is 0 before and after: only the word tells that the master counts it."""

    async def story() -> None:
        master = Site("master", 0)
        async with serving(master) as (primary, address):
            _reader, writer = await talk(address)
            writer.write(encode(HELLO))
            await until(lambda: len(primary.replicas()) == 1, "it is known")
            (state,) = primary.replicas()
            assert (state.connected, state.compared, state.ack, primary.in_sync()) == (True, False, 0, 0)
            writer.write(encode(Ack(primary.epoch.number, 0)))
            await until(lambda: primary.in_sync() == 1, "it counts")
            (state,) = primary.replicas()
            assert (state.connected, state.compared, state.ack) == (True, True, 0)
            writer.close()

    run(story)


def test_two_connections_of_one_store_are_one_copy() -> None:
    async def story() -> None:
        master = Site("master", 0)
        async with serving(master) as (primary, address):
            end = master.write(primary, b"m")
            first, first_writer = await talk(address)
            first_writer.write(encode(HELLO) + encode(Ack(primary.epoch.number, 0)))
            await until(lambda: primary.in_sync() == 1, "it counts once")
            _second, second_writer = await talk(address)
            second_writer.write(encode(HELLO))
            async with asyncio.timeout(DEADLINE_S):
                while await first.read(65536):
                    pass
            second_writer.write(encode(Ack(primary.epoch.number, end)))
            await until(lambda: primary.acked(2) == end, "the newer one acknowledges")
            assert primary.acked(3) == 0
            assert len(primary.replicas()) == 1
            first_writer.close()
            second_writer.close()

    run(story)


def test_a_store_that_fails_acknowledges_nothing_and_goes_away() -> None:
    async def story() -> None:
        master, slave = Site("master", 0), Site("slave", 1)
        async with serving(master) as (primary, address):
            replica = slave.replica()
            replica.start(address)
            good = master.write(primary, b"good")
            await until(lambda: primary.acked(2) == good, "the first is acknowledged")
            slave.log.failed = "fsync: input/output error"
            master.write(primary, b"never on the slave")
            await until(lambda: primary.in_sync() == 0, "the primary sees it at once")
            assert primary.acked(2) == good
            assert replica.failed is not None
            replica.start(address)
            assert replica.address == address
            assert not replica.following

    run(story)


def test_a_replica_that_is_moved_follows_the_new_primary() -> None:
    async def story() -> None:
        one, two, slave = Site("one", 0), Site("two", 0), Site("slave", 1)
        async with serving(one) as (first, first_address):
            replica = slave.replica()
            replica.start(first_address)
            end = one.write(first, b"from one")
            await until(lambda: first.acked(2) == end, "it follows the first")
            two.lineage().note(5)
            async with serving(two) as (second, second_address):
                replica.start(second_address)
                other = two.write(second, b"from two, another history")
                await until(lambda: second.acked(2) == other, "it follows the second")
                assert slave.log.data == two.log.data
                await until(lambda: first.in_sync() == 0, "the first is left")
                replica.start(first_address)
                await until(lambda: second.in_sync() == 0, "the second is left")
                for _ in range(50):
                    assert first.in_sync() == 0, "an older primary is not followed again"
                    await asyncio.sleep(0.01)
                assert slave.log.data == two.log.data
                replica.stop()

    run(story)


def test_an_address_nobody_listens_on_is_tried_again() -> None:
    async def story() -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        master, slave = Site("master", 0), Site("slave", 1)
        replica = slave.replica()
        replica.start(f"127.0.0.1:{port}")
        await asyncio.sleep(0)
        primary = master.primary()
        await primary.start("127.0.0.1", port)
        await until(lambda: primary.in_sync() == 1, "it is found")
        replica.stop()
        await primary.stop()

    run(story)
