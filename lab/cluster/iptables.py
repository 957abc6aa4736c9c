"""Partitions by iptables on the host that shall not hear: ``iptables -A INPUT -s PEER -j DROP``, as people do by hand.

Slower than the switch's set and not atomic (one process for each host), but what users know. The rules live in the
hosts' own namespaces and vanish with them.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from lab.cluster.hosts import Hosts
from nemesis.world import LeverError

TIMEOUT_S = 20.0
"""For one iptables process; it waits for the kernel's lock by -w."""


class IptablesLever:
    """Cuts ordered pairs of addresses by DROP rules in INPUT of the destination's host."""

    name = "iptables"

    def __init__(self, hosts: Hosts) -> None:
        if shutil.which("iptables") is None:
            raise LeverError("iptables is missing; on Debian: apt install iptables")
        self._hosts = hosts
        self._rules: list[tuple[str, str]] = []

    def apply(self, pairs: Sequence[tuple[str, str]]) -> str:
        """Make the lost pairs exactly these, adding and deleting only the difference. Blocking. Raises LeverError."""
        wanted = sorted(pairs)
        doomed = [pair for pair in self._rules if pair not in wanted]
        fresh = [pair for pair in wanted if pair not in self._rules]
        commands = [*self._commands("-D", doomed), *self._commands("-A", fresh)]
        running = [(command, self._start(command)) for command in commands]
        failures = []
        for command, popen in running:
            failure = _outcome(command, popen)
            if failure is not None:
                failures.append(failure)
            elif command.action == "-A":
                self._rules += command.pairs
            else:
                self._rules = [pair for pair in self._rules if pair not in command.pairs]
        if failures:
            raise LeverError("; ".join(failures))
        return "; ".join(str(command) for command in commands) if commands else "no rule to change"

    def close(self) -> None:
        """Nothing to free: the rules go with their namespaces."""

    def _commands(self, action: str, pairs: Sequence[tuple[str, str]]) -> list[_Command]:
        """One command for each destination; iptables makes one rule of each source in its list."""
        commands = []
        for destination in dict.fromkeys(pair[1] for pair in pairs):
            host = self._hosts.name_at(destination)
            if host is None:
                raise LeverError(f"no host has the address {destination}")
            commands.append(_Command(action, host, tuple(pair for pair in pairs if pair[1] == destination)))
        return commands

    def _start(self, command: _Command) -> subprocess.Popen[str]:
        with self._hosts.run_inside(command.host):
            return subprocess.Popen(command.argv(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@dataclass(frozen=True, slots=True)
class _Command:
    """One call of iptables on one host, all of whose rules come or go together."""

    action: str  # -A or -D
    host: str
    pairs: tuple[tuple[str, str], ...]  # of one destination

    def argv(self) -> list[str]:
        sources = ",".join(source for source, _ in self.pairs)
        return ["iptables", "-w", self.action, "INPUT", "-s", sources, "-j", "DROP"]

    def __str__(self) -> str:
        return f"{self.host}: {' '.join(self.argv())}"


def _outcome(command: _Command, popen: subprocess.Popen[str]) -> str | None:
    try:
        _, error = popen.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.communicate()
        return f"{command}: no end within {TIMEOUT_S:g} s"
    return f"{command}: {error.strip()}" if popen.returncode else None
