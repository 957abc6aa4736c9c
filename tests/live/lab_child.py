"""A whole small lab in a process of its own, for tests that kill it.

Hosts, cuts, nodes with children, a disk, a manifest.

Prints one JSON line when all stands, then waits to be killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from lab.cluster.disks import Disks
from lab.cluster.hosts import Hosts
from lab.cluster.keeper import Keeper
from lab.cluster.manifest import Kind, Manifest
from lab.cluster.network import LabNetwork, LeverName
from lab.cluster.supervisor import Supervisor
from tests.live.conftest import NAMES, READY_S, Cluster


async def main(folder: Path, with_disk: bool, use_cgroups: bool) -> None:
    """Build it all, say so, and wait."""
    manifest = Manifest(folder / "run" / "manifest.json", registry=folder / "registry")
    manifest.will_create(Kind.FOLDER, folder / "run")
    hosts, keeper = Hosts.build(NAMES), Keeper()
    network = LabNetwork(hosts, lever=LeverName.NFT)
    await network.open()
    supervisor = Supervisor(hosts, keeper, manifest=manifest, use_cgroups=use_cgroups)
    cluster = Cluster(hosts, keeper, network, supervisor, folder / "run")
    disks = Disks(keeper, folder / "run" / "disks")
    if with_disk:
        await disks.add(f"disk-of-{os.getpid()}", cluster.spec("node-1").store or folder)
    for name in NAMES[:3]:
        await supervisor.spawn(cluster.spec(name, "--fork"))
    for name in NAMES[:3]:
        await supervisor.ready(name, READY_S)
    await network.cut("f1", frozenset({("node-1", "node-2")}))
    await supervisor.pause("node-2")
    said = {
        "sessions": list(supervisor.running_pids().values()),
        "namespaces": [os.fstat(fd).st_ino for fd in (hosts.switch_fd, *(hosts.fd(name) for name in NAMES))],
        "stored": (keeper.view(folder / "run" / "node-1" / "store") / "file").exists(),
        "stored_outside": (folder / "run" / "node-1" / "store" / "file").exists(),
    }
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), "disk" in sys.argv[2:], "cgroups" in sys.argv[2:]))
