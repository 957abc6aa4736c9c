"""Dumps: everything one replica holds, read through its own interface, one line a record (D7)."""

import asyncio
import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO, Final

import zstandard

from lab.event import encode_line
from lab.merge import ZSTD_LEVEL
from lab.systems.log_entries import LogEntry
from lab.systems.system import NodeStatus, System
from lab.workloads.values import value_in
from nodes.dledger.records import SYSTEM_TOPIC, Lane, MarkerRecord, decode_control
from nodes.remoting.message import RecordError, decode_record
from nodes.remoting.record_check import check_record

INDEX_ENTRY: Final = struct.Struct(">qiq")
DIGEST_BYTES: Final = 8
FILE_DIGEST_BYTES: Final = 16
RETRY: Final = "%RETRY%"
DEAD: Final = "%DLQ%"


@dataclass(slots=True)
class Dump:
    """What one dump found, for the history's ``dump`` event and for the consumer groups' final state."""

    node: str
    begin: int
    end: int
    complete: bool
    reason: str = ""
    records: int = 0
    retry: dict[str, list[tuple[int, int, str]]] = field(default_factory=dict)  # group: (queue, offset, value)
    dead: dict[str, list[str]] = field(default_factory=dict)
    terms: list[tuple[int, str, int]] = field(default_factory=list)  # term, leader's id, start, as its markers say
    digest: str = ""  # of the file as it was written, so that what is judged is what was read


class Index:
    """Index entries of a replica's queues: where queue entry k of (topic, queue) points to."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, int], tuple[int, bytes]] = {}

    def put(self, topic: str, queue_id: int, begin: int, data: bytes) -> None:
        """Keep the entries of one queue, the first of which is number ``begin``."""
        self._entries[topic, queue_id] = (begin, data)

    def points_to(self, topic: str, queue_id: int, offset_queue: int) -> tuple[int, int] | None:
        """(log offset, size) of an entry; None if there is no such entry."""
        begin, data = self._entries.get((topic, queue_id), (0, b""))
        at = (offset_queue - begin) * INDEX_ENTRY.size
        if at < 0 or at + INDEX_ENTRY.size > len(data):
            return None
        offset_log, size, _ = INDEX_ENTRY.unpack_from(data, at)
        return offset_log, size


async def dump_replica(system: System, status: NodeStatus, group: str, path: Path) -> Dump:
    """Read the log of one replica up to the end that it told, and its index, into ``path``.

    Records that came later are left out: the index was read before them, and would seem to lack them. If something
    cannot be read, ``complete`` is False with a reason.
    """
    dump = Dump(status.node, status.begin, status.begin, complete=False)
    index = await _read_index(system, status)
    if index is None:
        dump.reason = "the queue index could not be read"
    with path.open("wb") as raw, zstandard.ZstdCompressor(level=ZSTD_LEVEL).stream_writer(raw) as out:
        await _copy_log(system, status, group, index, out, dump)
    dump.digest = await asyncio.to_thread(_file_digest, path)
    dump.complete = not dump.reason
    return dump


async def _copy_log(
    system: System, status: NodeStatus, group: str, index: Index | None, out: BinaryIO, dump: Dump
) -> None:
    """Write a line for each record; if the log cannot be read to its end, ``dump`` has the reason."""
    starts = [(start, number) for number, _, start in status.epochs]
    offset = status.begin
    while offset < status.end:
        piece = await system.read_log(status.node, offset)
        if piece is None or not piece.data:
            dump.reason = dump.reason or f"the log could not be read from offset {offset}"
            return
        entries = takewhile(lambda entry: entry.offset < status.end, system.entries(piece.data, offset))
        lines = lines_of(piece.data, entries, group, index, starts, dump)
        try:
            await asyncio.to_thread(_write, lines, out)  # thousands of records: the lab looks at others meanwhile
        except RecordError as error:
            dump.reason = f"garbage in the log after offset {dump.end}: {error}"
            return
        if dump.end <= offset:  # the piece holds no whole record, and the next one would not either
            dump.reason = f"the record at offset {offset} could not be read whole"
            return
        offset = dump.end


def _file_digest(path: Path) -> str:
    """The digest that checkers hold a dump file against."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=FILE_DIGEST_BYTES)).hexdigest()


def _write(lines: Iterable[Mapping[str, Any]], out: BinaryIO) -> None:
    for line in lines:
        out.write(encode_line(line) + b"\n")


def lines_of(
    data: bytes,
    entries: Iterable[LogEntry],
    group: str,
    index: Index | None,
    starts: list[tuple[int, int]],
    dump: Dump,
) -> Iterator[dict[str, Any]]:
    """One line for each entry of a piece of log.

    A record whose checksum does not hold is said to be so (``c``), and the walk goes on behind it. Without an index
    nothing is said of where it points (``x``). Raises RecordError at the first that cannot be a record.
    """
    for entry in entries:
        here, size = entry.offset, entry.size
        term = _term_of(entry, starts, dump)
        dump.end = here + size
        if entry.filler:
            yield {"o": here, "s": size, "d": "filler", "t": term, "q": None, "k": -1, "v": None, "x": True}
            continue
        at, end = entry.start + entry.head, entry.start + size
        place = (here + entry.head, size - entry.head)
        sound = True
        try:
            try:
                head = check_record(data, at, offset_log=place[0])
            except RecordError:
                head, sound = check_record(data, at, offset_log=place[0], check_crc=False), False
            message = decode_record(data, at)
        except RecordError:
            dump.end = here
            raise
        internal = message.topic == SYSTEM_TOPIC  # of the group itself: in no queue that anybody can read
        digest = hashlib.blake2b(data[entry.start : end], digest_size=DIGEST_BYTES).hexdigest()
        value = value_in(message.body) if sound else None
        _keep(dump, message.topic, head.queue_id, head.queue_offset, value)
        if internal and sound and head.queue_id == Lane.CONTROL:
            dump.terms += _marked(data[at:end], place[0])
        dump.records += 1
        yield {
            "o": here,
            "s": size,
            "d": digest,
            "t": term,
            "q": None if internal else f"{message.topic}/{group}/{head.queue_id}",
            "k": -1 if internal else head.queue_offset,
            "v": value,
            "x": internal
            or (None if index is None else index.points_to(message.topic, head.queue_id, head.queue_offset) == place),
            **({} if sound else {"c": False}),
        }


async def _read_index(system: System, status: NodeStatus) -> Index | None:
    queues = await system.indexed(status)
    if queues is None:
        return None
    index = Index()
    for topic, queue_id in queues:
        data = b""
        begin = offset = 0
        while True:
            answer = await system.read_index(status.node, topic, queue_id, offset)
            if answer is None:
                return None
            piece, low, high = answer
            if not data:
                begin = offset = max(offset, low)
            data += piece
            offset += len(piece) // INDEX_ENTRY.size
            if not piece or offset >= high:
                break
        index.put(topic, queue_id, begin, data)
    return index


def _marked(stored: bytes, offset: int) -> list[tuple[int, str, int]]:
    """The term that a control record of a group begins; nothing if it is of another kind."""
    try:
        record, _ = decode_control(stored)
    except ValueError as error:
        raise RecordError(f"at {offset}: {error}") from None
    return [(record.term, record.leader, record.start)] if isinstance(record, MarkerRecord) else []


def _term_of(entry: LogEntry, starts: list[tuple[int, int]], dump: Dump) -> int:
    """The term of an entry: by its own word, or by the table of epochs; a filler is of the term before it.

    A term that entries tell begins where its first one stands; who led it they do not tell.
    """
    if entry.term is not None:
        if not dump.terms or dump.terms[-1][0] != entry.term:
            dump.terms.append((entry.term, "", entry.offset))
        return entry.term
    if entry.filler and dump.terms and not starts:
        return dump.terms[-1][0]
    return _epoch_at(starts, entry.offset)


def _epoch_at(starts: list[tuple[int, int]], offset: int) -> int:
    found = 0
    for start, number in starts:
        if start > offset:
            break
        found = number
    return found


def _keep(dump: Dump, topic: str, queue_id: int, offset: int, value: str | None) -> None:
    if value is None:
        return
    if topic.startswith(RETRY):
        dump.retry.setdefault(topic[len(RETRY) :], []).append((queue_id, offset, value))
    elif topic.startswith(DEAD):
        dump.dead.setdefault(topic[len(DEAD) :], []).append(value)
