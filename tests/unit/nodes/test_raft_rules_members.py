"""A walk through the rules, continued: who belongs to a group, emptied disks, and disks that fail (4.1 to 5.1 of the
dissertation of Raft). One rule, one test; each drives one core by hand and looks at what it says.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodes.replication.raft.core import Raft
from nodes.replication.raft.membership import (
    AddLearner,
    Member,
    Membership,
    MembershipError,
    MembershipRow,
    Promote,
    Remove,
)
from nodes.replication.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    PreVoteReply,
    Reseed,
    TimeoutNow,
    Vote,
    VoteReply,
)
from nodes.replication.raft.orders import HardState, Head, RaftError, Ready, Reset, Role
from nodes.replication.raft.terms import TermRow
from tests.unit.nodes.raft_by_hand import ABC, accepted, core, leader, of, save

# Membership (dissertation 4.1 to 4.2).


def committed_leader(**kwargs: object) -> Raft:
    raft = leader(**kwargs)
    for peer in "bc":
        raft.receive(accepted(peer, 110), 2.0)
    assert raft.committed == 110
    return raft


def test_no_change_before_a_record_of_the_own_term_is_committed() -> None:
    with pytest.raises(MembershipError, match="nothing in its own term"):
        leader().change(AddLearner(Member("d")), 2.0)


def test_one_change_at_a_time_and_in_force_when_appended() -> None:
    raft = committed_leader()
    own = raft.change(AddLearner(Member("d")), 2.0).own_record
    assert own is not None
    with pytest.raises(MembershipError, match="not committed yet"):
        raft.change(AddLearner(Member("e")), 2.0)
    raft.appended(4, 150, 2.0, own.membership)
    assert raft.membership.names == ("a", "b", "c", "d")
    with pytest.raises(MembershipError, match="not committed yet"):
        raft.change(AddLearner(Member("e")), 2.0)
    for peer in "bc":
        raft.receive(accepted(peer, 150), 2.0)
    assert raft.change(AddLearner(Member("e")), 2.0).own_record is not None


def test_a_node_is_a_learner_before_it_is_a_voter_and_must_have_caught_up() -> None:
    raft = committed_leader()
    with pytest.raises(MembershipError, match="add it as a learner first"):
        raft.change(Promote("d"), 2.0)
    own = raft.change(AddLearner(Member("d")), 2.0).own_record
    assert own is not None
    raft.appended(4, 150, 2.0, own.membership)
    for peer in "bc":
        raft.receive(accepted(peer, 150), 2.0)
    with pytest.raises(MembershipError, match="has not caught up"):
        raft.change(Promote("d"), 2.0)
    raft.receive(accepted("d", 150), 2.0)
    assert raft.change(Promote("d"), 2.0).own_record is not None


def test_a_learners_copy_counts_for_no_commit() -> None:
    raft = committed_leader()
    own = raft.change(AddLearner(Member("d")), 2.0).own_record
    assert own is not None
    raft.appended(4, 150, 2.0, own.membership)
    raft.stable(150, raft.generation, 2.0)
    assert raft.receive(accepted("d", 150), 2.0).committed == 110


def test_a_membership_is_rolled_back_with_its_record() -> None:
    four = MembershipRow(90, Membership.of("a", "b", "c", "d"))
    raft = core(memberships=(ABC, four))
    assert raft.membership == four.membership
    raft.receive(Append("b", "a", 4, 50, 1, 4, 60, 0), 0.1)
    assert raft.membership == ABC.membership


def test_a_leader_that_is_removed_leads_until_that_is_committed_and_does_not_count() -> None:
    raft = committed_leader()
    own = raft.change(Remove("a"), 2.0).own_record
    assert own is not None
    raft.appended(4, 150, 2.0, own.membership)
    raft.stable(150, raft.generation, 2.0)
    assert raft.receive(accepted("b", 150), 2.0).committed == 110
    ready = raft.receive(accepted("c", 150), 2.0)
    assert ready.committed == 150
    assert raft.role is Role.FOLLOWER
    assert len(of(TimeoutNow, ready)) == 1


def test_who_is_removed_for_good_does_not_campaign_but_answers() -> None:
    gone = MembershipRow(90, Membership.of("b", "c"))
    raft = core(memberships=(ABC, gone), committed=95)
    raft.tick(raft.deadline)
    assert raft.role is Role.FOLLOWER
    assert len(of(VoteReply, save(raft, raft.receive(Vote("b", "a", 4, 3, 100), 2.0)))) == 1


def test_who_may_not_be_removed_for_good_still_campaigns() -> None:
    gone = MembershipRow(90, Membership.of("b", "c"))
    raft = core(memberships=(ABC, gone), committed=60)
    raft.tick(raft.deadline)
    assert raft.role is Role.PRE_CANDIDATE


def test_the_last_voter_stays() -> None:
    alone = MembershipRow(0, Membership.of("a"))
    raft = core(memberships=(alone,))
    save(raft, raft.tick(raft.deadline))
    raft.appended(4, 110, 1.0)
    raft.stable(110, raft.generation, 1.0)
    with pytest.raises(MembershipError, match="the last voter"):
        raft.change(Remove("a"), 1.0)


# Emptied disks and re-seeding (dissertation 5.1; what an installed snapshot is there).

HEAD = Head(200, TermRow(4, 150), MembershipRow(170, Membership.of("a", "b", "c")), b"tables")


def test_a_log_is_thrown_away_only_when_the_hard_state_says_so() -> None:
    raft = core(committed=40)
    ready = raft.receive(Reseed("b", "a", 4, HEAD), 0.1)
    assert ready.log == ()
    assert ready.save == HardState(4, "", joined=False, floor_term=4, floor_end=200)
    ready = save(raft, ready)
    assert ready.log == (Reset(HEAD, 1),)
    ready = raft.stable(200, 1, 0.2)
    assert ready.save == HardState(4, "", joined=True, floor_term=4, floor_end=200)
    (reply,) = of(AppendReply, save(raft, ready))
    assert isinstance(reply, AppendReply)
    assert (reply.accepted, reply.match) == (True, 200)
    assert (raft.begin, raft.end, raft.committed) == (200, 200, 200)


def test_while_it_is_re_seeded_a_node_votes_as_if_it_held_what_it_gets() -> None:
    half = HardState(4, "", joined=False, floor_term=4, floor_end=200)
    for last_term, end, granted in ((4, 199, False), (4, 200, True), (5, 10, True), (3, 999, False)):
        raft = core(hard=half, end=0, rows=())
        ready = raft.receive(Vote("b", "a", 5, last_term, end), 2.0)
        assert of(VoteReply, save(raft, ready)) == [VoteReply("a", "b", 5, granted)]
    raft.tick(raft.deadline)
    assert raft.role is Role.FOLLOWER


def test_a_crash_after_the_re_seed_is_no_crash_within_it() -> None:
    half = HardState(4, "", joined=False, floor_term=4, floor_end=200)
    raft = core(hard=half, begin=200, end=200, rows=(TermRow(4, 150),), memberships=(HEAD.membership,), committed=200)
    assert raft.receive(Heartbeat("b", "a", 4, 0), 0.1).save == replace(half, joined=True)


def test_a_re_seed_that_comes_too_late_changes_nothing() -> None:
    raft = core(hard=HardState(4, "", True), committed=80)
    late = replace(HEAD, begin=50, row=TermRow(1, 0), membership=ABC)
    ready = raft.receive(Reseed("b", "a", 4, late), 0.1)
    assert (ready.log, ready.save) == ((), None)
    assert raft.end == 100


def test_the_vote_of_an_empty_disk_counts_only_with_those_of_all() -> None:
    empty = core(hard=HardState(), end=0, rows=())
    ready = save(empty, empty.receive(Vote("b", "a", 4, 3, 100), 2.0))
    assert of(VoteReply, ready) == [VoteReply("a", "b", 4, granted=True, counts=False)]
    raft = core()
    raft.tick(raft.deadline)
    save(raft, raft.receive(PreVoteReply("b", "a", 4, granted=True), 1.0))
    raft.receive(VoteReply("b", "a", 4, granted=True, counts=False), 1.0)
    after_one = raft.role
    raft.receive(VoteReply("c", "a", 4, granted=True), 1.0)
    assert (after_one, raft.role) == (Role.CANDIDATE, Role.LEADER)


def test_a_follower_behind_the_begin_is_told_to_begin_anew() -> None:
    raft = leader(begin=60, rows=(TermRow(3, 50),), committed=60)
    refused = AppendReply("b", "a", 4, 110, accepted=False, match=0, end=40, rows=(TermRow(1, 0),))
    (told,) = of(Reseed, raft.receive(refused, 2.0))
    assert isinstance(told, Reseed)
    assert (told.head.begin, told.head.row) == (60, TermRow(3, 50))


def test_the_head_may_not_pass_what_is_committed_and_durable() -> None:
    raft = core(committed=60)
    with pytest.raises(RaftError, match="cannot begin at 70"):
        raft.head_at(70)
    assert raft.head_at(60) == Head(60, TermRow(3, 50), ABC)
    raft.head_moved(60, 1.0)
    assert raft.status().rows == (TermRow(3, 50),)


# A failing disk.


def test_a_leader_with_a_failing_disk_hands_over_and_falls_silent() -> None:
    raft = committed_leader()
    ready = raft.disk_failed(2.1)
    assert of(TimeoutNow, ready) == [TimeoutNow("a", "b", 4)]
    assert raft.role is Role.FAILED
    assert raft.tick(99.0).messages == ()
    assert raft.receive(Vote("b", "a", 9, 9, 999), 99.0) == Ready(committed=110)
    assert raft.deadline == float("inf")


def test_what_waits_for_a_save_is_forgotten_by_a_failing_disk() -> None:
    raft = core()
    ready = raft.receive(Vote("b", "a", 4, 3, 100), 2.0)
    raft.disk_failed(2.0)
    assert save(raft, ready).messages == ()
