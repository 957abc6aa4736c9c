"""Questions to the Raft port of a release's DLedger: remoting frames whose bodies are JSON. Pure.

Neither question changes anything: the peers are asked for as any client may (METADATA), and a heartbeat of a term that
was long ago is refused with the present one. Sources: DLedger 0.3.1.2, classes DLedgerServer.handleMetadata,
DLedgerLeaderElector.handleHeartBeat, RequestOrResponse; wire layout in RocketMQ's remoting protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from nodes.remoting.command import Command, request

METADATA: Final = 50000
HEART_BEAT: Final = 51002
LEADERSHIP_TRANSFER: Final = 51005
OK: Final = 200
UNEXPECTED_MEMBER: Final = 402  # a heartbeat from itself, as the only member of a group gets it
EXPIRED_TERM: Final = 403
LONG_AGO: Final = -2  # below -1, the term of a member that has never voted


@dataclass(frozen=True, slots=True)
class Peers:
    """Whom a member knows, ``id`` to ``host:port``, and whom it takes for the leader of its present term."""

    addresses: Mapping[str, str]
    leader: str | None


def ask_peers(group: str, member: str) -> Command:
    """METADATA of this member."""
    return _question(METADATA, {"group": group, "remoteId": member})


def read_peers(answer: Command | None) -> Peers | None:
    """None for no or another answer."""
    body = _body(answer)
    peers = body.get("peers")
    if body.get("code") != OK or not isinstance(peers, Mapping):
        return None
    leader = body.get("leaderId")
    return Peers({str(key): str(value) for key, value in peers.items()}, str(leader) if leader else None)


def ask_term(group: str, member: str, fellow: str) -> Command:
    """A heartbeat that ``fellow``, another member, might have sent long ago."""
    fields = {"group": group, "remoteId": member, "localId": fellow, "leaderId": fellow, "term": LONG_AGO}
    return _question(HEART_BEAT, fields)


def read_term(answer: Command | None) -> int | None:
    """The term in which it was refused; None for no or another answer."""
    body = _body(answer)
    term = body.get("term")
    return term if body.get("code") in (EXPIRED_TERM, UNEXPECTED_MEMBER) and isinstance(term, int) else None


def ask_transfer(group: str, leader: str, member: str, term: int) -> Command:
    """LEADERSHIP_TRANSFER to another member, in the leader's present term."""
    fields = {"group": group, "remoteId": leader, "localId": leader, "leaderId": leader}
    return _question(LEADERSHIP_TRANSFER, {**fields, "transferId": leader, "transfereeId": member, "term": term})


def refusal(answer: Command | None) -> str:
    """Why a transfer was not done; empty if it was."""
    if answer is None:
        return "no answer"
    code = _body(answer).get("code")
    return "" if code == OK else f"DLedger answered code {code}"


def _question(code: int, fields: Mapping[str, Any]) -> Command:
    return request(code, None, msgspec.json.encode({"code": OK, **fields}))


def _body(answer: Command | None) -> Mapping[str, Any]:
    try:
        body = msgspec.json.decode(answer.body) if answer is not None else {}
    except msgspec.DecodeError:
        return {}
    return body if isinstance(body, Mapping) else {}
