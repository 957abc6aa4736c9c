"""Named bounds of one broker. A request that would pass one is refused with the bound in its remark."""

from __future__ import annotations

__all__ = ["GROUPS_MAX", "LOCKS_MAX", "OFFSETS_MAX", "QUEUES_MAX", "TOPICS_MAX"]

TOPICS_MAX = 50_000
"""Topics, retry and dead-letter topics included."""

QUEUES_MAX = 65_535
"""Queues of one topic."""

GROUPS_MAX = 50_000
"""Consumer groups."""

OFFSETS_MAX = 1_000_000
"""Committed offsets: (group, topic, queue) that ever committed."""

LOCKS_MAX = 1_000_000
"""Queues locked for orderly consumption."""
