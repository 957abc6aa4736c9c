"""What a release's runtime information tells, and what it leaves out."""

from pathlib import Path
from typing import Any

import pytest

from lab.errors import PlanError
from lab.planfile import build_plan
from lab.systems.rocketmq import system
from lab.systems.rocketmq.release import Release
from lab.systems.rocketmq.system import check_rocketmq, delayed_of, ends_of


def test_ends_of_an_empty_log_are_not_negative() -> None:
    """RocketMQ tells -1 as the begin of a log without files."""
    assert ends_of({"commitLogMinOffset": "-1", "commitLogMaxOffset": "0"}) == (0, 0)


def test_delayed_messages_are_those_that_no_level_has_delivered() -> None:
    """A level that has delivered nothing yet is not in the table at all."""
    runtime = {"scheduleMessageOffset_3": "5,7"}
    queues = {
        "SCHEDULE_TOPIC_XXXX@2": {"min": 0, "max": 7},
        "SCHEDULE_TOPIC_XXXX@3": {"min": 0, "max": 4},
        "lab@0": {"min": 0, "max": 99},
    }
    assert delayed_of(runtime, queues) == 2 + 4
    assert delayed_of({"scheduleMessageOffset_3": "7,7", "scheduleMessageOffset_4": "4,4"}, queues) == 0


@pytest.mark.parametrize(
    "tables",
    [
        {"broker": {"enableControllerMode": True}},
        {"master": {"enableControllerMode": "true"}},
        {"namesrv": {"enableControllerInNamesrv": True}},
    ],
)
def test_controller_mode_is_refused_in_words(
    tables: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a mode where the plan appoints masters, a controller would appoint others behind its back."""
    monkeypatch.setattr(system, "release_of", lambda plan: Release("5.3.3", tmp_path))
    plan = build_plan({"cluster": {"system": "rocketmq", "version": "5.3.3"}, **tables}, "plan")
    with pytest.raises(PlanError, match=r"set cluster\.mode = \"controller\""):
        check_rocketmq(plan)
