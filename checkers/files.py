"""History files: JSON lines in UTF-8, read and written as a stream; written plain or in zstd frames, read in gzip too.

A reader never holds more than one block of lines; a writer hands every whole line to the file at `flush`, so a lab
that dies leaves a prefix that can still be read.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, TypeAlias, TypeVar

import msgspec
import zstandard

from checkers.event import Event, HistoryError
from checkers.wrapping import LINE_MAX, Broken, pieces

ZSTD_LEVEL: Final = 3

Line = TypeVar("Line")


def compressed(path: Path) -> bool:
    """Tell whether a history file is kept in zstd frames, by its name."""
    return path.suffix in {".zst", ".zstd"}


Take: TypeAlias = Callable[[bytes, int], tuple[int, int]]
"""Takes the next lines of a block from a byte on, as far as they are plain: how many, and the byte they end at."""


def read_lines(path: Path, decoder: msgspec.json.Decoder[Line], take: Take | None = None) -> Iterator[list[Line]]:
    """Yield the decoded lines of a plain or compressed JSON-lines file (zstd or gzip, by its first bytes) in blocks.

    Lines that `take` takes are not yielded; it is asked for what comes next whenever the caller has dealt with what was
    yielded, so that together they see all lines in order. Every whole line before a damage is dealt with first; then
    `HistoryError` is raised. `OSError` passes through.
    """
    count = held = 0
    parts: list[bytes] = []  # of the line that is not whole yet
    with path.open("rb") as file:
        chunks = pieces(file)
        cut: Broken | None = None
        while cut is None:
            try:
                chunk = next(chunks)
            except StopIteration:
                break
            except Broken as reason:
                cut = reason
                continue
            end = chunk.rfind(b"\n")
            if end < 0:
                parts.append(chunk)
                held += len(chunk)
                if held > LINE_MAX:
                    raise HistoryError(
                        str(path),
                        count + 1,
                        f"a line of more than {LINE_MAX} bytes",
                        events_read=count,
                        truncated=False,
                    )
                continue
            block = b"".join((*parts, chunk[: end + 1]))
            parts = [chunk[end + 1 :]]
            held = len(parts[0])
            count += yield from decoded(path, block, decoder, take, count)
    if cut is not None:
        raise HistoryError(str(path), count + 1, str(cut), events_read=count, truncated=cut.truncated)
    if any(part.strip() for part in parts):
        raise HistoryError(str(path), count + 1, "the last line has no end", events_read=count, truncated=True)


_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def decoded(
    path: Path, block: bytes, decoder: msgspec.json.Decoder[Line], take: Take | None, before: int
) -> Generator[list[Line], None, int]:
    """Yield the decoded lines of a block of whole lines that `take` does not take, and return how many lines it has.

    `before` lines were before it. Raises `HistoryError` at a line that cannot be decoded, after those before it.
    """
    count = at = 0
    while take is not None:
        taken, at = take(block, at)
        count += taken
        if at == len(block):
            return count
        end = block.index(b"\n", at) + 1
        try:
            line = decoder.decode(block[at:end])
        except _UNREADABLE:
            break  # blank, damaged, or an object over several lines
        yield [line]
        count += 1
        at = end
    rest = block[at:] if at else block
    try:
        lines = decoder.decode_lines(rest)
    except _UNREADABLE:
        yield from _one_by_one(path, rest, decoder, before + count)
        raise AssertionError("a block that failed as a whole must fail line by line") from None
    yield lines
    return count + len(lines)


def _one_by_one(path: Path, block: bytes, decoder: msgspec.json.Decoder[Line], count: int) -> Iterator[list[Line]]:
    """Find the line of a block that does not decode; yield those before it and raise."""
    good: list[Line] = []
    for line in block.split(b"\n"):
        try:
            if line.strip():
                good.append(decoder.decode(line))
        except _UNREADABLE as error:
            if good:
                yield good
            number = count + len(good)
            reason = f"not an event ({error})"
            if isinstance(error, UnicodeDecodeError):
                reason = "not UTF-8 text"
            elif isinstance(error, RecursionError):
                reason = "a value is nested too deeply"
            raise HistoryError(str(path), number + 1, reason, events_read=number, truncated=False) from error


def read_events(path: Path | str) -> Iterator[Event]:
    """Yield the events of a history file (`.jsonl` or `.jsonl.zst`) in order, in constant memory.

    Raises `HistoryError` at the first damaged line, after all events before it, and `OSError` if there is no file.
    """
    decoder = msgspec.json.Decoder(Event)
    for block in read_lines(Path(path), decoder):
        yield from block


def encode_event(event: Event) -> bytes:
    """Encode one event as one line, with its line end."""
    return msgspec.json.encode(event) + b"\n"


class LineWriter:
    """Writes JSON lines to a file, compressed if its name ends in `.zst`.

    Use it as a context manager, or call `close`; `flush` makes everything written so far readable by others.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._encoder = msgspec.json.Encoder()
        self._file: BinaryIO = self.path.open("wb")
        self._frame: Any = None
        if compressed(self.path):
            self._frame = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compressobj()

    def write(self, line: object) -> None:
        """Append one line: an `Event`, a dict, or anything else that JSON can hold."""
        self._put(self._encoder.encode(line) + b"\n")

    def write_all(self, lines: Iterable[object]) -> None:
        """Append many lines."""
        for line in lines:
            self.write(line)

    def _put(self, data: bytes) -> None:
        self._file.write(self._frame.compress(data) if self._frame is not None else data)

    def flush(self) -> None:
        """Hand all whole lines to the operating system."""
        if self._frame is not None:
            self._file.write(self._frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
        self._file.flush()

    def close(self) -> None:
        """End the file; a second call does nothing."""
        if self._file.closed:
            return
        if self._frame is not None:
            self._file.write(self._frame.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH))
            self._frame = None
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class HistoryWriter(LineWriter):
    """Writes the events of a history, numbering them densely from 0 in the order of the calls.

    Give the events in order of time, an invocation before a completion of the same instant.
    """

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        self.count = 0

    def append(self, event: Event) -> int:
        """Write one event under the next index, which is also set on the event, and return that index."""
        event.index = self.count
        self.count += 1
        self.write(event)
        return event.index
