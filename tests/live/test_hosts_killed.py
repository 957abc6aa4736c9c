"""A lab that is killed leaves no process, namespace, mount, loop device or rule, and its manifest removes the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.cluster.manifest import clean
from tests.live.test_levers import in_sessions

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
WAIT_S = 60.0


@dataclass
class Child:
    """A lab in another process."""

    process: subprocess.Popen[str]
    folder: Path
    said: dict[str, Any]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    started: list[subprocess.Popen[str]] = []

    def begin(*options: str) -> Child:
        argv = [sys.executable, "-m", "tests.live.lab_child", str(tmp_path), *options]
        process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        return Child(process, tmp_path, json.loads(process.stdout.readline()))

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "options",
    [
        (),
        pytest.param(("cgroups",), marks=pytest.mark.live("cgroup2")),
        pytest.param(("cgroups", "disk"), marks=pytest.mark.live("cgroup2", "loop-ext4")),
    ],
)
def test_a_killed_lab_leaves_nothing_but_what_its_manifest_removes(
    start: Callable[..., Child], options: tuple[str, ...]
) -> None:
    child = start(*options)
    assert len(in_sessions(child.said["sessions"])) == 6
    assert namespaces_in_use() & set(child.said["namespaces"])
    registry = child.folder / "registry"
    image = f"disk-of-{child.process.pid}.img"
    assert any(image in backing for backing in loop_backings()) is ("disk" in options)
    assert [cleaned.alive for cleaned in clean(registry)] == [True]  # a running lab is never touched
    assert len(in_sessions(child.said["sessions"])) == 6

    child.process.kill()
    child.process.wait(WAIT_S)

    eventually(lambda: not in_sessions(child.said["sessions"]))
    eventually(lambda: not namespaces_in_use() & set(child.said["namespaces"]))
    assert str(child.folder) not in Path("/proc/self/mountinfo").read_text()
    eventually(lambda: not [backing for backing in loop_backings() if image in backing])
    manifest = json.loads((child.folder / "run" / "manifest.json").read_text())
    folders = [Path(entry["path"]) for entry in manifest["created"]]
    assert len(folders) == (5 if "cgroups" in options else 1)

    (cleaned,) = clean(registry)
    assert (cleaned.alive, cleaned.kept) == (False, ())
    assert [folder for folder in folders if folder.exists()] == []
    assert list(registry.iterdir()) == []
    assert clean(registry) == []


@pytest.mark.live("loop-ext4")
def test_a_disk_is_seen_by_the_lab_and_its_nodes_only(start: Callable[..., Child]) -> None:
    child = start("disk")
    assert child.said["stored"] == True  # noqa: E712 - read from JSON
    assert child.said["stored_outside"] == False  # noqa: E712


def eventually(holds: Callable[[], bool]) -> None:
    """Wait for the kernel, which takes things down in the background."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def namespaces_in_use() -> set[int]:
    """Inodes of all network namespaces that a process runs in or holds a descriptor of."""
    found: set[int] = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            for kind in ("ns/net", "fd"):
                found.update(_inodes(Path("/proc", name, kind)))
    return found


def loop_backings() -> list[str]:
    """The files behind all loop devices in use."""
    return [path.read_text().strip() for path in Path("/sys/block").glob("loop*/loop/backing_file")]


def _inodes(path: Path) -> set[int]:
    try:
        links = [path] if path.name == "net" else list(path.iterdir())
        return {link.stat().st_ino for link in links if os.readlink(link).startswith("net:[")}
    except OSError:
        return set()  # the process ended while we looked
