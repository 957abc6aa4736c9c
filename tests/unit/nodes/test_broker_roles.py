"""Roles and registration: promotion in place and by config file, the old master's return, what name servers hear."""

import asyncio
import json
import zlib
from pathlib import Path

import pytest

from nodes.broker.config_file import with_role
from nodes.config import BrokerRole, load_broker
from nodes.remoting.codes import RequestCode
from tests.unit.nodes.broker_support import (
    ASYNC,
    SLAVE,
    SYNC,
    FakeNameServer,
    FlushDiskType,
    GatedDisk,
    Node,
    pair,
    running,
    settings,
    until,
)


def test_the_config_file_changes_as_by_hand() -> None:
    text = "# group a\nbrokerName=broker-a\nbrokerId = 1   \nbrokerRole=SLAVE\n\n# end\nlistenPort=10911"
    assert with_role(text, BrokerRole.ASYNC_MASTER, 0) == (
        "# group a\nbrokerName=broker-a\nbrokerId=0\nbrokerRole=ASYNC_MASTER\n\n# end\nlistenPort=10911\n"
    )
    assert with_role("brokerName=b\n", BrokerRole.SLAVE, 2) == "brokerName=b\nbrokerId=2\nbrokerRole=SLAVE\n"
    doubled = "brokerRole=SLAVE\nbrokerRole=SLAVE\nbrokerId=1\n"
    assert with_role(doubled, BrokerRole.SYNC_MASTER, 0) == "brokerRole=SYNC_MASTER\nbrokerId=0\n"


async def change_role(node: Node, role: BrokerRole, broker_id: int) -> tuple[int, str]:
    answer = await node.ask(RequestCode.LAB_CHANGE_ROLE, {"brokerId": broker_id, "brokerRole": role.value})
    return answer.code, answer.remark or ""


def test_every_start_as_master_begins_a_new_epoch(tmp_path: Path) -> None:
    async def story() -> None:
        seen = []
        for number in (1, 2, 3):
            async with running(settings(tmp_path)) as node:
                status = await node.status()
                seen.append((status["epoch"]["number"], status["epoch"]["id"]))
                assert (await node.send(b"x")).ext["epoch"] == str(number)
                assert len(await node.bodies()) == number
        assert [number for number, _ in seen] == [1, 2, 3]
        assert len({id_ for _, id_ in seen}) == 3

    asyncio.run(story())


def test_a_slave_is_promoted_in_place_and_the_old_master_comes_back_as_slave(tmp_path: Path) -> None:
    conf = tmp_path / "b.conf"
    conf.write_text("brokerName=broker-a\nbrokerId=1\nbrokerRole=SLAVE\n")

    async def story() -> None:
        async with running(settings(tmp_path, "a", broker_role=SYNC)) as master:
            slave_settings = settings(tmp_path, "b", broker_role=SLAVE, ha_master_address=master.ha_address)
            async with running(slave_settings, config_path=str(conf)) as slave:
                await until(lambda: slave.keeper.replica is not None and slave.keeper.replica.following)
                await until(lambda: master.in_sync == 1)
                for number in range(10):
                    assert (await master.send(b"%d" % number)).code == 0
                assert (await master.commit(8)).code == 0
                await until(lambda: slave.broker.core.tables.offsets.get("g", "T", 0) == 8, "offsets arrive")
                waiting = asyncio.ensure_future(slave.pull(10, sysFlag=6, suspendTimeoutMillis=60_000))
                await until(lambda: slave.broker.pulls.parked == 1)
                assert (await change_role(slave, ASYNC, 0))[0] == 0
                assert (await waiting).code == 19, "whoever waited is answered"
                assert "brokerId=0\nbrokerRole=ASYNC_MASTER\n" in conf.read_text()
                assert load_broker(conf).config.broker_role is ASYNC
                status = await slave.status()
                assert (status["role"], status["brokerId"], status["epoch"]["number"]) == ("ASYNC_MASTER", 0, 2)
                assert (await slave.send(b"after")).code == 0
                assert (await slave.send(b"nowhere", topic="T", queue=1)).code == 0
                assert await slave.committed() == 8
                promoted_ha = slave.ha_address
                # Meanwhile the old master takes messages that nobody else has.
                assert (await master.send(b"lost")).code == 11
                assert (await change_role(master, SLAVE, 1))[0] == 1, "without a file the change would not last"
                conf_a = tmp_path / "a.conf"
                conf_a.write_text("brokerRole=SYNC_MASTER\n")
                master.keeper._config_path = str(conf_a)
                assert (await change_role(master, SLAVE, 1))[0] == 0
                assert (await master.send(b"refused")).code == 14
                master.broker.roles.heard_of_master(slave.address, promoted_ha)
                await until(lambda: slave.in_sync == 1)
                await until(lambda: master.broker.store.written_end == slave.broker.store.written_end)
                assert await master.bodies() == [b"%d" % number for number in range(10)] + [b"after"]
                assert [epoch["number"] for epoch in (await master.status())["epochs"]] == [1, 2]

    asyncio.run(story())


def test_a_slave_is_promoted_by_editing_its_config(tmp_path: Path) -> None:
    async def story() -> None:
        async with pair(tmp_path, SYNC) as (master, slave):
            for number in range(5):
                assert (await master.send(b"%d" % number)).code == 0
            await master.commit(5)
            await until(lambda: slave.broker.core.tables.offsets.get("g", "T", 0) == 5)
        async with running(settings(tmp_path, "b", broker_role=ASYNC)) as promoted:
            assert await promoted.bodies() == [b"%d" % number for number in range(5)]
            assert await promoted.committed() == 5
            assert (await promoted.send(b"5")).ext["queueOffset"] == "5"
            back = settings(tmp_path, "a", broker_role=SLAVE, ha_master_address=promoted.ha_address)
            async with running(back) as old:
                await until(lambda: old.broker.store.written_end == promoted.broker.store.written_end)
                assert len(await old.bodies()) == 6

    asyncio.run(story())


def test_committed_offsets_are_cut_to_what_a_promoted_replica_has(tmp_path: Path) -> None:
    async def story() -> None:
        async with pair(tmp_path, ASYNC) as (master, slave):
            for number in range(5):
                await master.send(b"%d" % number)
            await until(lambda: slave.broker.store.written_end == master.broker.store.written_end)
            slave.broker.core.tables.offsets.commit("g", "T", 0, 99)
        async with running(settings(tmp_path, "b", broker_role=ASYNC)) as promoted:
            assert await promoted.committed() == 5

    asyncio.run(story())


def test_progress_made_on_the_slave_survives_the_return_of_the_master(tmp_path: Path) -> None:
    async def story() -> None:
        async with pair(tmp_path, SYNC) as (master, slave):
            for number in range(10):
                await master.send(b"%d" % number)
            await master.commit(2)
            await until(lambda: slave.broker.core.tables.offsets.get("g", "T", 0) == 2)
            primary = master.keeper.primary
            assert primary is not None
            address = slave.replica.address
            slave.replica.stop()
            assert (await slave.commit(7)).code == 0
            assert await slave.committed() == 7
            slave.replica.start(address)
            await until(lambda: master.broker.core.tables.offsets.get("g", "T", 0) == 7, "the master learns of it")
            assert await slave.committed() == 7

    asyncio.run(story())


def test_topics_and_groups_reach_the_slave_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with pair(tmp_path, SYNC) as (master, slave):
            create = {"topic": "N", "defaultTopic": "TBW102", "readQueueNums": 2, "writeQueueNums": 2, "perm": 6}
            assert (await master.ask(RequestCode.UPDATE_AND_CREATE_TOPIC, create)).code == 0
            await until(lambda: slave.broker.core.tables.topics.get("N") is not None)
            assert (await slave.ask(RequestCode.UPDATE_AND_CREATE_TOPIC, create)).code == 1
            await master.ask(
                RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, body=json.dumps({"groupName": "g9"}).encode()
            )
            await until(lambda: slave.broker.core.tables.groups.get("g9") is not None)

    asyncio.run(story())


def test_a_demoted_master_answers_what_waits_with_the_weaker_status(tmp_path: Path) -> None:
    conf = tmp_path / "a.conf"
    conf.write_text("brokerRole=ASYNC_MASTER\n")

    async def story() -> None:
        disk = GatedDisk()
        config = settings(tmp_path, flush_disk_type=FlushDiskType.SYNC_FLUSH, sync_flush_timeout=60_000)
        async with running(config, disk=disk, config_path=str(conf)) as node:
            assert (await node.send(b"one")).code == 0
            disk.gate.clear()
            waiting = asyncio.ensure_future(node.send(b"two"))
            await until(lambda: node.broker.core.pipeline.waiting == 1)
            changing = asyncio.ensure_future(change_role(node, SLAVE, 1))
            assert (await waiting).code == 10
            disk.gate.set()
            assert (await changing)[0] == 0

    asyncio.run(story())


def test_a_clean_stop_keeps_the_promise_of_sends_it_has_taken(tmp_path: Path) -> None:
    async def story() -> None:
        disk = GatedDisk()
        config = settings(tmp_path, flush_disk_type=FlushDiskType.SYNC_FLUSH)
        async with running(config, disk=disk) as node:
            assert (await node.send(b"one")).code == 0
            disk.gate.clear()
            waiting = asyncio.ensure_future(node.send(b"two"))
            await until(lambda: node.broker.core.pipeline.waiting == 1)
            closing = asyncio.ensure_future(node.broker.close())
            await until(lambda: not node.broker.core.serving.ready, "it takes no more")
            disk.gate.set()
            assert (await waiting).code == 0
            await closing

    asyncio.run(story())


def test_bad_roles_are_refused_and_change_nothing(tmp_path: Path) -> None:
    conf = tmp_path / "a.conf"
    conf.write_text("brokerRole=ASYNC_MASTER\n")

    async def story() -> None:
        async with running(settings(tmp_path), config_path=str(conf)) as node:
            assert (await change_role(node, SLAVE, 0))[0] == 1
            answer = await node.ask(RequestCode.LAB_CHANGE_ROLE, {"brokerId": 0, "brokerRole": "KING"})
            assert answer.code == 1
            assert (await node.send(b"x")).code == 0
        assert conf.read_text() == "brokerRole=ASYNC_MASTER\n"

    asyncio.run(story())


# Registration


def test_name_servers_are_told_everything_and_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        one, two = await FakeNameServer().start(), await FakeNameServer().start()
        config = settings(tmp_path, namesrv_addr=(one.address, two.address))
        async with running(config) as node:
            await until(lambda: bool(one.registrations and two.registrations), "both are told")
            first = one.registrations[0]
            assert first.ext["brokerName"] == "broker-a"
            assert first.ext["brokerId"] == "0"
            assert first.ext["clusterName"] == "C"
            assert first.ext["brokerAddr"] == node.address
            assert first.ext["haServerAddr"] == node.ha_address
            assert int(first.ext["bodyCrc32"]) == zlib.crc32(first.body) & 0x7FFFFFFF
            assert first.version >= 413
            wrapper = json.loads(first.body)["topicConfigSerializeWrapper"]
            assert {"TBW102", "SELF_TEST_TOPIC", "C", "broker-a", "SCHEDULE_TOPIC_XXXX"} <= set(
                wrapper["topicConfigTable"]
            )
            count = len(one.registrations)
            await node.send(b"x", topic="Fresh")
            await until(lambda: len(one.registrations) > count, "a new topic is registered at once")
            latest = json.loads(one.registrations[-1].body)["topicConfigSerializeWrapper"]
            assert "Fresh" in latest["topicConfigTable"]
            assert latest["dataVersion"]["counter"] > wrapper["dataVersion"]["counter"]
            assert latest["dataVersion"]["stateVersion"] == 1, "a master's epoch"
        assert len(one.unregistered) == len(two.unregistered) == 1, "a clean stop says good-bye"
        for server in (one, two):
            await server.server.stop()

    asyncio.run(story())


def test_a_name_server_that_comes_back_is_told_soon(tmp_path: Path) -> None:
    async def story() -> None:
        first = await FakeNameServer().start()
        port = int(first.address.rpartition(":")[2])
        async with running(settings(tmp_path, namesrv_addr=(first.address,))):
            await until(lambda: bool(first.registrations))
            await first.server.stop()
            second = await FakeNameServer().start(port)
            await until(lambda: bool(second.registrations), "it is told without waiting for the period")
            await second.server.stop()

    asyncio.run(story())


def test_a_slave_finds_its_master_by_name_server_and_registers_itself(tmp_path: Path) -> None:
    async def story() -> None:
        names = await FakeNameServer().start()
        async with running(settings(tmp_path, "a", broker_role=SYNC, namesrv_addr=(names.address,))) as master:
            slave_settings = settings(tmp_path, "b", broker_role=SLAVE, namesrv_addr=(names.address,))
            async with running(slave_settings) as slave:
                await until(lambda: any(one.ext["brokerId"] == "1" for one in names.registrations))
                assert not slave.replica.following
                names.master = (master.address, master.ha_address)
                await until(lambda: slave.replica.following, "it follows")
                assert (await slave.status())["masterAddress"] == master.address
        await names.server.stop()

    asyncio.run(story())


def test_a_broker_whose_disk_failed_leaves_the_name_servers(tmp_path: Path) -> None:
    async def story() -> None:
        names, disk = await FakeNameServer().start(), GatedDisk()
        config = settings(tmp_path, flush_disk_type=FlushDiskType.SYNC_FLUSH, namesrv_addr=(names.address,))
        async with running(config, disk=disk) as node:
            await until(lambda: bool(names.registrations))
            disk.broken = True
            assert (await node.send(b"x")).code == 1
            await until(lambda: bool(names.unregistered), "it says good-bye")
        await names.server.stop()

    asyncio.run(story())


@pytest.mark.parametrize("kind", ["topics.json", "epochs.json"])
def test_a_damaged_table_refuses_the_start_by_name(tmp_path: Path, kind: str) -> None:
    async def story() -> None:
        async with running(settings(tmp_path)) as node:
            await node.send(b"x")
        path = tmp_path / "a" / "config" / kind
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(OSError, match=kind):
            async with running(settings(tmp_path)):
                pass
        (tmp_path / "a" / "config" / kind).unlink()
        async with running(settings(tmp_path)) as node:
            assert await node.bodies() == [b"x"], "without its tables the log still has its topics"

    asyncio.run(story())
