"""When a group that elects is ready: every reason for which it is not, and the one state in which it is."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from lab.ready import caught_up, not_ready
from lab.systems.system import NodeStatus, RaftView
from lab.topology import Group

NODES = ("broker-a-0", "broker-a-1", "broker-a-2")
GROUP = Group("broker-a", NODES, ())
LED: Mapping[str, Mapping[str, str | None] | None] = {"namesrv-1": {"broker-a": "broker-a-1"}}


def member(node: str, **changes: Any) -> NodeStatus:
    """A member that is as it should be, except for these fields of its view."""
    role = "leader" if node == "broker-a-1" else "follower"
    view = RaftView(role, 4, None, "broker-a-1", role == "leader", 900, 900, 900, ((4, "broker-a-1", 0),), NODES)
    view = replace(view, **changes)
    return NodeStatus(
        node=node,
        master=view.role == "leader",
        broker_id=0,
        epoch=(view.term, view.leader or ""),
        epochs=(),
        begin=0,
        end=900,
        slave_ack=None,
        slaves=(),
        serving=view.role == "leader",
        raft=view,
    )


def why(*changed: NodeStatus, silent: str = "", led: Mapping[str, Mapping[str, str | None] | None] = LED) -> str:
    statuses = {node: member(node) for node in NODES if node != silent} | {one.node: one for one in changed}
    return "; ".join(not_ready(GROUP, NODES, statuses, led))


def test_a_group_that_elects_is_ready_when_all_agree() -> None:
    """One leader and one term, all committed, one membership, known to every name server; followers need not serve."""
    assert why() == ""


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (member("broker-a-0", term=3), "broker-a-0 is in term 3, the leader in 4"),
        (member("broker-a-0", leader=None), "broker-a-0 follows nobody"),
        (member("broker-a-0", leader="broker-a-2"), "broker-a-0 follows broker-a-2"),
        (member("broker-a-2", commit=800), "broker-a-2 has committed 800 of 900"),
        (replace(member("broker-a-2"), end=890), "broker-a-2 ends at 890, the leader at 900"),
        (member("broker-a-2", role="leader", term=5), "2 masters"),
        (member("broker-a-1", role="candidate"), "0 masters"),
        (replace(member("broker-a-1"), serving=False), "broker-a-1 does not serve"),
        (member("broker-a-0", voters=NODES[:2]), "says that the members are broker-a-0+broker-a-1"),
        (member("broker-a-0", settled=False), "not committed"),
        (member("broker-a-0", learners=("broker-a-3",)), "broker-a-3 (learner)"),
        (replace(member("broker-a-0"), raft=None), "does not say its term"),
    ],
)
def test_a_group_that_elects_is_not_ready_otherwise(changed: NodeStatus, words: str) -> None:
    """Each with its reason."""
    assert words in why(changed)


def test_name_servers_and_silent_members_count() -> None:
    """All of them."""
    assert "broker-a-2 does not answer" in why(silent="broker-a-2")
    assert "namesrv-1 names broker-a-0" in why(led={"namesrv-1": {"broker-a": "broker-a-0"}})
    assert "namesrv-2 does not answer" in why(led={**LED, "namesrv-2": None})


def test_a_slave_of_an_empty_log_follows_only_once_it_was_compared() -> None:
    """Of an empty log there is nothing to acknowledge; an answer without that word is taken as it is."""
    master = replace(member("broker-a-1"), end=0)
    connected = {"connected": True, "ack": 0}
    for slave, counts in (
        ({**connected, "compared": False}, 0),
        ({**connected, "compared": True}, 1),
        (connected, 1),
        ({"connected": False, "ack": 0, "compared": True}, 0),
    ):
        assert caught_up(replace(master, slaves=(slave,))) == counts
    assert caught_up(replace(master, end=900, slaves=({**connected, "compared": True},))) == 0
