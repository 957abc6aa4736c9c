"""The parts of a cluster that need no namespace: rule listings, sampling, cgroup files, the guardian, the keeper."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import cast

import pytest

from lab.cluster import userns
from lab.cluster.cgroups import Cgroup
from lab.cluster.guardian import Guardian
from lab.cluster.hosts import Hosts
from lab.cluster.keeper import Keeper
from lab.cluster.nft import rules
from lab.cluster.sampling import Sampler
from lab.cluster.supervisor import NodeSpec, Supervisor, explained
from nemesis.world import LeverError

SLEEPER = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(3600)"]
WAIT_S = 30.0

LISTING = """table ip lab {
	set cut {
		type ipv4_addr . ipv4_addr
		elements = { 10.77.0.1 . 10.77.0.2 }
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		ip saddr . ip daddr @cut drop
	}
}
# Warning: table ip filter is managed by iptables-nft, do not touch!
table ip filter {
	chain INPUT {
		type filter hook input priority filter; policy drop;
	}
}
"""


def test_only_lines_that_can_lose_a_packet_count_as_rules() -> None:
    assert rules(LISTING) == [
        "elements = { 10.77.0.1 . 10.77.0.2 }",
        "ip saddr . ip daddr @cut drop",
        "type filter hook input priority filter; policy drop;",
    ]
    assert rules("") == []


def test_samples_are_one_json_line_for_each_running_node(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"

    async def story() -> None:
        running = {"node-1": os.getpid(), "node-2": 2**22 + 1}
        sampler = Sampler(lambda: running, path, interval_s=0.01)
        sampler.start()
        for _ in range(int(WAIT_S / 0.005)):
            if path.exists() and len(path.read_text().splitlines()) >= 3:
                break
            await asyncio.sleep(0.005)
        await sampler.stop()
        await sampler.stop()

    asyncio.run(story())
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["node"] for row in rows} == {"node-1"}  # the other does not exist
    assert all(row["rss"] > 1_000_000 and row["cpu_s"] > 0 for row in rows)
    assert [row["t_ns"] for row in rows] == sorted(row["t_ns"] for row in rows)


def test_a_cgroup_speaks_the_kernel_s_files(tmp_path: Path) -> None:
    cgroup = Cgroup(tmp_path / "group")
    cgroup.create()
    cgroup.create()
    cgroup.add(42)
    assert cgroup.pids() == [42]
    cgroup.freeze(True)
    assert (cgroup.folder / "cgroup.freeze").read_text() == "1"
    for frozen in (True, False):
        (cgroup.folder / "cgroup.events").write_text(f"populated 1\nfrozen {int(frozen)}\n")
        assert cgroup.frozen() is frozen
    cgroup.kill()
    assert (cgroup.folder / "cgroup.kill").read_text() == "1"
    assert not cgroup.remove(wait_s=0.01)  # not empty
    for file in cgroup.folder.iterdir():
        file.unlink()
    assert cgroup.remove(wait_s=0.01)
    assert cgroup.remove(wait_s=0.01)


def test_a_cgroup_tells_how_long_nothing_in_it_had_a_cpu(tmp_path: Path) -> None:
    """In the kernel's words; a kernel without them tells nothing."""
    cgroup = Cgroup(tmp_path)
    assert cgroup.starved_ns() is None
    file = tmp_path / "cpu.pressure"
    some = "some avg10=98.40 avg60=90.73 avg300=40.86 total=155773126\n"
    file.write_text(some)
    assert cgroup.starved_ns() is None
    file.write_text(some + "full avg10=92.33 avg60=85.23 avg300=38.43 total=146553766\n")
    assert cgroup.starved_ns() == 146_553_766_000


def test_the_guardian_kills_what_it_was_told_of_and_not_told_to_forget() -> None:
    guardian = Guardian(None)
    kept, dropped = (subprocess.Popen(SLEEPER, start_new_session=True) for _ in range(2))
    try:
        guardian.add(kept.pid)
        guardian.add(dropped.pid)
        guardian.drop(dropped.pid)
        assert kept.poll() is None
        guardian.close()
        guardian.close()
        assert kept.wait(WAIT_S) == -signal.SIGKILL
        assert dropped.poll() is None
    finally:
        dropped.kill()
        dropped.wait()


def test_a_guardian_that_was_killed_harms_nobody() -> None:
    guardian = Guardian(None)
    os.kill(guardian.pid, signal.SIGKILL)
    deadline = time.monotonic() + WAIT_S
    while Path(f"/proc/{guardian.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
    guardian.add(2**22 + 1)
    guardian.close()


def test_the_keeper_runs_everything_in_one_thread_that_stays() -> None:
    keeper = Keeper()
    try:
        first = keeper.call(threading.get_native_id)
        assert first == asyncio.run(keeper.run(threading.get_native_id)) == keeper.native_id
        assert first != threading.get_native_id()
        with pytest.raises(ZeroDivisionError):
            keeper.call(lambda: 1 // 0)
        assert keeper.view(Path("/etc")).name == "etc"
    finally:
        keeper.close()


def test_a_refusal_says_what_an_administrator_would_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userns, "may_make_hosts", lambda: False)
    monkeypatch.setattr(userns, "refusal", lambda: "unshare failed; run it as root")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(userns.NoPrivilegeError, match="neither: unshare failed; run it as root"):
        userns.ensure()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(userns.NoPrivilegeError, match="this root may not make network namespaces"):
        userns.ensure()


def test_who_may_make_hosts_goes_on_as_he_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userns, "may_make_hosts", lambda: True)
    userns.ensure(["/nonexistent"])


def test_who_may_not_starts_again_inside_a_user_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(userns, "may_make_hosts", lambda: False)
    monkeypatch.setattr(userns, "refusal", lambda: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "execvp", lambda _, argv: asked.append(argv))
    userns.ensure(["lab", "run"])
    assert asked == [["unshare", "--user", "--map-root-user", "--net", "--mount", "--", "lab", "run"]]


@pytest.mark.parametrize(
    ("by", "status", "expected"),
    [
        (signal.SIGKILL, -signal.SIGKILL, True),
        (signal.SIGKILL, -signal.SIGABRT, False),
        (signal.SIGKILL, 1, False),
        (signal.SIGKILL, 0, False),
        (signal.SIGTERM, 0, True),
        (signal.SIGTERM, 143, True),
        (signal.SIGTERM, -signal.SIGTERM, True),
        (signal.SIGTERM, -signal.SIGKILL, True),
        (signal.SIGTERM, -signal.SIGSEGV, False),
        (None, -signal.SIGKILL, False),
        (None, 0, False),
    ],
)
def test_a_fault_explains_the_end_that_it_brings_and_no_other(
    by: signal.Signals | None, status: int, expected: bool
) -> None:
    """A node that crashed just before it was to be killed crashed all the same."""
    assert explained(by, status) is expected


def test_what_is_not_there_cannot_be_destroyed(tmp_path: Path) -> None:
    """A store that lies elsewhere than the lab believes would be gone at once, and its destruction proven."""
    nodes = Supervisor(cast(Hosts, None), Keeper(), use_cgroups=False)
    nodes.declare(NodeSpec("n", "n", ("true",), 1, tmp_path, store=tmp_path / "store"))

    async def destroy() -> None:
        try:
            with pytest.raises(LeverError, match=r"n has nothing at .*store: nothing can be destroyed"):
                await nodes.destroy("n", "f1")
            (tmp_path / "store").mkdir()
            (tmp_path / "store" / "commitlog").write_text("records")
            assert await nodes.destroy("n", "f1") == f"deleted {tmp_path / 'store'}"
            assert await nodes.store_gone("n")
        finally:
            await nodes.stop()
            nodes.keeper.close()

    asyncio.run(destroy())
