"""C4: is what each consumer took out of a queue explained by a queue that is first in, first out?

A black box: only what was put in, what came out and when counts, no offset. A stream is one queue as one consumer
emptied it: by `dequeue`, which takes a message out; by handlers of an orderly group; or by polls of a group (or of one
process) that was assigned the queue and read on from its beginning. Reading again is a redelivery: the first delivery
takes the message out, at some instant after the first of its deliveries began and before the first of them was over.
Streams that may rightly leave messages out (filters, positions set beyond what was read) are not judged, nor are those
of a group that may have had two masters because a fault of the lab did not happen.

Four things are wrong and nothing else is (Henzinger, Sezgin & Vafeiadis, CONCUR 2013; with unknown outcomes, checker
C4): *fresh*, taken before it was put in or never put in; *repeat*, taken twice; *order*, put in first and taken last,
or never; *empty*, an empty answer while something was certainly inside. O(n log n) time, O(n) memory; a search within
a budget only where values are not unique.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from checkers.columns import FAIL, HANDLE, MODE_ASSIGN, MODE_NONE, NEVER, OK, POLL, Int, Mask
from checkers.drain import split_queue
from checkers.explain import seconds, value_name
from checkers.facts import Facts
from checkers.linearizability.contracts import first_deliveries
from checkers.linearizability.decision import Budget, Decision, Witness, decide
from checkers.linearizability.operations import NULL, Code, columns
from checkers.rare import Operation, operations_of
from checkers.verdict import KEPT_PER_TYPE, Anomaly, Findings, Record, Severity, Validity

NAME: Final = "C4"
TITLE: Final = "queues give first what was put in first"
BUDGET: Final = Budget(wall_ms=20_000, memory_mb=500)
"""For the search of one stream."""

STREAMS_LISTED: Final = 64
NOWHERE: Final = -2
"""The number of a queue that no send and no read names; -1 is the one queue of histories that name none."""

_ENDS: Final = frozenset({"destroy", "kill"})
"""Faults after which a master is gone."""

CLASSES: Final = {
    "duplicate": "repeat",
    "unexpected": "fresh",
    "premature": "fresh",
    "order": "order",
    "lost": "order",
    "empty": "empty",
}
"""The engine's classes, and this checker's."""


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """What one consumer took out of one queue.

    Row by row a delivery: the value's number, the positions between which it was taken (`NEVER`: open) and the events
    that show both. `empty` marks answers that the queue was empty, `unknown` dequeues whose outcome nobody knows.
    Numbers beyond the values of the history stand for `strangers`, which only dequeues have shown.
    """

    queue: int
    queue_name: str
    consumer: str
    value: Int
    begin: Int
    end: Int
    asked: Int
    told: Int
    empty: Mask
    unknown: Mask
    again: int = 0
    strangers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """A stream with the sends of its queue as the engine's rows: puts first, then deliveries."""

    stream: Stream
    puts: Int
    decision: Decision


def check_fifo_queue(facts: Facts) -> Record:
    """Run C4."""
    findings = Findings(NAME, TITLE)
    found, passed_over = streams(facts)
    listed: list[dict[str, Any]] = []
    for stream in found:
        rows = _judge(facts, stream)
        decision = rows.decision
        for witness in decision.witnesses if decision.validity is Validity.INVALID else ():
            findings.found(_anomaly(facts, rows, witness))
        for one, count in decision.counts.items():
            shown = sum(witness.anomaly == one for witness in decision.witnesses)
            findings.more(CLASSES.get(one, "order"), Severity.VIOLATION, count - shown)
        if decision.validity is Validity.UNKNOWN:
            reasons = "; ".join(decision.reasons)
            findings.doubt(f"{stream.queue_name} as {stream.consumer} read it could not be decided: {reasons}")
        listed.append(
            {
                "queue": stream.queue_name, "consumer": stream.consumer, "put in": len(rows.puts),
                "taken": int(np.count_nonzero(~stream.empty & ~stream.unknown)), "redelivered": stream.again,
                "verdict": decision.verdict, "method": decision.method,
            }
        )  # fmt: skip
    findings.counts["streams"] = len(found)
    findings.counts["streams not judged"] = len(passed_over)
    findings.counts["deliveries"] = sum(len(stream.value) for stream in found)
    findings.counts["redeliveries"] = sum(stream.again for stream in found)
    findings.details["streams"] = listed[:STREAMS_LISTED]
    findings.details["not judged"] = passed_over[:STREAMS_LISTED]
    if found or passed_over:
        findings.coverage["streams"] = len(found) / (len(found) + len(passed_over))
    if not found:
        findings.doubt(
            "nobody took messages out, and no reader read a queue in order from its beginning"
            + (f": {passed_over[0]}" if passed_over else "")
        )
    return findings.record()


def has_streams(facts: Facts) -> bool:
    """Tell whether there is a stream to judge."""
    return bool(streams(facts)[0])


def streams(facts: Facts) -> tuple[list[Stream], list[str]]:
    """Return the streams that can be judged, and of the others which they are and why they cannot."""
    found = list(_dequeued(facts))
    passed_over: list[str] = []
    doubled = _doubled(facts)
    for queue, consumer, reads in _readers(facts):
        name = f"{facts.queue_name(queue)} as {consumer} read it"
        table = facts.history.reads
        if (why := doubled.get(split_queue(facts.queue_name(queue))[1])) is not None:
            passed_over.append(f"{name}: {why}")
        elif bool(((table.kind[reads] == POLL) & (table.mode[reads] != MODE_ASSIGN)).any()):
            passed_over.append(f"{name}: without an assignment of its own, so others may have read between")
        elif bool((table.loose[reads] == 1).any()):
            passed_over.append(f"{name}: by a filter or while queues moved, so messages may be left out")
        elif _jumps(facts, reads):
            passed_over.append(f"{name}: from a position beyond messages that it had not read")
        elif (stream := _read(facts, queue, consumer, reads)) is not None:
            found.append(stream)
    return found, passed_over


def _doubled(facts: Facts) -> dict[str, str]:
    """Return the groups that may have been given a second master by the lab itself, each with the reason.

    Promoting by hand takes that the old master is gone. Where that is recorded and not proven, it may serve on beside
    the new one: two queues of one name, which no cluster is to blame for.
    """
    found: dict[str, str] = {}
    for group, meta in facts.history.meta.groups.items():
        promoted = [one.a1 for one in facts.windows if one.family == "promote" and one.touches(meta.nodes)]
        for gone in facts.windows:
            before = any(gone.a1 < at for at in promoted)
            if before and gone.family in _ENDS and not gone.injected.holds and gone.touches(meta.nodes):
                found[group] = f"{gone.title} is not proven, so the old master may serve beside the promoted one"
    return found


def _readers(facts: Facts) -> Iterator[tuple[int, str, Int]]:
    """Yield (queue, who, rows of `Reads` in order) of every consumer that reads a queue in order."""
    history = facts.history
    reads = history.reads
    released = (reads.mode == MODE_NONE) & (reads.loose == 1) & (reads.start == reads.stop)
    polls = (reads.kind == POLL) & (reads.type != FAIL) & ~released
    handled = reads.kind == HANDLE
    rows = np.flatnonzero((polls | handled) & ~facts.logs.alias[reads.queue]) if len(reads) else np.zeros(0, np.int64)
    if not len(rows):
        return
    group = reads.group[rows].astype(np.int64)
    who = np.where(group >= 0, group, -2 - reads.process[rows].astype(np.int64))
    key = np.stack([reads.queue[rows].astype(np.int64), reads.kind[rows].astype(np.int64), who])
    order = np.lexsort((reads.begin[rows], *key[::-1]))
    rows, key = rows[order], key[:, order]
    edges = np.flatnonzero((key[:, 1:] != key[:, :-1]).any(axis=0)) + 1
    for part, at in zip(np.split(rows, edges), [0, *edges.tolist()], strict=True):
        queue, kind, who_number = (int(one) for one in key[:, at])
        if kind == HANDLE and not bool((reads.orderly[part] == 1).all()):
            continue  # handlers that run side by side promise no order
        consumer = f"group {history.groups[who_number]}" if who_number >= 0 else f"process {-2 - who_number}"
        yield queue, consumer + ("'s handlers" if kind == HANDLE else ""), part.astype(np.int64)


def _entries(facts: Facts, reads: Int) -> tuple[Int, Int]:
    """Return the rows of `Entries` that some reads returned, and for each the read's place among them."""
    start, stop = facts.history.reads.start[reads], facts.history.reads.stop[reads]
    sizes = stop - start
    place = np.repeat(np.arange(len(reads)), sizes)
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.arange(int(sizes.sum())) - first + start[place], place


def _jumps(facts: Facts, reads: Int) -> bool:
    """Tell whether a reader began, or went on after a seek, beyond messages that it had never read.

    Only going on from one answer to the next owes the reader every message between.
    """
    table = facts.history.reads
    entry, place = _entries(facts, reads)
    row = facts.logs.entry_row[entry]
    rank = np.full(len(row), -1, dtype=np.int64)
    rank[row >= 0] = facts.logs.rank[row[row >= 0]]
    low, high = np.full(len(reads), NEVER, dtype=np.int64), np.full(len(reads), -1, dtype=np.int64)
    np.minimum.at(low, place[rank >= 0], rank[rank >= 0])
    np.maximum.at(high, place, rank)
    fresh = table.clear[reads] == 1
    fresh[1:] |= table.process[reads][1:] != table.process[reads][:-1]
    if len(fresh):
        fresh[0] = True
    told = np.flatnonzero(low < NEVER)
    if not len(told):
        return False
    anew = np.add.reduceat(fresh.astype(np.int64), np.concatenate([[0], told[:-1] + 1])) > 0
    before = np.concatenate([[-1], np.maximum.accumulate(high[told])[:-1]])
    return bool((anew & (low[told] > before + 1)).any())


def _read(facts: Facts, queue: int, consumer: str, reads: Int) -> Stream | None:
    """Return the first deliveries of what was read, None where nothing was."""
    table = facts.history.reads
    entry, place = _entries(facts, reads)
    known = facts.history.entries.value[entry] >= 0
    value, row = facts.history.entries.value[entry][known].astype(np.int64), reads[place[known]]
    if not len(value):
        return None
    begin = table.begin[row]
    end = np.where(table.type[row] == OK, table.end[row], NEVER)
    first, over = first_deliveries(value, begin, end)
    numbers = value[first]
    none = np.zeros(len(numbers), dtype=bool)
    return Stream(
        queue=queue, queue_name=facts.queue_name(queue), consumer=consumer, value=numbers, begin=begin[first],
        end=end[over], asked=table.invoked[row[first]].astype(np.int64),
        told=table.returned[row[over]].astype(np.int64), empty=none, unknown=none, again=len(value) - len(numbers),
    )  # fmt: skip


def _dequeued(facts: Facts) -> Iterator[Stream]:
    """Yield a stream for each queue that messages were taken out of by `dequeue`."""
    history = facts.history
    by_queue: dict[str, list[Operation]] = {}
    for one in operations_of(history, "dequeue"):
        if one.type != "fail":
            by_queue.setdefault(str(one.extra("queue") or ""), []).append(one)
    for name, taken in by_queue.items():
        value = np.full(len(taken), NULL, dtype=np.int64)
        strangers: dict[str, int] = {}
        for at, one in enumerate(taken):
            if one.answer is not None:
                number = history.value_numbers.get(one.answer) if isinstance(one.answer, str) else None
                if number is None:
                    number = len(history.values) + strangers.setdefault(str(one.answer), len(strangers))
                value[at] = number
        known = np.array([one.type == "ok" for one in taken], dtype=bool)
        yield Stream(
            queue=history.queue_numbers.get(name, NOWHERE) if name else -1, queue_name=name or "the queue",
            consumer="consumers", value=value, begin=np.array([one.begin for one in taken], dtype=np.int64),
            end=np.array([one.end for one in taken], dtype=np.int64),
            asked=np.array([one.ops[0] for one in taken], dtype=np.int64),
            told=np.array([one.ops[-1] for one in taken], dtype=np.int64),
            empty=known & (value == NULL), unknown=~known & (value == NULL), strangers=tuple(strangers),
        )  # fmt: skip


def _judge(facts: Facts, stream: Stream) -> _Rows:
    """Hold what was taken against what was put in. Only SEND_OK says when a send was over; a weaker status does not."""
    sends = facts.history.sends
    here = (sends.type != FAIL) & (facts.send_queue == stream.queue)
    # Who let the client library choose and never heard where, or heard of the last of several attempts, is found where
    # the value came out.
    anywhere = (facts.send_queue < 0) | ((sends.asked < 0) & (sends.attempts > 1))
    unplaced = np.flatnonzero((sends.type != FAIL) & anywhere & (facts.send_queue != stream.queue))
    if len(unplaced):
        unplaced = unplaced[np.isin(sends.value[unplaced], stream.value)]
    puts = np.concatenate([np.flatnonzero(here), unplaced])
    over = np.where(facts.promised[puts] & (facts.send_queue[puts] == stream.queue), sends.end[puts], NEVER)
    code = np.where(stream.empty, int(Code.EMPTY), int(Code.DEQUEUE))
    ops = columns(
        np.concatenate([sends.begin[puts], stream.begin]),
        np.concatenate([over, stream.end]),
        np.concatenate([np.full(len(puts), int(Code.ENQUEUE)), code]),
        np.concatenate([sends.value[puts].astype(np.int64), stream.value]),
    )
    return _Rows(stream, puts, decide("fifo-queue", ops, budget=BUDGET))


@dataclass(frozen=True, slots=True, eq=False)
class _Words:
    """How the rows of a stream are told: by values and by when clients asked and were answered."""

    facts: Facts
    rows: _Rows

    def is_put(self, row: int) -> bool:
        return row < len(self.rows.puts)

    def events(self, row: int) -> tuple[int, ...]:
        sends, stream = self.facts.history.sends, self.rows.stream
        if self.is_put(row):
            send = int(self.rows.puts[row])
            pair = (int(sends.invoked[send]), int(sends.returned[send]))
        else:
            at = row - len(self.rows.puts)
            pair = (int(stream.asked[at]), int(stream.told[at]))
        return tuple(dict.fromkeys(index for index in pair if index >= 0))

    def number(self, row: int) -> int:
        sends, stream = self.facts.history.sends, self.rows.stream
        return int(sends.value[self.rows.puts[row]] if self.is_put(row) else stream.value[row - len(self.rows.puts)])

    def value(self, row: int) -> str:
        history, number = self.facts.history, self.number(row)
        if 0 <= number < len(history.values):
            return value_name(history, number)
        return self.rows.stream.strangers[number - len(history.values)]

    def origin(self, row: int) -> str:
        """Say why a value cannot have been in the queue."""
        facts, number = self.facts, self.number(row)
        send = int(facts.logs.sender[number]) if 0 <= number < len(facts.history.values) else -1
        if send < 0:
            return "which nobody ever sent"
        if int(facts.history.sends.type[send]) == FAIL:
            return "although its send had certainly failed"
        return f"which was sent to {facts.queue_name(int(facts.send_queue[send]))}"

    def begun(self, row: int) -> str:
        return seconds(self.facts.history.time_of(self.events(row)[0]))

    def over(self, row: int) -> str:
        return seconds(self.facts.history.time_of(self.events(row)[-1]))


def _anomaly(facts: Facts, rows: _Rows, witness: Witness) -> Anomaly:
    """Tell an anomaly in a sentence, with the events of the few operations that prove it."""
    words = _Words(facts, rows)
    listed = [int(row) for row in witness.rows]
    events = tuple(dict.fromkeys(index for row in listed for index in words.events(row)))
    values = tuple(dict.fromkeys(words.value(row) for row in listed if words.number(row) != NULL))
    text = f"in {rows.stream.queue_name}, {_sentence(words, witness, listed)}"
    kind = CLASSES.get(witness.anomaly, "order")
    return Anomaly(kind, Severity.VIOLATION, text, rows.stream.queue_name, values[:KEPT_PER_TYPE], (), events, events)


def _sentence(words: _Words, witness: Witness, rows: list[int]) -> str:
    who, kind = words.rows.stream.consumer, witness.anomaly
    if kind == "order":
        a, b, b_out, a_out = rows
        return (
            f"{words.value(a)} was acknowledged at {words.over(a)}, before {words.value(b)} was sent at "
            f"{words.begun(b)}, but {who} had {words.value(b)} by {words.over(b_out)} and {words.value(a)} not before "
            f"{words.begun(a_out)}"
        )
    if kind == "premature":
        put, out = rows
        return f"{who} had {words.value(put)} by {words.over(out)}, before it was sent at {words.begun(put)}"
    if kind == "unexpected":
        return f"{who} had {words.value(rows[0])} by {words.over(rows[0])}, {words.origin(rows[0])}"
    if kind == "duplicate":
        put, first, second = rows
        return f"{words.value(put)} was put in once and taken twice, by {words.over(first)} and by {words.over(second)}"
    takers = [row for row in rows if not words.is_put(row) and words.number(row) == NULL and _open(words, row)]
    if kind == "lost":
        out = next(row for row in rows if not words.is_put(row) and row not in takers)
        b = next(row for row in rows if words.is_put(row) and words.number(row) == words.number(out))
        gone = [row for row in rows if words.is_put(row) and row != b]
        missing = words.value(gone[0]) + (f" (and {len(gone) - 1} more)" if len(gone) > 1 else "")
        could = f"; the {len(takers)} unknown dequeues before that can have taken no more than {len(takers)}"
        return (
            f"{missing} was acknowledged at {words.over(gone[0])}, before {words.value(b)} was sent at "
            f"{words.begun(b)}, but {who} had {words.value(b)} by {words.over(out)} and {missing} "
            f"never{could if takers else ''}"
        )
    if kind == "empty":
        row = next(row for row in rows if not words.is_put(row) and not _open(words, row) and words.number(row) == NULL)
        inside = list(dict.fromkeys(words.value(one) for one in rows if words.is_put(one)))
        named = ", ".join(inside[:6]) + (f" and {len(inside) - 6} more" if len(inside) > 6 else "")
        return (
            f"a dequeue from {words.begun(row)} to {words.over(row)} found nothing, though at every instant of it "
            f"{'one or another of ' if len(inside) > 1 else ''}{named} was acknowledged and not yet taken out"
        )
    return witness.text


def _open(words: _Words, row: int) -> bool:
    return bool(words.rows.stream.unknown[row - len(words.rows.puts)])
