"""flushDiskType=ASYNC_FLUSH in a group: kill -9 takes nothing; power loss may take what was promised, but nothing else.

Votes and terms are synced all the same, so that no weather gives one term two leaders.
"""

import asyncio
import random
from pathlib import Path

import pytest

from nodes.broker.replicated import ReplicatedTables
from nodes.config import FlushDiskType
from nodes.dledger.node import GroupNode
from nodes.replication.raft.messages import Message, Vote, VoteReply
from nodes.replication.raft.orders import Role
from tests.unit.nodes.broker_support import Node, until
from tests.unit.nodes.forgetful_disk import ForgetfulDisk, Keep
from tests.unit.nodes.group_support import Group, messages_of
from tests.unit.nodes.test_raft_node_group import run
from tests.unit.nodes.test_raft_node_storm import Producers, kill, power_loss, storm, weather

ASYNC = FlushDiskType.ASYNC_FLUSH


def tables_of(node: Node) -> ReplicatedTables:
    assert isinstance(node.broker.core.tables, ReplicatedTables)
    return node.broker.core.tables


async def power_off_all(cluster: Group, keep: Keep = Keep.NOTHING) -> None:
    """Every disk forgets in one moment; the members are started again."""
    for name in list(cluster.nodes):
        await cluster.power_off(name, keep, 1)
    await cluster.start()
    await cluster.leader()


def test_saved_tables_never_tell_of_more_than_the_log_holds() -> None:
    """Or a consumer would skip what takes the places of lost messages, and members would know different topics."""

    async def story() -> None:
        cluster = Group(Path("/"), flush_disk_type=ASYNC, flush_consumer_offset_interval=100)
        cluster.disks = {name: ForgetfulDisk() for name in cluster.initial}
        try:
            await cluster.start()
            leader = await cluster.leader()
            for number in range(5):
                await cluster.send_ok(b"%d" % number)
            assert (await cluster.nodes[leader].commit(5)).code == 0
            await cluster.agree()
            tables = [tables_of(node) for node in cluster.nodes.values()]
            await until(lambda: all(table._saved_at == table.applied for table in tables), "saved")
            await cluster.send_ok(b"unsaved")
            await power_off_all(cluster)
            await cluster.agree(or_stopped=True)  # one may have synced and saved what the others lost
            for name, node in cluster.nodes.items():
                core = node.broker.core
                end = core.store.queue_bounds("T", 0)[1]
                assert (core.tables.offsets.get("g", "T", 0) or 0) <= end, f"{name}: its queue ends at {end}"
                assert tables_of(node).applied <= core.store.written_end
        finally:
            await cluster.close()

    run(story())


@pytest.mark.random
@pytest.mark.parametrize("seed", range(2))
def test_kill_9_takes_nothing(seed: int) -> None:
    """Every promise is kept, as with SYNC_FLUSH: what was written outlives the process."""
    asyncio.run(storm(seed, kill, flush_disk_type=ASYNC))


class Witness:
    """Hears all that members say to one another, and demands what no loss of power may take."""

    def __init__(self) -> None:
        self.votes: dict[tuple[int, str], str] = {}
        self.leaders: dict[int, str] = {}
        self.terms: dict[str, int] = {}

    def heard(self, name: str, term: int, role: Role, message: Message) -> None:
        """A member says something; its hard state is on disk by then."""
        assert term >= self.terms.get(name, 0), f"{name} was in term {self.terms[name]}, now in {term}"
        self.terms[name] = term
        if role is Role.LEADER:
            assert self.leaders.setdefault(term, name) == name, f"{self.leaders[term]} and {name} both lead term {term}"
        if isinstance(message, Vote) or (isinstance(message, VoteReply) and message.granted):
            candidate = message.sender if isinstance(message, Vote) else message.to
            first = self.votes.setdefault((message.term, name), candidate)
            assert first == candidate, f"{name} voted for {first} and {candidate} in term {message.term}"


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Witness:
    """Listens to every member that is started in this test."""
    made = Witness()
    send = GroupNode._send

    def heard(node: GroupNode, message: Message) -> None:
        made.heard(node.name, node.raft.term, node.raft.role, message)
        send(node, message)

    monkeypatch.setattr(GroupNode, "_send", heard)
    return made


def test_a_witness_believes_nobody_twice() -> None:
    told: tuple[list[tuple[str, int, Role, Message]], ...] = (
        [("a", 5, Role.FOLLOWER, VoteReply("a", "b", 5, True)), ("a", 5, Role.FOLLOWER, VoteReply("a", "c", 5, True))],
        [("a", 5, Role.CANDIDATE, Vote("a", "b", 5, 0, 0)), ("a", 5, Role.FOLLOWER, VoteReply("a", "b", 5, True))],
        [("a", 5, Role.LEADER, Vote("a", "b", 5, 0, 0)), ("b", 5, Role.LEADER, Vote("b", "a", 5, 0, 0))],
        [
            ("a", 5, Role.FOLLOWER, VoteReply("a", "b", 5, False)),
            ("a", 4, Role.FOLLOWER, VoteReply("a", "b", 4, False)),
        ],
    )
    for said in told:
        made = Witness()
        made.heard(*said[0])
        with pytest.raises(AssertionError):
            made.heard(*said[1])


@pytest.mark.random
@pytest.mark.parametrize("seed", range(3))
def test_power_loss_may_take_promises_but_gives_no_term_two_leaders(seed: int, witness: Witness) -> None:
    """What is left is whole: queues without gaps, logs that are equal; who holds what others lost stops and says so."""

    async def story() -> None:
        rng = random.Random(seed)
        cluster = Group(Path("/"), flush_disk_type=ASYNC, max_wait_ack_time_ms=1500, flush_consumer_offset_interval=100)
        cluster.disks = {name: ForgetfulDisk() for name in cluster.initial}
        producers = Producers(cluster)
        try:
            await cluster.start()
            await cluster.leader()
            tasks = [asyncio.create_task(producers.produce(number)) for number in range(2)]
            await weather(cluster, rng, power_loss)
            await power_off_all(cluster, rng.choice(list(Keep)))
            stopped = {name for name in cluster.nodes if (cluster.member(name).failed)}
            for name in stopped:
                assert "lost on a majority of disks" in str(cluster.member(name).failed), f"seed {seed}"
            assert len(stopped) < 2, f"seed {seed}: {stopped} have stopped"
            await cluster.leader()
            producers.stopped = True
            await asyncio.gather(*tasks)
            await cluster.send_ok(b"goes on")
            alive = [name for name in cluster.nodes if name not in stopped]
            await cluster.agree(*alive)
            assert len({cluster.log_of(name) for name in alive}) == 1, f"seed {seed}: the logs differ"
            offsets: dict[int, list[int]] = {}
            for message in messages_of(cluster.log_of(alive[0])):
                if message.topic == "T":
                    offsets.setdefault(message.queue_id, []).append(message.queue_offset)
            for queue_id, found in offsets.items():
                assert found == list(range(len(found))), f"seed {seed}: queue {queue_id} has gaps"
        finally:
            producers.stopped = True
            await cluster.close()

    asyncio.run(story())
    assert len(witness.leaders) > 1, f"seed {seed}: nobody was deposed"
