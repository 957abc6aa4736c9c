"""Reports say the verdict in plain words, show everything, and let nothing of the clients' values through unescaped."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from checkers.builder import build_history
from checkers.compose import judge
from checkers.report.charts import lanes, ticks, timeline
from checkers.report.html import render_html, write_report
from checkers.report.series import nice_step, read_series
from checkers.report.terminal import render_text
from checkers.verdict import Validity
from tests.unit.checkers.raft import THREE, RaftPretend, raft_run
from tests.unit.checkers.runs import Pretend, pretend_run
from tests.unit.checkers.story import GROUP, NODES, Story

EVIL = "<script>alert(1)</script>&\"'"


@pytest.mark.parametrize(("synchronous", "word"), [(True, "valid"), (False, "invalid")])
def test_the_made_up_run_ends_as_its_configuration_says(synchronous: bool, word: str) -> None:
    """The same faults: with two copies before SEND_OK nothing promised is lost, with one it is."""
    verdict = judge(pretend_run(Pretend(synchronous=synchronous)))
    assert verdict.valid.word == word, verdict.why
    text = render_text(verdict)
    assert f"Verdict: {word} — order: appends only; reads not judged for freshness" in text
    assert "Seed: 5" in text
    if synchronous:
        assert "messages were answered with a weaker status, which promises nothing" in text
        assert re.search(r"SEND_OK +must survive +\d+ +\d+ +0 +0\n", text)
    else:
        assert re.search(r"\d+ of \d+ messages answered SEND_OK are gone", text)
        assert re.search(r"destroy.*\d+ SEND_OK, 2\.\d\d–3\.\d\d s", text)


def test_an_unproven_fault_shows_in_every_report() -> None:
    events = pretend_run(Pretend(verified=False))
    verdict = judge(events)
    assert verdict.valid is Validity.UNKNOWN
    assert "DISPROVEN" in render_text(verdict)
    page = render_html(verdict, build_history(events))
    assert "injection disproven" in page
    assert "unproven" in page


def test_the_page_is_self_contained_and_complete(tmp_path: Path) -> None:
    events = pretend_run(Pretend(synchronous=False))
    verdict = judge(events)
    path = tmp_path / "report.html"
    write_report(verdict, build_history(events), path)
    page = path.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=|url\(|@import|<script", page)
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    for words in ("The cluster broke its promises", "partition replication", "SEND_OK", "broker-a-0", "C16", "gate"):
        assert words in page
    assert page.count("<svg") == 4  # the run, and the three queues that lost most
    assert "lost-value" in page
    assert 'left out of the drain</td><td class="long">broker-a-0' in page
    cards = re.findall(r"<section.*?</section>", page, flags=re.DOTALL)
    assert sum(card.count("<table") for card in cards) == page.count("<table")  # a wide one scrolls inside its card,
    assert re.search(r"\nsection {[^}]*overflow-x: auto", page)  # so that on a phone the page is as wide as the screen


def evil_story() -> Story:
    story = Story(queue=f"{EVIL}/broker-a/0", topics={EVIL: {"broker-a": 1}}, promise=EVIL, seed=EVIL)
    story.node = EVIL
    story.tell("0>s(a) 0<s(a)@0 0>s(b) 0<s(b)@1 1>poll 1<poll=[0:a]")
    for event in story.events:
        if event.value == "r/0/b":
            event.value = EVIL
        if event.status:
            event.status = EVIL
    story.fault("f" + EVIL, "kill", targets=[EVIL], verified=False)
    story.add("lab", "info", "log-pattern", {"node": EVIL, "pattern": EVIL, "line": EVIL, "severity": "error"})
    story.add(7, "invoke", "send", "r/7/1", queue=story.queue)
    story.add(7, "info", "send", "r/7/1", error={"code": EVIL, "phase": EVIL, "text": EVIL})
    return story.drain("[a]")


def test_a_check_tells_its_findings_and_its_other_reasons() -> None:
    """Where a checker had found something, what else it could not decide was left out of its section."""
    story = Story(not_applicable={}, gates={"send_ok": 5}).tell("0>s(a) 0<s(a)@0")
    story.phase("interrupted")
    story.drain("[a]")
    page = render_html(judge(story.events), story.history())
    section = page.partition("<h2>Checks")[2].partition("<h2>")[0]
    assert section.count("only 1 sends were answered SEND_OK; 5 are needed") == 1
    assert section.count("the run was cut short: what its plan had still to do was not seen") == 1


def test_what_clients_sent_is_escaped() -> None:
    story = evil_story()
    verdict = judge(story.events)
    page = render_html(verdict, story.history())
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    encoded = verdict.encode()
    assert b"<script" not in encoded
    assert msgspec.json.decode(encoded)["promise"] == EVIL
    assert EVIL in render_text(verdict)


def test_a_verdict_is_kept_as_json() -> None:
    verdict = judge(pretend_run(Pretend()))
    kept = msgspec.json.decode(verdict.encode())
    assert kept["valid"] == "valid"
    assert kept["seed"] == 5
    records = {record["checker"]: record for record in kept["records"]}
    assert records["C1"]["valid"] is True
    assert set(records["C1"]) == {
        "checker", "title", "version", "valid", "reasons", "counts", "metrics", "anomalies", "truncated", "coverage",
        "mode", "details", "cost",
    }  # fmt: skip
    assert kept["faults"][1]["rto"]["rto"][0] > 2
    assert kept["not_applicable"] == {"C7": "this run was made up and has no replica dumps"}


@pytest.mark.parametrize("told", [True, False], ids=["by the lab", "by the group's settings alone"])
@pytest.mark.parametrize("flush", ["ASYNC_FLUSH", "SYNC_FLUSH"])
def test_every_report_calls_a_promise_without_fsync_weaker(flush: str, told: bool) -> None:
    """The page, the lines for a terminal and the JSON; and none of them calls the stronger one so."""
    groups = {GROUP: {"nodes": THREE, "copies": 2, "flush": flush, "role": "LEADER"}}
    words = "SEND_OK: written by 2 of 3 replicas, weaker" if flush == "ASYNC_FLUSH" else "SEND_OK: synced"
    events = raft_run(RaftPretend(meta={"groups": groups, **({"promise": words} if told else {})}))
    verdict = judge(events)
    kept = msgspec.json.decode(verdict.encode())
    weak = flush == "ASYNC_FLUSH"
    promise_line = next(line for line in render_text(verdict).splitlines() if line.startswith("Promise:"))
    page = render_html(verdict, build_history(events))
    promise_on_page = next(line for line in page.splitlines() if "Promise: " in line)
    for text in (kept["promise"], promise_line, promise_on_page):
        assert ("weaker" in text) is weak, text


def test_an_empty_run_can_be_reported() -> None:
    story = Story().finish()
    verdict = judge(story.events)
    assert "No faults" in render_html(verdict, story.history())
    assert "Faults: none" in render_text(verdict)


def test_overlapping_faults_get_lanes_of_their_own() -> None:
    story = Story()
    story.at(1).fault("a", "pause", targets=[NODES[0]])
    story.at(2).fault("b", "kill", targets=[NODES[1]])
    story.at(3).fault("a", "pause", "heal", targets=[NODES[0]])
    story.at(4).fault("b", "kill", "heal", targets=[NODES[1]])
    story.at(5).fault("c", "kill", targets=[NODES[1]])
    story.at(6).fault("c", "kill", "heal", targets=[NODES[1]])
    series = read_series(story.drain("[]").history())
    assert [[window.id for window in lane] for lane in lanes(series.windows, series.end)] == [["a", "c"], ["b"]]
    assert timeline(series).count('class="band') == 6


def test_axes_have_round_numbers() -> None:
    assert ticks(0) == [0.0, 1.0]
    assert ticks(87) == [0, 25, 50, 75, 100]
    assert ticks(1234) == [0, 500, 1000, 1500]
    assert nice_step(30, 12) == 5
    assert nice_step(10, 150) == 0.1
