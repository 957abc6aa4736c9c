"""From operations as objects to the columns that engines read, one encoder a model. What does not fit is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from checkers.linearizability.decision import DEFAULT
from checkers.linearizability.operations import NEVER, NULL, Code, HistoryError, Operation, Operations

_MADE_UP: Final = "initial state"


class Ids:
    """Numbers for values of any JSON type; true is not 1, 1 is 1.0, null is `NULL`."""

    def __init__(self) -> None:
        self.names: list[Any] = []
        self._numbers: dict[Any, int] = {}

    def __call__(self, value: Any) -> int:
        """Return the number of a value."""
        if value is None:
            return NULL
        kind = value.__class__
        key = value if kind is str else ("n", value) if kind is int or kind is float else canonical(value)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.names)
            self.names.append(value)
        return number


def canonical(value: Any) -> tuple[str, bytes]:
    """Return a hashable form of a JSON value; equal values have equal forms."""
    try:
        return "j", msgspec.json.encode(value, order="sorted")
    except (TypeError, ValueError) as error:
        raise HistoryError(f"a value is not plain data: {value!r}: {error}") from None


class Rows:
    """Gathers rows; knows the operation at hand for messages."""

    def __init__(self, source: Sequence[Operation]) -> None:
        self.source = source
        self.ids = Ids()
        self.call: list[int] = []
        self.ret: list[int] = []
        self.f: list[int] = []
        self.a: list[int] = []
        self.b: list[int] = []
        self.key: list[int] = []
        self.items: list[int] = []
        self.item_start: list[int] = [0]
        self.row_source: list[int] = []
        self.at = 0

    def each(self) -> Iterator[Operation]:
        """Walk over the operations; the one last given is the one at hand."""
        for at, op in enumerate(self.source):
            self.at = at
            yield op

    def refuse(self, what: str) -> HistoryError:
        """Return the error of the operation at hand."""
        op = self.source[self.at]
        line = op.invoked_line if op.invoked_line is not None else op.invoked
        return HistoryError(f"line {line}: {op.f} of process {op.process}: {what}")

    def add(self, f: Code, a: int = NULL, b: int = NULL, *, key: int = 0, items: Sequence[int] = ()) -> None:
        """Add a row for the operation at hand."""
        op = self.source[self.at]
        self.call.append(op.invoked)
        self.ret.append(end(op))
        self.f.append(f)
        self.a.append(a)
        self.b.append(b)
        self.key.append(key)
        self.items.extend(items)
        self.item_start.append(len(self.items))
        self.row_source.append(self.at)

    def finish(self, *, keys: list[Any] | None = None) -> Operations:
        """Return the columns."""
        try:
            call, ret = np.array(self.call, np.int64), np.array(self.ret, np.int64)
        except OverflowError:
            raise HistoryError("a time has more than 62 bits") from None
        late = np.flatnonzero(ret < call)
        if len(late):
            self.at = self.row_source[int(late[0])]
            raise self.refuse(f"returns at {ret[late[0]]}, before its call at {call[late[0]]}")
        return Operations(
            call=call,
            ret=ret,
            f=np.array(self.f, np.uint8),
            a=np.array(self.a, np.int64),
            b=np.array(self.b, np.int64),
            key=None if keys is None else np.array(self.key, np.int64),
            items=np.array(self.items, np.int64),
            item_start=np.array(self.item_start, np.int64),
            names=self.ids.names,
            source=self.source,
            row_source=self.row_source,
            keys=keys,
        )


def end(op: Operation) -> int:
    """Return the time of return; `NEVER` for an unknown outcome."""
    return NEVER if op.outcome == "info" or op.returned is None else op.returned


def open_ended(op: Operation) -> bool:
    """Tell whether nobody knows if the operation happened."""
    return op.outcome == "info" or op.returned is None


def before(source: Sequence[Operation], made_up: Sequence[tuple[str, Any, Any]]) -> Sequence[Operation]:
    """Return the operations with others put before all of them, one after the other: how a queue came to be filled."""
    if not made_up:
        return source
    at = min((op.invoked for op in source), default=0) - 2 * len(made_up)
    first = [
        Operation(f=f, process=_MADE_UP, invoked=at + 2 * i, returned=at + 2 * i + 1, argument=argument, result=result)
        for i, (f, argument, result) in enumerate(made_up)
    ]
    return first + list(source)


def initial_list(init: Any, model: str) -> list[Any]:
    """Return an initial state that is a list of values."""
    if init is DEFAULT or init is None:
        return []
    if not isinstance(init, list | tuple):
        raise HistoryError(f"the initial state of {model} is a list of values, not {init!r}")
    return list(init)


def _queue(source: Sequence[Operation], init: Any, *, drains: bool) -> Operations:
    values = initial_list(init, "total-queue" if drains else "fifo-queue")
    rows = Rows(before(source, [("enqueue", value, None) for value in values]))
    put: dict[int, int] = {}
    drained: list[tuple[int, list[int]]] = []
    for op in rows.each():
        if op.outcome == "fail":
            continue
        if op.f == "enqueue":
            if op.argument is None:
                raise rows.refuse("null cannot be put in")
            put[rows.ids(op.argument)] = op.invoked
            rows.add(Code.ENQUEUE, rows.ids(op.argument))
        elif op.f == "dequeue":
            known = not open_ended(op)
            rows.add(Code.EMPTY if known and op.result is None else Code.DEQUEUE, rows.ids(op.result))
        elif op.f == "drain" and drains:
            if op.result is not None and not isinstance(op.result, list | tuple):
                raise rows.refuse(f"the result is a list, not {op.result!r}")
            if op.result is None and not open_ended(op):
                raise rows.refuse("the result is missing")
            for value in op.result or ():
                rows.add(Code.DEQUEUE, rows.ids(value))
            rows.add(Code.DRAIN if open_ended(op) else Code.EMPTY)
            if not open_ended(op):
                drained.append((len(rows.call) - 1, [rows.ids(value) for value in op.result or ()]))
        else:
            raise rows.refuse("a queue has enqueue and dequeue" + (" and drain" if drains else ""))
    for row, found in drained:
        # A drain finds nothing only after it has taken everything, so after each of that was begun to be put in.
        # One that shows what was put in later still is wrong by that.
        after = max([rows.call[row], *(put[value] + 1 for value in found if value in put)])
        rows.call[row] = min(after, rows.ret[row])
    return rows.finish()


def fifo_queue(source: Sequence[Operation], init: Any) -> Operations:
    """Encode a FIFO queue."""
    return _queue(source, init, drains=False)


def total_queue(source: Sequence[Operation], init: Any) -> Operations:
    """Encode an unordered queue; a drain is a dequeue of each value, and then one that found nothing."""
    return _queue(source, init, drains=True)


def _offset(rows: Rows, value: Any) -> int:
    if value is None:
        return NULL
    if value.__class__ is not int or abs(value) > NEVER:
        raise rows.refuse(f"an offset is a whole number, not {value!r}")
    return int(value)


def append_log(source: Sequence[Operation], init: Any) -> Operations:
    """Encode a log with offsets."""
    values = initial_list(init, "append-log")
    rows = Rows(before(source, [("append", [None, v], [i, v]) for i, v in enumerate(values)]))
    for op in rows.each():
        if op.outcome == "fail":
            continue
        shown = op.result if op.result is not None else op.argument
        if not isinstance(shown, list | tuple) or len(shown) != 2:
            raise rows.refuse(f"a pair of offset and value is needed, not {shown!r}")
        offset, value = shown
        if op.f == "append":
            if op.result is None:
                offset = None
            rows.add(Code.APPEND, rows.ids(value), _offset(rows, offset))
        elif op.f == "read":
            if op.result is None and not open_ended(op):
                raise rows.refuse("the result is missing")
            if op.result is None or (open_ended(op) and value is None):
                continue
            if _offset(rows, offset) == NULL:
                raise rows.refuse("a read names an offset")
            rows.add(Code.LOG_END if value is None else Code.LOG_READ, rows.ids(value), _offset(rows, offset))
        else:
            raise rows.refuse("a log has append and read")
    return rows.finish()


def member_set(source: Sequence[Operation], init: Any) -> Operations:
    """Encode a set that grows."""
    rows = Rows(before(source, [("add", value, None) for value in initial_list(init, "set")]))
    for op in rows.each():
        if op.outcome == "fail":
            continue
        if op.f == "add":
            rows.add(Code.ADD, rows.ids(op.argument))
        elif op.f == "read":
            if open_ended(op):
                continue
            if not isinstance(op.result, list | tuple):
                raise rows.refuse(f"the result is a list of members, not {op.result!r}")
            rows.add(Code.SET_READ, items=[rows.ids(value) for value in op.result])
        else:
            raise rows.refuse("a set has add and read")
    return rows.finish()


def _register(source: Sequence[Operation], *, cas: bool) -> Operations:
    rows = Rows(source)
    for op in rows.each():
        if op.outcome == "fail":
            continue
        if op.f == "read":
            if not open_ended(op):
                rows.add(Code.READ, rows.ids(op.result))
        elif op.f == "write":
            rows.add(Code.WRITE, rows.ids(op.argument))
        elif op.f == "cas" and cas:
            if not isinstance(op.argument, list | tuple) or len(op.argument) != 2:
                raise rows.refuse(f"the argument is [from, to], not {op.argument!r}")
            failed = op.result is False and not open_ended(op)
            rows.add(Code.CAS_FAILED if failed else Code.CAS, *map(rows.ids, op.argument))
        else:
            raise rows.refuse("a register has read and write" + (" and cas" if cas else ""))
    return rows.finish()


def register(source: Sequence[Operation], _init: Any) -> Operations:
    """Encode a register."""
    return _register(source, cas=False)


def cas_register(source: Sequence[Operation], _init: Any) -> Operations:
    """Encode a register with compare-and-set."""
    return _register(source, cas=True)


def mutex(source: Sequence[Operation], _init: Any) -> Operations:
    """Encode a mutex as a register of false and true: acquire swaps one way, release the other."""
    rows = Rows(source)
    free, held = rows.ids(False), rows.ids(True)
    for op in rows.each():
        if op.f not in ("acquire", "release"):
            raise rows.refuse("a mutex has acquire and release")
        if op.outcome != "fail":
            rows.add(Code.CAS, *((free, held) if op.f == "acquire" else (held, free)))
    return rows.finish()


def _pair(rows: Rows, op: Operation) -> tuple[Any, Any]:
    shown = op.result if op.f == "get" and op.result is not None else op.argument
    if not isinstance(shown, list | tuple) or len(shown) != 2:
        raise rows.refuse(f"a pair of key and value is needed, not {shown!r}")
    return shown[0], shown[1]


def kv(source: Sequence[Operation], _init: Any) -> Operations:
    """Encode registers by key."""
    rows, keys = Rows(source), Ids()
    for op in rows.each():
        if op.outcome == "fail":
            continue
        if op.f not in ("get", "put"):
            raise rows.refuse("a kv has get and put")
        if op.f == "get" and open_ended(op):
            continue
        key, value = _pair(rows, op)
        rows.add(Code.READ if op.f == "get" else Code.WRITE, rows.ids(value), key=keys(key))
    return rows.finish(keys=keys.names)


def kv_append(source: Sequence[Operation], _init: Any) -> Operations:
    """Encode strings by key."""
    rows = Rows(source)
    texts: list[str | None] = []
    keys: list[Any] = []
    codes = {"get": Code.READ, "put": Code.WRITE, "append": Code.APPEND}
    for op in rows.each():
        if op.outcome == "fail":
            continue
        if op.f not in codes:
            raise rows.refuse("a kv-append has get, put and append")
        if op.f == "get" and open_ended(op):
            continue
        key, value = _pair(rows, op)
        if not isinstance(value, str) and (value is not None or op.f != "get"):
            raise rows.refuse(f"values are strings, not {value!r}")
        keys.append(key if isinstance(key, str | int) and not isinstance(key, bool) else canonical(key))
        texts.append(value)
        rows.add(codes[op.f])
    found = rows.finish()
    return Operations(
        call=found.call, ret=found.ret, f=found.f, texts=texts, keys=keys, source=source, row_source=rows.row_source
    )


def multi_register(source: Sequence[Operation], _init: Any) -> Operations:
    """Encode transactions over registers: `a` is the number of the list of steps, with what was read."""
    rows = Rows(source)
    for op in rows.each():
        if op.outcome == "fail":
            continue
        shown = op.result if op.result is not None else op.argument
        if op.f != "txn" or not isinstance(shown, list | tuple):
            raise rows.refuse('a multi-register has txn with a list of ["read" | "write", key, value]')
        steps = []
        for step in shown:
            if not isinstance(step, list | tuple) or len(step) != 3 or step[0] not in ("read", "write", "r", "w"):
                raise rows.refuse(f'a step is ["read" | "write", key, value], not {step!r}')
            name = "read" if step[0] in ("read", "r") else "write"
            if name == "read" and op.result is None:
                continue  # nobody saw what it read
            steps.append([name, step[1], step[2]])
        rows.add(Code.TRANSACTION, rows.ids(steps))
    return rows.finish()


ENCODERS: Final[dict[str, Callable[[Sequence[Operation], Any], Operations]]] = {
    "append-log": append_log,
    "cas-register": cas_register,
    "fifo-queue": fifo_queue,
    "kv": kv,
    "kv-append": kv_append,
    "multi-register": multi_register,
    "mutex": mutex,
    "register": register,
    "set": member_set,
    "total-queue": total_queue,
}
