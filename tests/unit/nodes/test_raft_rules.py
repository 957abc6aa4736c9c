"""A walk through the rules: figure 2 of the Raft paper (extended version), and sections 3.6 to 4.2, 6.4 and 9.6 of the
dissertation. One rule, one test; each drives one core by hand and looks at what it says.
"""

from __future__ import annotations

import pytest

from nodes.flaws import Flaw
from nodes.replication.raft.membership import (
    Membership,
    MembershipRow,
)
from nodes.replication.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    PreVote,
    PreVoteReply,
    TimeoutNow,
    Vote,
    VoteReply,
)
from nodes.replication.raft.orders import HardState, RaftError, Role, Truncate, Write
from nodes.replication.raft.settings import Limits, Settings, Timing
from nodes.replication.raft.terms import TermRow
from tests.unit.nodes.raft_by_hand import accepted, append, core, leader, of, save

# Persistence (figure 2, "Persistent state"; dissertation 3.8).


def test_a_vote_leaves_only_when_it_is_saved() -> None:
    raft = core()
    ready = raft.receive(Vote("b", "a", 4, 3, 100), 2.0)
    assert ready.save == HardState(4, "b", True)
    assert ready.messages == ()
    assert of(VoteReply, save(raft, ready)) == [VoteReply("a", "b", 4, granted=True)]


def test_nothing_is_told_of_a_vote_that_a_crash_would_take_back() -> None:
    raft = core()
    ready = raft.receive(Vote("b", "a", 4, 3, 100), 2.0)
    assert ready.events == ()
    assert (raft.status().term, raft.status().vote) == (3, "")
    assert ready.save is not None
    told = raft.saved(ready.save, 2.0).events
    assert [event.name for event in told] == ["grant vote"]
    assert (raft.status().term, raft.status().vote) == (4, "b")


def test_nothing_leaves_while_a_newer_hard_state_is_unsaved() -> None:
    raft = core()
    first = raft.receive(Vote("b", "a", 4, 3, 100), 2.0)
    second = raft.receive(Vote("c", "a", 5, 3, 100), 2.0)
    assert first.save is not None
    assert raft.saved(first.save, 2.0).messages == ()
    assert [reply.term for reply in of(VoteReply, save(raft, second))] == [4, 5]


def test_a_candidate_counts_its_own_vote_only_when_it_is_saved() -> None:
    raft = core(memberships=(MembershipRow(0, Membership.of("a")),))
    ready = raft.tick(raft.deadline)
    asking = raft.role
    save(raft, ready)
    assert (asking, raft.role) == (Role.CANDIDATE, Role.LEADER)


def test_votes_asked_for_leave_only_when_the_term_is_saved() -> None:
    raft = core()
    raft.tick(raft.deadline)
    ready = raft.receive(PreVoteReply("b", "a", 4, granted=True), 1.0)
    assert ready.messages == ()
    assert len(of(Vote, save(raft, ready))) == 2


def test_an_acknowledgement_leaves_only_when_the_log_is_durable() -> None:
    raft = core()
    ready = raft.receive(append(raft, 100, 3, 130), 0.1)
    assert ready.log == (Write(100, 130, 0),)
    assert of(AppendReply, ready) == []
    assert of(AppendReply, raft.stable(100, raft.generation, 0.1)) == []
    (reply,) = of(AppendReply, raft.stable(130, raft.generation, 0.1))
    assert isinstance(reply, AppendReply)
    assert (reply.accepted, reply.match) == (True, 130)


def test_a_sync_that_began_before_a_cut_proves_nothing() -> None:
    raft = core()
    raft.receive(append(raft, 100, 3, 130), 0.1)
    before = raft.generation
    ready = raft.receive(Append("b", "a", 5, 100, 3, 5, 130, 0), 0.2)
    assert ready.log == (Truncate(100, before + 1), Write(100, 130, 0))
    save(raft, ready)
    assert of(AppendReply, raft.stable(130, before, 0.3)) == []
    assert raft.durable == 100
    assert len(of(AppendReply, raft.stable(130, raft.generation, 0.3))) == 1


def test_a_restarted_node_knows_its_vote() -> None:
    raft = core(hard=HardState(4, "b", True))
    ready = raft.receive(Vote("c", "a", 4, 3, 100), 2.0)
    assert of(VoteReply, ready) == [VoteReply("a", "c", 4, granted=False)]
    forgetful = core(hard=HardState(4, "b", True), flaws=frozenset({Flaw.FORGET_VOTE}))
    ready = forgetful.receive(Vote("c", "a", 4, 3, 100), 2.0)
    assert of(VoteReply, save(forgetful, ready)) == [VoteReply("a", "c", 4, granted=True)]


def test_the_term_is_at_least_that_of_the_log() -> None:
    assert core(hard=HardState(1, "b", True)).term == 3


# All servers: terms (figure 2, 3.3).


def test_a_higher_term_makes_a_follower() -> None:
    raft = leader()
    raft.receive(HeartbeatReply("b", "a", 9), 2.1)
    assert (raft.role, raft.term) == (Role.FOLLOWER, 9)


def test_an_older_leader_learns_the_term() -> None:
    raft = core(hard=HardState(5, "", True))
    assert of(AppendReply, raft.receive(append(raft, 100, 3, 110), 0.1))[0].term == 5
    assert of(HeartbeatReply, raft.receive(Heartbeat("b", "a", 3, 0), 0.1))[0].term == 5
    assert raft.end == 100


def test_a_candidate_follows_the_leader_of_its_term() -> None:
    raft = core()
    raft.tick(raft.deadline)
    save(raft, raft.receive(PreVoteReply("b", "a", 4, granted=True), 1.0))
    raft.receive(Heartbeat("c", "a", 4, 0), 1.1)
    assert (raft.role, raft.leader) == (Role.FOLLOWER, "c")


def test_two_leaders_of_one_term_stop_the_node() -> None:
    raft = leader()
    with pytest.raises(RaftError, match="both lead term 4"):
        raft.receive(Heartbeat("b", "a", 4, 0), 2.1)


# RequestVote (figure 2, 5.4.1).


@pytest.mark.parametrize(
    ("last_term", "end", "granted"), [(3, 100, True), (4, 10, True), (3, 99, False), (2, 900, False)]
)
def test_a_vote_needs_a_log_at_least_as_new(last_term: int, end: int, granted: bool) -> None:
    raft = core()
    ready = raft.receive(Vote("b", "a", 4, last_term, end), 2.0)
    assert of(VoteReply, save(raft, ready)) == [VoteReply("a", "b", 4, granted)]


def test_one_vote_a_term_but_the_same_again() -> None:
    raft = core()
    save(raft, raft.receive(Vote("b", "a", 4, 3, 100), 2.0))
    assert of(VoteReply, raft.receive(Vote("c", "a", 4, 3, 200), 2.0)) == [VoteReply("a", "c", 4, granted=False)]
    assert of(VoteReply, raft.receive(Vote("b", "a", 4, 3, 100), 2.0)) == [VoteReply("a", "b", 4, granted=True)]


def test_a_vote_of_a_stranger_or_of_another_term_does_not_count() -> None:
    raft = core()
    raft.tick(raft.deadline)
    save(raft, raft.receive(PreVoteReply("b", "a", 4, granted=True), 1.0))
    raft.receive(VoteReply("x", "a", 4, granted=True), 1.0)
    raft.receive(VoteReply("b", "a", 3, granted=True), 1.0)
    assert raft.role is Role.CANDIDATE


# Pre-vote and stickiness (dissertation 9.6, 4.2.3).


def test_asking_changes_nobodys_term() -> None:
    raft = core()
    ready = raft.tick(raft.deadline)
    assert (raft.term, ready.save) == (3, None)
    other = core()
    ready = other.receive(PreVote("b", "a", 9, 3, 100), 2.0)
    assert (other.term, ready.save) == (3, None)
    assert of(PreVoteReply, ready) == [PreVoteReply("a", "b", 9, granted=True)]


def test_no_pre_vote_and_no_vote_while_a_leader_is_heard() -> None:
    raft = core()
    raft.receive(Heartbeat("c", "a", 3, 0), 1.0)
    assert of(PreVoteReply, raft.receive(PreVote("b", "a", 4, 3, 100), 1.4)) == [
        PreVoteReply("a", "b", 3, granted=False)
    ]
    assert raft.receive(Vote("b", "a", 4, 3, 100), 1.4).messages == ()
    assert raft.term == 3
    assert of(PreVoteReply, raft.receive(PreVote("b", "a", 4, 3, 100), 1.6)) == [
        PreVoteReply("a", "b", 4, granted=True)
    ]


def test_a_leader_is_not_disturbed_by_votes() -> None:
    raft = leader()
    assert raft.receive(Vote("c", "a", 9, 9, 999), 2.1).messages == ()
    assert (raft.role, raft.term) == (Role.LEADER, 4)


def test_a_closed_connection_to_the_leader_ends_the_wait() -> None:
    raft = core()
    raft.receive(Heartbeat("c", "a", 3, 0), 1.0)
    raft.peer_lost("b", 1.1)
    assert raft.deadline >= 1.5
    raft.peer_lost("c", 1.1)
    assert raft.deadline <= 1.1 + Timing().early_max
    assert of(PreVoteReply, raft.receive(PreVote("b", "a", 4, 3, 100), 1.1)) == [
        PreVoteReply("a", "b", 4, granted=True)
    ]


def test_a_candidate_that_is_behind_in_term_learns_it_without_a_vote() -> None:
    raft = core()
    raft.tick(raft.deadline)
    ready = raft.receive(PreVoteReply("b", "a", 9, granted=False), 1.0)
    assert (raft.term, raft.role) == (9, Role.FOLLOWER)
    assert ready.save == HardState(9, "", True)


# AppendEntries (figure 2, 5.3).


def test_a_gap_is_refused_and_the_end_is_told() -> None:
    raft = core()
    (reply,) = of(AppendReply, raft.receive(append(raft, 120, 3, 130), 0.1))
    assert isinstance(reply, AppendReply)
    assert (reply.accepted, reply.end, reply.rows) == (False, 100, (TermRow(1, 0), TermRow(3, 50)))


def test_another_term_at_prev_is_refused_with_the_terms_below() -> None:
    raft = core()
    (reply,) = of(AppendReply, save(raft, raft.receive(Append("b", "a", 4, 80, 2, 4, 90, 0), 0.1)))
    assert isinstance(reply, AppendReply)
    assert (reply.accepted, reply.end, reply.rows) == (False, 50, (TermRow(1, 0),))


def test_a_conflicting_tail_is_cut_where_the_batch_differs() -> None:
    raft = core()
    ready = raft.receive(Append("b", "a", 4, 50, 1, 4, 70, 0), 0.1)
    assert ready.log == (Truncate(50, 1), Write(50, 70, 0))
    assert raft.end == 70


def test_a_late_append_never_shortens_the_log() -> None:
    raft = core()
    ready = raft.receive(append(raft, 50, 1, 70), 0.1)
    assert ready.log == ()
    assert raft.end == 100
    (reply,) = of(AppendReply, ready)
    assert isinstance(reply, AppendReply)
    assert (reply.accepted, reply.match) == (True, 70)


def test_only_what_is_missing_is_written() -> None:
    raft = core()
    assert raft.receive(append(raft, 80, 3, 130), 0.1).log == (Write(100, 130, 20),)


def test_what_is_committed_is_never_cut() -> None:
    raft = core(committed=60)
    ready = raft.receive(Append("b", "a", 4, 60, 3, 4, 75, 0), 0.1)
    assert ready.log == (Truncate(60, 1), Write(60, 75, 0))


@pytest.mark.parametrize(
    ("prev", "prev_term", "records", "end"), [(70, 2, 4, 70), (40, 1, 4, 90), (60, 2, 4, 70), (50, 1, 4, 90)]
)
def test_a_leader_without_what_is_committed_is_not_followed(prev: int, prev_term: int, records: int, end: int) -> None:
    raft = core(hard=HardState(4, "", True), committed=80)
    with pytest.raises(RaftError, match="committed here up to 80"):
        raft.receive(Append("b", "a", 4, prev, prev_term, records, end, 0), 0.1)
    assert raft.end == 100


@pytest.mark.parametrize(
    ("prev", "prev_term", "records", "end"), [(40, 1, 1, 50), (50, 1, 3, 90), (70, 3, 3, 70), (20, 1, 1, 20)]
)
def test_a_leader_that_repeats_what_is_committed_is_answered(prev: int, prev_term: int, records: int, end: int) -> None:
    raft = core(hard=HardState(4, "", True), committed=80)
    (reply,) = of(AppendReply, raft.receive(Append("b", "a", 4, prev, prev_term, records, end, 0), 0.1))
    assert isinstance(reply, AppendReply)
    assert (reply.accepted, reply.match) == (True, end), "no more than was compared"


def test_committed_is_what_the_leader_says_up_to_what_is_known_to_match() -> None:
    raft = core()
    assert raft.receive(Heartbeat("b", "a", 3, 90), 0.1).committed == 0
    assert raft.receive(append(raft, 70, 3, 70, committed=90), 0.1).committed == 70
    assert raft.receive(Heartbeat("b", "a", 3, 90), 0.1).committed == 70
    assert raft.receive(append(raft, 100, 3, 100, committed=90), 0.1).committed == 90


# Leaders: replicate and commit (figure 2, 5.3, 5.4.2; dissertation 6.4, 10.2.1).


def test_the_first_record_of_a_term_is_the_leaders_marker() -> None:
    raft = core()
    raft.tick(raft.deadline)
    save(raft, raft.receive(PreVoteReply("b", "a", 4, granted=True), 1.0))
    ready = raft.receive(VoteReply("b", "a", 4, granted=True), 1.0)
    assert ready.marker is not None
    assert (ready.marker.term, ready.marker.leader) == (4, "a")
    without = raft.accepts
    raft.appended(4, 110, 1.0)
    assert (without, raft.accepts) == (False, True)
    assert raft.status().rows[-1] == TermRow(4, 100)


def test_older_terms_are_not_committed_by_counting() -> None:
    raft = leader()
    raft.stable(110, raft.generation, 2.0)
    assert raft.receive(accepted("b", 100), 2.0).committed == 0
    assert raft.receive(accepted("b", 110), 2.0).committed == 110
    flawed = leader(flaws=frozenset({Flaw.COMMIT_OLD_TERM}))
    assert flawed.receive(accepted("b", 100), 2.0).committed == 100


def test_a_leader_counts_for_itself_only_what_is_durable() -> None:
    raft = leader()
    assert raft.receive(accepted("b", 110), 2.0).committed == 0
    assert raft.stable(110, raft.generation, 2.0).committed == 110


def test_a_leader_may_commit_before_its_own_disk() -> None:
    raft = leader()
    raft.receive(accepted("b", 110), 2.0)
    assert raft.receive(accepted("c", 110), 2.0).committed == 110


def test_what_is_there_but_not_durable_does_not_count() -> None:
    raft = leader()
    raft.stable(110, raft.generation, 2.0)
    assert raft.receive(accepted("b", 50, end=110), 2.0).committed == 0


def test_a_leader_finds_the_parting_in_one_answer() -> None:
    raft = leader()
    refused = AppendReply("b", "a", 4, 110, accepted=False, match=0, end=80, rows=(TermRow(1, 0), TermRow(2, 60)))
    (probe,) = of(Append, raft.receive(refused, 2.0))
    assert isinstance(probe, Append)
    assert (probe.prev, probe.prev_term, probe.end) == (50, 1, 50)


def test_a_batch_lies_in_one_term_and_reading_is_paced() -> None:
    raft = leader(settings=Settings(limits=Limits(batch_bytes=30, window_bytes=40)))
    (read,) = raft.receive(accepted("b", 40, end=40), 2.0).reads
    assert (read.start, read.stop, read.max_bytes) == (40, 50, 30)
    ready = raft.loaded(read, 50, 2.0)
    (sent,) = of(Append, ready)
    assert isinstance(sent, Append)
    assert (sent.prev, sent.end, sent.records_term) == (40, 50, 1)
    (read,) = ready.reads
    assert (read.start, read.stop, read.max_bytes) == (50, 100, 30)
    assert raft.loaded(read, 80, 2.0).reads == ()  # 40 bytes are under way
    (read,) = raft.receive(accepted("b", 50), 2.0).reads
    assert read.start == 80


def test_lost_messages_are_noticed_and_sent_again() -> None:
    raft = leader()
    (read,) = raft.receive(accepted("b", 100), 2.0).reads
    raft.loaded(read, 110, 2.0)
    for peer in "bc":
        raft.receive(HeartbeatReply(peer, "a", 4, 100), 2.5)
    ready = raft.tick(2.6)
    assert [message.prev for message in of(Append, ready) if message.to == "b"] == [100]


def test_a_follower_that_lost_its_tail_is_found_out_by_its_heartbeat() -> None:
    raft = leader()
    raft.receive(accepted("b", 110), 2.0)
    (probe,) = of(Append, raft.receive(HeartbeatReply("b", "a", 4, 80), 2.1))
    assert isinstance(probe, Append)
    assert probe.prev == 110


def test_an_answer_beyond_the_leaders_end_counts_for_nothing() -> None:
    raft = leader()
    raft.stable(110, raft.generation, 2.0)
    assert raft.receive(accepted("b", 500), 2.0).committed == 0


# Check-quorum (dissertation 6.2).


def test_a_leader_without_its_quorum_steps_down_within_an_election_timeout() -> None:
    raft = leader()
    now = 2.0
    while raft.role is Role.LEADER:
        now += 0.1
        raft.tick(now)
    assert 1.0 <= now - 2.0 <= 1.25
    assert not raft.accepts
    with pytest.raises(RaftError, match="this node is follower"):
        raft.appended(4, 120, now)


def test_one_of_two_others_is_quorum_enough() -> None:
    raft = leader()
    for tenth in range(1, 40):
        now = 2.0 + tenth / 10
        raft.receive(HeartbeatReply("b", "a", 4, 100), now)
        raft.tick(now)
    assert raft.role is Role.LEADER


# Hand-over (dissertation 3.10).


def test_a_hand_over_waits_until_the_target_has_everything() -> None:
    raft = leader()
    raft.receive(accepted("b", 100), 2.0)
    assert of(TimeoutNow, raft.transfer("b", 2.0)) == []
    assert not raft.accepts
    assert of(TimeoutNow, raft.receive(accepted("b", 110), 2.0)) == [TimeoutNow("a", "b", 4)]


def test_an_election_at_the_leaders_wish_is_not_held_up_by_stickiness() -> None:
    raft = core()
    raft.receive(Heartbeat("c", "a", 3, 0), 1.0)
    ready = save(raft, raft.receive(TimeoutNow("c", "a", 3), 1.1))
    assert all(vote.transfer for vote in of(Vote, ready))
    other = core()
    other.receive(Heartbeat("c", "a", 3, 0), 1.0)
    vote = Vote("b", "a", 4, 3, 100, transfer=True)
    assert of(VoteReply, save(other, other.receive(vote, 1.1))) == [VoteReply("a", "b", 4, granted=True)]


def test_a_wish_of_somebody_else_is_no_wish() -> None:
    raft = core()
    raft.receive(Heartbeat("c", "a", 3, 0), 1.0)
    raft.receive(TimeoutNow("b", "a", 3), 1.1)
    assert raft.role is Role.FOLLOWER


def test_a_preferred_node_gets_the_lead_when_it_has_everything() -> None:
    raft = leader(settings=Settings(preferred=("c",)))
    raft.stable(110, raft.generation, 2.0)
    raft.receive(accepted("c", 110), 2.05)
    for now in (2.5, 3.0, 3.1):
        raft.receive(HeartbeatReply("c", "a", 4, 110), now)
        ready = raft.tick(now)
    assert TimeoutNow("a", "c", 4) in ready.messages
