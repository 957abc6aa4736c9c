"""The pull request and its answer, as values. Pure.

Sources: RocketMQ classes PullMessageRequestHeader, PullSysFlag and PullAPIWrapper. Beyond RocketMQ a request may carry
`epoch`, the last mastership the consumer saw on this queue, and our brokers' answers carry theirs: a broker with a
later epoch that began below the asked offset sends the consumer back to where it began.
"""

from __future__ import annotations

from nodes.client.messages import from_stored
from nodes.client.outcomes import LocalCode, code_name
from nodes.client.queues import MessageQueue
from nodes.client.results import Outcome, PullFailed, PullResult, PullStatus
from nodes.client.subscription import Subscription
from nodes.remoting.codes import RequestCode, ResponseCode
from nodes.remoting.command import Command, request
from nodes.remoting.message import RecordError, decode_records

__all__ = ["PULL_STATUS", "SYS_COMMIT", "SYS_SUBSCRIPTION", "SYS_SUSPEND", "pull_request", "read_pull_answer"]

SYS_COMMIT = 1
"""The request carries an offset to commit."""
SYS_SUSPEND = 2
"""The broker may hold the request until there is something to answer."""
SYS_SUBSCRIPTION = 4
"""The request carries its subscription; without it the broker takes that of the last heartbeat."""

PULL_STATUS: dict[int, PullStatus] = {
    ResponseCode.SUCCESS: PullStatus.FOUND,
    ResponseCode.PULL_NOT_FOUND: PullStatus.NO_NEW_MSG,
    ResponseCode.PULL_RETRY_IMMEDIATELY: PullStatus.NO_MATCHED_MSG,
    ResponseCode.PULL_OFFSET_MOVED: PullStatus.OFFSET_ILLEGAL,
}


def pull_request(
    queue: MessageQueue,
    group: str,
    offset: int,
    max_num: int,
    subscription: Subscription,
    *,
    with_subscription: bool,
    suspend_ms: int = 0,
    commit_offset: int | None = None,
    epoch: int | None = None,
) -> Command:
    """A pull of at most `max_num` messages from `offset` on. `suspend_ms` 0 wants an answer at once."""
    sys_flag = 0
    if commit_offset is not None:
        sys_flag |= SYS_COMMIT
    if suspend_ms > 0:
        sys_flag |= SYS_SUSPEND
    if with_subscription:
        sys_flag |= SYS_SUBSCRIPTION
    ext = {
        "consumerGroup": group,
        "topic": queue.topic,
        "queueId": str(queue.queue_id),
        "queueOffset": str(offset),
        "maxMsgNums": str(max_num),
        "sysFlag": str(sys_flag),
        "commitOffset": str(commit_offset or 0),
        "suspendTimeoutMillis": str(suspend_ms),
        "subVersion": str(subscription.version),
        "expressionType": "TAG",
        "bname": queue.broker_name,
    }
    if with_subscription:
        ext["subscription"] = subscription.expression
    if epoch is not None:
        ext["epoch"] = str(epoch)
    return request(RequestCode.PULL_MESSAGE, ext)


def read_pull_answer(
    queue: MessageQueue, subscription: Subscription, answer: Command, address: str, broker_id: int
) -> tuple[PullResult, int]:
    """The result and the broker id that the answer suggests for the next pull.

    Messages whose tag the subscription does not want, which brokers cannot tell by the hash, are left out. Raises
    PullFailed for any code that is no pull status and for an answer that cannot be read.
    """
    status = PULL_STATUS.get(answer.code)
    if status is None:
        reason = f"{code_name(answer.code)}: {answer.remark}" if answer.remark else code_name(answer.code)
        raise PullFailed(f"pull of {queue}", address, answer.code, reason, Outcome.INFO)
    ext = answer.ext
    try:
        next_offset = int(ext["nextBeginOffset"])
        min_offset = int(ext["minOffset"])
        max_offset = int(ext["maxOffset"])
        suggested = int(ext["suggestWhichBrokerId"])
        epoch = int(ext["epoch"]) if "epoch" in ext else None
        stored = decode_records(answer.body) if status is PullStatus.FOUND else []
    except (KeyError, ValueError, RecordError) as error:
        reason = f"the answer cannot be read: {error!r}"
        raise PullFailed(f"pull of {queue}", address, LocalCode.GARBLED_REPLY, reason, Outcome.INFO) from None
    messages = tuple(
        from_stored(message, queue.broker_name)
        for message in stored
        if subscription.accepts(message.properties.get("TAGS", ""))
    )
    result = PullResult(status, queue, messages, next_offset, min_offset, max_offset, epoch, address, broker_id)
    return result, suggested
