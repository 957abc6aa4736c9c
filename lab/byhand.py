"""A cluster to play with by hand: a background process holds it, a unix socket in its folder takes commands.

The protocol is one JSON object a line in each direction. The process dies with nothing left behind, however it ends.
"""

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from lab.cluster.manifest import clean
from lab.commands import plan_of
from lab.errors import ExitCode, LabError, PlanError, SetupError
from lab.generator.faults import FaultPlan
from lab.journal import Journal
from lab.options import RunOptions
from lab.plan import DLEDGER, Plan
from lab.planfile import build_plan, read_plan, write_plan
from lab.rundir import RunDir
from lab.runner import resolve
from lab.schedule import FaultRecorder, Schedule
from lab.stage import Stage
from lab.systems.settings import check_settings
from lab.topology import BROKER_PORT, NAMESRV_PORT, topology_of
from lab.validate import validate
from nemesis.catalogue import CatalogueError, parse

UP: Final = "up"  # name of the runs that are brought up by hand, and of the link to the newest one
START_S: Final = 60.0
STOP_S: Final = 30.0
SPARES: Final = 2  # nodes that a group which elects can grow by
ASK_S: Final = 120.0


def with_spares(plan: Plan) -> Plan:
    """A group that elects can grow by hand: hosts are there for two more nodes, unless the plan names a number."""
    if plan.cluster.mode != DLEDGER or plan.cluster.spares:
        return plan
    return msgspec.structs.replace(plan, cluster=msgspec.structs.replace(plan.cluster, spares=SPARES))


def bring_up(path: Path | None, options: RunOptions, out: Path) -> str:
    """Start the background process and wait until its cluster serves; say how to speak to it."""
    plan = with_spares(resolve(plan_of(path, options)))
    validate(plan, topology_of(plan))
    check_settings(plan)
    clean()
    folder = RunDir.create(out, UP)
    folder.write_plan(write_plan(plan))
    with (folder.path / "lab.stderr").open("ab") as errors:
        process = subprocess.Popen(
            serving(folder),
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        )
    with down_again(process):
        _wait_until_up(process, folder)
        return _words(ask(folder, {"do": "status"}))


def serving(folder: RunDir) -> list[str]:
    """The command of the background process. Like the lab's own it takes no module from the folder it is called in."""
    return [sys.executable, "-P", "-m", "lab", "serve", str(folder.path.resolve())]


@contextlib.contextmanager
def down_again(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever ends the wait for a cluster, an interrupt too, takes down what has come up of it."""
    try:
        yield
    except BaseException:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()  # what it started dies with it
            process.wait()
        raise


def _wait_until_up(process: subprocess.Popen[bytes], folder: RunDir) -> None:
    """Return when the cluster of this process serves. Raises SetupError with what it said."""
    deadline = time.monotonic() + START_S
    why = f"it was not ready within {START_S:g} s"
    while time.monotonic() < deadline:
        if folder.socket.exists():
            return
        if process.poll() is not None:
            why = "it said nothing"
            break
        time.sleep(0.02)
    said = (folder.path / "lab.stderr").read_text(errors="replace").strip()[-2000:]
    raise SetupError(f"the cluster did not come up: {said or why}")


def serve_folder(path: Path) -> None:
    """The background process: hold the cluster of this folder until told to end."""
    folder = RunDir(path)
    plan = build_plan(read_plan(folder.plan), str(folder.plan))
    topology = topology_of(plan)
    stage = Stage(plan, topology, folder, plan.seed or 0)
    try:
        asyncio.run(_Server(stage, folder).run())
    finally:
        folder.socket.unlink(missing_ok=True)


class _Server:
    """Serves commands one after the other."""

    def __init__(self, stage: Stage, folder: RunDir) -> None:
        self._stage = stage
        self._folder = folder
        self._journal = Journal(folder.journal("lab"), time.monotonic_ns())
        self._schedule: Schedule | None = None
        self._count = 0
        self._end = asyncio.Event()
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Until `down`, SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end.set)
        try:
            await self._stage.open()
            world = self._stage.world(self._journal.now)
            self._schedule = Schedule((), world, FaultRecorder(self._journal, self._folder.faults))
            beside = self._folder.socket.with_suffix(".new")
            with _short(self._folder) as folder:
                server = await asyncio.start_unix_server(self._client, f"{folder}/{beside.name}")
            beside.rename(self._folder.socket)  # it appears when the cluster serves, and not before
            async with server:
                await self._end.wait()
        finally:
            await self._stage.close()
            self._journal.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            try:
                async with self._turn:
                    answer = await self._do(json.loads(line))
            except (LabError, CatalogueError, OSError, ValueError) as error:
                answer = {"error": str(error)}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        finally:
            writer.close()

    async def _do(self, command: Mapping[str, Any]) -> dict[str, Any]:
        match command.get("do"):
            case "status":
                return await self._status()
            case "hurt":
                return await self._hurt(str(command["fault"]))
            case "heal":
                return await self._heal(command.get("id"))
            case "where":
                hosts = self._stage.hosts
                if command["host"] not in hosts.names():
                    return {"error": f"no host is called {command['host']}; known: {', '.join(hosts.names())}"}
                here = f"/proc/{os.getpid()}"
                return {"namespace": f"{here}/fd/{hosts.fd(command['host'])}", "user": f"{here}/ns/user"}
            case "down":
                self._end.set()
                return {"said": f"stopped; its folder stays: {self._folder.path}", "pid": os.getpid()}
            case other:
                return {"error": f"unknown command {other!r}"}

    async def _status(self) -> dict[str, Any]:
        stage = self._stage
        reports = await stage.roles()
        nodes = []
        for name, report in reports.items():
            if name in stage.topology.clients:
                continue
            port = NAMESRV_PORT if name in stage.topology.namesrvs else BROKER_PORT
            known = stage.last.get(name)
            nodes.append(
                {
                    "node": name,
                    "role": report.role.value,
                    "state": stage.supervisor.state(name).value,
                    "address": f"{stage.hosts.address(name)}:{port}",
                    "epoch": report.epoch,
                    "end": None if known is None else known.end,
                }
            )
        open_faults = self._schedule.open if self._schedule is not None else ()
        return {"folder": str(self._folder.path), "nodes": nodes, "clients": list(stage.topology.clients),
                "faults": list(open_faults)}  # fmt: skip

    async def _hurt(self, spec: str) -> dict[str, Any]:
        if self._schedule is None:
            return {"error": "the cluster is not up yet"}
        parsed = parse(spec)
        parsed.check_names(self._stage.topology.hosts, [group.name for group in self._stage.topology.groups])
        self._count += 1
        record = await self._schedule.inject_now(FaultPlan(f"f{self._count}", spec, 0, None))
        if record.kind == "promote":
            await self._stage.replace_destroyed(self._schedule.open)
        reason = record.evidence.get("reason", "")
        proven = record.verified.value is True
        proof = "proven" if proven else ": ".join(filter(None, ("NOT proven", str(reason))))
        return {"said": f"{record.id} {spec}: {record.done} ({proof})", "proven": proven}

    async def _heal(self, fault_id: str | None) -> dict[str, Any]:
        if self._schedule is None:
            return {"error": "the cluster is not up yet"}
        if fault_id is None:
            records = await self._schedule.heal_all()
        else:
            record = await self._schedule.heal_now(fault_id)
            if record is None:
                return {
                    "error": f"no open fault is called {fault_id}; open: {', '.join(self._schedule.open) or 'none'}"
                }
            records = [record]
        words = [f"{r.id}: {r.done} ({'proven' if r.verified.value is True else 'NOT proven'})" for r in records]
        proven = all(record.verified.value is True for record in records)
        return {"said": "\n".join(words) or "nothing to heal", "proven": proven}


def running(out: Path) -> RunDir:
    """The newest cluster that was brought up by hand and still listens. Raises PlanError."""
    folders = sorted((out / UP).iterdir(), reverse=True) if (out / UP).is_dir() else []
    for path in folders:
        folder = RunDir(path.resolve())
        if folder.socket.exists() and _connectable(folder):
            return folder
    raise PlanError(f"no cluster is up in {out}; start one with `lab up`")


def ask(folder: RunDir, command: Mapping[str, Any]) -> dict[str, Any]:
    """One command to a running cluster. Raises PlanError with the server's words, SetupError if it has none."""
    try:
        with _connect(folder) as link:
            link.settimeout(ASK_S)
            link.sendall(json.dumps(dict(command)).encode() + b"\n")
            with link.makefile("rb") as lines:
                answer: dict[str, Any] = json.loads(lines.readline())
    except TimeoutError:
        raise SetupError(f"the cluster of {folder.path} did not answer within {ASK_S:g} s: it stands still") from None
    except (OSError, ValueError):  # no line, or half of one
        raise SetupError(f"the cluster of {folder.path} went away before it answered") from None
    if "error" in answer:
        raise PlanError(str(answer["error"]))
    return answer


def ask_text(out: Path, command: Mapping[str, Any], *, as_json: bool = False) -> tuple[ExitCode, str]:
    """One command to the newest running cluster: its answer as text, and 3 (unknown) for what was not proven."""
    answer = ask(running(out), command)
    if "pid" in answer:
        wait_for_end(int(answer["pid"]))
    code = ExitCode.VALID if answer.get("proven", True) else ExitCode.UNKNOWN
    return code, json.dumps(answer) if as_json else _words(answer)


def exec_in(out: Path, host: str, command: Sequence[str]) -> NoReturn:
    """Replace this process by the command, inside the host."""
    found = ask(running(out), {"do": "where", "host": host})
    os.execvp("nsenter", [*entering(found["namespace"], found["user"]), *command])


def entering(namespace: str, user: str) -> list[str]:
    """How to run a command in a network namespace that belongs to a user namespace; both are paths.

    A cluster that was started without root lives in a user namespace of its own, and only from within it may anybody
    enter its hosts.
    """
    own = os.path.samefile(user, "/proc/self/ns/user")
    into = [] if own else [f"--user={user}", "--preserve-credentials"]
    return ["nsenter", *into, f"--net={namespace}", "--"]


def wait_for_end(pid: int) -> None:
    """Return when the background process is gone, and all that it held with it. Raises SetupError."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not select.select([descriptor], [], [], STOP_S)[0]:
            raise SetupError(f"the cluster has not ended within {STOP_S:g} s of being told to (pid {pid})")
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _short(folder: RunDir) -> Iterator[str]:
    """A short name of the folder: a socket's path may have 107 bytes, folders of runs may have more."""
    at = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{at}"
    finally:
        os.close(at)


def _connect(folder: RunDir) -> socket.socket:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(folder) as short:
            link.connect(f"{short}/{folder.socket.name}")
    except OSError:
        link.close()
        raise
    return link


def _connectable(folder: RunDir) -> bool:
    try:
        _connect(folder).close()
    except OSError:
        return False
    return True


def _words(answer: Mapping[str, Any]) -> str:
    if "said" in answer:
        return str(answer["said"])
    lines = [
        f"{node['node']:14} {node['state']:10} {node['role']:8} {node['address']:20}"
        + (f" epoch {node['epoch']}, log end {node['end']}" if node["epoch"] is not None else "")
        for node in answer["nodes"]
    ]
    lines.append(f"clients: {', '.join(answer['clients'])}")
    lines.append(f"open faults: {', '.join(answer['faults']) or 'none'}")
    lines.append(f"folder: {answer['folder']}")
    return "\n".join(lines)
