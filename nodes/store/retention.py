"""Which commit-log files are old enough to go (RocketMQ CleanCommitLogService, without its deletion of unexpired files:
a disk that stays full refuses writes instead of dropping messages that were promised to be kept).
"""

from __future__ import annotations

from nodes.clock import time_of_day
from nodes.remoting.message import RECORD_MIN, RecordError, peek
from nodes.remoting.record_check import check_record
from nodes.store.commit_log import CommitLog, Segment
from nodes.store.disk import Disk
from nodes.store.settings import StoreConfig

_HOUR_MS = 3_600_000


class Retention:
    """Looks at the log's files and at the disk; deletes nothing itself."""

    def __init__(self, disk: Disk, config: StoreConfig, log: CommitLog) -> None:
        self._disk = disk
        self._config = config
        self._log = log
        self.used_ratio = 0.0
        """Part of the file system in use when last asked."""

    def is_full(self) -> bool:
        """Whether writes must be refused. Raises OSError."""
        self.used_ratio = self._disk.used_ratio(self._log.folder)
        return self.used_ratio * 100 >= self._config.disk_warning_ratio

    def expired(self, now_ms: int) -> int:
        """How many of the oldest segments may be deleted now; never the newest. Raises OSError."""
        hour = int(time_of_day(now_ms)[:2])
        if hour not in self._config.delete_when and not self._is_crowded():
            return 0
        limit = now_ms - self._config.reserved_hours * _HOUR_MS
        count = 0
        for following in self._log.segments[1:]:
            first = self._first_timestamp(following)
            if first is None or first > limit:
                break  # all messages before this one were stored earlier, those behind it later
            count += 1
        return count

    def _is_crowded(self) -> bool:
        self.used_ratio = self._disk.used_ratio(self._log.folder)
        return self.used_ratio * 100 >= self._config.disk_max_used_ratio

    def _first_timestamp(self, segment: Segment) -> int | None:
        """When the first message of a segment was stored (ms), None if it has none yet."""
        head = self._log.read(segment.start, RECORD_MIN)
        if len(head) < RECORD_MIN:
            return None
        try:
            data = self._log.read(segment.start, min(peek(head)[0], self._config.segment_size))
            return check_record(data, 0, offset_log=segment.start, check_crc=False).store_timestamp
        except RecordError:
            return None
