"""One client worker: forked, moved into its host, with an event loop of its own.

The worker takes commands from a pipe, runs its logical clients as tasks, and dies with the lab: by the death signal of
its parent thread, and by the end of the pipe.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

from lab.errors import SetupError, storage_refusal
from lab.generator.operations import log_schedule, send_schedule
from lab.generator.threads import Kind, Thread, Threads
from lab.journal import Journal
from lab.plan import Plan
from lab.rundir import RunDir
from lab.workers.java.actor import JavaActor
from lab.workers.java.client import JavaClients
from lab.workers.java.line import JavaLine
from lab.workers.java.program import JavaWorker
from lab.workers.java.pushing import JavaPusher
from lab.workers.messages import (
    Answer,
    Begin,
    Command,
    Consumed,
    ConsumeUntil,
    Crashed,
    Drained,
    DrainQueues,
    Guarantees,
    LoadEnded,
    PlaceSentinels,
    Progress,
    Quit,
    Ready,
    Recorded,
    SentinelsPlaced,
    StopLoad,
    TellRecorded,
)
from lab.workloads.actor import Actor, Scene
from lab.workloads.consuming import Consumer
from lab.workloads.draining import drain_queue, place_sentinel
from lab.workloads.log import log_loop
from lab.workloads.member import Member
from lab.workloads.pace import Pace
from lab.workloads.pushing import Pusher
from lab.workloads.sending import send_loop, send_one
from lab.workloads.values import value_of

PR_SET_PDEATHSIG: Final = 1
PROGRESS_S: Final = 0.25
CLOSE_S: Final = 1.0
CLIENT_KINDS: Final = (Kind.SEND, Kind.LOG, Kind.PULL)
"""Threads with a client of their own from the beginning; a push consumer makes its own when it joins its group."""
_log = logging.getLogger("lab.worker")


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """All that a worker needs to know; inherited through the fork."""

    host: str
    address: str
    plan: Plan
    run: str
    seed: int
    start_ns: int  # the run's zero on the monotonic clock
    threads: Threads
    name_servers: tuple[str, ...]
    folder: RunDir
    enter: Callable[[], None]  # moves the calling thread into the host
    java: JavaWorker | None = None  # the clients' library, if it is not our own


def worker_main(spec: WorkerSpec, pipe: Connection, lab_pid: int) -> None:
    """Body of the forked process; never returns to the lab's code."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != lab_pid:
        os._exit(0)  # the lab died before the death signal was set
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # for the lab, which then stops the load in order; it may go to the group
    try:
        spec.enter()
        import uvloop  # imported in the child, beside the start of the nodes

        uvloop.run(Worker(spec, pipe).run())
    except SetupError as error:
        with contextlib.suppress(OSError):
            pipe.send(Crashed(spec.host, str(error), machine=True))
        os._exit(1)
    except BaseException as error:
        _log.exception("worker on %s failed", spec.host)
        try:
            pipe.send(Crashed(spec.host, f"{type(error).__name__}: {error}"))
        except OSError:
            os._exit(1)
        os._exit(1)


class Worker:
    """The logical clients of one host."""

    def __init__(self, spec: WorkerSpec, pipe: Connection) -> None:
        self._spec = spec
        self._pipe = pipe
        self._scene = Scene(
            plan=spec.plan,
            run=spec.run,
            seed=spec.seed,
            threads=len(spec.threads),
            name_servers=spec.name_servers,
            address=spec.address,
            journal=Journal(spec.folder.journal(spec.host), spec.start_ns),
        )
        self._threads = spec.threads.on(spec.host)
        self._load: list[asyncio.Task[None]] = []
        self._consumers: list[Consumer | Member] = []
        self._consuming: list[asyncio.Task[None]] = []
        self._background: set[asyncio.Task[None]] = set()
        self._drains: dict[str, Actor] = {}
        self._pace = Pace(0)
        self._consume_pace = Pace(0)
        self._quit = asyncio.Event()
        self._java: JavaLine | None = None
        self._java_clients: JavaClients | None = None

    async def run(self) -> None:
        """Serve the lab until it says quit or its end of the pipe closes."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._pipe.fileno(), self._receive)
        await self._start_java()
        for thread in self._threads:
            if thread.kind is Kind.DRAIN:
                self._drains[str(thread.queues[0])] = self._actor(thread)
        self._say(Ready(self._spec.host))
        progress = loop.create_task(self._report())
        await self._quit.wait()
        loop.remove_reader(self._pipe.fileno())
        progress.cancel()
        self._pace.stopped.set()
        self._consume_pace.stopped.set()
        tasks = [*self._load, *self._consuming, *self._background]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CLOSE_S)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=CLOSE_S)
        if self._java is not None:
            await self._java.close()
        self._scene.journal.close()
        os._exit(0)  # sockets go with the process; waiting for polite closes would only cost time

    async def _start_java(self) -> None:
        """Run the Java program, if the plan wants it, with a client ready for each thread of the load."""
        spec, load = self._spec, self._spec.plan.load
        if spec.java is None:
            return
        folder = spec.folder.client(spec.host)
        argv = spec.java.argv(spec.plan, spec.name_servers, spec.address, folder)
        self._java = await JavaLine.start(argv, folder, self._java_ended)
        self._java_clients = JavaClients(self._java, spec.run, load.group)
        await self._java_clients.prepare(sum(thread.kind in CLIENT_KINDS for thread in self._threads))

    def _java_ended(self, words: str) -> None:
        self._say(Crashed(self._spec.host, f"the Java client program: {words}", machine=True))

    def _actor(self, thread: Thread) -> Actor:
        if self._java_clients is None:
            return Actor(self._scene, thread.number)
        fresh = thread.kind in (Kind.DRAIN, Kind.LATE)
        return JavaActor(self._scene, thread.number, self._java_clients, fresh=fresh)

    def _receive(self) -> None:
        try:
            while self._pipe.poll():
                self._obey(self._pipe.recv())
        except (EOFError, OSError):
            self._quit.set()  # the lab is gone

    def _obey(self, command: Command) -> None:
        match command:
            case Begin():
                self._scene.guarantees = dict(command.guarantees)
                self._begin(command.begin_ns)
            case Guarantees():
                self._scene.guarantees = dict(command.of)
            case StopLoad():
                self._pace.stopped.set()
            case PlaceSentinels():
                self._spawn(self._place(command))
            case DrainQueues():
                self._spawn(self._drain(command))
            case ConsumeUntil():
                self._spawn(self._consume_until(command))
            case TellRecorded():
                self._say(Recorded(self._spec.host, self._scene.journal.size))
            case Quit():
                self._quit.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._watched(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            _log.exception("a task of the worker on %s failed", self._spec.host)
            refusal = storage_refusal(error, self._spec.folder.path) if isinstance(error, OSError) else None
            words = str(refusal) if refusal is not None else f"{type(error).__name__}: {error}"
            self._say(Crashed(self._spec.host, words, machine=refusal is not None))

    def _begin(self, begin_ns: int) -> None:
        self._pace = Pace(begin_ns)
        self._consume_pace = Pace(begin_ns)
        zero = begin_ns - self._spec.start_ns
        loop = asyncio.get_running_loop()
        pushed: Thread | None = None
        for thread in self._threads:
            actor = self._actor(thread)
            match thread.kind:
                case Kind.SEND:
                    schedule = send_schedule(self._spec.plan, self._spec.seed, thread)
                    self._load.append(loop.create_task(self._watched(send_loop(actor, self._pace, schedule, zero))))
                case Kind.LOG:
                    schedule = log_schedule(self._spec.plan, self._spec.seed, thread)
                    self._load.append(loop.create_task(self._watched(log_loop(actor, self._pace, schedule, zero))))
                case Kind.PULL:
                    consumer = Consumer(actor, thread.queues, self._spec.plan.load.group)
                    self._consumers.append(consumer)
                    self._consuming.append(loop.create_task(self._watched(consumer.run(self._consume_pace))))
                case Kind.PUSH:
                    pushed = thread
                case Kind.HANDLE if pushed is not None:
                    member = Member(Actor(self._scene, pushed.number), actor, thread.queues)
                    self._consumers.append(member)
                    pusher = Pusher(member) if self._java is None else JavaPusher(self._java, member)
                    self._consuming.append(loop.create_task(self._watched(pusher.run(self._consume_pace))))
                case Kind.LATE:
                    self._load.append(loop.create_task(self._watched(self._late(actor, thread))))
                case _:
                    continue
        self._spawn(self._end_of_load())

    async def _late(self, actor: Actor, thread: Thread) -> None:
        if await self._pace.until(self._spec.plan.load.late_at.ns):
            value = value_of(self._spec.run, thread.number, 0)
            await send_one(actor, "send", thread.queues[0], value, client="late")

    async def _end_of_load(self) -> None:
        if self._load:
            await asyncio.wait(self._load)
        self._say(LoadEnded(self._spec.host))

    async def _place(self, command: PlaceSentinels) -> None:
        mine = [queue for queue in command.queues if str(queue) in self._drains]
        found = await asyncio.gather(
            *(
                place_sentinel(self._drains[str(queue)], queue, command.deadline_ns, command.first_counter)
                for queue in mine
            )
        )
        placed = tuple(sentinel for sentinel in found if sentinel is not None)
        missing = tuple(queue for queue, sentinel in zip(mine, found, strict=True) if sentinel is None)
        self._say(SentinelsPlaced(placed, missing))

    async def _drain(self, command: DrainQueues) -> None:
        mine = [sentinel for sentinel in command.sentinels if str(sentinel.queue) in self._drains]
        done = await asyncio.gather(
            *(
                drain_queue(
                    self._drains[str(sentinel.queue)],
                    sentinel.queue,
                    sentinel.offset,
                    command.round,
                    command.deadline_ns,
                )
                for sentinel in mine
            )
        )
        complete = tuple(sentinel.queue for sentinel, good in zip(mine, done, strict=True) if good)
        incomplete = tuple(sentinel.queue for sentinel, good in zip(mine, done, strict=True) if not good)
        self._say(Drained(command.round, complete, incomplete))

    async def _consume_until(self, command: ConsumeUntil) -> None:
        loop = asyncio.get_running_loop()
        behind: dict[str, int] = {}
        for consumer in self._consumers:
            consumer.aim(command.goal)
        deadline = loop.time() + max(0.0, (command.deadline_ns - self._scene.journal.monotonic()) / 1e9)
        for consumer in self._consumers:
            try:
                async with asyncio.timeout_at(deadline):
                    await consumer.reached.wait()
            except TimeoutError:
                behind.update(consumer.behind())
        self._consume_pace.stopped.set()
        if self._consuming:
            await asyncio.wait(self._consuming, timeout=self._spec.plan.load.operation_timeout.s + 3)
        self._say(Consumed(behind))

    async def _report(self) -> None:
        while True:
            tally = self._scene.tally
            self._say(
                Progress(
                    self._spec.host,
                    tally.ok,
                    tally.fail,
                    tally.info,
                    tally.weak,
                    tally.polled,
                    tally.skipped,
                    tally.first_ack_ns,
                )
            )
            await asyncio.sleep(PROGRESS_S)

    def _say(self, answer: Answer) -> None:
        try:
            self._pipe.send(answer)
        except OSError:
            self._quit.set()
