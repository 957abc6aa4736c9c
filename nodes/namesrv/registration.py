"""What a broker says about itself when it registers, in all the forms that brokers send. Pure.

Source: RocketMQ classes RegisterBrokerBody, TopicConfigSerializeWrapper, DataVersion and TopicConfig.
"""

from __future__ import annotations

import struct
import zlib
from typing import TypeVar

import msgspec

from nodes.limits import FRAME_MAX
from nodes.remoting.fastjson import FastJsonError, loads

__all__ = [
    "BODY_IN_WRAPPER_VERSION",
    "DataVersion",
    "RegistrationBody",
    "RegistrationError",
    "TopicConfig",
    "crc_matches",
    "decode_body",
    "decode_data_version",
]

T = TypeVar("T")

BODY_IN_WRAPPER_VERSION = 37
"""From this peer version on the body is a RegisterBrokerBody, below it is its topic part alone (V3_0_11)."""

UNPACKED_MAX = 4 * FRAME_MAX
"""Bytes that a compressed body may unpack to."""


class RegistrationError(ValueError):
    """A registration that cannot be read. The text becomes the remark of the answer."""


class DataVersion(msgspec.Struct, frozen=True, rename={"state_version": "stateVersion"}, omit_defaults=False):
    """Version of a broker's topic table. Tables are the same if all three numbers are equal."""

    counter: int = 0
    state_version: int = 0
    timestamp: int = 0


class TopicConfig(
    msgspec.Struct,
    frozen=True,
    rename={
        "topic": "topicName",
        "read_queues": "readQueueNums",
        "write_queues": "writeQueueNums",
        "sys_flag": "topicSysFlag",
    },
):
    """What the route needs to know about one topic of a broker."""

    topic: str | None = None
    read_queues: int = 16
    write_queues: int = 16
    perm: int = 6
    sys_flag: int = 0


class _Wrapper(msgspec.Struct, rename={"topics": "topicConfigTable", "version": "dataVersion"}):
    topics: dict[str, TopicConfig] | None = None
    version: DataVersion | None = None


class _Body(msgspec.Struct, rename={"wrapper": "topicConfigSerializeWrapper", "filters": "filterServerList"}):
    wrapper: _Wrapper | None = None
    filters: list[str] | None = None


class RegistrationBody(msgspec.Struct, frozen=True):
    """The topics of a broker, by name, and the version of that table."""

    topics: dict[str, TopicConfig]
    version: DataVersion


def crc_matches(body: bytes, announced: str | None) -> bool:
    """Whether the announced CRC-32, cut to 31 bits, is that of the body; 0 or none skips the check."""
    try:
        number = int(announced or "0")
    except ValueError:
        return False
    return number == 0 or number == zlib.crc32(body) & 0x7FFFFFFF


def decode_data_version(body: bytes) -> DataVersion:
    """A DataVersion as JSON; an empty body is the version of an empty table. Raises RegistrationError."""
    return _read(body, DataVersion) if body else DataVersion()


def decode_body(body: bytes, peer_version: int) -> RegistrationBody:
    """Read a registration's body. Raises RegistrationError.

    Whether it is compressed is told by its first byte and not by the header's `compressed`, which 5.x brokers leave
    false even when they compress.
    """
    if not body:
        return RegistrationBody({}, DataVersion())
    if body[:1] not in (b"{", b" ", b"\n", b"\t", b"\r"):
        return _decode_compressed(body)
    if peer_version >= BODY_IN_WRAPPER_VERSION:
        wrapper = _read(body, _Body).wrapper or _Wrapper()
    else:
        wrapper = _read(body, _Wrapper)
    named = {name: _named(name, config) for name, config in (wrapper.topics or {}).items()}
    return RegistrationBody(named, wrapper.version or DataVersion())


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise RegistrationError(f"body has an unexpected shape: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return msgspec.convert(loads(body), kind)
    except (FastJsonError, msgspec.ValidationError) as error:
        raise RegistrationError(f"body cannot be read: {error}") from None


def _named(name: str, config: TopicConfig) -> TopicConfig:
    return config if config.topic == name else msgspec.structs.replace(config, topic=name)


def _decode_compressed(body: bytes) -> RegistrationBody:
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(body, UNPACKED_MAX)
    except zlib.error as error:
        raise RegistrationError(f"body is neither JSON nor compressed: {error}") from None
    if unpacker.unconsumed_tail:
        raise RegistrationError(f"compressed body unpacks to more than {UNPACKED_MAX} bytes")
    try:
        part, pos = _piece(raw, 0)
        version = decode_data_version(part)
        (count,) = struct.unpack_from(">i", raw, pos)
        pos += 4
        topics = {}
        for _ in range(count):
            part, pos = _piece(raw, pos)
            config = _topic_from_text(part.decode())
            topics[config.topic or ""] = config
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise RegistrationError(f"compressed body cannot be read: {error}") from None
    return RegistrationBody(topics, version)


def _piece(raw: bytes, pos: int) -> tuple[bytes, int]:
    (size,) = struct.unpack_from(">i", raw, pos)
    end = pos + 4 + size
    if size < 0 or end > len(raw):
        raise RegistrationError(f"part of {size} bytes at {pos} passes the end")
    return raw[pos + 4 : end], end


def _topic_from_text(text: str) -> TopicConfig:
    """`name read write perm filterType [attributes]`."""
    words = text.split(" ", 5)
    if len(words) < 5:
        raise RegistrationError(f"topic {text[:80]!r} lacks fields")
    return TopicConfig(words[0], int(words[1]), int(words[2]), int(words[3]))
