"""A replica's log and epoch file on a disk that forgets, crashed at every single operation.

The script makes one replica follow a primary, be cut, be promoted, come back, and be re-seeded by a stranger. Whatever
is left after a power cut must satisfy the one sentence that everything relies on: a byte that the table attributes to
an epoch was written by that epoch. And the survivor must become a copy of its primary again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import pytest

from nodes.replication.carrying import carry_out
from nodes.replication.epochs import Epoch
from nodes.replication.frames import Decoder
from nodes.replication.lineage import Lineage
from nodes.replication.ports import Identity
from nodes.replication.primary import Close, Noted, PrimaryMachine, Send
from nodes.replication.progress import Marks
from nodes.replication.replica import Adopt, Cut, Disown, Do, Phase, ReplicaMachine, Reseed
from nodes.store.store import MessageStore
from tests.unit.nodes.forgetful_disk import Crash, ForgetfulDisk, Keep
from tests.unit.nodes.replication_world import MemoryLog, MemoryTables
from tests.unit.nodes.store_samples import HOST, message, new_store

EPOCHS = "/store/config/epochs.json"
GROUP = Identity("broker-a", 1)
Order = Callable[[Sequence[Do]], list[Do]]


def as_decided(actions: Sequence[Do]) -> list[Do]:
    return list(actions)


def table_before_cut(actions: Sequence[Do]) -> list[Do]:
    """A mistake: the primary's table is taken over while the old bytes are still there."""
    return sorted(actions, key=lambda action: not isinstance(action, Adopt))


def table_not_taken_over(actions: Sequence[Do]) -> list[Do]:
    """A mistake: bytes of a new epoch under the old table."""
    return [action for action in actions if not isinstance(action, Adopt)]


@dataclass
class Broker:
    """A store with its epoch file; `machine` while it is primary."""

    name: str
    disk: ForgetfulDisk = field(default_factory=ForgetfulDisk)

    def __post_init__(self) -> None:
        self.rng = Random(self.name)
        self.tables = MemoryTables(MemoryLog())
        self.count = self.meetings = 0
        self.machine: PrimaryMachine | None = None
        self.open()

    def open(self) -> None:
        self.store: MessageStore = new_store(self.disk, refuse_lost_tail=False)
        self.store.open()
        self.disk.makedirs("/store/config")
        self.lineage = Lineage.open(
            self.disk, EPOCHS, log_begin=self.store.min_offset, log_end=self.store.written_end, rng=self.rng
        )

    def lead(self) -> Epoch:
        epoch = self.lineage.mint(self.store.min_offset, self.store.written_end, self.rng)
        self.machine = PrimaryMachine(
            Identity("broker-a", 0),
            self.lineage.store_id,
            epoch,
            self.lineage.table,
            self.store,
            self.tables,
            highest=self.lineage.highest,
        )
        return epoch

    def append(self, count: int) -> None:
        for _ in range(count):
            self.count += 1
            self.store.append([message(f"{self.name} {self.count} ".ljust(150, "."), queue_id=self.count % 2)], HOST)
            self.store.write_pending()


class Meeting:
    """Replica and primary exchange frames until nothing moves; the order of a replica's actions can be spoilt."""

    def __init__(self, primary: Broker, order: Order = as_decided) -> None:
        self.primary = primary
        self.order = order
        self.to_primary: list[bytes] = []
        self.number = 0

    def tell(self, data: bytes) -> None:
        self.to_primary.append(data)

    def leave(self, reason: str) -> None:
        raise AssertionError(reason)

    def told(self, name: str, fields: dict[str, object]) -> None:
        pass

    def cut(self, offset: int) -> None:
        pass

    def follow(self, replica: Broker) -> None:
        """Connect and copy everything. Crash passes through."""
        machine = self.primary.machine
        assert machine is not None
        self.primary.meetings += 1
        self.number = self.primary.meetings
        follower = ReplicaMachine(GROUP, replica.lineage.store_id, Marks())
        up, down = Decoder(), Decoder()
        machine.connected(self.number, "replica", 0.0)
        store, lineage = replica.store, replica.lineage
        self._carry(
            replica,
            follower.connected(
                lineage.claims(store.written_end),
                lineage.highest,
                lineage.followed,
                store.min_offset,
                store.written_end,
                0.0,
            ),
        )
        while self.to_primary:
            actions = machine.received(self.number, up.feed(self.to_primary.pop(0)), 0.0)
            for action in actions:
                match action:
                    case Send(number, data) if number == self.number:
                        self._carry(replica, follower.received(down.feed(data), 0.0))
                        self._carry(replica, follower.stored(store.written_end, 0.0))
                    case Noted(highest):
                        self.primary.lineage.note(highest)
                    case Close(number, reason) if number == self.number:
                        raise AssertionError(reason)
        assert follower.phase is Phase.FOLLOWING
        machine.disconnected(self.number)

    def _carry(self, replica: Broker, actions: list[Do]) -> None:
        carry_out(self.order(actions), replica.store, replica.lineage, replica.tables, self)


def record_ends(store: MessageStore) -> list[int]:
    ends, position = [], store.min_offset
    while position < store.written_end:
        position += int.from_bytes(store.read_log(position, 4), "big")
        ends.append(position)
    return ends


@dataclass
class Truth:
    """Who wrote what: epoch id to (first offset, bytes)."""

    wrote: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def learn(self, broker: Broker) -> None:
        """The author of the newest epoch tells what it has written in it."""
        epoch = broker.lineage.table.last
        assert epoch is not None
        begin = max(epoch.start_offset, broker.store.min_offset)
        self.wrote[epoch.id] = (begin, everything(broker.store, begin))

    def lies(self, broker: Broker) -> list[str]:
        """Bytes that the table attributes to an epoch that did not write them."""
        found = []
        end = broker.store.written_end
        entries = list(broker.lineage.claims(end))
        for number, epoch in enumerate(entries):
            stop = entries[number + 1].start_offset if number + 1 < len(entries) else end
            begin = max(epoch.start_offset, broker.store.min_offset)
            start, data = self.wrote.get(epoch.id, (0, b""))
            mine = everything(broker.store, begin)[: max(0, stop - begin)]
            if begin < stop and mine != data[begin - start : stop - start]:
                found.append(f"epoch {epoch.number} did not write {begin}..{stop}")
        return found


def everything(store: MessageStore, begin: int) -> bytes:
    parts = []
    while begin < store.written_end:
        part = store.read_log(begin, 1 << 20)
        assert part
        parts.append(part)
        begin += len(part)
    return b"".join(parts)


def script(disk: ForgetfulDisk, order: Order, truth: Truth) -> tuple[Broker | None, bool]:
    """The replica's life. Returns the primary that was to be followed last, and whether the power went."""
    master, stranger = Broker("master"), Broker("stranger")
    current: list[Broker] = [master]

    async def life() -> None:
        replica = Broker("replica", disk)
        master.lead()
        master.append(3)
        meeting = Meeting(master, order)
        meeting.follow(replica)
        await replica.store.sync()
        master.append(12)
        truth.learn(master)
        meeting.follow(replica)
        # The master loses its tail and comes back; the replica is ahead and in part not synced.
        master.store.truncate_to(record_ends(master.store)[4])
        master.lead()
        master.append(6)
        truth.learn(master)
        Meeting(master, order).follow(replica)
        await replica.store.sync()
        # The replica is promoted and writes; then the master, which has other bytes there, is followed again.
        replica.lead()
        replica.append(4)
        await replica.store.sync()
        replica.append(2)
        truth.learn(replica)
        master.append(3)
        truth.learn(master)
        master.lead()
        master.append(2)
        truth.learn(master)
        Meeting(master, order).follow(replica)
        replica.store.write_pending()
        # A stranger whose log begins late takes over: everything is thrown away.
        stranger.lineage.note(20)
        stranger.lead()
        stranger.append(30)
        while stranger.store.min_offset < 4096:
            stranger.store._log.drop_oldest()
        stranger.store._queues.drop_before(stranger.store.min_offset)
        truth.learn(stranger)
        current[0] = stranger
        Meeting(stranger, order).follow(replica)
        await replica.store.sync()

    try:
        asyncio.run(life())
    except Crash:
        return current[0], True
    return current[0], False


def crashed_at(step: int, order: Order, truth: Truth) -> tuple[ForgetfulDisk, Broker | None]:
    disk = ForgetfulDisk(crash_at=step)
    primary, crashed = script(disk, order, truth)
    assert crashed
    return disk, primary


def whole(order: Order = as_decided) -> tuple[int, Truth]:
    """The script without a crash: the number of operations, and the truth."""
    truth = Truth()
    disk = ForgetfulDisk()
    _, crashed = script(disk, order, truth)
    assert not crashed
    return disk.steps, truth


@pytest.mark.parametrize("keep", list(Keep))
def test_a_table_tells_the_truth_after_a_crash_at_every_operation(keep: Keep) -> None:
    steps, truth = whole()
    assert steps > 100
    for step in range(steps):
        disk, primary = crashed_at(step, as_decided, Truth())
        last = disk.trace[-1] if disk.trace else "nothing"
        survivor = Broker("replica", disk.survivor(keep, seed=step))
        assert truth.lies(survivor) == [], f"crash at operation {step} after {last!r}"
        if primary is None or primary.machine is None:
            continue
        Meeting(primary).follow(survivor)
        begin = max(primary.store.min_offset, survivor.store.min_offset)
        assert begin == primary.store.min_offset, f"crash at operation {step} after {last!r}"
        assert everything(survivor.store, begin) == everything(primary.store, begin)
        assert truth.lies(survivor) == []


@pytest.mark.flaws
@pytest.mark.parametrize("order", [table_before_cut, table_not_taken_over])
def test_a_wrong_order_is_caught(order: Order) -> None:
    """The same proof fails when the actions are carried out in another order, so the order matters and is tested."""
    steps, truth = whole(order)
    caught = 0
    for step in range(steps):
        disk, _ = crashed_at(step, order, Truth())
        for keep in (Keep.NOTHING, Keep.EVERYTHING):
            caught += bool(truth.lies(Broker("replica", disk.survivor(keep, seed=step))))
    assert caught > 0


def test_a_crash_while_coming_back_harms_nothing() -> None:
    """Two crashes: the second one at every operation of recovery and of the first meeting after it."""
    steps, truth = whole()
    for step in range(0, steps, 9):
        disk, primary = crashed_at(step, as_decided, Truth())
        if primary is None or primary.machine is None:
            continue
        for second in range(0, 400, 5):
            again = disk.survivor(Keep.PREFIX, seed=step)
            again.crash_at = second
            try:
                Meeting(primary).follow(Broker("replica", again))
            except Crash:
                assert truth.lies(Broker("replica", again.survivor(Keep.SCATTERED, seed=second))) == []
                continue
            break


def test_actions_come_in_the_order_that_is_argued_for() -> None:
    """Cut or disown before adopt, adopt before the first byte: read off the machine's own actions."""
    seen: list[list[type]] = []

    def watch(actions: Sequence[Do]) -> list[Do]:
        kinds = [type(action) for action in actions if isinstance(action, Cut | Disown | Reseed | Adopt)]
        if kinds:
            seen.append(kinds)
        return list(actions)

    whole(watch)
    assert [Cut, Adopt] in seen
    assert [Disown, Reseed, Adopt] in seen
