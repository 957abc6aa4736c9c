"""The broker about itself: settings and runtime figures.

Sources: RocketMQ classes AdminBrokerProcessor, StoreStatsService.
"""

from __future__ import annotations

from nodes.broker.bodies import encode
from nodes.broker.core import BrokerCore
from nodes.broker.fields import RequestError
from nodes.broker.pull import PullProcessor
from nodes.broker.statistics import Meter
from nodes.config import BrokerConfig, ConfigError
from nodes.config.change import changed, properties_text
from nodes.config.properties import parse_properties
from nodes.remoting.codes import ResponseCode
from nodes.remoting.command import VERSION, Command
from nodes.remoting.connection import Connection
from nodes.store.disk import Disk

__all__ = ["BrokerAdmin"]

_SAMPLE_S = 1.0
_VERSION_NAME = "V5_3_3"
_CHANGEABLE = (
    "autoCreateSubscriptionGroup",
    "autoCreateTopicEnable",
    "brokerPermission",
    "longPollingEnable",
    "notifyConsumerIdsChangedEnable",
    "shortPollingTimeMills",
    "slaveReadEnable",
)
"""Keys that every part reads anew at each use, so that a change has its effect at once."""

_FORBIDDEN = frozenset({"brokerConfigPath", "configBlackList", "rocketmqHome"})
"""Keys that nobody may change from afar (RocketMQ class AdminBrokerProcessor, configBlackList)."""


class BrokerAdmin:
    """Serves GET and UPDATE_BROKER_CONFIG and GET_BROKER_RUNTIME_INFO."""

    def __init__(self, core: BrokerCore, pulls: PullProcessor, disk: Disk) -> None:
        self._core = core
        self._pulls = pulls
        self._disk = disk
        self._sent = Meter()
        self._pulled = Meter()
        self._booted_ms = core.clock.now_ms()
        self._timer = core.loop.call_later(_SAMPLE_S, self._sample)

    def stop(self) -> None:
        """Measure no more."""
        self._timer.cancel()

    def get_config(self, connection: Connection, command: Command) -> Command:
        """26: all effective settings as a property file."""
        ext = {"version": str(self._core.tables.topics.version.counter)}
        return command.reply(ext=ext, body=properties_text(self._core.config).encode())

    def update_config(self, connection: Connection, command: Command) -> Command:
        """25: change settings while running. Those that need a restart are refused by name."""
        core = self._core
        try:
            wishes = {key: value for key, value, _ in parse_properties(command.body.decode())}
            if forbidden := sorted(_FORBIDDEN & wishes.keys()):
                raise RequestError(ResponseCode.NO_PERMISSION, f"{forbidden[0]} may not be changed from afar")
            new: BrokerConfig = changed(core.config, wishes, _CHANGEABLE)
        except (ConfigError, PermissionError, ValueError) as error:
            raise RequestError(ResponseCode.SYSTEM_ERROR, str(error)) from None
        core.config = new
        core.generation += 1
        core.log.event("settings-changed", **wishes)
        core.register_now()
        return command.reply()

    def runtime(self, connection: Connection, command: Command) -> Command:
        """28: figures for clusterList and brokerStatus, all as text."""
        core = self._core
        now, now_ms = core.loop.time(), core.clock.now_ms()
        store = core.store
        put, got = core.pipeline.sends, self._pulls.messages_out
        got_tps = self._pulled.text(now, got)
        ratio = self._disk.used_ratio(core.config.store_path_root_dir)
        table = {
            "bootTimestamp": self._booted_ms,
            "brokerActive": core.serving.ready,
            "brokerRole": core.serving.role.value,
            "brokerVersion": VERSION,
            "brokerVersionDesc": _VERSION_NAME,
            "commitLogDirCapacity": "unknown",
            "commitLogDiskRatio": f"{ratio:.4f}",
            "commitLogMaxOffset": store.written_end,
            "commitLogMinOffset": store.min_offset,
            "consumeQueueDiskRatio": f"{ratio:.4f}",
            "dispatchBehindBytes": store.written_end - store.visible_end,
            "dispatchMaxBuffer": 0,
            "earliestMessageTimeStamp": self._earliest(),
            "epoch": core.epoch,
            "flushedOffset": store.flushed_end,
            "getFoundTps": got_tps,
            "getMessageEntireTimeMax": 0,
            "getTotalTps": got_tps,
            "getTransferedTps": got_tps,
            "getTransferredTps": got_tps,
            "msgGetTotalTodayMorning": 0,
            "msgGetTotalTodayNow": got,
            "msgGetTotalYesterdayMorning": 0,
            "msgPutTotalTodayMorning": 0,
            "msgPutTotalTodayNow": put,
            "msgPutTotalYesterdayMorning": 0,
            "pageCacheLockTimeMills": 0,
            "pullThreadPoolQueueCapacity": 0,
            "pullThreadPoolQueueHeadWaitTimeMills": 0,
            "pullThreadPoolQueueSize": self._pulls.parked,
            "putMessageTimesTotal": put,
            "putTps": self._sent.text(now, put),
            "queryThreadPoolQueueSize": 0,
            "runtime": f"[ {(now_ms - self._booted_ms) // 1000} seconds ]",
            "sendThreadPoolQueueCapacity": core.config.send_thread_pool_queue_capacity,
            "sendThreadPoolQueueHeadWaitTimeMills": 0,
            "sendThreadPoolQueueSize": core.pipeline.waiting,
        }
        return command.reply(body=encode({"table": {key: _text(value) for key, value in table.items()}}))

    def _earliest(self) -> int:
        """When the oldest message of the log was stored, in ms; now if there is none."""
        record = self._core.store.message_at(self._core.store.min_offset)
        if record is None:
            return self._core.clock.now_ms()
        at = 68 if record[39] & 0x10 else 56
        return int.from_bytes(record[at : at + 8], "big")

    def _sample(self) -> None:
        loop = self._core.loop
        self._timer = loop.call_later(_SAMPLE_S, self._sample)
        self._sent.sample(loop.time(), self._core.pipeline.sends)
        self._pulled.sample(loop.time(), self._pulls.messages_out)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
