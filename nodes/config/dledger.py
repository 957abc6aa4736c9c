"""DLedger (Raft) mode in a broker's configuration: members of the group, timers, and what contradicts them. Pure.

Sources: RocketMQ classes MessageStoreConfig and BrokerStartup, DLedger class DLedgerConfig.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["DLEDGER_KEYS", "Member", "Timers", "member_id", "member_ids", "members", "number_of", "timers_for"]

_ID = re.compile(r"[a-zA-Z]+\d{1,9}")
_MEMBERS_MAX = 31

DLEDGER_KEYS = frozenset(
    {
        "dledger_group",
        "dledger_peers",
        "dledger_self_id",
        "preferred_leader_ids",
        "heart_beat_time_interval_ms",
        "max_heart_beat_leak",
        "min_elect_time_interval_ms",
        "max_elect_time_interval_ms",
        "max_wait_ack_time_ms",
    }
)
"""Attributes of a broker's settings that mean something only where enableDLegerCommitLog is true."""


class Member(NamedTuple):
    """One member of a group: its id, and where it speaks to the other members."""

    id: str
    host: str
    port: int

    @property
    def address(self) -> str:
        """host:port."""
        return f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.id}-{self.host}:{self.port}"


class Timers(NamedTuple):
    """Seconds: between two heartbeats of a leader, and the least and most silence after which others elect."""

    heartbeat_s: float
    election_min_s: float
    election_max_s: float


def member_id(raw: str) -> str:
    """`n0`: letters and a number, as in RocketMQ, whose number becomes the brokerId of a follower; or empty."""
    if raw and not _ID.fullmatch(raw):
        raise ValueError(f"{raw!r} is not an id such as n0: letters followed by a number")
    return raw


def member_ids(raw: str) -> tuple[str, ...]:
    """Ids separated by semicolons."""
    return tuple(member_id(part.strip()) for part in raw.split(";") if part.strip())


def members(raw: str) -> tuple[Member, ...]:
    """`n0-host:port;n1-host:port`: the members that a new group begins with."""
    found: list[Member] = []
    for part in raw.split(";"):
        word = part.strip()
        if not word:
            continue
        its_id, dash, address = word.partition("-")
        host, colon, port = address.rpartition(":")
        if not (its_id and dash and colon and host and port.isdecimal() and 1 <= int(port) <= 65535) or any(
            mark in host for mark in " ,/"
        ):
            raise ValueError(f"{word!r} is not id-host:port, such as n0-192.168.1.10:40911; separate by semicolons")
        member = Member(member_id(its_id), host, int(port))
        if any(member.id == other.id for other in found):
            raise ValueError(f"the id {member.id} is there twice")
        if any(member.address == other.address for other in found):
            raise ValueError(f"the address {member.address} is there twice")
        found.append(member)
    if len({number_of(member.id) for member in found}) < len(found):
        raise ValueError("two ids have the same number, which becomes the brokerId of a follower")
    if len(found) > _MEMBERS_MAX:
        raise ValueError(f"a group has at most {_MEMBERS_MAX} members, not {len(found)}")
    return tuple(found)


def number_of(its_id: str) -> int:
    """The number of an id: the brokerId of a follower is one more."""
    return int(its_id.lstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))


def timers_for(heartbeat_ms: int | None, leak: int, elect_min_ms: int | None, elect_max_ms: int | None) -> Timers:
    """The timers in force. Without heartBeatTimeIntervalMs ours, with it RocketMQ's.

    Ours: a heartbeat every 100 ms (or a fifth of the shortest election timeout), an election after 500 to 1000 ms of
    silence. RocketMQ's: a follower waits for maxHeartBeatLeak heartbeats, and then the election interval (300 to
    1000 ms) on top. Raises ValueError if the numbers contradict each other.
    """
    if elect_min_ms is not None and elect_max_ms is not None and elect_min_ms > elect_max_ms:
        raise ValueError(f"minElectTimeIntervalMs {elect_min_ms} is above maxElectTimeIntervalMs {elect_max_ms}")
    if heartbeat_ms is None:
        least = elect_min_ms if elect_min_ms is not None else min(500, elect_max_ms or 500)
        most = elect_max_ms if elect_max_ms is not None else 2 * least
        return Timers(min(100, least / 5) / 1000, least / 1000, most / 1000)
    least = elect_min_ms if elect_min_ms is not None else min(300, elect_max_ms or 300)
    most = elect_max_ms if elect_max_ms is not None else max(1000, least)
    silence = heartbeat_ms * leak
    return Timers(heartbeat_ms / 1000, (silence + least) / 1000, (silence + most) / 1000)


def contradiction(values: Mapping[str, object], listen_port: int) -> str | None:
    """What is wrong with these attributes of a broker in DLedger mode, and what to do; None if nothing."""
    peers, self_id = values.get("dledger_peers"), values.get("dledger_self_id")
    if not isinstance(peers, tuple) or not peers:
        return (
            "enableDLegerCommitLog is true, so dLegerPeers must name the members, such as n0-host:40911;n1-host:40911"
        )
    if not isinstance(self_id, str) or not self_id:
        return "enableDLegerCommitLog is true, so dLegerSelfId must say which of dLegerPeers this node is"
    ids = [member.id for member in peers]
    if self_id not in ids:
        return f"dLegerSelfId {self_id} is none of dLegerPeers ({', '.join(ids)}); add it there or correct it"
    own = peers[ids.index(self_id)]
    if own.port == listen_port:
        return f"dLegerPeers gives {own} the port of listenPort; members need a port of their own"
    preferred = values.get("preferred_leader_ids")
    for wish in preferred if isinstance(preferred, tuple) else ():
        if wish not in ids:
            return f"preferredLeaderId {wish} is none of dLegerPeers ({', '.join(ids)})"
    if str(values.get("broker_role", "")) == "SLAVE":
        return "brokerRole=SLAVE: in DLedger mode the group elects who is master; leave brokerRole out"
    for attribute, key in (("in_sync_replicas", "inSyncReplicas"), ("ha_master_address", "haMasterAddress")):
        if values.get(attribute):
            return f"{key} is for master and slave; in DLedger mode the majority of the group decides; leave it out"
    return None
