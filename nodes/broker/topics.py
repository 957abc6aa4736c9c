"""The table of topics: default set, automatic creation, and the version that name servers compare. Pure.

Sources: RocketMQ classes TopicConfig, TopicConfigManager, DataVersion.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from nodes.broker.names import AUTO_CREATE_TOPIC, SCHEDULE_TOPIC, system_topics

__all__ = [
    "PERM_INHERIT",
    "PERM_READ",
    "PERM_WRITE",
    "DataVersion",
    "TopicConfig",
    "TopicTable",
    "TopicsDocument",
    "default_topics",
]

PERM_READ = 4
PERM_WRITE = 2
PERM_INHERIT = 1
"""A send to an unknown topic may create it after the pattern of a topic with this bit."""


class DataVersion(msgspec.Struct, frozen=True, rename="camel"):
    """Version of a table. Name servers and slaves ignore a table whose version they have seen before."""

    counter: int = 0
    timestamp: int = 0
    state_version: int = 0

    def next(self, now_ms: int) -> DataVersion:
        """The version after one more change."""
        return DataVersion(self.counter + 1, max(now_ms, self.timestamp), self.state_version)


class TopicConfig(msgspec.Struct, frozen=True, rename="camel"):
    """One topic as it travels to name servers and slaves."""

    topic_name: str
    read_queue_nums: int = 8
    write_queue_nums: int = 8
    perm: int = PERM_READ | PERM_WRITE
    topic_filter_type: str = "SINGLE_TAG"
    topic_sys_flag: int = 0
    order: bool = False
    attributes: dict[str, str] = {}

    @property
    def readable(self) -> bool:
        """Consumers may pull."""
        return bool(self.perm & PERM_READ)

    @property
    def writable(self) -> bool:
        """Producers may send."""
        return bool(self.perm & PERM_WRITE)

    @property
    def queues(self) -> int:
        """One more than the largest queue id that anybody may name."""
        return max(self.read_queue_nums, self.write_queue_nums)


class TopicsDocument(msgspec.Struct, rename="camel"):
    """The file topics.json, and the body of GET_ALL_TOPIC_CONFIG."""

    data_version: DataVersion = DataVersion()
    topic_config_table: dict[str, TopicConfig] = {}


def default_topics(cluster: str, broker: str, *, auto_create: bool, delay_levels: int) -> list[TopicConfig]:
    """The topics that a broker has from its first start on (those of RocketMQ 4.9)."""
    both = PERM_READ | PERM_WRITE
    topics = [
        TopicConfig("SELF_TEST_TOPIC", 1, 1),
        TopicConfig("BenchmarkTest", 1024, 1024),
        TopicConfig(cluster, 16, 16, both | PERM_INHERIT),
        TopicConfig(broker, 1, 1, both | PERM_INHERIT),
        TopicConfig("OFFSET_MOVED_EVENT", 1, 1),
        TopicConfig(SCHEDULE_TOPIC, delay_levels, delay_levels),
        TopicConfig(f"{cluster}_REPLY_TOPIC", 1, 1),
    ]
    if auto_create:
        topics.insert(0, TopicConfig(AUTO_CREATE_TOPIC, 8, 8, both | PERM_INHERIT))
    return topics


class TopicTable:
    """All topics of one broker. Every change raises the version; the owner persists and registers when it moved."""

    __slots__ = ("_topics", "changes", "version")

    def __init__(self) -> None:
        self._topics: dict[str, TopicConfig] = {}
        self.version = DataVersion()
        self.changes = 0
        """Modifications in this process, loads included; unlike the version it never goes back."""

    def __len__(self) -> int:
        return len(self._topics)

    def get(self, topic: str) -> TopicConfig | None:
        """The topic's configuration, or None if it does not exist."""
        return self._topics.get(topic)

    def all(self) -> dict[str, TopicConfig]:
        """All topics by name, a copy."""
        return dict(self._topics)

    def names(self) -> list[str]:
        """All topic names, in order of creation."""
        return list(self._topics)

    def put(self, topic: TopicConfig, now_ms: int) -> None:
        """Create or change a topic."""
        self._topics[topic.topic_name] = topic
        self._changed(now_ms)

    def ensure(self, topics: Iterable[TopicConfig], now_ms: int) -> bool:
        """Create those that do not exist. True if any was missing."""
        missing = [topic for topic in topics if topic.topic_name not in self._topics]
        for topic in missing:
            self.put(topic, now_ms)
        return bool(missing)

    def remove(self, topic: str, now_ms: int) -> bool:
        """Forget a topic. False if it did not exist."""
        if self._topics.pop(topic, None) is None:
            return False
        self._changed(now_ms)
        return True

    def create_for_send(self, topic: str, template: str, queues: int, now_ms: int) -> TopicConfig | None:
        """Create `topic` after `template`, as a first send asks for it; None if the template does not allow it.

        The new topic has at most as many queues as the template, and its permission without the inherit bit, so that it
        is no template itself (RocketMQ method createTopicInSendMessageMethod).
        """
        pattern = self._topics.get(template)
        if pattern is None or not pattern.perm & PERM_INHERIT:
            return None
        number = max(1, min(queues, pattern.write_queue_nums))
        created = TopicConfig(topic, number, number, pattern.perm & ~PERM_INHERIT)
        self.put(created, now_ms)
        return created

    def document(self) -> TopicsDocument:
        """What is persisted and sent to slaves."""
        return TopicsDocument(self.version, dict(self._topics))

    def load(self, document: TopicsDocument) -> None:
        """Take over a whole table and its version in one step: there is no moment at which topics are missing."""
        self._topics = dict(document.topic_config_table)
        self.version = document.data_version
        self.changes += 1

    def touch(self, now_ms: int) -> None:
        """Raise the version without a change, so that name servers take the table from a new master."""
        self._changed(now_ms)

    def _changed(self, now_ms: int) -> None:
        self.version = self.version.next(now_ms)
        self.changes += 1

    def users(self, cluster: str, broker: str) -> list[str]:
        """Names of topics that are not the broker's own."""
        own = set(system_topics(cluster, broker))
        return [name for name in self._topics if name not in own]
