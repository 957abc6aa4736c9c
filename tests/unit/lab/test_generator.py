"""Schedules of operations and faults: seeded, open loop, within their limits."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import PlanError
from lab.generator import FaultPlan, Kind, Op, fault_schedule, log_schedule, send_schedule, threads_of
from lab.plan import Plan
from lab.planfile import build_plan
from lab.randomness import child
from lab.topology import topology_of
from nemesis.catalogue import parse

FAULTS = ["kill:master", "pause:one", "partition:halves"]


def plan(**tables: object) -> Plan:
    return build_plan(tables, "plan.toml")


def all_operations(built: Plan, seed: int) -> list[list[Op]]:
    threads = threads_of(built, topology_of(built))
    return [list(send_schedule(built, seed, thread)) for thread in threads.of(Kind.SEND)]


def test_the_same_seed_gives_the_same_schedule() -> None:
    """Of operations and of faults; another seed gives another one."""
    built = plan(time_limit="10s", cluster={"groups": 2}, nemesis={"faults": FAULTS})
    assert all_operations(built, 5) == all_operations(built, 5)
    assert all_operations(built, 5) != all_operations(built, 6)
    assert fault_schedule(built, 5) == fault_schedule(built, 5)
    assert fault_schedule(built, 5) != fault_schedule(built, 6)


def test_streams_of_chance_are_independent() -> None:
    """A stream depends on the seed and its own name only."""
    assert child(1, "a").random() == child(1, "a").random()
    assert len({child(1, "a").random(), child(1, "b").random(), child(2, "a").random()}) == 3


def test_sends_keep_the_rate_and_spread_over_queues() -> None:
    """All threads together send at the plan's rate; every queue gets the same share within one deck."""
    built = plan(time_limit="10s", load={"rate": 300, "clients": 6}, cluster={"groups": 2})
    operations = [op for ops in all_operations(built, 1) for op in ops]
    assert abs(len(operations) - 3000) <= 6
    counts = {queue: sum(op.queue == queue for op in operations) for queue in topology_of(built).queues}
    assert max(counts.values()) - min(counts.values()) <= 6
    for thread in all_operations(built, 1):
        times = [op.at_ns for op in thread]
        assert all(0 <= a < b < built.time_limit.ns for a, b in pairwise(times))
        assert [op.counter for op in thread] == list(range(len(times)))


def test_the_log_workload_mixes_its_operations() -> None:
    """Mostly appends, some reads, some ends."""
    built = plan(time_limit="10s", load={"workload": "log", "rate": 500, "clients": 2})
    thread = threads_of(built, topology_of(built)).of(Kind.LOG)[0]
    kinds = [op.f for op in log_schedule(built, 3, thread)]
    assert set(kinds) == {"append", "read", "end"}
    assert kinds.count("append") > kinds.count("read") > kinds.count("end") > 0


@given(seed=st.integers(0, 2**31), limit=st.integers(10, 600), count=st.integers(0, 40))
def test_drawn_faults_fit_any_time_limit(seed: int, limit: int, count: int) -> None:
    """Quiet before and after, no overlap unless asked for, at least one fault, none left open."""
    built = plan(time_limit=limit, nemesis={"faults": FAULTS, "count": count})
    faults = fault_schedule(built, seed)
    assert faults
    assert faults[0].at_ns >= 2_000_000_000
    ends = [fault.heal_ns for fault in faults if fault.heal_ns is not None]
    assert len(ends) == len(faults)
    assert max(ends) <= built.time_limit.ns - 2_000_000_000
    assert all(a.heal_ns is not None and a.heal_ns <= b.at_ns for a, b in pairwise(faults))


def test_written_faults_come_in_the_order_of_their_times() -> None:
    """With their ids, words and options; without ``for`` they stay open."""
    built = plan(
        fault=[
            {"kind": "promote", "target": "broker-a/slave", "at": "9s"},
            {"kind": "kill", "target": "master", "at": "3s", "for": "2s", "id": "first"},
            {"kind": "destroy", "target": "slave", "at": "4s", "options": {"rejoin": True, "after": "1s"}},
        ]
    )
    assert fault_schedule(built, 1) == (
        FaultPlan("first", "kill:master", 3_000_000_000, 5_000_000_000),
        FaultPlan("f3", "destroy:slave,after=1s,rejoin=yes", 4_000_000_000, None),
        FaultPlan("f1", "promote:broker-a/slave", 9_000_000_000, None),
    )


@pytest.mark.parametrize(("groups", "consumers"), [(1, 1), (1, 3), (2, 1), (2, 2), (3, 5), (2, 7)])
def test_every_queue_has_one_consumer_thread(groups: int, consumers: int) -> None:
    """Commits of one (group, queue) come from one process at a time."""
    built = plan(cluster={"groups": groups}, load={"consumers": consumers})
    topology = topology_of(built)
    threads = threads_of(built, topology)
    owned = [queue for thread in threads.of(Kind.PULL) for queue in thread.queues]
    assert sorted(map(str, owned)) == sorted(map(str, topology.queues))
    assert [thread.number for thread in threads.all] == list(range(len(threads)))
    drains = [thread.queues[0] for thread in threads.of(Kind.DRAIN)]
    assert drains == list(topology.queues)


def test_a_push_consumer_is_two_threads() -> None:
    """Its pulls are one process of the history, its handler calls another, side by side on one host."""
    built = plan(load={"consume": "push", "consumers": 2})
    threads = threads_of(built, topology_of(built)).of(Kind.PUSH, Kind.HANDLE)
    assert [thread.kind for thread in threads] == [Kind.PUSH, Kind.HANDLE] * 2
    assert [threads[n].host == threads[n + 1].host for n in (0, 2)] == [True, True]


def test_the_options_of_a_written_fault_are_words_of_the_catalogue() -> None:
    """A table of options asks for the same fault as the words behind commas do; none is passed over."""
    written = plan(
        fault=[
            {"kind": "partition", "target": "isolate-master", "at": "3s", "options": {"clients": "split"}},
            {"kind": "destroy", "at": "4s", "options": {"rejoin": True}},
        ]
    )
    specs = [fault.spec for fault in fault_schedule(written, 1)]
    assert specs == ["partition:isolate-master,clients=split", "destroy,rejoin=yes"]
    assert not parse(specs[1]).permanent


def test_a_fault_comes_again_and_again_each_healed_before_the_next() -> None:
    """A leader in a loop: as often as the period fits, written or drawn."""
    tables = {"time_limit": "30s", "fault": [{"kind": "kill:leader", "at": "4s", "for": "10s", "every": "3s"}]}
    faults = fault_schedule(build_plan(tables, "t"), 1)
    assert [(fault.id, fault.spec) for fault in faults] == [(f"f1.{turn}", "kill:leader") for turn in (1, 2, 3)]
    assert [fault.at_ns // 10**9 for fault in faults] == [4, 7, 10]
    assert all(fault.heal_ns is not None and fault.heal_ns - fault.at_ns == 1_800_000_000 for fault in faults)
    drawn = {"time_limit": "40s", "nemesis": {"faults": ["kill:leader,every=2s"], "count": 1, "lasting": "9s"}}
    again = fault_schedule(build_plan(drawn, "t"), 1)
    assert [fault.spec for fault in again] == ["kill:leader"] * 4


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"kind": "kill", "at": "4s", "every": "3s"}, "must say for how long"),
        ({"kind": "kill", "at": "4s", "for": "9s", "every": "300ms"}, "1s at least"),
        ({"kind": "kill:leader,every=soon", "at": "4s", "for": "9s"}, "for example 30s"),
    ],
)
def test_a_senseless_repetition_is_refused(fault: dict[str, object], words: str) -> None:
    """With what is wrong and how to write it."""
    with pytest.raises(PlanError, match=words):
        fault_schedule(build_plan({"fault": [fault]}, "t"), 1)
