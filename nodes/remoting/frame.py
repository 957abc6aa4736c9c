"""Frames: commands as bytes on a connection. Pure.

    length (4) | serialize type (1) header length (3) | header | body

`length` counts all that follows it. Source: RocketMQ classes RemotingCommand, NettyDecoder and NettyEncoder.

An error ends the stream: after one malformed frame nothing later on the connection can be trusted, so the decoder
refuses further input and its owner closes the connection.
"""

from __future__ import annotations

import struct
from typing import NoReturn

from nodes.limits import FRAME_MAX
from nodes.remoting.command import Command, Serialize
from nodes.remoting.header import (
    BINARY_CODE_MAX,
    HeaderError,
    decode_binary,
    decode_json,
    encode_binary,
    encode_json,
)

__all__ = ["FrameDecoder", "FrameError", "decode", "encode"]

_WORDS = struct.Struct(">II")
_WORD = struct.Struct(">I")
_HEADER_MAX = 0xFFFFFF
_TLS_HANDSHAKE = 0x16


class FrameError(ValueError):
    """Bytes that are not a frame, or a command that cannot become one.

    `reason` is one line for the log. `decoded` holds the commands that were complete before the error.
    """

    def __init__(self, reason: str, decoded: list[Command] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.decoded: list[Command] = [] if decoded is None else decoded


def encode(command: Command) -> bytes:
    """The frame of a command. Raises FrameError if it would pass FRAME_MAX or its header does not fit.

    A command with a code that the binary header cannot carry is written with a JSON header.
    """
    try:
        if command.serialize is Serialize.ROCKETMQ and -BINARY_CODE_MAX <= command.code <= BINARY_CODE_MAX:
            header = encode_binary(command)
            kind = 1 << 24
        else:
            header = encode_json(command)
            kind = 0
    except (HeaderError, UnicodeEncodeError) as error:
        raise FrameError(f"command cannot be written: {error}") from None
    body = command.body
    header_size = len(header)
    length = 4 + header_size + len(body)
    if header_size > _HEADER_MAX or length > FRAME_MAX - 4:
        raise FrameError(f"frame of {length + 4} bytes (header {header_size}) is larger than {FRAME_MAX}")
    return b"".join((_WORDS.pack(length, kind | header_size), header, body))


def decode(frame: bytes) -> Command:
    """Read exactly one whole frame. Raises FrameError."""
    commands = FrameDecoder().feed(frame)
    if len(commands) != 1 or len(frame) != 4 + _WORD.unpack_from(frame)[0]:
        raise FrameError(f"{len(frame)} bytes are not one whole frame")
    return commands[0]


class FrameDecoder:
    """Turns a byte stream, cut anywhere, into commands.

    `frame_max` bounds one frame and with it the memory a peer can claim.
    """

    __slots__ = ("_broken", "_chunks", "_frame_max", "_fresh", "_have", "_need")

    def __init__(self, frame_max: int = FRAME_MAX) -> None:
        self._frame_max = frame_max
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 4
        self._fresh = True
        self._broken: str | None = None

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return self._have

    def feed(self, data: bytes) -> list[Command]:
        """Take the next bytes of the stream; return the commands they complete, in order. Raises FrameError."""
        if self._chunks:
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._need:
                return []
            data = b"".join(self._chunks)
            self._chunks.clear()
            self._have = 0
        if self._fresh and data:
            self._fresh = False
            if data[0] == _TLS_HANDSHAKE:
                self._broken = "TLS handshake: this server speaks plain text only"
        if self._broken is not None:
            raise FrameError(self._broken)
        commands: list[Command] = []
        pos = 0
        size = len(data)
        need = 4
        while size - pos >= 8:
            length, word = _WORDS.unpack_from(data, pos)
            header_size = word & _HEADER_MAX
            if not 4 + header_size <= length <= self._frame_max - 4:
                self._refuse(self._complaint(length, header_size), commands)
            end = pos + 4 + length
            if end > size:
                need = 4 + length
                break
            body_at = pos + 8 + header_size
            header = data[pos + 8 : body_at]
            try:
                if word >> 24 == 0:
                    command = decode_json(header)
                elif word >> 24 == 1:
                    command = decode_binary(header)
                else:
                    self._refuse(f"unknown header serialization {word >> 24}", commands)
            except HeaderError as error:
                self._refuse(str(error), commands)
            command.body = data[body_at:end]
            commands.append(command)
            pos = end
        else:
            # Fewer than eight bytes are left; a length that is already known to be wrong is refused at once.
            if size - pos >= 4:
                (length,) = _WORD.unpack_from(data, pos)
                if not 4 <= length <= self._frame_max - 4:
                    self._refuse(self._complaint(length, 0), commands)
                need = 8
        if pos < size:
            self._chunks.append(data[pos:] if pos else data)
            self._have = size - pos
        self._need = need
        return commands

    def _complaint(self, length: int, header_size: int) -> str:
        if length > self._frame_max - 4:
            return f"announced frame of {length + 4} bytes is larger than {self._frame_max}"
        if length < 4:
            return f"announced frame length {length} is too short for a header word"
        return f"header of {header_size} bytes does not fit a frame of length {length}"

    def _refuse(self, reason: str, commands: list[Command]) -> NoReturn:
        self._broken = reason
        raise FrameError(reason, commands) from None
