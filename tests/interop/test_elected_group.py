"""RocketMQ's own Java clients and mqadmin, 4.9.8 and 5.3.3, on a group that elects its leader (DLedger mode).

Route answers then carry a field that RocketMQ has not, `dledgerTerm`: clients must pass it over.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.bench.ports import free_ports
from nodes.client.admin import AdminClient
from nodes.remoting.codes import RequestCode
from nodes.remoting.command import request
from tests.interop.cluster import GROUP, READY_S, OurCluster, asked, eventually
from tests.interop.conftest import release_or_skip
from tests.interop.driver import drive
from tests.interop.test_java_clients import VERSIONS

# What has patience comes first: a JVM that has just begun may miss the client's own three seconds for a route.
CASES = ("admin-clusterList", "admin-topicRoute", "send-sync", "push-concurrent", "offset-queries")

pytestmark = [pytest.mark.interop, pytest.mark.timeout(560)]


class ElectedGroup(OurCluster):
    """A name server and a group of one, which is its own majority."""

    def start(self) -> None:
        """Start both, wait until the member leads and is routed as leader."""
        (port,) = free_ports(1)
        conf = self._folder / f"{GROUP}-0" / "broker.conf"
        kept = [line for line in conf.read_text(encoding="utf-8").splitlines() if not line.startswith("brokerRole")]
        keys = ("enableDLegerCommitLog=true", f"dLegerGroup={GROUP}", f"dLegerPeers=n0-127.0.0.1:{port}")
        conf.write_text("\n".join([*kept, *keys, "dLegerSelfId=n0", ""]), encoding="utf-8")
        self._brokers = self._brokers[:1]
        for program in (self._namesrv, *self._brokers):
            program.start()

        async def question(admin: AdminClient) -> None:
            async def led() -> bool:
                return (await admin.cluster_info()).brokers.get(GROUP, {}).get(0) == self.master

            await eventually(led, "a leader in the routes")

        asked(self.name_server, question)

    def term_told(self, topic: str) -> int:
        """The term that a route answer tells; 0 if none."""

        async def question(admin: AdminClient) -> int:
            ext = {"topic": topic, "acceptStandardJsonOnly": "true"}
            names = admin.client.names
            answer = await names.call(lambda: request(RequestCode.GET_ROUTEINFO_BY_TOPIC, ext), READY_S)
            return int(json.loads(answer.body)["brokerDatas"][0].get("dledgerTerm", 0))

        return asked(self.name_server, question)


@pytest.mark.parametrize("version", VERSIONS)
def test_java_clients_are_served_by_a_group_that_elects(tmp_path: Path, version: str) -> None:
    release = release_or_skip(version, "client")
    cluster = ElectedGroup(tmp_path / "cluster")
    try:
        cluster.start()
        cluster.create_topics(CASES)
        assert cluster.term_told("send-sync") > 0, "there is a field to pass over"
        told = drive(release, tmp_path, cluster.name_server, CASES, cluster.handle)
    finally:
        cluster.stop()
    for case in CASES:
        assert case in told, f"the driver ended before {case}; {cluster.words}"
        assert told[case].ok, f"{case} with client {version}: {told[case].value}\n{cluster.words}"
