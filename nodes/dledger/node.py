"""One member of a Raft group with its I/O: the pure core decides, this carries out.

Records get into the log in two ways only. A leader's broker appends to the store and calls `written`; a follower's
bytes arrive, are checked and written as the core orders. Before the core hears anything, it is told of what was
appended since (`settle`), so its end and the store's are always the same. What may leave when is the core's business:
a message is given out only when what it says is durable. asyncio on one thread.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Callable, Sequence
from random import Random

from nodes.dledger.addresses import AddressBook
from nodes.dledger.entries import check_batch, read_entries
from nodes.dledger.events import logged
from nodes.dledger.links import Links
from nodes.dledger.records import (
    SYSTEM_TOPIC,
    Lane,
    MarkerRecord,
    Seed,
    decode_seed,
    encode_control,
    encode_seed,
    record_of,
)
from nodes.dledger.restoring import Found
from nodes.dledger.settings import GroupError, GroupSettings
from nodes.dledger.state import GroupFiles
from nodes.dledger.waiting import Waiting
from nodes.dledger.wire import Envelope, Hello, encode
from nodes.flaws import Flaw
from nodes.log import EventLog
from nodes.replication.raft.core import Raft, RaftError
from nodes.replication.raft.membership import Membership
from nodes.replication.raft.messages import Append, Message, Reseed
from nodes.replication.raft.orders import HardState, Read, Ready, Reset, Role, Truncate, Write
from nodes.store.errors import Refusal, StoreFailed, StoreRefused
from nodes.store.results import MessageIn
from nodes.store.store import MessageStore

__all__ = ["GroupNode"]

_ATTACHED_MAX = 256
"""Batches that were read for followers and wait for their message."""


class GroupNode:
    """A member. `open` first, then `start`; everything else on the loop's thread."""

    def __init__(
        self,
        settings: GroupSettings,
        store: MessageStore,
        files: GroupFiles,
        found: Found,
        log: EventLog,
        rng: Random,
        flaws: frozenset[Flaw] = frozenset(),
    ) -> None:
        self.on_changed: Callable[[], None] = lambda: None
        """Role, term, leader or membership may be others than before."""
        self.on_committed: Callable[[int], None] = lambda end: None
        """The group has agreed on the log up to here."""
        self.on_failed: Callable[[str], None] = lambda reason: None
        """This member has stopped for good, for a reason that is not the store's."""
        self.applied: Callable[[], int] = lambda: 0
        """Log offset up to which the broker's tables contain everything."""
        self.snapshot: Callable[[], bytes] = lambda: b""
        """What the records of the lane STATE have led to, for a member that is to skip them."""
        self.install: Callable[[bytes, int], None] = lambda tables, begin: None
        """Take over such a state, durably; the log begins at this offset from now on."""
        self.settings = settings
        self.failed: str | None = None
        self._store = store
        self._files = files
        self._log = log
        self._sync_counts = settings.sync
        self._loop = asyncio.get_running_loop()
        self.raft = Raft(settings.name, settings.raft, found.restored, rng, self._loop.time(), flaws=flaws)
        self.leaders = dict(found.leaders)
        """Who led each term, as far as its marker was read or its leader heard."""
        self.book = AddressBook(settings, store.config.segment_size)
        self.marker_end = 0
        """Log offset behind the marker of this member's newest term as leader: once committed, all before it is."""
        self._links = Links(self.book.hello, self, log)
        self._queue: deque[Ready] = deque()
        self._carrying = False
        self._data = b""
        self._attached: dict[tuple[str, int, int], bytes] = {}
        self._last_read: tuple[int, int, bytes] = (0, 0, b"")
        self._to_save: HardState | None = None
        self._saving: asyncio.Task[None] | None = None
        self._syncing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = float("inf")
        self._committed = self._told_committed = found.restored.committed
        self._role_news = False
        self.waiting = Waiting()
        self._stopped = False
        store.on_flushed = self._flushed

    # What others ask

    @property
    def leading(self) -> bool:
        """This member leads and clients' records may be appended now."""
        return self.failed is None and self.raft.accepts

    @property
    def settled(self) -> bool:
        """This member leads and everything that earlier leaders have committed is committed here too."""
        return self.leading and self._committed >= self.marker_end

    @property
    def name(self) -> str:
        """dLegerSelfId."""
        return self.settings.name

    @property
    def committed(self) -> int:
        """Log offset up to which the group has agreed, as far as this member knows."""
        return self._committed

    @property
    def leader_broker(self) -> str:
        """Where clients reach the leader; empty if not known."""
        return self.book.brokers.get(self.raft.leader, "") if self.raft.leader else ""

    def connected(self, name: str) -> bool:
        """A connection to this member stands."""
        return self._links.connected(name)

    # Life

    async def start(self) -> int:
        """Speak to the others. Returns the port. Raises ListenError."""
        port = await self._links.start(self.settings.host, self.settings.port)
        self._changed()
        self._arm()
        return port

    async def stop(self) -> None:
        """Say nothing more; wait for disk work under way."""
        self._stopped = True
        self._disarm()
        self.waiting.forget("this node stops")
        await self._links.stop()
        self._store.on_flushed = None
        await asyncio.gather(*filter(None, (self._syncing, self._saving)), return_exceptions=True)

    # A leader's records

    def append(self, lane: Lane, body: bytes) -> int:
        """Put a record behind what the broker has appended; returns its end. Written with the broker's next write.

        Raises StoreRefused, always where the group does not let this member append.
        """
        if not self.leading:
            raise StoreRefused(Refusal.BUSY, "this member does not lead its group")
        return self._append(lane, body)

    def _append(self, lane: Lane, body: bytes) -> int:
        place = self.settings.store_host
        now_ms = self._store.now_ms()
        message = MessageIn(SYSTEM_TOPIC, int(lane), body, "", 0, 0, now_ms, place)
        return self._store.append([message], place, own=True).end

    def written(self) -> None:
        """The broker has written what it appended."""
        if self.failed is None and self.raft.role is Role.LEADER and self._store.written_end > self.raft.end:
            self.put(self.raft.appended, self.raft.term, self._store.written_end, self._loop.time())
            if self._sync_counts:
                self._stable_soon()
            else:
                self.put(self.raft.stable, self._store.written_end, self.raft.generation, self._loop.time())

    async def committed_to(self, end: int) -> None:
        """Wait until this leader's log is committed up to `end`. Raises GroupError if it stops leading before."""
        self.settle()
        if self._committed >= end:
            return
        if self.raft.role is not Role.LEADER or self.failed is not None:
            raise GroupError("this node does not lead the group any more; whether the change stands is not known")
        await self.waiting.commit(end, self.raft.term)

    # Retention

    def before_deletion(self, begin: int) -> bool:
        """The log below `begin` is to be deleted: note what it says, durably. False if it must stay. Raises OSError.

        A member that has not joined keeps everything: a head beside a log that does not begin there is what a re-seed
        leaves that a crash interrupted, and the next start would drop the whole log.
        """
        safe = min(self.raft.committed, self.raft.durable, self._store.flushed_end)
        if begin > safe or not self.raft.status().joined:
            return False
        left = encode_seed(Seed(self._store.queue_ends(begin)))
        self._files.save_head(dataclasses.replace(self.raft.head_at(begin), tables=left))
        return True

    def deleted(self, begin: int) -> None:
        """It was deleted."""
        if begin > self.raft.begin:
            self.settle()
            self.put(self.raft.head_moved, begin, self._loop.time())

    # What connections tell

    def received(self, sender: str, envelopes: list[Envelope]) -> None:
        """Messages of one member."""
        for message, data in envelopes:
            if self.failed is not None or self._stopped:
                return
            if message.to != self.name:
                continue
            if isinstance(message, Append) and not self._valid(message, data):
                continue
            self.settle()
            self._data = data
            self.put(self.raft.receive, message, self._loop.time())
            self._data = b""

    def _valid(self, message: Append, data: bytes) -> bool:
        problem = check_batch(message.prev, message.end, data, self._store.config.segment_size)
        if problem is not None:
            self._links.warn_once(f"{message.sender} {problem}", peer=message.sender, reason=f"records: {problem}")
        return problem is None

    def closed_by(self, peer: str) -> None:
        """The connection with this member was closed or refused by its side."""
        if not self._stopped and self.failed is None:
            self.settle()
            self.put(self.raft.peer_lost, peer, self._loop.time())

    def reached(self, peer: str) -> None:
        """A connection to this member stands."""
        if not self._stopped and self.failed is None:
            self.settle()
            self.put(self.raft.peer_found, peer, self._loop.time())

    def introduced(self, hello: Hello) -> None:
        """A member said who and where it is."""
        if self.book.met(hello):
            self._links.members(self.book.others(self.raft.membership))

    # Carrying out

    def settle(self) -> None:
        """Tell the core what the broker has appended since: its end and the store's are the same afterwards."""
        if self.failed is not None or self.raft.role is not Role.LEADER or self._carrying:
            return
        try:
            self._store.write_pending()
        except StoreFailed as error:
            self.disk_failed(str(error))
            return
        self.written()

    def put(self, say: Callable[..., Ready], *what: object) -> None:
        """Tell the core something and carry out what it says. Raises MembershipError."""
        try:
            ready = say(*what)
        except RaftError as error:  # what can never happen did: this member must not go on
            self._fail(str(error))
        else:
            self.feed(ready)

    def feed(self, ready: Ready) -> None:
        """Carry out, and whatever that leads to, in order."""
        self._queue.append(ready)
        if self._carrying:
            return
        self._carrying = True
        try:
            while self._queue:
                self._carry_out(self._queue.popleft())
        except Exception as error:
            self._queue.clear()
            self._carrying = False
            if isinstance(error, OSError | StoreFailed):
                self.disk_failed(str(error))
            else:  # what can never happen did, or records are not what they were: never go on
                self._fail(f"{type(error).__name__}: {error}")
                if not isinstance(error, RaftError):
                    raise
            return
        finally:
            self._carrying = False
        if self.raft.end != self._store.written_end and self.failed is None:
            self._fail(f"the log ends at {self._store.written_end}, the group believes at {self.raft.end}")
            return
        self._arm()
        try:
            self._tell()
        except (OSError, StoreFailed) as error:  # what is committed cannot be read: never lead on without it
            self.disk_failed(str(error))

    def _tell(self) -> None:
        """Tell the broker what has changed, once everything is carried out: it may append at once.

        Raises OSError and StoreFailed of what the broker does then.
        """
        if self._role_news:
            self._role_news = False
            self._changed()
        committed = self._committed
        if committed > self._told_committed:
            self._told_committed = committed
            self.on_committed(committed)

    def _carry_out(self, ready: Ready) -> None:
        if ready.save is not None:
            self._save(ready.save)
        for order in ready.log:
            match order:
                case Truncate(end):
                    self._store.truncate_to(end)
                    self._stable_soon()
                case Write(start, _, skip):
                    self._store.append_raw(start, memoryview(self._data)[skip:])
                    self._store.write_pending()
                    self._stable_soon()
                case Reset(head):
                    self._reset(order)
                    self._queue.append(self.raft.stable(head.begin, self.raft.generation, self._loop.time()))
        if ready.marker is not None:
            start = self._store.written_end
            marker = MarkerRecord(ready.marker.term, ready.marker.leader, start)
            self.marker_end = self._write_own(encode_control(marker), ready.marker.term)
        if ready.own_record is not None:
            record = record_of(ready.own_record.membership, ready.own_record.term)
            self._write_own(encode_control(record), ready.own_record.term, ready.own_record.membership)
        for read in ready.reads:
            self._read(read)
        for message in ready.messages:
            self._send(message)
        for event in ready.events:
            name, fields = logged(event, self.name)
            self._log.event(name, **fields)
        self._role_news = self._role_news or ready.changed
        if ready.committed > self._committed:
            self._committed = ready.committed
            self.waiting.committed(self._committed, self.raft.term)

    def _write_own(self, body: bytes, term: int, membership: Membership | None = None) -> int:
        try:
            self._append(Lane.CONTROL, body)
        except StoreRefused as error:
            raise StoreFailed(str(error)) from error
        end = self._store.write_pending()
        self._queue.append(self.raft.appended(term, end, self._loop.time(), membership))
        self._stable_soon()
        return end

    def _reset(self, order: Reset) -> None:
        """Drop the log and begin anew, tables first; what a crash leaves of it is thrown away by `restoring`."""
        head, seed = order.head, decode_seed(order.head.tables)
        self._files.save_head(dataclasses.replace(head, tables=encode_seed(Seed(seed.queues))))
        self._store.truncate_to(0)
        self._committed = max(self._committed, head.begin)
        self.install(seed.tables, head.begin)
        if head.begin:
            self._store.begin_at(head.begin, seed.queues)

    def _read(self, read: Read) -> None:
        start, end, data = self._last_read
        if not (start == read.start and end <= read.stop and data):
            data = read_entries(self._store, read.start, read.stop, read.max_bytes, self._store.config.segment_size)
            end = read.start + len(data)
            self._last_read = (read.start, end, data)
        if len(self._attached) >= _ATTACHED_MAX:
            self._attached.clear()  # of messages that were never sent; one that is sent without its bytes is dropped
        self._attached[read.to, read.start, end] = data
        self._queue.append(self.raft.loaded(read, end, self._loop.time()))

    def _send(self, message: Message) -> None:
        data = b""
        if isinstance(message, Append) and message.end > message.prev:
            data = self._attached.pop((message.to, message.prev, message.end), b"")
            if not data:
                return
        elif isinstance(message, Reseed):
            seed = encode_seed(Seed(self._store.queue_ends(message.head.begin), self.snapshot()))
            message = dataclasses.replace(message, head=dataclasses.replace(message.head, tables=seed))
        self._links.send(message.to, encode(message, data))

    def _changed(self) -> None:
        if self.raft.leader:
            self.leaders[self.raft.term] = self.raft.leader
        self._links.members(self.book.others(self.raft.membership))
        self.waiting.tell_news()
        if self.raft.role is not Role.LEADER:
            self._attached.clear()
            self._last_read = (0, 0, b"")
            self.waiting.forget("this node does not lead the group any more; whether the change stands is not known")
        self.on_changed()

    # Durability

    def _save(self, hard: HardState) -> None:
        self._to_save = hard
        if self._saving is None:
            self._saving = self._loop.create_task(self._save_all())

    async def _save_all(self) -> None:
        try:
            while (hard := self._to_save) is not None and self.failed is None:
                self._to_save = None
                await self._files.save_state_async(hard)
                if not self._stopped:
                    self.settle()
                    self.put(self.raft.saved, hard, self._loop.time())
        except OSError as error:
            self.disk_failed(f"state.json: {error}")
        finally:
            self._saving = None

    def _stable_soon(self) -> None:
        """The log has changed: make it durable, in company."""
        if not self._sync_counts:
            self._queue.append(self.raft.stable(self._store.written_end, self.raft.generation, self._loop.time()))
        elif self._syncing is None:
            self._syncing = self._loop.create_task(self._sync_all())

    async def _sync_all(self) -> None:
        """Group commit: each turn syncs everything that was written while the one before ran."""
        try:
            while self.failed is None and not self._stopped:
                await self._store.sync()
                self._flushed(self._store.flushed_end)
                if self._store.flushed_end >= self._store.written_end:
                    break
        except (StoreFailed, StoreRefused) as error:
            self.disk_failed(str(error))
        finally:
            self._syncing = None

    def _flushed(self, end: int) -> None:
        """The store has synced: acknowledgements leave from here."""
        if self.failed is None and not self._stopped and not self._carrying and end > self.raft.durable:
            self.settle()
            self.put(self.raft.stable, min(end, self.raft.end), self.raft.generation, self._loop.time())

    # Time, waiting, the end

    def _arm(self) -> None:
        if self._stopped or self.failed is not None:
            return
        deadline = self.raft.deadline
        if self._timer is not None and self._rings_at <= deadline:
            return  # it rings early and is armed anew then
        self._disarm()
        if deadline < float("inf"):
            self._rings_at = deadline
            self._timer = self._loop.call_at(deadline, self._ring)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._stopped or self.failed is not None:
            return
        now = self._loop.time()
        if now >= self.raft.deadline:
            self.settle()
            self.put(self.raft.tick, now)
        self._arm()

    def disk_failed(self, reason: str) -> None:
        """The disk is broken, for good: a leader hands over with its last words."""
        if self.failed is not None:
            return
        ready = self.raft.disk_failed(self._loop.time())
        self._fail(f"the disk has failed: {reason}", ready.messages)

    def _fail(self, reason: str, last_words: Sequence[Message] = ()) -> None:
        self.failed = reason
        self._log.error("group-member-failed", reason=reason, term=self.raft.term, end=self._store.written_end)
        for message in last_words:
            self._links.send(message.to, encode(message))
        self._disarm()
        self.waiting.forget(reason)
        self.on_failed(reason)
