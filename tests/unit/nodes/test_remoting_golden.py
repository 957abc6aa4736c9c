"""Every recorded RocketMQ frame decodes, survives re-encoding, and does so however the stream is cut."""

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nodes.remoting.command import Command, Serialize
from nodes.remoting.fastjson import loads
from nodes.remoting.frame import FrameDecoder, decode, encode

WIRE = Path(__file__).resolve().parents[2] / "golden" / "wire"
FILES = sorted(WIRE.glob("*.jsonl"))


@cache
def recorded(path: Path) -> tuple[tuple[dict[str, Any], bytes], ...]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return tuple((line, bytes.fromhex(line["frame"])) for line in lines)


def test_the_recordings_are_all_there() -> None:
    assert [(path.name, len(recorded(path))) for path in FILES] == [
        ("rocketmq-4.9.8-client-and-admin.jsonl", 420),
        ("rocketmq-4.9.8-dledger-failover.jsonl", 196),
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_frame_decodes_to_what_was_noted_beside_it(path: Path) -> None:
    for noted, frame in recorded(path):
        command = decode(frame)
        seen = {
            "code": command.code,
            "flag": command.flag,
            "opaque": command.opaque,
            "language": command.language.value,
            "version": command.version,
            "serialize": [Serialize.JSON, Serialize.ROCKETMQ].index(command.serialize),
        }
        assert seen == {key: noted[key] for key in seen}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("serialize", Serialize)
def test_every_frame_survives_both_encodings(path: Path, serialize: Serialize) -> None:
    for _, frame in recorded(path):
        command = decode(frame)
        again = decode(encode(msgspec.structs.replace(command, serialize=serialize)))
        assert msgspec.structs.replace(again, serialize=command.serialize) == command
        assert again.serialize is serialize


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_stream_may_arrive_byte_by_byte(path: Path) -> None:
    frames = [frame for _, frame in recorded(path)][:60]
    decoder = FrameDecoder()
    got: list[Command] = []
    for byte in b"".join(frames):
        got += decoder.feed(bytes([byte]))
    assert got == [decode(frame) for frame in frames]
    assert decoder.pending == 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("seed", range(5))
def test_the_stream_may_be_cut_anywhere(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    frames = [frame for _, frame in recorded(path)]
    stream = b"".join(frames)
    decoder = FrameDecoder()
    got: list[Command] = []
    pos = 0
    while pos < len(stream):
        size = rng.choice((1, 2, 3, 4, 5, 7, 8, 9, 100, 1500, 65536))
        got += decoder.feed(stream[pos : pos + size])
        pos += size
    assert got == [decode(frame) for frame in frames]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_json_body_is_readable(path: Path) -> None:
    bodies = [command.body for _, frame in recorded(path) if (command := decode(frame)).body[:1] == b"{"]
    assert bodies
    for body in bodies:
        loads(body)


def test_the_published_binary_frame() -> None:
    """Code 105, PYTHON, version 479, opaque 7, remark hi, topic=T."""
    frame = bytes.fromhex(
        "00000027 01000023 0069 03 01df 00000007 00000000 00000002 6869 0000000c 0005 746f706963 00000001 54"
    )
    command = decode(frame)
    assert (command.code, command.opaque, command.remark, command.ext) == (105, 7, "hi", {"topic": "T"})
    assert encode(command) == frame
