"""A disk that forgets everything that was not synced.

It keeps a whole file system in memory, twice: as the process sees it, and as it is on stable storage. Contents become
stable by a sync of the file, names (created, renamed, removed) by a sync of the folder; a sync covers what was done
before it was called and nothing that happens while it runs. `crash_at` cuts the power before the n-th operation that
changes or syncs anything; `survivor` is the disk that the next process finds: what was synced, and of the rest
whatever a real disk may have kept (`Keep`), drawn from a seed.

A sync can also be made to fail. Then, as with Linux page caches, the bytes look written and are not: only writing them
again can save them.
"""

from __future__ import annotations

import asyncio
import errno
import posixpath
import random
from collections.abc import Callable, Sequence
from enum import Enum

from nodes.store.disk import DiskLocked, File

SECTOR = 64
"""Bytes that reach stable storage together; small, so that small records are torn too."""


class Crash(BaseException):
    """The power is gone. No ordinary handler may catch it."""


class Keep(Enum):
    """What stable storage holds of work that was never synced."""

    NOTHING = "nothing"
    EVERYTHING = "everything"
    PREFIX = "prefix"
    """The first operations, the last one of them torn."""
    ZEROS = "zeros"
    """Lengths, but not contents: a tail of zeros."""
    SCATTERED = "scattered"
    """Any sectors, and of the names any that do not depend on each other."""


class _Inode:
    """A file's contents: as seen, as stable, and the operations between them."""

    def __init__(self, stable: bytes = b"") -> None:
        self.stable = bytearray(stable)
        self.seen = bytearray(stable)
        self.pending: list[tuple[int, bytes | None]] = []
        """(offset, data) of a write, (size, None) of a truncation."""

    def do(self, offset: int, data: bytes | None) -> None:
        _apply(self.seen, offset, data)
        self.pending.append((offset, data))

    def settle(self, count: int) -> None:
        for offset, data in self.pending[:count]:
            _apply(self.stable, offset, data)
        del self.pending[:count]

    def forget_errors(self, count: int) -> None:
        """A failed sync: these operations will never reach stable storage, and nobody will be told again."""
        del self.pending[:count]

    def surviving(self, keep: Keep, rng: random.Random) -> bytes:
        content = bytearray(self.stable)
        if keep is Keep.EVERYTHING:
            for offset, data in self.pending:
                _apply(content, offset, data)
        elif keep is Keep.PREFIX and self.pending:
            last = rng.randrange(len(self.pending) + 1)
            for offset, data in self.pending[:last]:
                _apply(content, offset, data)
            if last < len(self.pending):
                offset, data = self.pending[last]
                if data is not None:
                    _apply(content, offset, data[: rng.randrange(len(data) + 1)])
        elif keep is Keep.ZEROS:
            for offset, data in self.pending:
                if data is None:
                    _apply(content, offset, None)
                elif offset + len(data) > len(content):
                    _apply(content, offset + len(data), None)
        elif keep is Keep.SCATTERED:
            for offset, data in self.pending:
                if data is None:
                    _apply(content, offset, None)
                    continue
                position = 0
                while position < len(data):
                    stop = min(len(data), position + SECTOR - (offset + position) % SECTOR)
                    if rng.random() < 0.5:
                        _apply(content, offset + position, data[position:stop])
                    position = stop
        return bytes(content)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        if offset < len(content):
            del content[offset:]
        else:
            content.extend(bytes(offset - len(content)))
        return
    if not data:
        return
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class _Folder:
    """Names: as seen, as stable, and the changes between them (one rename is one change of two names)."""

    def __init__(self) -> None:
        self.stable: dict[str, _Inode | _Folder] = {}
        self.seen: dict[str, _Inode | _Folder] = {}
        self.pending: list[list[tuple[str, _Inode | _Folder | None]]] = []

    def do(self, *changes: tuple[str, _Inode | _Folder | None]) -> None:
        _rename(self.seen, changes)
        self.pending.append(list(changes))

    def settle(self) -> None:
        for changes in self.pending:
            _rename(self.stable, changes)
        self.pending.clear()

    def surviving(self, keep: Keep, rng: random.Random) -> dict[str, _Inode | _Folder]:
        names = dict(self.stable)
        count = {Keep.NOTHING: 0, Keep.EVERYTHING: len(self.pending)}.get(keep, rng.randrange(len(self.pending) + 1))
        if keep is Keep.ZEROS:
            count = len(self.pending)
        for changes in self.pending[:count]:
            _rename(names, changes)
        return names


def _rename(names: dict[str, _Inode | _Folder], changes: Sequence[tuple[str, _Inode | _Folder | None]]) -> None:
    for name, node in changes:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class ForgetfulFile:
    """An open file of a `ForgetfulDisk`."""

    def __init__(self, disk: ForgetfulDisk, inode: _Inode, path: str) -> None:
        self._disk = disk
        self._inode = inode
        self.path = path
        self._open = True

    def _check(self) -> None:
        if not self._open:
            raise OSError(errno.EBADF, "file is closed", self.path)

    def pread(self, offset: int, size: int) -> bytes:
        self._check()
        self._disk.alive()
        return bytes(self._inode.seen[offset : offset + size])

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._check()
        copy = bytes(data)
        # a crash during a write may leave a part of it
        self._disk.step(f"write {self.path}", lambda: self._inode.do(offset, copy))
        self._disk.fail_if_told("write", self.path)
        self._inode.do(offset, copy)

    def size(self) -> int:
        self._check()
        self._disk.alive()
        return len(self._inode.seen)

    def truncate(self, size: int) -> None:
        self._check()
        self._disk.step(f"truncate {self.path}", lambda: self._inode.do(size, None))
        self._inode.do(size, None)

    def fsync(self) -> None:
        self._check()
        self._disk.sync_inode(self._inode, len(self._inode.pending), self.path)

    def pending(self) -> int:
        """Operations that a sync called now would cover."""
        return len(self._inode.pending)

    def sync_first(self, count: int) -> None:
        """Make the first `count` pending operations stable."""
        self._check()
        self._disk.sync_inode(self._inode, count, self.path)

    def close(self) -> None:
        self._open = False


class _Work:
    """Something a worker thread of a real disk would do."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action
        self._done = False
        self.error: OSError | None = None

    def finish(self) -> None:
        if not self._done:
            self._done = True
            try:
                self._action()
            except OSError as error:
                self.error = error


class ForgetfulDisk:
    """See the module's docstring. `steps` counts, and `trace` names, the operations so far."""

    def __init__(self, *, crash_at: int | None = None) -> None:
        self._root = _Folder()
        self._locks: set[str] = set()
        self.crash_at = crash_at
        self.steps = 0
        self.trace: list[str] = []
        self.crashed = False
        self.used = 0.1
        self._under_way: list[_Work] = []
        self._failures: list[tuple[str, str]] = []

    # ---- power and errors ------------------------------------------------------------------------------------------

    def alive(self) -> None:
        if self.crashed:
            raise Crash

    def step(self, what: str, in_flight: object = None) -> None:
        """Count an operation; if it is the one, cut the power while it is in flight."""
        self.alive()
        if self.crash_at is not None and self.steps >= self.crash_at:
            self.crashed = True
            if callable(in_flight):
                in_flight()
            raise Crash(what)
        self.steps += 1
        self.trace.append(what)

    def cut_power(self) -> None:
        """From now on every operation raises Crash."""
        self.crashed = True

    def fail_once(self, operation: str, path_part: str) -> None:
        """Let the next `write` or `sync` of a path that contains `path_part` fail with EIO."""
        self._failures.append((operation, path_part))

    def fail_if_told(self, operation: str, path: str) -> bool:
        for failure in self._failures:
            if failure[0] == operation and failure[1] in path:
                self._failures.remove(failure)
                raise OSError(errno.EIO, "injected", path)
        return False

    def kill(self) -> None:
        """The process dies and the machine lives on: locks go, everything written stays."""
        self._locks.clear()

    def survivor(self, keep: Keep, seed: int = 0) -> ForgetfulDisk:
        """The disk that is found after a power loss."""
        rng = random.Random(seed)
        found = ForgetfulDisk()
        copies: dict[int, _Inode] = {}

        def copy(folder: _Folder, target: _Folder) -> None:
            for name, node in sorted(folder.surviving(keep, rng).items()):
                if isinstance(node, _Folder):
                    child = _Folder()
                    copy(node, child)
                    target.stable[name] = target.seen[name] = child
                else:
                    if id(node) not in copies:
                        copies[id(node)] = _Inode(node.surviving(keep, rng))
                    target.stable[name] = target.seen[name] = copies[id(node)]

        copy(self._root, found._root)
        return found

    def sync_inode(self, inode: _Inode, count: int, path: str) -> None:
        """Make the first `count` pending operations of a file stable, or lose them if told to fail."""
        self.step(f"sync {path}")
        try:
            self.fail_if_told("sync", path)
        except OSError:
            inode.forget_errors(count)
            raise
        inode.settle(count)

    # ---- Disk ------------------------------------------------------------------------------------------------------

    def _find(self, path: str) -> _Inode | _Folder | None:
        node: _Inode | _Folder | None = self._root
        for part in _parts(path):
            if not isinstance(node, _Folder):
                return None
            node = node.seen.get(part)
        return node

    def _parent(self, path: str) -> tuple[_Folder, str]:
        parts = _parts(path)
        node = self._find("/".join(parts[:-1]))
        if not isinstance(node, _Folder):
            raise FileNotFoundError(errno.ENOENT, "no such folder", path)
        return node, parts[-1]

    def open(self, path: str, create: bool = False) -> ForgetfulFile:
        self.alive()
        node = self._find(path)
        if isinstance(node, _Folder):
            raise IsADirectoryError(errno.EISDIR, "is a folder", path)
        if node is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            folder, name = self._parent(path)
            self.step(f"create {path}")
            node = _Inode()
            folder.do((name, node))
        return ForgetfulFile(self, node, path)

    def exists(self, path: str) -> bool:
        self.alive()
        return self._find(path) is not None

    def isdir(self, path: str) -> bool:
        self.alive()
        return isinstance(self._find(path), _Folder)

    def listdir(self, path: str) -> list[str]:
        self.alive()
        node = self._find(path)
        if not isinstance(node, _Folder):
            raise FileNotFoundError(errno.ENOENT, "no such folder", path)
        return sorted(node.seen)

    def makedirs(self, path: str, durable: bool = True) -> None:
        folder = self._root
        for part in _parts(path):
            child = folder.seen.get(part)
            if child is None:
                self.step(f"mkdir {path}")
                child = _Folder()
                folder.do((part, child))
                if durable:
                    self.step(f"sync folder of {path}")
                    folder.settle()
            if not isinstance(child, _Folder):
                raise NotADirectoryError(errno.ENOTDIR, "a file is in the way", path)
            folder = child

    def rename(self, source: str, target: str) -> None:
        if posixpath.dirname(source) != posixpath.dirname(target):
            raise OSError(errno.EXDEV, "rename within one folder only", source)
        folder, old = self._parent(source)
        node = folder.seen.get(old)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", source)
        new = posixpath.basename(target)
        self.step(f"rename {source} to {target}", lambda: folder.do((old, None), (new, node)))
        folder.do((old, None), (new, node))

    def remove(self, path: str) -> None:
        folder, name = self._parent(path)
        node = folder.seen.get(name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        if isinstance(node, _Folder) and node.seen:
            raise OSError(errno.ENOTEMPTY, "folder is not empty", path)
        self.step(f"remove {path}", lambda: folder.do((name, None)))
        folder.do((name, None))

    def fsync_dir(self, path: str) -> None:
        node = self._find(path)
        if not isinstance(node, _Folder):
            raise FileNotFoundError(errno.ENOENT, "no such folder", path)
        self.step(f"sync folder {path}")
        self.fail_if_told("sync", path)
        node.settle()

    def read_bytes(self, path: str) -> bytes:
        file = self.open(path)
        return file.pread(0, file.size())

    def replace_atomically(self, path: str, data: bytes) -> None:
        file = self.open(path + ".tmp", create=True)
        file.truncate(0)
        file.pwrite(0, data)
        file.fsync()
        file.close()
        self.rename(path + ".tmp", path)
        self.fsync_dir(posixpath.dirname(path))

    async def replace_atomically_async(self, path: str, data: bytes) -> None:
        await self._off_thread(lambda: self.replace_atomically(path, data))

    async def sync_async(self, files: Sequence[File], folders: Sequence[str]) -> None:
        own = [file for file in files if isinstance(file, ForgetfulFile)]
        counts = [file.pending() for file in own]  # what others write meanwhile is not covered

        def work() -> None:
            for file, count in zip(own, counts, strict=True):
                file.sync_first(count)
            for folder in folders:
                self.fsync_dir(folder)

        await self._off_thread(work)

    async def sync_paths_async(self, paths: Sequence[str], folders: Sequence[str]) -> None:
        def work() -> None:
            for path in paths:
                if self.exists(path):
                    self.open(path).fsync()
            for folder in folders:
                if self.isdir(folder):
                    self.fsync_dir(folder)

        await self._off_thread(work)

    async def _off_thread(self, action: Callable[[], None]) -> None:
        """Do it one turn of the loop later, or when somebody cannot wait for it."""
        work = _Work(action)
        self._under_way.append(work)
        await asyncio.sleep(0)
        work.finish()
        self._under_way.remove(work)
        if work.error is not None:
            raise work.error

    def settle(self) -> None:
        self.alive()
        for work in self._under_way:
            work.finish()

    def used_ratio(self, path: str) -> float:
        self.alive()
        return self.used

    def lock(self, path: str) -> None:
        self.alive()
        if path in self._locks:
            raise DiskLocked(errno.EAGAIN, "another process uses this store", path)
        self._locks.add(path)

    def unlock(self, path: str) -> None:
        self._locks.discard(path)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]
