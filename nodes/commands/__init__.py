"""The programs, under RocketMQ's own names. Each is imported when asked for, to keep the others quick to start."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nodes.commands.admin import mqadmin
    from nodes.commands.servers import mqbroker, mqnamesrv
    from nodes.commands.shutdown import mqshutdown

__all__ = ["mqadmin", "mqbroker", "mqnamesrv", "mqshutdown"]

_HOMES = {
    "mqadmin": "nodes.commands.admin",
    "mqbroker": "nodes.commands.servers",
    "mqnamesrv": "nodes.commands.servers",
    "mqshutdown": "nodes.commands.shutdown",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(home), name)
