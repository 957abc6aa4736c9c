"""A disk for one Raft node that forgets what was not synced, and the records that the simulated nodes write.

A record is its size in 4 bytes, a kind, and a body: `m` the marker of a leader, `c` a membership, `d` a client's data.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import msgspec

from nodes.replication.raft.membership import Membership, MembershipRow
from nodes.replication.raft.orders import HardState, Head, Restored
from nodes.replication.raft.terms import TermRow


def record(kind: bytes, body: bytes) -> bytes:
    return (len(body) + 5).to_bytes(4, "big") + kind + body


def data_record(text: str) -> bytes:
    return record(b"d", text.encode())


def marker_record(term: int, leader: str) -> bytes:
    return record(b"m", f"{term} {leader}".encode())


def membership_record(membership: Membership) -> bytes:
    return record(b"c", msgspec.json.encode(membership))


def split(data: bytes | bytearray, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """(end, record) for each whole record of data that begins at position `start`."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        assert size >= 5, f"no record at {start + at}: the log is spliced"
        assert at + size <= len(data), f"no whole record at {start + at}: the log is spliced"
        yield start + at + size, bytes(data[at : at + size])
        at += size


def memberships_in(data: bytes | bytearray, start: int) -> tuple[MembershipRow, ...]:
    return tuple(
        MembershipRow(end, msgspec.json.decode(item[5:], type=Membership))
        for end, item in split(data, start)
        if item[4:5] == b"c"
    )


class SimDisk:
    """Hard state, head and log of one node. `synced`: what survives a power cut for certain."""

    def __init__(self, peers: Membership) -> None:
        self.peers = peers
        self.hard = HardState()
        self.head = Head(membership=MembershipRow(0, peers))
        self.base = 0
        self.log = bytearray()
        self.synced = 0
        self.applied = 0
        """Noted now and then: up to here the log is committed for certain."""

    @property
    def end(self) -> int:
        return self.base + len(self.log)

    def bytes_between(self, start: int, end: int) -> bytes:
        assert self.base <= start <= end <= self.end, (self.base, start, end, self.end)
        return bytes(self.log[start - self.base : end - self.base])

    def read_records(self, start: int, stop: int, max_bytes: int) -> bytes:
        """Whole records, one at least."""
        found = bytearray()
        for _, item in split(self.bytes_between(start, stop), start):
            if found and len(found) + len(item) > max_bytes:
                break
            found += item
        return bytes(found)

    def append(self, data: bytes) -> None:
        self.log += data

    def truncate(self, end: int) -> None:
        assert self.base <= end <= self.end
        del self.log[end - self.base :]
        self.synced = min(self.synced, end)

    def empty(self) -> None:
        """The first half of a reset."""
        self.log.clear()
        self.base = self.synced = self.applied = 0
        self.head = Head(membership=MembershipRow(0, self.peers))

    def begin_at(self, head: Head) -> None:
        """The second half of a reset."""
        self.log.clear()
        self.base = self.synced = head.begin
        self.head = head

    def delete_below(self, head: Head) -> None:
        """Retention."""
        self.head = head
        del self.log[: head.begin - self.base]
        self.base = head.begin

    def power_cut(self, rng: Random) -> None:
        """Lose what was not synced, or a part of it."""
        ends = [self.base, *(end for end, _ in split(self.log, self.base))]
        self.truncate(rng.choice([end for end in ends if end >= self.synced]))

    def restore(self) -> Restored:
        """What recovery finds; it syncs it."""
        rows = [] if self.head.row is None else [self.head.row]
        at = self.base
        for end, item in split(self.log, self.base):
            if item[4:5] == b"m":
                rows.append(TermRow(int(item[5:].split()[0]), at))
            at = end
        self.synced = self.end
        return Restored(
            hard=self.hard,
            begin=self.base,
            end=self.end,
            stable=self.end,
            committed=max(self.base, min(self.applied, self.end)),
            rows=tuple(rows),
            memberships=(self.head.membership, *memberships_in(self.log, self.base)),
        )
