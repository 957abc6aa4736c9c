"""Small random histories of every model: a legal run under random interleaving, then sometimes spoilt.

`random` makes histories of (call, return) intervals by running operations on a real object at a random instant inside
each interval; results are then mutated with some probability, so that about half of the histories are illegal.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from checkers.linearizability.operations import Operation
from tests.unit.checkers.linearizability import oracle

Act = Callable[[random.Random, Any, int], tuple[str, Any, Callable[[Any], tuple[Any, Any]]]]


@dataclass(frozen=True)
class Kind:
    """A model's name, its specification and initial state for the oracle, how to act, what wrong results look like."""

    model: str
    spec: oracle.Spec
    init: Any
    start: Callable[[], Any]
    act: Act
    wrong: Callable[[random.Random, Operation], Any]


def history(kind: Kind, rng: random.Random, size: int, clients: int, unknown: float, spoil: float) -> list[Operation]:
    """Return a history of about `size` operations by some clients."""
    state = kind.start()
    waiting: list[dict[str, Any]] = []
    done: list[dict[str, Any]] = []
    free = list(range(clients))
    process = clients
    at = made = 0
    while made < size or waiting:
        at += 1
        ready = [one for one in waiting if one["effect"]]
        choice = rng.random()
        if made < size and free and (choice < 0.45 or not waiting):
            f, argument, effect = kind.act(rng, state, made)
            client = free.pop(rng.randrange(len(free)))
            waiting.append(
                {"f": f, "argument": argument, "invoked": at, "do": effect, "effect": False, "client": client}
            )
            made += 1
        elif choice < 0.75 and len(ready) < len(waiting):
            one = rng.choice([w for w in waiting if not w["effect"]])
            state, one["result"] = one["do"](state)
            one["effect"] = True
        elif ready:
            one = rng.choice(ready)
            waiting.remove(one)
            one["returned"] = at
            free.append(one["client"])
            done.append(one)
            if rng.random() < unknown:
                one["unknown"] = True
                free[-1] = process
                process += 1
        elif waiting and rng.random() < unknown:  # never takes effect
            one = waiting.pop(rng.randrange(len(waiting)))
            one.update(unknown=True, result=None, returned=at)
            free.append(process)
            process += 1
            done.append(one)
    out = []
    for one in sorted(done, key=lambda one: one["invoked"]):
        lost = one.get("unknown", False)
        out.append(
            Operation(
                f=one["f"],
                argument=one["argument"],
                result=None if lost else one["result"],
                process=one["client"],
                invoked=one["invoked"],
                returned=None if lost else one["returned"],
                outcome="info" if lost else "ok",
            )
        )
    if rng.random() < spoil and out:
        for _ in range(rng.choice((1, 1, 2))):
            i = rng.randrange(len(out))
            out[i] = kind.wrong(rng, out[i])
    return out


def changed(op: Operation, **changes: Any) -> Operation:
    fields = {name: getattr(op, name) for name in op.__struct_fields__}
    return Operation(**{**fields, **changes})


def _moved(rng: random.Random, op: Operation) -> Operation:
    """Shift or narrow an operation's interval: the same results, other real time."""
    if op.returned is None:
        return changed(op, invoked=op.invoked + rng.randrange(4))
    begin = rng.randrange(op.invoked, op.returned + 3)
    return changed(op, invoked=begin, returned=begin + rng.randrange(1, 4))


def _queue_act(drains: bool) -> Act:
    def act(rng: random.Random, state: Any, number: int) -> Any:
        if rng.random() < 0.5:
            return "enqueue", number, lambda s: ((*s, number), None)

        def take(s: tuple[int, ...]) -> tuple[Any, Any]:
            if not s:
                return s, None
            at = rng.randrange(len(s)) if drains else 0
            return s[:at] + s[at + 1 :], s[at]

        return "dequeue", None, take

    return act


def _queue_wrong(values: int) -> Callable[[random.Random, Operation], Operation]:
    def wrong(rng: random.Random, op: Operation) -> Operation:
        if op.f == "enqueue" or rng.random() < 0.4:
            return _moved(rng, op)
        if op.outcome == "info":
            return op
        return changed(op, result=rng.choice((None, *range(values), 99)))

    return wrong


def _repeated(values: int, drains: bool) -> Act:
    plain = _queue_act(drains)

    def act(rng: random.Random, state: Any, number: int) -> Any:
        return plain(rng, state, rng.randrange(values))

    return act


def _log_act(values: int | None) -> Act:
    def act(rng: random.Random, state: Any, number: int) -> Any:
        value = number if values is None else rng.randrange(values)
        if rng.random() < 0.5:
            return "append", [None, value], lambda s: ((*s, value), [len(s), value])
        back = rng.randrange(-1, 2)
        offset = max(0, len(state) - back)

        return "read", [offset, None], lambda s: (s, [offset, s[offset] if offset < len(s) else None])

    return act


def _log_wrong(rng: random.Random, op: Operation) -> Operation:
    if op.outcome == "info" or rng.random() < 0.5:
        return _moved(rng, op)
    offset, value = op.result
    if op.f == "append":
        return changed(op, result=[max(0, offset + rng.choice((-1, 1))), value])
    return changed(op, result=[offset, rng.choice((None, 0, 1, 2, 3, 4, 5))])


def _set_act(rng: random.Random, state: Any, number: int) -> Any:
    if rng.random() < 0.6:
        value = rng.randrange(5)
        return "add", value, lambda s: (s | {value}, None)
    return "read", None, lambda s: (s, sorted(s))


def _set_wrong(rng: random.Random, op: Operation) -> Operation:
    if op.f == "add" or op.outcome == "info" or rng.random() < 0.3:
        return _moved(rng, op)
    value = rng.randrange(6)
    items = list(op.result)
    return changed(
        op, result=[i for i in items if i != value] if value in items and rng.random() < 0.8 else [*items, value]
    )


def _register_act(values: int | None, cas: bool) -> Act:
    def act(rng: random.Random, state: Any, number: int) -> Any:
        value = number if values is None else rng.randrange(values)
        dice = rng.random()
        if dice < 0.45:
            return "read", None, lambda s: (s, s)
        if dice < 0.7 or not cas:
            return "write", value, lambda s: (value, None)
        old = rng.randrange(values or 3)
        return "cas", [old, value], lambda s: (value, True) if s == old else (s, False)

    return act


def _register_wrong(rng: random.Random, op: Operation) -> Operation:
    if op.outcome == "info" or op.f == "write" or rng.random() < 0.4:
        return _moved(rng, op)
    if op.f == "cas":
        return changed(op, result=not op.result)
    return changed(op, result=rng.choice((None, 0, 1, 2, 3, 4, 9)))


def _kv_act(values: int | None, append: bool) -> Act:
    def act(rng: random.Random, state: Any, number: int) -> Any:
        key = rng.choice("xy")
        value: Any = number if values is None else rng.randrange(values)
        if append:
            value = rng.choice(("a", "b"))
        empty = "" if append else None
        dice = rng.random()
        if dice < 0.45:
            return "get", [key, None], lambda s: (s, [key, s.get(key, empty)])
        if append and dice < 0.8:
            return "append", [key, value], lambda s: ({**s, key: s.get(key, "") + value}, [key, value])
        return "put", [key, value], lambda s: ({**s, key: value}, [key, value])

    return act


def _kv_wrong(append: bool) -> Callable[[random.Random, Operation], Operation]:
    def wrong(rng: random.Random, op: Operation) -> Operation:
        if op.outcome == "info" or op.f != "get" or rng.random() < 0.4:
            return _moved(rng, op)
        shown = rng.choice(("", "a", "b", "ab", "ba")) if append else rng.choice((None, 0, 1, 2, 3))
        return changed(op, result=[op.argument[0], shown])

    return wrong


def _mutex_act(rng: random.Random, state: Any, number: int) -> Any:
    # a real lock would wait; here an operation acts as if it had waited, and illegal histories come by themselves
    if rng.random() < 0.5:
        return "acquire", None, lambda s: (True, None)
    return "release", None, lambda s: (False, None)


def _multi_act(rng: random.Random, state: Any, number: int) -> Any:
    steps = [(rng.choice(("read", "write")), rng.choice("xy"), rng.randrange(2)) for _ in range(rng.choice((1, 2)))]

    def run(s: dict[str, int]) -> tuple[Any, Any]:
        now, shown = dict(s), []
        for name, key, value in steps:
            if name == "write":
                now[key] = value
            shown.append([name, key, now.get(key)])
        return now, shown

    return "txn", [[n, k, v if n == "write" else None] for n, k, v in steps], run


def _multi_wrong(rng: random.Random, op: Operation) -> Operation:
    if op.outcome == "info" or rng.random() < 0.4:
        return _moved(rng, op)
    return changed(op, result=[[n, k, rng.choice((None, 0, 1)) if n == "read" else v] for n, k, v in op.result])


KINDS = {
    "fifo": Kind("fifo-queue", oracle.queue, (), tuple, _queue_act(False), _queue_wrong(6)),
    "fifo-repeated": Kind("fifo-queue", oracle.queue, (), tuple, _repeated(2, False), _queue_wrong(2)),
    "bag": Kind("total-queue", oracle.bag, (), tuple, _queue_act(True), _queue_wrong(6)),
    "bag-repeated": Kind("total-queue", oracle.bag, (), tuple, _repeated(2, True), _queue_wrong(2)),
    "log": Kind("append-log", oracle.log, (), tuple, _log_act(None), _log_wrong),
    "log-repeated": Kind("append-log", oracle.log, (), tuple, _log_act(2), _log_wrong),
    "set": Kind("set", oracle.members, frozenset(), frozenset, _set_act, _set_wrong),
    "register-unique": Kind(
        "register", oracle.register, None, lambda: None, _register_act(None, False), _register_wrong
    ),
    "register": Kind("register", oracle.register, None, lambda: None, _register_act(3, False), _register_wrong),
    "cas-register": Kind("cas-register", oracle.register, None, lambda: None, _register_act(3, True), _register_wrong),
    "kv-unique": Kind("kv", oracle.keyed(None), (), dict, _kv_act(None, False), _kv_wrong(False)),
    "kv": Kind("kv", oracle.keyed(None), (), dict, _kv_act(3, False), _kv_wrong(False)),
    "kv-append": Kind("kv-append", oracle.keyed(""), (), dict, _kv_act(None, True), _kv_wrong(True)),
    "mutex": Kind("mutex", oracle.mutex, False, lambda: False, _mutex_act, _moved),
    "multi-register": Kind("multi-register", oracle.multi, (), dict, _multi_act, _multi_wrong),
}


def shape(rng: random.Random) -> tuple[int, int, float, float]:
    """Draw (size, clients, share of unknown outcomes, chance of being spoilt)."""
    return rng.randint(2, 9), rng.randint(2, 6), rng.choice((0.0, 0.0, 0.15, 0.4)), 0.75
