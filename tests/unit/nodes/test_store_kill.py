"""A real process on the real disk, killed while it writes: what it had reported as written is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nodes.store.disk import DiskLocked, RealDisk
from tests.unit.nodes.store_samples import TOPIC, new_store

WRITER = """
import asyncio, sys
from nodes.store.disk import RealDisk
from tests.unit.nodes.store_samples import HOST, message, open_store

async def main():
    store = open_store(RealDisk(), root=sys.argv[1], sync_flush=sys.argv[2] == "flush", segment_size=65536)
    number = 0
    while True:
        store.append([message(f"{number + n}|" + "x" * (number % 200)) for n in range(4)], HOST)
        number += 4
        store.write_pending()
        if sys.argv[2] == "flush":
            await store.sync()
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()

asyncio.run(main())
"""


@pytest.mark.parametrize("mode", ["flush", "write"])
def test_kill_9_loses_nothing_that_was_reported(mode: str, tmp_path: Path) -> None:
    root = str(tmp_path / "store")
    process = subprocess.Popen([sys.executable, "-c", WRITER, root, mode], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        reported = 0
        while reported < 2000:
            line = process.stdout.readline()
            assert line, "the writer ended by itself"
            reported = int(line)
        disk = RealDisk()
        rival = new_store(disk, root=root, segment_size=65536)
        with pytest.raises(DiskLocked):
            rival.open()
    finally:
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().splitlines()
        process.stdout.close()
        process.wait(60)
    reported = max([reported, *(int(line) for line in rest if line)])
    store = new_store(disk, root=root, segment_size=65536, sync_flush=mode == "flush")
    found = store.open()
    assert not found.clean
    assert store.queue_bounds(TOPIC, 0)[1] >= reported
    records = store.read_queue(TOPIC, 0, 0, reported, 1 << 30).records
    assert all(f"{number}|".encode() in bytes(record) for number, record in enumerate(records))
    assert len(records) == reported
    store.close()
    disk.close()
