"""C2 and C3 over sets, with golden vectors 38-40."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from checkers.compose import judge
from checkers.facts import gather
from checkers.set_reads import check_set, check_set_full
from checkers.verdict import Record, Severity, Validity
from tests.unit.checkers.story import MS, TYPE, Story

WORD = re.compile(
    r"(?P<process>\d+)(?P<mark>[><x?])(?:\+(?P<element>\w+)|read(?:\[(?P<got>[\w,]*)\])?(?:@(?P<node>\w+))?)"
)


def told(text: str, **meta: Any) -> Story:
    """Tell adds and reads: `0>+x 0<+x 1>read 1<read[x,y]`, with `@n` for the replica read."""
    story = Story(**meta)
    for word in text.split():
        match = WORD.fullmatch(word)
        assert match is not None, word
        story.now += MS
        kind = TYPE[match["mark"]]
        if match["element"] is not None:
            story.add(int(match["process"]), kind, "add", match["element"])
        else:
            got = None if match["got"] is None else [name for name in match["got"].split(",") if name]
            story.add(int(match["process"]), kind, "read", got, node=match["node"])
    return story


def c2(text: str) -> Record:
    return check_set(gather(told(text).history()))


def c3(text: str, **meta: Any) -> Record:
    return check_set_full(gather(told(text, **meta).history()))


def types(record: Record, severity: Severity = Severity.VIOLATION) -> set[str]:
    return {anomaly.type for anomaly in record.anomalies if anomaly.severity is severity}


C2: list[tuple[str, str, str]] = [
    ("lost", "0>+x 0<+x 1>read 1<read[]", "0>+x 0<+x 1>read 1<read[x]"),
    ("lost", "0>+x 0<+x 1>read 1<read[x] 1>read 1<read[]", "0>+x 0?+x 1>read 1<read[]"),
    (
        "lost",
        "0>+x 0<+x 1>read@a 1<read[x]@a 1>read@b 1<read[]@b",
        "0>+x 0<+x 1>read@a 1<read[x]@a 1>read@b 1<read[x]@b",
    ),
    ("unexpected", "1>read 1<read[z]", "0>+z 0?+z 1>read 1<read[z]"),
]


@pytest.mark.parametrize(("kind", "caught", "passes"), C2)
def test_c2_catches_each_and_passes_its_near_miss(kind: str, caught: str, passes: str) -> None:
    assert types(c2(caught)) == {kind}
    assert c2(passes).valid is Validity.VALID, c2(passes).reasons


def test_an_element_acknowledged_after_the_last_read_began_is_undecided() -> None:
    record = c2("0>+x 1>read 0<+x 1<read[]")
    assert record.valid is Validity.UNKNOWN
    assert types(record, Severity.UNDECIDED) == {"unread"}


@pytest.mark.parametrize("text", ["0>+x 0<+x", "0>+x 0<+x 1>read 1?read[x]", "0>+x 0<+x 1>+x 1<+x 2>read 2<read[x]"])
def test_without_a_read_that_proves_something_c2_is_unknown(text: str) -> None:
    assert c2(text).valid is Validity.UNKNOWN


def test_38_an_element_that_a_later_read_missed_is_stale() -> None:
    text = "0>+x 0<+x 1>read 1<read[] 1>read 1<read[x]"
    record = c3(text)
    assert record.valid is Validity.VALID
    assert record.counts["stable"] == record.counts["stale elements"] == 1
    assert types(record, Severity.NOTE) == {"stale"}
    assert record.details["stable latency ms"]["p100"] > 0
    strict = c3(text, set_linearizable=True)
    assert types(strict) == {"stale"}
    assert strict.valid is Validity.INVALID


def test_39_an_element_that_was_read_and_is_gone_is_lost() -> None:
    record = c3("0>+y 0<+y 0>+x 0<+x 1>read 1<read[x,y] 1>read 1<read[y]")
    assert types(record) == {"lost"}
    assert record.anomalies[0].values == ("x",)
    assert record.details["lost latency ms"]["p100"] >= 0


def test_40_an_element_twice_in_one_read_is_a_duplicate() -> None:
    record = c3("0>+x 0<+x 1>read 1<read[x,x]")
    assert types(record) == {"duplicate"}
    assert record.valid is Validity.INVALID
    assert types(c3("0>+x 0<+x 1>read 1?read[x,x] 2>read 2<read[x]")) == {"duplicate"}, "also in an unknown read"


NEAR: list[str] = [
    "0>+x 1>read 1<read[] 0<+x 2>read 2<read[x]",  # a read that overlaps the add may miss it
    "0>+x 0<+x 1>read 2>read 2<read[x] 1<read[] 3>read 3<read[x]",  # concurrent reads, and x stays
    "0>+x 0?+x 1>read 1<read[x]",  # seen, so it happened
    "0>+y 0<+y 0>+x 0?+x 1>read 1<read[y]",  # unknown and never seen
]


@pytest.mark.parametrize("text", NEAR)
def test_near_misses_of_c3_pass(text: str) -> None:
    assert c3(text).valid is Validity.VALID, c3(text).reasons


def test_a_read_that_began_before_the_element_was_known_does_not_lose_it() -> None:
    record = c3("0>+y 0<+y 0>+x 1>read 0<+x 1<read[y]")
    assert types(record) == set()
    assert record.counts["never read"] == 1


def test_an_acknowledged_element_no_read_ever_showed_is_lost() -> None:
    assert types(c3("0>+y 0<+y 0>+x 0<+x 1>read 1<read[y]")) == {"lost"}


def test_where_nothing_became_stable_c3_is_unknown() -> None:
    assert c3("0>+x 0?+x 1>read 1<read[]").valid is Validity.UNKNOWN


@pytest.mark.parametrize("check", [check_set, check_set_full])
def test_braces_in_elements_do_no_harm(check: Callable[..., Record]) -> None:
    story = Story()
    story.add(0, "invoke", "add", {"a{b}": [1, "{}"]})
    story.add(0, "ok", "add", {"a{b}": [1, "{}"]})
    story.now += MS
    story.add(1, "invoke", "read")
    story.add(1, "ok", "read", [])
    assert types(check(gather(story.history()))) == {"lost"}


def test_both_run_where_elements_were_added_and_nowhere_else() -> None:
    verdict = judge(told("0>+x 0<+x 1>read 1<read[x]").finish().events)
    assert {"C2", "C3"} <= {record.checker for record in verdict.records}
    assert {"C2", "C3"}.isdisjoint({record.checker for record in judge(Story().finish().events).records})


@pytest.mark.parametrize("how", ["1<read[x,y]", "1?read[x,y]"])
def test_what_certainly_failed_must_not_turn_up(how: str) -> None:
    assert types(c2(f"0>+x 0<+x 2>+y 2x+y 1>read {how} 3>read 3<read[x]")) == {"revived"}
    assert types(c2(f"0>+x 0<+x 2>+y 2?+y 1>read {how} 3>read 3<read[x]")) == set(), "nobody knows whether it failed"
    twice = c2(f"0>+x 0<+x 2>+y 2x+y 4>+y 4<+y 1>read {how} 3>read 3<read[x,y]")
    assert (types(twice), twice.valid) == (set(), Validity.UNKNOWN), "another add of it did not fail"
