"""What is on record is removed, only when its lab is certainly dead, and nothing else is."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from lab.cluster import supervisor
from lab.cluster.hosts import Hosts
from lab.cluster.keeper import Keeper
from lab.cluster.manifest import Kind, Manifest, Owner, boot_id, clean, registry_folder, start_ticks


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return tmp_path / "registry"


def dead_pid() -> int:
    """The id of a process that has just ended."""
    ended = subprocess.Popen([sys.executable, "-I", "-S", "-c", "pass"])
    ended.wait()
    return ended.pid


def disown(manifest: Manifest, **owner: object) -> None:
    """Make the record say that somebody else wrote it."""
    record = json.loads(manifest.path.read_text())
    record["owner"].update(owner)
    manifest.path.write_text(json.dumps(record))


def abandoned(tmp_path: Path, registry: Path) -> tuple[Manifest, Path]:
    """The manifest of a lab that was killed, with a folder on record."""
    folder = tmp_path / "run"
    manifest = Manifest(folder / "manifest.json", registry=registry)
    manifest.will_create(Kind.FOLDER, folder)
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_text("x")
    disown(manifest, pid=dead_pid())
    return manifest, folder


def test_the_record_is_on_disk_before_the_thing_is_made(tmp_path: Path, registry: Path) -> None:
    manifest = Manifest(tmp_path / "run" / "manifest.json", registry=registry)
    manifest.will_create(Kind.CGROUP, tmp_path / "cgroup")
    record = json.loads(manifest.path.read_text())
    assert record["created"] == [{"kind": "cgroup", "path": str(tmp_path / "cgroup")}]
    assert record["owner"] == {"pid": os.getpid(), "start_ticks": start_ticks(os.getpid()), "boot_id": boot_id()}
    (announcement,) = registry.iterdir()
    assert json.loads(announcement.read_text()) == {"manifest": str(manifest.path)}


def test_a_dead_lab_is_cleaned_by_its_manifest_once(tmp_path: Path, registry: Path) -> None:
    _, folder = abandoned(tmp_path, registry)
    bystander = tmp_path / "run-2"
    bystander.mkdir()
    (cleaned,) = clean(registry)
    assert (cleaned.alive, cleaned.removed, cleaned.kept) == (False, (str(folder),), ())
    assert not folder.exists()
    assert bystander.exists()
    assert clean(registry) == []


def test_a_running_lab_is_left_alone(tmp_path: Path, registry: Path) -> None:
    folder = tmp_path / "run"
    Manifest(folder / "manifest.json", registry=registry).will_create(Kind.FOLDER, folder)
    assert [cleaned.alive for cleaned in clean(registry)] == [True]
    assert folder.exists()


@pytest.mark.parametrize("owner", [{"start_ticks": 1}, {"boot_id": "another"}])
def test_a_reused_process_id_does_not_count_as_the_lab(
    tmp_path: Path, registry: Path, owner: dict[str, object]
) -> None:
    folder = tmp_path / "run"
    manifest = Manifest(folder / "manifest.json", registry=registry)
    manifest.will_create(Kind.FOLDER, folder)
    disown(manifest, **owner)
    assert [cleaned.removed for cleaned in clean(registry)] == [(str(folder),)]


def test_a_lab_that_ended_in_order_keeps_its_results(tmp_path: Path, registry: Path) -> None:
    folder = tmp_path / "run"
    manifest = Manifest(folder / "manifest.json", registry=registry)
    manifest.will_create(Kind.FOLDER, folder)
    manifest.finish()
    assert clean(registry) == []
    assert folder.exists()
    assert json.loads(manifest.path.read_text())["finished"] is True


def test_what_was_removed_in_order_is_off_the_record(tmp_path: Path, registry: Path) -> None:
    manifest = Manifest(tmp_path / "run" / "manifest.json", registry=registry)
    manifest.will_create(Kind.CGROUP, tmp_path / "a")
    manifest.will_create(Kind.CGROUP, tmp_path / "a")
    manifest.removed(Kind.CGROUP, tmp_path / "a")
    assert json.loads(manifest.path.read_text())["created"] == []


def test_a_manifest_that_was_deleted_with_its_run_leaves_no_announcement(tmp_path: Path, registry: Path) -> None:
    manifest, _ = abandoned(tmp_path, registry)
    manifest.path.unlink()
    (announcement,) = registry.iterdir()
    assert clean(registry)[0].kept == ()
    assert announcement.exists()  # its writer, this process, lives: it may be about to write
    announcement.rename(registry / f"{dead_pid()}-1-00.json")
    clean(registry)
    assert list(registry.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{}", '{"owner": {}, "created": []}', '{"owner": 3}'])
def test_an_unreadable_manifest_is_reported_and_nothing_is_removed(tmp_path: Path, registry: Path, text: str) -> None:
    manifest, folder = abandoned(tmp_path, registry)
    manifest.path.write_text(text)
    (cleaned,) = clean(registry)
    assert "not readable" in cleaned.kept[0]
    assert folder.exists()


def test_what_cannot_be_removed_is_named_and_tried_again(tmp_path: Path, registry: Path) -> None:
    folder = tmp_path / "not-a-folder"
    manifest = Manifest(tmp_path / "run" / "manifest.json", registry=registry)
    manifest.will_create(Kind.FOLDER, folder)
    folder.write_text("a file")
    disown(manifest, pid=dead_pid())
    assert str(folder) in clean(registry)[0].kept[0]
    folder.unlink()
    assert clean(registry)[0].removed == (str(folder),)
    assert clean(registry) == []


def test_a_cgroup_that_the_machine_refused_is_not_on_record(
    tmp_path: Path, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without root there is none; the record of a lab that ended in order would be "cleaned" by the next one."""
    (tmp_path / "file").touch()
    monkeypatch.setattr(supervisor, "find_root", lambda: tmp_path / "file")
    manifest = Manifest(tmp_path / "run" / "manifest.json", registry=registry)
    nodes = supervisor.Supervisor(cast(Hosts, None), cast(Keeper, None), manifest=manifest)
    asyncio.run(nodes.stop())
    manifest.finish()
    assert list(registry.iterdir()) == []


def test_an_owner_is_told_from_a_zombie(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-I", "-S", "-c", "pass"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    assert start_ticks(ended.pid) is None
    ended.wait()
    assert Owner.this_process().alive()


def test_the_registry_is_one_folder_for_each_user() -> None:
    assert registry_folder() == registry_folder()
    assert registry_folder().name.startswith("brokerlab")
