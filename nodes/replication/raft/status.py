"""What can be seen of a node. Values. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from nodes.replication.raft.membership import Membership
from nodes.replication.raft.orders import Role
from nodes.replication.raft.progress import Way
from nodes.replication.raft.terms import TermRow

__all__ = ["PeerStatus", "Status"]


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """A leader's view of one peer: durable there, sent, and when it was last heard (seconds of the core's clock)."""

    name: str
    way: Way
    match: int
    next: int
    heard: float


@dataclass(frozen=True, slots=True)
class Status:
    """One moment of one node; positions in bytes."""

    name: str
    role: Role
    term: int
    vote: str
    joined: bool
    leader: str
    begin: int
    end: int
    durable: int
    committed: int
    rows: tuple[TermRow, ...]
    membership: Membership
    membership_committed: bool
    peers: tuple[PeerStatus, ...] = ()
