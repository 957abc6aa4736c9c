"""Plans: what is accepted, what is refused with the nearest name, and that a stored plan is the same plan."""

import tomllib
from pathlib import Path

import pytest

from lab.byhand import with_spares
from lab.commands import default_plan
from lab.duration import Duration
from lab.errors import PlanError
from lab.options import RunOptions, overlay
from lab.plan import Plan
from lab.planfile import build_plan, read_plan, write_plan
from lab.systems.settings import check_settings
from lab.topology import copies_of, settings_of, topology_of
from lab.validate import expected_faults, validate

PLANS = Path(__file__).resolve().parents[3] / "plans"
FILES = sorted(path for path in PLANS.glob("*.toml") if path.stem not in ("partition-matrix", "scenarios", "flaws"))


def plan(**tables: object) -> Plan:
    return build_plan(tables, "plan.toml")


def refusal(**tables: object) -> str:
    def start() -> None:
        built = plan(**tables)
        validate(built, topology_of(built))
        check_settings(built)

    with pytest.raises(PlanError) as caught:
        start()
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_name_servers_that_would_forget_living_brokers_are_refused() -> None:
    words = refusal(namesrv={"brokerChannelExpiredTime": 10_000})
    assert "brokerChannelExpiredTime = 10000" in words
    assert "registerNameServerPeriod = 10000 ms" in words
    refusal(namesrv={"brokerChannelExpiredTime": 12_000}, broker={"registerNameServerPeriod": 30_000})
    possible = plan(namesrv={"brokerChannelExpiredTime": 12_000})
    validate(possible, topology_of(possible))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_plan_in_the_repository_is_possible(path: Path) -> None:
    """A plan file that ships is accepted, and its text form gives the same plan again."""
    built = build_plan(read_plan(path), str(path))
    validate(built, topology_of(built))
    assert check_settings(built) == []
    assert build_plan(tomllib.loads(write_plan(built)), "stored") == built


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("300ms", 300_000_000),
        ("1.5s", 1_500_000_000),
        ("2m", 120_000_000_000),
        (3, 3_000_000_000),
        ("4", 4_000_000_000),
    ],
)
def test_durations_have_units(text: object, ns: int) -> None:
    """A bare number means seconds."""
    assert Duration.parse(text).ns == ns
    assert Duration.parse(str(Duration(ns))).ns == ns


@pytest.mark.parametrize("text", ["", "s", "-1s", "3 fortnights", "1h30m", True, None, [1]])
def test_other_durations_are_refused(text: object) -> None:
    """The refusal says how to write one."""
    with pytest.raises(ValueError, match="for example"):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"fault": [{"kind": "kill", "target": "voter", "at": "4s"}]}, "nobody is voter where nobody elects"),
        ({"fault": [{"kind": "kill", "target": "one,when=elected", "at": "4s"}]}, "nobody is elected where nobody"),
        ({"tim_limit": "10s"}, "unknown key 'tim_limit'; did you mean 'time_limit'?"),
        ({"load": {"clinets": 3}}, "unknown key 'clinets' in [load]; did you mean 'clients'?"),
        ({"fault": [{"kind": "kill", "att": "3s"}]}, "unknown key 'att' in [fault]; did you mean 'at'?"),
        ({"time_limit": "soon"}, "write for example 30s"),
        ({"load": {"rate": 0}}, "load.rate = 0: expected int >= 1"),
        ({"time_limit": "soon"}, "plan.toml: time_limit: 'soon' is not a length of time"),
        ({"fault": [{"at": "2s"}]}, "fault[0]: object missing required field kind"),
        ({"judge": {"bounds": {"rto_s": "x"}}}, "judge.bounds[...]: expected float, got str"),
        ({"load": {"topic": "a/b"}}, "load.topic = 'a/b': RocketMQ takes 1 to 127 letters"),
        ({"load": {"topic": ""}}, "load.topic = ''"),
        ({"load": {"group": "all readers"}}, "load.group = 'all readers'"),
        (
            {
                "cluster": {"mode": "dledger", "spares": 1},
                "fault": [{"kind": "add", "target": "broker-a-3", "at": "2s"}],
            },
            "add:broker-a-3: unknown target broker-a-3; did you mean broker-a?",
        ),
        ({"load": {"rate": "many"}}, "plan.toml: load.rate = 'many': expected int, got str"),
        ({"load": 3}, "load = 3: expected object, got int"),
        ({"time_limit": "9s"}, "from 10s"),
        ({"load": {"route_poll": "0s"}}, "load.route_poll = 0s: 100ms or more"),
        ({"cluster": {"mode": "dleger"}}, "did you mean 'dledger'?"),
        ({"cluster": {"mode": "dledger", "replicas": 4}}, "has 1, 3, 5, 7 replicas; an even number"),
        ({"cluster": {"mode": "dledger"}, "master": {"brokerRole": "SYNC_MASTER"}}, "elects its leader, so"),
        ({"cluster": {"mode": "dledger"}, "fault": [{"kind": "promote", "at": "3s"}]}, "ask for transfer"),
        ({"fault": [{"kind": "remove", "at": "3s"}]}, 'set cluster.mode = "dledger"'),
        ({"cluster": {"system": "pyton"}}, "did you mean 'python'?"),
        ({"cluster": {"lever": "ntf"}}, "did you mean 'nft'?"),
        ({"load": {"workload": "qeue"}}, "did you mean 'queue'?"),
        ({"flaws": ["reply-before-fsink"]}, "did you mean 'reply-before-fsync'?"),
        ({"lever_flaws": ["no-cuts"]}, "did you mean 'no-cut'?"),
        ({"judge": {"remove": ["C99"]}}, "unknown word 'C99'"),
        ({"client_flaws": ["overlook"]}, 'set load.consume = "push"'),
        ({"fault": [{"kind": "kil", "at": "3s"}]}, "did you mean kill?"),
        ({"fault": [{"kind": "kill", "at": "3s", "target": "mastr"}]}, "did you mean master?"),
        ({"fault": [{"kind": "kill", "at": "3s", "target": "broker-c-0"}]}, "unknown target broker-c-0"),
        ({"fault": [{"kind": "kill", "at": "40s"}]}, "after the time limit"),
        ({"fault": [{"kind": "kill", "at": "3s", "id": "x"}, {"kind": "kill", "at": "4s", "id": "x"}]}, "two faults"),
        ({"cluster": {"replicas": 1}, "fault": [{"kind": "kill", "at": "3s", "target": "slave"}]}, "needs slaves"),
        ({"cluster": {"replicas": 1}, "nemesis": {"faults": ["promote"]}}, "needs slaves"),
        ({"cluster": {"replicas": 1}, "nemesis": {"faults": ["partition:replication"]}}, "needs slaves"),
        ({"cluster": {"replicas": 1}, "nemesis": {"faults": ["partition:halves"]}}, "at least two brokers"),
        ({"time_limit": "10s", "nemesis": {"faults": ["kill:one"] * 4}}, "4 faults are to be drawn"),
        ({"time_limit": "10s", "nemesis": {"faults": ["kill:one"], "count": 4}}, "has room for 3"),
        ({"cluster": {"replicas": 1}, "master": {"brokerRole": "SYNC_MASTER"}}, "would need 2 copies"),
        ({"master": {"brokerRole": "SYNC_MASTER", "inSyncReplicas": 3}}, "would need 3 copies"),
        ({"master": {"brokerRole": "SLAVE"}}, "brokerRole = 'SLAVE' of masters"),
        ({"broker": {"flushDiskTyp": "SYNC_FLUSH"}}, "did you mean 'flushDiskType'?"),
        ({"broker": {"transientStorePoolEnable": True}}, "is refused"),
        ({"name": "../elsewhere"}, "name = '../elsewhere': the runs lie in a folder"),
        ({"name": ""}, "begins with a letter or digit"),
        ({"name": "latest"}, "is not 'latest'"),
        ({"judge": {"gates": {"send_okay": 3}}}, "'send_okay' in [judge.gates]; did you mean 'send_ok'?"),
        ({"judge": {"gates": {"send_ok": float("nan")}}}, "a number from 0 on"),
        ({"judge": {"bounds": {"rto": 3}}}, "'rto' in [judge.bounds]; did you mean 'rto_s'?"),
        ({"judge": {"bounds": {"rto_s": -1}}}, "rto_s = -1.0 in [judge.bounds]"),
        ({"fault": [{"kind": "kill", "at": "3s", "options": {"whn": "voter"}}]}, "unknown option whn of kill"),
        ({"fault": [{"kind": "destroy", "at": "3s", "options": {"rejoin": "maybe"}}]}, "rejoin is yes or no"),
        ({"broker": {"brokerName": "mine"}}, "brokerName in [broker]: the lab gives each node its own"),
        ({"broker": {"enableDLedgerCommitLog": False}}, "enableDLedgerCommitLog in [broker]: the lab"),
        ({"master": {"storePathCommitLog": "/srv"}}, "storePathCommitLog in [master]: the lab"),
        ({"slave": {"brokerRole": "SYNC_MASTER"}}, "brokerRole in [slave]: the lab"),
        ({"namesrv": {"listenPort": 9877}}, "listenPort in [namesrv]: the lab"),
        ({"namesrv": {"brokerChannelExpiredTim": 3}}, "did you mean 'brokerChannelExpiredTime'?"),
    ],
)
def test_what_cannot_be_meant_is_refused(tables: dict[str, object], words: str) -> None:
    """Before anything starts, with the nearest right name where a name is wrong."""
    assert words in refusal(**tables)


def test_as_many_faults_as_there_is_room_for_may_be_drawn() -> None:
    """And all of them are expected of the history."""
    built = build_plan({"time_limit": "10s", "nemesis": {"faults": ["kill:one", "pause:one", "kill:slave"]}}, "plan")
    validate(built, topology_of(built))
    assert expected_faults(built, 1) == {"kill": 2, "pause": 1}


def test_unreadable_plans_are_refused(tmp_path: Path) -> None:
    """Missing, not TOML, not text."""
    with pytest.raises(PlanError, match="No such file"):
        read_plan(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = ")
    with pytest.raises(PlanError, match="not TOML"):
        read_plan(tmp_path / "bad.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(PlanError, match="not UTF-8"):
        read_plan(tmp_path / "bytes.toml")


def test_genuine_settings_without_effect_are_listed() -> None:
    """They are accepted, and named."""
    assert check_settings(
        plan(broker={"mappedFileSizeConsumeQueue": 6_000_000, "osPageCacheBusyTimeOutMills": 1000})
    ) == ["osPageCacheBusyTimeOutMills"]


def test_options_overrule_the_plan() -> None:
    """brokerRole reaches masters only, a name server's key the name servers, and the input stays as it was."""
    tables = {"seed": 1, "broker": {"slaveTimeout": 5}, "master": {"brokerRole": "SYNC_MASTER"}}
    options = RunOptions(
        seed=2,
        groups=3,
        time_limit="12s",
        route_poll="1s",
        nemesis=("kill:master",),
        settings=("brokerRole=ASYNC_MASTER", "slaveTimeout=7", "brokerChannelExpiredTime=9"),
    )
    built = build_plan(overlay(tables, options), "options")
    assert (built.seed, built.cluster.groups, built.time_limit) == (2, 3, Duration.seconds(12))
    assert built.load.route_poll == Duration.seconds(1)
    assert built.nemesis.faults == ("kill:master",)
    assert settings_of(built, master=True) == {"brokerRole": "ASYNC_MASTER", "slaveTimeout": "7"}
    assert settings_of(built, master=False) == {"slaveTimeout": "7"}
    assert built.namesrv == {"brokerChannelExpiredTime": "9"}
    assert tables["seed"] == 1
    assert tables["master"] == {"brokerRole": "SYNC_MASTER"}


@pytest.mark.parametrize("text", ["brokerRole", "=3", ""])
def test_settings_without_a_key_are_refused(text: str) -> None:
    """The refusal shows the form."""
    with pytest.raises(PlanError, match="key=value"):
        overlay({}, RunOptions(settings=(text,)))


@pytest.mark.parametrize(
    ("settings", "copies"),
    [
        ({}, 1),
        ({"brokerRole": "ASYNC_MASTER"}, 1),
        ({"brokerRole": "ASYNC_MASTER", "inSyncReplicas": "2"}, 1),
        ({"brokerRole": "SYNC_MASTER"}, 2),
        ({"brokerRole": "SYNC_MASTER", "inSyncReplicas": "1"}, 1),
        ({"brokerRole": "SYNC_MASTER", "inSyncReplicas": "3"}, 3),
    ],
)
def test_copies_are_what_the_settings_guarantee(settings: dict[str, str], copies: int) -> None:
    """SYNC_MASTER waits for one slave as in 4.9; inSyncReplicas counts the master."""
    assert copies_of(settings) == copies


def test_the_topology_names_everything_once() -> None:
    """Masters first, spares only where something is destroyed, a host a node."""
    built = plan(
        cluster={"groups": 2, "replicas": 2, "namesrvs": 3},
        fault=[{"kind": "destroy", "at": "3s", "target": "broker-a/master"}],
    )
    topology = topology_of(built)
    assert topology.namesrvs == ("namesrv-1", "namesrv-2", "namesrv-3")
    assert topology.brokers == ("broker-a-0", "broker-a-1", "broker-b-0", "broker-b-1")
    assert topology.spares == ("broker-a-2", "broker-b-2")
    assert topology.clients == ("client-1", "client-2")
    assert len(set(topology.hosts)) == len(topology.hosts) == 11
    assert [str(queue) for queue in topology.queues][:5] == [f"lab/broker-a/{n}" for n in range(4)] + ["lab/broker-b/0"]
    assert expected_faults(built, 1) == {"destroy": 1}


@pytest.mark.parametrize(
    ("options", "mode", "faults"),
    [
        (RunOptions(), "dledger", ("partition:isolate-leader", "kill:leader")),
        (RunOptions(nemesis=("pause:leader",)), "dledger", ("pause:leader",)),
        (RunOptions(settings=("flushDiskType=ASYNC_FLUSH",)), "dledger", ("partition:isolate-leader", "kill:leader")),
        (RunOptions(mode="master-slave"), "master-slave", ()),
        (RunOptions(settings=("brokerRole=SYNC_MASTER",), nemesis=("kill:master",)), "master-slave", ("kill:master",)),
        (RunOptions(nemesis=("promote:slave",)), "master-slave", ("promote:slave",)),
    ],
)
def test_a_run_without_a_plan_elects_unless_it_asks_for_masters(
    options: RunOptions, mode: str, faults: tuple[str, ...]
) -> None:
    """Three name servers, a group of three, a cut and a kill of the leader; what is asked for overrules that."""
    built = default_plan(options)
    validate(built, topology_of(built))
    assert (built.cluster.mode, built.nemesis.faults) == (mode, faults)
    assert (built.cluster.namesrvs, built.cluster.replicas) == ((3, 3) if mode == "dledger" else (1, 2))


def test_a_cluster_by_hand_has_room_to_grow() -> None:
    """Two more nodes for a group that elects, unless the plan says how many; none for masters and slaves."""
    for tables, spares in (
        ({"mode": "dledger"}, ("broker-a-3", "broker-a-4")),
        ({"mode": "dledger", "spares": 1}, ("broker-a-3",)),
        ({}, ()),
    ):
        assert topology_of(with_spares(plan(cluster=tables))).groups[0].spares == spares
