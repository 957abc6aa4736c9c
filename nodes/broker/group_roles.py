"""Master or slave as the group decides (DLedger mode).

This node is master from the moment its own term's first record is committed, for then it holds and has applied
everything that any earlier master has acknowledged; until its term ends, in whatever way. Nobody writes the role down:
the log and the votes are what a restart goes by.
"""

from __future__ import annotations

from collections.abc import Callable

from nodes.broker.acknowledgement import Rule
from nodes.broker.core import BrokerCore
from nodes.broker.delivery import DelayDelivery
from nodes.broker.group_progress import GroupProgress
from nodes.broker.replicated import ReplicatedTables
from nodes.broker.roles import RoleError
from nodes.broker.topics import TopicConfig, default_topics
from nodes.config import BrokerRole
from nodes.config.dledger import number_of
from nodes.dledger.changes import GroupChanges
from nodes.dledger.node import GroupNode
from nodes.dledger.records import SYSTEM_TOPIC
from nodes.dledger.settings import GroupError
from nodes.flaws import Flaw
from nodes.replication.ports import ReplicaState
from nodes.replication.raft.orders import Role

__all__ = ["GroupRoles"]

_HAND_OVER_S = 2.0


class GroupRoles:
    """Takes up and lays down the role of a master as the group says. `on_change` is called after every change."""

    def __init__(
        self,
        core: BrokerCore,
        member: GroupNode,
        tables: ReplicatedTables,
        progress: GroupProgress,
        delivery: DelayDelivery,
    ) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.master_address = ""
        """Where clients reach the leader, as far as this member has heard."""
        self.port = 0
        """Where other members reach this one."""
        self._core = core
        self._member = member
        self._tables = tables
        self._progress = progress
        self._delivery = delivery
        self._term = 0
        """The term that this node is master in; 0 while it is slave."""
        self._told: tuple[object, ...] = ()
        self._given_up_full = False
        member.on_changed = self._look
        member.on_committed = self._committed
        member.snapshot = tables.snapshot_all
        member.install = tables.install_all
        member.applied = lambda: tables.applied

    # What others ask

    @property
    def own_ha_address(self) -> str:
        """Where replicas reach this node."""
        return f"{self._core.config.broker_ip2}:{self.port}"

    def seeking_master(self) -> bool:
        """Name servers are not asked for a master: the group tells."""
        return False

    def heard_of_master(self, address: str, ha_address: str) -> None:
        """What a name server says about a master does not count in a group."""

    def replicas(self) -> list[ReplicaState]:
        """The other members as a leader sees them; empty on a follower."""
        status = self._member.raft.status()
        return [
            ReplicaState(
                store_id=peer.name,
                broker_id=number_of(peer.name) + 1,
                peer=self._member.book.brokers.get(peer.name, ""),
                ack=peer.match,
                lag=max(0, status.end - peer.match),
                connected=self._member.connected(peer.name),
            )
            for peer in status.peers
        ]

    # Life

    async def start(self) -> None:
        """Join the group. Raises ListenError."""
        core = self._core
        core.serving.role, core.serving.broker_id = BrokerRole.SLAVE, number_of(self._member.name) + 1
        core.serving.ready = True
        self.port = await self._member.start()
        core.log.event(
            "group-joined",
            group=self._member.settings.group,
            member=self._member.name,
            port=self.port,
            term=self._member.raft.term,
            begin=self._member.raft.begin,
            end=self._member.raft.end,
            committed=self._member.committed,
        )
        self._look()

    async def hand_over(self) -> None:
        """A leader that stops lets another member lead first."""
        try:
            await GroupChanges(self._member).hand_over(patience_s=_HAND_OVER_S)
        except GroupError as error:
            self._core.log.warning("not-handed-over", reason=error)

    async def stop(self) -> None:
        """Serve nobody any more."""
        self._lay_down()
        self._core.serving.ready = False
        await self._member.stop()

    async def change(self, role: BrokerRole, broker_id: int) -> None:
        """Roles are not given by hand here. Raises RoleError unless this member is asked to lead and is elected."""
        if not role.is_master:
            raise RoleError("in DLedger mode the group elects its master; transfer the leadership to another member")
        raise RoleError("in DLedger mode the group elects its master; ask the leader to transfer the leadership here")

    def disk_failed(self, reason: str) -> None:
        """The store has failed: hand over and say nothing more."""
        self._member.disk_failed(reason)
        self._look()

    async def maintain(self, now_ms: int) -> None:
        """Delete old files; a leader whose disk is nearly full lets another one lead. Raises what the store raises."""
        store, member = self._core.store, self._member
        if member.failed is not None:
            return
        deleted = store.retain(now_ms, self._before_deletion)
        if deleted:
            member.deleted(store.min_offset)
        if store.disk_full and self._term and not self._given_up_full:
            self._given_up_full = True  # once only: the others may be no better off
            await self.hand_over()
        if not store.disk_full:
            self._given_up_full = False

    def _before_deletion(self, begin: int) -> bool:
        if self._tables.applied < begin:
            return False
        self._tables.save_now()
        return self._member.before_deletion(begin)

    # The group says

    def notify(self) -> None:
        """The broker has written what it appended."""
        self._member.written()

    def acked(self, copies: int) -> int:
        """Log offset up to which the group has committed."""
        if Flaw.REPLY_BEFORE_REPLICA in self._core.config.flaws:
            return self._core.store.written_end  # planted: REPLY_BEFORE_REPLICA
        return self._member.committed

    def in_sync(self) -> int:
        """Other members that are connected."""
        names = self._member.raft.membership.voter_names
        return sum(1 for name in names if name != self._member.name and self._member.connected(name))

    def _committed(self, end: int) -> None:
        core = self._core
        core.store.show_committed(end)
        self._tables.apply(end)
        if self._term:
            core.pipeline.advance()
        self._look()

    def _look(self) -> None:
        """Is this node to be master, or no longer?"""
        member, serving = self._member, self._core.serving
        raft = member.raft
        leads = raft.role is Role.LEADER and member.failed is None
        if self._term and not (leads and raft.term == self._term):
            self._lay_down()
        if not self._term and leads and member.settled and self._tables.applied >= member.marker_end:
            self._take_up(raft.term)
        self.master_address = member.leader_broker
        if not self._term:
            serving.epoch = raft.term
        serving.outside = raft.outside
        news = (serving.role, serving.broker_id, serving.epoch, raft.leader, serving.outside)
        if news != self._told:
            self._told = news
            self._core.generation += 1
            self._core.log.event(
                "role",
                role=serving.role.value,
                broker_id=serving.broker_id,
                epoch=serving.epoch,
                leader=raft.leader,
                begin=raft.begin,
                end=raft.end,
                committed=raft.committed,
                members=" ".join(raft.membership.names),
                outside=serving.outside,
                text=f"The broker[{self._core.config.broker_name}, {serving.broker_id}] serves as {serving.role.value}",
            )
            self.on_change()
            self._core.register_now()

    def _take_up(self, term: int) -> None:
        core, config, tables = self._core, self._core.config, self._tables
        serving = core.serving
        serving.role, serving.broker_id, serving.epoch, serving.ready = BrokerRole.SYNC_MASTER, 0, term, True
        self._term = term
        core.generation += 1
        core.store.begin_to_lead()
        tables.lead(self._member.append, core.store.append_end)
        core.pipeline.serve(
            Rule(
                flush=False,
                copies=len(self._member.raft.membership.voters) // 2 + 1,
                replica_timeout_s=config.max_wait_ack_time_ms / 1000,
                quorum=True,
            ),
            self,
        )
        now_ms = core.clock.now_ms()
        tables.topics.ensure(
            default_topics(
                config.broker_cluster_name,
                config.broker_name,
                auto_create=config.auto_create_topic_enable,
                delay_levels=len(core.delay_levels),
            ),
            now_ms,
        )
        tables.topics.ensure(self._topics_of_log(), now_ms)
        tables.save_changed_now()
        core.pipeline.touch()
        self._delivery.start(lambda: self._member.committed)

    def _lay_down(self) -> None:
        if not self._term:
            return
        core = self._core
        self._term = 0
        core.serving.role, core.serving.broker_id = BrokerRole.SLAVE, number_of(self._member.name) + 1
        core.generation += 1
        self._delivery.stop()
        core.pipeline.halt()
        self._progress.drop()
        self._tables.follow()
        core.locks.clear()

    def _topics_of_log(self) -> list[TopicConfig]:
        """Topics that messages lie in, deleted ones left out: none of them may be missing."""
        queues: dict[str, int] = {}
        for bounds in self._core.store.queues():
            if bounds.topic != SYSTEM_TOPIC and bounds.min_offset < bounds.max_offset:
                queues[bounds.topic] = max(queues.get(bounds.topic, 0), bounds.queue_id + 1)
        return [TopicConfig(topic, number, number) for topic, number in queues.items()]
