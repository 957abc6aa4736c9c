"""C12, and C6 beside it: what readers and handlers were given, and what excuses that it is gone."""

from __future__ import annotations

import pytest

from checkers.dirty_reads import check_dirty_reads
from checkers.facts import gather
from checkers.queue_log import check_queue_log
from checkers.verdict import Severity
from tests.unit.checkers.planted import types
from tests.unit.checkers.raft import A, C, RaftStory
from tests.unit.checkers.story import NODES, Story


@pytest.mark.parametrize("taken", ["2<handle", "2x handle", "2?handle"])
def test_what_a_handler_was_given_it_was_given_however_it_took_it(taken: str) -> None:
    def run(content: str) -> set[str]:
        story = Story().tell(f"0>s(a) 0<s(a)@0 3>s(b) 3?s(b) 2>handle=[0:a,1:b] {taken.replace(' ', '')}")
        return types(check_dirty_reads(gather(story.drain(content, top=2).history())))

    assert run("[a]") == {"unacked-vanished-read"}
    assert run("[a,b]") == set()


def test_what_an_answer_that_broke_off_has_shown_it_has_shown() -> None:
    def run(content: str) -> set[str]:
        story = Story().tell("0>s(a) 0<s(a)@0 3>s(b) 3?s(b) 2>poll 2?poll=[0:a,1:b]")
        return types(check_dirty_reads(gather(story.drain(content, top=2).history())))

    assert run("[a]") == {"unacked-vanished-read"}
    assert run("[a,b]") == set()


@pytest.mark.parametrize(("lost", "severity"), [(NODES[0], Severity.NOTE), (NODES[1], Severity.VIOLATION)])
def test_the_loss_of_a_slave_explains_nothing_that_its_master_no_longer_shows(lost: str, severity: Severity) -> None:
    story = Story(addresses={f"{node}:10911": node for node in NODES}).tell("0>s(a) 0<s(a)@0 3>s(b) 3?s(b)")
    story.tell("2>poll 2<poll=[0:a,1:b]").fault("d", "destroy", targets=[lost])
    facts = gather(story.tell("0>s(c) 0<s(c)@1").drain("[a,c]", excluded=(lost,)).history())
    assert types(check_dirty_reads(facts), severity) == {"unacked-dirty-read"}
    assert types(check_queue_log(facts), severity) == {"inconsistent-offsets"}


def test_the_loss_of_a_disk_takes_nothing_back_that_was_sent_after_it() -> None:
    """A quorum without it held what was sent later (Raft, section 5.4)."""

    def run(*, sent_after: bool) -> tuple[set[str], set[str], set[str]]:
        story = RaftStory().lead(A, 1).asked(1, A).say("0>s(a) 0<s(a)@0")
        sent = "3>s(b) 3?s(b)"
        if not sent_after:
            story.say(sent)
        story.fault("d", "destroy", targets=[C]).fault("d", "destroy", "heal", targets=[C])
        if sent_after:
            story.say(sent)
        story.say("2>poll 2<poll=[0:a,1:b] 0>s(c) 0<s(c)@1")
        facts = gather(story.drain("[a,c]").history())
        c12, c6 = check_dirty_reads(facts), check_queue_log(facts)
        return types(c12), types(c6), types(c12, Severity.NOTE)

    assert run(sent_after=True) == ({"unacked-dirty-read"}, {"inconsistent-offsets"}, set())
    assert run(sent_after=False) == (set(), set(), {"unacked-dirty-read"})
