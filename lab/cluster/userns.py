"""Running a lab without root: inside a user namespace, where the kernel allows one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from lab.cluster.netns import new_netns

TRY_TIMEOUT_S = 10.0

_UNSHARE = ("unshare", "--user", "--map-root-user", "--net", "--mount")


class NoPrivilegeError(Exception):
    """Neither root nor a user namespace; the message says what to change."""


def may_make_hosts() -> bool:
    """Whether this process may make network namespaces as it is."""
    try:
        for fd in new_netns(1):
            os.close(fd)
    except OSError:
        return False
    return True


def refusal() -> str | None:
    """Why this machine gives this user no user namespace, in one sentence with the remedy; None if it does."""
    if shutil.which("unshare") is None:
        return "unshare is missing; on Debian: apt install util-linux"
    try:
        tried = subprocess.run([*_UNSHARE, "true"], capture_output=True, text=True, timeout=TRY_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"unshare did not end within {TRY_TIMEOUT_S:g} s"
    if tried.returncode == 0:
        return None
    return f"{tried.stderr.strip() or 'unshare failed'}{_remedy()}"


def ensure(argv: Sequence[str] | None = None) -> None:
    """Return if this process may make hosts; otherwise start the same command again inside a user namespace.

    ``argv`` is the command to start (by default this very one). Raises NoPrivilegeError if the kernel refuses.
    """
    if may_make_hosts():
        return
    if os.geteuid() == 0:
        raise NoPrivilegeError(
            "this root may not make network namespaces (a container without CAP_SYS_ADMIN?); "
            "start the container with --privileged or --cap-add SYS_ADMIN --cap-add NET_ADMIN"
        )
    reason = refusal()
    if reason is not None:
        raise NoPrivilegeError(f"a lab needs root, or user namespaces, and this machine gives neither: {reason}")
    _start_again(list(argv) if argv is not None else [sys.executable, *sys.orig_argv[1:]])


def _start_again(argv: list[str]) -> NoReturn:
    os.execvp(_UNSHARE[0], [*_UNSHARE, "--", *argv])


def _remedy() -> str:
    """What an administrator would change, from the switches that this kernel has."""
    switches = (
        ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
        ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    )
    for key, closed, command in switches:
        path = Path("/proc/sys", key)
        if path.exists() and path.read_text().strip() == closed:
            return f"; an administrator can allow it: {command}"
    return "; run it as root"
