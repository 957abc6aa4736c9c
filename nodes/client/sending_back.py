"""Giving a message back to be consumed again: request 36, and a send to the retry topic when that is refused.

Sources: RocketMQ classes DefaultMQPushConsumerImpl.sendMessageBack and ConsumeMessageConcurrentlyService.
"""

from __future__ import annotations

from nodes.client.client import Client
from nodes.client.messages import Message
from nodes.client.producer import Producer
from nodes.client.queues import INNER_PRODUCER_GROUP, retry_topic
from nodes.client.results import CommandFailed, Outcome, SendFailed
from nodes.remoting.codes import RequestCode
from nodes.remoting.command import request
from nodes.remoting.message import MAX_RECONSUME_TIMES, ORIGIN_MESSAGE_ID, RECONSUME_TIME, RETRY_TOPIC

__all__ = ["SendingBack"]

FIRST_RETRY_LEVEL = 3
"""Delay level of the first try again, 10 s by default; each further one is a level higher."""


class SendingBack:
    """Gives messages of one group back."""

    def __init__(self, client: Client, group: str, limit: int) -> None:
        self._client = client
        self._group = group
        self._limit = limit
        self._producer: Producer | None = None

    async def send_back(self, message: Message, delay_level: int) -> Outcome:
        """Have the message delivered again later, or put it into %DLQ% if it was delivered too often.

        Returns ok when a broker has it, info when it may have it, fail when certainly none does; then the message must
        be consumed again here.
        """
        address = self._client.routes.master(message.broker_name)
        if address is not None:
            ext = {
                "offset": str(message.log_offset),
                "group": self._group,
                "delayLevel": str(delay_level),
                "originMsgId": message.offset_message_id,
                "originTopic": message.topic,
                "unitMode": "false",
                "maxReconsumeTimes": str(self._limit),
                "bname": message.broker_name,
            }
            command = request(RequestCode.CONSUMER_SEND_MSG_BACK, ext)
            try:
                await self._client.call_ok(address, command, broker_name=message.broker_name, topic=message.topic)
            except CommandFailed as error:
                self._client.log.event(
                    "send-back-failed", group=self._group, id=message.message_id, reason=error.reason
                )
            else:
                return Outcome.OK
        return await self._send_to_retry_topic(message)

    async def _send_to_retry_topic(self, message: Message) -> Outcome:
        if self._producer is None:
            self._producer = Producer(self._client, INNER_PRODUCER_GROUP)
        properties = {name: value for name, value in message.properties.items() if name not in _NOT_COPIED}
        properties[RETRY_TOPIC] = message.topic
        properties[RECONSUME_TIME] = str(message.reconsume_times + 1)
        properties[MAX_RECONSUME_TIMES] = str(self._limit)
        properties.setdefault(ORIGIN_MESSAGE_ID, message.offset_message_id)
        try:
            await self._producer.send(
                retry_topic(self._group),
                message.body,
                properties=properties,
                flag=message.flag,
                delay_level=FIRST_RETRY_LEVEL + message.reconsume_times,
            )
        except SendFailed as error:
            self._client.log.event("retry-send-failed", group=self._group, id=message.message_id, reason=str(error))
            return Outcome.FAIL if error.certain else Outcome.INFO
        return Outcome.OK


_NOT_COPIED = frozenset(
    {"WAIT", "DELAY", "MIN_OFFSET", "MAX_OFFSET", "CLUSTER", "REAL_TOPIC", "REAL_QID", "MSG_REGION", "TRACE_ON"}
)
"""Properties that belong to the first storing of a message, or that the send sets itself."""
