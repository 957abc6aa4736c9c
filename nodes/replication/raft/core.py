"""The door to the core: one node of a Raft group, as a value machine. Pure.

How a driver uses it:

    raft = Raft(name, settings, restored, rng, now)   # flaws=frozenset() last
    every input below returns a Ready; `carry_out(ready)` does, in this order:
        if ready.save: disk.replace_atomically(...) and sync; pending += raft.saved(ready.save, now)
        for order in ready.log: cut, write or reset the log; then sync it soon (group commit is welcome) and call
            raft.stable(end, generation, now)
        if ready.marker / own_record: write that record; pending += raft.appended(...)
        for read in ready.reads: bytes = log.read(...); pending += raft.loaded(read, end, now), attach the bytes
        send ready.messages; apply up to ready.committed; log ready.events
    when the clock passes raft.deadline: raft.tick(now)

What must be durable before what is sent is decided in here: the core gives a message out only when its promise holds.
"""

from __future__ import annotations

from nodes.flaws import Flaw
from nodes.replication.raft.elections import Elections
from nodes.replication.raft.following import Following
from nodes.replication.raft.ground import Chance, Ground
from nodes.replication.raft.leading import Leading
from nodes.replication.raft.membership import Change, Membership
from nodes.replication.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Knock,
    Message,
    PreVote,
    PreVoteReply,
    Reseed,
    Stranger,
    TimeoutNow,
    Vote,
    VoteReply,
)
from nodes.replication.raft.orders import HardState, Head, RaftError, Read, Ready, Restored, Role
from nodes.replication.raft.settings import Settings
from nodes.replication.raft.status import PeerStatus, Status

__all__ = ["Raft", "RaftError"]


class Raft:
    """One node. Times are seconds of one monotonic clock; positions are byte offsets on record boundaries."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        restored: Restored,
        rng: Chance,
        now: float,
        flaws: frozenset[Flaw] = frozenset(),
    ) -> None:
        self._ground = Ground(name, settings, restored, rng, now, flaws)
        self._leading = Leading(self._ground)
        self._following = Following(self._ground)
        self._elections = Elections(self._ground, self._leading.begin)

    # What can be looked at at any time.

    @property
    def name(self) -> str:
        """The member name of this node."""
        return self._ground.name

    @property
    def role(self) -> Role:
        """What this node is now."""
        return self._ground.role

    @property
    def term(self) -> int:
        """Its current term."""
        return self._ground.hard.term

    @property
    def leader(self) -> str:
        """Name of the leader of the current term, "" if unknown."""
        return self._ground.leader

    @property
    def accepts(self) -> bool:
        """A client's record may be appended now: this node leads, its marker is written, it is not handing over.

        If False, nothing may be written to the log except what a Ready orders.
        """
        return self.role is Role.LEADER and self._leading.marked and not self._leading.target

    @property
    def begin(self) -> int:
        """First byte of the log."""
        return self._ground.log.begin

    @property
    def end(self) -> int:
        """End of the log, orders given included."""
        return self._ground.log.end

    @property
    def durable(self) -> int:
        """Up to where the driver said `stable`."""
        return self._ground.log.durable

    @property
    def committed(self) -> int:
        """Up to where the group has agreed."""
        return self._ground.log.committed

    @property
    def generation(self) -> int:
        """Counts truncations and resets: read it when a sync begins, give it to `stable` when it ends."""
        return self._ground.log.generation

    @property
    def membership(self) -> Membership:
        """The membership in force (the newest in the log, committed or not)."""
        return self._ground.log.membership

    @property
    def outside(self) -> bool:
        """The group has gone on without this node: what its log holds may be long out of date."""
        return self._ground.outside

    @property
    def deadline(self) -> float:
        """When `tick` is wanted next; infinity if never."""
        if self.role is Role.FAILED:
            return float("inf")
        return self._leading.deadline if self.role is Role.LEADER else self._ground.campaign_at

    def head_at(self, begin: int) -> Head:
        """What the head file must say before the log below `begin` is deleted (tables left empty: the driver's part).

        Raises RaftError if `begin` lies above what is committed and durable.
        """
        return self._ground.log.head_at(begin)

    def status(self) -> Status:
        """All of it at once, for looking. Term and vote are those on disk: what a crash takes back was never so."""
        ground, log = self._ground, self._ground.log
        hard = ground.durable_hard
        peers: tuple[PeerStatus, ...] = ()
        if self.role is Role.LEADER:
            peers = tuple(
                PeerStatus(name, peer.way, peer.match, peer.next, peer.heard)
                for name, peer in sorted(self._leading.peers.items())
            )
        return Status(
            ground.name,
            ground.role,
            hard.term,
            hard.vote,
            hard.joined,
            ground.leader,
            log.begin,
            log.end,
            log.durable,
            log.committed,
            log.table.rows,
            log.membership,
            log.membership_end <= log.committed,
            peers,
        )

    # Inputs. Each returns what is to be done.

    def tick(self, now: float) -> Ready:
        """Time has passed."""
        if self.role is Role.LEADER:
            self._leading.tick(now)
        elif self.role is not Role.FAILED and now >= self._ground.campaign_at:
            if self._following.resetting:
                self._ground.campaign_at = now + self._ground.draw("election")
            else:
                self._elections.due(now)
        return self._ground.take()

    def receive(self, message: Message, now: float) -> Ready:
        """A message came. For an Append the driver has validated its bytes: whole records with right checksums.

        Raises RaftError on what can never happen: a second leader in this term, a cut below what is committed.
        """
        if self.role is not Role.FAILED and message.to == self.name and self._term_in_order(message, now):
            self._dispatch(message, now)
        return self._ground.take()

    def _term_in_order(self, message: Message, now: float) -> bool:
        """Adopt a higher term, turn an older one away. False if the message needs no more."""
        ground = self._ground
        if message.term == ground.hard.term or isinstance(message, PreVote | Knock | Stranger):
            return True
        if message.term < ground.hard.term:
            self._turn_away(message)
            return False
        match message:
            case PreVoteReply(granted=True):
                return True
            case Vote(transfer=False) if self._elections.leader_alive(now):
                return False
        if ground.role is Role.LEADER and Flaw.DEPOSED_LEADER_ACKS in ground.flaws:
            return False
        asking = ground.role is Role.PRE_CANDIDATE and isinstance(message, PreVoteReply)
        leads = isinstance(message, Append | Heartbeat | Reseed)
        ground.follow(message.term, message.sender if leads else "", now)
        if asking:
            ground.campaign_at = now + ground.draw("retry")
        return True

    def _turn_away(self, message: Message) -> None:
        """The sender lives in an older term. A leader learns it from the answer, and so does who asks for a vote."""
        ground = self._ground
        mine = (ground.name, message.sender, ground.hard.term)
        match message:
            case Append():
                ground.send(AppendReply(*mine, message.prev, accepted=False, match=0, end=0))
            case Heartbeat():
                ground.send(HeartbeatReply(*mine, ground.log.end, ground.hard.joined))
            case Reseed():
                ground.send(AppendReply(*mine, message.head.begin, accepted=False, match=0, end=0))
            case Vote():
                ground.send(VoteReply(*mine, granted=False))

    def _dispatch(self, message: Message, now: float) -> None:
        leads = self.role is Role.LEADER
        match message:
            case Append() | Heartbeat() | Reseed():
                if leads:
                    raise RaftError(f"{message.sender} and {self.name} both lead term {self.term}")
                if self.leader not in ("", message.sender):
                    raise RaftError(f"{message.sender} and {self.leader} both lead term {self.term}")
                self._copy(message, now)
            case AppendReply():
                if leads and message.sender in self._leading.peers:
                    self._leading.on_append_reply(message, now)
            case HeartbeatReply():
                if leads and message.sender in self._leading.peers:
                    self._leading.on_heartbeat_reply(message, now)
            case PreVote():
                self._elections.on_pre_vote(message, now)
            case PreVoteReply():
                self._elections.on_pre_vote_reply(message, now)
            case Vote():
                self._elections.on_vote(message, now)
            case VoteReply():
                self._elections.on_vote_reply(message, now)
            case Knock():
                self._elections.turn_away(message.sender)
            case Stranger():
                self._elections.on_stranger(message)
            case TimeoutNow():
                if not self._following.resetting:
                    self._elections.on_timeout_now(message, now)

    def _copy(self, message: Append | Heartbeat | Reseed, now: float) -> None:
        match message:
            case Append():
                self._following.on_append(message, now)
            case Heartbeat():
                self._following.on_heartbeat(message, now)
            case Reseed():
                self._following.on_reseed(message, now)

    def saved(self, hard: HardState, now: float) -> Ready:
        """This hard state is on disk, synced."""
        if self._ground.saved(hard):
            self._following.saved()
            self._elections.saved(now)
        return self._ground.take()

    def appended(self, term: int, end: int, now: float, membership: Membership | None = None) -> Ready:
        """This leader's driver has written records up to `end` (not yet synced).

        Raises RaftError if this node does not lead `term`. The first call of a term is for the marker.
        """
        self._leading.appended(term, end, membership, now)
        return self._ground.take()

    def stable(self, end: int, generation: int, now: float) -> Ready:
        """The log is durable up to `end`: synced under SYNC_FLUSH, written under ASYNC_FLUSH.

        `generation` is the value of the property when the sync began; a sync that began before a truncation proves
        nothing and is ignored, so the driver syncs again after each. Acknowledgements leave from here.
        """
        log = self._ground.log
        if generation == log.generation and self.role is not Role.FAILED:
            if end > log.end:
                raise RaftError(f"durable up to {end}, but the log ends at {log.end}")
            if end > log.durable:
                log.durable = end
                self._following.stable(now)
                self._leading.stable(now)
        return self._ground.take()

    def loaded(self, read: Read, end: int, now: float) -> Ready:
        """The bytes [read.start, end) were read: gives the Append that carries them."""
        self._leading.loaded(read, end, now)
        return self._ground.take()

    def head_moved(self, begin: int, now: float) -> Ready:
        """Retention has deleted what lies below `begin` (after `head_at(begin)` was written durably)."""
        self._ground.log.forget_below(begin)
        return self._ground.take()

    def peer_lost(self, peer: str, now: float) -> Ready:
        """The connection to or from `peer` was closed or refused (not: silent)."""
        if self.role is Role.LEADER:
            self._leading.peer_lost(peer, now)
        elif self.role is Role.FOLLOWER and peer == self.leader:
            self._elections.leader_lost(now)
        return self._ground.take()

    def peer_found(self, peer: str, now: float) -> Ready:
        """A connection to `peer` was made: a leader resumes sending at once instead of with the next heartbeat."""
        if self.role is Role.LEADER:
            self._leading.peer_found(peer, now)
        return self._ground.take()

    def transfer(self, to: str, now: float) -> Ready:
        """Hand leadership to this voter, or with "" to the best one. Given up after election_max.

        Raises MembershipError if this node does not lead or `to` cannot.
        """
        self._leading.transfer(to, now)
        return self._ground.take()

    def change(self, change: Change, now: float) -> Ready:
        """Propose one membership change. It is in force once appended, final once committed.

        Raises MembershipError when refused: not the leader, no entry of its own term committed yet, another change
        pending, a learner not caught up.
        """
        self._leading.change(change)
        return self._ground.take()

    def disk_failed(self, now: float) -> Ready:
        """Writing or syncing failed: final. A leader hands over; the node says nothing after that."""
        ground = self._ground
        if ground.role is not Role.FAILED:
            best = self._leading.best() if ground.role is Role.LEADER else ""
            ground.say_nothing()
            if best:
                ground.send(TimeoutNow(ground.name, best, ground.hard.term))
            ground.role, ground.leader = Role.FAILED, ""
            ground.event("disk failed", hands_over_to=best)
        return ground.take()
