"""A member acknowledges what it has compared, and nothing for its being committed here: disks may have lied elsewhere.

Under ASYNC_FLUSH a majority that loses power can elect a leader without what others hold as committed. Then a member
must find out, stop and say so. Believing that both logs agree there would splice them in the middle of a record.
"""

from __future__ import annotations

import pytest

from nodes.replication.raft.membership import Membership, MembershipRow
from nodes.replication.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Knock,
    PreVote,
    PreVoteReply,
    Reseed,
    Stranger,
)
from nodes.replication.raft.orders import HardState, Head, RaftError
from nodes.replication.raft.terms import TermRow
from tests.unit.nodes.raft_by_hand import ABC, core, leader, of, save


def test_a_leader_that_lost_what_is_committed_here_is_found_out_when_its_records_come() -> None:
    raft = core(hard=HardState(5, "", True), committed=80)
    (reply,) = of(AppendReply, raft.receive(Append("b", "a", 5, 50, 1, 1, 50, 0), 0.1))
    assert isinstance(reply, AppendReply)
    assert (reply.accepted, reply.match, reply.end) == (True, 50, 50), "the leader goes on from there"
    with pytest.raises(RaftError, match="acknowledged records were lost on a majority of disks"):
        raft.receive(Append("b", "a", 5, 50, 1, 5, 70, 0), 0.2)
    assert raft.end == 100, "nothing was cut"


def test_nothing_is_acknowledged_in_a_term_before_something_was_compared() -> None:
    raft = core(hard=HardState(5, "", True), committed=80, stable=90)
    raft.receive(Heartbeat("b", "a", 5, 100), 0.1)
    ready = raft.stable(100, raft.generation, 0.2)
    assert of(AppendReply, ready) == []
    assert ready.committed == 80


def test_a_re_seed_that_is_not_needed_is_answered_with_the_terms_and_not_believed() -> None:
    raft = core(hard=HardState(4, "", True), committed=80)
    head = Head(60, TermRow(2, 50), ABC)
    (reply,) = of(AppendReply, raft.receive(Reseed("b", "a", 4, head), 0.1))
    assert isinstance(reply, AppendReply)
    assert not reply.accepted
    assert reply.rows == (TermRow(1, 0), TermRow(3, 50))
    assert raft.end == 100


def test_a_member_that_was_started_anew_is_compared_again() -> None:
    """Its log is as long as before, but what it knew of the leader's is gone: without it, it would commit nothing."""
    follower = core()
    (reply,) = of(HeartbeatReply, follower.receive(Heartbeat("b", "a", 3, 100), 0.1))
    assert isinstance(reply, HeartbeatReply)
    assert (reply.end, follower.committed) == (0, 0)
    raft = leader()
    raft.receive(AppendReply("b", "a", 4, 110, accepted=True, match=110, end=110), 2.0)
    (probe,) = of(Append, raft.receive(HeartbeatReply("b", "a", 4, 0), 2.1))
    assert isinstance(probe, Append)
    assert (probe.prev, probe.end) == (110, 110)


# Who is no member.

AB = MembershipRow(60, Membership.of("a", "b"))


def test_a_stranger_that_asks_is_told_so_and_nobodys_term_changes() -> None:
    raft = core(committed=80, memberships=(ABC, AB))
    for ask in (Knock("c", "a", 9), PreVote("c", "a", 9, 9, 500)):
        (told,) = raft.receive(ask, 5.0).messages
        assert told == Stranger("a", "c", 3, 3, 80)
    assert (raft.term, raft.receive(Knock("b", "a", 9), 5.0).messages) == (3, ())


def test_who_may_still_be_a_member_is_not_turned_away() -> None:
    for raft in (
        core(committed=59, memberships=(ABC, AB)),  # its removal is not committed
        core(committed=80, memberships=(AB, MembershipRow(90, ABC.membership))),  # it may have been added again
        core(committed=80, memberships=(ABC, AB), hard=HardState(3, "", joined=False)),  # an emptied disk knows nothing
        core(committed=80, memberships=(MembershipRow(60, Membership.of("b", "d")),)),  # nor does a stranger
    ):
        assert of(Stranger, raft.receive(Knock("c", "a", 3), 5.0)) == []
        assert of(PreVoteReply, raft.receive(PreVote("c", "a", 4, 3, 100), 5.0)) != []


def test_what_one_node_is_configured_with_takes_no_other_one_out() -> None:
    """Its file may be wrong; only a node that belongs to no group yet believes it."""
    raft = core(committed=80, memberships=(MembershipRow(0, AB.membership),))
    assert of(Stranger, raft.receive(Knock("c", "a", 3), 5.0)) == []
    assert of(PreVoteReply, raft.receive(PreVote("c", "a", 4, 3, 100), 5.0)) != []
    assert of(Stranger, raft.receive(PreVote("c", "a", 4, 0, 0, joined=False), 5.0)) != []


@pytest.mark.parametrize(
    ("told", "outside"),
    [
        ((3, 81), True),  # of a longer log
        ((4, 60), True),  # of a later term: what lies behind 60 here is not committed
        ((3, 80), True),
        ((3, 79), False),  # by who lags: up to 80 this node is a member for certain
        ((1, 90), False),
    ],
)
def test_a_member_believes_only_who_knows_more_of_what_is_committed(told: tuple[int, int], outside: bool) -> None:
    raft = core(committed=80)
    ready = raft.receive(Stranger("b", "a", 3, *told), 5.0)
    assert raft.outside is outside
    events = save(raft, ready).events  # kept beside the vote, so that it knows when it is started anew
    assert (("is no member of the group" in [event.name for event in events]), ready.changed) == (outside,) * 2
    raft.tick(99.0)
    assert (raft.role.value == "follower") is outside, "who is no member does not campaign"


def test_a_member_that_is_added_again_is_one() -> None:
    raft = core(committed=80)
    raft.receive(Stranger("b", "a", 3, 3, 110), 5.0)
    again = MembershipRow(130, Membership.of("b", "c", learners=("a",)))
    raft.receive(Append("b", "a", 3, 100, 3, 3, 130, 110, (again,)), 6.0)
    assert not raft.outside
    raft.receive(Stranger("c", "a", 3, 3, 110), 7.0)
    assert not raft.outside, "who said so did not know yet"
