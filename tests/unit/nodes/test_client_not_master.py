"""A broker that answers "not master" to any call makes the client look for the master at once."""

import asyncio

import pytest

from nodes.client.client import Client
from nodes.client.config import ClientConfig
from nodes.client.offset_calls import OffsetCalls
from nodes.client.queues import MessageQueue
from nodes.client.results import CommandFailed
from nodes.client.route_queries import RouteQueries
from nodes.remoting.codes import ResponseCode
from nodes.remoting.command import Command, request


def test_a_consumer_whose_offset_is_refused_asks_who_the_master_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only producers: a consumer that asks for its offset would wait for the next look at the routes otherwise."""

    async def story() -> list[tuple[str, str]]:
        client = Client(ClientConfig(name_servers=("127.0.0.1:1",)))
        await client.start()
        asked: list[tuple[str, str]] = []

        async def refuse(*_: object, **__: object) -> Command:
            return request(0).reply(ResponseCode.SERVICE_NOT_AVAILABLE.value, "this broker is SLAVE")

        monkeypatch.setattr(type(client.exchange), "call", refuse)
        monkeypatch.setattr(RouteQueries, "about_broker", lambda _, name, topic="": asked.append((name, topic)))
        monkeypatch.setattr(OffsetCalls, "address", lambda *_: "10.0.0.1:10911")
        try:
            with pytest.raises(CommandFailed, match="SLAVE"):
                await OffsetCalls(client).committed("G", MessageQueue("T", "broker-a", 0))
        finally:
            await client.close()
        return asked

    assert asyncio.run(story()) == [("broker-a", "T")]
