"""What a member of a group is told, and the error that whoever asks something of it meets."""

from __future__ import annotations

from dataclasses import dataclass

from nodes.remoting.message import Host
from nodes.replication.raft.settings import Settings

__all__ = ["GroupError", "GroupSettings"]


class GroupError(Exception):
    """Something asked of the group that it did not do; the text says why."""


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """Who this member is, where it speaks, and how. `sync`: a position counts when synced, otherwise when written."""

    group: str
    name: str
    members: dict[str, str]
    """Name to host:port of the configured members."""
    host: str
    port: int
    broker: str
    """Where clients reach this member's broker."""
    store_host: Host
    sync: bool
    raft: Settings
