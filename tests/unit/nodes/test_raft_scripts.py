"""Raft stories as scripts: tests/scripts/raft/*.txt hold commands and exactly what they print.

A line that begins with `> ` is a command, what follows up to the next one is its output, `#` lines tell the story.
`REWRITE_SCRIPTS=1 pytest ...` writes the present output into the files; the reviewer reads the difference.
The network takes 1 ms, a sync 2 ms. A record takes 5 bytes and its text, a marker 9 bytes (term and name of a leader).
`show` prints: begin..end, durable (d) and committed (c) positions, the term table as term@start, role and term.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nodes.flaws import Flaw
from nodes.replication.raft.membership import AddLearner, Change, Demote, Member, Promote, Remove
from nodes.replication.raft.orders import RaftError, Role
from nodes.replication.raft.settings import Limits, Settings
from tests.unit.nodes.raft_disk import split
from tests.unit.nodes.raft_world import Node, Weather, World

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "raft"
QUIET = {"asks for votes", "follows"}


class Stage:
    """Carries out the commands of one script."""

    def __init__(self) -> None:
        self.window = 256
        self.world = self._world(("n0", "n1", "n2"), ())
        self.told: dict[str, int] = {}

    def _world(self, names: tuple[str, ...], spare: tuple[str, ...], flaws: frozenset[Flaw] = frozenset()) -> World:
        world = World(names, 1, flaws, Settings(limits=Limits(batch_bytes=64, window_bytes=self.window)), spare)
        world.weather = Weather(delay=(0.001, 0.001), sync=(0.002, 0.002))
        return world

    def do(self, line: str) -> list[str]:
        command, *words = line.split()
        method: Callable[..., list[str] | None] = getattr(self, "do_" + command.replace("-", "_"))
        try:
            lines = method(*words) or []
        except (AssertionError, RaftError) as error:
            return [f"! {error}"]
        return [*self.events(), *lines]

    def events(self) -> list[str]:
        lines = []
        for name, node in self.world.nodes.items():
            new = node.events[self.told.get(name, 0) :]
            self.told[name] = len(node.events)
            for event in new:
                if event.name not in QUIET:
                    fields = " ".join(f"{key}={value}" for key, value in event.fields.items())
                    line = f"  {name} {event.name} {fields}"
                    if line not in lines:
                        lines.append(line)
        return lines

    def node(self, name: str) -> Node:
        return self.world.nodes[name]

    # The group.

    def do_group(self, *names: str) -> None:
        """Voters, then after `+` nodes that are no members."""
        cut = names.index("+") if "+" in names else len(names)
        self.world = self._world(names[:cut], names[cut + 1 :], self.world.flaws)

    def do_flaw(self, name: str) -> None:
        """Plant a flaw in every node; before `group`."""
        self.world.flaws = frozenset({Flaw(name)})

    def do_window(self, size: str) -> None:
        """So many bytes may be under way to a follower; before `group`."""
        self.window = int(size)

    def do_campaign(self, name: str, seconds: str = "0.05") -> list[str]:
        """Its election timer runs off, and so much time passes. Others have not heard a leader for long."""
        for node in self.world.nodes.values():
            if node.up:
                node.raft._ground.heard = float("-inf")
                node.raft._ground.campaign_at = self.world.now + (0 if node.name == name else 0.5)
        self.node(name).put(self.node(name).raft.tick)
        self.world.run(float(seconds))
        node = self.node(name)
        return [f"{name} is {node.raft.role}" if node.up else f"{name} is down"]

    def do_run(self, seconds: str) -> None:
        self.world.run(float(seconds))

    def do_append(self, name: str, *texts: str) -> list[str] | None:
        """A client's records to this node; nothing runs yet."""
        return None if self.node(name).append(*texts) else [f"{name} does not accept records"]

    # Failures.

    def do_kill(self, *names: str) -> None:
        for name in names:
            self.world.crash(name, power=False)

    def do_power_cut(self, *names: str) -> None:
        for name in names:
            self.node(name).up = False
            self.node(name).disk.truncate(self.node(name).disk.synced)

    def do_wipe(self, name: str) -> None:
        """An empty disk under the old name."""
        self.world.crash(name, power=False)
        node = self.node(name)
        self.world.nodes[name] = fresh = Node(self.world, name, node.disk.peers)
        fresh.events, fresh.life = node.events, node.life
        fresh.start()
        for other in self.world.nodes.values():
            if other.up and other is not fresh:
                other.put(lambda now, other=other: other.raft.peer_found(name, now))  # type: ignore[misc]

    def do_restart(self, *names: str) -> None:
        for name in names:
            self.world.restart(name)

    def do_disk_fails(self, name: str) -> None:
        node = self.node(name)
        node.put(node.raft.disk_failed)

    def do_cut(self, a: str, b: str) -> None:
        """Both ways; `all` for everybody."""
        if b == "all":
            self.world.cut_off(a)
        else:
            self.world.cut |= {(a, b), (b, a)}

    def do_mute(self, a: str, b: str) -> None:
        """What a says does not reach b."""
        self.world.cut.add((a, b))

    def do_heal(self) -> None:
        self.world.heal()

    # The administrator.

    def do_transfer(self, name: str, to: str = "") -> list[str] | None:
        problem = self.node(name).transfer(to)
        self.world.run(0.05)
        return [f"refused: {problem}"] if problem else None

    def do_member(self, leader: str, verb: str, name: str) -> list[str] | None:
        changes: dict[str, Change] = {
            "add": AddLearner(Member(name)),
            "promote": Promote(name),
            "demote": Demote(name),
            "remove": Remove(name),
        }
        problem = self.node(leader).change(changes[verb])
        return [f"refused: {problem}"] if problem else None

    def do_retain(self, name: str, begin: str) -> None:
        self.node(name).retain(int(begin))

    # Looking.

    def do_show(self, *names: str) -> list[str]:
        lines = []
        for name in names or tuple(self.world.nodes):
            node = self.node(name)
            if not node.up:
                lines.append(f"{name} down")
                continue
            status = node.raft.status()
            rows = " ".join(f"{row.term}@{row.start}" for row in status.rows) or "no terms"
            texts = [item for _, item in split(node.disk.log, node.disk.base)]
            records = " ".join(item[5:].decode() if item[4:5] == b"d" else item[4:5].decode().upper() for item in texts)
            lines.append(
                f"{name} {status.begin}..{status.end} d{status.durable} c{status.committed} [{rows}] "
                f"{status.role} {status.term}: {records or 'empty'}"
            )
        return lines

    def do_members(self, name: str) -> list[str]:
        membership = self.node(name).raft.membership
        learners = [member.name for member in membership.learners]
        return [f"voters {' '.join(membership.voter_names)}" + (f", learners {' '.join(learners)}" if learners else "")]

    def do_leaders(self) -> list[str]:
        up = [node for node in self.world.nodes.values() if node.up and node.raft.role is Role.LEADER]
        return [" ".join(f"{node.name} in term {node.raft.term}" for node in up) or "none"]


def play(text: str) -> str:
    stage = Stage()
    lines = []
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            lines.append(line)
        elif line.startswith("> "):
            lines += [line, *stage.do(line[2:])]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.txt")), ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    text = path.read_text()
    played = play(text)
    if os.environ.get("REWRITE_SCRIPTS"):
        path.write_text(played)
    assert played == text


def test_there_are_scripts() -> None:
    assert len(list(SCRIPTS.glob("*.txt"))) >= 12
