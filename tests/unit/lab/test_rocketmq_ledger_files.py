"""DLedger's log as a release lays it out, made here byte by byte: an index, entries with terms, tails cut off."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lab.dump import Dump, Index, lines_of
from lab.systems.rocketmq.ledger_files import HEAD, INDEX, LedgerFiles, Vote, ledger_entries
from nodes.remoting.message import RecordError, encode_record, parse_host

HOST = parse_host("10.0.0.1", 10911)
FILE = 800
ROOM = 64  # entries of an index file


def entry(number: int, term: int, at: int, offset_queue: int, text: bytes = b"...") -> bytes:
    """A head and the record that says where it stands itself, which is behind the head."""
    body = encode_record(
        topic=b"lab",
        queue_id=0,
        queue_offset=offset_queue,
        offset_log=at + HEAD.size,
        body=b"0123abcd/1/%d " % offset_queue + text,
        born_host=HOST,
        store_timestamp=2,
        store_host=HOST,
    )
    return HEAD.pack(1, HEAD.size + len(body), number, term, at, 0, 0, 0, len(body)) + bytes(body)


class Ledger:
    """A member's files; `put` writes at the end, `cut` moves the end back and wipes nothing, as DLedger does."""

    def __init__(self, store: Path) -> None:
        self.root = store / "dledger-n1"
        for name in ("data", "index"):
            (self.root / name).mkdir(parents=True)
        (self.root / "index" / f"{0:020}").write_bytes(bytes(ROOM * INDEX.size))
        self.places: list[int] = []
        self.end = 0

    def put(self, *terms: int) -> Ledger:
        for term in terms:
            number = len(self.places)
            made = entry(number, term, self.end, number)
            if self.end % FILE + len(made) + 8 > FILE:
                rest = FILE - self.end % FILE
                self._write(self.end, (-1).to_bytes(4, "big", signed=True) + rest.to_bytes(4, "big"))
                self.end += rest
                made = entry(number, term, self.end, number)
            self._write(self.end, made)
            with (self.root / "index" / f"{0:020}").open("r+b") as index:
                index.seek(number * INDEX.size)
                index.write(INDEX.pack(1, self.end, len(made), number, term))
            self.places.append(self.end)
            self.end += len(made)
        return self

    def cut(self, number: int) -> Ledger:
        self.end = self.places[number]
        self.places = self.places[:number]
        return self

    def checkpoint(self, last: int, age_s: float) -> None:
        """Written so many seconds from now."""
        path = self.root / "checkpoint"
        path.write_text(f"#Sat Nov 28\nendIndex={last}\ncommittedIndex=0\n", encoding="utf-8")
        os.utime(path, (time.time() + age_s,) * 2)

    def _write(self, at: int, data: bytes) -> None:
        path = self.root / "data" / f"{at // FILE * FILE:020}"
        if not path.exists():
            path.write_bytes(bytes(FILE))
        with path.open("r+b") as file:
            file.seek(at % FILE)
            file.write(data)


def test_a_ledger_is_read_entry_by_entry_across_files(tmp_path: Path) -> None:
    """Each entry is a line with its own term, the rest of a file is one too, and the queue points behind the head."""
    ledger = Ledger(tmp_path).put(1, 1, 1, 3, 3, 4)
    files = LedgerFiles(tmp_path, "n1")
    end = files.end(ledger.end)
    assert end == ledger.end > FILE
    index = Index()
    sizes = [HEAD.unpack((ledger.root / "data" / f"{at // FILE * FILE:020}").read_bytes()[at % FILE :][: HEAD.size])[1]
             for at in ledger.places]  # fmt: skip
    queue = b"".join((at + 48).to_bytes(8, "big") + (size - 48).to_bytes(4, "big") + bytes(8)
                     for at, size in zip(ledger.places, sizes, strict=True))  # fmt: skip
    index.put("lab", 0, 0, queue)
    dump = Dump("broker-a-1", 0, 0, complete=False)
    lines = []
    while dump.end < end:
        piece = files.read_log(dump.end, end)
        assert piece is not None
        assert piece.data
        lines += list(lines_of(piece.data, ledger_entries(piece.data, dump.end), "broker-a", index, [], dump))
    assert dump.end == end
    told = [line for line in lines if line["d"] != "filler"]
    assert [line["o"] for line in told] == ledger.places
    assert [line["t"] for line in told] == [1, 1, 1, 3, 3, 4]
    assert [line["x"] for line in told] == [True] * 6
    assert all(one["o"] + one["s"] == two["o"] for one, two in pairwise(lines))
    assert dump.terms == [(1, "", 0), (3, "", ledger.places[3]), (4, "", ledger.places[5])]
    assert files.queues == {"lab@0": {"min": 0, "max": 6}}


def test_only_what_is_committed_is_counted_in_its_queue(tmp_path: Path) -> None:
    """The end goes further than the queues, and what is committed later is counted then."""
    ledger = Ledger(tmp_path).put(1, 1, 1)
    files = LedgerFiles(tmp_path, "n1")
    assert files.end(ledger.places[2]) == ledger.end
    assert files.queues["lab@0"]["max"] == 2
    ledger.put(1)
    assert files.end(ledger.end) == ledger.end
    assert files.queues["lab@0"]["max"] == 4


def test_catching_up_reads_files_and_not_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that was away counts all that it lacked at one look: opening its files once an entry took seconds."""
    ledger = Ledger(tmp_path).put(*[1] * 60)
    files = LedgerFiles(tmp_path, "n1")
    opened: list[Path] = []
    real = Path.open

    def open_(path: Path, *args: Any, **kwargs: Any) -> Any:
        opened.append(path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_)
    assert files.end(ledger.end) == ledger.end
    assert files.queues == {"lab@0": {"min": 0, "max": 60}}
    data = [path for path in opened if path.parent.name == "data"]
    assert len(data) == len(set(data)) == len(list((ledger.root / "data").iterdir())) < 60


def test_what_is_committed_later_is_read_when_it_is(tmp_path: Path) -> None:
    """An entry that was not committed at the last look may have been replaced by another of the same size since."""
    ledger = Ledger(tmp_path).put(1, 1)
    files = LedgerFiles(tmp_path, "n1")
    assert files.end(ledger.places[1]) == ledger.end
    place = ledger.places[1]
    other = entry(1, 2, place, 41)
    ledger.cut(1)
    ledger._write(place, other)
    with (ledger.root / "index" / f"{0:020}").open("r+b") as index:
        index.seek(INDEX.size)
        index.write(INDEX.pack(1, place, len(other), 1, 2))
    assert files.look(place + len(other)).queues == {"lab@0": {"min": 0, "max": 42}}


def test_a_tail_of_an_older_term_is_no_part_of_the_log(tmp_path: Path) -> None:
    """A follower was cut back and got entries of the next term; behind them the old ones still stand."""
    ledger = Ledger(tmp_path).put(1, 1, 2, 2, 2, 2).cut(2).put(3)
    assert LedgerFiles(tmp_path, "n1").end(0) == ledger.end


def test_a_tail_without_a_successor_is_known_by_the_checkpoint_alone(tmp_path: Path) -> None:
    """Cut back, and nothing follows: a checkpoint that is younger than the tail says so, one that is older does not."""
    ledger = Ledger(tmp_path).put(1, 1, 1, 1)
    whole, files = ledger.end, LedgerFiles(tmp_path, "n1")
    assert files.end(0) == whole
    ledger.cut(2)
    ledger.checkpoint(1, -60)
    assert files.end(0) == whole
    ledger.checkpoint(1, 60)
    assert files.end(0) == ledger.end
    assert files.end(0) == ledger.end, "and goes on saying so"
    ledger.put(1, 1, 1)
    assert files.end(0) == ledger.places[2], "the same bytes in the same place may be either: a checkpoint must tell"
    ledger.checkpoint(4, 120)
    assert files.end(0) == ledger.end


def test_a_member_with_a_new_store_begins_anew(tmp_path: Path) -> None:
    """Its disk was lost, and it came back empty: what was walked before counts for nothing."""
    ledger = Ledger(tmp_path).put(1, 1, 1)
    files = LedgerFiles(tmp_path, "n1")
    assert files.end(ledger.end) == ledger.end
    other = Ledger(tmp_path / "other").put(2)
    (ledger.root / "data" / f"{0:020}").write_bytes((other.root / "data" / f"{0:020}").read_bytes())
    (ledger.root / "index" / f"{0:020}").write_bytes((other.root / "index" / f"{0:020}").read_bytes())
    assert files.end(other.end) == other.end
    assert files.queues == {"lab@0": {"min": 0, "max": 1}}


def test_a_store_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    files = LedgerFiles(tmp_path, "n1")
    assert (files.end(0), files.vote(), files.queues, files.read_log(0, 10)) == (0, None, {}, None)


def test_term_and_vote_are_those_of_the_file(tmp_path: Path) -> None:
    """An empty vote is none, and a file that is half written tells nothing."""
    root = Ledger(tmp_path).root
    files = LedgerFiles(tmp_path, "n1")
    for text, vote in (
        ("voteLeader=n2\ncurrTerm=7\n", Vote(7, "n2")),
        ("#Sat\nvoteLeader=\ncurrTerm=7\n", Vote(7, None)),
        ("voteLeader=n2\ncurr", None),
    ):
        (root / "currterm").write_text(text, encoding="utf-8")
        assert files.vote() == vote


@pytest.mark.parametrize(
    ("at", "what"),
    [(0, "magic"), (4, "size"), (24, "stands at"), (44, "bytes")],
)
def test_damage_of_a_head_is_found(at: int, what: str) -> None:
    """Planted: one field of a head is wrong."""
    data = bytearray(entry(0, 1, 0, 0) + entry(1, 1, 300, 1))
    data[at : at + 4] = b"\x7f\x00\x00\x01"
    with pytest.raises(RecordError, match=what):
        list(ledger_entries(bytes(data), 0))


def test_an_entry_that_is_cut_off_is_left_for_the_next_piece() -> None:
    data = entry(0, 1, 0, 0)
    assert [one.offset for one in ledger_entries(data + entry(1, 1, len(data), 1)[:-1], 0)] == [0]
