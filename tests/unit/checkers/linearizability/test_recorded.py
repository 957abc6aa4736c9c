"""Recorded histories keep their labels, and the small vectors of checkers C4 and C5 theirs, in both implementations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from checkers.linearizability.decision import decide
from checkers.linearizability.formats.read import read_operations
from checkers.linearizability.operations import Operation
from tests.unit.checkers.linearizability import oracle
from tests.unit.checkers.linearizability.oracle import brute_force, replay
from tests.unit.checkers.linearizability.test_brute_force import shown, sources

GOLDEN = Path(__file__).parents[3] / "golden" / "linearizability"
ROWS = [line.split("\t") for line in (GOLDEN / "expected.tsv").read_text().splitlines()[1:]]
LABELLED = [(row[0], row[1].split("(")[0], row[2] == "true") for row in ROWS if (GOLDEN / row[0]).exists()]
SPECS: dict[str, tuple[oracle.Spec, Any]] = {
    "cas-register": (oracle.register, None),
    "kv-append": (oracle.keyed(""), ()),
}


def test_there_are_recordings() -> None:
    assert len(LABELLED) >= 50


@pytest.mark.parametrize(("name", "model", "legal"), LABELLED)
def test_a_recording_keeps_its_label(name: str, model: str, legal: bool) -> None:
    operations = list(read_operations(GOLDEN / name, model).operations)
    decision = decide(model, operations)
    assert decision.verdict == ("valid" if legal else "invalid")
    spec, init = SPECS[model]
    order = decision.linearization()
    if legal:
        assert order is not None
        assert replay(spec, init, operations, sources(decision, order))
        return
    assert decision.prefix is not None
    assert decision.witness is not None
    assert len(decision.witness.rows) <= len(decision.prefix.rows)
    if "c50" not in name:
        small = decide(model, operations, engine="fallback")
        assert small.verdict == "invalid"


VECTORS: list[tuple[int, str, bool]] = [
    (11, "0>s(a) 0<s(a) 0>s(b) 0<s(b) 1>d 1<d=b 1>d 1<d=a", False),
    (12, "0>s(a) 1>s(b) 0<s(a) 1<s(b) 2>d 2<d=b 2>d 2<d=a", True),
    (13, "0>s(a) 0<s(a) 0>s(b) 0<s(b) 1>d 1<d=b", False),
    (14, "0>s(a) 0<s(a) 0>s(b) 0<s(b) 1>d 2>d 2?d 1<d=b", True),
    (15, "0>s(a) 0<s(a) 0>s(b) 0<s(b) 1>d 1<d=b 2>d 2?d", False),
    (16, "0>s(a) 0<s(a) 1>d 1<d=∅", False),
    (17, "0>s(a) 1>d 1<d=∅ 0<s(a)", True),
    (18, "1>d 1<d=a 0>s(a) 0<s(a)", False),
    (19, "0>s(a) 0?s(a) 1>d 1<d=a", True),
]
CLASS = {11: "order", 13: "lost", 15: "lost", 16: "empty", 18: "premature"}


def queue(text: str) -> list[Operation]:
    """Read a vector: process, > invoke, < ok or ? info, s(value) or d=value."""
    waiting: dict[str, tuple[int, str, str | None]] = {}
    out: list[tuple[int, Operation]] = []
    for at, event in enumerate(text.split()):
        found = re.fullmatch(r"(\d)([><?])(?:s\((\w)\)|d(?:=(.))?)", event)
        assert found is not None
        process, kind, sent, taken = found.groups()
        if kind == ">":
            waiting[process] = at, "enqueue" if sent else "dequeue", sent
            continue
        begin, f, argument = waiting.pop(process)
        unknown = kind == "?"
        op = Operation(
            f=f,
            argument=argument,
            result=None if unknown or taken in (None, "∅") else taken,
            process=int(process),
            invoked=begin,
            returned=None if unknown else at,
            outcome="info" if unknown else "ok",
        )
        out.append((begin, op))
    return [op for _, op in sorted(out, key=lambda pair: pair[0])]


@pytest.mark.parametrize("engine", ["core", "fallback"])
@pytest.mark.parametrize(("number", "text", "legal"), VECTORS)
def test_vectors_of_a_queue(number: int, text: str, legal: bool, engine: Any) -> None:
    ops = queue(text)
    decision = decide("fifo-queue", ops, engine=engine)
    assert decision.verdict == ("valid" if legal else "invalid"), shown(ops)
    assert brute_force(oracle.queue, (), ops) == legal
    assert set(decision.counts) == ({CLASS[number]} if not legal else set())
    if not legal:
        assert decision.witness is not None
        assert "nobody" not in decision.witness.text


def appended(value: str, offset: int, begin: int, end: int) -> Operation:
    return Operation(
        f="append", argument=[None, value], result=[offset, value], process=begin, invoked=begin, returned=end
    )


@pytest.mark.parametrize("engine", ["core", "fallback"])
def test_vectors_of_a_log(engine: Any) -> None:
    one_after_the_other = [appended("a", 1, 0, 1), appended("b", 0, 2, 3)]
    overlapping = [appended("a", 1, 0, 2), appended("b", 0, 1, 3)]
    end = Operation(f="read", argument=[0, None], result=[0, None], process=9, invoked=2, returned=3)
    assert decide("append-log", one_after_the_other, engine=engine).counts == {"order": 1}
    assert decide("append-log", overlapping, engine=engine).verdict == "valid"
    assert decide("append-log", [appended("a", 0, 0, 1), end], engine=engine).counts == {"stale": 1}


def test_a_sentence_says_who_did_what_when() -> None:
    decision = decide("fifo-queue", queue(VECTORS[0][1]))
    assert decision.witness is not None
    assert decision.witness.text == (
        "the enqueue of a by process 0 returned at 1 before the enqueue of b by process 0 was called at 2, "
        "but b was taken by 5 and a not before 6"
    )
    assert decision.why == "every value was put in once"
