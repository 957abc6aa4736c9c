"""The replica's side of replication: frames and time in; frames and changes of the store out. Pure.

The order of the actions is the order in which they must be carried out, each durable where `nodes.replication.lineage`
says so. An acknowledgement leaves only through `stored`, after the driver has carried them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from nodes.flaws import Flaw
from nodes.replication.epochs import Comparison, EpochTable, compare
from nodes.replication.frames import (
    Ack,
    Agree,
    Data,
    Frame,
    Hello,
    Merged,
    Meta,
    OffsetsBack,
    Ping,
    Progress,
    Refuse,
    Reset,
    TableKind,
    encode,
)
from nodes.replication.limits import HELLO_TIMEOUT_S
from nodes.replication.ports import Identity, Timing
from nodes.replication.progress import Marks

__all__ = [
    "Adopt",
    "Append",
    "Cut",
    "Disown",
    "Do",
    "Install",
    "Leave",
    "Phase",
    "ReplicaMachine",
    "Reseed",
    "Tell",
    "Told",
]


@dataclass(frozen=True, slots=True)
class Tell:
    """Write these bytes to the connection."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Leave:
    """Close the connection; log the reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Cut:
    """Truncate the log to this offset, durably."""

    offset: int


@dataclass(frozen=True, slots=True)
class Disown:
    """Claim no bytes any more, durably."""


@dataclass(frozen=True, slots=True)
class Reseed:
    """Throw the log away and begin an empty one at this offset, durably."""

    offset: int


@dataclass(frozen=True, slots=True)
class Adopt:
    """Take over this table of epochs, durably, before any byte that comes after it."""

    table: EpochTable
    highest: int


@dataclass(frozen=True, slots=True)
class Append:
    """Append these whole records at the end of the log."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Install:
    """Replace a table by the primary's; `progress` stays in force where it is larger."""

    kind: TableKind
    payload: bytes
    progress: Progress


@dataclass(frozen=True, slots=True)
class Told:
    """To be logged."""

    name: str
    fields: dict[str, object]


Do: TypeAlias = Tell | Leave | Cut | Disown | Reseed | Adopt | Append | Install | Told


class Phase(Enum):
    """Where a connection to the primary stands."""

    AWAY = "away"
    INTRODUCED = "introduced"
    FOLLOWING = "following"


class ReplicaMachine:
    """One replica over all its connections; at most one at a time."""

    def __init__(
        self,
        identity: Identity,
        store_id: str,
        marks: Marks,
        *,
        timing: Timing = Timing(),  # noqa: B008 (an immutable value)
        flaws: frozenset[Flaw] = frozenset(),
    ) -> None:
        self.identity = identity
        self.store_id = store_id
        self.marks = marks
        self.phase = Phase.AWAY
        self.primary_end = 0
        """The primary's end as far as it was heard of."""
        self._timing = timing
        self._flaws = flaws
        self._hello: Hello | None = None
        self._number = 0
        self._expected = 0
        self._confirmed: int | None = None
        self._heard = 0.0
        self._told_at = 0.0
        self._resets_seen = 0
        self._versions: dict[TableKind, int] = {}

    @property
    def epoch_number(self) -> int:
        """The primary's epoch; 0 if it is not followed now."""
        return self._number if self.phase is Phase.FOLLOWING else 0

    def connected(
        self, claims: EpochTable, highest: int, followed: tuple[int, str] | None, begin: int, end: int, now: float
    ) -> list[Do]:
        """A connection to the primary stands: introduce this store. `begin` and `end` are those of its log."""
        self.phase = Phase.INTRODUCED
        self._heard = self._told_at = now
        self._confirmed = None
        self._resets_seen = 0
        self._versions = {}
        self.marks.reconnected()
        self._hello = Hello(
            self.identity.group,
            self.store_id,
            self.identity.broker_id,
            begin,
            end,
            highest,
            followed or (0, ""),
            claims.upto(end),
        )
        return [Tell(encode(self._hello))]

    def disconnected(self) -> None:
        """The connection is gone."""
        self.phase = Phase.AWAY

    def received(self, frames: Sequence[Frame], now: float) -> list[Do]:
        """Frames arrived. After carrying out what is returned, call `stored`."""
        self._heard = now
        actions: list[Do] = []
        pieces: list[bytes] = []
        offset = self._expected
        for frame in frames:
            if self.phase is Phase.AWAY:
                break
            if isinstance(frame, Data):
                wrong = self._wrong(frame)
                if wrong is None:
                    pieces.append(frame.data)
                    self._expected += len(frame.data)
                    continue
                actions += self._append(offset, pieces)
                actions += self._leave(wrong)
                return actions
            actions += self._append(offset, pieces)
            pieces = []
            actions += self._on_frame(frame)
            offset = self._expected
        actions += self._append(offset, pieces)
        if self.phase is Phase.FOLLOWING:
            self.primary_end = max(self.primary_end, self._expected)
        return actions

    def stored(self, end: int, now: float) -> list[Do]:
        """All actions so far are carried out and `end` is written to the log file: acknowledge it, once."""
        if self.phase is not Phase.FOLLOWING or end != self._expected or end == self._confirmed:
            return []
        self._confirmed = end
        return self._tell(Ack(self._number, end), now)

    def tick(self, now: float) -> list[Do]:
        """Time has passed: progress, heartbeat, a silent primary."""
        if self.phase is Phase.AWAY:
            return []
        silent = now - self._heard
        if self.phase is Phase.INTRODUCED:
            return self._leave(f"no answer to HELLO for {silent:.1f} s") if silent >= HELLO_TIMEOUT_S else []
        if silent >= self._timing.housekeeping_s:
            return self._leave(f"the primary is silent for {silent:.1f} s")
        self.marks.expire(now)
        actions = self._offsets_back(now)
        if now - self._told_at >= self._timing.heartbeat_s:
            actions += self._tell(Ping(self._confirmed or 0), now)
        return actions

    # Frames.

    def _on_frame(self, frame: Frame) -> list[Do]:
        match frame:
            case Agree():
                return self._on_agree(frame)
            case Refuse(reason, number, text):
                told = Told("primary-refused", {"reason": reason.name, "epoch": number, "text": text})
                return [told, *self._leave(f"refused: {text}")]
            case Ping(end):
                self.primary_end = end
                return []
            case Meta() | Merged() | Reset() if self.phase is Phase.FOLLOWING:
                return self._on_table(frame)
            case _:
                return self._leave(f"{type(frame).__name__} is not expected in phase {self.phase.value}")

    def _on_agree(self, agree: Agree) -> list[Do]:
        hello = self._hello
        last = agree.table.last
        if hello is None or self.phase is not Phase.INTRODUCED or last is None:
            return self._leave("AGREE is not expected")
        number, id_ = hello.followed
        if last.number < number or (last.number == number and last.id != id_):
            return self._leave(f"the primary has epoch {last.number}, this replica has followed {number}")
        decision = compare(agree.table, agree.begin, agree.end, hello.table, hello.begin, hello.end, self._flaws)
        if decision != Comparison(agree.start, agree.reseed):
            # Both sides judge from the same two tables; if they differ, one of them is wrong, and cutting is final.
            return self._leave(f"the primary says {agree.start}, this replica finds {decision.start}")
        actions: list[Do] = []
        if agree.reseed:
            actions += [Disown(), Reseed(agree.start)]
        elif agree.start < hello.end:
            actions.append(Cut(agree.start))
        actions.append(Adopt(agree.table, agree.highest))
        fields: dict[str, object] = {
            "epoch": last.number,
            "start": agree.start,
            "was": hello.end,
            "reseed": agree.reseed,
            "primary_end": agree.end,
        }
        actions.append(Told("primary-followed", fields))
        self.phase = Phase.FOLLOWING
        self._number = last.number
        self._expected = agree.start
        self.primary_end = agree.end
        # Marks made before this connection: they do not know of any reset by this primary.
        actions += self._offsets_back(self._heard)
        return actions

    def _on_table(self, frame: Meta | Merged | Reset) -> list[Do]:
        match frame:
            case Meta(kind, version, payload):
                if version < self._versions.get(kind, 0):
                    return self._leave(f"table {kind.name} went back to version {version}")
                self._versions[kind] = version
                progress = self.marks.progress() if kind is TableKind.CONSUMER_OFFSETS else {}
                return [Install(kind, payload, progress)]
            case Merged(sequence):
                self.marks.merged(sequence, self._heard)
            case Reset(sequence, progress):
                self._resets_seen = max(self._resets_seen, sequence)
                self.marks.reset(progress)
        return []

    def _wrong(self, data: Data) -> str | None:
        """Why these bytes cannot be appended, or None."""
        if self.phase is not Phase.FOLLOWING:
            return "log bytes before AGREE"
        if data.number != self._number:
            return f"log bytes of epoch {data.number}, agreed is {self._number}"
        if data.offset != self._expected:
            return f"log bytes at {data.offset}, expected at {self._expected}"
        if not data.data:
            return "no log bytes"
        return None

    # Out.

    def _append(self, offset: int, pieces: list[bytes]) -> list[Do]:
        if not pieces:
            return []
        return [Append(offset, pieces[0] if len(pieces) == 1 else b"".join(pieces))]

    def _offsets_back(self, now: float) -> list[Do]:
        outgoing = self.marks.outgoing()
        if outgoing is None:
            return []
        sequence, progress = outgoing
        return self._tell(OffsetsBack(sequence, self._resets_seen, progress), now)

    def _tell(self, frame: Frame, now: float) -> list[Do]:
        self._told_at = now
        return [Tell(encode(frame))]

    def _leave(self, reason: str) -> list[Do]:
        self.phase = Phase.AWAY
        return [Leave(reason)]
