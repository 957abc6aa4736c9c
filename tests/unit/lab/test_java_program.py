"""What a plan with Java clients may ask for, how the program is run, and what is said where it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.errors import PlanError, SetupError
from lab.meta import client_words, progress
from lab.options import RunOptions, overlay
from lab.plan import Plan
from lab.planfile import build_plan
from lab.systems.rocketmq.release import Release
from lab.systems.rocketmq.sources import compiled
from lab.topology import settings_of, topology_of
from lab.validate import validate
from lab.workers.java.program import SOURCE, JavaWorker, doubts, java_worker


def plan(mode: str = "dledger", **load: object) -> Plan:
    return build_plan({"cluster": {"mode": mode}, "load": {"client": "java", **load}}, "plan.toml")


def test_options_name_the_client_its_release_and_its_route_poll() -> None:
    """As a plan would."""
    options = RunOptions(client="java", client_version="4.9.8", route_poll="1s")
    load = build_plan(overlay({}, options), "options").load
    assert (load.client, load.client_version, load.route_poll.s) == ("java", "4.9.8", 1.0)


@pytest.mark.parametrize(
    ("load", "words"),
    [
        ({"client": "jave"}, "did you mean 'java'?"),
        ({"client": "python", "client_version": "5.3.3"}, "is of client java"),
        ({"workload": "log", "retries": 1}, "set load.retries = 0"),
        ({"topic": "a/b"}, "load.topic = 'a/b'"),
        ({"group": "two words"}, "load.group = 'two words'"),
        ({"route_poll": "1ms"}, "100ms or more"),
    ],
)
def test_what_java_clients_cannot_do_is_refused(load: dict[str, Any], words: str) -> None:
    """Before anything starts, in words."""
    built = plan(**load)
    with pytest.raises(PlanError) as caught:
        validate(built, topology_of(built))
    assert words in str(caught.value)


def test_the_rest_is_accepted() -> None:
    """Both workloads, retries, other names, pull and push consumers."""
    for load in ({}, {"workload": "log"}, {"retries": 2}, {"topic": "a_b-c"}, {"consume": "push"}):
        built = plan(**load)
        validate(built, topology_of(built))


def test_the_program_is_told_what_the_plan_says(tmp_path: Path) -> None:
    """Times in milliseconds, as RocketMQ's setters take them; retries are off unless the plan turns them on."""
    worker = JavaWorker(Release("5.3.3", Path("/jars")), Path("/classes"), "/bin/java")
    argv = worker.argv(plan(), ("10.0.0.1:9876", "10.0.0.2:9876"), "10.0.0.9", tmp_path)
    assert argv[argv.index("-cp") + 1] == "/classes:/jars/*"
    assert argv[argv.index("Worker") + 1 :] == [
        "names=10.0.0.1:9876;10.0.0.2:9876",
        "address=10.0.0.9",
        "topic=lab",
        "producer=writers",
        "retries=0",
        "poll=30000",
        "timeout=1000",
    ]
    tuned = worker.argv(plan(retries=2, route_poll="1s"), ("10.0.0.1:9876",), "10.0.0.9", tmp_path)
    assert {"retries=2", "poll=1000"} <= set(tuned)
    pushing = worker.argv(plan(consume="push"), ("10.0.0.1:9876",), "10.0.0.9", tmp_path)
    assert set(pushing) - set(argv) >= {"-Drocketmq.client.rebalance.waitInterval=2000"}


def test_a_machine_without_the_client_says_what_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Java first, then the jars, then the compiler; nothing is fetched on the quiet."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(SetupError, match=r"the Java client cannot run: java: .*apt-get install default-jre-headless"):
        java_worker(plan())
    (programs / "java").write_text("#!/bin/sh\n", encoding="utf-8")
    (programs / "java").chmod(0o755)
    with pytest.raises(SetupError, match=r"make rocketmq VERSION=5.3.3 PART=client"):
        java_worker(plan())
    (tmp_path / "cache" / "brokerlab" / "rocketmq" / "4.9.8" / "client").mkdir(parents=True)
    with pytest.raises(SetupError, match=r"javac: .*apt-get install default-jdk-headless"):
        java_worker(plan(client_version="4.9.8"))
    (programs / "javac").write_text("#!/bin/sh\necho 'error: no package' >&2\nexit 1\n", encoding="utf-8")
    (programs / "javac").chmod(0o755)
    with pytest.raises(SetupError, match=r"Worker.java does not compile with RocketMQ 4.9.8: error: no package"):
        java_worker(plan(client_version="4.9.8"))


def test_classes_are_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each version of the source and of the release."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    compiler = f'#!/bin/sh\necho once >> {tmp_path}/compiled\nwhile [ "$1" != -d ]; do shift; done\nmkdir -p "$2"\n'
    for name, text in (("java", "#!/bin/sh\n"), ("javac", compiler)):
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    for version in ("4.9.8", "5.3.3"):
        (tmp_path / "cache" / "brokerlab" / "rocketmq" / version / "client").mkdir(parents=True)
    first, again, other = (java_worker(plan(client_version=version)) for version in ("4.9.8", "4.9.8", "5.3.3"))
    assert first == again
    assert first.classes.is_dir()
    assert first.classes != other.classes
    assert (tmp_path / "compiled").read_text() == "once\nonce\n"
    assert SOURCE.exists()
    program, part = tmp_path / "Program.java", tmp_path / "Part.java"
    program.write_text("class Program {}")
    release = Release("5.3.3", tmp_path / "jars")
    folders = set()
    for text in ("class Part {}", "class Part { int changed; }"):
        part.write_text(text)
        folders |= {compiled(release, program, part), compiled(release, program, part)}
    assert len(folders) == 2
    assert (tmp_path / "compiled").read_text() == "once\n" * 4


def test_a_history_says_whose_clients_they_were() -> None:
    """With what bounds how soon they are back."""
    assert client_words(Plan()) == "brokerlab's own client, routes asked for every 30s"
    java = plan(client_version="4.9.8", route_poll="1s", retries=2)
    assert client_words(java) == "RocketMQ's Java client 4.9.8, routes asked for every 1s, 2 retries"


def test_a_run_too_short_for_the_route_poll_says_so() -> None:
    """It would end as unknown, and its user wonder why."""
    tables = {"time_limit": "30s", "fault": [{"kind": "kill:leader", "at": "10s", "for": "3s"}]}
    for poll, doubtful in (("30s", True), ("20s", False), ("1s", False)):
        built = build_plan({**tables, "load": {"client": "java", "route_poll": poll}}, "plan.toml")
        assert bool(doubts(built)) is doubtful
    assert doubts(plan()) == ""


def test_a_client_that_polls_seldom_explains_a_longer_grace() -> None:
    """It may have asked just before the leader changed, and then waits for a connection to fail."""
    slow, tuned = plan(), plan(route_poll="1s", client_version="4.9.8")
    assert progress(slow, settings_of(slow, master=True))["grace_s"] == 36.0
    found = progress(tuned, settings_of(tuned, master=True))
    assert found["grace_s"] == 7.0
    assert found["because"] == "the Java client asks for routes every 1s"
    assert progress(plan("master-slave"), {}) == {}
    pushing = plan(route_poll="1s", consume="push")
    found = progress(pushing, settings_of(pushing, master=True))
    assert found["grace_s"] == 7.0 + 38.0
    assert "a pull that nobody answers" in found["because"]
