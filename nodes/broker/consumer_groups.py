"""Which clients are connected, in which groups, and what they subscribe to. Pure.

Sources: RocketMQ classes ConsumerManager, ConsumerGroupInfo, ProducerManager, ClientChannelInfo.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from nodes.broker.bodies import ConsumerData, Heartbeat
from nodes.broker.subscription import Subscription

__all__ = ["CLIENT_EXPIRY_S", "Client", "ClientTable", "ConsumerGroup"]

CLIENT_EXPIRY_S = 120.0
"""A client that did not send a heartbeat for this long is gone (RocketMQ channelExpiredTimeout)."""

Connection = TypeVar("Connection", bound=Hashable)


@dataclass(slots=True)
class Client(Generic[Connection]):
    """One client in one group."""

    client_id: str
    connection: Connection
    address: str
    language: str
    version: int
    seen: float
    """Loop time of its last heartbeat."""


@dataclass(slots=True)
class ConsumerGroup(Generic[Connection]):
    """The members of a consumer group and its one subscription table."""

    name: str
    consume_type: str = "CONSUME_PASSIVELY"
    message_model: str = "CLUSTERING"
    consume_from_where: str = "CONSUME_FROM_LAST_OFFSET"
    members: dict[Connection, Client[Connection]] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)

    def client_ids(self) -> list[str]:
        """The members' ids, each once, in order of arrival."""
        return list(dict.fromkeys(client.client_id for client in self.members.values()))

    def subscribe(self, wanted: Iterable[Subscription]) -> bool:
        """Take over a member's subscriptions; of each topic the highest version counts. True if topics came or went."""
        changed = False
        names = set()
        for subscription in wanted:
            names.add(subscription.topic)
            old = self.subscriptions.get(subscription.topic)
            changed = changed or old is None
            if old is None or subscription.sub_version >= old.sub_version:
                self.subscriptions[subscription.topic] = subscription
        for topic in [topic for topic in self.subscriptions if topic not in names]:
            del self.subscriptions[topic]
            changed = True
        return changed


class ClientTable(Generic[Connection]):
    """Producers and consumers by group. Methods return the consumer groups whose members must be told to rebalance."""

    __slots__ = ("_consumers", "_expiry_s", "_producers")

    def __init__(self, expiry_s: float = CLIENT_EXPIRY_S) -> None:
        self._producers: dict[str, dict[Connection, Client[Connection]]] = {}
        self._consumers: dict[str, ConsumerGroup[Connection]] = {}
        self._expiry_s = expiry_s

    def heartbeat(
        self, beat: Heartbeat, connection: Connection, address: str, language: str, version: int, now: float
    ) -> list[str]:
        """Note that the client is alive and what it does."""
        for producer in beat.producer_data_set:
            members = self._producers.setdefault(producer.group_name, {})
            members[connection] = Client(beat.client_id, connection, address, language, version, now)
        changed = []
        for data in beat.consumer_data_set:
            client = Client(beat.client_id, connection, address, language, version, now)
            if self._consumer(data, client, with_subscriptions=not beat.without_sub):
                changed.append(data.group_name)
        return changed

    def _consumer(self, data: ConsumerData, client: Client[Connection], *, with_subscriptions: bool) -> bool:
        group = self._consumers.get(data.group_name)
        if group is None:
            group = self._consumers[data.group_name] = ConsumerGroup(data.group_name)
        group.consume_type = data.consume_type or group.consume_type
        group.message_model = data.message_model or group.message_model
        group.consume_from_where = data.consume_from_where or group.consume_from_where
        old = group.members.get(client.connection)
        group.members[client.connection] = client
        changed = old is None or old.client_id != client.client_id
        if with_subscriptions and group.subscribe(data.subscription_data_set):
            changed = True
        return changed

    def unregister(self, connection: Connection, producer_group: str | None, consumer_group: str | None) -> list[str]:
        """The client leaves these groups."""
        if producer_group:
            self._leave_producer(producer_group, connection)
        if consumer_group and self._leave_consumer(consumer_group, connection):
            return [consumer_group]
        return []

    def closed(self, connection: Connection) -> list[str]:
        """The connection is gone, and with it everything the client did."""
        for group in list(self._producers):
            self._leave_producer(group, connection)
        return [group for group in list(self._consumers) if self._leave_consumer(group, connection)]

    def expire(self, now: float) -> list[str]:
        """Forget silent clients."""
        for name, members in list(self._producers.items()):
            for connection in [one for one, client in members.items() if now - client.seen > self._expiry_s]:
                self._leave_producer(name, connection)
        changed = []
        for name, group in list(self._consumers.items()):
            silent = [one for one, client in group.members.items() if now - client.seen > self._expiry_s]
            for connection in silent:
                self._leave_consumer(name, connection)
            if silent:
                changed.append(name)
        return changed

    def _leave_producer(self, group: str, connection: Connection) -> None:
        members = self._producers.get(group)
        if members is not None and members.pop(connection, None) is not None and not members:
            del self._producers[group]

    def _leave_consumer(self, name: str, connection: Connection) -> bool:
        group = self._consumers.get(name)
        if group is None or group.members.pop(connection, None) is None:
            return False
        if not group.members:
            del self._consumers[name]
        return True

    def consumer_group(self, name: str) -> ConsumerGroup[Connection] | None:
        """The group if it has members."""
        return self._consumers.get(name)

    def consumer_groups(self) -> list[ConsumerGroup[Connection]]:
        """All consumer groups with members."""
        return list(self._consumers.values())

    def producers(self, group: str) -> list[Client[Connection]]:
        """Members of a producer group."""
        return list(self._producers.get(group, {}).values())

    def groups_consuming(self, topic: str) -> list[str]:
        """Consumer groups with a member that subscribes to the topic."""
        return [group.name for group in self._consumers.values() if topic in group.subscriptions]
