"""A member that the group goes on without: it serves nobody what it holds and leaves the routes, until it is added."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from nodes.namesrv.service import NameServer
from nodes.remoting.codes import RequestCode, ResponseCode
from tests.unit.nodes.broker_support import FakeNameServer, until
from tests.unit.nodes.group_support import Group, group
from tests.unit.nodes.test_raft_node_cluster import cluster_with_names
from tests.unit.nodes.test_raft_node_group import run
from tests.unit.nodes.test_raft_node_members import change


def listed(names: list[NameServer], address: str) -> list[bool]:
    """Whether each name server lists the broker at this address."""
    groups = [server.routes.group("broker-a") for server in names]
    return [found is not None and address in found.addresses.values() for found in groups]


def unreachable(cluster: Group, name: str) -> Callable[[], None]:
    """Nothing goes from or to this member until what is returned is called."""
    links = {other: cluster.member(other)._links for other in cluster.nodes}
    real = {other: one.send for other, one in links.items()}

    def cut(other: str) -> None:
        def send(to: str, frame: bytes) -> bool:
            return name not in (other, to) and real[other](to, frame)

        links[other].send = send  # type: ignore[method-assign]

    for other in links:
        cut(other)

    def heal() -> None:
        for other, one in links.items():
            one.send = real[other]  # type: ignore[method-assign]

    return heal


async def serves_nobody(cluster: Group, name: str) -> None:
    node = cluster.nodes[name]
    assert (await node.status())["state"] == "no member"
    for code in (RequestCode.GET_MAX_OFFSET, RequestCode.QUERY_CONSUMER_OFFSET, RequestCode.HEART_BEAT):
        answer = await node.ask(code, {"topic": "T", "queueId": "0", "consumerGroup": "g"})
        assert answer.code == ResponseCode.SERVICE_NOT_AVAILABLE, code
    for refused in (await node.pull(0), await node.send(b"x")):
        assert refused.code == ResponseCode.SERVICE_NOT_AVAILABLE
        assert "no member" in str(refused.remark)
    # Its log can be looked at all the same.
    assert (await node.ask(RequestCode.LAB_READ_LOG, {"offset": "0"})).code == 0


def test_a_removed_member_serves_nobody_and_is_in_no_route_until_it_is_added_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with cluster_with_names(tmp_path) as (cluster, names, _):
            leader = await cluster.leader()
            gone = next(name for name in cluster.nodes if name != leader)
            node = cluster.nodes[gone]
            await cluster.send_ok(b"one")
            await cluster.agree()
            await until(lambda: listed(names, node.address) == [True, True], "it is registered")
            assert (await node.pull(0)).code == 0, "followers serve what is committed"
            waits = asyncio.ensure_future(node.pull(1, sysFlag=6, suspendTimeoutMillis=60_000))
            await until(lambda: node.broker.pulls.parked == 1, "a consumer waits there")
            assert (await change(cluster, leader, "remove", gone)).code == 0
            answer = await waits
            assert answer.code == ResponseCode.SERVICE_NOT_AVAILABLE
            assert answer.ext["leader"] == cluster.nodes[leader].address, "and is sent to who serves"
            await serves_nobody(cluster, gone)
            await until(lambda: listed(names, node.address) == [False, False], "it has left the routes")
            node.broker.registrar.register_now()
            await cluster.send_ok(b"two")
            assert (await change(cluster, leader, "add", gone)).code == 0
            await until(lambda: listed(names, node.address) == [True, True], "it is registered again")
            await cluster.agree()
            assert (await node.pull(1)).code == 0
            assert (await node.status())["state"] == "serving"

    run(story())


def test_a_member_that_was_removed_while_nobody_reached_it_is_told(tmp_path: Path) -> None:
    async def story() -> None:
        async with cluster_with_names(tmp_path, 1) as (cluster, names, _):
            leader = await cluster.leader()
            gone = next(name for name in cluster.nodes if name != leader)
            node, member = cluster.nodes[gone], cluster.member(gone)
            await cluster.send_ok(b"one")
            await cluster.agree()
            heal = unreachable(cluster, gone)
            assert (await change(cluster, leader, "remove", gone)).code == 0
            known = cluster.member(leader).raft
            await until(lambda: gone not in {peer.name for peer in known.status().peers}, "the leader has given it up")
            await cluster.send_ok(b"two")
            assert not member.raft.outside
            assert (await node.pull(0)).code == 0, "it cannot know"
            heal()
            await until(lambda: member.raft.outside, "it was told")
            assert gone in member.raft.membership.names, "by others: its own log does not say so"
            await serves_nobody(cluster, gone)
            await until(lambda: listed(names, node.address) == [False], "it has left the routes")
            assert cluster.masters == [leader], "and has disturbed nobody"
            for name in list(cluster.nodes):
                await cluster.kill(name)
            await cluster.start(gone)
            await serves_nobody(cluster, gone)  # it remembers: nobody is there to tell it again

    run(story())


def test_a_leader_that_is_removed_serves_nobody_when_another_one_leads(tmp_path: Path) -> None:
    async def story() -> None:
        async with cluster_with_names(tmp_path, 1) as (cluster, names, _):
            leader = await cluster.leader()
            await cluster.send_ok(b"one")
            assert (await change(cluster, leader, "remove", leader)).code == 0
            second = await cluster.leader(other_than=leader)
            await cluster.send_ok(b"two")
            await serves_nobody(cluster, leader)
            address = cluster.nodes[leader].address
            await until(lambda: listed(names, address) == [False], "it has left the routes")
            assert listed(names, cluster.nodes[second].address) == [True]

    run(story())


def test_a_new_node_is_in_no_route_before_it_is_added(tmp_path: Path) -> None:
    async def story() -> None:
        names = await FakeNameServer().start()
        try:
            async with group(tmp_path, namesrv_addr=(names.address,)) as cluster:
                leader = await cluster.leader()
                await cluster.send_ok(b"one")
                await cluster.start("n3")
                await until(lambda: cluster.member("n3").raft.outside, "it was told")
                own = cluster.nodes["n3"].address
                await until(lambda: own in {one.ext["brokerAddr"] for one in names.unregistered}, "it says goodbye")
                await serves_nobody(cluster, "n3")
                names.registrations.clear()
                assert (await change(cluster, leader, "add", "n3")).code == 0
                await until(lambda: own in {one.ext["brokerAddr"] for one in names.registrations}, "it registers")
        finally:
            await names.server.stop()

    run(story())
