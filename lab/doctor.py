"""What this machine can do for a lab, found out by trying, each thing in a scratch namespace.

``abilities()`` tries all; ``ability(name)`` tries one. Plans that need more than there is are refused before anything
starts, and tests skip by ability, never by platform.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.cluster import userns
from lab.cluster.cgroups import Cgroup, find_root
from lab.cluster.disks import DiskError, Disks, FileSystem
from lab.cluster.hosts import FAST_HEAL, Hosts
from lab.cluster.keeper import Keeper
from lab.cluster.netns import inside, new_netns, open_netlink
from lab.cluster.nft import Nft, NftError
from lab.cluster.probes import Prober
from nodes import compiled
from nodes.store.kernel_sync import KernelSync, KernelSyncMissing

COMMAND_TIMEOUT_S = 10.0
SCRATCH = b"written by the doctor"


@dataclass(frozen=True, slots=True)
class Ability:
    """Whether the machine can do it; if not, what is missing and how to get it."""

    ok: bool
    reason: str = ""


class _LackingError(Exception):
    """What is missing, and how to get it."""


def abilities() -> dict[str, Ability]:
    """Try everything; about a second. Leaves nothing behind."""
    return {name: ability(name) for name in _TRIALS}


@functools.cache
def ability(name: str) -> Ability:
    """Try one thing, once in the life of this process. Raises KeyError for an unknown name."""
    trial = _TRIALS[name]
    try:
        trial()
    except _LackingError as lacking:
        return Ability(False, str(lacking))
    except Exception as error:  # whatever the machine answers, the doctor reports it
        return Ability(False, f"{type(error).__name__}: {error}")
    return Ability(True)


def missing(*names: str) -> str | None:
    """The first of these abilities that the machine lacks, with its reason; None if it has all."""
    for name in names:
        found = ability(name)
        if not found.ok:
            return f"{name}: {found.reason}"
    return None


def needed(*, lever: str = "nft", fault_kinds: Iterable[str] = (), disks: str | None = None) -> tuple[str, ...]:
    """Abilities that a plan needs: its partition lever, the kinds of its faults, the file system of its disks."""
    names = list(REQUIRED)
    if "partition" in fault_kinds and lever not in names:
        names.append(lever)
    if disks is not None:
        names += ["private-mounts", f"loop-{disks}"]
    return tuple(names)


# --- hosts and wires


def _netns() -> None:
    if not userns.may_make_hosts():
        raise _LackingError("run as root, or inside a user namespace (lab does that by itself where it may)")


def _userns() -> None:
    reason = userns.refusal()
    if reason is not None:
        raise _LackingError(reason)


def _hosts() -> None:
    Hosts.build(["a", "b"]).close()


def _fast_heal() -> None:
    _with_scratch(lambda fd: _require_sysctls(fd))


def _require_sysctls(fd: int) -> None:
    with inside(fd):
        for key, _ in FAST_HEAL:
            if not Path("/proc/sys", key).exists():
                raise _LackingError(f"no sysctl {key} (Linux 6.15): TCP's own back-off shows in times to recover")


def _probes() -> None:
    hosts = Hosts.build(["a", "b"])
    prober = Prober(hosts)
    try:
        prober.open()
        mismatches = prober.measure(frozenset()).mismatches(frozenset())
    finally:
        prober.close()
        hosts.close()
    if mismatches:
        raise _LackingError(f"probes do not arrive on a whole network: {mismatches[0]}")


def _nft() -> None:
    _with_scratch(lambda fd: _nft_run(fd, "add table ip lab; add set ip lab cut { type ipv4_addr . ipv4_addr; }"))


def _nft_reject() -> None:
    _with_scratch(
        lambda fd: _nft_run(
            fd,
            "add table ip lab; add chain ip lab f { type filter hook forward priority 0; }; "
            "add rule ip lab f meta l4proto tcp reject with tcp reset",
        )
    )


def _nft_run(fd: int, commands: str) -> None:
    nft = Nft(fd)
    try:
        nft.run(commands)
    except NftError as error:
        raise _LackingError(f"kernel without nf_tables parts: {error}") from None
    finally:
        nft.close()


def _iptables() -> None:
    _inside_command("iptables", "iptables", "-w", "-A", "INPUT", "-s", "10.77.0.1", "-j", "DROP")


def _nfqueue() -> None:
    _inside_command("iptables", "iptables", "-w", "-A", "FORWARD", "-j", "NFQUEUE", "--queue-num", "1")


def _af_packet() -> None:
    def trial(fd: int) -> None:
        with inside(fd):
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()

    _with_scratch(trial)


def _tun() -> None:
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        raise _LackingError(f"/dev/net/tun: {error.strerror}; as root: modprobe tun") from None


def _qdisc(kind: str, **options: int) -> None:
    def trial(fd: int) -> None:
        from pyroute2 import NetlinkError

        link = open_netlink(fd)
        try:
            link.link("add", ifname="d0", kind="veth", peer={"ifname": "d1"})
            with inside(fd):
                index = socket.if_nametoindex("d0")
            link.tc("add", kind, index, handle=0x10000, **options)
        except NetlinkError as error:
            module = f"sch_{kind}"
            raise _LackingError(f"no qdisc {kind} in this kernel ({error}); as root: modprobe {module}") from None
        finally:
            link.close()

    _with_scratch(trial)


# --- processes


def _cgroup2() -> None:
    root = find_root()
    if root is None:
        raise _LackingError("no cgroup version 2 tree is mounted; nodes are paused by SIGSTOP and killed by group")
    cgroup = Cgroup(root / f"brokerlab-doctor-{os.getpid()}")
    try:
        cgroup.create()
        for name in ("cgroup.freeze", "cgroup.kill"):
            if not (cgroup.folder / name).exists():
                raise _LackingError(f"{name} is missing (Linux 5.14)")
    except PermissionError:
        raise _LackingError(f"{root} is not ours to write; run as root or with a delegated cgroup") from None
    finally:
        cgroup.remove()


def _death_signal() -> None:
    if shutil.which("setpriv") is None:
        raise _LackingError("setpriv is missing; on Debian: apt install util-linux")


def _pidfd() -> None:
    os.close(os.pidfd_open(os.getpid()))


def _time_namespace() -> None:
    if not Path("/proc/self/ns/time").exists():
        raise _LackingError("kernel without time namespaces")


def _realtime() -> None:
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        raise _LackingError("no right to SCHED_RR; user-space delays get less exact") from None
    os.sched_setscheduler(0, policy, parameters)


# --- disks


def _private_mounts() -> None:
    keeper = Keeper()
    try:
        if not keeper.private_mounts:
            raise _LackingError("no right to a private mount namespace; needs root")
    finally:
        keeper.close()


def _loop(file_system: FileSystem) -> None:
    async def trial(folder: Path) -> None:
        keeper = Keeper()
        disks = Disks(keeper, folder / "images")
        try:
            disk = await disks.add(f"scratch-{os.getpid()}", folder / "mounted", file_system=file_system)
            (keeper.view(disk.mountpoint) / "file").write_bytes(SCRATCH)
            await disks.close()
        except DiskError as error:
            raise _LackingError(f"{error}; needs root and loop devices") from None
        finally:
            keeper.close()

    with tempfile.TemporaryDirectory(prefix="brokerlab-doctor-") as folder:
        asyncio.run(trial(Path(folder)))


def _fuse() -> None:
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        raise _LackingError(f"/dev/fuse: {error.strerror}; on Debian: apt install fuse3") from None


def _kernel_sync() -> None:
    async def trial() -> None:
        KernelSync(asyncio.get_running_loop()).close()

    try:
        asyncio.run(trial())
    except KernelSyncMissing as missing:
        raise _LackingError(f"{missing}; threads sync the nodes' logs, which is slower") from None


def _compiled_nodes() -> None:
    found = compiled.found()
    if found != compiled.COMPILED:
        raise _LackingError(f"nodes and clients run {found}; it is slower")


def _preload() -> None:
    if shutil.which("gcc") is None:
        raise _LackingError("gcc is missing, which builds the preload shims; on Debian: apt install gcc libc6-dev")


# --- Apache RocketMQ


def _program(name: str, package: str, purpose: str) -> None:
    if shutil.which(name) is None:
        raise _LackingError(f"{name} is missing, which {purpose}; on Debian: apt install {package}")


# --- trying


def _with_scratch(trial: Callable[[int], None]) -> None:
    (fd,) = new_netns(1)
    try:
        trial(fd)
    finally:
        os.close(fd)


def _inside_command(package: str, *argv: str) -> None:
    def trial(fd: int) -> None:
        if shutil.which(argv[0]) is None:
            raise _LackingError(f"{argv[0]} is missing; on Debian: apt install {package}")
        with inside(fd):
            done = subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
        if done.returncode:
            raise _LackingError(f"{' '.join(argv)}: {done.stderr.strip()}")

    _with_scratch(trial)


def _nftables_library() -> None:
    try:
        ctypes.CDLL("libnftables.so.1")
    except OSError:
        raise _LackingError("libnftables is missing; on Debian: apt install nftables") from None


_TRIALS: dict[str, Callable[[], None]] = {
    "netns": _netns,
    "userns": _userns,
    "hosts": _hosts,
    "libnftables": _nftables_library,
    "nft": _nft,
    "nft-reject": _nft_reject,
    "iptables": _iptables,
    "nfqueue": _nfqueue,
    "probes": _probes,
    "fast-heal": _fast_heal,
    "af-packet": _af_packet,
    "tun": _tun,
    "netem": lambda: _qdisc("netem", delay=1000),
    "tbf": lambda: _qdisc("tbf", rate=1_000_000, burst=10_000, limit=100_000),
    "cgroup2": _cgroup2,
    "death-signal": _death_signal,
    "pidfd": _pidfd,
    "private-mounts": _private_mounts,
    "loop-ext4": lambda: _loop(FileSystem.EXT4),
    "loop-xfs": lambda: _loop(FileSystem.XFS),
    "fuse": _fuse,
    "preload": _preload,
    "kernel-sync": _kernel_sync,
    "compiled-nodes": _compiled_nodes,
    "java": lambda: _program("java", "default-jre-headless", "runs releases of Apache RocketMQ"),
    "maven": lambda: _program("mvn", "maven", "brings releases of Apache RocketMQ (make rocketmq)"),
    "time-namespace": _time_namespace,
    "realtime": _realtime,
}

REQUIRED = ("netns", "hosts", "libnftables", "nft", "probes", "death-signal", "pidfd")
"""Without these there is no lab at all; the others only limit which faults and benchmarks there are."""
