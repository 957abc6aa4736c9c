"""Ports on loopback for brokers and name servers that are no hosts of their own."""

import os
import socket
from typing import Final

from lab.errors import SetupError

PORTS: Final = range(21_000, 32_000)
"""Below those that the kernel gives to outgoing connections."""
STEP: Final = 10
FAST_PORT, HA_PORT, RAFT_PORT = -2, 1, 2
"""What a broker opens beside its port; RocketMQ's brokers also the first."""

_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, with room for what a broker opens beside each; none is given twice by one process.

    Raises SetupError if there are not so many.
    """
    found: list[int] = []
    first = PORTS.start + os.getpid() * 13 % len(PORTS) // STEP * STEP  # processes begin at different places
    for port in (*range(first, PORTS.stop, STEP), *range(PORTS.start, first, STEP)):
        if port not in _given and all(_free(port + beside) for beside in (FAST_PORT, 0, HA_PORT, RAFT_PORT)):
            found.append(port)
            if len(found) == count:
                _given.update(found)
                return found
    raise SetupError(f"no {count} ports are free from {PORTS.start} to {PORTS.stop}")


def _free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
