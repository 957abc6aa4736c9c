"""Records of the group's own in the log: markers of terms, memberships, and whatever else is replicated. Pure.

They are ordinary messages on one internal topic that no client can read or write, so a log of a group is a commit log
like any other. Each lane (a queue of that topic) is read back by itself: recovery finds all terms and memberships by
looking at lane CONTROL only, whatever the number of messages.

The marker carries where its term begins, since a filler may lie before it: a filler belongs to the term of the record
behind it, and without that a filler written by one leader could be taken for another's.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from nodes.remoting.message import RecordError, decode_record
from nodes.replication.raft.membership import Member, Membership, MembershipError

__all__ = [
    "SYSTEM_TOPIC",
    "Lane",
    "MarkerRecord",
    "MembershipRecord",
    "Seed",
    "decode_control",
    "decode_seed",
    "encode_control",
    "encode_seed",
    "membership_of",
    "record_of",
]

SYSTEM_TOPIC = "RMQ_SYS_DLEDGER_GROUP"
"""Clients can neither read nor write it."""


class Lane(IntEnum):
    """Queues of the system topic."""

    CONTROL = 0
    """Markers of terms and memberships."""
    STATE = 1
    """Changes of the broker's tables: topics, groups, consumer offsets, progress of delayed messages."""


class MarkerRecord(msgspec.Struct, frozen=True, tag="marker", tag_field="kind"):
    """The first record of a term. `start`: the log's end when the leader was elected; the term begins there."""

    term: int
    leader: str
    start: int


class MembershipRecord(msgspec.Struct, frozen=True, tag="membership", tag_field="kind"):
    """A membership: name to address."""

    term: int
    voters: dict[str, str]
    learners: dict[str, str]


_DECODER = msgspec.json.Decoder(MarkerRecord | MembershipRecord)


class Seed(msgspec.Struct, frozen=True):
    """What the deleted head of a log leaves behind: ends of queues, so that no offset is given twice, and tables."""

    queues: dict[str, dict[int, int]] = {}
    """Topic, queue: offset of the first message behind the head."""
    tables: bytes = b""
    """The broker's tables, at the head or later; empty in a member's own file, since they have files of their own."""


def encode_seed(seed: Seed) -> bytes:
    """For `Head.tables`."""
    return msgspec.json.encode(seed)


def decode_seed(data: bytes) -> Seed:
    """What `encode_seed` gave; nothing is an empty one. Raises ValueError."""
    try:
        return msgspec.json.decode(data, type=Seed) if data else Seed()
    except msgspec.MsgspecError as error:
        raise ValueError(f"no head of a group's log: {error}") from None


def encode_control(record: MarkerRecord | MembershipRecord) -> bytes:
    """The body of a control record."""
    return msgspec.json.encode(record)


def decode_control(stored: bytes | memoryview) -> tuple[MarkerRecord | MembershipRecord, int]:
    """What a stored control record says, and the log offset behind it. Raises ValueError."""
    try:
        message = decode_record(stored)
        return _DECODER.decode(message.body), message.offset_log + message.size
    except (RecordError, msgspec.MsgspecError) as error:
        raise ValueError(f"no control record of a group: {error}") from None


def record_of(membership: Membership, term: int) -> MembershipRecord:
    """The record that puts a membership in force."""
    return MembershipRecord(
        term,
        {member.name: member.address for member in membership.voters},
        {member.name: member.address for member in membership.learners},
    )


def membership_of(record: MembershipRecord) -> Membership:
    """The membership that a record puts in force. Raises ValueError."""
    try:
        return Membership(
            tuple(Member(name, address) for name, address in record.voters.items()),
            tuple(Member(name, address) for name, address in record.learners.items()),
        )
    except MembershipError as error:
        raise ValueError(str(error)) from None
