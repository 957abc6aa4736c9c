"""Questions to DLedger's Raft port, in the words that its own source has for them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from lab.systems.rocketmq.raft_port import (
    Peers,
    ask_peers,
    ask_term,
    ask_transfer,
    read_peers,
    read_term,
    refusal,
)
from nodes.remoting.command import Command, request


def answer(**body: Any) -> Command:
    return request(0, None, msgspec.json.encode(body))


def said(question: Command) -> dict[str, Any]:
    return dict(msgspec.json.decode(question.body))


def test_the_term_is_asked_for_by_a_heartbeat_that_changes_nothing() -> None:
    """From another member, of a term below all: any other could make a member a follower or a candidate."""
    question = ask_term("broker-a", "n0", "n1")
    assert question.code == 51002
    assert said(question) == {
        "code": 200, "group": "broker-a", "remoteId": "n0", "localId": "n1", "leaderId": "n1", "term": -2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "term"),
    [
        ({"code": 403, "term": 7}, 7),
        ({"code": 403, "term": -1}, -1),
        ({"code": 402, "term": 3}, 3),
        ({"code": 200, "term": -1}, None),  # a heartbeat that was accepted: nobody may take its -1 for a term
        ({"code": 401, "term": 7}, None),
        ({"code": 403}, None),
    ],
)
def test_only_a_refusal_tells_the_term(body: dict[str, Any], term: int | None) -> None:
    assert read_term(answer(**body)) == term


def test_peers_and_the_leader_of_the_present_term() -> None:
    """No leader is None; no answer, a refusal and garbage are not a group without members."""
    assert said(ask_peers("broker-a", "n0"))["remoteId"] == "n0"
    peers = {"n0": "10.0.0.1:40911"}
    assert read_peers(answer(code=200, peers=peers, leaderId="n0", term=-1)) == Peers(peers, "n0")
    assert read_peers(answer(code=200, peers=peers)) == Peers(peers, None)
    assert read_peers(answer(code=400, leaderId="n0")) is None
    assert read_peers(request(0, None, b"{")) is None
    assert read_peers(None) is None


def test_a_transfer_names_both_and_the_term() -> None:
    body = said(ask_transfer("broker-a", "n0", "n2", 5))
    assert (body["transferId"], body["transfereeId"], body["term"]) == ("n0", "n2", 5)
    assert refusal(answer(code=200)) == ""
    assert "407" in refusal(answer(code=407))
    assert refusal(None) == "no answer"
