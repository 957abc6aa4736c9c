"""Disks in memory, labs without root, and what the doctor says: on the real machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab import doctor
from lab.cluster.cgroups import find_root
from lab.cluster.disks import DiskError, Disks, FileSystem
from lab.cluster.hosts import Hosts
from lab.cluster.keeper import Keeper
from tests.live.test_hosts_killed import eventually, loop_backings

ROOT = Path(__file__).parents[2]
WAIT_S = 60.0
NOBODY = 65534


@pytest.mark.live
def test_the_doctor_tries_everything_and_leaves_nothing(tmp_path: Path) -> None:
    found = doctor.abilities()
    assert set(doctor.REQUIRED) < set(found)
    for name, ability in found.items():
        assert ability.ok is (ability.reason == ""), name
    root = find_root()
    assert root is None or not (root / f"brokerlab-doctor-{os.getpid()}").exists()
    eventually(lambda: not [backing for backing in loop_backings() if f"scratch-{os.getpid()}" in backing])
    assert doctor.missing("netns") is None


@pytest.mark.live
def test_the_doctor_names_what_is_missing_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    doctor.ability.cache_clear()
    try:
        assert doctor.missing("netns", "iptables") == ("iptables: iptables is missing; on Debian: apt install iptables")
        assert doctor.missing("death-signal") == "death-signal: setpriv is missing; on Debian: apt install util-linux"
    finally:
        doctor.ability.cache_clear()
    with pytest.raises(KeyError):
        doctor.ability("telepathy")


@pytest.mark.parametrize(
    "file_system",
    [
        pytest.param(FileSystem.EXT4, marks=pytest.mark.live("loop-ext4")),
        pytest.param(FileSystem.XFS, marks=pytest.mark.live("loop-xfs")),
    ],
)
def test_disks_are_real_separate_and_gone_after_closing(tmp_path: Path, file_system: FileSystem) -> None:
    async def story(keeper: Keeper) -> None:
        disks = Disks(keeper, tmp_path / "images")
        for name in ("a", "b"):
            disk = await disks.add(name, tmp_path / name, file_system=file_system)
            assert list(keeper.view(disk.mountpoint).iterdir()) == []
            (keeper.view(disk.mountpoint) / "file").write_text(name)
            assert list((tmp_path / name).iterdir()) == []  # outside it is an empty folder
        assert (keeper.view(tmp_path / "a") / "file").read_text() == "a"
        with pytest.raises(DiskError, match="two disks are called a"):
            await disks.add("a", tmp_path / "c")
        await disks.remove("a")
        assert list(keeper.view(tmp_path / "a").iterdir()) == []
        await disks.close()
        await disks.close()

    keeper = Keeper()
    try:
        asyncio.run(story(keeper))
    finally:
        keeper.close()
    eventually(lambda: not [backing for backing in loop_backings() if str(tmp_path) in backing])


@pytest.mark.live("loop-ext4")
def test_a_command_in_a_host_may_see_the_lab_s_disks(hosts: Hosts, tmp_path: Path) -> None:
    def cat(path: Path, mounts_of: int | None) -> str:
        argv = hosts.exec_argv("node-1", ["cat", str(path)], mounts_of=mounts_of)
        return subprocess.run(argv, capture_output=True, text=True, timeout=WAIT_S, check=False).stdout

    keeper = Keeper()
    disks = Disks(keeper, tmp_path / "images")
    try:
        disk = asyncio.run(disks.add("a", tmp_path / "a"))
        (keeper.view(disk.mountpoint) / "file").write_text("seen")
        assert cat(disk.mountpoint / "file", keeper.native_id) == "seen"
        assert cat(disk.mountpoint / "file", None) == ""
        asyncio.run(disks.close())
    finally:
        keeper.close()


def test_what_a_plan_needs_follows_from_its_parts() -> None:
    assert doctor.needed() == doctor.REQUIRED
    assert doctor.needed(lever="iptables", fault_kinds=["kill"]) == doctor.REQUIRED
    assert doctor.needed(lever="iptables", fault_kinds=["partition"])[-1] == "iptables"
    assert doctor.needed(disks="xfs")[-2:] == ("private-mounts", "loop-xfs")
    for name in doctor.needed(lever="iptables", fault_kinds=["partition"], disks="ext4"):
        assert doctor.ability(name).reason != name


@pytest.mark.live("loop-ext4")
def test_a_small_disk_is_full_when_it_is_full(tmp_path: Path) -> None:
    async def story(keeper: Keeper) -> None:
        disks = Disks(keeper, tmp_path / "images")
        disk = await disks.add("a", tmp_path / "a", size_mb=16)
        with pytest.raises(OSError, match="No space left"):
            (keeper.view(disk.mountpoint) / "file").write_bytes(bytes(20 << 20))
        await disks.close()

    keeper = Keeper()
    try:
        asyncio.run(story(keeper))
    finally:
        keeper.close()


LAB = """
from lab.cluster import userns
userns.ensure()
import os, asyncio, subprocess
from lab.cluster.hosts import Hosts
from lab.cluster.network import LabNetwork, LeverName
async def story():
    hosts = Hosts.build(["a", "b", "c"])
    network = LabNetwork(hosts, lever=LeverName.NFT)
    await network.open()
    cut = frozenset({("a", "b")})
    await network.cut("f1", cut)
    said = (await network.matrix(cut)).mismatches(cut)
    inside = subprocess.run(hosts.exec_argv("b", ["ip", "-o", "-4", "addr"]), capture_output=True, text=True)
    assert hosts.address("b") in inside.stdout, inside
    network.close()
    hosts.close()
    return said
assert asyncio.run(story()) == ()
os.write(1, b"proven as uid %d" % os.geteuid())
"""


@pytest.mark.live("userns")
def test_a_user_without_rights_gets_a_lab_in_a_user_namespace() -> None:
    import pyroute2

    libraries = Path(pyroute2.__file__).parents[1]
    python, become = sys.executable, []
    if os.geteuid() == 0:
        pythons = [path for path in (sys.executable, "/usr/bin/python3") if readable_by_others(Path(path).resolve())]
        if not pythons or not readable_by_others(ROOT, libraries):
            pytest.skip("this machine lacks a checkout and an interpreter that any user may read")
        python = pythons[0]
        become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
    done = subprocess.run(
        [*become, python, "-B", "-c", LAB],
        cwd="/",
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{libraries}"},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("proven as uid 0", "")


def readable_by_others(*paths: Path) -> bool:
    """Whether any user may reach these paths."""
    return all(bool(part.stat().st_mode & 0o001) for path in paths for part in (path, *path.parents))
