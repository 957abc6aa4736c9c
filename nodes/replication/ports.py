"""What replication needs from the rest of a broker, as small protocols, and what it tells about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nodes.replication.frames import Progress, TableKind
from nodes.replication.limits import BATCH_MAX

__all__ = ["Identity", "PrimaryTables", "ReplicaLog", "ReplicaState", "ReplicaTables", "SourceLog", "Timing"]


class SourceLog(Protocol):
    """The log of a primary. Offsets are bytes of the commit log."""

    @property
    def min_offset(self) -> int:
        """First byte that retention has left."""
        ...

    @property
    def written_end(self) -> int:
        """End of what is written to the log file; always the end of a record."""
        ...

    def read_log(self, offset_log: int, max_bytes: int) -> bytes | bytearray | memoryview:
        """Bytes from `offset_log`, at most `max_bytes`, none beyond `written_end`."""
        ...


class ReplicaLog(SourceLog, Protocol):
    """The log of a replica. Any method may raise an error of the store; the replica then stops for good."""

    @property
    def failed(self) -> str | None:
        """Why the store accepts nothing any more (a failed fsync, for example), or None."""
        ...

    def append_raw(self, offset_log: int, data: bytes) -> None:
        """Append whole records at the end of the log; they are in the log file when it returns or after the next
        `write_pending`."""
        ...

    def write_pending(self) -> int:
        """Write what is buffered. Returns the end of what is written."""
        ...

    def truncate_to(self, offset_log: int) -> None:
        """Cut the log and its queues, durably: after a crash the cut tail does not come back. 0 empties the store."""
        ...

    def begin_at(self, offset_log: int) -> None:
        """Let the empty log start at this offset, durably."""
        ...


class PrimaryTables(Protocol):
    """The tables of the broker that serves as primary."""

    def version(self, kind: TableKind) -> int:
        """A number that differs after every change of this table. Cheap: asked after every write."""
        ...

    def snapshot(self, kind: TableKind) -> bytes:
        """The whole table."""
        ...

    def merge(self, progress: Progress) -> None:
        """Raise committed offsets to those that consumers committed on a replica: by maximum, and not beyond the end
        of the queue."""
        ...


class ReplicaTables(Protocol):
    """The tables of the broker that serves as replica."""

    def install(self, kind: TableKind, payload: bytes, progress: Progress) -> None:
        """Replace the whole table in one step by a primary's `snapshot` and persist it. There is no moment at which a
        topic is missing. `progress` (CONSUMER_OFFSETS only): what consumers committed here and the primary does not
        know yet; it stays in force where it is larger. Raises ValueError for a payload it cannot read."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a node is on the replication port: brokerName, and its id within the group."""

    group: str
    broker_id: int


@dataclass(frozen=True, slots=True)
class Timing:
    """Intervals in seconds, the lag in bytes beyond which a replica is not in sync, and the size of a batch in bytes.

    The first three are RocketMQ's haSendHeartbeatInterval, haHousekeepingInterval and haSlaveFallbehindMax.
    """

    heartbeat_s: float = 5.0
    housekeeping_s: float = 20.0
    fall_behind_max: int = 256 * 1024 * 1024
    batch_max: int = BATCH_MAX


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """One copy as its primary sees it. `ack` is the end of what it holds for certain, of the current epoch."""

    store_id: str
    broker_id: int
    peer: str
    ack: int
    lag: int
    connected: bool
    compared: bool = True
    """Its log was compared with this one in this epoch: before that `ack` is 0 and says nothing."""
