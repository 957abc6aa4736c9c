"""Partitions: a shape over the hosts, cut at once, proven by the whole reachability matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from nemesis import grudge
from nemesis.fault import Done, FaultError, Proof, Verified
from nemesis.targets import resolve
from nemesis.waiting import named, poll, roles_for
from nemesis.world import Matrix, Pair, Role, RoleReport, World

MISMATCHES_SHOWN = 20
"""Bound of the list in the evidence; the count is given in full."""


class Stand(StrEnum):
    """Where the clients, or the name servers, stand in a partition."""

    MEMBER = "member"  # like every other host: by chance in a half, or opposite the targets
    FREE = "free"  # cut from nobody
    WITH = "with"  # on the targets' side
    AGAINST = "against"  # opposite the targets
    SPLIT = "split"  # half of them, by chance, on the targets' side


class Shape(StrEnum):
    """What the partition looks like."""

    HALVES = "halves"
    ISOLATE = "isolate"  # the targets together, cut from the rest
    RING = "ring"  # majorities ring
    BRIDGE = "bridge"
    ONE_WAY_IN = "one-way-in"  # the targets hear nobody
    ONE_WAY_OUT = "one-way-out"  # nobody hears the targets
    NAME_SERVERS = "namesrvs"  # every name server alone, the rest whole
    REPLICATION = "replication"  # brokers of one group from each other; clients and name servers reach both
    NAMED = "named"  # components written out


@dataclass(frozen=True, slots=True)
class Cut:
    """A shape laid over the hosts of this moment."""

    targets: tuple[str, ...]  # hosts: those hit, or the members of the first component
    pairs: frozenset[Pair]
    sides: tuple[tuple[str, ...], ...]  # in words of hosts, for the record


class Partition:
    """One partition; see ``catalogue`` for how plans write it."""

    permanent = False

    def __init__(
        self,
        asked: str,
        shape: Shape,
        *,
        kind: str = "partition",
        word: str = "",
        components: Sequence[Sequence[str]] = (),
        clients: Stand = Stand.MEMBER,
        name_servers: Stand = Stand.MEMBER,
        after_s: float = 0.0,
    ) -> None:
        self.kind = kind
        self.asked = asked
        self._shape = shape
        self._word = word
        self._components = components
        self._clients = clients
        self._name_servers = name_servers
        self._after_s = after_s  # seconds after the moment of an election that the word waits for
        self._fault_id = ""
        self._pairs: frozenset[Pair] = frozenset()
        self._proven = False
        self._lapsed: tuple[str, ...] | None = ()  # what passed the cut when it was healed; None: could not be seen

    async def inject(self, world: World, fault_id: str) -> Done:
        """Cut. Raises FaultError if the shape cuts nothing here, LeverError if the lever refuses."""
        roles = await roles_for(self._word, world)  # asked before the moment comes, since asking takes time
        self._word, seen = await named(self._word, world, self._after_s)
        cut = self.plan(world, roles)
        if not cut.pairs:
            raise FaultError(f"{self.asked} cuts nothing between {', '.join(world.network.hosts())}")
        async with world.ledger.network_lock:
            self._fault_id, self._pairs = fault_id, cut.pairs
            # Remembered before the lever is pulled: a measurement of another fault that overlaps is then void.
            world.ledger.cut(fault_id, cut.pairs)
            try:
                what = await world.network.cut(fault_id, cut.pairs)
            except Exception:
                world.ledger.restore(fault_id)
                raise
            done_ns = world.now_ns()
        evidence = {**seen, "sides": [list(side) for side in cut.sides], "pairs_cut": len(cut.pairs)}
        return Done(cut.targets, what, done_ns, evidence, cut.pairs)

    async def prove_injected(self, world: World) -> Proof:
        """All ordered pairs, in three looks, are exactly as all faults together intend."""
        proof = await prove_matrix(world)
        self._proven = proof.verified is Verified.TRUE
        return proof

    async def heal(self, world: World) -> Done:
        """End this cut only, after a last look whether it still is one; others stay."""
        self._lapsed = await self._passing(world) if self._proven else ()
        async with world.ledger.network_lock:
            what = await world.network.restore(self._fault_id)
            world.ledger.restore(self._fault_id)
            done_ns = world.now_ns()
        return Done((), what, done_ns)

    async def prove_healed(self, world: World) -> Proof:
        """As for injection; and if no cut remains, the rules are as at the start. The cut had lasted until then."""
        proof = await prove_matrix(world)
        if self._lapsed == ():
            return proof
        reason = "when it was healed the cut could not be seen" if self._lapsed is None else "the cut had not lasted"
        return Proof.of(False, **{**proof.evidence, "reason": reason, "lapsed": list(self._lapsed or ())})

    async def _passing(self, world: World) -> tuple[str, ...] | None:
        """What passes between the pairs that this fault cuts; None if that cannot be measured.

        Nobody else ends this cut, so whatever faults begin or end meanwhile, nothing may.
        """
        try:
            matrix = await world.network.matrix(world.ledger.intended())
        except Exception:  # whatever the look ends with, the cut is healed
            return None
        seen = matrix.datagrams | matrix.flows | matrix.connects
        return tuple(f"{a} -> {b}" for a, b in sorted(seen & self._pairs)[:MISMATCHES_SHOWN])

    def plan(self, world: World, roles: Mapping[str, RoleReport]) -> Cut:
        """Lay the shape over the hosts. Raises FaultError, TargetError."""
        hosts = list(world.network.hosts())
        if self._shape is Shape.NAMED:
            return self._named(hosts, roles)
        if self._shape is Shape.NAME_SERVERS:
            lonely = _hosts_of(roles, Role.NAME_SERVER)
            return Cut(tuple(lonely), grudge.isolate_each(hosts, lonely), tuple((host,) for host in lonely))
        if self._shape is Shape.REPLICATION:
            return self._replication(roles)
        if self._shape in (Shape.HALVES, Shape.RING, Shape.BRIDGE):
            return self._over_members(world, hosts, roles)
        return self._around_targets(world, hosts, roles)

    def _named(self, hosts: Sequence[str], roles: Mapping[str, RoleReport]) -> Cut:
        def host_of(name: str) -> str:
            host = roles[name].host if name in roles else name
            if host not in hosts:
                raise FaultError(f"no host or node is called {name}")
            return host

        sides = tuple(tuple(host_of(name) for name in component) for component in self._components)
        return Cut(sides[0], grudge.split(sides), sides)

    def _replication(self, roles: Mapping[str, RoleReport]) -> Cut:
        groups: dict[str, list[str]] = {}
        for report in roles.values():
            if report.group and self._word in ("", report.group):
                groups.setdefault(report.group, []).append(report.host)
        if not groups:
            raise FaultError(f"no broker group is called {self._word}" if self._word else "there are no brokers")
        pairs = frozenset(pair for members in groups.values() for pair in grudge.isolate_each(members, members))
        members = tuple(host for group in groups.values() for host in group)
        return Cut(members, pairs, tuple((host,) for host in members))

    def _over_members(self, world: World, hosts: Sequence[str], roles: Mapping[str, RoleReport]) -> Cut:
        free = self._standing(roles, (Stand.FREE,))
        members = [host for host in hosts if host not in free]
        if self._shape is Shape.RING:
            pairs = grudge.majorities_ring(members, world.rng)
            return Cut(tuple(members), pairs, (tuple(members),))
        make = grudge.halves if self._shape is Shape.HALVES else grudge.bridge
        sides = tuple(tuple(side) for side in make(members, world.rng))
        return Cut(sides[0], grudge.split(sides), sides)

    def _around_targets(self, world: World, hosts: Sequence[str], roles: Mapping[str, RoleReport]) -> Cut:
        nodes = resolve(self._word, roles, world.rng)
        targets = [host for host in hosts if host in [roles[node].host for node in nodes]]
        free = [host for host in self._standing(roles, (Stand.FREE,)) if host not in targets]
        with_them = self._standing(roles, (Stand.WITH,))
        for stand, role in ((self._clients, Role.CLIENT), (self._name_servers, Role.NAME_SERVER)):
            if stand is Stand.SPLIT:
                members = _hosts_of(roles, role)
                with_them += world.rng.sample(members, len(members) // 2)
        side = [host for host in hosts if host in targets or (host in with_them and host not in free)]
        rest = [host for host in hosts if host not in side and host not in free]
        members = [host for host in hosts if host not in free]
        if self._shape is Shape.ONE_WAY_IN:
            pairs = grudge.inward(members, side)
        elif self._shape is Shape.ONE_WAY_OUT:
            pairs = grudge.outward(members, side)
        else:
            pairs = grudge.isolate(members, side)
        return Cut(tuple(targets), pairs, (tuple(side), tuple(rest)))

    def _standing(self, roles: Mapping[str, RoleReport], stands: Sequence[Stand]) -> list[str]:
        found = _hosts_of(roles, Role.CLIENT) if self._clients in stands else []
        return found + (_hosts_of(roles, Role.NAME_SERVER) if self._name_servers in stands else [])


async def prove_matrix(world: World) -> Proof:
    """Measure until the matrix equals what all faults together intend, or patience ends.

    A fault that begins or ends during a measurement voids that measurement, not the proof.
    """
    last: list[tuple[Matrix, tuple[str, ...]]] = []
    looks = 0

    async def equal() -> bool:
        nonlocal looks
        generation, intended = world.ledger.generation, world.ledger.intended()
        matrix = await world.network.matrix(intended)
        if generation != world.ledger.generation:
            return False
        looks += 1
        mismatches = matrix.mismatches(intended)
        if not mismatches and not intended:
            mismatches = tuple(await world.network.baseline())
        last[:] = [(matrix, mismatches)]
        return not mismatches and generation == world.ledger.generation

    begin_ns = world.now_ns()
    holds = await poll(world, equal, world.patience.matrix_s)
    if not last:
        return Proof.of(False, reason="the intended cuts changed during every measurement")
    matrix, mismatches = last[0]
    return Proof.of(
        holds,
        looks=looks,
        pairs_probed=len(matrix.pairs),
        proof_ms=round((world.now_ns() - begin_ns) / 1e6, 1),
        mismatch_count=len(mismatches),
        mismatches=list(mismatches[:MISMATCHES_SHOWN]),
        hosts=list(world.network.hosts()),
        new_flows=_image(world.network.hosts(), matrix.datagrams),
        established_flows=_image(world.network.hosts(), matrix.flows),
    )


def _image(hosts: Sequence[str], passing: frozenset[Pair]) -> list[str]:
    """One row for each source, one letter for each destination: 1 passes, 0 is lost, - is itself."""
    return ["".join("-" if a == b else str(int((a, b) in passing)) for b in hosts) for a in hosts]


def _hosts_of(roles: Mapping[str, RoleReport], role: Role) -> list[str]:
    return list(dict.fromkeys(report.host for report in roles.values() if report.role is role))
