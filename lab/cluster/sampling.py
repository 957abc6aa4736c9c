"""Memory and CPU of every node, sampled with psutil into metrics.jsonl."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

INTERVAL_S = 0.5


class Sampler:
    """Writes one JSON line for each running node at each interval: ``t_ns`` (monotonic), rss in bytes, CPU in s."""

    def __init__(self, running: Callable[[], Mapping[str, int]], path: Path, *, interval_s: float = INTERVAL_S) -> None:
        self._running = running
        self._path = path
        self._interval_s = interval_s
        self._known: dict[int, psutil.Process] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin sampling in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="sampler")

    async def stop(self) -> None:
        """Take one last sample and end."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
            self.sample()

    def sample(self) -> list[dict[str, object]]:
        """Take one sample of every running node, append it to the file, and return it."""
        rows = []
        running = self._running()
        for node, pid in running.items():
            row = self._look(node, pid)
            if row is not None:
                rows.append(row)
        self._known = {pid: self._known[pid] for pid in running.values() if pid in self._known}
        if rows:
            with self._path.open("a") as file:
                file.write("".join(json.dumps(row) + "\n" for row in rows))
        return rows

    async def _run(self) -> None:
        while True:
            self.sample()
            await asyncio.sleep(self._interval_s)

    def _look(self, node: str, pid: int) -> dict[str, object] | None:
        try:
            process = self._known.setdefault(pid, psutil.Process(pid))
            with process.oneshot():
                times, memory = process.cpu_times(), process.memory_info()
                return {
                    "t_ns": time.monotonic_ns(),
                    "node": node,
                    "pid": pid,
                    "rss": memory.rss,
                    "cpu_s": round(times.user + times.system, 3),
                    "threads": process.num_threads(),
                    "state": process.status(),
                }
        except psutil.Error:
            return None  # it ended a moment ago; its exit is reported elsewhere
