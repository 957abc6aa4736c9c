"""The topics of a run are made on each leader: the load's own last, the others once, and not all in one breath."""

import asyncio
from typing import cast

from lab.planfile import build_plan
from lab.systems.system import System
from lab.topics import AT_ONCE, Topics


class Asked:
    """Remembers what was asked for, and refuses what it is told to."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str, int]] = []
        self.refuse = ""

    async def create_topic(self, node: str, topic: str, queues: int) -> str:
        if topic == self.refuse:
            return "not now"
        self.made.append((node, topic, queues))
        return ""


def create(topics: Topics, leader: str) -> list[str]:
    """Ask until all are there; the reasons why they were not yet."""
    reasons = []
    while words := asyncio.run(topics.create(leader)):
        reasons.append(words)
    return reasons


def made_by(asked: Asked, more: int) -> Topics:
    plan = build_plan({"cluster": {"more_topics": more}, "load": {"topic": "t", "queues": 3}}, "plan")
    return Topics(plan, cast(System, asked))


def test_without_others_there_is_the_loads_own_alone() -> None:
    asked = Asked()
    assert create(made_by(asked, 0), "a") == []
    assert asked.made == [("a", "t", 3)]


def test_the_others_come_first_and_once_on_each_leader() -> None:
    asked, more = Asked(), AT_ONCE + 2
    topics = made_by(asked, more)
    assert create(topics, "a") == [f"{AT_ONCE} of {more} more topics are made"]
    assert asked.made == [*(("a", f"t-{number}", 1) for number in range(1, more + 1)), ("a", "t", 3)]
    create(topics, "a")
    assert asked.made[more + 1 :] == [("a", "t", 3)]
    create(topics, "b")
    assert asked.made[-more - 1 :] == [*(("b", f"t-{number}", 1) for number in range(1, more + 1)), ("b", "t", 3)]


def test_what_was_refused_is_asked_for_again() -> None:
    asked = Asked()
    topics = made_by(asked, 2)
    asked.refuse = "t-2"
    assert asyncio.run(topics.create("a")) == "not now"
    asked.refuse = ""
    assert create(topics, "a") == []
    assert asked.made == [("a", "t-1", 1), ("a", "t-2", 1), ("a", "t", 3)]
