"""Configuration files: what people copy works as it is, and every mistake gets one clear message."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.config import (
    BrokerConfig,
    BrokerRole,
    ConfigError,
    FlushDiskType,
    NamesrvConfig,
    changed,
    load_broker,
    load_namesrv,
    properties_of,
    properties_text,
)
from nodes.config.genuine import BROKER_GENUINE, NAMESRV_GENUINE
from nodes.config.properties import Property, parse_properties, write_properties
from nodes.config.refused import BROKER_REFUSED, NAMESRV_REFUSED
from nodes.flaws import Flaw

MASTER = """\
# broker-a.conf - Master配置
brokerClusterName=DefaultCluster
brokerName=broker-a
brokerId=0  # 0表示Master
deleteWhen=04
fileReservedTime=48

# 主从复制模式
brokerRole=SYNC_MASTER  # 同步复制,可靠性高
# brokerRole=ASYNC_MASTER  # 异步复制,性能高

flushDiskType=SYNC_FLUSH      # 同步刷盘
namesrvAddr=192.168.1.10:9876;192.168.1.11:9876
listenPort=10911
"""


def write(folder: Path, text: str, name: str = "broker-a.conf") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_file_with_remarks_behind_the_values_works_as_it_is(tmp_path: Path) -> None:
    config = load_broker(write(tmp_path, MASTER)).config
    assert (config.broker_name, config.broker_id, config.broker_role) == ("broker-a", 0, BrokerRole.SYNC_MASTER)
    assert (config.flush_disk_type, config.file_reserved_time) == (FlushDiskType.SYNC_FLUSH, 48)
    assert (config.delete_when, config.listen_port, config.ha_listen_port) == ((4,), 10911, 10912)
    assert config.namesrv_addr == ("192.168.1.10:9876", "192.168.1.11:9876")
    assert config.in_sync_replicas is None


def test_the_manual_promotion_is_two_edited_lines(tmp_path: Path) -> None:
    slave = MASTER.replace("brokerId=0 ", "brokerId=1 ").replace("brokerRole=SYNC_MASTER ", "brokerRole=SLAVE ")
    before = load_broker(write(tmp_path, slave)).config
    assert (before.broker_id, before.broker_role, before.broker_role.is_master) == (1, BrokerRole.SLAVE, False)
    after = load_broker(write(tmp_path, slave), {"brokerId": "0", "brokerRole": "ASYNC_MASTER"}).config
    assert (after.broker_id, after.broker_role, after.broker_role.is_master) == (0, BrokerRole.ASYNC_MASTER, True)


def test_a_name_server_file(tmp_path: Path) -> None:
    text = "listenPort=9876\nkvConfigPath=/data/namesrv/kvConfig.json\nscanNotActiveBrokerInterval=10000\n"
    loaded = load_namesrv(write(tmp_path, text + "brokerChannelExpiredTime=120000\nserverWorkerThreads=8\n"))
    assert loaded.config.kv_config_path == "/data/namesrv/kvConfig.json"
    assert loaded.config.scan_not_active_broker_interval == 10_000
    assert loaded.config.broker_channel_expired_time == 120_000
    assert loaded.without_effect == ["serverWorkerThreads"]


def test_a_home_folder_moves_what_lies_below_it() -> None:
    config = load_namesrv(None, {"rocketmqHome": "/data/namesrv1", "bindAddress": "127.0.0.1"}).config
    assert config.kv_config_path == "/data/namesrv1/namesrv/kvConfig.json"


def test_genuine_keys_without_effect_are_accepted_and_listed(tmp_path: Path) -> None:
    text = MASTER + "sendMessageThreadPoolNums=16\nwarmMapedFileEnable=true\nheartBeatTimeIntervalMs=2000\n"
    loaded = load_broker(write(tmp_path, text + "transientStorePoolEnable=false\n"))
    assert loaded.without_effect == [
        "sendMessageThreadPoolNums",
        "warmMapedFileEnable",
        "transientStorePoolEnable",
        "heartBeatTimeIntervalMs",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("brokerRol=SLAVE", "unknown key 'brokerRol'; did you mean 'brokerRole'?"),
        ("brokerrole=SLAVE", "unknown key 'brokerrole'; did you mean 'brokerRole'?"),
        ("flushDiskTyp=SYNC_FLUSH", "unknown key 'flushDiskTyp'; did you mean 'flushDiskType'?"),
        ("sendThreadPoolNum=1", "did you mean 'sendMessageThreadPoolNums'?"),
        ("zzzz=1", "unknown key 'zzzz'; no known key resembles it"),
        ("slaveTimeout=3s", "slaveTimeout=3s: must be a whole number of milliseconds"),
        ("slaveTimeout=3s", "written without a unit"),
        ("slaveTimeout=0", "from 1 to"),
        ("listenPort=99999", "listenPort=99999: must be a whole number from 0 to 65535"),
        ("fileReservedTime=two", "must be a whole number of hours"),
        ("brokerRole=MASTER", "must be one of ASYNC_MASTER, SYNC_MASTER, SLAVE"),
        ("flushDiskType=sync", "must be one of ASYNC_FLUSH, SYNC_FLUSH"),
        ("autoCreateTopicEnable=yes", "must be true or false"),
        ("namesrvAddr=127.0.0.1", "'127.0.0.1' is not host:port"),
        ("namesrvAddr=a:1,b:2", "is not host:port"),
        ("deleteWhen=24", "hours from 00 to 23"),
        ("messageDelayLevel=1s 5x", "'5x' is not a number followed by s, m, h or d"),
        ("brokerName=a b", "must be 1 to 127 letters"),
        ("brokerIP1=127.0.0.1:10911", "without a port"),
        ("storePathCommitLog=/a,/b", "only one path"),
        ("flaws=no-such-flaw", "unknown flaw 'no-such-flaw'"),
        ("diskSpaceCleanForciblyRatio=95", "must not be above diskSpaceWarningLevelRatio"),
        ("sendMessageThreadPoolNums=many", "must be a whole number"),
        ("transientStorePoolEnable=true", "transientStorePoolEnable=true is refused: messages would be acknowledged"),
        ("enableControllerMode=TRUE", "is refused: there is no controller"),
        ("dLegerPeers=n0-127.0.0.1", "'n0-127.0.0.1' is not id-host:port"),
        ("dLegerPeers=n0-a:1;n0-b:2", "the id n0 is there twice"),
        ("dLegerPeers=n0-a:1;n1-a:1", "the address a:1 is there twice"),
        ("dLegerPeers=n0-a:1;m0-b:1", "the same number"),
        ("dLedgerSelfId=0", "'0' is not an id such as n0"),
        ("minInSyncReplicas=2", "is refused: set inSyncReplicas"),
        ("storeType=defaultRocksDB", "only the file store"),
        ("tls.server.mode=enforcing", "plain text only"),
        ("aclEnable=true", "not authenticated"),
    ],
)
def test_every_mistake_gets_one_clear_message(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path, MASTER + line + "\n")
    with pytest.raises(ConfigError) as caught:
        load_broker(path)
    assert message in str(caught.value)
    if "must not be above" not in message:
        assert str(caught.value).startswith(f"{path}:{len(MASTER.splitlines()) + 1}: ")


def test_a_mistake_on_the_command_line_says_so() -> None:
    with pytest.raises(ConfigError, match=r"^command line: unknown key 'lissenPort'; did you mean 'listenPort'"):
        load_namesrv(None, {"lissenPort": "1"})


def test_a_slave_needs_an_id_and_a_master_has_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="brokerRole is SLAVE, so brokerId must be above 0"):
        load_broker(None, {"brokerRole": "SLAVE"})
    loaded = load_broker(None, {"brokerRole": "SYNC_MASTER", "brokerId": "1", "brokerIP1": "10.0.0.1"})
    assert loaded.config.broker_id == 0
    assert loaded.warnings == ["brokerRole is SYNC_MASTER, so brokerId 1 is read as 0"]


@pytest.mark.parametrize(
    ("given", "bind", "announced", "warned"),
    [
        ({"bindAddress": "0.0.0.0", "brokerIP1": "10.0.0.1"}, "0.0.0.0", "10.0.0.1", False),
        ({"brokerIP1": "10.0.0.1"}, "10.0.0.1", "10.0.0.1", False),
        ({"bindAddress": "10.0.0.2"}, "10.0.0.2", "10.0.0.2", False),
        ({"bindAddress": "0.0.0.0"}, "0.0.0.0", "127.0.0.1", True),
        ({}, "127.0.0.1", "127.0.0.1", True),
    ],
)
def test_where_a_broker_listens(given: dict[str, str], bind: str, announced: str, warned: bool) -> None:
    loaded = load_broker(None, given)
    assert (loaded.config.bind_address, loaded.config.broker_ip1) == (bind, announced)
    assert (loaded.config.broker_ip2, bool(loaded.warnings)) == (announced, warned)


def test_where_a_name_server_listens() -> None:
    assert load_namesrv(None).warnings == ["bindAddress is not set: listening on 127.0.0.1 only"]
    loaded = load_namesrv(None, {"bindAddress": "0.0.0.0"})
    assert (loaded.config.bind_address, loaded.warnings) == ("0.0.0.0", [])


def test_a_key_set_twice_is_reported_and_the_last_wins(tmp_path: Path) -> None:
    path = write(tmp_path, MASTER + "brokerIP1=10.0.0.1\nlistenPort=10921\n")
    loaded = load_broker(path)
    assert loaded.config.listen_port == 10921
    assert loaded.warnings == [f"{path}:16: listenPort is set again; {path}:14 is overruled"]
    with pytest.raises(ConfigError, match="two names of one setting"):
        load_broker(None, {"haSlaveFallbehindMax": "1", "haMaxGapNotInSync": "2"})


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.conf: No such file or directory"):
        load_broker(tmp_path / "missing.conf")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_broker(tmp_path)
    binary = tmp_path / "binary.conf"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load_broker(binary)
    binary.write_bytes(b"a=" + b"x" * 2_000_000)
    with pytest.raises(ConfigError, match="larger than"):
        load_broker(binary)
    with pytest.raises(ConfigError, match=r"line 1: \\u wants four hexadecimal digits"):
        load_broker(write(tmp_path, "brokerName=\\u12\n"))


def test_flaws_are_named_in_the_file() -> None:
    config = load_broker(None, {"flaws": "skip-crc-on-recovery, never-expire-broker"}).config
    assert config.flaws == {Flaw.SKIP_CRC, Flaw.NEVER_EXPIRE}


@pytest.mark.parametrize("kind", [BrokerConfig, NamesrvConfig])
def test_settings_written_as_text_read_back_as_themselves(
    tmp_path: Path, kind: type[BrokerConfig] | type[NamesrvConfig]
) -> None:
    config = kind()
    path = write(tmp_path, properties_text(config))
    loaded = load_broker(path) if kind is BrokerConfig else load_namesrv(path)
    assert loaded.config == config
    assert loaded.warnings == []


def test_settings_written_as_text_look_like_rocketmqs() -> None:
    written = properties_of(BrokerConfig(delete_when=(4, 16), flaws=frozenset({Flaw.NEVER_EXPIRE, Flaw.FORGET_EPOCH})))
    assert written["messageDelayLevel"] == "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h"
    assert (written["deleteWhen"], written["flaws"]) == ("04;16", "forget-epoch,never-expire-broker")
    assert (written["brokerRole"], written["autoCreateTopicEnable"]) == ("ASYNC_MASTER", "true")
    assert "inSyncReplicas" not in written


def test_settings_change_while_a_node_runs_only_where_they_may() -> None:
    config = NamesrvConfig()
    again = changed(config, {"orderMessageEnable": "true"}, ("orderMessageEnable",))
    assert again == dataclasses.replace(config, order_message_enable=True)
    with pytest.raises(PermissionError, match="listenPort can only be set"):
        changed(config, {"listenPort": "1"}, ("orderMessageEnable",))
    with pytest.raises(ConfigError, match="must be true or false"):
        changed(config, {"orderMessageEnable": "1"}, ("orderMessageEnable",))
    with pytest.raises(ConfigError, match="not a setting"):
        changed(config, {"serverWorkerThreads": "1"}, ("orderMessageEnable",))


@pytest.mark.parametrize(
    ("kind", "genuine", "refused"),
    [(BrokerConfig, BROKER_GENUINE, BROKER_REFUSED), (NamesrvConfig, NAMESRV_GENUINE, NAMESRV_REFUSED)],
)
def test_every_key_is_of_one_kind(
    kind: type[BrokerConfig] | type[NamesrvConfig], genuine: dict[str, object], refused: dict[str, object]
) -> None:
    effective = {field.metadata["key"] for field in dataclasses.fields(kind)}
    assert not effective & set(genuine)
    assert not effective & set(refused)
    assert not set(genuine) & set(refused)


def test_property_files_follow_java() -> None:
    text = (
        "! comment\n# comment\n\na=1\nb : 2\nc 3\n d\\ e = f\\tg\nlong=one\\\n   two\nempty\nempty2=\n"
        "u=\\u4e2d\\\\\nurl=http://x/#frag\nremark=v\t# note\nall=#note\nodd\\=key=v\n"
    )
    found = [(found.key, found.value) for found in parse_properties(text)]
    assert found == [
        ("a", "1"),
        ("b", "2"),
        ("c", "3"),
        ("d e", "f\tg"),
        ("long", "onetwo"),
        ("empty", ""),
        ("empty2", ""),
        ("u", "中\\"),
        ("url", "http://x/#frag"),
        ("remark", "v"),
        ("all", ""),
        ("odd=key", "v"),
    ]
    assert parse_properties("a=1\\\n") == [Property("a", "1", 1)]
    assert parse_properties("x=1\r\ny=2\r") == [Property("x", "1", 1), Property("y", "2", 2)]


@pytest.mark.parametrize("value", ["C:\\runs\\store", "/runs #2/store", " x ", "\t", "a\nb\r", "#", "", "=:!", "\\"])
def test_what_is_written_is_read_back(value: str) -> None:
    """Folders may have any name, and a store elsewhere than it was told of would be nobody's."""
    assert parse_properties(write_properties({"k": value, "l": "1"})) == [
        Property("k", value, 1),
        Property("l", "1", 2),
    ]


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_is_written_and_read_back(value: str) -> None:
    assert [found.value for found in parse_properties(write_properties({"k": value}))] == [value]
