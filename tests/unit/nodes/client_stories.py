"""What the stories of a client against a scripted cluster share: the cluster they begin with, and a producer."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from nodes.client.client import Client
from nodes.client.config import ClientConfig
from nodes.client.producer import Producer
from nodes.client.results import SendFailed
from nodes.remoting.codes import RequestCode
from tests.unit.nodes.client_cluster import FakeCluster

SEND = int(RequestCode.SEND_MESSAGE_V2)


def unused_address() -> str:
    """An address where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


def config(cluster: FakeCluster, **settings: Any) -> ClientConfig:
    defaults: dict[str, Any] = {"name_servers": cluster.addresses, "retries": 0, "send_timeout_s": 10.0}
    return ClientConfig(**(defaults | settings))


@asynccontextmanager
async def producing(
    cluster: FakeCluster,
    *,
    routes: dict[str, object] | None = None,
    routes_at_s: float | None = None,
    **settings: Any,
) -> AsyncIterator[Producer]:
    client = Client(config(cluster, **settings), rng=random.Random(1), routes=routes, routes_at_s=routes_at_s)
    await client.start()
    try:
        yield Producer(client, "PG")
    finally:
        await client.close()


def story(name_servers: int = 1) -> Callable[[Callable[[FakeCluster], Awaitable[None]]], Callable[[], None]]:
    """Run a test with a cluster of one group, broker-a: `a0` the master, `a1` a slave."""

    def decorate(test: Callable[[FakeCluster], Awaitable[None]]) -> Callable[[], None]:
        async def play() -> None:
            cluster = await FakeCluster().start(name_servers)
            try:
                await cluster.add_broker("a0")
                await cluster.add_broker("a1")
                cluster.route("T", {"broker-a": {0: "a0", 1: "a1"}})
                await test(cluster)
            finally:
                await cluster.stop()

        def run() -> None:
            asyncio.run(play())

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate


async def failure(send: Awaitable[object]) -> SendFailed:
    with pytest.raises(SendFailed) as caught:
        await send
    return caught.value
