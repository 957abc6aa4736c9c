"""Questions to the controllers of a release and to the brokers that they lead: remoting frames with JSON bodies. Pure.

None of them changes anything but `ask_election`. Sources: RocketMQ 5.3.3, classes RequestCode,
GetMetaDataResponseHeader, BrokerReplicasInfo, EpochEntryCache, ElectMasterRequestHeader.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from nodes.remoting import fastjson
from nodes.remoting.codes import ResponseCode
from nodes.remoting.command import Command, request

ELECT_MASTER: Final = 1002
GET_METADATA: Final = 1005
GET_SYNC_STATE: Final = 1006
GET_EPOCHS: Final = 1007  # of a broker
GET_CONFIG: Final = 1010


@dataclass(frozen=True, slots=True)
class Quorum:
    """The controllers as one of them knows them, ``id`` to ``host:port``, and whom it takes for their leader."""

    addresses: Mapping[str, str]
    leader: str | None


@dataclass(frozen=True, slots=True)
class InSync:
    """The replicas of one broker group as the controllers know them: pairs of ``host:port`` and id.

    A broker whose disk was lost comes back with another id, and its old one stays. ``epoch`` grows with each master,
    ``version`` with each change of the set.
    """

    master: str | None
    epoch: int
    version: int
    members: frozenset[tuple[str, int]]  # of the SyncStateSet, the master among them
    others: frozenset[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Epochs:
    """A broker's own table of masters: (epoch, start offset in its log), where its log ends, and its present id.

    The id is 0 of a master, a number above of a slave, and -1 until a controller has answered.
    """

    rows: tuple[tuple[int, int], ...]
    end: int
    broker_id: int

    @property
    def newest(self) -> int:
        """The epoch of the last master that it knows; 0 before the first."""
        return self.rows[-1][0] if self.rows else 0


def ask_quorum() -> Command:
    """CONTROLLER_GET_METADATA_INFO."""
    return request(GET_METADATA)


def read_quorum(answer: Command | None) -> Quorum | None:
    """None for no or another answer. Peers are told as ``id:host:port;`` one after the other."""
    if answer is None or answer.code != ResponseCode.SUCCESS or "peers" not in answer.ext:
        return None
    peers = (peer.partition(":") for peer in answer.ext["peers"].split(";"))
    return Quorum({name: address for name, colon, address in peers if colon}, answer.ext.get("controllerLeaderId"))


def ask_in_sync(groups: Iterable[str]) -> Command:
    """CONTROLLER_GET_SYNC_STATE_DATA of these broker groups."""
    return request(GET_SYNC_STATE, None, msgspec.json.encode(list(groups)))


def read_in_sync(answer: Command | None, group: str) -> InSync | None:
    """None for no or another answer, as controllers give that do not lead."""
    found = _body(answer).get("replicasInfoTable")
    info = found.get(group) if isinstance(found, Mapping) else None
    if not isinstance(info, Mapping):
        return None
    master = info.get("masterAddress")
    return InSync(
        master=str(master) if master else None,
        epoch=_number(info.get("masterEpoch")),
        version=_number(info.get("syncStateSetEpoch")),
        members=_replicas(info.get("inSyncReplicas")),
        others=_replicas(info.get("notInSyncReplicas")),
    )


def newest(views: Iterable[InSync | None]) -> InSync | None:
    """Of what several controllers told the latest; one that was deposed may not know it yet."""
    known = [view for view in views if view is not None]
    return max(known, key=lambda view: (view.epoch, view.version), default=None)


def ask_election(cluster: str, group: str, broker_id: int) -> Command:
    """CONTROLLER_ELECT_MASTER as an operator asks it (mqadmin electMaster): this replica and no other."""
    ext = {"clusterName": cluster, "brokerName": group, "brokerId": str(broker_id), "designateElect": "true"}
    return request(ELECT_MASTER, ext)


def ask_epochs() -> Command:
    """GET_BROKER_EPOCH_CACHE of a broker."""
    return request(GET_EPOCHS)


def read_epochs(answer: Command | None) -> Epochs | None:
    """None for no or another answer."""
    body = _body(answer)
    rows, end, number = body.get("epochList"), body.get("maxOffset"), body.get("brokerId")
    if not isinstance(rows, list) or not isinstance(end, int) or not isinstance(number, int):
        return None
    table = ((_number(row.get("epoch")), _number(row.get("startOffset"))) for row in rows if isinstance(row, Mapping))
    return Epochs(tuple(sorted(table)), max(0, end), number)


def ask_config() -> Command:
    """GET_CONTROLLER_CONFIG."""
    return request(GET_CONFIG)


def _replicas(replicas: object) -> frozenset[tuple[str, int]]:
    rows = replicas if isinstance(replicas, list) else ()
    return frozenset(
        (str(row["brokerAddress"]), _number(row.get("brokerId")))
        for row in rows
        if isinstance(row, Mapping) and "brokerAddress" in row
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _body(answer: Command | None) -> Mapping[str, Any]:
    if answer is None or answer.code != ResponseCode.SUCCESS or not answer.body:
        return {}
    try:
        body = fastjson.loads(answer.body)
    except ValueError:
        return {}
    return body if isinstance(body, Mapping) else {}
