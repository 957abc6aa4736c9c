"""Master or slave: taking a role up, laying it down, changing it in place.

Every time this node becomes master, at start too, it mints a new epoch and syncs it before it serves. A change of role
is durable before it is answered: the configuration file says the new role, so a restart keeps it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nodes.broker.acknowledgement import rule_for
from nodes.broker.config_file import with_role
from nodes.broker.core import BrokerCore
from nodes.broker.delay import scheduled_queue
from nodes.broker.delivery import DelayDelivery
from nodes.broker.names import SCHEDULE_TOPIC
from nodes.broker.topics import TopicConfig, default_topics
from nodes.config import BrokerRole
from nodes.replication.driver import Primary, Replica
from nodes.replication.lineage import Lineage
from nodes.replication.ports import Identity, ReplicaState, Timing
from nodes.replication.progress import Marks
from nodes.store.disk import Disk
from nodes.store.errors import StoreFailed

__all__ = ["RoleError", "RoleKeeper"]

_SWITCH_S = 1.5
"""A master's address is tried at least this long before another name server's word is taken instead."""


class RoleError(Exception):
    """A role that cannot be taken up; the text says why."""


def held_by_all(core: BrokerCore, replicas: list[ReplicaState]) -> int:
    """Log offset up to which this node has synced and every connected replica holds everything."""
    return min([core.store.flushed_end, *(replica.ack for replica in replicas if replica.connected)])


class RoleKeeper:
    """Owns replication and the role. `on_change` is called after every change, before anybody is answered."""

    def __init__(self, core: BrokerCore, disk: Disk, delivery: DelayDelivery, config_path: str | None) -> None:
        self.primary: Primary | None = None
        self.replica: Replica | None = None
        self.master_address = ""
        """Where clients reach the master, as far as this slave has heard."""
        self.ha_port = core.config.ha_listen_port
        self.on_change: Callable[[], None] = lambda: None
        self._core = core
        self._disk = disk
        self._delivery = delivery
        self._config_path = config_path
        self._changing = asyncio.Lock()
        self._switched_at = float("-inf")
        config = core.config
        self._timing = Timing(
            config.ha_send_heartbeat_interval / 1000,
            config.ha_housekeeping_interval / 1000,
            config.ha_slave_fallbehind_max,
        )

    @property
    def _lineage(self) -> Lineage:
        lineage = self._core.lineage
        assert lineage is not None, "master and slave have one"
        return lineage

    # What others ask

    def disk_failed(self, reason: str) -> None:
        """The store has failed. What waits is refused by the pipeline; an operator decides who is master next."""

    async def hand_over(self) -> None:
        """A master that stops: there is nobody to elect another one."""

    def replicas(self) -> list[ReplicaState]:
        """The copies of a master; empty on a slave."""
        return [] if self.primary is None else self.primary.replicas()

    def seeking_master(self) -> bool:
        """This node is a slave that follows nobody."""
        return self.replica is not None and not self.replica.following

    def heard_of_master(self, address: str, ha_address: str) -> None:
        """A name server told who the master is."""
        replica = self.replica
        if replica is None:
            return
        self.master_address = address
        ha_address = self._core.config.ha_master_address or ha_address
        now = self._core.loop.time()
        if not ha_address or ha_address == replica.address or ha_address == self.own_ha_address:
            return
        if replica.following or (replica.address and now - self._switched_at < _SWITCH_S):
            return
        self._switched_at = now
        self._core.log.event("master-found", address=address, ha_address=ha_address, text="update master address")
        replica.start(ha_address)

    @property
    def own_ha_address(self) -> str:
        """Where replicas reach this node while it is master."""
        return f"{self._core.config.broker_ip2}:{self.ha_port}"

    # Changing

    async def start(self) -> None:
        """Take up the role that the configuration says. Raises RoleError."""
        serving = self._core.serving
        async with self._changing:
            await self._take_up(serving.role, serving.broker_id)

    async def stop(self) -> None:
        """Serve nobody any more."""
        async with self._changing:
            await self._lay_down()

    async def change(self, role: BrokerRole, broker_id: int) -> None:
        """Become what is asked, durably. Raises RoleError; the old role is then in force again if at all possible."""
        if role.is_master:
            broker_id = 0
        elif broker_id <= 0:
            raise RoleError(f"a slave needs a brokerId above 0, not {broker_id}")
        if self._config_path is None:
            raise RoleError("started without a configuration file: the new role would not survive a restart")
        if self._core.serving.failed is not None:
            raise RoleError(f"the store has failed: {self._core.serving.failed}")
        async with self._changing:
            serving = self._core.serving
            old = serving.role, serving.broker_id
            if (role, broker_id) == old and serving.ready:
                return
            self._core.log.event("role-changing", before=old[0].value, after=role.value, broker_id=broker_id)
            await self._lay_down()
            try:
                self._write_config(role, broker_id)
                await self._take_up(role, broker_id)
            except (OSError, RoleError, StoreFailed) as error:
                self._core.log.error("role-not-changed", role=role.value, reason=error)
                await self._lay_down()
                self._write_config(*old)
                await self._take_up(*old)
                raise RoleError(f"{role} was not taken up: {error}") from error

    def _write_config(self, role: BrokerRole, broker_id: int) -> None:
        if self._config_path is None:
            return
        text = self._disk.read_bytes(self._config_path).decode()
        changed = with_role(text, role, broker_id)
        if changed != text:
            self._disk.replace_atomically(self._config_path, changed.encode())

    async def _take_up(self, role: BrokerRole, broker_id: int) -> None:
        core = self._core
        core.serving.role, core.serving.broker_id = role, broker_id
        if role.is_master:
            await self._become_master(role)
        else:
            self._become_slave(broker_id)
        core.serving.epoch = core.epoch
        core.serving.ready = True
        core.generation += 1
        core.log.event(
            "role",
            role=role.value,
            broker_id=broker_id,
            epoch=core.epoch,
            begin=core.store.min_offset,
            end=core.store.written_end,
            text=f"The broker[{core.config.broker_name}, {broker_id}] serves as {role.value}",
        )
        self.on_change()
        core.register_now()

    async def _become_master(self, role: BrokerRole) -> None:
        core, config = self._core, self._core.config
        core.store.write_pending()
        await core.store.sync()
        epoch = self._lineage.mint(core.store.min_offset, core.store.written_end, core.rng, config.flaws)
        core.log.event("epoch-minted", number=epoch.number, id=epoch.id, start=epoch.start_offset)
        self._keep_progress_of_slave()
        core.tables.clamp(
            len(core.delay_levels), lambda level: core.store.queue_bounds(SCHEDULE_TOPIC, scheduled_queue(level))[1]
        )
        now_ms = core.clock.now_ms()
        levels = len(core.delay_levels)
        core.tables.topics.ensure(
            default_topics(
                config.broker_cluster_name,
                config.broker_name,
                auto_create=config.auto_create_topic_enable,
                delay_levels=levels,
            ),
            now_ms,
        )
        core.tables.topics.ensure(self._topics_of_log(), now_ms)
        core.tables.topics.touch(now_ms)
        core.tables.save_changed_now()
        primary = Primary(
            core.store,
            self._lineage,
            core.tables,
            Identity(config.broker_name, 0),
            log=core.log,
            timing=self._timing,
            flaws=config.flaws,
        )
        primary.on_ack = core.pipeline.advance
        try:
            self.ha_port = await primary.start(config.bind_address, self.ha_port)
        except OSError as error:
            raise RoleError(f"cannot listen for slaves on {config.bind_address}:{self.ha_port}: {error}") from error
        self.primary = primary
        core.offsets_reset = primary.offsets_reset
        core.tables.on_changed = primary.tables_changed
        rule = rule_for(
            role,
            config.flush_disk_type,
            config.in_sync_replicas,
            flush_timeout_s=config.sync_flush_timeout / 1000,
            replica_timeout_s=config.slave_timeout / 1000,
            flaws=config.flaws,
        )
        core.pipeline.serve(rule, primary)
        core.log.event("promise", copies=rule.copies, flush=rule.flush)
        self._delivery.start(lambda: held_by_all(core, primary.replicas()))

    @property
    def _marks_path(self) -> str:
        return f"{self._core.config.store_path_root_dir}/config/progress.json"

    def _keep_progress_of_slave(self) -> None:
        """What consumers committed here while this node was a slave is now simply its own table."""
        if not self._disk.exists(self._marks_path):
            return
        try:
            self._core.tables.merge(Marks.decode(self._disk.read_bytes(self._marks_path)).progress())
        except ValueError as error:
            self._core.log.warning("progress-of-slave-not-readable", path=self._marks_path, reason=error)
        self._disk.remove(self._marks_path)
        self._disk.fsync_dir(f"{self._core.config.store_path_root_dir}/config")

    def _topics_of_log(self) -> list[TopicConfig]:
        """Topics that messages lie in: none of them may be missing, even if its table was lost."""
        queues: dict[str, int] = {}
        for bounds in self._core.store.queues():
            queues[bounds.topic] = max(queues.get(bounds.topic, 0), bounds.queue_id + 1)
        return [TopicConfig(topic, number, number) for topic, number in queues.items()]

    def _become_slave(self, broker_id: int) -> None:
        core, config = self._core, self._core.config
        replica = Replica(
            core.store,
            self._lineage,
            core.tables,
            Identity(config.broker_name, broker_id),
            disk=self._disk,
            marks_path=self._marks_path,
            log=core.log,
            timing=self._timing,
            flaws=config.flaws,
        )
        replica.on_written = lambda end: core.pipeline.replicated()
        replica.on_cut = self._cut
        self.replica = replica
        core.commit_on_replica = replica.consumer_committed
        if config.ha_master_address:
            replica.start(config.ha_master_address)

    def _cut(self, end: int) -> None:
        self._core.log.event("log-cut", end=end)
        self.on_change()

    async def _lay_down(self) -> None:
        core = self._core
        core.serving.ready = False
        core.generation += 1
        self._delivery.stop()
        core.pipeline.halt()
        core.offsets_reset = lambda progress: None
        core.commit_on_replica = lambda key, queue_id, offset: None
        core.tables.on_changed = lambda: None
        core.locks.clear()
        if self.primary is not None:
            primary, self.primary = self.primary, None
            await primary.stop()
        if self.replica is not None:
            replica, self.replica = self.replica, None
            replica.stop()
        self.master_address = ""
