"""Readers of single values: text in, typed value out, or a ConfigError that a person can act on. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import field
from typing import Any, TypeVar

__all__ = [
    "ConfigError",
    "Reader",
    "addresses",
    "boolean",
    "choice",
    "delay_levels",
    "flag_set",
    "host",
    "hours_of_day",
    "name",
    "number",
    "path",
    "setting",
    "text",
    "whole",
]

T = TypeVar("T")
Reader = Callable[[str], T]

_NAME = re.compile(r"[%|a-zA-Z0-9_-]+")
_LEVEL = re.compile(r"([1-9]\d*)([smhd])")
_NUMBER_WITH_UNIT = re.compile(r"[+-]?\d+(\.\d+)?\s*[a-zA-Z%]+")


class ConfigError(Exception):
    """A configuration that must not be used. The text names file, line, key and what to do."""


def setting(key: str, read: Reader[T], default: Any, *, aliases: tuple[str, ...] = ()) -> Any:
    """A dataclass field that is set by the property `key` (or an alias of it) through the reader."""
    return field(default=default, metadata={"key": key, "read": read, "aliases": aliases})


def text(raw: str) -> str:
    """Any text."""
    return raw


def path(raw: str) -> str:
    """One folder or file name; `~` is expanded."""
    if "," in raw:
        raise ValueError("only one path is supported, not a list")
    return raw


def name(raw: str) -> str:
    """A name as RocketMQ allows it on the wire."""
    if not _NAME.fullmatch(raw) or len(raw) > 127:
        raise ValueError("must be 1 to 127 letters, digits or characters of %|_-")
    return raw


def host(raw: str) -> str:
    """A host name or address, without a port."""
    if not raw or any(mark in raw for mark in " /;,") or raw.count(":") == 1:
        raise ValueError("must be one host name or address, without a port")
    return raw


def whole(least: int, most: int, unit: str = "") -> Reader[int]:
    """A decimal number of `unit` between two bounds, both allowed."""
    says = f"must be a whole number{f' of {unit}' if unit else ''} from {least} to {most}"

    def read(raw: str) -> int:
        if _NUMBER_WITH_UNIT.fullmatch(raw):
            raise ValueError(f"{says}, written without a unit")
        try:
            value = int(raw)
        except ValueError:
            raise ValueError(says) from None
        if "_" in raw or not least <= value <= most:
            raise ValueError(says)
        return value

    return read


def number(raw: str) -> float:
    """A decimal number."""
    try:
        return float(raw)
    except ValueError:
        raise ValueError("must be a number") from None


def boolean(raw: str) -> bool:
    """`true` or `false`, in any case."""
    word = raw.lower()
    if word not in ("true", "false"):
        raise ValueError("must be true or false")
    return word == "true"


def choice(kind: Callable[[str], T], words: tuple[str, ...]) -> Reader[T]:
    """One of some words, which become members of an Enum."""

    def read(raw: str) -> T:
        if raw not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return kind(raw)

    return read


def addresses(raw: str) -> tuple[str, ...]:
    """`host:port` parts separated by semicolons."""
    found = []
    for part in raw.split(";"):
        address = part.strip()
        if not address:
            continue
        place, _, port = address.rpartition(":")
        if not place or not port.isdecimal() or not 1 <= int(port) <= 65535 or any(mark in place for mark in " ,/"):
            raise ValueError(f"{address!r} is not host:port; several are separated by semicolons")
        found.append(address)
    return tuple(found)


def hours_of_day(raw: str) -> tuple[int, ...]:
    """Hours 00 to 23 separated by semicolons."""
    hours = tuple(part.strip() for part in raw.split(";") if part.strip())
    if not hours or not all(hour.isdecimal() and int(hour) <= 23 for hour in hours):
        raise ValueError("must be hours from 00 to 23, separated by semicolons")
    return tuple(int(hour) for hour in hours)


def delay_levels(raw: str) -> tuple[int, ...]:
    """Delays such as `1s 5s 10m 2h`, separated by blanks, in milliseconds; level 1 is the first."""
    unit_ms = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
    levels = []
    for word in raw.split():
        found = _LEVEL.fullmatch(word)
        if found is None:
            raise ValueError(f"{word!r} is not a number followed by s, m, h or d")
        levels.append(int(found[1]) * unit_ms[found[2]])
    if not levels:
        raise ValueError("must name at least one delay")
    return tuple(levels)


def flag_set(read: Callable[[str], T]) -> Reader[T]:
    """A reader that already raises ValueError with a full sentence."""
    return read
