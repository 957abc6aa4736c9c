"""The nemesis's own memory of what is broken at this moment, against which the world is measured.

It is kept apart from the levers on purpose: a lever that silently does nothing would also report that nothing is cut.
"""

from __future__ import annotations

import asyncio


class Ledger:
    """Intended cuts and hurt nodes, by fault id. ``generation`` grows with every change of an intended cut."""

    def __init__(self) -> None:
        self._cuts: dict[str, frozenset[tuple[str, str]]] = {}
        self._hurt: dict[str, list[str]] = {}
        self.generation = 0
        self.network_lock = asyncio.Lock()  # a lever call and its entry here are one step for everybody who measures

    def cut(self, fault_id: str, pairs: frozenset[tuple[str, str]]) -> None:
        """Remember that this fault intends to lose these ordered pairs (replacing what it intended before)."""
        self._cuts[fault_id] = pairs
        self.generation += 1

    def restore(self, fault_id: str) -> None:
        """Forget this fault's cut; nothing happens if it has none."""
        if self._cuts.pop(fault_id, None) is not None:
            self.generation += 1

    def intended(self) -> frozenset[tuple[str, str]]:
        """The union of all intended cuts."""
        return frozenset(pair for pairs in self._cuts.values() for pair in pairs)

    def hurt(self, fault_id: str, nodes: list[str]) -> None:
        """Remember whose processes this fault hurts until it heals."""
        self._hurt[fault_id] = list(nodes)

    def unhurt(self, fault_id: str) -> None:
        """Forget the nodes that this fault hurt."""
        self._hurt.pop(fault_id, None)

    def later(self, fault_id: str, node: str) -> list[str]:
        """Ids of the faults that hurt this node since after this fault did, oldest first: they answer for it now."""
        hurting = [other for other, nodes in self._hurt.items() if node in nodes]
        return hurting[hurting.index(fault_id) + 1 :] if fault_id in hurting else hurting

    def active(self) -> list[str]:
        """Ids of all faults that still intend something, oldest first."""
        return list(dict.fromkeys([*self._cuts, *self._hurt]))
