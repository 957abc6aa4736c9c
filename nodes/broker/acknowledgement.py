"""The one place that decides what may be said about a sent message, and when. Pure.

A producer that reads SEND_OK relies on a promise: under SYNC_FLUSH the message is synced on the master, under
SYNC_MASTER it is written on as many replicas as asked for. `rule_for` turns the configuration into such a promise, and
`PendingReplies` holds every reply back until positions in the log prove it, or until a timeout makes it a weaker
status. The statuses are RocketMQ's (classes CommitLog, GroupTransferService, PutMessageStatus): a missing replica is
worse news than a slow disk and overrides it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

from nodes.config import BrokerRole, FlushDiskType
from nodes.flaws import Flaw

__all__ = ["PendingReplies", "Positions", "QuorumReplies", "Rule", "Status", "copies_promised", "rule_for"]

Payload = TypeVar("Payload")


class Status(IntEnum):
    """What a send is answered with; the numbers are the response codes. Only SEND_OK is a promise."""

    SEND_OK = 0
    UNRESOLVED = 1
    """DLedger mode: appended here, and nobody can say whether the group keeps it (SYSTEM_ERROR)."""
    FLUSH_DISK_TIMEOUT = 10
    """Stored and, where asked for, replicated; not known to be synced within syncFlushTimeout."""
    SLAVE_NOT_AVAILABLE = 11
    """Stored here; too few usable replicas were connected to wait for."""
    FLUSH_SLAVE_TIMEOUT = 12
    """Stored here; the replicas did not confirm within slaveTimeout."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold before SEND_OK. Constant while a broker keeps its role."""

    flush: bool
    """The message is synced on this node."""
    copies: int
    """Nodes that have written the message, this one included; 1 waits for nobody."""
    flush_timeout_s: float = 5.0
    replica_timeout_s: float = 3.0
    quorum: bool = False
    """DLedger mode: the group has committed the message, whatever that takes; `copies` is only told."""

    @property
    def immediate(self) -> bool:
        """A written message may be confirmed at once."""
        return not self.flush and self.copies <= 1 and not self.quorum


@dataclass(frozen=True, slots=True)
class Positions:
    """How far the log has come: log offsets, in bytes."""

    flushed: int
    """Everything below is synced on this node."""
    replicated: int
    """Everything below is held by as many nodes as the rule asks for."""


def copies_promised(role: BrokerRole, in_sync_replicas: int | None) -> int:
    """Nodes that hold a message before SEND_OK, the master included.

    Without inSyncReplicas a SYNC_MASTER waits for one slave, as RocketMQ 4.9 does. With it the number counts the
    master, as in RocketMQ 5: 1 waits for nobody.
    """
    if role is not BrokerRole.SYNC_MASTER:
        return 1
    return 2 if in_sync_replicas is None else max(1, in_sync_replicas)


def rule_for(
    role: BrokerRole,
    flush: FlushDiskType,
    in_sync_replicas: int | None,
    *,
    flush_timeout_s: float = 5.0,
    replica_timeout_s: float = 3.0,
    flaws: frozenset[Flaw] = frozenset(),
) -> Rule:
    """The promise that a configuration makes with each SEND_OK."""
    synced = flush is FlushDiskType.SYNC_FLUSH
    copies = copies_promised(role, in_sync_replicas)
    synced = synced and Flaw.REPLY_BEFORE_FSYNC not in flaws
    copies = 1 if Flaw.REPLY_BEFORE_REPLICA in flaws else copies
    return Rule(synced, copies, flush_timeout_s, replica_timeout_s)


class PendingReplies(Generic[Payload]):
    """Replies that wait for their promise, oldest first.

    Messages arrive in the order of the log and all wait equally long, so each of the lists below is sorted by log
    position and by deadline at once: only heads need looking at, whatever the number of waiting replies.
    """

    __slots__ = ("_replica", "_verdicts", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._replica: deque[tuple[int, float, Payload]] = deque()
        """Wait for replicas, and for the disk if the rule says so: (end in the log, arrival, payload)."""
        self._verdicts: dict[Status, deque[tuple[int, float, Payload]]] = {
            Status.SEND_OK: deque(),
            Status.SLAVE_NOT_AVAILABLE: deque(),
            Status.FLUSH_SLAVE_TIMEOUT: deque(),
        }
        """The replicas' part is known and is the key; these wait for the disk only."""

    def __len__(self) -> int:
        return len(self._replica) + sum(map(len, self._verdicts.values()))

    def add(self, end: int, payload: Payload, now: float, *, replicas_usable: bool) -> None:
        """Hold the reply to a message that ends at log offset `end`. Whether it may leave is said by `take`."""
        if self.rule.copies <= 1:
            self._verdicts[Status.SEND_OK].append((end, now, payload))
        elif replicas_usable:
            self._replica.append((end, now, payload))
        else:
            self._verdicts[Status.SLAVE_NOT_AVAILABLE].append((end, now, payload))

    def take(self, positions: Positions, now: float) -> Iterator[tuple[Payload, Status]]:
        """Remove and give every reply that may leave now, with the status that is true of it."""
        flushed, replicated = positions.flushed, positions.replicated
        flush, flush_timeout_s = self.rule.flush, self.rule.flush_timeout_s
        waiting = self._replica
        while waiting:
            end, since, payload = waiting[0]
            on_disk = not flush or end <= flushed
            if end <= replicated:
                if on_disk:
                    yield payload, Status.SEND_OK
                elif now - since >= flush_timeout_s:
                    yield payload, Status.FLUSH_DISK_TIMEOUT
                else:
                    break
            elif now - since >= self.rule.replica_timeout_s:
                if on_disk or now - since >= flush_timeout_s:
                    yield payload, Status.FLUSH_SLAVE_TIMEOUT
                else:
                    self._verdicts[Status.FLUSH_SLAVE_TIMEOUT].append((end, since, payload))
            else:
                break
            waiting.popleft()
        for verdict, queue in self._verdicts.items():
            while queue:
                end, since, payload = queue[0]
                if not flush or end <= flushed:
                    yield payload, verdict
                elif now - since >= flush_timeout_s:
                    yield payload, verdict if verdict is not Status.SEND_OK else Status.FLUSH_DISK_TIMEOUT
                else:
                    break
                queue.popleft()

    def deadline(self) -> float | None:
        """When `take` must be asked again even if no position moves; None if nothing waits."""
        deadlines = [queue[0][1] + self.rule.flush_timeout_s for queue in self._verdicts.values() if queue]
        if self._replica:
            since = self._replica[0][1]
            deadlines.append(since + min(self.rule.replica_timeout_s, self.rule.flush_timeout_s))
        return min(deadlines, default=None)

    def abandon(self, positions: Positions) -> Iterator[tuple[Payload, Status]]:
        """Remove and give all replies, each with the weaker status it has earned: this node stops being master."""
        for end, _, payload in self._replica:
            yield payload, Status.FLUSH_DISK_TIMEOUT if end <= positions.replicated else Status.FLUSH_SLAVE_TIMEOUT
        self._replica.clear()
        for verdict, queue in self._verdicts.items():
            for _, _, payload in queue:
                yield payload, verdict if verdict is not Status.SEND_OK else Status.FLUSH_DISK_TIMEOUT
            queue.clear()

    def drop(self) -> list[Payload]:
        """Remove and give all replies without any status: the store failed, and nothing true can be said."""
        dropped = [payload for _, _, payload in self._replica]
        self._replica.clear()
        for queue in self._verdicts.values():
            dropped.extend(payload for _, _, payload in queue)
            queue.clear()
        return dropped


class QuorumReplies(Generic[Payload]):
    """Replies that wait for the group to commit, oldest first. There is nothing between SEND_OK and not knowing."""

    __slots__ = ("_waiting", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._waiting: deque[tuple[int, float, Payload]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, end: int, payload: Payload, now: float, *, replicas_usable: bool) -> None:
        """Hold the reply to a message that ends at log offset `end`."""
        self._waiting.append((end, now, payload))

    def take(self, positions: Positions, now: float) -> Iterator[tuple[Payload, Status]]:
        """Remove and give every reply that may leave now: `positions.replicated` is what the group has committed."""
        waiting, committed, patience_s = self._waiting, positions.replicated, self.rule.replica_timeout_s
        while waiting:
            end, since, payload = waiting[0]
            if end <= committed:
                status = Status.SEND_OK
            elif now - since >= patience_s:
                status = Status.UNRESOLVED
            else:
                break
            waiting.popleft()
            yield payload, status

    def deadline(self) -> float | None:
        """When `take` must be asked again even if no position moves; None if nothing waits."""
        return self._waiting[0][1] + self.rule.replica_timeout_s if self._waiting else None

    def abandon(self, positions: Positions) -> Iterator[tuple[Payload, Status]]:
        """Remove and give all replies: this node leads no more, so it does not know what becomes of them."""
        for payload in self.drop():
            yield payload, Status.UNRESOLVED

    def drop(self) -> list[Payload]:
        """Remove and give all replies without any status."""
        dropped = [payload for _, _, payload in self._waiting]
        self._waiting.clear()
        return dropped
