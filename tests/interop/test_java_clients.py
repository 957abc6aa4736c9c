"""RocketMQ's own Java clients and mqadmin, 4.9.8 and 5.3.3, against our name server and brokers.

One JVM for each version and each kind of group (a master and a slave; three that elect their leader) runs the cases of
`java/Cases.java`, kills included; each test here is one case. What mqadmin printed is compared with what the case did.
Route answers of a group that elects carry a field that RocketMQ has not, `dledgerTerm`: clients must pass it over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.interop.cluster import GROUP, ElectedCluster, OurCluster
from tests.interop.conftest import release_or_skip
from tests.interop.driver import Told, drive

VERSIONS = ("4.9.8", "5.3.3")

SENDING = (
    "send-sync",
    "send-async",
    "send-oneway",
    "send-batch",
    "send-selector",
    "send-compressed",
    "send-properties",
    "send-new-topic",
)
CONSUMING = (
    "push-concurrent",
    "push-orderly",
    "push-broadcasting",
    "push-tags",
    "push-resume",
    "lite-pull-subscribe",
    "lite-pull-assign",
    "retry",
    "retry-dlq",
    "delay-level",
    "offset-queries",
)
ADMINISTRATION = (
    "admin-clusterList",
    "admin-brokerStatus",
    "admin-topicRoute",
    "admin-topicList",
    "admin-updateTopic",
    "admin-topicStatus",
    "admin-consumerProgress",
    "admin-queryMsgById",
    "admin-queryMsgByKey",
)
# The code that the application sees; -1 comes from the client itself, which has no route.
REFUSALS: Mapping[str, str] = {
    "error-no-route": "-1",
    "error-not-writable": "16",
    "error-not-readable": "16",
    "error-too-large": "13",
    "error-long-properties": "13",
    "error-queue-id": "29",
    "error-offset-beyond": "1",
    "error-transaction": "16",
}
EVERYWHERE = (*SENDING, *CONSUMING, *ADMINISTRATION, *REFUSALS)
CLUSTERS: Mapping[str, type[OurCluster]] = {"master-slave": OurCluster, "dledger": ElectedCluster}
FAILOVERS: Mapping[str, tuple[str, ...]] = {
    "master-slave": ("failover-return", "failover-promotion"),
    "dledger": ("failover-election",),
}

pytestmark = [pytest.mark.interop, pytest.mark.timeout(560)]


class Driven:
    """What one version of the client told of each case, and the cluster's words in case something is missing."""

    def __init__(self, version: str, addresses: Sequence[str], told: Mapping[str, Told], words: str) -> None:
        self.version = version
        self.addresses = addresses
        self._told = told
        self._words = words

    def value(self, case: str) -> str:
        """What the case returned. Fails the test if the case did not succeed."""
        told = self._told.get(case)
        assert told is not None, f"the driver ended before {case}; {self._words}"
        assert told.ok, f"{case} with client {self.version}: {told.value}\n{self._words}"
        return told.value


Driver = Callable[[str, str], Driven]


@pytest.fixture(scope="module")
def driven_by(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """Runs all cases with a client version on a kind of group, once."""

    @cache
    def run(version: str, kind: str) -> Driven:
        release = release_or_skip(version, "client")
        folder = tmp_path_factory.mktemp(f"java-{version}-{kind}")
        cluster = CLUSTERS[kind](folder / "cluster")
        cases = (*EVERYWHERE, *FAILOVERS[kind])
        try:
            cluster.start()
            cluster.create_topics(cases)
            if isinstance(cluster, ElectedCluster):
                assert cluster.term_told("send-sync") > 0, "there is a field to pass over"
            told = drive(release, folder, cluster.name_server, cases, cluster.handle)
        finally:
            cluster.stop()
        errors = (folder / "driver-errors.txt").read_text(encoding="utf-8", errors="replace")[-2000:]
        return Driven(version, cluster.addresses, told, f"the driver wrote: {errors}\n{cluster.words}")

    yield run
    run.cache_clear()


@pytest.fixture(params=VERSIONS)
def paired(request: pytest.FixtureRequest, driven_by: Driver) -> Driven:
    """On a master and a slave, for each version."""
    return driven_by(request.param, "master-slave")


@pytest.fixture(params=VERSIONS)
def elected(request: pytest.FixtureRequest, driven_by: Driver) -> Driven:
    """On three that elect, for each version."""
    return driven_by(request.param, "dledger")


@pytest.fixture(params=[(version, kind) for kind in CLUSTERS for version in VERSIONS], ids="-".join)
def driven(request: pytest.FixtureRequest, driven_by: Driver) -> Driven:
    """On each kind of group, for each version."""
    return driven_by(*request.param)


@pytest.mark.parametrize("case", SENDING)
def test_producers_send(driven: Driven, case: str) -> None:
    """Every way of sending ends with SEND_OK and exactly the sent messages in the log."""
    driven.value(case)


@pytest.mark.parametrize("case", CONSUMING)
def test_consumers_receive(driven: Driven, case: str) -> None:
    """Every way of consuming gets what it should, again after failures, later after delays."""
    driven.value(case)


@pytest.mark.parametrize(("case", "code"), REFUSALS.items())
def test_refusals_carry_the_same_code(driven: Driven, case: str, code: str) -> None:
    """What cannot be served is refused with the code that an application knows."""
    assert driven.value(case) == code


def test_the_slave_serves_and_the_master_returns(paired: Driven) -> None:
    """A consumer that starts without a master gets every acknowledged message; sends say that there is no route."""
    assert paired.value("failover-return") in {"10005", "10001"}


def test_a_promoted_slave_has_everything(paired: Driven) -> None:
    """After kill -9 and promotion no acknowledged message is missing, nor after the old master came back as slave."""
    paired.value("failover-promotion")


def test_an_elected_leader_has_everything(elected: Driven) -> None:
    """Leaders die by kill -9 while producers send and three kinds of consumers read: nothing acknowledged is missing
    anywhere, and every queue stays in order. Afterwards all three are listed, one of them as master."""
    all_are_listed(elected, elected.value("failover-election"))


# --- mqadmin


def all_are_listed(driven: Driven, text: str) -> None:
    """What clusterList printed names every broker of the group once, one of them as master."""
    rows = re.findall(rf"DefaultCluster\s+{GROUP}\s+(\d)\s+(127\.0\.0\.1:\d+)", text)
    assert sorted(address for _, address in rows) == sorted(driven.addresses)
    assert len({number for number, _ in rows}) == len(rows)
    assert "0" in {number for number, _ in rows}


def test_cluster_list(driven: Driven) -> None:
    """All brokers with their ids."""
    all_are_listed(driven, driven.value("admin-clusterList"))


def test_broker_status(driven: Driven) -> None:
    """The runtime information of the master, by name."""
    text = driven.value("admin-brokerStatus")
    for key in ("brokerVersionDesc", "putTps", "commitLogMaxOffset", "bootTimestamp"):
        assert re.search(rf"\b{key}\s*:", text), f"no {key} in {text}"


def test_topic_route(driven: Driven) -> None:
    """The topic's queues and all brokers."""
    text = driven.value("admin-topicRoute")
    assert f'"brokerName":"{GROUP}"' in text
    assert '"readQueueNums":4' in text
    assert set(re.findall(r"127\.0\.0\.1:\d+", text)) == set(driven.addresses)


def test_topic_list(driven: Driven) -> None:
    """The topics that were created, sent to, and made for a group."""
    assert {"send-sync", "made-by-sending", "%RETRY%group-retry"} <= set(driven.value("admin-topicList").split())


def test_update_topic(driven: Driven) -> None:
    """A topic made by mqadmin has the queues that were asked for."""
    text = driven.value("admin-updateTopic")
    assert "success" in text
    assert '"writeQueueNums":3' in text


def test_topic_status(driven: Driven) -> None:
    """Four queues that hold the twenty messages of the first case."""
    rows = re.findall(rf"^{GROUP}\s+(\d)\s+(\d+)\s+(\d+)", driven.value("admin-topicStatus"), re.MULTILINE)
    assert [queue for queue, _, _ in rows] == ["0", "1", "2", "3"]
    assert sum(int(end) - int(begin) for _, begin, end in rows) == 20


def test_consumer_progress(driven: Driven) -> None:
    """A group that consumed everything: twenty messages, nothing left."""
    text = driven.value("admin-consumerProgress")
    rows = re.findall(rf"^push-resume\s+{GROUP}\s+(\d)\s+(\d+)\s+(\d+)\s+(\d+)", text, re.MULTILINE)
    assert len(rows) == 4
    assert sum(int(end) for _, end, _, _ in rows) == 20
    assert all(end == consumed and left == "0" for _, end, consumed, left in rows)


def test_query_by_id(driven: Driven) -> None:
    """By the broker's id and by the client's id, with the body."""
    text = driven.value("admin-queryMsgById")
    assert len(re.findall(r"^Topic:\s+send-sync", text, re.MULTILINE)) == 2
    for name in re.findall(r"Message Body Path:\s+(\S+)", text):
        body = Path(name)
        if body.exists():  # the tool writes both bodies to one file
            assert body.read_bytes() == b"message-1000"
            body.unlink()


def test_query_by_key(driven: Driven) -> None:
    """By the key that the producer set."""
    wanted, _, text = driven.value("admin-queryMsgByKey").partition("\n")
    assert re.search(rf"^{wanted}\s+\d+\s+\d+", text, re.MULTILINE)


def test_every_case_of_the_driver_is_asked_for() -> None:
    """A case that nobody runs proves nothing."""
    source = (Path(__file__).with_name("java") / "Cases.java").read_text(encoding="utf-8")
    asked = [*EVERYWHERE, *(case for kind in CLUSTERS for case in FAILOVERS[kind])]
    assert re.findall(r'CASES\.put\("([^"]+)"', source) == asked
