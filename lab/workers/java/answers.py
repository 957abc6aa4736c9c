"""What the Java client's answers prove; pure.

An answer of `Worker.java` tells what the client returned or threw, and every request of the operation that the client
handed to its transport (RocketMQ interface RPCHook: called before a request is written, in every version, since it is
where requests are signed). That settles what exceptions leave open:

* no request of the operation was handed over: nothing was sent, whatever the exception says;
* a request was answered: `nodes.client.outcomes` says what its code proves;
* a request was handed over and not answered: nobody can say. RemotingSendRequestException is no exception to that: the
  client also throws it when the connection is lost after the request has left (RocketMQ class NettyRemotingAbstract,
  failFast), and so is a timeout.

An exception of a class that the client's interface does not name proves nothing either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lab.workloads.values import PADDING
from nodes.client.messages import Message
from nodes.client.outcomes import SEND_STATUS, LocalCode, code_name, write_outcome
from nodes.client.queues import MessageQueue
from nodes.client.results import (
    Attempt,
    CommandFailed,
    Outcome,
    PullFailed,
    PullResult,
    PullStatus,
    SendFailed,
    SendResult,
    SendStatus,
)
from nodes.remoting.codes import RequestCode, ResponseCode

Answer = Mapping[str, Any]
"""A line of the program: id, ok or error, calls; what push consumers tell has a member and an event in place of id."""

SENDS: Final = (RequestCode.SEND_MESSAGE, RequestCode.SEND_MESSAGE_V2, RequestCode.SEND_BATCH_MESSAGE)
PULLS: Final = (RequestCode.PULL_MESSAGE, RequestCode.LITE_PULL_MESSAGE)
COMMITTED: Final = (RequestCode.QUERY_CONSUMER_OFFSET,)
COMMITS: Final = (RequestCode.UPDATE_CONSUMER_OFFSET,)
BOUNDS: Final = (RequestCode.GET_MIN_OFFSET, RequestCode.GET_MAX_OFFSET)
GARBAGE: Final = b"\0"
"""Stands for the bytes of a body that the program did not send along, where they are not all padding."""
MASTER_ID: Final = 0
SLAVE_ID: Final = 1
"""Of any slave: the client tells no more than that it was not the master it knew."""

BEFORE_SENDING: Final[Mapping[str, LocalCode]] = {
    "MQClientException": LocalCode.NOT_SENT,  # its own code is more exact, where it has one
    "RemotingConnectException": LocalCode.CONNECT_FAILED,
    "RemotingTooMuchRequestException": LocalCode.NOT_SENT,  # "call timeout": the budget was spent before
    "RemotingTimeoutException": LocalCode.CONNECT_FAILED,  # the budget went into connecting
    "IllegalStateException": LocalCode.NO_NAME_SERVER,  # MQClientInstance, around the exception of a route query
}
"""What the client throws before it hands anything to its transport. Of others nobody knows where they come from."""


def sent(answer: Answer, queue: MessageQueue | None, now_s: float) -> SendResult:
    """The result of a send. Raises SendFailed with all that is known of its attempts."""
    calls = _calls(answer, SENDS)
    name = queue.broker_name if queue is not None else ""
    number = queue.queue_id if queue is not None else -1
    attempts = [_attempt(answer, call, name, number, now_s) for call in calls]
    told = answer.get("ok")
    if told is None:
        raise SendFailed(attempts or [_unsent(answer, name, number, now_s)])
    status = told.get("status")
    answered = calls[-1] if calls else None
    if answered is None or SEND_STATUS.get(answered["code"]) != status:
        reason = f"the client says {status}, and its last request was answered with {answered and answered['code']}"
        attempt = Attempt("", name, number, Outcome.INFO, LocalCode.GARBLED_REPLY, reason, now_s, now_s)
        raise SendFailed([*attempts, attempt], told=str(status))
    return SendResult(
        SendStatus(status),
        str(told["id"]),
        str(told["offsetId"]),
        str(told["broker"]),
        int(told["queue"]),
        int(told["offset"]),
        _epoch(answered),
        str(answered["address"]),
        tuple(attempts),
    )


def pulled(answer: Answer, queue: MessageQueue, *, master_only: bool) -> PullResult:
    """The result of a pull. Raises PullFailed."""
    what = f"pull of {queue}"
    told, call = _answered(answer, PULLS, what, PullFailed)
    try:
        status = PullStatus(told["status"])
    except ValueError:
        reason = f"the client says {told['status']}"
        raise PullFailed(what, call["address"], LocalCode.GARBLED_REPLY, reason, Outcome.INFO) from None
    address = str(call["address"])
    if master_only and address != told["master"]:
        reason = f"answered by another broker than the master it was meant for, {told['master']}"
        raise PullFailed(what, address, LocalCode.MASTER_MOVED, reason, Outcome.INFO)
    return PullResult(
        status=status,
        queue=queue,
        messages=messages_of(queue, told["messages"]),
        next_offset=int(told["next"]),
        min_offset=int(told["min"]),
        max_offset=int(told["max"]),
        epoch=_epoch(call),
        address=address,
        broker_id=MASTER_ID if address == told["master"] else SLAVE_ID,
    )


def messages_of(
    queue: MessageQueue, told: Sequence[tuple[int, str, int, bool]], *, reconsumed: int = 0
) -> tuple[Message, ...]:
    """Messages of a queue, of which the program tells offsets, the first bytes of bodies, how many bytes follow, and
    whether these are all padding."""
    return tuple(
        Message(
            topic=queue.topic,
            body=head.encode("latin-1") + (PADDING if padded else GARBAGE) * more,
            queue_id=queue.queue_id,
            queue_offset=offset,
            broker_name=queue.broker_name,
            reconsume_times=reconsumed,
        )
        for offset, head, more, padded in told
    )


def committed(answer: Answer, queue: MessageQueue) -> int | None:
    """A committed offset. Raises CommandFailed.

    The client makes -1 or -2 of every failure (RocketMQ class RemoteBrokerOffsetStore); the broker's code tells apart
    a group that never committed.
    """
    what = f"committed offset of {queue}"
    if "ok" in answer and not _calls(answer, COMMITTED):
        raise CommandFailed(what, "", LocalCode.BROKER_UNKNOWN, "the client asked nobody", Outcome.FAIL)
    told, call = _answered(answer, COMMITTED, what, CommandFailed)
    if call["code"] == ResponseCode.QUERY_NOT_FOUND:
        return None
    if call["code"] != ResponseCode.SUCCESS or told["offset"] < 0:
        raise _failed(answer, call, what, CommandFailed)
    return int(told["offset"])


def commit(answer: Answer, queue: MessageQueue) -> str:
    """Who stored a commit. Raises CommandFailed."""
    what = f"commit of {queue}"
    _, call = _answered(answer, COMMITS, what, CommandFailed)
    if call["code"] != ResponseCode.SUCCESS:
        raise _failed(answer, call, what, CommandFailed)
    return str(call["address"])


def bounds(answer: Answer, queue: MessageQueue) -> tuple[int, int]:
    """A queue's bounds. Raises CommandFailed."""
    told, _ = _answered(answer, BOUNDS, f"bounds of {queue}", CommandFailed)
    return int(told["low"]), int(told["high"])


def _answered(
    answer: Answer, requests: Sequence[int], what: str, kind: type[CommandFailed]
) -> tuple[Answer, Mapping[str, Any]]:
    """What the client returned, and the last request of the kind, which was answered."""
    calls = _calls(answer, requests)
    last = calls[-1] if calls else None
    told = answer.get("ok")
    if told is None or last is None or last["code"] is None:
        raise _failed(answer, last, what, kind)
    return told, last


def _failed(answer: Answer, call: Mapping[str, Any] | None, what: str, kind: type[CommandFailed]) -> CommandFailed:
    """A read or a commit without a usable answer; `fail` only if nothing of it was sent."""
    if call is None:
        local, certain = _before_sending(answer)
        return kind(what, "", local, _words(answer), Outcome.FAIL if certain else Outcome.INFO)
    code = _lost(answer) if call["code"] is None else int(call["code"])
    return kind(what, str(call["address"]), code, _words(answer) or code_name(code), Outcome.INFO)


def _attempt(answer: Answer, call: Mapping[str, Any], broker: str, queue_id: int, now_s: float) -> Attempt:
    code = _lost(answer) if call["code"] is None else int(call["code"])
    outcome = Outcome.INFO if call["code"] is None else write_outcome(code)
    if outcome is Outcome.OK and "error" in answer:  # answered too late: the application saw the exception
        code, outcome = _lost(answer), Outcome.INFO
    reason = _words(answer) if outcome is not Outcome.OK else code_name(code)
    return Attempt(
        str(call["address"]), broker, queue_id, outcome, code, reason or code_name(code),
        now_s - call["ms"] / 1000, now_s,
    )  # fmt: skip


def _unsent(answer: Answer, broker: str, queue_id: int, now_s: float) -> Attempt:
    code, certain = _before_sending(answer)
    outcome = Outcome.FAIL if certain else Outcome.INFO
    return Attempt("", broker, queue_id, outcome, code, _words(answer), now_s, now_s)


def _before_sending(answer: Answer) -> tuple[LocalCode, bool]:
    """Why nothing was handed to the transport, and whether that is certain."""
    error = answer.get("error") or {}
    code = BEFORE_SENDING.get(error.get("class", ""))
    if code is None:
        return LocalCode.GARBLED_REPLY, False
    if error["class"] == "MQClientException":
        if error["code"] in LocalCode.__members__.values():
            return LocalCode(error["code"]), True
        if error["code"] == ResponseCode.MESSAGE_ILLEGAL:
            return LocalCode.TOO_LARGE, True
        if "not exist" in error["text"]:
            return LocalCode.BROKER_UNKNOWN, True
    return code, True


def _lost(answer: Answer) -> LocalCode:
    timeout = (answer.get("error") or {}).get("class") == "RemotingTimeoutException"
    return LocalCode.TIMEOUT if timeout else LocalCode.CONNECTION_LOST


def _words(answer: Answer) -> str:
    error = answer.get("error")
    return f"{error['class']}: {error['text']}" if error else ""


def _calls(answer: Answer, requests: Sequence[int]) -> list[Mapping[str, Any]]:
    return [call for call in answer["calls"] if call["request"] in requests]


def _epoch(call: Mapping[str, Any]) -> int | None:
    text = call["epoch"]
    return int(text) if isinstance(text, str) and text.lstrip("-").isdecimal() else None
