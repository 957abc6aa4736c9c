"""Who belongs to the group. A membership is in force as soon as its record is in the log (dissertation 4.1). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "AddLearner",
    "Change",
    "Demote",
    "Member",
    "Membership",
    "MembershipError",
    "MembershipRow",
    "Promote",
    "Remove",
]


class MembershipError(Exception):
    """A change that is refused; the text says why and what to do. Nothing was appended."""


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """`name` is the dLegerSelfId (n0, n1, …), `address` host:port; the core looks at names only."""

    name: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class AddLearner:
    """A new node gets the log but no vote."""

    member: Member


@dataclass(frozen=True, slots=True)
class Promote:
    """A learner that has caught up becomes a voter."""

    name: str


@dataclass(frozen=True, slots=True)
class Demote:
    """A voter becomes a learner: it keeps its log and loses its vote."""

    name: str


@dataclass(frozen=True, slots=True)
class Remove:
    """A voter or learner leaves. A leader that is removed leads until that is committed, then hands over."""

    name: str


Change: TypeAlias = AddLearner | Promote | Demote | Remove


@dataclass(frozen=True, slots=True)
class Membership:
    """Voters and learners, each sorted by name."""

    voters: tuple[Member, ...] = ()
    learners: tuple[Member, ...] = ()

    def __post_init__(self) -> None:
        names = [member.name for member in (*self.voters, *self.learners)]
        if len(set(names)) != len(names):
            raise MembershipError(f"a name appears twice among {', '.join(names)}")
        object.__setattr__(self, "voters", tuple(sorted(self.voters)))
        object.__setattr__(self, "learners", tuple(sorted(self.learners)))

    @classmethod
    def of(cls, *voters: str, learners: tuple[str, ...] = ()) -> Membership:
        """A membership from bare names."""
        return cls(tuple(Member(name) for name in voters), tuple(Member(name) for name in learners))

    @property
    def voter_names(self) -> tuple[str, ...]:
        """Names of those that vote and count for commits, sorted."""
        return tuple(member.name for member in self.voters)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all, voters first."""
        return tuple(member.name for member in (*self.voters, *self.learners))

    def is_voter(self, name: str) -> bool:
        """True if `name` votes."""
        return any(member.name == name for member in self.voters)

    def find(self, name: str) -> Member | None:
        """The member of that name."""
        return next((member for member in (*self.voters, *self.learners) if member.name == name), None)

    def changed(self, change: Change) -> Membership:
        """The membership after one change. Raises MembershipError if it makes no sense here."""
        match change:
            case AddLearner(member):
                if self.find(member.name) is not None:
                    raise MembershipError(f"{member.name} is a member already")
                return Membership(self.voters, (*self.learners, member))
            case Promote(name):
                if self.is_voter(name):
                    raise MembershipError(f"{name} is a voter already")
                found = self.find(name)
                if found is None:
                    raise MembershipError(f"{name} is no learner; add it as a learner first")
                return Membership((*self.voters, found), self._without(self.learners, name))
            case Demote(name):
                found = self.find(name)
                if found is None or not self.is_voter(name):
                    raise MembershipError(f"{name} is no voter")
                return Membership(self._voters_without(name), (*self.learners, found))
            case Remove(name):
                if self.find(name) is None:
                    raise MembershipError(f"{name} is no member")
                if not self.is_voter(name):
                    return Membership(self.voters, self._without(self.learners, name))
                return Membership(self._voters_without(name), self.learners)

    def _voters_without(self, name: str) -> tuple[Member, ...]:
        left = self._without(self.voters, name)
        if not left:
            raise MembershipError(f"{name} is the last voter and stays")
        return left

    @staticmethod
    def _without(members: tuple[Member, ...], name: str) -> tuple[Member, ...]:
        return tuple(member for member in members if member.name != name)


@dataclass(frozen=True, slots=True)
class MembershipRow:
    """`membership` is in force from the record that ends at `end` on; `end` is 0 for the configured peers."""

    end: int
    membership: Membership
