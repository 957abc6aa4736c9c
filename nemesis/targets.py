"""Whom a fault hits: words of the plan, resolved against the roles at the moment of the fault. Pure.

A word is a role (``master``: one of the masters, ``masters``: all of them, likewise ``slave``, ``broker``, ``namesrv``,
``client``), a share of the brokers (``one``, ``minority``, ``majority``, ``all``), a node's or host's name, or several
of these with ``+`` between. A broker group in front narrows it: ``broker-a/master``.

``leader`` and ``follower`` are other words for master and slave. ``leader-minority`` and ``leader-majority`` are the
leader of one group with as many of its fellows, by chance, as make the largest minority or the smallest majority. Of
several nodes of a group that call themselves master only those of the newest epoch count: a deposed one that has not
noticed yet is not who the plan means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nemesis.fault import FaultError
from nemesis.world import Moment, Role, RoleReport

if TYPE_CHECKING:
    import random

ROLE_WORDS = {
    "master": Role.MASTER,
    "slave": Role.SLAVE,
    "namesrv": Role.NAME_SERVER,
    "client": Role.CLIENT,
    "leader": Role.MASTER,
    "follower": Role.SLAVE,
}
"""Singular: one of them, by chance. With an s: all of them."""

SHARE_WORDS = ("one", "minority", "majority", "all")
"""Shares of the brokers, dead ones counted."""

LED_WORDS = ("leader-minority", "leader-majority")
"""Shares of one group, its leader among them."""

MOMENT_WORDS = tuple(moment.value for moment in Moment)
"""Whom something happens to in the next election."""

WORDS = (
    *SHARE_WORDS, *LED_WORDS, *MOMENT_WORDS, *(word + end for word in (*ROLE_WORDS, "broker") for end in ("", "s")),
)  # fmt: skip
"""All words that are not names."""

BROKER_ROLES = (Role.MASTER, Role.SLAVE, Role.UNKNOWN)


class TargetError(FaultError):
    """The word fits nobody at this moment; the message says why."""


def wants_leader(word: str) -> bool:
    """Whether the word means somebody's leader, so that it fits nobody during an election."""
    last = [part.strip().rpartition("/")[2] for part in word.split("+")]
    return any(one in LED_WORDS or ROLE_WORDS.get(one.removesuffix("s")) is Role.MASTER for one in last)


def led(word: str, roles: Mapping[str, RoleReport]) -> bool:
    """Whether every group that the word can mean has a living leader now."""
    named = {part.strip().rpartition("/")[0] for part in word.split("+")} - {""}
    groups = named or {report.group for report in roles.values() if report.group}
    leads = {report.group for report in roles.values() if report.role is Role.MASTER and report.alive}
    return groups <= leads


def resolve(word: str, roles: Mapping[str, RoleReport], rng: random.Random) -> tuple[str, ...]:
    """The names that the word means now, without repetition, in the order of ``roles``. Raises TargetError."""
    chosen = [name for part in word.split("+") for name in _resolve_part(part.strip(), roles, rng)]
    return tuple(name for name in roles if name in chosen)


def _resolve_part(part: str, roles: Mapping[str, RoleReport], rng: random.Random) -> Sequence[str]:
    if part in roles:
        return [part]
    group, slash, word = part.rpartition("/")
    reports = list(roles.values())
    if slash:
        reports = [report for report in reports if report.group == group]
        if not reports:
            raise TargetError(f"no broker group is called {group}")
    found = _by_word(word, reports, rng)
    if not found:
        raise TargetError(f"nobody is {part} now: {_describe(reports)}")
    return [report.node for report in found]


def _by_word(word: str, reports: Sequence[RoleReport], rng: random.Random) -> Sequence[RoleReport]:
    brokers = [report for report in reports if report.role in BROKER_ROLES]
    if word in SHARE_WORDS:
        return _share(word, brokers, rng)
    if word in LED_WORDS:
        return _led_share(word, brokers, rng)
    singular = word.removesuffix("s")
    if singular == "broker":
        members = brokers
    elif singular in ROLE_WORDS:
        members = [report for report in reports if report.role is ROLE_WORDS[singular]]
        # Of several that say so, a dead one is not the master or slave that the plan means.
        members = [report for report in members if report.alive or _slow(report, members, word)] or members
        if ROLE_WORDS[singular] is Role.MASTER:
            members = [report for report in members if _newest(report, members)]
    else:
        raise TargetError(f"{word} is neither a node nor one of {', '.join(WORDS)}")
    return members if word.endswith("s") else rng.sample(members, min(1, len(members)))


def _slow(report: RoleReport, members: Sequence[RoleReport], word: str) -> bool:
    """Whether a plural means one that does not answer: it runs, and none of its group answers in its place."""
    alone = not any(other.alive for other in members if other.group == report.group)
    return word.endswith("s") and report.running and alone


def _newest(report: RoleReport, masters: Sequence[RoleReport]) -> bool:
    rivals = [other.epoch or 0 for other in masters if other.group == report.group]
    return (report.epoch or 0) >= max(rivals)


def _led_share(word: str, brokers: Sequence[RoleReport], rng: random.Random) -> Sequence[RoleReport]:
    leaders = _by_word("leader", brokers, rng)
    if not leaders:
        return []
    fellows = [report for report in brokers if report.group == leaders[0].group and report is not leaders[0]]
    size = len(fellows) + 1
    count = size // 2 + 1 if word == "leader-majority" else (size - 1) // 2
    if count == 0:
        raise TargetError(f"{size} brokers have no minority")
    return [leaders[0], *rng.sample(fellows, count - 1)]


def _share(word: str, brokers: Sequence[RoleReport], rng: random.Random) -> Sequence[RoleReport]:
    count = {
        "one": 1,
        "minority": (len(brokers) - 1) // 2,
        "majority": len(brokers) // 2 + 1,
        "all": len(brokers),
    }[word]
    if not brokers:
        return []
    if count == 0:
        raise TargetError(f"{len(brokers)} brokers have no minority")
    return rng.sample(brokers, count)


def _describe(reports: Sequence[RoleReport]) -> str:
    said = [f"{report.node} is {report.role.value}{'' if report.alive else ' (dead)'}" for report in reports]
    return ", ".join(said) or "there are no nodes"
