"""Whose nodes a bench cluster is made of: ours, or a release of Apache RocketMQ. Both take the same property keys."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lab.systems.rocketmq.keys import translated
from lab.systems.rocketmq.programs import java_program
from lab.systems.rocketmq.release import Release
from nodes.config import write_properties


@dataclass(frozen=True, slots=True)
class Program:
    """A command line and its whole environment."""

    argv: list[str]
    env: Mapping[str, str]


class Side(Protocol):
    """What the nodes are."""

    name: str
    ready_s: float  # what a cluster may take to come up

    def program(self, kind: str, name: str, folder: Path, settings: Mapping[str, object]) -> Program:
        """Write the configuration of a ``namesrv`` or ``broker`` below ``folder``; how to run it. Raises PlanError."""
        ...


class Ours:
    """Our own nodes."""

    name = "ours"
    ready_s = 30.0

    def program(self, kind: str, name: str, folder: Path, settings: Mapping[str, object]) -> Program:
        """One Python process."""
        conf = folder / f"{name}.conf"
        own = {"bindAddress": "127.0.0.1"} if kind == "namesrv" else {}
        conf.write_text("".join(f"{key}={value}\n" for key, value in {**settings, **own}.items()))
        return Program([sys.executable, "-m", "nodes", kind, "-c", str(conf), "--name", name], os.environ)


class Apache:
    """A release's nodes, with the heaps that the lab gives them."""

    ready_s = 300.0  # a slave of 5.x registers, and finds its master, 10 s at a time

    def __init__(self, release: Release) -> None:
        self.release = release
        self.name = f"RocketMQ {release.version}"

    def program(self, kind: str, name: str, folder: Path, settings: Mapping[str, object]) -> Program:
        """One JVM, its files in a folder of its own."""
        own = folder / f"{name}-files"
        own.mkdir()
        wanted = translated(self.release, kind, {key: str(value) for key, value in settings.items()})
        if kind == "broker" and settings.get("brokerRole") == "SYNC_MASTER" and self.release.line == 5:
            wanted["inSyncReplicas"] = "2"  # stock 5.x waits for no slave: only with this is the promise the same
        (own / f"{kind}.conf").write_text(write_properties(wanted), encoding="utf-8")
        found = java_program(self.release, kind, own)
        return Program(list(found.argv), {**os.environ, **found.env})
