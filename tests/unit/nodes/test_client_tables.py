"""The pure parts of the client: routes, queue choice, shares, subscriptions, process queues, outcomes, ids."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.client.config import ClientConfig, ClientConfigError, LatencyProfile, parse_name_servers
from nodes.client.messages import Message, UniqueIds, compress, from_stored, properties_text
from nodes.client.outcomes import (
    RETRY_CODES,
    SEND_STATUS,
    WRITE_OUTCOMES,
    LocalCode,
    code_name,
    write_outcome,
)
from nodes.client.process_queue import FlowControl, FlowLimits, ProcessQueue
from nodes.client.queues import MessageQueue, client_id, dlq_topic, is_retry_topic, retry_topic
from nodes.client.rebalance import allocate_averagely
from nodes.client.results import Attempt, Outcome, SendFailed, SendStatus
from nodes.client.routes import RouteError, Routes, parse_route
from nodes.client.selection import LatencyFaults, QueueRotation
from nodes.client.subscription import SubscriptionError, parse_subscription
from nodes.remoting.codes import ResponseCode
from nodes.remoting.message import (
    SYS_COMPRESSED,
    SYS_COMPRESSION_LZ4,
    SYS_COMPRESSION_ZLIB,
    decode_properties,
    decode_record,
    encode_properties,
    encode_record,
)

MASTER, SLAVE = "10.0.0.1:10911", "10.0.0.2:10911"


def route(
    groups: dict[str, dict[int, str]], *, write: int = 2, read: int = 2, perm: int = 6, order: str = ""
) -> dict[str, object]:
    value: dict[str, object] = {
        "brokerDatas": [
            {"brokerName": name, "cluster": "c", "brokerAddrs": {str(i): address for i, address in members.items()}}
            for name, members in groups.items()
        ],
        "queueDatas": [
            {"brokerName": name, "perm": perm, "readQueueNums": read, "writeQueueNums": write} for name in groups
        ],
    }
    if order:
        value["orderTopicConf"] = order
    return value


# ---- outcomes ------------------------------------------------------------------------------------------------------


def test_every_response_code_and_local_code_has_a_row() -> None:
    """A code that RocketMQ adds must be judged before it is used."""
    missing = [code.name for code in (*ResponseCode, *LocalCode) if int(code) not in WRITE_OUTCOMES]
    assert missing == []


def test_an_unknown_code_proves_nothing() -> None:
    assert write_outcome(4711) is Outcome.INFO
    assert code_name(4711) == "4711"


def test_no_timeout_and_no_loss_is_ever_a_failure() -> None:
    """After a byte was sent, only a broker's own word is proof."""
    for code in (LocalCode.TIMEOUT, LocalCode.CONNECTION_LOST, LocalCode.MASTER_MOVED, LocalCode.GARBLED_REPLY):
        assert write_outcome(code) is Outcome.INFO
    for status in (ResponseCode.SYSTEM_ERROR, ResponseCode.SYSTEM_BUSY):
        assert write_outcome(status) is Outcome.INFO


def test_what_is_stored_is_ok_and_only_one_status_is_a_promise() -> None:
    assert {code for code, outcome in WRITE_OUTCOMES.items() if outcome is Outcome.OK} == set(SEND_STATUS)
    assert SEND_STATUS[0] is SendStatus.SEND_OK
    assert len(set(SEND_STATUS.values())) == len(SendStatus)


def test_refusals_before_the_append_are_failures() -> None:
    for code in (3, 13, 14, 16, 17, 26, 29, 501, 1500, LocalCode.CONNECT_FAILED, LocalCode.NO_ROUTE):
        assert write_outcome(code) is Outcome.FAIL, code_name(code)


def test_retried_are_the_codes_of_rocketmq_5_and_what_the_network_did() -> None:
    assert {code for code in RETRY_CODES if code < 10000} == {1, 2, 14, 16, 17, 204, 205, 1500}
    assert LocalCode.TOO_LARGE not in RETRY_CODES


@given(st.lists(st.sampled_from(list(Outcome)), min_size=1, max_size=5))
def test_a_failure_is_certain_only_if_every_attempt_is(outcomes: list[Outcome]) -> None:
    attempts = [Attempt("a", "b", 0, outcome, 1, "r", 0.0, 0.0) for outcome in outcomes]
    assert SendFailed(attempts).certain == all(outcome is Outcome.FAIL for outcome in outcomes)


# ---- routes --------------------------------------------------------------------------------------------------------


def test_publish_queues_need_a_master_and_permission() -> None:
    routes = Routes()
    routes.update("T", parse_route(route({"b": {0: MASTER}, "a": {1: SLAVE}})))
    assert routes.publish_queues("T") == (MessageQueue("T", "b", 0), MessageQueue("T", "b", 1))
    assert [q.broker_name for q in routes.subscribe_queues("T")] == ["a", "a", "b", "b"]
    routes.update("R", parse_route(route({"b": {0: MASTER}}, perm=4)))
    assert routes.publish_queues("R") == ()
    routes.update("W", parse_route(route({"b": {0: MASTER}}, perm=2)))
    assert routes.subscribe_queues("W") == ()


def test_an_ordered_topic_takes_its_queues_from_its_text() -> None:
    routes = Routes()
    routes.update("T", parse_route(route({"a": {0: MASTER}}, order="b:1;a:2")))
    assert [str(q) for q in routes.publish_queues("T")] == ["T/b/0", "T/a/0", "T/a/1"]


def test_a_move_is_another_master_and_not_the_loss_of_one() -> None:
    routes = Routes()
    assert routes.update("T", parse_route(route({"a": {0: MASTER, 1: SLAVE}}))) == ()
    assert routes.update("T", parse_route(route({"a": {1: SLAVE}}))) == ()
    assert routes.master("a") is None
    assert routes.update("T", parse_route(route({"a": {0: MASTER}}))) == ()
    (move,) = routes.update("T", parse_route(route({"a": {0: SLAVE}})))
    assert (move.broker_name, move.old, move.new) == ("a", MASTER, SLAVE)


def test_a_master_seen_in_one_topics_route_serves_all_topics() -> None:
    routes = Routes()
    routes.update("T", parse_route(route({"a": {1: SLAVE}})))
    assert routes.publish_queues("T") == ()
    routes.update("U", parse_route(route({"a": {0: SLAVE}})))
    assert len(routes.publish_queues("T")) == 2


def test_readers_follow_rocketmqs_look_up() -> None:
    routes = Routes()
    routes.update("T", parse_route(route({"a": {0: MASTER, 2: SLAVE}})))
    assert routes.reader("a", 0) == (MASTER, 0)
    assert routes.reader("a", 1) == (SLAVE, 2)  # the next id of a slave that is asked for
    assert routes.reader("a", 7) == (MASTER, 0)
    assert routes.reader("a", 1, only_this=True) is None
    assert routes.slave("a") == (SLAVE, 2)
    routes.update("T", parse_route(route({"a": {1: SLAVE}})))
    assert routes.reader("a", 0) == (SLAVE, 1)
    assert routes.reader("b", 0) is None


def test_a_borrowed_route_is_for_producers_only() -> None:
    routes = Routes()
    borrowed = parse_route(route({"a": {0: MASTER}}, write=8, read=8)).provisional(4)
    routes.update("T", borrowed, provisional=True)
    assert len(routes.publish_queues("T")) == 4
    assert routes.subscribe_queues("T") == ()
    routes.update("T", parse_route(route({"a": {0: MASTER}}, write=3, read=3)))
    assert len(routes.subscribe_queues("T")) == 3
    assert not routes.is_provisional("T")


def test_a_successor_inherits_everything() -> None:
    first = Routes()
    first.update("T", parse_route(route({"a": {0: MASTER, 1: SLAVE}}, order="a:2")))
    second = Routes()
    second.restore(first.snapshot())
    assert second.publish_queues("T") == first.publish_queues("T")
    assert second.addresses("a") == {0: MASTER, 1: SLAVE}
    assert list(second.topics_of("a")) == ["T"]


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"brokerDatas": {}},
        {"brokerDatas": [{}]},
        {"brokerDatas": [{"brokerName": "a"}]},
        {"brokerDatas": [{"brokerName": "a", "brokerAddrs": {"x": "y"}}]},
    ],
)
def test_what_is_no_route_is_refused(value: object) -> None:
    with pytest.raises(RouteError):
        parse_route(value)


# ---- choosing a queue ----------------------------------------------------------------------------------------------

QUEUES = [MessageQueue("T", name, number) for name in ("a", "b") for number in range(2)]


def test_rotation_visits_every_queue_in_turn() -> None:
    rotation = QueueRotation(7)
    assert sorted(rotation.choose(QUEUES) for _ in QUEUES) == QUEUES


def test_a_retry_avoids_the_group_that_failed_unless_it_is_the_only_one() -> None:
    rotation = QueueRotation(0)
    assert {rotation.choose(QUEUES, avoid="a").broker_name for _ in range(8)} == {"b"}
    assert rotation.choose(QUEUES[:2], avoid="a").broker_name == "a"


@pytest.mark.parametrize(
    ("profile", "latency_ms", "avoided_s"),
    [
        (LatencyProfile.V4_9, 49, 0.0),
        (LatencyProfile.V4_9, 549, 0.0),
        (LatencyProfile.V4_9, 550, 30.0),
        (LatencyProfile.V4_9, 999, 30.0),
        (LatencyProfile.V4_9, 3000, 180.0),
        (LatencyProfile.V4_9, 20000, 600.0),
        (LatencyProfile.V5_3, 550, 2.0),
        (LatencyProfile.V5_3, 1800, 5.0),
        (LatencyProfile.V5_3, 15000, 30.0),
    ],
)
def test_slow_brokers_are_avoided_as_long_as_the_tables_say(
    profile: LatencyProfile, latency_ms: float, avoided_s: float
) -> None:
    faults = LatencyFaults(profile)
    faults.record("a", latency_ms, 100.0, isolate=False)
    assert faults.usable("a", 100.0 + avoided_s)
    if avoided_s:
        assert not faults.usable("a", 100.0 + avoided_s - 0.001)


@pytest.mark.parametrize(("profile", "isolated_s"), [(LatencyProfile.V4_9, 600.0), (LatencyProfile.V5_3, 10.0)])
def test_a_failing_broker_is_isolated(profile: LatencyProfile, isolated_s: float) -> None:
    faults = LatencyFaults(profile)
    faults.record("a", 1.0, 0.0, isolate=True)
    assert not faults.usable("a", isolated_s - 0.001)
    assert faults.usable("a", isolated_s)


def test_with_fault_tolerance_the_usable_group_is_chosen_and_else_the_least_bad() -> None:
    faults, rotation = LatencyFaults(LatencyProfile.V4_9), QueueRotation(0)
    faults.record("a", 1.0, 0.0, isolate=True)
    assert {rotation.choose(QUEUES, faults=faults, now_s=1.0).broker_name for _ in range(8)} == {"b"}
    faults.record("b", 2000.0, 0.0, isolate=False)
    assert {rotation.choose(QUEUES, faults=faults, now_s=1.0).broker_name for _ in range(8)} == {"a"}
    assert faults.least_bad([], 0.0) is None


# ---- sharing queues ------------------------------------------------------------------------------------------------


def naive_share(queues: list[int], clients: list[str], me: str) -> list[int]:
    """AllocateMessageQueueAveragely as its definition reads."""
    q, c = len(queues), len(clients)
    index, mod = clients.index(me), q % c
    size = 1 if q <= c else (q // c + 1 if mod > 0 and index < mod else q // c)
    start = index * size if mod > 0 and index < mod else index * size + mod
    return [queues[(start + step) % q] for step in range(max(0, min(size, q - start)))]


@given(st.integers(1, 40), st.integers(1, 12))
def test_shares_are_those_of_rocketmq_and_cover_every_queue_once(queue_count: int, client_count: int) -> None:
    queues = list(range(queue_count))
    clients = [f"c{number:02}" for number in range(client_count)]
    shares = [list(allocate_averagely(queues, clients, me)) for me in clients]
    assert [queue for share in shares for queue in share] == queues
    assert shares == [naive_share(queues, clients, me) for me in clients]


def test_a_stranger_gets_nothing() -> None:
    assert allocate_averagely([1, 2], ["a"], "b") == ()
    assert allocate_averagely([], ["a"], "a") == ()


# ---- subscriptions -------------------------------------------------------------------------------------------------


def test_subscriptions_in_wire_form() -> None:
    wire = parse_subscription("T", "TagA || TagB || TagA", 7).to_wire()
    assert wire["tagsSet"] == ["TagA", "TagB"]
    assert wire["codeSet"] == [2598919, 2598920]
    assert wire["subVersion"] == 7
    assert parse_subscription("T", " * ").to_wire()["subString"] == "*"


def test_tags_are_compared_as_text() -> None:
    assert parse_subscription("T", "Aa").accepts("Aa")
    assert not parse_subscription("T", "Aa").accepts("BB")  # the same hash
    assert parse_subscription("T").accepts("")


def test_an_empty_alternative_is_refused() -> None:
    with pytest.raises(SubscriptionError, match="empty"):
        parse_subscription("T", "A || ")


def test_names() -> None:
    assert retry_topic("g") == "%RETRY%g"
    assert dlq_topic("g") == "%DLQ%g"
    assert is_retry_topic("%RETRY%g")
    assert not is_retry_topic("g")
    assert client_id("1.2.3.4", "x") == "1.2.3.4@x"
    assert client_id("1.2.3.4", "x", "u") == "1.2.3.4@x@u"


# ---- process queue -------------------------------------------------------------------------------------------------


def messages(*offsets: int, body: bytes = b"12345") -> list[Message]:
    return [Message("T", body, queue_offset=offset) for offset in offsets]


def test_the_commit_offset_is_the_lowest_unfinished_one() -> None:
    process = ProcessQueue(10)
    assert process.commit_offset == 10
    held = process.add(messages(10, 11, 12))
    assert process.finish(held[1:]) == 10
    assert process.finish(held[:1]) == 13
    process.skip_to(20)
    assert process.commit_offset == 20


def test_a_message_pulled_again_is_not_taken_again() -> None:
    process = ProcessQueue(0)
    process.add(messages(0, 1))
    assert [m.queue_offset for m in process.add(messages(0, 1, 2))] == [2]


def test_taken_messages_come_back_in_order() -> None:
    process = ProcessQueue(0)
    process.add(messages(0, 1, 2))
    taken = process.take(2)
    assert process.commit_offset == 0
    process.give_back(taken)
    assert [m.queue_offset for m in process.take(3)] == [0, 1, 2]


def test_flow_control_names_its_reason() -> None:
    process = ProcessQueue(0)
    process.add(messages(0, 5))
    assert process.flow(FlowLimits(), orderly=False) is FlowControl.NONE
    assert process.flow(FlowLimits(messages=1), orderly=False) is FlowControl.MESSAGES
    assert process.flow(FlowLimits(bytes=9), orderly=False) is FlowControl.BYTES
    assert process.flow(FlowLimits(span=4), orderly=False) is FlowControl.SPAN
    assert process.flow(FlowLimits(span=4), orderly=True) is FlowControl.NONE


@given(st.lists(st.integers(0, 1), max_size=60), st.randoms(use_true_random=False))
def test_nothing_unfinished_is_ever_committed(steps: list[int], rng: random.Random) -> None:
    process = ProcessQueue(0)
    outstanding: dict[int, Message] = {}
    end = 0
    for step in steps:
        if step or not outstanding:
            (message,) = process.add(messages(end))
            outstanding[end] = message
            end += 1
        else:
            offset = rng.choice(sorted(outstanding))
            process.finish([outstanding.pop(offset)])
        assert process.commit_offset == min(outstanding, default=end)
        assert process.count == len(outstanding)
        assert process.size == 5 * len(outstanding)


# ---- messages ------------------------------------------------------------------------------------------------------


def stored(body: bytes, sys_flag: int = 0, topic: str = "T", properties: str = "") -> Message:
    record = encode_record(
        topic=topic.encode(),
        queue_id=1,
        queue_offset=2,
        offset_log=3,
        body=body,
        properties=properties.encode(),
        sys_flag=sys_flag,
        born_host=(b"\x7f\0\0\x01", 5),
        store_timestamp=4,
        store_host=(b"\x7f\0\0\x01", 10911),
    )
    return from_stored(decode_record(record), "broker-a")


def test_compressed_bodies_are_expanded() -> None:
    message = stored(compress(b"x" * 5000), SYS_COMPRESSED | SYS_COMPRESSION_ZLIB)
    assert (message.body, message.sys_flag & SYS_COMPRESSED, message.body_error) == (b"x" * 5000, 0, "")


def test_bodies_that_cannot_be_expanded_say_so() -> None:
    assert "LZ4" in stored(b"?", SYS_COMPRESSED | SYS_COMPRESSION_LZ4).body_error
    broken = stored(compress(b"x" * 5000)[:-4], SYS_COMPRESSED)
    assert broken.body_error
    assert broken.sys_flag & SYS_COMPRESSED


def test_a_retried_message_shows_its_own_topic() -> None:
    message = stored(b"x", topic="%RETRY%g", properties=encode_properties({"RETRY_TOPIC": "T"}))
    assert message.topic == "T"


def test_ids_are_unique_and_have_rocketmqs_shape() -> None:
    ids = UniqueIds("127.0.0.1", random.Random(1))
    given_ids = [ids.next(1_700_000_000_000 + number // 1000) for number in range(5000)]
    assert len(set(given_ids)) == 5000
    assert all(len(one) == 32 and one.startswith("7F000001") for one in given_ids)
    assert len(UniqueIds("::1", random.Random(1)).next(0)) == 56


def test_properties_of_a_message_to_send() -> None:
    text = properties_text("ID", tags="A", keys=("k1", "k2"), properties={"p": "v"}, delay_level=3, wait_store_ok=False)
    assert decode_properties(text) == {
        "UNIQ_KEY": "ID",
        "WAIT": "false",
        "p": "v",
        "TAGS": "A",
        "KEYS": "k1 k2",
        "DELAY": "3",
    }


# ---- settings ------------------------------------------------------------------------------------------------------


def test_name_servers_are_read_and_bad_ones_named() -> None:
    assert parse_name_servers("a:1; b:2 ,c:3") == ("a:1", "b:2", "c:3")
    for text in ("a", "a:", ":1", "a:0", "a:70000", "a:1;b", ""):
        with pytest.raises(ClientConfigError, match="host:port"):
            parse_name_servers(text)


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ClientConfigError, match="name_servers"):
        ClientConfig(name_servers=())
    with pytest.raises(ClientConfigError, match="route_query_after_s"):
        ClientConfig(name_servers=("a:1",), route_query_after_s=0)
    with pytest.raises(ClientConfigError, match="retries"):
        ClientConfig(name_servers=("a:1",), retries=-1)
