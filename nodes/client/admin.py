"""The admin client: what operators and the lab ask of name servers and brokers.

Sources: RocketMQ classes DefaultMQAdminExtImpl and MQClientAPIImpl. All calls raise CommandFailed; none takes a missing
answer for an empty one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nodes.client.client import Client
from nodes.client.messages import Message, from_stored
from nodes.client.outcomes import LocalCode, refused
from nodes.client.queues import DEFAULT_TOPIC, MessageQueue, retry_topic
from nodes.client.results import CommandFailed, Outcome
from nodes.client.routes import MASTER_ID, RouteError, TopicRoute, parse_route
from nodes.remoting import fastjson
from nodes.remoting.codes import RequestCode, ResponseCode
from nodes.remoting.command import Command, request
from nodes.remoting.message import RecordError, decode_records, format_host, parse_offset_message_id

__all__ = ["AdminClient", "ClusterInfo", "ConsumeRow", "IndexPart", "LogPart", "TopicRow"]

MEMBER_TIMEOUT_S = 60.0
"""A new member has to copy the whole log first."""
ROLE_CHANGE_TIMEOUT_S = 15.0
"""A change of role is answered when it is durable and served, which takes an fsync and a new epoch."""


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """Which groups belong to which cluster, and where their brokers listen: name to id to address."""

    clusters: dict[str, tuple[str, ...]]
    brokers: dict[str, dict[int, str]]

    def groups(self, cluster: str | None = None) -> tuple[str, ...]:
        """The groups of one cluster, or of all, sorted."""
        if cluster is None:
            return tuple(sorted(self.brokers))
        return tuple(sorted(self.clusters.get(cluster, ())))

    def addresses(self) -> tuple[tuple[str, str, int, str], ...]:
        """(cluster, group, id, address) of every broker, sorted."""
        return tuple(
            (cluster, name, broker_id, address)
            for cluster in sorted(self.clusters)
            for name in sorted(self.clusters[cluster])
            for broker_id, address in sorted(self.brokers.get(name, {}).items())
        )


@dataclass(frozen=True, slots=True)
class TopicRow:
    """One queue in a topic's statistics; the timestamp is wall-clock ms, 0 for a queue without messages."""

    queue: MessageQueue
    min_offset: int
    max_offset: int
    last_update_ms: int


@dataclass(frozen=True, slots=True)
class ConsumeRow:
    """How far a group is on one queue."""

    queue: MessageQueue
    broker_offset: int
    consumer_offset: int
    last_ms: int

    @property
    def lag(self) -> int:
        """Messages that are stored and not consumed."""
        return self.broker_offset - self.consumer_offset


@dataclass(frozen=True, slots=True)
class LogPart:
    """Raw commit-log bytes, whole records only; the next part begins at `next_offset`."""

    data: bytes
    next_offset: int
    max_offset: int


@dataclass(frozen=True, slots=True)
class IndexPart:
    """Raw consume-queue entries of 20 bytes, and the queue's bounds."""

    data: bytes
    min_offset: int
    max_offset: int


class AdminClient:
    """Administration through one client, which must be started."""

    def __init__(self, client: Client) -> None:
        self.client = client

    # ---- name servers ----------------------------------------------------------------------------------------------

    async def cluster_info(self) -> ClusterInfo:
        """All clusters, groups and brokers that the name server knows."""
        answer = await self._ask(RequestCode.GET_BROKER_CLUSTER_INFO, {})
        value = _json(answer, "cluster info", self.client.names.current)
        try:
            return ClusterInfo(
                {
                    str(cluster): tuple(sorted(map(str, names)))
                    for cluster, names in value.get("clusterAddrTable", {}).items()
                },
                {
                    str(name): {int(key): str(address) for key, address in data["brokerAddrs"].items()}
                    for name, data in value.get("brokerAddrTable", {}).items()
                },
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _garbled("cluster info", self.client.names.current, error) from None

    async def topic_route(self, topic: str) -> TopicRoute:
        """A topic's route, never a borrowed one."""
        answer = await self._ask(RequestCode.GET_ROUTEINFO_BY_TOPIC, {"topic": topic, "acceptStandardJsonOnly": "true"})
        try:
            return parse_route(fastjson.loads(answer.body))
        except (RouteError, ValueError) as error:
            raise _garbled(f"route of {topic}", self.client.names.current, error) from None

    async def topics(self) -> tuple[str, ...]:
        """The names of all topics, sorted."""
        answer = await self._ask(RequestCode.GET_ALL_TOPIC_LIST_FROM_NAMESERVER, {})
        value = _json(answer, "topic list", self.client.names.current)
        return tuple(sorted(str(topic) for topic in value.get("topicList") or ()))

    async def wipe_write_perm(self, broker_name: str) -> int:
        """Take the write permission from all queues of a group, in every name server; returns how many topics."""
        return await self._everywhere(RequestCode.WIPE_WRITE_PERM_OF_BROKER, broker_name, "wipeTopicCount")

    async def add_write_perm(self, broker_name: str) -> int:
        """Give the write permission back, in every name server; returns how many topics got it."""
        return await self._everywhere(RequestCode.ADD_WRITE_PERM_OF_BROKER, broker_name, "addTopicCount")

    async def put_kv(self, namespace: str, key: str, value: str) -> None:
        """Set a key in every name server: they do not tell each other."""
        for address in self.client.config.name_servers:
            ext = {"namespace": namespace, "key": key, "value": value}
            await self.client.call_ok(address, request(RequestCode.PUT_KV_CONFIG, ext))

    async def get_kv(self, namespace: str, key: str) -> str | None:
        """The value of a key, None if it is not set."""
        answer = await self._ask(RequestCode.GET_KV_CONFIG, {"namespace": namespace, "key": key}, none_code=22)
        return answer.ext.get("value") if answer.code == ResponseCode.SUCCESS else None

    async def delete_kv(self, namespace: str, key: str) -> None:
        """Remove a key from every name server."""
        for address in self.client.config.name_servers:
            ext = {"namespace": namespace, "key": key}
            await self.client.call_ok(address, request(RequestCode.DELETE_KV_CONFIG, ext))

    async def kv_list(self, namespace: str) -> dict[str, str]:
        """All keys of a namespace."""
        answer = await self._ask(RequestCode.GET_KVLIST_BY_NAMESPACE, {"namespace": namespace}, none_code=22)
        if answer.code != ResponseCode.SUCCESS:
            return {}
        return _table(answer, "key-value list", self.client.names.current)

    # ---- topics and groups -----------------------------------------------------------------------------------------

    async def create_topic(
        self,
        address: str,
        topic: str,
        *,
        read_queues: int = 8,
        write_queues: int = 8,
        perm: int = 6,
        order: bool = False,
    ) -> None:
        """Create a topic on one broker, or change it."""
        ext = {
            "topic": topic,
            "defaultTopic": DEFAULT_TOPIC,
            "readQueueNums": str(read_queues),
            "writeQueueNums": str(write_queues),
            "perm": str(perm),
            "topicFilterType": "SINGLE_TAG",
            "topicSysFlag": "0",
            "order": "true" if order else "false",
        }
        await self.client.call_ok(address, request(RequestCode.UPDATE_AND_CREATE_TOPIC, ext))

    async def create_group(self, address: str, group: str, *, retry_max_times: int = 16) -> None:
        """Create a consumer group on one broker, or change it."""
        body = fastjson.key_text(
            {
                "brokerId": 0,
                "consumeBroadcastEnable": True,
                "consumeEnable": True,
                "consumeFromMinEnable": True,
                "groupName": group,
                "notifyConsumerIdsChangedEnable": True,
                "retryMaxTimes": retry_max_times,
                "retryQueueNums": 1,
                "whichBrokerWhenConsumeSlowly": 1,
            }
        ).encode()
        await self.client.call_ok(address, request(RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, {}, body))

    async def delete_topic(self, topic: str, cluster: str | None = None) -> None:
        """Delete a topic from all masters of a cluster, or of all, and from every name server."""
        info = await self.cluster_info()
        for name in info.groups(cluster):
            address = info.brokers.get(name, {}).get(MASTER_ID)
            if address is not None:
                await self.client.call_ok(address, request(RequestCode.DELETE_TOPIC_IN_BROKER, {"topic": topic}))
        for address in self.client.config.name_servers:
            await self.client.call_ok(address, request(RequestCode.DELETE_TOPIC_IN_NAMESRV, {"topic": topic}))

    async def topic_stats(self, topic: str) -> tuple[TopicRow, ...]:
        """Bounds of every queue of a topic, from the masters; a group without one is read from a slave."""
        route = await self.topic_route(topic)
        rows: list[TopicRow] = []
        for name, addresses in sorted(route.brokers.items()):
            if addresses:
                address = addresses.get(MASTER_ID) or addresses[min(addresses)]
                rows.extend(await self.topic_stats_at(address, topic, name))
        return tuple(sorted(rows, key=lambda row: row.queue))

    async def topic_stats_at(self, address: str, topic: str, broker_name: str = "") -> tuple[TopicRow, ...]:
        """The same from one broker."""
        what = f"statistics of {topic}"
        answer = await self.client.call_ok(
            address, request(RequestCode.GET_TOPIC_STATS_INFO, {"topic": topic}), broker_name=broker_name
        )
        table = _json(answer, what, address).get("offsetTable", {})
        try:
            return tuple(
                TopicRow(
                    _queue(key), int(row["minOffset"]), int(row["maxOffset"]), int(row.get("lastUpdateTimestamp", 0))
                )
                for key, row in sorted(table.items())
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _garbled(what, address, error) from None

    async def consume_stats(self, group: str, topic: str | None = None) -> tuple[ConsumeRow, ...]:
        """How far a group is, on every broker that its retry topic (or `topic`) lives on."""
        route = await self.topic_route(topic if topic is not None else retry_topic(group))
        rows: list[ConsumeRow] = []
        for name, addresses in sorted(route.brokers.items()):
            if addresses:
                address = addresses.get(MASTER_ID) or addresses[min(addresses)]
                rows.extend(await self.consume_stats_at(address, group, topic, name))
        return tuple(sorted(rows, key=lambda row: row.queue))

    async def consume_stats_at(
        self, address: str, group: str, topic: str | None = None, broker_name: str = ""
    ) -> tuple[ConsumeRow, ...]:
        """The same from one broker."""
        ext = {"consumerGroup": group}
        if topic is not None:
            ext["topic"] = topic
        what = f"consumption of {group}"
        answer = await self.client.call_ok(
            address, request(RequestCode.GET_CONSUME_STATS, ext), broker_name=broker_name
        )
        table = _json(answer, what, address).get("offsetTable", {})
        try:
            return tuple(
                ConsumeRow(
                    _queue(key),
                    int(row["brokerOffset"]),
                    int(row["consumerOffset"]),
                    int(row.get("lastTimestamp", 0)),
                )
                for key, row in sorted(table.items())
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _garbled(what, address, error) from None

    async def consumer_connections(self, address: str, group: str) -> dict[str, Any]:
        """Who is in a consumer group at one broker (RocketMQ ConsumerConnection); code 206 when nobody is."""
        answer = await self.client.call_ok(
            address, request(RequestCode.GET_CONSUMER_CONNECTION_LIST, {"consumerGroup": group})
        )
        return _json(answer, f"connections of {group}", address)

    # ---- brokers ---------------------------------------------------------------------------------------------------

    async def broker_runtime(self, address: str) -> dict[str, str]:
        """A broker's runtime information: texts by name."""
        answer = await self.client.call_ok(address, request(RequestCode.GET_BROKER_RUNTIME_INFO))
        return _table(answer, "runtime information", address)

    async def message_by_id(self, offset_message_id: str) -> Message:
        """The message that a broker's id names, from the broker that the id names."""
        try:
            host, offset = parse_offset_message_id(offset_message_id)
        except ValueError as error:
            raise CommandFailed("view message", "", LocalCode.NOT_ALLOWED, str(error), Outcome.FAIL) from None
        address = format_host(host)
        answer = await self.client.call_ok(address, request(RequestCode.VIEW_MESSAGE_BY_ID, {"offset": str(offset)}))
        found = _messages(answer, "view message", address)
        if not found:
            reason = f"no message at log offset {offset}"
            raise CommandFailed("view message", address, ResponseCode.QUERY_NOT_FOUND, reason, Outcome.FAIL)
        return found[0]

    async def messages_by_key(
        self,
        topic: str,
        key: str,
        *,
        max_num: int = 32,
        begin_ms: int = 0,
        end_ms: int = 2**63 - 1,
        unique: bool = False,
    ) -> tuple[Message, ...]:
        """Messages with this key (with `unique`: this UNIQ_KEY), from all groups of the topic, by store time."""
        route = await self.topic_route(topic)
        found: list[Message] = []
        for name, addresses in sorted(route.brokers.items()):
            if not addresses:
                continue
            address = addresses.get(MASTER_ID) or addresses[min(addresses)]
            ext = {
                "topic": topic,
                "key": key,
                "maxNum": str(max_num),
                "beginTimestamp": str(begin_ms),
                "endTimestamp": str(end_ms),
                "_UNIQUE_KEY_QUERY": "true" if unique else "false",
            }
            answer = await self.client.call(address, request(RequestCode.QUERY_MESSAGE, ext), broker_name=name)
            if answer.code == ResponseCode.QUERY_NOT_FOUND:
                continue
            if answer.code != ResponseCode.SUCCESS:
                raise refused(f"query of key {key}", address, answer)
            # Brokers find keys by hash, so what they return may have another key.
            found.extend(
                message
                for message in _messages(answer, f"query of key {key}", address, name)
                if key == message.message_id or (not unique and key in message.keys)
            )
        found.sort(key=lambda message: (message.store_timestamp, message.broker_name, message.log_offset))
        return tuple(found[:max_num])

    async def update_broker_config(self, address: str, settings: dict[str, str]) -> None:
        """Change settings of a running broker."""
        body = "".join(f"{key}={value}\n" for key, value in settings.items()).encode()
        await self.client.call_ok(address, request(RequestCode.UPDATE_BROKER_CONFIG, {}, body))

    async def broker_config(self, address: str) -> dict[str, str]:
        """The settings a broker runs with."""
        answer = await self.client.call_ok(address, request(RequestCode.GET_BROKER_CONFIG))
        pairs = (line.partition("=") for line in answer.body.decode(errors="replace").splitlines())
        return {key.strip(): value.strip() for key, equals, value in pairs if equals}

    # ---- our own brokers -------------------------------------------------------------------------------------------

    async def lab_status(self, address: str, timeout_s: float | None = None) -> dict[str, Any]:
        """Role, epochs, log ends and queue bounds of one of our brokers."""
        answer = await self.client.call_ok(address, request(RequestCode.LAB_STATUS), timeout_s)
        return _json(answer, "status", address)

    async def lab_change_role(
        self, address: str, broker_id: int, broker_role: str, timeout_s: float = ROLE_CHANGE_TIMEOUT_S
    ) -> None:
        """Make one of our brokers master (id 0) or slave; returns when the role is durable and served."""
        ext = {"brokerId": str(broker_id), "brokerRole": broker_role}
        await self.client.call_ok(address, request(RequestCode.LAB_CHANGE_ROLE, ext), timeout_s)

    async def lab_read_log(self, address: str, offset: int, max_bytes: int, timeout_s: float | None = None) -> LogPart:
        """Commit-log bytes from `offset` on, whole records only."""
        ext = {"offset": str(offset), "maxBytes": str(max_bytes)}
        answer = await self.client.call_ok(address, request(RequestCode.LAB_READ_LOG, ext), timeout_s)
        try:
            return LogPart(answer.body, int(answer.ext["nextOffset"]), int(answer.ext["maxOffset"]))
        except (KeyError, ValueError) as error:
            raise _garbled("read log", address, error) from None

    async def lab_read_index(
        self, address: str, topic: str, queue_id: int, offset: int, max_num: int, timeout_s: float | None = None
    ) -> IndexPart:
        """Consume-queue entries from `offset` on."""
        ext = {"topic": topic, "queueId": str(queue_id), "offset": str(offset), "maxNum": str(max_num)}
        answer = await self.client.call_ok(address, request(RequestCode.LAB_READ_INDEX, ext), timeout_s)
        try:
            return IndexPart(answer.body, int(answer.ext["min"]), int(answer.ext["max"]))
        except (KeyError, ValueError) as error:
            raise _garbled("read index", address, error) from None

    async def change_member(
        self, address: str, action: str, member: str, member_address: str = "", timeout_s: float = MEMBER_TIMEOUT_S
    ) -> dict[str, str]:
        """Change the members of the DLedger group that this broker leads: `add` with the address that other members
        reach the new one at, `demote` a voter to a learner, `remove`. Returns when the change is committed, for `add`
        when the new member has caught up and votes. The answer names voters and learners."""
        ext = {
            "action": action,
            "member": member,
            "address": member_address,
            "timeoutMillis": str(int(timeout_s * 900)),
        }
        answer = await self.client.call_ok(address, request(RequestCode.GROUP_CHANGE_MEMBER, ext), timeout_s)
        return answer.ext

    async def transfer_leadership(self, address: str, member: str = "", timeout_s: float = 5.0) -> str:
        """Make the leader at `address` hand over to a member, or to the best one. Returns the new leader's name, or ""
        if it is not known yet."""
        answer = await self.client.call_ok(address, request(RequestCode.GROUP_TRANSFER, {"member": member}), timeout_s)
        return answer.ext.get("leader", "")

    # ---- inside ----------------------------------------------------------------------------------------------------

    async def _ask(self, code: RequestCode, ext: dict[str, str], *, none_code: int = 0) -> Command:
        answer = await self.client.name_server_call(lambda: request(code, dict(ext)))
        if answer.code not in (ResponseCode.SUCCESS, none_code):
            raise refused(code.name, self.client.names.current, answer)
        return answer

    async def _everywhere(self, code: RequestCode, broker_name: str, count: str) -> int:
        changed = 0
        for address in self.client.config.name_servers:
            answer = await self.client.call_ok(address, request(code, {"brokerName": broker_name}))
            changed = max(changed, int(answer.ext.get(count, "0")))
        return changed


def _garbled(what: str, address: str, error: object) -> CommandFailed:
    reason = f"the answer cannot be read: {error!r}"
    return CommandFailed(what, address, LocalCode.GARBLED_REPLY, reason, Outcome.INFO)


def _json(answer: Command, what: str, address: str) -> dict[str, Any]:
    try:
        value = fastjson.loads(answer.body)
    except ValueError as error:
        raise _garbled(what, address, error) from None
    if not isinstance(value, dict):
        raise _garbled(what, address, f"a {type(value).__name__} instead of an object")
    return value


def _table(answer: Command, what: str, address: str) -> dict[str, str]:
    table = _json(answer, what, address).get("table")
    if not isinstance(table, dict):
        raise _garbled(what, address, "no table in it")
    return {str(key): str(value) for key, value in table.items()}


def _queue(key: str) -> MessageQueue:
    value = fastjson.key_object(key)
    return MessageQueue(str(value["topic"]), str(value["brokerName"]), int(value["queueId"]))


def _messages(answer: Command, what: str, address: str, broker_name: str = "") -> list[Message]:
    try:
        return [from_stored(stored, broker_name) for stored in decode_records(answer.body)]
    except RecordError as error:
        raise _garbled(what, address, error) from None
