"""The one table that says what an answer, or the lack of one, proves about a write.

`ok` it happened; `fail` it certainly did not and never will; `info` nobody can say. `fail` is a claim of impossibility,
so each such row names what the broker does before the message could reach its log. Everything else, and every code that
is not in the table, is `info`. A timeout is never `fail`.

Sources: RocketMQ classes SendMessageProcessor, AbstractSendMessageProcessor, NettyRemotingAbstract, DefaultMessageStore
and DLedgerCommitLog.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from nodes.client.results import CommandFailed, Outcome, SendStatus
from nodes.remoting.codes import ResponseCode, response_name
from nodes.remoting.command import Command

__all__ = [
    "NOT_MASTER_CODES",
    "RETRY_CODES",
    "SEND_STATUS",
    "WRITE_OUTCOMES",
    "LocalCode",
    "code_name",
    "refused",
    "write_outcome",
]

R = ResponseCode


class LocalCode(IntEnum):
    """Ends that no broker sent. The first five are RocketMQ's ClientErrorCode; the others follow on."""

    CONNECT_FAILED = 10001
    TIMEOUT = 10002
    BROKER_UNKNOWN = 10003
    NO_NAME_SERVER = 10004
    NO_ROUTE = 10005
    CONNECTION_LOST = 10101
    MASTER_MOVED = 10102
    GARBLED_REPLY = 10103
    TOO_LARGE = 10104
    NOT_ALLOWED = 10105
    TOO_MANY_OUTSTANDING = 10106
    CLOSED = 10107
    NOT_SENT = 10108


SEND_STATUS: Final[dict[int, SendStatus]] = {
    R.SUCCESS: SendStatus.SEND_OK,
    R.FLUSH_DISK_TIMEOUT: SendStatus.FLUSH_DISK_TIMEOUT,
    R.SLAVE_NOT_AVAILABLE: SendStatus.SLAVE_NOT_AVAILABLE,
    R.FLUSH_SLAVE_TIMEOUT: SendStatus.FLUSH_SLAVE_TIMEOUT,
}
"""The answers that say the message is stored, and how well (RocketMQ SendStatus)."""

_OK, _FAIL, _INFO = Outcome.OK, Outcome.FAIL, Outcome.INFO

WRITE_OUTCOMES: Final[dict[int, Outcome]] = {
    # Stored. Only the first is a promise; the other three are stored with a weaker one.
    R.SUCCESS: _OK,
    R.FLUSH_DISK_TIMEOUT: _OK,
    R.SLAVE_NOT_AVAILABLE: _OK,
    R.FLUSH_SLAVE_TIMEOUT: _OK,
    # Any exception of a processor, before or after the append; 5.x also sends it when a DLedger entry waited in vain.
    R.SYSTEM_ERROR: _INFO,
    # Mostly flow control before the append, but DLedgerCommitLog also sends it for an entry that was appended and whose
    # quorum did not answer in time; the two cannot be told apart by the code.
    R.SYSTEM_BUSY: _INFO,
    # NettyRemotingAbstract found no processor for the request code: nothing looked at the message.
    R.REQUEST_CODE_NOT_SUPPORTED: _FAIL,
    # Sent about the second phase of a transaction, whose half message is stored.
    R.TRANSACTION_FAILED: _INFO,
    # Size limits and bad batches are checked while the record is encoded, before the append.
    R.MESSAGE_ILLEGAL: _FAIL,
    # Store closed, disk full, a slave, or not the DLedger leader: all checked before the append.
    R.SERVICE_NOT_AVAILABLE: _FAIL,
    # No send path is known to answer so.
    R.VERSION_NOT_SUPPORTED: _INFO,
    # Permissions of broker and topic are checked first (AbstractSendMessageProcessor.msgCheck).
    R.NO_PERMISSION: _FAIL,
    # The topic is looked up, and created if allowed, before the record is built (msgCheck).
    R.TOPIC_NOT_EXIST: _FAIL,
    R.TOPIC_EXIST_ALREADY: _INFO,
    # Answers to pulls and queries. On a write they mean that the peer is not what it seems.
    R.PULL_NOT_FOUND: _INFO,
    R.PULL_RETRY_IMMEDIATELY: _INFO,
    R.PULL_OFFSET_MOVED: _INFO,
    R.QUERY_NOT_FOUND: _INFO,
    R.SUBSCRIPTION_PARSE_FAILED: _INFO,
    R.SUBSCRIPTION_NOT_EXIST: _INFO,
    R.SUBSCRIPTION_NOT_LATEST: _INFO,
    # A send to a retry topic, and code 36, look the group up before they build the record (handleRetryAndDLQ).
    R.SUBSCRIPTION_GROUP_NOT_EXIST: _FAIL,
    R.FILTER_DATA_NOT_EXIST: _INFO,
    R.FILTER_DATA_NOT_LATEST: _INFO,
    # 5.x: bad topic name or queue number, checked before the record is built (msgCheck).
    R.INVALID_PARAMETER: _FAIL,
    # Transaction states: the half message is stored.
    R.TRANSACTION_SHOULD_COMMIT: _INFO,
    R.TRANSACTION_SHOULD_ROLLBACK: _INFO,
    R.TRANSACTION_STATE_UNKNOW: _INFO,
    R.TRANSACTION_STATE_GROUP_WRONG: _INFO,
    # In RocketMQ's retry list, yet no open-source broker sends them: where they come from they may follow an append.
    R.NO_BUYER_ID: _INFO,
    R.NOT_IN_CURRENT_UNIT: _INFO,
    # Answers about consumers.
    R.CONSUMER_NOT_ONLINE: _INFO,
    R.CONSUME_MSG_TIMEOUT: _INFO,
    R.NO_MESSAGE: _INFO,
    R.POLLING_FULL: _INFO,
    R.POLLING_TIMEOUT: _INFO,
    R.BROKER_NOT_EXIST: _INFO,
    R.BROKER_DISPATCH_NOT_COMPLETE: _INFO,
    R.BROADCAST_CONSUMPTION: _INFO,
    R.FLOW_CONTROL: _INFO,
    # Static topics: the mapping is consulted before the request reaches the send path (rewriteRequestForStaticTopic).
    R.NOT_LEADER_FOR_QUEUE: _FAIL,
    R.ILLEGAL_OPERATION: _INFO,
    # 5.3: a server that shuts down answers so instead of giving the request to a processor (NettyRemotingAbstract).
    R.GO_AWAY: _FAIL,
    # Controller answers never concern a message.
    R.CONTROLLER_FENCED_MASTER_EPOCH: _INFO,
    R.CONTROLLER_FENCED_SYNC_STATE_SET_EPOCH: _INFO,
    R.CONTROLLER_INVALID_MASTER: _INFO,
    R.CONTROLLER_INVALID_REPLICAS: _INFO,
    R.CONTROLLER_MASTER_NOT_AVAILABLE: _INFO,
    R.CONTROLLER_INVALID_REQUEST: _INFO,
    R.CONTROLLER_BROKER_NOT_ALIVE: _INFO,
    R.CONTROLLER_NOT_LEADER: _INFO,
    R.CONTROLLER_BROKER_METADATA_NOT_EXIST: _INFO,
    R.CONTROLLER_INVALID_CLEAN_BROKER_METADATA: _INFO,
    R.CONTROLLER_BROKER_NEED_TO_BE_REGISTERED: _INFO,
    R.CONTROLLER_MASTER_STILL_EXIST: _INFO,
    R.CONTROLLER_ELECT_MASTER_FAILED: _INFO,
    R.CONTROLLER_ALTER_SYNC_STATE_SET_FAILED: _INFO,
    R.CONTROLLER_BROKER_ID_INVALID: _INFO,
    R.CONTROLLER_JRAFT_INTERNAL_ERROR: _INFO,
    R.CONTROLLER_BROKER_LIVE_INFO_NOT_EXISTS: _INFO,
    R.USER_NOT_EXIST: _INFO,
    R.POLICY_NOT_EXIST: _INFO,
    # Ends without an answer.
    # The TCP connection was refused or did not come about: no byte of the request left.
    LocalCode.CONNECT_FAILED: _FAIL,
    # The request may be on its way, executed, or its answer lost.
    LocalCode.TIMEOUT: _INFO,
    LocalCode.CONNECTION_LOST: _INFO,
    # The route named another master while the answer was outstanding: the old one may have stored the message.
    LocalCode.MASTER_MOVED: _INFO,
    # An answer that cannot be understood, such as a success without an offset.
    LocalCode.GARBLED_REPLY: _INFO,
    # The client refused, or gave up before it wrote a byte.
    LocalCode.BROKER_UNKNOWN: _FAIL,
    LocalCode.NO_NAME_SERVER: _FAIL,
    LocalCode.NO_ROUTE: _FAIL,
    LocalCode.TOO_LARGE: _FAIL,
    LocalCode.NOT_ALLOWED: _FAIL,
    LocalCode.TOO_MANY_OUTSTANDING: _FAIL,
    LocalCode.CLOSED: _FAIL,
    LocalCode.NOT_SENT: _FAIL,
}

RETRY_CODES: Final[frozenset[int]] = frozenset(
    {
        R.SYSTEM_ERROR,
        R.SYSTEM_BUSY,
        R.SERVICE_NOT_AVAILABLE,
        R.NO_PERMISSION,
        R.TOPIC_NOT_EXIST,
        R.NO_BUYER_ID,
        R.NOT_IN_CURRENT_UNIT,
        R.GO_AWAY,
        LocalCode.CONNECT_FAILED,
        LocalCode.TIMEOUT,
        LocalCode.CONNECTION_LOST,
        LocalCode.MASTER_MOVED,
        LocalCode.BROKER_UNKNOWN,
        LocalCode.NOT_SENT,
    }
)
"""After these a further attempt is made while the budget lasts (RocketMQ 5.x DefaultMQProducer.retryResponseCodes)."""

NOT_MASTER_CODES: Final[frozenset[int]] = frozenset({R.SERVICE_NOT_AVAILABLE, R.SYSTEM_BUSY})
"""How a broker that is not a master answers a send: 14 in 4.9, 2 in 5.x. The route is asked for at once."""


def write_outcome(code: int) -> Outcome:
    """What `code`, a response code or a LocalCode, proves about a write."""
    return WRITE_OUTCOMES.get(code, Outcome.INFO)


_LOCAL_NAMES: Final[dict[int, str]] = {code.value: code.name for code in LocalCode}


def code_name(code: int) -> str:
    """The name of a response code or a LocalCode, or its number as text."""
    return _LOCAL_NAMES.get(code) or response_name(code)


def refused(what: str, address: str, answer: Command) -> CommandFailed:
    """The failure that an answer with a code other than success amounts to."""
    reason = f"{code_name(answer.code)}: {answer.remark}" if answer.remark else code_name(answer.code)
    return CommandFailed(what, address, answer.code, reason, write_outcome(answer.code))
