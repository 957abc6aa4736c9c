"""The pool of client workers: what it makes of a worker that is gone."""

import asyncio
import os
import signal
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import cast

import pytest

from lab.errors import LabBugError, SetupError
from lab.workers import pool
from lab.workers.messages import Ready
from lab.workers.worker import WorkerSpec


def waits(spec: WorkerSpec, pipe: Connection, lab_pid: int) -> None:
    """A worker that never answers."""
    pipe.recv()


def leaves(spec: WorkerSpec, pipe: Connection, lab_pid: int) -> None:
    """A worker that ends as no worker should."""
    os._exit(7)


@pytest.mark.parametrize(
    ("work", "error", "words"),
    [
        (waits, SetupError, "the client worker on client-1 was killed from outside"),
        (leaves, LabBugError, "exit code 7"),
    ],
)
def test_a_worker_that_was_killed_is_no_bug_of_the_lab(
    work: object, error: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel kills whoever takes the memory; the operator can act on that, and on no other end of a worker."""
    monkeypatch.setattr(pool, "worker_main", work)
    workers = pool.Pool()
    workers.fork([cast(WorkerSpec, SimpleNamespace(host="client-1"))])

    async def hear() -> None:
        workers.listen()
        if work is waits:
            os.kill(workers.pids()["client-1"], signal.SIGKILL)
        await workers.hear(Ready, 60.0)

    try:
        with pytest.raises(error, match=words):
            asyncio.run(hear())
    finally:
        workers.close()
