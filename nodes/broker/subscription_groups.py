"""The table of consumer groups that exist, with their retry settings. Pure.

Sources: RocketMQ classes SubscriptionGroupConfig, SubscriptionGroupManager.
"""

from __future__ import annotations

from typing import Any

import msgspec

from nodes.broker.topics import DataVersion

__all__ = ["GroupConfig", "GroupTable", "GroupsDocument"]

_BUILT_IN = ("TOOLS_CONSUMER", "FILTERSRV_CONSUMER", "SELF_TEST_C_GROUP", "CID_RMQ_SYS_TRANS")


class GroupConfig(msgspec.Struct, frozen=True, rename="camel"):
    """One consumer group's settings."""

    group_name: str
    consume_enable: bool = True
    consume_from_min_enable: bool = True
    consume_broadcast_enable: bool = True
    consume_message_orderly: bool = False
    retry_queue_nums: int = 1
    retry_max_times: int = 16
    broker_id: int = 0
    which_broker_when_consume_slowly: int = 1
    notify_consumer_ids_changed_enable: bool = True
    group_sys_flag: int = 0
    consume_timeout_minute: int = 15
    group_retry_policy: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "CUSTOMIZED"})
    attributes: dict[str, str] = {}


class GroupsDocument(msgspec.Struct, rename="camel"):
    """The file subscriptionGroup.json, and the body of GET_ALL_SUBSCRIPTIONGROUP_CONFIG."""

    data_version: DataVersion = DataVersion()
    forbidden_table: dict[str, dict[str, int]] = {}
    subscription_group_table: dict[str, GroupConfig] = {}


class GroupTable:
    """All consumer groups of one broker. Every change raises the version."""

    __slots__ = ("_groups", "changes", "version")

    def __init__(self) -> None:
        self._groups = {name: GroupConfig(name) for name in _BUILT_IN}
        self.version = DataVersion()
        self.changes = 0

    def get(self, group: str) -> GroupConfig | None:
        """The group's settings, or None if it does not exist."""
        return self._groups.get(group)

    def find(self, group: str, *, create: bool, now_ms: int) -> GroupConfig | None:
        """The group's settings; with `create` a missing group comes into being with the defaults."""
        found = self._groups.get(group)
        if found is None and create:
            found = GroupConfig(group)
            self.put(found, now_ms)
        return found

    def put(self, group: GroupConfig, now_ms: int) -> None:
        """Create or change a group."""
        self._groups[group.group_name] = group
        self._changed(now_ms)

    def remove(self, group: str, now_ms: int) -> bool:
        """Forget a group. False if it did not exist."""
        if self._groups.pop(group, None) is None:
            return False
        self._changed(now_ms)
        return True

    def all(self) -> dict[str, GroupConfig]:
        """All groups by name, a copy."""
        return dict(self._groups)

    def names(self) -> list[str]:
        """All groups, the built-in ones too."""
        return list(self._groups)

    def document(self) -> GroupsDocument:
        """What is persisted and sent to slaves."""
        return GroupsDocument(self.version, {}, dict(self._groups))

    def load(self, document: GroupsDocument) -> None:
        """Take over a whole table in one step; built-in groups are kept."""
        groups = {name: GroupConfig(name) for name in _BUILT_IN}
        groups.update(document.subscription_group_table)
        self._groups = groups
        self.version = document.data_version
        self.changes += 1

    def _changed(self, now_ms: int) -> None:
        self.version = self.version.next(now_ms)
        self.changes += 1
