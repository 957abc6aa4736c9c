"""Whole runs of a Raft group: legal ones stay valid, and each thing done to them is caught by the checker named."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from checkers.builder import build_history, load_history
from checkers.compose import REQUIRED_DLEDGER, judge
from checkers.event import Event
from checkers.files import HistoryWriter
from checkers.report.html import render_html
from checkers.report.terminal import render_text
from checkers.verdict import Validity, Verdict
from tests.unit.checkers.raft import ADDRESS, THREE, RaftPretend, raft_run
from tests.unit.checkers.story import GROUP, QUEUE

pytestmark = pytest.mark.random

SEEDS = range(4)
RUNS = {seed: raft_run(RaftPretend(seed=seed)) for seed in SEEDS}


def events(seed: int) -> list[Event]:
    return copy.deepcopy(RUNS[seed])


def renumbered(made: list[Event]) -> list[Event]:
    made.sort(key=lambda event: event.time)
    for index, event in enumerate(made):
        event.index = index
    return made


def of(made: list[Event], f: str, **wanted: Any) -> list[Event]:
    """Return the events of a kind whose value (a dict) has these."""
    found = [event for event in made if event.f == f and isinstance(event.value, dict)]
    return [event for event in found if all(event.value.get(key) == value for key, value in wanted.items())]


def promises(made: list[Event]) -> list[Event]:
    return [event for event in made if event.f == "send" and event.status == "SEND_OK" and not event.sentinel]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_legal_run_is_valid_by_all_checkers(seed: int) -> None:
    verdict = judge(events(seed))
    assert verdict.valid is Validity.VALID, (seed, verdict.why)
    ran = {record.checker for record in verdict.records}
    assert set(REQUIRED_DLEDGER) | {"C17", "C18"} <= ran
    assert {record.valid for record in verdict.records} == {Validity.VALID}


def deposed_leader_acknowledges(made: list[Event], rng: random.Random) -> None:
    """The last leader is deposed, and a send it answers afterwards carries the old term."""
    old = min(event.epoch for event in promises(made) if event.epoch is not None)
    mine = next(event for event in promises(made) if event.epoch == old)
    later = rng.choice([event for event in promises(made) if (event.epoch or 0) > old][5:])
    later.epoch, later.node = old, mine.node


def two_lead_one_term(made: list[Event], rng: random.Random) -> None:
    one = rng.choice(promises(made)[10:])
    one.node = next(address for address in ADDRESS.values() if address != one.node)


def term_forgotten(made: list[Event], rng: random.Random) -> None:
    told = [event for event in of(made, "status", answered=True) if event.value["term"] > 1]
    rng.choice(told[6:]).value["term"] = 0


def vote_given_twice(made: list[Event], rng: random.Random) -> None:
    vote = copy.deepcopy(rng.choice(of(made, "election", event="granted")))
    vote.value["to"] = next(node for node in THREE if node != vote.value["to"])
    made.append(vote)


def commit_goes_back(made: list[Event], rng: random.Random) -> None:
    told = [event for event in of(made, "status", answered=True, incarnation=1) if event.value["commit"] > 500]
    rng.choice(told[5:-5]).value["commit"] = 100


def commit_passes_the_end(made: list[Event], rng: random.Random) -> None:
    one = rng.choice(of(made, "status", answered=True))
    one.value["commit"] = one.value["end"] + 1


def queue_rolls_back(made: list[Event], rng: random.Random) -> None:
    serving = [event for event in of(made, "status", serving=True) if event.value["queues"][QUEUE][1] > 50]
    term = max(event.value["term"] for event in serving)
    rng.choice([event for event in serving if event.value["term"] == term]).value["queues"][QUEUE][1] = 20


def promise_is_lost(made: list[Event], rng: random.Random) -> None:
    gone = rng.choice(promises(made)[10:-10])
    for event in made:
        if event.f in {"poll", "drain"} and isinstance(event.value, dict):
            event.value = {q: [pair for pair in got if pair[1] != gone.value] for q, got in event.value.items()}


def a_read_is_taken_back(made: list[Event], rng: random.Random) -> None:
    """A message without SEND_OK was shown at the place of one that is there in the end."""
    polls = [event for event in of(made, "poll") if len(event.value.get(QUEUE, ())) > 2]
    failed = [event.value for event in made if event.f == "send" and event.type == "info"]
    rng.choice(polls).value[QUEUE][1][1] = failed[0] if failed else "r/9/9"


def the_group_stalls(made: list[Event], rng: random.Random) -> None:
    """For three seconds of calm nothing is answered ok."""
    end = max(event.time for event in promises(made))
    lost = {e.value for e in promises(made) if end - 4_000_000_000 < e.time < end - 1_000_000_000}
    for event in made:
        if event.f == "send" and event.type == "ok" and event.value in lost:
            event.type, event.status, event.offset, event.ack = "info", None, None, None


def a_route_stays_old(made: list[Event], rng: random.Random) -> None:
    """Planted: the route of a deposed leader wins."""
    first = of(made, "route", ns="namesrv-1")[0].value["groups"]
    for event in of(made, "route", ns="namesrv-1"):
        event.value["groups"] = copy.deepcopy(first)


INJECTED: list[tuple[str, Callable[[list[Event], random.Random], None]]] = [
    ("C8", deposed_leader_acknowledges),
    ("C8", two_lead_one_term),
    ("C8", term_forgotten),
    ("C8", vote_given_twice),
    ("C9", commit_goes_back),
    ("C9", commit_passes_the_end),
    ("C9", queue_rolls_back),
    ("C10", promise_is_lost),
    ("C12", a_read_is_taken_back),
    ("C15", the_group_stalls),
    ("C18", a_route_stays_old),
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("checker", "hurt"), INJECTED, ids=[hurt.__name__ for _, hurt in INJECTED])
def test_each_injected_anomaly_is_caught_by_its_checker(
    checker: str, hurt: Callable[[list[Event], random.Random], None], seed: int
) -> None:
    made = events(seed)
    if len({event.epoch for event in promises(made)}) < 2:
        pytest.skip("no failover in this run")
    hurt(made, random.Random(seed))
    verdict = judge(renumbered(made))
    record = verdict.record(checker)
    assert record is not None
    assert record.valid is Validity.INVALID, (seed, record.reasons)
    assert all(anomaly.text for anomaly in record.anomalies)
    assert verdict.valid is Validity.INVALID


MISSING: list[tuple[str, Callable[[list[Event]], list[Event]]]] = [
    ("C8", lambda made: [event for event in made if event.f != "status"]),
    ("C9", lambda made: [event for event in made if event.f != "status"]),
    ("C8", lambda made: [e for e in made if e.f != "status" or e.value["node"] != THREE[1]]),
    ("C18", lambda made: [e for e in made if e.f != "route" or e.value["ns"] != "namesrv-2"]),
    ("C15", lambda made: [event for event in made if event.value != "load-end" and event.f != "drain-step"]),
]


@pytest.mark.parametrize(("checker", "keep"), MISSING, ids=range(len(MISSING)))
def test_what_is_not_recorded_is_never_valid(checker: str, keep: Callable[[list[Event]], list[Event]]) -> None:
    verdict = judge(renumbered(keep(events(1))))
    record = verdict.record(checker)
    assert record is not None
    assert record.valid is Validity.UNKNOWN
    assert verdict.valid is not Validity.VALID


@pytest.mark.parametrize("name", REQUIRED_DLEDGER)
def test_a_raft_run_judged_without_one_of_its_checkers_is_at_most_unknown(name: str) -> None:
    known = [record.checker for record in judge(events(1)).records]
    verdict = judge(events(1), only=[checker for checker in known if checker != name])
    assert verdict.valid is Validity.UNKNOWN
    assert f"{name} is required and did not run" in verdict.why


JUNK: tuple[Any, ...] = (None, True, -1, 2**70, 0.5, "x", [], {}, [[]], {"a": {"b": []}}, ["a", 1])


@pytest.mark.parametrize("seed", range(16))
def test_junk_in_what_the_lab_recorded_never_crashes_and_is_never_better(seed: int) -> None:
    rng = random.Random(seed)
    made = events(1)
    kinds = ("status", "election", "route", "membership", "partition", "kill", "pause", "drain-step", "commit")
    for event in rng.sample([event for event in made if event.f in kinds], 40):
        if isinstance(event.value, dict) and rng.random() < 0.8:
            event.value[rng.choice(list(event.value))] = copy.deepcopy(rng.choice(JUNK))
        else:
            event.value = copy.deepcopy(rng.choice(JUNK))
    verdict = judge(made)
    crashed = [reason for record in verdict.records for reason in record.reasons if "crashed" in reason]
    assert crashed == [], seed
    assert verdict.records, verdict.why
    assert render_text(verdict)
    if seed % 4 == 0:
        assert render_html(verdict, build_history(made))


def plain(verdict: Verdict) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(verdict.encode(with_cost=False))
    return decoded


def test_a_stored_run_gives_the_same_verdict(tmp_path: Any) -> None:
    made = events(2)
    with HistoryWriter(tmp_path / "history.jsonl.zst") as out:
        out.write_all(made)
    stored = load_history(tmp_path / "history.jsonl.zst")
    assert plain(judge(stored)) == plain(judge(made))


def test_the_reports_show_terms_promises_obligations_and_latency() -> None:
    made = events(0)
    verdict = judge(made)
    for shown in (render_text(verdict), render_html(verdict, build_history(made))):
        for words in ("term", "leader", GROUP, "replicated", "survives kills", "owed", "p99"):
            assert words in shown, words


def test_the_page_tells_in_words_what_nodes_said() -> None:
    made = events(1)
    commit_goes_back(made, random.Random(1))
    a_route_stays_old(made, random.Random(1))
    vote_given_twice(made, random.Random(1))
    made = renumbered(made)
    page = render_html(judge(made), build_history(made))
    for words in (" says: ", "commit 100", "logs: granted to", "namesrv-1 answers lab"):
        assert words in page, words
