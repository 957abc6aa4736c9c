"""Consumer offsets in a DLedger group: whoever asks a follower is sent to the leader, who alone surely knows."""

import asyncio
from pathlib import Path

from nodes.remoting.codes import RequestCode, ResponseCode
from nodes.remoting.command import request
from tests.unit.nodes.group_support import group

PLACE = {"consumerGroup": "G", "topic": "T", "queueId": "0"}


def test_a_follower_does_not_say_how_far_a_group_has_come(tmp_path: Path) -> None:
    """It may not have applied the last commit; a consumer that believed it would go back."""

    async def story() -> None:
        async with group(tmp_path) as cluster:
            leader = await cluster.leader()
            assert await cluster.send_ok(b"one") == 0
            node = cluster.nodes[leader]
            done = await node.ask(RequestCode.UPDATE_CONSUMER_OFFSET, {**PLACE, "commitOffset": "1"})
            assert done.code == ResponseCode.SUCCESS
            asked = await node.ask(RequestCode.QUERY_CONSUMER_OFFSET, PLACE)
            assert (asked.code, asked.ext["offset"]) == (ResponseCode.SUCCESS, "1")
            await cluster.agree()
            for name, other in cluster.nodes.items():
                if name != leader:
                    refusal = await other.ask(RequestCode.QUERY_CONSUMER_OFFSET, PLACE)
                    assert refusal.code == ResponseCode.SERVICE_NOT_AVAILABLE
                    assert refusal.ext["leader"] == node.address

    asyncio.run(story())


def test_what_was_committed_without_an_answer_is_told_to_who_asks_next(tmp_path: Path) -> None:
    """As a Java consumer leaves and another one takes over."""

    async def story() -> None:
        async with group(tmp_path) as cluster:
            leader = await cluster.leader()
            for body in (b"one", b"two", b"three"):
                await cluster.send_ok(body)
            node = cluster.nodes[leader]
            for offset in ("1", "2", "3"):
                said = request(RequestCode.UPDATE_CONSUMER_OFFSET, {**PLACE, "commitOffset": offset})
                await node.client.oneway(node.address, said)
                asked = await node.ask(RequestCode.QUERY_CONSUMER_OFFSET, PLACE)
                assert (asked.code, asked.ext["offset"]) == (ResponseCode.SUCCESS, offset)

    asyncio.run(story())
