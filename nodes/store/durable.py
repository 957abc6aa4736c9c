"""How the bytes of a store live: written, flushed, made visible, checkpointed, expired.

`MessageStore` adds what they mean. The rule that everything acknowledges by is here and nowhere else: `written_end` and
`flushed_end` say how far the log has come, and neither ever moves before the operating system said so.

The first failed write or sync is final: the store refuses everything that follows and `flushed_end` never moves again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from nodes.clock import Clock
from nodes.flaws import Flaw
from nodes.log import EventLog
from nodes.store import opening
from nodes.store.checkpoint import FlushMark
from nodes.store.commit_log import CommitLog, Segment
from nodes.store.consume_queue import SPILL_BYTES, ConsumeQueue, FileCache
from nodes.store.disk import Disk
from nodes.store.errors import Refusal, StoreFailed, StoreRefused
from nodes.store.key_index import KeyIndex
from nodes.store.queue_set import QueueSet
from nodes.store.reading import Reader
from nodes.store.results import Recovery
from nodes.store.retention import Retention
from nodes.store.settings import StoreConfig

CHECKPOINT_BYTES: Final = 64 << 20
"""Log bytes after which a checkpoint is due: the most that a start has to index anew."""
SPILL_LOG_BYTES: Final = 1 << 20
"""Log bytes after which entries held in memory go to their files, where a queue has enough of them."""

Dispatch = Callable[[str, int, int, int, int], None]


class DurableStore:
    """Files of one store and their state. All methods belong to the event loop's thread."""

    def __init__(
        self,
        disk: Disk,
        config: StoreConfig,
        clock: Clock,
        log: EventLog,
        flaws: frozenset[Flaw] = frozenset(),
    ) -> None:
        self._disk = disk
        self.config = config
        self._clock = clock
        self._events = log
        self._flaws = flaws
        self._files = FileCache(disk)
        self._log = CommitLog(disk, config.commit_log_folder, config.segment_size)
        self._queues = QueueSet(disk, config, self._files)
        self._keys = KeyIndex(f"{config.root}/index", self._files, config.segment_size)
        self._mark = FlushMark(disk, f"{config.root}/checkpoint")
        self._reader = Reader(self._log, self._queues, self._keys)
        self._retention = Retention(disk, config, self._log)

        self.written_end = 0
        """Log offset behind the last byte handed to the operating system: survives the death of this process."""
        self.flushed_end = 0
        """Log offset behind the last byte known to be on stable storage: survives power loss."""
        self.visible_end = 0
        """Log offset up to which messages can be read by queue."""
        self.failed: str | None = None
        """Why the store gave up, None while it works."""
        self.on_dispatch: Dispatch | None = None
        """Called for each message that becomes readable: topic, queue, next offset, tags code, store timestamp."""
        self.on_failed: Callable[[str], None] | None = None
        """Called once when the store gives up."""
        self.on_flushed: Callable[[int], None] | None = None
        """Called with `flushed_end` when it has moved."""

        self._open = False
        self._disk_full = False
        self._chunks: list[bytes] = []
        self._append_end = 0
        self._segment_end = config.segment_size
        self._partial = bytearray()
        self._hidden: deque[tuple[int, ConsumeQueue, int, int, int]] = deque()
        self._unlisted_end = 0
        """`committed_only`: entries below this log offset were found at start; `_hidden` does not list them."""
        self._spilled_end = 0
        self._dispatched = 0
        self._generation = 0
        self._syncing: tuple[list[Segment], list[str]] | None = None
        self._sync_lock: asyncio.Lock | None = None
        self._checkpoint_lock: asyncio.Lock | None = None

    # ---- life ------------------------------------------------------------------------------------------------------

    def open(self, committed: int = 0) -> Recovery:
        """Load the files, repair the tail, fill the queues. Everything found is durable when it returns.

        `committed` counts under `committed_only`: a log offset that is known to be committed; what lies behind it stays
        hidden. Raises StoreCorrupt (refuses to start), DiskLocked, OSError.
        """
        found = opening.open_store(
            self._disk,
            self.config,
            self._log,
            self._queues,
            self._keys,
            self._mark,
            check_crc=Flaw.SKIP_CRC not in self._flaws,
        )
        self._dispatched = found.end
        self._set_end(found.end)
        self.flushed_end = self.visible_end = found.end
        self._open = True
        if self.config.committed_only:
            self._hide_from(committed)
        self._check_disk()
        report = self._events.error if found.lost_flushed else self._events.event
        report(
            "store-recovered",
            clean=found.clean,
            begin=found.begin,
            end=found.end,
            checked=found.checked,
            dispatched=found.dispatched,
            cut=found.cut,
            lost_flushed=found.lost_flushed,
            rebuilt=found.rebuilt,
        )
        return found

    def close(self) -> None:
        """Write, sync and checkpoint everything, then release the store. After a failure it only releases."""
        if not self._open:
            return
        self._open = False
        try:
            if self.failed is None:
                self._sync_now()
                self._log.end_filling()
                self._checkpoint_now()
                self._mark.write_durably(self.flushed_end)
                opening.remove_abort_file(self._disk, self.config)
        except OSError as error:
            self._fail("close", error)
        finally:
            self._disk.settle()  # a worker thread may still use the files
            self._mark.close()
            self._log.close()
            self._files.close()
            opening.unlock(self._disk, self.config)

    def _set_end(self, end: int) -> None:
        """Everything in memory is gone; the log goes on at `end`."""
        self._chunks.clear()
        self._partial.clear()
        self._hidden.clear()
        self.written_end = self._append_end = end
        self._segment_end = end - end % self.config.segment_size + self.config.segment_size

    def _fail(self, doing: str, error: OSError) -> StoreFailed:
        if self.failed is None:
            self.failed = f"{doing}: {error}"
            self._events.error("store-failed", doing=doing, error=str(error), flushed=self.flushed_end)
            if self.on_failed is not None:
                self.on_failed(self.failed)
        return StoreFailed(self.failed)

    def _refuse_if_unusable(self) -> None:
        if self.failed is not None:
            raise StoreRefused(Refusal.FAILED, self.failed)
        if not self._open:
            raise StoreRefused(Refusal.CLOSED)

    # ---- writing, syncing -----------------------------------------------------------------------------------------

    def write_pending(self) -> int:
        """Write what was appended, with one call; returns `written_end`. Raises StoreFailed."""
        if not self._chunks:
            return self.written_end
        if self.failed is not None:
            raise StoreFailed(self.failed)
        try:
            self._write_chunks()
        except OSError as error:
            raise self._fail("write", error) from error
        return self.written_end

    def _write_chunks(self) -> None:
        if self._chunks:
            data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            self._log.write(data)
            self._chunks.clear()
            self._written(self._append_end)

    def _written(self, end: int) -> None:
        self.written_end = end
        if not self.config.sync_flush and not self.config.committed_only:
            self._show(end)
        elif Flaw.REPLY_BEFORE_FSYNC in self._flaws:
            self.flushed_end = end  # planted: REPLY_BEFORE_FSYNC
            if not self.config.committed_only:
                self._show(end)
        if Flaw.READ_ABOVE_COMMIT in self._flaws:
            self._show(end)  # planted: READ_ABOVE_COMMIT
        if end - self._spilled_end > SPILL_LOG_BYTES:
            self._spilled_end = end
            self._queues.spill(SPILL_BYTES)
            self._keys.spill()

    def _show(self, end: int) -> None:
        """Make the messages below `end` readable and tell who waits for them."""
        hidden = self._hidden
        told = self.on_dispatch
        if self._unlisted_end > self.visible_end:
            for queue in self._queues.by_name.values():
                queue.visible = max(queue.visible, queue.first_at(end))
        while hidden and hidden[0][0] <= end:
            _, queue, next_offset, tags, stored = hidden.popleft()
            queue.visible = next_offset
            if told is not None:
                told(queue.topic, queue.queue_id, next_offset, tags, stored)
        self.visible_end = end

    def show_committed(self, end: int) -> None:
        """The group has committed the log up to `end`: what is written of it becomes readable (`committed_only`)."""
        end = min(end, self.written_end)
        if end > self.visible_end:
            self._show(end)

    def _hide_from(self, committed: int) -> None:
        """Right after the start everything is readable: hide what may not be committed. Raises OSError."""
        self._unlisted_end = self.written_end
        self.visible_end = min(max(committed, self._log.begin), self.written_end)
        for queue in self._queues.by_name.values():
            queue.visible = queue.first_at(self.visible_end)

    async def sync(self) -> int:
        """Make everything written so far durable; returns `flushed_end`. Callers that overlap share the work.

        Raises StoreFailed; then nothing counts as flushed any more.
        """
        target = self.written_end
        if self._sync_lock is None:
            self._sync_lock = asyncio.Lock()
        async with self._sync_lock:
            if self.failed is not None:
                raise StoreFailed(self.failed)
            segments, folders = self._log.take_dirty()
            if not segments and not folders:
                return self.flushed_end
            target = self.written_end
            generation = self._generation
            self._syncing = (segments, folders)
            try:
                await self._disk.sync_async([s.file for s in segments if s.file is not None], folders)
            except OSError as error:
                if not self._open:
                    return self.flushed_end  # `close` has seen to these bytes itself
                if Flaw.IGNORE_FSYNC_ERROR not in self._flaws:  # planted: IGNORE_FSYNC_ERROR
                    raise self._fail("sync", error) from error
            except BaseException:
                self._log.put_back_dirty(segments, folders)
                raise
            finally:
                self._log.synced(segments)
                self._syncing = None
            if self.failed is not None:
                raise StoreFailed(self.failed)
            if generation == self._generation and self._open:  # else a cut or `close` has settled it meanwhile
                try:
                    self._flushed(target)
                except OSError as error:
                    raise self._fail("write", error) from error
            return self.flushed_end

    def sync_now(self) -> None:
        """`sync`, blocking. Raises StoreFailed."""
        if self.failed is not None:
            raise StoreFailed(self.failed)
        try:
            self._sync_now()
        except OSError as error:
            raise self._fail("sync", error) from error

    def _sync_now(self) -> None:
        self._settle()
        self._write_chunks()
        self._log.sync_now()
        self._flushed(self.written_end)

    def now_ms(self) -> int:
        """The time that stored messages are stamped with, in ms."""
        return self._clock.now_ms()

    @property
    def disk_full(self) -> bool:
        """Appends are refused: the file system is fuller than diskSpaceWarningLevelRatio."""
        return self._disk_full

    def _settle(self) -> None:
        """Wait for a sync under way. Whether it succeeds is not known here, so its bytes are to be synced once more.

        Raises OSError.
        """
        self._disk.settle()
        if self._syncing is not None:
            self._log.put_back_dirty(*self._syncing)
            self._log.rewrite(max(self.flushed_end, self._log.begin))

    def _flushed(self, end: int) -> None:
        """The log is on stable storage up to `end`."""
        if end > self.flushed_end:
            self.flushed_end = end
        if end > self._mark.flushed:
            self._mark.write(end)
        if self.config.sync_flush and not self.config.committed_only:
            self._show(end)
        if self.on_flushed is not None:
            self.on_flushed(self.flushed_end)

    # ---- checkpoint, retention -------------------------------------------------------------------------------------

    @property
    def checkpoint_due(self) -> bool:
        """Whether so much was written since the last checkpoint that a start would take noticeably longer."""
        return self.visible_end - self._dispatched >= CHECKPOINT_BYTES

    async def checkpoint(self) -> None:
        """Sync the queues and the key index, so that a start after a crash begins here. Not needed for safety.

        Raises StoreFailed.
        """
        if self._checkpoint_lock is None:
            self._checkpoint_lock = asyncio.Lock()
        async with self._checkpoint_lock:
            self._refuse_if_unusable()
            generation = self._generation
            try:
                dispatched, state, paths, folders = self._checkpoint_state()
                await self.sync()
                await self._disk.sync_paths_async(paths, folders)
                if generation == self._generation and self._open:
                    await self._disk.replace_atomically_async(self._queues.state_path, state)
                    if generation == self._generation:
                        self._dispatched = dispatched
            except OSError as error:
                raise self._fail("checkpoint", error) from error

    def _checkpoint_state(self) -> tuple[int, bytes, list[str], list[str]]:
        self._queues.spill()
        # entries of messages that are not readable yet do not count: after a crash they are made again
        state = self._queues.state(self.visible_end, self._keys.position_at(self.visible_end))
        paths, folders = self._queues.take_dirty()
        if self._keys.dirty_paths:
            paths.extend(sorted(self._keys.dirty_paths))
            folders.append(self._keys.folder)
            self._keys.dirty_paths.clear()
        return self.visible_end, state, paths, folders

    def checkpoint_now(self) -> None:
        """`checkpoint`, blocking. Raises StoreFailed."""
        self._refuse_if_unusable()
        try:
            self._disk.settle()
            self._checkpoint_now()
        except OSError as error:
            raise self._fail("checkpoint", error) from error

    def _checkpoint_now(self) -> None:
        """The same, blocking. Raises OSError."""
        self._dispatched, state, paths, folders = self._checkpoint_state()
        opening.save_state(self._disk, self._files, self._queues, state, paths, folders)

    def _check_disk(self) -> None:
        full = self._retention.is_full()
        if full != self._disk_full:
            self._events.warning("disk-full" if full else "disk-usable", ratio=self._retention.used_ratio)
        self._disk_full = full

    def retain(self, now_ms: int, before: Callable[[int], bool] | None = None) -> list[str]:
        """Delete commit-log files whose messages are old enough, and what belonged to them; returns their paths.

        `before` is asked with the log offset that the log will begin at; if it says no, nothing is deleted now. Also
        measures the disk: above diskSpaceWarningLevelRatio appends are refused until it is below again. Raises
        StoreFailed.
        """
        self._refuse_if_unusable()
        try:
            expired = self._retention.expired(now_ms)
            if expired and before is not None and not before(self._log.segments[expired].start):
                expired = 0
            if expired:
                self._disk.settle()
                if self._dispatched < self._log.segments[expired - 1].start + self.config.segment_size:
                    self._checkpoint_now()
            deleted = [self._log.drop_oldest().path for _ in range(expired)]
            if deleted:
                self._queues.drop_before(self._log.begin)
                self._keys.drop_before(self._log.begin)
                self._events.event("segments-deleted", count=len(deleted), begin=self._log.begin)
            self._check_disk()
        except OSError as error:
            raise self._fail("retention", error) from error
        return deleted

    def forget_before(self, topic: str, offset_log: int) -> int:
        """The topic was deleted by the record at `offset_log`: its messages before that cannot be read any more, those
        behind it (the topic was created anew) stay. Durable with the next checkpoint. Returns the number of its queues.

        Raises OSError.
        """
        return self._queues.forget_before(topic, offset_log)

    def retire_topic(self, topic: str) -> int:
        """The topic was deleted: its messages cannot be read any more, its offsets are never reused. Durable.

        Returns the number of its queues. Raises StoreFailed.
        """
        self._refuse_if_unusable()
        self._disk.settle()
        try:
            self._write_chunks()
            self._hidden = deque(entry for entry in self._hidden if entry[1].topic != topic)
            count = self._queues.retire(topic)
            self._checkpoint_now()
            self._queues.delete_files(topic)
        except OSError as error:
            raise self._fail("delete topic", error) from error
        return count
