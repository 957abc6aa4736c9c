"""From a property file and overrides to settings."""

from __future__ import annotations

import dataclasses
import difflib
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from nodes.config.broker import BrokerConfig, BrokerRole, FlushDiskType
from nodes.config.dledger import DLEDGER_KEYS, contradiction, number_of
from nodes.config.genuine import BROKER_GENUINE, NAMESRV_GENUINE
from nodes.config.namesrv import NamesrvConfig
from nodes.config.properties import parse_properties
from nodes.config.refused import BROKER_REFUSED, NAMESRV_REFUSED, Refusal
from nodes.config.values import ConfigError, Reader

__all__ = ["Loaded", "load_broker", "load_namesrv"]

ConfigT = TypeVar("ConfigT", BrokerConfig, NamesrvConfig)

FILE_MAX = 1024 * 1024
"""Bytes of a configuration file."""


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded(Generic[ConfigT]):
    """Settings, and what the operator should know about how they were read."""

    config: ConfigT
    without_effect: list[str]
    """Genuine keys of the file that this program reads and does not act on."""
    warnings: list[str] = dataclasses.field(default_factory=list)
    """Sentences for the log: defaults that may surprise, repeated keys, corrected values."""


class _Given(NamedTuple):
    """One value with the place it came from."""

    value: str
    place: str


def load_broker(path: Path | None, overrides: Mapping[str, str] | None = None) -> Loaded[BrokerConfig]:
    """Read a broker's configuration. `overrides` win over the file. Raises ConfigError."""
    given, warnings = _gather(path, overrides or {})
    values, without_effect = _classify(given, BrokerConfig, BROKER_GENUINE, BROKER_REFUSED)
    if "broker_name" not in values:
        values["broker_name"] = _host_name()
    if values.get("enable_dledger"):
        return Loaded(_dledger_broker(values, warnings), without_effect, warnings)
    without_effect += [key for key in given if _attribute_of(key) in DLEDGER_KEYS]
    if "broker_ip1" not in values:
        values["broker_ip1"] = _address_to_announce(values.get("bind_address", ""), warnings)
    config = BrokerConfig(**values)
    if config.broker_role.is_master and config.broker_id != 0:
        warnings.append(f"brokerRole is {config.broker_role}, so brokerId {config.broker_id} is read as 0")
        config = dataclasses.replace(config, broker_id=0)
    if not config.broker_role.is_master and config.broker_id == 0:
        place = given["brokerId"].place if "brokerId" in given else "brokerId is not set"
        raise ConfigError(f"{place}: brokerRole is SLAVE, so brokerId must be above 0")
    _check_ratios(config)
    return Loaded(config, without_effect, warnings)


def _check_ratios(config: BrokerConfig) -> None:
    if config.disk_space_clean_forcibly_ratio > config.disk_space_warning_level_ratio:
        raise ConfigError(
            f"diskSpaceCleanForciblyRatio {config.disk_space_clean_forcibly_ratio} must not be above"
            f" diskSpaceWarningLevelRatio {config.disk_space_warning_level_ratio}"
        )


def _dledger_broker(values: dict[str, Any], warnings: list[str]) -> BrokerConfig:
    """Settings of a member of a Raft group: its role comes from the group, its address from dLegerPeers."""
    wrong = contradiction(values, values.get("listen_port", BrokerConfig().listen_port))
    if wrong is not None:
        raise ConfigError(wrong)
    self_id = values["dledger_self_id"]
    for attribute, key in (("broker_role", "brokerRole"), ("broker_id", "brokerId")):
        if values.pop(attribute, 0):
            warnings.append(f"{key} has no effect: in DLedger mode the group elects who is master")
    values["broker_role"], values["broker_id"] = BrokerRole.SLAVE, number_of(self_id) + 1
    values.setdefault("flush_disk_type", FlushDiskType.SYNC_FLUSH)
    if values["flush_disk_type"] is FlushDiskType.ASYNC_FLUSH:
        warnings.append(
            "flushDiskType is ASYNC_FLUSH: what a majority has written counts, synced or not; a power failure of"
            " several members can lose acknowledged messages (SYNC_FLUSH is the default in DLedger mode)"
        )
    if len(values["dledger_peers"]) % 2 == 0:
        warnings.append(
            f"dLegerPeers has {len(values['dledger_peers'])} members: an even number survives no more failures than"
            " one member less"
        )
    own = next(member for member in values["dledger_peers"] if member.id == self_id)
    values.setdefault("broker_ip1", own.host)
    config = BrokerConfig(**values)
    try:
        timers = config.dledger_timers
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if timers.election_min_s < 2 * timers.heartbeat_s:
        warnings.append(
            f"elections begin after {timers.election_min_s:g} s of silence and heartbeats come every"
            f" {timers.heartbeat_s:g} s: one that is late will cost a leader"
        )
    _check_ratios(config)
    return config


def _attribute_of(key: str) -> str:
    """The attribute of a broker's settings that a key sets; empty if none."""
    for attribute in dataclasses.fields(BrokerConfig):
        if key in (attribute.metadata["key"], *attribute.metadata["aliases"]):
            return attribute.name
    return ""


def load_namesrv(path: Path | None, overrides: Mapping[str, str] | None = None) -> Loaded[NamesrvConfig]:
    """Read a name server's configuration. `overrides` win over the file. Raises ConfigError."""
    given, warnings = _gather(path, overrides or {})
    values, without_effect = _classify(given, NamesrvConfig, NAMESRV_GENUINE, NAMESRV_REFUSED)
    if "bind_address" not in values:
        warnings.append("bindAddress is not set: listening on 127.0.0.1 only")
    return Loaded(NamesrvConfig(**values), without_effect, warnings)


def _gather(path: Path | None, overrides: Mapping[str, str]) -> tuple[dict[str, _Given], list[str]]:
    given: dict[str, _Given] = {}
    warnings = []
    if path is not None:
        try:
            with path.open("rb") as file:
                raw = file.read(FILE_MAX + 1)
        except OSError as error:
            raise ConfigError(f"{path}: {os.strerror(error.errno or 0)}") from None
        if len(raw) > FILE_MAX:
            raise ConfigError(f"{path}: larger than {FILE_MAX} bytes")
        try:
            found = parse_properties(raw.decode())
        except UnicodeDecodeError:
            raise ConfigError(f"{path}: is not UTF-8 text") from None
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from None
        for key, value, line in found:
            place = f"{path}:{line}"
            if key in given:
                warnings.append(f"{place}: {key} is set again; {given[key].place} is overruled")
            given[key] = _Given(value, place)
    for key, value in overrides.items():
        given[key] = _Given(value, "command line")
    return given, warnings


def _classify(
    given: Mapping[str, _Given],
    kind: type[BrokerConfig] | type[NamesrvConfig],
    genuine: Mapping[str, Reader[object]],
    refused: Mapping[str, Refusal],
) -> tuple[dict[str, Any], list[str]]:
    """Attribute values of the effective keys, and the keys without effect."""
    effective: dict[str, tuple[str, Reader[Any]]] = {}
    for attribute in dataclasses.fields(kind):
        for key in (attribute.metadata["key"], *attribute.metadata["aliases"]):
            effective[key] = (attribute.name, attribute.metadata["read"])
    values: dict[str, Any] = {}
    set_by: dict[str, str] = {}
    without_effect = []
    for key, (value, place) in given.items():
        if key in effective:
            name, read = effective[key]
            if name in values:
                raise ConfigError(f"{place}: {key} and {set_by[name]} are two names of one setting; keep one")
            values[name] = _read(key, value, place, read)
            set_by[name] = key
        elif key in refused:
            refusal = refused[key]
            if value.lower() not in refusal.harmless:
                raise ConfigError(f"{place}: {key}={value} is refused: {refusal.reason}")
            without_effect.append(key)
        elif key in genuine:
            _read(key, value, place, genuine[key])
            without_effect.append(key)
        else:
            known = (*effective, *refused, *genuine)
            raise ConfigError(f"{place}: unknown key {key!r}{_nearest(key, known)}")
    return values, without_effect


def _read(key: str, value: str, place: str, read: Reader[Any]) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise ConfigError(f"{place}: {key}={value}: {error}") from None


def _nearest(key: str, known: tuple[str, ...]) -> str:
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(key.lower(), by_lower, 1, 0.5)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else "; no known key resembles it"


def _host_name() -> str:
    """The machine's name with what the wire does not allow left out, as RocketMQ names a broker by default."""
    kept = "".join(mark for mark in socket.gethostname() if mark.isascii() and (mark.isalnum() or mark in "_-"))
    return kept[:127] or "broker-a"


def _address_to_announce(bind_address: str, warnings: list[str]) -> str:
    """The broker's address when brokerIP1 is not set."""
    if bind_address and bind_address not in ("0.0.0.0", "::"):
        return bind_address
    warnings.append("brokerIP1 is not set: clients are told 127.0.0.1, so only this machine can reach the broker")
    return "127.0.0.1"
