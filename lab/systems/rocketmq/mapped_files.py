"""Folders of files that a broker maps and shares, so that a plain read sees what it wrote; zeros fill them ahead.

A file is named by the offset of its first byte, and no entry goes on in the next one.
Sources: RocketMQ class MappedFileQueue, DLedger class MmapFileList.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

PIECE: Final = 4 * 1024 * 1024
ENTRY_MAX: Final = 32 * 1024 * 1024
FRONT: Final = 8  # bytes of an entry that tell its size


def files_of(folder: Path) -> Mapping[int, Path]:
    """Files by the offset that their names tell; none if there is no such folder."""
    try:
        return {int(path.name): path for path in folder.iterdir() if path.name.isdigit()}
    except OSError:
        return {}


def file_of(folder: Path, offset: int) -> tuple[int, Path, int] | None:
    """(first offset, path, size) of the file that holds an offset."""
    for start, path in files_of(folder).items():
        size = path.stat().st_size
        if start <= offset < start + size:
            return start, path, size
    return None


def read_piece(folder: Path, offset: int, end: int, size_of: Callable[[bytes], int]) -> bytes | None:
    """At most `PIECE` bytes from ``offset`` on and below ``end``, of one file; None if no file holds that place.

    An entry that is longer comes whole: ``size_of`` reads its size off its first `FRONT` bytes.
    """
    found = file_of(folder, offset)
    if found is None:
        return None
    start, path, size = found
    most = max(0, min(end, start + size) - offset)
    with path.open("rb") as file:
        file.seek(offset - start)
        data = file.read(min(PIECE, most))
        first = size_of(data) if len(data) >= FRONT else 0
        if len(data) < first <= min(ENTRY_MAX, most):
            data += file.read(first - len(data))
    return data
