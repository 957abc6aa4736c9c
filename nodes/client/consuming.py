"""How pulled messages reach the listener: concurrently by a few workers, or in order, one queue at a time.

Sources: RocketMQ classes ConsumeMessageConcurrentlyService and ConsumeMessageOrderlyService.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from nodes.client.consumer_config import ConsumeResult, ConsumerHooks, Listener, MessageModel, PushConfig
from nodes.client.messages import Message
from nodes.client.offset_store import OffsetStore
from nodes.client.process_queue import ProcessQueue
from nodes.client.queues import MessageQueue
from nodes.client.results import Outcome
from nodes.client.sending_back import SendingBack
from nodes.log import EventLog

__all__ = ["Consuming", "Holding"]

TIMEOUT_LEVEL = 3
"""Delay level of messages whose listener took too long (RocketMQ ConsumeMessageConcurrentlyService.cleanExpireMsg)."""


class Holding:
    """A queue that this consumer reads at present."""

    __slots__ = ("arrived", "locked_until_s", "process", "queue", "room", "suggested", "task")

    def __init__(self, queue: MessageQueue, start_offset: int) -> None:
        self.queue = queue
        self.process = ProcessQueue(start_offset)
        self.suggested = 0
        """The broker id to pull from."""
        self.locked_until_s = 0.0
        """Orderly: until when the broker's lock certainly holds, in loop time."""
        self.task: asyncio.Task[None] | None = None
        self.arrived = asyncio.Event()
        """Messages came, or the lock."""
        self.room = asyncio.Event()
        """Messages were finished."""


class Consuming:
    """Feeds one consumer's listener."""

    def __init__(
        self,
        group: str,
        config: PushConfig,
        listener: Listener,
        offsets: OffsetStore,
        back: SendingBack,
        hooks: ConsumerHooks,
        log: EventLog,
    ) -> None:
        self._group = group
        self._config = config
        self._listener = listener
        self._offsets = offsets
        self._back = back
        self._hooks = hooks
        self._log = log
        self._work: asyncio.Queue[tuple[Holding, ProcessQueue, tuple[Message, ...]]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._later: dict[asyncio.TimerHandle, None] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self.busy = 0
        """Listener calls that run now."""

    def start(self) -> None:
        """Start the workers of a concurrent consumer; an orderly one has a task for each queue."""
        if not self._config.orderly:
            loop = asyncio.get_running_loop()
            self._tasks = [loop.create_task(self._worker()) for _ in range(self._config.workers)]

    async def stop(self) -> None:
        """Let running listener calls end, within the patience of the configuration, and begin no other."""
        while not self._work.empty():
            self._work.get_nowait()
        for handle in self._later:
            handle.cancel()
        try:
            async with asyncio.timeout(self._config.close_patience_s):
                await self._idle.wait()
        except TimeoutError:
            self._log.warning("listener-cancelled", group=self._group, calls=self.busy)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def submit(self, holding: Holding, messages: Sequence[Message]) -> None:
        """Have freshly pulled messages consumed."""
        if self._config.orderly:
            holding.arrived.set()
            return
        batch = self._config.batch
        for at in range(0, len(messages), batch):
            self._work.put_nowait((holding, holding.process, tuple(messages[at : at + batch])))

    def _begin(self) -> None:
        self.busy += 1
        self._idle.clear()

    def _end(self) -> None:
        self.busy -= 1
        if not self.busy:
            self._idle.set()

    async def _worker(self) -> None:
        while True:
            holding, process, messages = await self._work.get()
            if process.dropped:
                continue
            self._begin()
            try:
                await self._consume(holding, process, messages)
            finally:
                self._end()

    async def _consume(self, holding: Holding, process: ProcessQueue, messages: tuple[Message, ...]) -> None:
        result, level = await self._listen(messages)
        self._hooks.on_handled(holding.queue, messages, result)
        finished = messages
        if result is ConsumeResult.LATER and self._config.model is MessageModel.CLUSTERING:
            kept = [m for m in messages if not process.dropped and not await self._give_back(holding, m, level)]
            if kept:
                finished = tuple(m for m in messages if m not in kept)
                self._again_here(holding, process, tuple(kept))
        elif result is ConsumeResult.LATER:
            self._log.warning("broadcast-message-dropped", group=self._group, ids=[m.message_id for m in messages])
        self._finish(holding, process, finished)

    def _finish(self, holding: Holding, process: ProcessQueue, messages: Sequence[Message]) -> None:
        offset = process.finish(messages)
        holding.room.set()
        if not process.dropped:
            self._offsets.pending.update(holding.queue, offset, increase_only=True)

    async def _give_back(self, holding: Holding, message: Message, level: int) -> bool:
        """Whether a broker has the message, or may have it, to be delivered again."""
        outcome = await self._back.send_back(message, level)
        self._hooks.on_sent_back(holding.queue, message, outcome)
        # An unknown outcome is tried again here: consumed twice is allowed, skipped is not.
        return outcome is Outcome.OK

    def _again_here(self, holding: Holding, process: ProcessQueue, messages: tuple[Message, ...]) -> None:
        """No broker took the messages: consume them again after a pause."""
        for message in messages:
            message.reconsume_times += 1
        loop = asyncio.get_running_loop()

        def again() -> None:
            self._later.pop(handle, None)
            self._work.put_nowait((holding, process, messages))

        handle = loop.call_later(self._config.local_retry_s, again)
        self._later[handle] = None

    async def _listen(self, messages: tuple[Message, ...]) -> tuple[ConsumeResult, int]:
        """Call the listener. Returns its result and the delay level for messages that are to come again."""
        unreadable = next((m.body_error for m in messages if m.body_error), "")
        if unreadable:
            self._log.warning("message-unreadable", group=self._group, reason=unreadable)
            return ConsumeResult.LATER, self._config.delay_level
        try:
            async with asyncio.timeout(self._config.consume_timeout_s):
                return await self._listener(messages), self._config.delay_level
        except TimeoutError:
            self._log.warning("listener-timeout", group=self._group, after_s=self._config.consume_timeout_s)
            return ConsumeResult.LATER, TIMEOUT_LEVEL
        except Exception as error:
            # The listener is the application's: what it raises concerns these messages only.
            self._log.warning("listener-failed", group=self._group, reason=f"{type(error).__name__}: {error}")
            return ConsumeResult.LATER, self._config.delay_level

    async def consume_in_order(self, holding: Holding, still_mine: Callable[[Holding], bool]) -> None:
        """One queue of an orderly consumer, until it is dropped. `still_mine` says whether its lock holds."""
        while True:
            process = holding.process
            if process.dropped:
                return
            messages = process.take(self._config.batch) if still_mine(holding) else ()
            if not messages:
                holding.arrived.clear()
                if process.count == 0 or still_mine(holding):
                    await holding.arrived.wait()
                else:
                    await asyncio.sleep(self._config.suspend_s)
                continue
            self._begin()
            try:
                result, _ = await self._listen(messages)
                self._hooks.on_handled(holding.queue, messages, result)
                if result is ConsumeResult.SUCCESS or self._config.model is MessageModel.BROADCASTING:
                    self._finish(holding, process, messages)
                    continue
                await self._suspend(holding, process, messages)
            finally:
                self._end()
            await asyncio.sleep(self._config.suspend_s)

    async def _suspend(self, holding: Holding, process: ProcessQueue, messages: tuple[Message, ...]) -> None:
        """Keep messages to be tried again in order; those tried too often go to the dead-letter topic."""
        kept = []
        dead = []
        for message in messages:
            if message.reconsume_times >= self._config.reconsume_limit:
                if await self._give_back(holding, message, -1):
                    dead.append(message)
                    continue
            else:
                message.reconsume_times += 1
            kept.append(message)
        process.give_back(kept)
        if dead:
            self._finish(holding, process, dead)
