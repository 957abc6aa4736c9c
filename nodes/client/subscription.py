"""Tag subscriptions: parsing, the wire form, and the check of the tag that brokers do by hash only."""

from __future__ import annotations

from dataclasses import dataclass

from nodes.remoting.message import tag_hash

__all__ = ["ALL", "Subscription", "SubscriptionError", "parse_subscription"]

ALL = "*"


class SubscriptionError(ValueError):
    """An expression that is neither `*` nor tags joined by `||`."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a group wants of one topic. `version`: wall clock in ms at the last change; brokers keep the highest."""

    topic: str
    expression: str = ALL
    tags: tuple[str, ...] = ()
    version: int = 0

    def accepts(self, tag: str) -> bool:
        """Whether a message with this tag (empty: none) is wanted. Brokers compare hashes only, which may collide."""
        return not self.tags or tag in self.tags

    def to_wire(self) -> dict[str, object]:
        """RocketMQ's SubscriptionData."""
        return {
            "classFilterMode": False,
            "codeSet": [tag_hash(tag) for tag in self.tags],
            "expressionType": "TAG",
            "subString": self.expression,
            "subVersion": self.version,
            "tagsSet": list(self.tags),
            "topic": self.topic,
        }


def parse_subscription(topic: str, expression: str = ALL, version: int = 0) -> Subscription:
    """Read `*`, the empty text (all) or `TagA || TagB`. Raises SubscriptionError on an empty alternative."""
    text = expression.strip()
    if text in ("", ALL):
        return Subscription(topic, ALL, (), version)
    tags = [word.strip() for word in text.split("||")]
    if not all(tags):
        raise SubscriptionError(f"subscription {expression!r} of topic {topic}: an alternative between || is empty")
    return Subscription(topic, text, tuple(dict.fromkeys(tags)), version)
