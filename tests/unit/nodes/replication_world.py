"""A small world for replication without sockets, files or time: nodes with logs that can lose their unsynced tail.

It runs the real machines, frames, epoch files and the real carrying-out; only the log and the network are pretended. A
record is its size in 4 bytes and its content. The world knows who wrote what, so that it can tell whether an
acknowledgement was true.
"""

from __future__ import annotations

from collections import deque
from random import Random

import msgspec

from nodes.flaws import Flaw
from nodes.replication.carrying import carry_out
from nodes.replication.epochs import EpochTable
from nodes.replication.frames import Decoder, FrameError, Progress, TableKind
from nodes.replication.lineage import Lineage
from nodes.replication.ports import Identity, Timing
from nodes.replication.primary import Acked, Action, Close, Happened, Noted, PrimaryMachine, Send
from nodes.replication.progress import Marks, merge_by_maximum, overlay
from nodes.replication.replica import Do, ReplicaMachine

GROUP = "broker-a"


class PowerCut(Exception):
    """The node stops here."""


def record(content: bytes) -> bytes:
    """A record as the machines see one."""
    return (len(content) + 4).to_bytes(4, "big") + content


class MemoryLog:
    """A log that may lose what was not synced when its node crashes."""

    def __init__(self, base: int = 0) -> None:
        self.base = base
        self.data = bytearray()
        self.synced = base
        self.retained = 0
        """How far this node's own retention has deleted."""
        self.failed: str | None = None
        self.fuse: Fuse = Fuse()

    @property
    def min_offset(self) -> int:
        return self.base

    @property
    def written_end(self) -> int:
        return self.base + len(self.data)

    def read_log(self, offset_log: int, max_bytes: int) -> bytes:
        assert self.base <= offset_log
        position = offset_log - self.base
        return bytes(self.data[position : position + max_bytes])

    def append_raw(self, offset_log: int, data: bytes) -> None:
        self.fuse.step()
        if offset_log != self.written_end:
            raise ValueError(f"append at {offset_log}, the end is {self.written_end}")
        self.data += data

    def write_pending(self) -> int:
        return self.written_end

    def truncate_to(self, offset_log: int) -> None:
        self.fuse.step()
        if offset_log == 0:
            self.data.clear()
            self.base = 0
        assert self.base <= offset_log <= self.written_end
        del self.data[offset_log - self.base :]
        self.synced = min(self.synced, offset_log)
        self.fuse.step()

    def begin_at(self, offset_log: int) -> None:
        self.fuse.step()
        assert not self.data
        self.base = self.synced = offset_log
        self.fuse.step()

    def sync(self) -> None:
        self.synced = self.written_end

    def records(self) -> list[bytes]:
        found, position = [], 0
        while position < len(self.data):
            size = int.from_bytes(self.data[position : position + 4], "big")
            found.append(bytes(self.data[position + 4 : position + size]))
            position += size
        return found

    def ends(self) -> list[int]:
        """Where records end, the base included."""
        found, position = [self.base], 0
        while position < len(self.data):
            position += int.from_bytes(self.data[position : position + 4], "big")
            found.append(self.base + position)
        return found

    def lose(self, rng: Random) -> None:
        """Keep some whole records at least up to what is synced."""
        keep = rng.choice([end for end in self.ends() if end >= self.synced])
        del self.data[keep - self.base :]
        self.synced = keep

    def delete_below(self, offset: int) -> None:
        """Retention."""
        del self.data[: offset - self.base]
        self.base = self.retained = offset
        self.synced = max(self.synced, offset)


class Fuse:
    """Stops a node at its n-th durable step."""

    def __init__(self, steps: int | None = None) -> None:
        self.steps = steps
        self.taken = 0

    def step(self) -> None:
        self.taken += 1
        if self.steps is not None:
            if self.steps == 0:
                raise PowerCut
            self.steps -= 1


class MemoryDisk:
    """Files that are replaced atomically and durably; a crash may fall before or after it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.fuse = Fuse()

    def exists(self, path: str) -> bool:
        return path in self.files

    def read_bytes(self, path: str) -> bytes:
        return self.files[path]

    def replace_atomically(self, path: str, data: bytes) -> None:
        self.fuse.step()
        self.files[path] = data
        self.fuse.step()


class MemoryTables:
    """Topics and consumer offsets; installs and merges as a broker does."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.topics: dict[str, int] = {}
        self.offsets: Progress = {}
        self.versions = dict.fromkeys(TableKind, 0)
        self.queue_ends: dict[tuple[str, int], int] = {}

    def touch(self, kind: TableKind) -> None:
        self.versions[kind] += 1

    def version(self, kind: TableKind) -> int:
        return self.versions[kind]

    def snapshot(self, kind: TableKind) -> bytes:
        if kind is TableKind.TOPICS:
            return msgspec.json.encode(self.topics)
        if kind is TableKind.CONSUMER_OFFSETS:
            return msgspec.json.encode(self.offsets)
        return b"{}"

    def merge(self, progress: Progress) -> None:
        for key, queues in merge_by_maximum(self.offsets, progress, self.queue_ends).items():
            self.offsets.setdefault(key, {}).update(queues)
        self.touch(TableKind.CONSUMER_OFFSETS)

    def install(self, kind: TableKind, payload: bytes, progress: Progress) -> None:
        if kind is TableKind.TOPICS:
            self.topics = msgspec.json.decode(payload, type=dict[str, int])
        elif kind is TableKind.CONSUMER_OFFSETS:
            self.offsets = overlay(msgspec.json.decode(payload, type=Progress), progress)
        self.touch(kind)


class Node:
    """One store with the role it plays now."""

    def __init__(self, world: World, name: str, broker_id: int) -> None:
        self.world = world
        self.name = name
        self.identity = Identity(GROUP, broker_id)
        self.log = MemoryLog()
        self.disk = MemoryDisk()
        self.tables = MemoryTables(self.log)
        self.marks = Marks()
        self.up = True
        self.primary: PrimaryMachine | None = None
        self.replica: ReplicaMachine | None = None
        self.lineage = self._open()

    def _open(self) -> Lineage:
        return Lineage.open(
            self.disk, "epochs", log_begin=self.log.min_offset, log_end=self.log.written_end, rng=self.world.rng
        )

    def claims(self) -> EpochTable:
        return self.lineage.claims(self.log.written_end)

    def wipe(self) -> None:
        """A new empty disk."""
        self.log = MemoryLog()
        self.disk = MemoryDisk()
        self.tables = MemoryTables(self.log)
        self.marks = Marks()

    def lead(self) -> None:
        """(Re)start as primary."""
        self.up = True
        self.log.fuse = self.disk.fuse = Fuse()
        self.replica = None
        self.lineage = self._open()
        epoch = self.lineage.mint(self.log.min_offset, self.log.written_end, self.world.rng, self.world.flaws)
        self.primary = PrimaryMachine(
            self.identity,
            self.lineage.store_id,
            epoch,
            self.lineage.table,
            self.log,
            self.tables,
            timing=self.world.timing,
            highest=self.lineage.highest,
            flaws=self.world.flaws,
            window_max=self.world.window_max,
        )

    def serve(self) -> None:
        """(Re)start as replica, following nobody yet."""
        self.up = True
        self.log.fuse = self.disk.fuse = Fuse()
        self.primary = None
        self.lineage = self._open()
        self.replica = ReplicaMachine(
            self.identity, self.lineage.store_id, self.marks, timing=self.world.timing, flaws=self.world.flaws
        )


class Link:
    """A connection from a replica to a primary: two streams of bytes in flight."""

    def __init__(self, world: World, number: int, replica: Node, primary: Node) -> None:
        self.world = world
        self.number = number
        self.replica = replica
        self.primary = primary
        self.machine = replica.replica
        self.server = primary.primary
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque()
        self.up_decoder = Decoder()
        self.down_decoder = Decoder()
        self.open = True

    # What carry_out needs.

    def tell(self, data: bytes) -> None:
        self.up.append(data)

    def leave(self, reason: str) -> None:
        self.world.note(f"{self.replica.name} leaves {self.primary.name}: {reason}")
        self.world.drop(self)

    def told(self, name: str, fields: dict[str, object]) -> None:
        self.world.note(f"{self.replica.name} {name} " + " ".join(f"{k}={v}" for k, v in fields.items()))

    def cut(self, offset: int) -> None:
        self.world.note(f"{self.replica.name} cut to {offset}")


class World:
    """Nodes, connections, and the truth about what was acknowledged."""

    def __init__(
        self,
        names: str = "AB",
        *,
        seed: int = 1,
        flaws: frozenset[Flaw] = frozenset(),
        timing: Timing = Timing(),  # noqa: B008
        window_max: int = 1 << 20,
    ) -> None:
        self.rng = Random(seed)
        self.flaws = flaws
        self.timing = timing
        self.window_max = window_max
        self.now = 0.0
        self.notes: list[str] = []
        self.links: dict[int, Link] = {}
        self.untrue: list[str] = []
        """Acknowledgements that were counted and not true."""
        self.witnessed: dict[tuple[str, str], int] = {}
        """(epoch id, store id) to the largest end at which that store really held the primary's bytes."""
        self._link_number = 0
        self._message = 0
        self.nodes = {name: Node(self, name, number) for number, name in enumerate(names)}

    def note(self, text: str) -> None:
        self.notes.append(text)

    # Doing.

    def append(self, name: str, content: bytes | None = None) -> int:
        """The primary writes one message. Returns the end of the log."""
        node = self.nodes[name]
        assert node.primary is not None
        self._message += 1
        node.log.data += record(content if content is not None else b"%s%d" % (name.encode(), self._message))
        self._primary_does(node, node.primary.advanced(self.now))
        return node.log.written_end

    def follow(self, replica: str, primary: str) -> Link | None:
        """The replica connects; a present connection of it is dropped only by the primary."""
        follower, leader = self.nodes[replica], self.nodes[primary]
        if not (follower.up and leader.up) or follower.replica is None or leader.primary is None:
            return None
        for link in list(self.links.values()):
            if link.replica is follower:
                self.half_close(link)
        self._link_number += 1
        link = Link(self, self._link_number, follower, leader)
        self.links[link.number] = link
        self._primary_does(leader, leader.primary.connected(link.number, replica, self.now))
        self._replica_does(
            link,
            follower.replica.connected(
                follower.claims(),
                follower.lineage.highest,
                follower.lineage.followed,
                follower.log.min_offset,
                follower.log.written_end,
                self.now,
            ),
        )
        return link

    def half_close(self, link: Link) -> None:
        """The replica has gone, and the primary does not know."""
        link.open = False
        link.up.clear()
        link.machine = None

    def drop(self, link: Link) -> None:
        """Both sides learn that the connection is gone."""
        if self.links.pop(link.number, None) is None:
            return
        link.open = False
        if link.machine is not None and link.replica.replica is link.machine:
            link.machine.disconnected()
        if link.server is not None and link.primary.primary is link.server:
            self._primary_does(link.primary, link.server.disconnected(link.number))

    def deliver_up(self, link: Link) -> bool:
        """One message from replica to primary."""
        if not link.up or link.number not in self.links:
            return False
        data = link.up.popleft()
        if link.server is None or link.primary.primary is not link.server or not link.primary.up:
            return True
        try:
            frames = link.up_decoder.feed(data)
        except FrameError as problem:
            self.note(f"garbled: {problem}")
            self.drop(link)
            return True
        self._primary_does(link.primary, link.server.received(link.number, frames, self.now))
        self.check(link.primary)
        return True

    def deliver_down(self, link: Link) -> bool:
        """One message from primary to replica. PowerCut passes through."""
        if not link.down or link.number not in self.links:
            return False
        data = link.down.popleft()
        if link.machine is None or link.replica.replica is not link.machine or not link.replica.up:
            return True
        try:
            frames = link.down_decoder.feed(data)
        except FrameError as problem:
            self.note(f"garbled: {problem}")
            self.drop(link)
            return True
        self._replica_does(link, link.machine.received(frames, self.now))
        if link.machine is not None:
            actions = link.machine.stored(link.replica.log.written_end, self.now)
            if actions:
                self._witness(link)
            self._replica_does(link, actions)
        return True

    def settle(self, limit: int = 100_000) -> None:
        """Deliver everything until nothing moves."""
        for _ in range(limit):
            moved = False
            for link in list(self.links.values()):
                moved |= self.deliver_up(link)
                moved |= self.deliver_down(link)
            if not moved:
                return
        raise AssertionError("the world does not come to rest")

    def crash(self, name: str, *, power: bool) -> None:
        """kill -9 keeps what was written; a power cut loses what was not synced."""
        node = self.nodes[name]
        node.up = False
        node.primary = node.replica = None
        for link in list(self.links.values()):
            if node in (link.replica, link.primary):
                self.drop(link)
        if power:
            node.log.lose(self.rng)

    def tick(self, seconds: float) -> None:
        """Time passes for everybody."""
        self.now += seconds
        for node in self.nodes.values():
            if node.up and node.primary is not None:
                self._primary_does(node, node.primary.tick(self.now))
        for link in list(self.links.values()):
            if link.open and link.machine is not None:
                self._replica_does(link, link.machine.tick(self.now))

    # Watching.

    def _witness(self, link: Link) -> None:
        """An ACK leaves the replica: remember how far its bytes are those of the primary at this moment."""
        server, mine, other = link.server, link.replica.log, link.primary.log
        if server is None or link.primary.primary is not server:
            return
        begin = max(mine.base, other.base)
        end = min(mine.written_end, other.written_end)
        ours = bytes(mine.data[begin - mine.base : end - mine.base])
        theirs = bytes(other.data[begin - other.base : end - other.base])
        same = begin + next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), len(ours))
        key = (server.epoch.id + str(id(server)), link.replica.lineage.store_id)
        self.witnessed[key] = max(same, self.witnessed.get(key, 0))

    def check(self, node: Node) -> None:
        """What the primary counts must be true: that many distinct stores did hold these bytes."""
        if node.primary is None:
            return
        for copies in (2, 3, 4):
            end = node.primary.acked(copies)
            epoch = node.primary.epoch.id + str(id(node.primary))
            held = sum(1 for (id_, _), upto in self.witnessed.items() if id_ == epoch and upto >= end)
            if end > 0 and held < copies - 1:
                untrue = f"{node.name} counts {copies} copies up to {end}, {held + 1} are true"
                if untrue not in self.untrue:
                    self.untrue.append(untrue)

    def _primary_does(self, node: Node, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send(number, data):
                    link = self.links.get(number)
                    if link is not None and link.server is node.primary:
                        link.down.append(data)
                case Close(number, reason):
                    self.note(f"{node.name} closes {number}: {reason}")
                    link = self.links.get(number)
                    if link is not None:
                        self.flush_down(link)
                        self.drop(link)
                case Noted(number):
                    node.lineage.note(number)
                case Happened(name, fields):
                    self.note(f"{node.name} {name} " + " ".join(f"{k}={v}" for k, v in fields.items()))
                case Acked():
                    pass

    def flush_down(self, link: Link) -> None:
        """Last words arrive before the connection closes."""
        while link.number in self.links and self.deliver_down(link):
            pass

    def _replica_does(self, link: Link, actions: list[Do]) -> None:
        node = link.replica
        carry_out(actions, node.log, node.lineage, node.tables, link)
