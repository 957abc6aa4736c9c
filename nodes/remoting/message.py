"""How messages lie in bytes: stored records, properties, batch bodies, message ids, tag hashes.

The commit log, the body of a pull response and the body of a message view all use one layout, RocketMQ's record
version 1 (RocketMQ MessageDecoder, CommitLog). All integers are big-endian. Offsets in the comments are those of a
record with two IPv4 hosts; an IPv6 host is 12 bytes longer and moves everything behind it.

Pure: bytes in, values out.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

Buffer = bytes | bytearray | memoryview
Host = tuple[bytes, int]
"""An address as it is stored: 4 or 16 raw bytes of IP, and a port."""

MAGIC_V1: Final = 0xDAA320A7
MAGIC_V2: Final = 0xDAA320AB
"""Records of 5.x for topics longer than 127 bytes: the topic's length takes two bytes. Read, never written."""
MAGIC_FILLER: Final = 0xCBD43194
"""Marks the unused rest of a commit-log file: size (4), this magic (4), then anything."""

FILLER_MIN: Final = 8
RECORD_MIN: Final = 91
"""Size of a record with two IPv4 hosts, no body, no topic, no properties."""
TOPIC_MAX: Final = 127
"""Bytes of a topic's name: its length is one signed byte."""
PROPERTIES_MAX: Final = 32767
"""Bytes of the properties text: its length is a signed 16-bit integer."""

SYS_COMPRESSED: Final = 0x1
SYS_MULTI_TAGS: Final = 0x2
SYS_TRANSACTION_PREPARED: Final = 0x4
SYS_TRANSACTION_COMMIT: Final = 0x8
SYS_TRANSACTION_ROLLBACK: Final = 0xC
SYS_TRANSACTION_MASK: Final = 0xC
SYS_BORN_HOST_V6: Final = 0x10
SYS_STORE_HOST_V6: Final = 0x20
SYS_NEED_UNWRAP: Final = 0x40
SYS_INNER_BATCH: Final = 0x80
SYS_COMPRESSION_MASK: Final = 0x700
SYS_COMPRESSION_LZ4: Final = 0x100
SYS_COMPRESSION_ZSTD: Final = 0x200
SYS_COMPRESSION_ZLIB: Final = 0x300

KEYS: Final = "KEYS"
TAGS: Final = "TAGS"
WAIT: Final = "WAIT"
DELAY: Final = "DELAY"
UNIQ_KEY: Final = "UNIQ_KEY"
RETRY_TOPIC: Final = "RETRY_TOPIC"
REAL_TOPIC: Final = "REAL_TOPIC"
REAL_QID: Final = "REAL_QID"
TRAN_MSG: Final = "TRAN_MSG"
PGROUP: Final = "PGROUP"
MIN_OFFSET: Final = "MIN_OFFSET"
MAX_OFFSET: Final = "MAX_OFFSET"
ORIGIN_MESSAGE_ID: Final = "ORIGIN_MESSAGE_ID"
RECONSUME_TIME: Final = "RECONSUME_TIME"
MAX_RECONSUME_TIMES: Final = "MAX_RECONSUME_TIMES"
MSG_REGION: Final = "MSG_REGION"
TRACE_ON: Final = "TRACE_ON"
CLUSTER: Final = "CLUSTER"

NAME_END: Final = "\x01"
PROPERTY_END: Final = "\x02"

# size, magic, body crc, queue id, flag, queue offset, log offset, sysFlag, born timestamp; born host; store timestamp;
# store host; reconsume times, prepared transaction offset, body length
_HEAD_44: Final = Struct(">IIIiiqqiq4siq4siiqi")
_HEAD_64: Final = Struct(">IIIiiqqiq16siq4siiqi")
_HEAD_46: Final = Struct(">IIIiiqqiq4siq16siiqi")
_HEAD_66: Final = Struct(">IIIiiqqiq16siq16siiqi")
HEADS: Final = (_HEAD_44, _HEAD_64, _HEAD_46, _HEAD_66)
"""By (sysFlag >> 4) & 3: bit 0 the born host is IPv6, bit 1 the store host is."""
HEAD_V4: Final = _HEAD_44
"""The fixed part, 88 bytes, of a record with two IPv4 hosts: what nearly every record has."""
SIZE_MAGIC: Final = Struct(">II")
SYS_FLAG: Final = Struct(">i")
SHORT: Final = Struct(">h")
_BATCH_HEAD: Final = Struct(">iiiii")


class RecordError(ValueError):
    """These bytes are no valid record; the text says what is wrong."""


@dataclass(slots=True)
class StoredMessage:
    """One record of a commit log, decoded. Times are wall-clock milliseconds, offsets count bytes (log) or entries."""

    size: int
    body_crc: int
    queue_id: int
    flag: int
    queue_offset: int
    offset_log: int
    sys_flag: int
    born_timestamp: int
    born_host: Host
    store_timestamp: int
    store_host: Host
    reconsume_times: int
    prepared_transaction_offset: int
    body: bytes
    topic: str
    properties_text: str
    _properties: dict[str, str] | None = field(default=None, repr=False, compare=False)

    @property
    def properties(self) -> dict[str, str]:
        """The parsed properties (parsed once, on first use)."""
        if self._properties is None:
            self._properties = decode_properties(self.properties_text)
        return self._properties

    @property
    def offset_message_id(self) -> str:
        """The id that RocketMQ's brokers give: store host and log offset."""
        return offset_message_id(self.store_host, self.offset_log)


def record_size(body_length: int, topic_length: int, properties_length: int, sys_flag: int = 0) -> int:
    """Size in bytes of a version 1 record with parts of these lengths (in bytes)."""
    hosts = 12 * (((sys_flag >> 4) & 1) + ((sys_flag >> 5) & 1))
    return RECORD_MIN + hosts + body_length + topic_length + properties_length


def host_flags(sys_flag: int, born_host: Host, store_host: Host) -> int:
    """`sys_flag` with the two IPv6 bits set as these hosts need them."""
    sys_flag &= ~(SYS_BORN_HOST_V6 | SYS_STORE_HOST_V6)
    if len(born_host[0]) == 16:
        sys_flag |= SYS_BORN_HOST_V6
    if len(store_host[0]) == 16:
        sys_flag |= SYS_STORE_HOST_V6
    return sys_flag


def encode_record(
    *,
    topic: bytes,
    queue_id: int,
    queue_offset: int,
    offset_log: int,
    body: bytes,
    properties: bytes = b"",
    flag: int = 0,
    sys_flag: int = 0,
    born_timestamp: int = 0,
    born_host: Host,
    store_timestamp: int,
    store_host: Host,
    reconsume_times: int = 0,
    prepared_transaction_offset: int = 0,
) -> bytes:
    """One version 1 record. The IPv6 bits of `sys_flag` follow the hosts.

    Raises RecordError when topic or properties are longer than the layout can say.
    """
    if len(topic) > TOPIC_MAX:
        raise RecordError(f"topic of {len(topic)} bytes, at most {TOPIC_MAX}")
    if len(properties) > PROPERTIES_MAX:
        raise RecordError(f"properties of {len(properties)} bytes, at most {PROPERTIES_MAX}")
    sys_flag = host_flags(sys_flag, born_host, store_host)
    head = HEADS[(sys_flag >> 4) & 3].pack(
        record_size(len(body), len(topic), len(properties), sys_flag),
        MAGIC_V1,
        crc32(body) & 0x7FFFFFFF,
        queue_id,
        flag,
        queue_offset,
        offset_log,
        sys_flag,
        born_timestamp,
        born_host[0],
        born_host[1],
        store_timestamp,
        store_host[0],
        store_host[1],
        reconsume_times,
        prepared_transaction_offset,
        len(body),
    )
    return b"".join((head, body, bytes((len(topic),)), topic, SHORT.pack(len(properties)), properties))


def encode_filler(size: int) -> bytes:
    """The rest of a commit-log file as one filler of `size` bytes (at least 8)."""
    if size < FILLER_MIN:
        raise RecordError(f"a filler needs {FILLER_MIN} bytes, not {size}")
    return SIZE_MAGIC.pack(size, MAGIC_FILLER) + bytes(size - FILLER_MIN)


def peek(buffer: Buffer, position: int = 0) -> tuple[int, int]:
    """(size, magic) of the record or filler at `position`; 8 bytes must be there."""
    size, magic = SIZE_MAGIC.unpack_from(buffer, position)
    return size, magic


def read_topic(buffer: Buffer, at: int, end: int, magic: int) -> tuple[bytes, int]:
    """The topic that starts with its length at `at`, and the position behind it."""
    if magic == MAGIC_V1:
        length = buffer[at]
        start = at + 1
    else:
        length = int(SHORT.unpack_from(buffer, at)[0])
        start = at + 2
    if length < 0 or start + length > end:
        raise RecordError(f"topic of {length} bytes does not fit the record")
    return bytes(buffer[start : start + length]), start + length


def decode_record(buffer: Buffer, position: int = 0, *, check_crc: bool = False) -> StoredMessage:
    """The record at `position`; its `size` says where the next one starts. Raises RecordError."""
    room = len(buffer) - position
    if room < RECORD_MIN:
        raise RecordError(f"{room} bytes are too few for a record")
    size, magic = SIZE_MAGIC.unpack_from(buffer, position)
    if magic != MAGIC_V1 and magic != MAGIC_V2:
        raise RecordError(f"magic 0x{magic:08X} is not that of a record")
    if size < RECORD_MIN or size > room:
        raise RecordError(f"size {size} does not fit the {room} bytes that are there")
    sys_flag = SYS_FLAG.unpack_from(buffer, position + 36)[0]
    head = HEADS[(sys_flag >> 4) & 3]
    at = position + head.size
    end = position + size
    if at + 3 > end:
        raise RecordError(f"size {size} is too small for its hosts")
    fields = head.unpack_from(buffer, position)
    body_end = at + fields[16]
    if fields[16] < 0 or body_end + 3 > end:
        raise RecordError(f"body of {fields[16]} bytes does not fit a record of {size}")
    body = bytes(buffer[at:body_end])
    if check_crc and crc32(body) & 0x7FFFFFFF != fields[2]:
        raise RecordError("body does not match its CRC")
    topic, properties_at = read_topic(buffer, body_end, end, magic)
    if properties_at + 2 > end:
        raise RecordError("topic does not fit the record")
    properties_length = SHORT.unpack_from(buffer, properties_at)[0]
    properties_at += 2
    if properties_length < 0 or properties_at + properties_length > end:
        raise RecordError(f"properties of {properties_length} bytes do not fit the record")
    try:
        return StoredMessage(
            size,
            fields[2],
            fields[3],
            fields[4],
            fields[5],
            fields[6],
            fields[7],
            fields[8],
            (fields[9], fields[10]),
            fields[11],
            (fields[12], fields[13]),
            fields[14],
            fields[15],
            body,
            topic.decode(),
            str(buffer[properties_at : properties_at + properties_length], "utf-8"),
        )
    except UnicodeDecodeError as error:
        raise RecordError(f"topic or properties are not UTF-8: {error.reason}") from None


def decode_records(buffer: Buffer, *, check_crc: bool = False) -> list[StoredMessage]:
    """All records of a pull response's body. Raises RecordError if something is left over that is no record."""
    messages: list[StoredMessage] = []
    position = 0
    end = len(buffer)
    while position < end:
        message = decode_record(buffer, position, check_crc=check_crc)
        messages.append(message)
        position += message.size
    return messages


# ---- properties ----------------------------------------------------------------------------------------------------


def encode_properties(properties: Mapping[str, str]) -> str:
    """The properties text. Raises RecordError if a name or value contains a separator."""
    parts: list[str] = []
    for name, value in properties.items():
        if NAME_END in name or PROPERTY_END in name or NAME_END in value or PROPERTY_END in value:
            raise RecordError(f"property {name!r} contains a separator character")
        parts.append(f"{name}{NAME_END}{value}{PROPERTY_END}")
    return "".join(parts)


def decode_properties(text: str) -> dict[str, str]:
    """Parse a properties text, with or without the trailing separator.

    Entries without a value are dropped, as RocketMQ's parser does; of a repeated name the last one counts.
    """
    properties: dict[str, str] = {}
    for entry in text.split(PROPERTY_END):
        name, found, value = entry.partition(NAME_END)
        if found and name and value:
            properties[name] = value
    return properties


def append_property(text: str, name: str, value: str) -> str:
    """`text` with one more property behind it, adding the separator that some clients leave out at the end."""
    separator = "" if not text or text.endswith(PROPERTY_END) else PROPERTY_END
    return f"{text}{separator}{name}{NAME_END}{value}{PROPERTY_END}"


def property_of(text: str, name: str) -> str | None:
    """One property's value without parsing the rest; None when it is absent or empty."""
    mark = name + NAME_END
    if text.startswith(mark):
        start = len(mark)
    else:
        at = text.find(PROPERTY_END + mark)
        if at < 0:
            return None
        start = at + 1 + len(mark)
    end = text.find(PROPERTY_END, start)
    return (text[start:] if end < 0 else text[start:end]) or None


# ---- batch body ----------------------------------------------------------------------------------------------------


class BatchPart(NamedTuple):
    """One message of a batch body (request code 320)."""

    flag: int
    body: bytes
    properties: str


def encode_batch(parts: Iterable[BatchPart]) -> bytes:
    """The body of a batch send: sizes filled in, magic and CRC left 0, as the broker computes them."""
    out: list[bytes] = []
    for part in parts:
        properties = part.properties.encode()
        if len(properties) > PROPERTIES_MAX:
            raise RecordError(f"properties of {len(properties)} bytes, at most {PROPERTIES_MAX}")
        size = _BATCH_HEAD.size + len(part.body) + 2 + len(properties)
        out.append(_BATCH_HEAD.pack(size, 0, 0, part.flag, len(part.body)))
        out.append(part.body)
        out.append(SHORT.pack(len(properties)))
        out.append(properties)
    return b"".join(out)


def decode_batch(body: Buffer, *, limit: int = 65536) -> list[BatchPart]:
    """The messages of a batch body. Raises RecordError if it is garbled, empty or has more than `limit` messages."""
    parts: list[BatchPart] = []
    position = 0
    end = len(body)
    while position < end:
        if end - position < _BATCH_HEAD.size + 2:
            raise RecordError(f"{end - position} bytes are too few for a message of a batch")
        size, _magic, _crc, flag, length = _BATCH_HEAD.unpack_from(body, position)
        stop = position + size
        at = position + _BATCH_HEAD.size
        if length < 0 or stop > end or at + length + 2 > stop:
            raise RecordError(f"message {len(parts)} of the batch does not fit its body")
        properties_length = SHORT.unpack_from(body, at + length)[0]
        if properties_length < 0 or at + length + 2 + properties_length != stop:
            raise RecordError(f"properties of message {len(parts)} of the batch do not fit")
        try:
            properties = str(body[at + length + 2 : stop], "utf-8")
        except UnicodeDecodeError:
            raise RecordError(f"properties of message {len(parts)} of the batch are not UTF-8") from None
        parts.append(BatchPart(flag, bytes(body[at : at + length]), properties))
        if len(parts) > limit:
            raise RecordError(f"more than {limit} messages in one batch")
        position = stop
    if not parts:
        raise RecordError("a batch without messages")
    return parts


# ---- ids, tags, hosts ----------------------------------------------------------------------------------------------


def parse_host(address: str, port: int) -> Host:
    """An IPv4 or IPv6 literal and a port, as stored. Raises ValueError for anything else."""
    return ipaddress.ip_address(address).packed, port


def format_host(host: Host) -> str:
    """`ip:port`, with brackets around IPv6."""
    text = str(ipaddress.ip_address(host[0]))
    return f"[{text}]:{host[1]}" if len(host[0]) == 16 else f"{text}:{host[1]}"


def offset_message_id(store_host: Host, offset_log: int) -> str:
    """The broker's message id: store host and log offset in upper-case hex, 32 digits (IPv6: 56)."""
    return f"{store_host[0].hex().upper()}{store_host[1] & 0xFFFFFFFF:08X}{offset_log:016X}"


def parse_offset_message_id(message_id: str) -> tuple[Host, int]:
    """(store host, log offset) of a broker's message id. Raises ValueError."""
    if len(message_id) not in (32, 56):
        raise ValueError(f"message id of {len(message_id)} digits, expected 32 or 56: {message_id!r}")
    raw = bytes.fromhex(message_id)
    return (raw[:-12], int.from_bytes(raw[-12:-8], "big")), int.from_bytes(raw[-8:], "big")


def unique_key(ip: bytes, pid: int, salt: int, month_ms: int, counter: int) -> str:
    """A client's message id (UNIQ_KEY): ip, pid (16 bits), salt (32), ms since the month began (32), counter (16)."""
    return (
        f"{ip.hex().upper()}{pid & 0xFFFF:04X}{salt & 0xFFFFFFFF:08X}{month_ms & 0xFFFFFFFF:08X}{counter & 0xFFFF:04X}"
    )


def string_hash(text: str) -> int:
    """Java's `String.hashCode`: signed 32 bits over the UTF-16 code units."""
    value = 0
    if text.isascii():
        for byte in text.encode():
            value = (31 * value + byte) & 0xFFFFFFFF
    else:
        units = text.encode("utf-16-be", "surrogatepass")
        for at in range(0, len(units), 2):
            value = (31 * value + (units[at] << 8 | units[at + 1])) & 0xFFFFFFFF
    return value - 0x100000000 if value & 0x80000000 else value


def tag_hash(tag: str | None) -> int:
    """The number by which a consume queue filters: hash of the TAGS value, 0 without tag."""
    return string_hash(tag) if tag else 0


def message_keys(text: str) -> list[str]:
    """The keys by which a message with these properties can be found: its UNIQ_KEY, then each word of KEYS."""
    keys: list[str] = []
    unique = property_of(text, UNIQ_KEY)
    if unique is not None:
        keys.append(unique)
    words = property_of(text, KEYS)
    if words is not None:
        keys.extend(word for word in words.split(" ") if word)
    return keys
