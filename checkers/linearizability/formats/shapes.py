"""What the values of each model's operations look like in a history, and how they become argument and result.

A value of another shape is refused with its line: guessing what a history may have meant is how false verdicts arise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec

from checkers.linearizability.formats.recording import FAIL, INFO, OK, Result, Shape, ShapeError

FailedCas = Literal["dropped", "observed"]
"""What a `fail` of cas without an error says: that it had no effect, or that the server answered "compare failed"."""

UNSET: Final = msgspec.UNSET

Arm = Callable[[Any, int, Any, bool], Result]
"""One operation of a model: (invoked value, type of completion, completed value, has error) to its result."""


def _say(value: Any) -> str:
    text = "nothing" if value is UNSET else msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."


def _asked(reason: str) -> ShapeError:
    return ShapeError(reason, completed=False)


def _answered(reason: str) -> ShapeError:
    return ShapeError(reason, completed=True)


def _null(value: Any) -> bool:
    return value is None or value is UNSET


def same(one: Any, other: Any) -> bool:
    """Tell whether two JSON values are the same; true and 1 are not."""
    if one.__class__ is not other.__class__:
        numbers = one.__class__ in (int, float) and other.__class__ in (int, float)
        return numbers and bool(one == other)
    if one.__class__ is list:
        return len(one) == len(other) and all(map(same, one, other))
    if one.__class__ is dict:
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    return bool(one == other)


def _pair(value: Any, what: str, fault: Callable[[str], ShapeError]) -> list[Any]:
    if value.__class__ is list and len(value) == 2:
        return list(value)
    raise fault(f"the value must be {what}, not {_say(value)}")


def _outcome(kind: int) -> str:
    return "ok" if kind == OK else "fail" if kind == FAIL else "info"


def _echo(asked: Any, kind: int, answer: Any) -> None:
    """An operation without a result answers with its argument, with null or with true."""
    if kind == OK and not _null(answer) and answer is not True and not same(answer, asked):
        raise _answered(f"answers {_say(answer)}, but asked was {_say(asked)}: this completion belongs elsewhere")


def _no_argument(asked: Any) -> None:
    if not _null(asked):
        raise _asked(f"the value of this invocation must be null, not {_say(asked)}")


def _given(answer: Any) -> Any:
    if answer is UNSET:
        raise _answered("the value is missing: null would mean that the answer was null")
    return answer


def _read(asked: Any, kind: int, answer: Any, _error: bool) -> Result:
    _no_argument(asked)
    if kind == OK:
        return "ok", None, _given(answer)
    return _outcome(kind), None, None if answer is UNSET or kind == FAIL else answer


def _register_read(asked: Any, kind: int, answer: Any, error: bool) -> Result:
    """Some tools write the value read into the invocation too, once they know it."""
    if not _null(asked) and kind == OK and not same(asked, answer):
        raise _answered(f"read {_say(answer)}, but the invocation already says {_say(asked)}")
    return _read(None, kind, answer, error)


def _write(asked: Any, kind: int, answer: Any, _error: bool) -> Result:
    if asked is UNSET:
        raise _asked("the value to write is missing")
    _echo(asked, kind, answer)
    return _outcome(kind), asked, None


def _cas(failed: FailedCas) -> Arm:
    def arm(asked: Any, kind: int, answer: Any, error: bool) -> Result:
        pair = _pair(asked, "[from, to]", _asked)
        if kind == OK and answer is False:
            return "ok", pair, False
        _echo(asked, kind, answer)
        if kind == FAIL and failed == "observed" and not error:
            return "ok", pair, False
        return _outcome(kind), pair, True if kind == OK else None

    return arm


def _token(_asked_value: Any, kind: int, _answer: Any, _error: bool) -> Result:
    return _outcome(kind), None, None


def _put_in(asked: Any, kind: int, answer: Any, _error: bool) -> Result:
    if _null(asked):
        raise _asked("null cannot be put in: a dequeue that answers null found nothing")
    _echo(asked, kind, answer)
    return _outcome(kind), asked, None


def _members(answer: Any) -> list[Any]:
    if answer.__class__ is not list:
        raise _answered(f"the answer must be a list, not {_say(answer)}")
    return list(answer)


def _listed(asked: Any, kind: int, answer: Any, _error: bool) -> Result:
    _no_argument(asked)
    if kind == OK:
        return "ok", None, _members(_given(answer))
    return _outcome(kind), None, None if _null(answer) or kind == FAIL else _members(answer)


def _offset(value: Any, fault: Callable[[str], ShapeError]) -> int:
    if value.__class__ is not int or not 0 <= value < 1 << 62:
        raise fault(f"an offset is a whole number from 0, not {_say(value)}")
    return int(value)


def _log_append(asked: Any, kind: int, answer: Any, _error: bool) -> Result:
    given = _pair(asked, "[null, value]", _asked)
    if given[0] is not None or given[1] is None:
        raise _asked(f"append takes [null, value], not {_say(asked)}")
    if kind == FAIL or _null(answer) or answer is True:
        return _outcome(kind), given, None if kind != OK else [None, given[1]]
    offset, value = _pair(answer, "[offset, value]", _answered)
    if not same(value, given[1]):
        raise _answered(f"answers for {_say(value)}, but appended was {_say(given[1])}")
    if offset is None:
        return _outcome(kind), given, [None, value] if kind == OK else None
    return _outcome(kind), given, [_offset(offset, _answered), value]


def _log_read(asked: Any, kind: int, answer: Any, _error: bool) -> Result:
    given = _pair(asked, "[offset, null]", _asked)
    offset = _offset(given[0], _asked)
    if given[1] is not None:
        raise _asked(f"read takes [offset, null], not {_say(asked)}")
    if kind != OK and (_null(answer) or kind == FAIL or same(answer, asked)):
        return _outcome(kind), [offset, None], None
    found = _pair(_given(answer), "[offset, value], or [offset, null] at the end", _answered)
    if _offset(found[0], _answered) != offset:
        raise _answered(f"answers for offset {found[0]}, but asked was offset {offset}")
    return _outcome(kind), [offset, None], found


def _key(pair: list[Any], fault: Callable[[str], ShapeError]) -> Any:
    if pair[0] is None or pair[0].__class__ is list or pair[0].__class__ is dict:
        raise fault(f"a key is a string or a number, not {_say(pair[0])}")
    return pair[0]


def _text(value: Any, texts: bool, fault: Callable[[str], ShapeError]) -> Any:
    if texts and value.__class__ is not str:
        raise fault(f"values of kv-append are strings, not {_say(value)}")
    return value


def _get(texts: bool) -> Arm:
    def arm(asked: Any, kind: int, answer: Any, _error: bool) -> Result:
        given = _pair(asked, "[key, null]", _asked)
        key = _key(given, _asked)
        if given[1] is not None:
            raise _asked(f"get takes [key, null], not {_say(asked)}")
        if kind != OK and (_null(answer) or kind == FAIL or same(answer, asked)):
            return _outcome(kind), given, None
        found = _pair(_given(answer), "[key, value]", _answered)
        if not same(_key(found, _answered), key):
            raise _answered(f"answers for key {_say(found[0])}, but asked was {_say(key)}")
        _text(found[1], texts, _answered)
        return _outcome(kind), given, found

    return arm


def _put(texts: bool) -> Arm:
    def arm(asked: Any, kind: int, answer: Any, _error: bool) -> Result:
        given = _pair(asked, "[key, value]", _asked)
        _key(given, _asked)
        _text(given[1], texts, _asked)
        _echo(asked, kind, answer)
        return _outcome(kind), given, None

    return arm


_STEP: Final = {"read": "read", "r": "read", "write": "write", "w": "write"}


def _steps(value: Any, fault: Callable[[str], ShapeError]) -> list[list[Any]]:
    if value.__class__ is not list:
        raise fault(f'a txn is a list of ["read"|"write", key, value], not {_say(value)}')
    steps = []
    for step in value:
        if step.__class__ is not list or len(step) != 3 or step[0].__class__ is not str or step[0] not in _STEP:
            raise fault(f'a step is ["read"|"write", key, value], not {_say(step)}')
        _key(step[1:], fault)
        steps.append([_STEP[step[0]], step[1], step[2]])
    return steps


def _txn(asked: Any, kind: int, answer: Any, _error: bool) -> Result:
    given = _steps(asked, _asked)
    if any(step[0] == "read" and step[2] is not None for step in given):
        raise _asked("a read of a txn is invoked with null")
    if kind == FAIL or (kind == INFO and (_null(answer) or same(answer, asked))):
        return _outcome(kind), given, None
    if _null(answer) and all(step[0] == "write" for step in given):
        return "ok", given, given
    found = _steps(_given(answer), _answered)
    agree = len(found) == len(given) and all(
        one[0] == other[0] and same(one[1], other[1]) and (one[0] == "read" or same(one[2], other[2]))
        for one, other in zip(given, found, strict=True)
    )
    if not agree:
        raise _answered(f"answers {_say(answer)}, which are not the steps of {_say(asked)}")
    return _outcome(kind), given, found


def _arms(failed: FailedCas) -> Mapping[str, Mapping[str, Arm]]:
    return {
        "register": {"read": _register_read, "write": _write},
        "cas-register": {"read": _register_read, "write": _write, "cas": _cas(failed)},
        "mutex": {"acquire": _token, "release": _token},
        "fifo-queue": {"enqueue": _put_in, "dequeue": _read},
        "total-queue": {"enqueue": _put_in, "dequeue": _read, "drain": _listed},
        "set": {"add": _put_in, "read": _listed},
        "append-log": {"append": _log_append, "read": _log_read},
        "kv": {"get": _get(False), "put": _put(False)},
        "kv-append": {"get": _get(True), "put": _put(True), "append": _put(True)},
        "multi-register": {"txn": _txn},
    }


def _free(_f: str, asked: Any, kind: int, answer: Any, _error: bool) -> Result:
    """A user's own model gets the values as they stand."""
    asked = None if asked is UNSET else asked
    return _outcome(kind), asked, None if answer is UNSET or kind == FAIL else answer


def functions(model: str) -> tuple[str, ...]:
    """Return the operations that a built-in model knows."""
    return tuple(_arms("dropped")[model])


def shape_of(model: str | None, failed_cas: FailedCas = "dropped") -> Shape:
    """Return what checks and converts the values of a model's operations; None stands for a user's own model."""
    if model is None:
        return _free
    arms = _arms(failed_cas)[model]
    known = " and ".join(arms) if len(arms) < 3 else ", ".join(arms)

    def shape(f: str, asked: Any, kind: int, answer: Any, error: bool) -> Result:
        arm = arms.get(f)
        if arm is None:
            raise _asked(f"{f!r} is no operation of {model}, which has {known}: another model, or another history")
        return arm(asked, kind, answer, error)

    return shape
