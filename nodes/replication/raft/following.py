"""The follower's side: take over the leader's log, and acknowledge what is durable. Pure.

Rules (Raft 5.3, 7):
* an Append is accepted only where the logs match; what conflicts is cut, never anything committed;
* what is there already is not written again, and a late Append never shortens the log;
* acknowledged is only what is durable *and* known to equal the log of the leader of this term;
* committed is what the leader says, at most up to where the logs are known to be equal.
"""

from __future__ import annotations

from nodes.flaws import Flaw
from nodes.replication.raft.ground import Ground
from nodes.replication.raft.messages import Append, AppendReply, Heartbeat, HeartbeatReply, Reseed
from nodes.replication.raft.orders import Head, RaftError, Reset, Role, Truncate, Write

__all__ = ["Following"]

_LAGS_BYTES = 64 * 1024
"""Of the planted flaw COMMIT_PAST_END: a follower that is so far behind shows it."""


class Following:
    """The part of a node that copies a leader. The caller has dealt with terms: messages are of the current one."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._acknowledged = (0, 0)
        """Term and position of the last acknowledgement."""
        self._resetting: Head | None = None
        """A re-seed that waits for the hard state or for the driver."""
        self._reset_ordered = False
        self._was_joined = False
        self._leader_committed = 0

    @property
    def resetting(self) -> bool:
        """The log is being thrown away: nothing of it may be used."""
        return self._resetting is not None

    def on_heartbeat(self, message: Heartbeat, now: float) -> None:
        """The leader lives; perhaps more is committed."""
        ground = self._ground
        ground.follow(message.term, message.sender, now)
        self._commit(message.committed)
        ground.send(HeartbeatReply(ground.name, message.sender, ground.hard.term, ground.matched, ground.hard.joined))

    def on_append(self, message: Append, now: float) -> None:
        """Compare, cut, write; answer at once if nothing has to become durable first."""
        ground, log = self._ground, self._ground.log
        ground.follow(message.term, message.sender, now)
        if self.resetting:
            return
        prev, prev_term = message.prev, message.prev_term
        if log.committed > log.end and Flaw.COMMIT_PAST_END in ground.flaws:
            return  # it believes to hold all this
        if prev < log.committed and Flaw.VOTE_FOR_SHORTER_LOG not in ground.flaws:
            self._demand_agreement(message)
            # Both hold everything committed, so compare there. Below may even be deleted here.
            prev, prev_term = log.committed, log.table.term_at(log.committed)
            if message.end <= prev:
                self._accept(message, message.end)  # no further: what follows is compared when it comes
                return
        if not log.matches(prev, prev_term):
            self._tell_rows(message.prev, prev_term)
            return
        self._take(message, prev)
        self._commit(message.committed)

    def _tell_rows(self, prev: int, term: int) -> None:
        """Not here: from the newest terms up to `term` the leader sees where the logs part."""
        ground = self._ground
        rows, end = ground.log.told(term)
        ground.send(
            AppendReply(
                ground.name,
                ground.leader,
                ground.hard.term,
                prev,
                accepted=False,
                match=0,
                end=end,
                rows=rows,
                joined=ground.hard.joined,
            )
        )

    def _demand_agreement(self, message: Append) -> None:
        """A leader holds all that is committed. One that differs there was elected without it: stop, never follow it.

        That takes disks that lost what they had acknowledged: ASYNC_FLUSH and a power cut, or worse.
        """
        log = self._ground.log
        start, end = max(message.prev, log.begin), min(message.end, log.committed)
        differs = message.prev >= log.begin and log.table.term_at(message.prev) != message.prev_term
        if not differs and start < end:
            differs = log.shared_with_batch(start, end, message.records_term) < end
        if differs:
            raise RaftError(
                f"committed here up to {log.committed} in term {log.table.term_at(log.committed)}, but the log of "
                f"{message.sender}, leader of term {message.term}, differs at or below {max(start, end)}: "
                "acknowledged records were lost on a majority of disks"
            )

    def _take(self, message: Append, prev: int) -> None:
        ground, log = self._ground, self._ground.log
        if message.end == message.prev:
            self._accept(message, prev)
            return
        shared = log.shared_with_batch(prev, message.end, message.records_term)
        if shared == message.end:
            self._accept(message, shared)
            return
        if shared < log.end:
            if Flaw.KEEP_CONFLICTING_TAIL in ground.flaws:
                shared = log.end
                if shared >= message.end:
                    self._accept(message, message.end)
                    return
            else:
                ground.event("cuts a conflicting tail", at=shared, end=log.end)
                if Flaw.VOTE_FOR_SHORTER_LOG in ground.flaws:
                    log.committed = min(log.committed, shared)
                log.truncate(shared)
                ground.order(Truncate(shared, log.generation))
        ground.order(Write(shared, message.end, shared - message.prev))
        log.extend(message.end, message.records_term, message.memberships)
        ground.matched = max(ground.matched, message.end)
        if Flaw.ACK_BEFORE_FSYNC in ground.flaws:
            log.durable = log.end
            self._acknowledge()

    def _accept(self, message: Append, upto: int) -> None:
        """Nothing to write: say so at once, also how much of it is durable."""
        ground = self._ground
        ground.matched = max(ground.matched, upto)
        self._acknowledge(message.prev, always=True)

    def _acknowledge(self, prev: int = -1, *, always: bool = False) -> None:
        ground = self._ground
        match = min(ground.matched, ground.log.durable)
        if not always and (ground.matched == 0 or (ground.hard.term, match) <= self._acknowledged):
            return
        self._acknowledged = (ground.hard.term, match)
        ground.send(
            AppendReply(
                ground.name,
                ground.leader,
                ground.hard.term,
                prev,
                accepted=True,
                match=match,
                end=ground.matched,
                joined=ground.hard.joined,
            )
        )

    def _commit(self, position: int) -> None:
        ground = self._ground
        self._leader_committed = max(self._leader_committed, position)
        if not self.resetting:
            lags = position - ground.matched > _LAGS_BYTES and Flaw.COMMIT_PAST_END in ground.flaws
            ground.commit(position if lags else min(position, ground.matched))
            self._join()

    def _join(self) -> None:
        """An empty disk belongs to the group once it durably holds all that a leader of this term has committed.

        The leader must have committed a record of its own term, or else it may not know yet what is committed.
        """
        ground, log = self._ground, self._ground.log
        if ground.hard.joined or self._resetting is not None:
            return
        held = min(log.durable, log.committed)
        if held >= self._leader_committed and log.table.term_at(held) == ground.hard.term:
            ground.remember(joined=True)
            ground.event("has joined the group", end=log.end)

    def stable(self, now: float) -> None:
        """More of the log is durable."""
        ground = self._ground
        if self._resetting is not None and self._reset_ordered:
            if ground.log.durable < self._resetting.begin:
                return
            self._resetting = None
            ground.matched = ground.log.begin
            if self._was_joined:
                ground.remember(joined=True)
        if ground.role is Role.FOLLOWER and ground.leader and not self.resetting:
            self._acknowledge()
            self._join()

    # Re-seeding.

    def on_reseed(self, message: Reseed, now: float) -> None:
        """This log ends below where the leader's begins: start over there. The hard state says so first."""
        ground, log = self._ground, self._ground.log
        ground.follow(message.term, message.sender, now)
        if self.resetting:
            return
        head = message.head
        term = 0 if head.row is None else head.row.term
        if head.begin <= log.committed or log.matches(head.begin, term):
            self._tell_rows(head.begin, ground.hard.term)  # it is not needed
            return
        ground.event("is re-seeded", begin=head.begin, end=log.end)
        self._resetting, self._reset_ordered, self._was_joined = head, False, ground.trusted
        ground.begin_anew_at(head)
        self.saved()

    def saved(self) -> None:
        """The hard state is durable: the log may be thrown away now."""
        ground = self._ground
        if self._resetting is not None and not self._reset_ordered and not ground.saving:
            self._reset_ordered = True
            ground.log.reset(self._resetting)
            ground.matched = ground.log.begin
            ground.order(Reset(self._resetting, ground.log.generation))
