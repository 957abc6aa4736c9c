"""Named bounds of the nodes. Passing one is an error that the peer sees or a logged reason, never silent loss."""

from __future__ import annotations

__all__ = [
    "CONNECTIONS_MAX",
    "CONNECT_TIMEOUT_S",
    "FRAME_MAX",
    "GROUP_NAME_MAX",
    "IDLE_TIMEOUT_S",
    "KV_VALUE_MAX",
    "MESSAGE_MAX",
    "OUTSTANDING_MAX",
    "PARKED_PULLS_MAX",
    "PROPERTIES_MAX",
    "ROUTE_TOPICS_MAX",
    "TOPIC_NAME_MAX",
    "WRITE_BUFFER_MAX",
]

FRAME_MAX = 16 * 1024 * 1024
"""Bytes of one remoting frame, length word included (RocketMQ com.rocketmq.remoting.frameMaxLength)."""

WRITE_BUFFER_MAX = 64 * 1024 * 1024
"""Bytes that may wait for a peer that reads too slowly before its connection is closed: four frames of maximum size."""

OUTSTANDING_MAX = 65_535
"""Requests of ours without an answer on one connection (RocketMQ clientAsyncSemaphoreValue)."""

CONNECTIONS_MAX = 10_000
"""Connections one server accepts at a time; a further one is closed at once with a logged reason."""

IDLE_TIMEOUT_S = 120.0
"""A connection without traffic in either direction is closed after this (RocketMQ serverChannelMaxIdleTimeSeconds)."""

CONNECT_TIMEOUT_S = 3.0
"""How long a client waits for a TCP connection (RocketMQ connectTimeoutMillis)."""

MESSAGE_MAX = 4 * 1024 * 1024
"""Default bytes of one message body (RocketMQ maxMessageSize)."""

PROPERTIES_MAX = 32_767
"""Bytes of a message's properties text: its length is stored as a signed 16-bit number."""

TOPIC_NAME_MAX = 127
"""Characters of a topic name: its length is stored as a signed byte."""

GROUP_NAME_MAX = 255
"""Characters of a producer or consumer group name (RocketMQ 4.9)."""

PARKED_PULLS_MAX = 20_000
"""Pull requests one broker holds for long polling; further ones are answered at once."""

ROUTE_TOPICS_MAX = 100_000
"""Topics one name server routes; a registration that would pass it is refused."""

KV_VALUE_MAX = 1024 * 1024
"""Bytes of one value in the name server's key-value configuration."""
