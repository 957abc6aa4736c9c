"""Waiting for the world to show something."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from nemesis.fault import FaultError, UnsupportedError
from nemesis.targets import MOMENT_WORDS, led, wants_leader
from nemesis.world import Election, Moment, RoleReport, World


async def poll(world: World, shows: Callable[[], Awaitable[bool]], timeout_s: float) -> bool:
    """Look again and again until it shows, or ``timeout_s`` is over; always look at least once."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not await shows():
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(world.patience.poll_s)
    return True


async def roles_for(word: str, world: World) -> Mapping[str, RoleReport]:
    """Who plays which part now. Where groups elect, a word that means a leader waits until an election is over."""
    seen = [await world.roles.roles()]
    if world.members is None or not wants_leader(word) or led(word, seen[0]):
        return seen[0]

    async def is_led() -> bool:
        seen[0] = await world.roles.roles()
        return led(word, seen[0])

    await poll(world, is_led, world.patience.elect_s)
    return seen[0]


async def named(word: str, world: World, after_s: float = 0.0) -> tuple[str, dict[str, object]]:
    """The word with ``elected`` and ``voter`` replaced by the node to whom that happens next, and what was seen.

    ``after_s`` seconds later it returns. Raises FaultError if nothing happens, UnsupportedError where nobody elects.
    """
    parts = [part.strip().rpartition("/") for part in word.split("+")]
    waits = {last: (Moment(last), group) for group, _, last in parts if last in MOMENT_WORDS}
    if not waits:
        return word, {}
    found = await asyncio.gather(*(moment_of(world, *wait) for wait in waits.values()))
    seen = dict(zip(waits, found, strict=True))
    await asyncio.sleep(after_s)
    names = [seen[last].node if last in seen else f"{group}{slash}{last}" for group, slash, last in parts]
    return "+".join(names), told(*found)


async def moment_of(world: World, moment: Moment, group: str = "") -> Election:
    """The next such moment. Raises FaultError if it does not come, UnsupportedError where nobody elects."""
    if world.elections is None:
        raise UnsupportedError(f"{moment.value}: nobody elects here")
    try:
        async with asyncio.timeout(world.patience.moment_s):
            return await world.elections.next(moment, group)
    except TimeoutError:
        what = "won an election" if moment is Moment.ELECTED else "gave its vote to another"
        raise FaultError(f"nobody {what} within {world.patience.moment_s:g} s") from None


def told(*elections: Election) -> dict[str, object]:
    """What a fault waited for, for its record."""
    return {"elections": [{"node": one.node, "term": one.term} for one in elections]}
