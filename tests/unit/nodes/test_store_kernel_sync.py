"""Syncs by the kernel: done, failed, awaited by nobody, across loops, and where there are none."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nodes.store import kernel_sync
from nodes.store.disk import RealDisk, RealFile
from nodes.store.kernel_sync import KernelSync, KernelSyncMissing


@pytest.fixture
def written(tmp_path: Path) -> Iterator[RealFile]:
    file = RealDisk().open(str(tmp_path / "log"), create=True)
    file.pwrite(0, b"x" * 5000)
    yield file
    file.close()


def on_kernel(work: Callable[[KernelSync], Any]) -> Any:
    """What ``work``, a coroutine function, gives with a KernelSync of its own."""

    async def main() -> Any:
        try:
            kernel = KernelSync(asyncio.get_running_loop())
        except KernelSyncMissing as missing:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"kernel-sync: {missing}")
        try:
            return await work(kernel)
        finally:
            kernel.close()

    return asyncio.run(main())


def test_a_sync_ends_and_several_are_told_apart(written: RealFile) -> None:
    async def work(kernel: KernelSync) -> None:
        await kernel.fdatasync(written.fileno())
        first, second = kernel.fdatasync(written.fileno()), kernel.fdatasync(written.fileno())
        await second
        await first
        assert first.result() is None

    on_kernel(work)


def test_a_failed_sync_is_an_error_of_its_waiter_alone(written: RealFile) -> None:
    """The kernel's word is altered between it and us, since no file at hand fails to sync."""

    async def work(kernel: KernelSync) -> None:
        real = kernel._syscall

        def altered(number: int, *arguments: Any) -> int:
            got: int = real(number, *arguments)
            if number == kernel._getevents:
                for event in kernel._events[:got]:
                    if event.data == 1:
                        event.result = -errno.EIO
            return got

        kernel._syscall = altered  # type: ignore[assignment]
        bad, good = kernel.fdatasync(written.fileno()), kernel.fdatasync(written.fileno())
        with pytest.raises(OSError, match="Input/output error") as failed:
            await bad
        assert failed.value.errno == errno.EIO
        await good

    on_kernel(work)


def test_what_cannot_be_synced_so_is_said_at_once(written: RealFile) -> None:
    async def work(kernel: KernelSync) -> None:
        reading, writing = os.pipe()
        try:
            with pytest.raises(KernelSyncMissing):
                kernel.fdatasync(reading)
        finally:
            os.close(reading)
            os.close(writing)
        with pytest.raises(OSError, match="Bad file descriptor") as closed:
            kernel.fdatasync(10_000)
        assert not isinstance(closed.value, KernelSyncMissing)
        await kernel.fdatasync(written.fileno())

    on_kernel(work)


def test_settling_waits_for_all_even_if_nobody_else_does(written: RealFile) -> None:
    async def work(kernel: KernelSync) -> None:
        given_up = kernel.fdatasync(written.fileno())
        given_up.cancel()
        kept = kernel.fdatasync(written.fileno())
        kernel.settle()
        assert kept.done()
        await asyncio.sleep(0)  # the loop may still tell of completions that are gone
        await kernel.fdatasync(written.fileno())

    on_kernel(work)


def test_a_disk_serves_one_loop_after_another_and_gives_everything_back(written: RealFile) -> None:
    disk = RealDisk()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        asyncio.run(disk.sync_async([written], []))
    disk.settle()
    disk.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_kernel_and_no_thread_syncs_a_lone_file(written: RealFile, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(kernel: KernelSync) -> None:
        await kernel.fdatasync(written.fileno())

    on_kernel(work)  # or this machine has no such syncs
    monkeypatch.setattr(os, "fdatasync", lambda _: pytest.fail("a thread synced the file"))
    disk = RealDisk()
    asyncio.run(disk.sync_async([written], []))
    disk.close()


def test_a_disk_goes_on_with_a_thread_where_the_kernel_offers_nothing(
    written: RealFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_sync, "_CALLS", {})
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    disk = RealDisk()
    asyncio.run(disk.sync_async([written], []))
    assert synced == [written.fileno()]
    disk.close()


def test_an_error_of_the_kernels_sync_reaches_the_caller(written: RealFile) -> None:
    disk = RealDisk()

    async def work() -> None:
        written.close()
        with pytest.raises(OSError):  # noqa: PT011 - of whichever call finds out
            await disk.sync_async([written], [])

    asyncio.run(work())
    disk.close()


def test_the_structures_have_the_kernels_sizes() -> None:
    assert ctypes.sizeof(kernel_sync._Request) == 64
    assert ctypes.sizeof(kernel_sync._Event) == 32
