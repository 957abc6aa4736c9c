"""Sequential specifications over rows of columns, for models that are searched: what an operation does to a state.

States are frozen values. A step returns the next state, or None where the operation is illegal.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

from checkers.linearizability.operations import NULL, Code

Next = Hashable | None
Stepper = Callable[[Any, int, int, int], Next]
"""(state, code, a, b) to the next state or None."""


def register(state: int, f: int, a: int, b: int) -> Next:
    """Step a register with compare-and-set."""
    if f == Code.READ:
        return state if state == a else None
    if f == Code.WRITE:
        return a
    if f == Code.CAS:
        return b if state == a else None
    return state if state != a else None


def fifo(state: tuple[int, ...], f: int, a: int, _b: int) -> Next:
    """Step a FIFO queue; a dequeue of unknown value takes the head."""
    if f == Code.ENQUEUE:
        return (*state, a)
    if f == Code.EMPTY:
        return None if state else state
    return state[1:] if state and a in (NULL, state[0]) else None


Bags = frozenset[tuple[int, ...]]


def bag(state: Bags, f: int, a: int, _b: int) -> Next:
    """Step the set of contents a bag may have: a dequeue of unknown value may have taken any."""
    if f == Code.ENQUEUE:
        return frozenset(tuple(sorted((*one, a))) for one in state)
    if f == Code.EMPTY:
        return frozenset({()}) if () in state else None
    if f == Code.DRAIN:  # of unknown outcome: any part of the contents
        todo, found = list(state), set(state)
        while todo:
            one = todo.pop()
            fewer = {one[:i] + one[i + 1 :] for i in range(len(one))} - found
            found |= fewer
            todo += fewer
        return frozenset(found)
    out = frozenset(one[:i] + one[i + 1 :] for one in state for i in range(len(one)) if a in (NULL, one[i]))
    return out or None


def log(state: tuple[int, ...], f: int, a: int, b: int) -> Next:
    """Step a log with offsets; an append of unknown offset goes to the end."""
    if f == Code.APPEND:
        return (*state, a) if b in (NULL, len(state)) else None
    if f == Code.LOG_READ:
        return state if 0 <= b < len(state) and state[b] == a else None
    return state if len(state) <= b else None


def members(state: frozenset[int], f: int, a: int, _b: int, items: Sequence[frozenset[int]] = ()) -> Next:
    """Step a set; `a` of a read is the place of its members in `items`."""
    if f == Code.ADD:
        return state | {a}
    return state if items[a] == state else None


def is_pure(f: int, a: int, b: int) -> bool:
    """Tell whether an operation never changes any state."""
    return f in _PURE or (f == Code.CAS and a == b)


_PURE: Final = frozenset({Code.READ, Code.CAS_FAILED, Code.EMPTY, Code.LOG_READ, Code.LOG_END, Code.SET_READ})
