"""Where a message goes that a consumer could not handle: back for another try, or to the dead letters. Pure.

Source: RocketMQ classes SendMessageProcessor (consumerSendMsgBack), AbstractSendMessageProcessor.
"""

from __future__ import annotations

from dataclasses import dataclass

from nodes.broker.names import dead_letter_topic, retry_topic

__all__ = ["FIRST_RETRY_LEVEL", "RetryPlan", "plan_resend", "plan_retry"]

FIRST_RETRY_LEVEL = 3
"""Delay level of the first retry; each further one takes the next level."""

_TRIES_MAX = 2**31 - 1
"""A record counts tries in 32 bits, signed."""


@dataclass(frozen=True, slots=True)
class RetryPlan:
    """What to store."""

    topic: str
    delay_level: int
    """0 for at once."""
    reconsume_times: int
    dead: bool
    """True if the message is given up and goes to the dead-letter topic."""


def plan_retry(group: str, tried: int, retries_max: int, delay_level: int) -> RetryPlan:
    """Decide about a message that was sent back after `tried` earlier retries.

    `delay_level` is the consumer's wish: below 0 gives up at once, 0 lets the broker choose.
    """
    again = min(tried + 1, _TRIES_MAX)
    if delay_level < 0 or tried >= retries_max:
        return RetryPlan(dead_letter_topic(group), 0, again, True)
    return RetryPlan(retry_topic(group), delay_level or FIRST_RETRY_LEVEL + tried, again, False)


def plan_resend(group: str, tried: int, retries_max: int) -> str | None:
    """The dead-letter topic if a consumer that resends to its retry topic itself has used up its tries, else None.

    Such a send already counts the try that failed, so one more than for `plan_retry` is allowed.
    """
    return dead_letter_topic(group) if tried > retries_max else None
