"""What a lab could leave behind on the machine, listed so that before and after can be compared."""

import os
import shutil
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path

COMMAND_S = 20.0


@dataclass(frozen=True, slots=True)
class Traces:
    """Everything outside the runs' folders that labs make, as sets of lines."""

    namespaces: frozenset[str]  # named ones; ours have no names
    processes: frozenset[str]  # whose command line names the runs' folder
    rules: frozenset[str]
    mounts: frozenset[str]
    loops: frozenset[str]
    cgroups: frozenset[str]

    def more_than(self, before: "Traces") -> list[str]:
        """What is here and was not before, in words."""
        return [
            f"{field.name}: {line}"
            for field in fields(self)
            for line in sorted(getattr(self, field.name) - getattr(before, field.name))
        ]


def traces(runs: Path) -> Traces:
    """Look now. ``runs`` is the folder of the runs whose processes count."""
    return Traces(
        namespaces=frozenset(os.listdir("/run/netns")) if Path("/run/netns").is_dir() else frozenset(),
        processes=_processes(str(runs.resolve())),
        rules=_rules(),
        mounts=frozenset(_mounts()),
        loops=frozenset(_loops()),
        cgroups=_cgroups(),
    )


def _processes(needle: str) -> frozenset[str]:
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdigit() or path.name == str(os.getpid()):
            continue
        try:
            words = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if needle in words and "nodes" in words:
            found.append(f"{path.name} {words[:160]}")
    return frozenset(found)


def _rules() -> frozenset[str]:
    nft = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")
    if nft is None:
        return frozenset()
    done = subprocess.run([nft, "list", "ruleset"], capture_output=True, text=True, timeout=COMMAND_S, check=False)
    return frozenset(line.strip() for line in done.stdout.splitlines() if line.strip())


def _mounts() -> list[str]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def _loops() -> list[str]:
    return [str(path) for path in Path("/sys/block").glob("loop*/loop/backing_file")]


def _cgroups() -> frozenset[str]:
    mine = f"brokerlab-{os.getpid()}-"
    roots = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
    return frozenset(str(path) for root in roots if root.is_dir() for path in root.glob(f"{mine}*"))
