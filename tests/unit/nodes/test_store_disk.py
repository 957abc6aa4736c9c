"""The real disk and the forgetful one keep the same rules; only the forgetful one can lose power."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodes.store import commit_log
from nodes.store.disk import Disk, DiskLocked, RealDisk
from tests.unit.nodes.forgetful_disk import Crash, ForgetfulDisk, Keep


@pytest.fixture(params=["real", "forgetful"])
def disk_at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Disk, str]]:
    """A disk and a folder on it."""
    if request.param == "real":
        real = RealDisk()
        yield real, str(tmp_path)
        real.close()
    else:
        forgetful = ForgetfulDisk()
        forgetful.makedirs("/somewhere")
        yield forgetful, "/somewhere"


def test_a_missing_file_is_created_only_when_asked(disk_at: tuple[Disk, str]) -> None:
    disk, at = disk_at
    with pytest.raises(FileNotFoundError):
        disk.open(f"{at}/a")
    assert not disk.exists(f"{at}/a")
    file = disk.open(f"{at}/a", create=True)
    assert file.size() == 0
    assert disk.exists(f"{at}/a")
    file.close()
    file.close()
    with pytest.raises(OSError):  # noqa: PT011 - any error of the system will do
        file.pread(0, 1)


def test_writes_may_leave_gaps_of_zeros_and_reads_stop_at_the_end(disk_at: tuple[Disk, str]) -> None:
    disk, at = disk_at
    file = disk.open(f"{at}/a", create=True)
    file.pwrite(4, b"data")
    assert file.size() == 8
    assert file.pread(0, 100) == b"\0\0\0\0data"
    assert file.pread(6, 1) == b"t"
    assert file.pread(8, 10) == b""
    file.pwrite(5, bytearray(b"AT"))
    file.pwrite(8, memoryview(b"!"))
    assert file.pread(4, 5) == b"dATa!"
    file.truncate(6)
    assert file.size() == 6
    file.truncate(8)
    assert file.pread(0, 8) == b"\0\0\0\0dA\0\0"
    file.fsync()
    asyncio.run(disk.sync_async([file], []))
    file.close()


def test_two_handles_see_one_file(disk_at: tuple[Disk, str]) -> None:
    disk, at = disk_at
    one = disk.open(f"{at}/a", create=True)
    other = disk.open(f"{at}/a")
    one.pwrite(0, b"seen")
    assert other.pread(0, 4) == b"seen"
    one.close()
    assert other.pread(0, 4) == b"seen"
    other.close()


def test_folders(disk_at: tuple[Disk, str]) -> None:
    disk, at = disk_at
    disk.makedirs(f"{at}/x/y")
    disk.makedirs(f"{at}/x/y", durable=False)
    assert disk.isdir(f"{at}/x")
    disk.open(f"{at}/x/b", create=True).close()
    disk.open(f"{at}/x/a", create=True).close()
    assert not disk.isdir(f"{at}/x/a")
    assert disk.listdir(f"{at}/x") == ["a", "b", "y"]
    disk.fsync_dir(f"{at}/x")
    with pytest.raises(FileNotFoundError):
        disk.listdir(f"{at}/nowhere")
    with pytest.raises(FileNotFoundError):
        disk.fsync_dir(f"{at}/nowhere")
    with pytest.raises(OSError, match=r"(?i)empty"):
        disk.remove(f"{at}/x")
    for name in ("a", "b", "y"):
        disk.remove(f"{at}/x/{name}")
    disk.remove(f"{at}/x")
    assert disk.listdir(at) == []
    with pytest.raises(FileNotFoundError):
        disk.remove(f"{at}/x")


def test_rename_replaces(disk_at: tuple[Disk, str]) -> None:
    disk, at = disk_at
    for name in ("old", "new"):
        file = disk.open(f"{at}/{name}", create=True)
        file.pwrite(0, name.encode())
        file.close()
    disk.rename(f"{at}/new", f"{at}/old")
    assert disk.listdir(at) == ["old"]
    assert disk.read_bytes(f"{at}/old") == b"new"
    with pytest.raises(FileNotFoundError):
        disk.rename(f"{at}/none", f"{at}/old")


def test_replacing_a_file_as_a_whole(disk_at: tuple[Disk, str]) -> None:
    disk, at = disk_at
    disk.replace_atomically(f"{at}/table", b"a longer first version")
    asyncio.run(disk.replace_atomically_async(f"{at}/table", b"second"))
    assert disk.read_bytes(f"{at}/table") == b"second"
    assert disk.listdir(at) == ["table"]


def test_syncing_many_at_once(disk_at: tuple[Disk, str]) -> None:
    disk, at = disk_at
    files = [disk.open(f"{at}/{n}", create=True) for n in range(3)]
    for file in files:
        file.pwrite(0, b"x")

    async def sync() -> None:
        await disk.sync_async(files[:1], [])
        await disk.sync_async(files, [at])
        await disk.sync_paths_async([f"{at}/1", f"{at}/gone"], [at, f"{at}/gone-too"])

    asyncio.run(sync())
    disk.settle()
    for file in files:
        file.close()


def test_a_lock_is_exclusive_until_released(disk_at: tuple[Disk, str]) -> None:
    disk, at = disk_at
    disk.lock(f"{at}/lock")
    rival: Callable[[], None] = lambda: disk.lock(f"{at}/lock")  # noqa: E731 - named for what it is
    with pytest.raises(DiskLocked):
        rival()
    disk.unlock(f"{at}/lock")
    disk.unlock(f"{at}/lock")
    rival()
    disk.unlock(f"{at}/lock")


def test_used_ratio_is_a_part_of_one(disk_at: tuple[Disk, str]) -> None:
    disk, at = disk_at
    assert 0.0 <= disk.used_ratio(at) <= 1.0


# ---- what only the forgetful disk can show -------------------------------------------------------------------------


def written(sync_file: bool, sync_folder: bool) -> ForgetfulDisk:
    disk = ForgetfulDisk()
    disk.makedirs("/d")
    file = disk.open("/d/a", create=True)
    file.pwrite(0, b"x" * 300)
    if sync_file:
        file.fsync()
    if sync_folder:
        disk.fsync_dir("/d")
    return disk


@pytest.mark.parametrize(("sync_file", "sync_folder"), [(False, False), (True, False), (False, True), (True, True)])
def test_contents_need_a_sync_and_names_need_one_too(sync_file: bool, sync_folder: bool) -> None:
    found = written(sync_file, sync_folder).survivor(Keep.NOTHING)
    assert found.exists("/d/a") is sync_folder
    if sync_folder:
        assert found.read_bytes("/d/a") == (b"x" * 300 if sync_file else b"")


def test_what_may_be_left_of_an_unsynced_write() -> None:
    disk = written(sync_file=False, sync_folder=True)
    assert disk.survivor(Keep.EVERYTHING).read_bytes("/d/a") == b"x" * 300
    assert disk.survivor(Keep.ZEROS).read_bytes("/d/a") == bytes(300)
    prefixes = {len(disk.survivor(Keep.PREFIX, seed).read_bytes("/d/a")) for seed in range(50)}
    assert len(prefixes) > 10
    scattered = {disk.survivor(Keep.SCATTERED, seed).read_bytes("/d/a") for seed in range(50)}
    assert any(b"\0x" in data for data in scattered), "a later sector may survive without an earlier one"


def test_renames_removals_and_truncations_need_a_sync() -> None:
    disk = written(sync_file=True, sync_folder=True)
    disk.open("/d/b", create=True).close()
    disk.fsync_dir("/d")
    disk.rename("/d/a", "/d/b")
    assert disk.survivor(Keep.NOTHING).listdir("/d") == ["a", "b"]
    assert disk.survivor(Keep.EVERYTHING).listdir("/d") == ["b"]
    disk.fsync_dir("/d")
    disk.open("/d/b").truncate(10)
    assert len(disk.survivor(Keep.NOTHING).read_bytes("/d/b")) == 300
    disk.open("/d/b").fsync()
    assert len(disk.survivor(Keep.NOTHING).read_bytes("/d/b")) == 10
    disk.remove("/d/b")
    assert disk.survivor(Keep.NOTHING).exists("/d/b")
    disk.fsync_dir("/d")
    assert not disk.survivor(Keep.NOTHING).exists("/d/b")


def test_a_replaced_file_is_old_or_new_at_every_crash() -> None:
    for crash_at in range(20):
        disk = ForgetfulDisk()
        disk.makedirs("/d")
        disk.replace_atomically("/d/table", b"old")
        disk.crash_at = disk.steps + crash_at
        try:
            disk.replace_atomically("/d/table", b"newer")
            done = True
        except Crash:
            done = False
        for keep in Keep:
            content = disk.survivor(keep, crash_at).read_bytes("/d/table")
            assert content == b"newer" if done else content in (b"old", b"newer")
        if done:
            return
    raise AssertionError("never got through")


def test_a_sync_covers_nothing_that_is_written_while_it_runs() -> None:
    disk = written(sync_file=True, sync_folder=True)
    file = disk.open("/d/a")

    async def main() -> None:
        file.pwrite(300, b"before")
        running = asyncio.ensure_future(disk.sync_async([file], []))
        await asyncio.sleep(0)
        file.pwrite(306, b"during")
        await running

    asyncio.run(main())
    assert disk.survivor(Keep.NOTHING).read_bytes("/d/a")[300:] == b"before"


def test_after_a_failed_sync_only_writing_again_helps() -> None:
    disk = written(sync_file=True, sync_folder=True)
    file = disk.open("/d/a")
    file.pwrite(0, b"new")
    disk.fail_once("sync", "/d/a")
    with pytest.raises(OSError, match="injected"):
        file.fsync()
    file.fsync()
    assert file.pread(0, 3) == b"new"
    assert disk.survivor(Keep.EVERYTHING).read_bytes("/d/a")[:3] == b"xxx"
    file.pwrite(0, b"new")
    file.fsync()
    assert disk.survivor(Keep.NOTHING).read_bytes("/d/a")[:3] == b"new"


def test_after_the_crash_nothing_works() -> None:
    disk = written(sync_file=True, sync_folder=True)
    file = disk.open("/d/a")
    disk.crash_at = disk.steps
    with pytest.raises(Crash):
        file.pwrite(0, b"y")
    for attempt in (lambda: file.pread(0, 1), file.fsync, lambda: disk.listdir("/d"), lambda: disk.fsync_dir("/d")):
        with pytest.raises(Crash):
            attempt()
    assert disk.survivor(Keep.NOTHING).read_bytes("/d/a") == b"x" * 300


def test_a_file_that_is_being_synced_stays_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Reading many older files closes surplus ones; the number of a closed file may be another file's by then."""
    monkeypatch.setattr(commit_log, "OPEN_SEGMENTS_MAX", 3)
    log = commit_log.CommitLog(RealDisk(), str(tmp_path / "log"), 64)
    log.load()
    log.write(b"x" * 64 * 6)
    log.sync_now()
    log.write(b"y" * 64)
    taken, _ = log.take_dirty()
    log.write(b"z")  # the one under way is not the last any more
    for _ in range(2):
        for number in range(6):
            assert log.read(number * 64, 1) == b"x"
    (segment,) = taken
    under_way = segment.file
    assert under_way is not None
    log.synced(taken)
    for number in range(6):
        log.read(number * 64, 1)
    assert segment.file is None
    log.close()
