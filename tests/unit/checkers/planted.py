"""What the tests of planted anomalies share: a short tale, and the types that a record found."""

from __future__ import annotations

from checkers.facts import gather
from checkers.total_queue import check_total_queue
from checkers.verdict import Record, Severity
from tests.unit.checkers.story import Story


def types(record: Record | None, severity: Severity = Severity.VIOLATION) -> set[str]:
    assert record is not None
    return {anomaly.type for anomaly in record.anomalies if anomaly.severity is severity}


def two(tale: str) -> Story:
    """Two acknowledged messages, then the tale."""
    return Story().tell("0>s(a) 0<s(a)@0 0>s(b) 0<s(b)@1").tell(tale)


def c1(story: Story) -> Record:
    return check_total_queue(gather(story.history()))
