"""The surviving cluster as the drain sees it (``lab.drain.Cluster``): heal, revive, look, dump."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from lab.dump import Dump, dump_replica
from lab.groups import sent_back_settled
from lab.record import LabRecord
from lab.schedule import Schedule
from lab.stage import Stage
from lab.systems.dledger import node_of
from lab.systems.system import NodeStatus
from lab.topology import Group, Queue
from nemesis.fault import Verified
from nemesis.world import LeverError, NodeState, PortState

ANSWER_POLL_S: Final = 0.1


class Survivors:
    """What is left of the cluster after the plan's faults."""

    def __init__(self, stage: Stage, schedule: Schedule, record: LabRecord) -> None:
        self._stage = stage
        self._schedule = schedule
        self._record = record
        self.dumps: dict[str, Dump] = {}

    async def heal_all(self) -> tuple[bool, str]:
        """D2: newest first; then the filter rules must be those of the start."""
        healed = await self._schedule.heal_all()
        bad = [record for record in healed if record.verified is not Verified.TRUE]
        words = [f"{record.id} ({record.kind}) is not proven healed" for record in bad]
        changed = await self._stage.network.baseline()
        words += [f"filter rule {rule}" for rule in changed]
        return not words, "; ".join(words) or f"{len(healed)} faults were still open and are healed"

    async def revive(self) -> tuple[bool, str]:
        """D3: resume, restart, replace; nodes that were destroyed stay out, all others must answer."""
        stage, supervisor = self._stage, self._stage.supervisor
        done, failed = [], []
        for node in supervisor.nodes():
            state = supervisor.state(node)
            try:
                if state is NodeState.PAUSED:
                    done.append(await supervisor.resume(node))
                elif state is NodeState.DEAD and (stage.elected is None or node not in stage.elected.left):
                    done.append(await supervisor.start(node))
            except LeverError as error:
                failed.append(str(error))
        done += await stage.replace_destroyed()
        failed += stage.unreplaced.values()
        done += await stage.demote_strays()
        silent = [node for node in supervisor.running_pids() if not await self._answers(node)]
        failed += [f"{node} does not answer" for node in silent]
        gone = self.excluded()
        if gone:
            done.append(f"left out, since the plan destroyed or removed them: {', '.join(gone)}")
        return not failed, "; ".join([*failed, *done]) or "everything runs"

    def excluded(self) -> tuple[str, ...]:
        """Nodes that the plan destroyed or removed."""
        return self._stage.excluded()

    def members(self, group: Group) -> tuple[str, ...]:
        """The group's surviving configuration."""
        return self._stage.members(group)

    async def statuses(self) -> Mapping[str, NodeStatus]:
        """Status of every broker that answers."""
        return await self._stage.ask_all()

    async def masters(self) -> Mapping[str, Mapping[str, str | None] | None]:
        """Each name server's view."""
        names = self._stage.topology.namesrvs
        views = await asyncio.gather(*(self._stage.system.masters(name) for name in names))
        return dict(zip(names, views, strict=True))

    async def restart_all(self) -> tuple[bool, str]:
        """D8: kill -9 every node at once, start them all."""
        supervisor = self._stage.supervisor
        nodes = list(supervisor.running_pids())
        failed = []
        killed = await asyncio.gather(*(supervisor.kill(node, "D8") for node in nodes), return_exceptions=True)
        for node, end in zip(nodes, killed, strict=True):
            try:
                if isinstance(end, BaseException):
                    raise end
                await supervisor.start(node)
            except LeverError as error:  # it ended by itself meanwhile, or cannot be started
                failed.append(str(error))
        failed += [
            f"{node} does not answer after all were restarted" for node in nodes if not await self._answers(node)
        ]
        return not failed, "; ".join(failed) or f"killed and started {len(nodes)} nodes"

    async def dump(self, group: Group, status: NodeStatus, turn: int) -> tuple[bool, str]:
        """D7 for one replica."""
        node = status.node
        name = f"{node}.jsonl.zst" if turn == 1 else f"{node}.{turn}.jsonl.zst"
        dump = await dump_replica(self._stage.system, status, group.name, self._stage.folder.replicas / name)
        self.dumps[node] = dump
        self._record.note(
            "dump",
            {
                "group": group.name,
                "node": node,
                "incarnation": self._stage.supervisor.incarnation(node),
                "file": f"replicas/{name}",
                "digest": dump.digest,
                "begin": dump.begin,
                "end": dump.end,
                "commit": committed(status, dump),
                "epochs": self._terms(group, status, dump),
                "complete": dump.complete,
            },
        )
        words = f"{node}: {dump.records} records from {dump.begin} to {dump.end}"
        return dump.complete, words if dump.complete else f"{words}, then {dump.reason}"

    @staticmethod
    def _terms(group: Group, status: NodeStatus, dump: Dump) -> list[list[object]]:
        """The table of epochs; in a group that elects what the markers in its log say, not what the node remembers.

        Of a term whose marker was trimmed only the node knows.
        """
        marked = {term for term, _, _ in dump.terms}
        rows = [list(epoch) for epoch in status.epochs if epoch[0] not in marked]
        return [*rows, *([term, node_of(group, leader) or leader, start] for term, leader, start in dump.terms)]

    async def settle(self, goal: Mapping[Queue, int], deadline_ns: int) -> tuple[bool, str]:
        """D9, what consumers sent back."""
        return await sent_back_settled(self._stage, goal, deadline_ns)

    async def _answers(self, node: str) -> bool:
        supervisor = self._stage.supervisor
        patience = self._stage.system.patience
        deadline = time.monotonic() + patience.start_s
        while time.monotonic() < deadline:
            if supervisor.state(node) is not NodeState.RUNNING:
                return False
            if await supervisor.port(node, patience.ask_s) is PortState.ANSWERS:
                return True
            await asyncio.sleep(ANSWER_POLL_S)
        return False


def committed(status: NodeStatus, dump: Dump) -> int:
    """Where the replica says that its committed part ends; of a log that was not read whole, never beyond that."""
    said = int(status.raw.get("confirm", dump.end)) if status.raft is None else status.raft.commit
    return said if dump.complete else min(said, dump.end)
