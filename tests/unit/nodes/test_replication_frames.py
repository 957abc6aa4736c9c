"""The wire protocol: every frame survives the wire in any cut, and nothing else passes."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.replication.epochs import Epoch, EpochTable
from nodes.replication.frames import (
    VERSION,
    Ack,
    Agree,
    Data,
    Decoder,
    Frame,
    FrameError,
    Hello,
    Merged,
    Meta,
    OffsetsBack,
    Ping,
    Refusal,
    Refuse,
    Reset,
    TableKind,
    encode,
)
from nodes.replication.limits import EPOCHS_MAX, FRAME_MAX, HELLO_MAX, TEXT_MAX

TABLE = EpochTable((Epoch(1, "00000000000000a1", 0), Epoch(7, "ffffffffffffffff", 2**40)))
FRAMES: list[Frame] = [
    Hello("broker-a", "0123456789abcdef", 1, 10, 2**41, 9, (7, "ffffffffffffffff"), TABLE),
    Hello("名", "0123456789abcdef", 0, 0, 0, 0, (0, ""), EpochTable()),
    Agree("0123456789abcdef", 2**40, False, 10, 2**41, 9, TABLE),
    Agree("0123456789abcdef", 0, True, 0, 0, 1, TABLE),
    Refuse(Refusal.SUPERSEDED, 3, "why"),
    Data(7, 2**40, b"bytes"),
    Ack(7, 2**41),
    Meta(TableKind.CONSUMER_OFFSETS, 3, b"{}"),
    Meta(TableKind.TOPICS, 1, b""),
    OffsetsBack(4, 2, {"t@g": {0: 12, 31: 2**60}}),
    Merged(4),
    Reset(2, {"t@g": {0: 5}}),
    Ping(2**63),
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_survives_the_wire(frame: Frame) -> None:
    assert Decoder().feed(encode(frame)) == [frame]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.permutations(FRAMES), st.lists(st.integers(1, 40), min_size=1, max_size=200))
def test_frames_arrive_in_any_pieces(frames: list[Frame], cuts: list[int]) -> None:
    stream = b"".join(map(encode, frames))
    decoder, found, position = Decoder(), [], 0
    for cut in [*cuts, len(stream)]:
        found += decoder.feed(stream[position : position + cut])
        position += cut
    assert found == frames


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(st.sampled_from(FRAMES), st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_frame_is_refused_or_another_valid_one(frame: Frame, place: int, change: int) -> None:
    """Nothing but FrameError comes out of damaged bytes; log bytes are covered by a checksum."""
    data = bytearray(encode(frame))
    data[place % len(data)] ^= change
    try:
        found = Decoder().feed(bytes(data))
    except FrameError:
        return
    for other in found:
        assert not (isinstance(frame, Data) and isinstance(other, Data)) or other.data == frame.data


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.binary(max_size=300))
def test_noise_is_refused_or_waited_for(noise: bytes) -> None:
    with contextlib.suppress(FrameError):
        assert Decoder().feed(noise) == []


def head(length: int, version: int = VERSION, kind: int = 10) -> bytes:
    return struct.pack(">IBB", length, version, kind)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (head(HELLO_MAX + 1), "bound"),
        (head(0), "bound"),
        (head(10, VERSION + 1) + bytes(8), "version"),
        (head(10, kind=99) + bytes(8), "not known"),
        (head(11) + bytes(9), "too many"),
        (head(9) + bytes(7), "kind 10"),
        (encode(FRAMES[0]).replace(b"BLHA", b"blha"), "magic"),
        (encode(Hello("g", "0" * 16, 1, 5, 4, 0, (0, ""), EpochTable())), "from 5 to 4"),
    ],
)
def test_what_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        Decoder().feed(data)


def test_large_frames_pass_only_after_the_introduction() -> None:
    large = encode(Data(1, 0, bytes(HELLO_MAX)))
    with pytest.raises(FrameError, match="bound"):
        Decoder().feed(large)
    introduced = Decoder()
    assert len(introduced.feed(encode(FRAMES[0]) + large)) == 2


def test_what_cannot_be_sent() -> None:
    with pytest.raises(FrameError, match="bound"):
        encode(Meta(TableKind.TOPICS, 1, bytes(FRAME_MAX)))
    long_reason = Decoder().feed(encode(Refuse(Refusal.OTHER_GROUP, 1, "é" * TEXT_MAX)))[0]
    assert isinstance(long_reason, Refuse)
    assert long_reason.text == "é" * (TEXT_MAX // 2)


def test_the_largest_table_fits_into_a_hello() -> None:
    table = EpochTable(tuple(Epoch(n, f"{n:016x}", n) for n in range(1, EPOCHS_MAX + 1)))
    data = encode(Hello("g" * 255, "0" * 16, 1, 0, 9**9, EPOCHS_MAX, (0, ""), table))
    assert len(data) <= HELLO_MAX
    assert len(Decoder().feed(data)) == 1
