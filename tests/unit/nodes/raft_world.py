"""A Raft group in virtual time: real cores, pretended disks, network and clock. Everything follows from the seed.

This is also the smallest possible driver: `Node.carry_out` is what the contract of the core asks for, no more.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from nodes.flaws import Flaw
from nodes.replication.raft.core import Raft, RaftError
from nodes.replication.raft.membership import Change, Membership, MembershipError
from nodes.replication.raft.messages import Append, Message
from nodes.replication.raft.orders import Event, HardState, Ready, Reset, Role, Truncate, Write
from nodes.replication.raft.settings import Settings
from tests.unit.nodes.raft_disk import SimDisk, data_record, marker_record, membership_record, memberships_in
from tests.unit.nodes.raft_invariants import Invariants


@dataclass
class Weather:
    """What the network and the disks do, in seconds and probabilities."""

    delay: tuple[float, float] = (0.0002, 0.001)
    loss: float = 0.0
    repeat: float = 0.0
    in_order: bool = True
    sync: tuple[float, float] = (0.0005, 0.003)
    save: tuple[float, float] = (0.0, 0.0)
    """(0, 0): the hard state is saved before carry_out returns."""
    half_resets: float = 0.0
    notes: float = 0.0
    """How often a node notes durably what it has applied."""


class Node:
    """One node: disk, core, and the driver between them."""

    def __init__(self, world: World, name: str, peers: Membership) -> None:
        self.world = world
        self.name = name
        self.disk = SimDisk(peers)
        self.up = False
        self.stopped = False
        """For good, by an error of the core."""
        self.life = 0
        self.paused_until = 0.0
        self.raft: Raft
        self.led = self.led_end = self.told = 0
        self.events: list[Event] = []
        self._todo: deque[Ready] = deque()
        self._busy = False
        self._syncing = False
        self._payload = b""
        self._save_done_at = 0.0
        self._timer_at = float("inf")

    def start(self) -> None:
        self.up, self.life = True, self.life + 1
        self._syncing = self._busy = False
        self._todo.clear()
        self._timer_at = float("inf")
        self.paused_until = 0.0
        self.world.invariants.restarted(self.name)
        world = self.world
        self.raft = Raft(self.name, world.settings, self.disk.restore(), world.rng, world.now, world.flaws)
        self.led = 0
        self._arm()

    # Inputs.

    def put(self, call: Callable[[float], Ready]) -> None:
        """Give the core one input and do all that follows."""
        try:
            self._todo.append(call(self.world.now))
            if self._busy:
                return
            self._busy = True
            while self._todo and self.up:
                self._carry_out(self._todo.popleft())
        except RaftError:
            if not self.world.lossy:
                raise
            self.up, self.stopped = False, True  # what it holds as committed was lost elsewhere: it says so and stops
            self.world.stopped = True
        self._busy = False
        if self.up:
            self.world.invariants.step(self.world, self)
            notes = self.world.weather.notes
            if notes and self.world.rng.random() < notes:
                self.disk.applied = min(self.raft.committed, self.disk.synced)
        self._arm()

    def receive(self, message: Message, payload: bytes) -> None:
        if isinstance(message, Append):
            assert len(payload) == message.end - message.prev
            if not self.world.flaws:
                assert memberships_in(payload, message.prev) == message.memberships
        self._payload = payload
        self.put(lambda now: self.raft.receive(message, now))

    def write(self, data: bytes, membership: Membership | None = None) -> None:
        """As leader."""
        start = self.disk.end
        self.disk.append(data)
        term = self.raft.term
        self.put(lambda now: self.raft.appended(term, self.disk.end, now, membership))
        if self.up:
            self.world.invariants.wrote(self, start, data)

    def append(self, *texts: str) -> bool:
        if not (self.up and self.raft.accepts):
            return False
        self.write(b"".join(data_record(text) for text in texts))
        return True

    def change(self, change: Change) -> str:
        """ "" or why it was refused."""
        try:
            self.put(lambda now: self.raft.change(change, now))
        except MembershipError as error:
            return str(error)
        return ""

    def transfer(self, to: str) -> str:
        """ "" or why it was refused."""
        try:
            self.put(lambda now: self.raft.transfer(to, now))
        except MembershipError as error:
            return str(error)
        return ""

    def lost(self, peer: str) -> None:
        """The connection to that peer was closed."""
        self.put(lambda now: self.raft.peer_lost(peer, now))

    def retain(self, begin: int) -> None:
        """Delete what lies below."""
        self.disk.delete_below(self.raft.head_at(begin))
        self.put(lambda now: self.raft.head_moved(begin, now))

    # Outputs.

    def _carry_out(self, ready: Ready) -> None:
        world = self.world
        self.events += ready.events
        world.on_ready(self, ready)
        if ready.save is not None:
            self._save(ready.save)
        for order in ready.log:
            self._change_log(order)
            if not self.up:
                return
        if self.disk.end > self.disk.synced or any(isinstance(order, Truncate | Reset) for order in ready.log):
            self._sync()
        if ready.marker is not None:
            self.write(marker_record(ready.marker.term, ready.marker.leader))
            self._sync()
        if ready.own_record is not None:
            self.write(membership_record(ready.own_record.membership), ready.own_record.membership)
            self._sync()
        payloads: dict[tuple[str, int, int], bytes] = {}
        for read in ready.reads:
            data = self.disk.read_records(read.start, read.stop, read.max_bytes)
            loaded = self.raft.loaded(read, read.start + len(data), world.now)
            payloads[read.to, read.start, read.start + len(data)] = data
            self._send(loaded.messages, payloads)
            self._todo.append(Ready(loaded.save, loaded.log, None, None, loaded.reads, (), loaded.committed))
        self._send(ready.messages, payloads)

    def _send(self, messages: tuple[Message, ...], payloads: dict[tuple[str, int, int], bytes]) -> None:
        for message in messages:
            payload = b""
            if isinstance(message, Append) and message.end > message.prev:
                payload = payloads.get((message.to, message.prev, message.end)) or self.disk.bytes_between(
                    message.prev, message.end
                )
            self.world.invariants.said(message)
            self.world.send(message, payload)

    def _save(self, hard: HardState) -> None:
        low, high = self.world.weather.save
        if high == 0:
            self.disk.hard = hard
            self._todo.append(self.raft.saved(hard, self.world.now))
            return

        def done() -> None:
            self.disk.hard = hard
            self.put(lambda now: self.raft.saved(hard, now))

        self._save_done_at = max(self._save_done_at, self.world.now + self.world.rng.uniform(low, high))
        self.world.later(self._save_done_at, done, self)

    def _change_log(self, order: Truncate | Write | Reset) -> None:
        match order:
            case Truncate(end):
                self.disk.truncate(end)
            case Write(start, end, skip):
                assert start == self.disk.end, (order, self.disk.end)
                data = self._payload[skip : skip + end - start]
                assert len(data) == end - start
                self.disk.append(data)
                self.world.invariants.wrote(self, start, data)
            case Reset(head):
                self.disk.empty()
                if self.world.rng.random() < self.world.weather.half_resets:
                    self.world.crash(self.name, power=True)
                    return
                self.disk.begin_at(head)
                self._todo.append(self.raft.stable(head.begin, self.raft.generation, self.world.now))

    def _sync(self) -> None:
        """One sync at a time; it covers what was written when it began."""
        if self.world.async_flush and self.raft.durable < self.disk.end:
            self._todo.append(self.raft.stable(self.disk.end, self.raft.generation, self.world.now))
        if self._syncing:
            return
        self._syncing = True
        end, generation = self.disk.end, self.raft.generation

        def done() -> None:
            self._syncing = False
            if generation == self.raft.generation:
                self.disk.synced = max(self.disk.synced, end)
            if not self.world.async_flush:
                self.put(lambda now: self.raft.stable(end, generation, now))
            if self.up and self.disk.synced < self.disk.end:
                self._sync()

        pause = (0.02, 0.5) if self.world.async_flush else self.world.weather.sync
        self.world.later(self.world.now + self.world.rng.uniform(*pause), done, self)

    def _arm(self) -> None:
        if not self.up or self.raft.deadline >= self._timer_at or self.raft.deadline == float("inf"):
            return
        self._timer_at = at = self.raft.deadline

        def ring() -> None:
            if self._timer_at == at:
                self._timer_at = float("inf")
                if self.world.now >= self.raft.deadline:
                    self.put(self.raft.tick)
                self._arm()

        self.world.later(at, ring, self)


@dataclass
class World:
    """All nodes, the links between them and virtual time."""

    names: tuple[str, ...]
    seed: int = 0
    flaws: frozenset[Flaw] = frozenset()
    settings: Settings = field(default_factory=Settings)
    spare: tuple[str, ...] = ()
    """Nodes that are no members at first."""
    closes: float = 1.0
    """How probably a crash closes the connections visibly."""
    async_flush: bool = False
    """What is written counts, and is synced some time later."""
    lossy: bool = False
    """With async_flush and loss of power: what was committed may be lost, and then members may stop for good."""

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.now = 0.0
        self.weather = Weather()
        self.invariants = Invariants(written_counts=self.async_flush, lossy=self.lossy)
        self.stopped = False
        """A member has stopped for good."""
        self.cut: set[tuple[str, str]] = set()
        self._heap: list[tuple[float, int, Callable[[], None], Node | None, int]] = []
        self._number = 0
        self._unheard: set[tuple[str, int]] = set()
        self._arrives: dict[tuple[str, str], float] = {}
        self.on_ready: Callable[[Node, Ready], None] = lambda node, ready: None
        peers = Membership.of(*self.names)
        self.nodes = {name: Node(self, name, peers) for name in self.names}
        self.nodes |= {name: Node(self, name, Membership()) for name in self.spare}
        for node in self.nodes.values():
            node.start()

    # Time.

    def later(self, at: float, call: Callable[[], None], node: Node | None = None) -> None:
        """Call it then, unless the node has crashed by then."""
        self._number += 1
        heapq.heappush(self._heap, (at, self._number, call, node, node.life if node else 0))

    def step(self) -> None:
        at, _, call, node, life = heapq.heappop(self._heap)
        self.now = max(self.now, at)
        if node is None:
            call()
        elif node.up and node.life == life:
            if node.paused_until > self.now:
                self.later(node.paused_until, call, node)
            else:
                call()

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """True as soon as `until` holds, False when the time is over."""
        end = self.now + seconds
        while not until():
            if not self._heap or self._heap[0][0] > end:
                self.now = end
                return until()
            self.step()
        return True

    # The network.

    def send(self, message: Message, payload: bytes) -> None:
        weather, rng, link = self.weather, self.rng, (message.sender, message.to)
        for _ in range(2 if rng.random() < weather.repeat else 1):
            if link in self.cut or message.to not in self.nodes or rng.random() < weather.loss:
                continue
            at = self.now + rng.uniform(*weather.delay)
            if weather.in_order:
                at = self._arrives[link] = max(at, self._arrives.get(link, 0.0))
            self.later(at, partial(self._deliver, message, payload, self.nodes[message.sender].life))

    def _deliver(self, message: Message, payload: bytes, life: int) -> None:
        target = self.nodes[message.to]
        if not target.up or (message.sender, life) in self._unheard:
            return
        if target.paused_until > self.now:
            self.later(target.paused_until, partial(self._deliver, message, payload, life))
        elif (message.sender, message.to) not in self.cut:
            target.receive(message, payload)

    def lose_what_was_said_by(self, node: Node) -> None:
        """What is on the way from it does not arrive."""
        self._unheard.add((node.name, node.life))

    def cut_off(self, *names: str) -> None:
        """Both ways, from everybody."""
        self.cut |= {pair for a in names for b in self.nodes if a != b for pair in ((a, b), (b, a))}

    def heal(self) -> None:
        self.cut.clear()

    # Failures.

    def crash(self, name: str, *, power: bool) -> None:
        node = self.nodes[name]
        if not node.up:
            return
        node.up = False
        if power:
            node.disk.power_cut(self.rng)
        if self.rng.random() < self.closes:
            for other in self.nodes.values():
                if other is not node and (name, other.name) not in self.cut:
                    at = self.now + self.rng.uniform(*self.weather.delay)
                    if self.weather.in_order:
                        at = max(at, self._arrives.get((name, other.name), 0.0))
                    self.later(at, partial(other.lost, name), other)

    def wipe(self, name: str) -> None:
        """Its disk is replaced by an empty one; it stays down, and what it had said is lost."""
        node = self.nodes[name]
        self.crash(name, power=False)
        self.lose_what_was_said_by(node)
        node.disk = SimDisk(node.disk.peers)
        self.invariants.replaced(name)

    def restart(self, name: str) -> None:
        node = self.nodes[name]
        if not node.up and not node.stopped:
            node.start()

    # Looking.

    @property
    def leader(self) -> Node | None:
        """The leader of the highest term among the living."""
        leaders = [node for node in self.nodes.values() if node.up and node.raft.role is Role.LEADER]
        return max(leaders, key=lambda node: node.raft.term, default=None)

    def elect(self, seconds: float = 10.0) -> Node:
        """Run until somebody leads and has committed its marker."""

        def ready() -> bool:
            leader = self.leader
            return leader is not None and leader.raft.accepts and leader.raft.committed == leader.raft.end

        assert self.run(seconds, ready), f"no leader within {seconds} s; seed {self.seed}"
        leader = self.leader
        assert leader is not None
        return leader

    def level(self) -> bool:
        """All members that live hold the same log, durable and committed everywhere."""
        leader = self.leader
        if leader is None or not leader.raft.accepts:
            return False
        members = [self.nodes[name] for name in leader.raft.membership.names]
        return all(
            node.up
            and node.raft.end == node.raft.committed == node.raft.durable == leader.raft.end
            and node.raft.leader == leader.name
            for node in members
        )
