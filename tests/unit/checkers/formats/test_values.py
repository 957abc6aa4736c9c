"""Columns of values give back exactly what was put in, however blocks are mixed."""

import random
from typing import Any

import pytest

from checkers.linearizability.formats.values import Values
from checkers.linearizability.operations import NULL

SEED = 7
KINDS: dict[str, list[Any]] = {
    "numbers": [1, -5, None, 1 << 40],
    "large": [1 << 80, NULL, 3],
    "texts": ["a", "b", None, "", "1"],
    "nulls": [None],
    "mixed": [1, "1", True, 1.5, {"a": 1}, [1], None],
    "pairs": [[1, "a"], [None, "b"], [2, None], None],
    "number pairs": [[1, 2], [None, 3], [4, None], [None, None]],
    "odd pairs": [[1, True], [[1], "x"], None, ["a", "b"]],
    "triples": [[1, 2, 3], [1, 2]],
}


def same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)


@pytest.mark.parametrize("seed", range(60))
def test_what_goes_in_comes_out(seed: int) -> None:
    """Of any kinds, in blocks of any sizes, one by one and as a list."""
    chance = random.Random(SEED + seed)
    kinds = chance.sample(list(KINDS), chance.choice([1, 1, 2, 3]))
    values, put = Values(), []
    for _ in range(chance.randrange(1, 6)):
        kind = KINDS[chance.choice(kinds)]
        block = [chance.choice(kind) for _ in range(chance.randrange(0, 5))]
        values.add(block)
        put += block
    assert len(values) == len(put)
    assert same(values.tolist(), put), (seed, kinds)
    assert same([values[place] for place in range(len(put))], put), (seed, kinds)


def test_numbers_are_themselves_and_strings_are_numbered() -> None:
    """No string has the number of another, or of null."""
    values = Values()
    values.add([None, "a", "b", None, "a"])
    values.add(["c", None, "b"])
    assert values.one.ids.tolist() == [NULL, 0, 1, NULL, 0, 2, NULL, 1]
    assert values.one.names == ["a", "b", "c"]
    numbers = Values()
    numbers.add([5, None, -1])
    assert (numbers.one.ids.tolist(), numbers.one.names) == ([5, NULL, -1], None)
