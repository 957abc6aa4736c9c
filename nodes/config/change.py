"""Settings as text, and settings changed while a node runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, TypeVar

from nodes.config.broker import BrokerConfig
from nodes.config.namesrv import NamesrvConfig
from nodes.config.values import ConfigError

__all__ = ["changed", "properties_of", "properties_text"]

ConfigT = TypeVar("ConfigT", BrokerConfig, NamesrvConfig)

_DELAY_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"))


def properties_of(config: BrokerConfig | NamesrvConfig) -> dict[str, str]:
    """All effective settings as RocketMQ would write them, by key; settings that are absent are left out."""
    found = {}
    for attribute in dataclasses.fields(config):
        key = attribute.metadata["key"]
        value = getattr(config, attribute.name)
        if value is not None:
            found[key] = _write(key, value)
    return found


def properties_text(config: BrokerConfig | NamesrvConfig) -> str:
    """The same as the text of a property file, sorted by key."""
    return "".join(f"{key}={value}\n" for key, value in sorted(properties_of(config).items()))


def changed(config: ConfigT, changes: Mapping[str, str], changeable: Iterable[str]) -> ConfigT:
    """The configuration with some keys set anew. `changeable` names the keys that may change while the node runs.

    Raises PermissionError for an effective key that may not, ConfigError for an unknown key or a bad value.
    """
    allowed = set(changeable)
    by_key = _fields_by_key(config)
    values: dict[str, Any] = {}
    for key, raw in changes.items():
        if key not in by_key:
            raise ConfigError(f"{key} is not a setting that has an effect here")
        attribute = by_key[key]
        if attribute.metadata["key"] not in allowed:
            raise PermissionError(f"{key} can only be set in the configuration file")
        try:
            values[attribute.name] = attribute.metadata["read"](raw)
        except ValueError as error:
            raise ConfigError(f"{key}={raw}: {error}") from None
    return dataclasses.replace(config, **values)


def _fields_by_key(config: BrokerConfig | NamesrvConfig) -> dict[str, dataclasses.Field[Any]]:
    by_key = {}
    for attribute in dataclasses.fields(config):
        for key in (attribute.metadata["key"], *attribute.metadata["aliases"]):
            by_key[key] = attribute
    return by_key


def _write(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if key == "messageDelayLevel" and isinstance(value, tuple):
        return " ".join(_delay(level) for level in value)
    if key == "deleteWhen" and isinstance(value, tuple):
        return ";".join(f"{hour:02d}" for hour in value)
    if isinstance(value, tuple):
        return ";".join(map(str, value))
    if isinstance(value, frozenset):
        return ",".join(sorted(str(part.value if isinstance(part, Enum) else part) for part in value))
    return str(value)


def _delay(level_ms: int) -> str:
    for unit_ms, unit in _DELAY_UNITS:
        if level_ms % unit_ms == 0 and level_ms >= unit_ms:
            return f"{level_ms // unit_ms}{unit}"
    raise ConfigError(f"delay of {level_ms} ms is not a whole number of seconds")
