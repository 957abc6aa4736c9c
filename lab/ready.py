"""When a group is *Ready* (D4 of the drain, and the end of start-up): one primary, equal replicas. Pure.

In master/slave the epoch stands for the term and the slave's acknowledged end for commit. In DLedger mode all members
report one term, one leader, one membership, and commit equals end on every one of them.
"""

from collections.abc import Mapping, Sequence

from lab.systems.system import NodeStatus
from lab.topology import Group

Views = Mapping[str, Mapping[str, str | None] | None]
"""By name server: the master of each group, or None if it does not answer."""


def not_ready(
    group: Group, members: Sequence[str], statuses: Mapping[str, NodeStatus], masters: Views
) -> tuple[str, ...]:
    """Why a group is not Ready at this moment; empty if it is."""
    found = []
    silent = [node for node in members if node not in statuses]
    found += [f"{node} does not answer" for node in silent]
    known = [statuses[node] for node in members if node in statuses]
    # A member of a group that elects serves only while it leads.
    found += [f"{status.node} does not serve" for status in known if not status.serving and _should_serve(status)]
    leaders = [status for status in known if status.master]
    if len(leaders) != 1:
        found.append(f"{len(leaders)} masters: {', '.join(status.node for status in leaders) or 'none'}")
        return tuple(found)
    master = leaders[0]
    followers = [status for status in known if not status.master]
    found += _elected(master, known, members) if master.raft is not None else _appointed(master, followers)
    for namesrv, led in masters.items():
        if led is None:
            found.append(f"{namesrv} does not answer")
        elif led.get(group.name) != master.node:
            found.append(f"{namesrv} names {led.get(group.name) or 'nobody'} as master")
    return tuple(found)


def caught_up(master: NodeStatus) -> int:
    """How many slaves follow a master and have acknowledged all it holds.

    Of an empty log there is nothing to acknowledge, so one whose log the master has not yet compared does not count.
    """
    return sum(
        bool(slave.get("connected")) and bool(slave.get("compared", True)) and (slave.get("ack") or 0) >= master.end
        for slave in master.slaves
    )


def _should_serve(status: NodeStatus) -> bool:
    return status.raft is None or status.master


def _appointed(master: NodeStatus, followers: Sequence[NodeStatus]) -> list[str]:
    """What keeps a master and its slaves from being equal."""
    found = []
    for status in followers:
        if status.epoch != master.epoch:
            found.append(f"{status.node} is in epoch {status.epoch[0]}, its master in {master.epoch[0]}")
        if status.end != master.end:
            found.append(f"{status.node} ends at {status.end}, its master at {master.end}")
    equal = caught_up(master)
    if equal < len(followers):
        found.append(f"{equal} of {len(followers)} slaves have acknowledged the master's end {master.end}")
    return found


def _elected(leader: NodeStatus, known: Sequence[NodeStatus], members: Sequence[str]) -> list[str]:
    """What keeps the members of a group that elects from being equal."""
    found: list[str] = []
    for status in known:
        view = status.raft
        if view is None:
            found.append(f"{status.node} does not say its term")
            continue
        if view.term != leader.epoch[0]:
            found.append(f"{status.node} is in term {view.term}, the leader in {leader.epoch[0]}")
        if view.leader != leader.node:
            found.append(f"{status.node} follows {view.leader or 'nobody'}, not {leader.node}")
        if status.end != leader.end:
            found.append(f"{status.node} ends at {status.end}, the leader at {leader.end}")
        if view.commit != status.end:
            found.append(f"{status.node} has committed {view.commit} of {status.end}")
        if not view.settled or set(view.voters) != set(members) or view.learners:
            said = "+".join([*sorted(view.voters), *(f"{node} (learner)" for node in sorted(view.learners))])
            found.append(f"{status.node} says that the members are {said}{'' if view.settled else ', not committed'}")
    return found


def lacking(members: Sequence[str], statuses: Mapping[str, NodeStatus]) -> int | None:
    """Bytes that the others lack of the one master's log or have not heard to be committed; None if nobody can tell."""
    known = [statuses[node] for node in members if node in statuses]
    masters = [status for status in known if status.master]
    if len(masters) != 1 or len(known) < len(members):
        return None
    heard = sum(max(0, status.end - status.raft.commit) for status in known if status.raft is not None)
    return heard + sum(max(0, masters[0].end - status.end) for status in known)
