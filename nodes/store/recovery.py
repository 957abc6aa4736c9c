"""What is found in the commit log at start: whole records, then perhaps damage.

The rule: from some record on the bytes may be no records any more. If nothing behind that
place had been flushed, this is the torn tail of a crash: nobody was promised those bytes, and the log is cut there. If
the place lies below the flush mark and whole records follow it, it is corruption in the middle: messages that were
acknowledged would be lost silently, so the store refuses to start and names file and byte. If flushed bytes are missing
at the very end and nothing whole follows, the disk broke its promise: that is reported as `lost_flushed`, loudly, and
refused where more than `LOST_TAIL_MAX` bytes are gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nodes.remoting.message import FILLER_MIN, MAGIC_FILLER, MAGIC_V1, RecordError, peek
from nodes.remoting.record_check import RecordHead, check_record, measure_record
from nodes.store.checkpoint import FlushMark
from nodes.store.commit_log import CommitLog, segment_name
from nodes.store.disk import Disk
from nodes.store.errors import StoreCorrupt

VERIFY_MAX: Final = 64 << 20
"""Bytes at the end of the log that every start verifies, even where nothing has to be indexed. What is older was
verified by earlier starts, and a record is looked at again when it is read."""
REWRITE_MAX: Final = 256 << 20
"""Unflushed bytes that a start writes again at most."""
LOST_TAIL_MAX: Final = 1 << 20
"""Flushed bytes that may be missing at the end of the log before the store refuses to start."""
_WINDOW: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Scan:
    """Result of reading the log forward."""

    end: int
    """Log offset behind the last whole record."""
    records: int
    damage: str | None
    """What is wrong with the bytes at `end`; None if the files end there."""
    record_end: int = 0
    """Log offset behind the last whole record that was read, before any filler; 0 if none was."""


def check_layout(disk: Disk, log: CommitLog, mark: FlushMark) -> None:
    """Make sure that the segments form one stream; drop unflushed ones behind a hole. Raises StoreCorrupt, OSError."""
    size = log.segment_size
    for number, segment in enumerate(log.segments):
        if segment.start % size:
            raise StoreCorrupt(
                segment.path, 0, f"its name is no multiple of mappedFileSizeCommitLog={size}; was the setting changed?"
            )
        if segment.length > size:
            raise StoreCorrupt(
                segment.path, size, f"the file has {segment.length} bytes, mappedFileSizeCommitLog={size} allows fewer"
            )
        expected = log.segments[0].start + number * size
        if segment.start != expected:
            if expected < mark.flushed or not mark.found:
                raise StoreCorrupt(f"{log.folder}/{segment_name(expected)}", 0, "the file is missing, later ones exist")
            for orphan in reversed(log.segments[number:]):
                disk.remove(orphan.path)
            del log.segments[number:]
            disk.fsync_dir(log.folder)
            break
    if log.segments:
        log.end = log.segments[-1].start + log.segments[-1].length
    elif mark.flushed > 0:
        raise StoreCorrupt(log.folder, 0, f"there are no commit-log files, but {mark.flushed} bytes were flushed")


def verify_from(log: CommitLog) -> int:
    """A record's start from which at least VERIFY_MAX bytes, or the whole log, lie before the end. Raises OSError."""
    wanted = log.end - VERIFY_MAX
    segment = log.segment_of(wanted)
    if segment is None:
        return log.begin
    if wanted == segment.start:
        return wanted
    # no index of record starts is kept; one that knows its own place and has the right checksum is found by its magic
    found = whole_record_after(log, max(segment.start, wanted - _WINDOW) - 1)
    return found if found is not None and found <= wanted else segment.start


def scan(
    log: CommitLog,
    start: int,
    *,
    check_crc: bool,
    report_from: int,
    on_record: Callable[[RecordHead], None],
    torn_from: int,
) -> Scan:
    """Read whole records from `start` (the start of one) until the log ends or is damaged. Raises OSError.

    Those from `report_from` on are handed to `on_record`. From `torn_from` on topic and properties must not hold a zero
    byte: no checksum covers them, and zeros are what a power loss leaves of a sector that was not written.
    """
    position = start
    record_end = 0
    records = 0
    buffer = memoryview(b"")
    base = start
    while True:
        segment = log.segment_of(position)
        if segment is None:
            return Scan(position, records, None, record_end)
        segment_end = segment.start + log.segment_size
        have = segment.start + segment.length
        if position >= have:
            if have < segment_end and segment is not log.segments[-1]:
                return Scan(position, records, "the file ends here, but a later one exists", record_end)
            if have < segment_end:
                return Scan(position, records, None, record_end)
        if have - position < FILLER_MIN:
            return Scan(position, records, f"{have - position} bytes are too few for a record", record_end)
        at = position - base
        if len(buffer) - at < FILLER_MIN:
            buffer, base, at = memoryview(log.read(position, _WINDOW)), position, 0
        size, magic = peek(buffer, at)
        if magic == MAGIC_FILLER:
            if size != segment_end - position:
                return Scan(position, records, f"a filler of {size} bytes does not end where the file does", record_end)
            if segment.length != log.segment_size:
                return Scan(position, records, "the filler is cut off", record_end)
            position = segment_end
            buffer, base = memoryview(b""), position
            continue
        if size > len(buffer) - at and position + size <= have:
            buffer, base, at = memoryview(log.read(position, max(_WINDOW, size))), position, 0
        try:
            if position + size + FILLER_MIN > segment_end:
                raise RecordError(f"size {size} leaves no room for the end of the file")
            if position + size > torn_from:
                head = check_record(buffer, at, offset_log=position, check_crc=check_crc)
                if b"\0" in head.properties or b"\0" in head.topic:
                    raise RecordError("topic or properties are torn")
            if position < report_from:
                size = measure_record(buffer, at, position, check_crc=check_crc)
            else:
                head = check_record(buffer, at, offset_log=position, check_crc=check_crc)
                on_record(head)
        except RecordError as error:
            return Scan(position, records, str(error), record_end)
        records += 1
        position += size
        record_end = position


def behind(log: CommitLog, end: int) -> int:
    """Bytes from `end` to the last one that is not zero: what was written, without the filling. Raises OSError."""
    last = position = end
    while position < log.end:
        window = log.read(position, _WINDOW)
        if not window:
            break  # a file that ends early
        written = len(window.rstrip(b"\0"))
        if written:
            last = position + written
        position += len(window)
    return last - end


def whole_record_after(log: CommitLog, offset: int) -> int | None:
    """Log offset of the first whole record that starts behind `offset`, found by its magic; None if there is none."""
    magic = MAGIC_V1.to_bytes(4, "big")
    position = offset + 1
    while True:
        segment = log.segment_of(position)
        if segment is None:
            return None
        window = log.read(position, _WINDOW)
        at = window.find(magic)
        while at >= 0:
            start = position + at - 4
            if start > offset and start >= segment.start and is_whole(log, start):
                return start
            at = window.find(magic, at + 1)
        if len(window) <= 7:
            position = segment.start + log.segment_size
        else:
            position += len(window) - 7


def is_whole(log: CommitLog, start: int) -> bool:
    """Whether a valid record that knows its own place starts at `start`."""
    head = log.read(start, FILLER_MIN)
    if len(head) < FILLER_MIN:
        return False
    size, _ = peek(head)
    if size > log.segment_size:
        return False
    try:
        check_record(log.read(start, size), 0, offset_log=start)
    except RecordError:
        return False
    return True


def judge(log: CommitLog, found: Scan, mark: FlushMark, *, refuse_lost_tail: bool) -> int:
    """Decide about what follows `found.end`: returns how many flushed bytes are lost, or raises StoreCorrupt.

    A store syncs its mark before its log gets the first byte. Where none is found, nobody knows what was promised, and
    damage with whole records behind it is not cut.
    """
    lost = max(0, mark.flushed - found.end)
    if lost == 0 and (mark.found or found.damage is None):
        return 0
    segment = log.segment_of(found.end) or log.segments[-1]
    position = found.end - segment.start
    reason = found.damage or "the file ends here"
    following = whole_record_after(log, found.end)
    if following is not None:
        raise StoreCorrupt(
            segment.path,
            position,
            f"{reason}; {_flushed_words(mark)} and whole records follow at {following}; nothing was cut: "
            "restore the store from a copy, or move it away and let this node follow a healthy replica",
        )
    if lost == 0:
        return 0
    if refuse_lost_tail or lost > LOST_TAIL_MAX or found.end <= log.begin:
        raise StoreCorrupt(segment.path, position, f"{reason}; {lost} flushed bytes are missing")
    return lost


def _flushed_words(mark: FlushMark) -> str:
    if mark.found:
        return f"the log was flushed up to {mark.flushed}"
    return f"how far the log was flushed is unknown, since {mark.path} is missing or damaged,"
