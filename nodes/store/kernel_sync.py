"""Syncs that the kernel carries out while the event loop goes on (Linux AIO: io_submit(2) with IOCB_CMD_FDSYNC).

A thread that syncs has to be woken, has to get the interpreter twice and has to wake the loop again: 0.16 ms more for a
sync that takes 0.27 ms, and three times the processor time. The kernel syncs in a worker of its own and signals an
eventfd that the loop watches. An error comes with the completion, for the file that was opened here, as from
fdatasync(2).
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import platform
import sys
from typing import Final

__all__ = ["KernelSync", "KernelSyncMissing"]

_CALLS: Final = {"x86_64": (206, 207, 209, 208), "aarch64": (0, 1, 2, 4)}
"""Numbers of io_setup, io_destroy, io_submit, io_getevents."""
_FDSYNC: Final = 3
_RESFD: Final = 1
_MOST: Final = 16
"""Syncs in flight; a store has one, and a process a few stores."""


class KernelSyncMissing(OSError):
    """This kernel, or what it lets this process do, has no such syncs."""


class _Request(ctypes.Structure):
    """struct iocb of linux/aio_abi.h."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_uint32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("file", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("eventfd", ctypes.c_uint32),
    )


class _Event(ctypes.Structure):
    """struct io_event of linux/aio_abi.h."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("request", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("result2", ctypes.c_int64),
    )


class KernelSync:
    """Syncs of one event loop's thread. Raises KernelSyncMissing where the kernel has none to offer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._context = ctypes.c_ulong(0)
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._number = 0
        self._events = (_Event * _MOST)()
        self._eventfd = -1
        calls = _CALLS.get(platform.machine()) if sys.platform == "linux" else None
        if calls is None:
            raise KernelSyncMissing(errno.ENOSYS, f"not known for {sys.platform} on {platform.machine()}")
        setup, self._destroy, self._submit, self._getevents = calls
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        self._syscall.restype = ctypes.c_long
        eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        if self._syscall(setup, ctypes.c_long(_MOST), ctypes.byref(self._context)) != 0:
            code = ctypes.get_errno()
            os.close(eventfd)
            raise KernelSyncMissing(code, f"io_setup: {os.strerror(code)}")
        self._eventfd = eventfd
        loop.add_reader(self._eventfd, self._completed)

    def fdatasync(self, file: int) -> asyncio.Future[None]:
        """Begin to sync a file descriptor; the future fails with OSError if that fails. The descriptor may be closed
        meanwhile. Raises KernelSyncMissing for a file that cannot be synced so, or if too many syncs are in flight."""
        if len(self._waiting) >= _MOST:
            raise KernelSyncMissing(errno.EAGAIN, f"{_MOST} syncs are in flight")
        self._number += 1
        request = _Request(data=self._number, opcode=_FDSYNC, file=file, flags=_RESFD, eventfd=self._eventfd)
        pointer = ctypes.pointer(request)
        if self._syscall(self._submit, self._context, ctypes.c_long(1), ctypes.byref(pointer)) != 1:
            code = ctypes.get_errno()
            if code == errno.EBADF:
                raise OSError(code, os.strerror(code))
            raise KernelSyncMissing(code, f"io_submit: {os.strerror(code)}")
        future: asyncio.Future[None] = self.loop.create_future()
        self._waiting[self._number] = future
        return future

    def settle(self) -> None:
        """Block until no sync is in flight."""
        while self._waiting:
            self._collect(len(self._waiting))

    def close(self) -> None:
        """Wait for what is in flight and give everything back."""
        if self._eventfd < 0:
            return
        self.settle()
        if not self.loop.is_closed():
            self.loop.remove_reader(self._eventfd)
        self._syscall(self._destroy, self._context)
        os.close(self._eventfd)
        self._eventfd = -1

    def _completed(self) -> None:
        try:
            os.eventfd_read(self._eventfd)
        except BlockingIOError:
            return  # `settle` was faster
        self._collect(0)

    def _collect(self, least: int) -> None:
        """Take completions, and wait until there are at least so many."""
        events = self._events
        got = self._syscall(
            self._getevents, self._context, ctypes.c_long(least), ctypes.c_long(_MOST), ctypes.byref(events), None
        )
        if got < 0 and (code := ctypes.get_errno()) != errno.EINTR:
            raise OSError(code, f"io_getevents: {os.strerror(code)}")
        for index in range(got):
            event = events[index]
            future = self._waiting.pop(event.data)
            if future.done() or self.loop.is_closed():
                continue  # nobody waits any more
            if event.result < 0:
                future.set_exception(OSError(-event.result, os.strerror(-event.result)))
            else:
                future.set_result(None)
