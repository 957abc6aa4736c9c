"""The scanner of regular lines says what the decoder says, and leaves to it all that is not plain."""

import random
from collections.abc import Iterator
from typing import Any

import numpy.typing as npt
import pytest

from checkers.linearizability.formats import json_lines
from checkers.linearizability.formats.scan import SCAN
from checkers.linearizability.formats.source import FormatError, Source
from tests.unit.checkers.formats.samples import line

pytestmark = pytest.mark.skipif(SCAN is None, reason="no compiler was found, so the scanner is not there")

HEAD = '"index":0,"process":1,"type":"ok","f":"x"'


def read(data: bytes, *, scan: bool, piece: int = 1 << 18, unknown_fields: bool = False) -> Any:
    """Return all that a recording holds, or the message."""

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(data), piece):
            yield data[start : start + piece]

    source = Source.of(pieces(), "h")
    try:
        found = json_lines.read(source, unknown_fields=unknown_fields, scan=SCAN if scan else None)
    except FormatError as error:
        return str(error)
    columns: list[npt.NDArray[Any]] = [found.line, found.process, found.type, found.time]
    functions = [found.f(event) for event in range(len(found))]
    return (
        [column.tolist() for column in columns], functions, found.values.tolist(), found.errors, found.events,
        found.clock,
    )  # fmt: skip


TAKEN = [
    f'{{{HEAD},"value":null}}',
    f'{{{HEAD},"value":7}}',
    f'{{{HEAD},"value":-9223372036854775807,"time":4611686018427387903}}',
    f'{{{HEAD},"value":9223372036854775807,"time":0}}',
    f'{{{HEAD},"value":"abc"}}',
    f'{{{HEAD},"value":""}}',
    f'{{{HEAD},"value":[null,1]}}',
    f'{{{HEAD},"value":["k","v"],"origin":4}}',
    f'{{{HEAD},"value":[3,"v"],"time":null,"error":null}}',
    f'{{{HEAD},"value":1,"error":{{"code":[1,2.5,true,false,null,{{}}, [] ],"text":"a \\"b\\" \\\\ c"}}}}',
    f'  {{ {HEAD.replace(",", " , ").replace(":", " : ")} , "value" : [ 1 , null ] }} \r',
    '{"value":1,"f":"x","type":"info","process":-4,"time":-9,"index":0}',
    '{"index":0,"process":"nemesis","type":"info","f":"kill","value":{"nodes":["a"],"x":[[1.5]]},"time":3}',
    '{"index":0,"process":"nemesis/net","type":"info","f":"cut"}',
]


@pytest.mark.parametrize("text", TAKEN)
def test_plain_lines_are_taken(text: str) -> None:
    """With and without the last line end."""
    for data in (text.encode() + b"\n", text.encode()):
        assert SCAN is not None
        found = SCAN(data, 0, False)
        assert found is not None
        assert found.events == 1
        assert read(data, scan=True) == read(data, scan=False)
        assert not isinstance(read(data, scan=True), str)


LEFT = [
    f"{{{HEAD}}}",
    f'{{{HEAD},"value":1.0}}',
    f'{{{HEAD},"value":true}}',
    f'{{{HEAD},"value":-0}}',
    f'{{{HEAD},"value":01}}',
    f'{{{HEAD},"value":1e3}}',
    f'{{{HEAD},"value":9223372036854775808}}',
    f'{{{HEAD},"value":-9223372036854775808}}',
    f'{{{HEAD},"value":"\\u00e9"}}',
    f'{{{HEAD},"value":"é"}}',
    f'{{{HEAD},"value":"a\tb"}}',
    f'{{{HEAD},"value":[1]}}',
    f'{{{HEAD},"value":[1,2,3]}}',
    f'{{{HEAD},"value":[1,[2]]}}',
    f'{{{HEAD},"value":{{"a":1}}}}',
    f'{{{HEAD},"value":1,"value":2}}',
    f'{{{HEAD},"value":1,"vlaue":2}}',
    f'{{{HEAD},"value":1,"error":{"[" * 40}{"]" * 40}}}',
    f'{{{HEAD},"value":1,"error":"\\x"}}',
    f'{{{HEAD},"value":1,"error":[1,]}}',
    f'{{{HEAD},"value":1,"error":{{"a"}}}}',
    f'{{{HEAD},"value":1,"error":00.5}}',
    f'{{{HEAD},"value":1,"error":nul}}',
    f'{{{HEAD},"value":1,}}',
    f'{{{HEAD} "value":1}}',
    f'{{{HEAD},"value":1}} x',
    f'{{{HEAD},"value":1}}{{',
    f'{{{HEAD},"value":1',
    f'{{{HEAD},"value":1\0',
    f'{{{HEAD},"value":"a',
    f'{{{HEAD},"value":[1,',
    f'{{{HEAD},"value":n',
    f'{{{HEAD},"value":1,"time":4611686018427387904}}',
    f'{{{HEAD},"value":1,"time":1.5}}',
    f'{{{HEAD},"value":1,"origin":"a"}}',
    '{"index":5,"process":1,"type":"ok","f":"x","value":1}',
    '{"index":0,"process":4611686018427387904,"type":"ok","f":"x","value":1}',
    '{"index":0,"process":"client","type":"ok","f":"x","value":1}',
    '{"index":0,"process":"nemesis2","type":"ok","f":"x","value":1}',
    '{"index":0,"process":1,"type":"okay","f":"x","value":1}',
    '{"index":0,"process":1,"type":"ok","f":3,"value":1}',
    '{"index":0,"process":1,"f":"x","value":1}',
    '{"index":0,"process":null,"type":"ok","f":"x","value":1}',
    " ",
    "{}",
    "[]",
]


@pytest.mark.parametrize("text", LEFT)
def test_what_is_not_plain_is_left_to_the_decoder(text: str) -> None:
    """Right or wrong, it has the last word; a block is taken whole or not at all."""
    assert SCAN is not None
    after_a_good_one = line(0, 0, "invoke", "x", 5) + text.replace('"index":0', '"index":1')
    for data in (text.encode() + b"\n", text.encode(), after_a_good_one.encode()):
        assert SCAN(data, 0, False) is None
        assert read(data, scan=True) == read(data, scan=False)


def test_values_of_two_kinds_in_a_block() -> None:
    """Numbers beside strings, pairs beside numbers: each event keeps its own."""
    for values in ([1, "a"], [[1, 2], 3], [[1, "a"], ["b", 2]], [None, [1, 2], "x", 3]):
        text = "".join(line(index, index, "invoke", "x", value) for index, value in enumerate(values))
        assert SCAN is not None
        assert SCAN(text.encode(), 0, False) is None
        for piece in (1 << 18, 100):
            assert read(text.encode(), scan=True, piece=piece)[2] == values


@pytest.mark.parametrize("piece", [90, 250, 700, 1 << 18])
@pytest.mark.parametrize(
    "values",
    [
        [None, None, None, None, 1, 2, None, 3],
        [None, None, "a", "b", None, "a"],
        [1, 2, 3, "a", "b", "c", None, 4],
        ["a", "b", "c", 1, 2, 3],
        [[1, None], None, None, None, None, [2, 3], ["a", 3]],
        [None, None, None, None, [2, 3], [None, 3], 4, 5, 6],
        [1, 2, [3, 4], [5, 6], None, None, None, "x"],
        [1.5, 2, 3, 4, None, "a", "b"],
    ],
)
def test_blocks_of_different_kinds_follow_each_other(values: list[Any], piece: int) -> None:
    """Whichever of the two read a block."""
    text = "".join(
        line(index, index, "invoke", f"f{index // 2}", value, error="e" if index % 3 else None)
        for index, value in enumerate(values)
    ).encode()
    both = read(text, scan=True, piece=piece)
    assert both == read(text, scan=False, piece=piece)
    assert both[2] == values


def test_more_names_than_a_block_may_have() -> None:
    """Sixteen are taken, the seventeenth is left to the decoder; past 255 the message names the line."""
    assert SCAN is not None
    for names, taken in ((16, True), (17, False)):
        text = "".join(line(index, index, "invoke", f"f{index}") for index in range(names)).encode()
        assert (SCAN(text, 0, False) is not None) is taken
        assert read(text, scan=True) == read(text, scan=False)
    many = "".join(line(index, index, "invoke", f"f{index:03}") for index in range(300)).encode()
    message = read(many, scan=True, piece=500)
    assert message == read(many, scan=False, piece=500)
    assert "line 256: 'f255' is the 256th name" in message


@pytest.mark.random
@pytest.mark.parametrize("seed", range(6))
def test_damage_is_judged_as_without_the_scanner(seed: int) -> None:
    """Any byte changed, lost or put in: the same recording or the same message."""
    chance = random.Random(seed)
    taken = left = 0
    for _ in range(400):
        texts = [chance.choice(TAKEN * 3 + LEFT[:14]) for _ in range(chance.randrange(1, 5))]
        rows = [text.replace('"index":0', f'"index":{at}') for at, text in enumerate(texts)]
        data = bytearray("\n".join(rows).encode())
        for _ in range(chance.choice([0, 1, 1, 2])):
            at = chance.randrange(len(data))
            if chance.random() < 0.5:
                data[at : at + 1] = chance.choice(BITS)
            else:
                del data[at : at + chance.randrange(1, 4)]
        unknown, piece = chance.random() < 0.5, chance.choice([60, 1 << 18])
        ours = read(bytes(data), scan=True, piece=piece, unknown_fields=unknown)
        assert ours == read(bytes(data), scan=False, piece=piece, unknown_fields=unknown), bytes(data)
        assert SCAN is not None
        taken, left = taken + (SCAN(bytes(data), 0, unknown) is not None), left + isinstance(ours, str)
    assert taken > 20
    assert left > 20


BITS = [b"", b'"', b",", b":", b"{", b"}", b"[", b"]", b"\n", b" ", b"\r", b"0", b"9", b"-", b".", b"e", b"\\", b"\0",
        b"\xff", b"\xc3\xa9", b"null", b"true", b'"value":', b'"time":1,', b'"zz":[{}],']  # fmt: skip
