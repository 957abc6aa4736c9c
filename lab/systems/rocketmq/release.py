"""Releases of Apache RocketMQ on this machine: jars that Maven brought into a cache folder, or an unpacked release.

A release has two parts, since not every version publishes both: ``client`` (the Java client and mqadmin) and ``server``
(name server and broker). Nothing here is needed by the lab's own cluster.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "client": ("rocketmq-client", "rocketmq-tools"),
    "server": ("rocketmq-namesrv", "rocketmq-broker"),
}
COPY_GOAL: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
"""Named with its version: what a release's jars are must not depend on the day."""
RESOLVE_TIMEOUT_S: Final = 540.0
VERSION_TIMEOUT_S: Final = 60.0
JAVA_OLDEST: Final = 8

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>brokerlab</groupId>
  <artifactId>rocketmq-{part}</artifactId>
  <version>{version}</version>
  <packaging>pom</packaging>
  <dependencies>
{dependencies}
  </dependencies>
</project>
"""
_DEPENDENCY = (
    "    <dependency><groupId>org.apache.rocketmq</groupId><artifactId>{artifact}</artifactId>"
    "<version>{version}</version></dependency>"
)


class ReleaseMissing(Exception):
    """What is missing for a release to run here, by the name of the ability, with what to do about it.

    ``ability`` is java, javac, maven, registry (out of reach) or published (there is no such release, or no such part).
    """

    def __init__(self, ability: str, words: str) -> None:
        super().__init__(f"{ability}: {words}")
        self.ability = ability


@dataclass(frozen=True, slots=True)
class Release:
    """A release that can run: its version as far as it is known, and the folder of its jars."""

    version: str
    lib: Path

    @property
    def classpath(self) -> str:
        """For ``java -cp``."""
        return f"{self.lib}/*"

    @property
    def line(self) -> int:
        """4 or 5: what decides spellings and defaults."""
        return 4 if self.version.startswith("4.") else 5


def cache_folder() -> Path:
    """Where resolved releases are kept, outside any checkout."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "brokerlab" / "rocketmq"


def program(name: str, package: str) -> str:
    """The path of java, javac or mvn. Raises ReleaseMissing if the machine lacks it."""
    home = os.environ.get("JAVA_HOME")
    places = [str(Path(home, "bin"))] if home and name != "mvn" else []
    found = shutil.which(name, path=os.pathsep.join([*places, os.environ.get("PATH", os.defpath)]))
    if found is None:
        ability = "maven" if name == "mvn" else name
        raise ReleaseMissing(ability, f"{name} is not on this machine; on Debian: apt-get install {package}")
    return found


def java() -> str:
    """The Java that runs releases. Raises ReleaseMissing."""
    return program("java", "default-jre-headless")


def javac() -> str:
    """The Java compiler. Raises ReleaseMissing."""
    return program("javac", "default-jdk-headless")


def release(name: str, part: str) -> Release:
    """A release that is on this machine: by version, from the cache; by folder, an unpacked release.

    Raises ReleaseMissing, which says how to get it; never asks a registry.
    """
    java()
    if _is_folder(name):
        return _unpacked(Path(name))
    folder = cache_folder() / name / part
    if not folder.is_dir():
        wanted = f"VERSION={name}" + (" PART=client" if part == "client" else "")  # not every version publishes both
        raise ReleaseMissing("published", f"RocketMQ {name} ({part}) is not in {folder}: make rocketmq {wanted}")
    return Release(name, folder)


def resolve(version: str, part: str) -> Release:
    """The same, brought into the cache with Maven if it is not there yet. Raises ReleaseMissing."""
    java()
    if _is_folder(version):
        return _unpacked(Path(version))
    folder = cache_folder() / version / part
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{part}-", dir=folder.parent) as scratch:
            _copy_jars(version, part, Path(scratch))
            try:
                Path(scratch, "lib").rename(folder)
            except OSError:
                if not folder.is_dir():  # somebody else was faster, with the same jars
                    raise
    return Release(version, folder)


def pom(version: str, part: str) -> str:
    """The Maven project whose dependencies are one part of a release."""
    version = escape(version)
    dependencies = "\n".join(_DEPENDENCY.format(artifact=artifact, version=version) for artifact in PARTS[part])
    return _POM.format(part=part, version=version, dependencies=dependencies)


def _copy_jars(version: str, part: str, scratch: Path) -> None:
    maven = program("mvn", "maven")
    project = scratch / "pom.xml"
    project.write_text(pom(version, part), encoding="utf-8")
    argv = [maven, "-q", "-B", "-U", "-f", str(project), COPY_GOAL, "-DincludeScope=runtime"]
    argv.append(f"-DoutputDirectory={scratch / 'lib'}")
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=RESOLVE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        words = f"Maven did not bring RocketMQ {version} ({part}) within {RESOLVE_TIMEOUT_S:.0f} s"
        raise ReleaseMissing("registry", words) from None
    if done.returncode != 0:
        raise refusal(version, part, done.stdout + done.stderr)


def refusal(version: str, part: str, output: str) -> ReleaseMissing:
    """What Maven's words mean: a release that is not published, or a registry out of reach."""
    errors = [line.split("[ERROR]", 1)[1].strip() for line in output.splitlines() if "[ERROR]" in line]
    words = errors[0] if errors else output.strip()[-500:] or "Maven said nothing"
    if "Could not find artifact" in words or "was not found in" in words:
        advice = "name a version that is, or the folder of an unpacked release"
        return ReleaseMissing("published", f"RocketMQ {version} ({part}) is not published for Maven; {advice}")
    return ReleaseMissing("registry", f"Maven could not bring RocketMQ {version} ({part}): {words}")


def _is_folder(name: str) -> bool:
    return os.sep in name or Path(name).is_dir()


def _unpacked(folder: Path) -> Release:
    lib = folder / "lib"
    jars = sorted(lib.glob("rocketmq-broker-*.jar"))
    if not jars:
        raise ReleaseMissing("published", f"{folder} is no unpacked release: it has no lib/rocketmq-broker-*.jar")
    return Release(jars[0].stem.removeprefix("rocketmq-broker-"), lib.resolve())
