"""Lines of a node's log become election events in the history's words and clock."""

import asyncio
import json
from pathlib import Path

import pytest

from lab.elections import Feed, elections
from lab.topology import Group
from nemesis.world import Election, Moment

GROUP = Group("broker-a", ("broker-a-0", "broker-a-1", "broker-a-2"), ())


def test_what_a_node_logged_about_elections(tmp_path: Path) -> None:
    """Names are the lab's, times the run's, incarnations by the supervisor's starts; other lines are passed over."""
    lines = [
        {"t_ns": 1100, "event": "raft-follows", "term": 3, "leader": "n1"},
        {"t_ns": 1200, "event": "serving"},
        {"t_ns": 1300, "event": "raft-grant-vote", "term": 4, "candidate": "n2"},
        {"t_ns": 2500, "event": "raft-asks-for-votes", "term": 5},
        {"t_ns": 2600, "event": "raft-elected-as-leader", "term": 5, "end": 77},
        {"t_ns": 2700, "event": "raft-leader-steps-down", "term": 6, "leader": ""},
        {"t_ns": 2800, "event": "raft-elected-as-leader", "term": "many"},
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"t_ns": 29, "eve')
    assert list(elections(path, "broker-a-0", GROUP, 1000, [1050, 2400])) == [
        {"node": "broker-a-0", "group": "broker-a", "event": "follows", "term": 3, "t": 100, "incarnation": 1,
         "leader": "broker-a-1"},
        {"node": "broker-a-0", "group": "broker-a", "event": "granted", "term": 4, "t": 300, "incarnation": 1,
         "to": "broker-a-2"},
        {"node": "broker-a-0", "group": "broker-a", "event": "candidate", "term": 5, "t": 1500, "incarnation": 2},
        {"node": "broker-a-0", "group": "broker-a", "event": "elected", "term": 5, "t": 1600, "incarnation": 2},
        {"node": "broker-a-0", "group": "broker-a", "event": "stepped-down", "term": 6, "t": 1700, "incarnation": 2},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("moment", "node", "term"), [(Moment.VOTER, "broker-a-1", 6), (Moment.ELECTED, "broker-a-2", 6)]
)
def test_a_fault_waits_for_the_next_line_of_its_kind(tmp_path: Path, moment: Moment, node: str, term: int) -> None:
    """What was written before counts for nothing; a line counts when it is whole; a node may not have begun yet."""
    logs = {name: tmp_path / f"{name}.jsonl" for name in GROUP.nodes}
    old = {"event": "raft-elected-as-leader", "term": 5, "t_ns": 1}
    logs["broker-a-0"].write_text(json.dumps(old) + "\n")
    logs["broker-a-1"].write_text(json.dumps({**old, "event": "raft-grant-vote", "candidate": "n0"}) + "\n")
    voted = json.dumps({"event": "raft-grant-vote", "term": 6, "t_ns": 2, "candidate": "n2"})
    won = json.dumps({"event": "raft-elected-as-leader", "term": 6, "t_ns": 3})

    async def story() -> Election:
        waiting = asyncio.create_task(Feed([GROUP], logs.__getitem__).next(moment, ""))
        await asyncio.sleep(0)  # the task has looked where the files end now
        with logs["broker-a-1"].open("a") as log:
            log.write(voted[:20])
            log.flush()
            log.write(voted[20:] + "\n")
        logs["broker-a-2"].write_text(won + "\n")
        return await waiting

    assert asyncio.run(story()) == Election(node, "broker-a", term)
