"""What must hold after every step of a Raft group, told by one who sees all nodes at once.

Figure 3 of the paper (election safety, leader append-only, log matching, leader completeness, state machine safety),
and three that find a broken promise at the moment it is given: one vote a term, no term twice, and no commit that is
not durable on a majority.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.replication.raft.messages import Message, PreVote, PreVoteReply, Vote, VoteReply
from nodes.replication.raft.orders import Role
from nodes.replication.raft.quorum import majority
from tests.unit.nodes.raft_disk import SimDisk, split

if TYPE_CHECKING:
    from tests.unit.nodes.raft_world import Node, World


class Broken(AssertionError):
    """An invariant does not hold; the text begins with its name."""


def demand(holds: bool, name: str, text: str) -> None:
    if not holds:
        raise Broken(f"{name}: {text}")


class Invariants:
    """Everything that was ever seen, in tables that make each check cheap."""

    def __init__(self, *, written_counts: bool = False, lossy: bool = False) -> None:
        """`written_counts`: what is written counts as durable (ASYNC_FLUSH). `lossy`: and power may be lost, so that
        nothing can be demanded of what was committed; votes, terms and leaders keep their promises."""
        self._written_counts = written_counts
        self._lossy = lossy
        self.losses = 0
        """Leaders that were seen without what had been committed before their term, where that may be."""
        self.leaders: dict[int, str] = {}
        self.votes: dict[tuple[int, str], str] = {}
        self.terms_said: dict[str, int] = {}
        self.written: dict[tuple[int, int], tuple[bytes, int]] = {}
        """(term, end) of a record: its bytes and the term of the record before it."""
        self.agreed: dict[int, tuple[int, bytes]] = {}
        """Where a committed record ends: its term and bytes."""
        self.agreed_end = 0
        self.agreed_in: list[tuple[int, int]] = []
        """(end, term in which it was seen to be committed), in order."""
        self.checked: dict[str, int] = {}
        self.emptied: set[str] = set()
        """Whose disk was replaced: what they had acknowledged was true when they said it."""

    def said(self, message: Message) -> None:
        """A node says something."""
        if isinstance(message, PreVote) or (isinstance(message, PreVoteReply) and message.granted):
            return
        known = self.terms_said.get(message.sender, 0)
        demand(known <= message.term, "no term twice", f"{message.sender} was in term {known}, now {message.term}")
        self.terms_said[message.sender] = message.term
        if isinstance(message, Vote):
            self._vote(message.term, message.sender, message.sender)
        elif isinstance(message, VoteReply) and message.granted:
            self._vote(message.term, message.sender, message.to)

    def _vote(self, term: int, voter: str, candidate: str) -> None:
        first = self.votes.setdefault((term, voter), candidate)
        demand(first == candidate, "one vote a term", f"{voter} voted for {first} and {candidate} in term {term}")

    def wrote(self, node: Node, start: int, data: bytes) -> None:
        """Records were added to a node's log, and its core knows of them."""
        table = node.raft.status().rows
        at = start
        for end, item in split(data, start):
            term = max((row.term for row in table if row.start < end), default=0)
            before = max((row.term for row in table if row.start < at), default=0)
            first = self.written.setdefault((term, end), (item, before))
            demand(
                first == (item, before),
                "log matching",
                f"{node.name} holds {item!r} after term {before} where {first} ends at {end} in term {term}",
            )
            at = end

    def restarted(self, name: str) -> None:
        """What a node had applied it applies again."""
        self.checked.pop(name, None)

    def replaced(self, name: str) -> None:
        """Its disk was emptied: what it had voted, it cannot know any more."""
        self.emptied.add(name)
        self.terms_said.pop(name, None)
        for term, voter in [key for key in self.votes if key[1] == name]:
            del self.votes[term, voter]

    def step(self, world: World, node: Node) -> None:
        """After every input of a node."""
        raft = node.raft
        if raft.role is Role.LEADER:
            first = self.leaders.setdefault(raft.term, raft.name)
            demand(first == raft.name, "election safety", f"{first} and {raft.name} both led term {raft.term}")
            if node.led != raft.term:
                node.led, node.led_end = raft.term, raft.end
                self._complete(node)
            demand(raft.end >= node.led_end, "leader append-only", f"{node.name} shortened its log while leading")
            node.led_end = raft.end
        self._committed(world, node)

    def _complete(self, node: Node) -> None:
        """A leader holds what was committed in terms before its own; a late one of an older term owes nothing newer."""
        end = next((end for end, term in reversed(self.agreed_in) if term < node.raft.term), 0)
        if end <= node.disk.base:
            return
        term, item = self.agreed[end]
        complete = (
            node.disk.end >= end
            and node.disk.bytes_between(max(node.disk.base, end - len(item)), end)[-len(item) :] == item
        )
        if self._lossy:
            self.losses += not complete
            return
        demand(
            complete,
            "leader completeness",
            f"{node.name} leads term {node.raft.term} without what was committed up to {end} in term {term}",
        )

    def _committed(self, world: World, node: Node) -> None:
        raft = node.raft
        known = max(self.checked.get(node.name, 0), node.disk.base)
        demand(raft.committed >= known, "commit never falls", f"{node.name}: {known} to {raft.committed}")
        if raft.committed == known:
            return
        self.checked[node.name] = raft.committed
        rows = raft.status().rows
        for end, item in split(node.disk.bytes_between(known, raft.committed), known):
            term = max((row.term for row in rows if row.start < end), default=0)
            if end <= self.agreed_end and not self._lossy:
                demand(
                    self.agreed.get(end) == (term, item),
                    "state machine safety",
                    f"{node.name} applies {item!r} of term {term} at {end}, agreed was {self.agreed.get(end)}",
                )
            else:
                self.agreed[end] = (term, item)
        if raft.committed > self.agreed_end:
            self.agreed_end = raft.committed
            self.agreed_in.append((raft.committed, raft.term))
            if raft.role is Role.LEADER and not self._lossy:
                self._durable(world, node)

    def _durable(self, world: World, leader: Node) -> None:
        """What a leader calls committed lies durably on a majority of its voters."""
        end = leader.raft.committed
        _, item = self.agreed[end]
        voters = leader.raft.membership.voter_names
        holding = [
            name
            for name in voters
            if (name in self.emptied and not world.nodes[name].disk.hard.joined)
            or (
                self._held(disk := world.nodes[name].disk) >= end
                and (disk.base >= end or disk.bytes_between(max(disk.base, end - len(item)), end) == item)
            )
        ]
        demand(
            len(holding) >= majority(len(voters)),
            "durable on a majority",
            f"{leader.name} commits {end} in term {leader.raft.term}; durable on {holding} of {voters}",
        )

    def _held(self, disk: SimDisk) -> int:
        return disk.end if self._written_counts else disk.synced
