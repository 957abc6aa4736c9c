"""One run from plan to verdict: start, load and faults, drain, merge, judge, take down.

Client workers fork before an event loop or a long-lived thread exists in the lab; nodes start meanwhile. Ctrl-C stops
the load, heals, drains and judges what there is; a second one takes everything down at once.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import logging
import os
import platform
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from lab.cluster.manifest import clean
from lab.cluster.supervisor import NodeExit
from lab.crew import Crew
from lab.drain import DrainPhase, Outcome
from lab.duration import Duration
from lab.errors import InterruptedJudgingError, LabBugError, PlanError, SetupError
from lab.generator.faults import fault_schedule
from lab.generator.threads import Threads, threads_of
from lab.groups import GroupFinal
from lab.journal import Journal
from lab.merge import merge_journals
from lab.plan import JAVA_CLIENT, Plan
from lab.plan import Drain as DrainBounds
from lab.planfile import write_plan
from lab.record import LabRecord
from lab.rundir import RunDir
from lab.schedule import FaultRecorder, Schedule
from lab.show import Show, Silent
from lab.stage import Stage
from lab.survivors import Survivors
from lab.systems.settings import check_settings
from lab.topology import BROKER_PORT, NAMESRV_PORT, Topology, topology_of
from lab.validate import validate
from lab.watch import Watch
from lab.workers.java.line import READY_S as JAVA_READY_S
from lab.workers.messages import Begin, Guarantees, Ready, Recorded, TellRecorded
from lab.workers.pool import Pool
from lab.workers.worker import WorkerSpec
from lab.workloads.classify import Guarantee
from lab.workloads.pace import Pace
from nemesis.fault import Record, Verified
from nemesis.flaws import LeverFlaw, numb
from nodes import compiled

if TYPE_CHECKING:
    from checkers.verdict import Verdict
    from lab.workers.java.program import JavaWorker

WORKER_READY_S: Final = 20.0  # beyond the start of a foreign client library, which has a limit of its own
BEGIN_DELAY_NS: Final = 5_000_000
SEED_BITS: Final = 31  # short enough to type


@dataclass(slots=True)
class Timings:
    """How long the parts of a run took, in seconds since it was asked for."""

    started: float = 0.0  # the cluster serves and the load begins
    first_ack: float | None = None
    load_ended: float = 0.0
    drained: float = 0.0
    down: float = 0.0
    tear_down: float = 0.0  # the taking down alone
    judged: float = 0.0


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run ends with."""

    verdict: "Verdict"
    folder: RunDir
    plan: Plan
    timings: Timings = field(default_factory=Timings)


def resolve(plan: Plan) -> Plan:
    """The plan with its seed drawn and the versions of what will run it."""
    seed = plan.seed if plan.seed is not None else int.from_bytes(os.urandom(8), "big") >> (64 - SEED_BITS)
    load = plan.load
    versions = {"python": platform.python_version(), "kernel": platform.release(), "brokerlab": _version()}
    versions["nodes"] = "compiled" if compiled.found() == compiled.COMPILED else "sources"
    if plan.cluster.system == "rocketmq":
        from lab.systems.rocketmq.system import release_of

        versions["rocketmq"] = release_of(plan).version
    if plan.load.client == "java":
        from lab.workers.java.program import client_release

        versions["java-client"] = client_release(plan).version
        load = msgspec.structs.replace(load, client_version=load.client_version or JAVA_CLIENT)
    return msgspec.structs.replace(plan, seed=seed, versions=versions, load=load)


def run_plan(plan: Plan, out: Path, show: Show | None = None, *, began: float | None = None) -> RunResult:
    """Carry out a plan. Raises PlanError before anything starts, SetupError if the cluster does not come up."""
    began = time.monotonic() if began is None else began
    show = show or Silent()
    plan = resolve(plan)
    topology = topology_of(plan)
    validate(plan, topology)
    for key in check_settings(plan):
        show.line(f"setting {key} is genuine and has no effect here")
    java = _java_worker(plan, show)
    clean()
    folder = RunDir.create(out, plan.name)
    folder.write_plan(write_plan(plan))
    run = Run(plan, topology, folder, show, began, java)
    try:
        run.go()
    finally:
        run.close()
    from lab.judging import judge_run  # numpy and the templates would only delay the start

    try:
        run.show.line(f"judging {merge_journals(folder, run.sizes)} events")
        verdict = judge_run(folder, plan.judge.remove)
    except KeyboardInterrupt:
        raise InterruptedJudgingError(
            f"interrupted while the run was judged; its recording stays: lab report {folder.path}"
        ) from None
    run.timings.judged = time.monotonic() - began
    return RunResult(verdict, folder, plan, run.timings)


def _java_worker(plan: Plan, show: Show) -> "JavaWorker | None":
    """The program of the Java clients, None if the plan's clients are our own. Raises SetupError."""
    if plan.load.client != "java":
        return None
    from lab.workers.java.program import doubts, java_worker

    found = java_worker(plan)
    show.line(f"clients: RocketMQ's Java client {found.release.version}, routes asked for every {plan.load.route_poll}")
    if words := doubts(plan):
        show.line(words)
    return found


class Run:
    """One run in progress."""

    def __init__(
        self,
        plan: Plan,
        topology: Topology,
        folder: RunDir,
        show: Show,
        began: float,
        java: "JavaWorker | None" = None,
    ) -> None:
        if plan.seed is None:
            raise LabBugError("a plan is resolved before it runs")
        self.plan = plan
        self.topology = topology
        self.folder = folder
        self.show = show
        self.seed: int = plan.seed
        self.timings = Timings()
        self._began = began
        self._java = java
        self._start_ns = time.monotonic_ns()
        self.run_id = hashlib.sha256(f"{plan.seed}/{time.time_ns()}/{os.getpid()}".encode()).hexdigest()[:8]
        self._journal = Journal(folder.journal("lab"), self._start_ns)
        self.record = LabRecord(self._journal)
        self.threads: Threads = threads_of(plan, topology)
        self.stage = Stage(plan, topology, folder, self.seed)
        self.pool = Pool()
        self._pace = Pace(0)
        self._schedule: Schedule | None = None
        self._interrupts = 0
        self._main: asyncio.Task[None] | None = None
        self._closed = False
        self.sizes: dict[str, int] = {}  # bytes that were written to each journal, by its writer

    def go(self) -> None:
        """Fork the workers, then live in an event loop until the drain is over."""
        hosts = self.stage.hosts
        nodes = (*self.topology.brokers, *self.topology.spares)
        addresses = {f"{hosts.address(node)}:{BROKER_PORT}": node for node in nodes}
        self.record.meta(
            self.plan, self.topology, self.stage.system, self.run_id, self.seed, len(self.threads), addresses
        )
        for key in hosts.without_effect:
            words = f"this kernel does not have {key}: TCP itself waits after a cut, for up to as long as that lasted"
            self.record.note("kernel-lacks", words)
            self.show.line(words)
        _log_workers(self.folder.log)
        self.pool.fork([self._worker(host) for host in self.topology.clients])
        with asyncio.Runner() as runner:
            runner.run(self._live())

    def close(self) -> None:
        """Take down what still stands. May be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            self.pool.close()
            self._journal.close()
            self.sizes["lab"] = self._journal.size
            with contextlib.suppress(OSError):  # a full disk is told of by the history, which needs more room
                self.folder.written.write_bytes(msgspec.json.encode(self.sizes))
            self.stage.hosts.close()
            self.stage.manifest.finish()
        finally:
            self.timings.down = self._since()
            self.show.close()

    # --- inside the loop

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt)
        try:
            await self._play()
        except asyncio.CancelledError:
            if self._interrupts < 2:
                raise
            self.show.line("interrupted again: taking everything down")
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            before = time.monotonic()
            self.stage.on_exit = None  # the ends of nodes from here on are the end of the run
            await self.stage.close()
            self.pool.close()
            self.timings.tear_down = time.monotonic() - before

    async def _play(self) -> None:
        stage, show = self.stage, self.show
        stage.on_exit = self._exited
        stage.on_guarantees = self._guarantees
        show.line(f"starting {len(self.topology.namesrvs)} name servers, {len(self.topology.brokers)} brokers")
        self.pool.listen()
        await stage.open()
        for node in self.topology.brokers:
            for words in await stage.system.unlike(node):
                self.record.odd_setting(node, words)
                show.line(words)
        await self._hear_ready()
        schedule = self._schedule = self._make_schedule()
        begin = time.monotonic_ns() + BEGIN_DELAY_NS
        self._pace = Pace(begin)
        self.pool.on_progress = self._progress
        self.pool.on_trouble = self._pace.stopped.set  # with less than the plan asks for nothing is judged
        self.record.phase("load-begin")  # before any client acts, however slow the machine is
        self.pool.tell(Begin(begin, stage.guarantees()))
        self.timings.started = self._since()
        show.line(f"load begins: {self.plan.load.rate} sends/s for {self.plan.time_limit}")
        if self._interrupts:
            self._pace.stopped.set()
        watch = Watch(stage, self.record, self._journal.now)
        watch.start()
        faults = asyncio.get_running_loop().create_task(schedule.run(self._pace))
        await self._pace.until(self.plan.time_limit.ns)
        self._pace.stopped.set()
        await faults
        self.timings.load_ended = self._since()
        survivors = Survivors(stage, schedule, self.record)
        outcome = await self._drain(survivors)
        await watch.stop()
        self._first_ack()
        if self.plan.load.workload == "queue" and self.plan.load.consumers:
            final = GroupFinal(self.plan, stage, outcome, survivors.dumps)
            self.record.note("group-final", await final.value())
        system = stage.system
        self.record.patterns(self.folder, stage.supervisor.nodes(), system.log_patterns, system.log_files)
        self._elections()
        await self._hear_recorded()
        self.record.phase("drain-end")
        self.timings.drained = self._since()

    def _exited(self, ended: NodeExit) -> None:
        """A node has ended. Called by the loop, where an error would be nobody's: a journal that the disk refused says
        so again with the next event."""
        with contextlib.suppress(OSError):
            self.record.exit(ended)

    def _elections(self) -> None:
        """What the nodes of groups that elect logged about it."""
        if self.stage.elected is None:
            return
        for group in self.topology.groups:
            for node in (*group.nodes, *group.spares):
                starts = self.stage.supervisor.starts.get(node, ())
                for value in self.stage.system.elections(node, self._start_ns, starts):
                    self.record.note("election", value)

    async def _drain(self, survivors: Survivors) -> Outcome:
        self.show.line("load ends; draining: heal, wait until ready, sentinels, read twice, dump replicas")
        phase = DrainPhase(
            self.topology,
            self._bounds(),
            survivors,
            _MarkedCrew(self.pool, self.plan, self.record),
            _ShownRecord(self.record, self.show),
            consumes=self.plan.load.workload == "queue" and self.plan.load.consumers > 0,
        )
        return await phase.run()

    def _bounds(self) -> DrainBounds:
        """Of the drain: nodes that start slowly recover slowly."""
        bounds, slow = self.plan.drain, Duration.seconds(self.stage.system.patience.start_s)
        return msgspec.structs.replace(bounds, recover_within=max(bounds.recover_within, slow))

    def _make_schedule(self) -> Schedule:
        flaws = [LeverFlaw(flaw) for flaw in self.plan.lever_flaws]
        world = numb(self.stage.world(self._journal.now), flaws)
        return Schedule(
            fault_schedule(self.plan, self.seed),
            world,
            FaultRecorder(self._journal, self.folder.faults),
            after_permanent=self._after_permanent,
            say=self.show.line,
        )

    async def _after_permanent(self, record: Record) -> None:
        """Under load an empty slave takes the place of what was destroyed, as soon as its group has a master."""
        if record.verified is not Verified.TRUE:
            return
        await self._pace.rest(self.plan.cluster.replace_after.s)
        returning = () if self._schedule is None else self._schedule.open
        for words in await self.stage.replace_destroyed(returning):
            self.record.note("replace", words)
            self.show.line(words)

    async def _hear_ready(self) -> None:
        limit = WORKER_READY_S + (0.0 if self._java is None else JAVA_READY_S)
        try:
            await self.pool.hear(Ready, limit)
        except TimeoutError as error:
            raise SetupError(f"not ready: {error}") from None

    async def _hear_recorded(self) -> None:
        """What the workers have written: a journal that is shorter when it is read was damaged meanwhile."""
        self.pool.tell(TellRecorded())
        try:
            for told in await self.pool.hear(Recorded, WORKER_READY_S):
                self.sizes[told.host] = told.size
        except TimeoutError as error:
            raise SetupError(f"{error}, and nothing was judged: run again") from None

    def _guarantees(self, of: Mapping[str, Guarantee]) -> None:
        self.pool.tell(Guarantees(dict(of)))

    def _progress(self) -> None:
        self._first_ack()
        seen = self.pool.progress.values()
        words = [f"{sum(getattr(one, key) for one in seen)} {key}" for key in ("ok", "fail", "info", "weak", "polled")]
        self.show.progress(", ".join(words))

    def _first_ack(self) -> None:
        if self.timings.first_ack is None:
            acks = [one.first_ack_ns for one in self.pool.progress.values() if one.first_ack_ns is not None]
            if acks:
                self.timings.first_ack = self._start_ns / 1e9 + min(acks) / 1e9 - self._began

    def _interrupt(self) -> None:
        self._interrupts += 1
        if self._interrupts == 1:
            self.record.phase("interrupted")
            self.show.line("interrupted: healing, draining and judging what there is (again to stop at once)")
            self._pace.stopped.set()
        elif self._main is not None:
            self._main.cancel()

    def _worker(self, host: str) -> WorkerSpec:
        hosts = self.stage.hosts
        return WorkerSpec(
            host=host,
            address=hosts.address(host),
            plan=self.plan,
            run=self.run_id,
            seed=self.seed,
            start_ns=self._start_ns,
            threads=self.threads,
            name_servers=tuple(f"{hosts.address(node)}:{NAMESRV_PORT}" for node in self.topology.namesrvs),
            folder=self.folder,
            enter=lambda: hosts.enter(host),
            java=self._java,
        )

    def _since(self) -> float:
        return time.monotonic() - self._began


class _MarkedCrew(Crew):
    """Marks the end of load in the history at the moment nothing is outstanding any more."""

    def __init__(self, pool: Pool, plan: Plan, record: LabRecord) -> None:
        super().__init__(pool, plan)
        self._record = record

    async def stop_load(self) -> tuple[bool, str]:
        """D1, then the marks."""
        done = await super().stop_load()
        self._record.phase("load-end")
        self._record.phase("drain-begin")
        return done


@dataclasses.dataclass(frozen=True, slots=True)
class _ShownRecord:
    """Shows each step of the drain where it is written; rules kept for single queues are not worth a line."""

    record: LabRecord
    show: Show

    def step(self, rule: str, scope: str, ok: bool, detail: str, excluded: Sequence[str]) -> None:
        self.record.step(rule, scope, ok, detail, excluded)
        if not ok or "/" not in scope:
            where = "" if scope == "*" else f" {scope}"
            self.show.line(f"drain {rule}{where}: {'' if ok else 'NOT KEPT: '}{detail[:160]}")


class _LogFile(logging.FileHandler):
    """Keeps quiet about a record that the disk refuses: it refuses the journals too, and that is told once."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is the library's
        del record


def _log_workers(path: Path) -> None:
    """Gather log records of the lab and its forked workers in one file."""
    from multiprocessing_logging import install_mp_handler

    logger = logging.getLogger("lab")
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    handler = _LogFile(path, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(name)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    install_mp_handler(logger)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("brokerlab")
    except PackageNotFoundError:
        return "unpacked"


def plan_problem(plan: Plan) -> str | None:
    """Why a plan cannot run, or None; for lists of scenarios."""
    try:
        validate(plan, topology_of(plan))
    except PlanError as error:
        return str(error)
    return None
