"""One thread that lives as long as the lab: every process is started from it and every mount belongs to it.

Two facts of Linux ask for this. The "die with your parent" signal is tied to the *thread* that forked, so children of a
thread that ends are killed at once. And a mount namespace belongs to a thread too: mounts made here are seen here and
by the processes started here, and vanish with the last of them, even when the lab is killed.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from lab.cluster.netns import CLONE_NEWNS, unshare

P = ParamSpec("P")
T = TypeVar("T")

MS_REC = 0x4000
MS_PRIVATE = 1 << 18

_libc = ctypes.CDLL(None, use_errno=True)


class Keeper:
    """Runs functions, one after the other, in the lab's one long-lived thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="keeper")
        self.private_mounts = False
        self.native_id = 0
        self.call(self._settle_in)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the function in the keeper's thread and wait for its result. Blocking; not for use inside a loop."""
        return self._pool.submit(function, *args, **kwargs).result()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the function in the keeper's thread; the loop goes on meanwhile."""
        return await asyncio.wrap_future(self._pool.submit(function, *args, **kwargs))

    def view(self, path: Path) -> Path:
        """The same file as the keeper's mount namespace sees it, under a name that works outside of it."""
        return Path(f"/proc/{os.getpid()}/task/{self.native_id}/root", *path.absolute().parts[1:])

    def close(self) -> None:
        """End the thread. Children that still live get their death signal now; mounts without users vanish."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _settle_in(self) -> None:
        self.native_id = threading.get_native_id()
        try:
            unshare(CLONE_NEWNS)
        except OSError:
            return  # no right to it: plans without disk images do not need it, doctor says so to the others
        # Private, or the mounts would propagate to the namespace that we came from.
        self.private_mounts = _libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when the thread that forked it ends. For forked workers, first thing."""
    pr_set_pdeathsig, sigkill = 1, 9
    _libc.prctl(pr_set_pdeathsig, sigkill, 0, 0, 0)
    if os.getppid() != parent_pid:  # the parent died before we could ask
        os._exit(1)
