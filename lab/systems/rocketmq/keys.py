"""Which property keys a release knows, read out of its own classes, and the spellings that changed between lines.

RocketMQ ignores an unknown key silently. A plan that sets one would test another cluster than it says: it is refused.
"""

from __future__ import annotations

import functools
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from typing import Final

from lab.errors import PlanError
from lab.planfile import nearest
from lab.systems.rocketmq.release import Release

# Where keys are setters: the class names of both lines. A class that a release lacks adds nothing.
_CLASSES: Final[Mapping[str, tuple[str, ...]]] = {
    "broker": ("BrokerConfig", "BrokerIdentity", "MessageStoreConfig", "NettyServerConfig", "NettyClientConfig"),
    "namesrv": ("NamesrvConfig", "NettyServerConfig"),
    "controller": ("ControllerConfig", "NamesrvConfig", "NettyServerConfig"),  # of a name server that has one in it
}
_SETTER: Final = re.compile(rb"set((?:[A-Z]|d[A-Z])[A-Za-z0-9]{1,80})\Z")  # setdLegerGroup is one
_SPELLINGS: Final[Mapping[int, Mapping[str, str]]] = {
    4: {"haMaxGapNotInSync": "haSlaveFallbehindMax", "preferredLeaderIds": "preferredLeaderId"},
    5: {"haSlaveFallbehindMax": "haMaxGapNotInSync", "preferredLeaderIds": "preferredLeaderId"},
}
_WIDTHS: Final = {
    3: 4,
    4: 4,
    5: 8,
    6: 8,
    7: 2,
    8: 2,
    9: 4,
    10: 4,
    11: 4,
    12: 4,
    15: 3,
    16: 2,
    17: 4,
    18: 4,
    19: 2,
    20: 2,
}
_WIDE: Final = (5, 6)  # these take two places in the pool (JVM specification 4.4.5)


@functools.cache
def keys_of(release: Release, kind: str) -> frozenset[str]:
    """All property keys of a ``broker``, ``namesrv`` or ``controller``. Raises PlanError without classes."""
    wanted = {f"{name}.class" for name in _CLASSES[kind]}
    found: set[str] = set()
    for jar in sorted(release.lib.glob("rocketmq-*.jar")):
        with zipfile.ZipFile(jar) as archive:
            for entry in archive.namelist():
                if entry.rpartition("/")[2] in wanted:
                    for text in constants(archive.read(entry)):
                        setter = _SETTER.match(text)
                        if setter is not None:
                            name = setter[1].decode()
                            found.add(name[0].lower() + name[1:])
    if not found:
        raise PlanError(f"{release.lib} holds no classes of RocketMQ's {kind}")
    return frozenset(found)


def constants(data: bytes) -> Iterator[bytes]:
    """The texts in a class file's constant pool. Raises ValueError for what is no class file."""
    if data[:4] != b"\xca\xfe\xba\xbe":
        raise ValueError("not a class file")
    (count,) = struct.unpack_from(">H", data, 8)
    position, index = 10, 1
    while index < count:
        tag = data[position]
        if tag == 1:
            (length,) = struct.unpack_from(">H", data, position + 1)
            yield data[position + 3 : position + 3 + length]
            position += 3 + length
        elif tag in _WIDTHS:
            position += 1 + _WIDTHS[tag]
        else:
            raise ValueError(f"a constant of unknown kind {tag}")
        index += 2 if tag in _WIDE else 1


def translated(release: Release, kind: str, settings: Mapping[str, str]) -> dict[str, str]:
    """The settings in the release's own spelling. Raises PlanError for a key that the release lacks."""
    spellings, known = _SPELLINGS[release.line], keys_of(release, kind)
    found = {}
    for key, value in settings.items():
        own = spellings.get(key, key)
        if own not in known:
            raise PlanError(f"RocketMQ {release.version} has no {kind} setting {key!r}{_near(key, known)}")
        found[own] = value
    return found


def _near(key: str, known: frozenset[str]) -> str:
    words = nearest(key, known)
    return words if "did you mean" in words else ""


def differences(wanted: Mapping[str, str], effective: Mapping[str, str]) -> list[str]:
    """Settings that a running node does not have as they were written, in words. Pure."""
    return [
        f"{key} is {effective[key]!r}, its file says {value!r}"
        if key in effective
        else f"{key} is not among its settings"
        for key, value in wanted.items()
        if effective.get(key, "").strip().lower() != value.strip().lower()
    ]
