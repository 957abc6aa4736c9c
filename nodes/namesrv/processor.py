"""The requests a name server answers.

Source: RocketMQ classes DefaultRequestProcessor and ClientRequestProcessor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping

from nodes.config import ConfigError, NamesrvConfig, changed, properties_text
from nodes.config.properties import parse_properties
from nodes.log import EventLog
from nodes.namesrv import answers
from nodes.namesrv.kv import ORDER_TOPIC_CONFIG, KvConfig
from nodes.namesrv.registration import RegistrationError, crc_matches, decode_body, decode_data_version
from nodes.namesrv.routes import Registered, Registration, RegistrationRefused, Removed, Routes
from nodes.remoting.codes import RequestCode, ResponseCode
from nodes.remoting.command import Command
from nodes.remoting.connection import Connection, Handler, unsupported

__all__ = ["CHANGEABLE", "Processor", "log_removed"]

CHANGEABLE = (
    "brokerChannelExpiredTime",
    "deleteTopicWithBrokerRegistration",
    "enableAllTopicList",
    "enableTopicList",
    "orderMessageEnable",
    "returnOrderTopicConfigToBroker",
)
"""Keys that an admin may change while the name server runs; the change lasts until it stops."""

_TASKS_MAX = 1024
"""Writes of key-value settings under way at a time."""

_OK = ResponseCode.SUCCESS.value
_ERROR = ResponseCode.SYSTEM_ERROR.value
_NOT_FOUND = ResponseCode.QUERY_NOT_FOUND.value


class _BadRequest(Exception):
    """A request that lacks something or carries nonsense. The text is the remark."""


def log_removed(log: EventLog, name: str, removed: Removed) -> None:
    """One event for a broker that left the table."""
    broker = removed.broker
    log.event(
        name,
        cluster=broker.cluster,
        broker=broker.name,
        id=broker.broker_id,
        addr=broker.address,
        silent_ms=removed.silent_ms,
        name_gone=removed.name_gone,
    )


class Processor:
    """Answers requests from the routing table and the key-value settings. `now_ms` is the monotonic clock."""

    def __init__(
        self, config: NamesrvConfig, routes: Routes, kv: KvConfig, log: EventLog, now_ms: Callable[[], int]
    ) -> None:
        self.config = config
        self._routes = routes
        self._kv = kv
        self._log = log
        self._now_ms = now_ms
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers: dict[int, Handler] = {
            RequestCode.PUT_KV_CONFIG: self._put_kv,
            RequestCode.GET_KV_CONFIG: self._get_kv,
            RequestCode.DELETE_KV_CONFIG: self._delete_kv,
            RequestCode.GET_KVLIST_BY_NAMESPACE: self._kv_namespace,
            RequestCode.REGISTER_BROKER: self._register,
            RequestCode.UNREGISTER_BROKER: self._unregister,
            RequestCode.QUERY_DATA_VERSION: self._query_data_version,
            RequestCode.BROKER_HEARTBEAT: self._heartbeat,
            RequestCode.GET_ROUTEINFO_BY_TOPIC: self._route,
            RequestCode.GET_BROKER_CLUSTER_INFO: self._cluster_info,
            RequestCode.GET_BROKER_MEMBER_GROUP: self._member_group,
            RequestCode.WIPE_WRITE_PERM_OF_BROKER: self._wipe_write_perm,
            RequestCode.ADD_WRITE_PERM_OF_BROKER: self._add_write_perm,
            RequestCode.GET_ALL_TOPIC_LIST_FROM_NAMESERVER: self._all_topics,
            RequestCode.GET_TOPICS_BY_CLUSTER: self._topics_of_cluster,
            RequestCode.GET_SYSTEM_TOPIC_LIST_FROM_NS: self._system_topics,
            RequestCode.GET_UNIT_TOPIC_LIST: self._unit_topics,
            RequestCode.GET_HAS_UNIT_SUB_TOPIC_LIST: self._unit_sub_topics,
            RequestCode.GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST: self._unit_sub_ununit_topics,
            RequestCode.DELETE_TOPIC_IN_NAMESRV: self._delete_topic,
            RequestCode.REGISTER_TOPIC_IN_NAMESRV: self._register_topic,
            RequestCode.UPDATE_NAMESRV_CONFIG: self._update_config,
            RequestCode.GET_NAMESRV_CONFIG: self._get_config,
        }

    @property
    def codes(self) -> tuple[int, ...]:
        """The request codes that are served."""
        return tuple(sorted(self._handlers))

    def handle(self, connection: Connection, request: Command) -> Command | None:
        """Answer one request."""
        handler = self._handlers.get(request.code)
        if handler is None:
            return unsupported(request)
        try:
            return handler(connection, request)
        except (_BadRequest, RegistrationError, RegistrationRefused) as error:
            self._log.warning("request refused", peer=connection.peer, code=request.code, reason=str(error))
            return request.reply(_ERROR, str(error))

    async def settle(self) -> None:
        """Wait until the writes under way have ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    # Brokers

    def _register(self, connection: Connection, request: Command) -> Command:
        ext = request.ext
        if not crc_matches(request.body, ext.get("bodyCrc32")):
            raise _BadRequest("crc32 not match")
        acting = ext.get("enableActingMaster")
        asked = Registration(
            _need(ext, "clusterName"),
            _need(ext, "brokerName"),
            _number(ext, "brokerId"),
            _need(ext, "brokerAddr"),
            ext.get("haServerAddr", ""),
            decode_body(request.body, request.version),
            _number(ext, "heartbeatTimeoutMillis") if "heartbeatTimeoutMillis" in ext else None,
            None if acting is None else acting.lower() == "true",
            ext.get("zoneName"),
            _number(ext, "dledgerTerm") if "dledgerTerm" in ext else None,
        )
        done = self._routes.register(asked, self._now_ms(), connection)
        self._log_registered(asked, done)
        answer: dict[str, str] = {}
        if done.master_address is not None:
            answer = {"masterAddr": done.master_address, "haServerAddr": done.master_ha_address or ""}
        order = self._kv.namespace(ORDER_TOPIC_CONFIG) if self.config.return_order_topic_config_to_broker else None
        return request.reply(_OK, None, answer, b"" if order is None else answers.kv_table(order))

    def _log_registered(self, asked: Registration, done: Registered) -> None:
        about = {"cluster": asked.cluster, "broker": asked.name, "id": asked.broker_id, "addr": asked.address}
        if done.known_term is not None:
            self._log.warning(
                "registration dropped",
                **about,
                term=asked.term,
                known_term=done.known_term,
                reason=f"a master of term {done.known_term} is known, this one leads term {asked.term} and is deposed;"
                " if the group was made anew with empty disks, restart this name server, which remembers the old one",
            )
        elif done.dropped:
            self._log.warning(
                "registration dropped", **about, state_version=asked.body.version.state_version, reason="stale"
            )
        elif done.is_new:
            self._log.event("broker registered", **about, ha=asked.ha_address, topics=len(asked.body.topics))
        elif done.former_id is not None:
            self._log.event("broker changed id", **about, former_id=done.former_id)
        elif done.topics_applied:
            self._log.event("topics changed", **about, topics=done.topics_applied)
        else:
            self._log.debug("broker registered again", **about)
        if done.replaced is not None:
            self._log.event("broker replaced", **about, former_addr=done.replaced)

    def _unregister(self, connection: Connection, request: Command) -> Command:
        ext = request.ext
        removed = self._routes.unregister(
            _need(ext, "clusterName"), _need(ext, "brokerName"), _need(ext, "brokerAddr"), self._now_ms()
        )
        if removed is not None:
            log_removed(self._log, "broker unregistered", removed)
        return request.reply()

    def _query_data_version(self, connection: Connection, request: Command) -> Command:
        ext = request.ext
        cluster, address = _need(ext, "clusterName"), _need(ext, "brokerAddr")
        known = self._routes.data_version(cluster, address)
        is_changed = known is None or known != decode_data_version(request.body)
        self._routes.touch(cluster, address, self._now_ms())
        body = b"" if known is None else answers.data_version(known)
        return request.reply(_OK, None, {"changed": "true" if is_changed else "false"}, body)

    def _heartbeat(self, connection: Connection, request: Command) -> Command:
        ext = request.ext
        self._routes.touch(_need(ext, "clusterName"), _need(ext, "brokerAddr"), self._now_ms())
        return request.reply()

    # Routes

    def _route(self, connection: Connection, request: Command) -> Command:
        topic = _need(request.ext, "topic")
        found = self._routes.route(topic)
        if found is None:
            return request.reply(
                ResponseCode.TOPIC_NOT_EXIST.value, f"No topic route info in name server for the topic: {topic}"
            )
        strict = (
            request.version >= answers.STRICT_JSON_VERSION
            or request.ext.get("acceptStandardJsonOnly", "").lower() == "true"
        )
        order = self._kv.get(ORDER_TOPIC_CONFIG, topic) if self.config.order_message_enable else None
        return request.reply(body=answers.route(found, strict=strict, order=order))

    def _cluster_info(self, connection: Connection, request: Command) -> Command:
        return request.reply(body=answers.cluster_info(self._routes))

    def _member_group(self, connection: Connection, request: Command) -> Command:
        cluster, name = _need(request.ext, "clusterName"), _need(request.ext, "brokerName")
        return request.reply(body=answers.member_group(cluster, name, self._routes.group(name)))

    def _wipe_write_perm(self, connection: Connection, request: Command) -> Command:
        return self._set_write_perm(request, writable=False, field="wipeTopicCount")

    def _add_write_perm(self, connection: Connection, request: Command) -> Command:
        return self._set_write_perm(request, writable=True, field="addTopicCount")

    def _set_write_perm(self, request: Command, *, writable: bool, field: str) -> Command:
        name = _need(request.ext, "brokerName")
        count = self._routes.set_write_permission(name, writable)
        self._log.event("write permission set", broker=name, writable=writable, topics=count)
        return request.reply(_OK, None, {field: str(count)})

    # Topics

    def _all_topics(self, connection: Connection, request: Command) -> Command:
        if not self.config.enable_all_topic_list:
            return request.reply(_ERROR, "disable")
        return request.reply(body=answers.topic_list(self._routes.topics()))

    def _topics_of_cluster(self, connection: Connection, request: Command) -> Command:
        cluster = _need(request.ext, "cluster")
        return self._list(request, lambda: self._routes.topics(cluster))

    def _unit_topics(self, connection: Connection, request: Command) -> Command:
        return self._list(request, lambda: self._routes.unit_topics(unit=True, subscription=None))

    def _unit_sub_topics(self, connection: Connection, request: Command) -> Command:
        return self._list(request, lambda: self._routes.unit_topics(unit=None, subscription=True))

    def _unit_sub_ununit_topics(self, connection: Connection, request: Command) -> Command:
        return self._list(request, lambda: self._routes.unit_topics(unit=False, subscription=True))

    def _list(self, request: Command, find: Callable[[], list[str]]) -> Command:
        if not self.config.enable_topic_list:
            return request.reply(_ERROR, "disable")
        return request.reply(body=answers.topic_list(find()))

    def _system_topics(self, connection: Connection, request: Command) -> Command:
        names: list[str] = []
        for cluster, members in self._routes.clusters().items():
            names += [cluster, *members]
        groups = self._routes.groups()
        some = next((group.addresses[min(group.addresses)] for group in groups if group.addresses), None)
        return request.reply(body=answers.topic_list(list(dict.fromkeys(names)), some))

    def _delete_topic(self, connection: Connection, request: Command) -> Command:
        topic = _need(request.ext, "topic")
        self._routes.delete_topic(topic, request.ext.get("clusterName"))
        self._log.event("topic deleted", topic=topic, cluster=request.ext.get("clusterName"))
        return request.reply()

    def _register_topic(self, connection: Connection, request: Command) -> Command:
        topic = _need(request.ext, "topic")
        try:
            queues = answers.queue_list(request.body) if request.body else []
        except ValueError as error:
            raise _BadRequest(str(error)) from None
        if queues and not self._routes.register_topic(topic, queues):
            raise _BadRequest(f"topic {topic} names an unknown broker, or the table is full")
        return request.reply()

    # Settings

    def _put_kv(self, connection: Connection, request: Command) -> Command | None:
        ext = request.ext
        if "namespace" not in ext or "key" not in ext:
            raise _BadRequest("namespace or key is null")
        return self._later(connection, request, self._kv.put(ext["namespace"], ext["key"], ext.get("value", "")))

    def _delete_kv(self, connection: Connection, request: Command) -> Command | None:
        namespace, key = _need(request.ext, "namespace"), _need(request.ext, "key")
        return self._later(connection, request, self._kv.delete(namespace, key))

    def _later(self, connection: Connection, request: Command, work: Coroutine[None, None, None]) -> Command | None:
        """Answer when the change is durable."""
        if len(self._tasks) >= _TASKS_MAX:
            work.close()
            return request.reply(ResponseCode.SYSTEM_BUSY.value, f"[OVERLOAD]{_TASKS_MAX} changes are being written")

        async def finish() -> None:
            try:
                await work
                connection.reply(request, request.reply())
            except (OSError, ValueError) as error:
                self._log.error("settings not saved", reason=error)
                connection.reply(request, request.reply(_ERROR, str(error)))

        task = asyncio.get_running_loop().create_task(finish())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return None

    def _get_kv(self, connection: Connection, request: Command) -> Command:
        namespace, key = _need(request.ext, "namespace"), _need(request.ext, "key")
        value = self._kv.get(namespace, key)
        if value is None:
            return request.reply(_NOT_FOUND, f"No config item, Namespace: {namespace} Key: {key}")
        return request.reply(_OK, None, {"value": value})

    def _kv_namespace(self, connection: Connection, request: Command) -> Command:
        namespace = _need(request.ext, "namespace")
        values = self._kv.namespace(namespace)
        if values is None:
            return request.reply(_NOT_FOUND, f"No config item, Namespace: {namespace}")
        return request.reply(body=answers.kv_table(values))

    def _get_config(self, connection: Connection, request: Command) -> Command:
        return request.reply(body=properties_text(self.config).encode())

    def _update_config(self, connection: Connection, request: Command) -> Command:
        try:
            changes = {found.key: found.value for found in parse_properties(request.body.decode())}
            forbidden = [key for key in self.config.config_black_list.split(";") if key in changes]
            if forbidden:
                raise PermissionError(f"{forbidden[0]} is in configBlackList")
            self.config = changed(self.config, changes, CHANGEABLE)
        except (ConfigError, ValueError) as error:
            return request.reply(_ERROR, str(error))
        except PermissionError as error:
            return request.reply(ResponseCode.NO_PERMISSION.value, str(error))
        self._routes.expired_time_ms = self.config.broker_channel_expired_time
        self._routes.delete_missing_topics = self.config.delete_topic_with_broker_registration
        self._log.event("settings changed", **changes)
        return request.reply()


def _need(ext: Mapping[str, str], key: str) -> str:
    value = ext.get(key)
    if not value:
        raise _BadRequest(f"header field {key} is missing")
    return value


def _number(ext: Mapping[str, str], key: str) -> int:
    raw = _need(ext, key)
    try:
        return int(raw)
    except ValueError:
        raise _BadRequest(f"header field {key} is not a number: {raw[:40]}") from None
