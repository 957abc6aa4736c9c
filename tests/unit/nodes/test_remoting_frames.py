"""The codec on its own: round trips, loose input, and refusals that name a reason."""

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.limits import FRAME_MAX
from nodes.remoting.command import Command, Language, Serialize, request
from nodes.remoting.frame import FrameDecoder, FrameError, decode, encode
from nodes.remoting.header import decode_binary, decode_json

INT32 = st.integers(-(2**31), 2**31 - 1)
INT16 = st.integers(-(2**15), 2**15 - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
COMMANDS = st.builds(
    Command,
    code=st.integers(-32767, 32767),
    ext=st.dictionaries(TEXT, TEXT, max_size=8),
    body=st.binary(max_size=200),
    opaque=INT32,
    flag=INT32,
    remark=st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
    language=st.sampled_from(Language),
    version=INT16,
    serialize=st.sampled_from(Serialize),
)


def framed(header: bytes, body: bytes = b"", kind: int = 0) -> bytes:
    return struct.pack(">II", 4 + len(header) + len(body), kind << 24 | len(header)) + header + body


def refusal(decoder: FrameDecoder, data: bytes) -> str | None:
    """Why the decoder refuses these bytes; None if it takes them."""
    try:
        decoder.feed(data)
    except FrameError as error:
        return error.reason
    return None


@settings(max_examples=300, deadline=None, derandomize=True)
@given(COMMANDS)
def test_what_is_encoded_decodes_to_itself(command: Command) -> None:
    assert decode(encode(command)) == command


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(COMMANDS, max_size=6), st.data())
def test_a_stream_cut_anywhere_gives_the_same_commands(commands: list[Command], data: st.DataObject) -> None:
    stream = b"".join(map(encode, commands))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    decoder = FrameDecoder()
    got = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += decoder.feed(stream[begin:end])
    assert got == commands
    assert decoder.pending == 0


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.binary(max_size=300), st.binary(max_size=40))
def test_garbage_is_refused_or_awaited_and_nothing_else(garbage: bytes, more: bytes) -> None:
    decoder = FrameDecoder()
    reasons = [reason for part in (garbage, more) if (reason := refusal(decoder, part)) is not None]
    assert all(reasons)
    if reasons:
        assert refusal(decoder, encode(request(34))) == reasons[-1]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(COMMANDS, st.data())
def test_a_damaged_frame_never_raises_anything_but_a_frame_error(command: Command, data: st.DataObject) -> None:
    frame = bytearray(encode(command))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    assert "\n" not in (refusal(FrameDecoder(), bytes(frame)) or "")


def test_numbers_and_booleans_among_the_header_fields_become_text() -> None:
    header = b'{"code":105,"extFields":{"i":7,"b":true,"f":1.5,"n":null,"s":"x"},"opaque":3,"version":401}'
    command = decode_json(header)
    assert command.ext == {"i": "7", "b": "true", "f": "1.5", "s": "x"}
    assert (command.code, command.opaque, command.version, command.language) == (105, 3, 401, Language.JAVA)


@pytest.mark.parametrize(
    ("header", "language", "version"),
    [
        (b'{"code":34,"language":"COBOL","version":401}', Language.OTHER, 401),
        (b'{"code":34,"language":7}', Language.OTHER, 0),
        (b'{"code":34}', Language.JAVA, 0),
        (b'{"code":34,"language":"GO","version":409,"surprise":{"a":[1]}}', Language.GO, 409),
        (b'{"code":"34","opaque":null,"extFields":null,"remark":null,"flag":null}', Language.JAVA, 0),
    ],
)
def test_peers_may_be_strange_within_reason(header: bytes, language: Language, version: int) -> None:
    command = decode_json(header)
    assert (command.code, command.language, command.version, command.ext) == (34, language, version, {})


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"", "header is not JSON"),
        (b"[1]", "header is not a JSON object"),
        (b"{}", "header has no code"),
        (b'{"code":1e99}', "code is not a 32-bit number"),
        (b'{"code":true}', "code is not a 32-bit number"),
        (b'{"code":"x"}', "code is not a number"),
        (b'{"code":1,"opaque":2147483648}', "opaque is not a 32-bit number"),
        (b'{"code":1,"extFields":[1]}', "extFields is not a JSON object"),
        (b'{"code":1,"remark":"\xff"}', "header is not JSON"),
    ],
)
def test_an_unreadable_json_header_says_why(header: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        decode(framed(header))


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (struct.pack(">I", 3) + b"\0" * 8, "too short"),
        (struct.pack(">I", FRAME_MAX - 3) + b"\0" * 4, "larger than"),
        (struct.pack(">i", -5) + b"\0" * 4, "larger than"),
        (struct.pack(">II", 10, 100) + b"\0" * 100, "header of 100 bytes"),
        (framed(b"{}", kind=2), "unknown header serialization 2"),
        (framed(b"\0" * 5, kind=1), "cut short"),
        (framed(b"\0" * 13 + b"\x7f\0\0\0" + b"\0" * 8, kind=1), "remark of"),
        (framed(b"\0" * 17 + b"\x7f\0\0\0", kind=1), "header fields of"),
        (framed(b"\0" * 17 + b"\0\0\0\x08" + b"\0\x01k" + b"\x7f\0\0\0" + b"v", kind=1), "header field of"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "TLS handshake"),
        (b"\x16", "TLS handshake"),
        (b"GET / HTTP/1.1\r\n\r\n", "larger than"),
    ],
)
def test_what_is_not_a_frame_says_why(frame: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        FrameDecoder().feed(frame)


def test_a_wrong_length_is_refused_before_its_bytes_arrive() -> None:
    with pytest.raises(FrameError, match="larger than 1000"):
        FrameDecoder(1000).feed(struct.pack(">I", 997))
    assert FrameDecoder(1000).feed(struct.pack(">I", 996)) == []


def test_good_frames_before_a_bad_one_are_not_lost() -> None:
    good = encode(request(34))
    with pytest.raises(FrameError) as caught:
        FrameDecoder().feed(good + good + struct.pack(">II", 1, 1))
    assert [command.code for command in caught.value.decoded] == [34, 34]


def test_a_frame_larger_than_the_limit_is_not_written() -> None:
    largest = FRAME_MAX - len(encode(request(10)))
    assert len(encode(request(10, body=b"x" * largest))) == FRAME_MAX
    with pytest.raises(FrameError, match="larger than"):
        encode(request(10, body=b"x" * (largest + 1)))


def test_a_code_too_large_for_the_binary_header_travels_as_json() -> None:
    command = request(200050, {"a": "b"})
    command.serialize = Serialize.ROCKETMQ
    again = decode(encode(command))
    assert (again.code, again.serialize) == (200050, Serialize.JSON)


def test_what_cannot_be_written_is_a_frame_error() -> None:
    with pytest.raises(FrameError, match="cannot be written"):
        encode(request(34, {"k": "\ud800"}))
    command = Command(34, {}, version=40_000, serialize=Serialize.ROCKETMQ)
    with pytest.raises(FrameError, match="binary header"):
        encode(command)


def test_json_headers_look_like_javas() -> None:
    frame = encode(request(105, {"topic": "T"}))
    header = frame[8:].decode()
    assert list(json.loads(header)) == sorted(json.loads(header))
    assert json.loads(header) == {
        "code": 105,
        "extFields": {"topic": "T"},
        "flag": 0,
        "language": "PYTHON",
        "opaque": 0,
        "serializeTypeCurrentRPC": "JSON",
        "version": 479,
    }


def test_a_reply_carries_the_request_number_and_the_response_bit() -> None:
    asked = Command(10, {}, opaque=-7, serialize=Serialize.ROCKETMQ)
    answer = asked.reply(14, "disk full", {"a": "b"}, b"body")
    assert (answer.opaque, answer.is_response, answer.is_oneway, answer.serialize) == (-7, True, False, Serialize.JSON)
    assert (answer.code, answer.remark, answer.ext, answer.body) == (14, "disk full", {"a": "b"}, b"body")
    assert request(35, oneway=True).is_oneway


def test_an_unknown_language_code_is_tolerated_in_the_binary_header() -> None:
    header = struct.pack(">hBhiii", 34, 99, 401, 1, 0, 0) + struct.pack(">i", 0)
    assert decode_binary(header).language is Language.OTHER
