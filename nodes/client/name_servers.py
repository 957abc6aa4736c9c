"""Asking the name servers: one is kept as long as it answers, and the next is asked within the same call.

Source: RocketMQ class NettyRemotingClient (getAndCreateNameserverChannel).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from nodes.remoting.client import CallError, CallTimeout, RemotingClient
from nodes.remoting.command import Command

__all__ = ["SHUN_S", "NameServers", "NoNameServer"]

SHUN_S = 10.0
"""A name server that did not answer is asked last for so many seconds."""


class NoNameServer(Exception):
    """No name server answered; the message says for each why."""

    def __init__(self, reasons: list[tuple[str, str]]) -> None:
        self.reasons = reasons
        super().__init__("no name server answered: " + "; ".join(f"{address}: {why}" for address, why in reasons))


class NameServers:
    """The name servers of one client, in an order drawn once."""

    __slots__ = ("_addresses", "_at", "_remoting", "_shunned_until", "_timeout_s")

    def __init__(
        self, remoting: RemotingClient, addresses: tuple[str, ...], timeout_s: float, rng: random.Random
    ) -> None:
        order = list(addresses)
        rng.shuffle(order)
        self._addresses = order
        self._remoting = remoting
        self._timeout_s = timeout_s
        self._at = 0
        self._shunned_until: dict[str, float] = {}

    @property
    def current(self) -> str:
        """The one that is asked first."""
        return self._addresses[self._at]

    def __len__(self) -> int:
        return len(self._addresses)

    def rotate(self) -> None:
        """Ask the next one first from now on, past those that lately did not answer."""
        now_s = asyncio.get_running_loop().time()
        self._at = self._order(now_s, start=self._at + 1)[0]

    async def call(
        self, make: Callable[[], Command], timeout_s: float, *, unsatisfying: frozenset[int] = frozenset()
    ) -> Command:
        """The first answer, asking one after the other within `timeout_s` in all. Raises NoNameServer.

        An answer with a code in `unsatisfying` is only returned when no other name server has a better one: one that
        has just been started knows nothing yet. The name server that answered stays the first to be asked.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        reasons: list[tuple[str, str]] = []
        second_best: Command | None = None
        for at in self._order(loop.time(), start=self._at):
            address = self._addresses[at]
            left_s = min(self._timeout_s, deadline_s - loop.time())
            if left_s <= 0:
                reasons.append((address, "not asked, no time left"))
                continue
            try:
                answer = await self._remoting.call(address, make(), left_s)
            except CallTimeout as error:
                self._remoting.disconnect(address)
                reasons.append((address, error.reason))
            except CallError as error:
                reasons.append((address, error.reason))
            else:
                self._shunned_until.pop(address, None)
                if answer.code not in unsatisfying:
                    self._at = at
                    return answer
                second_best = second_best or answer
                continue
            self._shunned_until[address] = loop.time() + SHUN_S
        if second_best is not None:
            return second_best
        raise NoNameServer(reasons)

    def _order(self, now_s: float, *, start: int) -> list[int]:
        """Positions from `start` around, those that lately did not answer at the end."""
        count = len(self._addresses)
        around = [(start + step) % count for step in range(count)]
        return sorted(around, key=lambda at: self._shunned_until.get(self._addresses[at], 0.0) > now_s)
