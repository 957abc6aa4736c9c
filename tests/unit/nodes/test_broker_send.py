"""Sends to real brokers on loopback: statuses in each role and flush mode, refusals, batches, retries, dead letters."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from nodes.config import BrokerRole
from nodes.remoting import message as layout
from nodes.remoting.codes import RequestCode
from tests.unit.nodes.broker_support import (
    ASYNC,
    SYNC,
    Flaw,
    FlushDiskType,
    GatedDisk,
    Node,
    pair,
    running,
    settings,
    until,
    until_true,
)

SYNC_FLUSH = FlushDiskType.SYNC_FLUSH


def test_send_pull_and_everything_a_producer_reads(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings(tmp_path)) as node:
            first = await node.send(b"one", properties="KEYS\x01k1\x02TAGS\x01A\x02WAIT\x01true")
            second = await node.send(b"two")
            assert (first.code, second.code) == (0, 0)
            assert first.ext["queueOffset"] == "0"
            assert second.ext["queueOffset"] == "1"
            assert first.ext["queueId"] == "0"
            assert first.ext["epoch"] == "1"
            assert first.ext["MSG_REGION"] == "DefaultRegion"
            host, offset = layout.parse_offset_message_id(first.ext["msgId"])
            assert layout.format_host(host) == node.address
            assert offset == 0
            stored = await node.messages()
            assert [message.body for message in stored] == [b"one", b"two"]
            assert stored[0].properties["CLUSTER"] == "C"
            assert stored[0].properties["KEYS"] == "k1"
            assert stored[0].offset_message_id == first.ext["msgId"]
            seen = await node.ask(RequestCode.VIEW_MESSAGE_BY_ID, {"offset": offset})
            assert layout.decode_record(seen.body).body == b"one"
            by_key = await node.ask(
                RequestCode.QUERY_MESSAGE,
                {"topic": "T", "key": "k1", "maxNum": 8, "beginTimestamp": 0, "endTimestamp": 2**62},
            )
            assert layout.decode_records(by_key.body)[0].body == b"one"
            nothing = await node.ask(
                RequestCode.QUERY_MESSAGE,
                {"topic": "T", "key": "k2", "maxNum": 8, "beginTimestamp": 0, "endTimestamp": 2**62},
            )
            assert nothing.code == 22

    asyncio.run(story())


def test_long_header_names_batches_and_random_queues(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings(tmp_path)) as node:
            old = await node.ask(
                RequestCode.SEND_MESSAGE,
                {
                    "producerGroup": "P",
                    "topic": "T",
                    "defaultTopic": "TBW102",
                    "defaultTopicQueueNums": 2,
                    "queueId": -1,
                    "sysFlag": 0,
                    "bornTimestamp": 1,
                    "flag": 0,
                },
                b"old",
            )
            assert old.code == 0
            assert 0 <= int(old.ext["queueId"]) < 2
            parts = [layout.BatchPart(0, body, f"UNIQ_KEY\x01{number}\x02") for number, body in enumerate([b"x", b"y"])]
            batch = await node.ask(
                RequestCode.SEND_BATCH_MESSAGE,
                {"a": "P", "b": "B", "c": "TBW102", "d": 1, "e": 0, "f": 0, "g": 1, "h": 0, "m": True},
                layout.encode_batch(parts),
            )
            assert batch.code == 0
            assert batch.ext["queueOffset"] == "0"
            assert len(batch.ext["msgId"].split(",")) == 2
            assert await node.bodies("B") == [b"x", b"y"]
            garbled = await node.ask(
                RequestCode.SEND_BATCH_MESSAGE,
                {"a": "P", "b": "B", "c": "TBW102", "d": 1, "e": 0, "f": 0, "g": 1, "h": 0, "m": True},
                b"\x00\x00\x00\x07abc",
            )
            assert garbled.code == 13
            assert await node.bodies("B") == [b"x", b"y"]

    asyncio.run(story())


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"topic": "a b"}, 29),
        ({"topic": "SCHEDULE_TOPIC_XXXX"}, 16),
        ({"topic": "U", "c": "absent"}, 17),
        ({"queue": 4}, 29),
        ({"sys_flag": 4}, 16),
        ({"sys_flag": 0x40}, 13),
        ({"sys_flag": 0x80}, 13),
        ({"properties": "TRAN_MSG\x01true\x02"}, 16),
        ({"properties": "TIMER_DELAY_SEC\x0110\x02"}, 13),
        ({"properties": "TIMER_DELIVER_MS\x0110\x02"}, 13),
        ({"properties": "DELAY\x01soon\x02"}, 13),
        ({"properties": "x" * 40_000}, 13),
        ({"properties": "k\x01\x00\x02"}, 13),
        ({"e": "many"}, 1),
        ({"sys_flag": 2**31}, 1),
        ({"h": 2**31}, 1),
        ({"g": 2**63}, 1),
        ({"tried": -(2**31) - 1}, 1),
    ],
)
def test_what_cannot_be_stored_is_refused_by_code(tmp_path: Path, change: dict[str, Any], code: int) -> None:
    async def story() -> None:
        async with running(settings(tmp_path)) as node:
            assert (await node.send(b"good")).code == 0
            end = node.broker.store.written_end
            answer = await node.send(b"bad", **{"topic": "T", **change})
            assert answer.code == code, answer.remark
            assert answer.remark
            assert node.broker.store.written_end == end, "nothing was stored"

    asyncio.run(story())


def test_too_large_bodies_are_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings(tmp_path, max_message_size=1000)) as node:
            assert (await node.send(b"x" * 1001)).code == 13
            assert (await node.send(b"x" * 1000)).code == 0

    asyncio.run(story())


def test_without_auto_creation_a_topic_must_exist(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings(tmp_path, auto_create_topic_enable=False)) as node:
            assert (await node.send(b"x")).code == 17
            update = {"topic": "T", "defaultTopic": "TBW102", "readQueueNums": 2, "writeQueueNums": 2, "perm": 4}
            assert (await node.ask(RequestCode.UPDATE_AND_CREATE_TOPIC, update)).code == 0
            assert (await node.send(b"x")).code == 16
            assert (await node.ask(RequestCode.UPDATE_AND_CREATE_TOPIC, {**update, "perm": 6})).code == 0
            assert (await node.send(b"x")).code == 0

    asyncio.run(story())


def test_sync_flush_waits_for_the_disk_and_tells_when_it_is_late(tmp_path: Path) -> None:
    async def story() -> None:
        disk = GatedDisk()
        config = settings(tmp_path, flush_disk_type=SYNC_FLUSH, sync_flush_timeout=200)
        async with running(config, disk=disk) as node:
            assert (await node.send(b"one")).code == 0
            disk.gate.clear()
            late = await node.send(b"two")
            assert late.code == 10
            assert late.ext["queueOffset"] == "1"
            assert await node.bodies() == [b"one"], "what is not synced is not visible"
            disk.gate.set()
            assert (await node.send(b"three")).code == 0
            assert await node.bodies() == [b"one", b"two", b"three"]

    asyncio.run(story())


def test_group_commit_syncs_many_sends_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        disk = GatedDisk()
        async with running(settings(tmp_path, flush_disk_type=SYNC_FLUSH), disk=disk) as node:
            assert (await node.send(b"first")).code == 0
            disk.gate.clear()
            before = disk.syncs
            sends = [asyncio.ensure_future(node.send(b"x")) for _ in range(200)]
            await until(lambda: node.broker.core.pipeline.waiting == 200, "all sends wait")
            disk.gate.set()
            assert {(await send).code for send in sends} == {0}
            assert disk.syncs - before <= 5

    asyncio.run(story())


def test_a_failed_sync_ends_acknowledgement_for_good(tmp_path: Path) -> None:
    async def story() -> None:
        disk = GatedDisk()
        async with running(settings(tmp_path, flush_disk_type=SYNC_FLUSH), disk=disk) as node:
            assert (await node.send(b"one")).code == 0
            disk.broken = True
            lost = await node.send(b"two")
            assert lost.code == 1, "unknown, neither success nor a code that says it was not stored"
            disk.broken = False
            refused = await node.send(b"three")
            assert refused.code == 14
            assert (await node.status())["state"] == "failed"

    asyncio.run(story())


def test_sync_master_without_a_slave_says_so_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings(tmp_path, broker_role=SYNC, slave_timeout=60_000)) as node:
            answer = await node.send(b"one")
            assert answer.code == 11
            assert answer.ext["queueOffset"] == "0"
            waived = await node.send(b"two", properties="WAIT\x01false")
            assert waived.code == 0
            assert waived.ext["waited"] == "false"
            assert await node.bodies() == [b"one", b"two"]
        async with running(settings(tmp_path, "c", broker_role=SYNC, in_sync_replicas=1)) as node:
            assert (await node.send(b"one")).code == 0, "1 waits for nobody"

    asyncio.run(story())


def test_sync_master_waits_for_its_slave(tmp_path: Path) -> None:
    async def story() -> None:
        async with pair(tmp_path, SYNC, slave_timeout=300) as (master, slave):
            for number in range(50):
                assert (await master.send(b"%d" % number)).code == 0
                assert slave.broker.store.written_end == master.broker.store.written_end
            assert await slave.bodies() == [b"%d" % number for number in range(50)]
            link = slave.replica._link
            assert link is not None
            link.transport.pause_reading()
            stuck = await master.send(b"stuck")
            assert stuck.code == 12
            link.transport.resume_reading()
            await until(lambda: slave.broker.store.written_end == master.broker.store.written_end)
            assert (await master.send(b"again")).code == 0
            refused = await slave.send(b"to the slave")
            assert refused.code == 14

    asyncio.run(story())


@pytest.mark.parametrize("flush", list(FlushDiskType))
@pytest.mark.parametrize("role", [ASYNC, SYNC])
def test_every_combination_acknowledges_with_a_slave(tmp_path: Path, role: BrokerRole, flush: FlushDiskType) -> None:
    async def story() -> None:
        async with pair(tmp_path, role, flush_disk_type=flush) as (master, slave):
            codes = [(await master.send(b"%d" % number)).code for number in range(20)]
            assert codes == [0] * 20
            await until_true(lambda: _has(slave, 20), "the slave has all")

    async def _has(node: Node, count: int) -> bool:
        return len(await node.bodies()) == count

    asyncio.run(story())


def test_two_connections_of_one_slave_are_one_copy(tmp_path: Path) -> None:
    async def story() -> None:
        async with pair(tmp_path, SYNC, in_sync_replicas=3) as (master, _):
            answer = await master.send(b"one")
            assert answer.code == 11, "two slaves are promised, one is there"
            assert len((await master.status())["slaves"]) == 1

    asyncio.run(story())


@pytest.mark.flaws
def test_planted_early_reply_is_visible(tmp_path: Path) -> None:
    async def story() -> None:
        config = settings(tmp_path, broker_role=SYNC, flaws=frozenset({Flaw.REPLY_BEFORE_REPLICA}))
        async with running(config) as node:
            assert (await node.send(b"alone")).code == 0

    asyncio.run(story())


def test_messages_given_back_are_retried_then_dead(tmp_path: Path) -> None:
    async def story() -> None:
        levels = (30, 30, 30, 30, 30)
        async with running(settings(tmp_path, message_delay_level=levels)) as node:
            await node.send(b"poison", properties="TAGS\x01A\x02UNIQ_KEY\x01u1\x02")
            message = (await node.messages())[0]
            back = {"group": "g", "delayLevel": 0, "originTopic": "T", "maxReconsumeTimes": 2}
            for tried in (1, 2):
                answer = await node.ask(
                    RequestCode.CONSUMER_SEND_MSG_BACK, {**back, "offset": message.offset_log, "originMsgId": "u1"}
                )
                assert answer.code == 0, answer.remark
                await until(lambda: node.broker.store.queue_bounds("%RETRY%g", 0)[1] == tried)  # noqa: B023
                message = (await node.messages("%RETRY%g"))[-1]
                assert message.reconsume_times == tried
                assert message.properties["RETRY_TOPIC"] == "T"
                assert message.properties["UNIQ_KEY"] == "u1"
                assert message.body == b"poison"
            answer = await node.ask(RequestCode.CONSUMER_SEND_MSG_BACK, {**back, "offset": message.offset_log})
            assert answer.code == 0
            dead = await node.messages("%DLQ%g")
            assert [one.body for one in dead] == [b"poison"]
            assert dead[0].properties["ORIGIN_MESSAGE_ID"] == (await node.messages())[0].offset_message_id
            missing = await node.ask(RequestCode.CONSUMER_SEND_MSG_BACK, {**back, "offset": 10**9})
            assert missing.code == 1

    asyncio.run(story())


def test_another_message_at_that_place_is_not_given_back_instead(tmp_path: Path) -> None:
    """The consumer read its message from a master whose tail was lost; here another one took its place."""

    async def story() -> None:
        async with running(settings(tmp_path)) as node:
            await node.send(b"other", properties="UNIQ_KEY\x01u2\x02")
            back = {"group": "g", "delayLevel": 0, "offset": 0, "originTopic": "T", "originMsgId": "u1"}
            answer = await node.ask(RequestCode.CONSUMER_SEND_MSG_BACK, back)
            assert (answer.code, answer.remark) == (1, "the message at log offset 0 is not u1")
            assert (await node.ask(RequestCode.CONSUMER_SEND_MSG_BACK, {**back, "originMsgId": "u2"})).code == 0
            own = (await node.messages())[0].offset_message_id
            assert (await node.ask(RequestCode.CONSUMER_SEND_MSG_BACK, {**back, "originMsgId": own})).code == 0

    asyncio.run(story())


def test_giving_back_needs_the_full_promise(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings(tmp_path, broker_role=SYNC)) as node:
            await node.send(b"x")
            answer = await node.ask(
                RequestCode.CONSUMER_SEND_MSG_BACK, {"group": "g", "delayLevel": 0, "offset": 0, "originMsgId": ""}
            )
            assert answer.code == 1, "without a slave the consumer must keep the message"

    asyncio.run(story())


def test_delayed_messages_arrive_when_due_and_once(tmp_path: Path) -> None:
    async def story() -> None:
        config = settings(tmp_path, message_delay_level=(150, 60_000))
        async with running(config) as node:
            answer = await node.send(b"later", queue=2, properties="DELAY\x011\x02")
            assert answer.code == 0
            assert answer.ext["queueId"] == "2"
            assert (await node.send(b"much later", queue=2, properties="DELAY\x0199\x02")).code == 0
            assert await node.bodies(queue=2) == []
            await until(lambda: node.broker.store.queue_bounds("T", 2)[1] == 1, "it is delivered")
            delivered = (await node.messages(queue=2))[0]
            assert delivered.body == b"later"
            assert delivered.topic == "T"
            await until(lambda: node.broker.core.tables.delays.next_offset(1) == 1, "progress is confirmed")
        async with running(config) as node:
            assert await node.bodies(queue=2) == [b"later"], "a restart does not deliver it again"
            answer = await node.ask(RequestCode.GET_ALL_DELAY_OFFSET)
            assert b'"1":1' in answer.body

    asyncio.run(story())


def test_a_slave_delivers_nothing_and_goes_on_where_the_master_was(tmp_path: Path) -> None:
    async def story() -> None:
        async with pair(tmp_path, SYNC, message_delay_level=(100,)) as (master, slave):
            await master.send(b"later", properties="DELAY\x011\x02")
            await until(lambda: slave.broker.store.queue_bounds("T", 0)[1] == 1, "the copy is replicated")
            await until(lambda: slave.broker.core.tables.delays.next_offset(1) == 1, "progress is replicated")
            assert await slave.bodies() == [b"later"]

    asyncio.run(story())
