"""The name server as a program: a port, a table, a timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nodes.config import NamesrvConfig
from nodes.flaws import Flaw
from nodes.log import EventLog
from nodes.namesrv.kv import KvConfig
from nodes.namesrv.processor import Processor, log_removed
from nodes.namesrv.routes import Routes
from nodes.remoting.connection import Connection
from nodes.remoting.server import RemotingServer
from nodes.store.disk import Disk, RealDisk

__all__ = ["NameServer", "run"]


class NameServer:
    """One name server. It knows nothing of its fellows and keeps only key-value settings."""

    def __init__(self, config: NamesrvConfig, log: EventLog, disk: Disk) -> None:
        self._log = log
        self._started_with = config
        self.routes = Routes(
            flaws=config.flaws,
            expired_time_ms=config.broker_channel_expired_time,
            delete_missing_topics=config.delete_topic_with_broker_registration,
        )
        self.kv = KvConfig(disk, config.kv_config_path)
        self.processor = Processor(config, self.routes, self.kv, log, self._now_ms)
        self._server = RemotingServer(
            self.processor.handle,
            log=log,
            idle_timeout_s=config.server_channel_max_idle_time_seconds,
            on_connect=lambda connection: connection.on_close(self._closed),
        )
        self._stopping = False
        self._never_expire = Flaw.NEVER_EXPIRE in config.flaws
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> int:
        """Load the settings and serve; returns the port. Raises ListenError, StoreCorrupt, OSError."""
        config = self._started_with
        self._loop = asyncio.get_running_loop()
        if config.flaws:
            self._log.warning("planted flaws", flaws=",".join(sorted(config.flaws)))
        namespaces = self.kv.load()
        port = await self._server.start(config.bind_address, config.listen_port)
        self._timer = self._loop.call_later(self._scan_s, self._scan)
        self._log.event("name server started", host=config.bind_address, port=port, namespaces=namespaces)
        return port

    async def stop(self) -> None:
        """Close everything."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self.processor.settle()
        await self._server.stop()
        self._log.event("name server stopped")

    @property
    def _scan_s(self) -> float:
        return self._started_with.scan_not_active_broker_interval / 1000

    def _now_ms(self) -> int:
        assert self._loop is not None, "a request arrived before the start"
        return int(self._loop.time() * 1000)

    def _scan(self) -> None:
        if not self._never_expire:
            for removed in self.routes.expire(self._now_ms()):
                log_removed(self._log, "broker expired", removed)
                connection = removed.broker.connection
                shared = any(broker.connection is connection for broker in self.routes.brokers())
                if isinstance(connection, Connection) and not connection.closed and not shared:
                    connection.close_reason = "broker expired"
                    connection.close()
        assert self._loop is not None, "the scan runs after the start"
        self._timer = self._loop.call_later(self._scan_s, self._scan)

    def _closed(self, connection: Connection) -> None:
        if self._never_expire or self._stopping:
            return
        for removed in self.routes.connection_closed(connection, self._now_ms()):
            log_removed(self._log, "broker connection closed", removed)


async def run(config: NamesrvConfig, log: EventLog, stop: asyncio.Event, ready: Callable[[str], None]) -> None:
    """Serve until `stop` is set; `ready` is told the address once. Raises ListenError, StoreCorrupt, OSError."""
    server = NameServer(config, log, RealDisk())
    port = await server.start()
    try:
        ready(f"{config.bind_address}:{port}")
        await stop.wait()
    finally:
        await server.stop()
