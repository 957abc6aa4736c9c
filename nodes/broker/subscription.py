"""What a consumer wants of a topic: every message, or those with certain tags. Pure.

Tags are filtered by hash here, since the queue's entries hold nothing else; consumers compare the texts again.
Sources: RocketMQ classes SubscriptionData, FilterAPI, DefaultMessageFilter.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from nodes.remoting.message import tag_hash

__all__ = ["TAG", "Subscription", "SubscriptionError", "acceptor", "parse_tags"]

TAG = "TAG"
"""The one expression type that is served; SQL92 is refused."""
_ALL = "*"


class SubscriptionError(ValueError):
    """An expression that cannot be served; the text says why."""


class Subscription(msgspec.Struct, frozen=True, rename="camel"):
    """One topic's subscription as heartbeats carry it."""

    topic: str
    sub_string: str = _ALL
    tags_set: list[str] = []
    code_set: list[int] = []
    sub_version: int = 0
    expression_type: str | None = TAG
    class_filter_mode: bool = False


def parse_tags(topic: str, expression: str | None, version: int = 0) -> Subscription:
    """Read `TagA || TagB`, `*` or nothing. Raises SubscriptionError if no tag is left."""
    text = (expression or _ALL).strip()
    if text in ("", _ALL):
        return Subscription(topic, _ALL, sub_version=version)
    tags = list(dict.fromkeys(tag.strip() for tag in text.split("||") if tag.strip()))
    if not tags:
        raise SubscriptionError(f"the expression {text!r} names no tag")
    return Subscription(topic, text, tags, [tag_hash(tag) for tag in tags], version)


def acceptor(subscription: Subscription) -> Callable[[int], bool] | None:
    """A filter on the tag codes of queue entries; None if everything is wanted."""
    if not subscription.code_set or subscription.sub_string == _ALL:
        return None
    return frozenset(subscription.code_set).__contains__
