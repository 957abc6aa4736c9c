"""The dialect that Java peers write is read as meant, and nothing else is."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.remoting.fastjson import FastJsonError, key_object, key_text, loads

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('abc:{}[],"\\ 1', max_size=6), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(VALUES)
def test_strict_json_is_read_as_json(value: object) -> None:
    assert loads(json.dumps(value)) == value
    assert loads(json.dumps(value, ensure_ascii=False).encode()) == value


@settings(max_examples=300, deadline=None, derandomize=True)
@given(VALUES)
def test_the_tolerant_parser_agrees_with_json(value: object) -> None:
    """A bare integer key forces the slow path; beside it everything means what it means in JSON."""
    assert loads('{7:{"x":' + json.dumps(value) + "}}") == {"7": {"x": value}}


def test_integer_keys_are_bare() -> None:
    assert loads(b'{"brokerAddrs":{0:"127.0.0.1:10911",-1:"x"},"brokerName":"b"}') == {
        "brokerAddrs": {"0": "127.0.0.1:10911", "-1": "x"},
        "brokerName": "b",
    }


def test_object_keys_are_bare_objects_or_strings_of_them() -> None:
    bare = loads(b'{"offsetTable":{{"topic":"t","brokerName":"b","queueId":0}:{"maxOffset":3}}}')
    [key] = bare["offsetTable"]
    assert key == '{"brokerName":"b","queueId":0,"topic":"t"}'
    assert key_object(key) == {"brokerName": "b", "queueId": 0, "topic": "t"}
    quoted = loads(json.dumps({"offsetTable": {key: {"maxOffset": 3}}}))
    assert quoted == bare
    assert key_text({"topic": "t", "queueId": 0, "brokerName": "b"}) == key


def test_other_habits_of_fastjson() -> None:
    assert loads('{a:1,"l":5L,"s":Set["x","y"],"t":[1,2,],}') == {"a": 1, "l": 5, "s": ["x", "y"], "t": [1, 2]}


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "{",
        "{0:",
        "{0:}",
        "{0}",
        "[1 2]",
        "{0:1}x",
        "{0:'a'}",
        '{0:"\\x"}',
        "{0:nul}",
        "{[1]:2}",
        "{0:1 1:2}",
        b"{0:\xff}",
    ],
)
def test_what_is_neither_is_refused(bad: str | bytes) -> None:
    with pytest.raises(FastJsonError):
        loads(bad)


def test_nesting_is_bounded() -> None:
    with pytest.raises(FastJsonError, match="more than 64 levels"):
        loads("{0:" + "[" * 100 + "]" * 100 + "}")
    with pytest.raises(FastJsonError, match="not an object"):
        key_object("[1]")


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.text('{}[]:,"\\ 01aeLn-.', max_size=40))
def test_noise_is_read_or_refused_and_nothing_else(noise: str) -> None:
    try:
        loads(noise)
    except FastJsonError as error:
        assert str(error)  # noqa: PT017 - either outcome is allowed
