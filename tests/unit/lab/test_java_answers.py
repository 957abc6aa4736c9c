"""What answers of the Java client prove: SendStatus and exceptions to ok, info and fail; the doubtful is info."""

from __future__ import annotations

from typing import Any

import pytest

from lab.workers.java import answers
from lab.workloads.classify import Guarantee, not_sent, sent
from lab.workloads.reading import entries_of
from nodes.client.outcomes import code_name
from nodes.client.queues import MessageQueue
from nodes.client.results import CommandFailed, Outcome, PullFailed, PullStatus, SendFailed, SendResult

QUEUE = MessageQueue("lab", "broker-a", 2)
MASTER = "10.0.0.4:10911"
SEND, PULL, QUERY, UPDATE = 310, 11, 14, 15


def call(request: int, code: int | None, epoch: str | None = None, address: str = MASTER) -> dict[str, Any]:
    return {"address": address, "request": request, "code": code, "ms": 5, "epoch": epoch}


def stored(status: str = "SEND_OK") -> dict[str, Any]:
    told = {"status": status, "id": "1", "offsetId": "0A", "broker": "broker-a", "queue": 2, "offset": 7}
    return {"ok": told}


def thrown(kind: str, code: int = 0, text: str = "words") -> dict[str, Any]:
    return {"error": {"class": kind, "code": code, "text": text}}


def result(answer: dict[str, Any], *calls: dict[str, Any]) -> SendResult:
    return answers.sent({"calls": list(calls), **answer}, QUEUE, 1.0)


def failure(answer: dict[str, Any], *calls: dict[str, Any]) -> SendFailed:
    with pytest.raises(SendFailed) as caught:
        result(answer, *calls)
    return caught.value


def test_send_ok_is_a_promise_of_the_broker_that_answered() -> None:
    """With what its reply said of its term, which the client itself does not show."""
    done = sent(result(stored(), call(SEND, 0, "3")), {MASTER: Guarantee(2, True)}, "lab")
    assert (done.kind, done.extras["ack"], done.extras["flushed"]) == ("ok", "replicated", True)
    assert (done.extras["queue"], done.extras["offset"], done.extras["epoch"]) == ("lab/broker-a/2", 7, 3)
    assert (done.extras["node"], done.extras["attempts"]) == (MASTER, 1)


@pytest.mark.parametrize(
    ("status", "code"), [("FLUSH_DISK_TIMEOUT", 10), ("SLAVE_NOT_AVAILABLE", 11), ("FLUSH_SLAVE_TIMEOUT", 12)]
)
def test_other_statuses_are_stored_and_weak(status: str, code: int) -> None:
    """The client returns them as success."""
    done = sent(result(stored(status), call(SEND, code)), {MASTER: Guarantee(2, True)}, "lab")
    assert (done.kind, done.extras["status"], done.extras["ack"]) == ("ok", status, "weak")


@pytest.mark.parametrize("calls", [(), (call(SEND, None),), (call(SEND, 12),), (call(PULL, 0),)])
def test_a_send_ok_that_no_reply_bears_out_is_unknown(calls: tuple[dict[str, Any], ...]) -> None:
    """What the client says and what came over the wire must be the same thing; what it said is kept, and C0 asks."""
    done = not_sent(failure(stored(), *calls))
    assert (done.kind, done.extras["status"]) == ("info", "SEND_OK")
    assert "status" not in not_sent(failure(thrown("MQClientException"), call(SEND, None))).extras


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (thrown("RemotingConnectException", text="connect to 10.0.0.4:10911 failed"), "CONNECT_FAILED"),
        (thrown("RemotingTimeoutException", text="invokeSync call the addr timeout"), "CONNECT_FAILED"),
        (thrown("RemotingTooMuchRequestException", text="sendKernelImpl call timeout"), "NOT_SENT"),
        (thrown("MQClientException", -1, "The broker[broker-a] not exist"), "BROKER_UNKNOWN"),
        (thrown("MQClientException", 10005, "No route info of this topic: lab"), "NO_ROUTE"),
        (thrown("MQClientException", 13, "the message body size over max value"), "TOO_LARGE"),
        (thrown("IllegalStateException", text="RemotingSendRequestException: to 10.0.0.1:9876"), "NO_NAME_SERVER"),
    ],
)
def test_nothing_handed_to_the_transport_was_sent(answer: dict[str, Any], name: str) -> None:
    """Certain, whatever was thrown; route queries of the same operation are no sends."""
    for calls in ((), (call(105, None),)):
        done = not_sent(failure(answer, *calls))
        assert (done.kind, done.extras["error"]["code"]) == ("fail", name)


def test_an_exception_that_nobody_foresaw_proves_nothing() -> None:
    """Not even that nothing was sent."""
    assert not_sent(failure(thrown("NullPointerException"))).kind == "info"
    assert not_sent(failure(thrown("InterruptedException"))).kind == "info"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("RemotingTimeoutException", "TIMEOUT"),
        ("RemotingSendRequestException", "CONNECTION_LOST"),
        ("RemotingConnectException", "CONNECTION_LOST"),
        ("MQClientException", "CONNECTION_LOST"),
    ],
)
def test_a_request_without_an_answer_is_unknown(kind: str, name: str) -> None:
    """The client says that it could not send when it lost the connection after the request had left."""
    done = not_sent(failure(thrown(kind), call(SEND, None)))
    assert (done.kind, done.extras["error"]["code"], done.extras["node"]) == ("info", name, MASTER)


@pytest.mark.parametrize(
    ("code", "kind"), [(14, "fail"), (16, "fail"), (17, "fail"), (1, "info"), (2, "info"), (204, "info"), (999, "info")]
)
def test_a_code_proves_what_it_proves_to_our_own_client(code: int, kind: str) -> None:
    """One table for both."""
    done = not_sent(failure(thrown("MQBrokerException", code), call(SEND, code)))
    assert (done.kind, done.extras["error"]["code"]) == (kind, code_name(code))


def test_an_answer_that_came_too_late_is_unknown() -> None:
    """The application saw the exception."""
    done = not_sent(failure(thrown("RemotingTimeoutException"), call(SEND, 0)))
    assert (done.kind, done.extras["error"]["code"]) == ("info", "TIMEOUT")


def test_of_several_attempts_one_unknown_is_enough() -> None:
    """And all of them are kept."""
    lost = failure(thrown("MQClientException", 14), call(SEND, None, address="10.0.0.3:10911"), call(SEND, 14))
    assert [one.outcome for one in lost.attempts] == [Outcome.INFO, Outcome.FAIL]
    assert not_sent(lost).kind == "info"
    refused = failure(thrown("MQClientException", 14), call(SEND, 14), call(SEND, 16))
    assert not_sent(refused).kind == "fail"


def test_a_pull_shows_offsets_heads_and_who_answered() -> None:
    """A slave is whoever is not the master that the client knew."""
    told = {"status": "FOUND", "next": 9, "min": 0, "max": 9, "master": MASTER}
    told |= {"messages": [[8, "run/1/0 ..", 2, True], [9, "run/1/1 ..", 2, False]]}
    found = answers.pulled({"ok": told, "calls": [call(PULL, 0, "4")]}, QUEUE, master_only=True)
    assert (found.status, found.next_offset, found.epoch, found.broker_id) == (PullStatus.FOUND, 9, 4, 0)
    assert [(m.queue_offset, m.body) for m in found.messages] == [(8, b"run/1/0 ...."), (9, b"run/1/1 ..\0\0")]
    assert entries_of(found.messages, 12) == [[8, "run/1/0"], [9, "run/1/1 damaged"]]
    by_slave = {"ok": told, "calls": [call(PULL, 0, address="10.0.0.5:10911")]}
    assert answers.pulled(by_slave, QUEUE, master_only=False).broker_id != 0
    with pytest.raises(PullFailed, match="another broker than the master"):
        answers.pulled(by_slave, QUEUE, master_only=True)


def test_a_read_that_was_never_sent_is_certain_and_any_other_failure_is_not() -> None:
    """An empty answer is never made of a failure."""
    for answer, outcome in (
        ({**thrown("RemotingConnectException"), "calls": []}, Outcome.FAIL),
        ({**thrown("RemotingTimeoutException"), "calls": [call(PULL, None)]}, Outcome.INFO),
        ({**thrown("MQBrokerException", 1), "calls": [call(PULL, 1)]}, Outcome.INFO),
        ({"ok": {}, "calls": [call(PULL, None)]}, Outcome.INFO),
    ):
        with pytest.raises(PullFailed) as caught:
            answers.pulled(answer, QUEUE, master_only=False)
        assert caught.value.outcome is outcome


def test_a_group_without_offset_is_told_from_a_failure_by_the_code() -> None:
    """The client makes -1 of both."""
    assert answers.committed({"ok": {"offset": -1}, "calls": [call(QUERY, 22)]}, QUEUE) is None
    assert answers.committed({"ok": {"offset": 5}, "calls": [call(QUERY, 0)]}, QUEUE) == 5
    for calls in ([], [call(QUERY, None)], [call(QUERY, 1)]):
        with pytest.raises(CommandFailed):
            answers.committed({"ok": {"offset": -1}, "calls": calls}, QUEUE)


def test_a_commit_counts_when_it_was_answered() -> None:
    """A commit that was only handed over may be lost."""
    assert answers.commit({"ok": {}, "calls": [call(UPDATE, 0)]}, QUEUE) == MASTER
    for calls in ([], [call(UPDATE, None)], [call(UPDATE, 1)]):
        with pytest.raises(CommandFailed):
            answers.commit({"ok": {}, "calls": calls}, QUEUE)
