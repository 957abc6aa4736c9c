"""Our Python client against Apache's own name server and broker, 4.9 and 5.3."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps

import pytest

from nodes.client.admin import AdminClient
from nodes.client.client import Client
from nodes.client.config import ClientConfig
from nodes.client.consumer_config import ConsumeResult, MessageModel, PushConfig, StartFrom
from nodes.client.messages import Message, Outgoing
from nodes.client.producer import Producer
from nodes.client.pull_consumer import PullConsumer
from nodes.client.push_consumer import PushConsumer
from nodes.client.queues import dlq_topic
from nodes.client.results import CommandFailed, PullStatus, SendFailed, SendStatus
from nodes.remoting.codes import ResponseCode
from tests.interop.apache import ApacheCluster
from tests.interop.cluster import GROUP, eventually

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

QUICK = PushConfig(start_from=StartFrom.FIRST_OFFSET, rebalance_retry_s=0.1, persist_interval_s=0.2)


class Story:
    """What one test has of a cluster: clients that end with it, and a topic of its own with four queues."""

    def __init__(self, cluster: ApacheCluster, name: str) -> None:
        self.cluster = cluster
        self.topic = f"python-{name}"
        self.group = f"group-{name}"
        self._clients: list[Client] = []
        self._consumers: list[PushConsumer] = []

    async def client(self) -> Client:
        """One client more."""
        made = Client(
            ClientConfig(
                name_servers=(self.cluster.name_server,),
                poll_name_server_interval_s=1.0,
                name_server_timeout_s=30.0,
                api_timeout_s=60.0,
                send_timeout_s=60.0,
            )
        )
        self._clients.append(made)
        await made.start()
        return made

    async def push(
        self,
        listener: Callable[[Sequence[Message]], Awaitable[ConsumeResult]],
        config: PushConfig = QUICK,
        expression: str = "*",
    ) -> PushConsumer:
        """A started push consumer of the topic, a member of the group."""
        consumer = PushConsumer(await self.client(), self.group, listener, config)
        self._consumers.append(consumer)
        consumer.subscribe(self.topic, expression)
        await consumer.start()
        return consumer

    async def send(self, count: int, begin: int = 0) -> list[bytes]:
        """Send messages one after the other, each acknowledged."""
        client = await self.client()
        producer = Producer(client, "python-producer")
        bodies = [b"message-%04d" % number for number in range(begin, begin + count)]
        for body in bodies:
            assert (await producer.send(self.topic, body)).status is SendStatus.SEND_OK
        return bodies

    async def stored(self, topic: str = "") -> list[Message]:
        """Everything in a topic, by plain pulls."""
        reader = PullConsumer(await self.client(), "python-reader")
        found: list[Message] = []
        for queue in await reader.queues(topic or self.topic):
            low, high = await reader.bounds(queue)
            for answer in await reader.read_all(queue, low, high):
                found.extend(answer.messages)
        return found

    async def close(self) -> None:
        """Leave the groups, close the connections."""
        for consumer in self._consumers:
            await consumer.close()
        for client in self._clients:
            await client.close()


def story(test: Callable[[Story], Awaitable[None]]) -> Callable[[ApacheCluster], None]:
    """Run an asynchronous test with a topic of its own name."""

    @wraps(test)
    def run(apache: ApacheCluster) -> None:
        name = test.__name__.removeprefix("test_").replace("_", "-")
        apache.create_topics([f"python-{name}"])

        async def whole() -> None:
            told = Story(apache, name)
            try:
                await test(told)
            except AssertionError as failure:
                failure.add_note(apache.words)
                raise
            finally:
                await told.close()

        asyncio.run(whole())

    del run.__wrapped__  # pytest must see that a cluster is wanted, not a story
    return run


class Inbox:
    """A listener that keeps what it gets."""

    def __init__(self, judge: Callable[[Message], ConsumeResult] = lambda _: ConsumeResult.SUCCESS) -> None:
        self.seen: list[Message] = []
        self._judge = judge

    async def __call__(self, messages: Sequence[Message]) -> ConsumeResult:
        self.seen.extend(messages)
        return max((self._judge(message) for message in messages), key=lambda one: one is ConsumeResult.LATER)

    @property
    def bodies(self) -> list[bytes]:
        return [message.body for message in self.seen]

    async def has(self, count: int) -> None:
        """Wait until it has so many."""

        async def enough() -> bool:
            return len(self.seen) >= count

        await eventually(enough, f"{count} messages; there are {len(self.seen)}")


@story
async def test_every_way_of_sending(told: Story) -> None:
    """Plain, many at a time, one-way, in a batch, to one queue, compressed: all are there, and as they were."""
    client = await told.client()
    producer = Producer(client, "python-producer")
    queues = await PullConsumer(client, "python-reader").queues(told.topic)
    assert [queue.queue_id for queue in queues] == [0, 1, 2, 3]
    sent = await told.send(5)
    tasks = [producer.send_async(told.topic, b"async-%d" % number) for number in range(5)]
    assert {result.status for result in await asyncio.gather(*tasks)} == {SendStatus.SEND_OK}
    batch = await producer.send_batch(told.topic, [Outgoing(b"batch-%d" % number, tags="B") for number in range(5)])
    assert len(batch.offset_message_id.split(",")) == 5
    direct = await producer.send(
        told.topic, b"direct", queue=queues[2], tags="T", keys=["k1", "k2"], properties={"a": "ü"}
    )
    assert direct.queue_id == 2
    large = b"z" * 20_000
    await producer.send(told.topic, large)
    await producer.send_oneway(told.topic, b"oneway")

    async def all_there() -> bool:
        return len(await told.stored()) == 18

    await eventually(all_there, "18 messages")
    found = {message.body: message for message in await told.stored()}
    assert set(sent) | {large, b"direct", b"oneway"} <= set(found)
    message = found[b"direct"]
    assert (message.tags, message.keys, message.properties["a"]) == ("T", ("k1", "k2"), "ü")
    assert message.queue_offset == direct.queue_offset
    offsets = [found[b"batch-%d" % number].queue_offset for number in range(5)]
    assert offsets == list(range(batch.queue_offset, batch.queue_offset + 5))


@story
async def test_pulls_and_offsets(told: Story) -> None:
    """Pull statuses, bounds, search by time, and a committed offset that comes back."""
    client = await told.client()
    producer, reader = Producer(client, "python-producer"), PullConsumer(client, told.group)
    queue = (await reader.queues(told.topic))[0]
    for number in range(5):
        await producer.send(told.topic, b"%d" % number, queue=queue)

    async def dispatched() -> bool:
        return await reader.bounds(queue) == (0, 5)

    await eventually(dispatched, "five messages in the queue")
    found = await reader.pull(queue, 2, 2)
    assert (found.status, [m.body for m in found.messages], found.next_offset) == (PullStatus.FOUND, [b"2", b"3"], 4)
    assert (await reader.pull(queue, 5)).status is PullStatus.NO_NEW_MSG
    beyond = await reader.pull(queue, 99)
    assert beyond.status is PullStatus.OFFSET_ILLEGAL
    assert beyond.next_offset == 5
    assert (await reader.pull(queue, 0, expression="absent")).status is PullStatus.NO_MATCHED_MSG
    assert await reader.search(queue, 0) == 0
    await reader.commit(queue, 3)
    assert await reader.committed(queue) == 3


@story
async def test_a_long_poll_ends_with_the_message(told: Story) -> None:
    """A pull that finds nothing is answered when something comes."""
    client = await told.client()
    producer, reader = Producer(client, "python-producer"), PullConsumer(client, told.group)
    queue = (await reader.queues(told.topic))[0]
    await producer.send(told.topic, b"before", queue=queue)

    async def dispatched() -> bool:
        return await reader.bounds(queue) == (0, 1)

    await eventually(dispatched, "one message in the queue")
    waiting = asyncio.create_task(reader.pull(queue, 1, suspend_ms=15_000))
    await producer.send(told.topic, b"after", queue=queue)
    assert [message.body for message in (await waiting).messages] == [b"after"]


@story
async def test_a_group_shares_and_resumes(told: Story) -> None:
    """Two members get everything once between them; a successor goes on where they were."""
    first, second = Inbox(), Inbox()
    members = [await told.push(first), await told.push(second)]

    async def shared() -> bool:
        return all(sum(queue.topic == told.topic for queue in member.assigned) == 2 for member in members)

    await eventually(shared, "two queues for each member")
    sent = await told.send(20)

    async def received() -> bool:
        return len(first.seen) + len(second.seen) >= 20

    await eventually(received, "20 messages")
    assert sorted(first.bodies + second.bodies) == sorted(sent)
    assert first.seen
    assert second.seen
    for member in members:
        await member.close()
    more = await told.send(8, 20)
    third = Inbox()
    await told.push(third)
    await third.has(8)
    assert sorted(third.bodies) == sorted(more)


@story
async def test_an_orderly_consumer_keeps_the_order(told: Story) -> None:
    """Each queue in its order, under the broker's lock."""
    inbox = Inbox()
    sent = await told.send(40)
    await told.push(inbox, PushConfig(start_from=StartFrom.FIRST_OFFSET, orderly=True, rebalance_retry_s=0.1))
    await inbox.has(40)
    assert sorted(inbox.bodies) == sorted(sent)
    for queue_id in range(4):
        offsets = [message.queue_offset for message in inbox.seen if message.queue_id == queue_id]
        assert offsets == list(range(10))


@story
async def test_tags_are_filtered(told: Story) -> None:
    """Only the wanted tags arrive."""
    producer = Producer(await told.client(), "python-producer")
    for number in range(12):
        await producer.send(told.topic, b"%d" % number, tags=f"Tag{'ABC'[number % 3]}")
    inbox = Inbox()
    await told.push(inbox, expression="TagA || TagC")
    await inbox.has(8)
    await producer.send(told.topic, b"last", tags="TagA")
    await inbox.has(9)
    assert {message.tags for message in inbox.seen} == {"TagA", "TagC"}
    assert len(inbox.seen) == 9


@story
async def test_a_failing_message_comes_again_and_dies(told: Story) -> None:
    """Through %RETRY% with its count, and after the last time to %DLQ%."""
    inbox = Inbox(lambda _: ConsumeResult.LATER)
    config = PushConfig(
        start_from=StartFrom.FIRST_OFFSET, rebalance_retry_s=0.1, rebalance_interval_s=1.0, max_reconsume_times=1
    )
    await told.push(inbox, config)
    await told.send(1)
    await inbox.has(2)
    assert [message.reconsume_times for message in inbox.seen] == [0, 1]
    assert {message.topic for message in inbox.seen} == {told.topic}

    async def dead() -> bool:
        return [message.body for message in await told.stored(dlq_topic(told.group))] == [b"message-0000"]

    await eventually(dead, "a dead letter")


@story
async def test_delays_are_kept(told: Story) -> None:
    """A message with delay level 2 arrives after one that was sent later without."""
    inbox = Inbox()
    await told.push(inbox)
    producer = Producer(await told.client(), "python-producer")
    await producer.send(told.topic, b"late", delay_level=2)
    await producer.send(told.topic, b"soon")
    await inbox.has(2)
    assert inbox.bodies == [b"soon", b"late"]
    assert inbox.seen[1].store_timestamp - inbox.seen[1].born_timestamp >= 2000


@story
async def test_broadcasting_reaches_every_member(told: Story) -> None:
    """Each member gets all, and keeps its own offsets."""
    inboxes = Inbox(), Inbox()
    sent = await told.send(10)
    config = PushConfig(model=MessageModel.BROADCASTING, start_from=StartFrom.FIRST_OFFSET, rebalance_retry_s=0.1)
    for inbox in inboxes:
        await told.push(inbox, config)
    for inbox in inboxes:
        await inbox.has(10)
        assert sorted(inbox.bodies) == sorted(sent)


@story
async def test_administration(told: Story) -> None:
    """Cluster, route, statistics, configuration, progress, and messages by id and key."""
    client = await told.client()
    admin = AdminClient(client)
    sent = await Producer(client, "python-producer").send(told.topic, b"wanted", keys=["the-key"])
    inbox = Inbox()
    consumer = await told.push(inbox)
    await inbox.has(1)
    await consumer.close()
    info = await admin.cluster_info()
    assert info.brokers == {GROUP: {0: told.cluster.master}}
    assert (await admin.topic_route(told.topic)).brokers == {GROUP: {0: told.cluster.master}}
    assert told.topic in await admin.topics()
    assert sum(row.max_offset - row.min_offset for row in await admin.topic_stats(told.topic)) == 1
    progress = [row for row in await admin.consume_stats(told.group) if row.queue.topic == told.topic]
    assert sum(row.consumer_offset for row in progress) == 1
    assert sum(row.lag for row in progress) == 0
    runtime = await admin.broker_runtime(told.cluster.master)
    assert told.cluster.release.version.replace(".", "_") in runtime["brokerVersionDesc"]
    settings = await admin.broker_config(told.cluster.master)
    assert (settings["brokerRole"], settings["brokerName"]) == ("ASYNC_MASTER", GROUP)
    assert (await admin.message_by_id(sent.offset_message_id)).body == b"wanted"
    by_key = await admin.messages_by_key(told.topic, "the-key")
    assert [message.message_id for message in by_key] == [sent.message_id]


@story
async def test_refusals_are_understood(told: Story) -> None:
    """The codes that brokers and name servers refuse with reach the caller."""
    client = await told.client()
    with pytest.raises(CommandFailed) as absent:
        await AdminClient(client).topic_route("nobody-made-this")
    assert absent.value.code == ResponseCode.TOPIC_NOT_EXIST
    producer = Producer(client, "python-producer")
    with pytest.raises(SendFailed) as long:
        await producer.send(told.topic, b"x", properties={"long": "p" * 32_700})
    assert long.value.code == ResponseCode.MESSAGE_ILLEGAL
    assert long.value.certain
