"""Who refuses to hear whom: shapes of partitions as sets of ordered pairs of hosts. Pure.

``components`` are lists of hosts that hear each other; a host in no component, or in several, is cut from nobody that
shares one with it. Shapes follow the vocabulary of Jepsen's nemesis package: halves, one isolated, bridge, majorities
ring, and one-way variants; clients and name servers are members like all others, or stay free.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from nemesis.world import Pair

if TYPE_CHECKING:
    import random

Grudge = frozenset[Pair]


def both_ways(side: Sequence[str], other: Sequence[str]) -> Grudge:
    """Nobody of one side reaches anybody of the other; who is on both sides is cut from nobody by it."""
    return one_way(side, other) | one_way(other, side)


def one_way(sources: Sequence[str], destinations: Sequence[str]) -> Grudge:
    """Packets from the first to the second are lost, the way back is open."""
    shared = set(sources) & set(destinations)
    return frozenset((a, b) for a in sources for b in destinations if not {a, b} & shared)


def split(components: Sequence[Sequence[str]]) -> Grudge:
    """Hosts of different components do not reach each other. A host in several of them hears all of these."""
    members = list(dict.fromkeys(host for component in components for host in component))
    homes = {host: [number for number, component in enumerate(components) if host in component] for host in members}
    return frozenset((a, b) for a in members for b in members if a != b and not set(homes[a]) & set(homes[b]))


def isolate(hosts: Sequence[str], lonely: Sequence[str]) -> Grudge:
    """The lonely ones stay together, cut from all others."""
    return both_ways(lonely, [host for host in hosts if host not in lonely])


def isolate_each(hosts: Sequence[str], lonely: Sequence[str]) -> Grudge:
    """Each of the lonely ones is cut from everybody."""
    return frozenset(pair for host in lonely for pair in isolate(hosts, [host]))


def inward(hosts: Sequence[str], deaf: Sequence[str]) -> Grudge:
    """The deaf ones can speak but hear nobody else."""
    return one_way([host for host in hosts if host not in deaf], deaf)


def outward(hosts: Sequence[str], mute: Sequence[str]) -> Grudge:
    """The mute ones hear everybody and are heard by nobody else."""
    return one_way(mute, [host for host in hosts if host not in mute])


def halves(hosts: Sequence[str], rng: random.Random) -> list[list[str]]:
    """Two components by chance, the first the smaller by one if the number is odd."""
    shuffled = rng.sample(list(hosts), len(hosts))
    middle = len(shuffled) // 2
    return [_in_order(hosts, shuffled[:middle]), _in_order(hosts, shuffled[middle:])]


def bridge(hosts: Sequence[str], rng: random.Random) -> list[list[str]]:
    """Two halves that share exactly one host, which hears both. Needs three hosts."""
    shuffled = rng.sample(list(hosts), len(hosts))
    between, rest = shuffled[0], shuffled[1:]
    middle = len(rest) // 2
    return [_in_order(hosts, [*rest[:middle], between]), _in_order(hosts, [*rest[middle:], between])]


def majorities_ring(hosts: Sequence[str], rng: random.Random) -> Grudge:
    """Every host hears a majority (itself counted), and no two hosts the same one; needs three hosts to cut anything.

    Hosts stand in a ring in an order by chance and each hears its nearest neighbours on both sides. With an even
    number the majority cannot be symmetric; then each hears one more than needed. Of three, each hears only the next.
    """
    ring = rng.sample(list(hosts), len(hosts))
    count = len(ring)
    if count == 3:
        return frozenset((ring[(place + 2) % 3], ring[place]) for place in range(3))
    reach = (count // 2 + 1) // 2  # neighbours on each side: 2 * reach + 1 is the smallest symmetric majority

    def near(a: int, b: int) -> bool:
        return min((a - b) % count, (b - a) % count) <= reach

    return frozenset((ring[a], ring[b]) for a in range(count) for b in range(count) if not near(a, b))


def without(grudge: Iterable[Pair], free: Sequence[str]) -> Grudge:
    """The same grudge, except that the free ones are cut from nobody."""
    return frozenset((a, b) for a, b in grudge if a not in free and b not in free)


def _in_order(hosts: Sequence[str], chosen: Sequence[str]) -> list[str]:
    return [host for host in hosts if host in chosen]
