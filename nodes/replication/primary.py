"""The primary's side of replication: frames and time in, frames out. Pure.

What counts as an acknowledgement is decided here and nowhere else:

* only an ACK that a replica sends after AGREE, on this connection, for this epoch, and for an offset between the point
  of agreement and what was sent on this connection. The end that a replica reports before it was compared says nothing
  (RocketMQ issues 1155 and 3015 took it as an acknowledgement);
* one store is one copy, however many connections it has: the newest connection replaces the older one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from nodes.flaws import Flaw
from nodes.replication.epochs import Epoch, EpochTable, compare
from nodes.replication.frames import (
    Ack,
    Agree,
    Data,
    Frame,
    FrameError,
    Hello,
    Merged,
    Meta,
    OffsetsBack,
    Ping,
    Progress,
    Refusal,
    Refuse,
    Reset,
    TableKind,
    encode,
)
from nodes.replication.limits import (
    FRAME_MAX,
    HELLO_TIMEOUT_S,
    OFFSETS_INTERVAL_S,
    REMEMBERED_MAX,
    RESETS_MAX,
    SESSIONS_MAX,
    WINDOW_MAX,
)
from nodes.replication.ports import Identity, PrimaryTables, ReplicaState, SourceLog, Timing

__all__ = ["Acked", "Action", "Close", "Happened", "Noted", "PrimaryMachine", "Send", "whole_records"]

_SIZE_BYTES = 4
_URGENT = (TableKind.TOPICS, TableKind.GROUPS)


@dataclass(frozen=True, slots=True)
class Send:
    """Write these bytes to the connection."""

    session: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection after what was sent before; log the reason."""

    session: int
    reason: str


@dataclass(frozen=True, slots=True)
class Acked:
    """Some copy holds more than before: look at `acked`."""


@dataclass(frozen=True, slots=True)
class Noted:
    """An epoch number was heard of that must be remembered durably."""

    number: int


@dataclass(frozen=True, slots=True)
class Happened:
    """To be logged."""

    name: str
    fields: dict[str, object]


Action: TypeAlias = Send | Close | Acked | Noted | Happened


@dataclass(slots=True)
class _Session:
    """One connection. `acked` is None until the replica confirmed the agreement."""

    number: int
    peer: str
    heard: float
    sent_at: float
    hello: Hello | None = None
    key: str = ""
    start: int = 0
    sent: int = 0
    acked: int | None = None


@dataclass(slots=True)
class _Copy:
    """One store. `end`: what it holds for certain; None until it confirmed."""

    hello: Hello
    peer: str
    end: int | None
    session: int | None


@dataclass(slots=True)
class _Sent:
    """The newest state of one table that was sent."""

    version: int | None = None
    sequence: int = 0
    at: float = float("-inf")
    frame: bytes = field(default=b"", repr=False)


def whole_records(data: bytes | bytearray | memoryview) -> int:
    """Length of the whole records at the start of `data`; every record begins with its size in 4 bytes.

    Replicas get whole records only, so a replica that is promoted at any moment ends with one.
    Raises ValueError if a size makes no sense.
    """
    position = 0
    while position + _SIZE_BYTES <= len(data):
        size = int.from_bytes(data[position : position + _SIZE_BYTES], "big")
        if not _SIZE_BYTES < size < FRAME_MAX:
            raise ValueError(f"a record of {size} bytes")
        if position + size > len(data):
            break
        position += size
    return position


class PrimaryMachine:
    """All replicas of one primary during one epoch. Every method returns what is to be done, in order."""

    def __init__(
        self,
        identity: Identity,
        store_id: str,
        epoch: Epoch,
        table: EpochTable,
        source: SourceLog,
        tables: PrimaryTables,
        *,
        timing: Timing = Timing(),  # noqa: B008 (an immutable value)
        highest: int = 0,
        flaws: frozenset[Flaw] = frozenset(),
        window_max: int = WINDOW_MAX,
    ) -> None:
        self.identity = identity
        self.store_id = store_id
        self.epoch = epoch
        self.table = table
        self.highest = max(highest, epoch.number)
        self._source = source
        self._tables = tables
        self._timing = timing
        self._flaws = flaws
        self._window_max = window_max
        self._sessions: dict[int, _Session] = {}
        self._copies: dict[str, _Copy] = {}
        self._sent_tables = {kind: _Sent() for kind in TableKind}
        self._resets: dict[tuple[str, int], int] = {}
        self._reset_sequence = 0

    # What the broker asks.

    def acked(self, copies: int) -> int:
        """The largest offset below which at least `copies` stores, this one included, hold every byte in their files.

        0 if there are not that many. `copies` of 1 or less waits for nobody.
        """
        if copies <= 1:
            return self._source.written_end
        ends = [copy.end for copy in self._copies.values() if copy.end is not None]
        if copies == 2:
            return max(ends, default=0)
        if len(ends) < copies - 1:
            return 0
        ends.sort(reverse=True)
        return ends[copies - 2]

    def in_sync(self) -> int:
        """How many other stores are connected, compared, and less than haSlaveFallbehindMax behind."""
        return len(
            {
                session.key
                for session in self._sessions.values()
                if session.acked is not None and self._source.written_end - session.acked < self._timing.fall_behind_max
            }
        )

    def replicas(self) -> list[ReplicaState]:
        """Every store that was compared in this epoch, connected or not."""
        end = self._source.written_end
        return [
            ReplicaState(
                store_id=copy.hello.store_id,
                broker_id=copy.hello.broker_id,
                peer=copy.peer,
                ack=copy.end or 0,
                lag=max(0, end - (copy.end or 0)),
                connected=copy.session is not None,
                compared=copy.end is not None,
            )
            for copy in self._copies.values()
        ]

    @property
    def sessions(self) -> int:
        """Connections now, those that have not yet introduced themselves included."""
        return len(self._sessions)

    # What happens to it.

    def connected(self, number: int, peer: str, now: float) -> list[Action]:
        """A connection was accepted. `number` names it from now on and is never used again."""
        if len(self._sessions) >= SESSIONS_MAX:
            return [Close(number, f"more than {SESSIONS_MAX} replication connections")]
        self._sessions[number] = _Session(number, peer, heard=now, sent_at=now)
        return []

    def disconnected(self, number: int) -> list[Action]:
        """The connection is gone. What its store has acknowledged stays true."""
        session = self._sessions.pop(number, None)
        if session is None or session.hello is None:
            return []
        copy = self._copies.get(session.key)
        if copy is None or copy.session != number:
            return []
        copy.session = None
        self._forget_oldest()
        fields: dict[str, object] = {"broker_id": copy.hello.broker_id, "peer": copy.peer, "ack": copy.end}
        return [Happened("replica-lost", fields), Acked()]

    def received(self, number: int, frames: Sequence[Frame], now: float) -> list[Action]:
        """Frames arrived on a connection."""
        session = self._sessions.get(number)
        if session is None:
            return []
        session.heard = now
        actions: list[Action] = []
        for frame in frames:
            match frame:
                case Ack():
                    actions += self._on_ack(session, frame)
                case Hello():
                    actions += self._on_hello(session, frame, now)
                case OffsetsBack():
                    actions += self._on_offsets_back(session, frame, now)
                case Ping():
                    pass
                case _:
                    actions += self._close(session, f"{type(frame).__name__} is not for a primary")
            if number not in self._sessions:
                return actions
        actions += self._pump(session, now)
        return actions

    def advanced(self, now: float) -> list[Action]:
        """The log has grown: send what fits into each replica's window."""
        actions: list[Action] = self.tables_changed(now)
        for session in list(self._sessions.values()):
            actions += self._pump(session, now)
        return actions

    def tables_changed(self, now: float) -> list[Action]:
        """Send topics and groups at once if they changed; offsets wait for `tick`."""
        return self._send_tables(_URGENT, now)

    def reset(self, progress: Progress, now: float) -> list[Action]:
        """An operator set these offsets: tell the replicas, and disregard older progress of consumers there."""
        self._reset_sequence += 1
        for key, queues in progress.items():
            for queue_id in queues:
                self._resets.pop((key, queue_id), None)
                self._resets[key, queue_id] = self._reset_sequence
        while len(self._resets) > RESETS_MAX:
            del self._resets[next(iter(self._resets))]
        frame = encode(Reset(self._reset_sequence, progress))
        actions = [action for session in self._followers() for action in self._send(session, frame, now)]
        return actions + self._send_tables((TableKind.CONSUMER_OFFSETS,), now)

    def tick(self, now: float) -> list[Action]:
        """Time has passed: offsets, heartbeats, silent peers. To be called every OFFSETS_INTERVAL_S or so."""
        actions = self.tables_changed(now)
        due = [kind for kind in TableKind if kind not in _URGENT and self._due(kind, now)]
        actions += self._send_tables(due, now)
        for session in list(self._sessions.values()):
            silent = now - session.heard
            if session.hello is None:
                if silent >= HELLO_TIMEOUT_S:
                    actions += self._close(session, f"no HELLO within {HELLO_TIMEOUT_S} s")
            elif silent >= self._timing.housekeeping_s:
                actions += self._close(session, f"silent for {silent:.1f} s")
            elif now - session.sent_at >= self._timing.heartbeat_s:
                actions += self._send(session, encode(Ping(self._source.written_end)), now)
        return actions

    # Frames.

    def _on_hello(self, session: _Session, hello: Hello, now: float) -> list[Action]:
        if session.hello is not None:
            return self._close(session, "a second HELLO")
        refusal = self._refusal(hello)
        actions: list[Action] = []
        if hello.highest > self.highest:
            self.highest = hello.highest
            actions.append(Noted(hello.highest))
        if refusal is not None:
            reason, text = refusal
            actions += self._send(session, encode(Refuse(reason, self.epoch.number, text)), now)
            return actions + self._close(session, text)
        double = Flaw.DOUBLE_COUNT_REPLICA in self._flaws
        session.key = f"{hello.store_id}/{session.number}" if double else hello.store_id
        older = self._copies.get(session.key)
        if older is not None and older.session is not None and older.session in self._sessions:
            actions += self._close(self._sessions[older.session], "the same store has connected anew")
        end = self._source.written_end
        decision = compare(self.table, self._source.min_offset, end, hello.table, hello.begin, hello.end, self._flaws)
        session.hello = hello
        session.start = session.sent = decision.start
        held = hello.end if Flaw.STALE_ACK_OFFSET in self._flaws else None
        self._copies.pop(session.key, None)
        self._copies[session.key] = _Copy(hello, session.peer, held, session.number)
        self._forget_oldest()
        agree = Agree(
            self.store_id,
            decision.start,
            decision.reseed,
            self._source.min_offset,
            end,
            self.highest,
            self.table,
        )
        fields: dict[str, object] = {
            "broker_id": hello.broker_id,
            "peer": session.peer,
            "store": hello.store_id,
            "its_end": hello.end,
            "start": decision.start,
            "cut": max(0, hello.end - decision.start) if not decision.reseed else hello.end - hello.begin,
            "reseed": decision.reseed,
            "end": end,
        }
        actions.append(Happened("replica-joined", fields))
        actions += self._send(session, encode(agree), now)
        actions += self._send(session, encode(Reset(self._reset_sequence, {})), now)
        for kind in TableKind:
            actions += self._refresh(kind, now)
            actions += self._send(session, self._sent_tables[kind].frame, now)
        return actions

    def _refusal(self, hello: Hello) -> tuple[Refusal, str] | None:
        number, id_ = hello.followed
        if hello.group != self.identity.group:
            return Refusal.OTHER_GROUP, f"this is {self.identity.group}, not {hello.group}"
        if hello.store_id == self.store_id:
            return Refusal.OWN_STORE, "the replica has this primary's store id: its folder is a copy of this one"
        if number > self.epoch.number or (number == self.epoch.number and id_ != self.epoch.id):
            # Its log may hold messages that the newer primary has acknowledged on the strength of this copy.
            return (
                Refusal.SUPERSEDED,
                f"the replica has followed epoch {number}, this one is at {self.epoch.number}; restart it if wanted",
            )
        return None

    def _on_ack(self, session: _Session, ack: Ack) -> list[Action]:
        if session.hello is None or ack.number != self.epoch.number:
            return self._close(session, f"ACK of epoch {ack.number} before agreement on it")
        floor = session.start if session.acked is None else session.acked
        if not floor <= ack.end <= session.sent:
            return self._close(session, f"ACK of {ack.end}, expected {floor} to {session.sent}")
        first = session.acked is None
        session.acked = ack.end
        copy = self._copies[session.key]
        copy.end = ack.end
        if first:
            fields: dict[str, object] = {"broker_id": copy.hello.broker_id, "peer": session.peer, "ack": ack.end}
            return [Happened("replica-following", fields), Acked()]
        return [Acked()]

    def _on_offsets_back(self, session: _Session, frame: OffsetsBack, now: float) -> list[Action]:
        if session.hello is None:
            return self._close(session, "progress before HELLO")
        progress: Progress = {}
        for key, queues in frame.progress.items():
            for queue_id, offset in queues.items():
                if self._resets.get((key, queue_id), 0) <= frame.resets_seen:
                    progress.setdefault(key, {})[queue_id] = offset
        if progress:
            self._tables.merge(progress)
        # MERGED makes the replica forget its marks, so that the table after it is installed as it is: also what a reset
        # or the end of a queue has kept from being merged. It is sent even if nothing in it has changed.
        actions = self._send(session, encode(Merged(frame.sequence)), now)
        self._sent_tables[TableKind.CONSUMER_OFFSETS].version = None
        return actions + self._send_tables((TableKind.CONSUMER_OFFSETS,), now)

    # Log bytes.

    def _pump(self, session: _Session, now: float) -> list[Action]:
        """Send what is new, as far as the window of unacknowledged bytes allows."""
        if session.hello is None:
            return []
        actions: list[Action] = []
        end = self._source.written_end
        window_end = (session.start if session.acked is None else session.acked) + self._window_max
        while session.sent < min(end, window_end):
            if session.sent < self._source.min_offset:
                return actions + self._close(session, f"retention has deleted what it needs from {session.sent}")
            try:
                data = self._batch(session.sent, end)
            except (ValueError, OSError) as problem:
                return actions + self._close(session, f"the log cannot be read at {session.sent}: {problem}")
            frame = encode(Data(self.epoch.number, session.sent, data))
            session.sent += len(data)
            actions += self._send(session, frame, now)
        return actions

    def _batch(self, offset: int, end: int) -> bytes:
        """Whole records from `offset`: about a batch, or one larger record."""
        data = self._source.read_log(offset, min(self._timing.batch_max, end - offset))
        whole = whole_records(data)
        if whole == 0:
            size = int.from_bytes(data[:_SIZE_BYTES], "big")
            if offset + size > end:
                raise ValueError(f"a record of {size} bytes reaches beyond the end {end}")
            data = self._source.read_log(offset, size)
            whole = whole_records(data)
            if whole == 0:
                raise ValueError(f"a record of {size} bytes is not there")
        return bytes(data[:whole])

    # Tables.

    def _due(self, kind: TableKind, now: float) -> bool:
        return now - self._sent_tables[kind].at >= OFFSETS_INTERVAL_S

    def _send_tables(self, kinds: Sequence[TableKind], now: float) -> list[Action]:
        followers = self._followers()
        actions: list[Action] = []
        if not followers:
            return actions
        for kind in kinds:
            if self._tables.version(kind) != self._sent_tables[kind].version:
                actions += self._refresh(kind, now)
                for session in followers:
                    actions += self._send(session, self._sent_tables[kind].frame, now)
        return actions

    def _refresh(self, kind: TableKind, now: float) -> list[Action]:
        """Encode the table as it is now, once for all replicas."""
        sent = self._sent_tables[kind]
        version = self._tables.version(kind)
        if sent.version == version:
            return []
        sent.version = version
        sent.sequence += 1
        sent.at = now
        try:
            sent.frame = encode(Meta(kind, sent.sequence, self._tables.snapshot(kind)))
        except FrameError as problem:
            sent.frame = b""
            return [Happened("table-not-replicated", {"table": kind.name, "reason": str(problem)})]
        return []

    # Sessions.

    def _followers(self) -> list[_Session]:
        return [session for session in self._sessions.values() if session.hello is not None]

    def _send(self, session: _Session, data: bytes, now: float) -> list[Action]:
        session.sent_at = now
        return [Send(session.number, data)]

    def _close(self, session: _Session, reason: str) -> list[Action]:
        return [Close(session.number, reason), *self.disconnected(session.number)]

    def _forget_oldest(self) -> None:
        """Remember at most REMEMBERED_MAX stores, connected ones always."""
        while len(self._copies) > REMEMBERED_MAX:
            gone = next((key for key, copy in self._copies.items() if copy.session is None), None)
            if gone is None:
                return
            del self._copies[gone]
