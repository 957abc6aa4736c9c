"""A DLedger group of brokers over loopback with real stores: it elects, fails over by itself, and loses nothing."""

import asyncio
import shutil
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from nodes.dledger.records import SYSTEM_TOPIC
from nodes.remoting.codes import RequestCode, ResponseCode
from nodes.replication.raft.orders import Role
from tests.unit.nodes.broker_support import until
from tests.unit.nodes.group_support import Asker, Group, group

SEND = {"a": "P", "b": "T", "c": "TBW102", "d": "4", "e": "0", "f": "0", "g": "1700000000000", "h": "0", "i": ""}


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def same_logs(cluster: Group) -> None:
    logs = {cluster.log_of(name) for name in cluster.nodes}
    assert len(logs) == 1, "the members' logs differ"


async def bodies(cluster: Group, name: str, topic: str = "T", queue: int = 0) -> list[bytes]:
    return await cluster.nodes[name].bodies(topic, queue)


def test_one_member_becomes_master_and_the_others_name_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path) as cluster:
            leader = await cluster.leader()
            node = cluster.nodes[leader]
            answer = await node.send(b"first", properties="WAIT\x01false\x02")
            assert "waited" not in answer.ext, "nothing is answered before it is committed"
            assert (answer.code, answer.ext["queueOffset"]) == (0, "0")
            assert answer.ext["epoch"] == str(cluster.member(leader).raft.term)
            await cluster.agree()
            for name, other in cluster.nodes.items():
                status = await other.status()
                wanted = ("SYNC_MASTER", 0) if name == leader else ("SLAVE", int(name[1:]) + 1)
                assert (status["role"], status["brokerId"]) == wanted
                assert await bodies(cluster, name) == [b"first"], "followers serve what is committed"
                if name != leader:
                    refusal = await other.send(b"not here")
                    assert refusal.code == ResponseCode.SERVICE_NOT_AVAILABLE
                    assert refusal.ext["leader"] == node.address
            same_logs(cluster)

    run(story())


def test_a_small_message_size_does_not_keep_the_tables_out_of_the_log(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path, max_message_size=64) as cluster:
            leader = await cluster.leader()
            await cluster.send_ok(b"one")
            await cluster.agree()
            for name, node in cluster.nodes.items():
                topics = node.broker.core.tables.topics
                assert topics.get("TBW102") is not None, f"{name} has the topics of {leader}"
            await cluster.kill(leader)
            second = await cluster.leader(other_than=leader)
            await cluster.send_ok(b"two")
            assert await bodies(cluster, second) == [b"one", b"two"]

    run(story())


def test_a_killed_master_is_replaced_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path) as cluster:
            first = await cluster.leader()
            began = cluster.member(first).raft.term
            sent = [f"m{number}".encode() for number in range(40)]
            answers = await asyncio.gather(*(cluster.nodes[first].send(body) for body in sent))
            assert [answer.code for answer in answers] == [0] * 40
            await cluster.kill(first)
            second = await cluster.leader(other_than=first)
            assert await cluster.send_ok(b"after") == 40, "the next offset, and none twice"
            assert await bodies(cluster, second) == [*sent, b"after"]
            await cluster.start(first)
            await cluster.agree()
            same_logs(cluster)
            assert await bodies(cluster, first) == [*sent, b"after"]
            status = (await cluster.nodes[first].status())["dledger"]
            later = cluster.member(second).raft.term
            led = {row["term"]: row["leader"] for row in status["terms"]}
            assert (led[began], led[later]) == (first, second)
            part = await cluster.nodes[first].ask(RequestCode.LAB_READ_LOG, {"offset": 0})
            assert part.ext["terms"] == ";".join(f"{row['term']}@{row['start']}" for row in status["terms"])
            assert part.ext["committed"] == part.ext["maxOffset"]
            third = await cluster.kill(second)
            assert third is not None
            assert await cluster.send_ok(b"again") == 41

    run(story())


def test_a_master_that_is_stopped_hands_over_first(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path) as cluster:
            first = await cluster.leader()
            term = cluster.member(first).raft.term
            await cluster.send_ok(b"one")
            leaving = cluster.member(first)
            await cluster.stop(first)
            assert leaving.raft.role is not Role.LEADER, "it led no more when it left"
            second = await cluster.leader()
            # A slow machine may have elected once more since.
            assert cluster.member(second).leaders.get(term + 1) not in (None, first), "the next term was another one's"
            assert await cluster.send_ok(b"two") == 1

    run(story())


def test_everything_is_there_after_all_members_were_killed(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path) as cluster:
            leader = await cluster.leader()
            for number in range(200):  # more than one file of the log
                assert await cluster.send_ok(b"%d" % number + b"x" * 500) == number
            node = cluster.nodes[leader]
            created = await node.ask(
                RequestCode.UPDATE_AND_CREATE_TOPIC, {"topic": "Made", "readQueueNums": 3, "writeQueueNums": 3}
            )
            assert created.code == 0
            assert (await node.commit(17)).code == 0
            for name in list(cluster.nodes):
                await cluster.kill(name)
            await cluster.start()
            leader = await cluster.leader()
            await cluster.agree()
            assert len(await bodies(cluster, leader)) == 200
            assert await cluster.nodes[leader].committed() == 17
            assert cluster.nodes[leader].broker.core.tables.topics.get("Made") is not None
            assert await cluster.send_ok(b"next") == 200
            same_logs(cluster)

    run(story())


def test_topics_groups_and_offsets_are_there_at_once_after_a_failover(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path) as cluster:
            first = await cluster.leader()
            node = cluster.nodes[first]
            for number in range(5):
                await cluster.send_ok(b"%d" % number)
            topic = {"topic": "Made", "readQueueNums": 5, "writeQueueNums": 5, "perm": 6}
            assert (await node.ask(RequestCode.UPDATE_AND_CREATE_TOPIC, topic)).code == 0
            settings = b'{"groupName":"made","retryMaxTimes":3}'
            assert (await node.ask(RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, body=settings)).code == 0
            assert (await node.commit(4)).code == 0
            assert await node.committed() == 4, "answered means readable"
            await cluster.kill(first)
            second = await cluster.leader(other_than=first)
            tables = cluster.nodes[second].broker.core.tables
            made, of_group = tables.topics.get("Made"), tables.groups.get("made")
            assert made is not None
            assert made.queues == 5
            assert of_group is not None
            assert of_group.retry_max_times == 3
            assert await cluster.nodes[second].committed() == 4
            refused = next(name for name in cluster.nodes if name != second)
            assert (await cluster.nodes[refused].commit(5)).code == ResponseCode.SERVICE_NOT_AVAILABLE

    run(story())


def test_what_no_majority_has_is_neither_acknowledged_nor_read_and_goes_away(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path, max_wait_ack_time_ms=300_000) as cluster:
            first = await cluster.leader()
            others = [name for name in cluster.nodes if name != first]
            await cluster.send_ok(b"kept")
            await cluster.agree()
            alone = cluster.nodes[first]
            end_before = cluster.member(first).raft.end
            cluster.cut_off(first)
            asker = Asker(alone)
            asker.ask(RequestCode.SEND_MESSAGE_V2, SEND, b"nobody else has it")
            await until(lambda: bool(asker.answers), "an answer")
            [answer] = asker.answers
            assert answer.code == ResponseCode.SYSTEM_ERROR, "appended, and nobody can say what becomes of it"
            assert cluster.member(first).raft.end > end_before
            for name in others:
                await cluster.kill(name)
            await until(lambda: not cluster.masters, "it has stepped down")
            assert (await alone.send(b"refused")).code == ResponseCode.SERVICE_NOT_AVAILABLE
            assert await bodies(cluster, first) == [b"kept"]
            assert alone.broker.store.queue_bounds("T", 0) == (0, 1)
            await cluster.kill(first)
            await cluster.start(*others)
            await cluster.leader()
            assert await cluster.send_ok(b"in its place") == 1, "the offset of what was never acknowledged"
            await cluster.start(first)
            await cluster.agree()
            same_logs(cluster)
            assert await bodies(cluster, first) == [b"kept", b"in its place"]

    run(story())


def test_what_a_deposed_master_had_not_committed_is_taken_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path) as cluster:
            first = await cluster.leader()
            await cluster.send_ok(b"one")
            await cluster.agree()
            node = cluster.nodes[first]
            cluster.cut_off(first)
            asker = Asker(node)
            topic = {"topic": "Unsure", "readQueueNums": "1", "writeQueueNums": "1"}
            asker.ask(RequestCode.UPDATE_AND_CREATE_TOPIC, topic)
            assert node.broker.core.tables.topics.get("Unsure") is not None, "a send may follow at once"
            await until(lambda: bool(asker.answers), "an answer")
            assert asker.answers[0].code == ResponseCode.SYSTEM_ERROR
            assert node.broker.core.tables.topics.get("Unsure") is None
            second = await cluster.leader(other_than=first)
            assert cluster.nodes[second].broker.core.tables.topics.get("Unsure") is None
            assert (await node.commit(1)).code == ResponseCode.SERVICE_NOT_AVAILABLE

    run(story())


def test_an_emptied_disk_is_filled_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path) as cluster:
            leader = await cluster.leader()
            for number in range(150):
                await cluster.send_ok(b"%d" % number + b"x" * 800)
            lost = next(name for name in cluster.nodes if name != leader)
            await cluster.kill(lost)
            shutil.rmtree(tmp_path / lost)
            await cluster.start(lost)
            await cluster.agree()
            same_logs(cluster)
            assert len(await bodies(cluster, lost)) == 150
            # it joins when its own disk has it, which may be after it knew that the group has
            await until(lambda: cluster.member(lost).raft.status().joined, "it has joined")

    run(story())


def test_a_minority_elects_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path, started=False) as cluster:
            await cluster.start("n1")
            lonely = cluster.member("n1")
            await until(lambda: lonely.raft.role is Role.PRE_CANDIDATE, "it asks")
            assert lonely.raft.term == 0, "asking costs no term"
            assert cluster.masters == []
            await cluster.start("n0")
            await cluster.leader()
            assert await cluster.send_ok(b"two of three") == 0

    run(story())


def test_a_group_of_one_serves(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path, 1) as cluster:
            await cluster.leader()
            assert await cluster.send_ok(b"alone") == 0
            await cluster.kill("n0")
            await cluster.start()
            await cluster.leader()
            assert await cluster.send_ok(b"still") == 1

    run(story())


def test_a_deleted_topic_is_gone_everywhere_and_its_offsets_are_not_given_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path) as cluster:
            leader = await cluster.leader()
            for number in range(5):
                await cluster.send_ok(b"%d" % number)
            node = cluster.nodes[leader]
            assert (await node.commit(3)).code == 0
            assert (await node.ask(RequestCode.DELETE_TOPIC_IN_BROKER, {"topic": "T"})).code == 0
            assert await cluster.send_ok(b"of the new topic") == 5
            await cluster.agree()
            for name in cluster.nodes:
                assert cluster.nodes[name].broker.store.queue_bounds("T", 0) == (5, 6), name
                assert cluster.nodes[name].broker.core.tables.offsets.get("g", "T", 0) is None
                await cluster.nodes[name].broker.core.tables.save_offsets()
            for name in list(cluster.nodes):
                await cluster.kill(name)
            await cluster.start()
            leader = await cluster.leader()
            await cluster.agree()
            for name in cluster.nodes:
                assert cluster.nodes[name].broker.store.queue_bounds("T", 0) == (5, 6), name
            assert await bodies(cluster, leader) == [b"of the new topic"]

    run(story())


def test_what_is_the_groups_own_is_nobody_elses(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path, 1) as cluster:
            leader = await cluster.leader()
            node = cluster.nodes[leader]
            assert (await node.send(b"x", topic=SYSTEM_TOPIC)).code == ResponseCode.NO_PERMISSION
            assert (await node.send(b"x", properties="k\x01\x00\x02")).code == ResponseCode.MESSAGE_ILLEGAL
            assert (await node.pull(0, topic=SYSTEM_TOPIC)).code == ResponseCode.TOPIC_NOT_EXIST
            create = {"topic": SYSTEM_TOPIC, "readQueueNums": 1, "writeQueueNums": 1}
            assert (await node.ask(RequestCode.UPDATE_AND_CREATE_TOPIC, create)).code == ResponseCode.INVALID_PARAMETER
            assert (await node.ask(RequestCode.VIEW_MESSAGE_BY_ID, {"offset": 0})).code == ResponseCode.SYSTEM_ERROR
            back = {"group": "g", "offset": 0, "delayLevel": 0}
            assert (await node.ask(RequestCode.CONSUMER_SEND_MSG_BACK, back)).code == ResponseCode.SYSTEM_ERROR
            assert not any(SYSTEM_TOPIC in name for name in (await node.status())["queues"])

    run(story())
