"""The histories of compare-and-set registers that Knossos keeps with its source, good and bad, brought when measured.

They are under the Eclipse Public License and are therefore not kept here. A release's source archive has them; a
machine that cannot reach it may name the folder of a checkout instead.
"""

from __future__ import annotations

import io
import tarfile
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from checkers.linearizability.encoding import ENCODERS
from checkers.linearizability.formats.read import read_operations, read_source
from checkers.linearizability.formats.source import Source
from checkers.linearizability.operations import NULL, Code, Operations

RELEASE: Final = "v0.3.15"
ARCHIVE: Final = f"https://github.com/jepsen-io/knossos/archive/refs/tags/{RELEASE}.tar.gz"
ARCHIVE_MAX: Final = 64 << 20
WAIT_S: Final = 20
FOLDER: Final = "data/cas-register"
_LABELS: Final = {"good": "valid", "bad": "invalid"}

Labelled = tuple[str, str, Operations]
"""Name, verdict that the folder states, and the operations."""


def histories(folder: Path | None) -> list[Labelled] | str:
    """Return the histories of a checkout, or of the release's archive; or one sentence why there are none."""
    try:
        found = list(_of_folder(folder) if folder is not None else _of_archive(_archive()))
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        where = ARCHIVE if folder is None else folder
        return f"{where} cannot be read ({error}); --knossos FOLDER takes a checkout of Knossos instead"
    return found or f"no history is in {FOLDER} of {ARCHIVE if folder is None else folder}"


def _archive() -> bytes:
    with urllib.request.urlopen(ARCHIVE, timeout=WAIT_S) as answer:
        data: bytes = answer.read(ARCHIVE_MAX + 1)
    if len(data) > ARCHIVE_MAX:
        raise OSError(f"it has more than {ARCHIVE_MAX >> 20} MiB")
    return data


def _of_folder(folder: Path) -> Iterator[Labelled]:
    for label, verdict in _LABELS.items():
        for path in sorted((folder / FOLDER / label).glob("*.edn")):
            if path.stat().st_size:
                yield from _labelled(path.stem, verdict, list(read_operations(path, "cas-register").operations))


def _of_archive(data: bytes) -> Iterator[Labelled]:
    """Read the files inside the archive; nothing is unpacked to disk."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for member in sorted(archive, key=lambda one: one.name):
            path = PurePosixPath(member.name)
            verdict = _LABELS.get(path.parent.name)
            if verdict is None or path.suffix != ".edn" or not str(path.parent.parent).endswith(FOLDER):
                continue
            file = archive.extractfile(member)
            text = b"" if file is None else file.read()
            if text:
                source = Source.of(iter([text]), path.name)
                yield from _labelled(path.stem, verdict, list(read_source(source, "cas-register").operations))


def _labelled(name: str, verdict: str, operations: list[object]) -> Iterator[Labelled]:
    """Yield the operations as Knossos takes them: a read of nil saw nothing. Some files have no operation at all."""
    ops = ENCODERS["cas-register"](operations, None)  # type: ignore[arg-type]
    assert ops.a is not None
    assert ops.b is not None
    kept = np.flatnonzero((ops.f != Code.READ) | (ops.a != NULL))
    if len(kept):
        yield (
            name,
            verdict,
            Operations(call=ops.call[kept], ret=ops.ret[kept], f=ops.f[kept], a=ops.a[kept], b=ops.b[kept]),
        )
