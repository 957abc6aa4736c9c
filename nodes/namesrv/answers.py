"""Bodies of the name server's answers, as JSON. Pure.

Source: RocketMQ classes TopicRouteData, BrokerData, QueueData, ClusterInfo, TopicList, KVTable and BrokerMemberGroup.
Java writes broker ids as bare numbers, which is not JSON. It reads strict JSON too, so that is what is written here;
only routes for clients too old to ask for it keep Java's form. `dledgerTerm`, the term in which the listed master of a
DLedger group leads, is ours; whoever does not know it passes it over, as RocketMQ's clients do with all unknown fields.
"""

from __future__ import annotations

from typing import Any

import msgspec

from nodes.namesrv.registration import DataVersion
from nodes.namesrv.routes import MASTER_ID, Group, QueueData, RouteData, Routes

__all__ = [
    "STRICT_JSON_VERSION",
    "cluster_info",
    "data_version",
    "kv_table",
    "member_group",
    "queue_list",
    "route",
    "topic_list",
]

STRICT_JSON_VERSION = 401
"""Clients from this version on (V4_9_4) get quoted broker ids in routes."""

_encode = msgspec.json.encode


def route(data: RouteData, *, strict: bool, order: str | None = None) -> bytes:
    """The body of a route answer. `strict` quotes broker ids; `order` is the topic's order configuration."""
    body: dict[str, Any] = {
        "brokerDatas": [_group(group, strict) for group in data.groups],
        "filterServerTable": {},
        "queueDatas": [_queues(queues) for queues in data.queues],
    }
    if order is not None:
        body["orderTopicConf"] = order
    return _encode(body)


def cluster_info(routes: Routes) -> bytes:
    """All groups and clusters."""
    return _encode(
        {
            "brokerAddrTable": {group.name: _group(group, True) for group in routes.groups()},
            "clusterAddrTable": routes.clusters(),
        }
    )


def member_group(cluster: str, name: str, group: Group | None) -> bytes:
    """The members of one group; empty if it is unknown."""
    addresses = {} if group is None else {str(key): group.addresses[key] for key in sorted(group.addresses)}
    return _encode({"brokerMemberGroup": {"brokerAddrs": addresses, "brokerName": name, "cluster": cluster}})


def topic_list(topics: list[str], broker_address: str | None = None) -> bytes:
    """A list of topics."""
    body: dict[str, Any] = {"topicList": topics}
    if broker_address is not None:
        body["brokerAddr"] = broker_address
    return _encode(body)


def kv_table(values: dict[str, str]) -> bytes:
    """Keys and values."""
    return _encode({"table": values})


def data_version(version: DataVersion) -> bytes:
    """A DataVersion."""
    return _encode(version)


def queue_list(body: bytes) -> list[QueueData]:
    """The queue data in a TopicRouteData that a broker sent. Raises ValueError."""
    try:
        found = msgspec.json.decode(body, type=_RouteBody).queues or []
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"body is not a route: {error}") from None
    return [QueueData(each.name, each.read, each.write, each.perm, each.flag) for each in found]


class _QueueBody(
    msgspec.Struct,
    rename={"name": "brokerName", "read": "readQueueNums", "write": "writeQueueNums", "flag": "topicSysFlag"},
):
    name: str
    read: int = 0
    write: int = 0
    perm: int = 0
    flag: int = 0


class _RouteBody(msgspec.Struct, rename={"queues": "queueDatas"}):
    queues: list[_QueueBody] | None = None


def _group(group: Group, strict: bool) -> dict[str, Any]:
    ids = sorted(group.addresses)
    addresses: object = {str(broker_id): group.addresses[broker_id] for broker_id in ids}
    if not strict:
        pairs = b",".join(b"%d:%b" % (broker_id, _encode(group.addresses[broker_id])) for broker_id in ids)
        addresses = msgspec.Raw(b"{" + pairs + b"}")
    body: dict[str, Any] = {
        "brokerAddrs": addresses,
        "brokerName": group.name,
        "cluster": group.cluster,
        "enableActingMaster": group.acting_master,
    }
    if group.zone is not None:
        body["zoneName"] = group.zone
    if group.term is not None and MASTER_ID in group.addresses:
        body["dledgerTerm"] = group.term
    return body


def _queues(queues: QueueData) -> dict[str, Any]:
    return {
        "brokerName": queues.broker_name,
        "perm": queues.perm,
        "readQueueNums": queues.read_queues,
        "topicSysFlag": queues.sys_flag,
        "writeQueueNums": queues.write_queues,
    }
