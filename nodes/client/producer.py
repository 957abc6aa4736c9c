"""The producer: single, batch, one-way and asynchronous sends, with every attempt visible in the result.

Source: RocketMQ class DefaultMQProducerImpl.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from nodes.client.client import Client
from nodes.client.exchange import CallEnded
from nodes.client.messages import COMPRESSED_ZLIB, Outgoing, compress, properties_text
from nodes.client.outcomes import RETRY_CODES, SEND_STATUS, LocalCode, code_name, write_outcome
from nodes.client.queues import DEFAULT_TOPIC, MessageQueue, is_retry_topic
from nodes.client.results import Attempt, CommandFailed, Outcome, SendFailed, SendResult, SendStatus
from nodes.client.selection import LatencyFaults, QueueRotation
from nodes.remoting.client import CallError
from nodes.remoting.codes import RequestCode
from nodes.remoting.command import Command, request
from nodes.remoting.message import BatchPart, RecordError, encode_batch

__all__ = ["TRANSPORT_CODES", "Producer", "QueueSelector"]

QueueSelector = Callable[[Sequence[MessageQueue]], MessageQueue]
"""Picks one of the topic's queues; what it picks by is the caller's."""

TRANSPORT_CODES = frozenset(
    {
        LocalCode.CONNECT_FAILED,
        LocalCode.TIMEOUT,
        LocalCode.CONNECTION_LOST,
        LocalCode.MASTER_MOVED,
        LocalCode.NOT_SENT,
    }
)
"""After these an asynchronous send is tried again, but never after a broker's answer (RocketMQ MQClientAPIImpl)."""

_SEND = int(RequestCode.SEND_MESSAGE_V2)
_SEND_BATCH = int(RequestCode.SEND_BATCH_MESSAGE)
_RETRY_PROPERTIES = frozenset({"RECONSUME_TIME", "MAX_RECONSUME_TIMES"})
_BATCH_PROPERTIES = "WAIT\x01true\x02"


class _Load:
    """What every attempt of one send has in common."""

    __slots__ = ("body", "code", "flag", "message_id", "properties", "retry", "sys_flag", "topic")

    def __init__(
        self, code: int, topic: str, body: bytes, properties: str, sys_flag: int, flag: int, message_id: str
    ) -> None:
        self.code = code
        self.topic = topic
        self.body = body
        self.properties = properties
        self.sys_flag = sys_flag
        self.flag = flag
        self.message_id = message_id
        self.retry: tuple[str, str] | None = None
        """Of a message to a retry topic: how often it was consumed again, and the most it may be."""


class Producer:
    """Sends messages under the name of a producer group. Any number of sends may be outstanding at a time."""

    def __init__(self, client: Client, group: str) -> None:
        self.client = client
        self.group = group
        self._config = client.config
        self._rotation = QueueRotation(client.rng.getrandbits(31))
        self._faults = LatencyFaults(client.config.latency_profile) if client.config.latency_fault_enable else None
        self._default_queue_nums = str(client.config.default_topic_queue_nums)
        client.add_producer(group)

    async def close(self) -> None:
        """Leave the producer group. What is outstanding goes on."""
        if self.client.remove_producer(self.group):
            await self.client.unregister(producer_group=self.group)

    async def send(
        self,
        topic: str,
        body: bytes,
        *,
        queue: MessageQueue | None = None,
        selector: QueueSelector | None = None,
        properties: Mapping[str, str] | None = None,
        tags: str = "",
        keys: Sequence[str] = (),
        delay_level: int = 0,
        flag: int = 0,
        wait_store_ok: bool = True,
        timeout_s: float | None = None,
        retries: int | None = None,
    ) -> SendResult:
        """Send one message and wait until a broker has stored it.

        `timeout_s` is the budget of all attempts. With `queue` or `selector` there is a single attempt, as in RocketMQ,
        unless `retries` says otherwise. Raises SendFailed.
        """
        load = self._load(
            topic,
            body,
            properties=properties,
            tags=tags,
            keys=keys,
            delay_level=delay_level,
            flag=flag,
            wait_store_ok=wait_store_ok,
        )
        if retries is None:
            retries = self._config.retries if queue is None and selector is None else 0
        return await self._deliver(load, queue, selector, timeout_s, retries, RETRY_CODES)

    def send_async(
        self,
        topic: str,
        body: bytes,
        *,
        queue: MessageQueue | None = None,
        selector: QueueSelector | None = None,
        properties: Mapping[str, str] | None = None,
        tags: str = "",
        keys: Sequence[str] = (),
        delay_level: int = 0,
        flag: int = 0,
        wait_store_ok: bool = True,
        timeout_s: float | None = None,
        retries: int | None = None,
    ) -> asyncio.Task[SendResult]:
        """As `send`, but returns at once; awaiting the task gives the result. Retries after transport errors only."""
        load = self._load(
            topic,
            body,
            properties=properties,
            tags=tags,
            keys=keys,
            delay_level=delay_level,
            flag=flag,
            wait_store_ok=wait_store_ok,
        )
        if retries is None:
            configured = self._config.retries if self._config.retry_async is None else self._config.retry_async
            retries = configured if queue is None and selector is None else 0
        return self.client.loop.create_task(self._deliver(load, queue, selector, timeout_s, retries, TRANSPORT_CODES))

    async def send_oneway(
        self,
        topic: str,
        body: bytes,
        *,
        queue: MessageQueue | None = None,
        selector: QueueSelector | None = None,
        properties: Mapping[str, str] | None = None,
        tags: str = "",
        keys: Sequence[str] = (),
        flag: int = 0,
        timeout_s: float | None = None,
    ) -> str:
        """Send without asking for an answer. Returns the message id once the bytes are on their way.

        Raises SendFailed if they certainly are not; that it returns says nothing about the message being stored.
        """
        load = self._load(topic, body, properties=properties, tags=tags, keys=keys, flag=flag)
        loop = self.client.loop
        started_s = loop.time()
        deadline_s = started_s + (self._config.send_timeout_s if timeout_s is None else timeout_s)
        target = await self._target(load, queue, selector, "", deadline_s)
        if isinstance(target, Attempt):
            raise SendFailed((target,), load.message_id)
        chosen, address = target
        command = self._command(load, chosen)
        command.flag = 2
        try:
            async with asyncio.timeout_at(deadline_s):
                await self.client.remoting.connect(address)
            await self.client.remoting.oneway(address, command)
        except (CallError, TimeoutError) as error:
            sent = isinstance(error, CallError) and error.sent
            code = LocalCode.CONNECTION_LOST if sent else LocalCode.CONNECT_FAILED
            self.client.queries.about_broker(chosen.broker_name, topic)
            attempt = self._attempt(chosen, address, code, str(error) or "no connection in time", started_s)
            raise SendFailed((attempt,), load.message_id) from None
        return load.message_id

    async def send_batch(
        self,
        topic: str,
        messages: Sequence[Outgoing],
        *,
        queue: MessageQueue | None = None,
        timeout_s: float | None = None,
        retries: int | None = None,
    ) -> SendResult:
        """Send several messages of one topic as one: all go to one queue with consecutive offsets, or none does.

        Raises SendFailed; also, certain, for an empty batch, a retry topic, a delay or too many bytes in all.
        """
        now_ms = self.client.clock.now_ms()
        ids = [self.client.unique_ids.next(now_ms) for _ in messages]
        joined = ",".join(ids)
        if not messages:
            raise self._refused(topic, LocalCode.NOT_ALLOWED, "a batch without messages", joined)
        if is_retry_topic(topic):
            raise self._refused(topic, LocalCode.NOT_ALLOWED, "retry topics take no batches", joined)
        if any("DELAY" in message.properties for message in messages):
            raise self._refused(topic, LocalCode.NOT_ALLOWED, "a batch cannot be delayed", joined)
        try:
            body = encode_batch(
                BatchPart(
                    message.flag,
                    message.body,
                    properties_text(message_id, tags=message.tags, keys=message.keys, properties=message.properties),
                )
                for message_id, message in zip(ids, messages, strict=True)
            )
        except RecordError as error:
            raise self._refused(topic, LocalCode.NOT_ALLOWED, str(error), joined) from None
        if len(body) > self._config.max_message_size:
            reason = f"batch of {len(body)} bytes, at most {self._config.max_message_size}"
            raise self._refused(topic, LocalCode.TOO_LARGE, reason, joined)
        load = _Load(_SEND_BATCH, topic, body, _BATCH_PROPERTIES, 0, 0, joined)
        if retries is None:
            retries = self._config.retries if queue is None else 0
        return await self._deliver(load, queue, None, timeout_s, retries, RETRY_CODES)

    # ---- one send --------------------------------------------------------------------------------------------------

    def _load(
        self,
        topic: str,
        body: bytes,
        *,
        properties: Mapping[str, str] | None = None,
        tags: str = "",
        keys: Sequence[str] = (),
        delay_level: int = 0,
        flag: int = 0,
        wait_store_ok: bool = True,
    ) -> _Load:
        client = self.client
        message_id = client.unique_ids.next(client.clock.now_ms())
        if properties is not None and "UNIQ_KEY" in properties:
            message_id = properties["UNIQ_KEY"]
            properties = {name: value for name, value in properties.items() if name != "UNIQ_KEY"}
        retry: tuple[str, str] | None = None
        if properties is not None and is_retry_topic(topic):
            # Brokers take these two from the header, as RocketMQ's clients send them.
            retry = properties.get("RECONSUME_TIME", "0"), properties.get("MAX_RECONSUME_TIMES", "16")
            properties = {name: value for name, value in properties.items() if name not in _RETRY_PROPERTIES}
        if len(body) > self._config.max_message_size:
            reason = f"body of {len(body)} bytes, at most {self._config.max_message_size}"
            raise self._refused(topic, LocalCode.TOO_LARGE, reason, message_id)
        try:
            text = properties_text(
                message_id,
                tags=tags,
                keys=keys,
                properties=properties,
                delay_level=delay_level,
                wait_store_ok=wait_store_ok,
            )
        except RecordError as error:
            raise self._refused(topic, LocalCode.NOT_ALLOWED, str(error), message_id) from None
        sys_flag = 0
        threshold = self._config.compress_over_bytes
        if threshold and len(body) >= threshold:
            body = compress(body)
            sys_flag = COMPRESSED_ZLIB
        load = _Load(_SEND, topic, body, text, sys_flag, flag, message_id)
        load.retry = retry
        return load

    async def _deliver(
        self,
        load: _Load,
        queue: MessageQueue | None,
        selector: QueueSelector | None,
        timeout_s: float | None,
        retries: int,
        retry_codes: frozenset[int],
    ) -> SendResult:
        loop = self.client.loop
        deadline_s = loop.time() + (self._config.send_timeout_s if timeout_s is None else timeout_s)
        attempts: tuple[Attempt, ...] = ()
        weak: SendResult | None = None
        while True:
            avoid = attempts[-1].broker_name if attempts else ""
            end = await self._try_once(load, queue, selector, avoid, deadline_s, attempts)
            if isinstance(end, SendResult):
                if end.status is SendStatus.SEND_OK or not self._config.retry_another_broker_when_not_store_ok:
                    return end
                weak, attempts = end, end.attempts
                again = True
            else:
                attempts = (*attempts, end)
                again = end.code in retry_codes
            if not again or len(attempts) > retries or loop.time() >= deadline_s:
                break
            if not isinstance(end, SendResult):
                await self._before_retry(load.topic, queue, end.broker_name, deadline_s)
        if weak is not None:
            return weak._replace(attempts=attempts)
        raise SendFailed(attempts, load.message_id)

    async def _try_once(
        self,
        load: _Load,
        queue: MessageQueue | None,
        selector: QueueSelector | None,
        avoid: str,
        deadline_s: float,
        before: tuple[Attempt, ...],
    ) -> SendResult | Attempt:
        """One attempt: stored, or how it ended otherwise."""
        client = self.client
        target = self._known_target(load.topic, queue, selector, avoid) or await self._target(
            load, queue, selector, avoid, deadline_s
        )
        if isinstance(target, Attempt):
            return target
        chosen, address = target
        started_s = client.loop.time()
        end: SendResult | Attempt
        try:
            answer = await client.exchange.call(
                chosen.broker_name,
                address,
                load.topic,
                self._command(load, chosen),
                deadline_s,
                self._config.route_query_after_s,
            )
        except CallEnded as ended:
            end = self._attempt(chosen, address, ended.code, ended.reason, started_s)
        else:
            status = SEND_STATUS.get(answer.code)
            if status is not None:
                end = self._result(load, chosen, address, answer, status, started_s, before)
            else:
                end = self._answered(chosen, address, answer, started_s)
                client.queries.heed(answer, chosen.broker_name, load.topic)
        if self._faults is not None:
            now_s = client.loop.time()
            failed = isinstance(end, Attempt)
            self._faults.record(chosen.broker_name, (now_s - started_s) * 1000, now_s, isolate=failed)
        return end

    def _known_target(
        self, topic: str, queue: MessageQueue | None, selector: QueueSelector | None, avoid: str
    ) -> tuple[MessageQueue, str] | None:
        """A queue and its master's address, if the routes known now give them."""
        routes = self.client.routes
        if queue is None:
            queues = routes.publish_queues(topic)
            if not queues:
                return None
            if selector is not None:
                queue = selector(queues)
            elif self._faults is None:
                queue = self._rotation.choose(queues, avoid=avoid)
            else:
                queue = self._rotation.choose(queues, faults=self._faults, now_s=self.client.loop.time())
        address = routes.master(queue.broker_name)
        return None if address is None else (queue, address)

    async def _target(
        self,
        load: _Load,
        queue: MessageQueue | None,
        selector: QueueSelector | None,
        avoid: str,
        deadline_s: float,
    ) -> tuple[MessageQueue, str] | Attempt:
        """Where the next attempt goes, asking for the route if needed, or an attempt that ended for lack of a place."""
        known = self._known_target(load.topic, queue, selector, avoid)
        if known is not None:
            return known
        failed = await self._ask(load.topic, queue, deadline_s)
        if failed is not None:
            return failed
        known = self._known_target(load.topic, queue, selector, avoid)
        if known is not None:
            return known
        now_s = self.client.loop.time()
        if queue is None and not self.client.routes.publish_queues(load.topic):
            reason = f"topic {load.topic} has no queue that can be written to"
            return Attempt("", "", -1, Outcome.FAIL, LocalCode.NO_ROUTE, reason, now_s, now_s)
        broker_name, queue_id = (queue.broker_name, queue.queue_id) if queue is not None else ("", -1)
        reason = f"no master of {broker_name or 'the chosen group'} is known"
        return Attempt("", broker_name, queue_id, Outcome.FAIL, LocalCode.BROKER_UNKNOWN, reason, now_s, now_s)

    async def _ask(self, topic: str, chosen: MessageQueue | None, deadline_s: float) -> Attempt | None:
        """Ask for the topic's route within the budget of a send. Returns the failed attempt if that gave nothing."""
        loop = self.client.loop
        started_s = loop.time()
        self.client.queries.use(topic)
        code: int
        try:
            async with asyncio.timeout_at(deadline_s):
                await self.client.queries.refresh(topic, borrow=self._config.auto_create_topics)
            return None
        except CommandFailed as error:
            code, reason = error.code, error.reason
            if code not in (LocalCode.NO_NAME_SERVER, LocalCode.CLOSED):
                code = LocalCode.NO_ROUTE
        except TimeoutError:
            code, reason = LocalCode.NO_NAME_SERVER, "no name server gave a route in the time given"
        broker_name, queue_id = (chosen.broker_name, chosen.queue_id) if chosen is not None else ("", -1)
        return Attempt("", broker_name, queue_id, Outcome.FAIL, code, reason, started_s, loop.time())

    async def _before_retry(self, topic: str, queue: MessageQueue | None, avoid: str, deadline_s: float) -> None:
        """If the next attempt can only go to the group that just failed, let the route query about it end first."""
        routes = self.client.routes
        if queue is None and any(q.broker_name != avoid for q in routes.publish_queues(topic)):
            return
        query = self.client.queries.about_broker(avoid, topic)
        if query is not None:
            left_s = min(self._config.name_server_timeout_s, deadline_s - self.client.loop.time())
            await asyncio.wait({query}, timeout=max(0.0, left_s))

    def _command(self, load: _Load, queue: MessageQueue) -> Command:
        command = request(
            load.code,
            {
                "a": self.group,
                "b": load.topic,
                "c": DEFAULT_TOPIC,
                "d": self._default_queue_nums,
                "e": str(queue.queue_id),
                "f": str(load.sys_flag),
                "g": str(self.client.clock.now_ms()),
                "h": str(load.flag),
                "i": load.properties,
                "j": "0",
                "k": "false",
                "m": "true" if load.code == _SEND_BATCH else "false",
                "n": queue.broker_name,
            },
            load.body,
        )
        if load.retry is not None:
            command.ext["j"], command.ext["l"] = load.retry
        return command

    def _result(
        self,
        load: _Load,
        queue: MessageQueue,
        address: str,
        answer: Command,
        status: SendStatus,
        started_s: float,
        before: tuple[Attempt, ...],
    ) -> SendResult | Attempt:
        ext = answer.ext
        ended_s = self.client.loop.time()
        try:
            queue_id = int(ext["queueId"])
            queue_offset = int(ext["queueOffset"])
            offset_message_id = ext["msgId"]
            epoch_text = ext.get("epoch")
            epoch = int(epoch_text) if epoch_text is not None else None
        except (KeyError, ValueError) as error:
            reason = f"a {status.value} that cannot be read: {error!r}"
            return self._attempt(queue, address, LocalCode.GARBLED_REPLY, reason, started_s)
        attempt = Attempt(address, queue.broker_name, queue_id, Outcome.OK, answer.code, status, started_s, ended_s)
        return SendResult(
            status,
            load.message_id,
            offset_message_id,
            queue.broker_name,
            queue_id,
            queue_offset,
            epoch,
            address,
            (*before, attempt) if before else (attempt,),
        )

    def _answered(self, queue: MessageQueue, address: str, answer: Command, started_s: float) -> Attempt:
        reason = f"{code_name(answer.code)}: {answer.remark}" if answer.remark else code_name(answer.code)
        return self._attempt(queue, address, answer.code, reason, started_s)

    def _attempt(self, queue: MessageQueue, address: str, code: int, reason: str, started_s: float) -> Attempt:
        return Attempt(
            address,
            queue.broker_name,
            queue.queue_id,
            write_outcome(code),
            int(code),
            reason,
            started_s,
            self.client.loop.time(),
        )

    def _refused(self, topic: str, code: LocalCode, reason: str, message_id: str) -> SendFailed:
        now_s = self.client.loop.time()
        return SendFailed((Attempt("", "", -1, Outcome.FAIL, code, f"{topic}: {reason}", now_s, now_s),), message_id)
