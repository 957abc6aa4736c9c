"""The only door from a node to the file system.

Everything a node stores passes through the two small protocols below, so that a test (or a simulator) can put a disk in
their place that forgets what was not synced. `RealDisk` is the production implementation. Nothing else in `nodes` may
open files, and nothing else may leave the event loop's thread: a sync blocks for milliseconds, so the kernel or a
worker thread does it.

What a caller may rely on after a crash, and what every implementation must keep:

* bytes of a file survive once `fsync` of that file returned after they were written;
* a name (created, renamed, removed) survives once `fsync_dir` of its folder returned afterwards;
* nothing else survives for certain, and nothing is promised about order.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from nodes.store.kernel_sync import KernelSync, KernelSyncMissing

T = TypeVar("T")


class DiskLocked(OSError):
    """Another living process holds the lock file of this folder."""


class File(Protocol):
    """One open file. Offsets and sizes are bytes; every method may raise OSError."""

    def pread(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; shorter only where the file ends."""

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data` at `offset` (a gap before it reads as zeros)."""

    def size(self) -> int:
        """Length of the file now."""

    def truncate(self, size: int) -> None:
        """Cut or extend (with zeros) to `size`; survives a crash only after `fsync`."""

    def fsync(self) -> None:
        """Block until contents and length are on stable storage."""

    def close(self) -> None:
        """Give the file back; closing twice is harmless. Never syncs."""


class Disk(Protocol):
    """A file system, as much of it as a node needs. Paths are strings; every method may raise OSError."""

    def open(self, path: str, create: bool = False) -> File:
        """Open for reading and writing; without `create` a missing file raises FileNotFoundError."""

    def exists(self, path: str) -> bool:
        """Whether a file or folder of that name is visible now."""

    def listdir(self, path: str) -> list[str]:
        """Names in a folder, sorted; an absent folder raises FileNotFoundError."""

    def isdir(self, path: str) -> bool:
        """Whether the name is a folder."""

    def makedirs(self, path: str, durable: bool = True) -> None:
        """Create the folder and its parents if absent; unless told otherwise they survive a crash when it returns."""

    def rename(self, source: str, target: str) -> None:
        """Atomic replacement within one folder; durable after `fsync_dir`."""

    def remove(self, path: str) -> None:
        """Remove a file or an empty folder; durable after `fsync_dir` of its parent."""

    def fsync_dir(self, path: str) -> None:
        """Block until the names in this folder are on stable storage."""

    def read_bytes(self, path: str) -> bytes:
        """Whole contents of a small file."""

    def replace_atomically(self, path: str, data: bytes) -> None:
        """Durably replace a whole file: after a crash it holds the old or the new contents, never a mixture."""

    async def replace_atomically_async(self, path: str, data: bytes) -> None:
        """`replace_atomically` without blocking the event loop; calls for one path must not overlap."""

    async def sync_async(self, files: Sequence[File], folders: Sequence[str]) -> None:
        """Sync these open files in order, then these folders, without blocking the event loop."""

    async def sync_paths_async(self, paths: Sequence[str], folders: Sequence[str]) -> None:
        """The same for files that need not be open; a file that is gone by then is skipped."""

    def settle(self) -> None:
        """Block until all work that left the thread has ended, so that files can be cut or closed safely."""

    def used_ratio(self, path: str) -> float:
        """Part of the file system in use, 0.0 to 1.0, as an unprivileged writer sees it."""

    def lock(self, path: str) -> None:
        """Take an exclusive lock by file, kept until `unlock` or the end of the process; raises DiskLocked."""

    def unlock(self, path: str) -> None:
        """Release a lock taken with `lock`; harmless if none is held."""


def _nothing() -> None:
    """Work that shows that all earlier work of its thread is done."""


class RealFile:
    """A `File` over a file descriptor."""

    __slots__ = ("_fd", "path")

    def __init__(self, path: str, fd: int) -> None:
        self._fd = fd
        self.path = path

    def pread(self, offset: int, size: int) -> bytes:
        data = os.pread(self._fd, size, offset)
        if len(data) == size or not data:
            return data
        parts = [data]  # the kernel may return less than asked before the end (signals, 2 GiB limit)
        got = len(data)
        while got < size:
            data = os.pread(self._fd, size - got, offset + got)
            if not data:
                break
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        done = os.pwrite(self._fd, data, offset)
        if done == len(data):
            return
        view = memoryview(data)
        while done < len(view):
            wrote = os.pwrite(self._fd, view[done:], offset + done)
            if wrote == 0:
                raise OSError(errno.EIO, "the disk accepts no more bytes", self.path)
            done += wrote

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def fsync(self) -> None:
        # fdatasync writes the length too, since it is needed to read the data back; only time stamps are left out.
        os.fdatasync(self._fd)

    def fileno(self) -> int:
        """The file descriptor, while the file is open."""
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class RealDisk:
    """The machine's file system.

    The sync of one file, which acknowledgements wait for, is the kernel's work where it offers that (`KernelSync`). Two
    worker threads: one for other log syncs, one for everything that may be slow without hurting acknowledgements
    (whole-file replacement, queue files), so that a table being saved never delays a group commit.
    """

    def __init__(self) -> None:
        self._log_thread = ThreadPoolExecutor(1, "log-sync")
        self._table_thread = ThreadPoolExecutor(1, "table-sync")
        self._locks: dict[str, int] = {}
        self._kernel: KernelSync | None = None
        self._kernel_syncs = True

    async def off_thread(self, work: Callable[[], T], *, slow: bool = False) -> T:
        """Run blocking disk work in the log thread, or in the other one when it may take long."""
        executor = self._table_thread if slow else self._log_thread
        return await asyncio.get_running_loop().run_in_executor(executor, work)

    def open(self, path: str, create: bool = False) -> RealFile:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return RealFile(path, os.open(path, flags, 0o644))

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def listdir(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def isdir(self, path: str) -> bool:
        return os.path.isdir(path)

    def makedirs(self, path: str, durable: bool = True) -> None:
        missing: list[str] = []
        folder = os.path.abspath(path)
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for name in reversed(missing):
            os.mkdir(name, 0o755)
            if durable:
                self.fsync_dir(os.path.dirname(name))

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def remove(self, path: str) -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            os.rmdir(path)
        else:
            os.unlink(path)

    def fsync_dir(self, path: str) -> None:
        fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def read_bytes(self, path: str) -> bytes:
        file = self.open(path)
        try:
            return file.pread(0, file.size())
        finally:
            file.close()

    def replace_atomically(self, path: str, data: bytes) -> None:
        temporary = path + ".tmp"
        file = self.open(temporary, create=True)
        try:
            file.truncate(0)  # a crash may have left an older attempt behind
            file.pwrite(0, data)
            file.fsync()
        finally:
            file.close()
        self.rename(temporary, path)
        self.fsync_dir(os.path.dirname(path))

    async def replace_atomically_async(self, path: str, data: bytes) -> None:
        await self.off_thread(lambda: self.replace_atomically(path, data), slow=True)

    async def sync_async(self, files: Sequence[File], folders: Sequence[str]) -> None:
        if len(files) == 1 and not folders:
            (file,) = files
            begun = self._begun(file) if isinstance(file, RealFile) else None
            await (self.off_thread(file.fsync) if begun is None else begun)
            return

        def work() -> None:
            for file in files:
                file.fsync()
            for folder in folders:
                self.fsync_dir(folder)

        await self.off_thread(work)

    def _begun(self, file: RealFile) -> asyncio.Future[None] | None:
        """The sync that the kernel has begun, or None if it does no such thing here. Raises OSError."""
        if not self._kernel_syncs:
            return None
        loop = asyncio.get_running_loop()
        try:
            if self._kernel is None or self._kernel.loop is not loop:
                self._close_kernel()
                self._kernel = KernelSync(loop)
            return self._kernel.fdatasync(file.fileno())
        except KernelSyncMissing:
            self._kernel_syncs = False
            return None

    def _close_kernel(self) -> None:
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None

    async def sync_paths_async(self, paths: Sequence[str], folders: Sequence[str]) -> None:
        def work() -> None:
            for path in paths:
                try:
                    file = self.open(path)
                except FileNotFoundError:
                    continue  # deleted by retention meanwhile: nothing left to keep
                try:
                    file.fsync()
                finally:
                    file.close()
            for folder in folders:
                if os.path.isdir(folder):
                    self.fsync_dir(folder)

        await self.off_thread(work, slow=True)

    def settle(self) -> None:
        if self._kernel is not None:
            self._kernel.settle()
        self._log_thread.submit(_nothing).result()
        self._table_thread.submit(_nothing).result()

    def used_ratio(self, path: str) -> float:
        stat = os.statvfs(path)
        used = stat.f_blocks - stat.f_bfree
        usable = used + stat.f_bavail
        return used / usable if usable else 1.0

    def lock(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            raise DiskLocked(error.errno, "another process uses this store", path) from None
        self._locks[path] = fd

    def unlock(self, path: str) -> None:
        fd = self._locks.pop(path, -1)
        if fd >= 0:
            os.close(fd)

    def close(self) -> None:
        """End the worker threads after the work they have begun and release all locks."""
        self._close_kernel()
        self._log_thread.shutdown(wait=True)
        self._table_thread.shutdown(wait=True)
        for path in list(self._locks):
            self.unlock(path)
