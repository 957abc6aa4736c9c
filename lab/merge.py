"""Journals become one history: sorted by time, an invocation before a completion at equal times, densely numbered."""

import heapq
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import zstandard

from lab.event import Event, encode_line
from lab.rundir import RunDir

ZSTD_LEVEL = 3


def read_journal(path: Path) -> Iterator[Event]:
    """The whole lines of a journal; an unfinished last line (its writer was killed) is left out."""
    decode = msgspec.json.Decoder(dict[str, object]).decode
    with path.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                return
            yield decode(line)


def merge(journals: Iterable[Iterable[Event]]) -> Iterator[Event]:
    """Merge journals, each sorted by time, into numbered events.

    The meta event comes first whatever its time, since readers of the history need it before anything else.
    """
    merged = heapq.merge(*journals, key=_order)
    for index, item in enumerate(merged):
        yield {"index": index, **item}


def _order(item: Event) -> tuple[bool, int, bool]:
    return item["f"] != "meta", item["time"], item["type"] != "invoke"


def write_history(path: Path, events: Iterable[Event]) -> int:
    """Write events as zstd-compressed JSON lines; returns how many."""
    count = 0
    with path.open("wb") as raw, zstandard.ZstdCompressor(level=ZSTD_LEVEL).stream_writer(raw) as out:
        for item in events:
            out.write(encode_line(item) + b"\n")
            count += 1
    return count


def merge_journals(folder: RunDir) -> int:
    """Merge the run's journals into its history; returns the number of events."""
    journals = [read_journal(path) for path in sorted(folder.journals.glob("*.jsonl"))]
    return write_history(folder.history, merge(journals))
