"""Every lever on real wires and processes: it hits exactly what it should, heals, and its proof catches its no-op."""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from lab.cluster.hosts import Hosts
from lab.cluster.iptables import IptablesLever
from lab.cluster.network import LeverName
from lab.cluster.supervisor import NodeNotReadyError
from nemesis import Incident, LeverFlaw, Patience, Role, RoleReport, Verified, World, numb, parse
from nemesis.world import LeverError, NodeState, PortState
from tests.live.conftest import NAMES, PING, READY_S, Cluster

pytestmark = pytest.mark.live

NODES = NAMES[:3]
SHORT = Patience(silent_s=0.2, refuse_s=0.5, matrix_s=0.5, start_s=0.5, resume_s=0.5, promote_s=0.2)
"""For proofs that must fail: they wait in vain to the end."""

LONG = Patience(silent_s=0.3, refuse_s=20, matrix_s=20, start_s=30, resume_s=20, promote_s=20)
"""For proofs that must hold: they end when the world shows it, however slow the machine."""

Play = Callable[..., Any]


class Stands:
    """Roles of the stand-ins: node-1 is the master of group g, node-2 its slave, node-3 a name server."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    async def roles(self) -> Mapping[str, RoleReport]:
        parts = {"node-1": Role.MASTER, "node-2": Role.SLAVE, "node-3": Role.NAME_SERVER, "client-1": Role.CLIENT}
        return {name: RoleReport(name, name, "g" if name < "node-3" else "", part) for name, part in parts.items()}

    async def promote(self, node: str) -> str:
        raise LeverError(f"{node} is a stand-in")


def world(cluster: Cluster, patience: Patience = LONG) -> World:
    return World(cluster.network, cluster.supervisor, Stands(cluster), random.Random(1), time.monotonic_ns, patience)


PARTITIONS = (
    "partition:halves",
    "partition:isolate-master",
    "partition:isolate-master,clients=with",
    "partition:one-way-in:master",
    "partition:one-way-out:master",
    "partition:ring",
    "partition:bridge,clients=member,namesrvs=member",
    "partition:replication",
    "partition:namesrvs",
    "partition:[[node-1,client-1],[node-2,node-3]]",
)


@pytest.mark.partition
@pytest.mark.parametrize("lever", [LeverName.NFT, pytest.param(LeverName.IPTABLES, marks=pytest.mark.live("iptables"))])
@pytest.mark.parametrize("spec", PARTITIONS)
def test_a_partition_is_proven_and_heals_completely(with_cluster: Play, spec: str, lever: LeverName) -> None:
    async def story(cluster: Cluster) -> None:
        around = world(cluster)
        incident = Incident("f1", parse(spec).fault(), around)
        injected = await incident.inject()
        if spec == "partition:ring" and injected.verified is Verified.FALSE:
            assert "cuts nothing" in str(injected.evidence["reason"])  # clients and name servers are free: 2 are left
            return
        assert injected.verified is Verified.TRUE, injected.evidence
        cut = around.ledger.intended()
        assert letters(cluster) == {(a, b) for a in NAMES for b in NAMES if a != b and (a, b) not in cut}
        healed = await incident.heal()
        assert healed.verified is Verified.TRUE, healed.evidence
        assert await cluster.network.baseline() == []
        assert len(letters(cluster)) == 12

    with_cluster(story, lever=lever)


@pytest.mark.partition
@pytest.mark.parametrize("lever", [LeverName.NFT, pytest.param(LeverName.IPTABLES, marks=pytest.mark.live("iptables"))])
def test_overlapping_partitions_heal_independently(with_cluster: Play, lever: LeverName) -> None:
    async def story(cluster: Cluster) -> None:
        around = world(cluster)
        first = Incident("f1", parse("partition:isolate:node-1").fault(), around)
        second = Incident("f2", parse("partition:one-way-out:node-1+node-2").fault(), around)
        for one in (first, second):
            assert (await one.inject()).verified is Verified.TRUE
        assert (await first.heal()).verified is Verified.TRUE
        assert not await cluster.network.flow("node-1", "client-1")
        assert await cluster.network.flow("client-1", "node-1")
        assert await cluster.network.flow("node-1", "node-2")
        assert (await second.heal()).verified is Verified.TRUE
        assert await cluster.network.baseline() == []

    with_cluster(story, lever=lever)


@pytest.mark.partition
@pytest.mark.flaws
@pytest.mark.parametrize("lever", [LeverName.NFT, pytest.param(LeverName.IPTABLES, marks=pytest.mark.live("iptables"))])
@pytest.mark.parametrize("flaw", [LeverFlaw.NO_CUT, LeverFlaw.HALF_CUT, LeverFlaw.NO_RESTORE, LeverFlaw.HALF_RESTORE])
def test_a_cut_that_lies_is_caught_on_real_wires(with_cluster: Play, flaw: LeverFlaw, lever: LeverName) -> None:
    async def story(cluster: Cluster) -> None:
        around = numb(world(cluster, SHORT), (flaw,))
        incident = Incident("f1", parse("partition:isolate-master").fault(), around)
        injected, healed = await incident.inject(), await incident.heal()
        lies_at_once = flaw in (LeverFlaw.NO_CUT, LeverFlaw.HALF_CUT)
        assert injected.verified is (Verified.FALSE if lies_at_once else Verified.TRUE), injected.evidence
        assert healed.verified is (Verified.TRUE if lies_at_once else Verified.FALSE), healed.evidence

    with_cluster(story, lever=lever)


@pytest.mark.flaws
def test_a_rule_that_somebody_left_is_caught_at_healing(with_cluster: Play) -> None:
    async def story(cluster: Cluster) -> None:
        from lab.cluster.nft import Nft

        nft = Nft(cluster.hosts.fd("node-2"))
        incident = Incident("f1", parse("partition:isolate:node-1").fault(), world(cluster, SHORT))
        assert (await incident.inject()).verified is Verified.TRUE
        nft.run(
            "add table ip other; add chain ip other c { type filter hook input priority 0; }; "
            "add rule ip other c tcp dport 1 drop"
        )
        healed = await incident.heal()
        assert healed.verified is Verified.FALSE
        assert healed.evidence["mismatches"] == ["+ node-2: tcp dport 1 drop"]
        nft.close()

    with_cluster(story)


@pytest.mark.live("iptables")
def test_an_iptables_rule_that_somebody_deleted_is_reported_and_the_rest_heals(hosts: Hosts) -> None:
    lever = IptablesLever(hosts)
    pairs = [(hosts.address("node-1"), hosts.address(name)) for name in ("node-2", "node-3")]
    done = lever.apply(pairs)
    assert done.startswith(f"node-2: iptables -w -A INPUT -s {hosts.address('node-1')} -j DROP; node-3: ")
    assert lever.apply(pairs) == "no rule to change"
    subprocess.run(hosts.exec_argv("node-2", ["iptables", "-w", "-F", "INPUT"]), check=True, timeout=READY_S)
    with pytest.raises(LeverError, match="node-2: iptables -w -D"):
        lever.apply([])
    listing = subprocess.run(
        hosts.exec_argv("node-3", ["iptables", "-w", "-S", "INPUT"]), capture_output=True, text=True, timeout=READY_S
    )
    assert listing.stdout.splitlines() == ["-P INPUT ACCEPT"]
    with pytest.raises(LeverError, match="no host has the address"):
        lever.apply([("10.77.0.1", "192.0.2.1")])


def test_nodes_are_not_disturbed_by_probes(with_cluster: Play) -> None:
    async def story(cluster: Cluster) -> None:
        await cluster.start("node-1")
        await cluster.network.matrix(frozenset())
        assert await cluster.supervisor.port("node-1", READY_S) is PortState.ANSWERS
        assert (cluster.folder / "node-1" / "stderr").read_text() == ""

    with_cluster(story)


PROCESS_FAULTS = (
    "kill:master",
    "kill:node-1+node-2+node-3",
    "pause:slave",
    "destroy:master",
    "destroy:slave,rejoin=yes",
)


@pytest.mark.parametrize("use_cgroups", [pytest.param(True, marks=pytest.mark.live("cgroup2")), False])
@pytest.mark.parametrize("spec", PROCESS_FAULTS)
def test_a_fault_of_processes_is_proven_and_heals(with_cluster: Play, spec: str, use_cgroups: bool) -> None:
    async def story(cluster: Cluster) -> None:
        await cluster.start(*NODES)
        incident = Incident("f1", parse(spec).fault(), world(cluster))
        injected = await incident.inject()
        assert injected.verified is Verified.TRUE, injected.evidence
        untouched = [name for name in NODES if name not in injected.targets]
        for name in untouched:
            assert await cluster.supervisor.port(name, READY_S) is PortState.ANSWERS
        healed = await incident.heal()
        assert healed.verified is Verified.TRUE, healed.evidence
        for exit_ in cluster.supervisor.exits:
            assert (exit_.expected, exit_.fault, exit_.signal) == (True, "f1", "SIGKILL")
        if spec == "destroy:master":
            assert cluster.supervisor.state("node-1") is NodeState.DESTROYED
            assert not (cluster.folder / "node-1" / "store").exists()
        else:
            assert {cluster.supervisor.state(name) for name in NODES} == {NodeState.RUNNING}

    with_cluster(story, use_cgroups=use_cgroups)


@pytest.mark.flaws
@pytest.mark.parametrize("use_cgroups", [pytest.param(True, marks=pytest.mark.live("cgroup2")), False])
@pytest.mark.parametrize(
    ("spec", "flaw", "verified"),
    [
        ("kill:master", LeverFlaw.NO_KILL, (Verified.FALSE, Verified.FALSE)),  # healing finds it running already
        ("kill:master", LeverFlaw.NO_START, (Verified.TRUE, Verified.FALSE)),
        ("destroy:master", LeverFlaw.NO_DESTROY, (Verified.FALSE, Verified.FALSE)),
        ("destroy:master", LeverFlaw.KILL_WITHOUT_DESTROY, (Verified.FALSE, Verified.FALSE)),
        ("pause:master", LeverFlaw.NO_PAUSE, (Verified.FALSE, Verified.TRUE)),  # it goes on, as it should
        ("pause:master", LeverFlaw.NO_RESUME, (Verified.TRUE, Verified.FALSE)),
    ],
)
def test_a_lever_of_processes_that_lies_is_caught(
    with_cluster: Play, spec: str, flaw: LeverFlaw, verified: tuple[Verified, Verified], use_cgroups: bool
) -> None:
    async def story(cluster: Cluster) -> None:
        await cluster.start(*NODES)
        incident = Incident("f1", parse(spec).fault(), numb(world(cluster, SHORT), (flaw,)))
        records = (await incident.inject(), await incident.heal())
        assert tuple(record.verified for record in records) == verified, [record.evidence for record in records]

    with_cluster(story, use_cgroups=use_cgroups)


def test_a_partition_and_a_kill_overlap_and_heal_in_either_order(with_cluster: Play) -> None:
    async def story(cluster: Cluster) -> None:
        await cluster.start(*NODES)
        around = world(cluster)
        cut = Incident("f1", parse("partition:isolate-master").fault(), around)
        kill = Incident("f2", parse("kill:master").fault(), around)
        for half in (cut.inject, kill.inject, cut.heal, kill.heal):
            record = await half()
            assert record.verified is Verified.TRUE, record.evidence

    with_cluster(story)


def test_levers_and_proofs_work_on_uvloop_too(with_cluster: Play) -> None:
    import uvloop

    async def story(cluster: Cluster) -> None:
        await cluster.start(*NODES)
        around = world(cluster)
        for number, spec in enumerate(("kill:master", "pause:slave", "partition:halves", "destroy:node-3")):
            incident = Incident(f"f{number}", parse(spec).fault(), around)
            for half in (incident.inject, incident.heal):
                record = await half()
                assert record.verified is Verified.TRUE, record.evidence

    with_cluster(story, new_loop=uvloop.new_event_loop)


def test_an_exit_that_nobody_asked_for_is_unexpected(with_cluster: Play) -> None:
    async def story(cluster: Cluster) -> None:
        await cluster.start("node-1")
        pid = cluster.supervisor.pid("node-1")
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        exit_ = await cluster.supervisor.wait_exit("node-1", READY_S)
        assert (exit_.expected, exit_.fault, exit_.signal, exit_.incarnation) == (False, None, "SIGTERM", 1)
        with pytest.raises(LeverError, match="node-1 is not running"):
            await cluster.supervisor.kill("node-1", "f1")

    with_cluster(story)


def test_a_node_that_ends_before_it_is_ready_is_reported_at_once_with_its_last_words(with_cluster: Play) -> None:
    async def story(cluster: Cluster) -> None:
        await cluster.supervisor.spawn(cluster.spec("node-1", "--exit", "3"))
        with pytest.raises(NodeNotReadyError, match="giving up"):
            await cluster.supervisor.ready("node-1", READY_S)
        assert [(exit_.code, exit_.expected) for exit_ in cluster.supervisor.exits] == [(3, False)]
        await cluster.supervisor.spawn(cluster.spec("node-2", "--deaf"))
        with pytest.raises(NodeNotReadyError, match="did not answer within"):
            await cluster.supervisor.ready("node-2", 0.1)

    with_cluster(story)


def test_a_command_that_does_not_exist_is_reported(with_cluster: Play) -> None:
    async def story(cluster: Cluster) -> None:
        from dataclasses import replace

        await cluster.supervisor.spawn(replace(cluster.spec("node-1"), argv=("/nonexistent/program",)))
        with pytest.raises(NodeNotReadyError, match="/nonexistent/program"):
            await cluster.supervisor.ready("node-1", READY_S)

    with_cluster(story)


@pytest.mark.parametrize("use_cgroups", [pytest.param(True, marks=pytest.mark.live("cgroup2")), False])
def test_stopping_ends_everything_quickly_children_too(with_cluster: Play, use_cgroups: bool) -> None:
    async def story(cluster: Cluster) -> None:
        for name in NODES:
            await cluster.supervisor.spawn(cluster.spec(name, "--fork"))
        for name in NODES:
            await cluster.supervisor.ready(name, READY_S)
        await cluster.supervisor.pause("node-2")
        sessions = list(cluster.supervisor.running_pids().values())
        assert len(in_sessions(sessions)) == 6
        begin = time.perf_counter()
        await cluster.supervisor.stop()
        assert time.perf_counter() - begin < 5  # 0.01 s on an idle machine
        await gone(sessions)
        assert [exit_.expected for exit_ in cluster.supervisor.exits] == [True] * 3

    with_cluster(story, use_cgroups=use_cgroups)


def test_a_killed_node_takes_its_children_along(with_cluster: Play) -> None:
    async def story(cluster: Cluster) -> None:
        await cluster.supervisor.spawn(cluster.spec("node-1", "--fork"))
        await cluster.supervisor.ready("node-1", READY_S)
        session = [cluster.supervisor.pid("node-1") or 0]
        assert len(in_sessions(session)) == 2
        await cluster.supervisor.kill("node-1", "f1")
        await gone(session)

    with_cluster(story, use_cgroups=False)


def test_the_ping_is_what_tells_a_paused_node_from_a_living_one(with_cluster: Play) -> None:
    async def story(cluster: Cluster) -> None:
        from dataclasses import replace

        await cluster.start("node-1")
        await cluster.supervisor.pause("node-1")
        assert await cluster.supervisor.stopped("node-1")
        assert await cluster.supervisor.port("node-1", 0.2) is PortState.SILENT
        assert cluster.supervisor.spec("node-1").ping == PING
        cluster.supervisor.declare(replace(cluster.supervisor.spec("node-1"), ping=b""))
        assert await cluster.supervisor.port("node-1", READY_S) is PortState.ANSWERS  # the kernel alone opens it

    with_cluster(story)


def letters(cluster: Cluster) -> set[tuple[str, str]]:
    """Who gets a letter from whom, by sockets of this test's own: the lab's probes have no part in it."""
    boxes = {name: cluster.hosts.socket_in(name, socket.SOCK_DGRAM) for name in NAMES}
    for name, box in boxes.items():
        box.bind((cluster.hosts.address(name), 5000))
    for name, box in boxes.items():
        for other in NAMES:
            if other != name:
                box.sendto(name.encode(), (cluster.hosts.address(other), 5000))
    got = set()
    while ready := select.select(list(boxes.values()), [], [], 0.05)[0]:
        for name, box in boxes.items():
            if box in ready:
                got.add((box.recv(100).decode(), name))
    for box in boxes.values():
        box.close()
    return got


async def gone(sessions: list[int]) -> None:
    """Wait until nobody is left: a child that was killed may still have to die when its parent is reaped."""
    for _ in range(2000):
        if not in_sessions(sessions):
            return
        await asyncio.sleep(0.01)
    assert in_sessions(sessions) == []


def in_sessions(sessions: list[int]) -> list[int]:
    """Living processes, zombies left out, of these sessions."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] not in "ZX" and int(fields[3]) in sessions:
                found.append(int(name))
    return found
