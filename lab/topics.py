"""The topics of a run: the load's own, and as many others that nobody uses, which are metadata to carry."""

from typing import Final

from lab.plan import Plan
from lab.systems.system import System

AT_ONCE: Final = 100
"""Made without a look at the clock; whoever waits for them has a deadline."""


class Topics:
    """Makes them on the leaders of groups, the load's own last."""

    def __init__(self, plan: Plan, system: System) -> None:
        self._load = plan.load
        self._more = plan.cluster.more_topics
        self._system = system
        self._made: dict[str, int] = {}  # of the others, on each leader

    async def create(self, leader: str) -> str:
        """Make what is missing; why it is not all there yet, empty if it is."""
        while (made := self._made.get(leader, 0)) < self._more:
            if refusal := await self._system.create_topic(leader, f"{self._load.topic}-{made + 1}", 1):
                return refusal
            self._made[leader] = made + 1
            if (made + 1) % AT_ONCE == 0:
                return f"{made + 1} of {self._more} more topics are made"
        return await self._system.create_topic(leader, self._load.topic, self._load.queues)
