"""Sends against a scripted cluster: what every kind of trouble ends as, and how soon the route is asked for."""

from __future__ import annotations

import asyncio

import pytest

from nodes.client.messages import Outgoing
from nodes.client.outcomes import LocalCode
from nodes.client.queues import MessageQueue
from nodes.client.results import Outcome, SendFailed, SendStatus
from nodes.remoting.codes import RequestCode, ResponseCode
from nodes.remoting.message import decode_batch, decode_properties
from tests.unit.nodes import client_cluster
from tests.unit.nodes.client_cluster import FakeCluster, refuse, until
from tests.unit.nodes.client_stories import SEND, failure, producing, story


@story()
async def test_a_send_shows_where_it_went(cluster: FakeCluster) -> None:
    async with producing(cluster) as producer:
        result = await producer.send("T", b"x", tags="A", keys=["k"], queue=MessageQueue("T", "broker-a", 1))
    assert (result.status, result.queue_id, result.queue_offset, result.epoch) == (SendStatus.SEND_OK, 1, 0, 3)
    (attempt,) = result.attempts
    assert (attempt.outcome, attempt.address) == (Outcome.OK, cluster.brokers["a0"].address)
    seen = next(command for command in cluster.brokers["a0"].seen if command.code == SEND)
    assert seen.ext["a"] == "PG"
    properties = decode_properties(seen.ext["i"])
    assert (properties["TAGS"], properties["KEYS"], properties["UNIQ_KEY"]) == ("A", "k", result.message_id)


@story()
async def test_the_cached_route_is_used(cluster: FakeCluster) -> None:
    async with producing(cluster) as producer:
        for _ in range(5):
            await producer.send("T", b"x")
    assert cluster.route_queries() == 1
    assert cluster.offsets == {("a0", "0"): 3, ("a0", "1"): 2} or cluster.offsets == {("a0", "0"): 2, ("a0", "1"): 3}


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (0, SendStatus.SEND_OK),
        (10, SendStatus.FLUSH_DISK_TIMEOUT),
        (11, SendStatus.SLAVE_NOT_AVAILABLE),
        (12, SendStatus.FLUSH_SLAVE_TIMEOUT),
    ],
)
def test_statuses_are_told_verbatim(code: int, status: SendStatus) -> None:
    @story()
    async def play(cluster: FakeCluster) -> None:
        cluster.brokers["a0"].scripts[SEND] = cluster.store("a0", code)
        async with producing(cluster, retries=2) as producer:
            result = await producer.send("T", b"x")
        assert result.status is status
        assert len(result.attempts) == 1

    play()


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (1, Outcome.INFO),
        (2, Outcome.INFO),
        (13, Outcome.FAIL),
        (14, Outcome.FAIL),
        (17, Outcome.FAIL),
        (999, Outcome.INFO),
    ],
)
def test_error_codes_end_as_the_table_says(code: int, outcome: Outcome) -> None:
    @story()
    async def play(cluster: FakeCluster) -> None:
        cluster.brokers["a0"].scripts[SEND] = refuse(code)
        async with producing(cluster) as producer:
            failed = await failure(producer.send("T", b"x"))
        assert [attempt.outcome for attempt in failed.attempts] == [outcome]
        assert failed.certain is (outcome is Outcome.FAIL)
        assert failed.code == code

    play()


@story()
async def test_a_success_without_an_offset_is_unknown(cluster: FakeCluster) -> None:
    cluster.brokers["a0"].scripts[SEND] = lambda _, command: command.reply(0)
    async with producing(cluster) as producer:
        failed = await failure(producer.send("T", b"x"))
    assert (failed.code, failed.certain) == (LocalCode.GARBLED_REPLY, False)


@story()
async def test_a_timeout_is_unknown(cluster: FakeCluster) -> None:
    cluster.brokers["a0"].silent = True
    async with producing(cluster, send_timeout_s=0.2, route_query_after_s=5) as producer:
        failed = await failure(producer.send("T", b"x"))
    assert (failed.code, failed.certain) == (LocalCode.TIMEOUT, False)


@story()
async def test_a_refused_connection_is_certain_and_asks_for_the_route_at_once(cluster: FakeCluster) -> None:
    async with producing(cluster) as producer:
        await producer.client.queries.refresh("T")
        await cluster.brokers["a0"].stop()
        failed = await failure(producer.send("T", b"x"))
        assert (failed.code, failed.certain) == (LocalCode.CONNECT_FAILED, True)
        await until(lambda: cluster.route_queries() == 2)


@story()
async def test_a_connection_lost_while_waiting_is_unknown_and_asks_for_the_route(cluster: FakeCluster) -> None:
    cluster.brokers["a0"].silent = True
    async with producing(cluster) as producer:
        send = asyncio.ensure_future(failure(producer.send("T", b"x")))
        await until(lambda: cluster.brokers["a0"].count(SEND) == 1)
        await cluster.brokers["a0"].stop()
        failed = await send
        assert (failed.code, failed.certain) == (LocalCode.CONNECTION_LOST, False)
        await until(lambda: cluster.route_queries() == 2)


@pytest.mark.parametrize("code", [ResponseCode.SERVICE_NOT_AVAILABLE, ResponseCode.SYSTEM_BUSY])
def test_not_master_asks_for_the_route_at_once(code: int) -> None:
    @story()
    async def play(cluster: FakeCluster) -> None:
        cluster.brokers["a0"].scripts[SEND] = refuse(code)
        async with producing(cluster) as producer:
            await failure(producer.send("T", b"x"))
            await until(lambda: cluster.route_queries() == 2)

    play()


@story()
async def test_an_outstanding_answer_asks_for_the_route_one_query_at_a_time(cluster: FakeCluster) -> None:
    """Fifty sends wait for one broker; the name server is slow: one query is outstanding, not fifty."""
    cluster.brokers["a0"].silent = True
    async with producing(cluster, route_query_after_s=0.05, name_server_timeout_s=30, api_timeout_s=30) as producer:
        await producer.client.queries.refresh("T")
        cluster.name_servers[0].silent = True
        sends = [asyncio.ensure_future(failure(producer.send("T", b"x"))) for _ in range(50)]
        await until(lambda: cluster.route_queries() == 2)
        await asyncio.sleep(0.3)
        assert cluster.route_queries() == 2
    ended = await asyncio.gather(*sends)
    assert {one.certain for one in ended} == {False}


@story()
async def test_without_trouble_an_answer_that_is_due_asks_nothing(cluster: FakeCluster) -> None:
    async with producing(cluster, route_query_after_s=30) as producer:
        await asyncio.gather(*(producer.send("T", b"x") for _ in range(20)))
        assert cluster.route_queries() == 1


@story()
async def test_pending_attempts_end_as_unknown_when_another_master_is_named(cluster: FakeCluster) -> None:
    """The old master is silent; once the route names another one nobody waits for the time-out."""
    cluster.brokers["a0"].silent = True
    async with producing(cluster, send_timeout_s=60, route_query_after_s=0.05) as producer:
        sends = [asyncio.ensure_future(failure(producer.send("T", b"x"))) for _ in range(5)]
        await until(lambda: cluster.brokers["a0"].count(SEND) == 5)
        cluster.route("T", {"broker-a": {0: "a1"}})
        ended = await asyncio.wait_for(asyncio.gather(*sends), client_cluster.PATIENCE_S)
        assert {one.code for one in ended} == {LocalCode.MASTER_MOVED}
        assert {one.certain for one in ended} == {False}
        assert (await producer.send("T", b"y")).address == cluster.brokers["a1"].address


@story()
async def test_with_retries_pending_attempts_are_sent_again_to_the_new_master(cluster: FakeCluster) -> None:
    cluster.brokers["a0"].silent = True
    async with producing(cluster, send_timeout_s=60, route_query_after_s=0.05, retries=1) as producer:
        send = asyncio.ensure_future(producer.send("T", b"x"))
        await until(lambda: cluster.brokers["a0"].count(SEND) == 1)
        cluster.route("T", {"broker-a": {0: "a1"}})
        result = await asyncio.wait_for(send, client_cluster.PATIENCE_S)
    assert [attempt.outcome for attempt in result.attempts] == [Outcome.INFO, Outcome.OK]
    assert [a.address for a in result.attempts] == [cluster.brokers[n].address for n in ("a0", "a1")]
    ids = {
        decode_properties(command.ext["i"])["UNIQ_KEY"]
        for node in cluster.brokers.values()
        for command in node.seen
        if command.code == SEND
    }
    assert ids == {result.message_id}


@story()
async def test_a_route_that_only_loses_its_master_ends_nothing(cluster: FakeCluster) -> None:
    cluster.brokers["a0"].silent = True
    async with producing(cluster, send_timeout_s=1.0, route_query_after_s=0.05) as producer:
        send = asyncio.ensure_future(failure(producer.send("T", b"x")))
        await until(lambda: cluster.brokers["a0"].count(SEND) == 1)
        cluster.route("T", {"broker-a": {1: "a1"}})
        assert (await send).code == LocalCode.TIMEOUT


@story()
async def test_retries_go_to_another_group(cluster: FakeCluster) -> None:
    await cluster.add_broker("b0")
    cluster.route("T", {"broker-a": {0: "a0"}, "broker-b": {0: "b0"}})
    cluster.brokers["a0"].scripts[SEND] = refuse(1)
    async with producing(cluster, retries=1) as producer:
        results = [await producer.send("T", b"x") for _ in range(6)]
    assert {result.broker_name for result in results} == {"broker-b"}
    assert {tuple(a.broker_name for a in result.attempts) for result in results} == {
        ("broker-b",),
        ("broker-a", "broker-b"),
    }


@story()
async def test_retries_end_with_every_attempt_shown(cluster: FakeCluster) -> None:
    cluster.brokers["a0"].scripts[SEND] = refuse(14)
    async with producing(cluster, retries=2) as producer:
        failed = await failure(producer.send("T", b"x"))
        assert [attempt.code for attempt in failed.attempts] == [14, 14, 14]
        assert failed.certain
        cluster.brokers["a0"].scripts[SEND] = refuse(13)
        assert len((await failure(producer.send("T", b"x"))).attempts) == 1
        assert len((await failure(producer.send("T", b"x", queue=MessageQueue("T", "broker-a", 0)))).attempts) == 1


@story()
async def test_one_unknown_attempt_makes_the_failure_unknown(cluster: FakeCluster) -> None:
    answers = [refuse(1), refuse(14), refuse(14)]
    cluster.brokers["a0"].scripts[SEND] = lambda connection, command: answers.pop(0)(connection, command)
    async with producing(cluster, retries=2) as producer:
        failed = await failure(producer.send("T", b"x"))
    assert [attempt.outcome for attempt in failed.attempts] == [Outcome.INFO, Outcome.FAIL, Outcome.FAIL]
    assert not failed.certain


@story()
async def test_a_weak_status_is_tried_elsewhere_only_if_asked(cluster: FakeCluster) -> None:
    await cluster.add_broker("b0")
    cluster.route("T", {"broker-a": {0: "a0"}, "broker-b": {0: "b0"}}, queues=1)
    cluster.brokers["a0"].scripts[SEND] = cluster.store("a0", 12)
    async with producing(cluster, retries=1, retry_another_broker_when_not_store_ok=True) as producer:
        statuses = [await producer.send("T", b"x") for _ in range(4)]
        assert {result.status for result in statuses} == {SendStatus.SEND_OK}
        assert max(len(result.attempts) for result in statuses) == 2
        cluster.brokers["b0"].scripts[SEND] = refuse(13)
        kept = [await producer.send("T", b"x", selector=lambda queues: queues[0], retries=1)]
        assert kept[0].status is SendStatus.FLUSH_SLAVE_TIMEOUT


@story()
async def test_async_sends_retry_transport_errors_and_no_broker_codes(cluster: FakeCluster) -> None:
    await cluster.add_broker("b0")
    cluster.route("T", {"broker-a": {0: "a0"}, "broker-b": {0: "b0"}})
    cluster.brokers["a0"].scripts[SEND] = refuse(1)
    async with producing(cluster, retries=2) as producer:
        ends = await asyncio.gather(*(producer.send_async("T", b"x") for _ in range(4)), return_exceptions=True)
        assert {len(end.attempts) for end in ends if isinstance(end, SendFailed)} == {1}
        await cluster.brokers["a0"].stop()
        results = await asyncio.gather(*(producer.send_async("T", b"x") for _ in range(4)))
        assert {result.broker_name for result in results} == {"broker-b"}


@story()
async def test_latency_fault_tolerance_keeps_away_from_a_failing_group(cluster: FakeCluster) -> None:
    await cluster.add_broker("b0")
    cluster.route("T", {"broker-a": {0: "a0"}, "broker-b": {0: "b0"}})
    cluster.brokers["a0"].scripts[SEND] = refuse(1)
    async with producing(cluster, retries=1, latency_fault_enable=True) as producer:
        for _ in range(10):
            await producer.send("T", b"x")
    assert cluster.brokers["a0"].count(SEND) <= 1


@story()
async def test_a_selector_chooses_and_is_not_retried(cluster: FakeCluster) -> None:
    async with producing(cluster, retries=2) as producer:
        results = [await producer.send("T", b"x", selector=lambda queues: queues[1]) for _ in range(3)]
        assert {result.queue_id for result in results} == {1}
        cluster.brokers["a0"].scripts[SEND] = refuse(14)
        assert len((await failure(producer.send("T", b"x", selector=lambda queues: queues[1]))).attempts) == 1


@story()
async def test_batches_and_one_way_sends(cluster: FakeCluster) -> None:
    async with producing(cluster) as producer:
        result = await producer.send_batch("T", [Outgoing(b"1", tags="A"), Outgoing(b"2")])
        assert len(result.message_id.split(",")) == 2
        batch = next(c for c in cluster.brokers["a0"].seen if c.code == RequestCode.SEND_BATCH_MESSAGE)
        assert [part.body for part in decode_batch(batch.body)] == [b"1", b"2"]
        assert batch.ext["m"] == "true"
        await producer.send_oneway("T", b"x")
        await until(lambda: any(c.is_oneway for c in cluster.brokers["a0"].seen))
        await cluster.brokers["a0"].stop()
        await until(lambda: not producer.client.remoting.connected(cluster.brokers["a0"].address))
        assert (await failure(producer.send_oneway("T", b"x"))).certain
        for bad in ([], [Outgoing(b"1", properties={"DELAY": "1"})]):
            assert (await failure(producer.send_batch("T", bad))).code == LocalCode.NOT_ALLOWED
        assert (await failure(producer.send_batch("%RETRY%g", [Outgoing(b"1")]))).code == LocalCode.NOT_ALLOWED


@story()
async def test_refused_before_any_byte(cluster: FakeCluster) -> None:
    async with producing(cluster, max_message_size=100) as producer:
        large = await failure(producer.send("T", b"x" * 101))
        assert (large.code, large.certain) == (LocalCode.TOO_LARGE, True)
        odd = await failure(producer.send("T", b"x", properties={"a\x01": "b"}))
        assert (odd.code, odd.certain) == (LocalCode.NOT_ALLOWED, True)
        with pytest.raises(SendFailed):
            producer.send_async("T", b"x" * 101)
    assert cluster.brokers["a0"].count(SEND) == 0


@story()
async def test_large_bodies_travel_compressed(cluster: FakeCluster) -> None:
    async with producing(cluster) as producer:
        await producer.send("T", b"x" * 4096)
        await producer.send("T", b"x" * 4095)
    first, second = (command for command in cluster.brokers["a0"].seen if command.code == SEND)
    assert (first.ext["f"], len(first.body) < 100) == ("769", True)
    assert (second.ext["f"], len(second.body)) == ("0", 4095)
