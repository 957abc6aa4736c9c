"""Operations of a recorded history: one object each for people and reports, columns of integers for the engines.

Times are ranks of events or raw clock values; only their order counts. Where a call and a return carry the same time
the call comes first, so the two operations are concurrent (closed intervals). An operation whose outcome is unknown
never returned: its time of return is `NEVER`. Operations that certainly did not happen are in no column.
"""

from __future__ import annotations

import enum
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, overload

import msgspec
import numpy as np
import numpy.typing as npt

Int: TypeAlias = npt.NDArray[np.int64]
Byte: TypeAlias = npt.NDArray[np.uint8]
Mask: TypeAlias = npt.NDArray[np.bool_]

NEVER: Final = 1 << 62
"""The time of a return that never came."""

NULL: Final = -(1 << 63)
"""The id of no value: null, or a result that nobody saw."""


class HistoryError(ValueError):
    """An operation does not have the shape that its model needs; the message names it and what was expected."""


Outcome: TypeAlias = Literal["ok", "fail", "info"]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation as a client saw it.

    `f`, `argument` and `result` have the shapes of the model (see `MODELS` in `checkers.linearizability.models`).
    `invoked` and `returned` are positions of the two events in the order of real time (line numbers, or times of one
    clock). `returned` is None, or `outcome` is `info`: nobody knows whether it happened, and if so when. `result` of
    such an operation is None unless the client had seen it. `fail`: it certainly did not happen. The answer "compare
    failed" of a compare-and-set is an observation where it is recorded as outcome `ok` with result False.
    `invoked_line` and `returned_line` are for reports: where the two events stand in the file.
    """

    f: str
    process: int | str
    invoked: int
    returned: int | None = None
    outcome: Outcome = "ok"
    argument: Any = None
    result: Any = None
    key: Any = None
    node: str | None = None
    invoked_line: int | None = None
    returned_line: int | None = None
    invoked_time: int | None = None
    returned_time: int | None = None


class LazyOperations(Sequence[Operation]):
    """Operations that are made from columns when they are looked at: a million of them cost nothing until then."""

    @abstractmethod
    def made(self, place: int) -> Operation:
        """Make the operation at a place from 0 up to the length."""

    @overload
    def __getitem__(self, place: int) -> Operation: ...

    @overload
    def __getitem__(self, place: slice) -> list[Operation]: ...

    def __getitem__(self, place: int | slice) -> Operation | list[Operation]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        length = len(self)
        if not -length <= place < length:
            raise IndexError(f"place {place} of {length} operations")
        return self.made(int(place) % length)

    def __iter__(self) -> Iterator[Operation]:
        return map(self.made, range(len(self)))


class Code(enum.IntEnum):
    """What an operation did, as it stands in the column `f`. `a` and `b` are ids of values, `NULL` means none."""

    READ = 0  # saw value a
    WRITE = 1  # made the value a
    CAS = 2  # found a and made it b
    CAS_FAILED = 3  # found something other than a
    APPEND = 4  # log: value a stands at offset b (NULL: nobody saw where); kv: string a was put at the end
    ENQUEUE = 5  # put value a in
    DEQUEUE = 6  # took value a out (NULL and no return: nobody saw what)
    EMPTY = 7  # a dequeue that found nothing
    LOG_READ = 8  # log: value a stands at offset b
    LOG_END = 9  # log: nothing stands at offset b or later
    ADD = 10  # set: a is a member from here on
    SET_READ = 11  # set: the members are the row's items
    DRAIN = 12  # total queue: the row's items were all there was
    TRANSACTION = 13  # multi-register: a is the id of the list of steps


@dataclass(frozen=True, slots=True, eq=False)
class Operations:
    """Operations as columns, one row each; what every engine reads.

    `call`, `ret`: times (int64); `ret` is `NEVER` where the outcome is unknown. `f`: a `Code` (uint8). `a`, `b`:
    integers (int64) whose meaning `Code` gives: the recorded numbers themselves or numbers of entries of `names`.
    `b` may be absent where no code of the model needs it. `key`: the independent object (int64), absent for one object.
    `item_start` (n + 1) and `items`: the lists of SET_READ and DRAIN rows. `names`: the value that an id stands for,
    absent where ids are the values. `source`: the operations that the rows came from, `row_source` which one.
    `texts` and `keys` are for kv-append, whose values are strings: a list of `str` (or None) and of keys, one a row.
    For kv, `keys` holds the key that a number in `key` stands for.
    """

    call: Int
    ret: Int
    f: Byte
    a: Int | None = None
    b: Int | None = None
    key: Int | None = None
    items: Int | None = None
    item_start: Int | None = None
    names: Sequence[Any] | None = None
    source: Sequence[Operation] | None = None
    row_source: Sequence[int] | None = None
    texts: list[str | None] | None = None
    keys: list[Any] | None = None

    def __len__(self) -> int:
        return len(self.call)

    def operation(self, row: int) -> Operation | None:
        """Return the recorded operation of a row, None where only columns are known."""
        if self.source is None:
            return None
        return self.source[row if self.row_source is None else self.row_source[row]]

    def value(self, number: int) -> Any:
        """Return the value that a number in `a`, `b` or `items` stands for."""
        if number == NULL:
            return None
        return number if self.names is None else self.names[number]


def columns(
    call: npt.ArrayLike,
    ret: npt.ArrayLike,
    f: npt.ArrayLike,
    a: npt.ArrayLike,
    b: npt.ArrayLike | None = None,
    key: npt.ArrayLike | None = None,
) -> Operations:
    """Return operations from raw columns as they were recorded: times, codes and ids of any size, in any order.

    Arrays of the right type and layout are taken as they are, without a copy. Raises ValueError when they differ in
    length or an operation returns before its call.
    """

    def whole(column: npt.ArrayLike) -> Int:
        return np.ascontiguousarray(column, dtype=np.int64)

    call, ret, codes = whole(call), whole(ret), np.ascontiguousarray(f, dtype=np.uint8)
    lengths = [len(call), len(ret), len(codes), len(whole(a))] + [len(whole(c)) for c in (b, key) if c is not None]
    if len(set(lengths)) > 1:
        raise ValueError(f"the columns differ in length: {lengths}")
    return Operations(
        call=call,
        ret=ret,
        f=codes,
        a=whole(a),
        b=None if b is None else whole(b),
        key=None if key is None else whole(key),
    )
