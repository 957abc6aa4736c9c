"""Settings of a client, with RocketMQ's defaults where RocketMQ has the setting."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["ClientConfig", "ClientConfigError", "LatencyProfile", "parse_name_servers"]


class ClientConfigError(ValueError):
    """A setting that cannot work; the message names it and what is allowed."""


class LatencyProfile(StrEnum):
    """Whose table says how long a slow broker is avoided (RocketMQ MQFaultStrategy)."""

    V4_9 = "4.9"
    V5_3 = "5.3"


def parse_name_servers(text: str) -> tuple[str, ...]:
    """Read `host:port;host:port` (commas are accepted too). Raises ClientConfigError that names the bad entry."""
    found = tuple(word.strip() for word in text.replace(",", ";").split(";") if word.strip())
    for address in found:
        host, colon, port = address.rpartition(":")
        if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ClientConfigError(f"name server {address!r}: expected host:port")
    if not found:
        raise ClientConfigError("no name server given: expected host:port[;host:port...]")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """How one client talks to a cluster. Times are seconds unless the name says otherwise."""

    name_servers: tuple[str, ...]
    """Addresses `host:port`; shuffled once, then one is kept until it fails."""
    client_ip: str = "127.0.0.1"
    instance: str = "DEFAULT"
    """`DEFAULT` becomes a name of its own for every client, else clients of one instance count as one to brokers."""
    unit: str = ""

    poll_name_server_interval_s: float = 30.0
    """How often the routes of all used topics are asked for again."""
    heartbeat_interval_s: float = 30.0
    name_server_timeout_s: float = 1.0
    """How long one name server may take; then the next one is asked within the same call."""
    api_timeout_s: float = 3.0
    """Budget of a call that is neither a send nor a pull, over all name servers (RocketMQ mqClientApiTimeout)."""
    connect_timeout_s: float = 3.0
    route_query_after_s: float = 0.3
    """A reply outstanding for so long makes the client ask for the route; one query at a time for each broker."""

    send_timeout_s: float = 3.0
    """Budget of a send over all its attempts (RocketMQ sendMsgTimeout)."""
    retries: int = 2
    """Further attempts after the first one fails (RocketMQ retryTimesWhenSendFailed)."""
    retry_async: int | None = None
    """The same for `send_async`, which retries transport errors only; None means as `retries`."""
    retry_another_broker_when_not_store_ok: bool = False
    """Whether a weak status (stored, but flush or replica late) counts as a reason to try again elsewhere."""
    latency_fault_enable: bool = False
    """Whether slow or failing brokers are avoided for a while."""
    latency_profile: LatencyProfile = LatencyProfile.V4_9
    default_topic_queue_nums: int = 4
    auto_create_topics: bool = True
    """Whether a topic without a route borrows the route of TBW102 so that a broker may create it."""
    max_message_size: int = 4 * 1024 * 1024
    """Bytes of one body; a larger one is refused before any byte is sent."""
    compress_over_bytes: int = 4096
    """Bodies of at least this size are compressed with zlib; 0 never compresses."""

    outstanding_max: int = 20_000
    """Requests of one client that may wait for an answer at a time; a further one is refused locally."""

    def __post_init__(self) -> None:
        if not self.name_servers:
            raise ClientConfigError("name_servers: at least one host:port is needed")
        for name in (
            "poll_name_server_interval_s",
            "heartbeat_interval_s",
            "name_server_timeout_s",
            "api_timeout_s",
            "connect_timeout_s",
            "route_query_after_s",
            "send_timeout_s",
        ):
            if getattr(self, name) <= 0:
                raise ClientConfigError(f"{name}: must be more than 0, is {getattr(self, name)}")
        for name in ("retries", "compress_over_bytes"):
            if getattr(self, name) < 0:
                raise ClientConfigError(f"{name}: must not be negative, is {getattr(self, name)}")
        for name in ("outstanding_max", "default_topic_queue_nums", "max_message_size"):
            if getattr(self, name) < 1:
                raise ClientConfigError(f"{name}: must be at least 1, is {getattr(self, name)}")
