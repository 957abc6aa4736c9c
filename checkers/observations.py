"""What nodes and name servers said of themselves: status, elections, memberships and routes, read from the history.

Every answer is true of some instant between the asking and the answer. What cannot be read is counted and left out, so
that a checker that needs it can say so; nothing here raises on a strange value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final, TypeVar

from checkers.columns import History
from checkers.event import Event

SIDE: Final = "lab"
"""Who asks through the side channel, which no fault cuts; all others ask from a client's host, over its wires."""

SILENCE_NS: Final = 5_000_000_000
"""For so long at most a group may go unasked during the load; a longer gap could hide what the checkers look for."""


@dataclass(frozen=True, slots=True)
class Status:
    """One side-channel question to a broker and its answer; positions are bytes of the log, times nanoseconds.

    `vote` is whom the node says it voted for in `term`: "" for nobody, None if it does not tell. `starved` is for how
    long its process had no CPU so far although it was ready to run, None if the lab does not know.
    """

    index: int
    node: str
    group: str
    incarnation: str | None
    asked: int
    time: int
    answered: bool
    starved: int | None = None
    role: str = ""
    serving: bool | None = None
    term: int | None = None
    leader: str | None = None
    vote: str | None = None
    begin: int | None = None
    end: int | None = None
    durable: int | None = None
    commit: int | None = None
    queues: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def leads(self) -> bool:
        """Tell whether the node called itself leader of a term."""
        return self.answered and self.role == "leader" and self.term is not None


@dataclass(frozen=True, slots=True)
class Ballot:
    """One line of a node's log about an election; `time` is None where the log has no clock of the history."""

    index: int
    node: str
    group: str
    incarnation: str | None
    event: str
    term: int
    to: str | None
    leader: str | None
    time: int | None


@dataclass(frozen=True, slots=True)
class Membership:
    """A committed configuration of a group, and when it was seen to hold."""

    index: int
    group: str
    voters: tuple[str, ...]
    learners: tuple[str, ...]
    quorum: int
    time: int


@dataclass(frozen=True, slots=True)
class Listing:
    """What a route says of one group: nodes by broker id, the leader's term if it tells, and the number of queues."""

    brokers: Mapping[str, str]
    term: int | None
    queues: int | None

    @property
    def leader(self) -> str | None:
        """Return the node listed with broker id 0."""
        return self.brokers.get("0")


@dataclass(frozen=True, slots=True)
class Route:
    """One question to a name server, from the side channel (`lab`) or from a client's host, and its answer."""

    index: int
    ns: str
    incarnation: str
    source: str
    asked: int
    time: int
    answered: bool
    topic: str
    groups: Mapping[str, Listing]


@dataclass(frozen=True, slots=True)
class Observed:
    """All observations of a run in order of the answers. `statuses` are those of members of Raft groups, `appointed`
    those of masters and slaves. `unreadable` counts by kind what could not be read.
    """

    statuses: Sequence[Status] = ()
    appointed: Sequence[Status] = ()
    ballots: Sequence[Ballot] = ()
    memberships: Sequence[Membership] = ()
    routes: Sequence[Route] = ()
    unreadable: Mapping[str, int] = field(default_factory=dict)

    def of_group(self, group: str) -> list[Status]:
        """Return the statuses of a group's nodes, of whichever kind they are."""
        return [status for status in self.statuses or self.appointed if status.group == group]


def whole(value: Any) -> int | None:
    """Return a whole number as it is, and None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**62 else None


def whole_number(text: str | None) -> int | None:
    """Return the number a word stands for, such as that of a life of a node; None if it stands for none."""
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def word(value: Any) -> str | None:
    """Return a name or a number as text, and None for anything else."""
    if isinstance(value, str):
        return value
    number = whole(value)
    return None if number is None else str(number)


def _since(value: Mapping[str, Any], event: Event) -> int:
    """Return when a question was asked; one that does not say could have been asked at any time before."""
    asked = whole(value.get("t_asked"))
    return 0 if asked is None else min(asked, event.time)


def _bounds(value: Any) -> dict[str, tuple[int, int]]:
    if not isinstance(value, Mapping):
        return {}
    found: dict[str, tuple[int, int]] = {}
    for name, pair in value.items():
        if isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2:
            low, high = whole(pair[0]), whole(pair[1])
            if low is not None and high is not None:
                found[str(name)] = (low, high)
    return found


def _status(history: History, event: Event) -> Status | None:
    value = event.value
    if not isinstance(value, Mapping) or not isinstance(value.get("node"), str):
        return None
    node = value["node"]
    group = word(value.get("group")) or history.meta.group_of_node(node) or ""
    asked = _since(value, event)
    incarnation, starved = word(value.get("incarnation")), whole(value.get("starved_ns"))
    if value.get("answered") is False:
        return Status(event.index, node, group, incarnation, asked, event.time, False, starved)
    role = value.get("role")
    if not isinstance(role, str):
        return None
    serving = value.get("serving")
    return Status(
        event.index, node, group, incarnation, asked, event.time, True, starved,
        role=role.lower(),
        serving=serving if isinstance(serving, bool) else None,
        term=whole(value.get("term")),
        leader=word(value.get("leader")),
        vote="" if "vote" in value and value["vote"] is None else word(value.get("vote")),
        begin=whole(value.get("begin")),
        end=whole(value.get("end")),
        durable=whole(value.get("durable")),
        commit=whole(value.get("commit")),
        queues=_bounds(value.get("queues")),
    )  # fmt: skip


def _appointed(history: History, event: Event) -> Status | None:
    """A master or a slave: its epoch is its term, and a master that serves leads it."""
    status = _status(history, event)
    if status is None or not status.answered:
        return status
    epoch = event.value.get("epoch")
    return replace(
        status,
        role="follower" if status.role == "slave" else "leader",
        serving=event.value.get("state") == "serving",
        term=whole(epoch.get("number")) if isinstance(epoch, Mapping) else None,
    )


def _ballot(history: History, event: Event) -> Ballot | None:
    value = event.value
    if not isinstance(value, Mapping) or not isinstance(value.get("node"), str):
        return None
    term, what = whole(value.get("term")), value.get("event")
    if term is None or not isinstance(what, str):
        return None
    node = value["node"]
    group = word(value.get("group")) or history.meta.group_of_node(node) or ""
    return Ballot(
        event.index, node, group, word(value.get("incarnation")), what, term, word(value.get("to")),
        word(value.get("leader")), whole(value.get("t")),
    )  # fmt: skip


def _strings(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else ()


def _membership(history: History, event: Event) -> Membership | None:
    value = event.value
    if not isinstance(value, Mapping) or not isinstance(value.get("group"), str):
        return None
    voters = _strings(value.get("voters"))
    if not voters:
        return None
    quorum, when = whole(value.get("quorum")), whole(value.get("t"))
    return Membership(
        event.index, value["group"], voters, _strings(value.get("learners")),
        len(voters) // 2 + 1 if quorum is None else quorum, event.time if when is None else when,
    )  # fmt: skip


def _listing(history: History, value: Any) -> Listing | None:
    if not isinstance(value, Mapping) or not isinstance(value.get("brokers"), Mapping):
        return None
    named = {str(number): str(node) for number, node in value["brokers"].items() if node is not None}
    brokers = {number: history.meta.node_at(node) or node for number, node in named.items()}
    return Listing(brokers, whole(value.get("term")), whole(value.get("queues")))


def _route(history: History, event: Event) -> Route | None:
    value = event.value
    if not isinstance(value, Mapping) or not isinstance(value.get("ns"), str):
        return None
    answered = value.get("answered") is not False
    groups = value.get("groups", {})
    if answered and not isinstance(groups, Mapping):
        return None
    listings = {str(name): _listing(history, one) for name, one in groups.items()} if answered else {}
    if any(one is None for one in listings.values()):
        return None
    return Route(
        event.index, value["ns"], word(value.get("incarnation")) or "", word(value.get("from")) or "lab",
        _since(value, event), event.time, answered, word(value.get("topic")) or "",
        {name: one for name, one in listings.items() if one is not None},
    )  # fmt: skip


Kind = TypeVar("Kind")


def _read(
    history: History, name: str, read: Callable[[History, Event], Kind | None], unreadable: dict[str, int]
) -> list[Kind]:
    found: list[Kind] = []
    for event in history.lab(name):
        if isinstance(event.process, int):  # a client's own operation of that name is no observation
            continue
        one = read(history, event)
        if one is None:
            unreadable[name] = unreadable.get(name, 0) + 1
        else:
            found.append(one)
    return found


def observe(history: History) -> Observed:
    """Read all observations of a history.

    Masters and slaves have other words in `status` than members of Raft groups.
    """
    unreadable: dict[str, int] = {}
    raft = history.meta.mode == "dledger"
    return Observed(
        statuses=_read(history, "status", _status, unreadable) if raft else [],
        appointed=[] if raft else _read(history, "status", _appointed, {}),
        ballots=_read(history, "election", _ballot, unreadable),
        memberships=_read(history, "membership", _membership, unreadable),
        routes=_read(history, "route", _route, unreadable),
        unreadable=unreadable,
    )


def unwatched(history: History, observed: Observed, excluded: frozenset[str], begin: int, end: int) -> list[str]:
    """Return what keeps the status answers from showing what every voter of every group did during the load."""
    doubts = [] if history.meta.groups else ["the run names no broker group"]
    for group, configured in sorted(history.meta.groups.items()):
        voters = configured.electors
        if not voters:
            doubts.append(f"{group}: the run names no voters")
        elif not len(voters) // 2 < configured.votes <= len(voters):
            doubts.append(f"{group}: {configured.votes} votes are no majority of {len(voters)} voters")
        wanted = [node for node in voters if node not in excluded]
        statuses = observed.of_group(group)
        doubts += [
            f"{group}: nobody asked {node} between {low / 1e9:.3f} s and {high / 1e9:.3f} s"
            for node, low, high in sampling_gaps(statuses, wanted, begin, end)
        ]
        told = {status.node for status in statuses if status.answered}
        changes = [change for change in observed.memberships if change.group == group]
        doubts += [
            f"{group}: a configuration counts {change.quorum} of {len(change.voters)} voters as a quorum"
            for change in changes if not len(change.voters) // 2 < change.quorum <= len(change.voters)
        ]  # fmt: skip
        joined = {voter for change in changes for voter in change.voters} - set(voters) - excluded
        if mute := [node for node in (*wanted, *sorted(joined)) if node not in told]:
            doubts.append(f"{group}: {', '.join(mute)} never said what it was")
    doubts += [
        f"{count} {kind} events could not be read"
        for kind, count in sorted(observed.unreadable.items())
        if kind in ("status", "membership")
    ]
    return doubts


def sampling_gaps(
    statuses: Iterable[Status], wanted: Iterable[str], begin: int, end: int
) -> list[tuple[str, int, int]]:
    """Return for which nodes nobody looked for longer than `SILENCE_NS`, with the span; an unanswered question counts.

    A node that was never asked has the whole span.
    """
    asked: dict[str, list[int]] = {node: [] for node in wanted}
    for status in statuses:
        if status.node in asked:
            asked[status.node].append(status.time)
    gaps = []
    for node, times in asked.items():
        marks = [begin, *(time for time in sorted(times) if begin <= time <= end), end]
        worst = max(pairwise(marks), key=lambda pair: pair[1] - pair[0], default=(begin, end))
        if not times or worst[1] - worst[0] > SILENCE_NS:
            gaps.append((node, *worst))
    return gaps
