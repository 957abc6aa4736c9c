"""DLedger mode in configuration files: what people copy works as it is, and contradictions are refused."""

from pathlib import Path

import pytest

from nodes.config import BrokerRole, ConfigError, FlushDiskType, Member, Timers, load_broker, properties_of
from nodes.config.dledger import timers_for

NODE = """\
# 节点n0配置 - broker-n0.conf
brokerClusterName=DefaultCluster
brokerName=broker-dledger
listenPort=30911

# 启用Dledger
enableDLedgerCommitLog=true

# Dledger组配置
dLedgerGroup=broker-dledger
dLedgerPeers=n0-192.168.1.100:40911;n1-192.168.1.101:40911;n2-192.168.1.102:40911
dLedgerSelfId=n0  # 区别在这里

namesrvAddr=localhost:9876
storePathRootDir=/data/rocketmq/n0/store
storePathCommitLog=/data/rocketmq/n0/store/commitlog
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "broker-n0.conf"
    path.write_text(text)
    return path


@pytest.mark.parametrize("spelled", ["DLedger", "DLeger"])
def test_a_member_of_a_group_as_people_write_it(tmp_path: Path, spelled: str) -> None:
    text = NODE.replace("DLedger", spelled).replace("dLedger", "d" + spelled[1:])
    loaded = load_broker(write(tmp_path, text))
    config = loaded.config
    assert config.enable_dledger
    assert (config.dledger_group, config.dledger_self_id) == ("broker-dledger", "n0")
    assert config.dledger_peers[2] == Member("n2", "192.168.1.102", 40911)
    assert config.dledger_member.address == "192.168.1.100:40911"
    assert config.broker_ip1 == "192.168.1.100", "the host of its own peer, since no brokerIP1 says otherwise"
    assert (config.broker_role, config.broker_id) == (BrokerRole.SLAVE, 1), "until the group elects it"
    assert config.flush_disk_type is FlushDiskType.SYNC_FLUSH
    assert config.dledger_timers == Timers(0.1, 0.5, 1.0)
    assert loaded.warnings == []
    assert properties_of(config)["dLegerPeers"].startswith("n0-192.168.1.100:40911;n1-")


def test_what_the_group_decides_is_not_configured(tmp_path: Path) -> None:
    loaded = load_broker(write(tmp_path, NODE + "brokerId=0\nbrokerRole=SYNC_MASTER\n"))
    assert loaded.warnings == ["brokerRole has no effect: in DLedger mode the group elects who is master"]
    loaded = load_broker(write(tmp_path, NODE + "flushDiskType=ASYNC_FLUSH\n"))
    assert loaded.config.flush_disk_type is FlushDiskType.ASYNC_FLUSH
    assert "power failure" in loaded.warnings[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("dLedgerSelfId=n0", "dLedgerSelfId=n7"), "dLegerSelfId n7 is none of dLegerPeers (n0, n1, n2)"),
        (("dLedgerSelfId=n0", ""), "dLegerSelfId must say which of dLegerPeers this node is"),
        (("dLedgerPeers=n0", "#"), "dLegerPeers must name the members"),
        (("listenPort=30911", "listenPort=40911"), "members need a port of their own"),
        (("", "brokerRole=SLAVE\n"), "the group elects who is master"),
        (("", "inSyncReplicas=2\n"), "inSyncReplicas is for master and slave"),
        (("", "haMasterAddress=a:1\n"), "haMasterAddress is for master and slave"),
        (("", "preferredLeaderId=n1;n9\n"), "preferredLeaderId n9 is none of dLegerPeers"),
        (("", "minElectTimeIntervalMs=900\nmaxElectTimeIntervalMs=300\n"), "is above maxElectTimeIntervalMs 300"),
        (("", "dLegerGroup=other\n"), "are two names of one setting"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    before, after = change
    text = NODE.replace(before, after) if before else NODE + after
    with pytest.raises(ConfigError) as caught:
        load_broker(write(tmp_path, text))
    assert message in str(caught.value)


def test_the_keys_have_no_effect_without_the_mode(tmp_path: Path) -> None:
    loaded = load_broker(write(tmp_path, NODE.replace("Log=true", "Log=false") + "brokerIP1=10.0.0.1\n"))
    assert not loaded.config.enable_dledger
    assert loaded.without_effect == ["dLedgerGroup", "dLedgerPeers", "dLedgerSelfId"]
    assert loaded.config.broker_role is BrokerRole.ASYNC_MASTER


@pytest.mark.parametrize(
    ("given", "timers"),
    [
        ((None, 3, None, None), Timers(0.1, 0.5, 1.0)),
        ((None, 3, 200, None), Timers(0.04, 0.2, 0.4)),
        ((None, 3, 1000, 3000), Timers(0.1, 1.0, 3.0)),
        ((2000, 3, None, None), Timers(2.0, 6.3, 7.0)),
        ((2000, 3, 1000, 3000), Timers(2.0, 7.0, 9.0)),
    ],
)
def test_timers_are_ours_unless_the_heartbeat_is_set(
    given: tuple[int | None, int, int | None, int | None], timers: Timers
) -> None:
    assert timers_for(*given) == timers


def test_an_even_group_is_pointed_out(tmp_path: Path) -> None:
    text = NODE.replace(";n2-192.168.1.102:40911", "")
    assert "an even number survives no more failures" in load_broker(write(tmp_path, text)).warnings[0]
