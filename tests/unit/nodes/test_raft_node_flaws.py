"""Planted flaws of a member: each shows itself in a story that a member without it tells rightly."""

from pathlib import Path

import pytest

from nodes.flaws import Flaw
from nodes.remoting.codes import RequestCode
from tests.unit.nodes.broker_support import until
from tests.unit.nodes.group_support import Asker, Group, group
from tests.unit.nodes.test_raft_node_group import SEND, bodies, run


@pytest.mark.parametrize("flaw", [None, Flaw.READ_ABOVE_COMMIT])
def test_what_is_not_committed_is_not_read(tmp_path: Path, flaw: Flaw | None) -> None:
    async def story() -> None:
        flaws = frozenset({flaw} if flaw else ())
        async with group(tmp_path, flaws=flaws) as cluster:
            leader = await cluster.leader()
            await cluster.send_ok(b"kept")
            await cluster.agree()
            cluster.cut_off(leader)
            asker = Asker(cluster.nodes[leader])
            asker.ask(RequestCode.SEND_MESSAGE_V2, SEND, b"alone")
            await until(lambda: bool(asker.answers), "an answer")
            assert await bodies(cluster, leader) == ([b"kept", b"alone"] if flaw else [b"kept"])

    run(story())


@pytest.mark.parametrize("flaw", [None, Flaw.OFFSET_REUSE_AFTER_FAILOVER])
def test_no_offset_of_a_committed_message_is_given_again(tmp_path: Path, flaw: Flaw | None) -> None:
    async def story() -> None:
        flaws = frozenset({flaw} if flaw else ())
        async with group(tmp_path, flaws=flaws) as cluster:
            leader = await cluster.leader()
            for number in range(3):
                assert await cluster.send_ok(b"%d" % number) == number
            await cluster.agree()
            await cluster.kill(leader)
            await cluster.leader(other_than=leader)
            assert await cluster.send_ok(b"after") == (0 if flaw else 3)

    run(story())


@pytest.mark.parametrize("flaw", [None, Flaw.ACK_BEFORE_QUORUM])
def test_nothing_is_acknowledged_without_a_majority(tmp_path: Path, flaw: Flaw | None) -> None:
    async def story() -> None:
        flaws = frozenset({flaw} if flaw else ())
        async with group(tmp_path, flaws=flaws) as cluster:
            leader = await cluster.leader()
            await cluster.send_ok(b"kept")
            await cluster.agree()
            cluster.cut_off(leader)
            asker = Asker(cluster.nodes[leader])
            asker.ask(RequestCode.SEND_MESSAGE_V2, SEND, b"alone")
            await until(lambda: bool(asker.answers), "an answer")
            assert (asker.answers[0].code == 0) == bool(flaw)

    run(story())


async def offset_of(cluster: Group, name: str) -> str:
    """What a member says to a consumer group that asks where to go on."""
    answer = await cluster.nodes[name].ask(
        RequestCode.QUERY_CONSUMER_OFFSET,
        {"consumerGroup": "G", "topic": "T", "queueId": "0", "setZeroIfNotFound": "true"},
    )
    return answer.ext["offset"]


async def commit_offset(cluster: Group, name: str, offset: int) -> None:
    ext = {"consumerGroup": "G", "topic": "T", "queueId": "0", "commitOffset": str(offset)}
    answer = await cluster.nodes[name].ask(RequestCode.UPDATE_CONSUMER_OFFSET, ext)
    assert answer.code == 0


@pytest.mark.flaws
@pytest.mark.parametrize(
    ("flaw", "found"), [(None, "3"), (Flaw.DROP_OFFSETS_ON_SWITCH, "0"), (Flaw.OLD_OFFSETS_ON_SWITCH, "1")]
)
def test_a_new_leader_knows_how_far_consumers_have_come(tmp_path: Path, flaw: Flaw | None, found: str) -> None:
    async def story() -> None:
        flaws = frozenset({flaw} if flaw else ())
        async with group(tmp_path, flaws=flaws) as cluster:
            leader = await cluster.leader()
            for number in range(3):
                await cluster.send_ok(b"%d" % number)
            await commit_offset(cluster, leader, 1)
            await cluster.agree()
            for node in cluster.nodes.values():
                await node.broker.core.tables.save_offsets()
            await commit_offset(cluster, leader, 3)
            await cluster.agree()
            await cluster.kill(leader)
            assert await offset_of(cluster, await cluster.leader(other_than=leader)) == found

    run(story())


@pytest.mark.flaws
@pytest.mark.parametrize("flaw", [None, Flaw.REPLY_BEFORE_REPLICA])
def test_a_leader_that_is_cut_off_does_not_promise(tmp_path: Path, flaw: Flaw | None) -> None:
    async def story() -> None:
        flaws = frozenset({flaw} if flaw else ())
        async with group(tmp_path, flaws=flaws) as cluster:
            leader = await cluster.leader()
            await cluster.send_ok(b"kept")
            await cluster.agree()
            cluster.cut_off(leader)
            asker = Asker(cluster.nodes[leader])
            asker.ask(RequestCode.SEND_MESSAGE_V2, SEND, b"alone")
            await until(lambda: bool(asker.answers), "an answer")
            assert (asker.answers[0].code == 0) == bool(flaw)
            assert cluster.member(leader).committed < cluster.member(leader).raft.end

    run(story())
