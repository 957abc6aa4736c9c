"""Progress that consumers make on a replica while they cannot reach the primary. Pure.

The primary's table of consumer offsets replaces the replica's whole, so what was committed here would be undone by a
primary that comes back (RocketMQ issues 1094, 1440). Therefore each such commit leaves a mark; marks go to the primary,
which merges them by maximum. Until it says so, a mark overlays what the primary sends. A merged mark overlays nothing
any more; it is kept a little longer, to be sent again to a primary that was killed before it had saved its table.
Offsets that an operator resets drop their marks.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from nodes.replication.frames import Progress
from nodes.replication.limits import MARKS_MAX, MERGED_KEPT_S

__all__ = ["Marks", "merge_by_maximum", "overlay"]


@dataclass(slots=True)
class _Mark:
    """`sent_as`: sequence of the message that carried this offset; 0 if none has on this connection.
    `merged_at`: when the primary said that it has it."""

    offset: int
    sent_as: int = 0
    merged_at: float | None = None


class _Document(msgspec.Struct, rename="camel"):
    """The file."""

    format: int
    progress: Progress


class Marks:
    """What the primary does not know yet. `changes` grows with every change that is to be persisted."""

    __slots__ = ("_marks", "_sequence", "changes", "unsent")

    def __init__(self, progress: Progress | None = None) -> None:
        self._marks: dict[tuple[str, int], _Mark] = {}
        self._sequence = 0
        self.changes = 0
        self.unsent = False
        """Some mark has not been sent on this connection."""
        for key, queues in (progress or {}).items():
            for queue_id, offset in queues.items():
                self.commit(key, queue_id, offset)
        self.changes = 0

    def __len__(self) -> int:
        return len(self._marks)

    def commit(self, key: str, queue_id: int, offset: int) -> bool:
        """A consumer of `topic@group` committed here. False if MARKS_MAX marks wait already and this one is new."""
        mark = self._marks.get((key, queue_id))
        if mark is None:
            if len(self._marks) >= MARKS_MAX:
                return False
            self._marks[key, queue_id] = _Mark(offset)
        elif mark.offset != offset:
            mark.offset, mark.sent_as, mark.merged_at = offset, 0, None
        else:
            return True
        self.unsent = True
        self.changes += 1
        return True

    def reconnected(self) -> None:
        """A new connection: what was sent on the old one may not have arrived."""
        for mark in self._marks.values():
            mark.sent_as, mark.merged_at = 0, None
        self.unsent = bool(self._marks)

    def outgoing(self) -> tuple[int, Progress] | None:
        """What has not been sent on this connection, with its sequence; None if nothing."""
        if not self.unsent:
            return None
        self.unsent = False
        self._sequence += 1
        progress: Progress = {}
        for (key, queue_id), mark in self._marks.items():
            if mark.sent_as == 0:
                mark.sent_as = self._sequence
                progress.setdefault(key, {})[queue_id] = mark.offset
        return (self._sequence, progress) if progress else None

    def merged(self, sequence: int, now: float) -> None:
        """The primary's table contains what counts of all that was sent up to `sequence`."""
        for mark in self._marks.values():
            if 0 < mark.sent_as <= sequence and mark.merged_at is None:
                mark.merged_at = now

    def expire(self, now: float) -> None:
        """Forget what was merged MERGED_KEPT_S ago: the primary has saved it."""
        done = [
            place
            for place, mark in self._marks.items()
            if mark.merged_at is not None and now - mark.merged_at >= MERGED_KEPT_S
        ]
        for place in done:
            del self._marks[place]
        self.changes += len(done)

    def reset(self, progress: Progress) -> None:
        """An operator set these offsets: older progress no longer counts."""
        for key, queues in progress.items():
            for queue_id in queues:
                if self._marks.pop((key, queue_id), None) is not None:
                    self.changes += 1

    def clear(self) -> None:
        """Forget all: this node has become primary, so its own table is the truth."""
        if self._marks:
            self._marks.clear()
            self.unsent = False
            self.changes += 1

    def progress(self, *, merged: bool = False) -> Progress:
        """The marks that the primary has not merged yet; all of them with `merged`."""
        result: Progress = {}
        for (key, queue_id), mark in self._marks.items():
            if merged or mark.merged_at is None:
                result.setdefault(key, {})[queue_id] = mark.offset
        return result

    def encode(self) -> bytes:
        """What is persisted."""
        return msgspec.json.encode(_Document(1, self.progress(merged=True)))

    @classmethod
    def decode(cls, data: bytes) -> Marks:
        """Read what was persisted. Raises ValueError if it is damaged."""
        return cls(msgspec.json.decode(data, type=_Document).progress)


def merge_by_maximum(table: Progress, progress: Progress, end_of: dict[tuple[str, int], int]) -> Progress:
    """Those offsets of `progress` that lie above the ones in `table`, cut to the end of their queue.

    `end_of` maps (`topic@group`, queue) to the end of the queue; a queue that is absent has the end 0.
    """
    raised: Progress = {}
    for key, queues in progress.items():
        for queue_id, offset in queues.items():
            value = min(offset, end_of.get((key, queue_id), 0))
            if value > table.get(key, {}).get(queue_id, 0):
                raised.setdefault(key, {})[queue_id] = value
    return raised


def overlay(table: Progress, marks: Progress) -> Progress:
    """A primary's table with the progress it does not know yet: the larger offset of each queue."""
    result = {key: dict(queues) for key, queues in table.items()}
    for key, queues in marks.items():
        mine = result.setdefault(key, {})
        for queue_id, offset in queues.items():
            mine[queue_id] = max(offset, mine.get(queue_id, 0))
    return result
