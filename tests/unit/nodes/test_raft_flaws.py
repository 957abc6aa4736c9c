"""Planted flaws of the Raft core: each breaks one rule, and a core without it keeps that rule."""

from __future__ import annotations

import pytest

from nodes.flaws import Flaw
from nodes.replication.raft.messages import Append, AppendReply, PreVoteReply, Vote, VoteReply
from nodes.replication.raft.orders import RaftError, Role, Truncate, Write
from tests.unit.nodes.raft_by_hand import append, core, of, save

SHORTER = Vote("b", "a", 4, 1, 50)
"""Of a candidate whose log ends with term 1; this node's goes on in term 3."""

FAR = 10_000_000


@pytest.mark.flaws
def test_a_vote_for_a_log_that_lacks_what_is_committed_and_a_cut_to_its_end() -> None:
    raft = core(committed=100)
    ready = raft.receive(SHORTER, 2.0)
    assert of(VoteReply, save(raft, ready)) == [VoteReply("a", "b", 4, granted=False)]
    with pytest.raises(RaftError, match="lost on a majority of disks"):
        raft.receive(append(raft, 50, 1, 60, term=4, records=4), 2.1)

    raft = core(committed=100, flaws=frozenset({Flaw.VOTE_FOR_SHORTER_LOG}))
    ready = raft.receive(SHORTER, 2.0)
    assert of(VoteReply, save(raft, ready)) == [VoteReply("a", "b", 4, granted=True)]
    ready = raft.receive(append(raft, 50, 1, 60, term=4, records=4), 2.1)
    assert [type(order) for order in ready.log] == [Truncate, Write]
    assert (raft.end, raft.committed) == (60, 50)


@pytest.mark.flaws
@pytest.mark.parametrize("flaws", [frozenset(), frozenset({Flaw.ELECTION_NEEDS_ONE_MORE})])
def test_an_election_that_needs_one_vote_more_than_a_majority(flaws: frozenset[Flaw]) -> None:
    raft = core(flaws=flaws)
    raft.tick(raft.deadline)
    ready = raft.receive(PreVoteReply("b", "a", 4, granted=True), 1.0)
    if flaws:
        assert raft.role is Role.PRE_CANDIDATE
        ready = raft.receive(PreVoteReply("c", "a", 4, granted=True), 1.0)
    save(raft, ready, 1.0)
    raft.receive(VoteReply("b", "a", 4, granted=True), 1.0)
    assert raft.role is (Role.CANDIDATE if flaws else Role.LEADER)
    raft.receive(VoteReply("c", "a", 4, granted=True), 1.0)
    assert raft.role is Role.LEADER


@pytest.mark.flaws
@pytest.mark.parametrize("flaws", [frozenset(), frozenset({Flaw.COMMIT_PAST_END})])
def test_a_commit_position_beyond_the_own_log(flaws: frozenset[Flaw]) -> None:
    raft = core(flaws=flaws)
    raft.receive(Append("b", "a", 3, 100, 3, 3, 100, FAR), 0.1)
    assert raft.committed == (FAR if flaws else 100)
    ready = raft.receive(append(raft, 100, 3, 130), 0.2)
    assert raft.end == (100 if flaws else 130)
    assert bool(of(AppendReply, ready)) is False
