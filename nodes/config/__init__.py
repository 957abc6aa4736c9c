"""Settings of brokers and name servers, read from RocketMQ's own property files.

`load_broker` and `load_namesrv` read a file and overrides into frozen, typed settings. Every key is one of four kinds:
effective; a genuine key that has no effect here (accepted and listed); a genuine key whose value would change a promise
that is not kept here (refused with the reason); unknown (refused with the nearest name).
"""

from nodes.config.broker import BrokerConfig, BrokerRole, FlushDiskType
from nodes.config.change import changed, properties_of, properties_text
from nodes.config.dledger import Member, Timers
from nodes.config.load import Loaded, load_broker, load_namesrv
from nodes.config.namesrv import NamesrvConfig
from nodes.config.properties import write_properties
from nodes.config.values import ConfigError

__all__ = [
    "BrokerConfig",
    "BrokerRole",
    "ConfigError",
    "FlushDiskType",
    "Loaded",
    "Member",
    "NamesrvConfig",
    "Timers",
    "changed",
    "load_broker",
    "load_namesrv",
    "properties_of",
    "properties_text",
    "write_properties",
]
