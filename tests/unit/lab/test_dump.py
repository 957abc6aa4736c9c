"""Dumps of replicas: every record of a log becomes a line, and what does not fit is said."""

import asyncio
import struct
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import cast

import msgspec
import zstandard

from checkers.builder import load_history
from checkers.dumps import load_replicas
from lab.dump import Dump, Index, dump_replica, lines_of
from lab.systems.log_entries import LogEntry, plain_entries
from lab.systems.system import LogPiece, NodeStatus, System
from nodes.remoting.message import encode_filler, encode_record, parse_host
from tests.unit.lab.slow_reading import SlowReading

HOST = parse_host("10.0.0.1", 10911)


def record(topic: str, queue_id: int, offset_queue: int, offset_log: int, body: bytes) -> bytes:
    return bytes(
        encode_record(
            topic=topic.encode(),
            queue_id=queue_id,
            flag=0,
            queue_offset=offset_queue,
            offset_log=offset_log,
            sys_flag=0,
            born_timestamp=1,
            born_host=HOST,
            store_timestamp=2,
            store_host=HOST,
            reconsume_times=0,
            prepared_transaction_offset=0,
            body=body,
            properties=b"",
        )
    )


def log_of(*parts: tuple[str, int, int, bytes]) -> tuple[bytes, list[tuple[int, int]]]:
    """A log of these records, with the place and size of each."""
    data = b""
    places = []
    for topic, queue_id, offset, body in parts:
        made = record(topic, queue_id, offset, len(data), body)
        places.append((len(data), len(made)))
        data += made
    return data, places


PARTS = (
    ("lab", 0, 0, b"0123abcd/1/0 ..."),
    ("lab", 1, 0, b"0123abcd/1/1 ..."),
    ("%RETRY%readers", 0, 0, b"0123abcd/1/0 ..."),
    ("%DLQ%readers", 0, 0, b"0123abcd/1/1 ..."),
    ("other", 0, 0, b"somebody else's"),
)


def test_every_record_is_a_line() -> None:
    """Place, size, epoch, queue, value, and whether the index points back to it."""
    data, places = log_of(*PARTS)
    index = Index()
    index.put("lab", 0, 0, struct.pack(">qiq", *places[0], 0))
    index.put("lab", 1, 0, struct.pack(">qiq", places[1][0] + 1, places[1][1], 0))
    dump = Dump("broker-a-0", 0, 0, complete=False)
    lines = list(lines_of(data, plain_entries(data, 0), "broker-a", index, [(0, 1), (places[2][0], 4)], dump))
    assert [(line["o"], line["s"]) for line in lines] == places
    assert [line["t"] for line in lines] == [1, 1, 4, 4, 4]
    assert [line["q"] for line in lines][:3] == ["lab/broker-a/0", "lab/broker-a/1", "%RETRY%readers/broker-a/0"]
    assert [line["v"] for line in lines] == ["0123abcd/1/0", "0123abcd/1/1", "0123abcd/1/0", "0123abcd/1/1", None]
    assert [line["x"] for line in lines] == [True, False, False, False, False]
    assert len({line["d"] for line in lines}) == len(lines)
    assert (dump.records, dump.end) == (5, len(data))
    assert dump.retry == {"readers": [(0, 0, "0123abcd/1/0")]}
    assert dump.dead == {"readers": ["0123abcd/1/1"]}


def test_a_record_whose_checksum_does_not_hold_is_told_and_not_the_end_of_the_dump() -> None:
    data, places = log_of(*PARTS)
    at = data.index(b"0123abcd/1/1")
    spoilt = data[:at] + b"9" + data[at + 1 :]
    dump = Dump("broker-a-0", 0, 0, complete=False)
    lines = list(lines_of(spoilt, plain_entries(spoilt, 0), "broker-a", Index(), [(0, 1)], dump))
    assert [line["o"] for line in lines] == [place for place, _ in places]
    assert ["c" in line for line in lines] == [False, True, False, False, False]
    assert (lines[1]["c"], lines[1]["v"]) == (False, None)
    assert dump.end == len(data)


def test_fillers_leave_no_hole() -> None:
    """The rest of a segment is a line of its own."""
    first = record("lab", 0, 0, 0, b"0123abcd/1/0 .")
    filler = encode_filler(64)
    second = record("lab", 0, 1, len(first) + 64, b"0123abcd/1/1 .")
    dump = Dump("n", 0, 0, complete=False)
    log = first + filler + second
    lines = list(lines_of(log, plain_entries(log, 0), "g", Index(), [(0, 1)], dump))
    assert [line["q"] for line in lines] == ["lab/g/0", None, "lab/g/0"]
    assert all(a["o"] + a["s"] == b["o"] for a, b in pairwise(lines))


class Replica:
    """Serves one log in small pieces, as a broker would."""

    def __init__(self, data: bytes, index: Mapping[tuple[str, int], bytes], piece: int = 1) -> None:
        self.data = data
        self.index = index
        self.piece = piece

    async def read_log(self, node: str, offset: int) -> LogPiece | None:
        size = int.from_bytes(self.data[offset : offset + 4], "big")
        end = offset + size
        return LogPiece(self.data[offset:end], end, len(self.data))

    def entries(self, data: bytes, offset: int) -> Iterator[LogEntry]:
        return plain_entries(data, offset)

    async def indexed(self, status: NodeStatus) -> Collection[tuple[str, int]] | None:
        return list(self.index)

    async def read_index(self, node: str, topic: str, queue_id: int, offset: int) -> tuple[bytes, int, int] | None:
        entries = self.index.get((topic, queue_id))
        if entries is None:
            return None
        return entries[offset * 20 : (offset + self.piece) * 20], 0, len(entries) // 20


def status(end: int, epochs: tuple[tuple[int, str, int], ...] = ((1, "a", 0),)) -> NodeStatus:
    return NodeStatus("n", True, 0, epochs[-1][:2], epochs, 0, end, None, (), True)


def taken(replica: Replica, end: int, folder: Path) -> tuple[Dump, list[dict[str, object]]]:
    path = folder / "n.jsonl.zst"
    dump = asyncio.run(dump_replica(cast(System, replica), status(end), "broker-a", path))
    text = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    return dump, [msgspec.json.decode(line) for line in text.splitlines()]


def test_a_dump_reads_piece_by_piece(tmp_path: Path) -> None:
    """Log and index, to their ends."""
    data, places = log_of(*(("lab", 0, n, b"0123abcd/1/%d ." % n) for n in range(5)))
    index = b"".join(struct.pack(">qiq", *place, 0) for place in places)
    dump, lines = taken(Replica(data, {("lab", 0): index}, piece=2), len(data), tmp_path)
    assert (dump.complete, dump.records, dump.end) == (True, 5, len(data))
    assert all(line["x"] for line in lines)


def test_what_came_after_the_end_that_was_told_is_left_out(tmp_path: Path) -> None:
    """Delayed messages are still on their way, and the index was read before they came: it would seem to lack them."""
    data, places = log_of(*(("lab", 0, n, b"0123abcd/1/%d ." % n) for n in range(5)))
    index = b"".join(struct.pack(">qiq", *place, 0) for place in places[:3])

    class Growing(Replica):
        async def read_log(self, node: str, offset: int) -> LogPiece | None:
            return LogPiece(self.data[offset:], len(self.data), len(self.data))

    dump, lines = taken(Growing(data, {("lab", 0): index}), places[3][0], tmp_path)
    assert (dump.complete, dump.records, dump.end) == (True, 3, places[3][0])
    assert all(line["x"] for line in lines)


def test_of_an_index_that_cannot_be_read_nothing_is_said(tmp_path: Path) -> None:
    """That records are not in it would be a violation; nobody knows."""
    data, _ = log_of(("lab", 0, 0, b"0123abcd/1/0 ."))

    class Busy(Replica):
        async def indexed(self, status: NodeStatus) -> Collection[tuple[str, int]] | None:
            return None

    dump, lines = taken(Busy(data, {}), len(data), tmp_path)
    assert (dump.complete, dump.reason) == (False, "the queue index could not be read")
    assert [line["x"] for line in lines] == [None]


def test_a_dump_tells_the_digest_that_the_checkers_hold_its_file_against(tmp_path: Path) -> None:
    data, _ = log_of(("lab", 0, 0, b"0123abcd/1/0 ."))
    dump, _ = taken(Replica(data, {}), len(data), tmp_path)
    value = {"group": "broker-a", "node": "n", "file": "n.jsonl.zst", "begin": 0, "end": dump.end, "epochs": []}
    head = {"process": "lab", "type": "info"}
    meta = {**head, "index": 0, "time": 0, "f": "meta", "value": {"run": "r"}}
    for digest, usable in ((dump.digest, True), (dump.digest[::-1], False)):
        told = {**head, "index": 1, "time": 1, "f": "dump", "value": {**value, "complete": True, "digest": digest}}
        (tmp_path / "h.jsonl").write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in (meta, told)))
        (read,) = load_replicas(load_history(tmp_path / "h.jsonl"), tmp_path).dumps
        assert (read.problem is None, len(read)) == (usable, int(usable))


def test_a_damaged_log_is_dumped_up_to_the_damage(tmp_path: Path) -> None:
    """And the reason is kept."""
    data, places = log_of(*(("lab", 0, n, b"0123abcd/1/%d ." % n) for n in range(3)))
    broken = bytearray(data)
    broken[places[1][0] + 4] ^= 0xFF
    dump, lines = taken(Replica(bytes(broken), {("lab", 0): b""}), len(data), tmp_path)
    assert not dump.complete
    assert "garbage" in dump.reason
    assert len(lines) == 1


def test_a_record_that_never_comes_whole_ends_the_dump(tmp_path: Path) -> None:
    """The log ends in the middle of it, whatever the replica says; asking again would go on for ever."""
    data, places = log_of(*(("lab", 0, n, b"0123abcd/1/%d ." % n) for n in range(3)))
    dump, lines = taken(Replica(data[:-1], {("lab", 0): b""}), len(data), tmp_path)
    assert not dump.complete
    assert dump.reason == f"the record at offset {places[2][0]} could not be read whole"
    assert len(lines) == 2


def test_the_lab_goes_on_while_a_dump_is_cut_into_lines(tmp_path: Path) -> None:
    """Tens of thousands of records take seconds on a busy machine, and nobody else may go unasked meanwhile."""
    data, _ = log_of(("lab", 0, 0, b"0123abcd/1/0 ."))
    slow = SlowReading()

    class Slow(Replica):
        def entries(self, data: bytes, offset: int) -> Iterator[LogEntry]:
            for entry in plain_entries(data, offset):
                slow.last()
                yield entry

    replica = cast(System, Slow(data, {}))
    dump = slow.beside(dump_replica(replica, status(len(data)), "broker-a", tmp_path / "n.jsonl.zst"))
    assert (dump.complete, dump.records) == (True, 1)
