"""Live tests: real namespaces, processes, rules and mounts. Each names what it needs, and is skipped by name only.

``@pytest.mark.live`` asks for what every lab needs; ``@pytest.mark.live("iptables")`` for one ability more.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from lab import doctor
from lab.cluster.hosts import Hosts
from lab.cluster.keeper import Keeper
from lab.cluster.network import LabNetwork, LeverName
from lab.cluster.supervisor import NodeSpec, Supervisor
from tests.live.stand_in import argv

T = TypeVar("T")

NAMES = ("node-1", "node-2", "node-3", "client-1")
PORT = 9000
PING = b"ping"
READY_S = 30.0


@pytest.fixture(autouse=True)
def _skip_without_abilities(request: pytest.FixtureRequest) -> None:
    markers = list(request.node.iter_markers("live"))
    if markers:
        lacking = doctor.missing(*doctor.REQUIRED, *(name for marker in markers for name in marker.args))
        if lacking is not None:
            if os.environ.get("CI"):
                pytest.fail(f"CI machines have {lacking}, and this one lacks it: nothing was proven")
            pytest.skip(f"this machine lacks {lacking}")


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """Four hosts on a star: three for nodes, one for clients."""
    made = Hosts.build(NAMES)
    yield made
    made.close()


class Cluster:
    """Stand-in nodes on the hosts, with the lab's own network and supervisor around them."""

    def __init__(self, hosts: Hosts, keeper: Keeper, network: LabNetwork, supervisor: Supervisor, folder: Path) -> None:
        self.hosts = hosts
        self.keeper = keeper
        self.network = network
        self.supervisor = supervisor
        self.folder = folder

    def spec(self, name: str, *options: str) -> NodeSpec:
        """A stand-in node: answers a ping with a pong, keeps a file in its store, does what the options say."""
        folder = self.folder / name
        return NodeSpec(name, name, argv(PORT, folder / "store", *options), PORT, folder, PING, store=folder / "store")

    async def start(self, *names: str) -> None:
        """Start stand-ins and wait until they answer."""
        for name in names:
            await self.supervisor.spawn(self.spec(name))
        for name in names:
            await self.supervisor.ready(name, READY_S)


@pytest.fixture
def with_cluster(hosts: Hosts, tmp_path: Path) -> Callable[..., object]:
    """Run a story with a cluster around it: ``with_cluster(story)`` or ``with_cluster(story, lever=..., ...)``."""

    def play(
        story: Callable[[Cluster], Awaitable[T]],
        *,
        lever: LeverName = LeverName.NFT,
        use_cgroups: bool = True,
        new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    ) -> T:
        keeper = Keeper()

        async def whole() -> T:
            network = LabNetwork(hosts, lever=lever)
            supervisor = Supervisor(hosts, keeper, use_cgroups=use_cgroups)
            try:
                await network.open()
                return await story(Cluster(hosts, keeper, network, supervisor, tmp_path))
            finally:
                await supervisor.stop()
                network.close()

        try:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                return runner.run(whole())
        finally:
            keeper.close()

    return play
