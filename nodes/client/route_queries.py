"""A client's questions to the name servers about where topics and brokers are.

Source: RocketMQ class MQClientInstance (updateTopicRouteInfoFromNameServer). Beyond it, a route is asked for at once
when a connection fails, when a broker says that it is not the master, when a topic has no queue to write to, and when
an answer is outstanding for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nodes.client.config import ClientConfig
from nodes.client.name_servers import NameServers
from nodes.client.outcomes import NOT_MASTER_CODES, LocalCode, refused
from nodes.client.queues import DEFAULT_TOPIC
from nodes.client.results import CommandFailed, Outcome
from nodes.client.routes import MasterMove, RouteError, Routes, parse_route
from nodes.log import EventLog
from nodes.remoting import fastjson
from nodes.remoting.codes import RequestCode, ResponseCode
from nodes.remoting.command import Command, request

__all__ = ["MASTERLESS_POLL_S", "RouteQueries"]

MASTERLESS_POLL_S = 1.0
"""How often a route is asked for while a group of it has no master: who reads and commits at a slave meanwhile would
otherwise stay there until the next poll, and its progress would reach the master only by way of the slave."""

_TOPIC_UNKNOWN = frozenset({int(ResponseCode.TOPIC_NOT_EXIST)})


class RouteQueries:
    """The route queries of one client: polls of the topics in use, and questions of the moment, each asked once.

    `call` asks the name servers, and raises CommandFailed if none answers. `on_update` is told of every answer: the
    masters that moved, and whether anything changed. `told_at_s` is that of a predecessor whose routes are used on:
    the next poll is due when it would have been due there.
    """

    def __init__(
        self,
        config: ClientConfig,
        routes: Routes,
        names: NameServers,
        call: Callable[[Callable[[], Command], frozenset[int]], Awaitable[Command]],
        log: EventLog,
        on_update: Callable[[tuple[MasterMove, ...], bool], None],
        told_at_s: float | None,
    ) -> None:
        self.made = 0
        """Route queries made so far."""
        self.told_at_s = told_at_s
        """When a name server last told a route, by the clock of the loop; None if none ever did."""
        self._config = config
        self._routes = routes
        self._names = names
        self._call = call
        self._log = log
        self._on_update = on_update
        self._closed = False
        self._topics: dict[str, None] = dict.fromkeys(routes.topics())
        self._refreshing: dict[tuple[str, bool], asyncio.Task[None]] = {}
        self._about_brokers: dict[str, asyncio.Task[None]] = {}

    def use(self, topic: str) -> None:
        """Keep the topic's route fresh from now on."""
        self._topics.setdefault(topic)

    async def ensure(self, topic: str) -> None:
        """Have a route, from the cache or by asking. Raises CommandFailed (10004 no name server, 17 no such topic)."""
        self.use(topic)
        if self._routes.route(topic) is None or self._routes.is_provisional(topic):
            await self.refresh(topic)

    async def refresh(self, topic: str, *, borrow: bool = False) -> None:
        """Ask for a topic's route; callers at the same time share one query. Raises CommandFailed; the cache stays.

        With `borrow`, which producers use, a topic that does not exist gets TBW102's route until a broker has made it.
        """
        key = (topic, borrow)
        task = self._refreshing.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask(topic, borrow))
            self._refreshing[key] = task
            task.add_done_callback(lambda done: self._refreshed(key, done))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and self._closed and not _being_cancelled():
                raise CommandFailed(
                    f"route of {topic}", "", LocalCode.CLOSED, "the client was closed", Outcome.FAIL
                ) from None
            raise

    def _refreshed(self, key: tuple[str, bool], task: asyncio.Task[None]) -> None:
        self._refreshing.pop(key, None)
        if not task.cancelled():
            task.exception()

    async def _ask(self, topic: str, borrow: bool) -> None:
        known = self._routes.route(topic) is not None
        answer = await self._answer(topic, _TOPIC_UNKNOWN if not known else frozenset())
        provisional = False
        if answer.code == ResponseCode.TOPIC_NOT_EXIST and not known and borrow:
            answer = await self._answer(DEFAULT_TOPIC, frozenset())
            provisional = True
        if answer.code != ResponseCode.SUCCESS:
            raise refused(f"route of {topic}", self._names.current, answer)
        try:
            route = parse_route(fastjson.loads(answer.body))
        except (RouteError, ValueError) as error:
            reason = f"the answer is no route: {error}"
            raise CommandFailed(
                f"route of {topic}", self._names.current, LocalCode.GARBLED_REPLY, reason, Outcome.INFO
            ) from None
        if provisional:
            route = route.provisional(self._config.default_topic_queue_nums)
        before = self._routes.version
        self.told_at_s = asyncio.get_running_loop().time()
        moves = self._routes.update(topic, route, provisional=provisional)
        self._on_update(moves, self._routes.version != before)

    async def _answer(self, topic: str, unsatisfying: frozenset[int]) -> Command:
        self.made += 1
        return await self._call(
            lambda: request(RequestCode.GET_ROUTEINFO_BY_TOPIC, {"topic": topic, "acceptStandardJsonOnly": "true"}),
            unsatisfying,
        )

    def heed(self, answer: Command, broker_name: str, topic: str) -> None:
        """If a broker answers that it is no master, go by whom it names until the next route answer, or ask at once."""
        if answer.code not in NOT_MASTER_CODES:
            return
        before = self._routes.version
        move = self._routes.hint(broker_name, answer.ext.get("leader", ""))
        if move is None:
            self.about_broker(broker_name, topic)
        else:
            self._on_update((move,), self._routes.version != before)

    def about_broker(self, broker_name: str, topic: str = "") -> asyncio.Task[None] | None:
        """Ask at once where a group's brokers are; one query for each group at a time. None if that cannot be asked."""
        running = self._about_brokers.get(broker_name)
        if running is not None:
            return running
        if self._closed or not broker_name:
            return None
        topic = topic or next(iter(self._routes.topics_of(broker_name)), "")
        if not topic:
            return None
        task = asyncio.get_running_loop().create_task(self._ask_about(broker_name, topic))
        self._about_brokers[broker_name] = task
        task.add_done_callback(lambda _: self._about_brokers.pop(broker_name, None))
        return task

    async def _ask_about(self, broker_name: str, topic: str) -> None:
        before = self._routes.master(broker_name)
        try:
            await self.refresh(topic)
        except CommandFailed as error:
            self._log.event("route-query-failed", topic=topic, reason=error.reason)
            return
        if self._routes.master(broker_name) == before:
            # This name server says what was known already; another one may know better next time.
            self._names.rotate()

    async def poll(self) -> None:
        """Ask for the routes of all topics in use at the configured interval, and of masterless ones each second."""
        loop = asyncio.get_running_loop()
        told_s = loop.time() if self.told_at_s is None else self.told_at_s
        due_s = told_s + self._config.poll_name_server_interval_s
        while True:
            await asyncio.sleep(max(0.0, min(MASTERLESS_POLL_S, due_s - loop.time())))
            everything = loop.time() >= due_s
            if everything:
                due_s = loop.time() + self._config.poll_name_server_interval_s
            for topic in list(self._topics):
                if not everything and not self._lacks_master(topic):
                    continue
                try:
                    await self.refresh(topic)
                except CommandFailed as error:
                    self._log.event("route-poll-failed", topic=topic, reason=error.reason)
                    if error.code == LocalCode.NO_NAME_SERVER:
                        break

    def _lacks_master(self, topic: str) -> bool:
        route = self._routes.route(topic)
        return route is not None and any(self._routes.master(name) is None for name in route.brokers)

    async def answered(self) -> None:
        """Wait for the answers to the questions that are under way, if there are any."""
        asked = self._under_way()
        if asked:
            await asyncio.wait(asked)

    def cancel(self) -> tuple[asyncio.Task[None], ...]:
        """Ask nothing more: whoever waits for an answer is told that the client was closed. What has yet to end."""
        self._closed = True
        asked = self._under_way()
        for task in asked:
            task.cancel()
        return asked

    def _under_way(self) -> tuple[asyncio.Task[None], ...]:
        return (*self._refreshing.values(), *self._about_brokers.values())


def _being_cancelled() -> bool:
    """Whether it is the running task itself that somebody cancels, and not only what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
