"""Campaigns and votes: pre-vote, vote, stickiness, early campaigns after a closed connection. Pure.

Rules (Raft 5.2, 5.4.1; dissertation 3.10, 4.2.3, 6.4, 9.6):
* nobody's term rises by asking: a campaign begins with pre-votes, granted only by those who would vote;
* one vote a term, saved before it is said (the outbox holds it back);
* a vote only for a log at least as up to date as one's own;
* no vote, and no rise of the term, while a leader is heard, unless that leader asked for the election;
* who is no voter in its log's memberships from the last committed one on does not campaign, but answers those who do,
  and when it hears no leader asks whether it is a member still;
* who asks and is no member by a committed membership is told so: it may have missed its removal, and would ask, and
  serve what it has, for ever (ours).
"""

from __future__ import annotations

from collections.abc import Callable

from nodes.flaws import Flaw
from nodes.replication.raft.ground import Ground
from nodes.replication.raft.messages import Knock, PreVote, PreVoteReply, Stranger, TimeoutNow, Vote, VoteReply
from nodes.replication.raft.orders import Role
from nodes.replication.raft.quorum import majority

__all__ = ["Elections"]


class Elections:
    """The part of a node that wants to lead or judges those who do. `won` is called when this node leads."""

    def __init__(self, ground: Ground, won: Callable[[float], None]) -> None:
        self._ground = ground
        self._won = won
        self._granted: set[str] = set()
        self._weak: set[str] = set()
        self._transfer = False

    # Campaigning.

    def due(self, now: float) -> None:
        """The time to campaign has come."""
        ground = self._ground
        if not ground.may_campaign:
            ground.leader = ""  # it was not heard for long
            ground.campaign_at = now + ground.draw("election")
            if not ground.outside:
                for peer in ground.others:
                    ground.send(Knock(ground.name, peer, ground.hard.term))
            return
        ground.role = Role.PRE_CANDIDATE
        ground.leader = ""
        self._wait(now)
        self._granted, self._weak = {ground.name}, set()
        ground.event("asks for pre-votes", log_term=ground.log.last_term, end=ground.log.end)
        for peer in ground.others:
            ground.send(
                PreVote(
                    ground.name,
                    peer,
                    ground.hard.term + 1,
                    ground.log.last_term,
                    ground.log.end,
                    ground.trusted,
                )
            )
        self._count_pre_votes(now)

    def _wait(self, now: float) -> None:
        """Set when to begin anew. Fruitless campaigns wait longer, up to election_max: syncing a vote takes time."""
        ground = self._ground
        wait = ground.draw("retry") * 2 ** min(ground.attempts, 8)
        ground.campaign_at = now + min(wait, ground.draw("election"))
        ground.attempts += 1

    def _count_pre_votes(self, now: float) -> None:
        if self._enough():
            self._campaign(now, transfer=False)

    def _enough(self) -> bool:
        """A majority; or everybody, when some votes count only together with those of all others."""
        voters = self._ground.log.membership.voter_names
        unanimous = self._granted.union(self._weak).issuperset(voters)
        needed = majority(len(voters)) + (Flaw.ELECTION_NEEDS_ONE_MORE in self._ground.flaws)
        return unanimous or len(self._granted.intersection(voters)) >= needed

    def _campaign(self, now: float, *, transfer: bool) -> None:
        ground = self._ground
        ground.role = Role.CANDIDATE
        ground.leader = ""
        ground.remember(term=ground.hard.term + 1, vote=ground.name)
        ground.matched = 0
        self._granted, self._weak = set(), set()
        self._transfer = transfer
        self._wait(now)
        ground.event("asks for votes", log_term=ground.log.last_term, end=ground.log.end)
        for peer in ground.others:
            ground.send(
                Vote(
                    ground.name,
                    peer,
                    ground.hard.term,
                    ground.log.last_term,
                    ground.log.end,
                    ground.trusted,
                    transfer,
                )
            )

    def saved(self, now: float) -> None:
        """The hard state is durable: a candidate's own vote counts from here."""
        ground = self._ground
        if ground.role is Role.CANDIDATE and ground.hard.vote == ground.name:
            self._granted.add(ground.name)
            self._count_votes(now)

    def _count_votes(self, now: float) -> None:
        if self._enough() and self._ground.name in self._granted:
            self._won(now)

    def on_pre_vote_reply(self, reply: PreVoteReply, now: float) -> None:
        """Somebody would, or would not, vote for this node."""
        ground = self._ground
        if ground.role is Role.PRE_CANDIDATE and reply.granted and reply.term == ground.hard.term + 1:
            (self._granted if reply.counts else self._weak).add(reply.sender)
            self._count_pre_votes(now)

    def on_vote_reply(self, reply: VoteReply, now: float) -> None:
        """Somebody has voted."""
        ground = self._ground
        if ground.role is Role.CANDIDATE and reply.granted and reply.term == ground.hard.term:
            (self._granted if reply.counts else self._weak).add(reply.sender)
            self._count_votes(now)

    def on_timeout_now(self, message: TimeoutNow, now: float) -> None:
        """The leader hands over to this node."""
        ground = self._ground
        if ground.role is Role.FOLLOWER and message.sender == ground.leader and ground.may_campaign:
            ground.event("campaigns at the leader's wish", leader=message.sender)
            self._campaign(now, transfer=True)

    # Judging others.

    def leader_alive(self, now: float) -> bool:
        """This node leads, or has heard its leader so recently that no election is wanted."""
        ground = self._ground
        if ground.role is Role.LEADER:
            return True
        return ground.leader != "" and now - ground.heard < ground.timing.election_min

    def _would_vote(self, request: PreVote | Vote) -> bool:
        ground = self._ground
        hard = ground.hard
        if ground.log.newer_than(request.last_term, request.end) and Flaw.VOTE_FOR_SHORTER_LOG not in ground.flaws:
            return False
        return (request.last_term, request.end) >= (hard.floor_term, hard.floor_end)

    def _vote_counts(self, request: PreVote | Vote) -> bool:
        """Whether this vote counts by itself: both disks belong to a group, or neither does.

        A disk that has not joined may have held more once. So neither its vote for others nor its own vote for itself
        helps where somebody knows that the group exists already, unless all the others agree.
        """
        return self._ground.trusted == request.joined

    def on_pre_vote(self, request: PreVote, now: float) -> None:
        """Answer what a vote would be; nothing changes here but that this node lets the other go first."""
        ground = self._ground
        if self.turn_away(request.sender, joined=request.joined):
            return
        granted = request.term > ground.hard.term and not self.leader_alive(now) and self._would_vote(request)
        if granted:
            ground.campaign_at = max(ground.campaign_at, now + ground.timing.retry_min * 0.9)
        term = request.term if granted else ground.hard.term
        ground.send(PreVoteReply(ground.name, request.sender, term, granted, self._vote_counts(request)))

    def turn_away(self, name: str, *, joined: bool = True) -> bool:
        """Tell whoever is no member that it is none. False if it is one, or may be for all that is known here."""
        ground = self._ground
        if not ground.excludes(name, joined=joined):
            return False
        committed = ground.log.committed
        ground.send(Stranger(ground.name, name, ground.hard.term, ground.log.table.term_at(committed), committed))
        return True

    def on_stranger(self, message: Stranger) -> None:
        """A member says that this node is none."""
        ground = self._ground
        ground.told_outside(message.last_term, message.end)
        if ground.outside and ground.role in (Role.PRE_CANDIDATE, Role.CANDIDATE):
            ground.role = Role.FOLLOWER

    def on_vote(self, request: Vote, now: float) -> None:
        """Vote, once a term. The caller has adopted the request's term if it was higher."""
        ground = self._ground
        granted = (
            request.term == ground.hard.term
            and ground.role is Role.FOLLOWER
            and ground.hard.vote in ("", request.sender)
            and self._would_vote(request)
        )
        if granted:
            ground.remember(vote=request.sender)
            ground.campaign_at = now + ground.draw("election")
            ground.event("grant vote", candidate=request.sender)
        counts = self._vote_counts(request)
        ground.send(VoteReply(ground.name, request.sender, ground.hard.term, granted, counts))

    def leader_lost(self, now: float) -> None:
        """The connection to the leader was closed: it is probably dead, so ask soon, and grant soon."""
        ground = self._ground
        ground.heard = float("-inf")
        ground.campaign_at = min(ground.campaign_at, now + ground.draw("early"))
