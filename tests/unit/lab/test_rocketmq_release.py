"""Releases of Apache RocketMQ: found in the cache or in a folder, and what is said when one is not there."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from lab.systems.rocketmq.release import Release, ReleaseMissing, pom, refusal, release, resolve

NAMESPACE = {"m": "http://maven.apache.org/POM/4.0.0"}
NOT_PUBLISHED = (
    "[ERROR] Failed to execute goal on project r: Could not resolve dependencies: Could not find artifact "
    "org.apache.rocketmq:rocketmq-broker:jar:4.9.8 in central -> [Help 1]\n[ERROR] more\n"
)
OUT_OF_REACH = (
    "[ERROR] Plugin maven-dependency-plugin:3.6.1 or one of its dependencies could not be resolved: "
    "Failed to read artifact descriptor: Could not transfer artifact: Unknown host -> [Help 1]\n"
)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a java that nobody runs, no Maven, and an empty cache."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "java").write_text("#!/bin/sh\n", encoding="utf-8")
    (programs / "java").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_the_project_of_a_part_names_its_artifacts_and_the_version() -> None:
    """What Maven is asked for."""
    root = ET.fromstring(pom("5.3.3", "server"))
    found = [
        (one.findtext("m:artifactId", "", NAMESPACE), one.findtext("m:version", "", NAMESPACE))
        for one in root.findall("m:dependencies/m:dependency", NAMESPACE)
    ]
    assert found == [("rocketmq-namesrv", "5.3.3"), ("rocketmq-broker", "5.3.3")]


def test_a_version_is_text_in_the_project_and_nothing_else() -> None:
    """A version with markup in it cannot add dependencies."""
    root = ET.fromstring(pom("1</version><version>2", "client"))
    assert [one.text for one in root.findall("m:version", NAMESPACE)] == ["1</version><version>2"]


def test_a_release_that_is_not_published_is_told_from_a_registry_out_of_reach() -> None:
    """The first is the user's to mend, the second nobody's here."""
    absent = refusal("4.9.8", "server", NOT_PUBLISHED)
    assert absent.ability == "published"
    assert "4.9.8 (server) is not published" in str(absent)
    away = refusal("5.3.3", "server", OUT_OF_REACH)
    assert away.ability == "registry"
    assert "Unknown host" in str(away)
    assert refusal("5.3.3", "server", "").ability == "registry"


def test_a_release_in_the_cache_is_used_without_maven(machine: Path) -> None:
    """Resolving once is enough."""
    lib = machine / "cache" / "brokerlab" / "rocketmq" / "5.3.3" / "client"
    lib.mkdir(parents=True)
    assert resolve("5.3.3", "client") == release("5.3.3", "client") == Release("5.3.3", lib)


def test_a_release_that_is_not_there_says_how_to_get_it(machine: Path) -> None:
    """The lab itself asks no registry."""
    with pytest.raises(ReleaseMissing, match=r"make rocketmq VERSION=5\.3\.3"):
        release("5.3.3", "server")


def test_missing_programs_are_named(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Maven first, then Java."""
    with pytest.raises(ReleaseMissing) as found:
        resolve("5.3.3", "server")
    assert found.value.ability == "maven"
    assert not any((machine / "cache").rglob("*.jar"))
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(ReleaseMissing) as found:
        resolve("5.3.3", "server")
    assert found.value.ability == "java"


def test_an_unpacked_release_is_known_by_its_broker(machine: Path) -> None:
    """Its version comes from the file name, and a folder without a broker is refused."""
    folder = machine / "rocketmq-4.9.8"
    with pytest.raises(ReleaseMissing, match="no unpacked release"):
        release(str(folder), "server")
    (folder / "lib").mkdir(parents=True)
    (folder / "lib" / "rocketmq-broker-4.9.8.jar").touch()
    found = release(str(folder), "server")
    assert (found.version, found.line, found.lib) == ("4.9.8", 4, (folder / "lib").resolve())
