"""The modules of the hot path, compiled by mypyc where that was done (`bin/compile.py`), else as they stand.

The compiled modules lie in a folder of their own with a digest of every source of this package, and are used only while
that digest is the sources': a change of the sources is never without effect. `BROKERLAB_NODES=sources` leaves them out.

A module that defines a msgspec struct cannot be among them: mypyc drops the options of the class.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

__all__ = ["FOLDER", "MODULES", "SETTING", "SOURCES", "STAMP", "activate", "digest", "found"]

MODULES: Final = (
    "nodes.broker.acknowledgement",
    "nodes.broker.pipeline",
    "nodes.broker.send",
    "nodes.client.alarms",
    "nodes.client.exchange",
    "nodes.client.messages",
    "nodes.client.outcomes",
    "nodes.client.producer",
    "nodes.client.queues",
    "nodes.client.results",
    "nodes.client.selection",
    "nodes.remoting.client",
    "nodes.remoting.connection",
    "nodes.remoting.fastjson",
    "nodes.remoting.frame",
    "nodes.remoting.header",
    "nodes.remoting.message",
    "nodes.remoting.record_check",
    "nodes.remoting.server",
    "nodes.replication.frames",
    "nodes.replication.primary",
    "nodes.store.checkpoint",
    "nodes.store.commit_log",
    "nodes.store.consume_queue",
    "nodes.store.durable",
    "nodes.store.flawed",
    "nodes.store.key_index",
    "nodes.store.queue_set",
    "nodes.store.results",
    "nodes.store.store",
)
SETTING: Final = "BROKERLAB_NODES"
SOURCES: Final = "sources"
_PACKAGE: Final = Path(__file__).parent
FOLDER: Final = _PACKAGE / "_compiled"
STAMP: Final = FOLDER / "digest"
_SUFFIX: Final = EXTENSION_SUFFIXES[0]  # names the interpreter's version and the machine

COMPILED: Final = "compiled modules"


class _Compiled:
    """Finds the compiled modules and the library that they share."""

    def __init__(self, files: dict[str, str]) -> None:
        self._files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The place of a compiled module."""
        file = self._files.get(fullname)
        if file is None:
            return None
        return spec_from_file_location(fullname, file, loader=ExtensionFileLoader(fullname, file))


def digest() -> str:
    """Of every source of this package, and the interpreter that compiled modules must fit."""
    found = hashlib.blake2b(_SUFFIX.encode(), digest_size=16)
    paths = [f"{folder}/{name}" for folder, _, names in os.walk(_PACKAGE) for name in names if name.endswith(".py")]
    for path in sorted(paths):
        with open(path, "rb") as file:
            found.update(f"\n{path.removeprefix(str(_PACKAGE))}\n".encode())
            found.update(file.read())
    return found.hexdigest()


def found() -> str:
    """In words, what a process that starts now runs: the compiled modules or the sources, and why."""
    return _look()[0]


def activate() -> None:
    """From now on import compiled modules in place of their sources, if there are any that fit."""
    files = _look()[1]
    if files:
        sys.meta_path.insert(0, _Compiled(files))


def _look() -> tuple[str, dict[str, str]]:
    wanted = os.environ.get(SETTING, "")
    if wanted == SOURCES:
        return f"the sources: {SETTING}={SOURCES}", {}
    try:
        stamp = STAMP.read_text()
    except OSError:
        return "the sources: nothing is compiled (bin/setup does, where it finds a C compiler)", {}
    if stamp != digest():
        return "the sources: they have changed since they were compiled (bin/setup compiles them again)", {}
    files = {path.name.removesuffix(_SUFFIX): str(path) for path in FOLDER.iterdir() if path.name.endswith(_SUFFIX)}
    return COMPILED, files
