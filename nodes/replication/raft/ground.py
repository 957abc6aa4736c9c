"""What all roles of a node share: its hard state, its log, its role, and what it has to say. Pure.

The one place that keeps messages back: nothing leaves while a hard state waits to be saved, nor is anything told of it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Protocol

from nodes.flaws import Flaw
from nodes.replication.raft.log import LogView
from nodes.replication.raft.messages import Message
from nodes.replication.raft.orders import (
    Event,
    HardState,
    Head,
    LogOrder,
    Marker,
    OwnRecord,
    Read,
    Ready,
    Restored,
    Role,
)
from nodes.replication.raft.settings import Settings

__all__ = ["KEPT_BACK_MAX", "Chance", "Ground"]

KEPT_BACK_MAX = 1024
"""So many messages wait for a hard state at most; the oldest are lost then, as they might be on the way."""

NEVER_TOLD = (-1, -1)


class Chance(Protocol):
    """The part of random.Random that is used."""

    def uniform(self, a: float, b: float) -> float:
        """A number from [a, b]."""
        ...


class Ground:
    """State of one node, and the outbox of the input that is being handled."""

    def __init__(
        self, name: str, settings: Settings, restored: Restored, rng: Chance, now: float, flaws: frozenset[Flaw]
    ) -> None:
        self.name = name
        self.settings = settings
        self.timing = settings.timing
        self.rng = rng
        self.flaws = flaws
        self.log = LogView(restored)
        hard = restored.hard
        if Flaw.FORGET_TERM in flaws:
            hard = replace(hard, term=0, vote="")
        if Flaw.FORGET_VOTE in flaws:
            hard = replace(hard, vote="")
        if self.log.last_term > hard.term:
            hard = replace(hard, term=self.log.last_term, vote="")
        self.hard = hard
        self._durable_hard = hard
        self._asked_hard = hard
        if not hard.joined and 0 < hard.floor_end <= self.log.begin:
            self.remember(joined=True)  # the crash came after the re-seed
        self.role = Role.FOLLOWER
        self.leader = ""
        self.heard = float("-inf")
        """When the leader of this term was last heard."""
        self.matched = 0
        """Up to where a follower's log was seen to equal the leader's of this term; 0: not compared yet."""
        self.attempts = 0
        """Campaigns since a leader was last heard."""
        self.campaign_at = now + self.draw("election")
        self._messages: deque[Message] = deque(maxlen=KEPT_BACK_MAX)
        self._log_orders: list[LogOrder] = []
        self._reads: list[Read] = []
        self._events: list[Event] = []
        self.marker: Marker | None = None
        self.own_record: OwnRecord | None = None
        self._was_outside = self.outside
        self._shown = self._face()

    def draw(self, kind: str) -> float:
        """A random time of this kind: election, retry or early."""
        return self.rng.uniform(getattr(self.timing, kind + "_min"), getattr(self.timing, kind + "_max"))

    # The outbox.

    def send(self, message: Message) -> None:
        """Say it as soon as the hard state is saved."""
        self._messages.append(message)

    def order(self, order: LogOrder) -> None:
        """The driver changes its log."""
        self._log_orders.append(order)

    def read(self, read: Read) -> None:
        """The driver reads for a follower."""
        self._reads.append(read)

    def say_nothing(self) -> None:
        """Forget what was to be sent."""
        self._messages.clear()

    def event(self, name: str, **fields: object) -> None:
        """To be logged, as soon as the hard state is saved: no line tells of a vote or term that a crash takes back."""
        self._events.append(Event(name, {"term": self.hard.term, **fields}))

    @property
    def durable_hard(self) -> HardState:
        """The hard state that survives a crash at this moment."""
        return self._durable_hard

    @property
    def saving(self) -> bool:
        """A hard state is not durable yet."""
        return self.hard != self._durable_hard

    def saved(self, hard: HardState) -> bool:
        """It is durable. True if nothing is left to be saved."""
        self._durable_hard = hard
        return not self.saving

    def _face(self) -> tuple[object, ...]:
        return (self.role, self.hard.term, self.leader, self.log.membership, self._was_outside)

    def take(self) -> Ready:
        """All that the input has led to."""
        save = None
        if self.saving and self._asked_hard != self.hard:
            save = self._asked_hard = self.hard
        elif not self.saving:
            self._asked_hard = self.hard
        messages: tuple[Message, ...] = ()
        if not self.saving:
            messages = tuple(self._messages)
            self._messages.clear()
        outside = self.outside
        if outside != self._was_outside:
            self._was_outside = outside
            self.event("is no member of the group" if outside else "is a member of the group")
        events: tuple[Event, ...] = ()
        if not self.saving or self.role is Role.FAILED:
            events = tuple(self._events)
            self._events.clear()
        face = self._face()
        ready = Ready(
            save=save,
            log=tuple(self._log_orders),
            marker=self.marker,
            own_record=self.own_record,
            reads=tuple(self._reads),
            messages=messages,
            committed=self.log.committed,
            changed=face != self._shown,
            events=events,
        )
        self._shown = face
        self._log_orders.clear()
        self._reads.clear()
        self.marker = self.own_record = None
        return ready

    # Changes of state.

    def remember(self, term: int | None = None, vote: str | None = None, joined: bool | None = None) -> None:
        """Change the hard state; the outbox asks the driver to save it."""
        old = self.hard
        self.hard = replace(
            old,
            term=old.term if term is None else term,
            vote=old.vote if vote is None else vote,
            joined=old.joined if joined is None else joined,
        )

    def told_outside(self, term: int, end: int) -> None:
        """Others say that this node is no member, as of what they hold as committed: up to `end`, of that term."""
        if (term, end) > (self.hard.told_term, self.hard.told_end):
            self.hard = replace(self.hard, told_term=term, told_end=end)

    def begin_anew_at(self, head: Head) -> None:
        """The log will be thrown away and begin at `head`: what is owed to the group from now on."""
        old = self.hard
        term = 0 if head.row is None else head.row.term
        floor = (old.floor_term, old.floor_end)
        if old.joined or old.floor_end > 0:
            floor = max(floor, (term, head.begin))
        self.hard = replace(old, joined=False, floor_term=floor[0], floor_end=floor[1])

    def follow(self, term: int, leader: str, now: float) -> None:
        """Become a follower in `term` of `leader` ("" if not known yet)."""
        new_term = term > self.hard.term
        if new_term:
            self.remember(term=term, vote="")
        if self.role is Role.LEADER:
            self.event("leader steps down", leader=leader)
        if new_term or self.role is Role.LEADER:
            self.matched = 0
            self.campaign_at = now + self.draw("election")
        self.role = Role.FOLLOWER
        if leader and leader != self.leader:
            self.event("follows", leader=leader)
        self.leader = leader
        if leader:
            self.hear(now)

    def hear(self, now: float) -> None:
        """The leader of this term is alive."""
        self.heard = now
        self.attempts = 0
        self.campaign_at = now + self.draw("election")

    def commit(self, position: int) -> None:
        """The group has agreed up to `position`."""
        self.log.committed = max(self.log.committed, position)

    @property
    def others(self) -> tuple[str, ...]:
        """The other voters."""
        return tuple(name for name in self.log.membership.voter_names if name != self.name)

    @property
    def is_voter(self) -> bool:
        """This node has a vote in the membership in force."""
        return self.log.membership.is_voter(self.name)

    @property
    def trusted(self) -> bool:
        """Its disk belongs to the group, as it is or by what its floor makes up for: it votes for and with anybody."""
        return self.hard.joined or self.hard.floor_end > 0

    @property
    def holds_floor(self) -> bool:
        """Its log holds what the hard state says it is to be counted with."""
        return (self.log.last_term, self.log.end) >= (self.hard.floor_term, self.hard.floor_end)

    @property
    def may_campaign(self) -> bool:
        """A voter whose log is whole. So is one whose removal may not be committed yet: perhaps only it can commit it.

        (Dissertation 4.2.2: its log may be the only one that is new enough to lead.)
        """
        voter = any(row.membership.is_voter(self.name) for row in self.log.live_memberships())
        return voter and self.holds_floor and not self.outside

    @property
    def outside(self) -> bool:
        """The group goes on without this node: as its own log says, or as a member has said of what is committed.

        What is committed here and names this node stands against what others said of a shorter log; and so does a
        record here that lies behind theirs: it was added again, and who said otherwise did not know yet.
        """
        log = self.log
        told = (self.hard.told_term, self.hard.told_end)
        if told == NEVER_TOLD and log.membership.find(self.name) is not None:
            return False  # so it nearly always is
        named = [max(row.end, log.committed) for row in log.live_memberships() if row.membership.find(self.name)]
        return max(((log.table.term_at(end), end) for end in named), default=NEVER_TOLD) <= told

    def excludes(self, name: str, *, joined: bool) -> bool:
        """As of what is committed here, `name` is no member, nor can it become one by what lies behind.

        What this node was configured with (a row without a record, at 0) may be its own mistake, so it counts only
        against a node that has not joined any group yet.
        """
        if not self.hard.joined or self.log.committed == 0 or self.outside:
            return False
        live = self.log.live_memberships()
        return all(row.membership.find(name) is None for row in live) and (live[0].end > 0 or not joined)
