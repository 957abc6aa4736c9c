"""The judge of the judges: every order of a small history that agrees with real time, tried on a plain specification.

Nothing here is shared with the engine. Specifications work on plain values: (state, operation) to the list of next
states, empty where the operation is illegal. An operation of unknown outcome may have any effect it could have had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from checkers.linearizability.operations import Operation

Spec = Callable[[Any, Operation, bool], Iterable[Any]]


def brute_force(spec: Spec, init: Any, operations: Sequence[Operation]) -> bool:
    """Tell whether some order explains the history. Operations of unknown outcome may be left out."""
    ops = [op for op in operations if op.outcome != "fail"]
    ends = [None if op.outcome == "info" else op.returned for op in ops]
    unknown = [end is None for end in ends]
    before = [sum(1 << j for j, end in enumerate(ends) if end is not None and end < op.invoked) for op in ops]
    needed = sum(1 << i for i in range(len(ops)) if not unknown[i])
    seen: set[tuple[int, Any]] = set()
    todo = [(0, init)]
    while todo:
        done, state = todo.pop()
        if done & needed == needed:
            return True
        for i, op in enumerate(ops):
            if not done >> i & 1 and before[i] & ~done == 0:
                for following in spec(state, op, unknown[i]):
                    config = (done | 1 << i, following)
                    if config not in seen:
                        seen.add(config)
                        todo.append(config)
    return False


def replay(spec: Spec, init: Any, operations: Sequence[Operation], order: Sequence[int]) -> bool:
    """Tell whether an order holds every known operation once, agrees with real time and is legal step by step."""
    known = {i for i, op in enumerate(operations) if op.outcome == "ok" and op.returned is not None}
    if len(set(order)) != len(order) or known - set(order):
        return False
    latest, states = None, {init}
    for i in order:
        op = operations[i]
        if op.outcome == "fail" or (
            latest is not None and op.returned is not None and op.outcome == "ok" and op.returned < latest
        ):
            return False
        latest = op.invoked if latest is None else max(latest, op.invoked)
        states = {n for state in states for n in spec(state, op, i not in known)}
        if not states:
            return False
    return True


def register(state: Any, op: Operation, unknown: bool) -> Iterable[Any]:
    if op.f == "read":
        return [state] if unknown or state == op.result else []
    if op.f == "write":
        return [op.argument]
    if op.result is False:
        return [state] if state != op.argument[0] else []
    return [op.argument[1]] if state == op.argument[0] else []


def mutex(state: bool, op: Operation, unknown: bool) -> Iterable[bool]:
    return [not state] if state is (op.f == "release") else []


def queue(state: tuple[Any, ...], op: Operation, unknown: bool) -> Iterable[tuple[Any, ...]]:
    if op.f == "enqueue":
        return [(*state, op.argument)]
    if unknown and op.result is None:
        return [state[1:]] if state else []
    if op.result is None:
        return [] if state else [state]
    return [state[1:]] if state and state[0] == op.result else []


def bag(state: tuple[Any, ...], op: Operation, unknown: bool) -> Iterable[tuple[Any, ...]]:
    if op.f == "enqueue":
        return [tuple(sorted((*state, op.argument)))]
    if unknown and op.result is None:
        return [state[:i] + state[i + 1 :] for i in range(len(state))]
    if op.result is None:
        return [] if state else [state]
    if op.result not in state:
        return []
    at = state.index(op.result)
    return [state[:at] + state[at + 1 :]]


def log(state: tuple[Any, ...], op: Operation, unknown: bool) -> Iterable[tuple[Any, ...]]:
    if op.f == "append":
        offset = None if op.result is None else op.result[0]
        return [(*state, op.argument[1])] if offset in (None, len(state)) else []
    if unknown and op.result is None:
        return [state]
    offset, value = op.result
    if value is None:
        return [state] if len(state) <= offset else []
    return [state] if 0 <= offset < len(state) and state[offset] == value else []


def members(state: frozenset[Any], op: Operation, unknown: bool) -> Iterable[frozenset[Any]]:
    if op.f == "add":
        return [state | {op.argument}]
    return [state] if unknown or (len(op.result) == len(state) and set(op.result) == state) else []


def keyed(empty: Any) -> Spec:
    def step(state: tuple[tuple[Any, Any], ...], op: Operation, unknown: bool) -> Iterable[Any]:
        now = dict(state)
        key, value = op.argument
        if op.f == "get":
            return [state] if op.result is None or now.get(key, empty) == op.result[1] else []
        now[key] = value if op.f == "put" else now.get(key, empty) + value
        return [tuple(sorted(now.items()))]

    return step


def multi(state: tuple[tuple[Any, Any], ...], op: Operation, unknown: bool) -> Iterable[Any]:
    now = dict(state)
    blind = unknown and op.result is None
    for name, key, value in op.argument if blind else op.result:
        if name == "write":
            now[key] = value
        elif not blind and now.get(key) != value:
            return []
    return [tuple(sorted(now.items()))]
