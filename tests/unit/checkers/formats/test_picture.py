"""Diagrams of counter-examples: what they say, and that nothing from a history can draw in them."""

import xml.etree.ElementTree as ET
from collections import Counter

import pytest

from checkers.linearizability import picture
from checkers.linearizability.operations import Operation

SVG = "{http://www.w3.org/2000/svg}"


def op(
    f: str, process: int | str, begin: int, end: int | None, argument: object = None, result: object = None
) -> Operation:
    return Operation(
        f=f, process=process, invoked=begin, returned=end, outcome="ok" if end is not None else "info",
        argument=argument, result=result, invoked_line=begin + 1, returned_line=None if end is None else end + 1,
    )  # fmt: skip


QUEUE = [
    op("enqueue", 0, 0, 3, "a"),
    op("enqueue", 0, 10, 14, "b"),
    op("dequeue", 1, 12, 20, None, "b"),
    op("dequeue", 2, 13, None),
    op("dequeue", 1, 30, 34, None, "a"),
]


def test_a_text_diagram() -> None:
    """One line an operation; only the order of the shown events counts; `*` proves, an arrow is open."""
    assert picture.text(picture.diagram(QUEUE, [QUEUE[0], QUEUE[4]])) == "\n".join(
        [
            '* 0 ├─────┤                                                   enqueue("a")',
            '  0             ├─────────────────┤                           enqueue("b")',
            '  1                   ├─────────────────┤                     dequeue() → "b"',
            "  2                         ├──────────────────────────────→  dequeue() → ?",
            '* 1                                           ├─────┤         dequeue() → "a"',
        ]
    )


@pytest.mark.parametrize(
    ("operation", "says"),
    [
        (op("read", 0, 0, 1, None, None), "read() → null"),
        (op("dequeue", 0, 0, 1, None, None), "dequeue() → empty"),
        (op("cas", 0, 0, 1, [1, 2], True), "cas(1, 2)"),
        (op("cas", 0, 0, 1, [1, 2], False), "cas(1, 2) → compare failed"),
        (op("get", 0, 0, 1, ["k", None], ["k", 5]), 'get("k") → 5'),
        (op("put", 0, 0, 1, ["k", 5]), 'put("k", 5)'),
        (op("append", 0, 0, 1, [None, "v"], [7, "v"]), 'append("v") → offset 7'),
        (op("append", 0, 0, None, [None, "v"]), 'append("v") → ?'),
        (op("read", 0, 0, 1, [7, None], [7, "v"]), 'read(7) → "v"'),
        (op("read", 0, 0, 1, [7, None], [7, None]), "read(7) → end"),
        (op("drain", 0, 0, 1, None, [1, 2]), "drain() → [1,2]"),
        (op("acquire", 0, 0, 1), "acquire()"),
    ],
)
def test_operations_are_written_as_people_write_them(operation: Operation, says: str) -> None:
    """Without saying anything twice."""
    assert picture.described(operation) == says


HOSTILE = "</text><script>alert(1)</script>\"'&\x1b[31m\u202e]]>\ud800\x00"


def test_nothing_from_a_history_can_draw() -> None:
    """The document has the elements that we drew and no other, whatever names and values say."""
    plain = [op("write", 1, 0, 3, "v", None), op("read", 1, 4, 9, None, "v")]
    bad = [op(HOSTILE, HOSTILE, 0, 3, HOSTILE, None), op(HOSTILE, HOSTILE, 4, 9, None, [HOSTILE, {HOSTILE: HOSTILE}])]
    for operations in (plain, bad):
        root = ET.fromstring(picture.svg(picture.diagram(operations, operations), HOSTILE, HOSTILE))
        tags = Counter(one.tag.removeprefix(SVG) for one in root.iter())
        lanes = tags.pop("line")
        assert tags == {"svg": 1, "style": 1, "rect": 3, "text": 6, "g": 2, "title": 2}
        assert 1 <= lanes <= 2
    drawn = picture.text(picture.diagram(bad, bad))
    assert not any(character in drawn for character in "\x1b\u202e\x00\ud800")
    assert drawn.count("\n") == 1
    drawn.encode()


def test_much_is_cut_with_a_note() -> None:
    """The proof is always shown."""
    many = [op("write", number, number, number + 5000, number) for number in range(1000)]
    found = picture.diagram(many, [many[700]])
    assert len(found.bars) == picture.SHOWN_MAX
    assert [bar.operation.argument for bar in found.bars if bar.proves] == [700]
    assert "940 more operations not shown" in picture.svg(found, "t")
    assert picture.text(found).endswith("and 940 more")
    assert max(map(len, picture.text(found).splitlines())) < 150


def test_lanes_do_not_overlap() -> None:
    """Operations of one process that overlap, as in a batch, lie below each other."""
    batch = [op("read", 5, 0, 9, [place, None], [place, "v"]) for place in range(3)] + [op("read", 5, 10, 11)]
    root = ET.fromstring(picture.svg(picture.diagram(batch), "t"))
    boxes = [
        (float(box.get("x", 0)), float(box.get("y", 0)), float(box.get("width", 0)))
        for box in root.iter(f"{SVG}rect")
        if box.get("class")
    ]
    assert len({y for _, y, _ in boxes}) == 3
    for x, y, width in boxes:
        assert sum(y == other and x <= left < x + width for left, other, _ in boxes) == 1


def test_what_is_concurrent_with_a_proof() -> None:
    """And nothing that certainly came before or after it."""
    near = picture.around(QUEUE, [QUEUE[2]])
    assert near == [QUEUE[1], QUEUE[2], QUEUE[3]]


def test_nothing_to_draw() -> None:
    """Is an empty text and a picture with its title."""
    assert picture.text(picture.diagram([])) == ""
    ET.fromstring(picture.svg(picture.diagram([]), "t"))
