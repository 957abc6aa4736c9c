"""The lab's side of its workers: fork them early, talk to them over pipes, notice when one dies."""

import asyncio
import atexit
import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TypeVar

from lab.errors import LabBugError, SetupError
from lab.workers.messages import Answer, Command, Crashed, Progress, Quit
from lab.workers.worker import WorkerSpec, worker_main

Kind = TypeVar("Kind")
QUIT_S = 3.0


class Pool:
    """All workers of a run. Fork them before any event loop or long-lived thread exists in the lab."""

    def __init__(self) -> None:
        self._pipes: dict[str, Connection] = {}
        self._processes: dict[str, BaseProcess] = {}
        self._inbox: dict[str, list[Answer]] = {}
        self._news = asyncio.Event()
        self._gone: list[str] = []
        self.progress: dict[str, Progress] = {}
        self.on_progress: Callable[[], None] | None = None
        self.on_answer: Callable[[str, Answer], None] | None = None
        self.on_trouble: Callable[[], None] | None = None  # a worker is gone, or ends with an error

    def fork(self, specs: Sequence[WorkerSpec]) -> None:
        """Fork one worker for each spec; returns at once."""
        context = multiprocessing.get_context("fork")
        atexit.register(self.close)  # before multiprocessing's own handler, which would wait for workers for ever
        for spec in specs:
            ours, theirs = context.Pipe(duplex=True)
            process = context.Process(
                target=_child, args=(spec, theirs, [*self._pipes.values(), ours], os.getpid()), daemon=True
            )
            process.start()
            theirs.close()
            self._pipes[spec.host] = ours
            self._processes[spec.host] = process
            self._inbox[spec.host] = []

    @property
    def hosts(self) -> tuple[str, ...]:
        """The client hosts with a worker."""
        return tuple(self._pipes)

    def listen(self) -> None:
        """Take answers from now on; call inside the lab's event loop."""
        loop = asyncio.get_running_loop()
        for host, pipe in self._pipes.items():
            loop.add_reader(pipe.fileno(), self._receive, host, pipe)

    def tell(self, command: Command, hosts: Sequence[str] | None = None) -> None:
        """Send a command to all workers, or to some."""
        for host in hosts or self._pipes:
            try:
                self._pipes[host].send(command)
            except OSError:
                self._lost(host)

    async def hear(self, kind: type[Kind], timeout_s: float) -> list[Kind]:
        """One answer of this kind from every worker; raises LabBugError if one died, SetupError if the machine failed
        it, TimeoutError."""
        deadline = time.monotonic() + timeout_s
        found: dict[str, Kind] = {}
        while True:
            for host, inbox in self._inbox.items():
                for answer in list(inbox):
                    if isinstance(answer, Crashed):
                        if answer.machine:
                            raise SetupError(f"the client worker on {answer.host}: {answer.text}")
                        raise LabBugError(f"the client worker on {answer.host} failed: {answer.text}")
                    if isinstance(answer, kind) and host not in found:
                        found[host] = answer
                        inbox.remove(answer)
            if len(found) == len(self._pipes):
                return list(found.values())
            if self._gone:
                raise self._death(self._gone[0])
            self._news.clear()
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    await self._news.wait()
            except TimeoutError:
                silent = ", ".join(host for host in self._pipes if host not in found)
                raise TimeoutError(f"the client worker on {silent} did not answer within {timeout_s:.0f} s") from None

    def close(self) -> None:
        """End all workers: politely, then by SIGKILL of exactly these processes. May be called twice."""
        self.tell(Quit())
        deadline = time.monotonic() + QUIT_S
        for process in self._processes.values():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join(QUIT_S)
        for pipe in self._pipes.values():
            with contextlib.suppress(RuntimeError, OSError):  # no loop runs any more
                asyncio.get_running_loop().remove_reader(pipe.fileno())  # last words may wait to be heard
            pipe.close()
        self._pipes.clear()
        self._processes.clear()
        atexit.unregister(self.close)

    def pids(self) -> dict[str, int]:
        """Process id of each worker, for sampling."""
        return {host: process.pid for host, process in self._processes.items() if process.pid is not None}

    def _receive(self, host: str, pipe: Connection) -> None:
        try:
            while pipe.poll():
                answer: Answer = pipe.recv()
                if isinstance(answer, Progress):
                    self.progress[host] = answer
                    if self.on_progress is not None:
                        self.on_progress()
                    continue
                self._inbox[host].append(answer)
                if isinstance(answer, Crashed):
                    self._trouble()
                if self.on_answer is not None:
                    self.on_answer(host, answer)
        except (EOFError, OSError):
            self._lost(host)
        self._news.set()

    def _death(self, host: str) -> Exception:
        """Why the worker of this host is no more: nothing in the lab kills one, so who did stands outside."""
        process = self._processes[host]
        process.join(QUIT_S)
        if process.exitcode == -signal.SIGKILL:
            return SetupError(
                f"the client worker on {host} was killed from outside (SIGKILL; out of memory?); nothing was judged: "
                "run again, with more memory or less load"
            )
        return LabBugError(f"the client worker on {host} died (exit code {process.exitcode})")

    def _trouble(self) -> None:
        if self.on_trouble is not None:
            self.on_trouble()

    def _lost(self, host: str) -> None:
        if host not in self._gone:
            self._gone.append(host)
            self._trouble()
        try:
            asyncio.get_running_loop().remove_reader(self._pipes[host].fileno())
        except (RuntimeError, OSError):
            return  # no loop runs any more, or the pipe is closed already


def _child(spec: WorkerSpec, pipe: Connection, others: list[Connection], lab_pid: int) -> None:
    for other in others:
        other.close()  # a copy of the lab's end held here would hide the lab's death from its reader
    worker_main(spec, pipe, lab_pid)


def check_fork() -> None:
    """Refuse machines without fork; raises SetupError."""
    if "fork" not in multiprocessing.get_all_start_methods():
        raise SetupError("client workers need the start method fork, which this machine does not have")
