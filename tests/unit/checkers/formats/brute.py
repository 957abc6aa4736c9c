"""Linearizability by trying every order, for histories of a few operations; and random legal histories to try it on.

Independent of the checkers: models as plain functions from (state, operation) to the states that may follow.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from checkers.linearizability.operations import Operation

State = Any
Step = Callable[[State, Operation], Iterator[State]]


def _register(state: State, op: Operation) -> Iterator[State]:
    if op.f == "read":
        if op.outcome == "info" or op.result == state:
            yield state
    elif op.f == "write":
        yield op.argument
    elif op.result is False:
        if state != op.argument[0]:
            yield state
    elif state == op.argument[0]:
        yield op.argument[1]


def _fifo(state: State, op: Operation) -> Iterator[State]:
    if op.f == "enqueue":
        yield (*state, op.argument)
    elif op.outcome == "info" and op.result is None:
        yield state[1:]
    elif op.result is None:
        if not state:
            yield state
    elif state and state[0] == op.result:
        yield state[1:]


def _bag(state: State, op: Operation) -> Iterator[State]:
    if op.f == "enqueue":
        yield (*state, op.argument)
    elif op.f == "drain":
        if op.result is None or sorted(op.result) == sorted(state):
            yield ()
    elif op.outcome == "info" and op.result is None:
        for place in range(len(state)):
            yield state[:place] + state[place + 1 :]
    elif op.result is None:
        if not state:
            yield state
    elif op.result in state:
        place = state.index(op.result)
        yield state[:place] + state[place + 1 :]


def _log(state: State, op: Operation) -> Iterator[State]:
    if op.f == "append":
        if op.result is None or op.result[0] is None or op.result[0] == len(state):
            yield (*state, op.argument[1])
    elif op.outcome == "info":
        yield state
    else:
        offset, value = op.result
        if (value is None and offset >= len(state)) or (offset < len(state) and state[offset] == value):
            yield state


def _set(state: State, op: Operation) -> Iterator[State]:
    if op.f == "add":
        yield tuple(sorted({*state, op.argument}))
    elif op.outcome == "info" or sorted(op.result) == list(state):
        yield state


def _keys(state: State, op: Operation) -> Iterator[State]:
    values = dict(state)
    if op.f == "txn":
        for name, key, value in op.result or op.argument:
            if name == "write":
                values[key] = value
            elif values.get(key) != value and op.outcome != "info":
                return
    elif op.f == "get":
        if op.outcome != "info" and values.get(op.argument[0]) != op.result[1]:
            return
    elif op.f == "put":
        values[op.argument[0]] = op.argument[1]
    yield tuple(sorted(values.items()))


def _texts(state: State, op: Operation) -> Iterator[State]:
    values, (key, text) = dict(state), op.argument
    if op.f == "get":
        if op.outcome != "info" and values.get(key, "") != op.result[1]:
            return
    else:
        values[key] = text if op.f == "put" else values.get(key, "") + text
    yield tuple(sorted(values.items()))


def _mutex(state: State, op: Operation) -> Iterator[State]:
    if state == (op.f == "release"):
        yield not state


MODELS: dict[str, tuple[State, Step]] = {
    "register": (None, _register),
    "cas-register": (None, _register),
    "fifo-queue": ((), _fifo),
    "total-queue": ((), _bag),
    "append-log": ((), _log),
    "set": ((), _set),
    "kv": ((), _keys),
    "kv-append": ((), _texts),
    "multi-register": ((), _keys),
    "mutex": (False, _mutex),
}


def linearizable(model: str, operations: Sequence[Operation]) -> bool:
    """Try every order."""
    start, step = MODELS[model]
    ops = [one for one in operations if one.outcome != "fail"]
    dead: set[tuple[frozenset[int], State]] = set()

    def search(left: frozenset[int], state: State) -> bool:
        if all(ops[place].returned is None for place in left):
            return True
        if (left, state) in dead:
            return False
        first = min(end for place in left if (end := ops[place].returned) is not None)
        for place in sorted(left):
            if ops[place].invoked <= first and any(search(left - {place}, after) for after in step(state, ops[place])):
                return True
        dead.add((left, state))
        return False

    return search(frozenset(range(len(ops))), start)


def _ask(model: str, chance: random.Random, number: int, state: State) -> tuple[str, Any]:
    small = chance.randrange(3)
    if model in ("register", "cas-register"):
        f = chance.choice(["read", "write"] + (["cas"] if model == "cas-register" else []))
        return f, [small, chance.randrange(3)] if f == "cas" else small if f == "write" else None
    if model in ("fifo-queue", "total-queue"):
        f = chance.choice(
            ["enqueue", "dequeue"] + (["drain"] if model == "total-queue" and chance.random() < 0.3 else [])
        )
        return f, number if f == "enqueue" else None
    if model == "append-log":
        f = chance.choice(["append", "read"])
        return f, [None, number] if f == "append" else [max(0, len(state) - chance.randrange(3)), None]
    if model == "set":
        f = chance.choice(["add", "read"])
        return f, small if f == "add" else None
    if model in ("kv", "kv-append"):
        f = chance.choice(["get", "put"] + (["append"] if model == "kv-append" else []))
        value = None if f == "get" else f"{number}" if model == "kv-append" else small
        return f, [chance.choice("xy"), value]
    if model == "multi-register":
        steps = [[chance.choice(["read", "write"]), key, small] for key in "xy" if chance.random() < 0.7] or [
            ["read", "x", 0]
        ]
        return "txn", [[name, key, None if name == "read" else value] for name, key, value in steps]
    return ("release" if state else "acquire"), None


def _answer(model: str, f: str, asked: Any, state: State) -> tuple[Any, State]:
    """Carry an operation out; return its result and the next state."""
    if f in ("read", "dequeue", "drain") and model != "append-log":
        if f == "read":
            return (list(state) if model == "set" else state), state
        if f == "drain":
            return list(state), ()
        return (state[0] if state else None), state[1:]
    if model == "append-log":
        if f == "append":
            return [len(state), asked[1]], (*state, asked[1])
        return [asked[0], state[asked[0]] if asked[0] < len(state) else None], state
    values = dict(state) if model in ("kv", "kv-append", "multi-register") else {}
    if f == "get":
        return [asked[0], values.get(asked[0], "" if model == "kv-append" else None)], state
    if f == "cas":
        return (True, asked[1]) if state == asked[0] else (False, state)
    result: Any = None
    if f == "txn":
        result = []
        for name, key, value in asked:
            values[key] = value if name == "write" else values.get(key)
            result.append([name, key, values[key]])
        values = {key: value for key, value in values.items() if value is not None}
    elif f in ("put", "append") and model in ("kv", "kv-append"):
        values[asked[0]] = asked[1] if f == "put" else values.get(asked[0], "") + asked[1]
    elif model in ("register", "cas-register"):
        return None, asked
    elif model in ("fifo-queue", "total-queue"):
        return None, (*state, asked)
    elif model == "set":
        return None, tuple(sorted({*state, asked}))
    else:
        return None, not state
    return result, tuple(sorted(values.items()))


def legal(model: str, chance: random.Random, count: int, unknown: float = 0.25) -> list[Operation]:
    """A history that some system could have shown: every operation takes effect at an instant inside its interval."""
    state = MODELS[model][0]
    points: list[Operation] = []
    for number in range(count):
        f, asked = _ask(model, chance, number, state)
        lost = chance.random() < unknown
        at = number * 10 + 5
        begin, end = at - chance.randrange(1, 25), at + chance.randrange(1, 25)
        result = None
        if not lost or chance.random() < 0.5:
            result, state = _answer(model, f, asked, state)
        points.append(
            Operation(
                f=f,
                process=number,
                invoked=begin * 50 + number,
                returned=None if lost else end * 50 + 25 + number,
                outcome="info" if lost else "ok",
                argument=asked,
                result=None if lost else result,
                invoked_line=begin + 100,
                returned_line=None if lost else end + 100,
            )
        )
    return sorted(points, key=lambda one: one.invoked)


def bent(model: str, chance: random.Random, operations: list[Operation]) -> list[Operation]:
    """Swap two results or narrow two intervals, so that the history may be illegal."""
    out = list(operations)
    kind = chance.choice(sorted({one.f for one in out}))
    same = [place for place, one in enumerate(out) if one.f == kind and one.outcome == "ok"]
    if len(same) >= 2:
        first, second = chance.sample(same, 2)
        one, other = out[first], out[second]
        if one.argument == other.argument or one.argument is None:
            out[first], out[second] = _with(one, result=other.result), _with(other, result=one.result)
        else:
            out[first] = _with(one, invoked=other.invoked, returned=other.returned, process=other.process)
            out[second] = _with(other, invoked=one.invoked, returned=one.returned, process=one.process)
    return sorted(out, key=lambda one: one.invoked)


def _with(one: Operation, **changes: Any) -> Operation:
    return msgspec.structs.replace(one, **changes)
