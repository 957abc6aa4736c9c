"""What a history says of a group that elects, and in which words it promises."""

import pytest

from lab.meta import group_value, progress, promise, routing
from lab.plan import Plan
from lab.planfile import build_plan
from lab.topology import Group, settings_of


def plan(broker: dict[str, object] | None = None, **cluster: object) -> Plan:
    return build_plan({"cluster": {"mode": "dledger", **cluster}, "broker": broker or {}}, "t")


@pytest.mark.parametrize(("replicas", "quorum"), [(1, 1), (3, 2), (5, 3), (7, 4)])
def test_a_group_that_elects_promises_a_majority(replicas: int, quorum: int) -> None:
    """Copies are the quorum, and everybody votes."""
    nodes = tuple(f"broker-a-{number}" for number in range(replicas))
    value = group_value(plan(replicas=replicas), Group("broker-a", nodes, ("broker-a-9",)))
    assert (value["copies"], value["quorum"], value["voters"]) == (quorum, quorum, list(nodes))
    assert value["learners"] == ["broker-a-9"]
    assert (value["flush"], value["elects"]) == ("SYNC_FLUSH", "majority")


def test_the_weaker_promise_is_named() -> None:
    """ASYNC_FLUSH keeps nothing through a loss of power, and every report says so."""
    strong, weak = plan(), plan({"flushDiskType": "ASYNC_FLUSH"})
    assert promise(strong, settings_of(strong, master=True)) == "SEND_OK: synced to the disks of 2 of 3 replicas"
    assert "weaker" in promise(weak, settings_of(weak, master=True))
    assert promise(build_plan({}, "t"), {}) == ""
    assert group_value(weak, Group("g", ("a", "b", "c"), ()))["flush"] == "ASYNC_FLUSH"


def test_slow_heartbeats_explain_a_longer_grace() -> None:
    """Ours are within the grace; RocketMQ's own timers are not, and the history says why."""
    ours, theirs = plan(), plan({"heartBeatTimeIntervalMs": 2000})
    assert progress(ours, settings_of(ours, master=True)) == {"grace_s": 3.0, "window_s": 2.0}
    slow = progress(theirs, settings_of(theirs, master=True))
    assert slow["grace_s"] == 15.0
    assert "heartBeatTimeIntervalMs" in slow["because"]


def test_late_elections_explain_a_longer_grace() -> None:
    """With our heartbeats too: a follower that may wait for ten seconds is not stalled after three."""
    late = plan({"minElectTimeIntervalMs": 500, "maxElectTimeIntervalMs": 10_000})
    found = progress(late, settings_of(late, master=True))
    assert found["grace_s"] == 21.0
    assert "maxElectTimeIntervalMs: a leader may be silent for 10 s" in found["because"]
    early = plan({"maxElectTimeIntervalMs": 800})
    assert progress(early, settings_of(early, master=True))["grace_s"] == 3.0


def test_timers_of_routes_follow_from_the_settings() -> None:
    """Those that the plan sets; the others are the name server's own."""
    built = build_plan(
        {"namesrv": {"brokerChannelExpiredTime": 9000}, "broker": {"registerNameServerPeriod": 4000}}, "t"
    )
    assert routing(built, settings_of(built, master=True)) == {"register_s": 4.0, "expiry_s": 9.0}
