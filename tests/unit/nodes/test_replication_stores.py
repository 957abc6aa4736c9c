"""Replication between real stores on a real disk, over loopback."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

from nodes.clock import SystemClock
from nodes.flaws import Flaw
from nodes.log import EventLog
from nodes.replication.driver import Primary, Replica
from nodes.replication.lineage import Lineage
from nodes.replication.ports import Identity, Timing
from nodes.store.disk import RealDisk
from nodes.store.results import MessageIn
from nodes.store.settings import StoreConfig
from nodes.store.store import MessageStore
from tests.unit.nodes.replication_world import MemoryLog, MemoryTables

HOST = (bytes([127, 0, 0, 1]), 10911)
DEADLINE_S = 60.0


def message(number: int, body: bytes, topic: str = "t") -> MessageIn:
    return MessageIn(topic, number % 4, body, "", 0, 0, 1_000, HOST)


class Site:
    """A broker's store and epoch file in a folder."""

    def __init__(
        self, folder: Path, name: str, *, segment: int = 1 << 20, flaws: frozenset[Flaw] = frozenset()
    ) -> None:
        self.folder = folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.disk = RealDisk()
        self.events = EventLog(name)
        self.rng = Random(name)
        self.flaws: frozenset[Flaw] = frozenset()
        self.config = StoreConfig(str(self.folder), segment_size=segment, disk_warning_ratio=100)
        self.tables = MemoryTables(MemoryLog())
        self.store = self.opened()
        self.count = 0

    def opened(self) -> MessageStore:
        self.store = MessageStore(self.disk, self.config, SystemClock(), self.events, self.flaws)
        self.store.open()
        return self.store

    def lineage(self) -> Lineage:
        return Lineage.open(
            self.disk,
            str(self.folder / "epochs"),
            log_begin=self.store.min_offset,
            log_end=self.store.written_end,
            rng=self.rng,
        )

    def primary(self, timing: Timing | None = None) -> Primary:
        lineage = self.lineage()
        lineage.mint(self.store.min_offset, self.store.written_end, self.rng, self.flaws)
        return Primary(
            self.store,
            lineage,
            self.tables,
            Identity("broker-a", 0),
            log=self.events,
            timing=timing or Timing(),
            flaws=self.flaws,
        )

    def replica(self) -> Replica:
        return Replica(
            self.store,
            self.lineage(),
            self.tables,
            Identity("broker-a", 1),
            disk=self.disk,
            marks_path=str(self.folder / "progress"),
            log=self.events,
            flaws=self.flaws,
        )

    def write(self, primary: Primary | None, count: int, size: int = 100) -> int:
        """Append `count` messages with contents of their own."""
        for _ in range(count):
            self.count += 1
            body = b"%s %d " % (self.name.encode(), self.count)
            self.store.append([message(self.count, body.ljust(size, b"."))], HOST)
        end = self.store.write_pending()
        if primary is not None:
            primary.notify()
        return end

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((self.folder / "commitlog").iterdir())}

    def queues(self) -> dict[tuple[str, int], bytes]:
        return {
            (bounds.topic, bounds.queue_id): self.store.index_entries(bounds.topic, bounds.queue_id, 0, 1 << 20)
            for bounds in self.store.queues()
        }


async def acknowledged(primary: Primary, end: int) -> None:
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while primary.acked(2) < end:
        assert asyncio.get_running_loop().time() < deadline, f"{primary.acked(2)} of {end} acknowledged"
        await asyncio.sleep(0.002)


@pytest.mark.parametrize("segment", [4096, 1 << 20], ids=["many small files", "one file"])
def test_the_files_of_two_stores_are_equal(tmp_path: Path, segment: int) -> None:
    async def story() -> None:
        master, slave = Site(tmp_path, "master", segment=segment), Site(tmp_path, "slave", segment=segment)
        master.write(None, 50)
        primary = master.primary()
        port = await primary.start("127.0.0.1", 0)
        replica = slave.replica()
        replica.start(f"127.0.0.1:{port}")
        for _ in range(40):
            end = master.write(primary, 7, size=master.rng.randrange(1, 900))
            await asyncio.sleep(0)
        await acknowledged(primary, end)
        assert slave.files() == master.files()
        assert slave.queues() == master.queues()
        assert len(slave.queues()) == 4
        replica.stop()
        await primary.stop()
        master.store.close()
        slave.store.close()

    asyncio.run(story())


@pytest.mark.parametrize("segment", [4096, 1 << 20], ids=["many small files", "one file"])
def test_a_diverged_store_is_cut_and_copied(tmp_path: Path, segment: int) -> None:
    """The slave is promoted, the old master comes back with a tail of its own, roles change a few times."""

    async def story() -> None:
        one, two = Site(tmp_path, "one", segment=segment), Site(tmp_path, "two", segment=segment)
        leader, follower = one, two
        for _ in range(4):
            primary = leader.primary()
            port = await primary.start("127.0.0.1", 0)
            replica = follower.replica()
            replica.start(f"127.0.0.1:{port}")
            end = leader.write(primary, 30, size=300)
            await acknowledged(primary, end)
            assert follower.files() == leader.files()
            assert follower.queues() == leader.queues()
            replica.stop()
            leader.write(primary, 25, size=200)  # nobody else gets these
            await primary.stop()
            leader, follower = follower, leader
        one.store.close()
        two.store.close()
        one.opened()
        two.opened()
        end = min(one.store.written_end, two.store.written_end)
        assert one.store.read_log(0, 3000) == two.store.read_log(0, 3000)
        assert end > 0
        one.store.close()
        two.store.close()

    asyncio.run(story())


def test_a_replica_of_a_trimmed_primary_begins_with_its_first_file(tmp_path: Path) -> None:
    async def story() -> None:
        master, slave = Site(tmp_path, "master", segment=4096), Site(tmp_path, "slave", segment=4096)
        # The slave has a history of its own, which agrees with nobody's.
        slave.lineage().mint(0, 0, slave.rng)
        slave.write(None, 60)
        master.write(None, 100)
        for _ in range(3):
            master.store._log.drop_oldest()
        master.store._queues.drop_before(master.store.min_offset)
        assert master.store.min_offset == 3 * 4096
        primary = master.primary()
        port = await primary.start("127.0.0.1", 0)
        replica = slave.replica()
        cuts: list[int] = []
        replica.on_cut = cuts.append
        replica.start(f"127.0.0.1:{port}")
        end = master.write(primary, 10)
        await acknowledged(primary, end)
        assert slave.files() == master.files()
        assert cuts == [3 * 4096]
        replica.stop()
        await primary.stop()
        master.store.close()
        slave.store.close()
        assert slave.opened().min_offset == 3 * 4096
        slave.store.close()

    asyncio.run(story())


def test_stores_with_other_file_sizes_refuse_each_other(tmp_path: Path) -> None:
    """Files would not be equal; the replica says so and acknowledges nothing."""

    async def story() -> None:
        master, slave = Site(tmp_path, "master", segment=4096), Site(tmp_path, "slave", segment=8192)
        primary = master.primary()
        port = await primary.start("127.0.0.1", 0)
        replica = slave.replica()
        replica.start(f"127.0.0.1:{port}")
        end = master.write(primary, 60)
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        while replica.failed is None:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.002)
        assert "segments differ" in replica.failed
        assert primary.acked(2) < end
        await primary.stop()
        master.store.close()
        slave.store.close()

    asyncio.run(story())


def test_a_failed_fsync_of_the_slave_ends_its_acknowledgements(tmp_path: Path) -> None:
    async def story() -> None:
        master, slave = Site(tmp_path, "master"), Site(tmp_path, "slave")
        primary = master.primary()
        port = await primary.start("127.0.0.1", 0)
        replica = slave.replica()
        replica.start(f"127.0.0.1:{port}")
        good = master.write(primary, 5)
        await acknowledged(primary, good)

        async def refuse(*_args: object) -> None:
            raise OSError(5, "input/output error")

        slave.disk.sync_async = refuse  # type: ignore[method-assign, assignment]
        with pytest.raises(Exception, match="input/output error"):
            await slave.store.sync()
        master.write(primary, 5)
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        while primary.in_sync():
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.002)
        assert primary.acked(2) == good
        assert replica.failed is not None
        replica.stop()
        await primary.stop()
        master.store.close()
        slave.store.close()

    asyncio.run(story())
