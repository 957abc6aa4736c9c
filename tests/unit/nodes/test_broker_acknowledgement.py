"""The acknowledgement rule: no reply leaves before its promise, and each status is said exactly when it applies."""

import random

import pytest

from nodes.broker.acknowledgement import PendingReplies, Positions, Rule, Status, copies_promised, rule_for
from nodes.config import BrokerRole, FlushDiskType
from nodes.flaws import Flaw

ASYNC, SYNC, SLAVE = BrokerRole.ASYNC_MASTER, BrokerRole.SYNC_MASTER, BrokerRole.SLAVE


@pytest.mark.parametrize(
    ("role", "in_sync_replicas", "copies"),
    [(ASYNC, None, 1), (ASYNC, 3, 1), (SYNC, None, 2), (SYNC, 1, 1), (SYNC, 2, 2), (SYNC, 3, 3), (SLAVE, None, 1)],
)
def test_copies_follow_role_and_in_sync_replicas(role: BrokerRole, in_sync_replicas: int | None, copies: int) -> None:
    """Absent means one slave as in 4.9; a number counts the master as in 5.x."""
    assert copies_promised(role, in_sync_replicas) == copies


def replies(rule: Rule) -> PendingReplies[str]:
    return PendingReplies(rule)


def taken(pending: PendingReplies[str], flushed: int, replicated: int, now: float) -> list[tuple[str, Status]]:
    return list(pending.take(Positions(flushed, replicated), now))


def test_asynchronous_master_waits_for_nothing() -> None:
    pending = replies(rule_for(ASYNC, FlushDiskType.ASYNC_FLUSH, None))
    assert pending.rule.immediate
    pending.add(100, "a", 0.0, replicas_usable=False)
    assert taken(pending, 0, 0, 0.0) == [("a", Status.SEND_OK)]


def test_sync_flush_waits_for_the_fsync_then_gives_up_truthfully() -> None:
    pending = replies(rule_for(ASYNC, FlushDiskType.SYNC_FLUSH, None))
    pending.add(100, "a", 0.0, replicas_usable=False)
    pending.add(200, "b", 1.0, replicas_usable=False)
    assert taken(pending, 99, 0, 0.1) == []
    assert taken(pending, 100, 0, 0.2) == [("a", Status.SEND_OK)]
    assert pending.deadline() == 6.0
    assert taken(pending, 199, 0, 5.9) == []
    assert taken(pending, 199, 0, 6.0) == [("b", Status.FLUSH_DISK_TIMEOUT)]
    assert len(pending) == 0
    assert pending.deadline() is None


def test_sync_master_waits_for_the_replica() -> None:
    pending = replies(rule_for(SYNC, FlushDiskType.ASYNC_FLUSH, None))
    pending.add(100, "a", 0.0, replicas_usable=True)
    assert taken(pending, 1000, 99, 2.9) == []
    assert taken(pending, 0, 100, 2.9) == [("a", Status.SEND_OK)]
    pending.add(200, "b", 3.0, replicas_usable=True)
    assert taken(pending, 1000, 199, 6.0) == [("b", Status.FLUSH_SLAVE_TIMEOUT)]


def test_no_usable_replica_is_said_at_once() -> None:
    pending = replies(rule_for(SYNC, FlushDiskType.ASYNC_FLUSH, None))
    pending.add(100, "a", 0.0, replicas_usable=True)
    pending.add(200, "b", 0.0, replicas_usable=False)
    assert taken(pending, 0, 0, 0.0) == [("b", Status.SLAVE_NOT_AVAILABLE)]


def test_a_replica_problem_overrides_a_disk_problem() -> None:
    rule = rule_for(SYNC, FlushDiskType.SYNC_FLUSH, None)
    pending = replies(rule)
    pending.add(100, "neither", 0.0, replicas_usable=True)
    pending.add(200, "no replica", 0.0, replicas_usable=False)
    assert taken(pending, 0, 0, 3.0) == []
    assert taken(pending, 0, 0, 5.0) == [
        ("no replica", Status.SLAVE_NOT_AVAILABLE),
        ("neither", Status.FLUSH_SLAVE_TIMEOUT),
    ]
    pending.add(300, "replicated only", 10.0, replicas_usable=True)
    assert taken(pending, 0, 300, 14.9) == []
    assert taken(pending, 0, 300, 15.0) == [("replicated only", Status.FLUSH_DISK_TIMEOUT)]
    pending.add(400, "synced only", 20.0, replicas_usable=True)
    assert taken(pending, 400, 300, 23.0) == [("synced only", Status.FLUSH_SLAVE_TIMEOUT)]


def test_a_late_replica_does_not_turn_a_timeout_into_success() -> None:
    """The replica's part was decided at its deadline; the disk alone is waited for afterwards."""
    pending = replies(rule_for(SYNC, FlushDiskType.SYNC_FLUSH, None))
    pending.add(100, "a", 0.0, replicas_usable=True)
    assert taken(pending, 0, 0, 3.0) == []
    assert taken(pending, 100, 100, 3.1) == [("a", Status.FLUSH_SLAVE_TIMEOUT)]


def test_a_demoted_master_gives_the_weaker_status() -> None:
    pending = replies(rule_for(SYNC, FlushDiskType.SYNC_FLUSH, None))
    pending.add(100, "replicated", 0.0, replicas_usable=True)
    pending.add(200, "alone", 0.0, replicas_usable=True)
    pending.add(300, "no replica", 0.0, replicas_usable=False)
    assert list(pending.abandon(Positions(0, 100))) == [
        ("replicated", Status.FLUSH_DISK_TIMEOUT),
        ("alone", Status.FLUSH_SLAVE_TIMEOUT),
        ("no replica", Status.SLAVE_NOT_AVAILABLE),
    ]
    assert len(pending) == 0


def test_a_failed_store_says_nothing() -> None:
    pending = replies(rule_for(SYNC, FlushDiskType.SYNC_FLUSH, None))
    pending.add(100, "a", 0.0, replicas_usable=True)
    pending.add(200, "b", 0.0, replicas_usable=False)
    assert pending.drop() == ["a", "b"]
    assert len(pending) == 0


def broken_promises(rule: Rule, promised: Rule, seed: int) -> int:
    """Random positions and times: how many SEND_OK left although `promised` did not hold."""
    rng = random.Random(seed)
    pending: PendingReplies[int] = PendingReplies(rule)
    end = flushed = replicated = broken = answered = 0
    now = 0.0
    for _ in range(2000):
        for _ in range(rng.randrange(4)):
            end += rng.randrange(1, 500)
            pending.add(end, end, now, replicas_usable=rng.random() < 0.8)
        flushed = min(end, flushed + rng.randrange(600))
        replicated = min(end, replicated + rng.randrange(600))
        now += rng.random() / 4
        for message, status in pending.take(Positions(flushed, replicated), now):
            answered += 1
            if status is Status.SEND_OK:
                broken += promised.flush and message > flushed
                broken += promised.copies > 1 and message > replicated
    assert answered > 1000
    assert list(pending.take(Positions(end, end), now + 100)) or not len(pending)
    assert len(pending) == 0
    return broken


@pytest.mark.parametrize("role", [ASYNC, SYNC])
@pytest.mark.parametrize("flush", list(FlushDiskType))
def test_send_ok_never_leaves_before_its_promise(role: BrokerRole, flush: FlushDiskType) -> None:
    rule = rule_for(role, flush, None)
    assert sum(broken_promises(rule, rule, seed) for seed in range(10)) == 0


@pytest.mark.flaws
@pytest.mark.parametrize("flaw", [Flaw.REPLY_BEFORE_FSYNC, Flaw.REPLY_BEFORE_REPLICA])
def test_planted_early_replies_are_noticed(flaw: Flaw) -> None:
    promised = rule_for(SYNC, FlushDiskType.SYNC_FLUSH, None)
    flawed = rule_for(SYNC, FlushDiskType.SYNC_FLUSH, None, flaws=frozenset({flaw}))
    assert broken_promises(flawed, promised, seed=1) > 0
