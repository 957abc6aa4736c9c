"""The bytes of a history file, whatever wraps them: plain, zstd or gzip, told apart by their first bytes.

Everything is read once, front to back, a piece at a time: a pipe serves as well as a file, and a compressed file that
would unfold to more than the memory never does.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import zstandard

PIECE: Final = 1 << 18
"""Bytes taken from the file at a time; what is decoded at once should fit the processor's cache."""

PACKED_PIECE: Final = 1 << 14
"""Compressed bytes taken from the file at a time."""

ZSTD_SIP: Final = 1 << 10
"""Compressed bytes unfolded at a time: four bytes of zstd can mean 128 KiB, so this much means at most 32 MiB."""

GZIP_MAX: Final = 1 << 18
"""How far gzip unfolds at once."""

LINE_MAX: Final = 32 << 20
"""A line (or one EDN form) beyond this is refused: a drain of a million values fits, garbage without end does not."""

ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
GZIP_MAGIC: Final = b"\x1f\x8b"
BOM: Final = b"\xef\xbb\xbf"


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


class _Broken(Exception):
    """The wrapping of the file is damaged: the text is the reason."""


def _file_pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from _unwrapped(file)


def _unwrapped(file: BinaryIO) -> Iterator[bytes]:
    head = file.read(PACKED_PIECE)
    if head.startswith(ZSTD_MAGIC):
        yield from _zstd(head, file)
    elif head.startswith(GZIP_MAGIC):
        yield from _gzip(head, file)
    elif head:
        yield head.removeprefix(BOM)
        while piece := file.read(PIECE):
            yield piece


def _packed(head: bytes, file: BinaryIO) -> Iterator[bytes]:
    yield head
    while piece := file.read(PACKED_PIECE):
        yield piece


def _zstd(head: bytes, file: BinaryIO) -> Iterator[bytes]:
    """Unfold all frames; zstd's own file reader ends silently in the middle of a frame, so frames are followed here."""
    frame = zstandard.ZstdDecompressor().decompressobj()
    inside = False
    full: list[bytes] = []
    for packed in _packed(head, file):
        for start in range(0, len(packed), ZSTD_SIP):
            sip = packed[start : start + ZSTD_SIP]
            while sip:
                inside = True
                try:
                    full.append(frame.decompress(sip))
                except zstandard.ZstdError as error:
                    raise _Broken(f"the zstd data is garbled ({error}): copy the file again") from None
                sip = b""
                if frame.eof:
                    sip = frame.unused_data
                    frame = zstandard.ZstdDecompressor().decompressobj()
                    inside = False
            if sum(map(len, full)) >= PIECE:
                yield b"".join(full)
                full.clear()
    if full:
        yield b"".join(full)
    if inside:
        raise _Broken("the compressed file ends in the middle of a frame: copy it again")


def _gzip(head: bytes, file: BinaryIO) -> Iterator[bytes]:
    member: Any = zlib.decompressobj(wbits=31)
    started = False
    for piece in _packed(head, file):
        rest = piece
        while rest:
            started = True
            try:
                unfolded = member.decompress(rest, GZIP_MAX)
            except zlib.error as error:
                raise _Broken(f"the gzip data is garbled ({error}): copy the file again") from None
            if unfolded:
                yield unfolded
            rest = member.unconsumed_tail
            if member.eof:
                rest = member.unused_data.lstrip(b"\0")
                member = zlib.decompressobj(wbits=31)
                started = False
    if started:
        raise _Broken("the compressed file ends in the middle: copy it again")


@dataclass(slots=True)
class Source:
    """A history file, opened once: its first lines can be looked at before anybody reads it."""

    path: Path
    limits: Limits
    _pieces: Iterator[bytes]
    _seen: list[bytes] = field(default_factory=list)
    line: int = 1
    """The line that is read now, for messages about the wrapping of the file."""

    @classmethod
    def open(cls, path: Path | str, limits: Limits | None = None) -> Source:
        """Open a file. Reading raises `FormatError` and `OSError`."""
        return cls(Path(path), limits or Limits(), _file_pieces(Path(path)))

    @classmethod
    def of(cls, pieces: Iterator[bytes], name: str, limits: Limits | None = None) -> Source:
        """Take the bytes from elsewhere; `name` stands for the path in messages."""
        return cls(Path(name), limits or Limits(), pieces)

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
        except _Broken as error:
            raise self.error(self.line, str(error)) from None

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
