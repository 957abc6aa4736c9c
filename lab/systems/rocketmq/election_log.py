"""Elections as DLedger writes them into a release's own logs, in the words of the history (event ``election``).

Its lines have wall-clock times only, so the events have none: who led which term is told, and in which order. Votes
that were granted are not in the voter's log; the member's status tells its vote.
Source: DLedger 0.3.1.2, class DLedgerLeaderElector.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from lab.systems.dledger import member_id, node_of
from lab.topology import Group

FILES: Final = ("broker-release.log", "home/logs/rocketmqlogs/broker_default.log")
"""Where 4.x writes by the lab's own configuration, and where 5.x does by its own."""
WORDS: Final = {"Leader": "elected", "Candidate": "candidate", "Follower": "follows"}
_LINE: Final = re.compile(
    r"\[(?P<member>\w+)\] ?\[ChangeRoleTo(?P<role>Leader|Candidate|Follower)\] from term: -?\d+"
    r"(?: leaderId: (?P<leader>\w+))? and currTerm: (?P<term>-?\d+)"
)


def elections_in(folder: Path, node: str, group: Group) -> Iterator[dict[str, Any]]:
    """The election events of one node's logs in ``folder``, in their order; other lines are passed over."""
    for name in FILES:
        path = folder / name
        if not path.is_file():
            continue
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                found = _LINE.search(line)
                if found is not None and found["member"] == member_id(node) and int(found["term"]) >= 0:
                    yield _event(found, node, group)


def _event(found: re.Match[str], node: str, group: Group) -> dict[str, Any]:
    value = {"node": node, "group": group.name, "event": WORDS[found["role"]], "term": int(found["term"])}
    leader = found["leader"]
    return value if leader in (None, "null") else {**value, "leader": node_of(group, leader) or leader}
