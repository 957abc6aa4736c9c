"""Answers become ok, fail and info; only SEND_OK is a promise, and only as strong as the configuration guarantees."""

import pytest

from lab.workloads.classify import Guarantee, broken, not_sent, refused, sent
from lab.workloads.flaws import ClientFlaw
from nodes.client.outcomes import LocalCode
from nodes.client.results import Attempt, CommandFailed, Outcome, SendFailed, SendResult, SendStatus
from nodes.remoting.codes import ResponseCode

TABLE = {
    "10.0.0.1:1": Guarantee(copies=2, flushed=False),
    "10.0.0.2:1": Guarantee(copies=1, flushed=True),
}


def answered(status: SendStatus, address: str) -> SendResult:
    attempt = Attempt(address, "broker-a", 3, Outcome.OK, 0, "", 1.0, 1.5)
    return SendResult(status, "unique", "stored", "broker-a", 3, 17, 4, address, (attempt,))


def tried(outcome: Outcome, code: int, address: str = "10.0.0.1:1") -> Attempt:
    return Attempt(address, "broker-a", 3, outcome, code, "why", 1.0, 1.5)


@pytest.mark.parametrize(
    ("status", "address", "ack", "flushed"),
    [
        (SendStatus.SEND_OK, "10.0.0.1:1", "replicated", False),
        (SendStatus.SEND_OK, "10.0.0.2:1", "local", True),
        (SendStatus.SEND_OK, "10.9.9.9:1", "local", False),
        (SendStatus.FLUSH_DISK_TIMEOUT, "10.0.0.2:1", "weak", False),
        (SendStatus.FLUSH_SLAVE_TIMEOUT, "10.0.0.1:1", "weak", False),
        (SendStatus.SLAVE_NOT_AVAILABLE, "10.0.0.1:1", "weak", False),
    ],
)
def test_a_stored_message(status: SendStatus, address: str, ack: str, flushed: bool) -> None:
    """A weak status is never recorded as strong, and an unknown broker guarantees nothing beyond its own copy."""
    completion = sent(answered(status, address), TABLE, "lab")
    assert completion.kind == "ok"
    assert completion.extras["status"] == status.value
    assert (completion.extras["ack"], completion.extras["flushed"]) == (ack, flushed)
    assert completion.extras["queue"] == "lab/broker-a/3"
    assert (completion.extras["offset"], completion.extras["epoch"], completion.extras["attempts"]) == (17, 4, 1)


def test_an_attempt_that_certainly_failed_is_none_that_may_be_stored_twice() -> None:
    """A broker that stores one attempt twice must not be excused by it."""
    failed = tried(Outcome.FAIL, LocalCode.CONNECT_FAILED)
    result = answered(SendStatus.SEND_OK, "10.0.0.1:1")
    for before, attempts in (((failed,), 1), ((failed, tried(Outcome.INFO, LocalCode.TIMEOUT)), 2)):
        completion = sent(result._replace(attempts=(*before, *result.attempts)), TABLE, "lab")
        assert completion.extras["attempts"] == attempts
        assert len(completion.extras["tries"]) == len(before) + 1


@pytest.mark.parametrize(
    ("attempts", "kind"),
    [
        ([tried(Outcome.FAIL, LocalCode.CONNECT_FAILED)], "fail"),
        ([tried(Outcome.FAIL, ResponseCode.NO_PERMISSION)], "fail"),
        ([tried(Outcome.INFO, LocalCode.TIMEOUT)], "info"),
        ([tried(Outcome.FAIL, LocalCode.CONNECT_FAILED), tried(Outcome.INFO, LocalCode.CONNECTION_LOST)], "info"),
        ([tried(Outcome.INFO, LocalCode.MASTER_MOVED), tried(Outcome.FAIL, LocalCode.CONNECT_FAILED)], "info"),
        ([tried(Outcome.FAIL, LocalCode.CONNECT_FAILED), tried(Outcome.FAIL, LocalCode.NO_ROUTE)], "fail"),
    ],
)
def test_a_send_without_an_answer_is_fail_only_if_every_attempt_is(attempts: list[Attempt], kind: str) -> None:
    """One attempt in doubt makes the operation unknown; every attempt is shown."""
    completion = not_sent(SendFailed(attempts))
    assert completion.kind == kind
    assert completion.unknown == (kind == "info")
    assert completion.extras["attempts"] == len(attempts)
    assert len(completion.extras.get("tries", ())) == (len(attempts) if len(attempts) > 1 else 0)
    assert set(completion.extras["error"]) == {"code", "phase", "text"}


def test_planted_a_timeout_is_told_as_a_failure() -> None:
    """And nothing else is."""
    flaws = (ClientFlaw.TIMEOUT_AS_FAILURE.value,)
    assert not_sent(SendFailed([tried(Outcome.INFO, LocalCode.TIMEOUT)]), flaws).kind == "fail"
    assert not_sent(SendFailed([tried(Outcome.INFO, LocalCode.CONNECTION_LOST)]), flaws).kind == "info"


def test_calls_that_never_left_are_fails_and_all_others_unknown() -> None:
    """A read that timed out must retire its process as a send does."""
    gone = CommandFailed("pull", "a:1", LocalCode.TIMEOUT, "no answer", Outcome.INFO)
    never = CommandFailed("pull", "", LocalCode.BROKER_UNKNOWN, "no route", Outcome.FAIL)
    assert refused(gone, reads_only=True).kind == "info"
    assert refused(never, reads_only=True).kind == "fail"
    assert refused(never, reads_only=True).extras["error"]["code"] == "BROKER_UNKNOWN"


def test_the_unforeseen_is_unknown() -> None:
    """With its type and words."""
    completion = broken(ValueError("surprise"), "client")
    assert completion.kind == "info"
    assert completion.extras["error"] == {"code": "ValueError", "phase": "client", "text": "surprise"}
