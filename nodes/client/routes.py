"""What a client knows about where topics live: a pure table, fed with route answers.

Sources: RocketMQ classes TopicRouteData, TopicPublishInfo and MQClientInstance (topicRouteData2TopicPublishInfo,
topicRouteData2TopicSubscribeInfo, findBrokerAddressInSubscribe).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from nodes.client.queues import MessageQueue

__all__ = [
    "MASTER_ID",
    "PERM_READ",
    "PERM_WRITE",
    "BrokerAddress",
    "MasterMove",
    "QueueData",
    "RouteError",
    "Routes",
    "TopicRoute",
    "parse_route",
    "route_to_object",
]

MASTER_ID = 0
PERM_READ = 4
PERM_WRITE = 2


class RouteError(ValueError):
    """A route answer, or a snapshot, that does not have the shape of one."""


class BrokerAddress(NamedTuple):
    """Where one broker of a group listens; id 0 is the master."""

    address: str
    broker_id: int


class QueueData(NamedTuple):
    """How many queues of a topic one broker group serves, and for what (`perm`: 4 read, 2 write)."""

    broker_name: str
    read_queues: int
    write_queues: int
    perm: int


@dataclass(frozen=True, slots=True)
class TopicRoute:
    """The route of one topic: addresses by broker name and id, queue counts, and the order of an ordered topic."""

    brokers: Mapping[str, Mapping[int, str]]
    queues: tuple[QueueData, ...]
    cluster_of: Mapping[str, str]
    order: str = ""

    def provisional(self, queue_nums: int) -> TopicRoute:
        """This route of TBW102, standing in for a topic that a broker is to create with `queue_nums` queues at most."""
        queues = tuple(
            q._replace(read_queues=min(queue_nums, q.read_queues), write_queues=min(queue_nums, q.read_queues))
            for q in self.queues
        )
        return replace(self, queues=queues)


class MasterMove(NamedTuple):
    """A broker group whose master address changed from one to another."""

    broker_name: str
    old: str
    new: str


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise RouteError(f"expected a whole number, got {value!r}")
    try:
        return int(value)
    except ValueError:
        raise RouteError(f"expected a whole number, got {value!r}") from None


def _object(value: object, what: str) -> dict[object, object]:
    if not isinstance(value, dict):
        raise RouteError(f"{what}: expected an object, got {type(value).__name__}")
    return value


def _list(value: object, what: str) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise RouteError(f"{what}: expected a list, got {type(value).__name__}")
    return value


def parse_route(value: object) -> TopicRoute:
    """Read the decoded body of a route answer (RocketMQ TopicRouteData). Raises RouteError."""
    top = _object(value, "route")
    brokers: dict[str, dict[int, str]] = {}
    clusters: dict[str, str] = {}
    for item in _list(top.get("brokerDatas"), "brokerDatas"):
        data = _object(item, "brokerData")
        name = str(data.get("brokerName", ""))
        if not name:
            raise RouteError("brokerData without brokerName")
        addresses = _object(data.get("brokerAddrs"), "brokerAddrs")
        brokers[name] = {_whole(key): str(address) for key, address in addresses.items()}
        clusters[name] = str(data.get("cluster") or "")
    queues = []
    for item in _list(top.get("queueDatas"), "queueDatas"):
        data = _object(item, "queueData")
        queues.append(
            QueueData(
                str(data.get("brokerName", "")),
                _whole(data.get("readQueueNums", 0)),
                _whole(data.get("writeQueueNums", 0)),
                _whole(data.get("perm", 0)),
            )
        )
    queues.sort(key=lambda data: data.broker_name)
    return TopicRoute(brokers, tuple(queues), clusters, str(top.get("orderTopicConf") or ""))


def route_to_object(route: TopicRoute) -> dict[str, object]:
    """The route in the shape that `parse_route` reads."""
    value: dict[str, object] = {
        "brokerDatas": [
            {
                "brokerAddrs": {str(broker_id): address for broker_id, address in sorted(addresses.items())},
                "brokerName": name,
                "cluster": route.cluster_of.get(name, ""),
            }
            for name, addresses in sorted(route.brokers.items())
        ],
        "queueDatas": [
            {
                "brokerName": q.broker_name,
                "perm": q.perm,
                "readQueueNums": q.read_queues,
                "topicSysFlag": 0,
                "writeQueueNums": q.write_queues,
            }
            for q in route.queues
        ],
    }
    if route.order:
        value["orderTopicConf"] = route.order
    return value


def _publish_queues(
    topic: str, route: TopicRoute, brokers: Mapping[str, Mapping[int, str]]
) -> tuple[MessageQueue, ...]:
    """Queues that can be written: of an ordered topic as its text says, else those of groups with a master."""
    if route.order:
        found: list[MessageQueue] = []
        for part in route.order.split(";"):
            name, colon, count = part.partition(":")
            if colon and count.strip().isdigit():
                found.extend(MessageQueue(topic, name.strip(), number) for number in range(int(count)))
        return tuple(found)
    return tuple(
        MessageQueue(topic, data.broker_name, number)
        for data in route.queues
        if data.perm & PERM_WRITE and MASTER_ID in brokers.get(data.broker_name, {})
        for number in range(data.write_queues)
    )


def _subscribe_queues(topic: str, route: TopicRoute) -> tuple[MessageQueue, ...]:
    """Queues that can be read, sorted; a group needs no master for that."""
    return tuple(
        sorted(
            MessageQueue(topic, data.broker_name, number)
            for data in route.queues
            if data.perm & PERM_READ
            for number in range(data.read_queues)
        )
    )


class Routes:
    """The last known route of every topic, and the addresses of every broker group.

    Nothing is forgotten because a name server does not answer, or answers that it knows no such topic: what was true
    last is the best guess that there is. The broker table is shared by all topics; the newest answer about a group
    wins, so a master that one topic's route shows is a master for all of them.
    """

    __slots__ = ("_brokers", "_clusters", "_provisional", "_publish", "_subscribe", "_topics", "version")

    def __init__(self) -> None:
        self._topics: dict[str, TopicRoute] = {}
        self._brokers: dict[str, dict[int, str]] = {}
        self._clusters: dict[str, str] = {}
        self._publish: dict[str, tuple[MessageQueue, ...]] = {}
        self._subscribe: dict[str, tuple[MessageQueue, ...]] = {}
        self._provisional: set[str] = set()
        self.version = 0
        """Grows with every answer that changed something."""

    def update(self, topic: str, route: TopicRoute, *, provisional: bool = False) -> tuple[MasterMove, ...]:
        """Take a route answer. Returns the groups whose master is now another one, not those without a master."""
        moves = []
        changed = self._topics.get(topic) != route or provisional != (topic in self._provisional)
        for name, addresses in sorted(route.brokers.items()):
            known = self._brokers.get(name, {})
            old, new = known.get(MASTER_ID), addresses.get(MASTER_ID)
            if old is not None and new is not None and old != new:
                moves.append(MasterMove(name, old, new))
            if known != addresses:
                changed = True
                self._publish.clear()
            self._brokers[name] = dict(addresses)
            self._clusters[name] = route.cluster_of.get(name, "")
        self._topics[topic] = route
        if provisional:
            self._provisional.add(topic)
        else:
            self._provisional.discard(topic)
        if changed:
            self.version += 1
            self._publish.pop(topic, None)
            self._subscribe.pop(topic, None)
        return tuple(moves)

    def hint(self, broker_name: str, address: str) -> MasterMove | None:
        """A broker of the group says that its master is at `address`. None if that was known, or the group is not."""
        known = self._brokers.get(broker_name)
        if known is None or not address or known.get(MASTER_ID) == address:
            return None
        old = known.get(MASTER_ID, "")
        self._brokers[broker_name] = {i: one for i, one in known.items() if one != address} | {MASTER_ID: address}
        self._publish.clear()
        self.version += 1
        return MasterMove(broker_name, old, address)

    def topics(self) -> tuple[str, ...]:
        """Topics with a known route, sorted."""
        return tuple(sorted(self._topics))

    def route(self, topic: str) -> TopicRoute | None:
        """The last known route."""
        return self._topics.get(topic)

    def is_provisional(self, topic: str) -> bool:
        """Whether the topic's route is borrowed from TBW102 until a broker has created the topic."""
        return topic in self._provisional

    def publish_queues(self, topic: str) -> tuple[MessageQueue, ...]:
        """The queues a producer may choose from; empty when the topic is unknown or no group has a master."""
        found = self._publish.get(topic)
        if found is None:
            route = self._topics.get(topic)
            found = _publish_queues(topic, route, self._brokers) if route is not None else ()
            self._publish[topic] = found
        return found

    def subscribe_queues(self, topic: str) -> tuple[MessageQueue, ...]:
        """The queues a consumer may read, sorted; empty when the topic is unknown, or not created yet."""
        found = self._subscribe.get(topic)
        if found is None:
            route = self._topics.get(topic)
            found = _subscribe_queues(topic, route) if route is not None and topic not in self._provisional else ()
            self._subscribe[topic] = found
        return found

    def master(self, broker_name: str) -> str | None:
        """The address of a group's master, if one is known."""
        addresses = self._brokers.get(broker_name)
        return addresses.get(MASTER_ID) if addresses is not None else None

    def addresses(self, broker_name: str) -> Mapping[int, str]:
        """All known addresses of a group by broker id."""
        return self._brokers.get(broker_name, {})

    def brokers(self) -> tuple[str, ...]:
        """The names of all known groups, sorted."""
        return tuple(sorted(self._brokers))

    def reader(self, broker_name: str, broker_id: int, *, only_this: bool = False) -> BrokerAddress | None:
        """Whom to pull from: that id; else, if a slave was asked for, the next id; else anyone of the group.

        With `only_this` nobody else will do. (RocketMQ MQClientInstance.findBrokerAddressInSubscribe.)
        """
        addresses = self._brokers.get(broker_name)
        if not addresses:
            return None
        wanted = [broker_id] if only_this or broker_id == MASTER_ID else [broker_id, broker_id + 1]
        for candidate in wanted:
            if candidate in addresses:
                return BrokerAddress(addresses[candidate], candidate)
        if only_this:
            return None
        smallest = min(addresses)
        return BrokerAddress(addresses[smallest], smallest)

    def slave(self, broker_name: str) -> BrokerAddress | None:
        """The slave with the smallest id, if there is one."""
        ids = sorted(i for i in self._brokers.get(broker_name, {}) if i != MASTER_ID)
        return BrokerAddress(self._brokers[broker_name][ids[0]], ids[0]) if ids else None

    def snapshot(self) -> dict[str, object]:
        """Everything known, as plain JSON values, for a successor that shall start with these routes."""
        return {topic: route_to_object(route) for topic, route in sorted(self._topics.items())}

    def restore(self, snapshot: Mapping[str, object]) -> None:
        """Take over what `snapshot` gave. Raises RouteError."""
        for topic, value in snapshot.items():
            self.update(topic, parse_route(value))

    def topics_of(self, broker_name: str) -> Iterable[str]:
        """Topics whose route names this group, sorted."""
        return (topic for topic, route in sorted(self._topics.items()) if broker_name in route.brokers)
