"""The routing table of a name server: who is there, and which queues they serve. Pure.

Source: RocketMQ class RouteInfoManager (4.9 and 5.3). Times are milliseconds of one monotonic clock, given by the
caller. The rules that matter:

* An address has one id at a time: registering it under another id removes the former, which is how a promotion shows.
* Topics are taken from the master (id 0), and also from the smallest id present if the broker says that it knows about
  acting masters; and only if the broker is new, changed its id, or changed its DataVersion since its last registration.
* A different address that holds the id with a larger `stateVersion` wins: the late registration of a deposed master is
  dropped without an error.
* In a DLedger group, whose brokers say their term, a lower term never wins: not against the newest master ever heard
  of, even if that one is gone, and not against a newer word of the same broker.
* A group that knows about acting masters and has no master keeps its queues without write permission.
* A broker is removed when it says so, when the connection that last registered it closes, or after its own silence.
  When the last address of a name is gone its queues go too; as long as a slave is left they stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nodes.flaws import Flaw
from nodes.limits import ROUTE_TOPICS_MAX
from nodes.namesrv.registration import DataVersion, RegistrationBody, TopicConfig

__all__ = [
    "MASTER_ID",
    "Broker",
    "Group",
    "QueueData",
    "Registered",
    "Registration",
    "RegistrationRefused",
    "Removed",
    "RouteData",
    "Routes",
]

MASTER_ID = 0
_TERMS_MAX = 10_000
"""Groups whose newest term is remembered after all their brokers are gone; the longest unheard one is forgotten."""
PERM_WRITE = 2
PERM_READ_WRITE = 6
UNIT = 1
UNIT_SUBSCRIPTION = 2


class RegistrationRefused(Exception):
    """A registration that is answered with an error. The text is the remark."""


@dataclass(frozen=True, slots=True)
class QueueData:
    """The queues of one topic on one group."""

    broker_name: str
    read_queues: int
    write_queues: int
    perm: int
    sys_flag: int


@dataclass(frozen=True, slots=True)
class Broker:
    """One registered program. `connection` is whatever identifies the connection that registered it last."""

    cluster: str
    name: str
    broker_id: int
    address: str
    ha_address: str
    version: DataVersion
    seen_ms: int
    timeout_ms: int
    connection: object


@dataclass(slots=True)
class Group:
    """The brokers that share a name."""

    cluster: str
    name: str
    addresses: dict[int, str]
    """The address of each id."""
    acting_master: bool = False
    zone: str | None = None
    term: int | None = None
    """In which the last master of a DLedger group registered, for as long as there is one."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What a broker asks for. `acting_master` is None if it did not mention the subject."""

    cluster: str
    name: str
    broker_id: int
    address: str
    ha_address: str
    body: RegistrationBody
    timeout_ms: int | None = None
    acting_master: bool | None = None
    zone: str | None = None
    term: int | None = None
    """Of a member of a DLedger group: its term."""


@dataclass(frozen=True, slots=True)
class Registered:
    """What became of it. The master's addresses are given to non-masters while a master is registered."""

    dropped: bool = False
    """True if a broker with a larger stateVersion holds the id, or a larger term is known."""
    known_term: int | None = None
    """The larger term of the group's newest master, if that is why it was dropped."""
    is_new: bool = False
    """True if the address was not registered before."""
    former_id: int | None = None
    """The id that the address had until now, if it was another one."""
    replaced: str | None = None
    """The address that held the id until now, if it was another one."""
    topics_applied: int = 0
    master_address: str | None = None
    master_ha_address: str | None = None


@dataclass(frozen=True, slots=True)
class Removed:
    """A broker that is gone from the table."""

    broker: Broker
    silent_ms: int
    name_gone: bool
    """True if it was the last of its name, so that its queues went with it."""


@dataclass(frozen=True, slots=True)
class RouteData:
    """Where a topic is served."""

    queues: tuple[QueueData, ...]
    groups: tuple[Group, ...]


class Routes:
    """The table. `expired_time_ms` is the silence after which a broker is forgotten if it announced none itself."""

    def __init__(
        self,
        *,
        expired_time_ms: int = 120_000,
        delete_missing_topics: bool = False,
        topics_max: int = ROUTE_TOPICS_MAX,
        flaws: frozenset[Flaw] = frozenset(),
    ) -> None:
        self.expired_time_ms = expired_time_ms
        self.delete_missing_topics = delete_missing_topics
        self._topics_max = topics_max
        self._last_wins = Flaw.DEPOSED_ROUTE_WINS in flaws
        self._terms: dict[tuple[str, str], int] = {}
        """Cluster, broker name: the largest term in which a member of a DLedger group registered as master."""
        self._queues: dict[str, dict[str, QueueData]] = {}
        self._groups: dict[str, Group] = {}
        self._live: dict[tuple[str, str], Broker] = {}

    # Changes

    def register(self, asked: Registration, now_ms: int, connection: object = None) -> Registered:
        """Take a registration. Raises RegistrationRefused."""
        if asked.broker_id < 0:
            raise RegistrationRefused(f"brokerId {asked.broker_id} is negative")
        group = self._groups.get(asked.name)
        if group is not None and group.cluster != asked.cluster and group.addresses:
            raise RegistrationRefused(f"broker name {asked.name} belongs to cluster {group.cluster}")
        addresses = group.addresses if group is not None else {}
        holder = addresses.get(asked.broker_id)
        if asked.term is not None and not self._last_wins:
            newest = self._live.get((asked.cluster, asked.address))
            if newest is not None and newest.version.state_version > asked.term:
                return Registered(dropped=True)
            known = self._terms.get((asked.cluster, asked.name), 0)
            if asked.broker_id == MASTER_ID and asked.term < known:
                self._forget_address(asked)
                return Registered(dropped=True, known_term=known)
        if holder is not None and holder != asked.address and not self._last_wins:
            held = self._live.get((asked.cluster, holder))
            if held is not None and held.version.state_version > asked.body.version.state_version:
                self._forget_address(asked)
                return Registered(dropped=True)
        if holder is None and len(asked.body.topics) == 1:
            # What a 5.x broker sends when it means "this one topic more" and the rest was never heard of.
            raise RegistrationRefused("register broker failed")
        if self._topics_after(asked) > self._topics_max:
            raise RegistrationRefused(f"register broker failed: more than {self._topics_max} topics")

        if asked.term is not None and asked.broker_id == MASTER_ID:
            self._note_term(asked.cluster, asked.name, asked.term)
        if group is None:
            group = self._groups[asked.name] = Group(asked.cluster, asked.name, {})
        group.cluster = asked.cluster
        group.acting_master = bool(asked.acting_master)
        group.zone = asked.zone
        if asked.broker_id == MASTER_ID:
            group.term = asked.term
        key = (asked.cluster, asked.address)
        before = self._live.get(key)
        former_id = self._one_id(group, asked)
        group.addresses[asked.broker_id] = asked.address
        if holder is not None and holder != asked.address:
            self._live.pop((asked.cluster, holder), None)

        first = holder is None or former_id is not None or before is None
        unchanged = before is not None and before.version == asked.body.version
        applied = 0
        takes_topics = asked.broker_id == MASTER_ID or (
            asked.acting_master is not None and asked.broker_id == min(group.addresses)
        )
        if takes_topics:
            applied = self._apply_topics(asked, everything=first or not unchanged)
        if group.acting_master and MASTER_ID not in group.addresses:
            # Also of topics that this registration does not name: their master has just become something else.
            self.set_write_permission(asked.name, writable=False)
        self._live[key] = Broker(
            asked.cluster,
            asked.name,
            asked.broker_id,
            asked.address,
            asked.ha_address,
            asked.body.version,
            now_ms,
            self._timeout(asked.timeout_ms),
            connection,
        )
        master = self._live_master(group) if asked.broker_id != MASTER_ID else None
        return Registered(
            is_new=before is None,
            former_id=former_id,
            replaced=holder if holder != asked.address else None,
            topics_applied=applied,
            master_address=master.address if master else None,
            master_ha_address=master.ha_address if master else None,
        )

    def touch(self, cluster: str, address: str, now_ms: int) -> None:
        """Note that a registered broker was heard of."""
        broker = self._live.get((cluster, address))
        if broker is not None:
            self._live[(cluster, address)] = _seen(broker, now_ms)

    def unregister(self, cluster: str, name: str, address: str, now_ms: int) -> Removed | None:
        """Remove a broker that says goodbye; None if it was not there."""
        broker = self._live.get((cluster, address))
        if broker is None or broker.name != name:
            return None
        return self._remove(broker, now_ms)

    def connection_closed(self, connection: object, now_ms: int) -> list[Removed]:
        """Remove the brokers whose last registration came over this connection."""
        return self._remove_where(lambda broker: broker.connection is connection, now_ms)

    def expire(self, now_ms: int) -> list[Removed]:
        """Remove the brokers that were silent for longer than they may be."""
        return self._remove_where(lambda broker: broker.seen_ms + broker.timeout_ms < now_ms, now_ms)

    def set_write_permission(self, name: str, writable: bool) -> int:
        """Wipe or restore the write permission of a group's queues; returns how many topics it concerns."""
        count = 0
        for queues in self._queues.values():
            old = queues.get(name)
            if old is not None:
                perm = PERM_READ_WRITE if writable else old.perm & ~PERM_WRITE
                queues[name] = QueueData(name, old.read_queues, old.write_queues, perm, old.sys_flag)
                count += 1
        return count

    def register_topic(self, topic: str, queues: list[QueueData]) -> bool:
        """Add the queues of one topic; False if one names an unknown broker or the table is full."""
        known = all(queue.broker_name in self._groups for queue in queues)
        if not queues or not known or (topic not in self._queues and len(self._queues) >= self._topics_max):
            return False
        self._queues.setdefault(topic, {}).update({queue.broker_name: queue for queue in queues})
        return True

    def delete_topic(self, topic: str, cluster: str | None = None) -> None:
        """Forget a topic, everywhere or on one cluster."""
        if cluster is None:
            self._queues.pop(topic, None)
            return
        queues = self._queues.get(topic, {})
        for name in [name for name in queues if name in self._groups and self._groups[name].cluster == cluster]:
            del queues[name]
        if not queues:
            self._queues.pop(topic, None)

    # Questions

    def route(self, topic: str) -> RouteData | None:
        """Where a topic is served; None unless there are both queues and brokers."""
        queues = self._queues.get(topic)
        if not queues:
            return None
        groups = tuple(self._groups[name] for name in sorted(queues) if name in self._groups)
        if not groups:
            return None
        return RouteData(tuple(queues[name] for name in sorted(queues)), groups)

    def data_version(self, cluster: str, address: str) -> DataVersion | None:
        """The version of the topic table that this broker registered last."""
        broker = self._live.get((cluster, address))
        return None if broker is None else broker.version

    def group(self, name: str) -> Group | None:
        """The brokers of one name."""
        return self._groups.get(name)

    def groups(self) -> list[Group]:
        """All groups, by name."""
        return [self._groups[name] for name in sorted(self._groups)]

    def clusters(self) -> dict[str, list[str]]:
        """The broker names of each cluster."""
        found: dict[str, list[str]] = {}
        for group in self.groups():
            found.setdefault(group.cluster, []).append(group.name)
        return dict(sorted(found.items()))

    def brokers(self) -> list[Broker]:
        """All live brokers, by cluster and address."""
        return [self._live[key] for key in sorted(self._live)]

    def topics(self, cluster: str | None = None) -> list[str]:
        """All topics, or those of one cluster."""
        if cluster is None:
            return sorted(self._queues)
        names = {group.name for group in self._groups.values() if group.cluster == cluster}
        return sorted(topic for topic, queues in self._queues.items() if not names.isdisjoint(queues))

    def unit_topics(self, *, unit: bool | None, subscription: bool | None) -> list[str]:
        """Topics by the unit flags of their first queue data; None asks for nothing."""
        return sorted(topic for topic, flag in self._flags() if _flag_fits(flag, unit, subscription))

    # Inside

    def _note_term(self, cluster: str, name: str, term: int) -> None:
        key = (cluster, name)
        self._terms[key] = max(term, self._terms.pop(key, 0))
        if len(self._terms) > _TERMS_MAX:
            del self._terms[next(iter(self._terms))]

    def _flags(self) -> Iterator[tuple[str, int]]:
        for topic, queues in self._queues.items():
            for name in sorted(queues)[:1]:
                yield topic, queues[name].sys_flag

    def _timeout(self, announced_ms: int | None) -> int:
        return announced_ms if announced_ms is not None and announced_ms > 0 else self.expired_time_ms

    def _topics_after(self, asked: Registration) -> int:
        new = sum(1 for topic in asked.body.topics if topic not in self._queues)
        return len(self._queues) + new

    def _one_id(self, group: Group, asked: Registration) -> int | None:
        """Take the address away from any other id of its group, or from its former group; returns its former id."""
        former = None
        for broker_id, address in list(group.addresses.items()):
            if address == asked.address and broker_id != asked.broker_id:
                del group.addresses[broker_id]
                former = broker_id
        before = self._live.get((asked.cluster, asked.address))
        if before is not None and before.name != asked.name:
            former = before.broker_id
            self._remove(before, before.seen_ms)
        return former

    def _apply_topics(self, asked: Registration, *, everything: bool) -> int:
        if self.delete_missing_topics:
            for topic in [topic for topic, queues in self._queues.items() if asked.name in queues]:
                if topic not in asked.body.topics:
                    self._drop_queues(topic, asked.name)
        applied = 0
        for topic, config in asked.body.topics.items():
            queues = self._queues.get(topic)
            if everything or queues is None or asked.name not in queues:
                wanted = _queue_data(
                    asked.name, config, wipe=bool(asked.acting_master) and asked.broker_id != MASTER_ID
                )
                if queues is None:
                    queues = self._queues[topic] = {}
                if queues.get(asked.name) != wanted:
                    queues[asked.name] = wanted
                    applied += 1
        return applied

    def _live_master(self, group: Group) -> Broker | None:
        address = group.addresses.get(MASTER_ID)
        return None if address is None else self._live.get((group.cluster, address))

    def _forget_address(self, asked: Registration) -> None:
        """A dropped registration's address is not live; it may still be known under another id, which goes too."""
        broker = self._live.get((asked.cluster, asked.address))
        if broker is not None:
            self._remove(broker, broker.seen_ms)

    def _remove_where(self, unwanted: Callable[[Broker], bool], now_ms: int) -> list[Removed]:
        return [self._remove(broker, now_ms) for broker in self.brokers() if unwanted(broker)]

    def _remove(self, broker: Broker, now_ms: int) -> Removed:
        self._live.pop((broker.cluster, broker.address), None)
        group = self._groups.get(broker.name)
        name_gone = False
        if group is not None:
            for broker_id, address in list(group.addresses.items()):
                if address == broker.address:
                    del group.addresses[broker_id]
            if not group.addresses:
                name_gone = True
                del self._groups[broker.name]
                for topic in [topic for topic, queues in self._queues.items() if broker.name in queues]:
                    self._drop_queues(topic, broker.name)
            elif group.acting_master and MASTER_ID not in group.addresses:
                self.set_write_permission(broker.name, writable=False)
        return Removed(broker, max(0, now_ms - broker.seen_ms), name_gone)

    def _drop_queues(self, topic: str, name: str) -> None:
        queues = self._queues[topic]
        queues.pop(name, None)
        if not queues:
            del self._queues[topic]


def _queue_data(name: str, config: TopicConfig, *, wipe: bool) -> QueueData:
    perm = config.perm & ~PERM_WRITE if wipe else config.perm
    return QueueData(name, config.read_queues, config.write_queues, perm, config.sys_flag)


def _flag_fits(flag: int, unit: bool | None, subscription: bool | None) -> bool:
    fits_unit = unit is None or bool(flag & UNIT) is unit
    fits_subscription = subscription is None or bool(flag & UNIT_SUBSCRIPTION) is subscription
    return fits_unit and fits_subscription


def _seen(broker: Broker, now_ms: int) -> Broker:
    return Broker(
        broker.cluster,
        broker.name,
        broker.broker_id,
        broker.address,
        broker.ha_address,
        broker.version,
        now_ms,
        broker.timeout_ms,
        broker.connection,
    )
