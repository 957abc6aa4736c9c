"""The bytes of a history file, whatever wraps them: plain, zstd or gzip, told apart by their first bytes.

Everything is read once, front to back, a piece at a time: a pipe serves as well as a file, and a compressed file that
would unfold to more than the memory never does.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
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

LINE_MAX: Final = 1 << 27
"""A line (or one EDN form) beyond this is refused: the drain of a queue fits, garbage without end does not."""

ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
GZIP_MAGIC: Final = b"\x1f\x8b"
BOM: Final = b"\xef\xbb\xbf"


class Broken(Exception):
    """The wrapping of a file is damaged; `truncated` tells a file that merely ends too early from a garbled one."""

    def __init__(self, reason: str, *, truncated: bool) -> None:
        super().__init__(reason)
        self.truncated = truncated


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """Yield the unwrapped bytes of a file, none of the pieces empty; raises `Broken` after all that came before."""
    head = file.read(PACKED_PIECE)
    if head.startswith(ZSTD_MAGIC):
        found = _gathered(_zstd(_packed(head, file)))
    elif head.startswith(GZIP_MAGIC):
        found = _gathered(_gzip(_packed(head, file)))
    else:
        found = _plain(head.removeprefix(BOM), file)
    return found


def _plain(head: bytes, file: BinaryIO) -> Iterator[bytes]:
    if head:
        yield head
    while piece := file.read(PIECE):
        yield piece


def _packed(head: bytes, file: BinaryIO) -> Iterator[bytes]:
    yield head
    while piece := file.read(PACKED_PIECE):
        yield piece


def _gathered(unfolded: Iterator[bytes]) -> Iterator[bytes]:
    """Yield larger pieces, and what there is before a damage: an empty one would be taken for the end of the file."""
    held: list[bytes] = []
    size = 0
    broken: Broken | None = None
    try:
        for piece in unfolded:
            held.append(piece)
            size += len(piece)
            if size >= PIECE:
                yield b"".join(held)
                held.clear()
                size = 0
    except Broken as error:
        broken = error
    if size:
        yield b"".join(held)
    if broken is not None:
        raise broken


def _zstd(packed: Iterator[bytes]) -> Iterator[bytes]:
    """Unfold all frames; zstd's own file reader ends silently in the middle of a frame, so frames are followed here."""
    frame = zstandard.ZstdDecompressor().decompressobj()
    inside = False
    for piece in packed:
        for start in range(0, len(piece), ZSTD_SIP):
            sip = piece[start : start + ZSTD_SIP]
            while sip:
                inside = True
                try:
                    yield frame.decompress(sip)
                except zstandard.ZstdError as error:
                    raise Broken(f"the zstd data is garbled ({error})", truncated=False) from None
                sip = b""
                if frame.eof:
                    sip = frame.unused_data
                    frame = zstandard.ZstdDecompressor().decompressobj()
                    inside = False
    if inside:
        raise Broken("the compressed file ends in the middle of a frame", truncated=True)


def _gzip(packed: Iterator[bytes]) -> Iterator[bytes]:
    member: Any = zlib.decompressobj(wbits=31)
    started = False
    for piece in packed:
        rest = piece
        while rest:
            started = True
            try:
                yield member.decompress(rest, GZIP_MAX)
            except zlib.error as error:
                raise Broken(f"the gzip data is garbled ({error})", truncated=False) from None
            rest = member.unconsumed_tail
            if member.eof:
                rest = member.unused_data.lstrip(b"\0")
                member = zlib.decompressobj(wbits=31)
                started = False
    if started:
        raise Broken("the compressed file ends in the middle", truncated=True)
