"""Planted flaws: defects that a test switches on to prove that a checker, a proof or a test would notice them.

Each flaw sits on one line of node code and is off unless the configuration key `flaws` names it. A node that runs with
flaws says so in its log at start and in its status.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Flaw", "parse_flaws"]


class Flaw(StrEnum):
    """What a node does wrong on purpose."""

    REPLY_BEFORE_FSYNC = "reply-before-fsync"
    """Says SEND_OK under SYNC_FLUSH before the fsync returned."""
    REPLY_BEFORE_REPLICA = "reply-before-replica"
    """Says SEND_OK under SYNC_MASTER, or as the leader of a Raft group, before any replica has the message."""
    SPLICE_DIVERGED = "splice-diverged"
    """Appends the master's bytes to a diverged replica log without truncating it."""
    STALE_ACK_OFFSET = "stale-ack-offset"
    """Counts the end that a replica had before it was compared as an acknowledgement."""
    FORGET_EPOCH = "forget-epoch"
    """Serves as master without minting a new epoch."""
    SKIP_CRC = "skip-crc-on-recovery"
    """Believes every record found on disk."""
    SWAP_APPENDS = "swap-appends"
    """Now and then acknowledges a message and lets the next one of its queue take the place before it."""
    OFFSET_REUSE = "offset-reuse"
    """Now and then gives one queue offset to two messages."""
    DELIVER_TWICE = "deliver-twice"
    """Now and then answers a pull with a message that is not at the asked offset."""
    SKIP_DELIVERY = "skip-delivery"
    """Now and then leaves a message out of a pull answer."""
    DROP_ACKED = "drop-acked"
    """Now and then acknowledges a message without storing it."""
    LOSE_CONSUMER_OFFSETS = "lose-consumer-offsets"
    """Forgets committed consumer offsets on restart."""
    NEVER_EXPIRE = "never-expire-broker"
    """The name server keeps silent and disconnected brokers in its routes."""
    IGNORE_FSYNC_ERROR = "ignore-fsync-error"
    """Goes on acknowledging after a failed fsync."""
    DOUBLE_COUNT_REPLICA = "double-count-replica"
    """Counts two connections of one replica as two copies."""
    ACK_BEFORE_QUORUM = "ack-before-quorum"
    """A Raft leader counts its own copy as agreement."""
    ACK_BEFORE_FSYNC = "ack-before-fsync"
    """A Raft node counts what it has written as durable."""
    COMMIT_OLD_TERM = "commit-old-term"
    """A Raft leader commits by counting copies of an older term's records (figure 8 of the paper). As there it begins
    its term with no record of its own: its marker goes to nobody before the longest election timeout is over."""
    FORGET_VOTE = "forget-vote"
    """A restarted node does not know whom it voted for."""
    FORGET_TERM = "forget-term"
    """A restarted node knows no term but that of its log."""
    DEPOSED_LEADER_ACKS = "deposed-leader-acks"
    """A Raft leader without its quorum goes on alone and does not listen to a higher term."""
    KEEP_CONFLICTING_TAIL = "keep-conflicting-tail"
    """A follower appends behind a tail that differs from its leader's log."""
    EARLY_MEMBERSHIP_CHANGE = "early-membership-change"
    """A leader changes the membership before anything of its own term is committed. Its marker, which would betray it,
    goes to nobody before the longest election timeout is over."""
    READ_ABOVE_COMMIT = "read-above-commit"
    """A member of a Raft group gives consumers what the group has not committed."""
    OFFSET_REUSE_AFTER_FAILOVER = "offset-reuse-after-failover"
    """A new Raft leader counts queue offsets on from an index that lacks the newest messages."""
    REPEAT_AFTER_FAILOVER = "repeat-after-failover"
    """A new Raft leader stores the newest message of every queue once more."""
    VOTE_FOR_SHORTER_LOG = "vote-for-shorter-log"
    """Members vote for a candidate whose log lacks what they know to be committed, and then cut theirs to its end."""
    ELECTION_NEEDS_ONE_MORE = "election-needs-one-more"
    """A candidate waits for one vote more than a majority."""
    COMMIT_PAST_END = "commit-past-end"
    """A follower that lags far behind takes over its leader's commit position, beyond the end of its own log."""
    DROP_OFFSETS_ON_SWITCH = "drop-offsets-on-switch"
    """A new Raft leader begins with an empty table of consumer offsets."""
    OLD_OFFSETS_ON_SWITCH = "old-offsets-on-switch"
    """A new Raft leader copies the consumer offsets that it saved last over the newer ones it knows."""
    DEPOSED_ROUTE_WINS = "deposed-route-wins"
    """The name server believes the last registration as master, whatever its term."""
    TWO_MEMBERSHIP_CHANGES = "two-membership-changes"
    """A leader changes the membership while an earlier change is not committed."""


def parse_flaws(text: str) -> frozenset[Flaw]:
    """Read a comma-separated list of flaw names. Raises ValueError that names the unknown one."""
    found = set()
    for word in text.replace(";", ",").split(","):
        name = word.strip()
        if not name:
            continue
        try:
            found.add(Flaw(name))
        except ValueError:
            raise ValueError(f"unknown flaw {name!r}; known: {', '.join(flaw.value for flaw in Flaw)}") from None
    return frozenset(found)
