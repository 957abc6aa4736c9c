"""How answers become the three outcomes of a history: ok, fail (certainly did not happen), info (nobody can say).

Which response code proves what is decided in one place, `nodes.client.outcomes`; here the result of a whole operation
is put in the history's words. Only SEND_OK is a promise, and how strong it is follows from what the configuration of
the broker that answered *guarantees*, never from what usually happens.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.event import fault_text
from lab.workloads.flaws import ClientFlaw
from nodes.client.outcomes import LocalCode, code_name
from nodes.client.results import Attempt, CommandFailed, Outcome, SendFailed, SendResult, SendStatus


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What a broker's configuration guarantees before it says SEND_OK; ``copies`` counts the master's own."""

    copies: int = 1
    flushed: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """How an operation ends: the event's type and its extras."""

    kind: str  # ok, fail, info
    extras: dict[str, Any] = field(default_factory=dict)

    @property
    def unknown(self) -> bool:
        """Whether the process that ran it must retire."""
        return self.kind == "info"


UNKNOWN_BROKER = Guarantee()


def sent(result: SendResult, guarantees: Mapping[str, Guarantee], topic: str) -> Completion:
    """A stored message: SEND_OK is as strong as the answering broker's configuration, everything else is weak."""
    guarantee = guarantees.get(result.address, UNKNOWN_BROKER)
    promised = result.status is SendStatus.SEND_OK
    extras: dict[str, Any] = {
        "status": result.status.value,
        "ack": ("replicated" if guarantee.copies >= 2 else "local") if promised else "weak",
        "flushed": promised and guarantee.flushed,
        "queue": f"{topic}/{result.broker_name}/{result.queue_id}",
        "offset": result.queue_offset,
        "node": result.address,
        "epoch": result.epoch,
        "attempts": max(1, sum(attempt.outcome is not Outcome.FAIL for attempt in result.attempts)),
        "id": result.offset_message_id,
    }
    if len(result.attempts) > 1:
        extras["tries"] = [attempt_words(attempt) for attempt in result.attempts]
    return Completion("ok", extras)


def not_sent(failure: SendFailed, flaws: Collection[str] = ()) -> Completion:
    """A send without an answer of success: fail only if every attempt provably did not happen.

    A status that the client library reported all the same stays beside it: whoever used it had that promise.
    """
    last = failure.attempts[-1] if failure.attempts else None
    extras: dict[str, Any] = {
        "error": fault_text(code_name(failure.code), _phase(last), str(failure)),
        "attempts": len(failure.attempts),
    }
    if last is not None and last.address:
        extras["node"] = last.address
    if failure.told is not None:
        extras["status"] = failure.told
    if len(failure.attempts) > 1:
        extras["tries"] = [attempt_words(attempt) for attempt in failure.attempts]
    certain = failure.certain
    if ClientFlaw.TIMEOUT_AS_FAILURE in flaws and failure.code == LocalCode.TIMEOUT:
        certain = True  # planted: TIMEOUT_AS_FAILURE
    return Completion("fail" if certain else "info", extras)


def refused(failure: CommandFailed, *, reads_only: bool) -> Completion:
    """A call other than a send that got no usable answer.

    A read that failed certainly changed nothing, but what it would have shown stays unknown, and a client whose
    connection is in doubt must be replaced; so only a call that never left is a fail.
    """
    certain = failure.outcome is Outcome.FAIL
    extras: dict[str, Any] = {"error": fault_text(code_name(failure.code), failure.what, failure.reason)}
    if failure.address:
        extras["node"] = failure.address
    if reads_only:
        extras["reads"] = True
    return Completion("fail" if certain else "info", extras)


def broken(error: BaseException, phase: str) -> Completion:
    """An exception that nobody foresaw: unknown, with its text."""
    return Completion("info", {"error": fault_text(type(error).__name__, phase, str(error))})


def attempt_words(attempt: Attempt) -> dict[str, Any]:
    """One attempt of a send with retries, as the history shows it."""
    return {
        "node": attempt.address,
        "outcome": attempt.outcome.value,
        "code": code_name(attempt.code),
        "text": attempt.reason[:120],
        "took_ms": round((attempt.ended_s - attempt.started_s) * 1000, 1),
    }


def _phase(attempt: Attempt | None) -> str:
    if attempt is None:
        return "local"
    return "request" if attempt.outcome is not Outcome.FAIL else "before-append"
