"""Routes and name servers against a scripted cluster, and how a client begins and ends."""

from __future__ import annotations

import asyncio

import pytest

from nodes.client.client import Client
from nodes.client.config import ClientConfig
from nodes.client.outcomes import LocalCode
from nodes.client.producer import Producer
from nodes.client.queues import MessageQueue
from nodes.client.results import CommandFailed, SendFailed, SendStatus
from nodes.remoting.codes import RequestCode, ResponseCode
from nodes.remoting.command import Command
from nodes.remoting.connection import Connection
from tests.unit.nodes import client_cluster
from tests.unit.nodes.client_cluster import FakeCluster, refuse, until
from tests.unit.nodes.client_stories import SEND, config, failure, producing, story, unused_address


@story()
async def test_a_topic_that_does_not_exist_borrows_a_route_until_it_does(cluster: FakeCluster) -> None:
    async with producing(cluster) as producer:
        failed = await failure(producer.send("New", b"x"))
        assert (failed.code, failed.certain) == (LocalCode.NO_ROUTE, True)
        cluster.route("TBW102", {"broker-a": {0: "a0"}}, queues=8, perm=7)
        assert (await producer.send("New", b"x")).status is SendStatus.SEND_OK
        assert producer.client.routes.is_provisional("New")
        assert len(producer.client.routes.publish_queues("New")) == 4
        cluster.route("New", {"broker-a": {0: "a0"}}, queues=3)
        await producer.client.queries.refresh("New")
        assert not producer.client.routes.is_provisional("New")


@story()
async def test_a_group_without_a_master_is_certain_failure_and_found_again_at_once(cluster: FakeCluster) -> None:
    cluster.route("T", {"broker-a": {1: "a1"}})
    async with producing(cluster) as producer:
        assert (await failure(producer.send("T", b"x"))).code == LocalCode.NO_ROUTE
        queue = MessageQueue("T", "broker-a", 0)
        unknown = await failure(producer.send("T", b"x", queue=queue))
        assert (unknown.code, unknown.certain) == (LocalCode.BROKER_UNKNOWN, True)
        cluster.route("T", {"broker-a": {0: "a1"}})
        assert (await producer.send("T", b"x", queue=queue)).address == cluster.brokers["a1"].address


@story(name_servers=3)
async def test_name_servers_fail_over_within_one_call(cluster: FakeCluster) -> None:
    await cluster.name_servers[0].stop()
    cluster.name_servers[1].silent = True
    async with producing(cluster, name_server_timeout_s=0.2) as producer:
        assert (await producer.send("T", b"x")).status is SendStatus.SEND_OK
        assert producer.client.names.current == cluster.name_servers[2].address


@story(name_servers=2)
async def test_an_empty_name_server_is_not_believed_while_another_knows_better(cluster: FakeCluster) -> None:
    script = refuse(ResponseCode.TOPIC_NOT_EXIST)
    for fresh in (0, 1):
        for number, node in enumerate(cluster.name_servers):
            node.scripts[int(RequestCode.GET_ROUTEINFO_BY_TOPIC)] = script if number == fresh else cluster.tell_route
        async with producing(cluster) as producer:
            assert (await producer.send("T", b"x")).status is SendStatus.SEND_OK


@story(name_servers=2)
async def test_a_name_server_with_an_old_route_is_left(cluster: FakeCluster) -> None:
    """One name server still names the dead master: after it told nothing new the other one is asked."""
    old, new = dict(cluster.routes), cluster.name_servers[1]
    cluster.route("T", {"broker-a": {0: "a1"}})
    fresh, cluster.routes = cluster.routes, old
    await cluster.brokers["a0"].stop()

    def told(connection: Connection, command: Command) -> Command | None:
        cluster.routes, kept = fresh, cluster.routes
        try:
            return cluster.tell_route(connection, command)
        finally:
            cluster.routes = kept

    new.scripts[int(RequestCode.GET_ROUTEINFO_BY_TOPIC)] = told

    async with producing(cluster, retries=0) as producer:
        client = producer.client
        client.names._at = client.names._addresses.index(cluster.name_servers[0].address)

        async def sent() -> bool:
            try:
                return (await producer.send("T", b"x")).address == cluster.brokers["a1"].address
            except SendFailed:
                return False

        for _ in range(200):
            if await sent():
                break
            await asyncio.sleep(0.01)
        else:
            pytest.fail("the client stayed with the old route")


@story(name_servers=2)
async def test_cached_routes_outlive_all_name_servers(cluster: FakeCluster) -> None:
    async with producing(cluster, poll_name_server_interval_s=0.05) as producer:
        await producer.send("T", b"x")
        snapshot = producer.client.routes.snapshot()
        for node in cluster.name_servers:
            await node.stop()
        for _ in range(5):
            assert (await producer.send("T", b"x")).status is SendStatus.SEND_OK
            await asyncio.sleep(0.03)
    async with producing(cluster, routes=snapshot) as successor:
        assert (await successor.send("T", b"x")).status is SendStatus.SEND_OK
    async with producing(cluster) as stranger:
        failed = await failure(stranger.send("T", b"x"))
        assert (failed.code, failed.certain) == (LocalCode.NO_NAME_SERVER, True)
        assert all(address in str(failed) for address in cluster.addresses)


@story()
async def test_a_client_closes_while_it_begins_to_ask_for_a_route(cluster: FakeCluster) -> None:
    """Whoever waits for the query is cancelled together with it, and must not take that for a query that failed."""
    client = Client(config(cluster))
    await client.start()

    async def poll() -> None:
        while True:
            try:
                await client.queries.refresh("T")
            except CommandFailed:
                await asyncio.sleep(0)

    client.spawn(poll())
    await asyncio.sleep(0)  # the query is on its way to its first step
    async with asyncio.timeout(client_cluster.PATIENCE_S):
        await client.close()


@story()
async def test_routes_are_polled(cluster: FakeCluster) -> None:
    async with producing(cluster, poll_name_server_interval_s=0.05) as producer:
        await producer.send("T", b"x")
        cluster.route("T", {"broker-a": {0: "a1"}})
        await until(lambda: producer.client.routes.master("broker-a") == cluster.brokers["a1"].address)


@story()
async def test_a_successor_polls_when_its_predecessor_would_have(cluster: FakeCluster) -> None:
    """Clients that live for one operation each would never ask otherwise."""
    async with producing(cluster) as producer:
        await producer.send("T", b"x")
        snapshot, told_s = producer.client.routes.snapshot(), producer.client.queries.told_at_s
    assert told_s is not None
    cluster.route("T", {"broker-a": {0: "a1"}})
    minute = 60.0
    async with producing(cluster, routes=snapshot, routes_at_s=told_s, poll_name_server_interval_s=minute) as early:
        await early.send("T", b"x")
        assert early.client.queries.made == 0
    due_s = told_s - minute
    async with producing(cluster, routes=snapshot, routes_at_s=due_s, poll_name_server_interval_s=minute) as late:
        await until(lambda: late.client.routes.master("broker-a") == cluster.brokers["a1"].address)


# ---- the client ----------------------------------------------------------------------------------------------------


@story()
async def test_producers_heartbeat_to_masters_and_say_goodbye(cluster: FakeCluster) -> None:
    async with producing(cluster) as producer:
        await producer.send("T", b"x")
        await until(lambda: cluster.brokers["a0"].count(RequestCode.HEART_BEAT) >= 1)
        assert cluster.brokers["a1"].count(RequestCode.HEART_BEAT) == 0
    assert cluster.brokers["a0"].count(RequestCode.UNREGISTER_CLIENT) == 1


@story()
async def test_a_closed_client_ends_what_is_outstanding(cluster: FakeCluster) -> None:
    cluster.brokers["a0"].scripts[SEND] = lambda *_: None
    client = Client(config(cluster))
    await client.start()
    send = asyncio.ensure_future(failure(Producer(client, "PG").send("T", b"x")))
    await until(lambda: cluster.brokers["a0"].count(SEND) == 1)
    await client.close()
    failed = await send
    assert (failed.code, failed.certain) == (LocalCode.CONNECTION_LOST, False)


@story()
async def test_too_many_outstanding_calls_are_refused(cluster: FakeCluster) -> None:
    cluster.brokers["a0"].scripts[SEND] = lambda *_: None
    async with producing(cluster, outstanding_max=2, send_timeout_s=60) as producer:
        await until(lambda: len(producer.client.exchange) == 0)
        sends = [asyncio.ensure_future(failure(producer.send("T", b"x"))) for _ in range(2)]
        await until(lambda: cluster.brokers["a0"].count(SEND) == 2)
        refused = await failure(producer.send("T", b"x"))
        assert (refused.code, refused.certain) == (LocalCode.TOO_MANY_OUTSTANDING, True)
    await asyncio.gather(*sends)


@story()
async def test_a_connection_that_fell_silent_is_opened_anew(cluster: FakeCluster) -> None:
    """A peer that vanished without a word is found out by the next send, not after the kernel gives up."""
    async with producing(cluster, send_timeout_s=0.2, route_query_after_s=5) as producer:
        await producer.send("T", b"x")
        node = cluster.brokers["a0"]
        assert node.server is not None
        before = node.server.connections
        node.silent = True
        await failure(producer.send("T", b"x"))
        node.silent = False
        await producer.send("T", b"x")
        await until(lambda: node.server is not None and before[0] not in node.server.connections)


def test_nothing_listens_anywhere() -> None:
    async def play() -> None:
        client = Client(ClientConfig(name_servers=(unused_address(),), retries=0))
        await client.start()
        try:
            with pytest.raises(CommandFailed) as caught:
                await client.queries.ensure("T")
            assert caught.value.code == LocalCode.NO_NAME_SERVER
            assert "refused" in str(caught.value)
        finally:
            await client.close()

    asyncio.run(play())


def test_a_client_must_be_started() -> None:
    async def play() -> None:
        client = Client(ClientConfig(name_servers=("127.0.0.1:1",)))
        with pytest.raises(RuntimeError, match="not started"):
            await Producer(client, "g").send("T", b"x")
        await client.close()

    asyncio.run(play())


@story()
async def test_who_has_no_master_asks_for_the_route_until_there_is_one(cluster: FakeCluster) -> None:
    """A reader that went to the slave must learn of the master's return long before the ordinary poll."""
    cluster.route("T", {"broker-a": {1: "a1"}})
    async with producing(cluster, poll_name_server_interval_s=3600.0) as producer:
        await producer.client.queries.ensure("T")
        assert producer.client.routes.master("broker-a") is None
        cluster.route("T", {"broker-a": {0: "a0", 1: "a1"}})
        await until(lambda: producer.client.routes.master("broker-a") is not None)
