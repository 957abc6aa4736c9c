"""The drain phase against a cluster and clients that do as they are told."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from lab.drain import DrainPhase, Outcome
from lab.dump import Dump
from lab.duration import Duration
from lab.plan import Drain
from lab.planfile import build_plan
from lab.ready import not_ready
from lab.survivors import committed
from lab.systems.system import NodeStatus, RaftView
from lab.topology import Group, Queue, Topology, topology_of
from lab.workloads.draining import Sentinel

BOUNDS = Drain(
    ready_for=Duration.parse("50ms"),
    recover_within=Duration.parse("400ms"),
    consume_within=Duration.parse("1s"),
    budget=Duration.parse("5s"),
)
GROUP = Group("broker-a", ("broker-a-0", "broker-a-1"), ())


def status(node: str, *, master: bool, end: int = 100, epoch: int = 3, ack: int | None = None) -> NodeStatus:
    slaves = ({"id": 1, "ack": end if ack is None else ack, "connected": True},) if master else ()
    return NodeStatus(
        node=node,
        master=master,
        broker_id=0 if master else 1,
        epoch=(epoch, "id"),
        epochs=((epoch, "id", 0),),
        begin=0,
        end=end,
        slave_ack=end,
        slaves=slaves,
        serving=True,
        queues={"lab@0": {"min": 0, "max": 5}},
    )


MASTER = status("broker-a-0", master=True)
SLAVE = status("broker-a-1", master=False)
LED: Mapping[str, Mapping[str, str | None] | None] = {"namesrv-1": {"broker-a": "broker-a-0"}}


def why(*statuses: NodeStatus, led: Mapping[str, Mapping[str, str | None] | None] = LED) -> str:
    return "; ".join(not_ready(GROUP, GROUP.nodes, {s.node: s for s in statuses}, led))


def test_a_group_is_ready_when_all_agree() -> None:
    """One master, one epoch, one end, everything acknowledged, and every name server says so."""
    assert why(MASTER, SLAVE) == ""


@pytest.mark.parametrize(
    ("statuses", "led", "words"),
    [
        ((MASTER,), LED, "broker-a-1 does not answer"),
        ((SLAVE,), LED, "0 masters"),
        ((MASTER, replace(SLAVE, master=True)), LED, "2 masters"),
        ((MASTER, replace(SLAVE, epoch=(2, "id"))), LED, "epoch 2, its master in 3"),
        ((MASTER, replace(SLAVE, epoch=(3, "other"))), LED, "is in epoch 3"),
        ((MASTER, replace(SLAVE, end=90)), LED, "ends at 90, its master at 100"),
        ((replace(MASTER, serving=False), SLAVE), LED, "broker-a-0 does not serve"),
        ((status("broker-a-0", master=True, ack=99), SLAVE), LED, "0 of 1 slaves have acknowledged"),
        ((replace(MASTER, slaves=({"ack": 100, "connected": False},)), SLAVE), LED, "0 of 1 slaves"),
        ((MASTER, SLAVE), {"namesrv-1": {"broker-a": "broker-a-1"}}, "namesrv-1 names broker-a-1"),
        ((MASTER, SLAVE), {"namesrv-1": {"broker-a": None}}, "namesrv-1 names nobody"),
        ((MASTER, SLAVE), {"namesrv-1": None}, "namesrv-1 does not answer"),
    ],
)
def test_a_group_is_not_ready_otherwise(
    statuses: tuple[NodeStatus, ...], led: Mapping[str, Mapping[str, str | None] | None], words: str
) -> None:
    """Each with its reason."""
    assert words in why(*statuses, led=led)


class FakeCluster:
    """Ready unless told otherwise."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.statuses_now: Callable[[], Mapping[str, NodeStatus]] = lambda: {s.node: s for s in (MASTER, SLAVE)}
        self.healed = True
        self.dumped = True
        self.settled = True
        self.gone: tuple[str, ...] = ()
        self.dumped_at: list[NodeStatus] = []

    async def heal_all(self) -> tuple[bool, str]:
        self.calls.append("heal")
        return self.healed, ""

    async def revive(self) -> tuple[bool, str]:
        self.calls.append("revive")
        return True, ""

    def excluded(self) -> tuple[str, ...]:
        return self.gone

    def members(self, group: Group) -> tuple[str, ...]:
        return tuple(node for node in group.nodes if node not in self.gone)

    async def statuses(self) -> Mapping[str, NodeStatus]:
        return self.statuses_now()

    async def masters(self) -> Mapping[str, Mapping[str, str | None] | None]:
        return LED

    async def restart_all(self) -> tuple[bool, str]:
        self.calls.append("restart all")
        return True, ""

    async def dump(self, group: Group, status: NodeStatus, turn: int) -> tuple[bool, str]:
        self.calls.append(f"dump {status.node} {turn}")
        self.dumped_at.append(status)
        return self.dumped, ""

    async def settle(self, goal: Mapping[Queue, int], deadline_ns: int) -> tuple[bool, str]:
        self.calls.append("settle")
        return self.settled, ""


class FakeClients:
    """Place, drain and consume everything unless told otherwise."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.counters: list[int] = []
        self.without_sentinel: tuple[Queue, ...] = ()
        self.undrained: tuple[Queue, ...] = ()
        self.behind: dict[str, int] = {}

    async def stop_load(self) -> tuple[bool, str]:
        self.calls.append("stop")
        return True, ""

    async def place_sentinels(
        self, queues: Sequence[Queue], deadline_ns: int, first_counter: int
    ) -> tuple[tuple[Sentinel, ...], tuple[Queue, ...]]:
        self.calls.append(f"sentinels {len(queues)}")
        self.counters.append(first_counter)
        placed = tuple(Sentinel(q, "v", 7, "replicated") for q in queues if q not in self.without_sentinel)
        return placed, tuple(q for q in queues if q in self.without_sentinel)

    async def drain(
        self, round_number: int, sentinels: Sequence[Sentinel], deadline_ns: int
    ) -> tuple[tuple[Queue, ...], tuple[Queue, ...]]:
        self.calls.append(f"drain {round_number}")
        queues = [sentinel.queue for sentinel in sentinels]
        return tuple(q for q in queues if q not in self.undrained), tuple(q for q in queues if q in self.undrained)

    async def consume_until(self, goal: Mapping[Queue, int], deadline_ns: int) -> Mapping[str, int]:
        self.calls.append(f"consume {sorted(set(goal.values()))}")
        return self.behind


class Steps:
    """Keeps drain steps."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str, bool, str, tuple[str, ...]]] = []

    def step(self, rule: str, scope: str, ok: bool, detail: str, excluded: Sequence[str]) -> None:
        self.all.append((rule, scope, ok, detail, tuple(excluded)))

    def kept(self, rule: str) -> dict[str, bool]:
        return {scope: ok for found, scope, ok, _, _ in self.all if found == rule}


def topology() -> Topology:
    return topology_of(build_plan({"load": {"queues": 2}}, "plan"))


def drained(
    cluster: FakeCluster, clients: FakeClients, bounds: Drain = BOUNDS, *, consumes: bool = True
) -> tuple[Outcome, Steps]:
    steps = Steps()
    phase = DrainPhase(topology(), bounds, cluster, clients, steps, consumes=consumes)
    return asyncio.run(phase.run()), steps


def test_all_rules_are_kept_in_order() -> None:
    """D1 to D10, each reported for its scope."""
    cluster, clients = FakeCluster(), FakeClients()
    outcome, steps = drained(cluster, clients)
    assert all(ok for _, _, ok, _, _ in steps.all)
    rules = list(dict.fromkeys(rule for rule, *_ in steps.all))
    assert rules == ["D1", "D2", "D3", "D4", "D5", "D6", "D7", "D9", "D10"]
    assert cluster.calls == ["heal", "revive", "dump broker-a-0 1", "dump broker-a-1 1", "settle"]
    assert clients.calls == ["stop", "sentinels 2", "drain 1", "drain 2", "consume [8]"]
    assert set(steps.kept("D6")) == {"lab/broker-a/0", "lab/broker-a/1"}
    assert steps.kept("D9") == {"*": True, "lab/broker-a/0": True, "lab/broker-a/1": True}
    assert outcome.ready == {"broker-a": True}


def test_ready_must_hold_without_a_break() -> None:
    """A moment of disagreement starts the time anew."""
    looks = 0

    def flicker() -> Mapping[str, NodeStatus]:
        nonlocal looks
        looks += 1
        slave = replace(SLAVE, end=50) if looks % 2 else SLAVE
        return {MASTER.node: MASTER, slave.node: slave}

    cluster = FakeCluster()
    cluster.statuses_now = flicker
    bounds = replace_bounds(ready_for="300ms", recover_within="900ms")
    _, steps = drained(cluster, FakeClients(), bounds)
    assert steps.kept("D4") == {"broker-a": False}


def nearer(steps: int, ends: Callable[[int], int]) -> tuple[FakeCluster, list[int]]:
    """A cluster whose slave is at ``ends(n)`` at the n-th look, as long as that changes; and the number of looks."""
    looks = [0]

    def look() -> Mapping[str, NodeStatus]:
        looks[0] += 1
        slave = replace(SLAVE, end=ends(min(looks[0], steps)))
        return {
            MASTER.node: replace(MASTER, end=1000, slaves=({"ack": slave.end, "connected": True},)),
            slave.node: slave,
        }

    cluster = FakeCluster()
    cluster.statuses_now = look
    return cluster, looks


def test_a_replica_that_comes_nearer_gets_more_time() -> None:
    """Nobody promises how soon it has caught up; the deadline is one for who stands still."""
    cluster, looks = nearer(10, lambda n: 990 + n)
    bounds = replace_bounds(ready_for="1ms", recover_within="500ms")
    _, steps = drained(cluster, FakeClients(), bounds)
    assert steps.kept("D4") == {"broker-a": True}
    assert looks[0] > 10


@pytest.mark.parametrize("ends", [lambda n: 500, lambda n: 500 + n % 2, lambda n: 500 - n, lambda n: min(n, 500)])
def test_a_replica_that_stands_still_does_not(ends: Callable[[int], int]) -> None:
    """Frozen, to and fro, falling back, and one that comes nearer for ever."""
    cluster, _ = nearer(10**6, ends)
    _, steps = drained(cluster, FakeClients(), replace_bounds(ready_for="1ms", recover_within="200ms"))
    assert steps.kept("D4") == {"broker-a": False}


def test_a_group_that_is_ready_at_the_deadline_may_hold_it() -> None:
    """It recovered in time if it stays so; before, it was called never recovered for want of the last seconds."""
    cluster, _ = nearer(2, lambda n: 999 if n < 2 else 1000)
    _, steps = drained(cluster, FakeClients(), replace_bounds(ready_for="600ms", recover_within="150ms"))
    assert steps.kept("D4") == {"broker-a": True}


def test_a_group_that_never_recovers_is_reported_and_not_waited_for_again() -> None:
    """The reason is in the step; what can be read is still read."""
    cluster, clients = FakeCluster(), FakeClients()
    cluster.statuses_now = lambda: {SLAVE.node: SLAVE}
    clients.without_sentinel = topology().queues
    outcome, steps = drained(cluster, clients)
    assert steps.kept("D4") == {"broker-a": False}
    assert set(steps.kept("D5").values()) == {False}
    assert set(steps.kept("D6").values()) == {False}
    assert outcome.sentinels == {}
    assert any("0 masters" in detail for _, _, _, detail, _ in steps.all)


def test_single_queues_fail_alone() -> None:
    """A queue without sentinel or not read to its sentinel does not spoil the others."""
    clients = FakeClients()
    first, second = topology().queues
    clients.undrained = (second,)
    _, steps = drained(FakeCluster(), clients)
    assert steps.kept("D6") == {str(first): True, str(second): False}
    clients = FakeClients()
    clients.without_sentinel = (first,)
    _, steps = drained(FakeCluster(), clients)
    assert steps.kept("D5") == {str(first): False, str(second): True}
    assert steps.kept("D6") == {str(first): False, str(second): True}
    assert steps.kept("D9") == {"*": True, str(first): False, str(second): True}


@pytest.mark.parametrize(("rule", "flaw"), [("D2", "healed"), ("D7", "dumped")])
def test_what_was_not_done_is_said(rule: str, flaw: str) -> None:
    """A heal that is not proven and a dump that broke off are steps that were not kept."""
    cluster = FakeCluster()
    setattr(cluster, flaw, False)
    _, steps = drained(cluster, FakeClients())
    assert set(steps.kept(rule).values()) == {False}


def test_destroyed_nodes_are_excluded_by_name_and_nothing_else() -> None:
    """They are named in every step, and the group is ready without them."""
    cluster = FakeCluster()
    cluster.gone = ("broker-a-1",)
    alone = replace(MASTER, slaves=())
    cluster.statuses_now = lambda: {alone.node: alone}
    _, steps = drained(cluster, FakeClients())
    assert steps.kept("D4") == {"broker-a": True}
    assert {excluded for *_, excluded in steps.all} == {("broker-a-1",)}
    assert [call for call in cluster.calls if call.startswith("dump")] == ["dump broker-a-0 1"]


def test_consumers_that_lag_and_queues_that_were_trimmed_are_said() -> None:
    """D9 by queue, D10 for the run."""
    cluster, clients = FakeCluster(), FakeClients()
    clients.behind = {"lab/broker-a/1": 3}
    trimmed = replace(MASTER, queues={"lab@0": {"min": 4, "max": 9}, "other@0": {"min": 9, "max": 9}})
    cluster.statuses_now = lambda: {trimmed.node: trimmed, SLAVE.node: SLAVE}
    _, steps = drained(cluster, clients)
    assert steps.kept("D9") == {"*": True, "lab/broker-a/0": True, "lab/broker-a/1": False}
    assert steps.kept("D10") == {"*": False}


def test_what_nobody_told_of_may_have_been_trimmed() -> None:
    """Silence is no word that nothing was."""
    cluster = FakeCluster()

    def answers() -> Mapping[str, NodeStatus]:
        return {} if "dump broker-a-1 1" in cluster.calls else {s.node: s for s in (MASTER, SLAVE)}

    cluster.statuses_now = answers
    _, steps = drained(cluster, FakeClients())
    assert steps.kept("D4") == {"broker-a": True}
    assert steps.kept("D10") == {"*": False}


def test_what_consumers_sent_back_and_nobody_saw_again_is_said() -> None:
    """It is neither consumed nor in a topic that anybody could look into, so D9 is not kept."""
    cluster = FakeCluster()
    cluster.settled = False
    _, steps = drained(cluster, FakeClients())
    assert steps.kept("D9")["*"] is False


def member(node: str, *, commit: int) -> NodeStatus:
    """A member of a group that elects, led by broker-a-0, whose log is whole."""
    led = node == MASTER.node
    role = "leader" if led else "follower"
    view = RaftView(role, 3, None, MASTER.node, led, commit, 100, None, ((3, MASTER.node, 0),), GROUP.nodes)
    return replace(status(node, master=led), raft=view)


def test_members_are_dumped_once_all_know_what_is_committed() -> None:
    """The sentinels are committed before the followers hear of it: their indexes lack them until then."""
    cluster, looks = FakeCluster(), 0

    def late() -> Mapping[str, NodeStatus]:
        nonlocal looks
        looks += 1
        told = 60 if ("drain 2" in clients.calls and looks % 3) else 100
        return {one.node: one for one in (member("broker-a-0", commit=100), member("broker-a-1", commit=told))}

    clients = FakeClients()
    cluster.statuses_now = late
    _, steps = drained(cluster, clients)
    assert steps.kept("D4") == {"broker-a": True}
    assert [one.raft.commit for one in cluster.dumped_at if one.raft] == [100, 100]


@pytest.mark.parametrize("silent", ["broker-a-0", "broker-a-1"])
def test_members_are_dumped_once_all_have_answered(silent: str) -> None:
    """Planted: one question is not answered in time. A leader alone knows that the sentinels are committed."""
    cluster, looks = FakeCluster(), 0

    def busy() -> Mapping[str, NodeStatus]:
        nonlocal looks
        looks += "drain 2" in clients.calls
        told = 60 if 0 < looks < 3 else 100
        both = (member("broker-a-0", commit=100), member("broker-a-1", commit=told))
        return {one.node: one for one in both if one.node != silent or looks != 1}

    clients = FakeClients()
    cluster.statuses_now = busy
    _, steps = drained(cluster, clients)
    assert steps.kept("D7") == {"broker-a": True}
    assert [one.raft.commit for one in cluster.dumped_at if one.raft] == [100, 100]


def test_what_a_member_never_hears_is_dumped_as_it_is() -> None:
    """At the end of the budget: the checker of logs says what follows from it."""
    cluster, clients = FakeCluster(), FakeClients()

    def never() -> Mapping[str, NodeStatus]:
        told = 60 if "drain 2" in clients.calls else 100
        return {one.node: one for one in (member("broker-a-0", commit=100), member("broker-a-1", commit=told))}

    cluster.statuses_now = never
    drained(cluster, clients, replace_bounds(budget="300ms"))
    assert [one.raft.commit for one in cluster.dumped_at if one.raft] == [100, 60]


def test_a_slave_is_dumped_once_it_has_the_sentinels() -> None:
    """An ASYNC_MASTER acknowledges them before the slave has them; then they are a log that it lacks."""
    cluster, clients, looks = FakeCluster(), FakeClients(), 0

    def late() -> Mapping[str, NodeStatus]:
        nonlocal looks
        looks += "drain 2" in clients.calls
        end = 60 if 0 < looks < 3 else 100
        return {MASTER.node: MASTER, SLAVE.node: replace(SLAVE, end=end)}

    cluster.statuses_now = late
    drained(cluster, clients, replace_bounds(budget="1ms", recover_within="60s"))
    assert [one.end for one in cluster.dumped_at] == [100, 100], "even if nothing of the budget is left"


def test_a_dump_tells_the_commit_position_as_the_member_said_it() -> None:
    """Beyond the end of a log that was read whole it is what the checkers look for."""
    said = member("broker-a-1", commit=160)
    assert committed(said, Dump("broker-a-1", 0, 100, complete=True)) == 160
    assert committed(said, Dump("broker-a-1", 0, 100, complete=False)) == 100


def test_restarting_all_reads_everything_again() -> None:
    """D8 repeats D4 to D7, with fresh values for the second sentinels."""
    cluster, clients = FakeCluster(), FakeClients()
    drained(cluster, clients, replace_bounds(restart_all=True), consumes=False)
    assert clients.calls == ["stop", "sentinels 2", "drain 1", "drain 2", "sentinels 2", "drain 3", "drain 4"]
    assert cluster.calls[-3:] == ["restart all", "dump broker-a-0 2", "dump broker-a-1 2"]
    assert len(set(clients.counters)) == 2


def replace_bounds(**changes: object) -> Drain:
    tables = {"ready_for": "50ms", "recover_within": "400ms", "consume_within": "1s", "budget": "5s", **changes}
    return build_plan({"drain": tables}, "plan").drain
