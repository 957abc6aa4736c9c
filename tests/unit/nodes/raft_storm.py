"""Random trouble for a simulated Raft group, then peace: safety after every step, progress at the end.

One seed is one story: its weather, its faults and their moments are all drawn from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from nodes.flaws import Flaw
from nodes.replication.raft.membership import AddLearner, Change, Demote, Member, Promote, Remove
from nodes.replication.raft.messages import VoteReply
from nodes.replication.raft.orders import Ready, Role
from nodes.replication.raft.settings import Limits, Settings, Timing
from tests.unit.nodes.raft_world import Node, Weather, World

NAMES = ("n0", "n1", "n2", "n3", "n4", "n5", "n6")
RECOVERY_S = 12.0
"""Within so much virtual time after the heal there must be a leader and all logs equal."""


@dataclass(frozen=True)
class Story:
    """What a storm is made of: how many voters, how long, and which troubles are likely (weights)."""

    voters: int = 3
    seconds: float = 12.0
    crash: int = 4
    power_all: int = 1
    restart: int = 8
    partition: int = 4
    one_way: int = 3
    isolate_leader: int = 3
    heal: int = 6
    pause: int = 2
    transfer: int = 2
    member: int = 3
    retain: int = 2
    wipe: int = 0
    """A disk is replaced by an empty one; never while another member has not joined again."""
    pace: float = 0.25
    """Mean seconds between two troubles."""
    rough: bool = True
    """Loss, repetition and reordering; else a network that only cuts."""
    churn: float = 0.0
    """How probably a new leader is cut off, or crashes, within a few round trips, while the last victim returns."""
    commit_crash: float = 0.0
    """How probably a leader crashes just when it commits."""
    vote_crash: float = 0.0
    """How probably a voter crashes just after it has voted, to return at once."""
    eager: float = 0.0
    """How probably a new leader is asked at once to change the membership."""
    slow_disks: bool = False
    """Much slower than the network, so that much is known before anything is durable."""
    async_flush: bool = False
    """flushDiskType=ASYNC_FLUSH: what is written counts."""
    power: float = 0.7
    """How probably a crash is a loss of power; with 0 none is, and everything written is kept."""
    settled: bool = False
    """Troubles begin when a leader is there and every member has joined; else with the first election."""
    in_step: bool = False
    """Everybody's election timer runs off at nearly the same time."""


class Storm:
    """Plays one story."""

    def __init__(self, seed: int, story: Story, flaws: frozenset[Flaw] = frozenset()) -> None:
        self.story = story
        self.rng = rng = Random(seed * 7919 + 13)
        spare = NAMES[story.voters : story.voters + 2]
        settings = Settings(
            limits=Limits(batch_bytes=rng.choice([40, 200, 4000]), window_bytes=rng.choice([100, 1000, 100_000])),
            preferred=rng.choice([(), (), ("n1",)]),
            timing=Timing(election_max=0.51, retry_min=0.1, retry_max=0.11) if story.in_step else Timing(),
        )
        self.world = World(
            NAMES[: story.voters],
            seed,
            flaws,
            settings,
            spare,
            closes=rng.choice([0.0, 0.7, 1.0]),
            async_flush=story.async_flush,
            lossy=story.async_flush and story.power > 0,
        )
        self.world.weather = self._weather()
        self.world.on_ready = self._watch
        self.count = 0
        self._led = (0, "")
        self._victim = ""
        self._peaceful = False
        self._alone = ""

    def _weather(self) -> Weather:
        rng = self.rng
        if self.story.slow_disks:
            return Weather(sync=(0.02, 0.2))
        rough = self.story.rough and rng.random() < 0.6
        sync = rng.choice([(0.0005, 0.003), (0.002, 0.05), (0.01, 0.2)])
        return Weather(
            delay=rng.choice([(0.0002, 0.001), (0.001, 0.02), (0.005, 0.08)]),
            loss=rng.choice([0.0, 0.02, 0.2]) if rough else 0.0,
            repeat=rng.choice([0.0, 0.05, 0.3]) if rough else 0.0,
            in_order=not rough or rng.random() < 0.3,
            sync=sync,
            save=rng.choice([(0.0, 0.0), sync]),
            half_resets=rng.choice([0.0, 0.3]) if self.story.power else 0.0,
            notes=rng.choice([0.0, 0.05, 1.0]),
        )

    def play(self) -> None:
        """Raises Broken, RaftError or AssertionError."""
        world, rng = self.world, self.rng
        kinds = [
            "crash", "power_all", "restart", "partition", "one_way", "isolate_leader", "heal", "pause", "transfer",
            "member", "retain", "wipe",
        ]  # fmt: skip
        weights = [getattr(self.story, kind) for kind in kinds]
        if self.story.settled:
            self._settle()
        world.run(rng.uniform(0.2, 1.5))
        while world.now < self.story.seconds:
            self._clients()
            world.run(rng.expovariate(1 / self.story.pace) / 2)
            self._clients()
            getattr(self, "_" + rng.choices(kinds, weights)[0])()
            world.run(rng.expovariate(1 / self.story.pace) / 2)
        self._peace()

    def _settle(self) -> None:
        """A young group: whoever has not joined yet votes with the others of its kind only."""
        self._peaceful = True
        names = self.world.elect().raft.membership.names
        joined = self.world.run(RECOVERY_S, lambda: all(self.world.nodes[name].disk.hard.joined for name in names))
        assert joined, f"seed {self.world.seed}: not everybody joins"
        self._peaceful = False

    def _stopped(self) -> bool:
        return self.world.stopped

    def _clients(self) -> None:
        """To everybody who believes to lead."""
        for node in self.world.nodes.values():
            for _ in range(self.rng.choice([0, 1, 3])):
                self.count += 1
                node.append(
                    *[f"{self.count}.{i}" + "x" * self.rng.randrange(30) for i in range(self.rng.choice([1, 4]))]
                )

    def _peace(self) -> None:
        world = self.world
        self._peaceful = True
        world.heal()
        world.weather = Weather()
        for node in world.nodes.values():
            node.paused_until = 0.0
            world.restart(node.name)
        if self._stopped():
            world.run(1.0)
            return  # a majority may have stopped; that nobody else was elected wrongly was seen after every step
        wanted = f"seed {world.seed}: not level {RECOVERY_S} s after the heal"
        if not world.run(RECOVERY_S, lambda: world.level() or world.stopped):
            raise AssertionError(f"{wanted}: " + "; ".join(self._face(node) for node in world.nodes.values()))
        if self._stopped():
            return
        leader = world.leader
        assert leader is not None
        leader.append("last")
        assert world.run(RECOVERY_S, lambda: world.level() or world.stopped), wanted
        names = leader.raft.membership.names
        assert not any(world.nodes[name].raft.outside for name in names), f"{wanted}: a member believes to be none"
        strangers = [node for node in world.nodes.values() if node.name not in names]
        told = world.run(RECOVERY_S, lambda: all(node.raft.outside for node in strangers))
        assert told, f"seed {world.seed}: {[node.name for node in strangers]} do not all know that they were removed"
        assert world.invariants.agreed_end >= leader.raft.committed

    @staticmethod
    def _face(node: Node) -> str:
        status = node.raft.status()
        return (
            f"{node.name} {status.role} term={status.term} leader={status.leader} {status.begin}..{status.end} "
            f"durable={status.durable} committed={status.committed} joined={status.joined} "
            f"voters={status.membership.voter_names} "
            f"peers={[(p.name, p.way.value, p.match, p.next) for p in status.peers]}"
        )

    # Troubles at the worst moment.

    def _watch(self, node: Node, ready: Ready) -> None:
        story, world, rng = self.story, self.world, self.rng
        soon = world.now + rng.uniform(0, 4) * world.weather.delay[1]
        if self._peaceful:
            return
        led = (node.raft.term, node.name)
        if node.raft.role is Role.LEADER and led > self._led:
            self._led = led
            if rng.random() < story.eager:
                world.later(world.now + rng.uniform(2, 20) * world.weather.delay[1], lambda: self._shrink(node))
            if rng.random() < story.churn:
                world.later(soon, lambda: self._overthrow(node))
        if node.raft.role is Role.LEADER and ready.committed > node.told and rng.random() < story.commit_crash:
            world.later(world.now, lambda: self._overthrow(node))
        node.told = ready.committed
        voted = any(isinstance(message, VoteReply) and message.granted for message in ready.messages)
        if voted and rng.random() < story.vote_crash:
            world.later(world.now, lambda: world.crash(node.name, power=rng.random() < min(0.5, story.power)))
            world.later(world.now + 0.0001, lambda: world.restart(node.name))

    def _overthrow(self, node: Node) -> None:
        """Cut it off or crash it; the one that suffered this before comes back."""
        world = self.world
        if self._peaceful:
            return
        world.heal()
        self._alone = ""
        if self._victim:
            world.restart(self._victim)
        self._victim = node.name
        if self.rng.random() < 0.5:
            world.cut_off(node.name)
            for _ in range(2):
                self.count += 1
                node.append(f"{self.count} alone")
        else:
            world.crash(node.name, power=False)
            world.lose_what_was_said_by(node)

    def _shrink(self, leader: Node) -> None:
        """A leader removes one or two voters. The first one reaches nobody from then on, the next one one follower."""
        world, rng = self.world, self.rng
        if self._peaceful or not (leader.up and leader.raft.role is Role.LEADER):
            return
        world.heal()
        if self._victim:
            world.restart(self._victim)
        others = [name for name in leader.raft.membership.voter_names if name != leader.name]
        removed = rng.sample(others, min(rng.choice([1, 2]), len(others)))
        for name in removed:
            leader.change(Remove(name))
        near = [name for name in others if name not in (*removed, self._alone)]
        if self._alone in ("", leader.name) or not near:
            self._alone = leader.name
        else:
            helper = rng.choice(near)
            far = [name for name in world.nodes if name not in (leader.name, helper)]
            world.cut |= {pair for name in far for pair in ((name, leader.name), (leader.name, name))}
        world.cut_off(self._alone)

    # Troubles.

    def _some(self) -> Node:
        return self.rng.choice(list(self.world.nodes.values()))

    def _crash(self) -> None:
        leader = self.world.leader
        node = leader if leader is not None and self.rng.random() < 0.4 else self._some()
        self.world.crash(node.name, power=self.rng.random() < self.story.power)

    def _power_all(self) -> None:
        for name in self.world.nodes:
            self.world.crash(name, power=True)
        self.world.run(self.rng.uniform(0, 0.3))
        for name in self.world.nodes:
            self.world.restart(name)

    def _restart(self) -> None:
        for name in self.world.nodes:
            if self.rng.random() < 0.6:
                self.world.restart(name)

    def _partition(self) -> None:
        names = list(self.world.nodes)
        side = self.rng.sample(names, self.rng.randrange(1, len(names)))
        self.world.cut |= {pair for a in side for b in names if b not in side for pair in ((a, b), (b, a))}

    def _one_way(self) -> None:
        names = list(self.world.nodes)
        for _ in range(self.rng.randrange(1, 4)):
            a, b = self.rng.sample(names, 2)
            self.world.cut.add((a, b))

    def _isolate_leader(self) -> None:
        leader = self.world.leader
        if leader is not None:
            self.world.cut_off(leader.name)

    def _heal(self) -> None:
        self.world.heal()
        if self.rng.random() < 0.5:
            self._restart()

    def _pause(self) -> None:
        node = self._some()
        node.paused_until = self.world.now + self.rng.uniform(0.1, 3.0)

    def _transfer(self) -> None:
        leader = self.world.leader
        if leader is not None:
            leader.transfer(self.rng.choice(["", *self.world.nodes]))

    def _member(self) -> None:
        for leader in [node for node in self.world.nodes.values() if node.up and node.raft.role is Role.LEADER]:
            for _ in range(self.rng.choice([1, 1, 2])):
                name = self.rng.choice(list(self.world.nodes))
                leader.change(self._change(leader, name))

    def _change(self, leader: Node, name: str) -> Change:
        membership = leader.raft.membership
        if membership.find(name) is None:
            return AddLearner(Member(name))
        if not membership.is_voter(name):
            return Promote(name) if self.rng.random() < 0.8 else Remove(name)
        return Remove(name) if self.rng.random() < 0.5 else Demote(name)

    def _wipe(self) -> None:
        node = self._some()
        if all(
            other.disk.hard.joined
            for other in self.world.nodes.values()
            if other is not node and other.disk.peers.names
        ):
            self.world.wipe(node.name)

    def _retain(self) -> None:
        node = self._some()
        if node.up:
            ends = [row for row in self.world.invariants.agreed if row > node.raft.begin]
            ends = [end for end in ends if end <= min(node.raft.committed, node.raft.durable)]
            if ends:
                node.retain(self.rng.choice(ends))
