"""Runs `java/Cases.java` with a client version against a cluster: one JVM, one JSON line for each case."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.systems.rocketmq.release import Release, java, javac
from tests.interop.processes import mortal

SOURCE = Path(__file__).with_name("java") / "Cases.java"
COMPILE_S = 240.0
LOGBACK = "<configuration><root level='OFF'/></configuration>\n"


@dataclass(frozen=True, slots=True)
class Told:
    """What the driver says of one case."""

    ok: bool
    value: str
    ms: int


def compile_driver(release: Release, folder: Path) -> Path:
    """Compile the driver against one client version; returns the folder of its classes."""
    argv = [javac(), "-nowarn", "-encoding", "UTF-8", "-cp", release.classpath, "-d", str(folder), str(SOURCE)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=COMPILE_S, check=False)
    assert done.returncode == 0, f"{SOURCE.name} does not compile with {release.version}: {done.stderr}"
    return folder


def drive(
    release: Release, folder: Path, name_server: str, cases: Sequence[str], handle: Callable[[str], None]
) -> dict[str, Told]:
    """Run the cases in this order; `handle` does what they ask for. Ends when the driver ends."""
    conf = folder / "home" / "conf"
    conf.mkdir(parents=True)
    (conf / "logback_tools.xml").write_text(LOGBACK, encoding="utf-8")
    classes = compile_driver(release, folder / "classes")
    argv = [
        java(),
        "-Xmx256m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Dfile.encoding=UTF-8",
        "-Drocketmq.client.rebalance.waitInterval=1000",  # a consumer looks for its share this often, not every 20 s
        f"-Duser.home={folder / 'home'}",
        f"-Drocketmq.home.dir={folder / 'home'}",
        "-cp",
        f"{classes}:{release.classpath}",
        "Cases",
        name_server,
        *cases,
    ]
    told: dict[str, Told] = {}
    with (
        (folder / "driver-errors.txt").open("wb") as errors,
        subprocess.Popen(mortal(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as driver,
    ):
        assert driver.stdin is not None
        assert driver.stdout is not None
        try:
            for line in driver.stdout:
                one = json.loads(line)
                if "ask" in one:
                    handle(one["ask"])
                    driver.stdin.write(b"done\n")
                    driver.stdin.flush()
                else:
                    told[one["case"]] = Told(one["ok"], one["value"], one["ms"])
        finally:
            driver.kill()
    return told
