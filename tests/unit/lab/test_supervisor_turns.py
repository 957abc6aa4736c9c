"""Of several that start or end one node at the same time, each finds what the one before it left."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from lab.cluster.hosts import Hosts
from lab.cluster.keeper import Keeper
from lab.cluster.supervisor import NodeExit, NodeSpec, Supervisor
from nemesis.fault import Incident, Verified
from nemesis.process import Destroy, Kill
from nemesis.world import LeverError, Network, NodeState, Patience, PortState, Role, RoleReport, World

# A node: it makes its store when it is told to start, and lives until somebody ends it.
BODY = "mkdir -p {store}; echo > {store}/log; trap 'exit 0' TERM; while :; do sleep 0.05; done"


class OneHost:
    """All nodes live where this test does."""

    @contextlib.contextmanager
    def run_inside(self, name: str) -> Iterator[None]:
        yield


class Cluster:
    """One node, m, and the supervisor that runs it."""

    def __init__(self, folder: Path) -> None:
        self.keeper = Keeper()
        self.exits: list[NodeExit] = []
        self.supervisor = Supervisor(cast(Hosts, OneHost()), self.keeper, on_exit=self.exits.append, use_cgroups=False)
        self.store = folder / "store"
        body = ("sh", "-c", BODY.format(store=self.store))
        self.supervisor.declare(NodeSpec("m", "m", body, 1, folder, store=self.store))
        cast(Any, self.supervisor).port = self.port

    async def port(self, node: str, timeout_s: float) -> PortState:
        running = self.supervisor.state(node) is NodeState.RUNNING
        return PortState.ANSWERS if running and self.store.exists() else PortState.REFUSES

    async def roles(self) -> Mapping[str, RoleReport]:
        return {"m": RoleReport("m", "m", "g", Role.MASTER, 1, self.supervisor.state("m") is NodeState.RUNNING)}

    def world(self) -> World:
        return World(
            network=cast(Network, None),
            processes=self.supervisor,
            roles=cast(Any, self),
            rng=random.Random(1),
            now_ns=time.monotonic_ns,
            patience=Patience(start_s=1.0, refuse_s=1.0),
        )

    async def up(self) -> None:
        await self.supervisor.start("m")
        await self.supervisor.ready("m", 60.0)


def play(folder: Path, story: Any) -> Cluster:
    async def run() -> Cluster:
        cluster = Cluster(folder)
        try:
            await story(cluster)
        finally:
            await cluster.supervisor.stop()
            cluster.keeper.close()
        return cluster

    return asyncio.run(run())


def test_a_node_is_started_once(tmp_path: Path) -> None:
    """Two processes on one store and one port would end each other."""

    async def story(cluster: Cluster) -> None:
        starts = (cluster.supervisor.start("m"), cluster.supervisor.start("m"))
        said = await asyncio.gather(*starts, return_exceptions=True)
        assert [type(one) for one in said] == [str, LeverError]
        assert cluster.supervisor.incarnation("m") == 1

    play(tmp_path, story)


def test_one_death_is_one_kill(tmp_path: Path) -> None:
    """Both were proven, though one of them did nothing."""

    async def story(cluster: Cluster) -> None:
        await cluster.up()
        world = cluster.world()
        faults = [Incident(name, Kill("m"), world) for name in ("f1", "f2")]
        records = await asyncio.gather(*(fault.inject() for fault in faults))
        assert [record.verified for record in records] == [Verified.TRUE, Verified.FALSE]

    play(tmp_path, story)


def test_who_is_being_ended_is_not_killed_on_top_of_it(tmp_path: Path) -> None:
    """It ended by itself as it was asked to, and SIGKILL does not explain that."""

    async def story(cluster: Cluster) -> None:
        await cluster.up()
        both = (cluster.supervisor.terminate("m", 5.0), cluster.supervisor.kill("m", "f1"))
        said = await asyncio.gather(*both, return_exceptions=True)
        assert isinstance(said[1], LeverError)

    cluster = play(tmp_path, story)
    assert [(one.expected, one.fault) for one in cluster.exits] == [(True, None)]


@pytest.mark.parametrize("first", ["heal", "destroy"])
def test_a_node_that_was_destroyed_while_it_was_started_is_not_both(first: str, tmp_path: Path) -> None:
    """The healing of a kill and a destruction for good at the same time: both were proven, and the node ran, empty."""

    async def story(cluster: Cluster) -> None:
        await cluster.up()
        world = cluster.world()
        kill, destroy = Incident("f1", Kill("m"), world), Incident("f2", Destroy("m"), world)
        await kill.inject()
        halves = {"heal": kill.heal(), "destroy": destroy.inject()}
        order = sorted(halves, key=lambda name: name != first)
        records = dict(zip(order, await asyncio.gather(*(halves[name] for name in order)), strict=True))
        assert records["destroy"].verified is Verified.TRUE, records
        assert cluster.supervisor.state("m") is NodeState.DESTROYED
        assert not cluster.store.exists()

    play(tmp_path, story)
