"""What a caller of the store can meet."""

from __future__ import annotations

from enum import StrEnum

from nodes.store.disk import DiskLocked

__all__ = ["DiskLocked", "Refusal", "StoreCorrupt", "StoreFailed", "StoreRefused"]


class Refusal(StrEnum):
    """Why the store took nothing. Whatever the reason, not a byte was stored."""

    FAILED = "failed"
    """A write or sync failed earlier; nothing is accepted until the process is started anew."""
    CLOSED = "closed"
    DISK_FULL = "disk full"
    """The file system is fuller than diskSpaceWarningLevelRatio."""
    BUSY = "busy"
    """Too many bytes wait to be written."""
    BODY_TOO_LARGE = "body too large"
    """Larger than maxMessageSize, or than a commit-log file can hold."""
    TOPIC_TOO_LONG = "topic too long"
    PROPERTIES_TOO_LONG = "properties too long"
    NOT_CONTIGUOUS = "not contiguous"
    """Replicated bytes that do not continue this log."""
    INVALID = "invalid record"
    """Replicated bytes that are no valid records for this log."""


class StoreRefused(Exception):
    """An append that was refused and certainly left nothing behind."""

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        super().__init__(f"{refusal}: {detail}" if detail else str(refusal))
        self.refusal = refusal
        self.detail = detail


class StoreFailed(Exception):
    """A write or sync failed: what was not flushed before may be lost, and nothing will be acknowledged any more."""


class StoreCorrupt(Exception):
    """The files contradict themselves where they were already flushed; starting would silently drop messages.

    The text names the file and the position in it.
    """

    def __init__(self, path: str, position: int, reason: str) -> None:
        super().__init__(f"{path} is corrupt at byte {position}: {reason}")
        self.path = path
        self.position = position
        self.reason = reason
