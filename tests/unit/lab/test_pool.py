"""The pool of client workers: what it makes of a worker that is gone."""

import asyncio
import os
import signal
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any, cast

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


def test_last_words_that_nobody_waits_for_are_no_error() -> None:
    """An answer came, and before its turn in the loop everything is taken down: a second Ctrl-C on a busy machine."""
    workers = pool.Pool()
    ours, theirs = Pipe()
    workers._pipes["client-1"] = ours
    problems: list[dict[str, Any]] = []

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
        workers.listen()
        theirs.send("last words")
        await asyncio.sleep(0)  # the loop has seen them, and comes to them after this step
        workers.close()
        await asyncio.sleep(0)

    asyncio.run(story())
    theirs.close()
    assert problems == []
