"""What members of a group say to one another, as bytes. Pure.

A frame is length (4 bytes, of all that follows), CRC-32 of what follows it (4), kind (1), length of the header (4),
header, data. The header is the core's message in MessagePack; the data of an Append are the records it carries. The
first frame of a connection says who calls whom.
"""

from __future__ import annotations

import dataclasses
import zlib
from struct import Struct
from typing import NamedTuple

import msgspec

from nodes.replication.raft import messages
from nodes.replication.raft.messages import Message

__all__ = ["FRAME_MAX", "VERSION", "Decoder", "Envelope", "Hello", "WireError", "encode", "encode_hello"]

VERSION = 2
FRAME_MAX = 48 * 1024 * 1024
"""Bytes of one frame: two fillers and records of the largest size, or the tables of a re-seed."""
HELLO_MAX = 64 * 1024
"""Bytes of a frame from a peer that has not introduced itself, so that garbage cannot make us buffer much."""

_PREFIX = Struct(">IIBI")
_LENGTH = Struct(">I")
_HELLO = 0
_KINDS: tuple[type, ...] = (
    messages.PreVote,
    messages.PreVoteReply,
    messages.Vote,
    messages.VoteReply,
    messages.Append,
    messages.AppendReply,
    messages.Heartbeat,
    messages.HeartbeatReply,
    messages.Reseed,
    messages.TimeoutNow,
    messages.Knock,
    messages.Stranger,
)
_NUMBER = {kind: number for number, kind in enumerate(_KINDS, 1)}
_REPLY = _NUMBER[messages.AppendReply]
_ENCODER = msgspec.msgpack.Encoder()


class WireError(Exception):
    """Bytes that are no frame of ours. The connection that carries them is closed."""


class Hello(msgspec.Struct, frozen=True):
    """Who calls, whom it wants, and what both must have in common."""

    version: int
    group: str
    sender: str
    to: str
    segment_size: int
    """mappedFileSizeCommitLog: logs of different segments cannot be copies of one another."""
    address: str
    """Where members reach the sender."""
    broker: str
    """Where clients reach the sender."""


class Envelope(NamedTuple):
    """A message with the bytes that travel beside it."""

    message: Message
    data: bytes


_DECODERS: tuple[msgspec.msgpack.Decoder[Message], ...] = tuple(msgspec.msgpack.Decoder(kind) for kind in _KINDS)
_HELLO_DECODER = msgspec.msgpack.Decoder(Hello)


def encode_hello(hello: Hello) -> bytes:
    """The first frame of a connection."""
    return _frame(_HELLO, _ENCODER.encode(hello), b"")


def encode(message: Message, data: bytes | memoryview = b"") -> bytes:
    """A frame."""
    return _frame(_NUMBER[type(message)], _ENCODER.encode(message), data)


def _frame(kind: int, header: bytes, data: bytes | memoryview) -> bytes:
    body = b"".join((bytes((kind,)), _LENGTH.pack(len(header)), header, data))
    return _LENGTH.pack(len(body) + 4) + _LENGTH.pack(zlib.crc32(body)) + body


class Decoder:
    """Turns received bytes into frames. After a WireError it must not be fed any more."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.hello: Hello | None = None
        """Who speaks, once the first frame has come."""

    def feed(self, data: bytes) -> list[Envelope]:
        """The messages that are complete now. Raises WireError."""
        self._buffer += data
        found: list[Envelope] = []
        position = 0
        buffer = self._buffer
        while len(buffer) - position >= _PREFIX.size:
            length, check, kind, header_length = _PREFIX.unpack_from(buffer, position)
            if not 9 <= length <= (FRAME_MAX if self.hello is not None else HELLO_MAX):
                raise WireError(f"a frame of {length} bytes")
            end = position + 4 + length
            if len(buffer) < end:
                break
            body = bytes(memoryview(buffer)[position + 8 : end])
            if zlib.crc32(body) != check:
                raise WireError("a frame does not match its CRC")
            if header_length > len(body) - 5:
                raise WireError(f"a header of {header_length} bytes in a frame of {length}")
            header, data_part = body[5 : 5 + header_length], body[5 + header_length :]
            if self.hello is None:
                self.hello = self._read_hello(kind, header)
            else:
                found.append(Envelope(_read(kind, header), data_part))
            position = end
        if position:
            del buffer[:position]
        return found

    @staticmethod
    def _read_hello(kind: int, header: bytes) -> Hello:
        if kind != _HELLO:
            raise WireError(f"the first frame is of kind {kind}, not an introduction")
        try:
            return _HELLO_DECODER.decode(header)
        except msgspec.MsgspecError as error:
            raise WireError(f"introduction: {error}") from None


def _read(kind: int, header: bytes) -> Message:
    if not 1 <= kind <= len(_KINDS):
        raise WireError(f"unknown kind {kind}")
    try:
        message: Message = _DECODERS[kind - 1].decode(header)
    except Exception as error:  # the core's own values check themselves, each with an error of its own
        raise WireError(f"{_KINDS[kind - 1].__name__}: {error}") from None
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        least = -1 if field.name == "prev" and kind == _REPLY else 0  # -1: not the answer to one Append
        if isinstance(value, int) and value < least:
            raise WireError(f"{_KINDS[kind - 1].__name__}: {field.name} is {value}")
    return message
