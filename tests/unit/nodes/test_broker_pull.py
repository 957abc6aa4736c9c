"""Pulls, long polls, offsets, clients, locks and administration over loopback."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from nodes.remoting.codes import RequestCode
from nodes.remoting.message import decode_records
from tests.unit.nodes.broker_support import (
    ASYNC,
    SYNC,
    Flaw,
    Node,
    pair,
    running,
    settings,
    until,
    until_true,
)

SUSPEND: dict[str, Any] = {"sysFlag": 6, "suspendTimeoutMillis": 20_000}


def test_pull_answers_follow_the_table(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings(tmp_path)) as node:
            await node.send(b"0", properties="TAGS\x01A\x02")
            await node.send(b"1", properties="TAGS\x01B\x02")
            found = await node.pull(0)
            assert (found.code, found.remark) == (0, "FOUND")
            assert found.ext["nextBeginOffset"] == "2"
            assert found.ext["minOffset"] == "0"
            assert found.ext["maxOffset"] == "2"
            assert found.ext["suggestWhichBrokerId"] == "0"
            assert found.ext["epoch"] == "1"
            end = await node.pull(2)
            assert (end.code, end.ext["nextBeginOffset"]) == (19, "2")
            beyond = await node.pull(7)
            assert (beyond.code, beyond.ext["nextBeginOffset"]) == (21, "2")
            empty = await node.pull(0, queue=1)
            assert (empty.code, empty.ext["nextBeginOffset"]) == (19, "0")
            empty = await node.pull(5, queue=1)
            assert (empty.code, empty.ext["nextBeginOffset"]) == (21, "0")
            only_b = await node.pull(0, subscription="B || C")
            assert [message.body for message in decode_records(only_b.body)] == [b"1"]
            none = await node.pull(0, subscription="D")
            assert (none.code, none.ext["nextBeginOffset"]) == (20, "2")
            limited = await node.pull(0, maxMsgNums=1)
            assert limited.ext["nextBeginOffset"] == "1"
            lite = await node.ask(
                RequestCode.LITE_PULL_MESSAGE,
                {
                    "consumerGroup": "g",
                    "topic": "T",
                    "queueId": 0,
                    "queueOffset": 0,
                    "maxMsgNums": 10,
                    "sysFlag": 22,
                    "commitOffset": 0,
                    "suspendTimeoutMillis": 1000,
                    "subscription": "*",
                    "subVersion": 0,
                },
            )
            assert lite.code == 0

    asyncio.run(story())


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"topic": "absent"}, 17),
        ({"queue": 99}, 29),
        ({"expressionType": "SQL92", "subscription": "a > 1"}, 1),
        ({"sysFlag": 12}, 23),
        ({"subscription": "||"}, 23),
        ({"sysFlag": 0}, 24),
        ({"queueOffset": "x"}, 1),
    ],
)
def test_pulls_that_cannot_be_served_are_refused_by_code(tmp_path: Path, change: dict[str, Any], code: int) -> None:
    async def story() -> None:
        async with running(settings(tmp_path)) as node:
            await node.send(b"0")
            answer = await node.pull(0, **change)
            assert answer.code == code, answer.remark

    asyncio.run(story())


def test_subscription_of_the_heartbeat_is_used(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings(tmp_path)) as node:
            await node.send(b"0")
            assert (await node.pull(0, sysFlag=0, subVersion=5)).code == 24
            assert (await node.heartbeat("c1", version=5)).code == 0
            assert (await node.pull(0, sysFlag=0, subVersion=6)).code == 25
            assert (await node.pull(0, sysFlag=0, subVersion=5)).code == 0
            unsubscribed = await node.pull(0, topic="TBW102", sysFlag=0)
            assert unsubscribed.code == 24

    asyncio.run(story())


def test_a_long_poll_is_answered_by_the_message_it_waits_for(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings(tmp_path)) as node:
            await node.send(b"0")
            waiting = asyncio.ensure_future(node.pull(1, **SUSPEND, subscription="A"))
            await until(lambda: node.broker.pulls.parked == 1, "the pull waits")
            await node.send(b"other", properties="TAGS\x01B\x02")
            assert not waiting.done(), "a message it does not want does not wake it"
            await node.send(b"wanted", properties="TAGS\x01A\x02")
            answer = await waiting
            assert [message.body for message in decode_records(answer.body)] == [b"wanted"]
            assert answer.ext["nextBeginOffset"] == "3"
            timed = await node.pull(3, sysFlag=6, suspendTimeoutMillis=100)
            assert (timed.code, timed.ext["nextBeginOffset"]) == (19, "3")
            assert node.broker.pulls.parked == 0

    asyncio.run(story())


def test_pulls_of_a_closed_connection_are_forgotten(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings(tmp_path)) as node:
            await node.send(b"0")
            waiting = asyncio.ensure_future(node.pull(1, **SUSPEND))
            await until(lambda: node.broker.pulls.parked == 1)
            node.client.disconnect(node.address)
            await until(lambda: node.broker.pulls.parked == 0, "it is forgotten")
            with pytest.raises(Exception, match="closed"):
                await waiting

    asyncio.run(story())


def test_a_reader_of_a_lost_tail_is_sent_back_to_the_fork(tmp_path: Path) -> None:
    """The old master had ten messages, the promoted slave seven of them."""

    async def story() -> None:
        async with pair(tmp_path, ASYNC) as (master, slave):
            for number in range(7):
                await master.send(b"%d" % number)
            await until(lambda: slave.broker.store.written_end == master.broker.store.written_end)
            slave.replica.stop()
            for number in range(7, 10):
                await master.send(b"lost %d" % number)
            end = await master.pull(0)
            assert end.ext["nextBeginOffset"] == "10"
            assert end.ext["epoch"] == "1"
        promoted = settings(tmp_path, "b", broker_role=ASYNC)
        async with running(promoted) as node:
            for number in range(20):
                await node.send(b"new %d" % number)
            moved = await node.pull(10, epoch=1)
            assert (moved.code, moved.ext["nextBeginOffset"], moved.ext["epoch"]) == (21, "7", "2")
            again = await node.pull(7, epoch=2)
            assert decode_records(again.body)[0].body == b"new 0"
            assert (await node.pull(7, epoch=1)).code == 0, "what both logs share was read"
            assert (await node.pull(10)).code == 0, "a client that says nothing is served as ever"
            late = {"consumerGroup": "g", "topic": "T", "queueId": 0, "commitOffset": 10}
            await node.ask(RequestCode.UPDATE_CONSUMER_OFFSET, {**late, "epoch": 1})
            assert await node.committed() == 7, "progress in the lost log does not skip what took its place"
            await node.ask(RequestCode.UPDATE_CONSUMER_OFFSET, {**late, "epoch": 2})
            assert await node.committed() == 10
            await node.commit(99)
            assert await node.committed() == 27

    asyncio.run(story())


def test_a_replica_lets_readers_wait_and_serves_reads(tmp_path: Path) -> None:
    async def story() -> None:
        async with pair(tmp_path, SYNC) as (master, slave):
            await master.send(b"0")
            assert await slave.bodies() == [b"0"]
            beyond = await slave.pull(5)
            assert (beyond.code, beyond.ext["nextBeginOffset"]) == (19, "5")
            waiting = asyncio.ensure_future(slave.pull(1, **SUSPEND))
            await until(lambda: slave.broker.pulls.parked == 1)
            await master.send(b"1")
            assert (await waiting).code == 0
            newer = await slave.pull(0, epoch=9)
            assert (newer.code, newer.ext["epoch"]) == (19, "9"), "it has not caught up with the reader's log"
            assert (await slave.heartbeat("c1")).code == 0
            members = await slave.ask(RequestCode.GET_CONSUMER_LIST_BY_GROUP, {"consumerGroup": "g"})
            assert json.loads(members.body) == {"consumerIdList": ["c1"]}

    asyncio.run(story())


def test_offsets_and_bounds(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings(tmp_path)) as node:
            for number in range(5):
                await node.send(b"%d" % number)
            query = {"consumerGroup": "new", "topic": "T", "queueId": 0}
            assert (await node.ask(RequestCode.QUERY_CONSUMER_OFFSET, query)).ext["offset"] == "0"
            assert await node.committed(group="new") is None
            assert (await node.commit(3)).code == 0
            assert await node.committed() == 3
            assert (await node.commit(1, topic="absent")).code == 17
            await node.pull(4, sysFlag=5, commitOffset=4)
            assert await node.committed() == 4, "a pull carries progress too"
            where = {"topic": "T", "queueId": 0}
            assert (await node.ask(RequestCode.GET_MAX_OFFSET, where)).ext["offset"] == "5"
            assert (await node.ask(RequestCode.GET_MIN_OFFSET, where)).ext["offset"] == "0"
            first = (await node.messages())[0]
            earliest = await node.ask(RequestCode.GET_EARLIEST_MSG_STORETIME, where)
            assert int(earliest.ext["timestamp"]) == first.store_timestamp
            after = {**where, "timestamp": first.store_timestamp + 10**6}
            assert (await node.ask(RequestCode.SEARCH_OFFSET_BY_TIMESTAMP, after)).ext["offset"] == "5"
            before = {**where, "timestamp": 0}
            assert (await node.ask(RequestCode.SEARCH_OFFSET_BY_TIMESTAMP, before)).ext["offset"] == "0"
            table = json.loads((await node.ask(RequestCode.GET_ALL_CONSUMER_OFFSET)).body)
            assert table == {"offsetTable": {"T@g": {"0": 4}}}
            reset = {"topic": "T", "group": "g", "timestamp": 0, "isForce": True}
            answer = await node.ask(RequestCode.INVOKE_BROKER_TO_RESET_OFFSET, reset)
            assert answer.body.startswith(b'{"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"T"}:0')
            assert await node.committed() == 0

    asyncio.run(story())


def test_committed_offsets_survive_a_restart(tmp_path: Path) -> None:
    async def story(flaws: frozenset[Flaw]) -> int | None:
        async with running(settings(tmp_path)) as node:
            for number in range(5):
                await node.send(b"%d" % number)
            await node.commit(3)
        async with running(settings(tmp_path, flaws=flaws)) as node:
            return await node.committed()

    assert asyncio.run(story(frozenset())) == 3
    assert asyncio.run(story(frozenset({Flaw.LOSE_CONSUMER_OFFSETS}))) is None


def test_members_are_told_of_each_other(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings(tmp_path)) as node:
            await node.heartbeat("c1")
            await until(lambda: len(node.pushed) == 1, "the first member is told")
            assert node.pushed[0].code == RequestCode.NOTIFY_CONSUMER_IDS_CHANGED
            assert node.pushed[0].ext == {"consumerGroup": "g"}
            assert node.pushed[0].is_oneway
            await node.heartbeat("c1")
            info = await node.ask(RequestCode.GET_CONSUMER_CONNECTION_LIST, {"consumerGroup": "g"})
            body = json.loads(info.body)
            assert body["connectionSet"][0]["clientId"] == "c1"
            assert body["subscriptionTable"]["T"]["subString"] == "*"
            producers = await node.ask(RequestCode.GET_PRODUCER_CONNECTION_LIST, {"producerGroup": "P"})
            assert json.loads(producers.body)["connectionSet"][0]["clientId"] == "c1"
            retry = await node.ask(RequestCode.GET_TOPIC_CONFIG, {"topic": "%RETRY%g"})
            assert json.loads(retry.body)["readQueueNums"] == 1
            question = {"consumerGroup": "g", "clientId": "c1"}
            running_info = await node.ask(RequestCode.GET_CONSUMER_RUNNING_INFO, question)
            assert (running_info.code, running_info.body) == (0, b"{}")
            assert node.pushed[-1].code == RequestCode.GET_CONSUMER_RUNNING_INFO
            leave = {"clientID": "c1", "consumerGroup": "g", "producerGroup": "P"}
            assert (await node.ask(RequestCode.UNREGISTER_CLIENT, leave)).code == 0
            gone = await node.ask(RequestCode.GET_CONSUMER_LIST_BY_GROUP, {"consumerGroup": "g"})
            assert gone.code == 1
            offline = await node.ask(RequestCode.GET_CONSUMER_CONNECTION_LIST, {"consumerGroup": "g"})
            assert offline.code == 206

    asyncio.run(story())


def test_locks_over_the_wire(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings(tmp_path)) as node:
            queue = {"topic": "T", "brokerName": "broker-a", "queueId": 0}

            async def lock(client: str, code: int = RequestCode.LOCK_BATCH_MQ) -> int:
                body = json.dumps({"consumerGroup": "g", "clientId": client, "mqSet": [queue]})
                answer = await node.ask(code, body=body.encode())
                assert answer.code == 0
                return len(json.loads(answer.body)["lockOKMQSet"]) if answer.body else 0

            assert await lock("c1") == 1
            assert await lock("c2") == 0
            await lock("c1", RequestCode.UNLOCK_BATCH_MQ)
            assert await lock("c2") == 1

    asyncio.run(story())


def test_only_tag_subscriptions_pass_the_check(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings(tmp_path)) as node:
            for kind, code in (("TAG", 0), ("SQL92", 1)):
                data = {"topic": "T", "subString": "x", "expressionType": kind}
                body = json.dumps({"clientId": "c", "group": "g", "subscriptionData": data}).encode()
                assert (await node.ask(RequestCode.CHECK_CLIENT_CONFIG, body=body)).code == code

    asyncio.run(story())


@pytest.mark.parametrize("code", [9, 37, 324, 400, 999, 12345, 3001, 200050, 200051])
def test_unknown_and_unbuilt_requests_are_not_supported(tmp_path: Path, code: int) -> None:
    async def story() -> None:
        async with running(settings(tmp_path)) as node:
            answer = await node.ask(code)
            assert (answer.code, answer.remark) == (3, f" request type {code} not supported")

    asyncio.run(story())


def strict(body: bytes) -> dict[str, Any]:
    """Java's maps with queues as keys, made readable for Python."""
    text = re.sub(r'\{(\{"brokerName":"[^"]*","queueId":\d+,"topic":"[^"]*"\}):', r'{"q":', body.decode())
    text = re.sub(r',(\{"brokerName":"[^"]*","queueId":(\d+),"topic":"[^"]*"\}):', r',"q\2":', text)
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def test_administration_of_topics_and_groups(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings(tmp_path)) as node:
            create = {"topic": "N", "defaultTopic": "TBW102", "readQueueNums": 2, "writeQueueNums": 3, "perm": 6}
            assert (await node.ask(RequestCode.UPDATE_AND_CREATE_TOPIC, create)).code == 0
            assert (await node.ask(RequestCode.UPDATE_AND_CREATE_TOPIC, {**create, "topic": "TBW102"})).code == 29
            assert (await node.ask(RequestCode.UPDATE_AND_CREATE_TOPIC, {**create, "readQueueNums": 0})).code == 29
            one = json.loads((await node.ask(RequestCode.GET_TOPIC_CONFIG, {"topic": "N"})).body)
            assert (one["readQueueNums"], one["writeQueueNums"]) == (2, 3)
            assert (await node.ask(RequestCode.GET_TOPIC_CONFIG, {"topic": "absent"})).code == 17
            await node.send(b"x", topic="N")
            stats = strict((await node.ask(RequestCode.GET_TOPIC_STATS_INFO, {"topic": "N"})).body)
            assert stats["offsetTable"]["q"]["maxOffset"] == 1
            assert stats["offsetTable"]["q"]["lastUpdateTimestamp"] > 0
            await node.commit(1, topic="N")
            progress = strict((await node.ask(RequestCode.GET_CONSUME_STATS, {"consumerGroup": "g"})).body)
            assert progress["offsetTable"]["q"]["consumerOffset"] == 1
            who = await node.ask(RequestCode.QUERY_TOPIC_CONSUME_BY_WHO, {"topic": "N"})
            assert json.loads(who.body) == {"groupList": ["g"]}
            everything = json.loads((await node.ask(RequestCode.GET_ALL_TOPIC_CONFIG)).body)
            assert "N" in everything["topicConfigTable"]
            group = json.dumps({"groupName": "g2", "retryMaxTimes": 3}).encode()
            assert (await node.ask(RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, body=group)).code == 0
            read = await node.ask(RequestCode.GET_SUBSCRIPTIONGROUP_CONFIG, {"group": "g2"})
            assert json.loads(read.body)["retryMaxTimes"] == 3
            groups = json.loads((await node.ask(RequestCode.GET_ALL_SUBSCRIPTIONGROUP_CONFIG)).body)
            assert "g2" in groups["subscriptionGroupTable"]
            assert (await node.ask(RequestCode.DELETE_SUBSCRIPTIONGROUP, {"groupName": "g2"})).code == 0
            assert (await node.ask(RequestCode.DELETE_TOPIC_IN_BROKER, {"topic": "N"})).code == 0
            assert (await node.ask(RequestCode.GET_TOPIC_CONFIG, {"topic": "N"})).code == 17
            system = json.loads((await node.ask(RequestCode.GET_SYSTEM_TOPIC_LIST_FROM_BROKER)).body)
            assert "TBW102" in system["topicList"]

    asyncio.run(story())


def test_runtime_information_has_what_cluster_list_reads(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(settings(tmp_path)) as node:
            await node.send(b"x")
            table = json.loads((await node.ask(RequestCode.GET_BROKER_RUNTIME_INFO)).body)["table"]
            assert all(isinstance(value, str) for value in table.values())
            for key in (
                "brokerVersionDesc",
                "putTps",
                "getTransferedTps",
                "getTransferredTps",
                "sendThreadPoolQueueSize",
                "pullThreadPoolQueueSize",
                "sendThreadPoolQueueHeadWaitTimeMills",
                "pullThreadPoolQueueHeadWaitTimeMills",
                "pageCacheLockTimeMills",
                "msgPutTotalYesterdayMorning",
            ):
                assert table[key] != ""
            assert int(table["earliestMessageTimeStamp"]) > 0
            assert 0 <= float(table["commitLogDiskRatio"]) <= 1
            config = await node.ask(RequestCode.GET_BROKER_CONFIG)
            assert b"brokerName=broker-a\n" in config.body
            change = await node.ask(RequestCode.UPDATE_BROKER_CONFIG, body=b"brokerPermission=4\n")
            assert change.code == 0
            assert (await node.send(b"x")).code == 16
            refused = await node.ask(RequestCode.UPDATE_BROKER_CONFIG, body=b"flushDiskType=SYNC_FLUSH\n")
            assert refused.code == 1

    asyncio.run(story())


def test_raw_log_and_index_can_be_read(tmp_path: Path) -> None:
    async def story() -> None:
        async with pair(tmp_path, SYNC) as (master, slave):
            for number in range(30):
                await master.send(b"%d" % number * 1000)

            async def whole_log(node: Node) -> bytes:
                data, offset = b"", 0
                while True:
                    answer = await node.ask(RequestCode.LAB_READ_LOG, {"offset": offset, "maxBytes": 3000})
                    assert answer.code == 0
                    if not answer.body:
                        return data
                    data += answer.body
                    offset = int(answer.ext["nextOffset"])

            log = await whole_log(master)
            assert len(log) == master.broker.store.written_end
            assert await whole_log(slave) == log
            ext = {"topic": "T", "queueId": 0, "offset": 0, "maxNum": 100}
            index = await master.ask(RequestCode.LAB_READ_INDEX, ext)
            assert (len(index.body), index.ext["max"]) == (600, "30")
            await until_true(lambda: _same(slave, ext, index.body), "the slave has the same index")
            beyond = await master.ask(RequestCode.LAB_READ_LOG, {"offset": 10**9, "maxBytes": 10})
            assert beyond.code == 21

    async def _same(slave: Node, ext: dict[str, Any], body: bytes) -> bool:
        return (await slave.ask(RequestCode.LAB_READ_INDEX, ext)).body == body

    asyncio.run(story())


@pytest.mark.flaws
@pytest.mark.parametrize("flaw", [Flaw.DELIVER_TWICE, Flaw.SKIP_DELIVERY, Flaw.DROP_ACKED])
def test_planted_delivery_flaws_are_visible(tmp_path: Path, flaw: Flaw) -> None:
    async def story() -> None:
        async with running(settings(tmp_path, flaws=frozenset({flaw}))) as node:
            sent = []
            for number in range(250):
                answer = await node.send(b"%d" % number)
                assert answer.code == 0
                sent.append(b"%d" % number)
            got = []
            offset = 0
            while True:
                answer = await node.pull(offset, maxMsgNums=1)
                if answer.code != 0:
                    break
                got += [message.body for message in decode_records(answer.body)]
                offset = int(answer.ext["nextBeginOffset"])
            assert got != sent

    asyncio.run(story())
