"""The sweeps of the newer checkers against the plain definition, on small random histories."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest

from checkers.conditions import merge_spans
from checkers.consumer_offsets import check_consumer_offsets
from checkers.event import EventType
from checkers.facts import gather
from checkers.leaders import _inside, check_leaders
from checkers.progress import gaps
from checkers.set_reads import check_set_full
from checkers.terms import prefix_maximum
from checkers.verdict import Severity, Validity
from tests.unit.checkers.raft import ADDRESS, THREE, RaftStory
from tests.unit.checkers.story import MS, QUEUE, Story

pytestmark = pytest.mark.random
ROUNDS = range(60)


@pytest.mark.parametrize("seed", ROUNDS)
def test_the_running_maximum_is_that_of_all_that_ended_before(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.randrange(0, 12)
    begin = np.array([rng.randrange(20) for _ in range(count)], dtype=np.int64)
    end = begin + np.array([rng.randrange(6) for _ in range(count)], dtype=np.int64)
    key = np.array([rng.randrange(5) for _ in range(count)], dtype=np.int64)
    best, row = prefix_maximum(end, key, begin)
    for n in range(count):
        before = [m for m in range(count) if end[m] < begin[n]]
        if not before:
            assert row[n] == -1
            continue
        assert best[n] == max(key[m] for m in before), seed
        assert row[n] in before
        assert key[row[n]] == best[n]


@pytest.mark.parametrize("seed", ROUNDS)
def test_spans_merge_and_hold_what_lies_inside(seed: int) -> None:
    rng = random.Random(seed)
    spans = [(low, low + rng.randrange(5)) for low in (rng.randrange(20) for _ in range(rng.randrange(5)))]
    merged = merge_spans(spans)
    inside = {point / 2 for a, b in spans for point in range(2 * a, 2 * b + 1) if a < b}
    assert {point / 2 for a, b in merged for point in range(2 * a, 2 * b + 1)} == inside
    assert all(left[1] < right[0] for left, right in pairwise(merged))
    begin = np.array([rng.randrange(20) for _ in range(8)], dtype=np.int64)
    end = begin + np.array([rng.randrange(4) for _ in range(8)], dtype=np.int64)
    expected = [any(a <= low and high <= b for a, b in merged) for low, high in zip(begin, end, strict=True)]
    assert _inside(merged, begin, end).tolist() == expected, seed


@pytest.mark.parametrize("seed", ROUNDS)
def test_gaps_are_the_windows_without_success(seed: int) -> None:
    rng = random.Random(seed)
    done = np.array(sorted(rng.randrange(30) for _ in range(rng.randrange(8))), dtype=np.int64)
    begin, window = rng.randrange(10), rng.randrange(1, 8)
    end = begin + rng.randrange(1, 20)
    found = gaps(done, begin, end, window)
    for low, high in found:
        assert high - low > window
        assert not any(low < moment < high for moment in done), seed
    starved = any(
        not any(start <= moment <= start + window for moment in done) for start in np.arange(begin, end - window, 0.25)
    )
    assert bool(found) == starved, seed


@pytest.mark.parametrize("seed", ROUNDS)
def test_stale_promises_are_exactly_those_that_began_after_a_later_term(seed: int) -> None:
    """Sends of several processes answered by one of two leaders in terms of their own."""
    rng = random.Random(seed)
    story = RaftStory().asked(term=9, leader=None)
    open_sends: dict[int, str] = {}
    seen: list[tuple[int, int, int]] = []  # invoked, returned, term
    begun: dict[int, int] = {}
    for step in range(24):
        process = rng.randrange(4)
        if process in open_sends:
            term = rng.choice([2, 3])
            story.lead(THREE[term - 2], term)
            story.tell(f"{process}<s({open_sends.pop(process)})@{step}")
            seen.append((begun.pop(process), story.now, term))
        else:
            open_sends[process] = str(step)
            story.tell(f"{process}>s({step})")
            begun[process] = story.now
    expected = sum(any(r < i and t > term for _, r, t in seen) for i, _, term in seen)
    record = check_leaders(gather(story.history()))
    assert record.counts.get("stale-ack", 0) == expected, seed
    assert ADDRESS


def naive_full(adds: dict[str, tuple[int, int | None]], reads: list[tuple[int, int, set[str]]]) -> dict[str, str]:
    """Classify each element by the definition: stable, lost or neither."""
    result = {}
    for name, (_, added) in adds.items():
        seen = [r for _, r, content in reads if name in content]
        times = [t for t in (added, min(seen, default=None)) if t is not None]
        known = min(times, default=None)
        present = max((i for i, _, content in reads if name in content), default=-1)
        absent = max((i for i, _, content in reads if name not in content), default=-1)
        if present >= 0 and present > absent:
            result[name] = "stable"
        elif known is not None and absent >= 0 and absent > present and absent > known:
            result[name] = "lost"
        else:
            result[name] = "never read"
    return result


@pytest.mark.parametrize("seed", ROUNDS)
def test_c3_classifies_as_its_definition_does(seed: int) -> None:
    rng = random.Random(seed)
    story = Story()
    adds: dict[str, tuple[int, int | None]] = {}
    reads: list[tuple[int, int, set[str]]] = []
    open_adds: dict[int, str] = {}
    open_reads: dict[int, int] = {}
    for step in range(30):
        story.now += MS
        process = rng.randrange(6)
        if process in open_adds:
            name = open_adds.pop(process)
            story.add(process, "ok", "add", name)
            adds[name] = (adds[name][0], story.now)
        elif process in open_reads:
            content = {name for name in adds if rng.random() < 0.7}
            story.add(process, "ok", "read", sorted(content))
            reads.append((open_reads.pop(process), story.now, content))
        elif process < 3:
            name = f"e{step}"
            story.add(process, "invoke", "add", name)
            adds[name], open_adds[process] = (story.now, None), name
        else:
            story.add(process, "invoke", "read")
            open_reads[process] = story.now
    wanted = list(naive_full(adds, reads).values())
    record = check_set_full(gather(story.history()))
    assert record.counts["stable"] == wanted.count("stable"), seed
    assert record.counts["lost elements"] == wanted.count("lost"), seed
    assert record.counts["never read"] == wanted.count("never read"), seed


@pytest.mark.parametrize("seed", ROUNDS)
def test_c11_agrees_with_floor_and_ceiling_by_definition(seed: int) -> None:
    """One committer with growing offsets, fetches of others that may overlap with its commits; one fetch is judged."""
    rng = random.Random(seed)
    story = Story(offsets={"durable": True})
    commits: list[tuple[int, int | None, int]] = []  # invoked, returned ok, offset
    value, process, pending = 0, 0, False
    for _ in range(rng.randrange(1, 10)):
        story.now += MS
        if pending:
            kind: EventType = rng.choice(["ok", "ok", "info"])
            story.add(process, kind, "commit", value, group="g", queue=QUEUE)
            if kind == "ok":
                commits[-1] = (commits[-1][0], story.now, value)
            else:
                process += 10
            pending = False
        else:
            value += rng.randrange(1, 4)
            story.add(process, "invoke", "commit", value, group="g", queue=QUEUE)
            commits.append((story.now, None, value))
            pending = True
    story.now += MS
    begun = story.now
    story.add(5, "invoke", "fetch-offset", group="g", queue=QUEUE)
    if pending and rng.random() < 0.5:
        story.now += MS
        story.add(process, "ok", "commit", value, group="g", queue=QUEUE)
        commits[-1] = (commits[-1][0], story.now, value)
    story.now += MS
    answer = rng.randrange(0, value + 3)
    story.add(5, "ok", "fetch-offset", answer, group="g", queue=QUEUE)
    floor = max((c for _, returned, c in commits if returned is not None and returned < begun), default=0)
    late = {c for _, returned, c in commits if returned is None}
    bad = answer > value or (answer > 0 and answer not in {c for _, _, c in commits})
    bad = bad or (answer < floor and (answer not in late or answer == 0))
    record = check_consumer_offsets(gather(story.history()))
    violations = [a.type for a in record.anomalies if a.severity is Severity.VIOLATION]
    assert bool(violations) == bad, (seed, commits, answer, violations)
    assert (record.valid is Validity.VALID) != bad
