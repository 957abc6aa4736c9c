"""Delivery: what a group that has caught up has handled."""

from __future__ import annotations

import pytest

from checkers.delivery import check_delivery
from checkers.facts import gather
from checkers.verdict import Record, Severity, Validity
from tests.unit.checkers.planted import types
from tests.unit.checkers.story import Story


def judged(tale: str, *, answered_late: bool = False, lag: int = 0) -> Record:
    """Messages a and b are in the queue and the group has caught up; the answer to b comes when told."""
    answer = "1<s(b)@1"
    story = Story(consumer_groups=["g"]).tell("0>s(a) 0<s(a)@0 1>s(b)").tell("" if answered_late else answer).tell(tale)
    story.drain("[a,b]", top=2, finish=False).tell("2>handle=[2:r/9/1] 2<handle").group_final(lag=lag)
    return check_delivery(gather(story.tell(answer if answered_late else "").finish().history()))


def test_what_a_group_that_has_caught_up_never_handled_was_skipped() -> None:
    assert judged("2>handle=[0:a,1:b] 2<handle").valid is Validity.VALID
    assert types(judged("2>handle=[0:a] 2<handle")) == {"skipped"}


def test_what_was_answered_after_the_group_had_caught_up_may_have_come_after_it() -> None:
    record = judged("2>handle=[0:a] 2<handle", answered_late=True)
    assert (types(record), types(record, Severity.UNDECIDED)) == (set(), {"skipped"})
    assert judged("2>handle=[0:a,1:b] 2<handle", answered_late=True).valid is Validity.VALID


@pytest.mark.parametrize("lag", [3, -3])
def test_a_group_that_is_not_at_the_end_has_not_caught_up(lag: int) -> None:
    record = judged("2>handle=[0:a,1:b] 2<handle", lag=lag)
    assert record.valid is Validity.UNKNOWN
    assert "in t/broker-a/0" in record.reasons[0]


def test_a_group_that_handled_messages_is_judged_whether_the_run_names_it_or_not() -> None:
    story = Story().tell("0>s(a) 0<s(a)@0 2>handle=[0:a] 2<handle").drain("[a]")
    record = check_delivery(gather(story.history()))
    assert record.valid is Validity.UNKNOWN
    assert "group g: nothing was recorded of it after the drain" in record.reasons


@pytest.mark.parametrize(
    ("part", "name", "verdict"),
    [
        ("dead", "a", Validity.VALID),
        ("retry", "a", Validity.VALID),
        ("dead", "z", Validity.UNKNOWN),
        ("retry", "z", Validity.UNKNOWN),
    ],
)
def test_what_nobody_sent_is_no_message_of_the_group(part: str, name: str, verdict: Validity) -> None:
    story = Story(consumer_groups=["g"]).tell("0>s(a) 0<s(a)@0 2>handle=[0:a] 2xhandle")
    story.drain("[a]", top=1, finish=False).tell("2>handle=[0:a,1:r/9/1] 2<handle")
    story.group_final(retry=name if part == "retry" else "", dead=name if part == "dead" else "")
    assert check_delivery(gather(story.finish().history())).valid is verdict
