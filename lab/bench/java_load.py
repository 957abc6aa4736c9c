"""Bench clients of RocketMQ's Java client: `Load.java`, compiled against a release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.errors import SetupError
from lab.systems.rocketmq.release import Release, ReleaseMissing, java, release
from lab.systems.rocketmq.sources import compiled

SOURCE: Final = Path(__file__).with_name("Load.java")
WARM_S: Final = 10.0  # a JVM of a client, too, is slow at first
"""Until the JVM has compiled what is hot; not counted."""


@dataclass(frozen=True, slots=True)
class JavaLoad:
    """The program, ready to run."""

    release: Release
    classes: Path
    java: str

    def argv(self, name_server: str, topic: str, clients: Sequence[int], seconds: float, home: Path) -> list[str]:
        """The command line; it measures each number of clients for so many seconds."""
        return [
            self.java,
            "-Xmx512m",
            "-XX:+UseSerialGC",
            "-XX:-UsePerfData",
            f"-Duser.home={home}",
            "-Drocketmq.client.logLevel=WARN",
            "-cp",
            f"{self.classes}:{self.release.classpath}",
            SOURCE.stem,
            name_server,
            topic,
            str(seconds),
            str(WARM_S),
            *map(str, clients),
        ]


def java_load(version: str) -> JavaLoad:
    """The program for a release's client. Raises SetupError that names what the machine lacks."""
    try:
        found = release(version, "client")
        return JavaLoad(found, compiled(found, SOURCE), java())
    except ReleaseMissing as missing:
        raise SetupError(f"the Java client cannot run: {missing}") from None
