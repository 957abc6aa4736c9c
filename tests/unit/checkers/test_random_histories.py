"""Random histories: C5 against exhaustive search, the identity of C1, and changes that must not matter."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checkers.append_log import Ranged, inversions
from checkers.columns import NEVER
from checkers.compose import judge
from checkers.facts import gather
from checkers.history import Event
from checkers.total_queue import check_total_queue
from checkers.verdict import Validity
from tests.unit.checkers.runs import Pretend, pretend_run
from tests.unit.checkers.story import Story

pytestmark = pytest.mark.random

CALM = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)

Op = tuple[int, int, str, int]
"""Begin, end (or -1 for never), what, and the offset or length it speaks of."""


@st.composite
def log_operations(draw: st.DrawFn) -> list[Op]:
    """Draw up to six operations on one queue whose appends take the offsets 0..n-1."""
    kinds = draw(st.lists(st.sampled_from(["append", "append", "read", "empty", "end"]), min_size=1, max_size=6))
    appends = sum(kind == "append" for kind in kinds)
    offsets = draw(st.permutations(range(appends)))
    points = draw(st.permutations(range(2 * len(kinds))))
    ops: list[Op] = []
    taken = 0
    for place, kind in enumerate(kinds):
        begin, end = sorted(points[2 * place : 2 * place + 2])
        if kind == "append":
            pending = draw(st.booleans()) and draw(st.booleans())
            ops.append((begin, -1 if pending else end, kind, offsets[taken]))
            taken += 1
        else:
            ops.append((begin, end, kind, draw(st.integers(0, appends))))
    return [op for op in ops if op[2] != "read" or op[3] > 0]


def legal(order: Sequence[Op]) -> bool:
    """Play operations one after another on a log."""
    length = 0
    for _, _, kind, number in order:
        if kind == "append":
            if number != length:
                return False
            length += 1
        elif (
            (kind == "read" and length < number)
            or (kind == "empty" and length > number)
            or (kind == "end" and length != number)
        ):
            return False
    return True


def respects_time(order: Sequence[Op]) -> bool:
    return all(not any(0 <= other[1] < later[0] for other in order[place + 1 :]) for place, later in enumerate(order))


def ranged(ops: Sequence[Op]) -> Ranged:
    lo, hi = [], []
    for _, _, kind, number in ops:
        if kind == "append":
            low, high = 2 * number + 1, 2 * number + 1
        elif kind == "read":
            low, high = 2 * number, int(NEVER)
        elif kind == "empty":
            low, high = 0, 2 * number
        else:
            low, high = 2 * number, 2 * number
        lo.append(low)
        hi.append(high)

    def column(numbers: Sequence[int]) -> np.ndarray:
        return np.array(numbers, dtype=np.int64)

    return Ranged(
        queue=column([0] * len(ops)),
        begin=column([op[0] for op in ops]),
        end=column([op[1] if op[1] >= 0 else int(NEVER) for op in ops]),
        lo=column(lo),
        hi=column(hi),
        what=column(list(range(len(ops)))),
        offset=column([op[3] for op in ops]),
    )


@CALM
@given(log_operations())
def test_c5_finds_exactly_what_exhaustive_search_finds(ops: list[Op]) -> None:
    explained = any(respects_time(order) and legal(order) for order in permutations(ops))
    suspects, causes = inversions(ranged(ops))
    assert (len(suspects) == 0) == explained
    for later, earlier in zip(suspects.tolist(), causes.tolist(), strict=True):
        assert 0 <= ops[earlier][1] < ops[later][0]


OUTCOMES = ("ok", "weak", "fail", "info")


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Draw a run: sends of every outcome, a drain with some, none or strange values, decidable or not."""
    story = Story()
    content: list[str] = []
    names = [f"{number}" for number in range(draw(st.integers(0, 6)))]
    for name in names:
        outcome = draw(st.sampled_from(OUTCOMES))
        process = 10 * int(name)
        end = {
            "ok": f"{process}<s({name})@{name}",
            "weak": f"{process}<s({name})@{name}!FLUSH_SLAVE_TIMEOUT",
            "fail": f"{process}xs({name})",
            "info": f"{process}?s({name})",
        }[outcome]
        story.tell(f"{process}>s({name}) {end}")
        if draw(st.booleans()):
            content.append(f"{name}:{name}")
        if draw(st.integers(0, 9)) == 0:
            content.append(f"{int(name) + 50}:{name}")
    if draw(st.booleans()):
        content.append("90:zz")
    return story.drain("[" + ",".join(content) + "]", rules={"D4": draw(st.booleans())})


@CALM
@given(stories())
def test_c1_counts_add_up(story: Story) -> None:
    record = check_total_queue(gather(story.history()))
    ok, lost = record.counts["SEND_OK"], record.counts.get("lost", 0)
    undecided, vanished = record.counts.get("lost (undecided)", 0), record.counts.get("vanished", 0)
    table = {row["status"]: row for row in record.details["by status"]}
    row = table.get("SEND_OK", {"sent": 0, "kept": 0, "lost": 0, "undecided": 0})
    assert row["sent"] == ok
    assert row["lost"] == lost + vanished
    assert row["undecided"] == undecided
    assert row["kept"] + row["lost"] + row["undecided"] == row["sent"]
    extra = record.counts.get("unexpected", 0) + record.counts.get("duplicated", 0)
    assert record.counts["delivered"] == record.counts["delivered ok"] + extra
    assert sum(one["sent"] for one in table.values()) == record.counts["attempted"]


@CALM
@given(stories())
def test_a_missing_promise_is_never_called_valid(story: Story) -> None:
    facts = gather(story.history())
    missing = facts.promised & ~facts.logs.seen[facts.history.sends.value]
    record = check_total_queue(facts)
    if bool(missing.any()):
        assert record.valid is not Validity.VALID


def renamed(events: list[Event], seed: int) -> list[Event]:
    """Give processes other numbers and values other names, one for one."""
    rng = random.Random(seed)
    processes = sorted({event.process for event in events if isinstance(event.process, int)})
    shuffled = processes[:]
    rng.shuffle(shuffled)
    names = dict(zip(processes, shuffled, strict=True))

    def value(text: str) -> str:
        run, thread, number = text.split("/")
        return f"{run}/{thread}/{int(number) + 100_000}"

    result: list[Event] = []
    for event in events:
        copy = Event(**{name: getattr(event, name) for name in Event.__struct_fields__})
        if isinstance(event.process, int):
            copy.process = names[event.process]
            if isinstance(event.value, str) and event.f == "send":
                copy.value = value(event.value)
            elif isinstance(event.value, dict) and event.f in {"poll", "drain", "handle"}:
                copy.value = {queue: [[k, value(v)] for k, v in batch] for queue, batch in event.value.items()}
        result.append(copy)
    return result


@pytest.mark.parametrize("synchronous", [True, False])
def test_names_of_processes_and_values_do_not_matter(synchronous: bool) -> None:
    events = pretend_run(Pretend(synchronous=synchronous, seconds=20))
    plain = judge(events)
    other = judge(renamed(events, 3))
    assert other.valid is plain.valid
    for left, right in zip(plain.records, other.records, strict=True):
        assert (left.checker, left.valid, left.counts) == (right.checker, right.valid, right.counts)


@pytest.mark.parametrize("synchronous", [True, False])
def test_later_by_a_constant_is_the_same_run(synchronous: bool) -> None:
    events = pretend_run(Pretend(synchronous=synchronous, seconds=20))
    plain = judge(events)
    for event in events[1:]:
        event.time += 5_000_000_000
        if event.f in {"destroy", "promote", "partition:replication"} and "t_done" in event.value:
            event.value["t_done"] += 5_000_000_000
    other = judge(events)
    assert other.valid is plain.valid
    assert [fault["rto"] for fault in other.faults] == [fault["rto"] for fault in plain.faults]
    assert [fault["rpo"] for fault in other.faults] == [
        {**fault["rpo"], "acked_during": fault["rpo"]["acked_during"]} for fault in plain.faults
    ]


def test_the_same_history_gives_the_same_record_twice() -> None:
    events = pretend_run(Pretend(synchronous=False, seconds=20))
    assert judge(events).encode(with_cost=False) == judge(events).encode(with_cost=False)


def test_dropping_a_read_never_makes_an_invalid_run_valid() -> None:
    """Less evidence may leave a loss undecided or unseen by C6, but a loss the drain proves stays."""
    events = [event for event in pretend_run(Pretend(synchronous=False, seconds=20)) if event.f != "poll"]
    for place, event in enumerate(events):
        event.index = place
    assert judge(events).valid is Validity.INVALID
