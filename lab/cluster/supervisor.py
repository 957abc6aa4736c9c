"""Starts, watches, hurts and ends the nodes' processes.

Every node runs in its host's network namespace, in its own session, its own cgroup where the machine has cgroup
version 2, with a stdin that ends when the lab ends and a death signal if the lab is killed; a guardian kills its
children then. Exits are noticed through pidfds and told apart: expected ones belong to a fault or to the end of the
run, all others are findings (checkers C20).

The class implements ``nemesis.world.Processes``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from lab.cluster.asking import ask
from lab.cluster.cgroups import Cgroup, find_root
from lab.cluster.guardian import Guardian
from lab.cluster.hosts import Hosts
from lab.cluster.keeper import Keeper
from lab.cluster.manifest import Kind, Manifest, start_ticks
from nemesis.world import LeverError, NodeState, PortState

ASK_TIMEOUT_S = 1.0
READY_POLL_S = 0.01
EXIT_WAIT_S = 10.0
STOPPED_WAIT_S = 2.0
STDERR_TAIL = 2000


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """How to run one node; the same spec serves every incarnation."""

    name: str
    host: str
    argv: tuple[str, ...]
    port: int
    folder: Path  # stderr and stdout are appended to ``folder/stderr``
    ping: bytes = b""  # a whole request that a serving node answers at once
    _: KW_ONLY
    ping_s: float = ASK_TIMEOUT_S  # how long it may take as long as the node is starting
    store: Path | None = None  # what ``destroy`` deletes
    env: Mapping[str, str] = field(default_factory=dict)  # added to the lab's own
    cwd: Path | None = None


@dataclass(frozen=True, slots=True)
class NodeExit:
    """The end of one incarnation."""

    node: str
    pid: int
    incarnation: int
    code: int | None  # exit status, None if a signal ended it
    signal: str | None  # e.g. SIGKILL
    expected: bool
    fault: str | None  # the fault that ended it, if one did
    t_ns: int  # machine's monotonic clock


class NodeNotReadyError(Exception):
    """The node ended or did not answer in time; the message has the end of its stderr."""


class _Process:
    """One incarnation."""

    def __init__(self, popen: subprocess.Popen[bytes], incarnation: int, pidfd: int, cgroup: Cgroup | None) -> None:
        self.popen = popen
        self.pid = popen.pid
        self.incarnation = incarnation
        self.start_ticks = start_ticks(popen.pid) or 0
        self.pidfd = pidfd
        self.cgroup = cgroup
        self.ended_by: signal.Signals | None = None  # the signal by which the lab meant to end it
        self.fault: str | None = None
        self.paused = False
        self.exited = asyncio.Event()

    @property
    def running(self) -> bool:
        return not self.exited.is_set()


class Supervisor:
    """All nodes of one lab. Use inside one event loop; ``await stop()`` at the end."""

    def __init__(
        self,
        hosts: Hosts,
        keeper: Keeper,
        *,
        manifest: Manifest | None = None,
        on_exit: Callable[[NodeExit], None] | None = None,
        use_cgroups: bool = True,
    ) -> None:
        self.hosts = hosts
        self.keeper = keeper
        self.exits: list[NodeExit] = []
        self.starts: dict[str, list[int]] = {}  # node: when each incarnation was started, machine's monotonic clock
        self._on_exit = on_exit
        self._manifest = manifest
        self._specs: dict[str, NodeSpec] = {}
        self._processes: dict[str, _Process] = {}
        self._incarnations: dict[str, int] = {}
        self._destroyed: dict[str, str] = {}  # node to the fault that did it, until it is started again
        self._changing: dict[str, asyncio.Lock] = {}  # of each node: its process is started or ended by one at a time
        self._cgroups = self._make_cgroup() if use_cgroups else None
        self._guardian = Guardian(self._cgroups.folder if self._cgroups is not None else None)

    # --- starting and watching

    def declare(self, spec: NodeSpec) -> None:
        """Make a node known, or change how its next incarnation runs."""
        self._specs[spec.name] = spec
        self._incarnations.setdefault(spec.name, 0)
        self._changing.setdefault(spec.name, asyncio.Lock())

    def spec(self, node: str) -> NodeSpec:
        """How the node runs. Raises LeverError for an unknown node."""
        try:
            return self._specs[node]
        except KeyError:
            raise LeverError(f"no node is called {node}") from None

    async def spawn(self, spec: NodeSpec) -> int:
        """Declare and start; returns the process id at once, see ``ready``. Raises LeverError."""
        self.declare(spec)
        await self.start(spec.name)
        return self._processes[spec.name].pid

    async def start(self, node: str) -> str:
        """Start the node's next incarnation. Raises LeverError if it runs already or cannot be executed."""
        spec = self.spec(node)
        async with self._changing[node]:
            return await self._start(node, spec)

    async def _start(self, node: str, spec: NodeSpec) -> str:
        if self._running(node) is not None:
            raise LeverError(f"{node} runs already")
        incarnation = self._incarnations[node] + 1
        began_ns = time.monotonic_ns()
        try:
            popen, cgroup = await self.keeper.run(self._spawn, spec)
        except OSError as error:
            raise LeverError(f"{node} cannot be started: {error}") from error
        self._guardian.add(popen.pid)
        pidfd = os.pidfd_open(popen.pid)
        process = _Process(popen, incarnation, pidfd, cgroup)
        self._incarnations[node] = incarnation
        self.starts.setdefault(node, []).append(began_ns)
        self._processes[node] = process
        self._destroyed.pop(node, None)
        asyncio.get_running_loop().add_reader(pidfd, self._reap, node, process)
        return f"started {node} as pid {process.pid}, incarnation {incarnation}"

    async def ready(self, node: str, timeout_s: float) -> None:
        """Wait until the node answers on its port. Raises NodeNotReadyError, at once if it ends meanwhile."""
        deadline = time.monotonic() + timeout_s
        while True:
            process = self._running(node)
            if process is None:
                raise NodeNotReadyError(f"{node} ended before it was ready{self._last_words(node)}")
            state = await self.port(node, min(self.spec(node).ping_s, max(0.01, deadline - time.monotonic())))
            if state is PortState.ANSWERS:
                return
            if time.monotonic() >= deadline:
                raise NodeNotReadyError(f"{node} did not answer within {timeout_s:g} s{self._last_words(node)}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(READY_POLL_S):
                    await process.exited.wait()

    def nodes(self) -> Sequence[str]:
        """All declared nodes, in the order of their declaration."""
        return list(self._specs)

    def state(self, node: str) -> NodeState:
        """The node's state as known here."""
        self.spec(node)
        process = self._processes.get(node)
        if process is None:
            return NodeState.ABSENT
        if process.running:
            return NodeState.PAUSED if process.paused else NodeState.RUNNING
        return NodeState.DESTROYED if node in self._destroyed else NodeState.DEAD

    def pid(self, node: str) -> int | None:
        """Process id of the current or last incarnation."""
        process = self._processes.get(node)
        return None if process is None else process.pid

    def incarnation(self, node: str) -> int:
        """How many times the node was started."""
        return self._incarnations.get(node, 0)

    def destroyed_by(self, node: str) -> str | None:
        """The fault that destroyed the node; None if none did, or it was started again since."""
        return self._destroyed.get(node)

    def starved_ns(self, node: str) -> int | None:
        """For how long the running incarnation was ready to run and had no CPU; None if that is not known here."""
        process = self._running(node)
        return None if process is None or process.cgroup is None else process.cgroup.starved_ns()

    def running_pids(self) -> dict[str, int]:
        """Nodes that run now (paused ones too) with their process ids."""
        return {node: process.pid for node, process in self._processes.items() if process.running}

    async def wait_exit(self, node: str, timeout_s: float) -> NodeExit:
        """Wait for the end of the node's current incarnation. Raises TimeoutError."""
        process = self._processes[node]
        async with asyncio.timeout(timeout_s):
            await process.exited.wait()
        return next(exit_ for exit_ in reversed(self.exits) if exit_.node == node and exit_.pid == process.pid)

    # --- levers

    async def kill(self, node: str, fault_id: str) -> str:
        """SIGKILL the node and its children; returns after the kernel reaped it. Raises LeverError if it is dead."""
        self.spec(node)
        async with self._changing[node]:
            return await self._kill(node, fault_id)

    async def _kill(self, node: str, fault_id: str) -> str:
        process = self._must_run(node)
        process.ended_by, process.fault = signal.SIGKILL, fault_id
        self._signal(process, signal.SIGKILL)
        await self._until_exit(node, process)
        return f"SIGKILL {node} pid {process.pid}"

    async def terminate(self, node: str, grace_s: float, fault_id: str | None = None) -> str:
        """SIGTERM the node, and SIGKILL it after ``grace_s``; an expected exit."""
        self.spec(node)
        async with self._changing[node]:
            return await self._terminate(node, grace_s, fault_id)

    async def _terminate(self, node: str, grace_s: float, fault_id: str | None) -> str:
        process = self._must_run(node)
        process.ended_by, process.fault = signal.SIGTERM, fault_id
        self._signal(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await process.exited.wait()
        except TimeoutError:
            self._signal(process, signal.SIGKILL)
            await self._until_exit(node, process)
            return f"SIGTERM {node} pid {process.pid}, SIGKILL after {grace_s:g} s"
        return f"SIGTERM {node} pid {process.pid}"

    async def destroy(self, node: str, fault_id: str) -> str:
        """SIGKILL the node if it runs, and delete its store folder. Raises LeverError if that is gone already."""
        spec = self.spec(node)
        async with self._changing[node]:
            return await self._destroy(node, spec, fault_id)

    async def _destroy(self, node: str, spec: NodeSpec, fault_id: str) -> str:
        if spec.store is None:
            raise LeverError(f"{node} has no store folder")
        if self.state(node) is NodeState.DESTROYED:
            raise LeverError(f"{node} is destroyed already")
        if await self.store_gone(node):  # or what is not there would count as destroyed
            raise LeverError(f"{node} has nothing at {spec.store}: nothing can be destroyed")
        words = []
        if self._running(node) is not None:
            words.append(await self._kill(node, fault_id))
        await self.keeper.run(_delete, spec.store)
        self._destroyed[node] = fault_id
        return ", ".join([*words, f"deleted {spec.store}"])

    async def pause(self, node: str) -> str:
        """Freeze the node's cgroup, or SIGSTOP its process group. Raises LeverError if dead or paused."""
        process = self._must_run(node)
        if process.paused:
            raise LeverError(f"{node} is paused already")
        process.paused = True
        if process.cgroup is not None:
            process.cgroup.freeze(True)
            return f"froze cgroup of {node} pid {process.pid}"
        os.killpg(process.pid, signal.SIGSTOP)
        return f"SIGSTOP {node} pid {process.pid}"

    async def resume(self, node: str) -> str:
        """Undo ``pause``. Raises LeverError if the node is dead or not paused."""
        process = self._must_run(node)
        if not process.paused:
            raise LeverError(f"{node} is not paused")
        process.paused = False
        if process.cgroup is not None:
            process.cgroup.freeze(False)
            return f"thawed cgroup of {node} pid {process.pid}"
        os.killpg(process.pid, signal.SIGCONT)
        return f"SIGCONT {node} pid {process.pid}"

    # --- observations

    async def gone(self, pid: int) -> bool:
        """Whether the kernel knows no living process with this id that started when ours did."""
        born = [process.start_ticks for process in self._processes.values() if process.pid == pid]
        return start_ticks(pid) not in born

    async def stopped(self, node: str) -> bool:
        """Whether every thread stands still, waiting briefly for the kernel to get there."""
        deadline = time.monotonic() + STOPPED_WAIT_S
        while (process := self._running(node)) is not None:
            if _frozen(process) or _all_stopped(process.pid):
                return True
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(READY_POLL_S)
        return False

    async def port(self, node: str, timeout_s: float) -> PortState:
        """Ask the node through its port, inside its host."""
        spec = self.spec(node)
        return await ask(self.hosts, spec.host, spec.port, spec.ping, timeout_s)

    async def store_gone(self, node: str) -> bool:
        """Whether the store folder does not exist, or is an empty mount point."""
        store = self.spec(node).store
        return store is not None and _gone(self.keeper.view(store))

    # --- the end

    async def stop(self) -> None:
        """SIGKILL all that runs, reap it, and remove the cgroups; < 0.5 s. May be called twice."""
        running = [process for process in self._processes.values() if process.running]
        for process in running:
            process.ended_by = signal.SIGKILL
            self._signal(process, signal.SIGKILL)
        if running:
            waiting = [asyncio.ensure_future(process.exited.wait()) for process in running]
            _, stuck = await asyncio.wait(waiting, timeout=EXIT_WAIT_S)  # a process in a hung disk cannot even die
            for task in stuck:
                task.cancel()
        self._guardian.close()
        if self._cgroups is not None:
            root, self._cgroups = self._cgroups, None
            if root.remove() and self._manifest is not None:
                self._manifest.removed(Kind.CGROUP, root.folder)

    # --- inside

    def _make_cgroup(self) -> Cgroup | None:
        parent = find_root()
        if parent is None:
            return None
        cgroup = Cgroup(parent / f"brokerlab-{os.getpid()}-{os.urandom(4).hex()}")
        if self._manifest is not None:
            self._manifest.will_create(Kind.CGROUP, cgroup.folder)
        try:
            cgroup.create()
        except OSError:  # not ours to use: signals serve instead
            if self._manifest is not None:
                self._manifest.removed(Kind.CGROUP, cgroup.folder)
            return None
        return cgroup

    def _spawn(self, spec: NodeSpec) -> tuple[subprocess.Popen[bytes], Cgroup | None]:
        """In the keeper's thread: start the process in its host and put it into its cgroup."""
        spec.folder.mkdir(parents=True, exist_ok=True)
        cgroup = None
        if self._cgroups is not None:
            cgroup = Cgroup(self._cgroups.folder / spec.name)
            if self._manifest is not None:
                self._manifest.will_create(Kind.CGROUP, cgroup.folder)
            cgroup.create()
        with open(spec.folder / "stderr", "ab") as output, self.hosts.run_inside(spec.host):
            popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *spec.argv],
                stdin=subprocess.PIPE,  # the life-line: it ends when the lab ends
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, **spec.env},
                cwd=spec.cwd,
            )
        if cgroup is not None:
            cgroup.add(popen.pid)
        return popen, cgroup

    def _running(self, node: str) -> _Process | None:
        process = self._processes.get(node)
        return process if process is not None and process.running else None

    def _must_run(self, node: str) -> _Process:
        self.spec(node)
        process = self._running(node)
        if process is None:
            raise LeverError(f"{node} is not running")
        return process

    def _signal(self, process: _Process, number: signal.Signals) -> None:
        if number is signal.SIGKILL and process.cgroup is not None:
            with contextlib.suppress(OSError):
                process.cgroup.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)

    async def _until_exit(self, node: str, process: _Process) -> None:
        try:
            async with asyncio.timeout(EXIT_WAIT_S):
                await process.exited.wait()
        except TimeoutError:
            raise LeverError(f"{node} pid {process.pid} did not end within {EXIT_WAIT_S:g} s of SIGKILL") from None

    def _reap(self, node: str, process: _Process) -> None:
        asyncio.get_running_loop().remove_reader(process.pidfd)
        os.close(process.pidfd)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # children that the node left; its number is not free before wait
        status = process.popen.wait()  # the pidfd is readable, so this returns at once
        if process.popen.stdin is not None:
            process.popen.stdin.close()
        self._guardian.drop(process.pid)
        if process.cgroup is not None:
            with contextlib.suppress(OSError):
                process.cgroup.kill()  # those that made a session of their own, too
            if process.cgroup.remove(wait_s=0.05) and self._manifest is not None:
                with contextlib.suppress(OSError):  # a full disk: what is gone stays on record, which hurts nobody
                    self._manifest.removed(Kind.CGROUP, process.cgroup.folder)
        exit_ = NodeExit(
            node,
            process.pid,
            process.incarnation,
            status if status >= 0 else None,
            signal.Signals(-status).name if status < 0 else None,
            explained(process.ended_by, status),
            process.fault,
            time.monotonic_ns(),
        )
        self.exits.append(exit_)
        process.exited.set()
        if self._on_exit is not None:
            self._on_exit(exit_)

    def _last_words(self, node: str) -> str:
        try:
            text = (self.spec(node).folder / "stderr").read_text(errors="replace").strip()
        except OSError:
            return ""
        return f"; its last words: {text[-STDERR_TAIL:]}" if text else "; it said nothing on stderr"


def explained(by: signal.Signals | None, status: int) -> bool:
    """Whether the signal by which the lab ended a process explains how it ended; ``status`` is below 0 for a signal.

    One that was crashing at that moment may have been faster than the signal, and has ended by itself.
    """
    if by is signal.SIGKILL:
        return status == -signal.SIGKILL
    return by is signal.SIGTERM and (status >= 0 or status in (-signal.SIGTERM, -signal.SIGKILL))


def _frozen(process: _Process) -> bool:
    if process.cgroup is None:
        return False
    try:
        return process.cgroup.frozen()
    except OSError:
        return False


def _all_stopped(pid: int) -> bool:
    """Whether /proc shows every thread of the process in a stopped state."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        states = [Path(f"/proc/{pid}/task/{task}/stat").read_text().rpartition(")")[2].split()[0] for task in tasks]
    except OSError:
        return False
    return bool(states) and all(state in "Tt" for state in states)


def _delete(folder: Path) -> None:
    """Delete the folder; if it is a mount point, all that is in it."""
    if not folder.exists():
        return
    if not os.path.ismount(folder):
        shutil.rmtree(folder)
        return
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _gone(folder: Path) -> bool:
    return not folder.exists() or next(folder.iterdir(), None) is None
