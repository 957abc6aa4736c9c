"""The lab's own histories straight to columns, without an object an operation: what `lab_history` makes of a sound one.

Only what is sound and plain takes this way: a history that breaks no rule of C0, messages that are strings, offsets
from 0, sends of one message. Anything else returns None, and `lab_history` reads the file again, event by event; it
also has the words for what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Final

import msgspec
import numpy as np

from checkers.builder import REGISTER_READ, SET_READ, HistoryBuilder
from checkers.columns import DRAIN, FAIL, HANDLE, INFO, OK, History
from checkers.event import SEND_OK, Event, HistoryError
from checkers.files import decoded
from checkers.linearizability.formats.lab_history import SKIPPED_MAX, untrimmed_scope
from checkers.linearizability.formats.source import Source
from checkers.linearizability.operations import NEVER, NULL, Code, Int, LazyOperations, Operation, Operations, Outcome
from checkers.meta import MetaError
from checkers.plain import PLAIN, Plain

_NAMES: Final = {
    Code.APPEND: "append",
    Code.LOG_READ: "read",
    Code.LOG_END: "read",
    Code.ENQUEUE: "enqueue",
    Code.DEQUEUE: "dequeue",
}
_OUTCOMES: Final[Mapping[int, Outcome]] = {OK: "ok", FAIL: "fail", INFO: "info"}
_ELSEWHERE: Final = ("meta", SET_READ, REGISTER_READ)
"""Under these names a history keeps as events what may have a meaning here, or be refused."""


def read(source: Source, model: str, *, plain: Plain | None = PLAIN) -> LabOperations | None:
    """Read a history of the lab for `append-log` or `fifo-queue`; None where it is not plain. Raises `FormatError`."""
    history = _history(source, plain)
    if history is None:
        return None
    sends, reads, entries, ends = history.sends, history.reads, history.entries, history.ends
    numbers = (entries.offset, ends.length, sends.offset + 1, entries.value, sends.queue, reads.queue, ends.queue)
    if not all(bool(((one >= 0) & (one < NEVER)).all()) for one in numbers):
        return None
    return LabOperations(history, _log(history) if model == "append-log" else _fifo(history))


def _history(source: Source, plain: Plain | None) -> History | None:
    """Return what a file says, None where it is not plain or breaks a rule."""
    builder = HistoryBuilder()
    decoder = msgspec.json.Decoder(Event)
    take = partial(builder.take, plain) if plain is not None else None
    for first, count, block in source.blocks():
        lines = block if block.endswith(b"\n") else block + b"\n"
        try:
            for events in decoded(source.path, lines, decoder, take, builder.count):
                builder.add(events)
        except (HistoryError, MetaError):
            return None
        if builder.odd or builder.count != first - 1 + count:  # an empty line counts as a line
            return None
    found = builder.build()
    kept_apart = any(name in found.side for name in _ELSEWHERE) or any(event.f == "meta" for event in found.nemesis)
    return found if found.has_meta and not found.breach_counts and not kept_apart else None


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Operations as columns. `call` and `event` are the indices of the events that invoked and completed one (-1:
    none), `value`, `queue` and `node` numbers of the history; `value` and `offset` are `NULL` where there is none."""

    code: Int
    outcome: Int
    queue: Int
    call: Int
    event: Int
    value: Int
    offset: Int
    node: Int

    @classmethod
    def of(cls, **columns: Any) -> _Rows:
        """Return rows; a number stands for a column of it."""
        size = len(columns["queue"])
        return cls(**{name: np.broadcast_to(np.asarray(one, np.int64), size) for name, one in columns.items()})

    def at(self, places: Int) -> _Rows:
        """Return some rows."""
        return _Rows(*(getattr(self, one.name)[places] for one in fields(self)))


def _in_order(parts: Sequence[_Rows]) -> _Rows:
    """Return all rows in the order of their invocations; those of one call stay in their order."""
    whole = _Rows(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(_Rows)))
    return whole.at(np.argsort(whole.call, kind="stable"))


def _sends(history: History, code: Code) -> _Rows:
    sends = history.sends
    strong = [number for number, name in enumerate(history.statuses) if name == SEND_OK]
    weak = (sends.type == OK) & (sends.status >= 0) & ~np.isin(sends.status, strong)
    outcome = np.where(weak, INFO, sends.type)
    placed = (outcome == OK) & (sends.offset >= 0) & (code == Code.APPEND)
    return _Rows.of(
        code=int(code), outcome=outcome, queue=sends.queue, call=sends.invoked, event=sends.returned, value=sends.value,
        offset=np.where(placed, sends.offset, NULL), node=np.where(sends.returned >= 0, sends.node, -1),
    )  # fmt: skip


def _log(history: History) -> _Rows:
    reads, entries, ends = history.reads, history.entries, history.ends
    usable = np.flatnonzero(((reads.type != FAIL) & (reads.kind != HANDLE))[entries.read])
    read = entries.read[usable]
    seen = _Rows.of(
        code=int(Code.LOG_READ), outcome=OK, queue=reads.queue[read], call=reads.invoked[read],
        event=reads.returned[read], value=entries.value[usable], offset=entries.offset[usable], node=reads.node[read],
    )  # fmt: skip
    told = _Rows.of(
        code=int(Code.LOG_END), outcome=OK, queue=ends.queue, call=ends.invoked, event=ends.returned, value=NULL,
        offset=ends.length, node=ends.node,
    )  # fmt: skip
    drain, missing = _skipped(history)
    skipped = _Rows.of(
        code=int(Code.LOG_END), outcome=OK, queue=reads.queue[drain], call=reads.invoked[drain],
        event=reads.returned[drain], value=NULL, offset=missing, node=reads.node[drain],
    )  # fmt: skip
    return _in_order([_sends(history, Code.APPEND), seen, told, skipped])


def _skipped(history: History) -> tuple[Int, Int]:
    """Return the offsets that complete drains skipped, and the rows of those drains."""
    reads, entries = history.reads, history.entries
    said = [*history.nemesis, *history.lab("drain-step")]
    untrimmed = {untrimmed_scope(event) for event in said if isinstance(event.process, str)} - {None}
    drains: list[Int] = []
    found: list[Int] = []
    whole = (reads.kind == DRAIN) & (reads.type == OK) & (reads.complete == 1) & (reads.stop > reads.start)
    for row in np.flatnonzero(whole).tolist():
        offsets = entries.offset[reads.start[row] : reads.stop[row]]
        first = 0 if untrimmed & {"*", history.queues[reads.queue[row]]} else int(offsets.min())
        offsets = np.concatenate([[first - 1], offsets if bool((np.diff(offsets) > 0).all()) else np.unique(offsets)])
        missing = np.zeros(0, np.int64)
        for place in np.flatnonzero(np.diff(offsets) > 1).tolist():
            hole = np.arange(offsets[place] + 1, min(offsets[place + 1], offsets[place] + 1 + SKIPPED_MAX))
            missing = np.concatenate([missing, hole])[:SKIPPED_MAX]
            if len(missing) == SKIPPED_MAX:
                break
        drains.append(np.full(len(missing), row, np.int64))
        found.append(missing)
    none = [np.zeros(0, np.int64)]
    return np.concatenate(drains or none), np.concatenate(found or none)


def _fifo(history: History) -> _Rows:
    reads, entries = history.reads, history.entries
    usable = np.flatnonzero((reads.type != FAIL)[entries.read])
    read = entries.read[usable]
    message = reads.queue[read].astype(np.int64) * (len(history.values) + 1) + entries.value[usable]
    order = np.argsort(message, kind="stable")
    begins = np.flatnonzero(np.diff(message[order], prepend=-1) != 0)
    call = reads.invoked[read].astype(np.int64)
    earliest = np.minimum.reduceat(call[order], begins) if len(begins) else call
    first = order[begins]  # of the deliveries of each message
    turn = np.argsort(first)
    first, earliest = first[turn], earliest[turn]
    read = read[first]
    taken = _Rows.of(
        code=int(Code.DEQUEUE), outcome=OK, queue=reads.queue[read], call=earliest, event=reads.returned[read],
        value=entries.value[usable][first], offset=NULL, node=reads.node[read],
    )  # fmt: skip
    return _in_order([_sends(history, Code.ENQUEUE), taken])


class LabOperations(LazyOperations):
    """The operations of a history of the lab in the order of their invocations, made when they are looked at."""

    def __init__(self, history: History, rows: _Rows) -> None:
        self._history = history
        self._rows = rows

    def parts(self) -> dict[str, Operations]:
        """Return the columns of each queue, in the order in which the queues are met first."""
        rows, queues = self._rows, self._history.queues
        order = np.argsort(rows.queue, kind="stable")
        bounds = np.flatnonzero(np.diff(rows.queue[order], prepend=-1) != 0)
        spans = sorted(np.split(order, bounds[1:]), key=lambda span: int(span[0])) if len(order) else []
        return {queues[rows.queue[span[0]]]: self._columns(span) for span in spans}

    def _columns(self, span: Int) -> Operations:
        kept = span[self._rows.outcome[span] != FAIL]
        rows = self._rows.at(kept)
        value, names = _numbered(rows.value, self._history.values)
        return Operations(
            call=rows.call,
            ret=np.where((rows.outcome == INFO) | (rows.event < 0), NEVER, rows.event),
            f=rows.code.astype(np.uint8),
            a=value,
            b=rows.offset,
            names=names,
            source=self,
            row_source=kept,
        )

    def __len__(self) -> int:
        return len(self._rows.call)

    def made(self, place: int) -> Operation:
        rows, history = self._rows, self._history
        code, outcome = Code(int(rows.code[place])), _OUTCOMES[int(rows.outcome[place])]
        call, event = int(rows.call[place]), int(rows.event[place])
        number, at, node = int(rows.value[place]), int(rows.offset[place]), int(rows.node[place])
        value = None if number == NULL else history.values[number]
        offset = None if at == NULL else at
        argument: Any = None
        result: Any = None
        if code == Code.ENQUEUE:
            argument = value
        elif code == Code.DEQUEUE:
            result = value
        elif code == Code.APPEND:
            argument, result = [None, value], [offset, value] if outcome == "ok" else None
        else:
            argument, result = [offset, None], [offset, value]
        ended = event >= 0
        return Operation(
            f=_NAMES[code],
            process=int(history.events.process[event if ended else call]),
            invoked=call,
            returned=event if ended and outcome != "info" else None,
            outcome=outcome,
            argument=argument,
            result=result,
            key=history.queues[rows.queue[place]],
            node=history.nodes[node] if node >= 0 else None,
            invoked_line=call + 1,
            returned_line=event + 1 if ended else None,
            invoked_time=history.time_of(call),
            returned_time=history.time_of(event) if ended else None,
        )


def _numbered(values: Int, names: Sequence[str]) -> tuple[Int, list[str]]:
    """Return the values numbered in the order in which they are met first, and their names; `NULL` stays."""
    known = np.flatnonzero(values != NULL)
    numbers = values[known]
    order = np.argsort(numbers, kind="stable")
    new = np.diff(numbers[order], prepend=-1) != 0
    first = order[new]  # where each distinct value is met first
    turn = np.argsort(first)
    rank = np.empty(len(first), np.int64)
    rank[turn] = np.arange(len(first))
    out = np.full(len(values), NULL, np.int64)
    out[known[order]] = rank[np.cumsum(new) - 1]
    return out, [names[number] for number in numbers[first[turn]].tolist()]
