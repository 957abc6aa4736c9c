"""The client against this project's own name server and brokers: sends, pulls, failover, administration."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from nodes.client.admin import AdminClient
from nodes.client.consumer_config import ConsumerHooks, PushConfig, StartFrom
from nodes.client.messages import Outgoing
from nodes.client.producer import Producer
from nodes.client.pull_consumer import PullConsumer
from nodes.client.push_consumer import PushConsumer
from nodes.client.queues import MessageQueue
from nodes.client.results import CommandFailed, PullFailed, PullResult, PullStatus
from nodes.config import BrokerRole, NamesrvConfig
from nodes.log import EventLog
from nodes.namesrv.service import NameServer
from nodes.store.disk import RealDisk
from tests.unit.nodes.client_cluster import until, until_told
from tests.unit.nodes.client_own_cluster import QUICK, Cluster, Recorder, send_all, story


@story()
async def test_what_is_sent_is_pulled(cluster: Cluster) -> None:
    client = await cluster.client()
    await cluster.topic(client, "T")
    bodies = await send_all(client, "T", 10, tags="A", keys=["k"])
    large = await Producer(client, "PG").send("T", b"z" * 10_000)
    batch = await Producer(client, "PG").send_batch("T", [Outgoing(b"b1"), Outgoing(b"b2")])
    consumer = PullConsumer(client, "G")
    found: list[bytes] = []
    for queue in await consumer.queues("T"):
        low, high = await consumer.bounds(queue)
        for answer in await consumer.read_all(queue, low, high):
            assert answer.broker_id == 0
            assert answer.epoch is not None
            found += [message.body for message in answer.messages]
    assert Counter(found) == Counter([*(body.encode() for body in bodies), b"z" * 10_000, b"b1", b"b2"])
    assert batch.offset_message_id.count(",") == 1
    assert large.epoch == 1


@story()
async def test_pulls_beyond_the_ends_and_errors_are_told_apart(cluster: Cluster) -> None:
    client = await cluster.client()
    await cluster.topic(client, "T", 1)
    await send_all(client, "T", 3)
    consumer, queue = PullConsumer(client, "G"), MessageQueue("T", "broker-a", 0)
    await consumer.queues("T")
    assert (await consumer.pull(queue, 3)).status is PullStatus.NO_NEW_MSG
    beyond = await consumer.pull(queue, 9)
    assert (beyond.status, beyond.next_offset) == (PullStatus.OFFSET_ILLEGAL, 3)
    assert (await consumer.pull(queue, 0, expression="Nobody")).messages == ()
    with pytest.raises(PullFailed) as unknown_queue:
        await consumer.pull(MessageQueue("T", "broker-a", 7), 0)
    assert unknown_queue.value.code == 29
    with pytest.raises(PullFailed, match="no slave"):
        await consumer.pull(queue, 0, broker="slave")
    await cluster.brokers["a0"].close()
    with pytest.raises(PullFailed):
        await consumer.pull(queue, 0, timeout_s=2)


@story()
async def test_a_held_pull_is_answered_by_the_next_message(cluster: Cluster) -> None:
    client = await cluster.client()
    await cluster.topic(client, "T", 1)
    consumer, queue = PullConsumer(client, "G"), MessageQueue("T", "broker-a", 0)
    await consumer.queues("T")
    held = asyncio.ensure_future(consumer.pull(queue, 0, suspend_ms=15_000))
    await asyncio.sleep(0.1)
    assert not held.done()
    await send_all(client, "T", 1)
    assert [message.body for message in (await asyncio.wait_for(held, 10)).messages] == [b"m0"]


@story()
async def test_offsets_are_committed_and_found_again(cluster: Cluster) -> None:
    client = await cluster.client()
    await cluster.topic(client, "T", 1)
    await send_all(client, "T", 5)
    consumer, queue = PullConsumer(client, "G"), MessageQueue("T", "broker-a", 0)
    assert await consumer.committed(queue) is None
    await consumer.commit(queue, 4)
    assert await PullConsumer(client, "G").committed(queue) == 4
    assert await consumer.committed(queue, "other") is None
    assert await consumer.search(queue, 0) == 0


@story(slave=True)
async def test_consumers_go_on_at_the_slave_while_the_master_is_away(cluster: Cluster) -> None:
    client = await cluster.client()
    await cluster.topic(client, "T", 2)
    bodies = await send_all(client, "T", 10)
    admin = AdminClient(client)
    ends = dict.fromkeys(("a0", "a1"), 0)

    async def caught_up() -> bool:
        for name in ends:
            ends[name] = (await admin.lab_status(cluster.broker_address(name)))["max"]
        return ends["a0"] == ends["a1"] and ends["a0"] > 0

    await until_told(caught_up)
    pulled: list[PullResult] = []
    listener = Recorder()
    consumer = PushConsumer(
        client, "G", listener, QUICK, hooks=ConsumerHooks(on_pulled=lambda _, result: pulled.append(result))
    )
    await client.queries.ensure("T")
    await cluster.brokers.pop("a0").close()
    await client.queries.refresh("T")
    consumer.subscribe("T")
    await consumer.start()
    await until(lambda: len(listener.seen) == 10)
    assert sorted(listener.bodies) == sorted(bodies)
    assert {result.broker_id for result in pulled if result.messages} == {1}
    queue = MessageQueue("T", "broker-a", 0)
    assert (await PullConsumer(client, "G2").pull(queue, 0, broker="any")).broker_id == 1
    with pytest.raises(PullFailed):
        await PullConsumer(client, "G2").pull(queue, 0, broker="master")
    await consumer.close()


@story(slave=True)
async def test_a_promotion_is_followed_by_producer_and_consumer(cluster: Cluster) -> None:
    client = await cluster.client(route_query_after_s=0.05)
    await cluster.topic(client, "T", 1)
    admin = AdminClient(client)
    await send_all(client, "T", 3)

    async def caught_up() -> bool:
        return bool((await admin.lab_status(cluster.broker_address("a1")))["max"])

    await until_told(caught_up)
    listener = Recorder()
    consumer = PushConsumer(client, "G", listener, QUICK)
    consumer.subscribe("T")
    await consumer.start()
    await until(lambda: len(listener.seen) == 3)
    await cluster.brokers.pop("a0").close()
    await admin.lab_change_role(cluster.broker_address("a1"), 0, "ASYNC_MASTER")
    producer = Producer(client, "PG")
    result = await producer.send("T", b"after", retries=50, timeout_s=20)
    assert result.address == cluster.broker_address("a1")
    assert result.epoch == 2
    await until(lambda: "after" in listener.bodies)
    assert Counter(listener.bodies)["after"] == 1
    await consumer.close()


@story(slave=True)
async def test_administration(cluster: Cluster) -> None:
    client = await cluster.client()
    admin = AdminClient(client)
    await cluster.topic(client, "T", 2)
    await send_all(client, "T", 4, keys=["k1", "k2"])
    sent = await Producer(client, "PG").send("T", b"x", keys=["only"])
    info = await admin.cluster_info()
    assert [row[2] for row in info.addresses()] == [0, 1]
    assert "T" in await admin.topics()
    assert sum(row.max_offset for row in await admin.topic_stats("T")) == 5
    assert (await admin.broker_runtime(info.brokers["broker-a"][0]))["brokerVersionDesc"]
    assert (await admin.message_by_id(sent.offset_message_id)).body == b"x"
    assert [m.body for m in await admin.messages_by_key("T", "only")] == [b"x"]
    assert [m.body for m in await admin.messages_by_key("T", sent.message_id, unique=True)] == [b"x"]
    assert len(await admin.messages_by_key("T", "k2")) == 4
    assert await admin.messages_by_key("T", "none") == ()
    with pytest.raises(CommandFailed):
        await admin.message_by_id("nonsense")
    with pytest.raises(CommandFailed) as missing:
        await admin.topic_route("missing")
    assert missing.value.code == 17
    await admin.put_kv("ns", "k", "v")
    assert await admin.get_kv("ns", "k") == "v"
    assert await admin.kv_list("ns") == {"k": "v"}
    await admin.delete_kv("ns", "k")
    assert await admin.get_kv("ns", "k") is None
    status = await admin.lab_status(info.brokers["broker-a"][0])
    assert status["role"] == "ASYNC_MASTER"
    part = await admin.lab_read_log(info.brokers["broker-a"][0], 0, 1 << 20)
    assert part.next_offset == part.max_offset == status["max"]
    assert len(part.data) == status["max"]
    index = await admin.lab_read_index(info.brokers["broker-a"][0], "T", 0, 0, 100)
    assert len(index.data) == 20 * index.max_offset
    assert await admin.wipe_write_perm("broker-a") > 0
    assert (await admin.topic_route("T")).queues[0].perm == 4
    assert await admin.add_write_perm("broker-a") > 0
    await admin.delete_topic("T")


@story()
async def test_a_consumer_outlives_the_restart_of_its_broker(cluster: Cluster) -> None:
    """The broker has forgotten the group: it refuses the pull, gets a heartbeat, and is pulled from again."""
    client = await cluster.client(route_query_after_s=0.05)
    await cluster.topic(client, "T", 1)
    listener = Recorder()
    consumer = PushConsumer(client, "G", listener, QUICK)
    consumer.subscribe("T")
    await consumer.start()
    await send_all(client, "T", 2)
    await until(lambda: len(listener.seen) == 2)
    port = cluster.brokers["a0"].port
    await cluster.brokers.pop("a0").close()
    await cluster.broker("a0", 0, BrokerRole.ASYNC_MASTER, port)
    producer = Producer(client, "PG")
    await producer.send("T", b"after", retries=200, timeout_s=20)
    await until(lambda: "after" in listener.bodies)
    await consumer.close()


@story()
async def test_a_name_server_that_forgot_everything_costs_no_route(cluster: Cluster) -> None:
    client = await cluster.client(poll_name_server_interval_s=0.05)
    await cluster.topic(client, "T", 1)
    await send_all(client, "T", 1)
    assert cluster.name_server is not None
    await cluster.name_server.stop()
    await send_all(client, "T", 1)
    fresh = NamesrvConfig(
        listen_port=int(cluster.address.rpartition(":")[2]), kv_config_path=str(cluster.folder / "k2")
    )
    cluster.name_server = NameServer(fresh, EventLog("ns"), RealDisk())
    await cluster.name_server.start()
    queries = client.queries.made
    await until(lambda: client.queries.made >= queries + 3)
    await send_all(client, "T", 1)


@story()
async def test_a_subscription_can_be_changed_while_it_is_read(cluster: Cluster) -> None:
    client = await cluster.client()
    await cluster.topic(client, "T", 1)
    listener = Recorder()
    config = PushConfig(
        start_from=StartFrom.FIRST_OFFSET, rebalance_retry_s=0.05, pull_retry_s=0.05, pull_suspend_s=0.2
    )
    consumer = PushConsumer(client, "G", listener, config)
    consumer.subscribe("T", "A")
    await consumer.start()
    producer = Producer(client, "PG")
    await producer.send("T", b"a1", tags="A")
    await until(lambda: listener.bodies == ["a1"])
    consumer.subscribe("T", "B")
    # Until the pull that is held under the old subscription returns, the broker filters by it.
    number = 0

    async def heard() -> bool:
        nonlocal number
        number += 1
        await producer.send("T", f"b{number}".encode(), tags="B")
        return len(listener.seen) > 1

    await until_told(heard)
    await producer.send("T", b"a2", tags="A")
    await producer.send("T", b"last", tags="B")
    await until(lambda: "last" in listener.bodies)
    assert "a2" not in listener.bodies
    await consumer.close()
