"""Asking a node something simple through its port, from inside its own host."""

from __future__ import annotations

import asyncio
import socket

from lab.cluster.hosts import Hosts
from nemesis.world import PortState


async def ask(hosts: Hosts, host: str, port: int, ping: bytes, timeout_s: float) -> PortState:
    """Connect to the port inside the host, send ``ping`` and wait for the first byte of any reply.

    The connection never leaves the host, so partitions between hosts do not touch it. With an empty ``ping`` an open
    connection is answer enough; mind that the kernel opens connections for a paused program too.
    """
    loop = asyncio.get_running_loop()
    made = hosts.socket_in(host, socket.SOCK_STREAM)
    try:
        async with asyncio.timeout(timeout_s):
            await loop.sock_connect(made, (hosts.address(host), port))
            if not ping:
                return PortState.ANSWERS
            await loop.sock_sendall(made, ping)
            return PortState.ANSWERS if await loop.sock_recv(made, 1) else PortState.REFUSES
    except TimeoutError as error:
        # ETIMEDOUT of the kernel and our own deadline are the same class, and here the same fact.
        del error
        return PortState.SILENT
    except OSError:
        return PortState.REFUSES
    finally:
        made.close()
