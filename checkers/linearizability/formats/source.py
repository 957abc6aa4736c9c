"""A history file as pieces, blocks of lines or lines, with what its readers need to say where something is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from checkers import wrapping
from checkers.wrapping import LINE_MAX, Broken


class FormatError(Exception):
    """A history that cannot be taken for what it is said to be. `line` counts from 1; 0 is the file as a whole."""

    def __init__(self, path: Path | str, line: int, reason: str) -> None:
        where = f"{path}, line {line}" if line else str(path)
        super().__init__(f"{where}: {reason}")
        self.path = str(path)
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a hostile file is held at once."""

    line: int = LINE_MAX
    depth: int = 200


def _file_pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from wrapping.pieces(file)


@dataclass(slots=True)
class Source:
    """A history file, opened once: its first lines can be looked at before anybody reads it."""

    path: Path
    limits: Limits
    _pieces: Iterator[bytes]
    _seen: list[bytes] = field(default_factory=list)
    line: int = 1
    """The line that is read now, for messages about the wrapping of the file."""
    file: bool = False
    """Whether the path is what is read."""

    @classmethod
    def open(cls, path: Path | str, limits: Limits | None = None) -> Source:
        """Open a file. Reading raises `FormatError` and `OSError`."""
        return cls(Path(path), limits or Limits(), _file_pieces(Path(path)), file=True)

    @classmethod
    def of(cls, pieces: Iterator[bytes], name: str, limits: Limits | None = None) -> Source:
        """Take the bytes from elsewhere; `name` stands for the path in messages."""
        return cls(Path(name), limits or Limits(), pieces)

    def again(self) -> Source | None:
        """Return the same file from its beginning; None where it can be read only once, as a pipe."""
        return Source.open(self.path, self.limits) if self.file and self.path.is_file() else None

    def error(self, line: int, reason: str) -> FormatError:
        """Return the error of a line."""
        return FormatError(self.path, line, reason)

    def head(self, size: int = 1 << 16) -> bytes:
        """Return the first bytes of the file, without using them up: `size` of them if there are so many."""
        while sum(map(len, self._seen)) < size and (piece := self._next()):
            self._seen.append(piece)
        return b"".join(self._seen)[:size]

    def pieces(self) -> Iterator[bytes]:
        """Yield all bytes, from the first on; once only. Raises `FormatError` where the wrapping breaks."""
        while piece := self._seen.pop(0) if self._seen else self._next():
            yield piece

    def _next(self) -> bytes:
        try:
            return next(self._pieces, b"")
        except Broken as error:
            raise self.error(self.line, f"{error}: copy it again") from None

    def blocks(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield (number of the first line, how many, whole lines); the last line of the file may lack its end.

        Raises `FormatError` at a line longer than the limit, before it is held.
        """
        rest: list[bytes] = []
        held = 0
        for piece in self.pieces():
            end = piece.rfind(b"\n") + 1
            if held + (piece.find(b"\n") if end else len(piece)) > self.limits.line:
                raise self.error(self.line, self.too_long("line"))
            if not end:
                rest.append(piece)
                held += len(piece)
                continue
            block = b"".join([*rest, piece[:end]])
            rest = [piece[end:]] if end < len(piece) else []
            held = len(piece) - end
            count = block.count(b"\n")
            yield self.line, count, block
            self.line += count
        if rest:
            yield self.line, 1, b"".join(rest)

    def too_long(self, what: str) -> str:
        """Say that a line or form passes the limit."""
        size = self.limits.line
        limit = f"{size >> 20} MiB" if size >= 1 << 20 else f"{size} bytes"
        return f"this {what} is longer than {limit}: it is no history, or its lines lost their ends"

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield (number, text) of every line, without its end. Raises `FormatError` where a line is not UTF-8."""
        for first, _, block in self.blocks():
            for number, line in enumerate(block.removesuffix(b"\n").split(b"\n"), first):
                try:
                    yield number, line.decode().rstrip("\r")
                except UnicodeDecodeError as error:
                    raise self.error(number, not_utf8(error)) from None


def not_utf8(error: UnicodeDecodeError) -> str:
    """Say which byte is wrong."""
    return f"not UTF-8 (byte 0x{error.object[error.start]:02x}): histories are UTF-8 text, plain or in zstd or gzip"
