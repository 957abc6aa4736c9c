"""The parts of a group's member one by one: frames, batches of records, small files, timers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from random import Random

import pytest

from nodes.broker.acknowledgement import Positions, QuorumReplies, Rule, Status
from nodes.broker.group_start import raft_settings
from nodes.config import BrokerConfig
from nodes.config.dledger import Member
from nodes.dledger.addresses import AddressBook
from nodes.dledger.entries import check_entries, read_entries
from nodes.dledger.events import TEXTS, logged
from nodes.dledger.records import (
    MarkerRecord,
    MembershipRecord,
    Seed,
    decode_control,
    decode_seed,
    encode_seed,
    membership_of,
    record_of,
)
from nodes.dledger.settings import GroupSettings
from nodes.dledger.state import GroupFiles, StateDamaged
from nodes.dledger.wire import VERSION, Decoder, Envelope, Hello, WireError, encode, encode_hello
from nodes.remoting.message import MAGIC_FILLER, peek
from nodes.replication.raft import elections
from nodes.replication.raft.membership import Member as RaftMember
from nodes.replication.raft.membership import Membership, MembershipRow
from nodes.replication.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    PreVote,
    PreVoteReply,
    Reseed,
    TimeoutNow,
    Vote,
    VoteReply,
)
from nodes.replication.raft.orders import Event, HardState, Head
from nodes.replication.raft.settings import Settings
from nodes.replication.raft.terms import TermRow
from nodes.store.store import MessageStore
from tests.unit.nodes.forgetful_disk import ForgetfulDisk
from tests.unit.nodes.store_samples import HOST, message, open_store

HELLO = Hello(VERSION, "g", "n0", "n1", 2048, "10.0.0.1:40911", "10.0.0.1:30911")
HEAD = Head(4096, TermRow(3, 100), MembershipRow(50, Membership.of("n0", "n1", "n2", learners=("n3",))), b"\x00tables")
MESSAGES: list[tuple[Message, bytes]] = [
    (PreVote("n0", "n1", 4, 3, 777, False), b""),
    (PreVoteReply("n0", "n1", 4, True), b""),
    (Vote("n0", "n1", 4, 3, 777, True, True), b""),
    (VoteReply("n0", "n1", 4, False), b""),
    (Append("n0", "n1", 4, 10, 3, 4, 15, 10, (MembershipRow(15, Membership.of("n0")),)), b"\x00\xff\x01ab"),
    (AppendReply("n0", "n1", 4, -1, True, 10, 15, (TermRow(1, 0), TermRow(4, 10))), b""),
    (Heartbeat("n0", "n1", 4, 10), b""),
    (HeartbeatReply("n0", "n1", 4, 10, True), b""),
    (Reseed("n0", "n1", 4, HEAD), b""),
    (TimeoutNow("n0", "n1", 4), b""),
]


def test_frames_come_back_as_they_were_however_they_are_cut() -> None:
    stream = encode_hello(HELLO) + b"".join(encode(one, data) for one, data in MESSAGES)
    rng = Random(7)
    for _ in range(20):
        decoder = Decoder()
        found: list[Envelope] = []
        at = 0
        while at < len(stream):
            size = rng.randrange(1, 60)
            found += decoder.feed(stream[at : at + size])
            at += size
        assert decoder.hello == HELLO
        assert [(one.message, one.data) for one in found] == MESSAGES


def test_a_frame_with_any_byte_changed_is_no_frame() -> None:
    good = encode(*MESSAGES[4])
    for at in range(len(good)):
        decoder = Decoder()
        decoder.feed(encode_hello(HELLO))
        bad = bytearray(good)
        bad[at] ^= 0x41
        with contextlib.suppress(WireError):
            assert decoder.feed(bytes(bad)) == [], f"byte {at}: at most an unfinished frame"


@pytest.mark.parametrize(
    "greeting", [encode(*MESSAGES[6]), b"\x00" * 20, b"\x7f\xff\xff\xff" + bytes(20), b"\x00\x00\x00\x05" + bytes(16)]
)
def test_who_does_not_introduce_himself_is_not_listened_to(greeting: bytes) -> None:
    with pytest.raises(WireError):
        Decoder().feed(greeting)


def test_batches_are_whole_records_and_never_end_with_a_filler() -> None:
    store = open_store(ForgetfulDisk(), committed_only=True)
    segment = store.config.segment_size
    rng = Random(3)
    ends = [0]
    for number in range(120):
        store.append([message("x" * rng.randrange(1, 700), unique=f"U{number}")], HOST)
        ends.append(store.write_pending())
    whole = b"".join(read_all(store, segment))
    for _ in range(300):
        first, last = sorted(rng.sample(range(len(ends)), 2))
        start, stop, most = ends[first], ends[last], rng.randrange(1, 5000)
        data = read_entries(store, start, stop, most, segment)
        assert data == whole[start : start + len(data)], "the bytes of the log"
        assert start + len(data) in ends, "up to the end of a record"
        assert check_entries(data, start, segment) is None
        assert check_entries(data[:-1], start, segment) is not None
        damaged = bytearray(data)
        damaged[len(data) // 2] ^= 0xFF
        if check_entries(bytes(damaged), start, segment) is None:
            assert sum(a != b for a, b in zip(damaged, data, strict=True)) == 1
    fillers = [end for end in ends[1:-1] if peek(whole, end)[1] == MAGIC_FILLER]
    assert fillers, "some batch began with a filler"
    filler = peek(whole, fillers[0])[0]
    alone = whole[fillers[0] : fillers[0] + filler]
    assert check_entries(alone, fillers[0], segment) == "no record at the end"
    assert "mappedFileSizeCommitLog" in str(check_entries(alone + b"x" * 8, fillers[0] + 8, segment))


def read_all(store: MessageStore, segment: int) -> list[bytes]:
    parts, at = [], 0
    while part := store.read_log(at, segment):
        parts.append(part)
        at += len(part)
    return parts


def test_promises_are_read_back_and_nobody_elses_are_believed() -> None:
    disk = ForgetfulDisk()
    disk.makedirs("/s")
    files = GroupFiles(disk, "/s", "g", "n0")
    assert files.load_state() is None
    assert files.load_head() is None
    files.save_state(HardState(7, "n2", True))
    asyncio.run(files.save_state_async(HardState(8, "", True)))
    files.save_head(HEAD)
    assert GroupFiles(disk, "/s", "g", "n0").load_state() == HardState(8, "", True)
    assert GroupFiles(disk, "/s", "g", "n0").load_head() == HEAD
    with pytest.raises(StateDamaged, match="belongs to n0 of the group g, not to n1"):
        GroupFiles(disk, "/s", "g", "n1").load_state()
    for name in ("state.json", "head.json"):
        path = f"/s/dledger/{name}"
        damaged = bytearray(disk.read_bytes(path))
        damaged[10] ^= 1
        disk.replace_atomically(path, bytes(damaged))
    with pytest.raises(StateDamaged, match=r"state\.json"):
        files.load_state()
    with pytest.raises(StateDamaged, match=r"head\.json"):
        files.load_head()


def test_control_records_say_what_they_mean() -> None:
    membership = Membership((RaftMember("n0", "a:1"), RaftMember("n1", "b:1")), (RaftMember("n2", "c:1"),))
    assert membership_of(record_of(membership, 3)) == membership
    with pytest.raises(ValueError, match="appears twice"):
        membership_of(MembershipRecord(1, {"n0": ""}, {"n0": ""}))
    with pytest.raises(ValueError, match="no control record"):
        decode_control(b"\x00" * 200)
    assert MarkerRecord(3, "n0", 17).start == 17
    assert decode_seed(encode_seed(Seed({"T": {0: 5}}, b"x"))) == Seed({"T": {0: 5}}, b"x")
    assert decode_seed(b"") == Seed()
    with pytest.raises(ValueError, match="no head"):
        decode_seed(json.dumps({"queues": 5}).encode())


def test_addresses_come_from_the_group_and_from_those_who_call() -> None:
    settings = GroupSettings("g", "n0", {"n0": "a:1", "n1": "b:1"}, "a", 1, "a:2", (b"\x7f\0\0\1", 1), True, Settings())
    book = AddressBook(settings, 2048)
    assert book.hello("n1") == Hello(VERSION, "g", "n0", "n1", 2048, "a:1", "a:2")
    assert book.others(Membership.of("n0", "n1")) == {"n1": "b:1"}
    assert book.others(Membership((RaftMember("n0", "a:1"), RaftMember("n1", "moved:1")))) == {"n1": "moved:1"}
    assert book.others(Membership.of("n5")) == {"n1": "b:1"}, "who is no member asks those it was told of"
    assert book.met(Hello(VERSION, "g", "n7", "n0", 2048, "late:1", "late:2"))
    assert not book.met(Hello(VERSION, "g", "n7", "n0", 2048, "late:1", "late:2"))
    assert book.others(Membership.of("n0"))["n7"] == "late:1"
    assert book.brokers["n7"] == "late:2"
    assert str(Member("n0", "a", 1)) == "n0-a:1"


def test_replies_wait_for_the_commit_and_nothing_else() -> None:
    pending: QuorumReplies[str] = QuorumReplies(Rule(False, 2, replica_timeout_s=2.5, quorum=True))
    assert not pending.rule.immediate
    pending.add(10, "a", 0.0, replicas_usable=False)
    pending.add(20, "b", 1.0, replicas_usable=True)
    pending.add(30, "c", 1.0, replicas_usable=True)
    assert pending.deadline() == 2.5
    assert list(pending.take(Positions(1 << 60, 9), 0.0)) == [], "synced here alone is not enough"
    assert list(pending.take(Positions(0, 10), 0.0)) == [("a", Status.SEND_OK)]
    assert list(pending.take(Positions(0, 10), 3.5)) == [("b", Status.UNRESOLVED), ("c", Status.UNRESOLVED)]
    pending.add(40, "d", 4.0, replicas_usable=True)
    assert list(pending.abandon(Positions(100, 100))) == [("d", Status.UNRESOLVED)]
    assert (len(pending), pending.deadline()) == (0, None)


def test_timers_are_ours_or_rocketmqs() -> None:
    ours = raft_settings(BrokerConfig()).timing
    assert (ours.heartbeat, ours.election_min, ours.election_max) == (0.1, 0.5, 1.0)
    assert ours.early_max < ours.election_min, "a closed connection is noticed"
    theirs = raft_settings(BrokerConfig(heart_beat_time_interval_ms=2000)).timing
    assert (theirs.heartbeat, theirs.election_min, theirs.election_max) == (2.0, 6.3, 7.0)
    assert theirs.early_min == theirs.election_min
    assert (round(theirs.retry_min, 3), round(theirs.retry_max, 3)) == (0.3, 1.0)


@pytest.mark.parametrize(
    ("name", "fields", "line"),
    [
        ("elected as leader", {"term": 2, "end": 0}, "Elected as leader, term=2"),
        ("follows", {"term": 2, "leader": "n1"}, "Append as follower, term=2, leader=n1"),
        ("asks for votes", {"term": 2, "end": 0}, "Request vote from n0, term=2"),
        ("grant vote", {"term": 2, "candidate": "n1"}, "Grant vote to n1, term=2"),
    ],
)
def test_events_carry_the_lines_that_people_look_for(name: str, fields: dict[str, object], line: str) -> None:
    assert logged(Event(name, fields), "n0")[1]["text"] == line


def test_the_core_has_the_events_that_are_given_lines() -> None:
    """A line for an event under another name would never be written."""
    core = "".join(path.read_text() for path in sorted(Path(elections.__file__).parent.glob("*.py")))
    assert [name for name in TEXTS if f'event("{name}"' not in core] == []
