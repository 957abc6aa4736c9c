"""The pool of client workers: what it makes of a worker that is gone."""

import asyncio
import os
import signal
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import cast

import pytest

from lab import crew
from lab.errors import LabBugError, SetupError
from lab.planfile import build_plan
from lab.workers import pool
from lab.workers.messages import Crashed, Ready
from lab.workers.worker import WorkerSpec


def waits(spec: WorkerSpec, pipe: Connection, lab_pid: int) -> None:
    """A worker that never answers."""
    pipe.recv()


def waits_long(spec: WorkerSpec, pipe: Connection, lab_pid: int) -> None:
    """A worker that hears one command, and answers only to the second."""
    pipe.recv()
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


def crashes(spec: WorkerSpec, pipe: Connection, lab_pid: int) -> None:
    """A worker that meets an error and says so."""
    pipe.send(Crashed(spec.host, "no space left"))
    pipe.recv()


@pytest.mark.parametrize("work", [leaves, crashes])
def test_the_loss_of_a_worker_is_heard_at_once(work: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when the worker is asked next, which may be hours later, after a load that nobody will judge."""
    monkeypatch.setattr(pool, "worker_main", work)
    workers = pool.Pool()
    workers.fork([cast(WorkerSpec, SimpleNamespace(host="client-1"))])

    async def wait() -> None:
        trouble = asyncio.Event()
        workers.on_trouble = trouble.set
        workers.listen()
        async with asyncio.timeout(60.0):
            await trouble.wait()

    try:
        asyncio.run(wait())
    finally:
        workers.close()


def test_a_worker_that_stands_still_is_the_machine_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The drain asks it, and its time runs out; what its clients saw is not known, and nothing is judged."""
    monkeypatch.setattr(pool, "worker_main", waits_long)
    monkeypatch.setattr(crew, "GRACE_S", 0.0)
    workers = pool.Pool()
    workers.fork([cast(WorkerSpec, SimpleNamespace(host="client-1"))])

    async def drain() -> None:
        workers.listen()
        plan = build_plan({"load": {"operation_timeout": "1ms"}}, "test")
        await crew.Crew(workers, plan).consume_until({}, 0)

    try:
        with pytest.raises(SetupError, match="on client-1 did not answer within 0 s: it stands still"):
            asyncio.run(drain())
    finally:
        workers.close()
