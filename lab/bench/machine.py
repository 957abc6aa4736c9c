"""What figures were measured on."""

import os
import platform
import statistics
import time
from pathlib import Path

import psutil

from nodes import compiled


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "cpus": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "nodes": compiled.found(),
        "disk_fsync_median_ms": round(median_fsync_ms(Path.cwd() / "runs" / ".bench"), 3),
    }


def median_fsync_ms(folder: Path, rounds: int = 200) -> float:
    """Median time of append 300 bytes and fdatasync in this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"fsync-{os.getpid()}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        took = []
        for _ in range(rounds):
            began = time.perf_counter()
            os.write(descriptor, b"x" * 300)
            os.fdatasync(descriptor)
            took.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(took) * 1000
