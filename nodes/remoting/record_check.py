"""Is this a whole, valid record? Asked of every byte that comes from a disk or from a primary's log.

Unlike decoding, checking proves that a record fills its place exactly, and hands out only what a store needs to index
it. Pure: bytes in, values out.
"""

from __future__ import annotations

from typing import NamedTuple
from zlib import crc32

from nodes.remoting.message import (
    HEAD_V4,
    HEADS,
    MAGIC_V1,
    MAGIC_V2,
    RECORD_MIN,
    SHORT,
    SIZE_MAGIC,
    SYS_FLAG,
    Buffer,
    RecordError,
    read_topic,
)

_new_tuple = tuple.__new__


class RecordHead(NamedTuple):
    """Where the parts of a checked record lie: all that a store needs to index it without decoding the body."""

    size: int
    queue_id: int
    queue_offset: int
    offset_log: int
    sys_flag: int
    store_timestamp: int
    topic: bytes
    properties: bytes


def check_record(
    buffer: Buffer, position: int = 0, *, offset_log: int | None = None, check_crc: bool = True
) -> RecordHead:
    """Validate the whole record at `position` and say what a store has to know of it.

    `offset_log` is the offset that the record must carry. Raises RecordError if the buffer does not hold exactly one
    valid record there (bytes may follow it).
    """
    room = len(buffer) - position
    if room >= RECORD_MIN:
        # Nearly every record has two IPv4 hosts and is whole: one unpacking then settles it. Whatever is not as it
        # should be is left to the general way below, which says what is wrong.
        size, magic, crc, queue_id, _, queue_offset, place, sys_flag, _, _, _, stored, _, _, _, _, length = (
            HEAD_V4.unpack_from(buffer, position)
        )
        at = position + 88
        body_end = at + length
        end = position + size
        if magic == MAGIC_V1 and not sys_flag & 0x30 and at <= body_end <= end - 3 and size <= room:
            topic_end = body_end + 1 + buffer[body_end]
            if (
                topic_end + 2 <= end
                and topic_end + 2 + SHORT.unpack_from(buffer, topic_end)[0] == end
                and (offset_log is None or place == offset_log)
                and (not check_crc or crc32(buffer[at:body_end]) & 0x7FFFFFFF == crc)
            ):
                topic = bytes(buffer[body_end + 1 : topic_end])
                properties = bytes(buffer[topic_end + 2 : end])
                return _new_tuple(
                    RecordHead, (size, queue_id, queue_offset, place, sys_flag, stored, topic, properties)
                )
    return _check_any_record(buffer, position, offset_log, check_crc)


def _check_any_record(buffer: Buffer, position: int, offset_log: int | None, check_crc: bool) -> RecordHead:
    """`check_record` for records of every kind."""
    room = len(buffer) - position
    if room < RECORD_MIN:
        raise RecordError(f"{room} bytes are too few for a record")
    size, magic = SIZE_MAGIC.unpack_from(buffer, position)
    if magic != MAGIC_V1 and magic != MAGIC_V2:
        raise RecordError(f"magic 0x{magic:08X} is not that of a record")
    if size < RECORD_MIN or size > room:
        raise RecordError(f"size {size} does not fit the {room} bytes that are there")
    head = HEADS[(SYS_FLAG.unpack_from(buffer, position + 36)[0] >> 4) & 3]
    at = position + head.size
    end = position + size
    if at + 3 > end:
        raise RecordError(f"size {size} is too small for its hosts")
    fields = head.unpack_from(buffer, position)
    body_end = at + fields[16]
    if fields[16] < 0 or body_end + 3 > end:
        raise RecordError(f"body of {fields[16]} bytes does not fit a record of {size}")
    if offset_log is not None and fields[6] != offset_log:
        raise RecordError(f"record carries log offset {fields[6]}, expected {offset_log}")
    if check_crc and crc32(memoryview(buffer)[at:body_end]) & 0x7FFFFFFF != fields[2]:
        raise RecordError("body does not match its CRC")
    topic, properties_at = read_topic(buffer, body_end, end, magic)
    if properties_at + 2 > end:
        raise RecordError("topic does not fit the record")
    properties_length = SHORT.unpack_from(buffer, properties_at)[0]
    properties_at += 2
    if properties_length < 0 or properties_at + properties_length != end:
        raise RecordError(f"properties of {properties_length} bytes do not end where the record does")
    return RecordHead(
        size, fields[3], fields[5], fields[6], fields[7], fields[11], topic, bytes(buffer[properties_at:end])
    )


def measure_record(buffer: memoryview, position: int, offset_log: int, *, check_crc: bool = True) -> int:
    """The size of the record at `position`, after the same checks as `check_record`, but several times faster.

    For those who walk over many records and need nothing of them. Raises RecordError.
    """
    if len(buffer) - position >= RECORD_MIN:
        size, magic, crc, _, _, _, place, sys_flag, _, _, _, _, _, _, _, _, length = HEAD_V4.unpack_from(
            buffer, position
        )
        end = position + size
        at = position + 88
        body_end = at + length
        right = magic == MAGIC_V1 and not sys_flag & 0x30 and place == offset_log
        if right and at <= body_end <= end - 3 and end <= len(buffer):
            properties_at = body_end + 1 + buffer[body_end]
            if (
                properties_at + 2 <= end
                and properties_at + 2 + SHORT.unpack_from(buffer, properties_at)[0] == end
                and (not check_crc or crc32(buffer[at:body_end]) & 0x7FFFFFFF == crc)
            ):
                return int(size)
    return check_record(buffer, position, offset_log=offset_log, check_crc=check_crc).size
