"""Groups that elect, as the nemesis and the drain act on them: who belongs to them and who leads (nemesis Members)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from lab.systems.system import MemberCalls, NodeStatus
from lab.topology import Group, majority
from nemesis.world import Configuration, LeverError, NodeState

if TYPE_CHECKING:
    from lab.stage import Stage

START_S: Final = 20.0  # until a node that joins answers
LED_S: Final = 10.0  # until the group has a leader that takes the call; elections may come between
PAUSE_S: Final = 0.1
LINGER_S: Final = 1.0  # between the removal of a node and its end
TERMINATE_S: Final = 5.0

Call = Callable[[str, str], Awaitable[str]]
"""A question to the leader (first) about a node (second)."""
IsSo = Callable[[NodeStatus, str], bool]
"""Whether what was asked is so already, by the word of the leader."""


class Members:
    """The levers and looks of the running cluster. Implements ``nemesis.world.Members``."""

    def __init__(self, stage: "Stage", calls: MemberCalls) -> None:
        self._stage = stage
        self._calls = calls
        self.left: list[str] = []  # nodes that were taken out of their group and not added again
        self._added: set[str] = set()  # spares that were made voters
        self._may_be_out: set[str] = set()  # whose removal was ever asked for, done or not, and that did not come back

    async def configurations(self, group: str) -> Mapping[str, Configuration]:
        """What every running node of the group says. One that was taken out may never hear of it: it is not asked."""
        found = self._stage.topology.group(group)
        running = self._stage.supervisor.running_pids()
        nodes = [node for node in (*found.nodes, *found.spares) if node in running and node not in self.left]
        answers = await asyncio.gather(*(self._stage.ask(node) for node in nodes))
        return {
            status.node: Configuration(
                status.node, frozenset(status.raft.voters), frozenset(status.raft.learners), status.raft.settled
            )
            for status in answers
            if status is not None and status.raft is not None
        }

    async def spare(self, group: str) -> str | None:
        """The next node that was never started."""
        return self._stage.free_spare(self._stage.topology.group(group))

    async def join(self, node: str) -> str:
        """Start it if it does not run, wait until it answers, and have the leader add it. Raises LeverError."""
        stage = self._stage
        words = []
        if stage.supervisor.state(node) is not NodeState.RUNNING:
            stage.supervisor.declare(stage.system.prepare(node))
            words.append(await stage.supervisor.start(node))
        await self._answers(node)
        words.append(await self._ask_leader(node, self._calls.add_member, _votes))
        self._added.add(node)
        self._may_be_out.discard(node)
        if node in self.left:
            self.left.remove(node)
        return "; ".join(words)

    async def leave(self, node: str, *, stop: bool = True, by: str = "") -> str:
        """Have the leader take it out; a moment later, as an operator would, stop it. Raises LeverError.

        In that moment, or for ever if it does not ``stop``, it must disturb nobody. The node ``by`` is asked first.
        """
        group = self._group(node)
        self._may_be_out.add(node)
        self._stage.weaken(group, majority(self._voters(group)))  # before it is so: no answer is taken for stronger
        done = await self._ask_leader(node, self._calls.remove_member, _gone, first=by)
        if node not in self.left:
            self.left.append(node)
        if stop and self._stage.supervisor.state(node) is NodeState.RUNNING:
            await asyncio.sleep(LINGER_S)
            done = f"{done}; {await self._stage.supervisor.terminate(node, TERMINATE_S)}"
        return done

    async def transfer(self, node: str) -> str:
        """Ask the present leader to hand over to this node. Raises LeverError."""
        return await self._ask_leader(node, self._calls.hand_over, _leads)

    async def replace(self, lost: str, spare: str) -> Sequence[str]:
        """Take a node whose disk is gone out of its group and put an empty one in its place; words for each step.

        May be called again after it failed. Raises LeverError.
        """
        return [await self.leave(lost), await self.join(spare)]

    def _voters(self, group: Group) -> int:
        """Voters of the group, at least: one whose disk is lost stays one until it is removed."""
        voters = [node for node in (*group.nodes, *group.spares) if node in group.nodes or node in self._added]
        return max(1, sum(node not in self._may_be_out for node in voters))

    def _group(self, node: str) -> Group:
        group = self._stage.topology.group_of(node)
        if group is None:
            raise LeverError(f"{node} is no broker")
        return group

    async def _ask_leader(self, node: str, call: Call, is_so: IsSo, *, first: str = "") -> str:
        """Have the group's leader do it; if it is deposed meanwhile the next one is asked, until patience ends.

        A leader that was deposed while it worked may have done it: so after a refusal the next one is looked at first.
        ``first`` is asked before all, even if it does not serve as leader yet.
        """
        group = self._group(node)
        refused = ""
        if first:
            try:
                return await call(first, node)
            except LeverError as error:
                refused = str(error)
        deadline = time.monotonic() + LED_S
        while True:
            leader = await self._leader(group)
            if leader is not None and refused and is_so(leader, node):
                return f"{leader.node} says that it is so, after {refused}"
            try:
                if leader is None:
                    raise LeverError(f"{group.name} has no leader")
                return await call(leader.node, node)
            except LeverError as error:
                refused = str(error)
                if time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(PAUSE_S)

    async def _leader(self, group: Group) -> NodeStatus | None:
        running = self._stage.supervisor.running_pids()
        nodes = [node for node in (*group.nodes, *group.spares) if node in running]
        answers = await asyncio.gather(*(self._stage.ask(node) for node in nodes))
        leaders = [status for status in answers if status is not None and status.master]
        return max(leaders, key=lambda status: status.epoch[0]) if leaders else None

    async def _answers(self, node: str) -> None:
        deadline = time.monotonic() + START_S
        while await self._stage.ask(node) is None:
            if time.monotonic() >= deadline:
                raise LeverError(f"{node} was started and does not answer")
            await asyncio.sleep(PAUSE_S)


def _votes(leader: NodeStatus, node: str) -> bool:
    return leader.raft is not None and leader.raft.settled and node in leader.raft.voters


def _gone(leader: NodeStatus, node: str) -> bool:
    view = leader.raft
    return view is not None and view.settled and node not in (*view.voters, *view.learners)


def _leads(leader: NodeStatus, node: str) -> bool:
    return leader.node == node
