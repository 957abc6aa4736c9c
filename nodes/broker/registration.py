"""Registers the broker with every name server, each by a task and a long-lived connection of its own.

A name server drops a broker when the connection of its last registration closes, so the connection is kept. Every
change is registered at once; a name server that cannot be reached is tried every second. Source: RocketMQ classes
BrokerOuterAPI, BrokerController.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from nodes.broker.core import BrokerCore
from nodes.broker.topics import PERM_READ, PERM_WRITE, TopicConfig
from nodes.config import BrokerRole
from nodes.remoting.client import RemotingClient
from nodes.remoting.codes import RequestCode, ResponseCode
from nodes.remoting.command import Command, request
from nodes.remoting.connection import CallError, CallTimeout, Connection

__all__ = ["Addresses", "Registrar"]

RETRY_FIRST_S = 0.1
RETRY_S = 1.0
"""Pause before an unreachable name server is tried again, and between questions for a master that is not known; it
begins at RETRY_FIRST_S and doubles, so that a cluster whose programs start together finds itself at once."""
_UNREGISTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where this broker is reached: by clients, and by replicas (a port that is known once this node is master)."""

    broker: str
    ha: Callable[[], str]


class Registrar:
    """Keeps all name servers informed. `on_master(client address, HA address)` tells what they say about the master."""

    def __init__(self, core: BrokerCore, addresses: Addresses) -> None:
        self.on_master: Callable[[str, str], None] = lambda address, ha: None
        self.seeking: Callable[[], bool] = lambda: False
        """True while this node needs to hear of a master soon."""
        self._core = core
        self._addresses = addresses
        self._client = RemotingClient(log=core.log, on_disconnect=self._lost, on_request=_nothing_served)
        self._changed: dict[str, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._known: dict[str, bool] = {}
        self._listed: set[str] = set()
        """Name servers that may list this broker."""
        self._told: dict[str, tuple[bool, BrokerRole, int]] = {}

    @property
    def registered(self) -> list[str]:
        """Name servers that have accepted the newest registration they were sent."""
        return [address for address, good in self._known.items() if good]

    def start(self) -> None:
        """Begin; does not wait for any name server."""
        for address in self._core.config.namesrv_addr:
            if address not in self._changed:
                self._changed[address] = asyncio.Event()
                self._tasks.append(self._core.loop.create_task(self._keep(address)))

    def register_now(self) -> None:
        """Something changed: every name server is told at once."""
        for changed in self._changed.values():
            changed.set()

    async def stop(self) -> None:
        """Take this broker off every name server that is reachable, and close the connections."""
        await self._halt()
        await self._leave(self.registered)
        await self._client.close()

    async def withdraw(self) -> None:
        """Take this broker off the name servers although it goes on running: it must not be used any more."""
        await self._halt()
        await self._leave(list(self._changed))

    async def _leave(self, addresses: list[str]) -> None:
        reasons = await asyncio.gather(*map(self._unregister, addresses), return_exceptions=True)
        for address, reason in zip(addresses, reasons, strict=True):
            if reason:
                self._core.log.warning("not-unregistered", namesrv=address, reason=reason)

    async def _halt(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, address: str) -> None:
        changed = self._changed[address]
        config = self._core.config
        retry = RETRY_FIRST_S
        while True:
            changed.clear()
            pause, retry = retry, min(2 * retry, RETRY_S)
            if self._core.serving.outside:
                if address in self._listed:
                    reason = await self._unregister(address)
                    self._note(address, False, reason or "this broker is no member of its group")
                await self._wait(changed, pause if address in self._listed else None)
                continue
            self._listed.add(address)
            try:
                answer = await self._client.call(address, self._request(), config.register_broker_timeout_mills / 1000)
            except CallError as error:
                self._note(address, False, error.reason)
                if isinstance(error, CallTimeout):
                    self._client.disconnect(address)  # nothing comes through it: dial anew
            else:
                if answer.code == ResponseCode.SUCCESS:
                    self._note(address, True, "")
                    if answer.ext.get("masterAddr"):
                        self.on_master(answer.ext["masterAddr"], answer.ext.get("haServerAddr", ""))
                    if not self.seeking():
                        retry = RETRY_FIRST_S
                        pause = config.register_name_server_period / 1000
                else:
                    self._note(address, False, f"code {answer.code}: {answer.remark}")
            await self._wait(changed, pause)

    @staticmethod
    async def _wait(changed: asyncio.Event, most_s: float | None) -> None:
        """Until something has changed, or for so long at most."""
        try:
            async with asyncio.timeout(most_s):
                await changed.wait()
        except TimeoutError:
            pass

    async def _unregister(self, address: str) -> str:
        """Say goodbye to a name server. Returns why it did not hear it; empty if it did."""
        try:
            await self._client.call(address, self._identified(RequestCode.UNREGISTER_BROKER), _UNREGISTER_S)
        except CallError as error:
            return error.reason
        self._listed.discard(address)
        self._core.log.event("unregistered", namesrv=address)
        return ""

    def _lost(self, address: str) -> None:
        changed = self._changed.get(address)
        if changed is not None and self._known.get(address):
            self._note(address, False, "the connection was lost")
            changed.set()

    def _note(self, address: str, good: bool, reason: str) -> None:
        serving = self._core.serving
        news = (good, serving.role, serving.broker_id)
        if news != self._told.get(address):
            self._told[address] = news
            fields = {"namesrv": address, "role": serving.role.value, "broker_id": serving.broker_id}
            if good:
                self._core.log.event("registered", text="register broker to name server OK", **fields)
            else:
                self._core.log.warning("not-registered", reason=reason, **fields)
        self._known[address] = good

    def _identified(self, code: int) -> Command:
        config = self._core.config
        ext = {
            "brokerName": config.broker_name,
            "brokerAddr": self._addresses.broker,
            "clusterName": config.broker_cluster_name,
            "brokerId": str(self._core.serving.broker_id),
        }
        return request(code, ext)

    def _request(self) -> Command:
        core = self._core
        command = self._identified(RequestCode.REGISTER_BROKER)
        document = core.tables.topics.document()
        # Name servers keep a master of a later epoch against an earlier one that does not know of its succession.
        # In DLedger mode the same goes for the term, which every member knows.
        epoch = core.serving.epoch if core.serving.role.is_master or core.member is not None else 0
        version = msgspec.structs.replace(document.data_version, state_version=epoch)
        topics = {name: self._permitted(topic) for name, topic in document.topic_config_table.items()}
        command.body = msgspec.json.encode(
            {
                "filterServerList": [],
                "topicConfigSerializeWrapper": {
                    "dataVersion": version,
                    "topicConfigTable": topics,
                    "mappingDataVersion": version,
                    "topicQueueMappingDetailMap": {},
                    "topicQueueMappingInfoMap": {},
                },
            }
        )
        command.ext["haServerAddr"] = self._addresses.ha()
        if core.member is not None:
            command.ext["dledgerTerm"] = str(epoch)
        command.ext["compressed"] = "false"
        command.ext["bodyCrc32"] = str(zlib.crc32(command.body) & 0x7FFFFFFF)
        if core.config.broker_not_active_timeout_millis:
            command.ext["heartbeatTimeoutMillis"] = str(core.config.broker_not_active_timeout_millis)
        return command

    def _permitted(self, topic: TopicConfig) -> TopicConfig:
        """The topic with what brokerPermission forbids taken away."""
        allowed = self._core.config.broker_permission
        if allowed & (PERM_READ | PERM_WRITE) == PERM_READ | PERM_WRITE:
            return topic
        kept = topic.perm & (allowed | ~(PERM_READ | PERM_WRITE))
        return msgspec.structs.replace(topic, perm=kept)


def _nothing_served(connection: Connection, command: Command) -> Command | None:
    """Name servers ask brokers nothing that we serve."""
    return command.reply(ResponseCode.REQUEST_CODE_NOT_SUPPORTED.value, f" request type {command.code} not supported")
