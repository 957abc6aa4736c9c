"""The wire protocol between a primary and its replicas: frames to bytes and back. Pure.

A frame is `length (4, of what follows) · version (1) · kind (1) · payload`, numbers big-endian. It is our own protocol:
RocketMQ's (an 8-byte report against offset-and-bytes chunks) can neither compare histories nor truncate one.

    replica -> primary   HELLO        who I am, which bytes I have
    primary -> replica   AGREE        go on from here; this is my table of epochs       | REFUSE   reason, then close
    primary -> replica   DATA         bytes of the log
    replica -> primary   ACK          all bytes below this offset are in my log file (not fsynced, as in RocketMQ)
    primary -> replica   META         a whole table of topics, groups or offsets, to replace the present one
    replica -> primary   OFFSETS_BACK progress that consumers have committed on the replica
    primary -> replica   MERGED       the next table of offsets contains that progress
    primary -> replica   RESET        offsets that an operator has set
    both                 PING         I am alive
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import msgspec

from nodes.replication.epochs import Epoch, EpochError, EpochTable
from nodes.replication.limits import EPOCHS_MAX, FRAME_MAX, HELLO_MAX, TEXT_MAX

__all__ = [
    "VERSION",
    "Ack",
    "Agree",
    "Data",
    "Decoder",
    "Frame",
    "FrameError",
    "Hello",
    "Merged",
    "Meta",
    "OffsetsBack",
    "Ping",
    "Progress",
    "Refusal",
    "Refuse",
    "Reset",
    "TableKind",
    "encode",
]

VERSION = 1
MAGIC = b"BLHA"

Progress: TypeAlias = dict[str, dict[int, int]]
"""Committed offsets: `topic@group` to queue to offset (the shape of RocketMQ's consumerOffset.json)."""


class FrameError(Exception):
    """Bytes that are no frame of this protocol. Only the connection they came from is closed."""


class TableKind(IntEnum):
    """The tables a replica keeps a copy of, in the order in which they are sent."""

    TOPICS = 1
    GROUPS = 2
    CONSUMER_OFFSETS = 3
    DELAY_OFFSETS = 4


class Refusal(IntEnum):
    """Why a primary does not accept a replica."""

    OTHER_GROUP = 1
    OWN_STORE = 2
    SUPERSEDED = 3
    NOT_SERVING = 4


@dataclass(frozen=True, slots=True)
class Hello:
    """`begin`, `end`: the replica's log. `table`: its epochs. `highest`: the largest epoch number it has heard of.
    `followed`: (number, id) of the newest epoch it accepted from a primary; number 0 if none."""

    group: str
    store_id: str
    broker_id: int
    begin: int
    end: int
    highest: int
    followed: tuple[int, str]
    table: EpochTable


@dataclass(frozen=True, slots=True)
class Agree:
    """`start`: cut the log here and go on; with `reseed` drop it whole and begin an empty one at `start`.
    `begin`, `end`: the primary's log, with which the replica checks the decision."""

    store_id: str
    start: int
    reseed: bool
    begin: int
    end: int
    highest: int
    table: EpochTable


@dataclass(frozen=True, slots=True)
class Refuse:
    """The primary closes after this. `number`: the primary's epoch."""

    reason: Refusal
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Data:
    """Log bytes at `offset`, whole records, sent in epoch `number`."""

    number: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Ack:
    """All bytes below `end` are in the replica's log file, as agreed in epoch `number`."""

    number: int
    end: int


@dataclass(frozen=True, slots=True)
class Meta:
    """The whole content of one table; versions of a kind grow within a connection."""

    kind: TableKind
    version: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class OffsetsBack:
    """Progress of consumers on the replica. `resets_seen`: the last Reset of this connection it knew of."""

    sequence: int
    resets_seen: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class Merged:
    """The consumer offsets sent after this contain what counts of OffsetsBack number `sequence`."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Reset:
    """Offsets set by an operator: progress made before this does not count for them."""

    sequence: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class Ping:
    """`end`: the sender's log end, for the eyes of operators."""

    end: int


Frame: TypeAlias = Hello | Agree | Refuse | Data | Ack | Meta | OffsetsBack | Merged | Reset | Ping

_HEAD = struct.Struct(">IBB")
_KINDS: dict[type, int] = {
    Hello: 1,
    Agree: 2,
    Refuse: 3,
    Data: 4,
    Ack: 5,
    Meta: 6,
    OffsetsBack: 7,
    Merged: 8,
    Reset: 9,
    Ping: 10,
}
_LENGTH_SIZE = 4
_COVERED = _HEAD.size - _LENGTH_SIZE
_ENDS = struct.Struct(">QQ")
_DATA = struct.Struct(">QQI")
_META = struct.Struct(">BQ")
_EPOCH = struct.Struct(">QQQ")
_COUNT = struct.Struct(">I")
_TEXT = struct.Struct(">H")
_NUMBER = struct.Struct(">Q")
_HELLO = struct.Struct(">QQQQQQ")
_AGREE = struct.Struct(">QBQQQ")
_REFUSE = struct.Struct(">BQ")
_progress_decoder = msgspec.json.Decoder(Progress)


def _text(value: str) -> bytes:
    data = value.encode()
    if len(data) > TEXT_MAX:
        data = data[:TEXT_MAX].decode(errors="ignore").encode()
    return _TEXT.pack(len(data)) + data


def _table(table: EpochTable) -> bytes:
    rows = (_EPOCH.pack(epoch.number, int(epoch.id, 16), epoch.start_offset) for epoch in table)
    return _COUNT.pack(len(table)) + b"".join(rows)


def _payload(frame: Frame) -> bytes:
    match frame:
        case Ack(number, end):
            return _ENDS.pack(number, end)
        case Data(number, offset, data):
            return _DATA.pack(number, offset, zlib.crc32(data)) + data
        case Meta(kind, version, payload):
            return _META.pack(kind, version) + payload
        case Ping(end) | Merged(end):
            return _NUMBER.pack(end)
        case OffsetsBack(sequence, resets_seen, progress):
            return _ENDS.pack(sequence, resets_seen) + msgspec.json.encode(progress)
        case Reset(sequence, progress):
            return _NUMBER.pack(sequence) + msgspec.json.encode(progress)
        case Hello():
            number, id_ = frame.followed
            numbers = _HELLO.pack(frame.broker_id, frame.begin, frame.end, frame.highest, number, int(id_ or "0", 16))
            return MAGIC + _text(frame.group) + _text(frame.store_id) + numbers + _table(frame.table)
        case Agree():
            numbers = _AGREE.pack(frame.start, frame.reseed, frame.begin, frame.end, frame.highest)
            return _text(frame.store_id) + numbers + _table(frame.table)
        case Refuse(reason, number, text):
            return _REFUSE.pack(reason, number) + _text(text)


def encode(frame: Frame) -> bytes:
    """The frame as bytes. Raises FrameError if it would be longer than FRAME_MAX."""
    payload = _payload(frame)
    length = len(payload) + _COVERED
    if length > FRAME_MAX:
        raise FrameError(f"{type(frame).__name__} of {length} bytes, the bound is {FRAME_MAX}")
    return _HEAD.pack(length, VERSION, _KINDS[type(frame)]) + payload


class _Reader:
    """Takes fields off the front of a payload."""

    __slots__ = ("data", "position")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def numbers(self, layout: struct.Struct) -> tuple[int, ...]:
        values: tuple[int, ...] = layout.unpack_from(self.data, self.position)
        self.position += layout.size
        return values

    def text(self) -> str:
        (length,) = self.numbers(_TEXT)
        return self.take(length).decode()

    def take(self, length: int) -> bytes:
        piece = self.data[self.position : self.position + length]
        if length > TEXT_MAX or len(piece) != length:
            raise FrameError(f"a text of {length} bytes where {len(piece)} are left")
        self.position += length
        return piece

    def table(self) -> EpochTable:
        (count,) = self.numbers(_COUNT)
        if count > EPOCHS_MAX:
            raise FrameError(f"{count} epochs, the bound is {EPOCHS_MAX}")
        rows = (self.numbers(_EPOCH) for _ in range(count))
        return EpochTable.of(Epoch(number, f"{id_:016x}", start) for number, id_, start in rows)

    def rest(self) -> bytes:
        return self.data[self.position :]

    def end(self) -> None:
        if self.position != len(self.data):
            raise FrameError(f"{len(self.data) - self.position} bytes too many")


def _decode(kind: int, data: bytes) -> Frame:
    reader = _Reader(data)
    frame: Frame
    if kind == _KINDS[Data]:
        number, offset, check = reader.numbers(_DATA)
        content = reader.rest()
        if zlib.crc32(content) != check:
            raise FrameError(f"log bytes at {offset} do not match their checksum")
        return Data(number, offset, content)
    if kind == _KINDS[Ack]:
        number, end = reader.numbers(_ENDS)
        frame = Ack(number, end)
    elif kind == _KINDS[Meta]:
        number, version = reader.numbers(_META)
        return Meta(TableKind(number), version, reader.rest())
    elif kind == _KINDS[Ping]:
        frame = Ping(reader.numbers(_NUMBER)[0])
    elif kind == _KINDS[Merged]:
        frame = Merged(reader.numbers(_NUMBER)[0])
    elif kind == _KINDS[OffsetsBack]:
        sequence, resets_seen = reader.numbers(_ENDS)
        return OffsetsBack(sequence, resets_seen, _progress_decoder.decode(reader.rest()))
    elif kind == _KINDS[Reset]:
        sequence = reader.numbers(_NUMBER)[0]
        return Reset(sequence, _progress_decoder.decode(reader.rest()))
    elif kind == _KINDS[Hello]:
        frame = _decode_hello(reader)
    elif kind == _KINDS[Agree]:
        store_id = reader.text()
        start, reseed, begin, end, highest = reader.numbers(_AGREE)
        frame = Agree(store_id, start, bool(reseed), begin, end, highest, reader.table())
    elif kind == _KINDS[Refuse]:
        reason, number = reader.numbers(_REFUSE)
        frame = Refuse(Refusal(reason), number, reader.text())
    else:
        raise FrameError(f"frames of kind {kind} are not known")
    reader.end()
    return frame


def _decode_hello(reader: _Reader) -> Hello:
    if reader.take(len(MAGIC)) != MAGIC:
        raise FrameError("HELLO without the magic word")
    group = reader.text()
    store_id = reader.text()
    broker_id, begin, end, highest, number, id_ = reader.numbers(_HELLO)
    if not 0 <= begin <= end:
        raise FrameError(f"HELLO with a log from {begin} to {end}")
    followed = (number, f"{id_:016x}" if number else "")
    return Hello(group, store_id, broker_id, begin, end, highest, followed, reader.table())


class Decoder:
    """Cuts a stream of bytes into frames. Up to HELLO or AGREE they are at most HELLO_MAX long, then FRAME_MAX."""

    __slots__ = ("_buffer", "limit")

    def __init__(self) -> None:
        self.limit = HELLO_MAX
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises FrameError with a reason; the decoder is then of no more use."""
        buffer = self._buffer
        buffer += data
        frames: list[Frame] = []
        position = 0
        while len(buffer) - position >= _HEAD.size:
            length, version, kind = _HEAD.unpack_from(buffer, position)
            if version != VERSION:
                raise FrameError(f"protocol version {version}, this side speaks {VERSION}")
            if not _COVERED <= length <= self.limit:
                raise FrameError(f"a frame of {length} bytes, the bound is {self.limit}")
            end = position + _LENGTH_SIZE + length
            if len(buffer) < end:
                break
            try:
                frames.append(_decode(kind, bytes(memoryview(buffer)[position + _HEAD.size : end])))
            except (struct.error, ValueError, EpochError) as problem:
                raise FrameError(f"frame of kind {kind}: {problem}") from problem
            position = end
            if isinstance(frames[-1], (Hello, Agree)):
                self.limit = FRAME_MAX
        if position:
            del buffer[:position]
        return frames
