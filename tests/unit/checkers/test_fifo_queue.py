"""C4: what consumers took out of a queue, as a black box: each anomaly, a near miss, and all against every order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from checkers import fifo_queue
from checkers.compose import judge
from checkers.event import EventType
from checkers.facts import gather
from checkers.fifo_queue import check_fifo_queue
from checkers.linearizability.operations import Operation
from checkers.verdict import Record, Severity, Validity
from tests.unit.checkers.linearizability.histories import KINDS, changed, history, shape
from tests.unit.checkers.linearizability.oracle import brute_force
from tests.unit.checkers.linearizability.test_brute_force import shown
from tests.unit.checkers.story import MS, NODES, QUEUE, Story


def c4(story: Story) -> Record:
    return check_fifo_queue(gather(story.history()))


def types(record: Record) -> set[str]:
    return {anomaly.type for anomaly in record.anomalies if anomaly.severity is Severity.VIOLATION}


def reading(text: str, group: str | None = "g", mode: str = "assign") -> Story:
    story = Story(mode=mode)
    story.reader = group
    return story.tell(text)


def handling(text: str) -> Story:
    story = Story()
    story.orderly = True
    return story.tell(text)


SENT = "0>s(a) 0<s(a)@0 0>s(b) 0<s(b)@1"
TWO = "0>s(a) 1>s(b) 0<s(a)@1 1<s(b)@0"

CASES: list[tuple[str, Callable[[], Story], Callable[[], Story]]] = [
    (
        "repeat",
        lambda: Story().tell(f"{SENT} 1>d 1<d=a 1>d 1<d=a"),
        lambda: Story().tell(f"{SENT} 1>d 1<d=a 1>d 1<d=b"),
    ),
    ("fresh", lambda: Story().tell("1>d 1<d=z"), lambda: Story().tell("0>s(z) 1>d 1<d=z")),
    ("fresh", lambda: Story().tell("0>s(z) 0xs(z) 1>d 1<d=z"), lambda: Story().tell("0>s(z) 0?s(z) 1>d 1<d=z")),
    (
        "order",  # a weaker status does not say when a send was over
        lambda: Story().tell(f"{SENT} 1>d 1<d=b 1>d 1<d=a"),
        lambda: Story().tell("0>s(a) 0<s(a)@0!FLUSH_SLAVE_TIMEOUT 0>s(b) 0<s(b)@1 1>d 1<d=b 1>d 1<d=a"),
    ),
    ("empty", lambda: Story().tell("0>s(a) 0<s(a)@0 1>d 1<d"), lambda: Story().tell("0>s(a) 0<s(a)@0 2>d 1>d 1<d 2?d")),
    (
        "order",  # polls of a group
        lambda: reading(f"{SENT} 1>poll 1<poll=[0:b] 1>poll 1<poll=[1:a]"),
        lambda: reading(f"{TWO} 1>poll 1<poll=[0:b] 1>poll 1<poll=[1:a]"),
    ),
    (
        "order",  # skipped for ever
        lambda: reading("0>s(a) 0<s(a) 0>s(b) 0<s(b) 1>poll 1<poll=[0:b]"),
        lambda: reading("0>s(a) 0<s(a) 0>s(b) 0<s(b) 1>poll 1<poll=[0:a]"),
    ),
    (
        "fresh",  # read before it was sent
        lambda: reading("1>poll 1<poll=[0:a] 0>s(a) 0<s(a)@0"),
        lambda: reading("1>poll 0>s(a) 1<poll=[0:a] 0<s(a)@0"),
    ),
    (
        "order",  # of one process without a group
        lambda: reading(f"{SENT} 1>poll 1<poll=[0:b] 1>poll 1<poll=[1:a]", None),
        lambda: reading(f"{SENT} 1>poll 1<poll=[0:a] 2>poll 2<poll=[0:a,1:b] 1>poll 1<poll=[1:b]", None),
    ),
    (
        "order",  # handlers of an orderly group
        lambda: handling(f"{SENT} 2>handle=[0:b] 2<handle 2>handle=[1:a] 2<handle"),
        lambda: handling(f"{SENT} 2>handle=[0:a] 2xhandle 2>handle=[0:a] 2<handle 2>handle=[1:b] 2<handle"),
    ),
]


@pytest.mark.parametrize(("kind", "caught", "passes"), CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)])
def test_each_anomaly_is_caught_and_its_near_miss_passes(
    kind: str, caught: Callable[[], Story], passes: Callable[[], Story]
) -> None:
    record = c4(caught())
    assert types(record) == {kind}
    assert record.valid is Validity.INVALID
    assert record.anomalies[0].core
    assert record.anomalies[0].text.startswith(f"in {QUEUE}, ")
    near = c4(passes())
    assert near.valid is Validity.VALID, near.reasons


def test_queues_need_no_names() -> None:
    story = Story()
    story.queue = None
    record = c4(story.tell("0>s(a) 0<s(a) 0>s(b) 0<s(b) 1>d 1<d=b 1>d 1<d=a"))
    assert types(record) == {"order"}
    assert record.anomalies[0].text.startswith("in the queue, ")
    other = Story().tell("0>s(a) 0<s(a) 0>s(b) 0<s(b)")
    other.queue = "elsewhere"
    record = c4(other.tell("1>d 1<d=b"))
    assert types(record) == {"fresh"}
    assert f"which was sent to {QUEUE}" in record.anomalies[0].text


def test_reading_again_is_a_redelivery_and_is_counted() -> None:
    story = reading(f"{SENT} 1>poll 1<poll=[0:a,1:b] 1>seek@0 1<poll=[0:a,1:b]")
    record = c4(story)
    assert record.valid is Validity.VALID, record.reasons
    assert record.counts["redeliveries"] == 2
    assert record.coverage["streams"] == 1.0


PASSED_OVER: list[tuple[Story, str]] = [
    (reading(f"{SENT} 1>poll 1<poll=[1:b]", None), "beyond messages"),
    (reading(f"{SENT} 0>s(c) 0<s(c)@2 1>poll 1<poll=[0:a] 1>seek@2 1<poll=[2:c]").drain("[a,b,c]"), "beyond messages"),
    (reading(f"{SENT} 1>poll 1<moved 1>poll 1<poll=[1:b]").drain("[a,b]"), "beyond messages"),
    (reading(f"{SENT} 1>poll 1<poll=[1:b]", "g", "subscribe"), "without an assignment"),
]


@pytest.mark.parametrize(("story", "words"), PASSED_OVER, ids=range(len(PASSED_OVER)))
def test_who_may_leave_messages_out_is_not_judged(story: Story, words: str) -> None:
    """Alone such readers prove nothing, so a run that asks for this checker is unknown; no other run runs it."""
    events = story.events
    record = c4(story)
    assert record.valid is Validity.UNKNOWN
    assert words in record.reasons[0]
    assert record.counts["streams not judged"] >= 1
    assert judge(events).record("C4") is None
    events[0].value["required"] = ["C4"]
    verdict = judge(events)
    assert "C4" in verdict.required
    found = verdict.record("C4")
    assert found is not None
    assert found.valid is Validity.UNKNOWN


@pytest.mark.parametrize(("verified", "judged"), [(True, True), (False, False)])
def test_two_masters_that_a_fault_which_did_not_happen_has_left_are_no_ones_disorder(
    verified: bool, judged: bool
) -> None:
    """The old master counts as destroyed, another is promoted; if it was not, readers may still read from it."""
    story = Story(mode="assign").tell("0>s(a) 0<s(a)@0")
    story.reader = "g"
    story.fault("lost", "destroy", targets=[NODES[0]], verified=verified).promote()
    story.tell("0>s(b) 0<s(b)@1 0>s(c) 0<s(c)@2 1>poll 1<poll=[0:a,1:c] 1>seek@0 1<poll=[0:a,1:b]")
    record = c4(story)
    assert record.valid is (Validity.INVALID if judged else Validity.UNKNOWN)
    assert types(record) == ({"order"} if judged else set())
    assert judged or "destroy one is not proven" in record.reasons[0]


def test_a_filter_may_leave_messages_out() -> None:
    story = reading(f"{SENT} 1>poll 1<poll=[1:b]", "g")
    story.events[-1].filtered = True
    assert "by a filter" in c4(story).reasons[0]


def test_handlers_that_run_side_by_side_promise_no_order() -> None:
    story = Story().tell(f"{SENT} 2>handle=[0:b] 2<handle 2>handle=[1:a] 2<handle")
    assert c4(story).counts["streams"] == 0


def test_it_can_be_waived_and_runs_where_something_was_taken_out() -> None:
    story = Story(not_applicable={"C4": "its dequeues are not destructive", "C7": "no dumps"}, required=["C4"])
    verdict = judge(story.tell(f"{SENT} 1>d 1<d=b").events)
    assert verdict.record("C4") is None
    assert "C4" not in verdict.required
    assert verdict.not_applicable["C4"] == "its dequeues are not destructive"
    verdict = judge(Story().tell(f"{SENT} 1>d 1<d=b").events)
    record = verdict.record("C4")
    assert record is not None
    assert record.valid is Validity.INVALID
    assert any("C4" in reason for reason in verdict.why)


def test_too_many_values_at_once_are_counted_exactly() -> None:
    story = Story()
    for number in range(50):
        story.tell(f"0>s({number}) 0<s({number})")
    for number in reversed(range(50)):
        story.tell(f"1>d 1<d={number}")
    record = c4(story)
    assert record.counts["order"] == 49
    assert record.truncated
    assert len(record.anomalies) == 32


def told(ops: list[Operation], *, polls: bool) -> Story:
    """Tell operations of a queue as sends, and as dequeues or as polls of a group that give one message each."""
    story = Story()
    story.reader = "g"
    marks = [(op.invoked, 0, place, op) for place, op in enumerate(ops)]
    marks += [(op.returned, 1, place, op) for place, op in enumerate(ops) if op.returned is not None]
    for at, ended, place, op in sorted(marks, key=lambda mark: mark[:3]):
        story.now = at * MS
        kind: EventType = ("ok" if op.outcome == "ok" else "info") if ended else "invoke"
        extras: dict[str, Any] = {"queue": QUEUE}
        if op.f == "enqueue":
            name = f"r/0/{op.argument}"
            story.add(place, kind, "send", name, **extras, **({"status": "SEND_OK"} if kind == "ok" else {}))
        elif polls:
            got = {QUEUE: [] if op.result is None else [[-1, f"r/0/{op.result}"]]} if ended else None
            story.add(place, kind, "poll", got, mode="assign", group="g", **extras)
        else:
            taken = f"r/0/{op.result}" if ended and op.result is not None else None
            story.add(place, kind, "dequeue", taken, **extras)
    return story


@pytest.mark.random
def test_it_says_what_trying_all_orders_says() -> None:
    kind, rng = KINDS["fifo"], random.Random("c4")
    verdicts, hits = Counter[bool](), Counter[str]()
    for number in range(1500):
        ops = history(kind, rng, *shape(rng))
        legal = brute_force(kind.spec, kind.init, ops)
        record = c4(told(ops, polls=False))
        if any(op.f == "dequeue" for op in ops):
            assert record.valid is (Validity.VALID if legal else Validity.INVALID), (number, shown(ops))
            verdicts[legal] += 1
            hits.update(types(record))
    assert min(verdicts.values()) > 200
    assert set(hits) == {"fresh", "repeat", "order", "empty"}


def redelivering(state: tuple[tuple[Any, ...], frozenset[Any]], op: Operation, unknown: bool) -> Iterable[Any]:
    """A queue that gives a message again as often as it likes once it was given."""
    inside, given = state
    if op.f == "enqueue":
        return [((*inside, op.argument), given)]
    if op.result is None:
        return [state]
    if op.result in given:
        return [state]
    return [(inside[1:], given | {op.result})] if inside and inside[0] == op.result else []


@pytest.mark.random
def test_redeliveries_say_what_trying_all_orders_says() -> None:
    """Empty polls say nothing, and the first delivery may be any that was not over before another began."""
    kind, rng = KINDS["fifo"], random.Random("c4 again")
    verdicts, again = Counter[bool](), 0
    for number in range(1500):
        ops = history(kind, rng, *shape(rng))
        taken = [op for op in ops if op.f == "dequeue" and op.result is not None]
        for op in rng.sample(taken, min(len(taken), 2)):
            begin = op.invoked + rng.randrange(-3, 6)
            ops.append(changed(op, process=99, invoked=begin, returned=begin + rng.randrange(1, 6)))
        if not any(op.f == "dequeue" and op.result is not None for op in ops):
            continue
        legal = brute_force(redelivering, ((), frozenset()), ops)
        record = c4(told(ops, polls=True))
        assert record.valid is (Validity.VALID if legal else Validity.INVALID), (number, shown(ops))
        verdicts[legal] += 1
        again += record.counts["redeliveries"]
    assert min(verdicts.values()) > 150, verdicts
    assert again > 500


def test_a_crash_before_the_first_question_is_unknown_and_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("our own mistake")

    monkeypatch.setattr(fifo_queue, "streams", broken)
    record = judge(Story().tell(SENT).events).record("C4")
    assert record is not None
    assert record.valid is Validity.UNKNOWN
    assert "the checker crashed" in record.reasons[0]
