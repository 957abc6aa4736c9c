"""What a lab created outside its own memory, on record before it is created.

A lab that ends in order removes its things itself. One that was killed leaves its manifest, and ``clean`` removes
exactly what stands in it, once the lab that wrote it is certainly dead: same machine boot, and no process with this
id *and* this start time. Nothing is ever removed because its name looks like ours.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lab.cluster.cgroups import Cgroup


class Kind(StrEnum):
    """What can be on record."""

    CGROUP = "cgroup"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class Owner:
    """The lab process, told apart from any later process that gets its id."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def this_process(cls) -> Owner:
        """The calling process."""
        pid = os.getpid()
        return cls(pid, start_ticks(pid) or 0, boot_id())

    def alive(self) -> bool:
        """Whether that very process still runs."""
        return self.boot_id == boot_id() and start_ticks(self.pid) == self.start_ticks


def owner_of(manifest: Path) -> Owner | None:
    """The lab that wrote this manifest; None if it cannot be read."""
    try:
        return Owner(**json.loads(manifest.read_text())["owner"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def boot_id() -> str:
    """Identity of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None if there is no such process or only its zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold blanks and brackets
    return None if fields[0] in "ZX" else int(fields[19])


def registry_folder() -> Path:
    """Where labs of this user announce their manifests: a folder that is empty after a reboot, as the things are."""
    if os.geteuid() == 0 and os.access("/run", os.W_OK):  # root inside a user namespace may not write there
        return Path("/run/brokerlab")
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and os.access(base, os.W_OK):
        return Path(base, "brokerlab")
    outer_uid = Path("/proc/self/uid_map").read_text().split()[1] if os.geteuid() == 0 else os.geteuid()
    return Path(f"/tmp/brokerlab-{outer_uid}")


class Manifest:
    """The record of one lab, kept in the run's folder and announced in the registry."""

    def __init__(self, path: Path, *, registry: Path | None = None) -> None:
        self.path = path
        self.owner = Owner.this_process()
        self._entries: list[tuple[Kind, str]] = []
        registry = registry or registry_folder()
        registry.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._announcement = registry / f"{self.owner.pid}-{self.owner.start_ticks}-{os.urandom(4).hex()}.json"
        _write(self._announcement, {"manifest": str(path.absolute())})
        self._save(finished=False)

    def will_create(self, kind: Kind, path: Path) -> None:
        """Put it on record; returns after the record is on disk, so call it before creating the thing."""
        entry = (kind, str(path.absolute()))
        if entry not in self._entries:
            self._entries.append(entry)
            self._save(finished=False)

    def removed(self, kind: Kind, path: Path) -> None:
        """Take it off the record, after it was removed."""
        entry = (kind, str(path.absolute()))
        if entry in self._entries:
            self._entries.remove(entry)
            self._save(finished=False)

    def finish(self) -> None:
        """The lab ends in order: folders still on record are results and stay; nothing is left to clean."""
        self._entries = [entry for entry in self._entries if entry[0] is not Kind.FOLDER]
        self._save(finished=True)
        if not self._entries:
            self._announcement.unlink(missing_ok=True)

    def _save(self, *, finished: bool) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        owner = {"pid": self.owner.pid, "start_ticks": self.owner.start_ticks, "boot_id": self.owner.boot_id}
        created = [{"kind": kind.value, "path": path} for kind, path in self._entries]
        _write(self.path, {"owner": owner, "finished": finished, "created": created})


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What ``clean`` did with one announced manifest."""

    manifest: str
    alive: bool  # its lab still runs: nothing was touched
    removed: tuple[str, ...]
    kept: tuple[str, ...]  # could not be removed, with the reason


def clean(registry: Path | None = None) -> list[Cleaned]:
    """Remove what dead labs left, by their manifests. Safe to call at every start, also beside running labs."""
    registry = registry or registry_folder()
    if not registry.is_dir():
        return []
    return [_clean_one(announcement) for announcement in sorted(registry.iterdir()) if announcement.suffix == ".json"]


def _clean_one(announcement: Path) -> Cleaned:
    try:
        path = Path(json.loads(announcement.read_text())["manifest"])
        record = json.loads(path.read_text())
        owner = Owner(**record["owner"])
        entries = [(Kind(entry["kind"]), Path(entry["path"])) for entry in record["created"]]
    except FileNotFoundError:
        if not _writer_alive(announcement):
            announcement.unlink(missing_ok=True)
        return Cleaned(str(announcement), False, (), ())
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Cleaned(str(announcement), False, (), (f"{announcement}: not readable: {error}",))
    if owner.alive():
        return Cleaned(str(path), True, (), ())
    removed, kept = [], []
    for kind, thing in reversed(entries):
        reason = _remove(kind, thing)
        if reason is None:
            removed.append(str(thing))
        else:
            kept.append(f"{thing}: {reason}")
    if not kept:
        announcement.unlink(missing_ok=True)
    return Cleaned(str(path), False, tuple(removed), tuple(kept))


def _writer_alive(announcement: Path) -> bool:
    """Whether the lab that wrote this announcement lives; it may not have written its manifest yet."""
    pid, _, rest = announcement.name.partition("-")
    return pid.isdigit() and str(start_ticks(int(pid))) == rest.partition("-")[0]


def _remove(kind: Kind, thing: Path) -> str | None:
    """Remove one thing; None if it is gone now, else why not."""
    try:
        if kind is Kind.CGROUP:
            return None if Cgroup(thing).remove() else "still holds processes"
        shutil.rmtree(thing)
    except FileNotFoundError:
        return None
    except OSError as error:
        return str(error)
    return None


def _write(path: Path, value: object) -> None:
    """Replace the file whole, so that a reader never sees half a record."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    temporary.replace(path)
