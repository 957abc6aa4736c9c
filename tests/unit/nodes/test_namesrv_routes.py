"""The routing table, rule by rule, against a clock that the test holds."""

import json
import struct
import zlib

import pytest

from nodes.flaws import Flaw
from nodes.namesrv import answers
from nodes.namesrv.registration import (
    DataVersion,
    RegistrationBody,
    RegistrationError,
    TopicConfig,
    crc_matches,
    decode_body,
    decode_data_version,
)
from nodes.namesrv.routes import QueueData, Registered, Registration, RegistrationRefused, Routes

A, B, C = "10.0.0.1:10911", "10.0.0.2:10911", "10.0.0.3:10911"


def topics(*names: str, queues: int = 4, perm: int = 6) -> dict[str, TopicConfig]:
    return {name: TopicConfig(name, queues, queues, perm) for name in ("TBW102", *names)}


class Table(Routes):
    """Routes with short words for registering."""

    now = 0

    def broker(
        self,
        address: str,
        broker_id: int = 0,
        *names: str,
        counter: int = 0,
        state: int = 0,
        queues: int = 4,
        perm: int = 6,
        name: str = "broker-a",
        cluster: str = "C",
        connection: object = None,
        timeout_ms: int | None = None,
        acting: bool | None = None,
        term: int | None = None,
    ) -> Registered:
        state = state if term is None else term
        body = RegistrationBody(topics(*(names or ("T",)), queues=queues, perm=perm), DataVersion(counter, state, 1))
        ha = address.replace("10911", "10912")
        asked = Registration(cluster, name, broker_id, address, ha, body, timeout_ms, acting, term=term)
        return self.register(asked, self.now, connection if connection is not None else address)

    def addresses(self, name: str = "broker-a") -> dict[int, str]:
        group = self.group(name)
        return {} if group is None else dict(group.addresses)

    def queues(self, topic: str = "T") -> dict[str, tuple[int, int]]:
        found = self.route(topic)
        return {} if found is None else {queue.broker_name: (queue.write_queues, queue.perm) for queue in found.queues}


def test_a_registered_broker_is_routed() -> None:
    table = Table()
    done = table.broker(A)
    assert (done.is_new, done.topics_applied, done.master_address) == (True, 2, None)
    found = table.route("T")
    assert found is not None
    assert found.queues == (QueueData("broker-a", 4, 4, 6, 0),)
    assert [group.addresses for group in found.groups] == [{0: A}]
    assert table.clusters() == {"C": ["broker-a"]}


def test_a_topic_nobody_serves_has_no_route() -> None:
    table = Table()
    assert table.route("T") is None
    table.broker(A)
    assert table.route("other") is None


def test_a_slave_learns_where_its_master_is_and_brings_no_topics() -> None:
    table = Table()
    alone = table.broker(B, 1, "S")
    assert (alone.master_address, alone.master_ha_address) == (None, None)
    assert table.route("S") is None
    table.broker(A)
    done = table.broker(B, 1, "S")
    assert (done.master_address, done.master_ha_address) == (A, "10.0.0.1:10912")
    assert table.route("S") is None
    assert table.addresses() == {0: A, 1: B}


def test_topics_change_only_with_the_data_version() -> None:
    table = Table()
    table.broker(A, 0, "T", counter=1, queues=4)
    assert table.broker(A, 0, "T", counter=1, queues=8).topics_applied == 0
    assert table.queues() == {"broker-a": (4, 6)}
    assert table.broker(A, 0, "T", counter=2, queues=8).topics_applied == 2
    assert table.queues() == {"broker-a": (8, 6)}


def test_a_topic_the_table_lacks_is_taken_even_with_the_old_version() -> None:
    table = Table()
    table.broker(A, 0, "T", counter=1)
    table.delete_topic("T")
    table.broker(A, 0, "T", counter=1)
    assert table.queues() == {"broker-a": (4, 6)}


def test_a_promotion_moves_the_address_to_id_0() -> None:
    table = Table()
    table.broker(A)
    table.broker(B, 1)
    done = table.broker(B, 0, "T", "N")
    assert (done.former_id, done.replaced, done.is_new) == (1, A, False)
    assert table.addresses() == {0: B}
    assert table.route("N") is not None
    back = table.broker(A, 1)
    assert (back.is_new, back.master_address) == (True, B)
    assert table.addresses() == {0: B, 1: A}


def test_a_promotion_counts_although_the_version_is_the_same() -> None:
    """The promoted slave's table has the version that it registered with as a slave."""
    table = Table()
    table.broker(A, 0, "T", counter=5, queues=4)
    table.broker(B, 1, "T", counter=5, queues=8)
    table.broker(B, 0, "T", counter=5, queues=8)
    assert table.queues() == {"broker-a": (8, 6)}


def test_a_deposed_master_cannot_take_the_id_back() -> None:
    table = Table()
    table.broker(A, state=1)
    table.broker(B, 1, state=1)
    table.broker(B, 0, state=2)
    done = table.broker(A, 0, state=1)
    assert done.dropped
    assert table.addresses() == {0: B}
    assert table.data_version("C", A) is None


def test_without_state_versions_the_last_registration_wins() -> None:
    table = Table()
    table.broker(A)
    table.broker(B)
    assert table.addresses() == {0: B}
    assert table.broker(A).replaced == B
    assert table.addresses() == {0: A}


def test_the_first_registration_with_a_single_topic_is_refused() -> None:
    table = Table()
    body = RegistrationBody({"T": TopicConfig("T")}, DataVersion())
    with pytest.raises(RegistrationRefused, match="register broker failed"):
        table.register(Registration("C", "broker-a", 0, A, "", body), 0)
    assert table.clusters() == {}
    table.broker(A)
    table.register(Registration("C", "broker-a", 0, A, "", body), 0)


@pytest.mark.parametrize(
    ("address", "broker_id", "names", "cluster"),
    [(B, -1, ("T",), "C"), (B, 1, ("T",), "D"), (A, 0, ("1", "2", "3", "4"), "C")],
    ids=["negative id", "other cluster", "too many topics"],
)
def test_registrations_that_make_no_sense_are_refused(
    address: str, broker_id: int, names: tuple[str, ...], cluster: str
) -> None:
    table = Table(topics_max=5)
    table.broker(A)
    with pytest.raises(RegistrationRefused):
        table.broker(address, broker_id, *names, cluster=cluster, counter=9)
    assert table.addresses() == {0: A}
    assert table.topics() == ["T", "TBW102"]


def test_a_silent_broker_expires_and_a_talking_one_does_not() -> None:
    table = Table(expired_time_ms=1000)
    table.broker(A)
    table.broker(B, 1)
    table.now = 900
    table.broker(B, 1)
    assert table.expire(1000) == []
    [gone] = table.expire(1001)
    assert (gone.broker.address, gone.silent_ms, gone.name_gone) == (A, 1001, False)
    assert table.addresses() == {1: B}
    assert table.queues() == {"broker-a": (4, 6)}
    [gone] = table.expire(1901)
    assert (gone.broker.address, gone.name_gone) == (B, True)
    assert (table.route("T"), table.clusters(), table.brokers()) == (None, {}, [])


def test_a_broker_may_announce_its_own_patience() -> None:
    table = Table(expired_time_ms=1000)
    table.broker(A, timeout_ms=200)
    table.broker(B, 0, name="broker-b", timeout_ms=0)
    assert [gone.broker.address for gone in table.expire(201)] == [A]
    assert [gone.broker.address for gone in table.expire(1001)] == [B]


def test_a_heartbeat_keeps_a_broker_alive() -> None:
    table = Table(expired_time_ms=1000)
    table.broker(A)
    table.touch("C", A, 800)
    table.touch("C", B, 800)
    assert table.expire(1800) == []
    assert len(table.expire(1801)) == 1


def test_a_broker_goes_with_the_connection_that_registered_it_last() -> None:
    table = Table()
    old, new = object(), object()
    table.broker(A, connection=old)
    table.broker(A, connection=new)
    assert table.connection_closed(old, 5) == []
    assert [gone.broker.address for gone in table.connection_closed(new, 5)] == [A]
    assert table.route("T") is None


def test_all_brokers_of_one_connection_go_with_it() -> None:
    table = Table()
    shared = object()
    table.broker(A, connection=shared)
    table.broker(B, name="broker-b", connection=shared)
    assert len(table.connection_closed(shared, 0)) == 2
    assert table.topics() == []


def test_a_replaced_masters_closing_connection_harms_nobody() -> None:
    table = Table()
    table.broker(A, connection="old")
    table.broker(B, 0, connection="new")
    assert table.connection_closed("old", 0) == []
    assert table.addresses() == {0: B}


def test_a_goodbye_removes_only_who_says_it() -> None:
    table = Table()
    table.broker(A)
    table.broker(B, name="broker-b")
    assert table.unregister("C", "broker-b", A, 0) is None
    assert table.unregister("C", "broker-a", C, 0) is None
    gone = table.unregister("C", "broker-a", A, 7)
    assert gone is not None
    assert gone.name_gone
    assert table.queues() == {"broker-b": (4, 6)}


def test_an_address_that_changes_its_name_leaves_its_former_group() -> None:
    table = Table()
    table.broker(A)
    table.broker(A, name="broker-b")
    assert table.clusters() == {"C": ["broker-b"]}
    assert table.queues() == {"broker-b": (4, 6)}


def test_write_permission_is_wiped_and_restored() -> None:
    table = Table()
    table.broker(A, 0, "T", counter=1)
    table.broker(B, name="broker-b")
    assert table.set_write_permission("broker-a", writable=False) == 2
    assert table.queues() == {"broker-a": (4, 4), "broker-b": (4, 6)}
    table.broker(A, 0, "T", counter=1)
    assert table.queues()["broker-a"] == (4, 4)
    assert table.set_write_permission("broker-a", writable=True) == 2
    assert table.queues()["broker-a"] == (4, 6)
    table.set_write_permission("broker-a", writable=False)
    table.broker(A, 0, "T", counter=2)
    assert table.queues()["broker-a"] == (4, 6)
    assert table.set_write_permission("broker-x", writable=False) == 0


def test_a_group_with_an_acting_master_loses_write_permission_with_its_master() -> None:
    table = Table()
    table.broker(A, acting=True)
    table.broker(B, 1, acting=True)
    assert table.queues() == {"broker-a": (4, 6)}
    table.unregister("C", "broker-a", A, 0)
    assert table.queues() == {"broker-a": (4, 4)}


def test_a_master_that_becomes_an_acting_group_s_slave_takes_the_write_permission_along() -> None:
    """Of every topic, also of those that its new registration does not name."""
    table = Table()
    table.broker(A, 0, "T")
    table.broker(A, 1, "U", acting=True)
    assert table.queues("T") == {"broker-a": (4, 4)}
    table.broker(A, 0, "T", counter=1, acting=True)
    assert table.queues("T") == {"broker-a": (4, 6)}


def test_the_smallest_slave_brings_topics_if_it_mentions_acting_masters() -> None:
    table = Table()
    table.broker(B, 1, "S", acting=False)
    assert table.queues("S") == {"broker-a": (4, 6)}
    table.broker(C, 2, "X", acting=False)
    assert table.route("X") is None


def test_missing_topics_are_removed_if_so_configured() -> None:
    keeping, removing = Table(), Table(delete_missing_topics=True)
    for table in (keeping, removing):
        table.broker(A, 0, "T", "U", counter=1)
        table.broker(A, 0, "T", counter=2)
    assert keeping.route("U") is not None
    assert removing.route("U") is None


def test_topics_are_registered_and_deleted_one_by_one() -> None:
    table = Table()
    table.broker(A)
    table.broker(B, name="broker-b", cluster="D")
    queue = QueueData("broker-b", 1, 1, 6, 0)
    assert table.register_topic("N", [queue])
    assert not table.register_topic("N", [QueueData("broker-x", 1, 1, 6, 0)])
    assert not table.register_topic("N", [])
    assert table.topics("D") == ["N", "T", "TBW102"]
    table.delete_topic("T", "C")
    assert table.queues() == {"broker-b": (4, 6)}
    table.delete_topic("T", "D")
    assert table.topics() == ["N", "TBW102"]


def test_unit_topics_are_told_apart() -> None:
    table = Table()
    configs = {name: TopicConfig(name, 1, 1, 6, flag) for name, flag in (("p", 0), ("u", 1), ("s", 2), ("b", 3))}
    table.register(Registration("C", "broker-a", 0, A, "", RegistrationBody(configs, DataVersion())), 0)
    assert table.unit_topics(unit=True, subscription=None) == ["b", "u"]
    assert table.unit_topics(unit=None, subscription=True) == ["b", "s"]
    assert table.unit_topics(unit=False, subscription=True) == ["s"]


# Bodies


def test_route_bodies_quote_ids_for_clients_that_can_read_it() -> None:
    table = Table()
    table.broker(A)
    table.broker(B, 1)
    found = table.route("T")
    assert found is not None
    assert json.loads(answers.route(found, strict=True)) == {
        "brokerDatas": [
            {"brokerAddrs": {"0": A, "1": B}, "brokerName": "broker-a", "cluster": "C", "enableActingMaster": False}
        ],
        "filterServerTable": {},
        "queueDatas": [
            {"brokerName": "broker-a", "perm": 6, "readQueueNums": 4, "topicSysFlag": 0, "writeQueueNums": 4}
        ],
    }
    assert b'"brokerAddrs":{0:"10.0.0.1:10911",1:"10.0.0.2:10911"}' in answers.route(found, strict=False)
    assert json.loads(answers.route(found, strict=True, order="broker-a:4"))["orderTopicConf"] == "broker-a:4"


def test_registration_bodies_in_all_forms() -> None:
    version = {"counter": 3, "timestamp": 99}
    config = {"topicName": "T", "readQueueNums": 2, "writeQueueNums": 3, "perm": 4, "topicSysFlag": 1, "order": False}
    wrapper = {"dataVersion": version, "topicConfigTable": {"T": config}}
    expected = RegistrationBody({"T": TopicConfig("T", 2, 3, 4, 1)}, DataVersion(3, 0, 99))
    body = json.dumps({"topicConfigSerializeWrapper": wrapper, "filterServerList": []}).encode()
    assert decode_body(body, 409) == expected
    assert decode_body(json.dumps(wrapper).encode(), 36) == expected
    dialect = (
        b'{"topicConfigSerializeWrapper":{"topicQueueMappingDetailMap":{0:1},' + json.dumps(wrapper).encode()[1:] + b"}"
    )
    assert decode_body(dialect, 479) == expected
    assert decode_body(b"", 409) == RegistrationBody({}, DataVersion())
    assert decode_data_version(b"") == DataVersion()


def piece(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def test_compressed_registration_bodies() -> None:
    version = piece(json.dumps({"counter": 1, "stateVersion": 2, "timestamp": 3}).encode())
    raw = version + struct.pack(">i", 2) + piece(b"T 2 3 4 SINGLE_TAG") + piece(b'U 1 1 6 SINGLE_TAG {"+a":"b c"}')
    body = zlib.compress(raw + piece(b"[]") + struct.pack(">i", 0), 9)
    assert decode_body(body, 479) == RegistrationBody(
        {"T": TopicConfig("T", 2, 3, 4), "U": TopicConfig("U", 1, 1, 6)}, DataVersion(1, 2, 3)
    )
    for damaged in (
        b"\x78\x9cnonsense",
        zlib.compress(raw[:20]),
        zlib.compress(version + struct.pack(">i", 1) + piece(b"T 2")),
    ):
        with pytest.raises(RegistrationError):
            decode_body(damaged, 479)
    with pytest.raises(RegistrationError, match="unpacks to more than"):
        decode_body(zlib.compress(b"\0" * 80_000_000, 9), 479)


@pytest.mark.parametrize(
    "bad", [b"{", b'{"topicConfigSerializeWrapper":7}', b'{"topicConfigSerializeWrapper":{"topicConfigTable":[]}}']
)
def test_unreadable_registration_bodies_say_why(bad: bytes) -> None:
    with pytest.raises(RegistrationError, match="body"):
        decode_body(bad, 409)


def test_the_checksum_is_cut_to_31_bits_and_may_be_absent() -> None:
    body = b"some body"
    assert crc_matches(body, str(zlib.crc32(body) & 0x7FFFFFFF))
    assert crc_matches(body, None)
    assert crc_matches(body, "0")
    assert not crc_matches(body, "1")
    assert not crc_matches(body, "x")


def deposed(table: Table) -> dict[int, str]:
    """A led in term 5, B leads in term 6; then a late word of A arrives, while B is there and when it is gone."""
    table.broker(A, 0, term=5)
    table.broker(B, 2, term=5)
    table.broker(B, 0, term=6)
    table.broker(A, 0, term=5)
    table.connection_closed(B, 0)
    table.broker(C, 3, term=6)
    table.broker(A, 0, term=5)
    return table.addresses()


def test_the_route_of_a_deposed_leader_never_wins() -> None:
    table = Table()
    assert deposed(table) == {3: C}, "nobody is master until one of term 6 or later says so"
    table.broker(A, 1, term=6)
    table.broker(B, 0, term=7)
    assert table.addresses() == {0: B, 1: A, 3: C}
    assert table.broker(B, 2, term=6).dropped, "a word of the follower that it was arrives after that of the leader"
    assert table.addresses() == {0: B, 1: A, 3: C}
    assert not table.broker(B, 2, term=7).dropped, "a leader without its quorum steps down within its term"
    assert table.addresses() == {1: A, 2: B, 3: C}


def test_the_term_is_remembered_when_all_brokers_of_a_group_are_gone() -> None:
    table = Table()
    table.broker(A, 0, term=6)
    table.connection_closed(A, 0)
    dropped = table.broker(B, 0, term=5)
    assert (dropped.dropped, dropped.known_term) == (True, 6)
    assert not table.broker(A, 0, term=6).dropped


def test_a_planted_flaw_lets_the_deposed_leader_win() -> None:
    assert deposed(Table(flaws=frozenset({Flaw.DEPOSED_ROUTE_WINS})))[0] == A
