"""Waiting for what consumers sent back, against a broker that says what it is told to say."""

import asyncio
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from lab.drain import Outcome
from lab.dump import Dump
from lab.groups import GroupFinal, sent_back_settled
from lab.planfile import build_plan
from lab.systems.system import NodeStatus
from lab.topology import topology_of
from lab.workloads.draining import Sentinel

RETRY = "%RETRY%readers"


class FakeSystem:
    """One master whose message 7 is sent back: in the delay queue, then in the retry topic, then handled."""

    def __init__(self) -> None:
        self.consumed = 8
        self.delayed: list[int | None] = [0]
        self.retry_end = 0
        self.retry_done = 0
        self.looks = 0

    async def status(self, node: str) -> NodeStatus | None:
        delayed = self.delayed.pop(0) if len(self.delayed) > 1 else self.delayed[0]
        self.looks += 1
        queues: Mapping[str, Mapping[str, int]] = {f"{RETRY}@0": {"min": 0, "max": self.retry_end}}
        return NodeStatus(
            node=node,
            master=node.endswith("-0"),
            broker_id=0,
            epoch=(1, "a"),
            epochs=(),
            begin=0,
            end=0,
            slave_ack=None,
            slaves=(),
            serving=True,
            queues=queues,
            delayed=delayed,
        )

    async def committed(self, node: str, group: str, topic: str, queue_id: int) -> int | None:
        return self.retry_done if topic == RETRY else self.consumed


def settled(system: FakeSystem, *, patience_s: float = 0.0, consume: str = "push") -> tuple[bool, str]:
    plan = build_plan({"load": {"queues": 1, "consume": consume}, "cluster": {"replicas": 1}}, "plan")
    topology = topology_of(plan)
    stage = SimpleNamespace(plan=plan, topology=topology, system=system, members=lambda group: group.nodes)
    goal = dict.fromkeys(topology.queues, 8)
    deadline = time.monotonic_ns() + int(patience_s * 1e9)
    return asyncio.run(sent_back_settled(cast(Any, stage), goal, deadline))


def test_nothing_was_sent_back() -> None:
    """Everything is consumed and no retry topic holds anything."""
    assert settled(FakeSystem())[0]


def test_a_queue_that_is_not_consumed_may_yet_send_back() -> None:
    """Before that nothing can be said."""
    system = FakeSystem()
    system.consumed = 7
    ok, words = settled(system)
    assert (ok, "consumed to 7, not 8" in words) == (False, True)


def test_a_delayed_message_is_on_its_way() -> None:
    """It lies in no queue that a reader of the group would look into."""
    system = FakeSystem()
    system.delayed = [1]
    ok, words = settled(system)
    assert (ok, "1 messages wait in the delay queues" in words) == (False, True)


def test_a_broker_that_does_not_say_proves_nothing() -> None:
    """No answer is not a zero."""
    system = FakeSystem()
    system.delayed = [None]
    ok, words = settled(system)
    assert (ok, "does not say" in words) == (False, True)


def test_a_message_in_the_retry_topic_must_be_handled() -> None:
    """Until the group committed beyond it."""
    system = FakeSystem()
    system.retry_end = 1
    ok, words = settled(system)
    assert (ok, "is handled to 0, not 1" in words) == (False, True)
    system.retry_done = 1
    assert settled(system)[0]


def test_it_waits_for_what_is_on_its_way() -> None:
    """The delay ends at the fourth look."""
    system = FakeSystem()
    system.delayed = [1, 1, 1, 0]
    assert settled(system, patience_s=60)[0]
    assert system.looks >= 4


def test_pull_consumers_send_nothing_back() -> None:
    """Nobody is asked."""
    system = FakeSystem()
    system.delayed = [5]
    assert settled(system, consume="pull")[0]
    assert system.looks == 0


def test_a_retry_topic_of_which_the_master_does_not_tell_decides_nothing() -> None:
    """A message that was sent back, passed over and never handled would be one that still waits there."""
    tables = {"load": {"queues": 1, "consume": "push"}, "cluster": {"replicas": 1}, "drain": {"consume_within": "1ms"}}
    plan = build_plan(tables, "plan")
    topology = topology_of(plan)
    (group,) = topology.groups
    (queue,) = topology.queues
    (master,) = group.nodes

    class Busy(FakeSystem):
        async def committed(self, node: str, group: str, topic: str, queue_id: int) -> int | None:
            return (
                None
                if topic == RETRY and self.retry_done < 0
                else await super().committed(node, group, topic, queue_id)
            )

    def told(done: int) -> tuple[bool, list[str]]:
        system = Busy()
        system.retry_done = done
        status = asyncio.run(system.status(master))
        stage = SimpleNamespace(
            plan=plan, topology=topology, system=system, members=lambda group: group.nodes, last={master: status}
        )
        dump = Dump(master, 0, 100, complete=True, retry={"readers": [(0, 0, "v")]})
        outcome = Outcome(sentinels={queue: Sentinel(queue, "s", 7, "local")})
        final = asyncio.run(GroupFinal(plan, cast(Any, stage), outcome, {master: dump}).value())
        return final["ok"], final["retry"]

    assert told(0) == (True, ["v"])
    assert told(1) == (True, [])
    assert told(-1) == (False, [])
