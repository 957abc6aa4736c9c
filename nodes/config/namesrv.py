"""What a name server is told. Sources: RocketMQ classes NamesrvConfig and NettyServerConfig."""

from __future__ import annotations

import os
from dataclasses import dataclass

from nodes.config.values import boolean, host, path, setting, text, whole
from nodes.flaws import Flaw, parse_flaws

__all__ = ["NamesrvConfig"]

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NamesrvConfig:
    """The settings of one name server. Each attribute is the key of the same name in snake case."""

    listen_port: int = setting("listenPort", whole(0, 65535), 9876)
    """0 takes a free port."""
    bind_address: str = setting("bindAddress", host, "127.0.0.1", aliases=("brokerIP1",))
    rocketmq_home: str = setting("rocketmqHome", path, "")
    """The home folder; the default of the paths below it. Empty means the user's home."""
    kv_config_path: str = setting("kvConfigPath", path, "")
    """Where key-value settings are kept; empty means `namesrv/kvConfig.json` below the home folder."""
    scan_not_active_broker_interval: int = setting(
        "scanNotActiveBrokerInterval", whole(10, _DAY_MS, "milliseconds"), 5000
    )
    broker_channel_expired_time: int = setting("brokerChannelExpiredTime", whole(10, _DAY_MS, "milliseconds"), 120_000)
    """ms of silence after which a broker is forgotten, unless it announced its own."""
    order_message_enable: bool = setting("orderMessageEnable", boolean, False)
    """Whether route answers carry the order configuration of a topic."""
    return_order_topic_config_to_broker: bool = setting("returnOrderTopicConfigToBroker", boolean, True)
    enable_all_topic_list: bool = setting("enableAllTopicList", boolean, True)
    enable_topic_list: bool = setting("enableTopicList", boolean, True)
    delete_topic_with_broker_registration: bool = setting("deleteTopicWithBrokerRegistration", boolean, False)
    """Whether a registration removes the broker's topics that it no longer names."""
    server_channel_max_idle_time_seconds: int = setting(
        "serverChannelMaxIdleTimeSeconds", whole(1, 86_400, "seconds"), 120
    )
    config_black_list: str = setting("configBlackList", text, "configBlackList;configStorePath;kvConfigPath")
    """Keys that an admin may not change while the name server runs."""
    flaws: frozenset[Flaw] = setting("flaws", parse_flaws, frozenset())
    """Planted flaws; see nodes.flaws."""

    def __post_init__(self) -> None:
        """Derive what was left open."""
        home = os.path.expanduser(self.rocketmq_home or "~")
        kept = os.path.expanduser(self.kv_config_path) or f"{home}/namesrv/kvConfig.json"
        object.__setattr__(self, "kv_config_path", kept)
