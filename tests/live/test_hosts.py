"""Hosts reach each other and nothing else; probes see every direction by itself; labs live side by side."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cluster.hosts import HOSTS_MAX, Hosts
from lab.cluster.netns import inside, own_netns
from lab.cluster.nft import Nft, NftError, NftLever, rules
from lab.cluster.probes import GRACE_S, Prober

pytestmark = pytest.mark.live

WAIT_S = 20.0


@pytest.fixture
def prober(hosts: Hosts) -> Iterator[Prober]:
    made = Prober(hosts)
    made.open()
    yield made
    made.close()


def test_hosts_talk_to_each_other_by_address(hosts: Hosts) -> None:
    with hosts.run_inside("node-2"):
        server = socket.create_server((hosts.address("node-2"), 0))
    with hosts.run_inside("client-1"):
        client = socket.create_connection(server.getsockname(), timeout=WAIT_S)
    with server, client:
        served, peer = server.accept()
        with served:
            assert peer[0] == hosts.address("client-1")


def test_a_block_inside_a_host_leaves_the_thread_where_it_was(hosts: Hosts) -> None:
    def where() -> int:
        fd = own_netns()
        try:
            return os.fstat(fd).st_ino
        finally:
            os.close(fd)

    def fail_inside() -> None:
        with hosts.run_inside("node-1"):
            assert where() == os.fstat(hosts.fd("node-1")).st_ino != before
            raise RuntimeError("leave by exception")

    before = where()
    with pytest.raises(RuntimeError):
        fail_inside()
    assert where() == before


def test_commands_run_in_a_host_from_any_process(hosts: Hosts) -> None:
    listing = subprocess.run(
        hosts.exec_argv("node-3", ["ip", "-o", "-4", "addr"]),
        capture_output=True,
        text=True,
        check=True,
        timeout=WAIT_S,
    )
    assert f"{hosts.address('node-3')}/32" in listing.stdout


def test_names_and_addresses_map_both_ways(hosts: Hosts) -> None:
    assert hosts.names() == ["node-1", "node-2", "node-3", "client-1"]
    assert [hosts.name_at(hosts.address(name)) for name in hosts.names()] == hosts.names()
    assert hosts.name_at("10.0.0.1") is None


def test_two_hosts_of_one_name_and_too_many_are_refused(hosts: Hosts) -> None:
    with pytest.raises(ValueError, match="two hosts are called node-1"):
        hosts.add(["node-1"])
    with pytest.raises(ValueError, match=f"more than {HOSTS_MAX}"):
        hosts.add([f"extra-{number}" for number in range(HOSTS_MAX)])


@pytest.mark.live("fast-heal")
def test_tcp_is_tuned_in_hosts_only(hosts: Hosts) -> None:
    path = Path("/proc/sys/net/ipv4/tcp_rto_max_ms")
    outside = path.read_text()
    with hosts.run_inside("node-1"):
        assert path.read_text().strip() == "1000"
    assert path.read_text() == outside
    assert hosts.congestion_control != "inherited"


def test_twelve_hosts_are_made_quickly() -> None:
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        Hosts.build([f"n{number}" for number in range(12)]).close()
        times.append(time.perf_counter() - begin)
    assert min(times) < 2.0, times  # 0.08 s on an idle machine


def test_nothing_has_a_name_in_the_system(hosts: Hosts) -> None:
    listing = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True, timeout=WAIT_S)
    assert "node-1" not in listing.stdout
    assert not [name for _, name in socket.if_nameindex() if name.startswith("p")]


def test_labs_with_the_same_addresses_do_not_meet(hosts: Hosts) -> None:
    other = Hosts.build(["node-1", "node-2"])
    try:
        assert other.address("node-2") == hosts.address("node-2")
        with other.run_inside("node-2"), socket.create_server((other.address("node-2"), 9999)):
            with hosts.run_inside("node-1"), pytest.raises(ConnectionRefusedError):
                socket.create_connection((hosts.address("node-2"), 9999), timeout=WAIT_S)
            with other.run_inside("node-1"):
                socket.create_connection((other.address("node-2"), 9999), timeout=WAIT_S).close()
    finally:
        other.close()


def test_hosts_added_later_are_reached_and_probed(hosts: Hosts, prober: Prober) -> None:
    hosts.add(["late-1"])
    prober.open()
    matrix = prober.measure(frozenset())
    assert ("client-1", "late-1") in matrix.flows
    assert matrix.mismatches(frozenset()) == ()
    assert len(matrix.pairs) == 20


def test_a_whole_network_shows_whole(hosts: Hosts, prober: Prober) -> None:
    assert len(prober.pairs()) == 12
    assert prober.measure(frozenset()).mismatches(frozenset()) == ()


def test_fourteen_hosts_are_measured_quickly() -> None:
    hosts = Hosts.build([f"n{number}" for number in range(14)])
    prober = Prober(hosts)
    try:
        prober.open()
        looks = [prober.measure(frozenset()) for _ in range(5)]
        assert [look.mismatches(frozenset()) for look in looks] == [()] * 5
        assert min(look.took_ms for look in looks) < 1500  # 35 ms on an idle machine
    finally:
        prober.close()
        hosts.close()


@pytest.mark.parametrize("cut", [("node-1", "node-2"), ("client-1", "node-3"), ("node-3", "client-1")])
def test_one_lost_direction_is_seen_as_exactly_that(hosts: Hosts, prober: Prober, cut: tuple[str, str]) -> None:
    lever = NftLever(hosts.switch_fd)
    lever.apply([(hosts.address(cut[0]), hosts.address(cut[1]))])
    for _ in range(3):  # an established flow stays a witness, however often it was asked
        matrix = prober.measure(frozenset({cut}))
        assert matrix.mismatches(frozenset({cut})) == ()
        assert cut not in matrix.datagrams | matrix.flows
        assert cut[::-1] in matrix.datagrams & matrix.flows
        assert matrix.took_ms >= GRACE_S * 1000
    lever.apply([])
    assert prober.measure(frozenset()).mismatches(frozenset()) == ()
    lever.close()


@pytest.mark.flaws
def test_a_measurement_that_differs_from_the_expectation_says_where(hosts: Hosts, prober: Prober) -> None:
    said = prober.measure(frozenset({("node-1", "node-2")})).mismatches(frozenset({("node-1", "node-2")}))
    assert said == (
        "node-1 -> node-2 new flow: passes",
        "node-1 -> node-2 established flow: passes",
        "node-1 -> node-2 connect: passes",
        "node-2 -> node-1 connect: passes",
    )


@pytest.mark.flaws
@pytest.mark.live("iptables")
@pytest.mark.parametrize(
    ("rule", "new", "established"),
    [
        (("-m", "conntrack", "--ctstate", "NEW", "-j", "DROP"), False, True),
        (("-p", "udp", "-j", "DROP"), False, True),
        (("-p", "tcp", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "DROP"), True, False),
    ],
)
def test_rules_that_spare_some_flows_are_told_apart(
    hosts: Hosts, prober: Prober, rule: tuple[str, ...], new: bool, established: bool
) -> None:
    argv = hosts.exec_argv("node-2", ["iptables", "-w", "-A", "INPUT", "-s", hosts.address("node-1"), *rule])
    subprocess.run(argv, check=True, timeout=WAIT_S)
    # Twice: connection tracking begins with the rule, and knows the old connection from its first packet on.
    for _ in range(2):
        matrix = prober.measure(frozenset())
    assert (("node-1", "node-2") in matrix.datagrams) is new
    assert (("node-1", "node-2") in matrix.flows) is established
    assert matrix.mismatches(frozenset({("node-1", "node-2")})) != ()


def test_a_refused_transaction_leaves_the_old_cut(hosts: Hosts, prober: Prober) -> None:
    cut = ("node-1", "node-2")
    lever = NftLever(hosts.switch_fd)
    lever.apply([(hosts.address(cut[0]), hosts.address(cut[1]))])
    nft = Nft(hosts.switch_fd)
    with pytest.raises(NftError, match="No such file"):
        nft.run("flush set ip lab cut\nadd element ip lab nowhere { 10.0.0.1 . 10.0.0.2 }\n")
    assert prober.measure(frozenset({cut})).mismatches(frozenset({cut})) == ()
    listing = nft.run("list ruleset")
    assert any(f"{hosts.address('node-1')} . {hosts.address('node-2')}" in rule for rule in rules(listing))
    nft.run("flush set ip lab cut")  # the first half alone is taken
    assert prober.measure(frozenset()).mismatches(frozenset()) == ()
    nft.close()
    lever.close()


def test_a_closed_lab_lets_its_namespaces_go() -> None:
    hosts = Hosts.build(["a"])
    with inside(hosts.fd("a")):
        assert [name for _, name in socket.if_nameindex()] == ["lo", "eth0"]
    fd = hosts.fd("a")
    hosts.close()
    hosts.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
