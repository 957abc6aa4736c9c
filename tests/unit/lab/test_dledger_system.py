"""What a member's status and a name server's route say in the lab's words, and the files that members start with."""

from typing import Any

import pytest

from lab.systems.dledger import listings, member_settings, raft_view
from lab.systems.python import read_status
from lab.topology import Group

GROUP = Group("broker-a", ("broker-a-0", "broker-a-1", "broker-a-2"), ("broker-a-3",))
MEMBER: dict[str, Any] = {
    "self": "n1",
    "role": "leader",
    "term": 4,
    "vote": "n1",
    "leader": "n1",
    "accepts": True,
    "durable": 900,
    "committed": 850,
    "applied": 850,
    "terms": [{"term": 1, "start": 0, "leader": "n0"}, {"term": 4, "start": 500, "leader": "n1"}],
    "voters": {"n0": "10.0.0.1:40911", "n1": "10.0.0.2:40911", "n2": "10.0.0.3:40911"},
    "learners": {"n3": "10.0.0.4:40911"},
    "membershipCommitted": False,
}
BODY: dict[str, Any] = {"role": "SYNC_MASTER", "min": 0, "max": 900, "state": "serving", "dledger": MEMBER}


def test_the_status_of_a_leader() -> None:
    """Members by the names of their nodes; its epoch is its term."""
    status = read_status("broker-a-1", BODY, GROUP)
    view = status.raft
    assert view is not None
    assert (status.master, status.serving, status.epoch) == (True, True, (4, "broker-a-1"))
    assert status.epochs == ((1, "broker-a-0", 0), (4, "broker-a-1", 500))
    assert (view.vote, view.leader, view.voters) == ("broker-a-1", "broker-a-1", GROUP.nodes)
    assert (view.learners, view.settled, view.commit, view.durable) == (("broker-a-3",), False, 850, 900)


@pytest.mark.parametrize(
    ("role", "member", "words"),
    [
        ("SLAVE", {}, ("leader", True, False)),  # elected, and its first record is not committed yet
        ("SLAVE", {"role": "follower", "accepts": False}, ("follower", False, False)),
        ("SLAVE", {"role": "pre-candidate", "accepts": False, "leader": ""}, ("candidate", False, False)),
        ("SLAVE", {"role": "follower", "accepts": False, "self": "n3"}, ("learner", False, False)),
    ],
)
def test_other_parts(role: str, member: dict[str, Any], words: tuple[str, bool, bool]) -> None:
    """Who leads and does not serve yet, who follows, asks for votes, or has none."""
    status = read_status("broker-a-1", {**BODY, "role": role, "dledger": {**MEMBER, **member}}, GROUP)
    assert status.raft is not None
    assert (status.raft.role, status.master, status.serving) == words


def test_a_master_of_a_pair_is_no_member() -> None:
    """It has no view of elections."""
    body = {key: value for key, value in BODY.items() if key != "dledger"}
    assert raft_view(GROUP, body) is None
    assert read_status("broker-a-1", body, GROUP).serving


def test_a_spare_knows_itself_beside_the_first_members() -> None:
    """In the seed's spelling."""
    first = member_settings(GROUP, "broker-a-0", lambda node: f"10.0.0.{node[-1]}")
    spare = member_settings(GROUP, "broker-a-3", lambda node: f"10.0.0.{node[-1]}")
    assert first["dLegerPeers"] == "n0-10.0.0.0:40911;n1-10.0.0.1:40911;n2-10.0.0.2:40911"
    assert (first["dLegerSelfId"], first["dLegerGroup"], first["enableDLegerCommitLog"]) == ("n0", "broker-a", "true")
    assert spare["dLegerPeers"] == f"{first['dLegerPeers']};n3-10.0.0.3:40911"
    assert spare["dLegerSelfId"] == "n3"


def test_a_route_by_groups() -> None:
    """Addresses that nobody here has stay as they are."""
    route = {
        "queueDatas": [{"brokerName": "broker-a", "writeQueueNums": 4}],
        "brokerDatas": [{"brokerName": "broker-a", "brokerAddrs": {"0": "10.0.0.2:10911", "3": "10.9.9.9:10911"}}],
    }
    found = listings(route, lambda address: "broker-a-1" if address == "10.0.0.2:10911" else None)
    assert found["broker-a"].brokers == {"0": "broker-a-1", "3": "10.9.9.9:10911"}
    assert found["broker-a"].queues == 4
    assert found["broker-a"].term is None, "other name servers do not tell it"
    told = {"brokerDatas": [{"brokerName": "broker-a", "brokerAddrs": {"0": "10.0.0.2:10911"}, "dledgerTerm": 3}]}
    assert listings(told, lambda address: None)["broker-a"].term == 3
