"""Journals become one history: sorted by time, an invocation before a completion at equal times, densely numbered."""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec
import zstandard

from lab.errors import SetupError
from lab.event import Event, encode_line
from lab.rundir import RunDir

ZSTD_LEVEL = 3


def read_journal(path: Path) -> Iterator[Event]:
    """The whole lines of a journal; an unfinished last line (its writer was killed) is left out.

    Raises SetupError for a line that no writer wrote: the recording was damaged.
    """
    decode = msgspec.json.Decoder(dict[str, object]).decode
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise _damaged(f"line {number} of {path} is no event ({error})") from None


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
    """Write events as zstd-compressed JSON lines; returns how many. The file appears when it is whole."""
    count = 0
    beside = path.with_name(f"{path.name}.new")
    with beside.open("wb") as raw, zstandard.ZstdCompressor(level=ZSTD_LEVEL).stream_writer(raw) as out:
        for item in events:
            out.write(encode_line(item) + b"\n")
            count += 1
    beside.replace(path)
    return count


def merge_journals(folder: RunDir, sizes: Mapping[str, int]) -> int:
    """Merge the run's journals into its history; returns the number of events.

    ``sizes`` are the bytes that their writers have written, as far as they told. Raises SetupError if a journal has
    less: what is missing would be laid to the cluster.
    """
    for writer, written in sizes.items():
        path = folder.journal(writer)
        found = path.stat().st_size if path.exists() else None
        if found is None or found < written:
            has = "is gone" if found is None else f"has {found} bytes"
            raise _damaged(f"{path} {has}, and {written} were written to it")
    journals = [read_journal(path) for path in sorted(folder.journals.glob("*.jsonl"))]
    return write_history(folder.history, merge(journals))


def merge_again(folder: RunDir) -> int:
    """Merge the journals of a run that ended before it did so itself, killed for example.

    Raises SetupError for damaged journals, FileNotFoundError where there are none of the lab or none of clients.
    """
    if {folder.journal("lab")} == set(folder.journals.glob("*.jsonl")) or not folder.journal("lab").exists():
        raise FileNotFoundError(folder.journals)
    sizes: dict[str, int] = {}
    if folder.written.exists():
        try:
            sizes = msgspec.json.decode(folder.written.read_bytes(), type=dict[str, int])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _damaged(f"{folder.written} holds no sizes of journals ({error})") from None
    return merge_journals(folder, sizes)


def _damaged(what: str) -> SetupError:
    return SetupError(
        f"the recording is damaged: {what}; something other than the lab changed the run's folder, so nothing was "
        "judged: run again"
    )
