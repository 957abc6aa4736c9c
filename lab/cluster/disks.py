"""File systems for single nodes: images in memory, mounted through loop devices, seen by the lab's own processes only.

An ext4 or XFS image in tmpfs behaves like a disk (what is not synced can be lost) and is as fast on every machine. The
mounts live in the keeper's private mount namespace: when the lab is killed they vanish, and the loop devices with them.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lab.cluster.keeper import Keeper

COMMAND_TIMEOUT_S = 30.0


class DiskError(Exception):
    """A disk could not be made or mounted; the message says which command failed and how."""


class FileSystem(StrEnum):
    """What the images hold, with the smallest size that its mkfs accepts."""

    EXT4 = "ext4"
    XFS = "xfs"

    @property
    def smallest_mb(self) -> int:
        """In MiB; images are sparse, so size costs nothing until it is written."""
        return 300 if self is FileSystem.XFS else 16


@dataclass(frozen=True, slots=True)
class Disk:
    """One mounted image."""

    name: str
    image: Path
    mountpoint: Path


class Disks:
    """All disks of one lab. ``workspace`` is an empty folder under which the memory for the images is mounted."""

    def __init__(self, keeper: Keeper, workspace: Path) -> None:
        self._keeper = keeper
        self._workspace = workspace
        self._disks: dict[str, Disk] = {}
        self._templates: dict[tuple[FileSystem, int], Path] = {}
        self._ready = False

    async def add(
        self, name: str, mountpoint: Path, *, size_mb: int = 64, file_system: FileSystem = FileSystem.EXT4
    ) -> Disk:
        """Mount a fresh, empty file system at ``mountpoint``. Raises DiskError.

        Only the keeper and the processes that it starts see it; everybody else through ``Keeper.view``.
        """
        if name in self._disks:
            raise DiskError(f"two disks are called {name}")
        disk = await self._keeper.run(self._add, name, mountpoint, max(size_mb, file_system.smallest_mb), file_system)
        self._disks[name] = disk
        return disk

    async def remove(self, name: str) -> None:
        """Unmount and forget a disk; its nodes must be dead. Raises DiskError, KeyError."""
        disk = self._disks[name]
        await self._keeper.run(self._remove, disk)
        del self._disks[name]

    async def close(self) -> None:
        """Unmount all. Raises DiskError if a node still holds one."""
        for name in list(self._disks):
            await self.remove(name)
        if self._ready:
            await self._keeper.run(_command, "umount", str(self._workspace))
            self._ready = False
            self._templates.clear()

    def _add(self, name: str, mountpoint: Path, size_mb: int, file_system: FileSystem) -> Disk:
        self._make_ready()
        template = self._template(file_system, size_mb)
        image = self._workspace / f"{name}.img"
        _command("cp", "--sparse=always", str(template), str(image))
        mountpoint.mkdir(parents=True, exist_ok=True)
        # nouuid: copies of one template share their identity, which XFS would refuse.
        options = "loop,nouuid" if file_system is FileSystem.XFS else "loop"
        _command("mount", "-t", file_system.value, "-o", options, str(image), str(mountpoint))
        shutil.rmtree(mountpoint / "lost+found", ignore_errors=True)  # a node's store folder starts empty
        return Disk(name, image, mountpoint)

    def _remove(self, disk: Disk) -> None:
        _command("umount", str(disk.mountpoint))
        disk.image.unlink()

    def _make_ready(self) -> None:
        if self._ready:
            return
        if not self._keeper.private_mounts:
            raise DiskError("no right to a private mount namespace; needs root")
        self._workspace.mkdir(parents=True, exist_ok=True)
        _command("mount", "-t", "tmpfs", "-o", "mode=700", "brokerlab", str(self._workspace))
        self._ready = True

    def _template(self, file_system: FileSystem, size_mb: int) -> Path:
        """An image with an empty file system; made once, copied for each disk."""
        key = (file_system, size_mb)
        if key not in self._templates:
            image = self._workspace / f"template-{file_system.value}-{size_mb}.img"
            with image.open("wb") as file:
                file.truncate(size_mb << 20)
            force = "-F" if file_system is FileSystem.EXT4 else "-f"
            _command(f"mkfs.{file_system.value}", "-q", force, str(image))
            self._templates[key] = image
        return self._templates[key]


def _command(*argv: str) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise DiskError(f"{argv[0]} is missing; on Debian: apt install e2fsprogs xfsprogs util-linux") from None
    except subprocess.TimeoutExpired:
        raise DiskError(f"{' '.join(argv)}: no end within {COMMAND_TIMEOUT_S:g} s") from None
    if done.returncode:
        raise DiskError(f"{' '.join(argv)}: {done.stderr.strip() or f'exit {done.returncode}'}")
