"""The contents of `queues.json`: how far the queue files reached when they were last written in full."""

from __future__ import annotations

import msgspec

__all__ = ["QueueState"]


class QueueState(msgspec.Struct, forbid_unknown_fields=True):
    """One document; a field that is not known refuses it."""

    dispatched: int
    """Log offset: every message before it has its entries on disk."""
    index: tuple[int, int]
    """Segment and length of the key index's file at that moment."""
    queues: dict[str, dict[int, tuple[int, int]]]
    """Topic, queue: first and next offset."""
