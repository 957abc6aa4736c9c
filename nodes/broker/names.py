"""Names of topics and groups: what is allowed, which belong to the broker, and the derived retry and dead-letter names.

Sources: RocketMQ classes TopicValidator, MixAll and NamespaceUtil.
"""

from __future__ import annotations

import re

from nodes.dledger.records import SYSTEM_TOPIC
from nodes.limits import GROUP_NAME_MAX, TOPIC_NAME_MAX

__all__ = [
    "AUTO_CREATE_TOPIC",
    "DLQ_PREFIX",
    "RETRY_PREFIX",
    "SCHEDULE_TOPIC",
    "dead_letter_topic",
    "group_name_problem",
    "is_dead_letter_topic",
    "is_retry_topic",
    "retry_topic",
    "sendable_problem",
    "system_topics",
    "topic_name_problem",
]

RETRY_PREFIX = "%RETRY%"
DLQ_PREFIX = "%DLQ%"
AUTO_CREATE_TOPIC = "TBW102"
"""Its configuration is the template of topics that a send creates."""
SCHEDULE_TOPIC = "SCHEDULE_TOPIC_XXXX"
"""Holds delayed messages until they are due, one queue a delay level."""

_ALLOWED = re.compile(r"[%|a-zA-Z0-9_-]+")

_SYSTEM = (
    AUTO_CREATE_TOPIC,
    SCHEDULE_TOPIC,
    "BenchmarkTest",
    "OFFSET_MOVED_EVENT",
    "RMQ_SYS_BENCHMARK_TOPIC",
    SYSTEM_TOPIC,
    "RMQ_SYS_OFFSET_MOVED_EVENT",
    "RMQ_SYS_SCHEDULE_TOPIC",
    "RMQ_SYS_SELF_TEST_TOPIC",
    "RMQ_SYS_TRACE_TOPIC",
    "RMQ_SYS_TRANS_HALF_TOPIC",
    "RMQ_SYS_TRANS_OP_HALF_TOPIC",
    "SELF_TEST_TOPIC",
    "TRANS_CHECK_MAX_TIME_TOPIC",
    "rmq_sys_wheel_timer",
)
_NOT_SENDABLE = frozenset(
    {
        SCHEDULE_TOPIC,
        AUTO_CREATE_TOPIC,
        SYSTEM_TOPIC,
        "RMQ_SYS_SCHEDULE_TOPIC",
        "RMQ_SYS_TRANS_HALF_TOPIC",
        "RMQ_SYS_TRANS_OP_HALF_TOPIC",
        "TRANS_CHECK_MAX_TIME_TOPIC",
        "OFFSET_MOVED_EVENT",
        "RMQ_SYS_OFFSET_MOVED_EVENT",
        "RMQ_SYS_SELF_TEST_TOPIC",
        "rmq_sys_wheel_timer",
    }
)


def retry_topic(group: str) -> str:
    """Where a consumer group's failed messages wait to be consumed again."""
    return RETRY_PREFIX + group


def dead_letter_topic(group: str) -> str:
    """Where a consumer group's given-up messages lie."""
    return DLQ_PREFIX + group


def is_retry_topic(topic: str) -> bool:
    """True for the retry topic of some group."""
    return topic.startswith(RETRY_PREFIX)


def is_dead_letter_topic(topic: str) -> bool:
    """True for the dead-letter topic of some group."""
    return topic.startswith(DLQ_PREFIX)


def topic_name_problem(topic: str) -> str | None:
    """Why `topic` is not a valid name, or None."""
    return _problem("topic", topic, TOPIC_NAME_MAX)


def group_name_problem(group: str) -> str | None:
    """Why `group` is not a valid group name, or None."""
    return _problem("group", group, GROUP_NAME_MAX)


def _problem(what: str, name: str, longest: int) -> str | None:
    if not name:
        return f"the {what} name is empty"
    if len(name) > longest:
        return f"the {what} name has {len(name)} characters, {longest} are allowed"
    if _ALLOWED.fullmatch(name) is None:
        return f"the {what} name {name!r} holds characters other than letters, digits, % | _ -"
    return None


def sendable_problem(topic: str) -> str | None:
    """Why clients may not send to `topic`, or None. Only the broker itself writes to some system topics."""
    if topic in _NOT_SENDABLE:
        return f"the topic {topic} belongs to the broker; clients cannot send to it"
    return None


def system_topics(cluster: str, broker: str) -> list[str]:
    """Topics that are never users': fixed ones and those named after the cluster and the broker."""
    return [*_SYSTEM, cluster, broker, f"{cluster}_REPLY_TOPIC"]
