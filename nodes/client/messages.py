"""A message as a consumer gets it, a message as a producer gives it, and the identity between the two."""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nodes.client.queues import is_retry_topic
from nodes.remoting.message import (
    RETRY_TOPIC,
    SYS_COMPRESSED,
    SYS_COMPRESSION_LZ4,
    SYS_COMPRESSION_MASK,
    SYS_COMPRESSION_ZLIB,
    SYS_COMPRESSION_ZSTD,
    UNIQ_KEY,
    StoredMessage,
    encode_properties,
    format_host,
)

__all__ = ["COMPRESSED_ZLIB", "Message", "Outgoing", "UniqueIds", "compress", "from_stored", "properties_text"]

COMPRESSED_ZLIB = SYS_COMPRESSED | SYS_COMPRESSION_ZLIB
"""sysFlag of a body that `compress` made; brokers store it as it is, consumers undo it."""

ZLIB_LEVEL = 5
"""RocketMQ's default (com.rocketmq compressLevel)."""

BODY_MAX = 64 * 1024 * 1024
"""Bytes to which a compressed body may grow; a larger one is refused, as it is a bomb or an error."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message of a batch."""

    body: bytes
    properties: Mapping[str, str] = field(default_factory=dict)
    tags: str = ""
    keys: Sequence[str] = ()
    flag: int = 0


@dataclass(slots=True)
class Message:
    """One stored message. Offsets are absolute; timestamps are wall-clock milliseconds.

    `topic` is the topic the application subscribed to: for a message that came back through a retry topic it is
    the original one, while `queue_id` and `queue_offset` stay those of the queue it was read from.
    """

    topic: str
    body: bytes
    properties: dict[str, str] = field(default_factory=dict)
    queue_id: int = 0
    queue_offset: int = 0
    broker_name: str = ""
    log_offset: int = 0
    size: int = 0
    flag: int = 0
    sys_flag: int = 0
    born_timestamp: int = 0
    born_host: str = ""
    store_timestamp: int = 0
    store_host: str = ""
    reconsume_times: int = 0
    offset_message_id: str = ""
    body_error: str = ""
    """Why `body` is still as stored although it is compressed; empty when it is what the producer gave."""

    @property
    def message_id(self) -> str:
        """The producer's id (UNIQ_KEY), or the broker's where the producer gave none."""
        return self.properties.get(UNIQ_KEY) or self.offset_message_id

    @property
    def tags(self) -> str:
        """The tag, empty when there is none."""
        return self.properties.get("TAGS", "")

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys by which the message can be queried."""
        return tuple(self.properties.get("KEYS", "").split())


def compress(body: bytes) -> bytes:
    """The body as RocketMQ's producers compress it (zlib); send it with `COMPRESSED_ZLIB`."""
    return zlib.compress(body, ZLIB_LEVEL)


def _inflate(body: bytes) -> bytes:
    worker = zlib.decompressobj()
    out = worker.decompress(body, BODY_MAX)
    if worker.unconsumed_tail:
        raise ValueError(f"grows beyond {BODY_MAX} bytes")
    if not worker.eof:
        raise ValueError("ends too early")
    return out


def _expand(body: bytes, sys_flag: int) -> tuple[bytes, str]:
    """The body as the producer gave it, or as stored with the reason why it cannot be had."""
    kind = sys_flag & SYS_COMPRESSION_MASK
    if kind in (0, SYS_COMPRESSION_ZLIB):
        try:
            return _inflate(body), ""
        except (zlib.error, ValueError) as error:
            return body, f"zlib body cannot be read: {error}"
    if kind == SYS_COMPRESSION_ZSTD:
        import zstandard

        try:
            return zstandard.ZstdDecompressor().decompress(body, max_output_size=BODY_MAX), ""
        except zstandard.ZstdError as error:
            return body, f"zstd body cannot be read: {error}"
    if kind == SYS_COMPRESSION_LZ4:
        return body, "LZ4 bodies are not supported"
    return body, f"unknown compression 0x{kind:x}"


def from_stored(stored: StoredMessage, broker_name: str) -> Message:
    """A pulled record as a message: the body expanded, the topic of a retried message restored."""
    properties = stored.properties
    body, body_error, sys_flag = stored.body, "", stored.sys_flag
    if sys_flag & SYS_COMPRESSED:
        body, body_error = _expand(body, sys_flag)
        if not body_error:
            sys_flag &= ~SYS_COMPRESSED
    topic = stored.topic
    if is_retry_topic(topic):
        topic = properties.get(RETRY_TOPIC) or topic
    return Message(
        topic,
        body,
        properties,
        stored.queue_id,
        stored.queue_offset,
        broker_name,
        stored.offset_log,
        stored.size,
        stored.flag,
        sys_flag,
        stored.born_timestamp,
        format_host(stored.born_host),
        stored.store_timestamp,
        format_host(stored.store_host),
        stored.reconsume_times,
        stored.offset_message_id,
        body_error,
    )


def properties_text(
    message_id: str,
    *,
    tags: str = "",
    keys: Sequence[str] = (),
    properties: Mapping[str, str] | None = None,
    delay_level: int = 0,
    wait_store_ok: bool = True,
) -> str:
    """The properties of a message to send, as text. Raises RecordError for a name or value with a separator in it."""
    wait = "true" if wait_store_ok else "false"
    text = f"{UNIQ_KEY}\x01{message_id}\x02WAIT\x01{wait}\x02"
    if not (tags or keys or properties or delay_level):
        return text
    more = dict(properties) if properties else {}
    if tags:
        more["TAGS"] = tags
    if keys:
        more["KEYS"] = " ".join(keys)
    if delay_level:
        more["DELAY"] = str(delay_level)
    return text + encode_properties(more)


class UniqueIds:
    """Gives each message an id in RocketMQ's shape: 8 hex digits of address, 12 of process, 8 of time, 4 counted.

    Source: RocketMQ class MessageClientIDSetter. Only uniqueness matters to brokers and consumers, so the process part
    is random. 65536 ids can be given within one millisecond.
    """

    __slots__ = ("_counter", "_prefix", "_stamp", "_stamp_text")

    def __init__(self, client_ip: str, rng: random.Random) -> None:
        parts = client_ip.split(".")
        if len(parts) == 4 and all(part.isdigit() and int(part) < 256 for part in parts):
            host = "".join(f"{int(part):02X}" for part in parts)
        else:
            host = f"{rng.getrandbits(128):032X}"
        self._prefix = f"{host}{rng.getrandbits(48):012X}"
        self._counter = rng.getrandbits(16)
        self._stamp = -1
        self._stamp_text = ""

    def next(self, now_ms: int) -> str:
        """The next id; `now_ms` is the wall clock."""
        self._counter = (self._counter + 1) & 0xFFFF
        if now_ms != self._stamp:
            self._stamp = now_ms
            self._stamp_text = f"{self._prefix}{now_ms & 0xFFFFFFFF:08X}"
        return f"{self._stamp_text}{self._counter:04X}"
