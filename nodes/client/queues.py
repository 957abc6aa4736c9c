"""Message queues, and the names RocketMQ derives from topics and groups."""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "DEFAULT_TOPIC",
    "DLQ_PREFIX",
    "INNER_PRODUCER_GROUP",
    "RETRY_PREFIX",
    "MessageQueue",
    "client_id",
    "dlq_topic",
    "is_retry_topic",
    "retry_topic",
]

DEFAULT_TOPIC = "TBW102"
"""The topic whose route stands in for a topic that does not exist yet (RocketMQ TopicValidator)."""

RETRY_PREFIX = "%RETRY%"
DLQ_PREFIX = "%DLQ%"

INNER_PRODUCER_GROUP = "CLIENT_INNER_PRODUCER"
"""The producer group under which a RocketMQ client sends its own retries; it is in every heartbeat."""


class MessageQueue(NamedTuple):
    """One queue of a topic on one broker group. Sorts as RocketMQ's MessageQueue does: topic, broker, number."""

    topic: str
    broker_name: str
    queue_id: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.broker_name}/{self.queue_id}"


def retry_topic(group: str) -> str:
    """The topic that holds a consumer group's messages to be consumed again."""
    return RETRY_PREFIX + group


def dlq_topic(group: str) -> str:
    """The topic that holds the messages a consumer group gave up on."""
    return DLQ_PREFIX + group


def is_retry_topic(topic: str) -> bool:
    """Whether a topic holds a group's messages to be consumed again."""
    return topic.startswith(RETRY_PREFIX)


def client_id(client_ip: str, instance: str, unit: str = "") -> str:
    """`ip@instance[@unit]`, the name under which a client heartbeats (RocketMQ ClientConfig.buildMQClientId)."""
    return f"{client_ip}@{instance}@{unit}" if unit else f"{client_ip}@{instance}"
