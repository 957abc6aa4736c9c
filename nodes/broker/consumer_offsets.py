"""How far every consumer group has come in every queue. Pure.

Source: RocketMQ class ConsumerOffsetManager.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from nodes.broker.limits import OFFSETS_MAX

__all__ = ["ConsumerOffsets", "OffsetsDocument"]

_SEPARATOR = "@"


class OffsetsDocument(msgspec.Struct, rename="camel"):
    """The file consumerOffset.json, and the body of GET_ALL_CONSUMER_OFFSET: `topic@group` to queue to offset."""

    offset_table: dict[str, dict[int, int]] = {}


class ConsumerOffsets:
    """Committed offsets. `changes` counts modifications, so that the owner sees whether there is something to save."""

    __slots__ = ("_count", "_limit", "_table", "changes")

    def __init__(self, limit: int = OFFSETS_MAX) -> None:
        self._table: dict[str, dict[int, int]] = {}
        self._count = 0
        self._limit = limit
        self.changes = 0

    def get(self, group: str, topic: str, queue_id: int) -> int | None:
        """The committed offset, or None if the group never committed here."""
        queues = self._table.get(f"{topic}{_SEPARATOR}{group}")
        return None if queues is None else queues.get(queue_id)

    def has_room(self, group: str, topic: str, queue_id: int) -> bool:
        """`commit` would take an offset for this queue."""
        return self._count < self._limit or self.get(group, topic, queue_id) is not None

    def commit(self, group: str, topic: str, queue_id: int, offset: int) -> bool:
        """Set the offset. Smaller ones than before are accepted: consumers may rewind.

        False if there are OFFSETS_MAX offsets already and this one is new.
        """
        key = f"{topic}{_SEPARATOR}{group}"
        old = self._table.get(key, {}).get(queue_id)
        if old == offset:
            return True
        if old is None:
            if self._count >= self._limit:
                return False
            self._count += 1
        self._table.setdefault(key, {})[queue_id] = offset
        self.changes += 1
        return True

    def topics_of(self, group: str) -> list[str]:
        """Topics in which the group has committed."""
        tail = _SEPARATOR + group
        return [key[: -len(tail)] for key in self._table if key.endswith(tail)]

    def groups_of(self, topic: str) -> list[str]:
        """Groups that have committed in the topic."""
        head = topic + _SEPARATOR
        return [key[len(head) :] for key in self._table if key.startswith(head)]

    def queues_of(self, group: str, topic: str) -> dict[int, int]:
        """Queue id to committed offset."""
        return dict(self._table.get(f"{topic}{_SEPARATOR}{group}", {}))

    def forget(self, *, group: str | None = None, topic: str | None = None) -> None:
        """Drop what a deleted group, or a deleted topic, had committed."""
        for key in list(self._table):
            its_topic, _, its_group = key.partition(_SEPARATOR)
            if group in (None, its_group) and topic in (None, its_topic):
                self._count -= len(self._table.pop(key))
                self.changes += 1

    def clamp(self, end_of: Callable[[str, int], int]) -> list[tuple[str, int, int, int]]:
        """Cut every offset down to its queue's end. Returns (topic@group, queue, was, now) of those that were cut.

        A committed offset beyond the end of a restarted, promoted or truncated log would make the group skip the
        messages that will be written there (or start over from 0).
        """
        cut = []
        for key, queues in self._table.items():
            topic = key.partition(_SEPARATOR)[0]
            for queue_id, offset in queues.items():
                end = end_of(topic, queue_id)
                if offset > end:
                    cut.append((key, queue_id, offset, end))
        for key, queue_id, _, end in cut:
            self._table[key][queue_id] = end
            self.changes += 1
        return cut

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        """Every (`topic@group`, queue, offset)."""
        for key, queues in self._table.items():
            for queue_id, offset in queues.items():
                yield key, queue_id, offset

    def document(self) -> OffsetsDocument:
        """What is persisted and sent to slaves."""
        return OffsetsDocument({key: dict(queues) for key, queues in self._table.items()})

    def load(self, document: OffsetsDocument) -> None:
        """Take over a whole table."""
        self._table = {key: dict(queues) for key, queues in document.offset_table.items()}
        self._count = sum(map(len, self._table.values()))
        self.changes += 1
