"""Our own nodes in DLedger mode: their property files, and what their status says in the lab's words. Pure."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from lab.plan import DLEDGER, Plan
from lab.systems.system import Listing, RaftView
from lab.topology import MEMBER_PORT, Group

LEADER: Final = "leader"
ROLES: Final = {"pre-candidate": "candidate"}
"""Roles that the history knows by another word: who asks whether it would win is a candidate to everybody else."""


def elects(plan: Plan) -> bool:
    """Whether the groups of this plan elect their leader."""
    return plan.cluster.mode == DLEDGER


def member_id(node: str) -> str:
    """The id of a node in its group: ``broker-a-2`` is ``n2``."""
    return f"n{node.rpartition('-')[2]}"


def node_of(group: Group, member: str) -> str | None:
    """The node of a group that has this id; None for no or an unknown id."""
    return next((node for node in (*group.nodes, *group.spares) if member_id(node) == member), None)


def member_settings(group: Group, node: str, address: Callable[[str], str]) -> dict[str, str]:
    """The property keys that make a node a member of its group, in the seed's spelling.

    A spare names itself beside the members that the group began with: it must know its own id and address, and joins
    when the leader is told to add it.
    """
    peers = group.nodes if node in group.nodes else (*group.nodes, node)
    return {
        "enableDLegerCommitLog": "true",
        "dLegerGroup": group.name,
        "dLegerPeers": ";".join(f"{member_id(one)}-{address(one)}:{MEMBER_PORT}" for one in peers),
        "dLegerSelfId": member_id(node),
    }


def raft_view(group: Group, body: Mapping[str, Any]) -> RaftView | None:
    """What LAB_STATUS says of elections; None from a node that is no member of such a group."""
    raft = body.get("dledger")
    if not isinstance(raft, Mapping):
        return None

    def name(member: object) -> str | None:
        return node_of(group, str(member)) or str(member) if member else None

    def names(key: str) -> tuple[str, ...]:
        return tuple(found for member in raft.get(key) or () if (found := name(member)) is not None)

    role = str(raft.get("role", "")).lower()
    voters, learners = names("voters"), names("learners")
    own = name(raft.get("self"))
    if role == "follower" and own in learners and own not in voters:
        role = "learner"
    return RaftView(
        role=ROLES.get(role, role),
        term=int(raft.get("term", 0)),
        vote=name(raft.get("vote")),
        leader=name(raft.get("leader")),
        # It may append before it serves: only when its term's first record is committed and applied is it master.
        accepts=bool(raft.get("accepts")) and str(body.get("role", "")).upper() != "SLAVE",
        commit=int(raft.get("committed", 0)),
        durable=int(raft.get("durable", 0)),
        applied=None if raft.get("applied") is None else int(raft["applied"]),
        terms=tuple(
            (int(row["term"]), name(row.get("leader")) or "", int(row["start"])) for row in raft.get("terms", ())
        ),
        voters=voters,
        learners=learners,
        settled=bool(raft.get("membershipCommitted")),
    )


def listings(route: Mapping[str, Any], node_at: Callable[[str], str | None]) -> dict[str, Listing]:
    """A route answer (TopicRouteData) by group, brokers by the lab's names; the term is only told by our name servers,
    of groups that elect and have a leader."""
    queues = {str(one.get("brokerName")): int(one.get("writeQueueNums", 0)) for one in route.get("queueDatas", [])}
    found = {}
    for broker in route.get("brokerDatas", []):
        group = str(broker.get("brokerName"))
        addresses = broker.get("brokerAddrs", {})
        brokers = {str(number): node_at(str(address)) or str(address) for number, address in addresses.items()}
        term = broker.get("dledgerTerm")
        found[group] = Listing(brokers, None if term is None else int(term), queues.get(group, 0))
    return found
