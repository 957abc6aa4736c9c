"""Defects that DLedger groups are known for, each shown not to happen here (docs/raft.md has the list of all)."""

import asyncio
from pathlib import Path

from nodes.replication.raft.orders import Role
from tests.unit.nodes.broker_support import FakeNameServer, until
from tests.unit.nodes.group_support import group
from tests.unit.nodes.raft_world import Weather, World
from tests.unit.nodes.test_raft_node_group import run, same_logs


def test_a_follower_that_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    """Heartbeats, sends and the other follower go on, and when it reads again it has everything soon."""

    async def story() -> None:
        async with group(tmp_path, mapped_file_size_commit_log=4 * 1024 * 1024) as cluster:
            leader = await cluster.leader()
            await cluster.send_ok(b"one")
            await cluster.agree()
            slow = next(name for name in cluster.nodes if name != leader)
            deaf = list(cluster.member(slow)._links._accepted)
            assert deaf, "the others speak to it"
            for connection in deaf:
                connection.transport.pause_reading()
            # More than may be under way to one follower, and than its socket takes.
            await asyncio.gather(*(cluster.send_ok(b"x" * 15_000, queue=number % 4) for number in range(800)))
            assert cluster.member(slow).raft.end < cluster.member(leader).raft.end
            assert cluster.masters == [leader], "it is no reason to elect anybody"
            assert not cluster.member(leader).failed
            for connection in deaf:
                if not connection.transport.is_closing():
                    connection.transport.resume_reading()
            await cluster.agree()
            same_logs(cluster)

    run(story())


def test_a_leader_that_was_killed_comes_back_as_a_slave(tmp_path: Path) -> None:
    """It says brokerId 0 again only for a term that it was elected in, so no route of its successor is overwritten."""

    async def story() -> None:
        names = await FakeNameServer().start()
        try:
            async with group(tmp_path, namesrv_addr=(names.address,)) as cluster:
                first = await cluster.leader()
                own, led = cluster.nodes[first].address, cluster.member(first).raft.term
                await cluster.send_ok(b"one")
                await cluster.kill(first)
                await cluster.leader(other_than=first)
                names.registrations.clear()
                await cluster.start(first)
                own = cluster.nodes[first].address

                def said() -> list[tuple[str, int]]:
                    return [
                        (one.ext["brokerId"], int(one.ext["dledgerTerm"]))
                        for one in names.registrations
                        if one.ext["brokerAddr"] == own
                    ]

                await cluster.agree()
                await until(lambda: bool(said()), "it registers")
                assert said()[0][0] == str(int(first[1:]) + 1)
                assert all(term > led for broker_id, term in said() if broker_id == "0")
        finally:
            await names.server.stop()

    run(story())


def test_disks_slower_than_the_timers_cost_no_leader() -> None:
    """A sync of the log may take longer than an election timeout; heartbeats do not wait for it."""
    for seed in range(5):
        world = World(("n0", "n1", "n2"), seed)
        world.weather = Weather(save=(0.001, 0.003))
        leader = world.elect()
        world.run(0.5)  # everybody has noted that it has joined
        world.weather = Weather(sync=(0.8, 2.5), save=(0.8, 2.5))
        for second in range(40):
            leader.append(f"{second}" + "x" * 50)
            world.run(0.5)
            assert (leader.raft.role, len(world.invariants.leaders)) == (Role.LEADER, 1), f"seed {seed}"
        world.weather = Weather()
        assert world.run(10.0, world.level), f"seed {seed}"
