"""Push consumers against this project's own brokers: sharing, failing, order, broadcasting, filters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nodes.client.admin import AdminClient
from nodes.client.consumer_config import ConsumeResult, ConsumerHooks, MessageModel, PushConfig, StartFrom
from nodes.client.messages import Message
from nodes.client.producer import Producer
from nodes.client.pull_consumer import PullConsumer
from nodes.client.push_consumer import PushConsumer
from nodes.client.queues import MessageQueue, dlq_topic
from nodes.client.results import Outcome, PullResult
from tests.unit.nodes.client_cluster import until
from tests.unit.nodes.client_own_cluster import QUICK, Cluster, Recorder, send_all, story


@story()
async def test_a_group_shares_the_queues_and_gets_everything_once(cluster: Cluster) -> None:
    first, second = await cluster.client(), await cluster.client()
    await cluster.topic(first, "T")
    listeners = Recorder(), Recorder()
    consumers = [
        PushConsumer(client, "G", listener, QUICK) for client, listener in zip((first, second), listeners, strict=True)
    ]
    for consumer in consumers:
        consumer.subscribe("T")
        await consumer.start()
    await until(lambda: all(sum(q.topic == "T" for q in consumer.assigned) == 2 for consumer in consumers))
    bodies = await send_all(first, "T", 20)
    await until(lambda: len(listeners[0].seen) + len(listeners[1].seen) >= 20)
    assert sorted(listeners[0].bodies + listeners[1].bodies) == sorted(bodies)
    assert listeners[0].seen
    assert listeners[1].seen
    await consumers[1].close()
    await until(lambda: sum(q.topic == "T" for q in consumers[0].assigned) == 4)
    more = await send_all(first, "T", 4)
    await until(lambda: len(listeners[0].seen) + len(listeners[1].seen) >= 24)
    assert set(listeners[0].bodies[-4:]) == set(more)
    await consumers[0].close()
    rows = await AdminClient(first).consume_stats("G")
    assert {row.lag for row in rows if row.queue.topic == "T"} == {0}


@story()
async def test_a_successor_goes_on_where_the_group_was(cluster: Cluster) -> None:
    client = await cluster.client()
    await cluster.topic(client, "T")
    await send_all(client, "T", 8)
    commits: list[tuple[MessageQueue, int, Outcome]] = []
    before = Recorder()
    hooks = ConsumerHooks(on_commit=lambda queue, offset, outcome: commits.append((queue, offset, outcome)))
    consumer = PushConsumer(client, "G", before, QUICK, hooks=hooks)
    consumer.subscribe("T")
    await consumer.start()
    await until(lambda: len(before.seen) == 8)
    await consumer.close()
    assert sum(offset for queue, offset, outcome in commits if outcome is Outcome.OK and queue.topic == "T") == 8
    after = Recorder()
    successor = PushConsumer(await cluster.client(), "G", after, QUICK)
    successor.subscribe("T")
    await successor.start()
    producer = Producer(client, "PG")
    await producer.send("T", b"new")
    await until(lambda: bool(after.seen))
    assert after.bodies == ["new"]
    await successor.close()


@story()
async def test_a_message_that_fails_comes_again_and_at_last_is_dead(cluster: Cluster) -> None:
    client = await cluster.client()
    await cluster.topic(client, "T")
    back: list[Outcome] = []
    listener = Recorder(lambda m: ConsumeResult.LATER if m.body == b"m1" else ConsumeResult.SUCCESS)
    config = PushConfig(
        start_from=StartFrom.FIRST_OFFSET, rebalance_retry_s=0.05, persist_interval_s=0.1, max_reconsume_times=2
    )
    consumer = PushConsumer(
        client, "G", listener, config, hooks=ConsumerHooks(on_sent_back=lambda _, __, outcome: back.append(outcome))
    )
    consumer.subscribe("T")
    await consumer.start()
    await send_all(client, "T", 3)
    await until(lambda: len(back) == 3)
    assert Counter(listener.bodies) == {"m0": 1, "m1": 3, "m2": 1}
    failing = [message for message in listener.seen if message.body == b"m1"]
    assert [message.reconsume_times for message in failing] == [0, 1, 2]
    assert {message.topic for message in failing} == {"T"}
    assert len({message.message_id for message in failing}) == 1
    assert set(back) == {Outcome.OK}
    await consumer.close()
    reader = PullConsumer(client, "G")
    (queue,) = await reader.queues(dlq_topic("G"))
    (answer,) = await reader.read_all(queue, 0, 1)
    assert [message.body for message in answer.messages] == [b"m1"]


@story()
async def test_a_listener_that_raises_has_its_message_again(cluster: Cluster) -> None:
    client = await cluster.client()
    await cluster.topic(client, "T", 1)
    calls = 0

    async def listener(messages: Sequence[Message]) -> ConsumeResult:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("not today")
        return ConsumeResult.SUCCESS

    consumer = PushConsumer(client, "G", listener, QUICK)
    consumer.subscribe("T")
    await consumer.start()
    await send_all(client, "T", 1)
    await until(lambda: calls == 2)
    await consumer.close()


@story()
async def test_orderly_consumption_keeps_the_order_of_each_queue(cluster: Cluster) -> None:
    first, second = await cluster.client(), await cluster.client()
    await cluster.topic(first, "T", 2)
    tried: Counter[str] = Counter()

    def answer(message: Message) -> ConsumeResult:
        tried[message.body.decode()] += 1
        again = message.queue_offset == 1 and tried[message.body.decode()] == 1
        return ConsumeResult.LATER if again else ConsumeResult.SUCCESS

    config = PushConfig(
        orderly=True, start_from=StartFrom.FIRST_OFFSET, rebalance_retry_s=0.05, suspend_s=0.05, lock_interval_s=0.1
    )
    listeners = Recorder(answer), Recorder(answer)
    consumers = [
        PushConsumer(client, "G", listener, config) for client, listener in zip((first, second), listeners, strict=True)
    ]
    for consumer in consumers:
        consumer.subscribe("T")
        await consumer.start()
    await send_all(first, "T", 12)
    await until(lambda: len(tried) == 12)
    for listener in listeners:
        for queue_id in (0, 1):
            offsets = [message.queue_offset for message in listener.seen if message.queue_id == queue_id]
            assert offsets == sorted(offsets)
    assert {count for body, count in tried.items()} <= {1, 2}
    assert sum(count == 2 for count in tried.values()) == 2
    for consumer in consumers:
        await consumer.close()


@story()
async def test_an_orderly_message_tried_too_often_is_dead_and_the_queue_goes_on(cluster: Cluster) -> None:
    client = await cluster.client()
    await cluster.topic(client, "T", 1)
    listener = Recorder(lambda m: ConsumeResult.LATER if m.body == b"m0" else ConsumeResult.SUCCESS)
    config = PushConfig(
        orderly=True,
        start_from=StartFrom.FIRST_OFFSET,
        rebalance_retry_s=0.05,
        suspend_s=0.02,
        max_reconsume_times=1,
    )
    consumer = PushConsumer(client, "G", listener, config)
    consumer.subscribe("T")
    await consumer.start()
    await send_all(client, "T", 2)
    await until(lambda: "m1" in listener.bodies)
    assert listener.bodies == ["m0", "m0", "m1"]
    await consumer.close()
    reader = PullConsumer(client, "G")
    (queue,) = await reader.queues(dlq_topic("G"))
    assert (await reader.bounds(queue)) == (0, 1)


@story()
async def test_broadcasting_gives_each_member_everything_and_keeps_its_own_offsets(cluster: Cluster) -> None:
    config = PushConfig(
        model=MessageModel.BROADCASTING,
        start_from=StartFrom.FIRST_OFFSET,
        rebalance_retry_s=0.05,
        persist_interval_s=0.05,
    )
    clients = [await cluster.client(), await cluster.client()]
    await cluster.topic(clients[0], "T")
    bodies = await send_all(clients[0], "T", 6)
    listeners = [Recorder(), Recorder()]
    paths = [str(cluster.folder / f"offsets-{number}.json") for number in range(2)]
    for client, listener, path in zip(clients, listeners, paths, strict=True):
        consumer = PushConsumer(client, "G", listener, config, offsets_path=path)
        consumer.subscribe("T")
        await consumer.start()
        await until(lambda heard=listener: len(heard.seen) == 6)  # type: ignore[misc]
        assert sorted(listener.bodies) == sorted(bodies)
        await consumer.close()
    again = Recorder()
    consumer = PushConsumer(clients[0], "G", again, config, offsets_path=paths[0])
    consumer.subscribe("T")
    await consumer.start()
    await send_all(clients[0], "T", 1)
    await until(lambda: bool(again.seen))
    assert len(again.seen) == 1
    await consumer.close()


@story()
async def test_tags_are_filtered(cluster: Cluster) -> None:
    client = await cluster.client()
    await cluster.topic(client, "T", 1)
    listener = Recorder()
    consumer = PushConsumer(client, "G", listener, QUICK)
    consumer.subscribe("T", "Aa || C")
    await consumer.start()
    producer = Producer(client, "PG")
    for tag in ("Aa", "BB", "", "C"):  # "BB" has the hash of "Aa"
        await producer.send("T", tag.encode(), tags=tag)
    await until(lambda: len(listener.seen) == 2)
    assert listener.bodies == ["Aa", "C"]
    await consumer.close()
    (row,) = [r for r in await AdminClient(client).consume_stats("G") if r.queue.topic == "T"]
    assert row.lag == 0


@story()
async def test_a_consumer_sent_to_another_offset_forgets_what_it_held(cluster: Cluster) -> None:
    client = await cluster.client()
    await cluster.topic(client, "T", 1)
    await send_all(client, "T", 3)
    queue = MessageQueue("T", "broker-a", 0)
    await PullConsumer(client, "G").commit(queue, 99)
    resets: list[int] = []
    listener = Recorder()

    def on_reset(queue: MessageQueue, offset: int, result: PullResult) -> None:
        resets.append(offset)

    consumer = PushConsumer(client, "G", listener, QUICK, hooks=ConsumerHooks(on_offset_reset=on_reset))
    consumer.subscribe("T")
    await consumer.start()
    # Our brokers clamp a committed offset that is beyond the queue's end, RocketMQ's do not: both are right here.
    await until(lambda: bool(consumer.assigned))
    await send_all(client, "T", 1)
    await until(lambda: bool(listener.seen))
    assert listener.seen[-1].queue_offset == 3
    assert resets in ([], [3])
    await consumer.close()
