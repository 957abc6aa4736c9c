"""The name server as clients, brokers and admins see it: over real loopback sockets."""

import asyncio
import io
import json
import zlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from nodes.client.routes import parse_route
from nodes.config import NamesrvConfig
from nodes.flaws import Flaw
from nodes.log import EventLog
from nodes.namesrv.service import NameServer, run
from nodes.remoting.client import RemotingClient
from nodes.remoting.codes import RequestCode
from nodes.remoting.command import Command, Serialize, request
from nodes.remoting.fastjson import loads
from nodes.remoting.frame import decode
from nodes.remoting.server import ListenError
from nodes.store.disk import RealDisk
from nodes.store.errors import StoreCorrupt

WIRE = Path(__file__).resolve().parents[2] / "golden" / "wire" / "rocketmq-4.9.8-client-and-admin.jsonl"
PATIENCE_S = 20.0
A, B = "10.0.0.1:10911", "10.0.0.2:10911"


class World:
    """One name server, one client, and what was logged."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.text = io.StringIO()
        self.config = NamesrvConfig(
            listen_port=0,
            kv_config_path=str(folder / "kv" / "kvConfig.json"),
            **settings,
        )
        self.server = NameServer(self.config, EventLog("namesrv-1", text=self.text), RealDisk())
        self.client = RemotingClient()
        self.address = ""

    async def __aenter__(self) -> "World":
        self.address = f"127.0.0.1:{await self.server.start()}"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.client.close()
        await self.server.stop()

    async def ask(
        self,
        code: int,
        body: bytes = b"",
        *,
        client: RemotingClient | None = None,
        version: int = 479,
        ext: Mapping[str, str] = MappingProxyType({}),
        **more: str,
    ) -> Command:
        """Send a request with the fields `ext` and `more`."""
        asked = Command(int(code), {**ext, **more}, body, version=version)
        return await (client or self.client).call(self.address, asked, PATIENCE_S)

    async def register(
        self,
        address: str = A,
        broker_id: int = 0,
        *,
        counter: int = 1,
        client: RemotingClient | None = None,
        name: str = "broker-a",
        **ext: str,
    ) -> Command:
        return await self.ask(
            RequestCode.REGISTER_BROKER,
            registration("T", counter=counter),
            client=client,
            clusterName="DefaultCluster",
            brokerName=name,
            brokerAddr=address,
            brokerId=str(broker_id),
            haServerAddr=address.replace("10911", "10912"),
            ext=ext,
        )

    async def addresses(self, topic: str = "T") -> dict[str, str]:
        answer = await self.ask(RequestCode.GET_ROUTEINFO_BY_TOPIC, topic=topic)
        if answer.code == 17:
            return {}
        [group] = json.loads(answer.body)["brokerDatas"]
        found: dict[str, str] = group["brokerAddrs"]
        return found

    def logged(self, event: str) -> bool:
        return event in self.text.getvalue()


def registration(*names: str, counter: int = 1) -> bytes:
    table = {
        name: {"topicName": name, "readQueueNums": 4, "writeQueueNums": 4, "perm": 6, "topicSysFlag": 0}
        for name in ("TBW102", *names)
    }
    version = {"counter": counter, "stateVersion": 0, "timestamp": 7}
    wrapper = {"dataVersion": version, "topicConfigTable": table}
    return json.dumps({"topicConfigSerializeWrapper": wrapper, "filterServerList": []}).encode()


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await true():  # noqa: ASYNC110 - what is awaited happens in the code under test, which sets no event
            await asyncio.sleep(0.005)


def play(body: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(3 * PATIENCE_S):
            await body()

    asyncio.run(main())


def test_the_recorded_conversation_is_answered_as_it_was(tmp_path: Path) -> None:
    """Every recorded request to the name server gets the recorded code, ext and body (as values)."""
    lines = [json.loads(line) for line in WIRE.read_text().splitlines()]
    frames = [(line["src"], line["dst"], decode(bytes.fromhex(line["frame"]))) for line in lines]
    answers = {(dst, command.opaque): command for src, dst, command in frames if src == 9876 and command.is_response}

    async def body() -> None:
        async with World(tmp_path) as world:
            compared = 0
            for src, dst, asked in frames:
                if dst != 9876 or asked.is_response:
                    continue
                recorded = answers.get((src, asked.opaque))
                if asked.is_oneway:
                    await world.client.oneway(world.address, asked)
                    continue
                got = await world.client.call(world.address, asked, PATIENCE_S)
                if recorded is None:
                    continue
                assert got.code == recorded.code, asked
                assert got.ext == recorded.ext, asked
                if recorded.body:
                    assert simplified(got.body) == simplified(recorded.body), asked
                compared += 1
            assert compared > 40

    play(body)


def simplified(body: bytes) -> object:
    """A body as values: without what 5.x adds, lists of topics without order."""

    def walk(value: object) -> object:
        if isinstance(value, dict):
            return {key: walk(inner) for key, inner in value.items() if key != "enableActingMaster"}
        if isinstance(value, list):
            return sorted((walk(inner) for inner in value), key=json.dumps)
        return value

    return walk(loads(body))


def test_a_broker_is_routed_from_its_registration_on(tmp_path: Path) -> None:
    async def body() -> None:
        async with World(tmp_path) as world:
            missing = await world.ask(RequestCode.GET_ROUTEINFO_BY_TOPIC, topic="T")
            assert (missing.code, missing.body) == (17, b"")
            assert missing.remark == "No topic route info in name server for the topic: T"
            answer = await world.register()
            assert (answer.code, answer.ext, answer.body) == (0, {}, b"")
            assert await world.addresses() == {"0": A}
            assert world.logged("broker registered cluster=DefaultCluster broker=broker-a id=0 addr=10.0.0.1:10911")

    play(body)


def test_a_group_made_anew_is_dropped_and_the_log_says_what_to_do(tmp_path: Path) -> None:
    """It cannot be told from a deposed master, since its terms begin again."""

    async def body() -> None:
        async with World(tmp_path) as world:
            await world.register(dledgerTerm="6")
            await world.ask(
                RequestCode.UNREGISTER_BROKER,
                clusterName="DefaultCluster",
                brokerName="broker-a",
                brokerAddr=A,
                brokerId="0",
            )
            assert (await world.register(dledgerTerm="1")).code == 0
            assert await world.addresses() == {}
            assert world.logged("term=1 known_term=6")
            assert world.logged("made anew with empty disks, restart this name server")

    play(body)


def test_a_slave_is_told_its_master(tmp_path: Path) -> None:
    async def body() -> None:
        async with World(tmp_path) as world:
            assert (await world.register(B, 1)).ext == {}
            await world.register()
            assert (await world.register(B, 1)).ext == {"masterAddr": A, "haServerAddr": "10.0.0.1:10912"}

    play(body)


def test_both_header_forms_are_served(tmp_path: Path) -> None:
    async def body() -> None:
        async with World(tmp_path) as world:
            await world.register()
            asked = Command(RequestCode.GET_ROUTEINFO_BY_TOPIC.value, {"topic": "T"}, serialize=Serialize.ROCKETMQ)
            assert (await world.client.call(world.address, asked, PATIENCE_S)).code == 0

    play(body)


@pytest.mark.parametrize(
    ("version", "ext", "strict"),
    [(479, {}, True), (401, {}, True), (399, {}, False), (399, {"acceptStandardJsonOnly": "true"}, True)],
)
def test_broker_ids_are_quoted_for_those_who_can_read_it(
    tmp_path: Path, version: int, ext: dict[str, str], strict: bool
) -> None:
    async def body() -> None:
        async with World(tmp_path) as world:
            await world.register()
            answer = await world.ask(RequestCode.GET_ROUTEINFO_BY_TOPIC, version=version, topic="T", ext=ext)
            assert (b'{"0":"10.0.0.1:10911"}' in answer.body) is strict
            assert (b'{0:"10.0.0.1:10911"}' in answer.body) is not strict

    play(body)


@pytest.mark.parametrize("version", [479, 399])
def test_a_route_tells_the_term_of_the_leader_that_it_names(tmp_path: Path, version: int) -> None:
    """In a field that RocketMQ has not, so that who asks can tell a leader's route from one of its earlier terms."""

    async def body() -> None:
        async with World(tmp_path) as world:
            for address, broker_id, term, told in (
                (A, 0, 5, 5), (B, 2, 5, 5), (B, 0, 6, 6), (A, 0, 5, 6), (B, 2, 6, None), (A, 1, 6, None), (A, 0, 7, 7),
            ):  # fmt: skip
                await world.register(address, broker_id, dledgerTerm=str(term))
                answer = await world.ask(RequestCode.GET_ROUTEINFO_BY_TOPIC, version=version, topic="T")
                route = loads(answer.body)
                assert isinstance(route, dict)
                assert route["brokerDatas"][0].get("dledgerTerm") == told, (address, broker_id, term)
                parse_route(route)
            await world.register("10.0.0.3:10911", name="broker-b")
            answer = await world.ask(RequestCode.GET_ROUTEINFO_BY_TOPIC, topic="T")
            assert answer.body.count(b"dledgerTerm") == 1, "a master of another kind of group has none"

    play(body)


def test_a_closed_connection_takes_its_broker_along(tmp_path: Path) -> None:
    async def body() -> None:
        async with World(tmp_path) as world:
            broker = RemotingClient()
            await world.register(client=broker)
            assert await world.addresses() == {"0": A}
            await broker.close()
            await until(lambda: gone(world))
            assert world.logged("broker connection closed")

    play(body)


def test_a_broker_that_reconnected_in_time_stays(tmp_path: Path) -> None:
    async def body() -> None:
        async with World(tmp_path) as world:
            old, new, marker = RemotingClient(), RemotingClient(), RemotingClient()
            await world.register(client=old)
            await world.register(client=new)
            await world.register(B, name="broker-b", client=marker)
            await old.close()
            await marker.close()
            await until(lambda: missing(world, B))
            assert await world.addresses() == {"0": A}
            await new.close()

    play(body)


def test_a_silent_broker_expires(tmp_path: Path) -> None:
    async def body() -> None:
        async with World(tmp_path, scan_not_active_broker_interval=10, broker_channel_expired_time=50) as world:
            broker = RemotingClient()
            await world.register(client=broker)
            await until(lambda: gone(world))
            assert world.logged("broker expired")
            await until(lambda: disconnected(broker, world.address))
            await broker.close()

    play(body)


def test_heartbeats_keep_a_broker_and_its_own_patience_counts(tmp_path: Path) -> None:
    async def body() -> None:
        async with World(tmp_path, scan_not_active_broker_interval=10) as world:
            await world.register(A, heartbeatTimeoutMillis="60000")
            await world.register(B, name="broker-b", heartbeatTimeoutMillis="50")
            await until(lambda: missing(world, B))
            assert await world.addresses() == {"0": A}
            named = {"clusterName": "DefaultCluster", "brokerName": "broker-a", "brokerAddr": A}
            assert (await world.ask(RequestCode.BROKER_HEARTBEAT, ext=named)).code == 0

    play(body)


@pytest.mark.flaws
def test_the_planted_flaw_keeps_dead_brokers(tmp_path: Path) -> None:
    """With NEVER_EXPIRE neither silence nor a closed connection removes a broker: the two tests above would fail."""

    async def body() -> None:
        async with World(
            tmp_path,
            scan_not_active_broker_interval=10,
            broker_channel_expired_time=50,
            flaws=frozenset({Flaw.NEVER_EXPIRE}),
        ) as world:
            broker = RemotingClient()
            await world.register(client=broker)
            await broker.close()
            await asyncio.sleep(0.3)
            assert await world.addresses() == {"0": A}
            assert world.logged("planted flaws flaws=never-expire-broker")

    play(body)


def test_a_goodbye_is_immediate(tmp_path: Path) -> None:
    async def body() -> None:
        async with World(tmp_path) as world:
            await world.register()
            named = {"clusterName": "DefaultCluster", "brokerName": "broker-a", "brokerAddr": A, "brokerId": "0"}
            assert (await world.ask(RequestCode.UNREGISTER_BROKER, ext=named)).code == 0
            assert await world.addresses() == {}
            assert (await world.ask(RequestCode.UNREGISTER_BROKER, ext=named)).code == 0
            assert world.logged("broker unregistered")

    play(body)


def test_a_broker_asks_whether_its_table_changed(tmp_path: Path) -> None:
    async def body() -> None:
        async with World(tmp_path) as world:
            named = {"clusterName": "DefaultCluster", "brokerName": "broker-a", "brokerAddr": A, "brokerId": "0"}
            mine = b'{"counter":1,"stateVersion":0,"timestamp":7}'
            unknown = await world.ask(RequestCode.QUERY_DATA_VERSION, mine, ext=named)
            assert (unknown.ext, unknown.body) == ({"changed": "true"}, b"")
            await world.register()
            same = await world.ask(RequestCode.QUERY_DATA_VERSION, mine, ext=named)
            assert (same.ext, json.loads(same.body)) == ({"changed": "false"}, json.loads(mine))
            other = await world.ask(RequestCode.QUERY_DATA_VERSION, b'{"counter":2,"timestamp":7}', ext=named)
            assert other.ext == {"changed": "true"}

    play(body)


def test_damaged_registrations_are_refused(tmp_path: Path) -> None:
    async def body() -> None:
        async with World(tmp_path) as world:
            answer = await world.register(bodyCrc32="12345")
            assert (answer.code, answer.remark) == (1, "crc32 not match")
            crc = zlib.crc32(registration("T")) & 0x7FFFFFFF
            assert (await world.register(bodyCrc32=str(crc))).code == 0
            answer = await world.register(B, 1, heartbeatTimeoutMillis="soon")
            assert (answer.code, answer.remark) == (1, "header field heartbeatTimeoutMillis is not a number: soon")
            answer = await world.ask(RequestCode.REGISTER_BROKER, registration("T"), brokerName="b")
            assert (answer.code, answer.remark) == (1, "header field clusterName is missing")
            assert await world.addresses() == {"0": A}

    play(body)


def test_cluster_and_member_queries(tmp_path: Path) -> None:
    async def body() -> None:
        async with World(tmp_path) as world:
            await world.register()
            await world.register(B, 1)
            cluster = json.loads((await world.ask(RequestCode.GET_BROKER_CLUSTER_INFO)).body)
            assert cluster["clusterAddrTable"] == {"DefaultCluster": ["broker-a"]}
            assert cluster["brokerAddrTable"]["broker-a"]["brokerAddrs"] == {"0": A, "1": B}
            named = {"clusterName": "DefaultCluster", "brokerName": "broker-a"}
            members = json.loads((await world.ask(RequestCode.GET_BROKER_MEMBER_GROUP, ext=named)).body)
            assert members["brokerMemberGroup"]["brokerAddrs"] == {"0": A, "1": B}
            system = json.loads((await world.ask(RequestCode.GET_SYSTEM_TOPIC_LIST_FROM_NS)).body)
            assert system == {"topicList": ["DefaultCluster", "broker-a"], "brokerAddr": A}

    play(body)


def test_topic_lists(tmp_path: Path) -> None:
    async def listed(world: World, code: int, **ext: str) -> list[str]:
        answer = await world.ask(code, ext=ext)
        assert answer.code == 0
        found: list[str] = json.loads(answer.body)["topicList"]
        return found

    async def body() -> None:
        async with World(tmp_path) as world:
            await world.register()
            assert await listed(world, RequestCode.GET_ALL_TOPIC_LIST_FROM_NAMESERVER) == ["T", "TBW102"]
            assert await listed(world, RequestCode.GET_TOPICS_BY_CLUSTER, cluster="DefaultCluster") == ["T", "TBW102"]
            assert await listed(world, RequestCode.GET_TOPICS_BY_CLUSTER, cluster="x") == []
            for code in (311, 312, 313):
                assert await listed(world, code) == []
            assert (await world.ask(RequestCode.DELETE_TOPIC_IN_NAMESRV, topic="T")).code == 0
            assert await world.addresses() == {}
            queues = [{"brokerName": "broker-a", "readQueueNums": 1, "writeQueueNums": 1, "perm": 6}]
            route = json.dumps({"queueDatas": queues, "brokerDatas": []}).encode()
            assert (await world.ask(RequestCode.REGISTER_TOPIC_IN_NAMESRV, route, topic="N")).code == 0
            assert await world.addresses("N") == {"0": A}
            refused = await world.ask(RequestCode.REGISTER_TOPIC_IN_NAMESRV, b"x", topic="N")
            assert refused.code == 1

    play(body)


def test_write_permission(tmp_path: Path) -> None:
    async def body() -> None:
        async with World(tmp_path) as world:
            await world.register()
            wiped = await world.ask(RequestCode.WIPE_WRITE_PERM_OF_BROKER, brokerName="broker-a")
            assert wiped.ext == {"wipeTopicCount": "2"}
            route = json.loads((await world.ask(RequestCode.GET_ROUTEINFO_BY_TOPIC, topic="T")).body)
            assert route["queueDatas"][0]["perm"] == 4
            added = await world.ask(RequestCode.ADD_WRITE_PERM_OF_BROKER, brokerName="broker-a")
            assert added.ext == {"addTopicCount": "2"}

    play(body)


def test_key_value_settings_survive_a_restart(tmp_path: Path) -> None:
    async def body() -> None:
        async with World(tmp_path) as world:
            for key in ("a", "b"):
                put = await world.ask(RequestCode.PUT_KV_CONFIG, namespace="N", key=key, value=f"值{key}")
                assert put.code == 0
            assert (await world.ask(RequestCode.DELETE_KV_CONFIG, namespace="N", key="b")).code == 0
            assert (await world.ask(RequestCode.PUT_KV_CONFIG, key="a", value="x")).code == 1
        async with World(tmp_path) as world:
            assert (await world.ask(RequestCode.GET_KV_CONFIG, namespace="N", key="a")).ext == {"value": "值a"}
            assert (await world.ask(RequestCode.GET_KV_CONFIG, namespace="N", key="b")).code == 22
            listed = await world.ask(RequestCode.GET_KVLIST_BY_NAMESPACE, namespace="N")
            assert json.loads(listed.body) == {"table": {"a": "值a"}}
            assert (await world.ask(RequestCode.GET_KVLIST_BY_NAMESPACE, namespace="M")).code == 22

    play(body)


def test_order_configuration_reaches_brokers_and_clients(tmp_path: Path) -> None:
    async def body() -> None:
        async with World(tmp_path, order_message_enable=True) as world:
            await world.ask(RequestCode.PUT_KV_CONFIG, namespace="ORDER_TOPIC_CONFIG", key="T", value="broker-a:4")
            assert json.loads((await world.register()).body) == {"table": {"T": "broker-a:4"}}
            route = json.loads((await world.ask(RequestCode.GET_ROUTEINFO_BY_TOPIC, topic="T")).body)
            assert route["orderTopicConf"] == "broker-a:4"

    play(body)


def test_a_corrupt_settings_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "kv").mkdir()
    (tmp_path / "kv" / "kvConfig.json").write_text("{nonsense")

    async def body() -> None:
        world = World(tmp_path)
        with pytest.raises(StoreCorrupt, match=r"kvConfig\.json"):
            await world.server.start()

    play(body)


def test_settings_are_shown_and_some_may_be_changed(tmp_path: Path) -> None:
    async def body() -> None:
        async with World(tmp_path, scan_not_active_broker_interval=10) as world:
            shown = (await world.ask(RequestCode.GET_NAMESRV_CONFIG)).body.decode()
            assert "brokerChannelExpiredTime=120000\n" in shown
            changed = await world.ask(RequestCode.UPDATE_NAMESRV_CONFIG, b"brokerChannelExpiredTime=50\n")
            assert changed.code == 0
            broker = RemotingClient()  # a connection of its own: the name server closes it with the expiry
            await world.register(client=broker)
            await until(lambda: gone(world))
            await broker.close()
            for text, code in ((b"kvConfigPath=/x", 16), (b"listenPort=1", 16), (b"nonsense=1", 1), (b"flaws=x", 16)):
                assert (await world.ask(RequestCode.UPDATE_NAMESRV_CONFIG, text)).code == code
            bad = await world.ask(RequestCode.UPDATE_NAMESRV_CONFIG, b"brokerChannelExpiredTime=1s")
            assert (bad.code, "without a unit" in (bad.remark or "")) == (1, True)

    play(body)


def test_what_a_name_server_does_not_do_is_not_supported(tmp_path: Path) -> None:
    async def body() -> None:
        async with World(tmp_path) as world:
            for code in (RequestCode.SEND_MESSAGE_V2, RequestCode.CONTROLLER_REGISTER_BROKER, 4711):
                answer = await world.ask(code)
                assert (answer.code, answer.remark) == (3, f" request type {int(code)} not supported")

    play(body)


def test_run_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    async def body() -> None:
        stop = asyncio.Event()
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        config = NamesrvConfig(listen_port=0, kv_config_path=str(tmp_path / "kv.json"))
        text = io.StringIO()
        serving = asyncio.ensure_future(run(config, EventLog("n", text=text), stop, ready.set_result))
        address = await ready
        client = RemotingClient()
        assert (await client.call(address, request(RequestCode.GET_BROKER_CLUSTER_INFO), PATIENCE_S)).code == 0
        taken = NamesrvConfig(listen_port=int(address.split(":")[1]), kv_config_path=str(tmp_path / "kv.json"))
        with pytest.raises(ListenError, match="Address already in use"):
            await run(taken, EventLog("n2", text=text), stop, print)
        stop.set()
        await serving
        await client.close()
        assert "name server stopped" in text.getvalue()

    play(body)


async def gone(world: World) -> bool:
    return await world.addresses() == {}


async def disconnected(client: RemotingClient, address: str) -> bool:
    return not client.connected(address)


async def missing(world: World, address: str) -> bool:
    body = (await world.ask(RequestCode.GET_BROKER_CLUSTER_INFO)).body
    return address not in body.decode()
