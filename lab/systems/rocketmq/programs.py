"""How a name server and a broker of a release are run: small heaps, files in their own folders, one JVM each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.systems.rocketmq.release import Release, java

MAIN: Final[Mapping[str, str]] = {
    "namesrv": "org.apache.rocketmq.namesrv.NamesrvStartup",
    "broker": "org.apache.rocketmq.broker.BrokerStartup",
}
# Megabytes of heap and of direct memory: three name servers and five brokers fit beside everything else on 8 GiB. The
# releases' own scripts ask for 4 and 8 GiB of heap each.
MEMORY: Final[Mapping[str, tuple[int, int]]] = {"namesrv": (128, 64), "broker": (512, 256)}
# Both lines reach into the JDK to free mapped files; a JVM that ignores this variable (Java 8) has nothing to open.
OPENED: Final = tuple(
    f"--add-{verb} java.base/{package}=ALL-UNNAMED"
    for verb, package in (
        ("exports", "jdk.internal.ref"),
        ("opens", "java.nio"),
        ("opens", "sun.nio.ch"),
        ("opens", "java.lang"),
        ("opens", "jdk.internal.ref"),
        ("opens", "jdk.internal.misc"),
    )
)
_LOGBACK = """<configuration>
  <appender name="file" class="ch.qos.logback.core.FileAppender">
    <file>{file}</file>
    <encoder><pattern>%d{{yyyy-MM-dd HH:mm:ss.SSS}} %level %logger - %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="file"/></root>
</configuration>
"""


@dataclass(frozen=True, slots=True)
class JavaProgram:
    """A command line and the environment it needs."""

    argv: tuple[str, ...]
    env: Mapping[str, str]


def java_program(release: Release, kind: str, folder: Path, options: Sequence[str] = ()) -> JavaProgram:
    """Run ``namesrv`` or ``broker`` with the property file ``folder/KIND.conf``; all it writes lies in ``folder``.

    Raises ReleaseMissing without Java.
    """
    home = folder / "home"
    conf = home / "conf"
    conf.mkdir(parents=True, exist_ok=True)
    # 4.x reads its logging from here; 5.x brings its own, which writes below user.home.
    logback = _LOGBACK.format(file=folder / f"{kind}-release.log")
    (conf / f"logback_{kind}.xml").write_text(logback, encoding="utf-8")
    heap, direct = MEMORY[kind]
    argv = (
        java(),
        "-Xms32m",
        f"-Xmx{heap}m",
        f"-XX:MaxDirectMemorySize={direct}m",
        "-XX:+UseSerialGC",
        "-XX:-OmitStackTraceInFastThrow",
        "-XX:-UsePerfData",
        "-Dtls.server.mode=disabled",  # or each start makes itself a certificate, which takes seconds
        f"-Duser.home={home}",
        f"-Djava.io.tmpdir={home}",
        f"-Drocketmq.home.dir={home}",
        *options,
        "-cp",
        release.classpath,
        MAIN[kind],
        "-c",
        str(folder / f"{kind}.conf"),
    )
    return JavaProgram(argv, {"ROCKETMQ_HOME": str(home), "JDK_JAVA_OPTIONS": " ".join(OPENED)})
