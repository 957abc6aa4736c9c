"""Promotion: a slave is made the master of its group, as an operator would."""

from __future__ import annotations

from collections.abc import Mapping

from nemesis.fault import Done, FaultError, Proof
from nemesis.targets import resolve
from nemesis.waiting import poll
from nemesis.world import Role, RoleReport, World


class Promote:
    """Change of role by the admin call or the seed's procedure, whichever the lab's Roles implements. Lasts."""

    kind = "promote"
    permanent = True

    def __init__(self, asked: str) -> None:
        self.asked = asked
        self._before: dict[str, int] = {}  # node to the highest epoch number that its group had shown

    async def inject(self, world: World, fault_id: str) -> Done:
        """Promote each target. Raises FaultError if one is not a living slave."""
        del fault_id
        roles = await world.roles.roles()
        nodes = resolve(self.asked, roles, world.rng)
        for node in nodes:
            report = roles[node]
            if report.role is not Role.SLAVE or not report.alive:
                raise FaultError(f"{node} is {'a ' if report.alive else 'a dead '}{report.role.value}, not a slave")
        groups = [roles[node].group for node in nodes]
        if len(dict.fromkeys(groups)) < len(groups):
            raise FaultError(f"{self.asked} means two slaves of one group: {', '.join(nodes)}")
        self._before = {node: _highest_epoch(roles, roles[node].group) for node in nodes}
        said = [await world.roles.promote(node) for node in nodes]
        return Done(nodes, "; ".join(said), world.now_ns(), {"epochs_before": dict(self._before)})

    async def prove_injected(self, world: World) -> Proof:
        """Every target reports itself master, with an epoch above all that its group had shown before."""
        last: dict[str, object] = {}

        async def shows() -> bool:
            roles = await world.roles.roles()
            reports = {node: roles.get(node) for node in self._before}
            for node, report in reports.items():
                role = report.role.value if report is not None else "unknown"
                last[node] = {"role": role, "epoch": report.epoch if report is not None else None}
            return all(_is_new_master(report, self._before[node]) for node, report in reports.items())

        holds = await poll(world, shows, world.patience.promote_s)
        return Proof.of(holds and bool(self._before), **last)

    async def heal(self, world: World) -> Done:
        """Nothing: a promotion lasts; the old master returns as a slave by a plan of its own."""
        return Done((), "nothing to heal: it is meant to last", world.now_ns())

    async def prove_healed(self, world: World) -> Proof:
        """Nothing was to be healed."""
        del world
        return Proof.of(True)


def _is_new_master(report: RoleReport | None, before: int) -> bool:
    if report is None or not report.alive:
        return False
    return report.role is Role.MASTER and report.epoch is not None and report.epoch > before


def _highest_epoch(roles: Mapping[str, RoleReport], group: str) -> int:
    epochs = [report.epoch for report in roles.values() if report.group == group and report.epoch is not None]
    return max(epochs, default=-1)
