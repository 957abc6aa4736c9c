"""What a store needs to be told."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_DELAY_LEVELS = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h"
"""RocketMQ messageDelayLevel."""

SCHEDULE_TOPIC = "SCHEDULE_TOPIC_XXXX"
"""Where delayed messages wait; its queue number is the delay level minus one (RocketMQ ScheduleMessageService)."""

_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_delay_levels(text: str) -> tuple[int, ...]:
    """Milliseconds per delay level from RocketMQ's `messageDelayLevel`. Raises ValueError naming the bad word."""
    levels: list[int] = []
    for word in text.split():
        unit = _UNIT_MS.get(word[-1])
        if unit is None or not word[:-1].isdigit():
            raise ValueError(f"delay level {word!r} is not a number followed by s, m, h or d")
        levels.append(int(word[:-1]) * unit)
    return tuple(levels)


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Settings of one store; each names its RocketMQ key."""

    root: str
    """storePathRootDir."""
    commit_log: str | None = None
    """storePathCommitLog; `<root>/commitlog` when absent."""
    segment_size: int = 1 << 30
    """mappedFileSizeCommitLog: bytes of one commit-log file. Replicas of one log need the same."""
    queue_file_size: int = 6_000_000
    """mappedFileSizeConsumeQueue: bytes of one consume-queue file, 20 an entry."""
    message_max: int = 4 * 1024 * 1024
    """maxMessageSize: bytes of one body."""
    sync_flush: bool = False
    """flushDiskType=SYNC_FLUSH: entries become readable when flushed and not when written."""
    committed_only: bool = False
    """The log is a Raft group's: entries become readable when the group has committed them (`show_committed`), and the
    log ends with a record, never with the filler behind one."""
    index_keys: bool = True
    """messageIndexEnable: keep the key index."""
    reserved_hours: int = 72
    """fileReservedTime: commit-log files whose last message is older may be deleted."""
    delete_when: tuple[int, ...] = (4,)
    """deleteWhen: hours of the local day at which expired files are deleted."""
    disk_max_used_ratio: int = 75
    """diskMaxUsedSpaceRatio: per cent from which expired files are deleted at any hour."""
    disk_warning_ratio: int = 90
    """diskSpaceWarningLevelRatio: per cent from which writes are refused."""
    delay_levels_ms: tuple[int, ...] = parse_delay_levels(DEFAULT_DELAY_LEVELS)
    """messageDelayLevel, parsed."""
    refuse_lost_tail: bool = False
    """Refuse to start when flushed bytes are missing at the very end of the log, instead of reporting them."""

    def __post_init__(self) -> None:
        if self.segment_size < 1024:
            raise ValueError(f"mappedFileSizeCommitLog must be at least 1024 bytes, not {self.segment_size}")
        if self.queue_file_size < 20 or self.queue_file_size % 20:
            raise ValueError(f"mappedFileSizeConsumeQueue must be a multiple of 20, not {self.queue_file_size}")

    @property
    def commit_log_folder(self) -> str:
        """Where the commit-log files lie."""
        return self.commit_log or f"{self.root}/commitlog"
