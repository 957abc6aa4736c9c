"""Stores and messages for the store's tests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from nodes.flaws import Flaw
from nodes.log import EventLog
from nodes.store.disk import Disk
from nodes.store.flawed import make_store
from nodes.store.results import MessageIn
from nodes.store.settings import StoreConfig
from nodes.store.store import MessageStore

HOST = (bytes([127, 0, 0, 1]), 10911)
BORN = (bytes([10, 0, 0, 7]), 40001)
TOPIC = "Orders"
SMALL = StoreConfig(root="/store", segment_size=2048, queue_file_size=200, sync_flush=True, refuse_lost_tail=True)
"""Many roll-overs with few messages, and no tolerance for flushed bytes that are gone."""


class ManualClock:
    """Wall-clock time that tests move."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now = now_ms

    def now_ms(self) -> int:
        return self.now


def message(
    body: bytes | str,
    *,
    topic: str = TOPIC,
    queue_id: int = 0,
    tag: str | None = None,
    key: str | None = None,
    unique: str | None = None,
    born_host: tuple[bytes, int] = BORN,
) -> MessageIn:
    properties = ""
    if unique is not None:
        properties += f"UNIQ_KEY\x01{unique}\x02"
    if key is not None:
        properties += f"KEYS\x01{key}\x02"
    if tag is not None:
        properties += f"TAGS\x01{tag}\x02"
    raw = body if isinstance(body, bytes) else body.encode()
    return MessageIn(topic, queue_id, raw, properties, 0, 0, 1_699_999_999_000, born_host, 0)


def new_store(
    disk: Disk,
    config: StoreConfig = SMALL,
    *,
    flaws: Iterable[Flaw] = (),
    clock: ManualClock | None = None,
    **changes: Any,
) -> MessageStore:
    """An unopened store."""
    settings = replace(config, **changes) if changes else config
    return make_store(disk, settings, clock or ManualClock(), EventLog("broker"), frozenset(flaws))


def open_store(
    disk: Disk,
    config: StoreConfig = SMALL,
    *,
    flaws: Iterable[Flaw] = (),
    clock: ManualClock | None = None,
    **changes: Any,
) -> MessageStore:
    """An open store."""
    store = new_store(disk, config, flaws=flaws, clock=clock, **changes)
    store.open()
    return store
