"""C5 where offsets are not told: it says what it has not judged."""

from __future__ import annotations

import pytest

from checkers.append_log import check_append_log
from checkers.facts import gather
from checkers.verdict import Validity
from tests.unit.checkers.story import QUEUE, Story, value


@pytest.mark.parametrize(("offset", "verdict"), [(0, Validity.VALID), (-1, Validity.UNKNOWN)])
def test_a_promise_without_a_place_is_not_judged(offset: int, verdict: Validity) -> None:
    """Neither its answer nor the read of it tells an offset."""
    story = Story().tell("0>s(a) 0<s(a) 1>poll")
    story.add(1, "ok", "poll", {QUEUE: [[offset, value("a")]]}, queue=QUEUE, mode="assign")
    record = check_append_log(gather(story.history()))
    assert record.valid is verdict
    assert record.reasons == (() if verdict is Validity.VALID else ("1 acknowledged messages have no known offset",))
