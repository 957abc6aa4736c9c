"""Layouts of stored messages, properties, batches, ids and tags."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.remoting import message as m
from nodes.remoting.record_check import check_record, measure_record

V4 = (bytes([127, 0, 0, 1]), 10911)
V6 = (bytes(range(16)), 10911)


def sample(**changes: object) -> bytes:
    values: dict[str, object] = {
        "topic": b"Orders",
        "queue_id": 3,
        "queue_offset": 41,
        "offset_log": 4096,
        "body": b"hello",
        "properties": b"TAGS\x01red\x02",
        "flag": -7,
        "sys_flag": 0,
        "born_timestamp": 1_699_999_999_999,
        "born_host": (bytes([10, 0, 0, 7]), 54321),
        "store_timestamp": 1_700_000_000_000,
        "store_host": V4,
        "reconsume_times": 2,
        "prepared_transaction_offset": 9,
    }
    return m.encode_record(**(values | changes))  # type: ignore[arg-type]


def test_record_bytes_field_by_field() -> None:
    record = sample()
    assert len(record) == 91 + 5 + 6 + 9
    size, magic, crc, queue_id, flag = struct.unpack_from(">iiiii", record)
    assert (size, magic, queue_id, flag) == (len(record), -626843481, 3, -7)
    assert crc == zlib.crc32(b"hello") & 0x7FFFFFFF
    assert struct.unpack_from(">qqiq", record, 20) == (41, 4096, 0, 1_699_999_999_999)
    assert record[48:56] == bytes([10, 0, 0, 7]) + (54321).to_bytes(4, "big")
    assert struct.unpack_from(">q", record, 56) == (1_700_000_000_000,)
    assert record[64:72] == bytes([127, 0, 0, 1]) + (10911).to_bytes(4, "big")
    assert struct.unpack_from(">iqi", record, 72) == (2, 9, 5)
    assert record[88:93] == b"hello"
    assert record[93:100] == b"\x06Orders"
    assert record[100:] == b"\x00\x09TAGS\x01red\x02"


def test_the_smallest_record_has_91_bytes() -> None:
    assert len(sample(topic=b"", body=b"", properties=b"")) == m.RECORD_MIN == 91


@pytest.mark.parametrize(
    ("born", "store", "flags", "extra"),
    [(V4, V4, 0, 0), (V6, V4, 0x10, 12), (V4, V6, 0x20, 12), (V6, V6, 0x30, 24)],
)
def test_hosts_of_both_kinds(born: m.Host, store: m.Host, flags: int, extra: int) -> None:
    record = sample(born_host=born, store_host=store, sys_flag=0x301 | 0x30)
    assert len(record) == len(sample()) + extra
    decoded = m.decode_record(record, check_crc=True)
    assert (decoded.born_host, decoded.store_host) == (born, store)
    assert decoded.sys_flag == 0x301 | flags
    assert decoded.body == b"hello"
    assert decoded.properties == {"TAGS": "red"}
    head = check_record(record, offset_log=4096)
    assert head.store_timestamp == 1_700_000_000_000
    assert (head.topic, head.properties) == (b"Orders", b"TAGS\x01red\x02")


def test_records_of_version_2_are_read() -> None:
    old = sample()
    at = 88 + 5
    record = bytearray(old[:at] + b"\x00" + old[at:])
    record[0:8] = struct.pack(">II", len(record), m.MAGIC_V2)
    assert m.decode_record(record).topic == "Orders"
    assert check_record(record).topic == b"Orders"


def test_decoding_walks_a_pull_body() -> None:
    body = sample() + sample(queue_offset=42, body=b"second") + sample(queue_offset=43, body=b"")
    assert [each.queue_offset for each in m.decode_records(body)] == [41, 42, 43]
    with pytest.raises(m.RecordError):
        m.decode_records(body + b"\0\0")
    with pytest.raises(m.RecordError):
        m.decode_records(body[:-1])


def test_every_single_byte_matters() -> None:
    """A flipped byte is noticed wherever it decides about the shape, the place or the body."""
    record = sample()
    unnoticed = set()
    for at in range(len(record)):
        garbled = bytearray(record)
        garbled[at] ^= 0x55
        try:
            check_record(garbled, offset_log=4096)
        except m.RecordError:
            continue
        unnoticed.add(at)
    covered = set(range(8)) | set(range(28, 36)) | set(range(84, 93)) | {93, 100, 101}
    assert not covered & unnoticed


@pytest.mark.parametrize("host", [V4, V6])
def test_measuring_a_record_finds_the_same_faults(host: m.Host) -> None:
    checks: tuple[Callable[[memoryview], int], ...] = (
        lambda data: check_record(data, offset_log=4096).size,
        lambda data: measure_record(data, 0, 4096),
    )
    record = sample(born_host=host)
    assert measure_record(memoryview(b"ab" + record + b"cd"), 2, 4096) == len(record)
    for at in range(len(record)):
        garbled = bytearray(record)
        garbled[at] ^= 0x55
        for length in (len(record), at):
            outcomes: list[int | str] = []
            for check in checks:
                try:
                    outcomes.append(check(memoryview(garbled)[:length]))
                except m.RecordError as error:
                    outcomes.append(str(error))
            assert outcomes[0] == outcomes[1], f"byte {at}"


def test_every_prefix_is_refused() -> None:
    record = sample()
    for length in range(len(record)):
        with pytest.raises(m.RecordError):
            check_record(record[:length])
        with pytest.raises(m.RecordError):
            m.decode_record(record[:length])


def test_zeros_are_no_record() -> None:
    with pytest.raises(m.RecordError, match="magic"):
        check_record(bytes(200))
    with pytest.raises(m.RecordError):
        m.decode_record(bytes(200))


def test_crc_can_be_skipped() -> None:
    record = bytearray(sample())
    record[90] ^= 1
    with pytest.raises(m.RecordError, match="CRC"):
        check_record(record)
    with pytest.raises(m.RecordError, match="CRC"):
        m.decode_record(record, check_crc=True)
    assert check_record(record, check_crc=False).size == len(record)
    assert m.decode_record(record).size == len(record)


def test_what_does_not_fit_the_layout_is_refused() -> None:
    with pytest.raises(m.RecordError, match="topic"):
        sample(topic=b"x" * 128)
    with pytest.raises(m.RecordError, match="properties"):
        sample(properties=b"x" * 32768)
    with pytest.raises(m.RecordError, match="filler"):
        m.encode_filler(7)


def test_filler() -> None:
    filler = m.encode_filler(20)
    assert filler == struct.pack(">iI", 20, 0xCBD43194) + bytes(12)
    assert m.peek(filler) == (20, m.MAGIC_FILLER)


PROPERTY_TEXTS = st.text(
    st.characters(exclude_characters="\x01\x02", exclude_categories=["Cs"]), min_size=1, max_size=9
)


@settings(max_examples=150, deadline=None)
@given(
    body=st.binary(max_size=400),
    topic=st.text("abcXYZ%|_-09", min_size=1, max_size=40),
    properties=st.dictionaries(
        PROPERTY_TEXTS,
        PROPERTY_TEXTS,
        max_size=5,
    ),
    queue_offset=st.integers(0, 2**63 - 1),
    flag=st.integers(-(2**31), 2**31 - 1),
    v6=st.booleans(),
)
def test_records_round_trip(
    body: bytes, topic: str, properties: dict[str, str], queue_offset: int, flag: int, v6: bool
) -> None:
    text = m.encode_properties(properties)
    record = sample(
        topic=topic.encode(),
        body=body,
        properties=text.encode(),
        queue_offset=queue_offset,
        flag=flag,
        born_host=V6 if v6 else V4,
    )
    decoded = m.decode_record(b"..." + record + b"...", 3, check_crc=True)
    assert (decoded.body, decoded.topic, decoded.properties) == (body, topic, properties)
    assert (decoded.queue_offset, decoded.flag, decoded.offset_log) == (queue_offset, flag, 4096)
    again = m.encode_record(
        topic=decoded.topic.encode(),
        queue_id=decoded.queue_id,
        queue_offset=decoded.queue_offset,
        offset_log=decoded.offset_log,
        body=decoded.body,
        properties=decoded.properties_text.encode(),
        flag=decoded.flag,
        sys_flag=decoded.sys_flag,
        born_timestamp=decoded.born_timestamp,
        born_host=decoded.born_host,
        store_timestamp=decoded.store_timestamp,
        store_host=decoded.store_host,
        reconsume_times=decoded.reconsume_times,
        prepared_transaction_offset=decoded.prepared_transaction_offset,
    )
    assert again == record


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_garbage_is_refused_and_nothing_else_is_raised(data: bytes) -> None:
    for action in (check_record, m.decode_record, m.decode_batch):
        with pytest.raises(m.RecordError):
            action(data)


# ---- properties ----------------------------------------------------------------------------------------------------


def test_properties_with_and_without_trailing_separator() -> None:
    wanted = {"KEYS": "a b", "WAIT": "true"}
    assert m.decode_properties("KEYS\x01a b\x02WAIT\x01true") == wanted
    assert m.decode_properties("KEYS\x01a b\x02WAIT\x01true\x02") == wanted
    assert m.encode_properties(wanted) == "KEYS\x01a b\x02WAIT\x01true\x02"
    assert m.decode_properties("") == {}


def test_empty_values_and_repeated_names() -> None:
    assert m.decode_properties("A\x01\x02B\x012\x02B\x013\x02junk\x02") == {"B": "3"}


def test_separators_in_values_are_refused() -> None:
    with pytest.raises(m.RecordError, match="separator"):
        m.encode_properties({"A": "x\x02y"})


def test_appending_a_property_adds_the_missing_separator() -> None:
    assert m.append_property("", "A", "1") == "A\x011\x02"
    assert m.append_property("A\x011", "B", "2") == "A\x011\x02B\x012\x02"
    assert m.append_property("A\x011\x02", "B", "2") == "A\x011\x02B\x012\x02"


def test_one_property_is_found_by_whole_name_only() -> None:
    text = "MYTAGS\x01no\x02TAGS\x01red\x02EMPTY\x01\x02LAST\x01end"
    assert m.property_of(text, "TAGS") == "red"
    assert m.property_of(text, "MYTAGS") == "no"
    assert m.property_of(text, "LAST") == "end"
    assert m.property_of(text, "EMPTY") is None
    assert m.property_of(text, "AGS") is None


def test_message_keys() -> None:
    assert m.message_keys("UNIQ_KEY\x01U1\x02KEYS\x01a  b\x02") == ["U1", "a", "b"]
    assert m.message_keys("WAIT\x01true") == []


# ---- batches -------------------------------------------------------------------------------------------------------


def test_batches_round_trip() -> None:
    parts = [m.BatchPart(0, b"one", "WAIT\x01true"), m.BatchPart(5, b"", ""), m.BatchPart(-1, b"x" * 999, "K\x01\xe9")]
    body = m.encode_batch(parts)
    assert struct.unpack_from(">iiiii", body) == (4 * 5 + 3 + 2 + 9, 0, 0, 0, 3)
    assert m.decode_batch(body) == parts


def test_bad_batches_are_refused() -> None:
    good = m.encode_batch([m.BatchPart(0, b"one", "A\x01b\x02")])
    for length in range(len(good)):
        with pytest.raises(m.RecordError):
            m.decode_batch(good[:length])
    with pytest.raises(m.RecordError, match="more than 1"):
        m.decode_batch(good + good, limit=1)
    endless = bytearray(good)
    endless[0:4] = bytes(4)
    with pytest.raises(m.RecordError):
        m.decode_batch(endless)


# ---- ids, tags, hosts ----------------------------------------------------------------------------------------------


def test_offset_message_ids() -> None:
    assert m.offset_message_id(V4, 422) == "7F00000100002A9F00000000000001A6"
    assert m.parse_offset_message_id("7F00000100002A9F00000000000001A6") == (V4, 422)
    long = m.offset_message_id(V6, 1)
    assert len(long) == 56
    assert m.parse_offset_message_id(long) == (V6, 1)
    for bad in ("", "7F", "Z" * 32):
        with pytest.raises(ValueError, match=r"digits|hexadecimal"):
            m.parse_offset_message_id(bad)


def test_unique_keys() -> None:
    assert (
        m.unique_key(bytes([10, 0, 0, 1]), 0x12345, 0xCAFEBABE, 0x1_0000_0001, 7) == "0A0000012345CAFEBABE000000010007"
    )
    assert len(m.unique_key(bytes(16), 1, 2, 3, 4)) == 56


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0), ("a", 97), ("TagA", 2598919), ("hello", 99162322), ("polygenelubricants", -(2**31)), ("é", 233)],
)
def test_string_hash_is_javas(text: str, expected: int) -> None:
    assert m.string_hash(text) == expected


def test_string_hash_counts_surrogates() -> None:
    high, low = 0xD83D, 0xDE00
    assert m.string_hash("\U0001f600") == 31 * high + low


def test_tag_hash_of_no_tag_is_0() -> None:
    assert m.tag_hash(None) == m.tag_hash("") == 0
    assert m.tag_hash("TagA") == 2598919


def test_hosts() -> None:
    assert m.parse_host("127.0.0.1", 10911) == V4
    assert m.format_host(V4) == "127.0.0.1:10911"
    assert m.format_host(m.parse_host("fd00::1", 1)) == "[fd00::1]:1"
    with pytest.raises(ValueError, match="localhost"):
        m.parse_host("localhost", 1)
