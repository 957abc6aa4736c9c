"""Store files as RocketMQ lays them out, made here byte by byte: zeros ahead, fillers, gaps, several files."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from lab.dump import Dump, Index, lines_of
from lab.systems.log_entries import plain_entries
from lab.systems.rocketmq import mapped_files
from lab.systems.rocketmq.mapped_files import read_piece
from lab.systems.rocketmq.store_files import ENTRY, StoreFiles, whole
from lab.systems.rocketmq.system import address_of
from nodes.remoting.message import encode_filler, encode_record, parse_host

HOST = parse_host("10.0.0.1", 10911)
FILE = 1000


def record(offset_log: int, offset_queue: int) -> bytes:
    return bytes(
        encode_record(
            topic=b"lab",
            queue_id=0,
            queue_offset=offset_queue,
            offset_log=offset_log,
            body=b"0123abcd/1/%d ..." % offset_queue,
            born_host=HOST,
            store_timestamp=2,
            store_host=HOST,
        )
    )


def two_files(root: Path) -> tuple[list[int], int]:
    """A log of two files: records and a filler, then records and zeros. Places of the records, and the end."""
    folder = root / "commitlog"
    folder.mkdir(parents=True)
    places: list[int] = []
    data = b""
    for _ in range(6):
        made = record(len(data), len(places))
        places.append(len(data))
        data += made
    (folder / f"{0:020}").write_bytes(data + encode_filler(FILE - len(data)))
    more = b""
    for _ in range(2):
        places.append(FILE + len(more))
        more += record(FILE + len(more), len(places) - 1)
    (folder / f"{FILE:020}").write_bytes(more + bytes(FILE - len(more)))
    return places, FILE + len(more)


def test_a_log_is_read_record_by_record_across_files(tmp_path: Path) -> None:
    """Every record and the filler come out as lines of a dump, and zeros ahead are not taken for anything."""
    places, end = two_files(tmp_path)
    files = StoreFiles(tmp_path)
    dump = Dump("broker-a-0", 0, 0, complete=False)
    lines = []
    while dump.end < end:
        piece = files.read_log(dump.end, end)
        assert piece is not None
        assert piece.data
        lines += list(lines_of(piece.data, plain_entries(piece.data, dump.end), "broker-a", Index(), [], dump))
        assert dump.end == piece.next_offset
    assert [line["o"] for line in lines if line["d"] != "filler"] == places
    assert [line["k"] for line in lines if line["d"] != "filler"] == list(range(8))
    assert dump.records == 8


def test_no_place_in_the_log_is_no_piece(tmp_path: Path) -> None:
    """Neither behind the last file nor without any."""
    assert StoreFiles(tmp_path).read_log(0, 10) is None
    _, end = two_files(tmp_path)
    assert StoreFiles(tmp_path).read_log(5 * FILE, end) is None


def test_a_piece_holds_whole_records_only() -> None:
    """A record that is cut short belongs to the next piece; zeros end a piece."""
    first = record(0, 0)
    assert whole(first + record(len(first), 1)[:-1], 0) == (len(first), len(first))
    assert whole(first + bytes(100), 50) == (len(first), 50 + len(first))
    assert whole(struct.pack(">iI", 700, 0xCBD43194), 300) == (8, 1000)


def queue(root: Path, queue_id: int, start: int, entries: list[tuple[int, int, int]], room: int) -> None:
    folder = root / "consumequeue" / "lab" / str(queue_id)
    folder.mkdir(parents=True, exist_ok=True)
    data = b"".join(ENTRY.pack(*entry) for entry in entries)
    (folder / f"{start * ENTRY.size:020}").write_bytes(data + bytes(room * ENTRY.size - len(data)))


def test_bounds_of_queues(tmp_path: Path) -> None:
    """Zeros are not entries, a gap at the beginning is not either, and a full file is followed by the next."""
    queue(tmp_path, 0, 0, [(0, 100, 1), (100, 100, 1)], 5)
    queue(tmp_path, 1, 0, [(0, 0x7FFFFFFF, 0)] * 3 + [(500, 100, 1)], 5)
    queue(tmp_path, 2, 0, [(n * 100, 100, 1) for n in range(5)], 5)
    queue(tmp_path, 2, 5, [(500, 100, 1)], 5)
    queue(tmp_path, 3, 0, [], 5)
    assert StoreFiles(tmp_path).queues() == {
        "lab@0": {"min": 0, "max": 2},
        "lab@1": {"min": 3, "max": 4},
        "lab@2": {"min": 0, "max": 6},
        "lab@3": {"min": 0, "max": 0},
    }
    assert StoreFiles(tmp_path).bounds("absent", 0) == (0, 0)


def test_a_queue_that_begins_far_into_its_first_file(tmp_path: Path) -> None:
    """Gaps go on for longer than what is read at once."""
    queue(tmp_path, 0, 0, [(0, 0x7FFFFFFF, 0)] * 9000 + [(500, 100, 1)] * 2, 9010)
    queue(tmp_path, 1, 0, [(0, 0x7FFFFFFF, 0)] * 9000, 9000)
    assert StoreFiles(tmp_path).bounds("lab", 0) == (9000, 9002)
    assert StoreFiles(tmp_path).bounds("lab", 1) == (9000, 9000)


def test_nothing_is_read_behind_an_end_that_was_cut_back(tmp_path: Path) -> None:
    """A broker that restarted may tell an end below where a dump had come to; a file has a gigabyte behind it."""
    places, _ = two_files(tmp_path)
    piece = StoreFiles(tmp_path).read_log(places[3], places[2])
    assert piece is not None
    assert (piece.data, piece.next_offset) == (b"", places[3])


def test_a_record_longer_than_a_piece_comes_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But only one, and never beyond the end."""
    places, end = two_files(tmp_path)
    monkeypatch.setattr(mapped_files, "PIECE", 20)
    size = places[1] - places[0]
    assert read_piece(tmp_path / "commitlog", 0, end, lambda front: size) == record(0, 0)
    piece = StoreFiles(tmp_path).read_log(0, end)
    assert piece is not None
    assert piece.data == record(0, 0)
    assert read_piece(tmp_path / "commitlog", 0, size - 1, lambda front: size) == record(0, 0)[:20]


def test_how_far_the_log_is_indexed(tmp_path: Path) -> None:
    """By the last entry of any queue."""
    files = StoreFiles(tmp_path)
    assert files.indexed_end() == 0
    queue(tmp_path, 0, 0, [(0, 100, 1), (300, 100, 1)], 5)
    queue(tmp_path, 1, 0, [(100, 200, 1)], 5)
    assert files.indexed_end() == 400


def test_index_entries(tmp_path: Path) -> None:
    """From an offset on, to the end of a file, and never more than asked for."""
    entries = [(n * 100, 100, 1) for n in range(6)]
    queue(tmp_path, 0, 0, entries[:5], 5)
    queue(tmp_path, 0, 5, entries[5:], 5)
    files = StoreFiles(tmp_path)
    assert files.read_index("lab", 0, 3, 100) == (b"".join(ENTRY.pack(*e) for e in entries[3:5]), 0, 6)
    assert files.read_index("lab", 0, 5, 100) == (ENTRY.pack(*entries[5]), 0, 6)
    assert files.read_index("lab", 0, 0, 1) == (ENTRY.pack(*entries[0]), 0, 6)
    assert files.read_index("lab", 0, 6, 100) == (b"", 0, 6)


def test_addresses_in_the_kernels_table() -> None:
    """As IPv4, and as IPv4 inside IPv6, which is what a JVM's sockets are."""
    packed = f"{struct.unpack('=I', bytes([10, 77, 0, 3]))[0]:08X}"
    assert address_of(packed) == "10.77.0.3"
    assert address_of("0000000000000000FFFF0000" + packed) == "10.77.0.3"
