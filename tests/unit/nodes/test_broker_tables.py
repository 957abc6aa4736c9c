"""The pure tables: topics, groups, offsets, clients, locks, parked pulls, delay levels, retries, pull answers."""

import pytest

from nodes.broker.bodies import BodyError, ConsumerData, Heartbeat, ProducerData, bare_key_map, decode, encode
from nodes.broker.consumer_groups import ClientTable
from nodes.broker.consumer_offsets import ConsumerOffsets
from nodes.broker.delay import DelayLevels, DelayProgress
from nodes.broker.locks import LockTable, QueueName
from nodes.broker.long_polling import Parked, ParkingTable
from nodes.broker.names import group_name_problem, sendable_problem, topic_name_problem
from nodes.broker.pull_decision import Look, answer, look_at, moved_by_epoch
from nodes.broker.retry import plan_resend, plan_retry
from nodes.broker.subscription import Subscription, SubscriptionError, acceptor, parse_tags
from nodes.broker.subscription_groups import GroupConfig, GroupTable
from nodes.broker.topics import TopicConfig, TopicTable, default_topics
from nodes.remoting.message import tag_hash


def table() -> TopicTable:
    topics = TopicTable()
    topics.ensure(default_topics("C", "broker-a", auto_create=True, delay_levels=18), 1000)
    return topics


def test_default_topics_are_those_of_rocketmq() -> None:
    topics = table()
    assert set(topics.names()) == {
        "TBW102",
        "SELF_TEST_TOPIC",
        "BenchmarkTest",
        "C",
        "broker-a",
        "OFFSET_MOVED_EVENT",
        "SCHEDULE_TOPIC_XXXX",
        "C_REPLY_TOPIC",
    }
    assert topics.get("TBW102") == TopicConfig("TBW102", 8, 8, 7)
    assert topics.users("C", "broker-a") == []


def test_a_send_creates_a_topic_after_its_template() -> None:
    topics = table()
    before = topics.version
    assert topics.create_for_send("T", "TBW102", 4, 2000) == TopicConfig("T", 4, 4, 6)
    assert topics.create_for_send("U", "TBW102", 99, 2000) == TopicConfig("U", 8, 8, 6)
    assert topics.create_for_send("V", "T", 4, 2000) is None, "a created topic is no template"
    assert topics.create_for_send("V", "absent", 4, 2000) is None
    assert topics.version.counter == before.counter + 2


def test_topic_version_moves_with_every_change_and_survives_a_round_trip() -> None:
    topics = table()
    versions = [topics.version]
    topics.put(TopicConfig("T"), 2000)
    versions.append(topics.version)
    topics.remove("T", 1500)
    versions.append(topics.version)
    assert not topics.remove("T", 1500)
    assert topics.version == versions[-1]
    assert [version.counter for version in versions] == sorted({version.counter for version in versions})
    assert versions[2].timestamp >= versions[1].timestamp, "a clock that jumps back does not lower the version"
    other = TopicTable()
    other.load(topics.document())
    assert other.version == topics.version
    assert other.names() == topics.names()


def test_topic_json_is_rocketmqs() -> None:
    assert encode(TopicConfig("T", 4, 5, 6)) == (
        b'{"topicName":"T","readQueueNums":4,"writeQueueNums":5,"perm":6,"topicFilterType":"SINGLE_TAG",'
        b'"topicSysFlag":0,"order":false,"attributes":{}}'
    )


@pytest.mark.parametrize("name", ["", "a b", "ünïcode", "x" * 128, "a/b"])
def test_bad_topic_names_are_named(name: str) -> None:
    assert topic_name_problem(name)


def test_good_names_pass() -> None:
    assert topic_name_problem("%RETRY%group-1_x") is None
    assert group_name_problem("g" * 255) is None
    assert group_name_problem("g" * 256)
    assert sendable_problem("SCHEDULE_TOPIC_XXXX")
    assert sendable_problem("BenchmarkTest") is None


def test_groups_are_created_on_demand_only_if_allowed() -> None:
    groups = GroupTable()
    assert groups.find("g", create=False, now_ms=1) is None
    assert groups.find("g", create=True, now_ms=1) == GroupConfig("g")
    assert groups.version.counter == 1
    copy = GroupTable()
    copy.load(groups.document())
    assert copy.get("g") == GroupConfig("g")
    assert groups.remove("g", 2)
    assert not groups.remove("g", 2)


def test_committed_offsets_are_cut_to_the_end_of_the_queue() -> None:
    offsets = ConsumerOffsets()
    offsets.commit("g", "T", 0, 100)
    offsets.commit("g", "T", 1, 5)
    offsets.commit("h", "U", 0, 7)
    cut = offsets.clamp(lambda topic, queue_id: 60 if topic == "T" else 7)
    assert cut == [("T@g", 0, 100, 60)]
    assert offsets.get("g", "T", 0) == 60
    assert offsets.get("g", "T", 1) == 5
    assert offsets.get("h", "U", 0) == 7


def test_offsets_are_bounded() -> None:
    offsets = ConsumerOffsets(limit=2)
    assert offsets.commit("g", "T", 0, 1)
    assert offsets.commit("g", "T", 1, 1)
    assert not offsets.commit("g", "T", 2, 1)
    assert offsets.commit("g", "T", 1, 2), "a known one moves on"
    offsets.forget(group="g")
    assert offsets.commit("h", "T", 2, 1)


def test_offsets_forget_and_list() -> None:
    offsets = ConsumerOffsets()
    offsets.commit("g", "T", 0, 3)
    offsets.commit("g", "T", 1, 4)
    offsets.commit("g", "U", 0, 9)
    assert offsets.queues_of("g", "T") == {0: 3, 1: 4}
    assert offsets.topics_of("g") == ["T", "U"]
    assert offsets.groups_of("U") == ["g"]
    changes = offsets.changes
    offsets.commit("g", "U", 0, 9)
    assert offsets.changes == changes, "what is known already is no change"
    offsets.commit("g", "U", 0, 2)
    assert offsets.get("g", "U", 0) == 2, "a consumer may rewind"
    offsets.forget(topic="U")
    assert offsets.get("g", "U", 0) is None
    offsets.forget(group="g")
    assert list(offsets) == []


def beat(client: str, *topics: Subscription, producer: str = "") -> Heartbeat:
    consumers = [ConsumerData("g", subscription_data_set=list(topics))] if topics else []
    return Heartbeat(client, [ProducerData(producer)] if producer else [], consumers)


def test_members_come_go_and_expire() -> None:
    clients: ClientTable[str] = ClientTable()
    topic = parse_tags("T", "*", 1)
    assert clients.heartbeat(beat("c1", topic, producer="p"), "conn1", "a:1", "JAVA", 409, 0.0) == ["g"]
    assert clients.heartbeat(beat("c1", topic, producer="p"), "conn1", "a:1", "JAVA", 409, 50.0) == []
    assert clients.heartbeat(beat("c2", topic), "conn2", "a:2", "JAVA", 409, 60.0) == ["g"]
    group = clients.consumer_group("g")
    assert group is not None
    assert group.client_ids() == ["c1", "c2"]
    assert clients.groups_consuming("T") == ["g"]
    assert [client.client_id for client in clients.producers("p")] == ["c1"]
    assert clients.expire(175.0) == ["g"]
    assert group.client_ids() == ["c2"]
    assert clients.producers("p") == []
    assert clients.unregister("conn2", None, "g") == ["g"]
    assert clients.consumer_group("g") is None
    assert clients.closed("conn2") == []


def test_subscriptions_keep_the_highest_version() -> None:
    clients: ClientTable[str] = ClientTable()
    clients.heartbeat(beat("c", parse_tags("T", "A", 5)), "x", "a", "JAVA", 1, 0.0)
    clients.heartbeat(beat("c", parse_tags("T", "B", 4)), "x", "a", "JAVA", 1, 0.0)
    group = clients.consumer_group("g")
    assert group is not None
    assert group.subscriptions["T"].sub_string == "A"
    clients.heartbeat(beat("c", parse_tags("T", "B", 5)), "x", "a", "JAVA", 1, 0.0)
    assert group.subscriptions["T"].sub_string == "B", "an equal version counts"
    assert clients.heartbeat(beat("c", parse_tags("U", "*", 6)), "x", "a", "JAVA", 1, 0.0) == ["g"]
    assert list(group.subscriptions) == ["U"]


def test_tags_become_hashes() -> None:
    subscription = parse_tags("T", " TagA || TagB||TagA ", 7)
    assert subscription.tags_set == ["TagA", "TagB"]
    accept = acceptor(subscription)
    assert accept is not None
    assert accept(tag_hash("TagB"))
    assert not accept(tag_hash("TagC"))
    assert acceptor(parse_tags("T", "*")) is None
    assert acceptor(parse_tags("T", None)) is None
    with pytest.raises(SubscriptionError):
        parse_tags("T", "||")


def test_locks_belong_to_one_client_until_they_expire() -> None:
    locks = LockTable()
    one, two = QueueName("T", "b", 0), QueueName("T", "b", 1)
    assert locks.lock("g", "c1", [one], 0.0) == [one]
    assert locks.lock("g", "c2", [one, two], 1.0) == [two]
    assert locks.lock("h", "c2", [one], 1.0) == [one], "groups do not share locks"
    assert locks.lock("g", "c1", [one], 50.0) == [one]
    assert locks.lock("g", "c2", [one], 110.0) == []
    assert locks.lock("g", "c2", [one], 110.1) == [one]
    locks.unlock("g", "c1", [one])
    assert locks.lock("g", "c1", [one], 111.0) == []
    locks.unlock("g", "c2", [one])
    assert locks.lock("g", "c1", [one], 111.0) == [one]
    locks.clear()
    assert locks.lock("g", "c2", [one], 111.0) == [one]


def parked(offset: int, deadline: float = 10.0, owner: str = "x", tag: str | None = None) -> Parked[str]:
    accept = None if tag is None else frozenset({tag_hash(tag)}).__contains__
    return Parked(offset, deadline, owner, accept, f"pull at {offset}")


def test_parked_pulls_wake_on_arrival_filter_deadline_and_close() -> None:
    table: ParkingTable[str] = ParkingTable(limit=4)
    assert table.park("T", 0, parked(5))
    assert table.park("T", 0, parked(5, tag="A"))
    assert table.park("T", 0, parked(6, owner="y"))
    assert table.park("T", 1, parked(5, deadline=3.0))
    assert not table.park("T", 1, parked(9)), "the table is bounded"
    assert [pull.offset for pull in table.arrived("T", 0, 6, tag_hash("B"))] == [5]
    assert table.arrived("T", 9, 6, 0) == []
    assert [pull.accept is None for pull in table.arrived("T", 0, 6, tag_hash("A"))] == [False]
    assert [pull.deadline for pull in table.expired(3.0)] == [3.0]
    assert table.abandoned("y") == 1
    assert len(table) == 0
    table.park("T", 0, parked(1))
    assert len(table.all()) == 1
    assert len(table) == 0


def test_delay_levels_and_progress() -> None:
    levels = DelayLevels((1000, 5000))
    assert [levels.clamp(level) for level in (0, 1, 2, 3, 99)] == [0, 1, 2, 2, 2]
    assert levels.wait_ms(2) == 5000
    progress = DelayProgress()
    progress.delivered(1, 7)
    progress.delivered(2, 3)
    progress.clamp({1: 5, 2: 9})
    assert progress.document().offset_table == {1: 5, 2: 3}


@pytest.mark.parametrize(
    ("tried", "level", "topic", "stored_level"),
    [
        (0, 0, "%RETRY%g", 3),
        (1, 0, "%RETRY%g", 4),
        (0, 5, "%RETRY%g", 5),
        (15, 0, "%RETRY%g", 18),
        (16, 0, "%DLQ%g", 0),
        (0, -1, "%DLQ%g", 0),
    ],
)
def test_retry_goes_on_until_the_maximum(tried: int, level: int, topic: str, stored_level: int) -> None:
    plan = plan_retry("g", tried, 16, level)
    assert (plan.topic, plan.delay_level, plan.reconsume_times) == (topic, stored_level, tried + 1)
    assert plan.dead == topic.startswith("%DLQ%")


def test_a_consumer_that_resends_itself_is_stopped_too() -> None:
    assert plan_resend("g", 16, 16) is None
    assert plan_resend("g", 17, 16) == "%DLQ%g"


@pytest.mark.parametrize(
    ("asked", "begin", "end", "code", "next_offset"),
    [
        (0, 0, 0, 19, 0),
        (5, 0, 0, 21, 0),
        (2, 3, 9, 21, 3),
        (9, 3, 9, 19, 9),
        (10, 3, 9, 21, 9),
    ],
)
def test_bounds_decide_on_a_master_as_in_rocketmq(
    asked: int, begin: int, end: int, code: int, next_offset: int
) -> None:
    look = look_at(asked, begin, end)
    assert look is not None
    reply = answer(look, asked, asked, begin, end, correct=True)
    assert (reply.code, reply.next_offset) == (code, next_offset)
    waiting = answer(look, asked, asked, begin, end, correct=False)
    assert (waiting.code, waiting.next_offset) == (19, asked), "a replica lets consumers wait and never spin"


def test_entries_decide_about_found_and_filtered() -> None:
    assert look_at(3, 3, 9) is None
    assert answer(Look.FOUND, 3, 5, 0, 9, correct=True).code == 0
    filtered = answer(Look.NO_MATCHED_MESSAGE, 3, 9, 0, 9, correct=True)
    assert (filtered.code, filtered.next_offset) == (20, 9)


def test_a_reader_of_a_lost_log_is_sent_back_to_the_fork() -> None:
    epochs = [(1, 0), (2, 1000), (4, 2000)]
    starts = {0: 0, 1000: 10, 2000: 20}.__getitem__
    assert moved_by_epoch(15, 1, epochs, starts) == 10
    assert moved_by_epoch(10, 1, epochs, starts) is None
    assert moved_by_epoch(25, 2, epochs, starts) == 20
    assert moved_by_epoch(25, 4, epochs, starts) is None
    assert moved_by_epoch(25, 1, epochs, starts) == 10, "the first unseen epoch decides"


def test_bodies_are_read_tolerantly_and_refused_clearly() -> None:
    read = decode(
        b'{"clientID":"c","heartbeatFingerprint":0,"withoutSub":false,"producerDataSet":[{"groupName":"P"}],'
        b'"consumerDataSet":[{"groupName":"g","messageModel":"CLUSTERING","subscriptionDataSet":'
        b'[{"classFilterMode":false,"codeSet":[2598919],"subString":"TagA","subVersion":17,"tagsSet":["TagA"],"topic":"T"}]'
        b"}]}",
        Heartbeat,
    )
    assert read.client_id == "c"
    assert read.consumer_data_set[0].subscription_data_set[0].code_set == [2598919]
    with pytest.raises(BodyError, match="Heartbeat"):
        decode(b"{", Heartbeat)
    assert encode({"t": bare_key_map([(QueueName("T", "b", 1), 5)])}) == (
        b'{"t":{{"brokerName":"b","queueId":1,"topic":"T"}:5}}'
    )
