"""Named bounds of replication. A peer that passes one is disconnected with a logged reason."""

from __future__ import annotations

__all__ = [
    "BATCH_MAX",
    "CONNECT_TIMEOUT_S",
    "EPOCHS_MAX",
    "FRAME_MAX",
    "HELLO_MAX",
    "HELLO_TIMEOUT_S",
    "MARKS_MAX",
    "MERGED_KEPT_S",
    "OFFSETS_BACK_INTERVAL_S",
    "OFFSETS_INTERVAL_S",
    "RECONNECT_FIRST_S",
    "RECONNECT_MAX_S",
    "REMEMBERED_MAX",
    "RESETS_MAX",
    "SESSIONS_MAX",
    "TEXT_MAX",
    "UNWRITTEN_MAX",
    "WINDOW_MAX",
    "WRITTEN_DELAY_S",
]

FRAME_MAX = 24 * 1024 * 1024
"""Bytes of one frame: the largest record (16 MiB) or table and some room."""

HELLO_MAX = 512 * 1024
"""Bytes of a frame from a peer that has not introduced itself, so that garbage cannot make us buffer much."""

EPOCHS_MAX = 16_000
"""Epochs in one table; with 24 bytes each a HELLO stays below HELLO_MAX."""

TEXT_MAX = 1024
"""Bytes of a name or a reason in a frame."""

BATCH_MAX = 256 * 1024
"""Log bytes that one DATA frame aims at. A single larger record still travels whole."""

WINDOW_MAX = 8 * 1024 * 1024
"""Log bytes on their way to one replica that it has not acknowledged."""

UNWRITTEN_MAX = 32 * 1024 * 1024
"""Bytes that may wait in the socket buffer of a replica that does not read; more closes its connection."""

SESSIONS_MAX = 16
"""Connections one primary accepts on its replication port, those that have not yet said hello included."""

REMEMBERED_MAX = 64
"""Stores whose acknowledged end a primary remembers; the oldest disconnected one is forgotten first."""

HELLO_TIMEOUT_S = 5.0
"""A connection that has not introduced itself by then is closed."""

CONNECT_TIMEOUT_S = 3.0
"""How long a replica waits for a TCP connection (RocketMQ connectTimeoutMillis)."""

RECONNECT_FIRST_S = 0.1
"""Pause before the second attempt to reach the primary; it doubles up to RECONNECT_MAX_S."""

RECONNECT_MAX_S = 0.5
"""Longest pause between two attempts (RocketMQ waits 5 s)."""

OFFSETS_INTERVAL_S = 0.1
"""Changed consumer and delay offsets are sent together at most this often."""

OFFSETS_BACK_INTERVAL_S = 0.1
"""Progress made on the replica is sent back at most this often."""

MARKS_MAX = 100_000
"""(group, queue) pairs whose progress on the replica waits for the primary; further ones are refused."""

MERGED_KEPT_S = 15.0
"""How long a replica remembers progress that its primary has merged: the primary saves offsets every 5 s (RocketMQ
flushConsumerOffsetInterval) and may be killed before."""

RESETS_MAX = 100_000
"""(group, queue) pairs whose reset a primary remembers, to tell it from progress made before; the oldest go first."""

WRITTEN_DELAY_S = 0.005
"""A replica tells its broker of written bytes at most this often. The broker syncs them then; no acknowledgement waits
for that, and a sync for each batch would cost a good part of the replica's time."""
