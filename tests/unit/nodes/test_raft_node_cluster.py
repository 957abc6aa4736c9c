"""A DLedger group among name servers and clients: who is told of a new master, and how soon."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from nodes.client.client import Client
from nodes.client.config import ClientConfig
from nodes.client.producer import Producer
from nodes.client.results import Outcome, SendFailed, SendResult
from nodes.commands import mqadmin
from nodes.config import NamesrvConfig
from nodes.dledger.changes import GroupChanges
from nodes.log import EventLog
from nodes.namesrv.service import NameServer
from nodes.remoting.codes import RequestCode, ResponseCode
from nodes.store.disk import RealDisk
from tests.unit.nodes.broker_support import FakeNameServer, until
from tests.unit.nodes.group_support import Group, group
from tests.unit.nodes.test_raft_node_group import bodies, run


@asynccontextmanager
async def cluster_with_names(
    tmp_path: Path, count: int = 2
) -> AsyncIterator[tuple[Group, list[NameServer], tuple[str, ...]]]:
    """A group of three that registers with some name servers."""
    names, addresses = [], []
    for number in range(count):
        config = NamesrvConfig(listen_port=0, bind_address="127.0.0.1", kv_config_path=f"{tmp_path}/kv{number}.json")
        server = NameServer(config, EventLog(f"ns{number}"), RealDisk())
        addresses.append(f"127.0.0.1:{await server.start()}")
        names.append(server)
    try:
        async with group(tmp_path, namesrv_addr=tuple(addresses)) as cluster:
            yield cluster, names, tuple(addresses)
    finally:
        for server in names:
            await server.stop()


async def sent(producer: Producer, body: bytes) -> SendResult:
    """Send until it is stored."""
    for _ in range(2000):
        try:
            return await producer.send("T", body)
        except SendFailed:
            await asyncio.sleep(0.01)
    raise AssertionError("nobody took the message")


def masters(server: NameServer) -> str | None:
    found = server.routes.group("broker-a")
    return None if found is None else found.addresses.get(0)


def test_every_name_server_and_client_learns_of_a_new_master_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with cluster_with_names(tmp_path) as (cluster, names, addresses):
            first = await cluster.leader()
            await until(lambda: {masters(one) for one in names} == {cluster.nodes[first].address}, "all know")
            ids = names[0].routes.group("broker-a")
            assert ids is not None
            await until(lambda: len(ids.addresses) == 3, "followers register too")
            assert sorted(ids.addresses) == sorted({0} | {int(n[1:]) + 1 for n in cluster.nodes if n != first})
            # nothing here is polled within the time of a test: what is learnt is learnt from answers and failures
            client = Client(ClientConfig(name_servers=addresses, retries=0, poll_name_server_interval_s=3600.0))
            await client.start()
            try:
                producer = Producer(client, "P")
                result = await sent(producer, b"before")
                assert result.epoch == cluster.member(first).raft.term
                await cluster.kill(first)
                second_result = await sent(producer, b"after")
                second = await cluster.leader(other_than=first)
                assert second_result.epoch == cluster.member(second).raft.term > result.epoch
                await until(lambda: {masters(one) for one in names} == {cluster.nodes[second].address}, "all know")
                assert (await bodies(cluster, second, "T", result.queue_id))[0] == b"before"
            finally:
                await client.close()

    run(story())


def test_a_client_goes_to_the_master_that_a_follower_names(tmp_path: Path) -> None:
    async def story() -> None:
        async with cluster_with_names(tmp_path, 1) as (cluster, names, addresses):
            first = await cluster.leader()
            client = Client(ClientConfig(name_servers=addresses, retries=0, poll_name_server_interval_s=3600.0))
            await client.start()
            try:
                producer = Producer(client, "P")
                await sent(producer, b"one")
                await names[0].stop()  # from now on the members alone can tell
                second = next(name for name in cluster.nodes if name != first)
                assert await GroupChanges(cluster.member(first)).hand_over(second)
                await cluster.leader(other_than=first)
                await until(lambda: cluster.member(first).leader_broker == cluster.nodes[second].address, "it knows")
                with pytest.raises(SendFailed) as refused:
                    await producer.send("T", b"to the old one")
                assert refused.value.attempts[-1].outcome is Outcome.FAIL, "certainly not stored"
                assert client.routes.master("broker-a") == cluster.nodes[second].address
                await producer.send("T", b"two")
            finally:
                await client.close()

    run(story())


def test_registrations_carry_the_term_and_a_deposed_master_withdraws(tmp_path: Path) -> None:
    async def story() -> None:
        names = await FakeNameServer().start()
        try:
            async with group(tmp_path, namesrv_addr=(names.address,)) as cluster:
                first = await cluster.leader()
                own = cluster.nodes[first].address
                term = cluster.member(first).raft.term

                def words() -> list[tuple[str, str, int]]:
                    return [
                        (one.ext["brokerId"], one.ext["dledgerTerm"], version(one.body))
                        for one in names.registrations
                        if one.ext["brokerAddr"] == own
                    ]

                def version(body: bytes) -> int:
                    wrapper = json.loads(body)["topicConfigSerializeWrapper"]
                    return int(wrapper["dataVersion"]["stateVersion"])

                await until(lambda: ("0", str(term), term) in words(), "it registers as master")
                cluster.cut_off(first)
                await cluster.leader(other_than=first)
                follower_id = str(int(first[1:]) + 1)
                await until(lambda: words()[-1][0] == follower_id, "it registers as slave when it is deposed")
                assert int(words()[-1][1]) >= term
                await until(
                    lambda: any(int(one.ext["dledgerTerm"]) > term for one in names.registrations), "the new one"
                )
        finally:
            await names.server.stop()

    run(story())


def test_delayed_messages_are_delivered_by_whoever_leads(tmp_path: Path) -> None:
    async def story() -> None:
        async with group(tmp_path, message_delay_level=(1500, 60_000)) as cluster:
            first = await cluster.leader()
            answer = await cluster.nodes[first].send(b"later", properties="DELAY\x011\x02")
            assert answer.code == 0
            await cluster.send_ok(b"now")
            await cluster.kill(first)
            second = await cluster.leader(other_than=first)
            node = cluster.nodes[second]
            await until(lambda: node.broker.store.queue_bounds("T", 0)[1] == 2, "it is delivered")
            assert await bodies(cluster, second) == [b"now", b"later"]
            tables = [one.broker.core.tables for one in cluster.nodes.values()]
            await until(lambda: all(table.delays.next_offset(1) == 1 for table in tables), "all know of the progress")
            await cluster.agree()
            assert len(await bodies(cluster, second)) == 2

    run(story())


def test_mqadmin_shows_a_group_and_changes_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with cluster_with_names(tmp_path, 1) as (cluster, _, addresses):
            leader = await cluster.leader()
            await cluster.send_ok(b"one")
            await cluster.start("n3")
            runner = CliRunner()

            async def admin(*words: str, code: int = 0) -> str:
                result = await asyncio.to_thread(runner.invoke, mqadmin, [*words, "-n", addresses[0]])
                assert result.exit_code == code, result.output
                return str(result.output)

            table = await admin("groupStatus", "-g", "broker-a")
            assert "voters n0 n1 n2" in table
            assert any(line.startswith(leader) and " leader " in line for line in table.splitlines())
            address = cluster.peers(["n3"])[0].address
            assert "voters n0 n1 n2 n3" in await admin("addMember", "-g", "broker-a", "-m", "n3", "-a", address)
            assert "n3 leads now" in await admin("transferLeadership", "-g", "broker-a", "-m", "n3")
            await until(lambda: cluster.masters == ["n3"], "n3 leads")
            await admin("addMember", "-g", "other", "-m", "n3", code=2)
            gone = next(name for name in cluster.initial if name != "n3")

            async def told() -> str:
                await until(lambda: cluster.masters == ["n3"], "n3 leads")
                return await admin("removeMember", "-g", "broker-a", "-m", gone)

            assert gone not in await told()
            unknown = await cluster.nodes["n3"].ask(RequestCode.LAB_CHANGE_ROLE, {"brokerId": 1, "brokerRole": "SLAVE"})
            assert unknown.code == ResponseCode.SYSTEM_ERROR
            assert "elects its master" in str(unknown.remark)

    run(story())
