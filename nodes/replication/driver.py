"""Replication with input and output, as a broker uses it: the primary that listens, the replica that dials."""

from __future__ import annotations

from nodes.replication.following import Replica
from nodes.replication.serving import Primary

__all__ = ["Primary", "Replica"]
