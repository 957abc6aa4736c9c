"""Replica logs: what every node had in its log when it was read, record by record.

A `dump` event of the lab names a file of JSON lines, one record a line in the order of the log:
`o` log offset, `s` size, `d` digest of the record's bytes (hex), `t` epoch number, `q` queue, `k` queue offset, `v`
value or null, `x` whether the queue index points to it (and optionally `c`, whether its checksum holds).
"""

from __future__ import annotations

import gc
import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from checkers.columns import ALIAS_TOPICS, History, Int, Mask, Names, marked
from checkers.event import Event, HistoryError
from checkers.files import read_lines
from checkers.observations import whole
from checkers.plain import PLAIN, Plain

_FILE_DIGEST_BYTES = 16

_DIGEST_HEX = 15
"""Hex digits of a digest that are compared: 60 bits fit a column."""


class DumpLine(msgspec.Struct, gc=False):
    """One record of a dump file."""

    o: int
    s: int
    d: str
    t: int
    q: str | None = None
    k: int | None = None
    v: str | None = None
    x: bool | None = None
    c: bool | None = None


_COLUMNS: Final = "osdtqkvxc"
_FIELDS: Final = attrgetter(*_COLUMNS)
_LINE: Final = msgspec.json.Decoder(DumpLine)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One term of a group's log: its number, its random id and the log offset it starts at."""

    number: int
    id: str
    start: int


@dataclass(frozen=True, slots=True, eq=False)
class Dump:
    """The log of one replica. Columns hold one row a record; queue and value numbers are those of the history.

    Queues the history never saw get numbers above those in `History.queues`; values nobody sent are -1.
    """

    group: str
    node: str
    incarnation: str
    index: int
    time: int
    begin: int
    end: int
    commit: int | None
    epochs: tuple[Epoch, ...]
    complete: bool
    problem: str | None
    offset: Int
    size: Int
    digest: Int
    epoch: Int
    queue: Int
    queue_offset: Int
    value: Int
    indexed: Int
    checksum: Int

    def __len__(self) -> int:
        return len(self.offset)


@dataclass(frozen=True, slots=True, eq=False)
class Replicas:
    """All dumps of a run in order, and the last one of each node by group."""

    dumps: tuple[Dump, ...]
    final: Mapping[str, tuple[Dump, ...]]
    queue_names: Sequence[str]

    def holders(self, group: str, count: int) -> Int:
        """Return for each value number on how many of the group's replicas it was found; a second copy in a topic of
        such is not the message."""
        copies = np.zeros(count, dtype=np.int64)
        second = np.array([name.startswith(ALIAS_TOPICS) for name in self.queue_names] + [False], dtype=bool)
        for dump in self.final.get(group, ()):
            copies += marked(dump.value[(dump.value >= 0) & ~second[dump.queue]], count)
        return copies


def _digest(text: str) -> int:
    """Return a digest as a number; words that stand for one (of a filler record, say) are taken by their bytes."""
    try:
        return int(text[:_DIGEST_HEX], 16)
    except ValueError:
        return -int.from_bytes(text.encode()[:7], "big") - 1


def _epochs(value: Any) -> tuple[Epoch, ...] | None:
    """Return the rows of a table of epochs; None if one cannot be read."""
    found: list[Epoch] = []
    for row in value if isinstance(value, Sequence) and not isinstance(value, str) else ():
        fields = row if isinstance(row, Sequence) and not isinstance(row, str) and len(row) == 3 else (None, None, None)
        number, start = whole(fields[0]), whole(fields[2])
        if number is None or start is None:
            return None
        found.append(Epoch(number, str(fields[1]), start))
    return tuple(found)


def _hold_against(path: Path, digest: Any) -> None:
    """Raise ValueError if the file is not the one that was recorded; an event that tells no digest cannot say."""
    if digest is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_FILE_DIGEST_BYTES)).hexdigest()
    if found != digest:
        raise ValueError(f"{path} is not the file that was recorded: something changed it since")


class _Records:
    """The rows of a dump in the making: nine 64-bit numbers a record, -1 for null and for values nobody sent."""

    def __init__(self, queues: Names, values: Mapping[Any, int], plain: Plain | None) -> None:
        self.buffer = bytearray()
        self._queues = queues
        self._values = values
        self._plain = plain

    def read(self, path: Path) -> None:
        """Append the records of a file. Raises `HistoryError`, `OSError` or `OverflowError` after those before."""
        for lines in read_lines(path, _LINE, self._take if self._plain is not None else None):
            try:
                self._add(lines)
            except OverflowError:
                for line in lines:
                    self._add([line])

    def _take(self, block: bytes, at: int) -> tuple[int, int]:
        before = len(self.buffer)
        assert self._plain is not None
        end = self._plain.take_records(block, at, self.buffer, self._queues, self._queues.names, self._values)
        return (len(self.buffer) - before) // (8 * len(_COLUMNS)), end

    def _add(self, lines: Sequence[DumpLine]) -> None:
        columns = []
        for key, column in zip(_COLUMNS, zip(*map(_FIELDS, lines), strict=True), strict=True):
            if key == "d":
                numbers: Iterable[int] = map(_digest, column)
            elif key == "q":
                numbers = map(self._queues.__getitem__, column)
            elif key == "v":
                numbers = [-1 if value is None else self._values.get(value, -1) for value in column]
            elif key in "ost":
                numbers = column
            else:
                numbers = [-1 if one is None else one for one in column]
            columns.append(array("q", numbers))
        if columns:
            self.buffer += np.array(columns, dtype=np.int64).T.tobytes()

    def columns(self) -> dict[str, Int]:
        """Return one column for each letter of a dump line."""
        rows = np.frombuffer(bytes(self.buffer), dtype=np.int64).reshape(-1, len(_COLUMNS))
        return {name: rows[:, number].copy() for number, name in enumerate(_COLUMNS)}


def _read(event: Event, folder: Path | None, records: _Records) -> Dump:
    value: dict[str, Any] = event.value if isinstance(event.value, dict) else {}
    problem: str | None = None
    name = str(value.get("file") or "")
    path = folder / name if folder is not None else None
    if path is not None and not path.is_file() and (folder / Path(name).name).is_file():  # type: ignore[operator]
        path = folder / Path(name).name  # type: ignore[operator]
    if path is None or not name:
        problem = "no folder with dump files was given"
    else:
        try:
            _hold_against(path, value.get("digest"))
            records.read(path)
        except (HistoryError, OSError, ValueError, OverflowError) as error:
            problem = str(error)
    arrays = records.columns()
    complete = value.get("complete") is True
    begin, end, commit = whole(value.get("begin")), whole(value.get("end")), whole(value.get("commit"))
    epochs = _epochs(value.get("epochs"))
    if complete and (begin is None or end is None or epochs is None):
        problem = problem or "the event does not tell where the log begins and ends, or its terms cannot be read"
    return Dump(
        group=str(value.get("group", "")),
        node=str(value.get("node", "")),
        incarnation=str(value.get("incarnation", "")),
        index=event.index,
        time=event.time,
        begin=begin or 0,
        end=end or 0,
        commit=commit if commit is not None and commit >= 0 else None,
        epochs=epochs or (),
        complete=complete and problem is None,
        problem=problem if problem is not None else None if complete else "the dump was not read to its end",
        offset=arrays["o"],
        size=arrays["s"],
        digest=arrays["d"],
        epoch=arrays["t"],
        queue=arrays["q"],
        queue_offset=arrays["k"],
        value=arrays["v"],
        indexed=arrays["x"],
        checksum=arrays["c"],
    )


def load_replicas(history: History, folder: Path | None, *, plain: Plain | None = PLAIN) -> Replicas:
    """Read every dump of a run; a file that is missing or damaged gives a dump with a `problem`, never an exception.

    `folder` is the one the events' file names are relative to (the run's folder, or its replicas folder). `plain` takes
    the plain records; without it the decoder takes all, with the same result.
    """
    queues, values = Names(), history.value_numbers
    for name in history.queues:
        queues[name]
    # Millions of short-lived tuples without cycles: the cycle collector would only walk them in vain.
    collecting = gc.isenabled()
    gc.disable()
    try:
        dumps = tuple(_read(event, folder, _Records(queues, values, plain)) for event in history.lab("dump"))
    finally:
        if collecting:
            gc.enable()
    final: dict[str, dict[str, Dump]] = {}
    for dump in dumps:
        final.setdefault(dump.group, {})[dump.node] = dump
    return Replicas(
        dumps=dumps,
        final={group: tuple(by_node[node] for node in sorted(by_node)) for group, by_node in sorted(final.items())},
        queue_names=queues.names,
    )


def replicas_decide(history: History, replicas: Replicas, excluded: frozenset[str], group: str) -> Mask | None:
    """Return which values some replica of a group holds, if every surviving replica was read whole; else None.

    This is what makes absence decidable although the cluster never became ready again.
    """
    meta = history.meta.groups.get(group)
    found = replicas.final.get(group, ())
    if meta is None or not found or any(dump.problem is not None for dump in found):
        return None
    if not set(meta.nodes) - excluded <= {dump.node for dump in found}:
        return None
    return replicas.holders(group, len(history.values)) > 0
