"""Interoperability with Apache RocketMQ itself: what it takes is Java, Maven and a registry, each skipped by its name.

A machine that runs CI has Java and Maven, so there a missing one is a failure. A registry out of reach is nobody's
fault; the tests that wanted something from it say so and count as skipped, never as passed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from lab.systems.rocketmq.release import Release, ReleaseMissing, resolve
from tests.interop.apache import ApacheCluster
from tests.interop.cluster import OurCluster

EXCUSED_ON_CI = ("registry",)


def release_or_skip(version: str, part: str) -> Release:
    """A part of a release, brought here if need be; skips or fails the test that asks, naming what is missing."""
    try:
        return resolve(version, part)
    except ReleaseMissing as missing:
        if os.environ.get("CI") and missing.ability not in EXCUSED_ON_CI:
            pytest.fail(f"nothing was proven: {missing}")
        pytest.skip(f"this machine lacks {missing}")


SERVER_VERSIONS = ("4.9.7", "5.3.3")
"""4.9.8 publishes its client for Maven and its servers only as an archive; 4.9.7 is the nearest that does both."""


@pytest.fixture(scope="session")
def apache_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], ApacheCluster]]:
    """A running name server and broker of each version that was asked for; all end with the session."""
    running: list[ApacheCluster] = []

    @cache
    def start(version: str) -> ApacheCluster:
        cluster = ApacheCluster(release_or_skip(version, "server"), tmp_path_factory.mktemp(f"apache-{version}"))
        running.append(cluster)
        cluster.start()
        return cluster

    yield start
    for cluster in running:
        cluster.stop()


@pytest.fixture(params=SERVER_VERSIONS)
def apache(request: pytest.FixtureRequest, apache_of: Callable[[str], ApacheCluster]) -> ApacheCluster:
    """The same, for each version."""
    return apache_of(request.param)


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OurCluster]:
    """Our own cluster, for comparisons."""
    cluster = OurCluster(tmp_path_factory.mktemp("ours"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
