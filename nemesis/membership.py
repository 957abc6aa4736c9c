"""Faults of groups that elect their leader: leadership handed over, replicas added and removed.

None of these hurts by itself; what they try is whether a group stays whole while its membership changes under load.
"""

from __future__ import annotations

from collections.abc import Mapping

from nemesis.fault import Done, FaultError, Proof, UnsupportedError
from nemesis.targets import resolve
from nemesis.waiting import moment_of, poll, roles_for, told
from nemesis.world import Configuration, Members, Moment, Role, RoleReport, World

LEADER = "leader"
"""Changes of a group go through its leader, so they wait for one."""


class Transfer:
    """The leader hands over to a follower, as an operator asks it to. Lasts until the next election."""

    kind = "transfer"
    permanent = True

    def __init__(self, asked: str) -> None:
        self.asked = asked
        self._before: dict[str, int] = {}  # node to the term of the leader before it

    async def inject(self, world: World, fault_id: str) -> Done:
        """Ask each target's group to be led by it. Raises FaultError if one is not a living follower."""
        del fault_id
        members = _members(world)
        roles = await roles_for(LEADER, world)
        nodes = resolve(self.asked, roles, world.rng)
        for node in nodes:
            report = roles[node]
            if report.role is not Role.SLAVE or not report.alive:
                raise FaultError(f"{node} is {'a ' if report.alive else 'a dead '}{report.role.value}, no follower")
        self._before = {node: _term_of(roles, roles[node].group) for node in nodes}
        said = [await members.transfer(node) for node in nodes]
        return Done(nodes, "; ".join(said), world.now_ns(), {"terms_before": dict(self._before)})

    async def prove_injected(self, world: World) -> Proof:
        """Every target was seen to lead a term above the one before."""
        seen: dict[str, object] = {}

        async def shows() -> bool:
            roles = await world.roles.roles()
            for node, before in self._before.items():
                report = roles.get(node)
                if report is not None and report.alive and report.role is Role.MASTER and (report.epoch or 0) > before:
                    seen[node] = {"leads_term": report.epoch}
            return all(node in seen for node in self._before)

        holds = await poll(world, shows, world.patience.promote_s)
        return Proof.of(holds and bool(self._before), **seen)

    async def heal(self, world: World) -> Done:
        """Nothing: whoever leads may lead on."""
        return Done((), "nothing to heal: it is meant to last", world.now_ns())

    async def prove_healed(self, world: World) -> Proof:
        """Nothing was to be healed."""
        del world
        return Proof.of(True)


class Add:
    """A spare node with an empty disk becomes a voter of its group. Lasts, unless asked to go back."""

    kind = "add"

    def __init__(self, asked: str, *, back: bool = False) -> None:
        self.asked = asked
        self.permanent = not back
        self._group = ""
        self._node = ""

    async def inject(self, world: World, fault_id: str) -> Done:
        """Start a spare and add it. Raises FaultError if the group has none left."""
        del fault_id
        members = _members(world)
        groups = list(dict.fromkeys(report.group for report in (await world.roles.roles()).values() if report.group))
        self._group = self.asked or world.rng.choice(groups)
        node = await members.spare(self._group)
        if node is None:
            raise FaultError(f"{self._group} has no spare node left to add")
        self._node = node
        what = await members.join(node)
        return Done((node,), what, world.now_ns())

    async def prove_injected(self, world: World) -> Proof:
        """Every member that answers reports a committed configuration in which the node votes, the node too."""
        return await _prove(world, self._group, self._node, votes=True)

    async def heal(self, world: World) -> Done:
        """Take the node out again; its process goes on and must disturb nobody."""
        if self.permanent:
            return Done((), "nothing to heal: it is meant to last", world.now_ns())
        what = await _members(world).leave(self._node)
        return Done((self._node,), what, world.now_ns())

    async def prove_healed(self, world: World) -> Proof:
        """Every other member that answers reports a committed configuration without the node."""
        return await _prove(world, self._group, self._node, votes=self.permanent)


class Remove:
    """A replica is taken out of its group. Lasts, unless asked to come back.

    ``stop``: its process is ended a moment later, as an operator would. ``by_elected``: the wish comes as early as it
    can, to the next leader when it has just won, which may have committed nothing yet.
    """

    kind = "remove"

    def __init__(
        self, asked: str, *, word: str = "", back: bool = False, stop: bool = True, by_elected: bool = False
    ) -> None:
        self.asked = asked
        self._word = word or asked
        self.permanent = not back
        self._stop = stop
        self._by_elected = by_elected
        self._group = ""
        self._node = ""

    async def inject(self, world: World, fault_id: str) -> Done:
        """Remove one node. Raises FaultError if the word means several or one that does not vote."""
        del fault_id
        members = _members(world)
        roles = await roles_for(LEADER, world)
        nodes = resolve(self._word, roles, world.rng)
        if len(nodes) != 1:
            raise FaultError(f"{self._word} means {len(nodes)} nodes, and members are removed one at a time")
        self._node = nodes[0]
        self._group = roles[self._node].group
        known = await members.configurations(self._group)
        if not any(self._node in configuration.voters for configuration in known.values()):
            raise FaultError(f"{self._node} is no voter of {self._group}")
        if not self._by_elected:
            what = await members.leave(self._node, stop=self._stop)
            return Done(nodes, what, world.now_ns())
        seen = await moment_of(world, Moment.ELECTED, self._group)
        what = await members.leave(self._node, stop=self._stop, by=seen.node)
        return Done(nodes, what, world.now_ns(), told(seen))

    async def prove_injected(self, world: World) -> Proof:
        """Every other member that answers reports a committed configuration without the node."""
        return await _prove(world, self._group, self._node, votes=False)

    async def heal(self, world: World) -> Done:
        """Add the node again if it shall come back; it keeps its disk."""
        if self.permanent:
            return Done((), "nothing to heal: it is meant to last", world.now_ns())
        what = await _members(world).join(self._node)
        return Done((self._node,), what, world.now_ns())

    async def prove_healed(self, world: World) -> Proof:
        """The configuration is again one in which it votes; or, if it is meant to last, still one without it."""
        return await _prove(world, self._group, self._node, votes=not self.permanent)


async def _prove(world: World, group: str, node: str, *, votes: bool) -> Proof:
    """Look until all members that answer agree; a majority of the voters must be among those who say so."""
    members = _members(world)
    last: dict[str, Configuration] = {}

    async def shows() -> bool:
        last.clear()
        last.update(await members.configurations(group))
        return _agreed(last, node, votes=votes)

    holds = bool(node) and await poll(world, shows, world.patience.member_s)
    said = {
        name: {"voters": sorted(one.voters), "learners": sorted(one.learners), "committed": one.committed}
        for name, one in last.items()
    }
    return Proof.of(holds, configurations=said)


def _agreed(known: Mapping[str, Configuration], node: str, *, votes: bool) -> bool:
    asked = {name: one for name, one in known.items() if votes or name != node}
    inside = {name: one for name, one in asked.items() if name in one.voters}
    voters = {one.voters for one in inside.values()}
    if len(voters) != 1 or not all(one.committed for one in inside.values()):
        return False
    (them,) = voters
    strangers = [name for name in asked if name not in inside and name in them]
    return (node in them) is votes and not strangers and len(inside) > len(them) // 2 and (not votes or node in inside)


def _members(world: World) -> Members:
    if world.members is None:
        raise UnsupportedError("the groups of this cluster do not elect their leader")
    return world.members


def _term_of(roles: Mapping[str, RoleReport], group: str) -> int:
    return max((report.epoch or 0 for report in roles.values() if report.group == group), default=0)
