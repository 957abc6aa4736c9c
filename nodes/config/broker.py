"""What a broker is told. Sources: RocketMQ classes BrokerConfig, MessageStoreConfig and NettyServerConfig."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum

from nodes.config.dledger import Member, Timers, member_id, member_ids, members, timers_for
from nodes.config.values import (
    addresses,
    boolean,
    choice,
    delay_levels,
    host,
    hours_of_day,
    name,
    path,
    setting,
    text,
    whole,
)
from nodes.flaws import Flaw, parse_flaws

__all__ = ["BrokerConfig", "BrokerRole", "FlushDiskType"]

_DAY_MS = 86_400_000
_GIB = 1024**3
_LEVELS_MS = delay_levels("1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h")


class BrokerRole(StrEnum):
    """What a broker does in its group."""

    ASYNC_MASTER = "ASYNC_MASTER"
    SYNC_MASTER = "SYNC_MASTER"
    SLAVE = "SLAVE"

    @property
    def is_master(self) -> bool:
        """True for both kinds of master."""
        return self is not BrokerRole.SLAVE


class FlushDiskType(StrEnum):
    """What SEND_OK says about the disk: written, or synced too."""

    ASYNC_FLUSH = "ASYNC_FLUSH"
    SYNC_FLUSH = "SYNC_FLUSH"


_ROLE = choice(BrokerRole, tuple(BrokerRole))
_FLUSH = choice(FlushDiskType, tuple(FlushDiskType))
_MS = whole(1, _DAY_MS, "milliseconds")
_PERCENT = whole(1, 99, "percent")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """The settings of one broker. Each attribute is the RocketMQ key of the same name in snake case."""

    # Who and where
    broker_cluster_name: str = setting("brokerClusterName", name, "DefaultCluster")
    broker_name: str = setting("brokerName", name, "broker-a")
    """The group: master and slaves share it. The loader's default is the machine's host name."""
    broker_id: int = setting("brokerId", whole(0, 2**31 - 1), 0)
    """0 for the master, above 0 for slaves."""
    broker_role: BrokerRole = setting("brokerRole", _ROLE, BrokerRole.ASYNC_MASTER)  # noqa: RUF009
    broker_ip1: str = setting("brokerIP1", host, "127.0.0.1")
    """The address that clients are told."""
    broker_ip2: str = setting("brokerIP2", host, "")
    """The address that slaves are told; empty means `broker_ip1`."""
    bind_address: str = setting("bindAddress", host, "")
    """The address to listen on; empty means `broker_ip1`."""
    listen_port: int = setting("listenPort", whole(0, 65535), 10911)
    """0 takes a free port."""
    ha_listen_port: int = setting("haListenPort", whole(0, 65535), 0)
    """Port for replication; 0 means listenPort + 1, or a free port when listenPort is 0."""
    ha_master_address: str = setting("haMasterAddress", text, "")
    """host:port of the master's replication; empty means that the name server tells it."""
    namesrv_addr: tuple[str, ...] = setting("namesrvAddr", addresses, ())

    # Topics and groups
    auto_create_topic_enable: bool = setting("autoCreateTopicEnable", boolean, True)
    auto_create_subscription_group: bool = setting("autoCreateSubscriptionGroup", boolean, True)
    broker_permission: int = setting("brokerPermission", whole(0, 7), 6)
    """Bits: 4 read, 2 write, 1 inherit."""

    # Acknowledgement
    flush_disk_type: FlushDiskType = setting("flushDiskType", _FLUSH, FlushDiskType.ASYNC_FLUSH)  # noqa: RUF009
    sync_flush_timeout: int = setting("syncFlushTimeout", _MS, 5000)
    """ms a send waits for the fsync before FLUSH_DISK_TIMEOUT."""
    slave_timeout: int = setting("slaveTimeout", _MS, 3000)
    """ms a send waits for a replica before FLUSH_SLAVE_TIMEOUT."""
    in_sync_replicas: int | None = setting("inSyncReplicas", whole(1, 127, "copies"), None)
    """Copies that SEND_OK under SYNC_MASTER promises, the master included; None: master and one slave, as in 4.9."""
    ha_slave_fallbehind_max: int = setting(
        "haSlaveFallbehindMax", whole(1, 2**31 - 1, "bytes"), 256 * 1024 * 1024, aliases=("haMaxGapNotInSync",)
    )
    """Bytes a slave may lag before it counts as not available."""

    # Replication
    ha_send_heartbeat_interval: int = setting("haSendHeartbeatInterval", _MS, 5000)
    ha_housekeeping_interval: int = setting("haHousekeepingInterval", _MS, 20_000)
    """ms without a byte after which a replication link is dropped."""

    # DLedger (Raft) mode
    enable_dledger: bool = setting("enableDLegerCommitLog", boolean, False, aliases=("enableDLedgerCommitLog",))
    """The log is a Raft group's: the group elects its master, and a majority holds what is acknowledged."""
    dledger_group: str = setting("dLegerGroup", name, "", aliases=("dLedgerGroup",))
    """Name of the group among its members; empty means `broker_name`."""
    dledger_peers: tuple[Member, ...] = setting("dLegerPeers", members, (), aliases=("dLedgerPeers",))
    """The members that a new group begins with; afterwards its log says who they are."""
    dledger_self_id: str = setting("dLegerSelfId", member_id, "", aliases=("dLedgerSelfId",))
    preferred_leader_ids: tuple[str, ...] = setting(
        "preferredLeaderId", member_ids, (), aliases=("preferredLeaderIds",)
    )
    """Whom another leader hands over to once they have caught up; the first that can is taken."""
    heart_beat_time_interval_ms: int | None = setting("heartBeatTimeIntervalMs", _MS, None)
    """Given: RocketMQ's timers are in force; see `nodes.config.dledger.timers_for`."""
    max_heart_beat_leak: int = setting("maxHeartBeatLeak", whole(1, 1000, "heartbeats"), 3)
    min_elect_time_interval_ms: int | None = setting(
        "minElectTimeIntervalMs", _MS, None, aliases=("minVoteIntervalMs",)
    )
    max_elect_time_interval_ms: int | None = setting(
        "maxElectTimeIntervalMs", _MS, None, aliases=("maxVoteIntervalMs",)
    )
    max_wait_ack_time_ms: int = setting("maxWaitAckTimeMs", _MS, 2500)
    """ms a send waits for the majority before it is answered that nobody knows its outcome."""

    # Store
    store_path_root_dir: str = setting("storePathRootDir", path, "~/store")
    store_path_commit_log: str = setting("storePathCommitLog", path, "")
    """Empty means `commitlog` below the root."""
    mapped_file_size_commit_log: int = setting("mappedFileSizeCommitLog", whole(1024, 2**31 - 1, "bytes"), _GIB)
    mapped_file_size_consume_queue: int = setting(
        "mappedFileSizeConsumeQueue", whole(20, 2**31 - 1, "bytes"), 6_000_000
    )
    flush_interval_commit_log: int = setting("flushIntervalCommitLog", _MS, 500)
    """ms between background fsyncs under ASYNC_FLUSH."""
    max_message_size: int = setting("maxMessageSize", whole(1, 8 * 1024 * 1024, "bytes"), 4 * 1024 * 1024)
    message_index_enable: bool = setting("messageIndexEnable", boolean, True)
    file_reserved_time: int = setting("fileReservedTime", whole(0, 24 * 3650, "hours"), 72)
    delete_when: tuple[int, ...] = setting("deleteWhen", hours_of_day, (4,))
    """Hours of the local day in which old segments are deleted."""
    disk_max_used_space_ratio: int = setting("diskMaxUsedSpaceRatio", _PERCENT, 75)
    disk_space_clean_forcibly_ratio: int = setting("diskSpaceCleanForciblyRatio", _PERCENT, 85)
    disk_space_warning_level_ratio: int = setting("diskSpaceWarningLevelRatio", _PERCENT, 90)
    """Above this share of the disk writes are refused."""
    clean_resource_interval: int = setting("cleanResourceInterval", _MS, 10_000)
    flush_consumer_offset_interval: int = setting("flushConsumerOffsetInterval", _MS, 5000)
    message_delay_level: tuple[int, ...] = setting("messageDelayLevel", delay_levels, _LEVELS_MS)
    """ms of each delay level; level 1 is the first."""

    # Reading
    long_polling_enable: bool = setting("longPollingEnable", boolean, True)
    short_polling_time_mills: int = setting("shortPollingTimeMills", _MS, 1000)
    max_transfer_bytes_on_message_in_memory: int = setting(
        "maxTransferBytesOnMessageInMemory", whole(1, 8 * 1024 * 1024, "bytes"), 256 * 1024
    )
    max_transfer_count_on_message_in_memory: int = setting(
        "maxTransferCountOnMessageInMemory", whole(1, 4096, "messages"), 32
    )
    default_query_max_num: int = setting("defaultQueryMaxNum", whole(1, 4096, "messages"), 32)
    slave_read_enable: bool = setting("slaveReadEnable", boolean, False)
    """Whether pulls that lag far behind are sent to a slave."""
    lite_pull_message_enable: bool = setting("litePullMessageEnable", boolean, True)
    notify_consumer_ids_changed_enable: bool = setting("notifyConsumerIdsChangedEnable", boolean, True)

    # Registration and connections
    register_name_server_period: int = setting(
        "registerNameServerPeriod", whole(10_000, 60_000, "milliseconds"), 30_000
    )
    register_broker_timeout_mills: int = setting("registerBrokerTimeoutMills", _MS, 24_000)
    broker_not_active_timeout_millis: int = setting(
        "brokerNotActiveTimeoutMillis", whole(0, _DAY_MS, "milliseconds"), 0
    )
    """Silence after which name servers may forget this broker, sent with each registration; 0: their own default."""
    send_thread_pool_queue_capacity: int = setting("sendThreadPoolQueueCapacity", whole(1, 2**31 - 1), 10_000)
    """Sends that may wait for disk or replica; further ones get SYSTEM_BUSY."""
    channel_expired_timeout: int = setting("channelExpiredTimeout", _MS, 120_000)
    """ms after its last heartbeat that a client is forgotten."""
    server_channel_max_idle_time_seconds: int = setting(
        "serverChannelMaxIdleTimeSeconds", whole(1, 86_400, "seconds"), 120
    )
    region_id: str = setting("regionId", text, "DefaultRegion")
    trace_on: bool = setting("traceOn", boolean, True)

    # Our own
    flaws: frozenset[Flaw] = setting("flaws", parse_flaws, frozenset())
    """Planted flaws; see nodes.flaws."""

    def __post_init__(self) -> None:
        """Derive what was left open."""
        if not self.broker_ip2:
            object.__setattr__(self, "broker_ip2", self.broker_ip1)
        if not self.bind_address:
            object.__setattr__(self, "bind_address", self.broker_ip1)
        if not self.ha_listen_port and self.listen_port:
            object.__setattr__(self, "ha_listen_port", self.listen_port + 1)
        if not self.dledger_group:
            object.__setattr__(self, "dledger_group", self.broker_name)
        root = os.path.expanduser(self.store_path_root_dir)
        log = os.path.expanduser(self.store_path_commit_log) or f"{root}/commitlog"
        object.__setattr__(self, "store_path_root_dir", root)
        object.__setattr__(self, "store_path_commit_log", log)

    @property
    def dledger_member(self) -> Member:
        """This node among the peers. Only in DLedger mode."""
        return next(member for member in self.dledger_peers if member.id == self.dledger_self_id)

    @property
    def dledger_timers(self) -> Timers:
        """Heartbeat and election timeouts. Raises ValueError if the numbers contradict each other."""
        return timers_for(
            self.heart_beat_time_interval_ms,
            self.max_heart_beat_leak,
            self.min_elect_time_interval_ms,
            self.max_elect_time_interval_ms,
        )
