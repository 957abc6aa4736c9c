"""Turns a stream of events into columns, pairing invocations with completions and noting every broken rule."""

from __future__ import annotations

import gc
from array import array
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from checkers.columns import (
    ASSIGNMENTS,
    DRAIN,
    FAIL,
    HANDLE,
    INFO,
    LAB_PROCESS,
    MODE_ASSIGN,
    MODE_NONE,
    MODE_SUBSCRIBE,
    NEMESIS_PROCESS,
    NEVER,
    OK,
    POLL,
    READ,
    Breach,
    Ends,
    Entries,
    Events,
    History,
    Names,
    Reads,
    Sends,
)
from checkers.event import Event, HistoryError
from checkers.files import read_lines
from checkers.meta import Meta, MetaError, parse_meta
from checkers.plain import PLAIN, Plain, Tables

BREACHES_KEPT: Final = 64

_TYPE: Final = {"invoke": 0, "ok": OK, "fail": FAIL, "info": INFO}
_MODE: Final = {None: MODE_NONE, "assign": MODE_ASSIGN, "subscribe": MODE_SUBSCRIBE}
_READ_KIND: Final = {"poll": POLL, "read": READ, "drain": DRAIN, "handle": HANDLE}

RULE_DENSE: Final = 1
RULE_PAIRED: Final = 2
RULE_ONE_OPEN: Final = 3
RULE_RETIRED: Final = 4
RULE_UNIQUE: Final = 5
RULE_KNOWN_RUN: Final = 6

SET_READ: Final = "read of a set"
"""Under this name `History.side` keeps reads that returned a whole set."""

REGISTER_READ: Final = "read of a register"
"""Under this name `History.side` keeps reads that name a `key`."""

_MISSHAPEN: Final = (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, StructError)
"""What touching a value of the wrong shape can raise."""


_Kept: TypeAlias = tuple[int, Event | bytes]
"""An invocation with its index; a plain one as the line it came from."""

_EVENT: Final = msgspec.json.Decoder(Event)


class _Table:
    """Rows of 64-bit numbers in one buffer: the cheapest thing Python can append a row to."""

    def __init__(self, names: str) -> None:
        self.place = {name: number for number, name in enumerate(names.split())}
        self.pack = Struct(f"={len(self.place)}q").pack
        self.buffer = bytearray()

    def add(self, row: tuple[int, ...]) -> None:
        self.buffer += self.pack(*row)

    def rows(self) -> npt.NDArray[np.int64]:
        return np.frombuffer(self.buffer, dtype=np.int64).reshape(-1, len(self.place))

    def get(self, name: str, dtype: Any = np.int64) -> npt.NDArray[Any]:
        return self.rows()[:, self.place[name]].astype(dtype)


class HistoryBuilder:
    """Takes events in order and builds a `History`. Nothing in it raises on a broken history: C0 judges that."""

    def __init__(self) -> None:
        self.meta = Meta()
        self.has_meta = False
        self._count = 0
        self._last_time = 0
        self._events = _Table("time process type f partner")
        self._open: dict[int, _Kept] = {}
        self._retired: set[int] = set()
        self._values = Names()
        self._queues = Names()
        self._nodes = Names()
        self._statuses = Names()
        self._acks = Names()
        self._errors = Names()
        self._groups = Names()
        self._keys = Names()
        self._functions = Names()
        self._sends = _Table(
            "value invoked process asked sentinel intended key batch "
            "returned type queue offset status ack flushed node epoch attempts error"
        )
        self._reads = _Table(
            "invoked returned type kind process queue start stop mode clear group node asked round complete sentinel "
            "loose orderly"
        )
        self._ends = _Table("queue length invoked returned node")
        self._odd = 0
        self._entry_offset = bytearray()
        self._entry_value = bytearray()
        self._side: dict[str, list[Event]] = {}
        self._nemesis: list[Event] = []
        self._held: dict[int, set[int]] = {}
        self._breaches: list[Breach] = []
        self._breach_counts: dict[int, int] = {}
        named = (
            self._functions, self._values, self._queues, self._nodes, self._statuses, self._acks, self._groups,
            self._keys,
        )  # fmt: skip
        self._tables: Tables = (
            self._events.buffer, self._sends.buffer, self._reads.buffer, self._entry_offset, self._entry_value,
            self._open, self._retired, self._held, *(part for names in named for part in (names, names.names)),
        )  # fmt: skip

    @property
    def count(self) -> int:
        """Return how many events were taken."""
        return self._count

    @property
    def odd(self) -> bool:
        """Tell whether something was taken that is no plain number, string or list of messages, or sends of batches."""
        return self._odd > 0 or self._values.mixed or self._queues.mixed

    def _breach(self, rule: int, index: int, text: str) -> None:
        self._breach_counts[rule] = self._breach_counts.get(rule, 0) + 1
        if len(self._breaches) < BREACHES_KEPT:
            self._breaches.append(Breach(rule, index, text))

    def take(self, plain: Plain, block: bytes, at: int) -> tuple[int, int]:
        """Take the next events from the lines of a block from byte `at` on, as far as they are plain.

        Returns how many they were and the byte that they end at; `add` takes the event there.
        """
        before = self._count
        at, self._count, self._last_time = plain.take_events(block, at, before, self._last_time, self._tables)
        return self._count - before, at

    def add(self, events: Iterable[Event]) -> None:
        """Take the next events. Raises `MetaError` for a meta event that is not of format 1."""
        events_buffer, pack = self._events.buffer, self._events.pack
        functions, pending = self._functions, self._open
        retired, types = self._retired, _TYPE
        index, last = self._count - 1, self._last_time
        for event in events:
            index += 1
            time, process, f = event.time, event.process, event.f
            kind = types[event.type]
            if event.index != index:
                self._breach(RULE_DENSE, index, f"event number {index} carries index {event.index}")
            if time < last:
                self._breach(RULE_DENSE, index, f"time runs backwards at event {index}: {time} after {last}")
            last = time
            if isinstance(process, str):
                events_buffer += pack(time, self._foreign(event, index), kind, functions[f], -1)
                continue
            if process in retired:
                self._breach(RULE_RETIRED, index, f"process {process} goes on at {index} after an unknown outcome")
            if kind == 0:
                events_buffer += pack(time, process, 0, functions[f], -1)
                if process in pending:
                    self._breach(RULE_ONE_OPEN, index, f"process {process} invokes at {index} with one outstanding")
                    self._abandoned(*_opened(pending[process]))
                pending[process] = (index, event)
                continue
            asked = _opened(pending.pop(process)) if process in pending else None
            if kind == INFO:
                retired.add(process)
            if asked is None or asked[1].f != f:
                events_buffer += pack(time, process, kind, functions[f], -1)
                open_f = "nothing" if asked is None else asked[1].f
                self._breach(RULE_PAIRED, index, f"event {index} completes {f} of process {process}, open is {open_f}")
                if asked is not None:
                    self._abandoned(*asked)
                continue
            events_buffer += pack(time, process, kind, functions[f], asked[0])
            try:
                if f == "send" or f == "append":
                    value = asked[1].value
                    if event.value is not None and event.value != value:
                        self._breach(RULE_PAIRED, index, f"event {index} completes another value than {value!r}")
                    if value.__class__ is str:
                        self._send_row(event, index, kind, asked, value, event.offset, 0)
                    else:
                        self._complete_send(event, index, kind, asked)
                else:
                    self._complete(event, index, process, asked)
            except _MISSHAPEN as error:
                self._breach(RULE_PAIRED, index, f"event {index} ({f} {event.type}) is not of format 1: {error}")
        self._count = index + 1
        self._last_time = last

    def _foreign(self, event: Event, index: int) -> int:
        """Keep what the nemesis and the lab recorded."""
        event.index = index
        if str(event.process).startswith("nemesis"):
            self._nemesis.append(event)
            return NEMESIS_PROCESS
        if event.f == "meta" and not self.has_meta:
            self._count = index  # where it stands, should it be none
            self.meta = parse_meta(event.value)
            self.has_meta = True
        else:
            self._side.setdefault(event.f, []).append(event)
        return LAB_PROCESS

    def _abandoned(self, index: int, event: Event) -> None:
        """Keep what never completed: its outcome is unknown."""
        if event.f == "send" or event.f == "append":
            self._complete_send(event, -1, INFO, (index, event))
        elif event.f not in _READ_KIND and event.f != "end" and event.f not in ASSIGNMENTS:
            event.index = index
            self._side.setdefault(event.f, []).append(event)

    def _complete(self, event: Event, index: int, process: int, asked: tuple[int, Event]) -> None:
        f = event.f
        if f == "read" and asked[1].key is not None:
            self._keep(REGISTER_READ, index, event, asked)
        elif f == "read" and isinstance(event.value, list):
            self._keep(SET_READ, index, event, asked)
        elif f in _READ_KIND:
            self._complete_read(event, index, process, asked)
        elif f == "end":
            if event.type == "ok":
                self._odd += event.value.__class__ is not int
                queue, node = self._queues[asked[1].value], self._nodes[event.node]
                self._ends.add((queue, int(event.value), asked[0], index, node))
        elif f in ASSIGNMENTS:
            self._assign(event, index, process, asked)
        else:
            self._keep(f, index, event, asked)

    def _keep(self, f: str, index: int, event: Event, asked: tuple[int, Event]) -> None:
        """Keep both events of a rarer operation as they are."""
        asked[1].index, event.index = asked[0], index
        self._side.setdefault(f, []).extend((asked[1], event))

    def _complete_send(self, event: Event, index: int, kind: int, asked: tuple[int, Event]) -> None:
        """Write the row of a send, or one for each value of a batch."""
        value, offset = asked[1].value, event.offset
        if value.__class__ is str:
            self._send_row(event, index, kind, asked, value, offset, 0)
        elif isinstance(value, list):
            self._odd += 1
            if isinstance(offset, list) and len(offset) != len(value):
                raise ValueError(f"{len(value)} values have {len(offset)} offsets")
            for place, one in enumerate(value):
                at = offset[place] if isinstance(offset, list) else offset if place == 0 else None
                self._send_row(event, index, kind, asked, one, at, place)
        else:
            self._breach(RULE_UNIQUE, asked[0], f"event {asked[0]} sends {value!r}, which is no string")

    def _send_row(
        self, event: Event, index: int, kind: int, asked: tuple[int, Event], value: Any, offset: Any, place: int
    ) -> None:
        begun, invoked = asked
        queue = invoked.queue
        flushed, epoch = event.flushed, event.epoch
        self._odd += offset.__class__ is int and offset < 0
        self._sends.buffer += self._sends.pack(
            self._values[value],
            begun,
            invoked.process,
            self._queues[queue],
            1 if event.sentinel or invoked.sentinel else 0,
            -1 if invoked.intended is None else invoked.intended,
            self._keys[invoked.key],
            place,
            index,
            kind,
            self._queues[event.queue or queue],
            -1 if offset is None else offset,
            self._statuses[event.status],
            self._acks[event.ack],
            -1 if flushed is None else flushed,
            self._nodes[event.node],
            -1 if epoch is None else epoch,
            event.attempts or 1,
            -1 if kind == OK or index < 0 else self._errors[_cause(event.error)],
        )

    @property
    def _entries(self) -> int:
        return len(self._entry_offset) // 8

    def _complete_read(self, event: Event, index: int, process: int, asked: tuple[int, Event]) -> None:
        invoked = asked[1]
        kind = _READ_KIND[event.f]
        # A handler is told what it handles when it is invoked; its completion may leave that out.
        batches = event.value if event.value is not None or kind != HANDLE else invoked.value
        batches = {} if batches is None else batches
        seek = invoked.seek or {}
        moved = bool(event.moved)
        from_offset = invoked.value if kind == READ and isinstance(invoked.value, dict) else {}
        wanted = dict.fromkeys(batches)
        if single := event.queue or invoked.queue:
            wanted[single] = None
        for names in (event.queues, invoked.queues, seek, from_offset):
            if names:
                wanted.update(dict.fromkeys(names))
        held = self._held.setdefault(process, set())
        for name in wanted:
            batch = batches.get(name, [])
            queue = self._queues[name]
            start = self._entries
            self._odd += not batch and batch.__class__ is not list
            if batch:
                offsets, values = zip(*batch, strict=True)
                self._odd += bool in map(type, offsets)
                places, numbers = array("q", offsets), array("i", map(self._values.__getitem__, values))
                self._entry_offset += places.tobytes()
                self._entry_value += numbers.tobytes()
            clear = moved or name in seek
            place = None if moved and batch else seek.get(name, from_offset.get(name))
            row = (
                asked[0], index, _TYPE[event.type], kind, process, queue, start, self._entries,
                _MODE.get(event.mode or invoked.mode, MODE_NONE), int(clear),
                self._groups[event.group or invoked.group], self._nodes[event.node],
                -1 if place is None else int(place),
                event.round or invoked.round or 0, int(bool(event.complete)),
                -1 if event.sentinel is None or isinstance(event.sentinel, bool) else event.sentinel,
                int(bool(event.filtered or invoked.filtered or name in (event.rebalance or ()))),
                int(bool(event.orderly or invoked.orderly)),
            )  # fmt: skip
            self._reads.add(row)
            held.add(queue)

    def _assign(self, event: Event, index: int, process: int, asked: tuple[int, Event]) -> None:
        """Forget the queues that an assignment or subscription no longer names (C6 6.3)."""
        named = event.value if event.value is not None else asked[1].value
        kept = {self._queues[name] for name in (named or ())}
        for queue in sorted(self._held.get(process, set()) - kept):
            here = self._entries
            row = (
                asked[0], index, _TYPE[event.type], POLL, process, queue, here, here, MODE_NONE, 1, -1, -1, -1, 0, 0,
                -1, 1, 0,
            )  # fmt: skip
            self._reads.add(row)
        self._held[process] = self._held.get(process, set()) & kept

    def build(self, damage: str | None = None) -> History:
        """Return the history of all events taken; `damage` says why there were no more."""
        for kept in self._open.values():
            self._abandoned(*_opened(kept))
        self._open.clear()
        events = self._event_columns()
        sends = self._send_columns(events)
        self._check_values(sends)
        return History(
            meta=self.meta,
            has_meta=self.has_meta,
            events=events,
            sends=sends,
            reads=self._read_columns(events),
            entries=self._entry_columns(),
            ends=self._end_columns(events),
            values=self._values.names,
            queues=self._queues.names,
            nodes=self._nodes.names,
            statuses=self._statuses.names,
            acks=self._acks.names,
            errors=self._errors.names,
            groups=self._groups.names,
            keys=self._keys.names,
            functions=self._functions.names,
            side=self._side,
            nemesis=self._nemesis,
            breaches=tuple(self._breaches),
            breach_counts=dict(self._breach_counts),
            damage=damage,
            value_numbers=self._values,
            queue_numbers=self._queues,
        )

    def _check_values(self, sends: Sends) -> None:
        """C0 rules 5 and 6: values are unique, and one of another run means that a store was not empty at first."""
        times = np.bincount(sends.value, minlength=len(self._values.names))
        for number in np.flatnonzero(times > 1).tolist():
            where = sends.invoked[sends.value == number].tolist()
            text = f"the value {self._values.names[number]} is sent at events {', '.join(map(str, where))}"
            self._breach(RULE_UNIQUE, where[-1], text)
        run = self.meta.run
        for number in np.flatnonzero(times == 0).tolist() if run else ():
            name = self._values.names[number]
            parts = name.rsplit("/", 2)
            if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit() and parts[0] != run:
                self._breach(RULE_KNOWN_RUN, -1, f"the value {name} belongs to run {parts[0]}, this is run {run}")

    def _event_columns(self) -> Events:
        rows = self._events.rows()
        time = rows[:, 0].copy()
        client = rows[:, 1].astype(np.int32)
        kind = rows[:, 2].astype(np.int8)
        partner = rows[:, 4].astype(np.int32)
        completions = np.flatnonzero(partner >= 0)
        partner[partner[completions]] = completions
        position = np.arange(len(time), dtype=np.int64)
        done = (kind != 0) & (client >= 0)
        late = (time[1:] == time[:-1]) & done[:-1] & ~done[1:]
        if bool(late.any()) and bool((time[1:] >= time[:-1]).all()):
            order = np.lexsort((position, done, time))
            position = np.empty_like(position)
            position[order] = np.arange(len(time), dtype=np.int64)
        return Events(
            time=time, process=client, type=kind, f=rows[:, 3].astype(np.int16), partner=partner, position=position
        )

    def _send_columns(self, events: Events) -> Sends:
        rows = self._sends.rows()
        rows = rows[np.lexsort((rows[:, self._sends.place["batch"]], rows[:, self._sends.place["invoked"]]))]

        def get(name: str, dtype: Any = np.int64) -> npt.NDArray[Any]:
            return rows[:, self._sends.place[name]].astype(dtype)

        invoked, returned, kind = get("invoked", np.int32), get("returned", np.int32), get("type", np.int8)
        return Sends(
            value=get("value", np.int32), invoked=invoked, returned=returned,
            begin=events.position[invoked],
            end=np.where((kind == INFO) | (returned < 0), NEVER, events.position[returned]),
            type=kind, process=get("process", np.int32), asked=get("asked", np.int32), queue=get("queue", np.int32),
            offset=get("offset"), status=get("status", np.int16), ack=get("ack", np.int16),
            flushed=get("flushed", np.int8), sentinel=get("sentinel", np.int8), node=get("node", np.int16),
            epoch=get("epoch"), attempts=get("attempts", np.int32), intended=get("intended"),
            error=get("error", np.int16), key=get("key", np.int32), batch=get("batch", np.int32),
        )  # fmt: skip

    def _read_columns(self, events: Events) -> Reads:
        get = self._reads.get
        invoked, returned, kind = get("invoked", np.int32), get("returned", np.int32), get("type", np.int8)
        return Reads(
            invoked=invoked, returned=returned, begin=events.position[invoked],
            end=np.where(kind == INFO, NEVER, events.position[returned]),
            type=kind, kind=get("kind", np.int8), process=get("process", np.int32), queue=get("queue", np.int32),
            start=get("start"), stop=get("stop"), mode=get("mode", np.int8), clear=get("clear", np.int8),
            group=get("group", np.int16), node=get("node", np.int16), asked=get("asked"), round=get("round", np.int8),
            complete=get("complete", np.int8), sentinel=get("sentinel"), loose=get("loose", np.int8),
            orderly=get("orderly", np.int8),
        )  # fmt: skip

    def _entry_columns(self) -> Entries:
        lengths = self._reads.get("stop") - self._reads.get("start")
        return Entries(
            read=np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
            offset=np.frombuffer(bytes(self._entry_offset), dtype=np.int64),
            value=np.frombuffer(bytes(self._entry_value), dtype=np.int32),
        )

    def _end_columns(self, events: Events) -> Ends:
        get = self._ends.get
        invoked, returned = get("invoked", np.int32), get("returned", np.int32)
        return Ends(
            queue=get("queue", np.int32), length=get("length"), node=get("node", np.int16), invoked=invoked,
            returned=returned,
            begin=events.position[invoked], end=events.position[returned],
        )  # fmt: skip


def _opened(kept: _Kept) -> tuple[int, Event]:
    """Return an invocation that was kept, as an event."""
    index, found = kept
    return (index, _EVENT.decode(found)) if isinstance(found, bytes) else (index, found)


def _cause(error: Any) -> str:
    """Return a short name for why an operation did not end ok, for histograms."""
    if isinstance(error, dict):
        parts = [str(error[key]) for key in ("phase", "code") if error.get(key) is not None]
        return " ".join(parts) or str(error.get("text", "no reason given"))
    return "no reason given" if error is None else str(error)


def build_history(events: Iterable[Event]) -> History:
    """Build a history from events in memory; raises `MetaError` if its meta event is not of format 1."""
    builder = HistoryBuilder()
    builder.add(events)
    return builder.build()


def load_history(path: Path | str, *, strict: bool = False, plain: Plain | None = PLAIN) -> History:
    """Load a history file.

    A file that breaks off or is garbled from some line on gives the history up to there with `damage` set (C0 then
    makes the run unknown); with `strict`, and where not even the meta event could be read, it raises `HistoryError`.
    `OSError` passes through. `plain` takes the plain events; without it the decoder takes all, with the same result.
    """
    builder = HistoryBuilder()
    take = partial(builder.take, plain) if plain is not None else None
    damage: str | None = None
    # Millions of short-lived objects without cycles: the cycle collector would only walk them in vain.
    collecting = gc.isenabled()
    gc.disable()
    try:
        for events in read_lines(Path(path), _EVENT, take):
            builder.add(events)
    except HistoryError as error:
        if strict or not builder.has_meta:
            raise
        damage = str(error)
    except MetaError as error:
        count = builder.count
        raise HistoryError(str(path), count + 1, str(error), events_read=count, truncated=False) from error
    finally:
        if collecting:
            gc.enable()
    if not builder.has_meta:
        raise HistoryError(
            str(path), 1, "there is no meta event, so this is no history", events_read=builder.count, truncated=False
        )
    return builder.build(damage)
