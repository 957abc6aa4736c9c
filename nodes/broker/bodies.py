"""The JSON bodies of requests and responses, and writers for the forms that Java emits.

Sources: RocketMQ packages protocol.body and protocol.heartbeat. Maps with a queue as key are written with the bare
object as key, as Java writes and reads them; everything else is strict JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from nodes.broker.locks import QueueName
from nodes.broker.subscription import Subscription

__all__ = [
    "BodyError",
    "CheckClientConfig",
    "ConsumerData",
    "Heartbeat",
    "LockBody",
    "ProducerData",
    "QueueJson",
    "bare_key_map",
    "decode",
    "encode",
]


class BodyError(ValueError):
    """A request body that cannot be read; the text says why."""


class ProducerData(msgspec.Struct, frozen=True, rename="camel"):
    """A producer group in a heartbeat."""

    group_name: str


class ConsumerData(msgspec.Struct, frozen=True, rename="camel"):
    """A consumer group in a heartbeat."""

    group_name: str
    consume_type: str | None = "CONSUME_PASSIVELY"
    message_model: str | None = "CLUSTERING"
    consume_from_where: str | None = "CONSUME_FROM_LAST_OFFSET"
    subscription_data_set: list[Subscription] = []
    unit_mode: bool = False


class Heartbeat(
    msgspec.Struct,
    frozen=True,
    rename={
        "client_id": "clientID",
        "producer_data_set": "producerDataSet",
        "consumer_data_set": "consumerDataSet",
        "without_sub": "withoutSub",
    },
):
    """Everything that a client does on this broker."""

    client_id: str
    producer_data_set: list[ProducerData] = []
    consumer_data_set: list[ConsumerData] = []
    without_sub: bool = False
    """The 5.x short form, which repeats an earlier heartbeat without its subscriptions."""


class QueueJson(msgspec.Struct, frozen=True, rename="camel"):
    """A queue as clients write it."""

    topic: str
    broker_name: str
    queue_id: int

    def name(self) -> QueueName:
        """The same as a table key."""
        return QueueName(self.topic, self.broker_name, self.queue_id)


class LockBody(msgspec.Struct, frozen=True, rename="camel"):
    """Request to lock or unlock queues for orderly consumption."""

    consumer_group: str
    client_id: str
    mq_set: list[QueueJson] = []


class CheckClientConfig(msgspec.Struct, frozen=True, rename="camel"):
    """Question whether this broker can serve a subscription."""

    client_id: str
    group: str
    subscription_data: Subscription


_Model = TypeVar("_Model", bound=msgspec.Struct)
_encode = msgspec.json.Encoder().encode


def decode(body: bytes, model: type[_Model]) -> _Model:
    """Read a JSON body. Raises BodyError."""
    try:
        return msgspec.json.decode(body, type=model)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BodyError(f"the body is not a {model.__name__}: {error}") from None


def encode(value: object) -> bytes:
    """Write strict JSON."""
    return _encode(value)


def bare_key_map(entries: Iterable[tuple[QueueName, object]]) -> msgspec.Raw:
    """`{{queue}:value,...}`: a map with queues as keys, in the form Java emits and reads."""
    parts = [
        _encode({"brokerName": queue.broker_name, "queueId": queue.queue_id, "topic": queue.topic})
        + b":"
        + _encode(value)
        for queue, value in entries
    ]
    return msgspec.Raw(b"{" + b",".join(parts) + b"}")
