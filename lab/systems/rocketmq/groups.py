"""A release in DLedger mode: groups that elect their leader, as DLedger 0.3.1.2 in RocketMQ 4.9 and 5.x does.

Role and term come from the Raft port, what is committed from the broker's runtime information, log ends and votes from
the store's files. A member serves once the broker has taken up the role that it was elected to.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lab.cluster.hosts import Hosts
from lab.plan import Plan
from lab.rundir import RunDir
from lab.systems.dledger import LEADER, member_id, member_settings, node_of
from lab.systems.log_entries import LogEntry
from lab.systems.rocketmq import raft_port
from lab.systems.rocketmq.election_log import elections_in
from lab.systems.rocketmq.ledger_files import LedgerFiles, Look, ledger_entries
from lab.systems.rocketmq.system import RocketMQSystem, delayed_of, ends_of
from lab.systems.system import LogPiece, NodeStatus, RaftView
from lab.topology import MEMBER_PORT, Group, Topology
from nemesis.world import LeverError
from nodes.remoting.command import Command

TRIES: Final = 3  # of a status whose term changed while it was asked for
TRANSFER_TIMEOUT_S: Final = 10.0
FIXED: Final = "the members of a release's DLedger group are those of its configuration"
APPOINTED: Final = ("brokerId", "brokerRole")  # the broker gives itself both as it is elected


class RocketMQGroups(RocketMQSystem):
    """One release of Apache RocketMQ whose brokers form DLedger groups."""

    def __init__(self, plan: Plan, topology: Topology, folder: RunDir, hosts: Hosts) -> None:
        super().__init__(plan, topology, folder, hosts)
        self._ledgers: dict[str, LedgerFiles] = {}

    # --- configuration

    def _settings(self, node: str) -> dict[str, str]:
        settings = super()._settings(node)
        group = self._topology.group_of(node)
        if group is None:
            return settings
        kept = {key: value for key, value in settings.items() if key not in APPOINTED}
        return kept | member_settings(group, node, self._hosts.address)

    # --- questions

    async def unlike(self, node: str) -> list[str]:
        """Effective settings, and whom the Raft port knows as peers: that is the mode that really runs."""
        words = await super().unlike(node)
        group = self._group(node)
        peers = raft_port.read_peers(await self._raft(node, raft_port.ask_peers(group.name, member_id(node))))
        wanted = {member_id(one): f"{self._hosts.address(one)}:{MEMBER_PORT}" for one in group.nodes}
        if peers is None:
            words.append(f"{node}: its Raft port does not answer, so it is not in mode dledger")
        elif dict(peers.addresses) != wanted:
            words.append(f"{node}: its Raft port knows the peers {dict(peers.addresses)}, its file says {wanted}")
        return words

    async def _status(self, node: str) -> NodeStatus | None:
        """Asked within one term: the term is asked for before and after all else.

        Positions come after the role: a leader that serves has committed all that was promised before, and must not be
        told with what it had committed when it did not serve yet.
        """
        for _ in range(TRIES):
            term = await self._term(node)
            if term is None:
                return None
            peers = await self._peers(node)
            leads = peers is not None and peers.leader == member_id(node)
            effective = await self._effective(node) if leads else {}  # a long answer, that only a leader's role needs
            runtime = await self._runtime(node)
            if peers is None or effective is None or runtime is None:
                return None
            look = await self._read(self._ledger(node).look, ends_of(runtime)[1])
            if await self._term(node) == term:
                return self._told(node, term, peers, effective, runtime, look)
        return None

    def _told(
        self,
        node: str,
        term: int,
        peers: raft_port.Peers,
        effective: Mapping[str, str],
        runtime: Mapping[str, str],
        look: Look,
    ) -> NodeStatus:
        group = self._group(node)
        leader = self._name(group, peers.leader)
        role = "candidate" if leader is None else LEADER if leader == node else "follower"
        serving = role == LEADER and effective.get("brokerRole") == "SYNC_MASTER"
        begin, commit = ends_of(runtime)
        vote = look.vote
        view = RaftView(
            role=role,
            term=term,
            vote=self._name(group, vote.to) if vote is not None and vote.term == term else None,
            tells_vote=vote is not None and vote.term <= term,  # one of a later term is that of a moment later
            leader=leader,
            accepts=serving,
            commit=commit,
            durable=None,
            applied=None,
            terms=(),
            voters=tuple(self._name(group, member) or member for member in peers.addresses),
        )
        return NodeStatus(
            node=node,
            master=role == LEADER,
            broker_id=0 if serving else -1,
            epoch=(term, leader or ""),
            epochs=(),
            begin=begin,
            end=max(begin, look.end),
            slave_ack=None,
            slaves=(),
            serving=serving,
            queues=look.queues,
            raw={"role": role},
            delayed=delayed_of(runtime, look.queues),
            raft=view,
        )

    def elections(self, node: str, start_ns: int, starts: Sequence[int]) -> Iterator[dict[str, Any]]:
        """From what DLedger wrote into the broker's logs; it has no clock of the run."""
        del start_ns, starts
        return elections_in(self._folder.node(node), node, self._group(node))

    async def hand_over(self, leader: str, node: str) -> str:
        """LEADERSHIP_TRANSFER, in the present term."""
        group, term = self._group(leader), await self._term(leader)
        if term is None:
            raise LeverError(f"{leader} does not answer on its Raft port")
        question = raft_port.ask_transfer(group.name, member_id(leader), member_id(node), term)
        answer = await self._raft(leader, question, TRANSFER_TIMEOUT_S)
        if refused := raft_port.refusal(answer):
            raise LeverError(f"{leader} did not hand over to {node}: {refused}")
        return f"{leader} was asked to hand over to {node}"

    async def add_member(self, leader: str, node: str) -> str:
        """Not with DLedger, whose peers are those of its configuration."""
        raise LeverError(f"{leader} cannot add {node}: {FIXED}")

    async def remove_member(self, leader: str, node: str) -> str:
        """Not with DLedger, whose peers are those of its configuration."""
        raise LeverError(f"{leader} cannot remove {node}: {FIXED}")

    async def read_log(self, node: str, offset: int) -> LogPiece | None:
        """From the files, up to the end that they have."""
        commit = await self._ends(node)
        if commit is None:
            return None
        ledger, committed = self._ledger(node), commit[1]
        return await self._unless_gone(lambda: ledger.read_log(offset, ledger.end(committed)))

    def entries(self, data: bytes, offset: int) -> Iterator[LogEntry]:
        """Entries of a ledger, each with its term."""
        return ledger_entries(data, offset)

    # --- inside

    def _indexed_goal(self, status: NodeStatus) -> int:
        """Its dispatcher tells itself how far it is behind what is committed."""
        del status
        return 0

    def _group(self, node: str) -> Group:
        group = self._topology.group_of(node)
        if group is None:
            raise KeyError(node)
        return group

    def _name(self, group: Group, member: str | None) -> str | None:
        return node_of(group, member) or member if member else None

    def _ledger(self, node: str) -> LedgerFiles:
        if node not in self._ledgers:
            self._ledgers[node] = LedgerFiles(self._folder.node(node) / "store", member_id(node))
        return self._ledgers[node]

    async def _peers(self, node: str) -> raft_port.Peers | None:
        question = raft_port.ask_peers(self._group(node).name, member_id(node))
        return raft_port.read_peers(await self._raft(node, question))

    async def _term(self, node: str) -> int | None:
        group = self._group(node)
        fellow = next((one for one in group.nodes if one != node), node)
        question = raft_port.ask_term(group.name, member_id(node), member_id(fellow))
        return raft_port.read_term(await self._raft(node, question))

    async def _raft(self, node: str, question: Command, timeout_s: float | None = None) -> Command | None:
        return await self._call(node, question, timeout_s, port=MEMBER_PORT)
