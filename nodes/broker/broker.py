"""The broker program: puts the parts together, runs them until told to stop, and takes them apart in order."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from random import Random, SystemRandom

from nodes.broker.admin_broker import BrokerAdmin
from nodes.broker.admin_groups import GroupAdmin
from nodes.broker.admin_members import MemberAdmin
from nodes.broker.admin_topics import TopicAdmin
from nodes.broker.clients import ClientProcessor
from nodes.broker.consumer_groups import ClientTable
from nodes.broker.core import BrokerCore, Serving
from nodes.broker.delivery import DelayDelivery
from nodes.broker.fields import RequestError
from nodes.broker.group_roles import GroupRoles
from nodes.broker.group_start import join_group, known_committed, make_tables, refuse_foreign_store
from nodes.broker.lab import LabProcessor
from nodes.broker.names import SCHEDULE_TOPIC
from nodes.broker.offsets import OffsetProcessor
from nodes.broker.pipeline import Pipeline
from nodes.broker.pull import PullProcessor
from nodes.broker.query import QueryProcessor
from nodes.broker.registration import Addresses, Registrar
from nodes.broker.replicated import ReplicatedTables
from nodes.broker.roles import RoleError, RoleKeeper
from nodes.broker.send import SendProcessor
from nodes.broker.tables import TablesDamaged
from nodes.clock import Clock, SystemClock
from nodes.config import BrokerConfig, FlushDiskType
from nodes.dledger.state import StateDamaged
from nodes.log import EventLog
from nodes.remoting.codes import RequestCode, ResponseCode
from nodes.remoting.command import Command
from nodes.remoting.connection import Connection, Handler, unsupported
from nodes.remoting.message import parse_host
from nodes.remoting.server import RemotingServer
from nodes.replication.lineage import Lineage, LineageError
from nodes.store.disk import Disk, RealDisk
from nodes.store.errors import StoreCorrupt, StoreFailed, StoreRefused
from nodes.store.flawed import make_store
from nodes.store.settings import StoreConfig
from nodes.store.store import MessageStore

__all__ = ["Broker", "StartRefused", "run", "store_config"]


_SWITCH_S = 0.0002
"""How long the loop's thread may keep the interpreter from the thread that syncs. Python's 5 ms would be paid twice for
every group commit, which is more than most disks need for the sync itself."""


_DRAIN_S = 1.0
"""How long a clean stop waits for sends that were taken to reach their promise."""


_ANSWERED_OUTSIDE = frozenset(
    {
        RequestCode.GET_BROKER_CONFIG,
        RequestCode.UPDATE_BROKER_CONFIG,
        RequestCode.GET_BROKER_RUNTIME_INFO,
        RequestCode.GROUP_CHANGE_MEMBER,
        RequestCode.GROUP_TRANSFER,
        RequestCode.LAB_STATUS,
        RequestCode.LAB_CHANGE_ROLE,
        RequestCode.LAB_READ_LOG,
        RequestCode.LAB_READ_INDEX,
    }
)
"""What a broker answers whose group goes on without it: questions of operators, about itself."""


class StartRefused(OSError):
    """This node must not serve: its files are damaged, or its role cannot be taken up. The text says which and why."""


def store_config(config: BrokerConfig) -> StoreConfig:
    """The store's share of a broker's settings."""
    return StoreConfig(
        root=config.store_path_root_dir,
        commit_log=config.store_path_commit_log,
        segment_size=config.mapped_file_size_commit_log,
        queue_file_size=config.mapped_file_size_consume_queue,
        message_max=config.max_message_size,
        sync_flush=config.flush_disk_type is FlushDiskType.SYNC_FLUSH,
        index_keys=config.message_index_enable,
        reserved_hours=config.file_reserved_time,
        delete_when=config.delete_when,
        disk_max_used_ratio=config.disk_max_used_space_ratio,
        disk_warning_ratio=config.disk_space_warning_level_ratio,
        delay_levels_ms=config.message_delay_level,
        committed_only=config.enable_dledger,
        refuse_lost_tail=config.enable_dledger,
    )


class Broker:
    """One broker. `open` recovers its store and serves; `close` stops it cleanly."""

    def __init__(
        self,
        config: BrokerConfig,
        log: EventLog,
        *,
        config_path: str | None = None,
        disk: Disk | None = None,
        clock: Clock | None = None,
        rng: Random | None = None,
    ) -> None:
        self.config = config
        self.log = log
        self.port = 0
        self._config_path = config_path
        self._disk: Disk = disk if disk is not None else RealDisk()
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._rng = rng if rng is not None else SystemRandom()
        self._timers: list[asyncio.TimerHandle] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._periodic: list[asyncio.Task[None]] = []

    async def open(self) -> int:
        """Recover, take up the role, listen, register. Returns the port. Raises what makes a start impossible."""
        config, log = self.config, self.log
        if config.flaws:
            log.warning("flaws-planted", flaws=sorted(flaw.value for flaw in config.flaws))
        store = make_store(self._disk, store_config(config), self._clock, log, config.flaws)
        self._disk.makedirs(config.store_path_root_dir)
        try:
            refuse_foreign_store(self._disk, config)
            store.open(known_committed(self._disk, config) if config.enable_dledger else 0)
        except StoreCorrupt as error:
            raise StartRefused(f"the store is damaged: {error}") from error
        except (StateDamaged, TablesDamaged) as error:
            raise StartRefused(str(error)) from error
        self.store = store
        try:
            return await self._assemble(store)
        except (TablesDamaged, LineageError, RoleError, StateDamaged) as error:
            await self._give_up()
            raise StartRefused(str(error)) from error
        except BaseException:
            await self._give_up()
            raise

    async def _give_up(self) -> None:
        """A start that failed leaves nothing open."""
        await self.server.stop()
        self.store.close()

    async def _assemble(self, store: MessageStore) -> int:
        config, log = self.config, self.log
        self._handlers: dict[int, Handler] = {}
        self.server = RemotingServer(
            self._handle, log=log, idle_timeout_s=float(config.server_channel_max_idle_time_seconds)
        )
        tables = make_tables(config, self._disk, store, log)
        tables.load(config.flaws)
        lineage = None if config.enable_dledger else self._open_lineage(store)
        self.port = await self.server.start(config.bind_address, config.listen_port)
        self.core = core = BrokerCore(
            config,
            self._clock,
            log,
            self._rng,
            store,
            tables,
            lineage,
            Pipeline(store, log, config.flush_interval_commit_log / 1000, config.send_thread_pool_queue_capacity),
            Serving(config.broker_role, config.broker_id),
            parse_host(config.broker_ip1, self.port),
            ClientTable(config.channel_expired_timeout / 1000),
        )
        self.pulls = PullProcessor(core)
        self.delivery = DelayDelivery(core)
        self.clients = ClientProcessor(core)
        self.roles: RoleKeeper | GroupRoles
        if isinstance(tables, ReplicatedTables):
            self.roles = join_group(core, tables, self._disk, self.delivery, f"{config.broker_ip1}:{self.port}")
        else:
            self.roles = RoleKeeper(core, self._disk, self.delivery, self._config_path)
        self.admin = BrokerAdmin(core, self.pulls, self._disk)
        self.roles.on_change = self.pulls.wake_all
        core.pipeline.on_failed = self._failed
        store.on_failed = core.pipeline.fail
        store.on_dispatch = self._dispatched
        self._handlers.update(self._table())
        if isinstance(self.roles, RoleKeeper):
            await self.roles.start()
        self.registrar = Registrar(
            core, Addresses(f"{config.broker_ip1}:{self.port}", lambda: self.roles.own_ha_address)
        )
        self.registrar.on_master = self.roles.heard_of_master
        self.registrar.seeking = self.roles.seeking_master
        core.register_now = tables.on_topics_changed = self.registrar.register_now
        if isinstance(self.roles, GroupRoles):
            await self.roles.start()
        self.registrar.start()
        self._periodic = [
            core.loop.create_task(self._every(config.flush_consumer_offset_interval, tables.save_offsets)),
            core.loop.create_task(self._every(config.clean_resource_interval, self._maintain)),
        ]
        log.event(
            "boot",
            broker=config.broker_name,
            cluster=config.broker_cluster_name,
            broker_id=core.serving.broker_id,
            role=core.serving.role.value,
            address=f"{config.broker_ip1}:{self.port}",
            text=f"The broker[{config.broker_name}, {config.broker_ip1}:{self.port}] boot success.",
        )
        return self.port

    def _open_lineage(self, store: MessageStore) -> Lineage:
        return Lineage.open(
            self._disk,
            f"{self.config.store_path_root_dir}/config/epochs.json",
            log_begin=store.min_offset,
            log_end=store.written_end,
            rng=self._rng,
        )

    async def close(self) -> None:
        """Hand over, unregister, answer what waits, save everything."""
        core = self.core
        await self.roles.hand_over()
        await self.registrar.stop()
        for task in self._periodic:
            task.cancel()
        await asyncio.gather(*self._periodic, return_exceptions=True)
        core.serving.ready = False
        core.generation += 1
        await core.pipeline.drain(_DRAIN_S)
        await self.roles.stop()
        self.pulls.stop()
        self.clients.stop()
        self.admin.stop()
        await core.pipeline.close()
        await self.server.stop()
        await core.tables.save_offsets()
        self.store.close()
        if isinstance(self._disk, RealDisk):
            self._disk.close()
        self.log.event("stopped", broker=self.config.broker_name, end=self.store.written_end)

    def _table(self) -> dict[int, Handler]:
        """Which part serves which request."""
        core = self.core
        send, offsets, query = SendProcessor(core), OffsetProcessor(core), QueryProcessor(core)
        topics, lab = TopicAdmin(core), LabProcessor(core, self.roles)
        groups = GroupAdmin(core, topics)
        code = RequestCode
        table: dict[RequestCode, Handler] = {
            code.SEND_MESSAGE: send.send_v1,
            code.SEND_MESSAGE_V2: send.send_v2,
            code.SEND_BATCH_MESSAGE: send.send_v2,
            code.CONSUMER_SEND_MSG_BACK: send.send_back,
            code.PULL_MESSAGE: self.pulls.pull,
            code.QUERY_MESSAGE: query.by_key,
            code.VIEW_MESSAGE_BY_ID: query.by_id,
            code.QUERY_CONSUMER_OFFSET: offsets.query,
            code.UPDATE_CONSUMER_OFFSET: offsets.update,
            code.SEARCH_OFFSET_BY_TIMESTAMP: offsets.by_time,
            code.GET_MAX_OFFSET: offsets.end,
            code.GET_MIN_OFFSET: offsets.begin,
            code.GET_EARLIEST_MSG_STORETIME: offsets.earliest_time,
            code.GET_ALL_CONSUMER_OFFSET: offsets.all_consumer_offsets,
            code.GET_ALL_DELAY_OFFSET: offsets.all_delay_offsets,
            code.INVOKE_BROKER_TO_RESET_OFFSET: offsets.reset,
            code.HEART_BEAT: self.clients.heartbeat,
            code.UNREGISTER_CLIENT: self.clients.unregister,
            code.CHECK_CLIENT_CONFIG: self.clients.check_config,
            code.GET_CONSUMER_LIST_BY_GROUP: self.clients.consumer_list,
            code.LOCK_BATCH_MQ: self.clients.lock,
            code.UNLOCK_BATCH_MQ: self.clients.unlock,
            code.UPDATE_AND_CREATE_TOPIC: topics.update,
            code.DELETE_TOPIC_IN_BROKER: topics.delete,
            code.GET_ALL_TOPIC_CONFIG: topics.all_topics,
            code.GET_TOPIC_CONFIG: topics.one_topic,
            code.GET_TOPIC_STATS_INFO: topics.statistics,
            code.QUERY_TOPIC_CONSUME_BY_WHO: topics.consumed_by,
            code.GET_SYSTEM_TOPIC_LIST_FROM_BROKER: topics.system_topic_list,
            code.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP: groups.update,
            code.DELETE_SUBSCRIPTIONGROUP: groups.delete,
            code.GET_ALL_SUBSCRIPTIONGROUP_CONFIG: groups.all_groups,
            code.GET_SUBSCRIPTIONGROUP_CONFIG: groups.one_group,
            code.GET_CONSUME_STATS: groups.progress,
            code.GET_CONSUMER_CONNECTION_LIST: groups.consumers,
            code.GET_PRODUCER_CONNECTION_LIST: groups.producers,
            code.GET_CONSUMER_RUNNING_INFO: groups.running_info,
            code.GET_BROKER_CONFIG: self.admin.get_config,
            code.UPDATE_BROKER_CONFIG: self.admin.update_config,
            code.GET_BROKER_RUNTIME_INFO: self.admin.runtime,
            code.LAB_STATUS: lab.status,
            code.LAB_CHANGE_ROLE: lab.change_role,
            code.LAB_READ_LOG: lab.read_log,
            code.LAB_READ_INDEX: lab.read_index,
        }
        if core.member is not None:
            members = MemberAdmin(core, core.member)
            table[code.GROUP_CHANGE_MEMBER] = members.change
            table[code.GROUP_TRANSFER] = members.transfer
        if self.config.lite_pull_message_enable:
            table[code.LITE_PULL_MESSAGE] = self.pulls.pull
        return {int(request_code): handler for request_code, handler in table.items()}

    def _handle(self, connection: Connection, command: Command) -> Command | None:
        handler = self._handlers.get(command.code)
        if handler is None:
            if not self._handlers:
                return command.reply(ResponseCode.SERVICE_NOT_AVAILABLE.value, "the broker is starting")
            return unsupported(command)
        try:
            if command.code not in _ANSWERED_OUTSIDE:
                self.core.refuse_outside()
            return handler(connection, command)
        except RequestError as error:
            return command.reply(error.code, error.remark, error.ext)

    def _dispatched(self, topic: str, queue_id: int, next_offset: int, tags_code: int, store_timestamp: int) -> None:
        if topic == SCHEDULE_TOPIC:
            self.delivery.arrived(queue_id, store_timestamp)
        self.pulls.arrived(topic, queue_id, next_offset, tags_code)

    def _failed(self, reason: str) -> None:
        """The store has failed: stop being anybody's broker, but stay to say why."""
        self.core.serving.failed = reason
        self.core.generation += 1
        self.roles.disk_failed(reason)
        self.log.error("store-failed", reason=reason, text="no message is acknowledged any more")
        task = self.core.loop.create_task(self.registrar.withdraw())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _maintain(self) -> None:
        if self.store.failed is not None:
            return
        if isinstance(self.roles, GroupRoles):
            await self.roles.maintain(self._clock.now_ms())
        else:
            self.store.retain(self._clock.now_ms())
        if self.store.checkpoint_due:
            await self.store.checkpoint()

    async def _every(self, interval_ms: int, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(interval_ms / 1000)
            try:
                await work()
            except (StoreFailed, StoreRefused, OSError) as error:
                self.log.error("maintenance-failed", reason=error)


async def run(
    config: BrokerConfig,
    log: EventLog,
    stop: asyncio.Event,
    ready: Callable[[str], None],
    *,
    config_path: str | None = None,
) -> None:
    """Run a broker until `stop` is set. `ready` gets its address when it serves.

    `config_path` is the file the settings came from: a change of role is written there.
    """
    sys.setswitchinterval(_SWITCH_S)
    broker = Broker(config, log, config_path=config_path)
    await broker.open()
    ready(f"{config.broker_ip1}:{broker.port}")
    try:
        await stop.wait()
    finally:
        await broker.close()
