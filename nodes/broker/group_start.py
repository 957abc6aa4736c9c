"""Starting a broker as member of a group: what its disk must look like, and how its parts are put together."""

from __future__ import annotations

from nodes.broker.core import BrokerCore
from nodes.broker.delivery import DelayDelivery
from nodes.broker.group_progress import GroupProgress
from nodes.broker.group_roles import GroupRoles
from nodes.broker.replicated import ReplicatedTables, load_applied
from nodes.broker.tables import BrokerTables
from nodes.config import BrokerConfig, FlushDiskType
from nodes.dledger.node import GroupNode
from nodes.dledger.restoring import restore
from nodes.dledger.settings import GroupSettings
from nodes.dledger.state import GroupFiles, StateDamaged
from nodes.log import EventLog
from nodes.replication.raft.settings import Settings, Timing
from nodes.store.disk import Disk
from nodes.store.store import MessageStore

__all__ = ["join_group", "known_committed", "make_tables", "raft_settings", "refuse_foreign_store"]


def refuse_foreign_store(disk: Disk, config: BrokerConfig) -> None:
    """Raises StateDamaged if this store was written in the other mode: nobody could vouch for its log."""
    root = config.store_path_root_dir
    if config.enable_dledger and disk.exists(f"{root}/config/epochs.json"):
        raise StateDamaged(
            f"{root} was written by a master or slave; a member of a DLedger group begins with an empty"
            " storePathRootDir, and gets what the group has"
        )
    if not config.enable_dledger and disk.exists(f"{root}/dledger/state.json"):
        raise StateDamaged(
            f"{root} belongs to a member of a DLedger group; set enableDLegerCommitLog=true, or another"
            " storePathRootDir"
        )


def known_committed(disk: Disk, config: BrokerConfig) -> int:
    """Log offset up to which this member's log is known to be committed. Raises StateDamaged, TablesDamaged."""
    files = GroupFiles(disk, config.store_path_root_dir, config.dledger_group, config.dledger_self_id)
    hard = files.load_state()
    return load_applied(disk, config.store_path_root_dir) if hard is not None and hard.joined else 0


def make_tables(config: BrokerConfig, disk: Disk, store: MessageStore, log: EventLog) -> BrokerTables:
    """The broker's tables; in DLedger mode they follow the log."""

    def end_of(topic: str, queue_id: int) -> int:
        return store.queue_bounds(topic, queue_id)[1]

    if config.enable_dledger:
        return ReplicatedTables(disk, config.store_path_root_dir, log, end_of, store)
    return BrokerTables(disk, config.store_path_root_dir, log, end_of)


def raft_settings(config: BrokerConfig) -> Settings:
    """Timers and wishes for the core. With RocketMQ's timers a closed connection is no reason to elect earlier."""
    timers = config.dledger_timers
    if config.heart_beat_time_interval_ms is None:
        retry = (timers.election_min_s / 5, 3 * timers.election_min_s / 5)
        early = (min(0.005, retry[0]), min(0.06, retry[0]))
    else:
        silence_s = config.heart_beat_time_interval_ms * config.max_heart_beat_leak / 1000
        retry = (timers.election_min_s - silence_s, timers.election_max_s - silence_s)
        early = (timers.election_min_s, timers.election_max_s)
    timing = Timing(
        heartbeat=timers.heartbeat_s,
        election_min=timers.election_min_s,
        election_max=timers.election_max_s,
        retry_min=retry[0],
        retry_max=retry[1],
        early_min=early[0],
        early_max=early[1],
    )
    return Settings(timing=timing, preferred=config.preferred_leader_ids)


def join_group(
    core: BrokerCore, tables: ReplicatedTables, disk: Disk, delivery: DelayDelivery, address: str
) -> GroupRoles:
    """The parts of a member. `address` is where clients reach it. Raises StateDamaged, OSError."""
    config = core.config
    own = config.dledger_member
    members = {member.id: member.address for member in config.dledger_peers}
    files = GroupFiles(disk, config.store_path_root_dir, config.dledger_group, own.id)
    found = restore(core.store, files, members, tables.applied)
    member = GroupNode(
        GroupSettings(
            group=config.dledger_group,
            name=own.id,
            members=members,
            host=own.host if config.bind_address == config.broker_ip1 else config.bind_address,
            port=own.port,
            broker=address,
            store_host=core.store_host,
            sync=config.flush_disk_type is FlushDiskType.SYNC_FLUSH,
            raft=raft_settings(config),
        ),
        core.store,
        files,
        found,
        core.log,
        core.rng,
        config.flaws,
    )
    member.on_failed = core.pipeline.fail
    core.member = member
    progress = GroupProgress(core, tables)
    core.progress = progress
    return GroupRoles(core, member, tables, progress, delivery)
