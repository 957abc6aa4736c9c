"""Carries out what a replica's machine decided: the one place where a replica's log, epoch file and tables change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nodes.replication.lineage import Lineage
from nodes.replication.ports import ReplicaLog, ReplicaTables
from nodes.replication.replica import Adopt, Append, Cut, Disown, Do, Install, Leave, Reseed, Tell, Told

__all__ = ["Wire", "carry_out"]


class Wire(Protocol):
    """The connection to the primary, and who wants to know."""

    def tell(self, data: bytes) -> None:
        """Write to the connection."""
        ...

    def leave(self, reason: str) -> None:
        """Close the connection."""
        ...

    def told(self, name: str, fields: dict[str, object]) -> None:
        """Log what happened."""
        ...

    def cut(self, offset: int) -> None:
        """The log was cut, or begun anew, at this offset."""
        ...


def carry_out(actions: Sequence[Do], store: ReplicaLog, lineage: Lineage, tables: ReplicaTables, wire: Wire) -> bool:
    """Do it in order; each step is durable before the next where `lineage` demands it. True if log bytes came.

    Whatever the store, the disk or a table raises passes through; the steps after it are then not done.
    """
    grown = False
    for action in actions:
        match action:
            case Append(offset, data):
                store.append_raw(offset, data)
                grown = True
            case Tell(data):
                wire.tell(data)
            case Leave(reason):
                wire.leave(reason)
            case Cut(offset):
                store.truncate_to(offset)
                wire.cut(offset)
            case Disown():
                lineage.disown()
            case Reseed(offset):
                store.truncate_to(0)
                if offset:
                    store.begin_at(offset)
                wire.cut(offset)
            case Adopt(table, highest):
                lineage.adopt(table, highest)
            case Install(kind, payload, progress):
                tables.install(kind, payload, progress)
            case Told(name, fields):
                wire.told(name, fields)
    if grown:
        store.write_pending()
    return grown
