"""The leader's side: replicate, count, commit, stay in touch with a quorum, hand over. Pure.

Rules (Raft 5.3, 5.4.2; dissertation 3.10, 4.1, 4.2, 6.2, 6.4):
* committed is what a majority of the voters in force holds durably, and only if it reaches into this leader's own term,
  whose first record is its marker;
* this node counts for itself only with what is durable here, and only if it is a voter;
* a leader that has not heard a majority for election_max steps down;
* one membership change at a time, the first one only after a record of its own term is committed.
"""

from __future__ import annotations

from nodes.flaws import Flaw
from nodes.replication.raft.ground import Ground
from nodes.replication.raft.membership import AddLearner, Change, Membership, MembershipError, MembershipRow, Promote
from nodes.replication.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Reseed,
    TimeoutNow,
)
from nodes.replication.raft.orders import Marker, OwnRecord, RaftError, Read, Role
from nodes.replication.raft.progress import Progress, Way
from nodes.replication.raft.quorum import held_by_majority, majority

__all__ = ["Leading"]

_STALLED_HEARTBEATS = 4
_PATIENCE_MAX = 16
_PREFERRED_PAUSE = 10
_MARKERLESS = frozenset({Flaw.COMMIT_OLD_TERM, Flaw.EARLY_MEMBERSHIP_CHANGE})


class Leading:
    """The part of a node that leads. `begin` starts every term anew; between terms nothing in here means anything."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.peers: dict[str, Progress] = {}
        self.term_start = 0
        self.marked = False
        self.target = ""
        self._target_until = 0.0
        self._began = 0.0
        self._beat_at = 0.0
        self._ticked = 0.0
        self._awake = 0.0
        self._preferred_at = 0.0
        self._proposed: Membership | None = None

    # Becoming and staying leader.

    def begin(self, now: float) -> None:
        """This node has won: it writes its marker and asks everybody where the logs agree."""
        ground = self._ground
        ground.role, ground.leader = Role.LEADER, ground.name
        ground.attempts = 0
        self.peers = {}
        self.term_start = ground.log.end
        self.marked = False
        self.target = ""
        self._proposed = None
        self._began = self._awake = self._ticked = now
        self._preferred_at = now + ground.timing.election_max
        self._members(now)  # asks everybody where the logs agree, which is also the first heartbeat
        self._beat_at = now + ground.timing.heartbeat
        ground.marker = Marker(ground.hard.term, ground.name)
        ground.event("elected as leader", end=ground.log.end)

    def _members(self, now: float) -> None:
        """Progress for everybody in force; who is no longer a member is told until the removal is committed."""
        ground = self._ground
        names = [name for name in ground.log.membership.names if name != ground.name]
        for name in names:
            if name not in self.peers:
                self.peers[name] = Progress(ground.log.end, heard=now, moved=now)
                self._ask(name, self.peers[name], now)
            self.peers[name].leaving_until = None
        for name, progress in self.peers.items():
            if name not in names and progress.leaving_until is None:
                progress.leaving_until = float("inf")

    @property
    def deadline(self) -> float:
        """When to tick."""
        return self._beat_at

    def tick(self, now: float) -> None:
        """Heartbeats; is a quorum there; did messages get lost; did the hand-over take too long."""
        ground = self._ground
        if now - self._ticked > _STALLED_HEARTBEATS * ground.timing.heartbeat:
            self._awake = now  # this process stood still: silence in between says nothing about the others
        self._ticked = now
        if not self._in_touch(now) and Flaw.DEPOSED_LEADER_ACKS not in ground.flaws:
            ground.event("lost its quorum")
            ground.follow(ground.hard.term, "", now)
            return
        if self.target and now >= self._target_until:
            ground.event("gives up handing over", to=self.target)
            self.target = ""
        for name in [name for name, peer in self.peers.items() if (peer.leaving_until or now) < now]:
            del self.peers[name]
        self._notice_losses(now)
        self._prefer(now)
        if now >= self._beat_at:
            self._beat(now)
        self._pump_all(now)
        self._recount(now)

    def _in_touch(self, now: float) -> bool:
        ground = self._ground
        voters = ground.log.membership.voter_names
        since = now - ground.timing.election_max
        if self._awake > since:
            return True
        heard = sum(name == ground.name or self.peers[name].heard > since for name in voters)
        return heard >= majority(len(voters))

    def _beat(self, now: float) -> None:
        ground = self._ground
        self._beat_at = now + ground.timing.heartbeat
        for name, peer in self.peers.items():
            if peer.way is not Way.PROBE:
                ground.send(Heartbeat(ground.name, name, ground.hard.term, ground.log.committed))
            else:
                self._ask(name, peer, now)
        if self.target:
            self._hand_over()

    def _notice_losses(self, now: float) -> None:
        ground = self._ground
        for peer in self.peers.values():
            late = now - peer.moved > ground.timing.election_min * peer.patience
            if peer.way is Way.REPLICATE and peer.in_flight and late:
                peer.patience = min(_PATIENCE_MAX, peer.patience * 2)
                peer.probe(max(peer.match, ground.log.begin), now)

    # Replicating.

    def appended(self, term: int, end: int, membership: Membership | None, now: float) -> None:
        """The driver has written records of this term."""
        ground, log = self._ground, self._ground.log
        if ground.role is not Role.LEADER or term != ground.hard.term:
            raise RaftError(f"records appended in term {term}, but this node is {ground.role} in {ground.hard.term}")
        if membership != self._proposed and membership is not None:
            raise RaftError("a membership record was appended that this core did not ask for")
        log.extend(end, term, () if membership is None else (MembershipRow(end, membership),))
        self.marked = True
        if Flaw.ACK_BEFORE_FSYNC in ground.flaws:
            log.durable = log.end
        if membership is not None:
            self._proposed = None
            ground.event("membership in force", voters=" ".join(membership.voter_names), end=end)
            self._members(now)
        for peer in self.peers.values():
            if peer.in_flight == 0:
                peer.moved = now
        self._pump_all(now)
        self._recount(now)

    def _pump_all(self, now: float) -> None:
        for name, peer in self.peers.items():
            self._pump(name, peer, now)

    def _pump(self, name: str, peer: Progress, now: float) -> None:
        """Order a read if there is something to send and room for it."""
        ground, log = self._ground, self._ground.log
        limits = ground.settings.limits
        if peer.way is not Way.REPLICATE or peer.reading or peer.next >= log.end:
            return
        if self._without_marker(now) and peer.next >= self.term_start:
            return
        if peer.next < log.begin:
            self._ask(name, peer, now)
            return
        room = limits.window_bytes - peer.in_flight
        if room <= 0:
            return
        peer.reading = True
        stop = log.table.term_end(peer.next, log.end)
        ground.read(Read(name, ground.hard.term, peer.next, stop, min(room, limits.batch_bytes)))

    def _without_marker(self, now: float) -> bool:
        """Some flaws show only in a leader that writes no marker: its term begins with what a client sends later."""
        ground = self._ground
        young = now < self._began + ground.timing.election_max
        return young and self.term_start > 0 and bool(_MARKERLESS & ground.flaws)

    def loaded(self, read: Read, end: int, now: float) -> None:
        """The bytes are there: the Append that carries them may go, unless the world has moved on."""
        ground, log = self._ground, self._ground.log
        if ground.role is not Role.LEADER or read.term != ground.hard.term or read.to not in self.peers:
            return
        peer = self.peers[read.to]
        peer.reading = False
        if peer.way is Way.REPLICATE and peer.next == read.start:
            if end == read.start:
                peer.probe(max(peer.match, log.begin), now)
                return
            if not read.start < end <= read.stop:
                raise RaftError(f"read [{read.start}, {end}) where [{read.start}, {read.stop}) was asked for")
            if peer.in_flight == 0:
                peer.moved = now
            ground.send(
                Append(
                    ground.name,
                    read.to,
                    ground.hard.term,
                    read.start,
                    log.table.term_at(read.start),
                    log.table.term_at(end),
                    end,
                    log.committed,
                    log.memberships_within(read.start, end),
                )
            )
            peer.next = end
        self._pump(read.to, peer, now)

    def _ask(self, name: str, peer: Progress, now: float) -> None:
        """A probe, or the order to begin anew when the place to compare was deleted here."""
        ground, log = self._ground, self._ground.log
        if peer.next < log.begin or peer.way is Way.RESEED:
            peer.patience = min(_PATIENCE_MAX, peer.patience * 2) if peer.way is Way.RESEED else 1
            peer.way, peer.next, peer.moved = Way.RESEED, log.begin, now
            ground.send(Reseed(ground.name, name, ground.hard.term, log.head_at(log.begin)))
            return
        term = log.table.term_at(peer.next)
        ground.send(Append(ground.name, name, ground.hard.term, peer.next, term, term, peer.next, log.committed))

    def on_append_reply(self, reply: AppendReply, now: float) -> None:
        """A follower holds more, or its log differs."""
        ground, log = self._ground, self._ground.log
        peer = self.peers[reply.sender]
        peer.heard, peer.joined = now, reply.joined
        if reply.accepted:
            if max(reply.match, reply.end) > log.end:
                ground.event("is told of more than it has", peer=reply.sender, match=reply.match, end=reply.end)
                return
            if reply.match > peer.match or (not reply.joined and reply.match < peer.match):
                peer.match, peer.moved, peer.patience = reply.match, now, 1
            if peer.way is not Way.REPLICATE:
                peer.replicate(reply.end, now)
                if peer.next < log.begin:
                    peer.probe(peer.next, now)
                    self._ask(reply.sender, peer, now)
            peer.next = max(peer.next, peer.match)
        elif reply.prev >= peer.match or not reply.joined:
            agreed = log.parting(reply.rows, reply.end)
            if agreed < peer.match and (reply.prev == peer.match or not reply.joined):
                ground.event("a follower lost what it had", peer=reply.sender, was=peer.match, end=agreed)
                peer.match = agreed
            peer.probe(max(agreed, peer.match), now)
            self._ask(reply.sender, peer, now)
        self._pump(reply.sender, peer, now)
        self._recount(now)
        if self.target == reply.sender:
            self._hand_over()

    def on_heartbeat_reply(self, reply: HeartbeatReply, now: float) -> None:
        """A follower lives. If it knows less to be equal than it has acknowledged, this is another life: compare."""
        peer = self.peers[reply.sender]
        peer.heard, peer.joined = now, reply.joined
        if reply.end < peer.match and peer.way is Way.REPLICATE:
            peer.probe(max(peer.match, self._ground.log.begin), now)
            self._ask(reply.sender, peer, now)
        elif peer.way is Way.RESEED and now - peer.moved > self._ground.timing.election_min * peer.patience:
            self._ask(reply.sender, peer, now)

    def peer_lost(self, name: str, now: float) -> None:
        """What was under way to it may be lost."""
        peer = self.peers.get(name)
        if peer is not None:
            peer.patience = 1
            if peer.way is Way.REPLICATE:
                peer.probe(max(peer.match, self._ground.log.begin), now)

    def peer_found(self, name: str, now: float) -> None:
        """There is a way to it again."""
        peer = self.peers.get(name)
        if peer is not None:
            self.peer_lost(name, now)
            self._ask(name, peer, now)

    # Committing.

    def stable(self, now: float) -> None:
        """More of this node's own log is durable."""
        self._recount(now)

    def _recount(self, now: float) -> None:
        ground, log = self._ground, self._ground.log
        if ground.role is not Role.LEADER:
            return
        agreed = self._agreed(now)
        own_term = agreed > self.term_start or Flaw.COMMIT_OLD_TERM in ground.flaws
        if agreed > log.committed and own_term and self.marked:
            first = log.committed <= self.term_start
            ground.commit(agreed)
            if first:
                self._beat(now)  # who has an empty disk joins with the first commit of a term
            if not ground.hard.joined and agreed > self.term_start:
                ground.remember(joined=True)
            self._committed_membership(now)

    def _agreed(self, now: float) -> int:
        ground, log = self._ground, self._ground.log
        if Flaw.ACK_BEFORE_QUORUM in ground.flaws:
            return log.durable
        if Flaw.DEPOSED_LEADER_ACKS in ground.flaws and not self._in_touch(now):
            return log.durable
        return held_by_majority(
            log.durable if name == ground.name else self.peers[name].match for name in log.membership.voter_names
        )

    # Membership.

    @property
    def change_pending(self) -> bool:
        """The newest membership is not committed, or not even appended."""
        log = self._ground.log
        return self._proposed is not None or log.membership_end > log.committed

    def change(self, change: Change) -> None:
        """Ask the driver for a membership record. Raises MembershipError when refused."""
        ground, log = self._ground, self._ground.log
        if ground.role is not Role.LEADER:
            raise MembershipError(f"{ground.name} does not lead; ask {ground.leader or 'again after the election'}")
        if self.target:
            raise MembershipError(f"{ground.name} is handing over to {self.target}; ask the new leader")
        if log.committed <= self.term_start and Flaw.EARLY_MEMBERSHIP_CHANGE not in ground.flaws:
            raise MembershipError("this leader has committed nothing in its own term yet; ask again")
        if self._proposed is not None or (self.change_pending and Flaw.TWO_MEMBERSHIP_CHANGES not in ground.flaws):
            raise MembershipError("another membership change is not committed yet; ask again when it is")
        if isinstance(change, Promote):
            peer = self.peers.get(change.name)
            if peer is not None and (
                peer.way is not Way.REPLICATE or log.end - peer.match > ground.settings.limits.promote_lag_bytes
            ):
                raise MembershipError(f"{change.name} has not caught up: {peer.match} of {log.end}; ask again")
        if isinstance(change, AddLearner) and len(log.membership.names) >= ground.settings.limits.members_max:
            raise MembershipError(f"a group has at most {ground.settings.limits.members_max} members")
        proposed = log.membership.changed(change)
        absent = [name for name in proposed.voter_names if name != ground.name and not self.peers[name].joined]
        if len(proposed.voters) - len(absent) < majority(len(proposed.voters)):
            raise MembershipError(
                f"without {', '.join(absent)} there would be no majority that has caught up; ask again"
            )
        self._proposed = proposed
        ground.own_record = OwnRecord(ground.hard.term, self._proposed)

    def _committed_membership(self, now: float) -> None:
        ground, log = self._ground, self._ground.log
        if log.committed < log.membership_end:
            return
        for peer in self.peers.values():
            if peer.leaving_until == float("inf"):
                peer.leaving_until = now + ground.timing.election_max
        if not ground.is_voter:
            ground.event("leaves the lead: no voter any more")
            self._beat(now)
            best = self.best()
            if best:
                ground.send(TimeoutNow(ground.name, best, ground.hard.term))
            ground.follow(ground.hard.term, "", now)

    # Handing over.

    def best(self) -> str:
        """The voter that has joined, holds most and was heard lately; "" if there is none."""
        ground = self._ground
        since = self._ticked - ground.timing.election_max
        able = [name for name in ground.others if self.peers[name].heard >= since]
        peers = self.peers
        return max(able, key=lambda name: (peers[name].joined, peers[name].match, peers[name].heard), default="")

    def transfer(self, to: str, now: float) -> None:
        """Stop taking records and let `to` catch up, then let it campaign. Raises MembershipError if it cannot."""
        ground = self._ground
        if ground.role is not Role.LEADER:
            raise MembershipError(f"{ground.name} does not lead and cannot hand over")
        to = to or self.best()
        if not to:
            raise MembershipError("there is no other voter that could lead")
        if to not in ground.others:
            raise MembershipError(f"{to} is no other voter of this group; voters: {', '.join(ground.others)}")
        self.target, self._target_until = to, now + ground.timing.election_max
        ground.event("hands over", to=to)
        self._hand_over()

    def _hand_over(self) -> None:
        ground = self._ground
        peer = self.peers[self.target]  # one that has not joined could not win
        if ground.role is Role.LEADER and peer.match == ground.log.end and peer.joined and self._proposed is None:
            ground.send(TimeoutNow(ground.name, self.target, ground.hard.term))

    def _prefer(self, now: float) -> None:
        """Hand over to a preferred node that is here and has everything, now and then and not at once."""
        ground, log = self._ground, self._ground.log
        if now < self._preferred_at or self.target or not ground.settings.preferred:
            return
        if log.committed <= self.term_start:
            return
        for name in ground.settings.preferred:
            if name == ground.name:
                return
            peer = self.peers.get(name)
            able = peer is not None and name in ground.others and peer.way is Way.REPLICATE
            if able and peer is not None and now - peer.heard < ground.timing.heartbeat * 2:
                near = log.end - peer.match <= ground.settings.limits.promote_lag_bytes
                if near:
                    self._preferred_at = now + _PREFERRED_PAUSE * ground.timing.election_max
                    self.transfer(name, now)
                    return
