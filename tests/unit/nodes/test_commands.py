"""The programs as a user meets them: processes, exit codes, tables, and a stop that trusts only its own records."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from nodes.client.admin import ConsumeRow, TopicRow
from nodes.client.messages import Message
from nodes.client.queues import MessageQueue
from nodes.commands import mqadmin, mqshutdown, tables
from nodes.commands.running import Running, command_line, home_folder, running, start_time

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 30.0


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


class Programs:
    """Starts programs with a home folder of their own and ends every one that a test left running."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {k: v for k, v in os.environ.items() if k not in ("ROCKETMQ_HOME", "NAMESRV_ADDR")}
        self.environment["ROCKETMQ_HOME"] = str(folder / "home")
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *command: str) -> subprocess.Popen[str]:
        with (self.folder / f"stderr-{len(self.started)}").open("w") as errors:
            process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=errors
            )
        self.started.append(process)
        return process

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, text=True, capture_output=True, timeout=PATIENCE_S, check=False
        )

    def stop(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.terminate()
            process.wait(PATIENCE_S)
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    found = Programs(tmp_path)
    yield found
    found.stop()


def wait_for_line(process: subprocess.Popen[str], text: str) -> str:
    """Read the program's output until a line contains the text; the program's end ends the wait."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"the program ended with {process.wait(PATIENCE_S)} before it said {text!r}")


def broker_file(folder: Path, name_server: int, port: int, ha_port: int, **more: str) -> Path:
    settings = {
        "brokerName": "broker-a",
        "brokerIP1": "127.0.0.1",
        "listenPort": str(port),
        "haListenPort": str(ha_port),
        "namesrvAddr": f"127.0.0.1:{name_server}",
        "storePathRootDir": str(folder / "store"),
        "mappedFileSizeCommitLog": "1048576",
        **more,
    }
    path = folder / "broker-a.conf"
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    return path


def test_the_seeds_commands_from_a_checkout(programs: Programs) -> None:
    """mqnamesrv, mqbroker, mqadmin and mqshutdown through sh bin/..., as the RocketMQ manual types them."""
    port, broker_port, ha_port = free_ports(3)
    address = f"127.0.0.1:{port}"
    home = programs.folder / "namesrv1"
    name_server = programs.start("sh", "bin/mqnamesrv", "-p", str(port), "-h", str(home))
    wait_for_line(name_server, "boot success")
    path = broker_file(programs.folder, port, broker_port, ha_port)
    broker = programs.start("sh", "bin/mqbroker", "-c", str(path))
    assert f"127.0.0.1:{broker_port}" in wait_for_line(broker, "boot success")

    deadline = time.monotonic() + PATIENCE_S
    while "broker-a" not in (listed := programs.run("sh", "bin/mqadmin", "clusterList", "-n", address)).stdout:
        assert time.monotonic() < deadline, listed.stdout + listed.stderr
    header, row = listed.stdout.splitlines()
    assert header.startswith("#Cluster Name")
    assert row.split()[:4] == ["DefaultCluster", "broker-a", "0", f"127.0.0.1:{broker_port}"]

    made = programs.run("sh", "bin/mqadmin", "updateTopic", "-n", address, "-c", "DefaultCluster", "-t", "T")
    assert made.returncode == 0, made.stderr
    assert f"create topic to 127.0.0.1:{broker_port} success." in made.stdout
    status = programs.run("sh", "bin/mqadmin", "brokerStatus", "-n", address, "-b", "broker-a")
    assert "maxOffset" in status.stdout
    assert programs.run("sh", "bin/mqadmin", "brokerStatus", "-n", address, "-b", "broker-a:1").returncode == 2
    assert programs.run("sh", "bin/mqadmin", "topicStatus", "-n", address, "-t", "none").returncode == 1

    stopped = programs.run("sh", "bin/mqshutdown", "broker")
    assert stopped.returncode == 0, stopped.stderr
    assert broker.wait(PATIENCE_S) == 0
    assert programs.run("sh", "bin/mqshutdown", "broker").returncode == 1
    assert programs.run("sh", "bin/mqshutdown", "namesrv", "-h", str(programs.folder / "other")).returncode == 1
    assert programs.run("sh", "bin/mqshutdown", "namesrv", "-h", str(home)).returncode == 0
    assert name_server.wait(PATIENCE_S) == 0
    assert list((programs.folder / "home" / "run").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nodes_stop_cleanly(programs: Programs, number: signal.Signals) -> None:
    log = programs.folder / "log.jsonl"
    node = programs.start(sys.executable, "-m", "nodes", "namesrv", "--set", "listenPort=0", "--log", str(log))
    deadline = time.monotonic() + PATIENCE_S
    while not (log.exists() and '"event":"listening"' in log.read_text()):
        assert node.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    node.send_signal(number)
    assert node.wait(PATIENCE_S) == 0
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert "stop-asked" in events


def test_a_port_in_use_is_named(programs: Programs) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = programs.run(sys.executable, "-m", "nodes", "namesrv", "--set", f"listenPort={port}")
    assert ended.returncode == 4
    assert f"127.0.0.1:{port}" in ended.stderr
    assert "set another one" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["namesrv", "-c", "/nonexistent"], 2, "No such file"),
        (["namesrv", "--set", "listenPrt=1"], 2, "did you mean 'listenPort'"),
        (["broker", "--set", "transientStorePoolEnable=true"], 2, "refused"),
        (["broker", "--set", "listenPort"], 2, "is not key=value"),
        (["nonsense"], 2, "invalid choice"),
        (["namesrv", "--set", "listenPort=0", "--log", "/proc/none/log"], 4, "cannot write the log"),
        (["broker", "--set", "listenPort=0", "--set", "storePathRootDir=/proc/none"], 4, "the machine refused"),
    ],
)
def test_bad_input_gets_one_clear_message(programs: Programs, arguments: list[str], code: int, text: str) -> None:
    ended = programs.run(sys.executable, "-m", "nodes", *arguments)
    assert (ended.returncode, text in ended.stderr, "Traceback" in ended.stderr) == (code, True, False), ended.stderr


def test_a_store_that_is_in_use_names_the_way_out(programs: Programs, tmp_path: Path) -> None:
    """A second broker under the same home, as a slave beside its master on one machine would be."""
    store = tmp_path / "store"
    store.mkdir()
    with (store / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ended = programs.run(
            sys.executable, "-m", "nodes", "broker", "--set", "listenPort=0", "--set", f"storePathRootDir={store}"
        )
    assert ended.returncode == 4
    assert f"another process uses the store {store}/lock: stop it, or set another storePathRootDir" in ended.stderr


def test_assertions_are_not_optional(programs: Programs) -> None:
    ended = programs.run(sys.executable, "-O", "-m", "nodes", "namesrv")
    assert ended.returncode == 2
    assert "-O" in ended.stderr


def test_only_our_own_living_processes_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record whose process id came to mean another process is no reason to stop that one."""
    monkeypatch.setenv("ROCKETMQ_HOME", str(tmp_path))
    folder = home_folder() / "run"
    folder.mkdir(parents=True)
    me = os.getpid()
    truth = {"program": "broker", "pid": me, "started": start_time(me), "command": command_line(me), "home": ""}
    lies = {
        "same": truth,
        "other-start": truth | {"started": 1},
        "other-command": truth | {"command": ["python", "-m", "something"]},
        "no-process": truth | {"pid": 2**22 + 1},
    }
    for name, record in lies.items():
        (folder / f"broker-{name}.json").write_text(json.dumps(record))
    (folder / "broker-torn.json").write_text("{")
    assert [one.pid for one in running("broker")] == [me]
    assert sorted(path.name for path in folder.iterdir()) == ["broker-same.json", "broker-torn.json"]
    assert running("namesrv") == []
    assert isinstance(running("broker")[0], Running)


def test_mqshutdown_leaves_strangers_alone(tmp_path: Path) -> None:
    """A process of the same name that no record tells of goes on."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "mqbroker"]) as stranger:
        try:
            ended = CliRunner(env={"ROCKETMQ_HOME": str(tmp_path)}).invoke(mqshutdown, ["broker"])
            assert ended.exit_code == 1
            assert "No mqbroker running." in ended.output
            assert stranger.poll() is None
        finally:
            stranger.kill()


# ---- mqadmin -------------------------------------------------------------------------------------------------------


def test_mqadmin_is_a_group_that_others_can_mount() -> None:
    assert isinstance(mqadmin, click.Group)
    wanted = {"clusterList", "topicRoute", "topicList", "updateTopic", "topicStatus", "brokerStatus"}
    assert wanted | {"consumerProgress", "queryMsgById", "queryMsgByKey", "changeRole"} <= set(mqadmin.commands)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["clusterList", "-n", "nonsense"], 2, "expected host:port"),
        (["clusterList", "-n", "127.0.0.1:1"], 4, "no name server answered"),
        (["updateTopic", "-t", "T"], 2, "either a broker"),
        (["brokerStatus"], 2, "either a broker"),
        (["changeRole", "-b", "127.0.0.1:1", "-i", "1", "-r", "SYNC_MASTER"], 2, "a master has id 0"),
        (["queryMsgById", "-i", "xyz"], 4, "digits"),
        (["topicRoute"], 2, "Missing option '-t'"),
    ],
)
def test_mqadmin_says_what_is_wrong(arguments: list[str], code: int, text: str) -> None:
    ended = CliRunner().invoke(mqadmin, arguments)
    assert (ended.exit_code, text in ended.output) == (code, True), ended.output


def test_tables_have_rocketmqs_columns() -> None:
    runtime = {
        "brokerVersionDesc": "V4_9_8",
        "putTps": "1.5 1.0 0.5",
        "getTransferedTps": "2.5 0 0",
        "earliestMessageTimeStamp": "0",
        "commitLogDiskRatio": "0.25",
    }
    lines = tables.cluster_lines(
        [("c", "broker-a", 0, "10.0.0.1:10911", runtime), ("c", "broker-a", 1, "10.0.0.2:10911", None)], 0
    )
    assert lines[1].split() == [
        "c", "broker-a", "0", "10.0.0.1:10911", "V4_9_8", "1.50(0,0ms)", "2.50(0,0ms)", "0", "0.00", "0.2500",
    ]  # fmt: skip
    assert "OFFLINE" in lines[2]
    queue = MessageQueue("T", "broker-a", 3)
    assert tables.topic_lines([TopicRow(queue, 1, 9, 0)])[1].split() == ["broker-a", "3", "1", "9"]
    progress = tables.consume_lines([ConsumeRow(queue, 9, 4, 0), ConsumeRow(queue, 9, 9, 0)])
    assert progress[1].split() == ["T", "broker-a", "3", "9", "4", "5", "-"]
    assert progress[-1] == "Diff Total: 5"
    assert tables.status_lines({"b": "1", "commitLogMaxOffset": "7"})[-1].endswith(": 7")
    message = Message("T", b"x", {"TAGS": "A"}, queue_id=2, queue_offset=5, broker_name="broker-a")
    assert tables.key_lines([message])[1].split() == ["broker-a", "2", "5"]
    assert any(line.startswith("Tags:") and "[A]" in line for line in tables.message_lines(message))
    assert tables.group_lines([("g", 1, "PUSH", "CLUSTERING", 3)])[1].split() == ["g", "1", "PUSH", "CLUSTERING", "3"]
