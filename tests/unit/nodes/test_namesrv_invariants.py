"""Whatever brokers do, in whatever order, the routing table never contradicts itself."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.namesrv.registration import DataVersion, RegistrationBody, TopicConfig
from nodes.namesrv.routes import Registration, RegistrationRefused, Routes

ADDRESSES = ("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1")
NAMES = ("broker-a", "broker-b")
TOPICS = ("TBW102", "T", "U")

REGISTER = st.tuples(
    st.just("register"),
    st.sampled_from(ADDRESSES),
    st.sampled_from(NAMES),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 2),
    st.sets(st.sampled_from(TOPICS), min_size=2),
    st.sampled_from(("c1", "c2", "c3")),
    st.sampled_from((None, False, True)),
)
STEPS = st.lists(
    st.one_of(
        REGISTER,
        REGISTER,
        st.tuples(st.just("unregister"), st.sampled_from(ADDRESSES), st.sampled_from(NAMES)),
        st.tuples(st.just("close"), st.sampled_from(("c1", "c2", "c3"))),
        st.tuples(st.just("wait"), st.integers(1, 900)),
        st.tuples(st.just("expire")),
        st.tuples(st.just("delete"), st.sampled_from(TOPICS)),
    ),
    max_size=40,
)


def check(table: Routes, now_ms: int) -> None:
    held: dict[str, tuple[str, int]] = {}
    for group in table.groups():
        assert group.addresses, "a group without brokers is gone"
        for broker_id, address in group.addresses.items():
            assert address not in held, "an address has one id in one group"
            held[address] = (group.name, broker_id)
    live = {broker.address: (broker.name, broker.broker_id) for broker in table.brokers()}
    assert live == held, "who is live is routed and the other way round"
    assert sorted(name for names in table.clusters().values() for name in names) == sorted(
        {n for n, _ in held.values()}
    )
    for topic in table.topics():
        found = table.route(topic)
        assert found is not None, "a listed topic has a route"
        assert {queue.broker_name for queue in found.queues} == {group.name for group in found.groups}
        for group in found.groups:
            if group.acting_master and 0 not in group.addresses:
                [queue] = [queue for queue in found.queues if queue.broker_name == group.name]
                assert not queue.perm & 2, "without a master such a group takes no writes"


@settings(max_examples=300, deadline=None, derandomize=True)
@given(STEPS)
def test_the_table_never_contradicts_itself(steps: list[tuple[object, ...]]) -> None:
    table = Routes(expired_time_ms=1000)
    now_ms = 0
    for step in steps:
        match step:
            case (
                "register",
                str(address),
                str(name),
                int(broker_id),
                int(counter),
                int(state),
                set(topics),
                str(link),
                None | bool() as acting,
            ):
                configs = {str(topic): TopicConfig(str(topic), 4, 4, 6) for topic in topics}
                body = RegistrationBody(configs, DataVersion(counter, state, 0))
                asked = Registration("C", name, broker_id, address, "", body, acting_master=acting)
                held = table.group(name)
                before = None if held is None else held.addresses.get(broker_id)
                try:
                    done = table.register(asked, now_ms, link)
                except RegistrationRefused:
                    continue
                group = table.group(name)
                if done.dropped:
                    assert before not in (None, address)
                    assert group is not None
                    assert group.addresses[broker_id] == before
                else:
                    assert group is not None
                    assert group.addresses[broker_id] == address
                    if broker_id == 0:
                        assert set(configs) <= set(table.topics())
            case ("unregister", str(address), str(name)):
                table.unregister("C", name, address, now_ms)
            case ("close", str(link)):
                table.connection_closed(link, now_ms)
                assert all(broker.connection != link for broker in table.brokers())
            case ("wait", int(ms)):
                now_ms += ms
            case ("expire",):
                table.expire(now_ms)
                assert all(now_ms - broker.seen_ms <= 1000 for broker in table.brokers())
            case ("delete", str(topic)):
                table.delete_topic(topic)
            case other:
                raise AssertionError(f"no step: {other}")
        check(table, now_ms)
    table.expire(now_ms + 1001)
    assert (table.brokers(), table.topics(), table.clusters()) == ([], [], {})
