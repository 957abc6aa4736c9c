"""One Raft core driven by hand: a node with a log of two terms, a leader, and what is said to them."""

from __future__ import annotations

from random import Random
from typing import Any, TypeVar

from nodes.flaws import Flaw
from nodes.replication.raft.core import Raft
from nodes.replication.raft.membership import (
    Membership,
    MembershipRow,
)
from nodes.replication.raft.messages import (
    Append,
    AppendReply,
    PreVoteReply,
    VoteReply,
)
from nodes.replication.raft.orders import HardState, Ready, Restored
from nodes.replication.raft.settings import Settings
from nodes.replication.raft.terms import TermRow

ABC = MembershipRow(0, Membership.of("a", "b", "c"))
M = TypeVar("M")
OLD = HardState(term=3, vote="", joined=True)


def core(
    *,
    hard: HardState = OLD,
    end: int = 100,
    rows: tuple[TermRow, ...] = (TermRow(1, 0), TermRow(3, 50)),
    stable: int | None = None,
    committed: int = 0,
    begin: int = 0,
    memberships: tuple[MembershipRow, ...] = (ABC,),
    settings: Settings = Settings(),  # noqa: B008 (an immutable value)
    flaws: frozenset[Flaw] = frozenset(),
) -> Raft:
    """Node "a" at time 0 with a log of 100 bytes: term 1 up to 50, term 3 from there."""
    restored = Restored(hard, begin, end, end if stable is None else stable, committed, rows, memberships)
    return Raft("a", settings, restored, Random(1), 0.0, flaws)


def of(kind: type[M], ready: Ready) -> list[M]:
    return [message for message in ready.messages if isinstance(message, kind)]


def save(raft: Raft, ready: Ready, now: float = 0.0) -> Ready:
    assert ready.save is not None
    return raft.saved(ready.save, now)


def leader(**kwargs: Any) -> Raft:
    """Node "a", leader of term 4 at time 2, its marker [100, 110) written."""
    raft = core(**kwargs)
    raft.tick(raft.deadline)
    ready = raft.receive(PreVoteReply("b", "a", raft.term + 1, granted=True), 2.0)
    save(raft, ready, 2.0)
    ready = raft.receive(VoteReply("b", "a", raft.term, granted=True), 2.0)
    assert ready.marker is not None
    raft.appended(raft.term, raft.end + 10, 2.0)
    return raft


def append(raft: Raft, prev: int, prev_term: int, end: int, term: int = 3, records: int = 0, **rest: int) -> Append:
    return Append("b", "a", term, prev, prev_term, records or term, end, rest.get("committed", 0))


def accepted(peer: str, match: int, end: int | None = None) -> AppendReply:
    return AppendReply(peer, "a", 4, match, accepted=True, match=match, end=match if end is None else end)
